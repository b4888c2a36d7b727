//! What has been received of each outbox: deduplication by (device, boot, seq), and the numbers the ledger needs.
//!
//! Invariants: a sequence number is in at most one of `received` and `lost`; a sample is admitted once, whatever the
//! order and number of deliveries; memory is bounded by [`OUTBOXES_MAX`] × `RANGES_MAX`. At the first bound the oldest
//! outbox that is complete is folded into totals; where none is, or at the second bound, the report is refused
//! (`dedup_window`) and stays at the edge, which sends it again once the gaps have closed.

use crate::{
    event::Confirmed,
    ledger::Totals,
    ranges::{Ranges, TooScattered},
};
use alloc::vec::Vec;
use core::ops::Range;
use hunhe_proto::reading::Report;
use serde::{Deserialize, Serialize};

/// The most outboxes remembered for a device.
pub const OUTBOXES_MAX: usize = 4;
/// The most gaps named in a watermark.
pub const MISSING_MAX: usize = 8;

/// One outbox of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Its identity.
    pub boot: u32,
    /// In the journal.
    received: Ranges,
    /// Given up and never received.
    lost: Ranges,
    /// One past the newest sampled, as reported.
    next_seq: u64,
    /// The oldest the edge still holds, as reported.
    held_from: u64,
    /// Decided and not yet handled by a sink.
    in_flight: u64,
    stored: u64,
    quarantined: u64,
    /// Was in quarantine, and an operator or its bound let it go.
    discarded: u64,
    duplicates: u64,
}

/// The outboxes of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outboxes {
    /// By age of first contact.
    list: Vec<Outbox>,
    /// The sum of outboxes that were complete and gave way.
    folded: Totals,
    /// Their boots, newest last: what still comes from one of them can no longer be told from a duplicate.
    folded_boots: Vec<u32>,
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
    /// [`TooScattered`] where the bounds leave no room; nothing has been noted then, and what `fresh` was told is void.
    pub fn admit(&mut self, report: &Report, mut fresh: impl FnMut(Range<u64>)) -> Result<(), TooScattered> {
        let header = &report.header;
        let samples = header.seq..report.end_seq();
        if self.folded_boots.contains(&header.boot) {
            return Err(TooScattered);
        }
        let at = self.find_or_add(header.boot)?;
        let outbox = &mut self.list[at];
        let received = outbox.received.count();
        outbox.received.missing_in(samples.clone(), &mut fresh);
        outbox.received.insert(samples.clone())?;
        outbox.duplicates += samples.end - samples.start - (outbox.received.count() - received);
        outbox.next_seq = outbox.next_seq.max(report.next_seq());
        outbox.held_from = outbox.held_from.max(report.held_from());
        // What was received after all is not lost. A split too many leaves it counted as lost, and visibly so.
        let _ = outbox.lost.remove(samples);
        for drop in &report.drops {
            outbox.declare_lost(drop.seq..drop.seq + drop.count);
        }
        if let Some(boot) = header.prev_boot {
            self.give_up(boot, header.prev_next_seq.unwrap_or(0));
        }
        Ok(())
    }

    /// A new outbox names an older one: what that one sampled and never delivered is lost.
    fn give_up(&mut self, boot: u32, next_seq: u64) {
        let Some(outbox) = self.list.iter_mut().find(|outbox| outbox.boot == boot) else { return };
        outbox.next_seq = outbox.next_seq.max(next_seq);
        outbox.held_from = outbox.next_seq;
        outbox.declare_lost(0..outbox.next_seq);
    }

    fn find_or_add(&mut self, boot: u32) -> Result<usize, TooScattered> {
        if let Some(at) = self.list.iter().rposition(|outbox| outbox.boot == boot) {
            return Ok(at);
        }
        if self.list.len() == OUTBOXES_MAX {
            let complete = self.list.iter().position(Outbox::is_complete).ok_or(TooScattered)?;
            let outbox = self.list.remove(complete);
            self.folded.add(&outbox.totals());
            if self.folded_boots.len() == OUTBOXES_MAX {
                self.folded_boots.remove(0);
            }
            self.folded_boots.push(outbox.boot);
        }
        self.list.push(Outbox::new(boot));
        Ok(self.list.len() - 1)
    }

    /// Notes that `samples` were decided and now wait for a sink.
    pub fn decided(&mut self, boot: u32, samples: u64) {
        if let Some(outbox) = self.find(boot) {
            outbox.in_flight += samples;
        }
    }

    /// Notes that quarantined samples were decided anew and now wait for a sink.
    pub fn redriven(&mut self, boot: u32, samples: u64) {
        if let Some(outbox) = self.find(boot) {
            outbox.quarantined = outbox.quarantined.saturating_sub(samples);
            outbox.in_flight += samples;
        }
    }

    /// Notes what a sink did.
    pub fn confirmed(&mut self, boot: u32, confirmed: Confirmed) {
        if let Some(outbox) = self.find(boot) {
            outbox.in_flight = outbox.in_flight.saturating_sub(confirmed.handled);
            outbox.stored = (outbox.stored + confirmed.stored).saturating_sub(confirmed.displaced);
            outbox.quarantined += confirmed.quarantined + confirmed.displaced;
        }
    }

    /// Notes that quarantined samples were discarded.
    pub fn discarded(&mut self, boot: u32, samples: u64) {
        if let Some(outbox) = self.find(boot) {
            outbox.quarantined = outbox.quarantined.saturating_sub(samples);
            outbox.discarded += samples;
        }
    }

    fn find(&mut self, boot: u32) -> Option<&mut Outbox> {
        self.list.iter_mut().find(|outbox| outbox.boot == boot)
    }

    /// The ledger of the device.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.folded;
        for outbox in &self.list {
            totals.add(&outbox.totals());
        }
        totals
    }

    /// What the edge may forget, newest outbox last.
    pub fn watermarks(&self) -> impl Iterator<Item = Watermark> {
        self.list.iter().map(Outbox::watermark)
    }
}

