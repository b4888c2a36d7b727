//! Invented outboxes and sequence numbers keep no device from delivering, double no sample, and raise an alert.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    device::{
        alert::{Change, Phase},
        dedup::{FOLDED_BOOTS_MAX, MARGIN, OUTBOXES_MAX},
        ledger::Totals,
        validate::EARLIEST_MS,
    },
    event::{Arrival, Confirmed, Decisions, Event, WriteOff},
    lane::{Lane, Policy},
    rule::{Rule, Severity, When, faults_of},
    view::Snapshot,
};
use hunhe_proto::{
    class::Text,
    reading::{Drop, DropCause, SEQ_END},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use support::*;

const NOW_MS: i64 = START_MS + 400 * DAY_MS;
const VICTIM: u32 = 0xcafe;

fn conduct(id: &str, when: When) -> Rule {
    Rule {
        id: id.into(),
        version: 1,
        class: None,
        severity: Severity::Major,
        title: Text { zh: "规则".into(), en: "rule".into() },
        source: "D".into(),
        when,
        hold_s: 0,
        clear_hold_s: 3600,
    }
}

fn rules() -> Vec<Rule> {
    vec![
        conduct("new", When::NewOutboxes { new_outboxes_per_h: 8 }),
        conduct("gave_way", When::FoldedMissing { folded_missing: 1 }),
        conduct("implausible", When::Refused { refused: "implausible_seq".into() }),
    ]
}

/// The small city, with the rules on how devices report.
fn watched() -> Lane {
    let mut registry = Arc::unwrap_or_clone(registry());
    assert_eq!(faults_of(&rules(), &[class(GAS), class(FLOW)]), []);
    registry.set_rules(rules());
    Lane::new(Arc::new(registry), Policy::default())
}

/// Hourly registers of the gas meter.
fn samples(boot: u32, seqs: std::ops::Range<u64>) -> Sent {
    let t0 = START_H + i64::try_from(seqs.start).unwrap();
    let values: Vec<i64> = seqs.clone().map(|seq| i64::try_from(seq).unwrap() * 10).collect();
    let sent = Sent::new(boot, seqs.start);
    if values.is_empty() { sent } else { sent.block(t0, 1, &values) }
}

fn ledger(lane: &Lane) -> Totals {
    lane.ledger(|_| true).0
}

fn reason(decisions: &Decisions) -> Option<&'static str> {
    decisions.refusal.map(|refusal| refusal.reason.name())
}

fn raised(changes: &[Change]) -> Vec<(String, Phase, i64)> {
    changes.iter().map(|c| (rules()[c.rule.at()].id.clone(), c.phase, c.value)).collect()
}

#[test]
fn no_number_of_invented_outboxes_keeps_a_devices_own_from_delivering() {
    for before in [0, 1, 5] {
        let mut lane = lane();
        // Whoever poses as the device may have come first.
        for forged in 0..before {
            send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1));
        }
        let mut forged = 1000;
        for report in 0..20_u64 {
            let at_ms = NOW_MS + i64::try_from(report).unwrap() * HOUR_MS;
            let own = send(&mut lane, at_ms, "gas-0", &samples(VICTIM, report * 3..report * 3 + 3));
            assert_eq!(
                (reason(&own), accepted_seqs(&own).len()),
                (None, 3),
                "report {report} after {before}"
            );
            for _ in 0..30 {
                forged += 1;
                send(&mut lane, at_ms, "gas-0", &samples(forged, 0..1));
            }
        }
        // All of it again is known.
        for report in 0..20_u64 {
            let again =
                send(&mut lane, NOW_MS + DAY_MS, "gas-0", &samples(VICTIM, report * 3..report * 3 + 3));
            assert_eq!((reason(&again), accepted_seqs(&again)), (None, vec![]), "report {report}");
        }
        assert_eq!(ledger(&lane).unexplained(), 0);
    }
}

#[test]
fn an_outbox_that_spoke_once_before_a_flood_of_invented_ones_is_still_known_after_it() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 0..3));
    for forged in 1..=1000 {
        send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1));
    }
    let own = send(&mut lane, NOW_MS + DAY_MS, "gas-0", &samples(VICTIM, 0..6));
    assert_eq!((accepted_seqs(&own), ledger(&lane).unexplained()), (vec![3, 4, 5], 0));
}

