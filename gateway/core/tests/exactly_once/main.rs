//! Each sample is admitted exactly once, and the ledger says where each one is, against a model that keeps every
//! sample by name.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod redrive;
#[path = "../support/mod.rs"]
mod support;

use hunhe_gateway_core::{
    device::ledger::Totals,
    event::{Confirmed, Decisions},
    lane::{Lane, Policy},
    registry::DeviceIx,
};
use hunhe_proto::reading::{Drop, DropCause, Header};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

const NOW_MS: i64 = START_MS + 400 * DAY_MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Refused,
    Stored,
    Quarantined,
}

/// An edge that tells the truth: one outbox, and what it knows of it.
#[derive(Debug, Default)]
struct Edge {
    boot: u32,
    next: u64,
    held: BTreeSet<u64>,
    /// Dropped, and not yet below the watermark.
    dropped: BTreeSet<u64>,
    before: Option<(u32, u64)>,
}

impl Edge {
    fn held_from(&self) -> u64 {
        self.held.first().copied().unwrap_or(self.next)
    }

    fn report(&self, from: u64, length: u64) -> Option<Sent> {
        let nth = usize::try_from(from % (self.held.len() as u64).max(1)).unwrap();
        let seq = self.held.iter().copied().nth(nth).unwrap_or(self.next);
        let run: Vec<u64> = (seq..seq + length % 9).take_while(|seq| self.held.contains(seq)).collect();
        let values: Vec<i64> = run.iter().map(|&seq| value(seq)).collect();
        let (mut drops, mut rest) = (Vec::<Drop>::new(), self.dropped.iter().copied().peekable());
        while let Some(seq) = rest.next() {
            let mut count = 1;
            while rest.next_if_eq(&(seq + count)).is_some() {
                count += 1;
            }
            drops.push(Drop { seq, count, cause: DropCause::Full });
        }
        if drops.len() > 60 {
            return None;
        }
        let held_from = self.held_from();
        let header = Header {
            boot: self.boot,
            seq,
            held_from: (held_from != seq).then_some(held_from),
            next_seq: Some(self.next),
            prev_boot: self.before.map(|(boot, _)| boot),
            prev_next_seq: self.before.map(|(_, next)| next),
            ..Header::default()
        };
        let t0 = START_H + i64::from(self.boot) * 1000 + i64::try_from(seq).unwrap();
        let sent = Sent { header, drops, blocks: vec![] };
        Some(if values.is_empty() { sent } else { sent.block(t0, 1, &values) })
    }
}

/// Every seventh sample is impossible.
fn value(seq: u64) -> i64 {
    if seq % 7 == 3 { -10 } else { i64::try_from(seq).unwrap() * 10 }
}

/// What the gateway was told of an outbox.
#[derive(Debug, Default, Clone)]
struct Told {
    next: u64,
    held_from: u64,
    lost: BTreeSet<u64>,
    fates: BTreeMap<u64, Fate>,
    duplicates: u64,
}

#[derive(Debug, Default)]
struct Model {
    told: BTreeMap<u32, Told>,
}

impl Model {
    fn delivered(&mut self, sent: &Sent, decisions: &Decisions) {
        let header = sent.header;
        if let Some(boot) = header.prev_boot {
            let next = header.prev_next_seq.unwrap();
            if next > 0 || self.told.contains_key(&boot) {
                let told = self.told.entry(boot).or_default();
                told.next = told.next.max(next);
                told.held_from = told.next;
                told.lost.extend(0..told.next);
            }
        }
        let told = self.told.entry(header.boot).or_default();
        told.next = told.next.max(header.next_seq.unwrap());
        told.held_from = told.held_from.max(header.held_from.unwrap_or(header.seq));
        sent.drops.iter().for_each(|drop| told.lost.extend(drop.seq..drop.seq + drop.count));
        let refused: BTreeSet<u64> =
            decisions.refused.iter().flat_map(|range| range.seq..range.seq + range.count).collect();
        let mut decided: BTreeSet<u64> = accepted_seqs(decisions).into_iter().collect();
        assert!(decided.is_disjoint(&refused));
        decided.extend(&refused);
        let samples = sent.blocks.first().map_or(0, |block| block.columns[0].1.len() as u64);
        for seq in header.seq..header.seq + samples {
            let fate = if value(seq) < 0 { Fate::Refused } else { Fate::Accepted };
            let admitted = decided.remove(&seq);
            if let Some(before) = told.fates.get(&seq) {
                assert!(!admitted, "{seq} was admitted twice, first {before:?}");
                told.duplicates += 1;
                continue;
            }
            assert!(admitted, "{seq} was not admitted");
            assert_eq!(refused.contains(&seq), fate == Fate::Refused);
            told.fates.insert(seq, fate);
        }
        assert!(decided.is_empty(), "invented: {decided:?}");
    }

