//! What has been received of each outbox: deduplication by (device, boot, seq), and the numbers the ledger needs.
//!
//! Invariants: a sequence number is admitted once, whatever the order and number of deliveries; what is admitted, lost
//! or refused follows from the reports alone, never from what sinks have confirmed, so that a replay decides alike;
//! sinks' words may come in any order and pieces; no number of invented outboxes keeps a device's own from delivering.
//!
//! **Giving way.** Where another outbox needs the place, the first of these folds into totals: one that a successor named
//! and that misses nothing, the longest silent first; else an unconfirmed one, the shortest in use first; else the
//! longest silent. An outbox is confirmed when reports of it came over an hour, or when it named a predecessor that was
//! known: whoever invents outboxes displaces his own. One that gave way comes back with its next report: what was
//! received of it counts as received again, its gaps stay closed, and what follows is admitted.
//!
//! **Plausible numbers.** A report counts only where each number that it names can have been sampled: from the newest
//! received sample of the outbox on, or from the earliest acceptable time where there is none, at twice the pace of the
//! class's densest interval, and [`MARGIN`] more ([`Outboxes::is_plausible`]).
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
    event::Confirmed,
    ledger::{Tally, Totals},
    ranges::TooScattered,
    validate::EARLIEST_MS,
};
use alloc::{boxed::Box, vec::Vec};
use core::{num::NonZeroU32, ops::Range};
use folded::Folded;
use hunhe_proto::reading::Report;
use outbox::{Outbox, seconds};
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
    rare: Option<Box<Rare>>,
}

/// What few devices have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rare {
    folded: Folded,
    /// Unexplained samples that an operator declared lost, less those that were explained after all.
    written_off: u64,
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
    /// The most samples that can have been taken since then.
    fn samples_since(self, since_ms: i64) -> u64 {
        // A gateway whose clock was never set cannot tell.
        if self.now_ms < EARLIEST_MS {
            return u64::MAX;
        }
        let elapsed_ms = self.now_ms.saturating_sub(since_ms.max(self.earliest_ms)).max(0).unsigned_abs();
        (elapsed_ms / self.interval_ms.max(1).unsigned_abs()).saturating_mul(2).saturating_add(MARGIN)
    }
}

/// What a report did beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admitted {
    /// An outbox was heard of for the first time, or again after it gave way.
    pub new: bool,
    /// Samples that the edge still held of outboxes that gave way.
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
        let before = header.prev_boot.filter(|&boot| boot != header.boot);
        self.can_have(header.boot, next_seq, pace)
            && before.is_none_or(|boot| self.can_have(boot, header.prev_next_seq.unwrap_or(0), pace))
    }

    fn can_have(&self, boot: u32, next_seq: u64, pace: Pace) -> bool {
        let folded = || self.folded().and_then(|folded| folded.find(boot));
        let (received, newest_ms, before) = match self.list.iter().find(|outbox| outbox.boot == boot) {
            Some(outbox) => (outbox.known.end(), outbox.newest_ms, outbox.next_seq),
            None => {
                folded().map_or((0, i64::MIN, 0), |folded| (folded.end, folded.newest_ms, folded.next_seq))
            }
        };
        next_seq <= before || next_seq <= received.saturating_add(pace.samples_since(newest_ms))
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
        fresh: impl FnMut(Range<u64>),
    ) -> Result<Admitted, TooScattered> {
        let header = &report.header;
        let mut admitted = Admitted::default();
        let mut explained = 0;
        let before = header.prev_boot.filter(|&boot| boot != header.boot);
        let follows_a_known_one = before.is_some_and(|boot| self.is_known(boot));
        if let Some(boot) = before {
            let next_seq = header.prev_next_seq.unwrap_or(0);
            explained += self.give_up(boot, next_seq, now_ms, &mut admitted);
        }
        let outbox = self.find_or_add(header.boot, now_ms, &mut admitted);
        outbox.vouched_for |= follows_a_known_one && outbox.next_seq == 0;
        let outcome = outbox.report(report, now_ms, &mut explained, fresh);
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
        let rank = |(_, outbox): &(usize, &Outbox)| {
            let missing = outbox.missing();
            match (outbox.superseded && missing == 0, outbox.is_confirmed()) {
                (true, _) => (0, outbox.in_use.last_s),
                (false, false) => (1, outbox.in_use.span_s()),
                (false, true) => (2, outbox.in_use.last_s),
            }
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
