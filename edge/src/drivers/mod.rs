//! What a sample comes from: a model of the device ([`simulated`]) or a recording ([`replay`]).
//!
//! A driver says at which instants there is a sample and what it reads there. A missing instant is a gap: nothing is
//! sampled, nothing invented.

pub mod replay;
pub mod simulated;

/// A device's source of samples.
#[derive(Debug)]
pub enum Driver {
    /// A model by the class's shapes.
    Simulated(Box<simulated::Simulated>),
    /// A recorded series.
    Replay(replay::Player),
    /// Nothing: the device is no longer configured, and has only losses to tell.
    Gone,
}

/// A sample that a driver took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The time it bears, in milliseconds since 1970.
    pub time_ms: i64,
    /// The device raises an alarm by itself.
    pub alarm: bool,
}

impl Driver {
    /// Takes the next sample that is due at `event_ms`, into `row` (one value per channel of the class).
    pub fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken> {
        match self {
            Self::Simulated(model) => model.take(event_ms, row),
            Self::Replay(player) => player.take(event_ms, row),
            Self::Gone => None,
        }
    }

    /// Goes on behind the sample taken at `newest_ms`, before a restart.
    pub fn resume(&mut self, newest_ms: i64) {
        match self {
            Self::Simulated(model) => model.resume(newest_ms),
            Self::Replay(player) => player.resume(newest_ms),
            Self::Gone => {}
        }
    }

    /// When the next sample is due, in event time; `None` where there is no further one.
    #[must_use]
    pub fn next_ms(&self) -> Option<i64> {
        match self {
            Self::Simulated(model) => Some(model.next_ms()),
            Self::Replay(player) => player.next_ms(),
            Self::Gone => None,
        }
    }
}