    fn totals(&self) -> (Totals, i64) {
        let (mut totals, mut unexplained) = (Totals::default(), 0);
        for told in self.told.values() {
            let lost_end = told.lost.last().map_or(0, |last| last + 1);
            let sampled = told.next.max(lost_end);
            totals.sampled += sampled;
            totals.duplicates += told.duplicates;
            for seq in 0..sampled {
                match told.fates.get(&seq) {
                    Some(Fate::Stored) => totals.stored += 1,
                    Some(Fate::Quarantined) => totals.quarantined += 1,
                    Some(Fate::Accepted | Fate::Refused) => totals.outstanding += 1,
                    None if told.lost.contains(&seq) => totals.declared_lost += 1,
                    None if seq >= told.held_from => totals.outstanding += 1,
                    None => unexplained += 1,
                }
            }
        }
        (totals, unexplained)
    }

    /// Gaps that the gateway should ask for.
    fn missing(&self, boot: u32) -> Vec<(u64, u64)> {
        let told = &self.told[&boot];
        let end = told.fates.last_key_value().map_or(0, |(seq, _)| seq + 1);
        let is_missing = |seq: &u64| !told.fates.contains_key(seq) && !told.lost.contains(seq);
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        for seq in (told.held_from..end).filter(is_missing) {
            match gaps.last_mut() {
                Some((start, count)) if *start + *count == seq => *count += 1,
                _ => gaps.push((seq, 1)),
            }
        }
        gaps.truncate(8);
        gaps
    }
}

struct World {
    lane: Lane,
    device: DeviceIx,
    edge: Edge,
    network: Vec<Sent>,
    model: Model,
}

impl World {
    fn new() -> Self {
        Self {
            lane: lane(),
            device: device("gas-0"),
            edge: Edge { boot: 1, ..Edge::default() },
            network: Vec::new(),
            model: Model::default(),
        }
    }

    fn step(&mut self, (kind, first, second): (u8, u64, u64)) {
        match kind {
            0 | 1 => {
                let (from, count) = (self.edge.next, 1 + first % 6);
                self.edge.next += count;
                self.edge.held.extend(from..from + count);
            }
            2 | 3 => self.network.extend(self.edge.report(first, second)),
            4..=6 if !self.network.is_empty() => {
                let at = usize::try_from(first).unwrap() % self.network.len();
                let sent =
                    if second % 3 == 0 { self.network[at].clone() } else { self.network.swap_remove(at) };
                let decisions = send(&mut self.lane, NOW_MS, "gas-0", &sent);
                self.model.delivered(&sent, &decisions);
            }
            7 => {
                // The outbox is full: its oldest go. Or one in the middle was named undecodable.
                let at = usize::try_from(first).unwrap() % self.edge.held.len().max(1);
                let at = if second % 2 == 0 { 0 } else { at };
                let victims: Vec<u64> = self.edge.held.iter().copied().skip(at).take(1 + at % 2).collect();
                for seq in victims {
                    self.edge.held.remove(&seq);
                    self.edge.dropped.insert(seq);
                }
            }
            8 => self.read_watermark(),
            9 if self.edge.boot < 4 && first % 2 == 0 => {
                let before = (self.edge.boot, self.edge.next);
                self.edge = Edge { boot: self.edge.boot + 1, before: Some(before), ..Edge::default() };
            }
            10..=12 => self.confirm(first, second),
            _ => {}
        }
        self.check();
    }

    fn watermarks(&self) -> Vec<hunhe_proto::v1::BootDurable> {
        let agent = registry().find_agent(id("agent-gas")).unwrap();
        self.lane.watermark(agent).devices.into_iter().flat_map(|device| device.boots).collect()
    }

    fn read_watermark(&mut self) {
        for mark in self.watermarks().iter().filter(|mark| mark.boot == self.edge.boot) {
            self.edge.held = self.edge.held.split_off(&mark.through);
            self.edge.dropped = self.edge.dropped.split_off(&mark.through);
        }
    }

