//! Tumbling windows over event time, `[start, end)`: sum, count, minimum, maximum and last of each channel.
//!
//! Invariants: a window is a function of the set of its samples, never of their order (sums are integers, last means
//! greatest (time, seq, boot)); a window is shown when it is complete or when the device's own event time has passed
//! its end, and again with a higher revision whenever late samples change it; nothing is ever subtracted.
//! Days begin at the city's midnight.
//!
//! Bound: [`KEPT`] windows of each length are remembered for late samples. A sample older than those changes no window;
//! it is counted in `late`, stays in the raw series, and the window stands as it was last shown. So is one dated ahead of
//! the present whose window has not begun: it would take the place of a window of the present.
//! Deliberately absent: a window's emptiness. Silence is the silence rules' business.

mod form;

use crate::{
    event::{ABSENT, Accepted, ChannelStat, SampleSet, Shown, WindowClosed},
    registry::{ClassRules, DeviceIx, VersionRules},
};
use alloc::vec::Vec;
use core::ops::Range;

/// Windows of each length kept for late samples, the open one included.
pub const KEPT: usize = 3;
/// The city's distance to UTC, in milliseconds: Asia/Shanghai has no daylight saving time.
pub const CITY_OFFSET_MS: i64 = 8 * 3_600_000;

/// The windows of a device. A city has a few of them a device, so they lie close: in two pieces of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// Any order; at most [`KEPT`] of each length.
    list: Vec<Window>,
    /// Of each window in turn, one per rolled-up channel of the class.
    stats: Vec<Stat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    start_ms: i64,
    length_ms: u32,
    /// How often it was shown.
    shown: u32,
    /// Changed since it was shown.
    changed: bool,
}

/// A sum that, unlike an `i128`, is content with the alignment of its neighbours: it makes a [`Stat`] 64 bytes instead of 80.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(8))]
struct Sum(i128);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    sum: Sum,
    count: u32,
    min: i64,
    max: i64,
    last: i64,
    /// The key of `last`.
    last_ms: i64,
    last_seq: u64,
    last_boot: u32,
}

impl Stat {
    const EMPTY: Self = Self {
        sum: Sum(0),
        count: 0,
        min: i64::MAX,
        max: i64::MIN,
        last: 0,
        last_ms: i64::MIN,
        last_seq: 0,
        last_boot: 0,
    };

    /// Of values that are `factor` times as large.
    fn times(self, factor: i64) -> Self {
        if self.count == 0 {
            return self;
        }
        let by = |value: i64| value.saturating_mul(factor);
        let sum = Sum(self.sum.0.saturating_mul(factor.into()));
        Self { sum, min: by(self.min), max: by(self.max), last: by(self.last), ..self }
    }

