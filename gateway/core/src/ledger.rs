//! Where every sample is.
//!
//! Per outbox, `sampled` is the highest sequence number reported plus one, and each number below it belongs to exactly
//! one class. Every class is counted on its own:
//!
//! | class | counted from |
//! |---|---|
//! | stored | what the sink of record confirmed |
//! | quarantined | what the quarantine confirmed, and what sinks refused |
//! | declared lost | drops in reports, an outbox that was given up, discards |
//! | outstanding | reported as held and not received; decided and not yet handled by a sink |
//! | unexplained | what is left; a healthy gateway has none |
//!
//! Duplicates never enter.

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
    /// On their way.
    pub outstanding: u64,
    /// Received again; in no class.
    pub duplicates: u64,
}

impl Totals {
    /// Samples in no class; negative where some are in two.
    #[must_use]
    pub fn unexplained(&self) -> i64 {
        let explained = self.stored + self.quarantined + self.declared_lost + self.outstanding;
        // Both stay below 2^53 per outbox and far below 2^63 in sum.
        self.sampled.cast_signed().wrapping_sub(explained.cast_signed())
    }

    /// Adds another's samples.
    pub fn add(&mut self, other: &Self) {
        self.sampled += other.sampled;
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.declared_lost += other.declared_lost;
        self.outstanding += other.outstanding;
        self.duplicates += other.duplicates;
    }
}
