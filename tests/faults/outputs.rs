//! Outputs of alerts beside outputs in trouble: ten at once while a thousand devices alarm within a second. The judges are the
//! receivers, which know nothing of the gateway's logs.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    detectors::{self, Detector, HIGH, LOW},
    events::{self, Events},
    gateway::{Gateway, Setup},
    now_s,
    process::eventually,
    publisher::Publisher,
    report,
    webhook::{Received, Webhook},
};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(120);
/// Until an output that delivers nothing is an alert; the state machine's own test has the default.
const STALLED_AFTER: Duration = Duration::from_secs(5);
const DETECTORS: usize = 1_000;
const HEARTBEATS: Duration = Duration::from_secs(30);

fn start(dir: &Path, broker: &Mosquitto, detectors: usize, alerts: &str, webhooks: &str) -> Gateway {
    let stalled = STALLED_AFTER.as_secs();
    let setup = Setup::embedded(
        broker.gateway_port,
        detectors::registry(dir, detectors),
        format!("[checkpoint]\nevery_s = 1\n[alerts]\nstalled_after_s = {stalled}\n{alerts}{webhooks}"),
    );
    Gateway::start(dir, &setup, &[])
}

/// Publishes one value of each detector; answers how long that took, and when it was over.
fn alarm(
    publisher: &mut Publisher,
    detectors: &mut [Detector],
    at_s: i64,
    value: i64,
) -> (Duration, Instant) {
    let begun = Instant::now();
    for detector in detectors {
        detector.publish(publisher, at_s, &[value]).expect("published");
    }
    publisher.settle().expect("the broker has it");
    (begun.elapsed(), Instant::now())
}

/// Whether a change is about a device, not about an output.
fn is_of_a_device(alert: &Value) -> bool {
    alert["rule"] == detectors::RULE
}

/// The states of the alert about an output, in the order in which a receiver took them first.
fn about_output(taken: &[Received], name: &str) -> Vec<String> {
    let about = taken.iter().filter(|received| received.body["output"] == name);
    let mut states: Vec<String> = Vec::new();
    let mut keys = BTreeSet::new();
    for received in about {
        if keys.insert(received.key.clone()) {
            states.push(received.body["state"].as_str().unwrap_or_default().to_owned());
        }
    }
    states
}

/// Devices and the states of their alerts, in the order in which they were taken first.
fn by_device(taken: &[Received]) -> BTreeMap<String, Vec<String>> {
    let mut by_device: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in taken.iter().filter(|received| is_of_a_device(&received.body)) {
        let text = |key: &str| received.body[key].as_str().unwrap_or_default().to_owned();
        let states = by_device.entry(text("device")).or_default();
        if !states.contains(&text("state")) {
            states.push(text("state"));
        }
    }
    by_device
}

/// Alerts of devices that came over the broker.
fn of_devices(mqtt: &Events) -> Vec<(Instant, Value)> {
    events::so_far(mqtt).into_iter().filter(|(_, alert)| is_of_a_device(alert)).collect()
}

