//! Bad input is data: over the real broker, each kind is refused with its own reason, counted and listed, and the
//! connection that it came by goes on.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{collections::BTreeMap, fs, time::Duration};

use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    gateway::{Gateway, Setup},
    now_h,
    process::eventually,
    publisher::Publisher,
    wire::{GAS_METER_VERSION, report, up_topic},
};
use reqwest::Method;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);
/// Litres, as plausible for the register of a gas meter.
const GOOD: [i64; 3] = [1_000_000, 1_000_010, 1_000_020];

fn header(seq: u64) -> Header {
    Header { boot: 7, seq, class_version: Some(GAS_METER_VERSION), ..Header::default() }
}

/// A field of the wire: key and length-delimited content.
fn nested(field: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 128);
    [&[field << 3 | 2, length], content].concat()
}

/// A report whose column carries doubles, as an encoder with `repeated double` would write it: NaN among them.
fn doubles_for_integers() -> Vec<u8> {
    // Column: deltas as a 64-bit field instead of bytes.
    let column = [&[2 << 3 | 1][..], &f64::NAN.to_le_bytes()].concat();
    nested(10, &nested(5, &column))
}

/// The same where the principal channel's values should be.
fn doubles_for_the_principal_channel() -> Vec<u8> {
    nested(10, &[&[4 << 3 | 1][..], &f64::INFINITY.to_le_bytes()].concat())
}

/// A report whose start time is a double.
fn double_for_time() -> Vec<u8> {
    let block = [&[1 << 3 | 1][..], &1.5e9_f64.to_le_bytes()].concat();
    nested(10, &block)
}

struct Case {
    reason: &'static str,
    topic: Vec<u8>,
    payload: Vec<u8>,
    /// Samples that the ledger counts as quarantined.
    samples: u64,
}

fn cases() -> Vec<Case> {
    let now = now_h();
    let fine = report(header(0), now - 10, 1, &GOOD);
    let to = |device: &str| up_topic(device).into_bytes();
    let message = |reason, topic: Vec<u8>, payload: Vec<u8>| Case { reason, topic, payload, samples: 0 };
    let samples =
        |reason, device: &str, payload, samples| Case { reason, topic: to(device), payload, samples };
    let mut other_shard = to("meter-1");
    other_shard[9] = if other_shard[9] == b'0' { b'1' } else { b'0' };
    let long_id = format!("hunhe/v1/00/{}/up", "a".repeat(33)).into_bytes();
    vec![
        message("unknown_device", to("nobody"), fine.clone()),
        message("oversize", to("meter-1"), vec![0; 64 * 1024 + 1]),
        message("not_protobuf", to("meter-1"), vec![0xff; 20]),
        message("truncated", to("meter-1"), fine[..fine.len() - 1].to_vec()),
        message("not_an_integer", to("meter-1"), doubles_for_integers()),
        message("not_an_integer", to("meter-1"), doubles_for_the_principal_channel()),
        message("not_an_integer", to("meter-1"), double_for_time()),
        message("wrong_shard", other_shard, fine.clone()),
        message("bad_id", b"hunhe/v1/00/<script>alert(1)<\\script>/up".to_vec(), fine.clone()),
        message("bad_id", b"hunhe/v1/00/..%2f..%2fetc/up".to_vec(), fine.clone()),
        message("bad_id", b"hunhe/v1/00/a,device=b c=1\\n/up".to_vec(), fine.clone()),
        message("bad_id", "hunhe/v1/00/浑河/up".as_bytes().to_vec(), fine.clone()),
        message("bad_id", b"hunhe/v1/00//up".to_vec(), fine.clone()),
        message("bad_id", long_id, fine),
        message(
            "unknown_class_version",
            to("meter-2"),
            report(Header { class_version: Some(9), ..header(0) }, now - 10, 1, &GOOD),
        ),
        message(
            "class_version_unknown",
            to("meter-2"),
            report(Header { class_version: None, ..header(0) }, now - 10, 1, &GOOD),
        ),
        samples("in_future", "meter-3", report(header(0), now + 2, 1, &GOOD), 3),
        samples("too_old", "meter-4", report(header(0), 200_000, 1, &GOOD), 3),
        samples(
            "out_of_range",
            "meter-5",
            report(header(0), now - 10, 1, &[-5, 100_000_000, i64::MAX >> 12]),
            3,
        ),
        samples("no_known_channel", "meter-6", report(header(0), now - 10, 99, &GOOD), 3),
        message(
            "wrong_class",
            to("meter-6"),
            report(Header { class_version: Some(1), ..header(3) }, now - 5, 1, &GOOD),
        ),
    ]
}

