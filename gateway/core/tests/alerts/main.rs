//! What alerts promise: raised in event time, resolved with the same name, live only where they speak of now, and alike
//! in a replay.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod silence;
#[path = "../support/mod.rs"]
mod support;

use hunhe_gateway_core::{
    device::alert::{Change, Mode, Phase, Subject},
    event::{Arrival, Decisions, Event},
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
    rule::{Rule, Severity, When, faults_of},
};
use hunhe_proto::class::Text;
use proptest::prelude::*;
use std::sync::Arc;
use support::*;

const MINUTE_MS: i64 = 60_000;

fn rule(id: &str, when: When, hold_s: u32, clear_hold_s: u32) -> Rule {
    let class = (!matches!(when, When::SilentShare { .. })).then(|| "dma_flow".to_owned());
    let title = Text { zh: "规则".into(), en: "rule".into() };
    let (severity, source) = (Severity::Major, "D".to_owned());
    Rule { id: id.into(), version: 1, class, severity, title, source, when, hold_s, clear_hold_s }
}

fn high(hold_s: u32, clear_hold_s: u32) -> Rule {
    let when = When::AtLeast { channel: "pressure".into(), at_least: 80.0, clear_below: 70.0 };
    rule("pressure_high", when, hold_s, clear_hold_s)
}

fn low() -> Rule {
    let when = When::AtMost { channel: "pressure".into(), at_most: 14.0, clear_above: 16.0 };
    rule("pressure_low", when, 0, 0)
}

fn silent() -> Rule {
    rule("flow_silent", When::Silent { silent_s: 7200 }, 0, 0)
}

fn registry(rules: Vec<Rule>, devices: u32) -> Arc<Registry> {
    let classes = vec![class(FLOW)];
    assert_eq!(faults_of(&rules, &classes), []);
    let mut registry = Registry::new(classes);
    registry.set_rules(rules);
    for number in 0..devices {
        let enrolment = Enrolment {
            id: id(&format!("flow-{number}")),
            pseudonym: id(&format!("p-{number}")),
            class: "dma_flow".into(),
            agent: id("agent-flow"),
            operator: id("op"),
            district: 210_102,
            zone: id("zone-1"),
            position: (123.4, 41.8),
        };
        registry.enrol(enrolment).unwrap();
    }
    Arc::new(registry)
}

/// A lane with these rules and one device that has not reported.
fn lane(rules: Vec<Rule>) -> Lane {
    Lane::new(registry(rules, 1), Policy { accept_past_ms: 10 * 365 * DAY_MS, ..Policy::default() })
}

/// Pressures in metres, one a minute from `minute` after the start on, arriving `after` minutes after the last.
fn report(
    lane: &mut Lane,
    device: &str,
    seq: u64,
    minute: i64,
    pressures: &[i64],
    after: i64,
) -> Vec<Change> {
    let values: Vec<i64> = pressures.iter().map(|metres| metres * 100).collect();
    let sent = Sent::new(1, seq).block(START_MS / 1000 + minute * 60, 2, &values);
    let last = minute + i64::try_from(pressures.len()).unwrap() - 1;
    send(lane, START_MS + (last + after) * MINUTE_MS, device, &sent).alerts
}

/// (phase, mode, minute of the change, minute of the first sample, value)
fn told(changes: &[Change]) -> Vec<(Phase, Mode, i64, i64, i64)> {
    let minute = |ms: i64| (ms - START_MS) / MINUTE_MS;
    changes.iter().map(|c| (c.phase, c.mode, minute(c.event_ms), minute(c.since_ms), c.value)).collect()
}

#[test]
fn it_fires_at_the_level_and_resolves_below_the_other() {
    let mut lane = lane(vec![high(0, 0), low()]);
    let changes = report(&mut lane, "flow-0", 0, 0, &[50, 80, 75, 90, 69, 14, 15, 17], 0);
    use {Mode::Live, Phase::*};
    assert_eq!(
        told(&changes),
        [
            (Firing, Live, 1, 1, 8000),
            (Resolved, Live, 4, 1, 6900),
            (Firing, Live, 5, 5, 1400),
            (Resolved, Live, 7, 5, 1700),
        ]
    );
    assert_eq!(changes[0].id, changes[1].id);
    assert_ne!(changes[1].id, changes[2].id);
}

