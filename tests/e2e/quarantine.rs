//! What was refused comes back once its cause is mended: a device that was unknown is registered, a retention is raised. And
//! what never can come back says so, in words.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::Path, time::Duration};

use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    gateway::{Gateway, Setup},
    now_h,
    process::eventually,
    procfs,
    publisher::Publisher,
    wire::{GAS_METER_VERSION, report, up_topic},
};
use reqwest::Method;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);
const DAY_H: i64 = 24;

/// Three samples of a gas meter, so many hours ago.
fn three(seq: u64, hours_ago: i64) -> Vec<u8> {
    let header = Header {
        boot: 7,
        seq,
        held_from: Some(seq),
        class_version: Some(GAS_METER_VERSION),
        ..Header::default()
    };
    report(header, now_h() - hours_ago, 1, &[1_000_000, 1_000_010, 1_000_020])
}

fn register(list: &Path, meters: &[&str]) {
    let mut text = String::from("device,class,operator,district,zone,agent,lon,lat,pseudonym\n");
    for meter in meters {
        text += &format!("{meter},gas_meter,gas,210102,gas-heping,box,123.4,41.8,shown-{meter}\n");
    }
    fs::write(list, text).expect("a list");
}

struct Site {
    gateway: Gateway,
    publisher: Publisher,
}

impl Site {
    fn send(&mut self, meter: &str, payload: &[u8]) {
        let topic = up_topic(meter);
        let sent = self.publisher.publish(topic.as_bytes(), payload).and_then(|()| self.publisher.settle());
        sent.expect("it is taken");
    }

    /// In order: after a crash the replay itself would decide anew by what has changed.
    fn restart(&mut self) {
        self.gateway.process.terminate(WITHIN);
        self.gateway.relaunch(&[]);
        self.gateway.await_ready();
    }

    fn page(&self, query: &str) -> Value {
        self.gateway.http.json(&format!("/api/v1/quarantine?{query}"))
    }

    /// The records of a reason, once there are so many.
    fn records(&self, reason: &str, count: u64) -> Vec<Value> {
        let page = eventually(WITHIN, &format!("{count} records of {reason}"), || {
            let page = self.page(&format!("reason={reason}"));
            (page["total"] == count).then_some(page)
        });
        page["items"].as_array().expect("items").clone()
    }

    /// `hunhe-gateway quarantine …`: exit code and standard output.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = command_of("hunhe-gateway")
            .arg("quarantine")
            .args(arguments)
            .arg("--url")
            .arg(format!("http://127.0.0.1:{}", self.gateway.port))
            .output()
            .expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn counts(ledger: &Value) -> [Option<u64>; 5] {
    ["sampled", "stored", "quarantined", "declared_lost", "unexplained"].map(|name| ledger[name].as_u64())
}

#[test]
fn what_an_unknown_device_sent_is_stored_once_it_is_registered_and_leaves_the_quarantine() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let list = dir.path().join("devices.csv");
    register(&list, &["known"]);
    let setup = Setup::embedded(broker.gateway_port, format!("devices = [{list:?}]"), "");
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let publisher = Publisher::connect(broker.port, "box", 16).expect("a connection");
    let mut site = Site { gateway, publisher };
    // The second message comes twice; a third device stays unknown.
    for payload in [three(0, 10), three(3, 7), three(3, 7)] {
        site.send("newcomer", &payload);
    }
    site.send("stranger", &three(0, 10));
    site.records("unknown_device", 4);

    let refused = site.gateway.http.ask(Method::POST, "/api/v1/quarantine/m-99999999/redrive");
    assert_eq!(refused.map(|(status, _)| status), Some(404));
    register(&list, &["known", "newcomer"]);
    site.restart();
    let records = site.records("unknown_device", 4);
    let (code, text) = site.command(&["redrive", "--reason", "unknown_device"]);
    assert!(text.contains("4 records go through validation again, 0 failed"), "{text}");
    assert_eq!(code, Some(0));
    let ledger = site.gateway.await_settled(6, WITHIN);
    assert_eq!(counts(&ledger), [Some(6), Some(6), Some(0), Some(0), Some(0)], "{ledger}");
    let left = site.records("unknown_device", 1);
    // What was known already has left as well, and who is unknown still may try again.
    let topic = left[0]["topic"].as_str().expect("a topic");
    assert!(topic.contains("/stranger/"), "{topic}");
    assert!(records.iter().any(|record| record["id"] == left[0]["id"]));
    let answer = eventually(WITHIN, "it may be asked for again", || {
        let path = format!("/api/v1/quarantine/{}/redrive", left[0]["id"].as_str().expect("an id"));
        site.gateway.http.ask(Method::POST, &path).filter(|(status, _)| *status == 202)
    });
    assert!(answer.1.contains("\"samples\":0"), "{}", answer.1);
    let path = "/api/v1/devices/shown-newcomer/series?channel=register&from=0";
    let series = site.gateway.http.json(path);
    assert_eq!(series["values"].as_array().map(Vec::len), Some(6), "{series}");
    // A crash later it is the same.
    site.gateway.kill_and_restart();
    let ledger = site.gateway.await_settled(6, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(6), &json!(true)), "{ledger}");
    site.records("unknown_device", 1);
}

