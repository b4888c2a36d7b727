//! However many changes of its alerts one device brings: how many are told, and that none hides another alarm.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    device::alert::{
        Change, Mode, Phase,
        allowance::{LIVE_BURST, LIVE_EACH_MS, OLD_BURST, OLD_EACH_MS},
    },
    lane::Lane,
    rule::{Rule, When},
};
use std::collections::BTreeMap;
use support::*;

const MINUTE_MS: i64 = 60_000;
/// Samples of the largest report.
const LARGEST: u64 = 4_096;
const NOW_MS: i64 = START_MS + 120 * DAY_MS;
const NOW_S: i64 = NOW_MS / 1000;

fn pressure_low() -> Rule {
    let when = When::AtMost { channel: "pressure".into(), at_most: 14.0, clear_above: 16.0 };
    Rule { id: "pressure_low".into(), when, ..pressure_high(0, 0) }
}

fn flapping(samples: u64) -> Vec<i64> {
    (0..samples).map(|at| if at % 2 == 0 { 9000 } else { 1000 }).collect()
}

/// Episodes that were told and have no end.
fn raises_left_open(changes: &[Change]) -> usize {
    let mut open = BTreeMap::new();
    for change in changes {
        let more = match change.phase {
            Phase::Resolved => 0,
            Phase::Pending | Phase::Firing => 1,
        };
        open.insert(change.id, more);
    }
    open.values().sum()
}

#[test]
fn a_pending_episode_that_one_message_begins_and_ends_is_not_told() {
    let mut lane = watching(vec![pressure_high(120, 0)]);
    let old = Sent::new(1, 0).block(START_MS / 1000, 2, &flapping(LARGEST));
    assert_eq!(send(&mut lane, NOW_MS, "flow-0", &old).alerts, []);
    // What was told in one message is ended in the next.
    let begun = Sent::new(1, LARGEST).block(NOW_S, 2, &[9000]);
    assert_eq!(send(&mut lane, NOW_MS, "flow-0", &begun).alerts.len(), 1);
    let over = Sent::new(1, LARGEST + 1).block(NOW_S + 60, 2, &[5000]);
    let over = send(&mut lane, NOW_MS + MINUTE_MS, "flow-0", &over).alerts;
    assert_eq!((over.len(), over[0].phase, over[0].fired), (1, Phase::Resolved, false));
}

#[test]
fn every_episode_of_honest_old_data_is_told() {
    let mut lane = watching(vec![pressure_high(60, 0)]);
    let values: Vec<i64> = [9000, 9000, 5000].into_iter().cycle().take(3 * 675).collect();
    let changes =
        send(&mut lane, NOW_MS, "flow-0", &Sent::new(1, 0).block(START_MS / 1000, 2, &values)).alerts;
    let fired = changes.iter().filter(|change| change.phase == Phase::Firing).count();
    assert_eq!((changes.len(), fired, raises_left_open(&changes)), (3 * 675, 675, 0));
    assert_eq!(lane.counters().breaches_joined, 0);
}

/// A backlog that is nothing but breaches of two rules: 131,072 samples within a minute.
fn old_flood(lane: &mut Lane, from: u64, changes: &mut Vec<Change>) {
    for report in from..32 {
        let seq = report * LARGEST;
        let t0 = START_MS / 1000 + 60 * i64::try_from(seq).unwrap();
        let sent = Sent::new(1, seq).block(t0, 2, &flapping(LARGEST));
        let at_ms = NOW_MS + 2_000 * i64::try_from(report).unwrap();
        changes.extend(send(lane, at_ms, "flow-0", &sent).alerts);
    }
}

