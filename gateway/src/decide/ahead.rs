//! When the derived logs are synced beside the lane, so that a checkpoint's own sync finds little to write.
//!
//! A sync of what a flood left in the page cache takes seconds, and an alarm would wait for it. So another thread syncs every
//! [`EVERY`], and once more before a checkpoint begins, which then syncs again on the lane's thread what came meanwhile. The
//! order of a checkpoint is the same as without: its own sync comes first, and a segment that is closed is synced.
//!
//! Invariant: no checkpoint begins beside such a sync, so that its failure is known before: a sync after one that failed may
//! succeed though data is lost. Pure: the time is an argument.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(2);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Sync beside the lane, and say when it is over.
    Sync,
    /// Begin the checkpoint.
    Checkpoint,
}

#[derive(Debug)]
pub(super) struct Ahead {
    at: Instant,
    running: bool,
    /// One has just ended.
    fresh: bool,
}

impl Ahead {
    pub(super) const fn new(now: Instant) -> Self {
        Self { at: now, running: false, fresh: false }
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running
    }

    /// `dirty`: something is not synced. `checkpoint`: one is due and may begin.
    pub(super) fn due(&mut self, now: Instant, dirty: bool, checkpoint: bool) -> Due {
        let fresh = std::mem::take(&mut self.fresh);
        if self.running {
            return Due::Nothing;
        }
        if checkpoint && (fresh || !dirty) {
            return Due::Checkpoint;
        }
        if dirty && (checkpoint || now.saturating_duration_since(self.at) >= EVERY) {
            (self.at, self.running) = (now, true);
            return Due::Sync;
        }
        Due::Nothing
    }

    /// The sync beside the lane is over, and nothing failed.
    pub(super) fn ended(&mut self) {
        (self.running, self.fresh) = (false, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_begins_only_behind_a_sync_beside_the_lane_and_never_beside_one() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut ahead = Ahead::new(begun);
        assert_eq!(ahead.due(at(0), true, true), Due::Sync);
        assert_eq!(ahead.due(at(9_000), true, true), Due::Nothing, "it runs");
        ahead.ended();
        assert_eq!(ahead.due(at(9_001), true, true), Due::Checkpoint);
        assert_eq!(ahead.due(at(9_002), true, true), Due::Sync, "what came since is not synced");
        ahead.ended();
        assert_eq!(ahead.due(at(9_003), true, false), Due::Nothing);
        assert_eq!(ahead.due(at(9_004), false, true), Due::Checkpoint, "nothing to sync");
    }

    #[test]
    fn what_is_not_synced_is_synced_every_two_seconds() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut ahead = Ahead::new(begun);
        assert_eq!(ahead.due(at(1_999), true, false), Due::Nothing);
        assert_eq!(ahead.due(at(2_000), false, false), Due::Nothing);
        assert_eq!(ahead.due(at(2_001), true, false), Due::Sync);
        ahead.ended();
        assert_eq!(ahead.due(at(4_000), true, false), Due::Nothing);
        assert_eq!(ahead.due(at(4_001), true, false), Due::Sync);
    }
}
