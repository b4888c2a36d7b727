//! Outboxes that gave way: one sum over all of them, and for each of the last a few numbers, so that it can come back.
//!
//! What is received of one is known as "everything below `end`": the gaps below are closed, and what comes of them counts
//! as received again. Samples from `end` on are admitted when the outbox comes back.

use super::{
    Past,
    outbox::{InUse, Outbox},
};
use crate::device::{ledger::Tally, ranges::Ranges};
use alloc::vec::Vec;
use core::num::NonZeroU32;
use serde::{Deserialize, Serialize};

/// The most outboxes that gave way and can come back; 48 bytes each.
pub const FOLDED_BOOTS_MAX: usize = 32;

/// An outbox that gave way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FoldedBoot {
    pub(super) boot: u32,
    pub(super) class_version: Option<NonZeroU32>,
    pub(super) vouched_for: bool,
    superseded: bool,
    given_up: bool,
    /// All from `end` on is declared lost, or none of it.
    tail_is_lost: bool,
    pub(super) in_use: InUse,
    pub(super) newest_ms: i64,
    /// Nothing below is admitted again.
    pub(super) end: u64,
    pub(super) next_seq: u64,
}

/// All outboxes that gave way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folded {
    /// Newest last.
    pub(super) boots: Vec<FoldedBoot>,
    pub(super) sampled: u64,
    pub(super) lost: u64,
    pub(super) tally: Tally,
}

impl FoldedBoot {
    fn of(outbox: &Outbox) -> Self {
        let (end, next_seq) = (outbox.known.end(), outbox.next_seq);
        let lost = outbox.lost.count_in(end..next_seq);
        let tail_is_lost = lost > 0 && lost == next_seq - end;
        Self {
            boot: outbox.boot,
            class_version: outbox.class_version,
            vouched_for: outbox.vouched_for,
            superseded: outbox.superseded,
            given_up: outbox.given_up,
            tail_is_lost,
            in_use: outbox.in_use,
            newest_ms: outbox.newest_ms,
            // Where a part of the rest is lost, it is closed with what lies before it.
            end: if lost > 0 && !tail_is_lost { outbox.lost.end() } else { end },
            next_seq,
        }
    }

    pub(super) fn past(&self) -> Past {
        Past {
            received_end: self.end,
            newest_ms: self.newest_ms,
            next_seq: self.next_seq,
            in_use: Some(self.in_use),
            superseded: self.superseded,
        }
    }

    const fn tail(&self) -> u64 {
        self.next_seq.saturating_sub(self.end)
    }
}

impl Folded {
    pub(super) fn add(&mut self, outbox: &Outbox) {
        if self.boots.len() == FOLDED_BOOTS_MAX {
            let forgotten = self.forgotten();
            self.boots.remove(forgotten);
        }
        self.boots.push(FoldedBoot::of(outbox));
        self.sampled = self.sampled.saturating_add(outbox.next_seq);
        self.lost = self.lost.saturating_add(outbox.lost_count());
        self.tally.add(&outbox.tally);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.boots.capacity() * size_of::<FoldedBoot>()
    }

    /// Which one is forgotten for good: of those that were in use for the shortest time one in the middle, so that neither
    /// whoever comes before a flood of invented ones nor whoever comes after it is; a confirmed one last, the longest
    /// silent first.
    fn forgotten(&self) -> usize {
        let brief = || {
            self.boots
                .iter()
                .enumerate()
                .filter(|(_, folded)| !(folded.vouched_for || folded.in_use.is_long()))
        };
        let shortest_s = brief().map(|(_, folded)| folded.in_use.span_s()).min();
        let alike = || brief().filter(|(_, folded)| Some(folded.in_use.span_s()) == shortest_s);
        let longest_silent = || self.boots.iter().enumerate().min_by_key(|(_, folded)| folded.in_use.last_s);
        alike().nth(alike().count() / 2).or_else(longest_silent).map_or(0, |(at, _)| at)
    }

    pub(super) fn find(&self, boot: u32) -> Option<&FoldedBoot> {
        self.boots.iter().find(|folded| folded.boot == boot)
    }

    /// The outbox as it comes back. What was counted of it stays here; its numbers move.
    pub(super) fn take(&mut self, boot: u32) -> Option<Outbox> {
        let at = self.boots.iter().position(|folded| folded.boot == boot)?;
        let folded = self.boots.remove(at);
        let mut outbox = Outbox::new(boot, folded.in_use.first_s);
        outbox.in_use = folded.in_use;
        outbox.class_version = folded.class_version;
        outbox.vouched_for = folded.vouched_for;
        (outbox.superseded, outbox.given_up) = (folded.superseded, folded.given_up);
        outbox.newest_ms = folded.newest_ms;
        outbox.next_seq = folded.next_seq;
        outbox.known = Ranges::of(0..folded.end);
        self.sampled = self.sampled.saturating_sub(folded.next_seq);
        if folded.tail_is_lost {
            outbox.lost = Ranges::of(folded.end..folded.next_seq);
            self.lost = self.lost.saturating_sub(folded.tail());
        }
        Some(outbox)
    }

    /// Another outbox succeeds one that gave way: see [`Outbox::give_up`].
    pub(super) fn give_up(&mut self, boot: u32, next_seq: u64) {
        let Some(folded) = self.boots.iter_mut().find(|folded| folded.boot == boot) else { return };
        let before = folded.next_seq;
        (folded.superseded, folded.given_up) = (true, true);
        folded.next_seq = before.max(next_seq);
        self.sampled = self.sampled.saturating_add(folded.next_seq - before);
        let lost = if folded.tail_is_lost { folded.next_seq - before } else { folded.tail() };
        folded.tail_is_lost = folded.tail() > 0;
        self.lost = self.lost.saturating_add(lost);
    }
}
