//! Alerts reach their receivers: through ten SIGKILLs of the gateway, past a receiver that is dead, and with every kind
//! of bad answer told apart. The judge is the receiver, which knows nothing of the gateway's logs.
//!
//! The moments of the kills are drawn from a seed (`TESTS_KILL_SEED`).

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant, SystemTime},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    detectors::{self, Detector, HIGH, LOW},
    events,
    gateway::{Gateway, Setup},
    now_s,
    process::eventually,
    publisher::Publisher,
    report,
    webhook::{Answer, Received, Webhook},
};
use serde_json::{Value, json};

const KILLS: u64 = 10;
const WITHIN: Duration = Duration::from_secs(60);

fn setup(dir: &Path, broker: &Mosquitto, detectors: usize, more: &str) -> Setup {
    Setup {
        broker: broker.gateway_port,
        database: None,
        registry: detectors::registry(dir, detectors),
        // Checkpoints often, so that kills fall before, into and after them.
        more: format!("[checkpoint]\nevery_s = 1\n{more}"),
        sink_of_record: "embedded",
    }
}

/// What a change is to someone who does not know ids: whose, since when, and raised or over.
fn change(alert: &Value) -> (String, String, String) {
    let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
    (text("device"), text("since"), text("state"))
}

/// Each alert's changes in the order in which they were taken first.
fn by_alert(taken: &[Received]) -> BTreeMap<String, Vec<String>> {
    let mut by_alert: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in taken {
        let states = by_alert.entry(received.body["id"].as_str().unwrap_or_default().into()).or_default();
        let state = received.body["state"].as_str().unwrap_or_default().to_owned();
        if !states.contains(&state) {
            states.push(state);
        }
    }
    by_alert
}

/// Detectors and rounds of the test with kills.
const DETECTORS: usize = 12;
const ROUNDS: usize = 20;

/// When a round's raise is, in event time.
fn round_s(begin_s: i64, round: usize) -> i64 {
    begin_s + 20 * i64::try_from(round).expect("small")
}

