//! A small city for tests: a few devices of two classes, and the lane that decides on their reports.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its own part")]

pub use hunhe_fixtures::*;
use hunhe_gateway_core::{
    event::{Arrival, Decisions, Event},
    lane::{Lane, Policy},
    registry::{DeviceIx, Registry},
    rule::{Rule, Severity, When, faults_of},
};
use hunhe_proto::{class::Text, topic};
use std::{collections::BTreeMap, sync::Arc};

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-08-01T00:00:00+08:00
pub const START_MS: i64 = 1_785_513_600_000;
pub const START_H: i64 = START_MS / HOUR_MS;

pub const RULES: &str = r#"
[[rules]]
id = "pressure_high"
version = 1
class = "dma_flow"
severity = "major"
title = { zh = "压力高", en = "Pressure high" }
source = "D"
when = { channel = "pressure", at_least = 0.5, clear_below = 0.2 }
hold_s = 60

[[rules]]
id = "flow_silent"
version = 1
class = "dma_flow"
severity = "warning"
title = { zh = "失联", en = "Silent" }
source = "D"
when = { silent_s = 86400 }
"#;

/// Devices `gas-0`, `gas-1` and `flow-0`, `flow-1`; agents `agent-gas` and `agent-flow`.
pub fn registry() -> Arc<Registry> {
    registry_of(&[GAS, FLOW])
}

pub fn registry_of(classes: &[&str]) -> Arc<Registry> {
    let rules = toml::from_str::<BTreeMap<String, Vec<Rule>>>(RULES).unwrap().remove("rules").unwrap();
    let classes: Vec<_> = classes.iter().map(|text| class(text)).collect();
    assert_eq!(faults_of(&rules, &classes), []);
    let devices = [("gas_meter", "gas"), ("dma_flow", "flow")].into_iter().flat_map(|(class, kind)| {
        (0..2).map(move |n| enrolment(&format!("{kind}-{n}"), class, &format!("agent-{kind}")))
    });
    Arc::new(hunhe_fixtures::registry(classes, rules, devices))
}

/// Pressure from 80 m on, over below 70.
pub fn pressure_high(hold_s: u32, clear_hold_s: u32) -> Rule {
    Rule {
        id: "pressure_high".into(),
        version: 1,
        class: Some("dma_flow".into()),
        severity: Severity::Major,
        title: Text { zh: "压力高".into(), en: "Pressure high".into() },
        source: "D".into(),
        when: When::AtLeast { channel: "pressure".into(), at_least: 80.0, clear_below: 70.0 },
        hold_s,
        clear_hold_s,
    }
}

/// The small city under these rules, where data of years ago are taken.
pub fn watching(rules: Vec<Rule>) -> Lane {
    let mut registry = Arc::unwrap_or_clone(registry());
    assert_eq!(faults_of(&rules, &[class(GAS), class(FLOW)]), []);
    registry.set_rules(rules);
    Lane::new(Arc::new(registry), Policy { accept_past_ms: 10 * 365 * DAY_MS, ..Policy::default() })
}

pub fn lane() -> Lane {
    Lane::new(registry(), Policy::default())
}

pub fn up(device: &str) -> Vec<u8> {
    topic::up(id(device)).into_bytes()
}

pub fn arrival(at_ms: i64) -> Arrival {
    Arrival { lsn: 1, at_ms, live: false, alarm: false }
}

pub fn message(lane: &mut Lane, at_ms: i64, topic: &[u8], payload: &[u8]) -> Decisions {
    let mut decisions = Decisions::default();
    lane.handle(Event::Message { arrival: arrival(at_ms), topic, payload }, &mut decisions);
    decisions
}

/// Sends a report, which says its class's version where nothing says another.
pub fn send(lane: &mut Lane, at_ms: i64, device: &str, sent: &Sent) -> Decisions {
    message(lane, at_ms, &up(device), &sent.versioned(device).bytes())
}

pub fn redrive(lane: &mut Lane, at_ms: i64, device: &str, sent: &Sent, refused: &[(u64, u64)]) -> Decisions {
    let mut decisions = Decisions::default();
    let (topic, payload) = (up(device), sent.versioned(device).bytes());
    let event = Event::Redrive { arrival: arrival(at_ms), topic: &topic, payload: &payload, refused };
    lane.handle(event, &mut decisions);
    decisions
}

pub fn tick(lane: &mut Lane, now_ms: i64) -> Decisions {
    let mut decisions = Decisions::default();
    let since_ms = lane.city().now_ms.max(START_MS);
    let listened_ms = u32::try_from(now_ms.saturating_sub(since_ms).max(0)).unwrap_or(u32::MAX);
    lane.handle(Event::Tick { lsn: 1, now_ms, listened_ms }, &mut decisions);
    decisions
}

pub fn device(name: &str) -> DeviceIx {
    registry().find(id(name)).unwrap()
}

pub fn accepted_seqs(decisions: &Decisions) -> Vec<u64> {
    decisions
        .accepted
        .sets
        .iter()
        .flat_map(|set| decisions.accepted.seqs[set.rows.clone()].to_vec())
        .collect()
}
