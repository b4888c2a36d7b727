//! The recording of ten real metered areas and the weather, from the agent over the real Mosquitto and the gateway into
//! the real VictoriaMetrics and the embedded store: exactly the file, and a ledger that closes.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::Path, time::Duration};

use hunhe_tests::{
    agent::{self, Agent},
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    recording::Recording,
    report,
    stored::{Difference, in_database, in_gateway},
};
use serde_json::json;

const REPLAY: Duration = Duration::from_secs(180);
/// From the agent's end until every sink has everything.
const SETTLE: Duration = Duration::from_secs(60);

struct Replayed {
    recording: Recording,
    database: VictoriaMetrics,
    gateway: Gateway,
    _broker: Mosquitto,
    _dir: tempfile::TempDir,
}

fn replayed(environment: &[(&str, &str)]) -> Replayed {
    let recording = Recording::read();
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let database = VictoriaMetrics::start(dir.path());
    let setup = setup(dir.path(), &recording, broker.gateway_port, database.port);
    let gateway = Gateway::start(dir.path(), &setup, environment);
    let mut agent = Agent::start(dir.path(), broker.port, &recording, 100_000);
    let ended = agent.process.wait(REPLAY);
    assert!(ended.success(), "the agent ended with {ended}");
    gateway.await_settled(recording.samples, SETTLE);
    Replayed { recording, database, gateway, _broker: broker, _dir: dir }
}

fn setup(dir: &Path, recording: &Recording, broker: u16, database: u16) -> Setup {
    let list = dir.join("devices.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    Setup {
        broker,
        database: Some(database),
        registry: format!("devices = [{list:?}]"),
        // The recording is from 2021.
        more: "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n".into(),
        sink_of_record: "embedded",
    }
}

#[test]
fn the_recording_arrives_exactly_and_the_ledger_closes() {
    let path = replayed(&[]);
    let samples = path.recording.samples;
    let found = in_database(&path.database, &path.recording, true);
    assert_eq!(found, Difference::default(), "VictoriaMetrics");
    assert_eq!(in_gateway(&path.gateway, &path.recording), Difference::default(), "embedded store");

    let (code, ledger) = path.gateway.ledger_command();
    for (name, expected) in [
        ("sampled", samples),
        ("stored", samples),
        ("quarantined", 0),
        ("declared_lost", 0),
        ("outstanding", 0),
        ("unexplained", 0),
    ] {
        assert_eq!(ledger[name], expected, "{name} of {ledger}");
    }
    assert_eq!(ledger["readings"], path.recording.value_count(), "{ledger}");
    assert_eq!((code, &ledger["closed"]), (Some(0), &json!(true)));
    report::write(
        "recording",
        None,
        &json!({"samples": samples, "values": path.recording.value_count(), "lost": found.lost,
            "doubled": found.doubled, "invented": found.invented, "unexplained": ledger["unexplained"]}),
    );
}

#[test]
fn a_sample_dropped_on_purpose_is_exactly_one_unexplained() {
    let path = replayed(&[("PLANT_DROP", "5000")]);
    let (code, ledger) = path.gateway.ledger_command();
    assert_eq!((&ledger["unexplained"], &ledger["closed"]), (&json!(1), &json!(false)), "{ledger}");
    assert_eq!(ledger["stored"], path.recording.samples - 1, "{ledger}");
    assert_eq!(code, Some(1));
    let difference = in_database(&path.database, &path.recording, true);
    assert!(difference.lost >= 1 && difference.doubled + difference.invented == 0, "{difference:?}");
}
