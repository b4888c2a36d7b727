//! What is known of one device: what was received of it, its windows, and the newest it said.
//!
//! The newest values and the count of gaps follow the newest sample as it advances; what fills a gap later is not
//! subtracted. A sample dated ahead of the present moves neither. Nothing here decides whether a sample is stored.

pub mod aggregate;
pub mod alert;
pub(crate) mod conduct;
pub mod dedup;
pub(crate) mod judge;
pub mod ledger;
pub mod ranges;
pub mod validate;

use crate::{
    device::{aggregate::Windows, alert::Alerts, dedup::Outboxes, validate::CLOCK_SUSPECT_MS},
    event::{ABSENT, Accepted, Arrival, SampleSet},
    registry::{ClassRules, VersionRules},
};
use alloc::boxed::Box;
use hunhe_proto::reading::{Quality, Report};
use serde::{Deserialize, Serialize};

/// Two reports of one clock tell its offset within so much; two of a backlog differ by a report period.
const STEADY_MS: u64 = 5_000;

/// What is known of a device that has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// What was received.
    pub outboxes: Outboxes,
    /// Its windows.
    pub windows: Windows,
    /// Its alerts.
    pub alerts: Alerts,
    /// The newest sample's time, milliseconds since 1970.
    pub last_ms: i64,
    /// The newest value of each of the class's channels, [`ABSENT`] where there never was one.
    pub last: Box<[i64]>,
    /// The newest sample's quality code.
    pub last_quality: u8,
    /// The newest message's arrival, milliseconds since 1970.
    pub arrival_ms: i64,
    /// The city's clock of silence at that arrival, in milliseconds.
    pub listened_ms: u64,
    /// The device clock minus the gateway's, where a live report told; milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Two live reports, one behind the other, told the same offset: it is the clock's, and not the way's.
    pub clock_steady: bool,
    /// Millivolts, as last reported.
    pub battery_mv: Option<u32>,
    /// dBm, as last reported.
    pub signal_dbm: Option<i32>,
    /// Intervals without a sample, between samples (V03).
    pub gaps: u32,
    /// The longest time without a sample, between samples, in milliseconds.
    pub longest_gap_ms: i64,
    /// Samples whose time is not a multiple of the interval (V04).
    pub off_grid: u32,
    /// Values accepted, since its first report.
    pub readings: u64,
}

impl DeviceState {
    pub(crate) fn new(rules: &ClassRules) -> Self {
        Self {
            outboxes: Outboxes::default(),
            windows: Windows::default(),
            alerts: Alerts::default(),
            last_ms: i64::MIN,
            last: alloc::vec![ABSENT; rules.channels.len()].into_boxed_slice(),
            last_quality: Quality::Valid.code(),
            arrival_ms: 0,
            listened_ms: 0,
            clock_offset_ms: None,
            clock_steady: false,
            battery_mv: None,
            signal_dbm: None,
            gaps: 0,
            longest_gap_ms: 0,
            off_grid: 0,
            readings: 0,
        }
    }

    /// A device whose first message came now.
    pub(crate) fn heard_first(rules: &ClassRules, arrival: Arrival, listened_ms: u64) -> Self {
        Self { arrival_ms: arrival.at_ms, listened_ms, ..Self::new(rules) }
    }

