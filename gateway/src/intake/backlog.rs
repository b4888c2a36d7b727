//! Do messages come as they are sent, or from a backlog that waited at the broker?
//!
//! What a session brings along was sent before, and its age says nothing of the device's clock. The backlog is through when the
//! broker could have sent more and did not: a [`PAUSE`] in which nothing was unacknowledged and the lane took all. A pause that
//! we cause ourselves, because the in-flight window is full or the lane behind, counts for nothing. A busy city may have no pause
//! for minutes: there messages count as live once the lane has taken all for [`BUSY`].
//!
//! Pure: times are arguments, of any one origin.

use std::time::Duration;

/// Longer than the broker takes to answer an acknowledgement with more.
const PAUSE: Duration = Duration::from_millis(200);
const BUSY: Duration = Duration::from_secs(300);

/// What we have left to do when a message comes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ours {
    /// Messages that came before it and are not acknowledged.
    pub(super) unacknowledged: u32,
    /// The last time that there were none left.
    pub(super) acknowledged_at: Duration,
    /// Ordinary messages wait for the lane.
    pub(super) held: bool,
}

/// Of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backlog {
    is_through: bool,
    came_at: Duration,
    /// Since then the lane has taken all.
    free_since: Option<Duration>,
}

impl Backlog {
    /// The broker has taken the connection.
    pub(super) fn connected(&mut self, session_present: bool, now: Duration) {
        *self = Self { is_through: !session_present, came_at: now, free_since: None };
    }

    /// All subscriptions stand.
    pub(super) fn subscribed(&mut self, now: Duration) {
        self.free_since = Some(now);
    }

    /// Is it known to be through?
    pub(super) const fn is_through(&self) -> bool {
        self.is_through
    }

    /// A message came; answers whether the backlog was through before it.
    pub(super) fn came(&mut self, now: Duration, ours: Ours) -> bool {
        let idle_since = self.came_at.max(ours.acknowledged_at);
        self.came_at = now;
        if ours.held {
            self.free_since = self.free_since.map(|_| now);
        }
        let paused = ours.unacknowledged == 0 && !ours.held && now.saturating_sub(idle_since) > PAUSE;
        let busy = self.free_since.is_some_and(|since| now.saturating_sub(since) > BUSY);
        self.is_through |= paused || busy;
        self.is_through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ours(unacknowledged: u32, acknowledged_ms: u64, held: bool) -> Ours {
        Ours { unacknowledged, acknowledged_at: ms(acknowledged_ms), held }
    }

    fn brought_along() -> Backlog {
        let mut backlog = Backlog::default();
        backlog.connected(true, ms(0));
        backlog.subscribed(ms(0));
        backlog
    }

    #[test]
    fn a_pause_that_we_cause_ourselves_ends_no_backlog() {
        let mut backlog = brought_along();
        assert!(!backlog.came(ms(10), ours(0, 0, false)));
        // The in-flight window was full for a second, and the lane behind.
        assert!(!backlog.came(ms(1_010), ours(20, 5, true)));
        assert!(!backlog.came(ms(2_010), ours(1, 5, false)));
        // All was acknowledged at last, and the broker sent more at once.
        assert!(!backlog.came(ms(3_060), ours(0, 3_010, false)));
        assert!(!backlog.came(ms(4_060), ours(0, 3_060, true)));
        // Only now it had nothing more.
        assert!(backlog.came(ms(4_300), ours(0, 4_070, false)));
        assert!(backlog.came(ms(4_301), ours(50, 4_070, true)), "it never comes back");
    }

    #[test]
    fn a_new_session_brings_nothing_along() {
        let mut backlog = Backlog::default();
        backlog.connected(false, ms(0));
        assert!(backlog.came(ms(1), ours(0, 0, false)));
    }

    #[test]
    fn without_a_pause_messages_are_live_once_the_lane_has_taken_all_for_five_minutes() {
        let mut backlog = brought_along();
        for second in 1..=1_000 {
            assert!(!backlog.came(ms(second * 1_000), ours(9, 0, second % 300 == 0)), "{second}");
        }
        assert!(!backlog.came(ms(1_200_000), ours(9, 0, false)));
        assert!(backlog.came(ms(1_200_001), ours(9, 0, false)));
    }
}
