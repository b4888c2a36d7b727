//! Alerts of devices whose clock is fast, and of samples that somebody dates ahead.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    device::alert::{Change, Mode, Phase},
    event::{Arrival, Decisions, Event},
    lane::Lane,
};
use support::*;

const MINUTE_MS: i64 = 60_000;

/// What a device reports: pressures in metres, one a minute, the first sampled at that minute by a clock so fast, and whether
/// the report tells when it was sent.
struct Said<'a> {
    minute: i64,
    fast_s: i64,
    metres: &'a [i64],
    told: bool,
}

/// Sends it as its last sample is taken.
fn say(lane: &mut Lane, seq: &mut u64, said: &Said<'_>) -> Vec<Change> {
    let values: Vec<i64> = said.metres.iter().map(|metres| metres * 100).collect();
    let t0 = START_MS / 1000 + said.minute * 60 + said.fast_s;
    let mut sent = Sent::new(1, *seq).block(t0, 2, &values);
    sent.header.sent_after_s = said.told.then_some(0);
    *seq += values.len() as u64;
    let at_ms = START_MS + (said.minute + i64::try_from(values.len()).unwrap() - 1) * MINUTE_MS;
    let (topic, payload) = (up("flow-0"), sent.versioned("flow-0").bytes());
    let arrival = Arrival { lsn: 1, at_ms, live: true, alarm: false };
    let mut decisions = Decisions::default();
    lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
    decisions.alerts
}

#[test]
fn a_condition_that_must_hold_is_found_however_fast_the_clock_is() {
    let metres = [50, 50, 90, 90, 90, 90, 90, 90, 50, 50];
    for fast_s in [0, 5, 70, 119, 121, 300, 890] {
        for (told, samples) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
            let mut lane = watching(vec![pressure_high(120, 0)]);
            let (mut seq, mut changes) = (0, Vec::new());
            for (at, metres) in metres.chunks(samples).enumerate() {
                let minute = i64::try_from(at * samples).unwrap();
                changes.extend(say(&mut lane, &mut seq, &Said { minute, fast_s, metres, told }));
            }
            let found: Vec<_> = changes.iter().map(|change| (change.phase, change.mode)).collect();
            use Phase::{Firing, Pending, Resolved};
            let expected = [Pending, Firing, Resolved].map(|phase| (phase, Mode::Live));
            assert_eq!(found, expected, "{fast_s} s fast, {told}, {samples} samples a report");
            assert_eq!(changes[1].event_ms - changes[1].since_ms, 120_000);
        }
    }
}

#[test]
fn what_was_dated_ahead_ends_nothing_a_second_time() {
    // Ahead of the present; a little ahead; and ahead by a clock that two reports call steady.
    for (fast_s, told) in [(300, false), (20, false), (600, true)] {
        let mut lane = watching(vec![pressure_high(0, 0)]);
        let mut seq = 0;
        let mut calm = |lane: &mut Lane, minute: i64| {
            say(lane, &mut seq, &Said { minute, fast_s: if told { fast_s } else { 0 }, metres: &[50], told })
        };
        assert!((0..3).all(|minute| calm(&mut lane, minute).is_empty()));
        let forged = |lane: &mut Lane, seq: u64| {
            let t0 = START_MS / 1000 + 2 * 60 + fast_s;
            let values: Vec<i64> = (0..20).map(|at| if at % 2 == 0 { 9000 } else { 5000 }).collect();
            let dt = vec![4; 19];
            let block = Block { t0, dt, columns: vec![(2, values, vec![])], ..Block::default() };
            send(lane, START_MS + 2 * MINUTE_MS, "flow-0", &Sent::new(9, seq).with(block)).alerts
        };
        assert!(forged(&mut lane, 0).iter().all(|change| change.mode == Mode::Live), "it may be true");
        let again: Vec<Change> = (1..50).flat_map(|pass| forged(&mut lane, pass * 20)).collect();
        let phases: Vec<Phase> = again.iter().map(|change| change.phase).collect();
        assert_eq!(phases, [Phase::Firing], "one that stays: {fast_s}");
        // The next true sample ends it, and the next true alarm is told.
        let after = if told { 6 } else { 3 };
        let over = calm(&mut lane, after);
        assert_eq!((over.len(), over[0].phase), (1, Phase::Resolved));
        let said = Said { minute: after + 1, fast_s: if told { fast_s } else { 0 }, metres: &[90], told };
        let alarm = say(&mut lane, &mut 1_000, &said);
        assert_eq!((alarm.len(), alarm[0].phase, alarm[0].mode), (1, Phase::Firing, Mode::Live));
    }
}

#[test]
fn an_alarm_of_a_clock_that_nobody_knows_is_fast_is_live_at_once_and_ends() {
    let mut lane = watching(vec![pressure_high(0, 60)]);
    let mut seq = 0;
    let mut told = Vec::new();
    for (minute, metres) in [50, 90, 90, 50, 50, 90, 50, 50].into_iter().enumerate() {
        let minute = i64::try_from(minute).unwrap();
        let said = Said { minute, fast_s: 840, metres: &[metres], told: false };
        told.extend(say(&mut lane, &mut seq, &said).iter().map(|change| (minute, change.phase, change.mode)));
    }
    use {Mode::Live, Phase::*};
    assert_eq!(told, [(1, Firing, Live), (4, Resolved, Live), (5, Firing, Live), (7, Resolved, Live)]);
}

#[test]
fn the_newest_values_follow_a_clock_that_was_corrected() {
    let mut lane = watching(vec![]);
    let mut seq = 0;
    for minute in 0..3 {
        say(&mut lane, &mut seq, &Said { minute, fast_s: 600, metres: &[50], told: true });
    }
    let state = |lane: &Lane| {
        let state = lane.state(lane.states().next().unwrap().0).unwrap();
        ((state.last_ms - START_MS) / MINUTE_MS, state.last[1], state.gaps)
    };
    assert_eq!(state(&lane), (12, 5000, 0));
    say(&mut lane, &mut seq, &Said { minute: 3, fast_s: 0, metres: &[61], told: true });
    assert_eq!(state(&lane), (3, 6100, 0));
    say(&mut lane, &mut seq, &Said { minute: 4, fast_s: 0, metres: &[62], told: true });
    assert_eq!(state(&lane), (4, 6200, 0));
}
