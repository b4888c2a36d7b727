//! What has been received of each outbox: deduplication by (device, boot, seq), and the numbers the ledger needs.
//!
//! Invariants: a sequence number is admitted once, whatever the order and number of deliveries; what is admitted, lost
//! or refused follows from the reports alone, never from what sinks have confirmed, so that a replay decides alike;
//! sinks' words may come in any order and pieces.
//!
//! Bounds, and what happens there:
//! - [`OUTBOXES_MAX`] outboxes a device. Another one folds the oldest with nothing missing, else the oldest, into
//!   totals; what it still missed becomes unexplained. A report from a folded outbox is refused (`dedup_window`).
//! - `RANGES_MAX` ranges of an outbox. There the oldest gap that is lost, else the oldest that the edge no longer holds,
//!   is closed for good. Where the edge holds every gap, the report is refused (`dedup_window`) and stays at the edge,
//!   which sends it again once what the watermark calls missing has come.
//! - [`FOLDED_BOOTS_MAX`] folded outboxes are known by name; older ones would be taken for new.

use crate::{
    event::Confirmed,
    ledger::{Tally, Totals},
    ranges::{Ranges, TooScattered},
};
use alloc::{boxed::Box, vec::Vec};
use core::{num::NonZeroU32, ops::Range};
use hunhe_proto::reading::Report;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The most outboxes remembered for a device.
pub const OUTBOXES_MAX: usize = 4;
/// The most outboxes whose samples are no longer told apart, and whose name still is.
pub const FOLDED_BOOTS_MAX: usize = 32;
/// The most gaps named in a watermark.
pub const MISSING_MAX: usize = 8;

/// One outbox of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Outbox {
    /// Its identity.
    boot: u32,
    /// The version of its class that all its reports follow, once one of them said it.
    class_version: Option<NonZeroU32>,
    /// In the journal, or closed for good: nothing here is admitted again.
    known: Ranges,
    /// Given up and not in `known`.
    lost: Ranges,
    /// Given up and closed for good.
    lost_closed: u64,
    /// One past the newest sampled, as reported.
    next_seq: u64,
    /// The oldest the edge still holds, as reported.
    held_from: u64,
    tally: Tally,
}

/// Outboxes that gave way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Folded {
    /// Newest last.
    boots: Vec<u32>,
    sampled: u64,
    lost: u64,
    tally: Tally,
}

