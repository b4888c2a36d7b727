//! Over the real broker: a client that poses as a device cannot lock it out or open its ledger for good, and raises an alert.
//! Unexplained samples are written off by command, and the audit trail keeps that.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::Path, time::Duration};

use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    gateway::{Gateway, Setup},
    now_h,
    process::eventually,
    publisher::Publisher,
    wire::{GAS_METER_VERSION, report, up_topic},
};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

fn start(dir: &Path, broker: &Mosquitto) -> Gateway {
    let list = dir.join("devices.csv");
    let text = "device,class,operator,district,zone,agent,lon,lat\n\
                meter-1,gas_meter,gas,210102,gas-heping,box,123.4,41.8\n";
    fs::write(&list, text).expect("a list");
    let setup = Setup::embedded(broker.gateway_port, format!("devices = [{list:?}]"), "");
    Gateway::start(dir, &setup, &[])
}

/// Three samples of the meter, `age_h` hours old.
fn send(publisher: &mut Publisher, header: Header, age_h: i64) {
    let first = 1_000_000 + 10 * i64::try_from(header.seq % 1000).expect("small");
    let payload = report(header, now_h() - age_h, 1, &[first, first + 10, first + 20]);
    publisher
        .publish(up_topic("meter-1").as_bytes(), &payload)
        .and_then(|()| publisher.settle())
        .expect("it is taken");
}

fn header(boot: u32, seq: u64) -> Header {
    Header { boot, seq, class_version: Some(GAS_METER_VERSION), ..Header::default() }
}

fn firing(gateway: &Gateway, rule: &str) -> Option<Value> {
    let page = gateway.http.json("/api/v1/alerts?state=open");
    let found = page["items"].as_array()?.iter().find(|alert| alert["rule"] == rule)?;
    (found["state"] == "firing" && found["mode"] == "live").then(|| found.clone())
}

/// A command of the ledger's against this gateway: exit code and what it says.
fn ledger(gateway: &Gateway, words: &[&str]) -> (Option<i32>, String) {
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let output = command_of("hunhe-gateway")
        .arg("ledger")
        .args(words)
        .args(["--url", &url])
        .output()
        .expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn whoever_poses_as_a_device_neither_locks_it_out_nor_opens_its_ledger_in_silence() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let gateway = start(dir.path(), &broker);
    let mut publisher = Publisher::connect(broker.port, "hostile", 16).expect("a connection");
    send(&mut publisher, header(7, 0), 40);
    for forged in 100..140 {
        send(&mut publisher, header(forged, 0), 30);
    }
    // Its own goes on.
    send(&mut publisher, header(7, 3), 20);
    let settled = gateway.await_settled(6 + 40 * 3, WITHIN);
    assert_eq!((&settled["closed"], &settled["unexplained"]), (&json!(true), &json!(0)), "{settled}");
    let refused = gateway.http.json("/api/v1/quarantine?reason=dedup_window");
    assert_eq!(refused["total"], 0, "{refused}");
    let alert = eventually(WITHIN, "the new outboxes are an alert", || firing(&gateway, "outboxes_new"));
    assert_eq!((&alert["severity"], &alert["value"]), (&json!("major"), &json!(8.0)), "{alert}");

    // Numbers that nobody can have sampled are refused whole, kept, and told.
    let impossible = Header { next_seq: Some((1 << 53) - 4096), ..header(7, 6) };
    send(&mut publisher, impossible, 10);
    let alert = eventually(WITHIN, "they are an alert", || firing(&gateway, "seq_implausible"));
    assert_eq!(alert["severity"], "major", "{alert}");
    let listed = eventually(WITHIN, "they are in quarantine", || {
        let page = gateway.http.json("/api/v1/quarantine?reason=implausible_seq");
        (page["total"] == 1).then(|| page["items"][0].clone())
    });
    assert_eq!((&listed["device"], &listed["samples"]), (&alert["device"], &json!(0)), "{listed}");
    let after = gateway.await_settled(126, WITHIN);
    assert_eq!((&after["sampled"], &after["closed"]), (&json!(126), &json!(true)), "{after}");
}

#[test]
fn what_nobody_can_explain_is_written_off_by_command_and_stays_in_the_audit_trail() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let mut gateway = start(dir.path(), &broker);
    let mut publisher = Publisher::connect(broker.port, "meters", 16).expect("a connection");
    send(&mut publisher, header(7, 50), 40);
    let open = gateway.await_settled(53, WITHIN);
    assert_eq!((&open["unexplained"], &open["closed"]), (&json!(50), &json!(false)), "{open}");
    assert_eq!(ledger(&gateway, &[]).0, Some(1));
    let device = gateway.http.json("/api/v1/ledger?by=device")["rows"][0]["key"].clone();
    let device = device.as_str().expect("a name");

    let (code, said) = ledger(&gateway, &["write-off", "--device", "nobody", "--reason", "r", "--by", "lin"]);
    assert!(code == Some(1) && said.contains("404: no device nobody"), "{said}");
    let order = ["write-off", "--device", device, "--reason", "logger replaced", "--by", "lin"];
    let (code, said) = ledger(&gateway, &order);
    assert_eq!((code, said.trim()), (Some(0), format!("50 samples of {device} are declared lost").as_str()));
    let (code, said) = ledger(&gateway, &order);
    assert!(code == Some(1) && said.contains("409: nothing of it is unexplained"), "{said}");
    let written = |ledger: &Value| ["declared_lost", "written_off", "unexplained"].map(|n| ledger[n].clone());
    assert_eq!(written(&gateway.ledger()), [json!(50), json!(50), json!(0)]);
    let (code, said) = ledger(&gateway, &[]);
    assert!(code == Some(0) && said.contains("(50 written off)"), "{said}");

    // A crash forgets nothing of it, and what comes after all is no longer written off.
    gateway.kill_and_restart();
    send(&mut publisher, Header { held_from: Some(0), ..header(7, 10) }, 100);
    eventually(WITHIN, "three of them are stored", || (gateway.ledger()["stored"] == 6).then_some(()));
    assert_eq!(written(&gateway.ledger()), [json!(47), json!(47), json!(0)]);
    let page = gateway.http.json("/api/v1/ledger/write-offs");
    let entry = &page["items"][0];
    assert_eq!((&page["total"], &entry["samples"]), (&json!(1), &json!(50)), "{page}");
    let words = ["device", "reason", "by"].map(|name| entry[name].as_str().expect("a text"));
    assert_eq!(words, [device, "logger replaced", "lin"]);
    let (code, said) = ledger(&gateway, &["write-offs"]);
    assert!(code == Some(0) && said.contains("logger replaced") && said.contains("1 write-offs"), "{said}");
}