#[test]
fn it_fires_only_when_it_has_held_and_resolves_only_when_it_has_been_over() {
    use {Mode::Live, Phase::*};
    let mut lane = lane(vec![high(120, 180)]);
    let short = report(&mut lane, "flow-0", 0, 0, &[80, 80, 50], 0);
    assert_eq!(told(&short), [], "it was over before anybody could see it");
    // Across reports, and through a doubtful moment between the levels.
    let rising = report(&mut lane, "flow-0", 3, 3, &[80, 85], 0);
    assert_eq!(told(&rising), [(Pending, Live, 3, 3, 8000)]);
    let fires = report(&mut lane, "flow-0", 5, 5, &[81, 60, 60, 75, 60, 60, 60], 0);
    assert_eq!(told(&fires), [(Firing, Live, 5, 3, 8100)]);
    let over = report(&mut lane, "flow-0", 12, 12, &[60], 0);
    assert_eq!(told(&over), [(Resolved, Live, 12, 3, 6000)]);
    assert!(over[0].fired && over[0].id == fires[0].id);
}

#[test]
fn old_data_is_retrospective_and_neither_pages_nor_clears_what_stands() {
    use {Mode::*, Phase::*};
    let mut lane = lane(vec![high(0, 0)]);
    let now = 3 * 24 * 60;
    tick(&mut lane, START_MS + now * MINUTE_MS);
    assert_eq!(told(&report(&mut lane, "flow-0", 5000, now, &[90], 0)), [(Firing, Live, now, now, 9000)]);
    // A backlog behind it: a breach of its own, and many values that would clear the live alert.
    let night = report(&mut lane, "flow-0", 0, 0, &[50, 95, 95, 50, 50], now);
    assert_eq!(told(&night), [(Firing, Retrospective, 1, 1, 9500), (Resolved, Retrospective, 3, 1, 5000)]);
    // The backlog goes on in the breach, and ends in it: it is over when nothing moves it any more.
    let open = report(&mut lane, "flow-0", 5, 5, &[96], now);
    assert_eq!(told(&open), [(Firing, Retrospective, 5, 5, 9600)]);
    assert!(tick(&mut lane, START_MS + (now + 6) * MINUTE_MS).alerts.is_empty());
    let ended = tick(&mut lane, START_MS + (now + 30) * MINUTE_MS).alerts;
    assert_eq!((ended.len(), ended[0].id, ended[0].phase), (1, open[0].id, Resolved));
    let cleared = report(&mut lane, "flow-0", 5001, now + 1, &[60], 0);
    assert_eq!(told(&cleared), [(Resolved, Live, now + 1, now, 6000)]);
}

#[test]
fn a_backlog_before_the_first_live_report_pages_only_where_it_still_holds() {
    use {Mode::*, Phase::*};
    let mut lane = lane(vec![high(0, 0)]);
    // Six days of backlog in order, a breach inside and another that lasts until now.
    let backlog = report(&mut lane, "flow-0", 0, 0, &[50, 90, 50, 90], 6 * 24 * 60);
    assert_eq!(
        told(&backlog),
        [
            (Firing, Retrospective, 1, 1, 9000),
            (Resolved, Retrospective, 2, 1, 5000),
            (Firing, Retrospective, 3, 3, 9000)
        ]
    );
    let now = 6 * 24 * 60 + 10;
    let live = report(&mut lane, "flow-0", 4, now, &[91], 0);
    assert_eq!(told(&live), [(Firing, Live, now, 3, 9100)], "it fires again, as live");
    assert_eq!(live[0].id, backlog[2].id);
    assert!(report(&mut lane, "flow-0", 5, now + 1, &[92], 0).is_empty(), "and once");
}

