//! What has been received of each outbox: deduplication by (device, boot, seq), and the numbers the ledger needs.
//!
//! Invariants: a sequence number is admitted once, whatever the order and number of deliveries; what is admitted, lost
//! or refused follows from the reports alone, never from what sinks have confirmed, so that a replay decides alike;
//! sinks' words may come in any order and pieces; no number of invented outboxes keeps a device's own from delivering.
//!
//! **Giving way.** Where another outbox needs the place, the first of these folds into totals: one that a successor named
//! and of which all was received, the longest silent first; else an unconfirmed one, the shortest in use first; else the
//! longest silent. An outbox is confirmed when reports of it came over an hour, or when it was the first to name such a one
//! as its predecessor, until that one speaks again: whoever invents outboxes displaces his own. One that gave way comes back
//! with its next report: what was received of it counts as received again, its gaps stay closed, and what follows is admitted.
//!
//! **Succession** is the successor's word alone. What the one before it never delivered is declared lost, and is taken all
//! the same when it comes: no watermark passes it for that word. One that samples on after it is an alert.
//!
//! **Plausible numbers.** A report counts only where each number that it names can have been sampled: from the newest
//! received sample of the outbox on, or from the earliest acceptable time where there is none, at twice the pace of the
//! class's densest interval, and [`MARGIN`] more ([`Outboxes::is_plausible`]). The sender dates that sample, and begins as
//! many outboxes as he likes. So what all of them together name and never bring is bounded, too, by what can have been
//! sampled since the earliest acceptable time. Beyond it a report counts only where it names no more than its outbox can have
//! sampled since it last reported, so that nobody's claims lock a device out. What an operator writes off makes room.
//!
//! Bounds, and what happens there:
//! - [`OUTBOXES_MAX`] outboxes a device: see above; what one that gives way still missed becomes unexplained, and the
//!   caller gets its count ([`Admitted::folded_missing`]).
//! - `RANGES_MAX` ranges of an outbox. There the oldest gap that is lost, else the oldest that the edge no longer holds,
//!   is closed for good. Where the edge holds every gap, the report is refused (`dedup_window`) and stays at the edge,
//!   which sends it again once what the watermark calls missing has come.
//! - [`FOLDED_BOOTS_MAX`] outboxes that gave way can come back; others would be taken for new. A device that ever had
//!   so many takes 1.7 KiB more, one that never had more than [`OUTBOXES_MAX`] none.

mod folded;
mod outbox;

use crate::{
    device::{
        ledger::{Tally, Totals},
        ranges::TooScattered,
        validate::EARLIEST_MS,
    },
    event::Confirmed,
};
use alloc::{boxed::Box, vec::Vec};
use core::{num::NonZeroU32, ops::Range};
use folded::{Folded, FoldedBoot};
use hunhe_proto::reading::Report;
use outbox::{InUse, Outbox, seconds};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use folded::FOLDED_BOOTS_MAX;

/// The most outboxes remembered for a device.
pub const OUTBOXES_MAX: usize = 4;
/// The most gaps named in a watermark.
pub const MISSING_MAX: usize = 8;
/// Samples beyond what the clock allows: clocks are set, and a report is as long as this at most.
pub const MARGIN: u64 = 4_096;
/// New outboxes are counted over so much time, in seconds.
pub const NEW_WITHIN_S: u32 = 3_600;

/// The outboxes of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outboxes {
    /// By age of first contact, or of coming back. Nearly every device has one.
    list: SmallVec<[Outbox; 1]>,
    /// Samples admitted, ever.
    received: u64,
    rare: Option<Box<Rare>>,
}

/// What is asked of an outbox before a report is taken.
struct Past {
    /// One past the newest that was received.
    received_end: u64,
    newest_ms: i64,
    next_seq: u64,
    /// Nobody heard of it: none.
    in_use: Option<InUse>,
    superseded: bool,
}

/// What few devices have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rare {
    folded: Folded,
    /// Unexplained samples that an operator declared lost, less those that were explained after all.
    written_off: u64,
}

impl Past {
    const NONE: Self =
        Self { received_end: 0, newest_ms: i64::MIN, next_seq: 0, in_use: None, superseded: false };

    fn can_have(&self, next_seq: u64, pace: Pace) -> bool {
        let most = || self.received_end.saturating_add(pace.samples_since(self.newest_ms));
        next_seq <= self.next_seq || next_seq <= most()
    }