/// Raises and ends each detector's alert in every round, ten seconds of event time apart; all of it is fresh.
fn publish_rounds(port: u16, begin_s: i64, done: &AtomicUsize) {
    let mut publisher = Publisher::connect(port, "detectors", 64).expect("a connection");
    let mut detectors: Vec<Detector> = (0..DETECTORS).map(|at| Detector::new(at, 7)).collect();
    for round in 0..ROUNDS {
        for (value, later_s) in [(HIGH, 0), (LOW, 10)] {
            for detector in &mut detectors {
                let at_s = round_s(begin_s, round) + later_s;
                detector.publish(&mut publisher, at_s, &[value]).expect("published");
            }
            publisher.settle().expect("the broker has it");
            std::thread::sleep(Duration::from_millis(400));
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// The same change is recognisably the same: one key, and one body but for the sequence. Answers how many changes there
/// were, how many came again, and those that came again with another body.
fn by_key(webhook: &Webhook) -> (usize, usize, Vec<(Value, Value)>) {
    let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
    let (mut repeated, mut altered) = (0, Vec::new());
    for Received { key, authorization, body, .. } in webhook.received() {
        assert_eq!(authorization.as_deref(), Some("Bearer open-sesame"));
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(key, format!("{}-{}-{}", text("id"), text("state"), text("mode")));
        let mut same = body;
        same["sequence"] = Value::Null;
        match bodies.get(&key) {
            None => drop(bodies.insert(key, same)),
            Some(before) if *before == same => repeated += 1,
            Some(before) => altered.push((before.clone(), same)),
        }
    }
    (bodies.len(), repeated, altered)
}

#[test]
fn ten_kills_lose_no_raise_and_no_end_and_invent_none() {
    let seed = std::env::var("TESTS_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    // Slow, so that kills fall between a request and its answer; failing, so that they fall between two attempts.
    webhook.set_slow(20);
    webhook.set_failing(5);
    let token = dir.path().join("token");
    fs::write(&token, "open-sesame\n").expect("a token");
    let more = format!("{}token_file = {token:?}\n", webhook.to_toml("duty", 2));
    let mut gateway = Gateway::start(dir.path(), &setup(dir.path(), &broker, DETECTORS, &more), &[]);

    let begin_s = now_s() - 240;
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| publish_rounds(broker.port, begin_s, &done));
        let mut draw = seed | 1;
        for kill in 0..KILLS {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            // Some while into the kill's own tenth of the rounds.
            let round = usize::try_from(kill).expect("small") * ROUNDS / 10;
            eventually(WITHIN, "the rounds go on", || (done.load(Ordering::SeqCst) >= round).then_some(()));
            std::thread::sleep(Duration::from_millis(draw % 900));
            let restarted = gateway.kill_and_restart();
            println!("kill {kill}: {} taken before, ready after {restarted:?}", webhook.taken().len());
        }
    });

    let expected: BTreeSet<_> = (0..DETECTORS)
        .flat_map(|at| {
            (0..ROUNDS).map(move |round| (detectors::id(at), detectors::instant(round_s(begin_s, round))))
        })
        .flat_map(|(id, since)| {
            ["firing", "resolved"].map(|state| (id.clone(), since.clone(), state.to_owned()))
        })
        .collect();
    let seen = || -> BTreeSet<_> { webhook.taken().iter().map(|received| change(&received.body)).collect() };
    let begun = Instant::now();
    while !seen().is_superset(&expected) && begun.elapsed() < WITHIN {
        std::thread::sleep(Duration::from_millis(50));
    }
    let taken = webhook.taken();
    let seen = seen();
    let lost: Vec<_> = expected.difference(&seen).collect();
    let invented: Vec<_> = seen.difference(&expected).collect();

    let (bodies, repeated, altered) = by_key(&webhook);
    let disordered: Vec<_> =
        by_alert(&taken).into_iter().filter(|(_, states)| *states != ["firing", "resolved"]).collect();
    report::write(
        "faults",
        Some("alerts"),
        &json!({"seed": seed, "kills": KILLS, "changes": expected.len(), "lost": lost.len(),
            "invented": invented.len(), "repeated_with_the_same_key": repeated, "altered": altered.len(),
            "disordered": disordered.len()}),
    );
    assert_eq!((lost, invented), (vec![], vec![]));
    assert!(altered.is_empty(), "{:?}", altered.first());
    assert!(disordered.is_empty(), "{disordered:?}");
    assert_eq!(bodies, expected.len(), "one key a change");

    // The list agrees with what was delivered.
    let page = gateway.http.json("/api/v1/alerts?state=resolved&limit=1000");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(DETECTORS * ROUNDS));
    assert_eq!(page["open"]["critical"], 0);
}