/// The outboxes of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outboxes {
    /// By age of first contact. Nearly every device has one.
    list: SmallVec<[Outbox; 1]>,
    folded: Option<Box<Folded>>,
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
    /// Notes a report's counters and drops, and calls `fresh` for each part of its samples that was never received.
    ///
    /// # Errors
    /// [`TooScattered`] where the bounds leave no room; no sample has been admitted then, and what `fresh` was told is
    /// void.
    pub fn admit(&mut self, report: &Report, fresh: impl FnMut(Range<u64>)) -> Result<(), TooScattered> {
        let header = &report.header;
        if let Some(boot) = header.prev_boot.filter(|&boot| boot != header.boot) {
            self.give_up(boot, header.prev_next_seq.unwrap_or(0));
        }
        if self.is_folded(header.boot) {
            return Err(TooScattered);
        }
        let outbox = self.find_or_add(header.boot);
        outbox.class_version = outbox.class_version.or(header.class_version.and_then(NonZeroU32::new));
        outbox.next_seq = outbox.next_seq.max(report.next_seq());
        outbox.held_from = outbox.held_from.max(report.held_from());
        for drop in &report.drops {
            outbox.declare_lost(drop.seq..drop.seq.saturating_add(drop.count));
        }
        outbox.admit(header.seq..report.end_seq(), fresh)
    }

    /// The class version that the reports of an outbox follow, where one of them said it.
    #[must_use]
    pub fn class_version(&self, boot: u32) -> Option<u32> {
        self.list.iter().find(|outbox| outbox.boot == boot)?.class_version.map(NonZeroU32::get)
    }

    /// A new outbox names an older one: what that one sampled and never delivered is lost.
    fn give_up(&mut self, boot: u32, next_seq: u64) {
        if self.is_folded(boot) || (next_seq == 0 && self.find(boot).is_none()) {
            return;
        }
        let outbox = self.find_or_add(boot);
        outbox.next_seq = outbox.next_seq.max(next_seq);
        outbox.held_from = outbox.next_seq;
        outbox.declare_lost(0..outbox.next_seq);
    }

    fn is_folded(&self, boot: u32) -> bool {
        self.folded.as_ref().is_some_and(|folded| folded.boots.contains(&boot))
    }

    fn find(&mut self, boot: u32) -> Option<&mut Outbox> {
        self.list.iter_mut().find(|outbox| outbox.boot == boot)
    }

    fn find_or_add(&mut self, boot: u32) -> &mut Outbox {
        let at = match self.list.iter().position(|outbox| outbox.boot == boot) {
            Some(at) => at,
            None => {
                if self.list.len() == OUTBOXES_MAX {
                    self.fold();
                }
                self.list.push(Outbox::new(boot));
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    fn fold(&mut self) {
        let at = self.list.iter().position(|outbox| outbox.missing() == 0).unwrap_or(0);
        let outbox = self.list.remove(at);
        let folded = self.folded.get_or_insert_default();
        if folded.boots.len() == FOLDED_BOOTS_MAX {
            folded.boots.remove(0);
        }
        folded.boots.push(outbox.boot);
        folded.sampled = folded.sampled.saturating_add(outbox.next_seq);
        folded.lost = folded.lost.saturating_add(outbox.lost_count());
        folded.tally.add(&outbox.tally);
    }

    /// The counters of an outbox, or of all that were folded.
    fn tally(&mut self, boot: u32) -> Option<&mut Tally> {
        match self.list.iter_mut().find(|outbox| outbox.boot == boot) {
            Some(outbox) => Some(&mut outbox.tally),
            None => self.folded.as_mut().map(|folded| &mut folded.tally),
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

    /// The ledger of the device.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for outbox in &self.list {
            totals.add(&outbox.tally.totals(outbox.next_seq, outbox.lost_count(), outbox.missing()));
        }
        if let Some(folded) = &self.folded {
            totals.add(&folded.tally.totals(folded.sampled, folded.lost, 0));
        }
        totals
    }

    /// What the edge may forget, newest outbox last.
    pub fn watermarks(&self) -> impl Iterator<Item = Watermark> {
        self.list.iter().map(Outbox::watermark)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let ranges: usize = self.list.iter().map(|o| o.known.heap_bytes() + o.lost.heap_bytes()).sum();
        let folded =
            self.folded.as_ref().map_or(0, |folded| size_of::<Folded>() + 4 * folded.boots.capacity());
        let spilled = if self.list.spilled() { self.list.capacity() * size_of::<Outbox>() } else { 0 };
        spilled + ranges + folded
    }
}

impl Outbox {
    fn new(boot: u32) -> Self {
        Self {
            boot,
            class_version: None,
            known: Ranges::default(),
            lost: Ranges::default(),
            lost_closed: 0,
            next_seq: 0,
            held_from: 0,
            tally: Tally::default(),
        }
    }

    fn admit(&mut self, samples: Range<u64>, fresh: impl FnMut(Range<u64>)) -> Result<(), TooScattered> {
        self.known.missing_in(samples.clone(), fresh);
        // What comes after all is not lost; this is rare enough for a copy.
        let before = (self.lost.count_in(samples.clone()) > 0).then(|| self.clone());
        let known = self.known.count_in(samples.clone());
        let mut admitted = self.with_room(Some(&samples), |outbox| outbox.known.insert(samples.clone()));
        if before.is_some() && admitted.is_ok() {
            admitted = self.with_room(Some(&samples), |outbox| outbox.lost.remove(samples.clone()));
        }
        match (admitted, before) {
            (Ok(()), _) => self.tally.duplicates += known,
            (Err(_), Some(before)) => *self = before,
            (Err(_), None) => {}
        }
        admitted
    }

    fn declare_lost(&mut self, range: Range<u64>) {
        self.next_seq = self.next_seq.max(range.end);
        // Without room a drop stays uncounted: the edge repeats it until everything before it has come, and then all
        // gaps before it can be closed.
        let _ = self.with_room(None, |outbox| {
            let mut outcome = Ok(());
            outbox.known.missing_in(range.clone(), |gap| outcome = outcome.and(outbox.lost.insert(gap)));
            outcome
        });
    }

    /// Tries `step`, closing gaps for as long as there is no room for it: such as are lost, and to make room for
    /// `samples` also such as the edge no longer holds.
    fn with_room(
        &mut self,
        samples: Option<&Range<u64>>,
        mut step: impl FnMut(&mut Self) -> Result<(), TooScattered>,
    ) -> Result<(), TooScattered> {
        loop {
            let outcome = step(self);
            if outcome.is_ok() || !self.close_a_gap(samples) {
                return outcome;
            }
        }
    }

    fn close_a_gap(&mut self, samples: Option<&Range<u64>>) -> bool {
        let (mut lost, mut gone) = (None, None);
        self.known.missing_in(0..self.known.end(), |gap| {
            if samples.is_some_and(|samples| gap.start < samples.end && samples.start < gap.end) {
                return;
            }
            if self.lost.count_in(gap.clone()) == gap.end - gap.start {
                lost.get_or_insert(gap);
            } else if samples.is_some() && gap.end <= self.held_from {
                gone.get_or_insert(gap);
            }
        });
        let Some(gap) = lost.or(gone) else { return false };
        // A gap is what separates two ranges, or lies before the first: closing one never adds a range, and what is
        // lost in it lies in it wholly.
        self.lost_closed += self.lost.count_in(gap.clone());
        self.lost.remove(gap.clone()).is_ok() && self.known.insert(gap).is_ok()
    }

    /// Held by the edge, as reported, and not received.
    fn each_missing(&self, mut each: impl FnMut(Range<u64>)) {
        self.known.missing_in(self.held_from..self.next_seq, |gap| self.lost.missing_in(gap, &mut each));
    }

    fn missing(&self) -> u64 {
        let mut missing = 0;
        self.each_missing(|gap| missing += gap.end - gap.start);
        missing
    }

    fn lost_count(&self) -> u64 {
        self.lost.count() + self.lost_closed
    }

    fn watermark(&self) -> Watermark {
        let mut missing = Vec::new();
        let known_end = self.known.end();
        let mut through = self.next_seq;
        self.each_missing(|gap| {
            through = through.min(gap.start);
            // Behind the newest received nothing is missing: it is on its way.
            if gap.start < known_end && missing.len() < MISSING_MAX {
                missing.push(gap.start..gap.end.min(known_end));
            }
        });
        Watermark { boot: self.boot, through, missing }
    }
}