    /// What it can have sampled since its last report.
    fn sampled_since(&self, pace: Pace) -> u64 {
        self.in_use.map_or(0, |in_use| pace.sampled_since(i64::from(in_use.last_s) * 1000))
    }
}

/// How fast a device can sample, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The gateway's clock, milliseconds since 1970.
    pub now_ms: i64,
    /// No sample is older, milliseconds since 1970.
    pub earliest_ms: i64,
    /// The class's densest interval, in milliseconds.
    pub interval_ms: i64,
}

impl Pace {
    /// The most samples that can have been taken since then, and a report more.
    fn samples_since(self, since_ms: i64) -> u64 {
        self.sampled_since(since_ms).saturating_add(MARGIN)
    }

    /// The most samples that can have been taken since then.
    fn sampled_since(self, since_ms: i64) -> u64 {
        // A gateway whose clock was never set cannot tell.
        if self.now_ms < EARLIEST_MS {
            return u64::MAX;
        }
        let elapsed_ms = self.now_ms.saturating_sub(since_ms.max(self.earliest_ms)).max(0).unsigned_abs();
        (elapsed_ms / self.interval_ms.max(1).unsigned_abs()).saturating_mul(2)
    }
}

/// What a report did beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admitted {
    /// An outbox was heard of for the first time, or again after it gave way.
    pub new: bool,
    /// Samples that the edge still held of outboxes that gave way; and of one that samples on though another named it its
    /// predecessor, at least one.
    pub folded_missing: u64,
}

/// What the edge may forget of an outbox, and should send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Which outbox.
    pub boot: u32,
    /// Every sample below is durable or given up.
    pub through: u64,
    /// Held by the edge and not received.
    pub missing: Vec<Range<u64>>,
}

impl Outboxes {
    /// Can each number that the report names have been sampled?
    #[must_use]
    pub fn is_plausible(&self, report: &Report, pace: Pace) -> bool {
        let header = &report.header;
        let dropped = report.drops.iter().map(|drop| drop.seq.saturating_add(drop.count)).max();
        let next_seq = report.next_seq().max(dropped.unwrap_or(0));
        let own = self.past(header.boot);
        let before = header.prev_boot.filter(|&boot| boot != header.boot);
        let before = before.map(|boot| (self.past(boot), header.prev_next_seq.unwrap_or(0)));
        own.can_have(next_seq, pace)
            && before.as_ref().is_none_or(|(past, next_seq)| past.can_have(*next_seq, pace))
            && self.is_within_reach(report, (&own, next_seq), before.as_ref(), pace)
    }

    /// Is what all outboxes name and never brought within what can have been sampled, or what is new of it within what can
    /// have been since the last report?
    fn is_within_reach(
        &self,
        report: &Report,
        (own, next_seq): (&Past, u64),
        before: Option<&(Past, u64)>,
        pace: Pace,
    ) -> bool {
        let brought = self.fresh_of(report.header.boot, report.header.seq..report.end_seq());
        let named = next_seq.saturating_sub(own.next_seq).saturating_sub(brought);
        let named_before = before.map_or(0, |(past, next_seq)| next_seq.saturating_sub(past.next_seq));
        let sum = self.never_received().saturating_add(named).saturating_add(named_before);
        if sum <= pace.samples_since(i64::MIN) {
            return true;
        }
        // A successor begins where the one before it was heard last, once.
        let succeeded = before.map(|(past, _)| past).filter(|past| own.in_use.is_none() && !past.superseded);
        let named_max = own.sampled_since(pace).max(succeeded.map_or(0, |past| past.sampled_since(pace)));
        named <= named_max && before.is_none_or(|(past, _)| named_before <= past.sampled_since(pace))
    }

    fn past(&self, boot: u32) -> Past {
        if let Some(outbox) = self.list.iter().find(|outbox| outbox.boot == boot) {
            return outbox.past();
        }
        self.folded().and_then(|folded| folded.find(boot)).map_or(Past::NONE, FoldedBoot::past)
    }

    /// May the outbox that names this one take over its confirmation? A flood of successors, each naming the one before it,
    /// would else count as in use.
    fn vouches(&self, boot: u32) -> bool {
        let past = self.past(boot);
        !past.superseded && past.in_use.is_some_and(InUse::is_long)
    }

