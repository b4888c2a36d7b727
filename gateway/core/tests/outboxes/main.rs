//! Invented outboxes and sequence numbers keep no device from delivering, double no sample, and raise an alert.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod plausible;
#[path = "../support/mod.rs"]
mod support;
mod write_offs;

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