#[test]
fn what_is_older_than_the_retention_is_refused_and_stored_once_it_is_raised() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let list = dir.path().join("devices.csv");
    register(&list, &["meter-1"]);
    let retention = |days: &str| format!("[embedded]\nretention = \"{days}\"\n");
    let mut setup = Setup::embedded(broker.gateway_port, format!("devices = [{list:?}]"), retention("45d"));
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let publisher = Publisher::connect(broker.port, "box", 16).expect("a connection");
    let mut site = Site { gateway, publisher };
    site.send("meter-1", &three(0, 700 * DAY_H));
    site.send("meter-1", &three(3, 10));
    let old = &site.records("older_than_retention", 1)[0];
    assert_eq!((&old["kind"], &old["samples"]), (&json!("message"), &json!(3)), "{old}");
    let ledger = site.gateway.await_settled(6, WITHIN);
    assert_eq!(counts(&ledger), [Some(6), Some(3), Some(3), Some(0), Some(0)], "{ledger}");

    // The payload needs a purpose, and is logged.
    let (code, text) = site.command(&["export", "--device", "shown-meter-1", "--payload"]);
    let exported: Value = serde_json::from_str(&text).expect("one record");
    let payload: String = three(0, 700 * DAY_H).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((code, &exported["payload_hex"]), (Some(0), &json!(payload)), "{text}");
    assert!(site.gateway.log().contains("the payload of a quarantine record was read"));

    // In order: after a crash the replay itself would take it by the new retention.
    site.gateway.process.terminate(WITHIN);
    setup.more = retention("800d");
    site.gateway = Gateway::start(dir.path(), &setup, &[]);
    let (code, text) = site.command(&["redrive", "--reason", "older_than_retention"]);
    assert!(code == Some(0) && text.contains("1 records go through validation again, 0 failed"), "{text}");
    eventually(WITHIN, "the old samples are stored", || {
        let ledger = site.gateway.ledger();
        (counts(&ledger) == [Some(6), Some(6), Some(0), Some(0), Some(0)]).then_some(())
    });
    site.records("older_than_retention", 0);
}

/// What was listed whole once took 600 MiB.
#[test]
fn a_quarantine_full_of_large_messages_stays_within_its_bytes_and_is_listed_without_their_payloads() {
    const LIMIT: u64 = 48 << 20;
    const MESSAGES: u64 = 1_500;
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let list = dir.path().join("devices.csv");
    // One message each: more is beyond the share of a device.
    let noisy: Vec<String> = (0..MESSAGES).map(|number| format!("noisy-{number}")).collect();
    let meters: Vec<&str> = noisy.iter().map(String::as_str).chain(["meter-1"]).collect();
    register(&list, &meters);
    let setup = Setup::embedded(
        broker.gateway_port,
        format!("devices = [{list:?}]"),
        format!("[quarantine]\nlimit_bytes = {LIMIT}\n"),
    );
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let publisher = Publisher::connect(broker.port, "box", 16).expect("a connection");
    let mut site = Site { gateway, publisher };
    // Samples that only wait to be looked at: no junk makes them go.
    site.send("meter-1", &three(0, 700 * DAY_H));
    let junk = vec![0xff; 60_000];
    for meter in &noisy {
        site.publisher.publish(up_topic(meter).as_bytes(), &junk).expect("it is taken");
    }
    site.publisher.settle().expect("all of it");
    let held = eventually(Duration::from_secs(60), "all of it was refused", || {
        let status = site.gateway.http.json("/api/v1/status");
        let refused = status["quarantined_by_reason"]["not_protobuf"] == MESSAGES;
        let held = status["quarantine"].clone();
        let arrived = held["records"].as_u64()? + held["discarded"].as_u64()? == MESSAGES + 1;
        (refused && arrived).then_some(held)
    });
    assert!(held["bytes"].as_u64().expect("bytes") <= LIMIT, "{held}");
    assert!(held["discarded"].as_u64().expect("discarded") > 500, "{held}");

    let list = || {
        let (mut next, mut listed) = (String::new(), 0);
        loop {
            let page = site.page(&format!("limit=1000{next}"));
            listed += page["items"].as_array().expect("items").len();
            let Some(cursor) = page["next"].as_str() else { return listed as u64 };
            next = format!("&before={cursor}");
        }
    };
    // The first time fills the store's cache, which is bounded on its own.
    assert_eq!(Some(list()), held["records"].as_u64(), "each record once");
    let gateway = site.gateway.process.id();
    procfs::reset_peak_rss(gateway).expect("it is ours");
    let before = procfs::rss_mib(gateway);
    for _ in 0..4 {
        assert_eq!(Some(list()), held["records"].as_u64(), "each record once");
    }
    // A page reads 8 MiB of payloads, one record after the other.
    let grown = procfs::peak_rss_mib(gateway) - before;
    assert!(grown <= 16.0, "listing it took {grown} MiB, of {before}");
    let old = &site.records("older_than_retention", 1)[0];
    assert_eq!(old["samples"], 3, "the samples are still there: {old}");
    let ledger = site.gateway.ledger();
    assert_eq!(counts(&ledger), [Some(3), Some(0), Some(3), Some(0), Some(0)], "{ledger}");
}