    /// How many of these were never received.
    fn fresh_of(&self, boot: u32, samples: Range<u64>) -> u64 {
        if let Some(outbox) = self.list.iter().find(|outbox| outbox.boot == boot) {
            return (samples.end - samples.start).saturating_sub(outbox.known.count_in(samples));
        }
        let end = self.folded().and_then(|folded| folded.find(boot)).map_or(0, |folded| folded.end);
        samples.end.saturating_sub(samples.start.max(end))
    }

    /// Numbers that were named and never came: lost, unexplained, or still at the edge.
    fn never_received(&self) -> u64 {
        let listed = self.list.iter().map(|outbox| outbox.next_seq).fold(0, u64::saturating_add);
        let Some(rare) = &self.rare else { return listed.saturating_sub(self.received) };
        let named = listed.saturating_add(rare.folded.sampled);
        named.saturating_sub(self.received).saturating_sub(rare.written_off)
    }

    /// Notes a report's counters and drops, and calls `fresh` for each part of its samples that was never received.
    ///
    /// # Errors
    /// [`TooScattered`] where the bounds leave no room; no sample has been admitted then, and what `fresh` was told is
    /// void.
    pub fn admit(
        &mut self,
        report: &Report,
        now_ms: i64,
        mut fresh: impl FnMut(Range<u64>),
    ) -> Result<Admitted, TooScattered> {
        let header = &report.header;
        let mut admitted = Admitted::default();
        let mut explained = 0;
        let before = header.prev_boot.filter(|&boot| boot != header.boot);
        let is_vouched_for = before.is_some_and(|boot| self.vouches(boot));
        if let Some(boot) = before {
            let next_seq = header.prev_next_seq.unwrap_or(0);
            explained += self.give_up(boot, next_seq, now_ms, &mut admitted);
        }
        if self.past(header.boot).superseded {
            // Whatever named itself its successor is none.
            self.list.iter_mut().for_each(|outbox| outbox.vouched_for = false);
            let folded = self.rare.iter_mut().flat_map(|rare| &mut rare.folded.boots);
            folded.for_each(|folded| folded.vouched_for = false);
        }
        let outbox = self.find_or_add(header.boot, now_ms, &mut admitted);
        outbox.vouched_for |= is_vouched_for && outbox.next_seq == 0;
        if outbox.superseded && report.next_seq() > outbox.next_seq {
            // It samples on: it is no delivery that was overtaken.
            admitted.folded_missing += outbox.not_received().max(1);
        }
        let mut received = 0;
        let outcome = outbox.report(report, now_ms, &mut explained, |range: Range<u64>| {
            received += range.end - range.start;
            fresh(range);
        });
        if outcome.is_ok() {
            self.received = self.received.saturating_add(received);
        }
        if let Some(rare) = &mut self.rare {
            rare.written_off = rare.written_off.saturating_sub(explained);
        }
        outcome.map(|()| admitted)
    }

    /// The class version that the reports of an outbox follow, where one of them said it.
    #[must_use]
    pub fn class_version(&self, boot: u32) -> Option<u32> {
        let known = self.list.iter().find(|outbox| outbox.boot == boot).map(|outbox| outbox.class_version);
        let folded = || Some(self.folded()?.find(boot)?.class_version);
        known.or_else(folded).flatten().map(NonZeroU32::get)
    }

    /// A new outbox names an older one: what that one sampled and never delivered is lost.
    fn give_up(&mut self, boot: u32, next_seq: u64, now_ms: i64, admitted: &mut Admitted) -> u64 {
        if let Some(rare) = self.rare.as_mut().filter(|rare| rare.folded.find(boot).is_some()) {
            rare.folded.give_up(boot, next_seq);
            return 0;
        }
        if next_seq == 0 && !self.is_known(boot) {
            return 0;
        }
        self.find_or_add(boot, now_ms, admitted).give_up(next_seq)
    }

    fn is_known(&self, boot: u32) -> bool {
        self.list.iter().any(|outbox| outbox.boot == boot)
            || self.folded().is_some_and(|folded| folded.find(boot).is_some())
    }

    fn folded(&self) -> Option<&Folded> {
        self.rare.as_ref().map(|rare| &rare.folded)
    }