#[test]
fn an_outbox_in_long_use_is_not_displaced_by_new_ones() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 0..3));
    send(&mut lane, NOW_MS + 2 * HOUR_MS, "gas-0", &samples(VICTIM, 3..6).held_from(6 - 3));
    for forged in 1..=100 {
        send(&mut lane, NOW_MS + 3 * HOUR_MS, "gas-0", &samples(forged, 0..1));
    }
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let boots: Vec<u32> = lane.watermark(agent).devices[0].boots.iter().map(|mark| mark.boot).collect();
    assert!(boots.len() == OUTBOXES_MAX && boots.contains(&VICTIM), "{boots:x?}");
}

#[test]
fn an_outbox_that_follows_one_in_long_use_counts_as_confirmed_at_once() {
    let mut lane = lane();
    send(&mut lane, NOW_MS - 2 * HOUR_MS, "gas-0", &samples(1, 0..2));
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 2..3));
    let mut next = samples(VICTIM, 0..3);
    (next.header.prev_boot, next.header.prev_next_seq) = (Some(1), Some(3));
    send(&mut lane, NOW_MS, "gas-0", &next);
    for forged in 100..110 {
        send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1));
    }
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let boots: Vec<u32> = lane.watermark(agent).devices[0].boots.iter().map(|mark| mark.boot).collect();
    assert!(boots.contains(&VICTIM) && !boots.contains(&1), "{boots:x?}");
}

#[test]
fn an_outbox_that_gave_way_comes_back_with_what_it_still_owed() {
    let mut lane = lane();
    // It has told of ten samples, and five have come.
    let mut told = samples(VICTIM, 0..5);
    (told.header.held_from, told.header.next_seq) = (None, Some(10));
    send(&mut lane, NOW_MS, "gas-0", &told);
    assert_eq!((ledger(&lane).outstanding, ledger(&lane).unexplained()), (10, 0));
    for forged in 1..=6 {
        send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1));
    }
    assert_eq!((ledger(&lane).sampled, ledger(&lane).unexplained()), (16, 5), "it gave way");
    let back = send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 3..10));
    assert_eq!(accepted_seqs(&back), [5, 6, 7, 8, 9]);
    let seen = ledger(&lane);
    assert_eq!((seen.sampled, seen.outstanding, seen.duplicates, seen.unexplained()), (16, 16, 2, 0));
    let device = device("gas-0");
    // Sinks speak of it as of any other, whenever it was decided.
    lane.confirmed(device, VICTIM, Confirmed { handled: 10, stored: 10, ..Confirmed::default() });
    let seen = ledger(&lane);
    assert_eq!((seen.stored, seen.outstanding, seen.unexplained()), (10, 6, 0));
    assert_eq!(lane.totals(), (seen, true));
}

#[test]
fn many_new_outboxes_within_an_hour_and_samples_lost_with_one_are_alerts_of_the_device() {
    let mut lane = watched();
    tick(&mut lane, NOW_MS);
    let mut told = samples(VICTIM, 0..5);
    told.header.next_seq = Some(10);
    assert!(send(&mut lane, NOW_MS, "gas-0", &told).alerts.is_empty());
    let mut changes = Vec::new();
    for forged in 1..=12 {
        changes.extend(send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1)).alerts);
    }
    let firing = |id: &str, value| (id.to_owned(), Phase::Firing, value);
    assert_eq!(raised(&changes), [firing("gave_way", 5), firing("new", 8)]);
    assert_eq!(lane.open_alerts().count(), 2);
    // A restart keeps them; they are over after an hour without another.
    let bytes = postcard::to_allocvec(&lane.snapshot()).unwrap();
    let mut lane = watched();
    lane.restore(postcard::from_bytes::<Snapshot<'_>>(&bytes).unwrap());
    tick(&mut lane, NOW_MS + 60_000);
    assert!(tick(&mut lane, NOW_MS + 59 * 60_000).alerts.is_empty());
    let over = tick(&mut lane, NOW_MS + 62 * 60_000).alerts;
    assert!(over.len() == 2 && over.iter().all(|change| change.phase == Phase::Resolved), "{over:?}");
    assert_eq!(lane.open_alerts().count(), 0);
}

