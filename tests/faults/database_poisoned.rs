//! One point in 5,000 that the database refuses: the others are stored, and the one outlasts a SIGKILL of the gateway in
//! quarantine although the embedded store had no checkpoint since.

use std::time::Duration;

use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    gateway::{Gateway, Setup},
    poisoned::Poisoned,
    process::eventually,
    publisher::Publisher,
    report, wire,
};
use serde_json::json;

const METERS: u64 = 200;
const CHECKPOINTS: &str = "hunhe_checkpoints_total";
const SAMPLES: i64 = 25;
const WITHIN: Duration = Duration::from_secs(60);
/// 2026-01-01, in hours since 1970.
const FIRST_HOUR: i64 = 490_896;

#[test]
fn one_refused_point_is_kept_for_good_before_the_cursor_passes_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let database = Poisoned::start();
    let list = dir.path().join("devices.csv");
    std::fs::write(&list, wire::gas_meter_list(METERS, 1000)).expect("a list");
    let setup = Setup {
        broker: broker.gateway_port,
        database: None,
        registry: format!("devices = [{list:?}]"),
        more: format!(
            "[checkpoint]\nevery_s = 1\n[[influx]]\nname = \"main\"\nurl = \"http://127.0.0.1:{}\"\n",
            database.port
        ),
        sink_of_record: "main",
    };
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    let mut publisher = Publisher::connect(broker.port, "load", 256).expect("a connection");
    for meter in 0..METERS {
        let values: Vec<i64> = (0..SAMPLES).map(|n| 10_000_000 + n * 100).collect();
        let payload = wire::report(
            Header { boot: 7, seq: 0, class_version: Some(wire::GAS_METER_VERSION), ..Header::default() },
            FIRST_HOUR,
            1,
            &values,
        );
        let topic = wire::up_topic(&wire::gas_meter_id(meter));
        publisher.publish(topic.as_bytes(), &payload).expect("a publish");
    }
    publisher.settle().expect("acknowledgements");
    let samples = METERS * u64::try_from(SAMPLES).expect("few");
    let ledger = gateway.await_settled(samples, WITHIN);
    let requests = database.requests();
    let expected = (json!(samples - 1), json!(1), json!(0));
    let classes = |ledger: &serde_json::Value| {
        (ledger["stored"].clone(), ledger["quarantined"].clone(), ledger["outstanding"].clone())
    };
    assert_eq!(classes(&ledger), expected, "{ledger}");
    let before = gateway.http.metric(CHECKPOINTS);
    // The one after the next has begun after the confirmation, whatever was under way.
    publisher
        .publish(wire::up_topic(&wire::gas_meter_id(0)).as_bytes(), b"no report")
        .and_then(|()| publisher.settle())
        .expect("something for a checkpoint to be about");
    eventually(WITHIN, "the lane has a checkpoint behind it", || {
        let _ = publisher.publish(wire::up_topic(&wire::gas_meter_id(0)).as_bytes(), b"no report");
        let _ = publisher.settle();
        (gateway.http.metric(CHECKPOINTS) >= before + 2.0).then_some(())
    });
    gateway.kill_and_restart();
    eventually(WITHIN, "the ledger is as before", || (classes(&gateway.ledger()) == expected).then_some(()));
    let list = gateway.http.json("/api/v1/quarantine?reason=refused_by_database");
    let kept = list["items"].as_array().expect("records");
    let kept = kept.iter().filter(|record| record["reason"] == "refused_by_database").count();
    let stored = database.stored("gas_meter");
    report::write(
        "faults",
        Some("database_poisoned"),
        &json!({"points": samples, "stored": stored, "requests": requests, "kept_after_kill": kept,
            "lost": samples.saturating_sub((stored + kept) as u64), "doubled": database.doubled()}),
    );
    assert_eq!((stored as u64, kept), (samples - 1, 1), "{list}");
    assert_eq!(database.doubled(), 0, "points were stored twice");
    assert!(database.poison().is_some());
}