    fn find_or_add(&mut self, boot: u32, now_ms: i64, admitted: &mut Admitted) -> &mut Outbox {
        let at = match self.list.iter().position(|outbox| outbox.boot == boot) {
            Some(at) => at,
            None => {
                admitted.new = true;
                let back = self.rare.as_mut().and_then(|rare| rare.folded.take(boot));
                if self.list.len() == OUTBOXES_MAX {
                    admitted.folded_missing += self.fold();
                }
                self.list.push(back.unwrap_or_else(|| Outbox::new(boot, seconds(now_ms))));
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    /// One gives way. Answers how many samples the edge still held of it.
    fn fold(&mut self) -> u64 {
        let rank = |(_, outbox): &(usize, &Outbox)| match (
            outbox.superseded && outbox.not_received() == 0,
            outbox.is_confirmed(),
        ) {
            (true, _) => (0, outbox.in_use.last_s),
            (false, false) => (1, outbox.in_use.span_s()),
            (false, true) => (2, outbox.in_use.last_s),
        };
        let at = self.list.iter().enumerate().min_by_key(rank).map_or(0, |(at, _)| at);
        let outbox = self.list.remove(at);
        self.rare.get_or_insert_default().folded.add(&outbox);
        outbox.missing()
    }

    /// Outboxes that were heard of for the first time within [`NEW_WITHIN_S`], as far as they are remembered.
    #[must_use]
    pub fn new_lately(&self, now_ms: i64) -> u32 {
        let now_s = seconds(now_ms);
        let folded = self.folded().into_iter().flat_map(|folded| &folded.boots);
        let firsts = self.list.iter().map(|outbox| outbox.in_use.first_s);
        let lately = firsts
            .chain(folded.map(|folded| folded.in_use.first_s))
            .filter(|first_s| now_s.saturating_sub(*first_s) < NEW_WITHIN_S);
        u32::try_from(lately.count()).unwrap_or(u32::MAX)
    }

    /// The counters of an outbox, or of all that were folded.
    fn tally(&mut self, boot: u32) -> Option<&mut Tally> {
        match self.list.iter_mut().find(|outbox| outbox.boot == boot) {
            Some(outbox) => Some(&mut outbox.tally),
            None => self.rare.as_mut().map(|rare| &mut rare.folded.tally),
        }
    }

    /// Notes that `samples` were decided and now wait for a sink.
    pub fn decided(&mut self, boot: u32, samples: u64) {
        if let Some(tally) = self.tally(boot) {
            tally.decided(samples);
        }
    }

    /// Notes that quarantined samples were decided anew and now wait for a sink.
    pub fn redriven(&mut self, boot: u32, samples: u64) {
        if let Some(tally) = self.tally(boot) {
            tally.redriven(samples);
        }
    }

    /// Notes what a sink did.
    pub fn confirmed(&mut self, boot: u32, confirmed: Confirmed) {
        if let Some(tally) = self.tally(boot) {
            tally.confirmed(confirmed);
        }
    }

    /// Notes that quarantined samples were discarded.
    pub fn discarded(&mut self, boot: u32, samples: u64) {
        if let Some(tally) = self.tally(boot) {
            tally.discarded(samples);
        }
    }

    /// An operator declares so many unexplained samples lost.
    pub fn write_off(&mut self, samples: u64) {
        let rare = self.rare.get_or_insert_default();
        rare.written_off = rare.written_off.saturating_add(samples);
    }

    /// The ledger of the device. Counted over all outboxes at once: what was decided of one may be confirmed after it
    /// gave way, or came back.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut tally = Tally::default();
        let (mut sampled, mut lost, mut missing) = (0_u64, 0_u64, 0_u64);
        for outbox in &self.list {
            tally.add(&outbox.tally);
            sampled = sampled.saturating_add(outbox.next_seq);
            lost = lost.saturating_add(outbox.lost_count());
            missing = missing.saturating_add(outbox.missing());
        }
        let Some(rare) = &self.rare else { return tally.totals(sampled, lost, missing) };
        tally.add(&rare.folded.tally);
        let sampled = sampled.saturating_add(rare.folded.sampled);
        let lost = lost.saturating_add(rare.folded.lost);
        tally.totals(sampled, lost, missing).less_written_off(rare.written_off)
    }

    /// What the edge may forget, newest outbox last.
    pub fn watermarks(&self) -> impl Iterator<Item = Watermark> {
        self.list.iter().map(Outbox::watermark)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let ranges: usize = self.list.iter().map(|o| o.known.heap_bytes() + o.lost.heap_bytes()).sum();
        let rare = self.rare.as_ref().map_or(0, |rare| size_of::<Rare>() + rare.folded.heap_bytes());
        let spilled = if self.list.spilled() { self.list.capacity() * size_of::<Outbox>() } else { 0 };
        spilled + ranges + rare
    }
}