#[test]
fn a_device_that_restarts_now_and_then_is_no_alert() {
    let mut lane = watched();
    for boot in 1..=100 {
        let mut sent = samples(boot, 0..10);
        (sent.header.prev_boot, sent.header.prev_next_seq) =
            if boot > 1 { (Some(boot - 1), Some(12)) } else { (None, None) };
        let decisions = send(&mut lane, NOW_MS + i64::from(boot) * HOUR_MS / 4, "gas-0", &sent);
        assert!(decisions.alerts.is_empty(), "boot {boot}");
    }
}

/// A report of a boot that poses as the successor of another, of which it says `told`.
fn successor(boot: u32, before: u32, told: u64) -> Sent {
    let mut sent = samples(boot, 0..1);
    (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(before), Some(told));
    sent
}

fn marks(lane: &Lane) -> BTreeMap<u32, u64> {
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let device = lane.watermark(agent).devices.remove(0);
    device.boots.into_iter().map(|mark| (mark.boot, mark.through)).collect()
}

#[test]
fn no_number_of_forged_successors_makes_an_agent_forget_what_it_still_holds() {
    for chained in [false, true] {
        for between_ms in [0, HOUR_MS / 20] {
            let mut lane = lane();
            send(&mut lane, NOW_MS - 2 * HOUR_MS, "gas-0", &samples(VICTIM, 0..3));
            // It holds six more, of which the gap comes last.
            let mut told = samples(VICTIM, 5..7).held_from(3);
            told.header.next_seq = Some(9);
            send(&mut lane, NOW_MS, "gas-0", &told);
            assert_eq!(marks(&lane)[&VICTIM], 3);
            let mut at_ms = NOW_MS;
            for forged in 0..200 {
                at_ms += between_ms;
                let before = if chained && forged > 0 { forged - 1 } else { VICTIM };
                send(&mut lane, at_ms, "gas-0", &successor(forged, before, 9));
                let through = marks(&lane).get(&VICTIM).copied().unwrap_or(0);
                assert!(through <= 3, "{through} after {forged}, chained: {chained}");
            }
            for (seqs, through) in [(3..5, 7), (7..12, 12)] {
                let own = send(&mut lane, at_ms, "gas-0", &samples(VICTIM, seqs.clone()));
                assert_eq!(accepted_seqs(&own), seqs.collect::<Vec<_>>(), "chained: {chained}");
                assert_eq!(marks(&lane)[&VICTIM], through, "chained: {chained}");
            }
            let seen = ledger(&lane);
            // Of a chain the forged ones are given up, too.
            assert_eq!((seen.declared_lost > 0, seen.unexplained()), (chained, 0), "chained: {chained}");
        }
    }
}

#[test]
fn one_that_samples_on_after_another_named_it_its_predecessor_keeps_its_place_and_is_an_alert() {
    let mut lane = watched();
    send(&mut lane, NOW_MS - 2 * HOUR_MS, "gas-0", &samples(VICTIM, 0..3));
    send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 3..5));
    assert!(send(&mut lane, NOW_MS, "gas-0", &successor(1, VICTIM, 9)).alerts.is_empty());
    // What was overtaken on the way is no alert.
    assert!(send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 5..7)).alerts.is_empty());
    send(&mut lane, NOW_MS, "gas-0", &successor(2, VICTIM, 9));
    let own = send(&mut lane, NOW_MS, "gas-0", &samples(VICTIM, 7..10));
    assert_eq!(raised(&own.alerts), [("gave_way".to_owned(), Phase::Firing, 2)]);
    // Nothing that it vouched for outlasts what comes now.
    for forged in 100..110 {
        send(&mut lane, NOW_MS, "gas-0", &samples(forged, 0..1));
    }
    let marks = marks(&lane);
    assert!(marks.contains_key(&VICTIM) && !marks.contains_key(&1) && !marks.contains_key(&2), "{marks:?}");
}

#[test]
fn a_device_that_changes_its_outbox_holds_back_no_watermark_of_the_new_one() {
    let mut lane = watched();
    send(&mut lane, NOW_MS - 2 * HOUR_MS, "gas-0", &samples(1, 0..3));
    let mut told = samples(1, 3..5);
    told.header.next_seq = Some(9);
    send(&mut lane, NOW_MS, "gas-0", &told);
    // Its class has another version: what was held comes again.
    let mut next = samples(2, 0..6);
    (next.header.prev_boot, next.header.prev_next_seq) = (Some(1), Some(3));
    assert!(send(&mut lane, NOW_MS, "gas-0", &next).alerts.is_empty());
    let seen = ledger(&lane);
    assert_eq!((seen.declared_lost, seen.outstanding, seen.unexplained()), (4, 11, 0));
    assert_eq!(marks(&lane)[&2], 6);
}

