//! Tumbling windows over event time, `[start, end)`: sum, count, minimum, maximum and last of each channel.
//!
//! Invariants: a window is a function of the set of its samples, never of their order (sums are integers, last means
//! greatest (time, seq, boot)); a window is shown when it is complete or when the device's own event time has passed
//! its end, and again with a higher revision whenever late samples change it; nothing is ever subtracted.
//! Days begin at the city's midnight.
//!
//! Bound: [`KEPT`] windows of each length are remembered for late samples. A sample older than those changes no window;
//! it is counted in `late`, stays in the raw series, and the window stands as it was last shown.
//! Deliberately absent: a window's emptiness. Silence is the silence rules' business.

use crate::{
    event::{ABSENT, Accepted, ChannelStat, SampleSet, Shown, WindowClosed},
    registry::{ClassRules, DeviceIx},
};
use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;
use serde::{Deserialize, Serialize};

/// Windows of each length kept for late samples, the open one included.
pub const KEPT: usize = 3;
/// The city's distance to UTC, in milliseconds: Asia/Shanghai has no daylight saving time.
pub const CITY_OFFSET_MS: i64 = 8 * 3_600_000;

/// The windows of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Any order; at most [`KEPT`] of each length.
    list: Vec<Window>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    length_ms: i64,
    start_ms: i64,
    /// How often it was shown.
    shown: u32,
    /// Changed since it was shown.
    changed: bool,
    /// One per rolled-up channel of the class.
    stats: Box<[Stat]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    sum: i128,
    count: u32,
    min: i64,
    max: i64,
    last: i64,
    last_key: (i64, u64, u32),
}

impl Stat {
    const EMPTY: Self =
        Self { sum: 0, count: 0, min: i64::MAX, max: i64::MIN, last: 0, last_key: (i64::MIN, 0, 0) };

    /// Adds values of ascending keys: `key` says the key of an index.
    fn add(&mut self, values: &[i64], key: impl Fn(usize) -> (i64, u64, u32)) {
        let Some(newest) = values.iter().rposition(|&value| value != ABSENT) else { return };
        let key = key(newest);
        if key >= self.last_key {
            (self.last, self.last_key) = (values[newest], key);
        }
        for &value in values.iter().filter(|&&value| value != ABSENT) {
            self.sum += i128::from(value);
            self.count += 1;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
    }
}

/// The start of the window of that length around `time_ms`.
#[must_use]
pub fn window_start(time_ms: i64, length_ms: i64) -> i64 {
    time_ms - (time_ms + CITY_OFFSET_MS).rem_euclid(length_ms)
}

impl Windows {
    /// Adds an accepted set of samples and returns how many samples came too late, counted for each length.
    pub fn add(
        &mut self,
        rules: &ClassRules,
        set: &SampleSet,
        accepted: &Accepted,
        shown: &mut Shown,
    ) -> u64 {
        let times = &accepted.times_ms[set.rows.clone()];
        let mut late = 0;
        for &length_ms in &rules.windows_ms {
            let mut from = 0;
            while from < times.len() {
                let start_ms = window_start(times[from], length_ms);
                let inside =
                    times[from..].iter().take_while(|&&t| t >= start_ms && t < start_ms + length_ms).count();
                let rows = from..from + inside;
                from = rows.end;
                match self.find_or_add(rules, set.device, length_ms, start_ms, shown) {
                    Some(window) => window.add(rules, set, rows, accepted),
                    None => late += inside as u64,
                }
            }
        }
        late
    }

    fn find_or_add(
        &mut self,
        rules: &ClassRules,
        device: DeviceIx,
        length_ms: i64,
        start_ms: i64,
        shown: &mut Shown,
    ) -> Option<&mut Window> {
        let known = |window: &Window| window.length_ms == length_ms && window.start_ms == start_ms;
        if let Some(at) = self.list.iter().position(known) {
            return self.list.get_mut(at);
        }
        let alike = || self.list.iter().enumerate().filter(|(_, window)| window.length_ms == length_ms);
        if alike().count() < KEPT {
            let stats = vec![Stat::EMPTY; rules.rolled_up.len()].into_boxed_slice();
            // There will be no more than KEPT of each length, and they come one by one.
            self.list.reserve_exact(1);
            self.list.push(Window { length_ms, start_ms, shown: 0, changed: false, stats });
            return self.list.last_mut();
        }
        let (oldest, _) = alike().min_by_key(|(_, window)| window.start_ms)?;
        let window = self.list.get_mut(oldest).filter(|window| window.start_ms < start_ms)?;
        // Its last chance: a set may span more windows than are kept.
        window.show(rules, device, shown);
        window.stats.fill(Stat::EMPTY);
        (window.start_ms, window.shown) = (start_ms, 0);
        Some(window)
    }

    /// Shows every window that changed and is due: complete, or ended at or before `passed_ms`.
    pub fn show_due(&mut self, rules: &ClassRules, device: DeviceIx, passed_ms: i64, shown: &mut Shown) {
        for window in self.list.iter_mut().filter(|window| window.changed) {
            let complete = || window.stats.iter().any(|stat| stat.count >= window.expected(rules));
            if window.start_ms + window.length_ms <= passed_ms || complete() {
                window.show(rules, device, shown);
            }
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let stats: usize = self.list.iter().map(|window| size_of_val::<[Stat]>(&window.stats)).sum();
        self.list.capacity() * size_of::<Window>() + stats
    }

    /// Is there anything that [`Self::show_due`] could still show?
    #[must_use]
    pub fn has_unshown(&self) -> bool {
        self.list.iter().any(|window| window.changed)
    }
}

impl Window {
    fn add(&mut self, rules: &ClassRules, set: &SampleSet, rows: Range<usize>, accepted: &Accepted) {
        let channels = &accepted.channels[set.channels.clone()];
        for (&at, stat) in rules.rolled_up.iter().zip(&mut self.stats) {
            let number = rules.channels[usize::from(at)].number;
            let Some(column) = channels.iter().position(|&channel| channel == number) else { continue };
            let before = stat.count;
            let first = set.rows.start + rows.start;
            stat.add(&accepted.column(set, column)[rows.clone()], |index| {
                (accepted.times_ms[first + index], accepted.seqs[first + index], set.boot)
            });
            self.changed |= stat.count != before;
        }
    }

    fn expected(&self, rules: &ClassRules) -> u32 {
        u32::try_from(self.length_ms / rules.interval_ms.max(1)).unwrap_or(u32::MAX)
    }

    fn show(&mut self, rules: &ClassRules, device: DeviceIx, shown: &mut Shown) {
        if !core::mem::take(&mut self.changed) {
            return;
        }
        let stats_from = shown.stats.len();
        let filled = rules.rolled_up.iter().zip(&self.stats).filter(|(_, stat)| stat.count > 0);
        shown.stats.extend(filled.map(|(&at, stat)| ChannelStat {
            channel: rules.channels[usize::from(at)].number,
            count: stat.count,
            sum: stat.sum,
            min: stat.min,
            max: stat.max,
            last: stat.last,
        }));
        shown.windows.push(WindowClosed {
            device,
            length_ms: self.length_ms,
            start_ms: self.start_ms,
            revision: self.shown,
            expected: self.expected(rules),
            stats_from,
            channels: shown.stats.len() - stats_from,
        });
        self.shown += 1;
    }
}