/// Ten raises and ends of three detectors' alerts; when each was handed over.
fn publish_one_by_one(port: u16) -> Vec<Instant> {
    let mut publisher = Publisher::connect(port, "detectors", 64).expect("a connection");
    let mut detectors: Vec<Detector> = (0..3).map(|at| Detector::new(at, 7)).collect();
    let begin_s = now_s() - 240;
    let mut sent = Vec::new();
    for round in 0..10 {
        for (value, later_s) in [(HIGH, 0), (LOW, 10)] {
            for detector in &mut detectors {
                sent.push(Instant::now());
                detector
                    .publish(&mut publisher, begin_s + 20 * round + later_s, &[value])
                    .expect("published");
                publisher.settle().expect("the broker has it");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    sent
}

#[test]
fn a_dead_webhook_delays_nobody_and_gets_everything_in_order_when_it_returns() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let (dead, alive) = (Webhook::start(), Webhook::start());
    dead.set_down(true);
    let more = format!("{}{}", dead.to_toml("dead", 2), alive.to_toml("alive", 2));
    let gateway = Gateway::start(dir.path(), &setup(dir.path(), &broker, 3, &more), &[]);
    let page = events::alerts_of(gateway.port);
    let mqtt = events::published(broker.port, "judge", "hunhe/v1/alerts/#");
    let sent = publish_one_by_one(broker.port);
    let changes = sent.len();
    let there = |what: &str, count: &dyn Fn() -> usize| {
        eventually(WITHIN, what, || (count() >= changes).then_some(()));
    };
    there("the page has all", &|| events::so_far(&page).len());
    there("the broker has all", &|| events::so_far(&mqtt).len());
    there("the other webhook has all", &|| alive.taken().len());
    assert!(dead.received().is_empty());
    // A status is given again for a moment.
    eventually(WITHIN, "the status says who is behind", || {
        let [dead, mqtt, alive] = ["dead", "mqtt", "alive"].map(|name| gateway.output(name));
        let behind = dead["state"] == "retrying" && dead["lag"] == changes && dead["delivered"] == 0;
        let done = mqtt["kind"] == "mqtt" && mqtt["lag"] == 0 && alive["delivered"] == changes;
        (behind && done).then_some(())
    });
    let latest = |at: Vec<Instant>| {
        let slowest = at.iter().zip(&sent).map(|(at, sent)| at.duration_since(*sent)).max();
        slowest.expect("something came")
    };
    let slowest = [
        ("page", latest(events::so_far(&page).iter().map(|(at, _)| *at).collect())),
        ("mqtt", latest(events::so_far(&mqtt).iter().map(|(at, _)| *at).collect())),
        ("webhook", latest(alive.taken().iter().map(|received| received.at).collect())),
    ];
    println!("slowest beside a dead webhook: {slowest:?}");
    for (who, after) in slowest {
        assert!(after < Duration::from_secs(2), "{who}: {after:?}");
    }
    for (_, alert) in events::so_far(&mqtt) {
        assert_eq!(alert["topic"], "hunhe/v1/alerts/gas/critical");
    }

    dead.set_down(false);
    eventually(WITHIN, "the webhook gets all it missed", || (dead.taken().len() >= changes).then_some(()));
    let mut expected: Vec<Value> = events::so_far(&page).into_iter().map(|(_, alert)| alert).collect();
    expected.sort_by_key(|alert| alert["sequence"].as_u64());
    let keys =
        |webhook: &Webhook| -> BTreeSet<String> { webhook.taken().into_iter().map(|one| one.key).collect() };
    let disordered = by_alert(&dead.taken()).into_values().filter(|states| *states != ["firing", "resolved"]);
    assert_eq!(disordered.count(), 0);
    // The one that was tried alone is the oldest.
    assert_eq!(dead.taken()[0].body["sequence"], expected[0]["sequence"]);
    assert_eq!(keys(&dead), keys(&alive));
    eventually(WITHIN, "its status says so", || {
        let found = gateway.output("dead");
        (found["state"] == "running" && found["lag"] == 0 && found["last_error"].is_null()).then_some(())
    });
}

#[test]
fn bad_answers_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let gateway =
        Gateway::start(dir.path(), &setup(dir.path(), &broker, 1, &webhook.to_toml("duty", 1)), &[]);
    let in_trouble = [
        Answer::Status(500),
        Answer::Cut,
        Answer::Hang,
        Answer::RetryAfter(429, 2),
        // A token that somebody has yet to mend.
        Answer::Status(401),
        Answer::Status(204),
    ];
    webhook.script(&in_trouble);
    let mut publisher = Publisher::connect(broker.port, "detectors", 64).expect("a connection");
    let mut detector = Detector::new(0, 7);
    let begin_s = now_s() - 120;
    let mut publish = |later_s: i64, values: &[i64]| {
        detector.publish(&mut publisher, begin_s + later_s, values).expect("published");
        publisher.settle().expect("the broker has it");
    };
    // The raise alone is under way when the trouble begins; its end and the next raise come while it lasts.
    publish(0, &[HIGH]);
    eventually(WITHIN, "the trouble begins", || (!webhook.received().is_empty()).then_some(()));
    publish(10, &[LOW, HIGH]);
    eventually(WITHIN, "it says that it is held, and why", || {
        let duty = gateway.output("duty");
        (duty["state"] == "held" && duty["last_error"].as_str()?.starts_with("401")).then_some(())
    });
    await_duty(&gateway, "the trouble is over", 3, 0);
    let received = webhook.received();
    let answers: Vec<_> = received.iter().map(|one| one.answer).collect();
    assert_eq!(answers[..in_trouble.len()], in_trouble);
    let alone: BTreeSet<_> = received[..in_trouble.len()].iter().map(|one| one.key.as_str()).collect();
    assert_eq!(alone.len(), 1, "one letter alone is tried, and each attempt is the same: {received:?}");
    let waited = received[4].at - received[3].at;
    assert!(waited >= Duration::from_secs(2), "Retry-After was not honoured: {waited:?}");
    assert!(
        received[3].at - received[2].at >= Duration::from_secs(1),
        "one that hangs is given up in its time"
    );
    let held = received[5].at - received[4].at;
    assert!(held >= Duration::from_secs(4) && held < Duration::from_secs(20), "held for {held:?}");

    refuse_one_for_good(&gateway, &webhook, &mut publish);
}

/// A duty webhook that has so many, all that there is.
fn await_duty(gateway: &Gateway, what: &str, delivered: u64, failed: u64) {
    eventually(WITHIN, what, || {
        let duty = gateway.output("duty");
        (duty["lag"] == 0 && duty["delivered"] == delivered && duty["failed"] == failed).then_some(())
    });
}

/// The end of the second alert is refused for good; the third is delivered behind it.
fn refuse_one_for_good(gateway: &Gateway, webhook: &Webhook, publish: &mut impl FnMut(i64, &[i64])) {
    let before = webhook.received().len();
    webhook.script(&[Answer::Status(422), Answer::Status(503), Answer::Status(202)]);
    publish(30, &[LOW]);
    await_duty(gateway, "the refused one is passed", 3, 1);
    publish(40, &[HIGH]);
    await_duty(gateway, "the one behind it is delivered", 4, 1);
    let late = webhook.received().split_off(before);
    let told: Vec<_> = late.iter().map(|one| (one.body["state"].as_str(), one.answer)).collect();
    assert_eq!(
        told,
        [
            (Some("resolved"), Answer::Status(422)),
            (Some("firing"), Answer::Status(503)),
            // A receiver's 202 is as good as its 200.
            (Some("firing"), Answer::Status(202)),
        ]
    );
    let metrics = gateway.http.text("/metrics");
    for line in [
        "hunhe_alerts_delivered_total{output=\"duty\"} 4",
        "hunhe_alerts_failed_total{output=\"duty\"} 1",
        "hunhe_alerts_firing{severity=\"critical\"} 1",
        "hunhe_alerts_dropped_total 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Waits until the gateway has a checkpoint, and restarts it to write no other: what comes is replayed by the next start.
fn leave_without_checkpoints(dir: &Path, gateway: &mut Gateway) {
    eventually(WITHIN, "a first checkpoint", || {
        fs::read(dir.join("gateway/data/checkpoint/checkpoint-0"))
            .ok()?
            .starts_with(b"HUNHECKP")
            .then_some(())
    });
    let file = dir.join("gateway/gateway.toml");
    let text = fs::read_to_string(&file).expect("its configuration");
    fs::write(&file, text.replace("every_s = 1\n", "every_s = 3600\n")).expect("its configuration");
    gateway.kill_and_restart();
}

/// An alert is raised and its rule taken away; where `saved`, a checkpoint knows the alert.
fn take_a_rule_away(saved: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let mut gateway =
        Gateway::start(dir.path(), &setup(dir.path(), &broker, 1, &webhook.to_toml("duty", 2)), &[]);
    if !saved {
        leave_without_checkpoints(dir.path(), &mut gateway);
    }
    let mut publisher = Publisher::connect(broker.port, "detectors", 64).expect("a connection");
    Detector::new(0, 7).publish(&mut publisher, now_s(), &[HIGH]).expect("published");
    publisher.settle().expect("the broker has it");
    eventually(WITHIN, "it is raised", || (webhook.taken().len() == 1).then_some(()));
    let raised = SystemTime::now();
    let checkpoints = dir.path().join("gateway/data/checkpoint");
    eventually(WITHIN, "both checkpoints know it", || {
        let files = fs::read_dir(&checkpoints).ok()?.flatten();
        let newer =
            files.filter(|file| file.metadata().and_then(|m| m.modified()).is_ok_and(|at| at > raised));
        (!saved || newer.count() == 2).then_some(())
    });
    fs::write(dir.path().join("rules/test.toml"), "").expect("no rule");
    gateway.kill_and_restart();
    let first = webhook.taken()[0].body.clone();
    let ends = || -> Vec<Received> {
        let taken = webhook.taken().into_iter();
        taken.filter(|one| one.body["state"] == "resolved").collect()
    };
    eventually(WITHIN, "it is closed", || (!ends().is_empty()).then_some(()));
    let last = ends()[0].body.clone();
    assert_eq!((&last["id"], &last["fired"]), (&first["id"], &json!(true)));
    assert!(last["text"]["en"].as_str().is_some_and(|text| text.contains("taken away")), "{last}");
    assert!(last["text"]["zh"].as_str().is_some_and(|text| text.contains("已撤销")), "{last}");
    let page = gateway.http.json("/api/v1/alerts?state=open");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(0), "{page}");
    eventually(WITHIN, "its end was passed", || (gateway.output("duty")["lag"] == 0).then_some(()));
    // Two more ticks would tell.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(ends().len(), 1, "once");
}

#[test]
fn an_alert_whose_rule_is_taken_away_is_closed_at_its_receivers() {
    take_a_rule_away(true);
}

#[test]
fn an_alert_that_no_checkpoint_knew_is_closed_too_where_its_rule_is_taken_away() {
    take_a_rule_away(false);
}

#[test]
fn what_a_replay_raises_by_new_rules_is_delivered() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let setup = setup(dir.path(), &broker, 2, &webhook.to_toml("duty", 2));
    let rules = dir.path().join("rules/test.toml");
    fs::write(&rules, detectors::RULES.replace("at_least = 25.0", "at_least = 90.0")).expect("rules");
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    leave_without_checkpoints(dir.path(), &mut gateway);
    let mut publisher = Publisher::connect(broker.port, "detectors", 64).expect("a connection");
    // Nothing by the first rules, and behind it something, so that the output passes it.
    for (number, value) in [(0, HIGH), (1, 9_500)] {
        Detector::new(number, 7).publish(&mut publisher, now_s(), &[value]).expect("published");
        publisher.settle().expect("the broker has it");
    }
    eventually(WITHIN, "one is raised", || {
        (webhook.taken().len() == 1 && gateway.output("duty")["lag"] == 0).then_some(())
    });
    fs::write(&rules, detectors::RULES.replace("version = 1", "version = 2")).expect("rules");
    gateway.kill_and_restart();
    let taken = || -> BTreeSet<String> {
        let taken = webhook.taken().into_iter();
        taken.map(|one| one.body["device"].as_str().unwrap_or_default().to_owned()).collect()
    };
    eventually(WITHIN, "both are raised", || (taken().len() == 2).then_some(()));
    let keys: BTreeSet<String> = webhook.taken().into_iter().map(|one| one.key).collect();
    assert_eq!(keys.len(), 2, "what is repeated has the same key");
}