#[test]
fn a_slow_a_hanging_and_a_refusing_output_delay_none_of_seven_others_and_lose_nothing() {
    const BOUND: Duration = Duration::from_secs(2);
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let others: Vec<Webhook> = (0..6).map(|_| Webhook::start()).collect();
    let (slow, hanging, refusing) = (Webhook::start(), Webhook::start(), Webhook::start());
    slow.set_slow(200);
    hanging.set_hanging(true);
    refusing.set_failing(1);
    let names: Vec<String> = (0..others.len()).map(|at| format!("other-{at}")).collect();
    let webhooks: String = names
        .iter()
        .map(String::as_str)
        .chain(["slow", "hanging", "refusing"])
        .zip(others.iter().chain([&slow, &hanging, &refusing]))
        .map(|(name, webhook)| webhook.to_toml(name, 2))
        .collect();
    let gateway = start(dir.path(), &broker, DETECTORS, "", &webhooks);
    let mqtt = events::published(broker.port, "judge", "hunhe/v1/alerts/#");
    let heartbeats = events::published(broker.port, "watcher", "hunhe/v1/gateway/heartbeat");

    let mut publisher = Publisher::connect(broker.port, "detectors", 256).expect("a connection");
    let mut detectors: Vec<Detector> = (0..DETECTORS).map(|at| Detector::new(at, 7)).collect();
    let begin_s = now_s() - 60;
    let (took, over) = alarm(&mut publisher, &mut detectors, begin_s, HIGH);
    assert!(took < Duration::from_secs(1), "the thousand alarms took {took:?}");
    eventually(WITHIN, "the seven others have all", || {
        let webhooks = others.iter().all(|other| other.taken_count() >= DETECTORS);
        (webhooks && events::so_far(&mqtt).len() >= DETECTORS).then_some(())
    });
    let last = |at: &mut dyn Iterator<Item = Instant>| {
        at.max().expect("something came").saturating_duration_since(over)
    };
    let mut latest: Vec<Duration> = others
        .iter()
        .map(|other| {
            last(&mut other.taken().iter().filter(|one| is_of_a_device(&one.body)).map(|one| one.at))
        })
        .collect();
    latest.push(last(&mut of_devices(&mqtt).iter().map(|(at, _)| *at)));
    println!("published in {took:?}; the last of {DETECTORS} after {latest:?}, mqtt's at the end");
    let worst = latest.iter().max().expect("seven");
    report::write(
        "faults",
        Some("outputs"),
        &json!({"alarms": DETECTORS, "published_ms": took.as_millis(), "others": latest.len(),
            "last_ms": latest.iter().map(Duration::as_millis).collect::<Vec<_>>()}),
    );
    for (name, other) in names.iter().zip(&others) {
        assert_eq!(by_device(&other.taken()).len(), DETECTORS, "{name} has each of them");
    }
    assert_eq!(hanging.taken_count() + refusing.taken_count(), 0);

    check_that_both_are_alerts(&gateway, &others[0], &mqtt, &heartbeats);
    alarm(&mut publisher, &mut detectors[..100], begin_s + 10, LOW);
    hanging.set_hanging(false);
    refusing.set_failing(0);
    for (name, webhook) in [("slow", &slow), ("hanging", &hanging), ("refusing", &refusing)] {
        check_that_all_came(&gateway, name, webhook, &detectors[..100]);
    }
    for name in ["hanging", "refusing"] {
        eventually(WITHIN, "the alert about it is over, everywhere", || {
            let told = about_output(&others[0].taken(), name) == ["firing", "resolved"];
            (told && gateway.output(name)["state"] == "running").then_some(())
        });
    }
    assert_eq!(about_output(&others[0].taken(), "slow"), Vec::<String>::new(), "a slow one moves");
    assert!(*worst <= BOUND, "{latest:?}");
}

/// An output gets every raise, and behind it the ends of those alerts that ended.
fn check_that_all_came(gateway: &Gateway, name: &str, webhook: &Webhook, ended: &[Detector]) {
    eventually(WITHIN, &format!("{name} gets all"), || {
        let done = gateway.output(name)["lag"] == 0 && webhook.taken_count() >= DETECTORS + ended.len();
        done.then_some(())
    });
    let states = by_device(&webhook.taken());
    assert_eq!(states.len(), DETECTORS, "{name}");
    for (device, states) in &states {
        let is_over = ended.iter().any(|detector| detector.id == *device);
        let expected: &[&str] = if is_over { &["firing", "resolved"] } else { &["firing"] };
        assert_eq!(states, expected, "{name}: {device}");
    }
}

