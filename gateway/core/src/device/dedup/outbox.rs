//! One outbox of a device: which of its samples were received, given up, or are still at the edge.

use super::{MISSING_MAX, Past, Watermark};
use crate::device::{
    ledger::Tally,
    ranges::{Ranges, TooScattered},
};
use alloc::vec::Vec;
use core::{num::NonZeroU32, ops::Range};
use hunhe_proto::reading::{BlockSpan, Report};
use serde::{Deserialize, Serialize};

/// An outbox that has been in use for so long is confirmed, in seconds.
const CONFIRMED_S: u32 = 3_600;

/// Seconds since 1970, as they stand in an outbox.
pub(super) fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) / 1000).unwrap_or(u32::MAX)
}

/// When reports of an outbox came, by the gateway's clock, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InUse {
    pub(super) first_s: u32,
    pub(super) last_s: u32,
}

impl InUse {
    /// It has been in use for long enough to be confirmed.
    pub(super) const fn is_long(self) -> bool {
        self.span_s() >= CONFIRMED_S
    }

    /// For how long it has been in use. Nobody can forge a long use in a short time.
    pub(super) const fn span_s(self) -> u32 {
        self.last_s.saturating_sub(self.first_s)
    }
}

/// One outbox of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// Its identity.
    pub(super) boot: u32,
    /// The version of its class that all its reports follow, once one of them said it.
    pub(super) class_version: Option<NonZeroU32>,
    /// Another outbox named it its predecessor, and it has not reported since.
    pub(super) superseded: bool,
    /// Another outbox named it its predecessor, some time: the edge may hold what is lost from `held_from` on.
    pub(super) given_up: bool,
    /// It was the first to name a predecessor in long use, which has not reported since.
    pub(super) vouched_for: bool,
    pub(super) in_use: InUse,
    /// In the journal, or closed for good: nothing here is admitted again.
    pub(super) known: Ranges,
    /// Given up and not in `known`.
    pub(super) lost: Ranges,
    /// Given up and closed for good.
    lost_closed: u64,
    /// One past the newest sampled, as reported.
    pub(super) next_seq: u64,
    /// The oldest the edge still holds, as reported.
    held_from: u64,
    /// The newest time of a received sample, at most its arrival, milliseconds since 1970.
    pub(super) newest_ms: i64,
    pub(super) tally: Tally,
}

impl Outbox {
    pub(super) fn new(boot: u32, now_s: u32) -> Self {
        Self {
            boot,
            class_version: None,
            superseded: false,
            given_up: false,
            vouched_for: false,
            in_use: InUse { first_s: now_s, last_s: now_s },
            known: Ranges::default(),
            lost: Ranges::default(),
            lost_closed: 0,
            next_seq: 0,
            held_from: 0,
            newest_ms: i64::MIN,
            tally: Tally::default(),
        }
    }

    /// Notes a report of this outbox: its counters, its drops and its samples. Adds to `explained` the numbers that nobody
    /// could explain before.
    pub(super) fn report(
        &mut self,
        report: &Report,
        now_ms: i64,
        explained: &mut u64,
        fresh: impl FnMut(Range<u64>),
    ) -> Result<(), TooScattered> {
        // It speaks, whatever named itself its successor.
        self.superseded = false;
        self.class_version = self.class_version.or(report.header.class_version.and_then(NonZeroU32::new));
        self.in_use.last_s = seconds(now_ms);
        let gone = self.gone_to();
        self.next_seq = self.next_seq.max(report.next_seq());
        self.held_from = self.held_from.max(report.held_from());
        for drop in &report.drops {
            *explained += self.declare_lost(drop.seq..drop.seq.saturating_add(drop.count), gone);
        }
        let samples = report.header.seq..report.end_seq();
        let returning = self.unexplained_in(samples.start..samples.end.min(gone));
        self.admit(samples, fresh)?;
        *explained += returning;
        let last_ms = |block: &BlockSpan| report.times_ms[block.samples.end - 1];
        if let Some(newest_ms) = report.blocks.iter().map(last_ms).max() {
            self.newest_ms = self.newest_ms.max(newest_ms.min(now_ms));
        }
        Ok(())
    }

    pub(super) fn past(&self) -> Past {
        Past {
            received_end: self.known.end(),
            newest_ms: self.newest_ms,
            next_seq: self.next_seq,
            in_use: Some(self.in_use),
            superseded: self.superseded,
        }
    }

    /// Another outbox succeeds it: what was sampled up to `next_seq` and never delivered is lost. Answers how many numbers
    /// that explains. What the edge holds of it is its own word alone.
    pub(super) fn give_up(&mut self, next_seq: u64) -> u64 {
        let gone = self.gone_to();
        (self.superseded, self.given_up) = (true, true);
        self.next_seq = self.next_seq.max(next_seq);
        self.declare_lost(0..self.next_seq, gone)
    }

    /// Numbers below this are no longer at the edge, as far as is known.
    fn gone_to(&self) -> u64 {
        self.held_from.min(self.next_seq)
    }

    /// How many of these numbers were neither received nor declared lost.
    fn unexplained_in(&self, range: Range<u64>) -> u64 {
        let mut count = 0;
        self.known.missing_in(range, |gap| self.lost.missing_in(gap, |part| count += part.end - part.start));
        count
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

    /// Answers how many of them were `gone` and unexplained until now.
    fn declare_lost(&mut self, range: Range<u64>, gone: u64) -> u64 {
        self.next_seq = self.next_seq.max(range.end);
        let unexplained = self.unexplained_in(range.start..range.end.min(gone));
        // Without room a drop stays uncounted: the edge repeats it until everything before it has come, and then all
        // gaps before it can be closed.
        let declared = self.with_room(None, |outbox| {
            let mut outcome = Ok(());
            outbox.known.missing_in(range.clone(), |gap| outcome = outcome.and(outbox.lost.insert(gap)));
            outcome
        });
        if declared.is_ok() { unexplained } else { 0 }
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
            // What may still come of one that was given up stays open; its own losses are closed by the edge's word.
            let is_over = samples.is_none() || !self.given_up || gap.end <= self.held_from;
            if is_over && self.lost.count_in(gap.clone()) == gap.end - gap.start {
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

    /// It has been in use for long, or followed one that had been.
    pub(super) fn is_confirmed(&self) -> bool {
        self.vouched_for || self.in_use.is_long()
    }

    pub(super) fn missing(&self) -> u64 {
        let mut missing = 0;
        self.each_missing(|gap| missing += gap.end - gap.start);
        missing
    }

    /// What the edge may still hold by this outbox's own word, whatever another declared lost.
    pub(super) fn not_received(&self) -> u64 {
        let mut count = 0;
        self.known.missing_in(self.held_from..self.next_seq, |gap| count += gap.end - gap.start);
        count
    }

    pub(super) fn lost_count(&self) -> u64 {
        self.lost.count() + self.lost_closed
    }

    pub(super) fn watermark(&self) -> Watermark {
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
        if self.given_up {
            self.known.missing_in(self.held_from..self.next_seq, |gap| through = through.min(gap.start));
        }
        Watermark { boot: self.boot, through, missing }
    }
}