#[test]
fn a_clock_that_is_known_to_be_wrong_does_not_make_a_leak_old() {
    let mut lane = lane(vec![high(0, 0)]);
    let mut live = |seq: u64, minute: i64, metres: i64| {
        let mut sent = Sent::new(1, seq).block(START_MS / 1000 + minute * 60, 2, &[metres * 100]);
        sent.header.sent_after_s = Some(0);
        // The device's clock is two hours slow.
        let at_ms = START_MS + (minute + 120) * MINUTE_MS;
        let (topic, payload) = (up("flow-0"), sent.versioned("flow-0").bytes());
        let arrival = Arrival { lsn: 1, at_ms, live: true, alarm: false };
        let mut decisions = Decisions::default();
        lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
        decisions.alerts
    };
    assert!(live(0, 0, 50).is_empty());
    assert!(live(1, 1, 50).is_empty());
    let leak = live(2, 2, 90);
    assert_eq!((leak.len(), leak[0].mode), (1, Mode::Live));
}

#[test]
fn a_live_alert_is_ended_by_a_live_sample_alone() {
    use {Mode::*, Phase::*};
    let mut lane = lane(vec![high(0, 0)]);
    let raised = report(&mut lane, "flow-0", 0, 0, &[90], 0);
    // Three days later what was sampled next arrives: over, and again, and between the levels.
    let late = 3 * 24 * 60;
    assert!(report(&mut lane, "flow-0", 1, 1, &[50, 90, 50], late).is_empty());
    let now = late + 10;
    assert!(report(&mut lane, "flow-0", 4, now, &[78], 0).is_empty(), "between the levels it stands");
    let over = report(&mut lane, "flow-0", 5, now + 1, &[60], 0);
    assert_eq!(told(&over), [(Resolved, Live, now + 1, 0, 6000)]);
    assert_eq!(over[0].id, raised[0].id);
    // What was found in old data and a fresh sample does not end stands now.
    let found = report(&mut lane, "flow-0", 6, now + 2, &[90], late);
    assert_eq!((found[0].phase, found[0].mode), (Firing, Retrospective));
    let stands = report(&mut lane, "flow-0", 7, now + late + 3, &[78], 0);
    assert_eq!((stands[0].phase, stands[0].mode, stands[0].id), (Firing, Live, found[0].id));
}

#[test]
fn an_alarm_after_the_devices_clock_was_set_back_is_live() {
    let mut lane = lane(vec![high(0, 0)]);
    let mut live = |seq: u64, minute: i64, metres: i64, fast: i64| {
        let mut sent = Sent::new(1, seq).block(START_MS / 1000 + (minute + fast) * 60, 2, &[metres * 100]);
        sent.header.sent_after_s = Some(0);
        let (topic, payload) = (up("flow-0"), sent.versioned("flow-0").bytes());
        let arrival = Arrival { lsn: 1, at_ms: START_MS + minute * MINUTE_MS, live: true, alarm: false };
        let mut decisions = Decisions::default();
        lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
        decisions.alerts
    };
    assert!((0..3).all(|minute| live(u64::try_from(minute).unwrap(), minute, 50, 10).is_empty()));
    // Ten minutes fast, and then right.
    let leak = live(3, 3, 90, 0);
    assert_eq!((leak.len(), leak[0].mode), (1, Mode::Live));
    let over = live(4, 4, 50, 0);
    assert_eq!((over.len(), over[0].phase, over[0].id), (1, Phase::Resolved, leak[0].id));
}

