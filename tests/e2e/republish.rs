//! Validated samples come out on MQTT once the operator asks for it: each at least once, with the device by its pseudonym,
//! over a kill of the gateway, and nothing else does.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use hunhe_tests::{
    broker::{Agents, Mosquitto, Saving},
    detectors::{Detector, LOW},
    events,
    gateway::{Gateway, Setup},
    now_s,
    process::eventually,
    publisher::Publisher,
};
use serde_json::{Value, json};

/// The quality code of a valid sample.
const VALID: u8 = 1;
const WITHIN: Duration = Duration::from_secs(30);

fn setup(dir: &Path, broker: u16, more: &str) -> Setup {
    let list = dir.join("devices.csv");
    let text = "device,class,operator,district,zone,agent,lon,lat,pseudonym\n\
                det-0,gas_station_detector,gas,210102,station-heping,det-0,123.4,41.8,shown-0\n";
    fs::write(&list, text).expect("a list");
    Setup::embedded(broker, format!("devices = [{list:?}]"), more)
}

/// The device's own agent, and a program that may listen.
fn agents() -> Agents<'static> {
    let own_lines = "user listener\ntopic read hunhe/v1/clean/#\n";
    Agents { own_lines, ..Agents::named(&["det-0", "listener"]) }
}

/// By time, in milliseconds.
fn samples(heard: &events::Events) -> BTreeMap<i64, Value> {
    let messages = events::so_far(heard).into_iter();
    messages.map(|(_, value)| (value["t"].as_i64().expect("a time"), value)).collect()
}

#[test]
fn each_validated_sample_is_published_with_its_pseudonym_also_over_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let agents = agents();
    let broker = Mosquitto::start_as_shipped(dir.path(), Saving::OnChanges, &agents);
    let topic = "hunhe/v1/clean/gas/gas_station_detector/shown-0";
    let heard = events::published(broker.port, "listener", topic);
    let enabled = "[republish]\nenabled = true\n";
    let mut gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port, enabled), &[]);
    let mut publisher = Publisher::connect(broker.port, "det-0", 16).expect("a connection");
    let mut detector = Detector::new(0, 7);
    let from_s = now_s() - 60;
    detector.publish(&mut publisher, from_s, &[LOW, LOW + 1]).expect("published");
    publisher.settle().expect("the broker has it");
    eventually(WITHIN, "the first two samples", || (samples(&heard).len() == 2).then_some(()));
    gateway.kill_and_restart();
    detector.publish(&mut publisher, from_s + 20, &[LOW + 2]).expect("published");
    publisher.settle().expect("the broker has it");
    let found = eventually(WITHIN, "all three samples", || {
        Some(samples(&heard)).filter(|samples| samples.len() == 3)
    });
    let values: Vec<&Value> = found.values().map(|sample| &sample["v"]["ch4"]).collect();
    assert_eq!(values, [&json!(1.5), &json!(1.51), &json!(1.52)]);
    assert!(found.values().all(|sample| sample["q"] == VALID), "{found:?}");
    assert_eq!(found.keys().next(), Some(&(from_s * 1000)), "the sample's own time");
    eventually(WITHIN, "the sink has nothing left to do", || {
        let sink = gateway.sink("republish");
        (sink["state"] == "running" && sink["lag_records"] == 0).then_some(())
    });
}

#[test]
fn nothing_is_published_unless_the_operator_asks() {
    let dir = tempfile::tempdir().expect("a folder");
    let agents = agents();
    let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &agents);
    let heard = events::published(broker.port, "listener", "hunhe/v1/clean/#");
    let gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port, ""), &[]);
    let mut publisher = Publisher::connect(broker.port, "det-0", 16).expect("a connection");
    Detector::new(0, 7).publish(&mut publisher, now_s() - 60, &[LOW]).expect("published");
    publisher.settle().expect("the broker has it");
    gateway.await_settled(1, WITHIN);
    let status = gateway.http.json("/api/v1/status");
    let sinks = status["sinks"].as_array().expect("sinks");
    assert!(sinks.iter().all(|sink| sink["name"] != "republish"), "{status}");
    assert!(samples(&heard).is_empty());
}