    /// A sink did some of one outbox, in any order.
    fn confirm(&mut self, first: u64, second: u64) {
        let boots: Vec<u32> = self.model.told.keys().copied().collect();
        let Some(&boot) = boots.get(usize::try_from(first).unwrap() % boots.len().max(1)) else { return };
        let told = self.model.told.get_mut(&boot).unwrap();
        let mut word = Confirmed::default();
        for fate in told.fates.values_mut().skip(usize::try_from(second % 5).unwrap()).step_by(2) {
            // The store may refuse what the lane accepted, as in a conflict.
            let (becomes, count) = match fate {
                Fate::Accepted if !second.is_multiple_of(4) => (Fate::Stored, &mut word.stored),
                Fate::Accepted | Fate::Refused => (Fate::Quarantined, &mut word.quarantined),
                Fate::Stored | Fate::Quarantined => continue,
            };
            (*fate, *count, word.handled) = (becomes, *count + 1, word.handled + 1);
        }
        if word.stored > word.quarantined {
            self.lane.balance(|_, _, _| ());
        }
        self.lane.confirmed(self.device, boot, word);
    }

    fn check(&self) {
        let (totals, unexplained) = self.model.totals();
        let (ledger, _) = self.lane.ledger(|_| true);
        let closes = self.lane.states().all(|(_, state)| state.outboxes.totals().unexplained() == 0);
        assert_eq!(self.lane.totals(), (ledger, closes), "kept up by difference");
        assert_eq!(ledger, totals);
        assert_eq!(unexplained, 0, "the model's edge tells the truth");
        assert_eq!(ledger.unexplained(), 0);
        for mark in self.watermarks() {
            let told = &self.model.told[&mark.boot];
            if mark.boot == self.edge.boot {
                let early = self.edge.held.range(..mark.through).find(|seq| !told.fates.contains_key(seq));
                assert_eq!(early, None, "the watermark passed a sample that is only at the edge");
            }
            let missing: Vec<_> = mark.missing.iter().map(|gap| (gap.start, gap.count)).collect();
            assert_eq!(missing, self.model.missing(mark.boot));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_sample_is_admitted_once_and_the_ledger_closes_at_every_step(
        steps in prop::collection::vec((0..13_u8, 0..1000_u64, 0..1000_u64), 1..150),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        // Calm: the edge sends all it holds, sinks catch up, and nothing is left on its way.
        while let Some(first) = world.edge.held.first().copied() {
            let sent = world.edge.report(0, 8).expect("few drops");
            assert_eq!(sent.header.seq, first);
            let decisions = send(&mut world.lane, NOW_MS, "gas-0", &sent);
            world.model.delivered(&sent, &decisions);
            world.read_watermark();
            world.check();
        }
        for turn in 0..20 {
            world.step((10, turn / 4, turn % 2 + 1));
            world.step((10, turn / 4, 1));
            world.step((10, turn / 4, 5));
        }
    }
}

fn samples(boot: u32, seqs: std::ops::Range<u64>, held_from: u64) -> Sent {
    let t0 = START_H + i64::from(boot) * 50 + i64::try_from(seqs.start).unwrap();
    let values: Vec<i64> = seqs.clone().map(|seq| i64::try_from(seq).unwrap() * 10).collect();
    Sent::new(boot, seqs.start).held_from(held_from).block(t0, 1, &values)
}

fn ledger(lane: &Lane) -> Totals {
    lane.ledger(|_| true).0
}

#[test]
fn a_thousand_scattered_losses_never_silence_a_device() {
    let mut lane = lane();
    for turn in 0..1000 {
        let mut sent = samples(1, 2 * turn + 1..2 * turn + 2, 2 * turn + 1);
        sent.drops.push(Drop { seq: 2 * turn, count: 1, cause: DropCause::Full });
        assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &sent)), [2 * turn + 1]);
    }
    let seen = ledger(&lane);
    assert_eq!(
        (seen.sampled, seen.declared_lost, seen.outstanding, seen.unexplained()),
        (2000, 1000, 1000, 0)
    );
    // All of it again is a duplicate, closed gaps included.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 1..2, 1));
    assert_eq!(ledger(&lane), Totals { duplicates: 1, ..seen });
}

#[test]
fn gaps_that_nobody_explains_stay_unexplained_and_never_silence_a_device() {
    let mut lane = lane();
    for turn in 0..1000 {
        let sent = samples(1, 2 * turn + 1..2 * turn + 2, 2 * turn + 1);
        assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &sent)).len(), 1);
    }
    assert_eq!(ledger(&lane).unexplained(), 1000);
}

