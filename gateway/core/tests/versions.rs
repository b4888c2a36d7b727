//! Versions of a class side by side: a report is read by the version that it follows, or refused whole.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    event::{ABSENT, Decisions, Reason},
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
    rule::{Rule, When, faults_of},
};
use std::{collections::BTreeMap, sync::Arc};
use support::*;

/// Version 1 has hundredths of a metre; version 2 has thousandths, a wider range and a temperature.
const NEWER: &str = r#"
name = "dma_flow"
version = 2
title = { zh = "分区流量计", en = "District flow meter" }
time_unit_ms = 1000
interval = 60
report = { samples = 15, silent_after_s = 3600 }

[[channels]]
number = 3
name = "temperature"
title = { zh = "温度", en = "Temperature" }
unit = "Cel"
kind = "gauge"
decimals = 1
min = -40
max = 70

[[channels]]
number = 2
name = "pressure"
title = { zh = "压力", en = "Pressure" }
unit = "m"
kind = "gauge"
decimals = 3
min = 0
max = 200

[[channels]]
number = 1
name = "flow"
title = { zh = "流量", en = "Flow" }
unit = "m3/h"
kind = "gauge"
decimals = 2
min = -9000000000000
max = 9000000000000
"#;

const START_S: i64 = START_MS / 1000;
const PRESSURE: u16 = 2;

fn both() -> Lane {
    let (old, new) = (class(FLOW), class(NEWER));
    assert_eq!(new.faults_beside(&old), []);
    Lane::new(registry_of(&[FLOW, GAS, NEWER]), Policy::default())
}

/// Pressures from `seq` on, of an outbox and maybe the version that it follows.
fn report(boot: u32, seq: u64, version: Option<u32>, values: &[i64]) -> Sent {
    let t0 = START_S + 60 * i64::try_from(seq).unwrap();
    let mut sent = Sent::new(boot, seq).held_from(0).block(t0, PRESSURE, values);
    sent.header.class_version = version;
    sent
}

/// Sends it as it is.
fn give(lane: &mut Lane, device: &str, sent: &Sent) -> Decisions {
    message(lane, START_MS + DAY_MS, &up(device), &sent.bytes())
}

fn values(decisions: &Decisions) -> Vec<i64> {
    let sets = decisions.accepted.sets.iter();
    sets.flat_map(|set| decisions.accepted.column(set, 0).to_vec()).collect()
}

fn reason(decisions: &Decisions) -> Option<&'static str> {
    assert!(decisions.refused.is_empty(), "refused whole, or not at all");
    decisions.refusal.map(|refusal| refusal.reason.name())
}

fn through(lane: &Lane, boot: u32) -> Option<u64> {
    let state = lane.state(device("flow-0"))?;
    state.outboxes.watermarks().find(|mark| mark.boot == boot).map(|mark| mark.through)
}

#[test]
fn a_report_is_read_by_the_version_that_its_outbox_said_or_refused_whole() {
    let mut lane = both();
    assert_eq!(reason(&give(&mut lane, "flow-0", &report(7, 0, None, &[40]))), Some("class_version_unknown"));
    assert_eq!(through(&lane, 7), None, "nothing of it was admitted, so that it comes again");
    assert_eq!(values(&give(&mut lane, "flow-0", &report(7, 0, Some(1), &[40, 41]))), [400, 410]);
    assert_eq!(values(&give(&mut lane, "flow-0", &report(7, 2, None, &[42]))), [420]);
    let wrong = give(&mut lane, "flow-0", &report(7, 3, Some(2), &[430]));
    assert_eq!((reason(&wrong), through(&lane, 7)), (Some("wrong_class"), Some(3)));
    assert_eq!(values(&give(&mut lane, "flow-0", &report(8, 3, Some(2), &[430]))), [430]);
    let totals = lane.ledger(|_| true).0;
    assert_eq!((totals.sampled, totals.outstanding, totals.unexplained()), (7, 7, 0));
}

