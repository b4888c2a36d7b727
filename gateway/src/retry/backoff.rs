//! How long to wait before the next attempt: a random share of a bound that doubles ("full jitter"), so that many gateways
//! that lost one server do not come back at one instant. Pure but for [`Backoff::next_wait`], which draws the random number.

use super::http::random;
use std::time::Duration;

/// The longest wait between two attempts, in milliseconds, whatever `Retry-After` says.
pub const WAIT_MS_MAX: u64 = 300_000;
/// The time between attempts at what only a person can mend, in milliseconds.
pub const HELD_MS: u64 = 60_000;
/// The first wait at what only a person can mend, where one waits less at first.
const HELD_MS_FIRST: u64 = 5_000;

/// Bounds of the waits for one kind of server, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waits {
    /// No wait is shorter.
    pub min_ms: u64,
    /// The first wait is at most this; the bound doubles with each attempt.
    pub first_ms: u64,
    /// The bound grows no further.
    pub grown_ms: u64,
}

/// For databases and webhooks.
pub(super) const HTTP_WAITS: Waits = Waits { min_ms: 50, first_ms: 200, grown_ms: 5_000 };
/// For the broker.
pub const MQTT_WAITS: Waits = Waits { min_ms: 10, first_ms: 100, grown_ms: 30_000 };

/// The waits between attempts at one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backoff {
    waits: Waits,
    attempts: u32,
    held: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(HTTP_WAITS)
    }
}

impl Backoff {
    /// Before the first attempt.
    #[must_use]
    pub fn new(waits: Waits) -> Self {
        Self { waits, attempts: 0, held: 0 }
    }

    /// The server answered: the next failure waits briefly again.
    pub fn reset(&mut self) {
        *self = Self::new(self.waits);
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        Duration::from_millis(self.next_ms(None, random()))
    }

    /// The next wait in milliseconds, from a random number.
    pub fn next_ms(&mut self, retry_after_s: Option<u64>, random: u64) -> u64 {
        let Waits { min_ms, first_ms, grown_ms } = self.waits;
        let ceiling = first_ms.saturating_mul(1_u64.checked_shl(self.attempts).unwrap_or(u64::MAX));
        self.attempts = self.attempts.saturating_add(1).min(32);
        let spread = min_ms + random % (ceiling.min(grown_ms) - min_ms + 1);
        // Jitter on top of what was asked for, for the same reason.
        let asked = retry_after_s.map_or(0, |seconds| seconds.saturating_mul(1000).saturating_add(spread));
        asked.max(spread).min(WAIT_MS_MAX)
    }

    /// The next wait at what only a person can mend: soon at first, since a person who mends it looks whether it
    /// helped; [`HELD_MS`] in the end.
    pub fn next_held_ms(&mut self) -> u64 {
        let wait_ms = HELD_MS_FIRST << self.held;
        self.held = (self.held + 1).min(4);
        wait_ms.min(HELD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_random_and_stay_within_bounds() {
        for waits in [HTTP_WAITS, MQTT_WAITS] {
            let mut backoff = Backoff::new(waits);
            let most: Vec<u64> = (0..12)
                .map(|_| backoff.clone().next_ms(None, 0).min(backoff.next_ms(None, u64::MAX)))
                .collect();
            assert!(most.iter().all(|wait| (waits.min_ms..=waits.grown_ms).contains(wait)));
            backoff.reset();
            let spread: Vec<u64> =
                (0..40_u64).map(|i| backoff.next_ms(None, i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
            assert!(spread[..2].iter().all(|&wait| wait <= 2 * waits.first_ms));
            assert!(spread.iter().any(|&wait| wait > waits.grown_ms / 2));
            assert!(spread.iter().all(|&wait| wait <= waits.grown_ms));
        }
    }

    #[test]
    fn what_only_a_person_can_mend_is_tried_soon_and_then_each_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next_held_ms() / 1000).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60]);
        assert!(backoff.next_ms(None, 0) <= 200, "a receiver that is merely busy is not waited for as long");
    }
}