/// The most that an hourly meter is believed to have sampled since then.
fn believed(elapsed_ms: i64) -> u64 {
    u64::try_from(elapsed_ms / HOUR_MS).unwrap() * 2 + MARGIN
}

#[test]
fn numbers_that_cannot_have_been_sampled_are_refused_whole_and_touch_nothing() {
    let mut lane = watched();
    // A meter up to date: its newest sample is of now.
    let t0 = NOW_MS / HOUR_MS;
    let newest = Sent::new(1, 100).held_from(100).block(t0, 1, &[1000]);
    send(&mut lane, NOW_MS, "gas-0", &newest);
    let before = ledger(&lane);
    let at_ms = NOW_MS + DAY_MS;
    let claim = |change: &dyn Fn(&mut Sent)| {
        let mut sent = Sent::new(1, 101).held_from(101).block(t0 + 1, 1, &[1010]);
        change(&mut sent);
        sent
    };
    let most = 101 + believed(DAY_MS);
    let cases: [(&str, Sent); 5] = [
        ("the report's own end", claim(&|sent| sent.header.seq = SEQ_END - 4096)),
        ("what it has sampled", claim(&|sent| sent.header.next_seq = Some(SEQ_END - 4096))),
        ("just beyond", claim(&|sent| sent.header.next_seq = Some(most + 1))),
        (
            "what it dropped",
            claim(&|sent| {
                sent.drops.push(Drop { seq: 102, count: 5_000_000_000, cause: DropCause::Full });
            }),
        ),
        (
            "the outbox before",
            claim(&|sent| {
                (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(9), Some(5_000_000_000));
            }),
        ),
    ];
    let mut changes = Vec::new();
    for (what, sent) in &cases {
        let decisions = send(&mut lane, at_ms, "gas-0", sent);
        assert_eq!(reason(&decisions), Some("implausible_seq"), "{what}");
        assert!(decisions.accepted.sets.is_empty() && decisions.refused.is_empty(), "{what}");
        assert_eq!(ledger(&lane), before, "{what}");
        changes.extend(decisions.alerts);
    }
    assert_eq!(raised(&changes), [("implausible".to_owned(), Phase::Firing, 1)], "told once");
    assert_eq!(lane.counters().messages_refused["implausible_seq"], 5);
    // The report stays at the edge: no watermark passes it or names it as refused.
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let mark = lane.watermark(agent);
    assert!(mark.refused.is_empty());
    assert_eq!((mark.devices[0].boots.len(), mark.devices[0].boots[0].through), (1, 101));
    // The next good one passes, and so does one at the bound; an operator may know better.
    let good = send(&mut lane, at_ms, "gas-0", &claim(&|_| {}));
    assert_eq!((reason(&good), accepted_seqs(&good)), (None, vec![101]));
    let mut fresh = watched();
    send(&mut fresh, NOW_MS, "gas-0", &newest);
    assert_eq!(reason(&send(&mut fresh, at_ms, "gas-0", &claim(&|s| s.header.next_seq = Some(most)))), None);
    let redriven = redrive(&mut lane, at_ms, "gas-0", &cases[2].1, &[]);
    assert_eq!(reason(&redriven), None);
}

#[test]
fn what_a_device_can_have_sampled_is_believed() {
    // An agent whose gateway lost everything, and one that was away for a year.
    let mut lane = lane();
    let t0 = NOW_MS / HOUR_MS;
    let long = Sent::new(1, 57_000).held_from(57_000).block(t0, 1, &[1000]);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &long)), None, "hourly since 2020");
    let year = Sent::new(1, 57_001 + 8_760).held_from(57_001).block(t0 + 8_760, 1, &[1010]);
    assert_eq!(reason(&send(&mut lane, NOW_MS + 365 * DAY_MS, "gas-0", &year)), None);
    // One without a history is bounded, too.
    let never = Sent::new(1, 5_000_000_000).block(t0, 1, &[1000]);
    let refused = send(&mut lane, NOW_MS, "gas-1", &never);
    assert_eq!(reason(&refused), Some("implausible_seq"));
    assert_eq!(ledger(&lane).sampled, 57_001 + 8_761);
    // A recording is read faster than the clock goes: what counts is the time of its samples.
    for month in 0..400 {
        let first = month * 3_000;
        let hours: Vec<i64> = (0..3_000).collect();
        let sent = Sent::new(2, first).with(Block {
            t0: START_MS / 1000 + i64::try_from(first).unwrap() * 15,
            step: 15,
            columns: vec![(2, hours, vec![])],
            ..Block::default()
        });
        assert_eq!(reason(&send(&mut lane, NOW_MS, "flow-0", &sent)), None, "month {month}");
    }
    // A gateway whose clock was never set cannot tell: the samples' times are what it refuses.
    assert_eq!(reason(&send(&mut lane, 5_000, "gas-1", &never)), Some("in_future"));
}

