//! Where every sample is.
//!
//! Per outbox, `sampled` is the highest sequence number reported plus one, and each number below it belongs to exactly
//! one class. Every class is counted on its own:
//!
//! | class | counted from |
//! |---|---|
//! | stored | what the sink of record confirmed |
//! | quarantined | what the quarantine confirmed, and what sinks refused |
//! | declared lost | drops in reports, an outbox that was given up, discards, write-offs |
//! | outstanding | reported as held and not received; decided and not yet handled by a sink |
//! | unexplained | what is left; a healthy gateway has none |
//!
//! Duplicates never enter.
//!
//! **Written off.** An operator may declare lost what is unexplained. No more counts as written off than is unexplained
//! without it: what is explained after all leaves, so the sum closes whatever comes later.

use crate::event::Confirmed;
use serde::{Deserialize, Serialize};

/// Samples by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Taken at the edge, as far as reported.
    pub sampled: u64,
    /// In the database of record.
    pub stored: u64,
    /// In quarantine.
    pub quarantined: u64,
    /// Given up, by word of the edge or an operator.
    pub declared_lost: u64,
    /// Of these, unexplained until an operator wrote them off.
    pub written_off: u64,
    /// On their way.
    pub outstanding: u64,
    /// Received again; in no class.
    pub duplicates: u64,
}

impl Totals {
    /// Samples in no class; negative where some are in two.
    #[must_use]
    pub fn unexplained(&self) -> i64 {
        let classes = [self.stored, self.quarantined, self.declared_lost, self.outstanding];
        let explained: i128 = classes.into_iter().map(i128::from).sum();
        let unexplained = i128::from(self.sampled) - explained;
        i64::try_from(unexplained).unwrap_or(if unexplained < 0 { i64::MIN } else { i64::MAX })
    }

    /// With as much of `written_off` declared lost as is unexplained.
    pub(crate) fn less_written_off(mut self, written_off: u64) -> Self {
        let unexplained = u64::try_from(self.unexplained()).unwrap_or(0);
        self.written_off = written_off.min(unexplained);
        self.declared_lost = self.declared_lost.saturating_add(self.written_off);
        self
    }

    /// Adds another's samples. Sums stop at the type's end: only devices that lie about their counters get there.
    pub fn add(&mut self, other: &Self) {
        self.sampled = self.sampled.saturating_add(other.sampled);
        self.stored = self.stored.saturating_add(other.stored);
        self.quarantined = self.quarantined.saturating_add(other.quarantined);
        self.declared_lost = self.declared_lost.saturating_add(other.declared_lost);
        self.written_off = self.written_off.saturating_add(other.written_off);
        self.outstanding = self.outstanding.saturating_add(other.outstanding);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
    }
}

/// What became of one outbox's received samples.
///
/// Signed, so that confirmations of sinks and orders of operators may overtake each other: a sample may leave quarantine
/// here before it is known to have got there. The sums are right as soon as all of them are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Decided and not yet handled by a sink.
    in_flight: i64,
    stored: i64,
    quarantined: i64,
    /// Was in quarantine, and an operator or its bound let it go.
    discarded: u64,
    /// Received again.
    pub(crate) duplicates: u64,
}

impl Tally {
    pub(crate) fn decided(&mut self, samples: u64) {
        self.in_flight = self.in_flight.saturating_add_unsigned(samples);
    }

    pub(crate) fn redriven(&mut self, samples: u64) {
        self.quarantined = self.quarantined.saturating_sub_unsigned(samples);
        self.in_flight = self.in_flight.saturating_add_unsigned(samples);
    }

    pub(crate) fn confirmed(&mut self, confirmed: Confirmed) {
        self.in_flight = self.in_flight.saturating_sub_unsigned(confirmed.handled);
        self.stored = self
            .stored
            .saturating_add_unsigned(confirmed.stored)
            .saturating_sub_unsigned(confirmed.displaced);
        self.quarantined = self
            .quarantined
            .saturating_add_unsigned(confirmed.quarantined)
            .saturating_add_unsigned(confirmed.displaced);
    }

    pub(crate) fn discarded(&mut self, samples: u64) {
        self.quarantined = self.quarantined.saturating_sub_unsigned(samples);
        self.discarded = self.discarded.saturating_add(samples);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.stored = self.stored.saturating_add(other.stored);
        self.quarantined = self.quarantined.saturating_add(other.quarantined);
        self.discarded = self.discarded.saturating_add(other.discarded);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
    }

    /// The ledger, with what the edge reported: `missing` is held there and was not received.
    pub(crate) fn totals(&self, sampled: u64, lost: u64, missing: u64) -> Totals {
        let positive = |count: i128| u64::try_from(count.max(0)).unwrap_or(u64::MAX);
        let overdrawn = self.quarantined.min(0);
        Totals {
            sampled,
            stored: positive(self.stored.into()),
            quarantined: positive(self.quarantined.into()),
            declared_lost: lost.saturating_add(self.discarded),
            written_off: 0,
            outstanding: positive(i128::from(missing) + i128::from(self.in_flight) + i128::from(overdrawn)),
            duplicates: self.duplicates,
        }
    }
}