#[test]
fn each_bad_input_is_refused_with_its_own_reason_and_the_connection_lives_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let list = dir.path().join("devices.csv");
    let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
    for meter in 1..=7 {
        text += &format!("meter-{meter},gas_meter,gas,210102,gas-heping,box,123.4,41.8\n");
    }
    fs::write(&list, text).expect("a list");
    let setup = Setup::embedded(broker.gateway_port, format!("devices = [{list:?}]"), "");
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let mut publisher = Publisher::connect(broker.port, "hostile", 16).expect("a connection");

    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut messages, mut quarantined) = (0, 0);
    for case in cases() {
        publisher.publish(&case.topic, &case.payload).and_then(|()| publisher.settle()).expect("it is taken");
        *expected.entry(case.reason).or_default() += 1;
        messages += 1;
        quarantined += case.samples;
        let listed = eventually(WITHIN, &format!("{} is listed", case.reason), || {
            let page = gateway.http.json(&format!("/api/v1/quarantine?reason={}", case.reason));
            (page["by_reason"] == json!(expected)).then_some(page)
        });
        assert_listed(&listed, &case);
    }
    let page = gateway.http.json("/api/v1/quarantine?limit=1000");
    assert_eq!((&page["total"], page["items"].as_array().map(Vec::len)), (&json!(messages), Some(messages)));

    // The same connection, a good report of a device that was never refused and of one that was.
    for (device, seq) in [("meter-7", 0), ("meter-5", 3)] {
        let payload = report(header(seq), now_h() - 20, 1, &GOOD);
        publisher
            .publish(up_topic(device).as_bytes(), &payload)
            .and_then(|()| publisher.settle())
            .expect("it is taken");
    }
    let ledger = gateway.await_settled(quarantined + 6, WITHIN);
    let counts = ["sampled", "stored", "quarantined", "unexplained"].map(|name| ledger[name].as_u64());
    assert_eq!(counts, [Some(quarantined + 6), Some(6), Some(quarantined), Some(0)], "{ledger}");

    // Whole messages are counted by reason; samples are in the ledger.
    let by_message: BTreeMap<&str, u64> =
        cases().iter().filter(|case| case.samples == 0).fold(BTreeMap::new(), |mut counts, case| {
            *counts.entry(case.reason).or_default() += 1;
            counts
        });
    let refused = &gateway.http.json("/api/v1/ledger")["totals"]["messages_refused"];
    for (reason, count) in by_message {
        assert_eq!(refused[reason], count, "{reason} of {refused}");
    }
    let status = gateway.http.json("/api/v1/status");
    for case in cases().iter().filter(|case| case.samples > 0) {
        assert_eq!(status["quarantined_by_reason"][case.reason], case.samples, "{}: {status}", case.reason);
    }
    let metrics = gateway.http.text("/metrics");
    assert!(metrics.contains("hunhe_refused_total{reason=\"oversize\"} 1"), "{metrics}");

    refused_again(&gateway, "out_of_range", quarantined);
}

/// What a record must tell, and never the payload, raw text of the device, or the id of a household's device.
fn assert_listed(page: &Value, case: &Case) {
    let record = &page["items"][0];
    assert_eq!(record["reason"], case.reason, "{record}");
    assert_eq!(record["payload_bytes"], case.payload.len(), "{record}");
    assert_eq!(record["samples"], case.samples, "{record}");
    let text = record.to_string();
    assert!(!text.chars().any(|c| c.is_control()), "{text}");
    assert!(!text.contains("meter-"), "a household's id is shown: {text}");
}

/// A record sent through validation again, with nothing corrected, is refused again and the ledger stands as it did.
fn refused_again(gateway: &Gateway, reason: &str, quarantined: u64) {
    let page = gateway.http.json(&format!("/api/v1/quarantine?reason={reason}"));
    let before = &page["items"][0];
    let id = before["id"].as_str().expect("an id");
    let answer = gateway.http.ask(Method::POST, &format!("/api/v1/quarantine/{id}/redrive"));
    assert_eq!(answer.map(|(status, _)| status), Some(202));
    // The record keeps its id and has arrived once more.
    eventually(WITHIN, "the samples are refused again", || {
        let page = gateway.http.json(&format!("/api/v1/quarantine?reason={reason}"));
        let record = &page["items"][0];
        (page["total"] == 1 && record["id"] == id && record["arrival"] != before["arrival"]).then_some(())
    });
    let ledger = gateway.await_settled(quarantined + 6, WITHIN);
    assert_eq!((&ledger["quarantined"], &ledger["closed"]), (&json!(quarantined), &json!(true)), "{ledger}");
}