#[test]
fn a_backlog_of_breaches_is_told_within_the_allowance_and_hides_no_live_alarm() {
    let rules = || vec![pressure_high(0, 0), pressure_low()];
    let (mut lane, mut changes) = (watching(rules()), Vec::new());
    let live = Sent::new(7, 0).block(NOW_S, 2, &[5000]);
    send(&mut lane, NOW_MS, "flow-0", &live);
    old_flood(&mut lane, 0, &mut changes);
    let most = OLD_BURST + 64_000 / OLD_EACH_MS + 3 * 2;
    assert!((OLD_BURST..=most).contains(&i64::try_from(changes.len()).unwrap()), "{} changes", changes.len());
    assert!(changes.iter().all(|change| change.mode == Mode::Retrospective));
    let breaches = 32 * LARGEST;
    let raised = changes.iter().filter(|change| change.phase == Phase::Firing).count() as u64;
    assert_eq!(raised + lane.counters().breaches_joined, breaches, "each is told, or counted");
    // Another device, and this one's own live alarm: at once, and over at once.
    for (device, boot) in [("flow-1", 7), ("flow-0", 7)] {
        let at_ms = NOW_MS + 2 * MINUTE_MS;
        let alarm = Sent::new(boot, 1).block(NOW_S + 120, 2, &[9500]);
        let alarm = send(&mut lane, at_ms, device, &alarm).alerts;
        assert_eq!((alarm.len(), alarm[0].phase, alarm[0].mode), (1, Phase::Firing, Mode::Live), "{device}");
        let over = Sent::new(boot, 2).block(NOW_S + 180, 2, &[5000]);
        let over = send(&mut lane, at_ms + MINUTE_MS, device, &over).alerts;
        assert_eq!((over.len(), over[0].phase), (1, Phase::Resolved), "{device}");
    }
    // What is left open is over when nothing moves it any more.
    changes.extend(tick(&mut lane, NOW_MS + 20 * MINUTE_MS).alerts);
    assert_eq!((raises_left_open(&changes), lane.open_alerts().count()), (0, 0));
}

#[test]
fn what_is_told_beyond_the_allowance_is_the_same_after_a_restart() {
    let rules = || vec![pressure_high(0, 0), pressure_low()];
    let (mut lane, mut changes) = (watching(rules()), Vec::new());
    old_flood(&mut lane, 0, &mut changes);
    let (mut first, mut again) = (watching(rules()), Vec::new());
    for report in 0..2_u64 {
        let t0 = START_MS / 1000 + 60 * i64::try_from(report * LARGEST).unwrap();
        let sent = Sent::new(1, report * LARGEST).block(t0, 2, &flapping(LARGEST));
        let at_ms = NOW_MS + 2_000 * i64::try_from(report).unwrap();
        again.extend(send(&mut first, at_ms, "flow-0", &sent).alerts);
    }
    let bytes = postcard::to_allocvec(&first.snapshot()).unwrap();
    let mut second = watching(rules());
    second.restore(postcard::from_bytes(&bytes).unwrap());
    old_flood(&mut second, 2, &mut again);
    assert_eq!(again, changes);
}

#[test]
fn a_device_that_flaps_live_is_raised_at_once_and_stays_raised_until_its_end_can_be_told() {
    let mut lane = watching(vec![pressure_high(0, 0)]);
    let mut changes = Vec::new();
    // One sample a second: over and over again, for an hour.
    for second in 0..3_600_i64 {
        let metres = if second % 2 == 0 { 9000 } else { 5000 };
        let sent = Sent::new(1, second.unsigned_abs()).block(NOW_S + second, 2, &[metres]);
        changes.extend(send(&mut lane, NOW_MS + second * 1000, "flow-0", &sent).alerts);
    }
    let most = LIVE_BURST + 3_600_000 / LIVE_EACH_MS + 3;
    assert!(
        (LIVE_BURST..=most).contains(&i64::try_from(changes.len()).unwrap()),
        "{} changes",
        changes.len()
    );
    let calm = (0..4).flat_map(|minute| {
        let sent = Sent::new(1, 3_600 + minute).block(NOW_S + 3_600 + 60 * minute.cast_signed(), 2, &[5000]);
        send(&mut lane, NOW_MS + 3_600_000 + minute.cast_signed() * MINUTE_MS, "flow-0", &sent).alerts
    });
    changes.extend(calm.collect::<Vec<_>>());
    assert_eq!((raises_left_open(&changes), lane.open_alerts().count()), (0, 0));
    let sent = Sent::new(1, 4_000).block(NOW_S + 4_000, 2, &[9000]);
    assert_eq!(send(&mut lane, NOW_MS + 4_000_000, "flow-0", &sent).alerts.len(), 1, "and raised again");
}