impl Outbox {
    fn new(boot: u32) -> Self {
        Self {
            boot,
            received: Ranges::default(),
            lost: Ranges::default(),
            next_seq: 0,
            held_from: 0,
            in_flight: 0,
            stored: 0,
            quarantined: 0,
            discarded: 0,
            duplicates: 0,
        }
    }

    fn declare_lost(&mut self, range: Range<u64>) {
        self.next_seq = self.next_seq.max(range.end);
        let received = &self.received;
        let lost = &mut self.lost;
        received.missing_in(range, |gap| {
            // At the bound the drop stays uncounted, and the ledger shows it as unexplained.
            let _ = lost.insert(gap);
        });
    }

    /// Held by the edge, as reported, and not received.
    fn each_missing(&self, mut each: impl FnMut(Range<u64>)) {
        self.received.missing_in(self.held_from..self.next_seq, |gap| self.lost.missing_in(gap, &mut each));
    }

    fn totals(&self) -> Totals {
        let mut held = 0;
        self.each_missing(|gap| held += gap.end - gap.start);
        Totals {
            sampled: self.next_seq,
            stored: self.stored,
            quarantined: self.quarantined,
            declared_lost: self.lost.count() + self.discarded,
            outstanding: held + self.in_flight,
            duplicates: self.duplicates,
        }
    }

    fn is_complete(&self) -> bool {
        let totals = self.totals();
        totals.outstanding == 0 && totals.unexplained() == 0
    }

    fn watermark(&self) -> Watermark {
        let mut missing = Vec::new();
        let received_end = self.received.end();
        let mut through = self.next_seq;
        self.each_missing(|gap| {
            through = through.min(gap.start);
            // Behind the newest received nothing is missing: it is on its way.
            if gap.start < received_end && missing.len() < MISSING_MAX {
                missing.push(gap.start..gap.end.min(received_end));
            }
        });
        Watermark { boot: self.boot, through, missing }
    }
}