#[test]
fn one_sample_dated_ahead_ages_no_true_alarm_and_its_end() {
    use {Mode::Live, Phase::*};
    // What is dated 14 minutes ahead comes before the alarm, between alarm and end, or carries an alarm itself.
    for (before, between) in [(Some(50), None), (None, Some(50)), (Some(50), Some(50)), (Some(90), Some(90))]
    {
        let mut lane = lane(vec![high(0, 0)]);
        let forged = |lane: &mut Lane, seq: u64, minute: i64, metres: i64| {
            let values = [metres * 100];
            let sent = Sent::new(9, seq).block(START_MS / 1000 + (minute + 14) * 60, 2, &values);
            send(lane, START_MS + minute * MINUTE_MS, "flow-0", &sent)
        };
        assert!(report(&mut lane, "flow-0", 0, 0, &[50, 50, 50], 0).is_empty());
        if let Some(metres) = before {
            let decisions = forged(&mut lane, 0, 2, metres);
            assert_eq!(accepted_seqs(&decisions), [0], "it is kept");
            assert_eq!(decisions.accepted.quality, [2], "and doubted");
            // It raises as well: a leak that a fast clock dates ahead is a leak.
            assert_eq!(told(&decisions.alerts).len(), usize::from(metres > 80));
        }
        let alarm = report(&mut lane, "flow-0", 3, 3, &[90], 0);
        if before != Some(90) {
            assert_eq!(told(&alarm), [(Firing, Live, 3, 3, 9000)], "at once, and live: {before:?}");
        }
        if let Some(metres) = between {
            let decisions = forged(&mut lane, 1, 3, metres);
            assert!(decisions.alerts.iter().all(|change| change.phase == Resolved), "{decisions:?}");
        }
        assert_eq!(lane.open_alerts().count(), usize::from(between != Some(50)));
        if between == Some(50) {
            let again = report(&mut lane, "flow-0", 4, 4, &[90], 0);
            assert_eq!(told(&again), [(Firing, Live, 4, 4, 9000)]);
        }
        let over = report(&mut lane, "flow-0", 5, 5, &[50], 0);
        assert_eq!((over.len(), over[0].phase, over[0].mode), (1, Resolved, Live), "{before:?} {between:?}");
        assert_eq!(lane.open_alerts().count(), 0);
        let doubted = u64::from(before.is_some()) + u64::from(between.is_some());
        assert_eq!(lane.counters().doubted.get("V01").copied().unwrap_or(0), doubted);
        // The newest value is the true one.
        let state = lane.state(lane.states().next().unwrap().0).unwrap();
        assert_eq!((state.last_ms, state.last[1]), (START_MS + 5 * MINUTE_MS, 5000));
    }
}

#[test]
fn a_sample_dated_ahead_is_not_the_newest() {
    let mut lane = lane(vec![high(0, 0)]);
    assert_eq!(report(&mut lane, "flow-0", 0, 3, &[90], 0).len(), 1);
    // Between the levels, it says nothing; and the end of the alarm that was sampled when it arrived is no older.
    let ahead = Sent::new(9, 0).block(START_MS / 1000 + 19 * 60, 2, &[7500]);
    assert!(send(&mut lane, START_MS + 5 * MINUTE_MS, "flow-0", &ahead).alerts.is_empty());
    let over = report(&mut lane, "flow-0", 1, 5, &[50], 0);
    assert_eq!((over.len(), over[0].phase), (1, Phase::Resolved));
}

#[test]
fn a_fresh_sample_that_a_newer_one_overtook_raises_and_ends_nothing() {
    use {Mode::Live, Phase::*};
    let mut lane = lane(vec![high(0, 0)]);
    // Somebody may send what is dated now, too: a report that comes a moment later is none the less fresh.
    assert!(report(&mut lane, "flow-0", 5, 5, &[50], 0).is_empty());
    assert_eq!(told(&report(&mut lane, "flow-0", 3, 3, &[90], 2)), [(Firing, Live, 3, 3, 9000)]);
    assert!(report(&mut lane, "flow-0", 4, 4, &[50], 2).is_empty(), "older than the newest");
    assert_eq!(told(&report(&mut lane, "flow-0", 6, 6, &[50], 0)), [(Resolved, Live, 6, 3, 5000)]);
}

#[test]
fn a_clock_that_is_said_to_be_fast_makes_no_true_alarm_old() {
    let mut lane = lane(vec![high(0, 0)]);
    let mut live = |boot: u32, seq: u64, minute: i64, metres: i64, sent_after_s: Option<i32>| {
        let mut sent = Sent::new(boot, seq).block(START_MS / 1000 + minute * 60, 2, &[metres * 100]);
        sent.header.sent_after_s = sent_after_s;
        let (topic, payload) = (up("flow-0"), sent.versioned("flow-0").bytes());
        let arrival = Arrival { lsn: 1, at_ms: START_MS + minute * MINUTE_MS, live: true, alarm: false };
        let mut decisions = Decisions::default();
        lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
        decisions.alerts
    };
    assert!(live(9, 0, 0, 50, Some(7_200)).is_empty());
    assert!(live(9, 1, 1, 50, Some(7_200)).is_empty(), "two reports agree on two hours");
    let leak = live(1, 0, 2, 90, None);
    assert_eq!((leak.len(), leak[0].mode), (1, Mode::Live));
}

