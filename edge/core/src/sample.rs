//! When a device is sampled: at the multiples of its interval in event time, so that all devices of a class share
//! one grid whenever they were started.
//!
//! Deliberately absent: reading the sensor.

/// What to do about instants that went by without a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// They are gaps: a live sensor cannot be read in the past.
    Skip,
    /// Each is sampled, in order: a recording or a model knows its past.
    CatchUp,
}

/// The sampling grid of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval_ms: i64,
    next_ms: i64,
    late: Late,
}

impl Schedule {
    /// The grid of `interval_ms` (at least 1), starting at or after `from_ms`.
    #[must_use]
    pub const fn new(interval_ms: i64, from_ms: i64, late: Late) -> Self {
        let interval_ms = if interval_ms < 1 { 1 } else { interval_ms };
        Self { interval_ms, next_ms: next_multiple(from_ms, interval_ms), late }
    }

    /// The next instant to sample at.
    #[must_use]
    pub const fn next_ms(&self) -> i64 {
        self.next_ms
    }

    /// Goes on from `from_ms` on the grid of `interval_ms`: an alarm asks for a denser one, a parked machine for a wider.
    pub const fn turn(&mut self, from_ms: i64, interval_ms: i64) {
        self.interval_ms = if interval_ms < 1 { 1 } else { interval_ms };
        self.next_ms = next_multiple(from_ms, self.interval_ms);
    }

    /// The instant that is due, if one is. Each instant is returned once.
    ///
    /// A sensor's clock that stepped back by more than an interval moves the grid back with it: times then repeat,
    /// under new sequence numbers, and the gateway sees the step. A model waits until its time comes again.
    pub const fn take_due(&mut self, event_ms: i64) -> Option<i64> {
        let stepped_back = self.next_ms.saturating_sub(event_ms) > self.interval_ms;
        if stepped_back && matches!(self.late, Late::Skip) {
            self.next_ms = next_multiple(event_ms, self.interval_ms);
        }
        if event_ms < self.next_ms {
            return None;
        }
        let due = match self.late {
            Late::CatchUp => self.next_ms,
            Late::Skip => event_ms - event_ms.rem_euclid(self.interval_ms),
        };
        self.next_ms = due.saturating_add(self.interval_ms);
        Some(due)
    }
}

const fn next_multiple(from_ms: i64, interval_ms: i64) -> i64 {
    let past = from_ms.rem_euclid(interval_ms);
    if past == 0 { from_ms } else { from_ms.saturating_add(interval_ms - past) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_on_the_grid_of_the_interval() {
        let mut schedule = Schedule::new(900, 1_000, Late::CatchUp);
        assert_eq!(schedule.take_due(1_799), None);
        assert_eq!(schedule.take_due(1_800), Some(1_800));
        assert_eq!(schedule.take_due(1_800), None);
        assert_eq!(Schedule::new(900, -1, Late::Skip).next_ms(), 0);
    }

    #[test]
    fn a_model_catches_up_and_a_sensor_skips() {
        let mut model = Schedule::new(10, 0, Late::CatchUp);
        let taken: [_; 4] = core::array::from_fn(|_| model.take_due(25));
        assert_eq!(taken, [Some(0), Some(10), Some(20), None]);
        let mut sensor = Schedule::new(10, 0, Late::Skip);
        assert_eq!(
            [sensor.take_due(25), sensor.take_due(25), sensor.take_due(30)],
            [Some(20), None, Some(30)]
        );
    }

    #[test]
    fn a_denser_grid_begins_where_it_is_told() {
        let mut model = Schedule::new(900, 0, Late::CatchUp);
        assert_eq!(model.take_due(10_000), Some(0));
        model.turn(125, 60);
        let taken: [_; 3] = core::array::from_fn(|_| model.take_due(300));
        assert_eq!(taken, [Some(180), Some(240), Some(300)]);
        model.turn(301, 900);
        assert_eq!(model.take_due(10_000), Some(900));
    }

    #[test]
    fn a_clock_that_steps_back_does_not_stop_sampling() {
        let mut sensor = Schedule::new(10, 1_000_000, Late::Skip);
        assert_eq!(sensor.take_due(1_000_000), Some(1_000_000));
        assert_eq!(sensor.take_due(500), Some(500));
        let mut model = Schedule::new(10, 1_000, Late::CatchUp);
        assert_eq!((model.take_due(500), model.take_due(1_000)), (None, Some(1_000)));
    }
}