/// Rules on the refusals that concern versions, and on silence.
fn watched() -> Lane {
    let of = |id: &str, class: Option<&str>, clear_hold_s, when| Rule {
        id: id.into(),
        class: class.map(str::to_owned),
        when,
        ..pressure_high(0, clear_hold_s)
    };
    let reasons = ["unknown_class_version", "class_version_unknown", "wrong_class"];
    let refused = reasons.map(|reason| of(reason, None, 3600, When::Refused { refused: reason.into() }));
    let silent = of("flow_silent", Some("dma_flow"), 0, When::Silent { silent_s: 7200 });
    watching(refused.into_iter().chain([silent]).collect())
}

#[test]
fn a_device_of_which_no_version_is_known_is_an_alert_and_is_silent() {
    let (mut lane, begin_ms) = (watched(), START_MS + DAY_MS);
    tick(&mut lane, begin_ms);
    give(&mut lane, "flow-0", &report(7, 0, Some(1), &[40]));
    let (mut raised, mut seq) = (Vec::new(), 1);
    for (minute, (boot, version)) in
        (0_i64..150).zip([(9, Some(4)), (8, None), (7, Some(4))].into_iter().cycle())
    {
        let at_ms = begin_ms + minute * 60_000;
        let sent = report(boot, seq, version, &[40]);
        seq += 1;
        raised.extend(message(&mut lane, at_ms, &up("flow-0"), &sent.bytes()).alerts);
        raised.extend(tick(&mut lane, at_ms).alerts);
    }
    let rules: Vec<_> = raised.iter().map(|change| (change.rule.at(), change.phase)).collect();
    use hunhe_gateway_core::device::alert::Phase::Firing;
    assert_eq!(rules, [(0, Firing), (1, Firing), (2, Firing), (3, Firing)]);
    // What can be read again ends the silence.
    let sent = report(7, 1, Some(1), &[40]);
    assert_eq!(message(&mut lane, begin_ms + 9_000_000, &up("flow-0"), &sent.bytes()).alerts.len(), 1);
}

#[test]
fn a_report_by_the_clock_of_a_version_that_is_not_known_is_an_alert() {
    let mut lane = watched();
    // Microseconds, where ours has seconds.
    let mut sent = Sent::new(9, 0).block(START_MS * 1_000, PRESSURE, &[40]);
    sent.header.class_version = Some(4);
    let refused = message(&mut lane, START_MS, &up("flow-0"), &sent.bytes());
    assert_eq!(reason(&refused), Some("unknown_class_version"));
    assert_eq!(refused.alerts.len(), 1);
}

#[test]
fn what_came_before_its_version_was_installed_is_taken_when_it_comes_again() {
    let early = report(7, 0, Some(2), &[430, 431]);
    let mut before = lane();
    assert_eq!(reason(&give(&mut before, "flow-0", &early)), Some("unknown_class_version"));
    let mut lane = both();
    lane.restore(before.snapshot());
    let again = redrive(&mut lane, START_MS + DAY_MS, "flow-0", &early, &[]);
    assert_eq!((values(&again), again.redriven), (vec![430, 431], false));
    assert!(give(&mut lane, "flow-0", &early).accepted.sets.is_empty(), "the agent's own is a duplicate");
}

#[test]
fn a_range_is_judged_by_the_reports_own_version() {
    let mut lane = both();
    let refused = give(&mut lane, "flow-0", &report(7, 0, Some(1), &[12_001]));
    assert_eq!(refused.refusal.map(|refusal| refusal.reason), Some(Reason::OutOfRange), "beyond 120 m");
    assert_eq!(values(&give(&mut lane, "flow-1", &report(7, 0, Some(2), &[120_010]))), [120_010]);
    let mut unknown = report(8, 0, Some(1), &[100]);
    unknown.blocks[0].columns.push((3, vec![15], vec![]));
    let decisions = give(&mut lane, "flow-1", &unknown);
    assert_eq!(decisions.accepted.channels, [PRESSURE], "version 1 has no temperature");
}