    /// Bytes in memory, what is on the heap included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val::<[i64]>(&self.last)
            + self.outboxes.heap_bytes()
            + self.windows.heap_bytes()
            + self.alerts.heap_bytes()
    }

    /// Puts what was noted in terms of the class as it was `before` into those of its newest version; forgets it where the
    /// class is another one.
    pub(crate) fn change_class(&mut self, rules: &ClassRules, before: Option<&VersionRules>) {
        let last = core::mem::take(&mut self.last);
        self.last = alloc::vec![ABSENT; rules.channels.len()].into_boxed_slice();
        let Some(before) = before else {
            self.windows = Windows::default();
            return;
        };
        for (channel, value) in before.channels().iter().zip(last).filter(|&(_, value)| value != ABSENT) {
            if let Some(slot) = self.last.get_mut(channel.at) {
                *slot = value.saturating_mul(channel.factor);
            }
        }
        self.windows.change_class(rules, before);
    }

    /// It left the registry: what it measured is of no class any more, and its alerts were closed.
    pub(crate) fn remove(&mut self) {
        self.last = Box::default();
        self.windows = Windows::default();
        self.alerts = Alerts::default();
    }

    pub(crate) fn note_message(&mut self, arrival: Arrival, listened_ms: u64, report: &Report) {
        self.arrival_ms = arrival.at_ms;
        self.listened_ms = listened_ms;
        self.battery_mv = report.header.battery_mv.or(self.battery_mv);
        self.signal_dbm = report.header.signal_dbm.or(self.signal_dbm);
    }

    /// V01: the device's clock at sending against arrival, for messages that were not held up on the way.
    pub(crate) fn judge_clock(&mut self, rules: &ClassRules, arrival: Arrival, report: &Report) -> Quality {
        let (true, Some(after_s), Some(last_ms)) =
            (arrival.live, report.header.sent_after_s, report.times_ms.last())
        else {
            return Quality::Valid;
        };
        let sent_ms = last_ms.saturating_add(i64::from(after_s) * 1000);
        let offset_ms = sent_ms.saturating_sub(arrival.at_ms);
        let before_ms = self.clock_offset_ms.replace(offset_ms);
        if let (Some(before_ms), Some(&first_ms)) = (before_ms, report.times_ms.first())
            && before_ms.saturating_sub(offset_ms) > STEADY_MS.cast_signed()
        {
            self.alerts.set_back(first_ms);
            // Else the values of the fast clock stay the newest until the right one has come as far.
            if self.last_ms > arrival.at_ms {
                self.last_ms = self.last_ms.min(first_ms.saturating_sub(rules.interval_ms));
            }
        }
        self.clock_steady = before_ms.is_some_and(|before_ms| before_ms.abs_diff(offset_ms) <= STEADY_MS);
        if offset_ms.saturating_abs() > CLOCK_SUSPECT_MS { Quality::Suspect } else { Quality::Valid }
    }

    /// Event time from which on a sample speaks of now. A clock that is known to be wrong does not make a leak old.
    /// One that is fast makes no true sample old either.
    pub(crate) fn live_from_ms(&self, arrival: Arrival, rules: &ClassRules) -> i64 {
        let offset_ms = self.clock_offset_ms.filter(|_| self.clock_steady && arrival.live).unwrap_or(0);
        arrival.at_ms.saturating_sub(rules.live_within_ms).saturating_add(offset_ms.min(0))
    }

    /// Samples after this time are dated ahead of the present: they are kept as doubtful and can raise an alert, and move
    /// forward neither the newest values nor the windows. A clock that is known to be fast is allowed for.
    pub(crate) fn ahead_from_ms(&self, arrival: Arrival) -> i64 {
        let fast_ms = self.clock_offset_ms.filter(|_| self.clock_steady).unwrap_or(0).max(0);
        arrival.at_ms.saturating_add(CLOCK_SUSPECT_MS).saturating_add(fast_ms)
    }

    /// Keeps the newest value of each channel, and counts what lies off the grid (V04) or is missing on it (V03).
    pub(crate) fn note(
        &mut self,
        rules: &ClassRules,
        set: &SampleSet,
        accepted: &Accepted,
        ahead_from_ms: i64,
    ) {
        let times = &accepted.times_ms[set.rows.clone()];
        let present = times.partition_point(|&time_ms| time_ms <= ahead_from_ms);
        let times = &times[..present];
        let (Some(&first_ms), Some(&last_ms)) = (times.first(), times.last()) else { return };
        let interval_ms = rules.interval_ms;
        let regular =
            i64::try_from(times.len() - 1).is_ok_and(|steps| last_ms - first_ms == steps * interval_ms);
        if !regular || !on_grid(first_ms, interval_ms) {
            let off = times.iter().filter(|&&time_ms| !on_grid(time_ms, interval_ms)).count();
            self.off_grid = self.off_grid.saturating_add(u32::try_from(off).unwrap_or(u32::MAX));
        }
        if last_ms <= self.last_ms {
            return;
        }
        let newer = times.partition_point(|&time_ms| time_ms <= self.last_ms);
        let stepped = if regular { newer + 1 } else { times.len() };
        for &time_ms in &times[newer..stepped] {
            self.note_step(interval_ms, time_ms);
        }
        self.last_ms = last_ms;
        self.last_quality = accepted.quality[set.rows.start + present - 1];
        for (column, &number) in accepted.channels[set.channels.clone()].iter().enumerate() {
            let newest = accepted.column(set, column)[newer..present].iter().rfind(|&&value| value != ABSENT);
            if let (Some(at), Some(&value)) = (rules.position(number), newest) {
                self.last[at] = value;
            }
        }
    }

    fn note_step(&mut self, interval_ms: i64, time_ms: i64) {
        if self.last_ms != i64::MIN && time_ms - self.last_ms > interval_ms + interval_ms / 2 {
            let elapsed_ms = time_ms - self.last_ms;
            let missing = (elapsed_ms + interval_ms / 2) / interval_ms - 1;
            self.gaps = self.gaps.saturating_add(u32::try_from(missing).unwrap_or(u32::MAX));
            self.longest_gap_ms = self.longest_gap_ms.max(elapsed_ms);
        }
        self.last_ms = time_ms;
    }
}

/// Within a twentieth of the interval of one of its multiples.
fn on_grid(time_ms: i64, interval_ms: i64) -> bool {
    let off_ms = time_ms.rem_euclid(interval_ms);
    off_ms.min(interval_ms - off_ms) <= interval_ms / 20
}