    /// Adds values of ascending keys: `key` says the key of an index.
    fn add(&mut self, values: &[i64], key: impl Fn(usize) -> (i64, u64, u32)) {
        let Some(newest) = values.iter().rposition(|&value| value != ABSENT) else { return };
        let key = key(newest);
        if key >= (self.last_ms, self.last_seq, self.last_boot) {
            self.last = values[newest];
            (self.last_ms, self.last_seq, self.last_boot) = key;
        }
        let mut sum = self.sum.0;
        for &value in values.iter().filter(|&&value| value != ABSENT) {
            sum += i128::from(value);
            self.count += 1;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.sum = Sum(sum);
    }
}

/// The start of the window of that length around `time_ms`.
#[must_use]
pub fn window_start(time_ms: i64, length_ms: i64) -> i64 {
    time_ms - (time_ms + CITY_OFFSET_MS).rem_euclid(length_ms)
}

impl Windows {
    /// Adds an accepted set of samples and returns how many samples came too late, or before their window began, counted
    /// for each length. No window that starts after `ahead_from_ms` is begun.
    pub fn add(
        &mut self,
        rules: &ClassRules,
        set: &SampleSet,
        accepted: &Accepted,
        ahead_from_ms: i64,
        shown: &mut Shown,
    ) -> u64 {
        let channels = rules.rolled_up.len();
        if self.stats.len() != self.list.len() * channels {
            // The class has other channels than when these windows were made, under one version.
            *self = Self::default();
        }
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
                let begins = start_ms <= ahead_from_ms;
                match self.find_or_add(rules, set.device, length_ms, (start_ms, begins), shown) {
                    Some(at) => {
                        let stats = &mut self.stats[at * channels..(at + 1) * channels];
                        self.list[at].changed |= add(stats, rules, set, rows, accepted);
                    }
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
        (start_ms, begins): (i64, bool),
        shown: &mut Shown,
    ) -> Option<usize> {
        let length_ms = u32::try_from(length_ms).ok()?;
        let known = |window: &Window| window.length_ms == length_ms && window.start_ms == start_ms;
        if let Some(at) = self.list.iter().position(known) {
            return Some(at);
        }
        if !begins {
            return None;
        }
        let alike = || self.list.iter().enumerate().filter(|(_, window)| window.length_ms == length_ms);
        let channels = rules.rolled_up.len();
        let new = Window { start_ms, length_ms, shown: 0, changed: false };
        if alike().count() < KEPT {
            // There will be no more than KEPT of each length, and they come one by one.
            self.list.reserve_exact(1);
            self.list.push(new);
            self.stats.reserve_exact(channels);
            self.stats.resize(self.stats.len() + channels, Stat::EMPTY);
            return Some(self.list.len() - 1);
        }
        let (oldest, _) = alike().min_by_key(|(_, window)| window.start_ms)?;
        let window = self.list.get_mut(oldest).filter(|window| window.start_ms < start_ms)?;
        let stats = &mut self.stats[oldest * channels..(oldest + 1) * channels];
        // Its last chance: a set may span more windows than are kept.
        window.show(stats, rules, device, shown);
        stats.fill(Stat::EMPTY);
        *window = new;
        Some(oldest)
    }

    /// Shows every window that changed and is due: complete, or ended at or before `passed_ms`.
    pub fn show_due(&mut self, rules: &ClassRules, device: DeviceIx, passed_ms: i64, shown: &mut Shown) {
        let channels = rules.rolled_up.len();
        for (at, window) in self.list.iter_mut().enumerate().filter(|(_, window)| window.changed) {
            let Some(stats) = self.stats.get(at * channels..(at + 1) * channels) else { return };
            let complete = || stats.iter().any(|stat| stat.count >= window.expected(rules));
            if window.start_ms + i64::from(window.length_ms) <= passed_ms || complete() {
                window.show(stats, rules, device, shown);
            }
        }
    }

    /// Puts statistics of the class as it was `before` into integers and channels of its newest version.
    pub(crate) fn change_class(&mut self, rules: &ClassRules, before: &VersionRules) {
        let old = core::mem::take(&mut self.stats);
        let channels = before.rolled_up.len();
        if old.len() != self.list.len() * channels {
            *self = Self::default();
            return;
        }
        let place_of = |at: u8| {
            before.rolled_up.iter().position(|&of| before.channels()[usize::from(of)].at == usize::from(at))
        };
        self.stats.reserve_exact(self.list.len() * rules.rolled_up.len());
        for window in 0..self.list.len() {
            self.stats.extend(rules.rolled_up.iter().map(|&at| {
                let Some(place) = place_of(at) else { return Stat::EMPTY };
                let factor = before.channels()[usize::from(before.rolled_up[place])].factor;
                old[window * channels + place].times(factor)
            }));
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Window>() + self.stats.capacity() * size_of::<Stat>()
    }

    /// Is there anything that [`Self::show_due`] could still show?
    #[must_use]
    pub fn has_unshown(&self) -> bool {
        self.list.iter().any(|window| window.changed)
    }
}

/// Adds rows of a set to a window; says whether it changed.
fn add(
    stats: &mut [Stat],
    rules: &ClassRules,
    set: &SampleSet,
    rows: Range<usize>,
    accepted: &Accepted,
) -> bool {
    let channels = &accepted.channels[set.channels.clone()];
    let mut changed = false;
    for (&at, stat) in rules.rolled_up.iter().zip(stats) {
        let number = rules.channels[usize::from(at)].number;
        let Some(column) = channels.iter().position(|&channel| channel == number) else { continue };
        let before = stat.count;
        let first = set.rows.start + rows.start;
        stat.add(&accepted.column(set, column)[rows.clone()], |index| {
            (accepted.times_ms[first + index], accepted.seqs[first + index], set.boot)
        });
        changed |= stat.count != before;
    }
    changed
}

impl Window {
    fn expected(&self, rules: &ClassRules) -> u32 {
        u32::try_from(i64::from(self.length_ms) / rules.interval_ms.max(1)).unwrap_or(u32::MAX)
    }

    fn show(&mut self, stats: &[Stat], rules: &ClassRules, device: DeviceIx, shown: &mut Shown) {
        if !core::mem::take(&mut self.changed) {
            return;
        }
        let stats_from = shown.stats.len();
        let filled = rules.rolled_up.iter().zip(stats).filter(|(_, stat)| stat.count > 0);
        shown.stats.extend(filled.map(|(&at, stat)| ChannelStat {
            channel: rules.channels[usize::from(at)].number,
            count: stat.count,
            sum: stat.sum.0,
            min: stat.min,
            max: stat.max,
            last: stat.last,
        }));
        shown.windows.push(WindowClosed {
            device,
            length_ms: self.length_ms.into(),
            start_ms: self.start_ms,
            revision: self.shown,
            expected: self.expected(rules),
            stats_from,
            channels: shown.stats.len() - stats_from,
        });
        self.shown += 1;
    }
}