#[test]
fn a_device_that_moves_to_a_newer_version_is_judged_on_one_scale() {
    let mut lane = both();
    // 0.40 m, below the rule's 0.5, then 0.401 m: no change at all, and no alarm.
    give(&mut lane, "flow-0", &report(7, 0, Some(1), &[40, 40]));
    let moved = give(&mut lane, "flow-0", &report(8, 2, Some(2), &[401, 402]));
    assert!(moved.alerts.is_empty(), "{:?}", moved.alerts);
    let high = give(&mut lane, "flow-0", &report(8, 4, None, &[501, 502]));
    assert_eq!(high.alerts.iter().map(|change| change.value).collect::<Vec<_>>(), [501, 502]);
    let state = lane.state(device("flow-0")).unwrap();
    assert_eq!(&*state.last, [ABSENT, 502, ABSENT]);
}

#[test]
fn a_restart_with_a_newer_version_keeps_windows_and_newest_values_in_its_scale() {
    // The quarter's first samples under version 1 alone, its last ones under both.
    let mut before = lane();
    give(&mut before, "flow-0", &report(7, 0, Some(1), &[40; 10]));
    let mut lane = both();
    assert_eq!(lane.restore(before.snapshot()), 0);
    assert_eq!(&*lane.state(device("flow-0")).unwrap().last, [ABSENT, 400, ABSENT]);
    let decisions = give(&mut lane, "flow-0", &report(7, 10, None, &[50; 5]));
    let window = decisions.shown.windows.iter().find(|window| window.length_ms == 900_000).unwrap();
    let stat = decisions.shown.stats[window.stats_from];
    assert_eq!((stat.channel, stat.count, stat.sum), (PRESSURE, 15, 10 * 400 + 5 * 500));
    assert_eq!((stat.min, stat.max, stat.last), (400, 500, 500));
}

#[test]
fn a_register_rolls_over_at_its_own_versions_width() {
    let newer = GAS
        .replace("version = 3", "version = 4")
        .replace("decimals = 3", "decimals = 4")
        .replace("resolution = 10", "resolution = 100")
        .replace("max = 99999.999", "max = 999999.999")
        .replace("rollover = 100000.0", "rollover = 1000000.0");
    assert_eq!(class(&newer).faults_beside(&class(GAS)), []);
    let mut lane = Lane::new(registry_of(&[&newer, FLOW, GAS]), Policy::default());
    let mut sent = Sent::new(7, 0).block(START_H, 1, &[99_999_000, 1_000]);
    sent.header.class_version = Some(3);
    let decisions = give(&mut lane, "gas-0", &sent);
    assert_eq!((values(&decisions), &*decisions.accepted.quality), (vec![999_990_000, 10_000], &[1, 1][..]));
}

/// What the devices of a rollout truly measured, in thousandths of a metre: below the rule's half a metre, and far above it
/// by another version's scale.
fn truth(device: usize, seq: u64) -> i64 {
    100 + 10 * i64::try_from((device as u64 * 7 + seq * 3) % 39).unwrap()
}

const ROLLOUT_DEVICES: usize = 1_000;
const ROLLOUT_DAYS: u64 = 28;
const A_DAY: u64 = 4;

fn rollout_lane() -> Lane {
    let classes = vec![class(FLOW), class(NEWER)];
    let rules = toml::from_str::<BTreeMap<String, Vec<Rule>>>(RULES).unwrap().remove("rules").unwrap();
    assert_eq!(faults_of(&rules, &classes[1..]), []);
    let mut registry = Registry::new(classes);
    registry.set_rules(rules);
    for number in 0..ROLLOUT_DEVICES {
        let enrolment = Enrolment {
            id: id(&format!("d-{number}")),
            pseudonym: id(&format!("d-{number}")),
            class: "dma_flow".into(),
            agent: id("agent"),
            operator: id("op"),
            district: 210_102,
            zone: id("zone-1"),
            position: (123.4, 41.8),
        };
        registry.enrol(enrolment).unwrap();
    }
    Lane::new(Arc::new(registry), Policy::default())
}