/// The hanging and the refusing output are alerts on the page, at the other outputs, in metrics and in the heartbeat.
fn check_that_both_are_alerts(gateway: &Gateway, other: &Webhook, mqtt: &Events, heartbeats: &Events) {
    for name in ["hanging", "refusing"] {
        eventually(WITHIN, "another output gets the alert about it", || {
            (about_output(&other.taken(), name) == ["firing"]).then_some(())
        });
        let shown = gateway.output(name);
        assert_eq!(shown["state"], "stalled", "{shown}");
        assert!(shown["stalled_since"].is_string() && shown["last_error"].is_string(), "{shown}");
        let topics = events::so_far(mqtt).into_iter().filter(|(_, alert)| alert["output"] == name);
        let topics: BTreeSet<String> = topics.map(|(_, alert)| alert["topic"].to_string()).collect();
        assert_eq!(topics, BTreeSet::from(["\"hunhe/v1/alerts/gateway/major\"".to_owned()]));
    }
    let page = gateway.http.json("/api/v1/alerts?state=open&operator=gateway");
    let listed: Vec<_> =
        page["items"].as_array().expect("items").iter().map(|alert| &alert["rule"]).collect();
    assert_eq!(listed, ["output_stalled", "output_stalled"], "{page}");
    let metrics = gateway.http.text("/metrics");
    for (name, stalled) in [("hanging", 1), ("refusing", 1), ("slow", 0), ("other-0", 0), ("mqtt", 0)] {
        let line = format!("hunhe_output_stalled{{output=\"{name}\"}} {stalled}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let age = metrics
        .lines()
        .find_map(|line| line.strip_prefix("hunhe_output_oldest_undelivered_seconds{output=\"hanging\"} "))
        .and_then(|age| age.parse::<f64>().ok());
    // It stands still for a little longer than its oldest alert waits to be taken up by it.
    assert!(age.is_some_and(|age| age >= STALLED_AFTER.as_secs_f64() - 1.0), "{age:?}");
    eventually(HEARTBEATS, "the heartbeat names both", || {
        let newest = events::so_far(heartbeats).last()?.1.clone();
        (newest["stalled_outputs"] == json!(["hanging", "refusing"])).then_some(())
    });
}

#[test]
fn a_kill_neither_ends_nor_repeats_the_alert_of_a_stalled_output_and_the_heartbeat_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let (hanging, duty, switch) = (Webhook::start(), Webhook::start(), Webhook::start());
    hanging.set_hanging(true);
    let alerts = format!("heartbeat_url = \"http://127.0.0.1:{}/beat\"\n", switch.port);
    let webhooks = format!("{}{}", hanging.to_toml("hanging", 1), duty.to_toml("duty", 1));
    let mut gateway = start(dir.path(), &broker, 1, &alerts, &webhooks);
    let mut publisher = Publisher::connect(broker.port, "detectors", 64).expect("a connection");
    let mut detectors = [Detector::new(0, 7)];
    alarm(&mut publisher, &mut detectors, now_s() - 60, HIGH);
    eventually(WITHIN, "it is an alert", || {
        (about_output(&duty.taken(), "hanging") == ["firing"]).then_some(())
    });
    let since = gateway.output("hanging")["stalled_since"].clone();
    for _ in 0..2 {
        gateway.kill_and_restart();
        eventually(WITHIN, "it is stalled still, since when it was", || {
            (gateway.output("hanging")["stalled_since"] == since).then_some(())
        });
    }
    let page = gateway.http.json("/api/v1/alerts?state=open&operator=gateway");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    let beats = switch.taken_count();
    // One may be of the moment at which a record is under way to the lane.
    eventually(HEARTBEATS, "the heartbeat goes on and says what is so", || {
        let taken = switch.taken();
        let mut new = taken.iter().skip(beats).map(|taken| &taken.body);
        let says = |beat: &Value| {
            beat["stalled_outputs"] == json!(["hanging"])
                && beat["ledger_closed"] == true
                && beat["lane_lag_records"] == 0
        };
        new.any(says).then_some(())
    });
    hanging.set_hanging(false);
    eventually(WITHIN, "it is over", || {
        (about_output(&duty.taken(), "hanging") == ["firing", "resolved"]).then_some(())
    });
    let resolved: Vec<_> = duty
        .taken()
        .into_iter()
        .filter(|one| one.body["state"] == "resolved")
        .map(|one| (one.key, one.body["text"]["en"].clone()))
        .collect();
    assert_eq!(resolved.len(), 1, "no restart ended it before: {resolved:?}");
    eventually(WITHIN, "it has all", || (gateway.output("hanging")["lag"] == 0).then_some(()));
    // Both alerts, and the end of the one that is about it.
    assert_eq!(by_device(&hanging.taken()).len(), 1);
    assert_eq!(about_output(&hanging.taken(), "hanging"), ["firing", "resolved"]);
}
