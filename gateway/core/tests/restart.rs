//! A restart changes no decision: snapshot, bytes, restore, and on, wherever the cut falls.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    event::{Confirmed, Decisions, Event, WriteOff},
    lane::{Lane, Policy},
    view::Snapshot,
};
use hunhe_proto::{
    reading::{Drop, DropCause},
    v1::AgentState,
};
use proptest::prelude::*;
use prost::Message as _;
use support::*;

#[derive(Debug, Clone)]
enum Step {
    Gas(u64, u64, i64),
    Flow(u64, u64, i64),
    Undecodable(u8),
    State(bool),
    Confirm(u64, u64),
    Redrive(u64),
    WriteOff(u64),
    Tick(i64),
    Published,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..60_u64, 1..9_u64, 0..3_i64).prop_map(|(seq, count, odd)| Step::Gas(seq, count, odd)),
        4 => (0..60_u64, 1..20_u64, 0..3_i64).prop_map(|(seq, count, odd)| Step::Flow(seq, count, odd)),
        1 => (0..40_u8).prop_map(Step::Undecodable),
        1 => any::<bool>().prop_map(Step::State),
        2 => (0..5_u64, 0..3_u64).prop_map(|(stored, quarantined)| Step::Confirm(stored, quarantined)),
        1 => (0..60_u64).prop_map(Step::Redrive),
        1 => (0..20_u64).prop_map(Step::WriteOff),
        1 => (0..300_i64).prop_map(Step::Tick),
        1 => Just(Step::Published),
    ];
    prop::collection::vec(step, 1..40)
}

fn gas(seq: u64, count: u64, odd: i64) -> Sent {
    let values: Vec<i64> = (seq..seq + count).map(|seq| i64::try_from(seq).unwrap() * 10 + odd * 5).collect();
    let boot = 1 + u32::try_from(seq / 10).unwrap();
    let mut sent = Sent::new(boot, seq).block(START_H + i64::try_from(seq).unwrap(), 1, &values);
    sent.header.prev_boot = (boot > 1).then_some(boot - 1);
    sent.header.prev_next_seq = (boot > 1).then_some(seq);
    sent.drops.push(Drop { seq: seq / 2, count: 1, cause: DropCause::Full });
    sent
}

/// Does a step; everything that can be seen of it comes back as text.
fn take(lane: &mut Lane, step: &Step) -> String {
    let now_ms = START_MS + 30 * DAY_MS;
    let mut decisions = Decisions::default();
    match step {
        Step::Gas(seq, count, odd) => decisions = send(lane, now_ms, "gas-0", &gas(*seq, *count, *odd)),
        Step::Flow(seq, count, odd) => {
            let values: Vec<i64> = (0..*count).map(|at| i64::try_from(at).unwrap() * 7 - odd * 40).collect();
            let t0 = START_MS / 1000 + i64::try_from(*seq).unwrap() * 60;
            decisions = send(lane, now_ms, "flow-0", &Sent::new(1, *seq).block(t0, 2, &values));
        }
        Step::Undecodable(byte) => decisions = message(lane, now_ms, &up("gas-0"), &[0x07, *byte]),
        Step::State(online) => {
            let payload =
                AgentState { online: *online, since_ms: 5, ..AgentState::default() }.encode_to_vec();
            decisions = message(lane, now_ms, b"hunhe/v1/agents/agent-gas/state", &payload);
        }
        Step::Confirm(stored, quarantined) => {
            let (stored, quarantined) = (*stored, *quarantined);
            lane.confirmed(
                device("gas-0"),
                1,
                Confirmed { handled: stored + quarantined, stored, quarantined, displaced: 0 },
            );
        }
        Step::Redrive(seq) => {
            decisions = redrive(lane, now_ms, "gas-0", &gas(*seq, 4, 0), &[(*seq, 2)]);
        }
        Step::WriteOff(samples) => {
            let (device, samples) = (id("gas-0"), *samples);
            let before = lane.audit().count();
            let word = WriteOff { lsn: 5, at_ms: now_ms, device, samples, before, reason: "gone", by: "lin" };
            lane.handle(Event::WriteOff(word), &mut decisions);
        }
        Step::Tick(hours) => decisions = tick(lane, START_MS + hours * HOUR_MS),
        Step::Published => {
            let touched = lane.take_touched_agents(|_| true);
            return format!("{touched:?}");
        }
    }
    format!("{decisions:?}")
}

fn seen(lane: &Lane) -> String {
    let registry = registry();
    let agent = registry.find_agent(id("agent-gas")).unwrap();
    let marks = lane.watermark(agent);
    let city = lane.city();
    let states: Vec<_> = lane.states().collect();
    format!(
        "{:?} {:?} {:?} {marks:?} {:?} {} {states:?}",
        lane.ledger(|_| true),
        lane.audit(),
        lane.counters(),
        city.online(agent),
        city.now_ms
    )
}

