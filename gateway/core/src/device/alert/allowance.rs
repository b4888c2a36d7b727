//! How many changes of its alerts one device may bring: a burst, and then a pace, by the gateway's clock, which is journaled.
//!
//! Changes become letters and records of the alert log, which all devices share. A report may hold a thousand episodes,
//! and as many reports may come as there are samples in a backlog.
//!
//! | changes | at once | then |
//! |---|---|---|
//! | live | [`LIVE_BURST`] | one in [`LIVE_EACH_MS`] |
//! | retrospective | [`OLD_BURST`] | one in [`OLD_EACH_MS`] |
//!
//! That is less than an eighth of the alert log's default limit at once, and an eighth of it in eight hours: a record has
//! some 1.1 kB. Honest recordings have 675 episodes, of three changes each at the most.

use super::Mode;
use serde::{Deserialize, Serialize};

/// Live changes at once.
pub const LIVE_BURST: i64 = 512;
/// Milliseconds for another one.
pub const LIVE_EACH_MS: i64 = 16_000;
/// Retrospective changes at once.
pub const OLD_BURST: i64 = 4_096;
/// Milliseconds for another one.
pub const OLD_EACH_MS: i64 = 32_000;

/// Up to when the changes so far are paid for, milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Allowance {
    live_ms: i64,
    old_ms: i64,
}

impl Allowance {
    /// Is another change within it?
    pub(super) fn has(self, mode: Mode, now_ms: i64) -> bool {
        let Pace { each_ms, burst } = Pace::of(mode);
        self.owed_ms(mode, now_ms) <= each_ms * (burst - 1)
    }

    /// Pays for a change, also for one beyond the allowance that must be told.
    pub(super) fn spend(&mut self, mode: Mode, now_ms: i64) {
        let pace = Pace::of(mode);
        let owed_ms = self.owed_ms(mode, now_ms).saturating_add(pace.each_ms).min(pace.owed_max_ms());
        *self.paid_ms(mode) = now_ms.saturating_add(owed_ms);
    }

    /// Takes the payment for a change back: it is not told after all.
    pub(super) fn give_back(&mut self, mode: Mode) {
        *self.paid_ms(mode) -= Pace::of(mode).each_ms;
    }

    fn owed_ms(mut self, mode: Mode, now_ms: i64) -> i64 {
        let owed_ms = self.paid_ms(mode).saturating_sub(now_ms).max(0);
        // Nobody can owe more: our own clock was set back.
        if owed_ms > Pace::of(mode).owed_max_ms() { 0 } else { owed_ms }
    }

    const fn paid_ms(&mut self, mode: Mode) -> &mut i64 {
        match mode {
            Mode::Live => &mut self.live_ms,
            Mode::Retrospective => &mut self.old_ms,
        }
    }
}

struct Pace {
    each_ms: i64,
    burst: i64,
}

impl Pace {
    const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self { each_ms: LIVE_EACH_MS, burst: LIVE_BURST },
            Mode::Retrospective => Self { each_ms: OLD_EACH_MS, burst: OLD_BURST },
        }
    }

    /// A burst, and what must be told beyond it.
    const fn owed_max_ms(&self) -> i64 {
        self.each_ms * (self.burst + self.burst / 4)
    }
}