/// A day's report of a device that moves to version 2 on `moves`; its first of an outbox says the version.
fn day_report(device: usize, day: u64, moves: u64) -> Sent {
    let (version, boot, began) = if day < moves { (1, 1, 0) } else { (2, 2, moves) };
    let seqs = day * A_DAY..(day + 1) * A_DAY;
    let wire = seqs.clone().map(|seq| truth(device, seq) / if version == 1 { 10 } else { 1 });
    let t0 = START_S + i64::try_from(day * 86_400).unwrap();
    let mut sent = Sent::new(boot, seqs.start - began * A_DAY).held_from(0).block(
        t0,
        PRESSURE,
        &wire.collect::<Vec<_>>(),
    );
    sent.header.class_version = (day == began).then_some(version);
    sent
}

#[test]
fn a_rollout_over_weeks_stores_every_value_right_and_raises_no_alarm() {
    let mut lane = rollout_lane();
    let (mut stored, mut refused) = (0, 0);
    for device in 0..ROLLOUT_DEVICES {
        let name = format!("d-{device}");
        let moves = 1 + (device as u64 * 31) % (ROLLOUT_DAYS - 1);
        // Up to five days are on their way at once, in any order: alarms before their backlog, reports lost and sent again.
        let mut order: Vec<u64> = (0..ROLLOUT_DAYS).collect();
        order.chunks_mut(5).for_each(|days| {
            let by = device % days.len();
            days.rotate_left(by);
        });
        let mut kept = vec![None; usize::try_from(ROLLOUT_DAYS * A_DAY).unwrap()];
        while !order.is_empty() {
            order.retain(|&day| {
                let at_ms = START_MS + i64::try_from(day + 1).unwrap() * DAY_MS;
                let decisions =
                    message(&mut lane, at_ms, &up(&name), &day_report(device, day, moves).bytes());
                assert!(decisions.alerts.is_empty(), "{name}, day {day}: {:?}", decisions.alerts);
                if let Some(reason) = reason(&decisions) {
                    assert_eq!(reason, "class_version_unknown");
                    refused += 1;
                    return true;
                }
                let from = usize::try_from(day * A_DAY).unwrap();
                for (at, value) in values(&decisions).into_iter().enumerate() {
                    assert_eq!(kept[from + at].replace(value), None);
                }
                false
            });
        }
        for (seq, value) in (0..).zip(kept) {
            assert_eq!(value, Some(truth(device, seq)), "{name}, sample {seq}");
            stored += 1;
        }
    }
    assert_eq!(stored, ROLLOUT_DEVICES as u64 * ROLLOUT_DAYS * A_DAY);
    assert!(refused > 500, "{refused} reports came before their version was known");
    assert_eq!(lane.counters().doubted, BTreeMap::new());
    assert_eq!(lane.ledger(|_| true).0.unexplained(), 0);
}

#[test]
fn a_newer_version_may_add_and_not_lose_or_change_its_meaning() {
    let (old, new) = (class(FLOW), class(NEWER));
    let keys = |text: &str| -> Vec<String> {
        class(text).faults_beside(&old).into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(NEWER), [""; 0]);
    for (from, to, key) in [
        ("version = 2", "version = 1", "version"),
        ("interval = 60", "interval = 30", "interval"),
        ("time_unit_ms = 1000", "time_unit_ms = 500", "interval"),
        ("interval = 60", "interval = 60\nhousehold = true", "household"),
        ("name = \"pressure\"", "name = \"head\"", "channels.pressure.name"),
        ("number = 2", "number = 4", "channels.pressure.number"),
        ("unit = \"m\"", "unit = \"kPa\"", "channels.pressure.unit"),
        ("decimals = 3", "decimals = 1", "channels.pressure.decimals"),
    ] {
        assert_eq!(keys(&NEWER.replacen(from, to, 1)), [key], "{to}");
    }
    let mut wide = new;
    wide.channels.iter_mut().for_each(|channel| channel.max = 1.0);
    wide.channels.iter_mut().for_each(|channel| channel.decimals = 9);
    assert!(!wide.faults_beside(&old).is_empty(), "9e12 by nine decimals is beyond 2^53");
}
