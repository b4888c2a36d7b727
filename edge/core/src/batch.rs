//! When samples become a report: when enough are there, when they have waited long enough, or at once for an alarm.
//!
//! Meters of a city freeze their registers at the same instant. So that they do not all speak at that instant, each
//! waits for an offset that a hash of its id spreads evenly over the class's dispersal.

use core::hash::Hasher;
use hunhe_proto::{class::Class, id::DeviceId};
use siphasher::sip::SipHasher13;

/// How a device's samples are gathered into reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Samples in an ordinary report, at least 1.
    pub samples: u32,
    /// How long after the last sample of a full report it is sent, in event time.
    pub offset_ms: i64,
    /// A report that does not fill is sent when its first sample is this old, in event time.
    pub age_ms_max: i64,
}

impl Policy {
    /// The policy of a device of `class`.
    #[must_use]
    pub fn of(class: &Class, device: DeviceId) -> Self {
        let offset_ms = i64::from(slot_s(device, class.report.dispersal_s)) * 1000;
        let full_ms = class.interval_ms().saturating_mul(i64::from(class.report.samples));
        // Gaps in sampling must not make a device look silent; a report that fills as it should is never cut short.
        let age_ms_max = (i64::from(class.report.silent_after_s) * 750)
            .max(full_ms.saturating_add(i64::from(class.report.dispersal_s) * 1000));
        Self { samples: class.report.samples.max(1), offset_ms, age_ms_max }
    }
}

/// The second within `dispersal_s` at which this device reports; 0 without dispersal.
#[must_use]
pub fn slot_s(device: DeviceId, dispersal_s: u32) -> u32 {
    if dispersal_s == 0 {
        return 0;
    }
    let slot = hash(device, 0) % u64::from(dispersal_s);
    u32::try_from(slot).unwrap_or(0)
}

/// A keyed hash of an id, the same on every machine and in every run.
pub(crate) fn hash(id: DeviceId, salt: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6875_6e68_6500_0001, salt);
    hasher.write(id.as_str().as_bytes());
    hasher.finish()
}

/// The device clock at sending minus the last sample's time, in seconds, as a report carries it.
#[must_use]
pub fn sent_after_s(event_ms: i64, last_sample_ms: i64) -> i32 {
    let seconds = event_ms.saturating_sub(last_sample_ms).div_euclid(1000);
    i32::try_from(seconds).unwrap_or(if seconds < 0 { i32::MIN } else { i32::MAX })
}

/// What has gathered for the next report of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Event time of the first sample that waits.
    first_ms: Option<i64>,
    /// Event time at which a full report may go.
    due_ms: Option<i64>,
    urgent: bool,
}

impl Batch {
    /// Notes a sample. `waiting` is how many wait, with this one.
    pub fn sampled(&mut self, policy: &Policy, time_ms: i64, waiting: u64, alarm: bool) {
        self.first_ms.get_or_insert(time_ms);
        if waiting >= u64::from(policy.samples) {
            self.due_ms.get_or_insert(time_ms.saturating_add(policy.offset_ms));
        }
        self.urgent |= alarm;
    }

    /// Is a report of the `waiting` samples due?
    #[must_use]
    pub fn is_due(&self, policy: &Policy, waiting: u64, event_ms: i64) -> bool {
        // A clock that was set back since is no reason to wait until its time comes again.
        let aged = |first: i64| event_ms.saturating_sub(first).saturating_abs() >= policy.age_ms_max;
        let aged = || self.first_ms.is_some_and(aged);
        let come = |due: i64| event_ms >= due || due.saturating_sub(event_ms) > policy.offset_ms;
        let full = || waiting >= u64::from(policy.samples) && self.due_ms.is_none_or(come);
        waiting > 0 && (self.urgent || full() || aged())
    }

    /// Notes that a report went and `waiting` samples are left.
    pub fn reported(&mut self, policy: &Policy, waiting: u64, event_ms: i64) {
        if waiting == 0 {
            *self = Self::default();
        } else if waiting < u64::from(policy.samples) && !self.urgent {
            self.due_ms = None;
            self.first_ms = Some(event_ms);
        }
    }

    /// Everything that waits goes as soon as possible.
    pub const fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Does something go as soon as possible?
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        self.urgent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { samples: 3, offset_ms: 500, age_ms_max: 10_000 };

    #[test]
    fn a_full_report_waits_for_its_slot() {
        let mut batch = Batch::default();
        for (index, time) in [(1, 1000), (2, 2000), (3, 3000)] {
            batch.sampled(&POLICY, time, index, false);
        }
        assert!(!batch.is_due(&POLICY, 3, 3_499));
        assert!(batch.is_due(&POLICY, 3, 3_500));
        batch.reported(&POLICY, 0, 3_500);
        assert!(!batch.is_due(&POLICY, 0, 99_999_999));
    }

    #[test]
    fn an_old_sample_and_an_alarm_do_not_wait_for_company() {
        let mut batch = Batch::default();
        batch.sampled(&POLICY, 1000, 1, false);
        assert!(!batch.is_due(&POLICY, 1, 10_999));
        assert!(batch.is_due(&POLICY, 1, 11_000));
        let mut batch = Batch::default();
        batch.sampled(&POLICY, 1000, 1, true);
        assert!(batch.is_due(&POLICY, 1, 1000));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_no_report_back() {
        let mut batch = Batch::default();
        for (index, time) in [(1, 3_601_000), (2, 3_602_000), (3, 3_603_000)] {
            batch.sampled(&POLICY, time, index, false);
        }
        assert!(!batch.is_due(&POLICY, 3, 3_603_499));
        assert!(batch.is_due(&POLICY, 3, 4_000), "an hour back");
        let mut batch = Batch::default();
        batch.sampled(&POLICY, 3_601_000, 1, false);
        assert!(batch.is_due(&POLICY, 1, 4_000), "nor one that does not fill");
    }

    #[test]
    fn slots_spread_a_city_evenly() {
        use core::fmt::Write;
        let mut hours = [0_u32; 24];
        for index in 0..24_000 {
            let mut name = heapless::String::<16>::new();
            write!(name, "g-{index}").unwrap();
            let slot = slot_s(DeviceId::new(&name).unwrap(), 86_400);
            hours[slot as usize / 3600] += 1;
        }
        assert!(hours.iter().all(|&count| (850..1150).contains(&count)), "{hours:?}");
    }
}
