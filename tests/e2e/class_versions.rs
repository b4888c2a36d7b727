//! A newer version of a class is installed beside the one that devices follow: what was stored keeps its meaning, and each
//! device is read by its own version.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::Path, time::Duration};

use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    gateway::{Gateway, Setup},
    now_s,
    process::eventually,
    publisher::Publisher,
    wire::{report, up_topic},
};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(30);
const LEVEL: u16 = 1;

/// A level with so many decimals of a metre.
fn class(version: u32, decimals: u8) -> String {
    format!(
        r#"
name = "probe"
version = {version}
title = {{ zh = "液位计", en = "Probe" }}
time_unit_ms = 60000
interval = 1
report = {{ samples = 4, silent_after_s = 86400 }}
[[channels]]
number = {LEVEL}
name = "level"
title = {{ zh = "液位", en = "Level" }}
unit = "m"
kind = "gauge"
decimals = {decimals}
min = 0
max = 100
source = "D"
"#
    )
}

/// A level by another version's scale is ten times as high, or a tenth.
const RULES: &str = r#"
[[rules]]
id = "high"
version = 1
class = "probe"
severity = "critical"
title = { zh = "高", en = "High" }
source = "D"
when = { channel = "level", at_least = 2.0, clear_below = 1.5 }

[[rules]]
id = "low"
version = 1
class = "probe"
severity = "critical"
title = { zh = "低", en = "Low" }
source = "D"
when = { channel = "level", at_most = 0.2, clear_above = 0.3 }
"#;

fn setup(dir: &Path, broker: u16) -> Setup {
    for folder in ["classes", "rules"] {
        fs::create_dir(dir.join(folder)).expect("a folder");
    }
    fs::write(dir.join("rules/probe.toml"), RULES).expect("rules");
    fs::write(dir.join("classes/probe.toml"), class(1, 2)).expect("a class");
    let list = dir.join("devices.csv");
    let text = "device,class,operator,district,zone,agent,lon,lat\n\
                probe-1,probe,water,210102,z-1,box,123.4,41.8\nprobe-2,probe,water,210102,z-1,box,123.4,41.8\n";
    fs::write(&list, text).expect("a list");
    let registry =
        format!("devices = [{list:?}]\nclasses = {:?}\nrules = {:?}", dir.join("classes"), dir.join("rules"));
    Setup::embedded(broker, registry, "")
}

fn levels(gateway: &Gateway, device: &str, from_min: i64) -> serde_json::Value {
    let (from, to) = (from_min * 60_000, (from_min + 60) * 60_000);
    let path = format!("/api/v1/devices/{device}/series?channel=level&from={from}&to={to}");
    gateway.http.json(&path)["values"].clone()
}

#[test]
fn a_newer_version_beside_the_old_one_leaves_what_is_stored_and_reads_each_device_by_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let mut gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port), &[]);
    let mut publisher = Publisher::connect(broker.port, "box", 16).expect("a connection");
    let t0 = now_s() / 60 - 60;
    let mut send = |device: &str, boot: u32, seq: u64, version: Option<u32>, minute: i64, values: &[i64]| {
        let header = Header { boot, seq, class_version: version, ..Header::default() };
        let payload = report(header, t0 + minute, LEVEL, values);
        let sent = publisher.publish(up_topic(device).as_bytes(), &payload);
        sent.and_then(|()| publisher.settle()).expect("the broker takes it");
    };

    send("probe-1", 7, 0, Some(1), 0, &[140, 141]);
    send("probe-1", 7, 2, None, 2, &[142]);
    send("probe-2", 8, 0, Some(2), 0, &[1_501, 1_502]);
    gateway.await_settled(3, WITHIN);
    eventually(WITHIN, "the newer version is refused", || {
        let page = gateway.http.json("/api/v1/quarantine");
        (page["by_reason"] == json!({ "unknown_class_version": 1 })).then_some(())
    });
    assert_eq!(levels(&gateway, "probe-1", t0), json!([1.4, 1.41, 1.42]));

    assert!(gateway.process.terminate(WITHIN).success());
    fs::write(dir.path().join("classes/probe-2.toml"), class(2, 3)).expect("a class");
    gateway.relaunch(&[]);
    gateway.await_ready();
    assert_eq!(levels(&gateway, "probe-1", t0), json!([1.4, 1.41, 1.42]), "what is stored keeps its meaning");

    // One device stays, without saying its version again; one comes again; one moves.
    send("probe-1", 7, 3, None, 3, &[143]);
    send("probe-2", 8, 0, Some(2), 0, &[1_501, 1_502]);
    send("probe-1", 9, 0, Some(2), 4, &[1_441, 1_442]);
    let ledger = gateway.await_settled(8, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["unexplained"]), (&json!(8), &json!(0)), "{ledger}");
    assert_eq!(levels(&gateway, "probe-1", t0), json!([1.4, 1.41, 1.42, 1.43, 1.441, 1.442]));
    assert_eq!(levels(&gateway, "probe-2", t0), json!([1.501, 1.502]));
    let alerts = gateway.http.json("/api/v1/alerts");
    assert_eq!(alerts["items"].as_array().map(Vec::len), Some(0), "{alerts}");
    let classes = gateway.http.json("/api/v1/classes");
    assert_eq!(
        (&classes[0]["version"], &classes[0]["older_versions"]),
        (&json!(2), &json!([1])),
        "{classes}"
    );
}