/// Names, under new outboxes, all that is still believed.
fn claim_all(lane: &mut Lane, at_ms: i64) {
    let mut forged = 5_000_000;
    for named in (0..14).rev().map(|bit| 1 << bit) {
        loop {
            forged += 1;
            let sent = Sent::new(forged, named).block(EARLIEST_MS / HOUR_MS, 1, &[10]);
            if reason(&send(lane, at_ms, "gas-0", &sent)).is_some() {
                break;
            }
        }
    }
}

/// The sender chooses the time of what he sends, and may begin as many outboxes as he likes.
#[test]
fn all_that_a_device_names_and_never_brings_is_bounded_whatever_it_begins() {
    let since_2020_h = u64::try_from((NOW_MS - EARLIEST_MS) / HOUR_MS).unwrap();
    let most = 2 * since_2020_h + MARGIN;
    let old_h = EARLIEST_MS / HOUR_MS;
    for way in 0..4 {
        let mut lane = watched();
        let mut refused = 0;
        for turn in 0..300 {
            let boot = if way == 0 { 1 } else { turn };
            let first = if way == 0 { u64::from(turn + 1) * (most - 10) } else { most - 10 };
            let mut sent = match way {
                0 | 1 => Sent::new(boot, first).block(old_h, 1, &[10]),
                // What another outbox is said to have sampled; what was dropped.
                _ => Sent::new(boot, 0).block(old_h, 1, &[10]),
            };
            match way {
                2 => (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(boot + 1000), Some(first)),
                3 => sent.drops.push(Drop { seq: 1, count: first, cause: DropCause::Full }),
                _ => {}
            }
            refused += u32::from(reason(&send(&mut lane, NOW_MS, "gas-0", &sent)) == Some("implausible_seq"));
        }
        let seen = ledger(&lane);
        let open = u64::try_from(seen.unexplained()).unwrap() + seen.declared_lost;
        assert!(open > most / 2 && open <= most, "way {way}: {open} of {most}");
        assert_eq!(refused, 299, "way {way}");
        // The device's own outbox goes on all the same, with a backlog as long as it was away.
        let t0 = NOW_MS / HOUR_MS;
        let own = Sent::new(VICTIM, 0).block(t0, 1, &[10]);
        assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &own)), None, "way {way}");
        let mut backlog = Sent::new(VICTIM, 1).block(t0 + 1, 1, &[20]);
        backlog.header.next_seq = Some(1 + 24 * 64);
        let later_ms = NOW_MS + 64 * DAY_MS;
        claim_all(&mut lane, later_ms);
        assert_eq!(reason(&send(&mut lane, later_ms, "gas-0", &backlog)), None, "way {way}");
        claim_all(&mut lane, later_ms + DAY_MS);
        let next = successor(VICTIM + 1, VICTIM, 1 + 24 * 65);
        assert_eq!(reason(&send(&mut lane, later_ms + DAY_MS, "gas-0", &next)), None, "way {way}");
        let open = ledger(&lane).sampled - lane.counters().samples;
        assert!(open <= most + 4 * 24 * 65, "way {way}: {open} of {most}");
    }
}

#[test]
fn what_is_written_off_makes_room_for_what_a_device_names() {
    let mut lane = watched();
    let most = 2 * u64::try_from((NOW_MS - EARLIEST_MS) / HOUR_MS).unwrap() + MARGIN;
    let far = |boot| Sent::new(boot, most - 10).block(EARLIEST_MS / HOUR_MS, 1, &[10]);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(1))), None);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(2))), Some("implausible_seq"));
    write_off(&mut lane, most - 10);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(2))), None);
}