fn restarted(lane: &Lane) -> Lane {
    let bytes = postcard::to_allocvec(&lane.snapshot()).unwrap();
    let snapshot: Snapshot = postcard::from_bytes(&bytes).unwrap();
    let mut fresh = Lane::new(registry(), Policy { planted_drop: Some(25), ..Policy::default() });
    assert_eq!(fresh.restore(snapshot), 0);
    fresh
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_cut_anywhere_changes_no_decision(steps in steps(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let mut whole = Lane::new(registry(), Policy { planted_drop: Some(25), ..Policy::default() });
        let mut cut = restarted(&Lane::new(registry(), Policy::default()));
        let cuts: Vec<usize> = cuts.iter().map(|index| index.index(steps.len())).collect();
        for (at, step) in steps.iter().enumerate() {
            if cuts.contains(&at) {
                cut = restarted(&cut);
            }
            prop_assert_eq!(take(&mut whole, step), take(&mut cut, step));
            prop_assert_eq!(seen(&whole), seen(&cut));
        }
    }

    #[test]
    fn decisions_do_not_depend_on_what_sinks_have_said(steps in steps()) {
        let mut told = lane();
        let mut untold = lane();
        for step in steps.iter().filter(|step| !matches!(step, Step::Published)) {
            let seen = take(&mut told, step);
            if !matches!(step, Step::Confirm(..)) {
                prop_assert_eq!(seen, take(&mut untold, step));
            }
        }
    }
}

#[test]
fn a_device_that_left_the_registry_is_set_aside_and_a_changed_class_keeps_only_the_ledger() {
    let mut lane = lane();
    send(&mut lane, START_MS + DAY_MS, "gas-0", &Sent::new(1, 0).block(START_H, 1, &[10, 20]));
    send(&mut lane, START_MS + DAY_MS, "flow-0", &Sent::new(1, 0).block(START_MS / 1000, 1, &[10, 20]));
    let newer = GAS.replace("version = 3", "version = 4");
    let mut next = Lane::new(registry_of(&[FLOW, &newer]), Policy::default());
    assert_eq!(next.restore(lane.snapshot()), 0);
    assert_eq!(next.ledger(|_| true), lane.ledger(|_| true));
    let state = next.state(device("gas-0")).unwrap();
    assert!(
        !state.windows.has_unshown()
            && state.last.iter().all(|&value| value == hunhe_gateway_core::event::ABSENT)
    );
    let same = next.state(device("flow-0")).unwrap();
    assert!(same.windows.has_unshown() && same.last[0] == 20, "its class moved in the list and is the same");
    let mut empty = Lane::new(std::sync::Arc::default(), Policy::default());
    assert_eq!(empty.restore(lane.snapshot()), 2);
}

#[test]
fn a_device_that_comes_back_to_the_registry_finds_its_ledger_as_it_was() {
    let mut lane = lane();
    let sent = Sent::new(1, 0).block(START_H, 1, &[10, 20, 30]);
    send(&mut lane, START_MS + DAY_MS, "gas-0", &sent);
    let before = lane.ledger(|_| true);
    assert_eq!(before.0.outstanding, 3);
    // Without it, a sink goes on with what was decided; and a second start without it changes nothing.
    let mut without = Lane::new(std::sync::Arc::default(), Policy::default());
    assert_eq!(without.restore(lane.snapshot()), 1);
    assert_eq!(without.ledger(|_| true).0, hunhe_gateway_core::device::ledger::Totals::default());
    let some = Confirmed { handled: 2, stored: 2, ..Confirmed::default() };
    without.confirmed_of(id("gas-0"), 1, some);
    let bytes = postcard::to_allocvec(&without.snapshot()).unwrap();
    let mut without = Lane::new(std::sync::Arc::default(), Policy::default());
    assert_eq!(without.restore(postcard::from_bytes(&bytes).unwrap()), 1);
    let rest = Confirmed { handled: 1, quarantined: 1, ..Confirmed::default() };
    without.confirmed_of(id("gas-0"), 1, rest);
    without.discarded_of(id("gas-0"), 1, 1);

    let mut back = Lane::new(registry(), Policy::default());
    assert_eq!(back.restore(without.snapshot()), 0);
    let totals = back.ledger(|_| true).0;
    assert_eq!((totals.sampled, totals.stored, totals.outstanding, totals.unexplained()), (3, 2, 0, 0));
    // What came before it left is known; what comes now is not.
    send(&mut back, START_MS + DAY_MS, "gas-0", &sent);
    assert_eq!(
        back.ledger(|_| true).0,
        hunhe_gateway_core::device::ledger::Totals { duplicates: 3, ..totals }
    );
    send(&mut back, START_MS + 2 * DAY_MS, "gas-0", &Sent::new(1, 3).block(START_H + 3, 1, &[40]));
    let totals = back.ledger(|_| true).0;
    assert_eq!((totals.sampled, totals.outstanding, totals.unexplained()), (4, 1, 0));
}
