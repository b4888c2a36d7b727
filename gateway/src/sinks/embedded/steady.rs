//! Retention's clock, and what it lets go.
//!
//! A clock that is set ahead by mistake must not delete history. So retention's time follows the wall clock, but goes no
//! faster than time passes, by a monotonic clock, and a sixteenth more to catch up after a suspend. It begins with
//! the first look, an hour after a start: a clock that is wrong from then on is believed.

use super::{EmbeddedError, Sink};
use crate::decided::feed::Feed;

/// A wall clock that does not jump ahead.
#[derive(Debug, Default)]
pub(super) struct Steady {
    seen_ms: Option<i64>,
}

impl Steady {
    /// The time to go by where the wall clock says `wall_ms`, and `passed_ms` have passed since the look before.
    pub(super) fn look(&mut self, wall_ms: i64, passed_ms: i64) -> i64 {
        let at_most = self.seen_ms.map(|seen_ms| seen_ms.saturating_add(passed_ms + passed_ms / 16));
        let now_ms = at_most.map_or(wall_ms, |at_most| wall_ms.min(at_most));
        self.seen_ms = Some(now_ms);
        now_ms
    }
}

impl Sink {
    /// Drops what is old, from history and from quarantine.
    pub(super) fn retain(&mut self, feed: &Feed, now_ms: i64) -> Result<(), EmbeddedError> {
        // What goes has to be on disk: only that is counted, and no crash brings it again.
        self.checkpoint(feed)?;
        let retained = self.store.retain(now_ms)?;
        for (months, why) in
            [(&retained.expired, "embedded.retention"), (&retained.oversize, "embedded.limit_bytes")]
        {
            for month in months {
                tracing::info!(%month, why, "a month of history was dropped: its samples count as retired");
            }
        }
        let old_ms = now_ms.saturating_sub(self.options.quarantine_age_ms);
        let mut expired = 0;
        loop {
            let (records, more) = self.store.expire_records(old_ms)?;
            expired += records;
            if !more {
                break;
            }
            // Else the next write may find twice as much unwritten as the store's memory holds, and be refused.
            self.checkpoint(feed)?;
        }
        if expired > 0 {
            tracing::info!(
                records = expired,
                "quarantine records older than quarantine.limit_age were discarded"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_followed_no_faster_than_time_passes() {
        const HOUR: i64 = 3_600_000;
        let mut steady = Steady::default();
        assert_eq!(steady.look(100 * HOUR, HOUR), 100 * HOUR, "there is nothing to compare with");
        assert_eq!(steady.look(101 * HOUR, HOUR), 101 * HOUR);
        assert_eq!(steady.look(90_000 * HOUR, 16 * HOUR), 118 * HOUR, "set ahead by ten years");
        assert_eq!(steady.look(119 * HOUR, HOUR), 119 * HOUR, "and back");
        assert_eq!(steady.look(60 * HOUR, HOUR), 60 * HOUR, "back is always safe");
        let suspended = (0..32).map(|n| steady.look((100 + n) * HOUR, HOUR)).last();
        assert_eq!(suspended, Some(94 * HOUR), "after 40 hours of suspend it catches up, an hour in sixteen");
    }
}