#[test]
fn an_alarms_interval_is_the_densest() {
    let dense = GAS.replace(
        "report = { samples = 24, sleeping = true, silent_after_s = 172800 }",
        "report = { samples = 24, silent_after_s = 172800, on_alarm = { interval = 1 } }",
    );
    let dense = dense.replace("time_unit_ms = 3600000\ninterval = 1", "time_unit_ms = 60000\ninterval = 60");
    let registry = registry_of(&[&dense, FLOW]);
    let class = registry.class_of(registry.find(id("gas-0")).unwrap());
    assert_eq!((class.interval_ms, class.densest_ms), (HOUR_MS, 60_000));
}

fn write_off(lane: &mut Lane, samples: u64) {
    let before = lane.audit().count();
    write_off_behind(lane, samples, before);
}

fn write_off_behind(lane: &mut Lane, samples: u64, before: u64) {
    let device = id("gas-0");
    let word = WriteOff { lsn: 77, at_ms: NOW_MS, device, samples, before, reason: "restored", by: "lin" };
    let mut decisions = Decisions::default();
    lane.handle(Event::WriteOff(word), &mut decisions);
    assert!(decisions.is_empty());
}

#[test]
fn two_write_offs_that_knew_nothing_of_each_other_count_once() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    // The second was asked for while the first was on its way, and so for the same ten.
    write_off_behind(&mut lane, 10, 0);
    write_off_behind(&mut lane, 10, 0);
    assert_eq!((lane.audit().count(), lane.audit().listed().count()), (1, 1));
    // Five more are missing: nothing that was written off before hides them.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 18..19));
    assert_eq!((ledger(&lane).written_off, ledger(&lane).unexplained()), (10, 5));
    write_off_behind(&mut lane, 5, 1);
    assert_eq!((ledger(&lane).written_off, lane.audit().count()), (15, 2));
    // A damaged journal lost the third and the fourth: what follows them counts.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 20..21));
    write_off_behind(&mut lane, 1, 4);
    assert_eq!((ledger(&lane).written_off, lane.audit().count()), (16, 5));
}

#[test]
fn what_is_written_off_is_declared_lost_and_leaves_again_where_it_comes_after_all() {
    let mut lane = lane();
    let unexplained = |lane: &Lane| ledger(lane).unexplained();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    assert_eq!((unexplained(&lane), lane.totals().1), (10, false));
    write_off(&mut lane, 10);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.declared_lost, seen.unexplained()), (10, 10, 0));
    assert_eq!(lane.totals(), (seen, true));
    // Four of them come after all.
    assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &samples(1, 2..6).held_from(0))).len(), 4);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.outstanding, seen.unexplained()), (6, 7, 0));
    // One is declared lost by the edge.
    let mut drop = samples(1, 13..14);
    drop.drops.push(Drop { seq: 0, count: 1, cause: DropCause::Damaged });
    send(&mut lane, NOW_MS, "gas-0", &drop);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.declared_lost, seen.unexplained()), (5, 6, 0));
    // What nobody can explain from now on is not hidden by what was written off before.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 20..21));
    assert_eq!((ledger(&lane).written_off, ledger(&lane).unexplained()), (5, 6));
    // The audit trail stays, over a restart too.
    let bytes = postcard::to_allocvec(&lane.snapshot()).unwrap();
    let mut restored = self::lane();
    restored.restore(postcard::from_bytes::<Snapshot<'_>>(&bytes).unwrap());
    assert_eq!(ledger(&restored), ledger(&lane));
    let kept: Vec<_> = restored.audit().listed().map(|e| (e.lsn, e.samples, e.reason.as_str())).collect();
    assert_eq!((kept, restored.audit().count()), (vec![(77, 10, "restored")], 1));
}

#[test]
fn the_audit_trail_lists_the_last_ten_thousand() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    for samples in 0..10_005 {
        write_off(&mut lane, samples);
    }
    let listed: Vec<u64> = lane.audit().listed().map(|entry| entry.samples).collect();
    assert_eq!((listed.len(), listed[0], listed[9_999]), (10_000, 10_004, 5));
    assert_eq!(lane.audit().count(), 10_005);
}

