//! What operators declared lost of what nobody could explain: who, when, how much, and why.
//!
//! It follows from journal records alone, so a replay tells the same. Of two orders that knew of the same write-offs the first
//! alone counts: both may be for the same samples. Bound: the last [`LISTED_MAX`] are listed, about
//! 6 MB at the most; older ones are in the counts.

use crate::event::WriteOff;
use alloc::{collections::VecDeque, string::String};
use hunhe_proto::id::DeviceId;
use serde::{Deserialize, Serialize};

/// The most write-offs that are listed.
pub const LISTED_MAX: usize = 10_000;

/// One write-off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The journal record that says so.
    pub lsn: u64,
    /// The gateway's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Whose.
    pub device: DeviceId,
    /// How many samples.
    pub samples: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// All write-offs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The last ones, newest last.
    listed: VecDeque<Entry>,
    /// How many there were.
    count: u64,
}

impl Audit {
    /// Does the order know of all that there were? It may know of more, where a damaged journal lost some.
    pub(crate) fn is_known_to(&self, write_off: &WriteOff<'_>) -> bool {
        write_off.before >= self.count
    }

    pub(crate) fn note(&mut self, write_off: &WriteOff<'_>) {
        let WriteOff { lsn, at_ms, device, samples, before, reason, by } = *write_off;
        if self.listed.len() == LISTED_MAX {
            self.listed.pop_front();
        }
        self.listed.push_back(Entry { lsn, at_ms, device, samples, reason: reason.into(), by: by.into() });
        self.count = before.saturating_add(1);
    }

    /// The last ones, newest first.
    pub fn listed(&self) -> impl Iterator<Item = &Entry> {
        self.listed.iter().rev()
    }

    /// How many there were, those that are listed no more included.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }
}
