//! The demonstration's scenario, as whoever tries Hunhe sees it: two hours of a city in trouble in two minutes. Every
//! event is an alert of the right severity at the right place, is over when it should be, and nothing else is raised.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hunhe_tests::{
    command_of,
    http::Http,
    process::{Process, eventually, free_port},
};
use serde_json::Value;

/// Two minutes, and a little for what is on its way.
const RUN_S: u64 = 124;

/// What the scenario's file says happens: (rule, severity, device or agent, zone), seconds of event time from the start
/// within which it is raised, and within which it is over.
struct Expected {
    rule: &'static str,
    severity: &'static str,
    who: &'static str,
    zone: &'static str,
    raised_s: std::ops::Range<i64>,
    over_s: std::ops::Range<i64>,
}

const fn expect(
    (rule, severity): (&'static str, &'static str),
    (who, zone): (&'static str, &'static str),
    raised_s: std::ops::Range<i64>,
    over_s: std::ops::Range<i64>,
) -> Expected {
    Expected { rule, severity, who, zone, raised_s, over_s }
}

/// Bounds are the events' own times, with the class's interval, the rule's holds and a report's way added.
fn expected() -> Vec<Expected> {
    let station = ("det-3", "station-tiexi");
    let hatcher = ("hatch-2", "hatchery-faku");
    let underpass = ("drain-8", "underpass-dadong");
    let low = ("water_pressure_low", "major");
    vec![
        expect(("station_ch4_warning", "warning"), station, 900..1020, 2700..3000),
        expect(("station_ch4_low", "major"), station, 900..1020, 2700..3000),
        expect(("station_ch4_high", "critical"), station, 1500..1620, 2700..3000),
        expect(("dma_pressure_low", "critical"), ("flow-2", "water-hunnan"), 1200..2400, 3900..5100),
        expect(low, ("p-6", "water-hunnan"), 1260..2400, 3900..5100),
        expect(low, ("p-7", "water-hunnan"), 1260..2400, 3900..5100),
        expect(low, ("p-8", "water-hunnan"), 1260..2400, 3900..5100),
        expect(low, ("p-9", "water-hunnan"), 1260..2400, 3900..5100),
        expect(low, ("p-10", "water-hunnan"), 1260..2400, 3900..5100),
        expect(("ponding_major", "major"), underpass, 1500..2700, 3000..4500),
        expect(("ponding_critical", "critical"), underpass, 1500..3000, 3000..4500),
        expect(("hatcher_cool_warning", "warning"), hatcher, 960..3000, 3000..4500),
        expect(("hatcher_cool_major", "major"), hatcher, 960..3000, 3000..4500),
        expect(("hatcher_cold_critical", "critical"), hatcher, 960..3000, 3000..4500),
        expect(("cell_silent", "major"), ("c-s-2", "gas-huanggu"), 1000..4500, 4500..6000),
    ]
}

/// Every alert that was raised, by id, as it was seen last.
fn watch(http: &Http, process: &mut Process) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    let begun = Instant::now();
    while process.ended().is_none() && begun.elapsed() < Duration::from_secs(RUN_S + 60) {
        if let Some((200, body)) = http.ask(reqwest::Method::GET, "/api/v1/alerts?state=all&limit=500") {
            let page: Value = serde_json::from_str(&body).expect("JSON");
            for alert in page["items"].as_array().expect("items") {
                seen.insert(alert["id"].as_str().expect("an id").to_owned(), alert.clone());
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    seen.retain(|_, alert| alert["fired"] == true);
    seen
}

fn seconds(alert: &Value, key: &str, start_ms: i64) -> i64 {
    let text = alert[key].as_str().expect("an instant");
    let at: jiff::Timestamp = text.parse().expect("RFC 3339");
    (at.as_millisecond() - start_ms) / 1000
}

#[test]
fn every_event_is_raised_in_its_place_and_over_in_time_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let output = dir.path().join("ledger.json");
    let mut command = command_of("hunhe-gateway");
    // The folder is empty: all that the demonstration needs is built in.
    command.current_dir(dir.path()).args(["demo", "--json", "--for", &format!("{RUN_S}s"), "--listen"]);
    command.arg(format!("127.0.0.1:{port}"));
    let mut process = Process::spawn("demo", command, &dir.path().join("demo.log"), Some(&output));
    let http = Http::to(port);
    eventually(Duration::from_secs(30), "the demonstration answers", || http.is_ok("/readyz").then_some(()));
    let status = http.json("/api/v1/status");
    let started = status["started_at"].as_str().expect("an instant");
    let start_ms = started.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond();

    let mut raised = watch(&http, &mut process);
    assert!(process.wait(Duration::from_secs(60)).success(), "the ledger closes");

    for expected in expected() {
        let is_it = |alert: &Value| {
            let who = if alert["device"].is_null() { &alert["agent"] } else { &alert["device"] };
            alert["mode"] == "live" && alert["rule"] == expected.rule && who == expected.who
        };
        let found: Vec<String> =
            raised.iter().filter(|(_, alert)| is_it(alert)).map(|(id, _)| id.clone()).collect();
        assert_eq!(found.len(), 1, "{} of {}: {raised:#?}", expected.rule, expected.who);
        let alert = raised.remove(&found[0]).expect("it was found");
        assert_eq!(alert["severity"], expected.severity, "{alert:#}");
        assert_eq!(alert["zone"], expected.zone, "{alert:#}");
        assert_eq!(alert["state"], "resolved", "{alert:#}");
        let (since_s, over_s) = (seconds(&alert, "since", start_ms), seconds(&alert, "event_time", start_ms));
        assert!(expected.raised_s.contains(&since_s), "since {since_s}: {alert:#}");
        assert!(expected.over_s.contains(&over_s), "over at {over_s}: {alert:#}");
        for language in ["zh", "en"] {
            let text = alert["text"][language].as_str().expect("a text");
            assert!(text.contains(alert["district_name"][language].as_str().expect("a name")), "{text}");
        }
    }
    // The night's leak, found in old data, woke nobody.
    let night: Vec<_> =
        raised.values().map(|alert| (&alert["mode"], &alert["rule"], &alert["device"])).collect();
    assert!(
        night.iter().all(|(mode, _, device)| *mode == "retrospective" && *device == "s-5"),
        "nothing else is raised: {raised:#?}"
    );
    let mut rules: Vec<_> = night.iter().filter_map(|(_, rule, _)| rule.as_str()).collect();
    rules.sort_unstable();
    // A backlog that comes over two connections may tear an episode apart.
    rules.dedup();
    assert_eq!(rules, ["sentinel_ch4_low", "sentinel_ch4_warning"]);
    assert!(raised.values().all(|alert| alert["state"] == "resolved"), "{raised:#?}");
}
