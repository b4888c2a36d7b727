//! How far a device's samples have come on the main track, and which of them a newer one overtook.
//!
//! Three marks, since a clock may be fast, and one sample may say any time:
//! - Up to the arrival, a sample is overtaken where a present one was as new. What is dated later counts as its arrival
//!   there: a clock that is a little fast must not make the next sample of a true one old.
//! - After the arrival, it is overtaken where a sample said that time or a later one: sent again under another number,
//!   it ends nothing a second time. Present samples and those dated ahead of the present each have their mark.

use super::Context;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970; 0 where there was no such sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// The newest present sample, no later than its arrival.
    pub(super) newest_ms: i64,
    /// The newest present sample, as it says.
    last_ms: i64,
    /// The newest sample that was dated ahead of the present.
    ahead_ms: i64,
}

impl Reached {
    /// Takes ascending samples.
    pub(super) fn note(&mut self, context: &Context<'_>, times: &[i64]) {
        let present = times.partition_point(|&time_ms| time_ms <= context.ahead_from_ms);
        if let Some(&last_ms) = times[..present].last() {
            self.newest_ms = self.newest_ms.max(last_ms.min(context.arrival_ms));
            self.last_ms = self.last_ms.max(last_ms);
        }
        if let Some(&ahead_ms) = times[present..].last() {
            self.ahead_ms = self.ahead_ms.max(ahead_ms);
        }
    }

    /// Samples from `first_ms` on are new, though their times have been before.
    pub(super) fn set_back(&mut self, first_ms: i64) {
        let before_ms = first_ms.saturating_sub(1);
        self.newest_ms = self.newest_ms.min(before_ms);
        self.last_ms = self.last_ms.min(before_ms);
    }

    /// Was there a sample as new as this fresh one?
    pub(super) fn overtakes(&self, context: &Context<'_>, time_ms: i64) -> bool {
        let newest_ms = if time_ms <= context.arrival_ms {
            self.newest_ms
        } else if time_ms <= context.ahead_from_ms {
            self.last_ms
        } else {
            self.last_ms.max(self.ahead_ms)
        };
        time_ms <= newest_ms
    }

    /// The sample before this one, for all that is known: by the clock that dates it, be it fast.
    pub(super) fn before(&self, time_ms: i64) -> i64 {
        let marks = [self.newest_ms, self.last_ms, self.ahead_ms];
        marks.into_iter().filter(|&mark| mark < time_ms).max().unwrap_or(self.newest_ms)
    }
}