#[test]
fn nothing_is_taken_to_have_held_through_a_gap() {
    use {Mode::Live, Phase::*};
    let mut lane = lane(vec![high(120, 0)]);
    assert_eq!(report(&mut lane, "flow-0", 0, 0, &[90], 0).len(), 1);
    let after = report(&mut lane, "flow-0", 1, 480, &[90], 0);
    assert_eq!(told(&after), [(Resolved, Live, 480, 0, 9000), (Pending, Live, 480, 480, 9000)]);
    let held = report(&mut lane, "flow-0", 2, 481, &[90, 90], 0);
    assert_eq!(told(&held), [(Firing, Live, 482, 480, 9000)]);
}

#[test]
fn a_restart_forgets_no_alert_and_lets_those_of_a_rule_that_is_gone_go() {
    let mut first = lane(vec![high(0, 0), low()]);
    let raised = report(&mut first, "flow-0", 0, 0, &[90], 0);
    let bytes = postcard::to_allocvec(&first.snapshot()).unwrap();
    let mut same = lane(vec![low(), high(0, 0)]);
    same.restore(postcard::from_bytes(&bytes).unwrap());
    assert_eq!(same.open_alerts().collect::<Vec<_>>(), [raised[0].id]);
    let resolved = report(&mut same, "flow-0", 1, 1, &[50], 0);
    assert_eq!((resolved[0].phase, resolved[0].id), (Phase::Resolved, raised[0].id));
    let mut without = lane(vec![low()]);
    without.restore(postcard::from_bytes(&bytes).unwrap());
    assert_eq!(without.open_alerts().count(), 0);
}

#[test]
fn rules_at_fault_are_named() {
    let classes = [class(FLOW)];
    let keys =
        |rule: Rule| faults_of(&[rule], &classes).into_iter().map(|(_, key, _)| key).collect::<Vec<_>>();
    let channel = |name: &str| When::AtLeast { channel: name.into(), at_least: 10.0, clear_below: 8.0 };
    assert_eq!(keys(rule("ok", channel("pressure"), 0, 0)), [""; 0]);
    assert_eq!(keys(rule("Not Ok", channel("pressure"), 0, 0)), ["id"]);
    assert_eq!(keys(rule("a", channel("presure"), 0, 0)), ["when.channel"]);
    let crossed = When::AtLeast { channel: "pressure".into(), at_least: 10.0, clear_below: 12.0 };
    assert_eq!(keys(rule("a", crossed, 0, 0)), ["when.clear_below"]);
    let never = When::AtLeast { channel: "pressure".into(), at_least: 10.0, clear_below: 0.0 };
    assert_eq!(keys(rule("a", never, 0, 0)), ["when.clear_below"], "no value is below the channel's least");
    let beyond = When::AtMost { channel: "pressure".into(), at_most: -5.0, clear_above: 0.0 };
    assert_eq!(keys(rule("a", beyond, 0, 0)), ["when"]);
    assert_eq!(keys(rule("a", When::Bits { bits: 1 }, 0, 0)), ["when.bits"]);
    let mut other = rule("a", channel("pressure"), 0, 0);
    other.class = Some("no_class".into());
    assert_eq!(keys(other), ["class"]);
    let conduct =
        |when, hold_s, clear_hold_s| keys(Rule { class: None, ..rule("a", when, hold_s, clear_hold_s) });
    let new = |new_outboxes_per_h| When::NewOutboxes { new_outboxes_per_h };
    assert_eq!(conduct(new(8), 0, 60), [""; 0]);
    assert_eq!(conduct(new(0), 0, 60), ["when.new_outboxes_per_h"]);
    assert_eq!(conduct(new(37), 0, 60), ["when.new_outboxes_per_h"], "more than are remembered");
    assert_eq!(conduct(new(8), 5, 0), ["hold_s", "clear_hold_s"]);
    assert_eq!(conduct(When::FoldedMissing { folded_missing: 0 }, 0, 60), ["when.folded_missing"]);
    assert_eq!(conduct(When::Refused { refused: "too_old".into() }, 0, 60), ["when.refused"]);
    assert_eq!(keys(rule("a", new(8), 0, 60)), ["class"], "it watches every device");
    let twice = [high(0, 0), high(0, 0)];
    assert_eq!(faults_of(&twice, &classes)[0].1, "id");
}