/// An outbox whose edge delivers in order, and may deliver again.
#[derive(Debug, Default, Clone)]
struct Own {
    delivered: u64,
    stored: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn among_many_outboxes_each_sample_is_admitted_once_and_the_ledger_closes(
        steps in prop::collection::vec((0..20_u32, 0..6_u64, 0..8_u64, 0..600_i64), 1..200),
    ) {
        let mut lane = lane();
        let device = device("gas-0");
        let mut own: BTreeMap<u32, Own> = BTreeMap::new();
        let mut at_ms = NOW_MS;
        for (boot, count, back, minutes) in steps {
            at_ms += minutes * 60_000;
            let Own { delivered, stored } = own.get(&boot).cloned().unwrap_or_default();
            // Of what was delivered some may come again before what is new.
            let from = delivered - back.min(delivered);
            let decisions = send(&mut lane, at_ms, "gas-0", &samples(boot, from..delivered + count));
            let fresh: Vec<u64> = (delivered..delivered + count).collect();
            prop_assert_eq!(accepted_seqs(&decisions), fresh, "boot {}", boot);
            prop_assert_eq!(reason(&decisions), None);
            // A sink is done with some of it, sooner or later.
            let word = (delivered + count - stored).min(back);
            lane.confirmed(device, boot, Confirmed { handled: word, stored: word, ..Confirmed::default() });
            own.insert(boot, Own { delivered: delivered + count, stored: stored + word });
            let seen = ledger(&lane);
            let all: u64 = own.values().map(|own| own.delivered).sum();
            let stored: u64 = own.values().map(|own| own.stored).sum();
            prop_assert_eq!((seen.sampled, seen.stored, seen.unexplained()), (all, stored, 0));
            prop_assert_eq!(lane.totals(), (seen, true));
        }
    }

    #[test]
    fn whatever_outboxes_claim_no_sample_is_admitted_twice_and_a_write_off_closes_the_ledger(
        steps in prop::collection::vec((0..12_u32, 0..60_u64, 0..6_u64, 0..3_u64, 0..20_u32), 1..120),
    ) {
        let mut lane = lane();
        let mut admitted = std::collections::BTreeSet::new();
        let mut written = 0;
        for (boot, first, count, more, before) in steps {
            let mut sent = samples(boot, first..first + count).held_from(first.saturating_sub(more * 2));
            sent.header.next_seq = Some(first + count + more);
            if before < 12 && before != boot {
                (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(before), Some(first));
            }
            if more == 2 && first > 0 {
                sent.drops.push(Drop { seq: first / 2, count: 1, cause: DropCause::Full });
            }
            for seq in accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &sent)) {
                prop_assert!(admitted.insert((boot, seq)), "{} of boot {} twice", seq, boot);
            }
            let seen = ledger(&lane);
            prop_assert!(seen.unexplained() >= 0, "in two classes: {:?}", seen);
            prop_assert!(seen.outstanding >= admitted.len() as u64, "admitted, and nowhere: {:?}", seen);
            if before == 19 {
                written += u64::try_from(seen.unexplained()).unwrap();
                let open = u64::try_from(seen.unexplained()).unwrap();
                write_off(&mut lane, open);
                let closed = ledger(&lane);
                prop_assert_eq!(closed.unexplained(), 0);
                prop_assert!(closed.written_off <= written);
            }
        }
    }
}

#[test]
fn a_device_with_as_many_outboxes_as_are_remembered_takes_two_kibibytes_more() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 0..3));
    let plain = lane.state(device("gas-0")).unwrap().bytes();
    for boot in 0..1000 {
        send(&mut lane, NOW_MS, "gas-0", &samples(boot, 0..3));
    }
    let many = lane.state(device("gas-0")).unwrap().bytes();
    let most = 4 * 240 + FOLDED_BOOTS_MAX * 48 + 128;
    assert!(many - plain <= most, "{plain} and {many} bytes");
}

#[test]
fn an_arrival_from_a_backlog_is_judged_by_the_same_numbers() {
    let mut lane = watched();
    let topic = up("gas-0");
    let payload = Sent::new(1, SEQ_END - 4096).versioned("gas-0").bytes();
    for live in [true, false] {
        for alarm in [true, false] {
            let arrival = Arrival { lsn: 1, at_ms: NOW_MS, live, alarm };
            let mut decisions = Decisions::default();
            lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
            assert_eq!(reason(&decisions), Some("implausible_seq"));
        }
    }
}
