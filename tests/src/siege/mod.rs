//! A city under siege: attackers, singly and all together, beside honest readings and one true alarm a second, on the real programs,
//! Mosquitto with the shipped files and the registry of the whole city.
//!
//! ```text
//! city        who is registered, and the files of a run
//! honest      5,000 readings a second, and how many of them are stored
//! alarms      one true alarm a second, each from a detector of its own
//! receivers   the page, an MQTT client and a webhook: what reached them, and when
//! attackers   one file each
//! stage       one attacker, or all of them, for a while; then everything drains
//! effects     what an attacker did, and whether that reached what it aims at
//! stored      whether the store holds what the ledger says
//! figures     what a stage came to, and which promises it breaks
//! ```
//! Times are taken on one clock: before a report is handed to the broker, and after a receiver has read the change. The harness,
//! broker and gateway share the machine, so each stage's figures have the processor time of all three.
//!
//! Alone an attacker has six seconds, and so six alarms: their 99th percentile is the slowest one. Only the two minutes of all together
//! hold enough alarms for more.
//!
//! An attack proves nothing unless it works: each has aims about its own counts and the gateway's, and one that misses them is a broken
//! promise (`effects`). So is a city that sends less than it should, and a store that holds other samples than were sent (`stored`).
//!
//! An attacker has the password of one agent, or none, and the gateway's address on loopback. It has no password of the gateway's and
//! no file; one has a careless line in the broker's access list. Deliberately absent: attacks that take the machine's processors or
//! memory from outside the programs.

mod alarms;
mod attackers;
mod city;
mod effects;
mod figures;
mod honest;
mod receivers;
mod stage;
mod stored;

use std::time::Duration;

use figures::Promise;
use serde_json::{Map, Value, json};

/// Attackers by name, with what they do.
#[must_use]
pub fn attackers() -> Vec<(&'static str, &'static str)> {
    attackers::ALL.iter().map(|attacker| (attacker.name, attacker.about)).collect()
}

/// A siege.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long each attacker is alone; none where only all together attack.
    pub alone: Option<Duration>,
    /// How long all attack together, if they do.
    pub together: Option<Duration>,
    /// Only these attackers; all where it is empty.
    pub only: Vec<String>,
    /// Honest readings a second.
    pub readings_per_s: u64,
    /// Other tests run on the same processors: how fast alarms are is not judged, only that none takes five seconds.
    pub beside_tests: bool,
}

/// Runs one; the figures by attacker and `all`, and what was promised and is not so.
///
/// # Panics
/// A program does not start, or nobody is called as an attacker of the plan is.
#[must_use]
pub fn run(plan: &Plan) -> (Value, Vec<String>) {
    for name in &plan.only {
        assert!(attackers().iter().any(|(known, _)| known == name), "no attacker is called {name}");
    }
    let chosen: Vec<&attackers::Attacker> = attackers::ALL
        .iter()
        .filter(|attacker| plan.only.is_empty() || plan.only.iter().any(|name| name == attacker.name))
        .collect();
    let lasting = |alone: Duration, attacker: &attackers::Attacker| alone.max(attacker.lasting);
    let alone_s: u64 = plan.alone.map_or(0, |alone| {
        chosen.iter().map(|attacker| lasting(alone, attacker).as_secs() + 4).sum::<u64>()
            + alone.as_secs()
            + 4
    });
    let seconds = alone_s + plan.together.map_or(0, |together| together.as_secs() + 10) + 60;
    let mut siege = stage::Siege::begin(seconds, plan.readings_per_s);
    let (mut figures, mut broken) = (Map::new(), Vec::new());
    let mut judge = |name: &str, about: &str, found: &figures::Figures, promise: &Promise| {
        let words = found.broken(promise).into_iter().map(|words| format!("{name}: {words}"));
        let before = broken.len();
        broken.extend(words);
        println!("{}", found.line(name, broken.len() > before));
        let mut value = found.to_json();
        value["about"] = json!(about);
        figures.insert(name.into(), value);
    };
    println!("{}", figures::HEAD);
    if let Some(alone) = plan.alone {
        let promise = if plan.beside_tests { Promise::BESIDE_TESTS } else { Promise::ALONE };
        let nobody = siege.stage(&[], alone, &promise);
        judge("nobody", "no attacker: what the machine does by itself", &nobody, &promise);
        for attacker in &chosen {
            let found = siege.stage(&[attacker], lasting(alone, attacker), &promise);
            judge(attacker.name, attacker.about, &found, &promise);
        }
    }
    if let Some(together) = plan.together {
        let promise = if plan.beside_tests { Promise::BESIDE_TESTS } else { Promise::TOGETHER };
        let found = siege.stage(&chosen, together, &promise);
        judge("all", "all of them at once", &found, &promise);
    }
    let worst = |key: &str| {
        let all = figures.values().flat_map(|stage| ["page", "mqtt", "webhook"].map(|to| &stage[to][key]));
        // What never came is worse than any number.
        all.map(|ms| ms.as_f64().unwrap_or(f64::INFINITY)).fold(0.0, f64::max)
    };
    let shown = |ms: f64| if ms.is_finite() { json!(ms) } else { Value::Null };
    let (p99, max) = (shown(worst("alarm_ms_p99")), shown(worst("alarm_ms_max")));
    let lost: u64 = figures.values().filter_map(|stage| stage["honest_lost"].as_u64()).sum();
    let rss = figures.values().filter_map(|stage| stage["rss_mib_max"].as_f64()).fold(0.0, f64::max);
    figures.insert("alarm_ms_p99_worst".into(), p99);
    figures.insert("alarm_ms_max_worst".into(), max);
    figures.insert("honest_lost".into(), json!(lost));
    figures.insert("rss_mib_max".into(), json!(rss));
    figures.insert("registered".into(), json!(siege.devices()));
    figures.insert("readings_per_s".into(), json!(plan.readings_per_s));
    (Value::Object(figures), broken)
}
