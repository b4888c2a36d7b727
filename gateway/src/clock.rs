//! The gateway's clock: the machine's, or one that runs faster for a demonstration.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time, milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    virtual_since: Option<(Instant, i64, u32)>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `start_ms` now and runs `speed` times as fast.
    #[must_use]
    pub fn virtual_from(start_ms: i64, speed: u32) -> Self {
        Self { virtual_since: Some((Instant::now(), start_ms, speed)) }
    }

    /// How much event time passes in a real time, in milliseconds.
    #[must_use]
    pub fn event_ms(&self, real: std::time::Duration) -> u32 {
        let speed = self.virtual_since.map_or(1, |(_, _, speed)| speed);
        u32::try_from(real.as_millis().saturating_mul(speed.into())).unwrap_or(u32::MAX)
    }

    /// The same in nanoseconds: 584 years of them.
    #[must_use]
    pub fn event_ns(&self, real: std::time::Duration) -> u64 {
        let speed = self.virtual_since.map_or(1, |(_, _, speed)| speed);
        u64::try_from(real.as_nanos().saturating_mul(speed.into())).unwrap_or(u64::MAX)
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        let millis = |elapsed: std::time::Duration| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        match self.virtual_since {
            None => millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Some((since, start_ms, speed)) => {
                start_ms.saturating_add(millis(since.elapsed()).saturating_mul(speed.into()))
            }
        }
    }
}