/// The plainest reading of one rule, over samples in order of time: (raised at, resolved at).
fn model(pressures: &[i64], hold: i64, clear_hold: i64) -> Vec<(i64, Option<i64>)> {
    let mut episodes = Vec::new();
    let (mut since, mut over): (Option<i64>, Option<i64>) = (None, None);
    let mut firing = false;
    for (minute, &metres) in (0..).zip(pressures) {
        if !firing {
            since = (metres >= 80).then(|| since.unwrap_or(minute));
            if since.is_some_and(|since| minute - since >= hold) {
                firing = true;
                over = None;
                episodes.push((minute, None));
            }
        } else {
            over = (metres < 70).then(|| over.unwrap_or(minute));
            if over.is_some_and(|over| minute - over >= clear_hold) {
                episodes.last_mut().unwrap().1 = Some(minute);
                (firing, since) = (false, None);
            }
        }
    }
    episodes
}

proptest! {
    #[test]
    fn raises_and_resolves_are_the_models_however_reports_are_cut(
        pressures in prop::collection::vec(prop_oneof![Just(50_i64), Just(69), Just(70), Just(79), Just(80), Just(90)], 1..120),
        cuts in prop::collection::vec(1..20_usize, 1..20),
        hold in 0..4_i64, clear_hold in 0..4_i64,
    ) {
        let seconds = |minutes: i64| u32::try_from(minutes * 60).unwrap();
        let mut lane = lane(vec![high(seconds(hold), seconds(clear_hold))]);
        let (mut from, mut changes) = (0, Vec::new());
        for cut in cuts.iter().cycle() {
            let end = (from + cut).min(pressures.len());
            let minute = i64::try_from(from).unwrap();
            changes.extend(report(&mut lane, "flow-0", from as u64, minute, &pressures[from..end], 0));
            from = end;
            if from == pressures.len() {
                break;
            }
        }
        let minute = |ms: i64| (ms - START_MS) / MINUTE_MS;
        let mut seen: Vec<(i64, Option<i64>)> = Vec::new();
        for change in changes.iter().filter(|change| change.fired) {
            match change.phase {
                Phase::Firing => seen.push((minute(change.event_ms), None)),
                _ => seen.last_mut().unwrap().1 = Some(minute(change.event_ms)),
            }
        }
        prop_assert_eq!(seen, model(&pressures, hold, clear_hold));
    }

    #[test]
    fn old_data_in_any_order_never_pages_and_every_raise_is_resolved(
        order in Just((0..30_i64).collect::<Vec<_>>()).prop_shuffle(),
        breaches in prop::collection::btree_set(0..30_i64, 0..10),
    ) {
        let mut lane = lane(vec![high(0, 0)]);
        let now = 60 * 24 * 60;
        report(&mut lane, "flow-0", 10_000, now, &[50], 0);
        let mut changes = Vec::new();
        for &chunk in &order {
            let metres = if breaches.contains(&chunk) { 90 } else { 50 };
            let minute = chunk * 20;
            let seq = u64::try_from(minute).unwrap();
            changes.extend(report(&mut lane, "flow-0", seq, minute, &[50, metres, 50], now - minute));
        }
        changes.extend(tick(&mut lane, START_MS + (now + 60) * MINUTE_MS).alerts);
        prop_assert!(changes.iter().all(|change| change.mode == Mode::Retrospective));
        let ids = |phase| changes.iter().filter(|c| c.phase == phase).map(|c| c.id).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(ids(Phase::Firing).len(), breaches.len());
        prop_assert_eq!(ids(Phase::Firing), ids(Phase::Resolved));
        prop_assert_eq!(lane.open_alerts().count(), 0);
    }
}