#[test]
fn a_report_overtaken_by_a_newer_one_takes_nothing_back() {
    let mut lane = lane();
    let mut newer = samples(1, 5..7, 5);
    newer.header.next_seq = Some(9);
    send(&mut lane, NOW_MS, "gas-0", &newer);
    assert_eq!((ledger(&lane).sampled, ledger(&lane).outstanding, ledger(&lane).unexplained()), (9, 4, 5));
    // Its counters are lower, and were true once. The edge no longer holds what it does not bring.
    assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &samples(1, 0..1, 0))), [0]);
    assert_eq!((ledger(&lane).sampled, ledger(&lane).outstanding, ledger(&lane).unexplained()), (9, 5, 4));
}

#[test]
fn at_sixty_four_held_gaps_reports_wait_at_the_edge_until_gaps_close() {
    let mut lane = lane();
    for turn in 0..64 {
        send(&mut lane, NOW_MS, "gas-0", &samples(1, 2 * turn + 1..2 * turn + 2, 0));
    }
    let far = samples(1, 200..202, 0);
    let refused = send(&mut lane, NOW_MS, "gas-0", &far);
    assert_eq!(refused.refusal.map(|refusal| refusal.reason.name()), Some("dedup_window"));
    assert_eq!((refused.accepted.sets.len(), refused.refused.len()), (0, 0));
    assert_eq!((ledger(&lane).outstanding, ledger(&lane).unexplained()), (202, 0), "still the edge's");
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let mark = lane.watermark(agent).devices[0].boots[0].clone();
    assert_eq!((mark.through, mark.missing.len(), mark.missing[0].start), (0, 8, 0));
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 0..1, 0));
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 2..3, 0));
    assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &far)), [200, 201]);
    assert_eq!(ledger(&lane).unexplained(), 0);
}

#[test]
fn a_device_may_reboot_for_ever_and_a_late_word_of_a_sink_still_counts() {
    let mut lane = lane();
    let device = device("gas-0");
    for boot in 1..=100 {
        let mut sent = samples(boot, 0..10, 0);
        sent.header.next_seq = Some(12);
        (sent.header.prev_boot, sent.header.prev_next_seq) =
            if boot > 1 { (Some(boot - 1), Some(12)) } else { (None, None) };
        assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &sent)).len(), 10, "boot {boot}");
        assert_eq!(ledger(&lane).unexplained(), 0);
    }
    let seen = ledger(&lane);
    assert_eq!((seen.sampled, seen.declared_lost, seen.outstanding), (1200, 198, 1002));
    for boot in 1..=100 {
        lane.confirmed(device, boot, Confirmed { handled: 10, stored: 10, quarantined: 0, displaced: 0 });
    }
    let seen = ledger(&lane);
    assert_eq!((seen.stored, seen.outstanding, seen.unexplained()), (1000, 2, 0));
    // What still comes from an outbox that gave way is taken, never doubled, and no longer lost.
    let late = send(&mut lane, NOW_MS, "gas-0", &samples(90, 0..12, 0));
    assert_eq!(accepted_seqs(&late), [10, 11]);
    let after = ledger(&lane);
    assert_eq!((after.declared_lost, after.outstanding, after.unexplained()), (196, 4, 0));
}

#[test]
fn an_outbox_nobody_heard_of_is_lost_when_the_next_one_names_it() {
    let mut lane = lane();
    let mut sent = samples(2, 0..3, 0);
    (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(1), Some(5));
    send(&mut lane, NOW_MS, "gas-0", &sent);
    send(&mut lane, NOW_MS, "gas-0", &sent);
    assert_eq!((ledger(&lane).sampled, ledger(&lane).declared_lost), (8, 5));
    // Overtaken on the way, not lost after all.
    assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &samples(1, 1..4, 0))), [1, 2, 3]);
    assert_eq!((ledger(&lane).declared_lost, ledger(&lane).outstanding), (2, 6));
    assert_eq!(ledger(&lane).unexplained(), 0);
}

#[test]
fn a_planted_drop_makes_exactly_one_unexplained() {
    for nth in 1..=6 {
        let policy = Policy { planted_drop: Some(nth), ..Policy::default() };
        let mut lane = Lane::new(registry(), policy);
        let mut announced = 0;
        for seq in [0, 3, 6] {
            let decisions = send(&mut lane, NOW_MS, "gas-0", &samples(1, seq..seq + 3, seq));
            announced += accepted_seqs(&decisions).len() as u64;
        }
        lane.confirmed(
            device("gas-0"),
            1,
            Confirmed { handled: announced, stored: announced, quarantined: 0, displaced: 0 },
        );
        assert_eq!(
            (announced, ledger(&lane).unexplained(), ledger(&lane).outstanding),
            (8, 1, 0),
            "nth {nth}"
        );
    }
}
