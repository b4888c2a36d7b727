//! Which samples and values are plausible, and why not. Pure functions over one message's columns.
//!
//! Refused (quarantined): impossible times, values out of the class's range or between the instrument's steps.
//! Doubted (quality `suspect`): what a rule finds implausible and a person may still want: a clock that is off (V01), a gauge
//! beyond its usual range (V05), a register that falls (V06), a change too fast (V07). A doubted sample is stored, and it
//! moves alerts and windows as any other: a leak is a step.
//! Counted: gaps and times off the grid (V03, V04).
//! Deliberately absent: rules that need history or neighbours, and any change to a value. Two samples of one time under
//! different sequence numbers (V02) meet only in the store, whose word moves the loser to quarantine.

use crate::{event::Reason, registry::ChannelRules};
use alloc::vec::Vec;
use core::ops::Range;
use hunhe_proto::reading::ABSENT;

/// 2020-01-01T00:00:00Z: no device of ours was in the field before.
pub const EARLIEST_MS: i64 = 1_577_836_800_000;
/// How far ahead of its arrival a sample's time may lie, in milliseconds (V01).
pub const AHEAD_MAX_MS: i64 = 15 * 60 * 1000;
/// No acceptable time is this far from 1970, whatever the gateway's clock says; milliseconds.
const TIME_MAX_MS: i64 = 1 << 53;
/// A device clock this far off makes its samples suspect, in milliseconds (V01).
pub const CLOCK_SUSPECT_MS: i64 = 120 * 1000;

/// Which times are acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// The earliest acceptable time, milliseconds since 1970.
    pub from_ms: i64,
    /// The latest acceptable time, milliseconds since 1970.
    pub to_ms: i64,
    /// The earliest time that the sink of record still keeps, milliseconds since 1970.
    pub kept_from_ms: i64,
}

impl TimeWindow {
    /// The window at an arrival. `accept_past_ms` widens it beyond 2020, and never narrows it.
    #[must_use]
    pub fn at(arrival_ms: i64, accept_past_ms: i64) -> Self {
        Self {
            from_ms: EARLIEST_MS.min(arrival_ms.saturating_sub(accept_past_ms)).max(-TIME_MAX_MS),
            to_ms: arrival_ms.saturating_add(AHEAD_MAX_MS).min(TIME_MAX_MS),
            kept_from_ms: i64::MIN,
        }
    }

    /// The same where the sink of record keeps samples for `retention_ms`; 0: for ever.
    ///
    /// The arrival alone decides, never a clock: a replay refuses the same samples.
    #[must_use]
    pub fn kept_for(self, arrival_ms: i64, retention_ms: i64) -> Self {
        let kept_from_ms = if retention_ms > 0 { arrival_ms.saturating_sub(retention_ms) } else { i64::MIN };
        Self { kept_from_ms, ..self }
    }

    /// The part of `rows` that the sink of record keeps. Times increase, so what is refused is a head.
    #[must_use]
    pub fn kept(&self, times_ms: &[i64], rows: Range<usize>) -> Range<usize> {
        let head = times_ms[rows.clone()].partition_point(|&time| time < self.kept_from_ms);
        rows.start + head..rows.end
    }

    /// The part of `rows` within the window. Times increase, so what is refused is a head and a tail.
    #[must_use]
    pub fn within(&self, times_ms: &[i64], rows: Range<usize>) -> Range<usize> {
        let times = &times_ms[rows.clone()];
        let head = times.partition_point(|&time| time < self.from_ms);
        let kept = times[head..].partition_point(|&time| time <= self.to_ms);
        rows.start + head..rows.start + head + kept
    }
}

/// Why a value is refused, if it is.
#[must_use]
pub fn refusal_of(rules: &ChannelRules, value: i64) -> Option<Reason> {
    if value == ABSENT {
        None
    } else if value < rules.low || value > rules.high {
        Some(Reason::OutOfRange)
    } else {
        (rules.step != 1 && value % rules.step != 0).then_some(Reason::Resolution)
    }
}

/// What is left of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Values accepted.
    pub accepted: usize,
    /// Values refused.
    pub refused: usize,
}

/// Appends a channel's values, [`ABSENT`] in place of each that is refused.
pub fn judge_values(rules: &ChannelRules, values: &[i64], out: &mut Vec<i64>) -> Judged {
    let from = out.len();
    out.extend_from_slice(values);
    // Two passes without branches, since nearly every column is whole and fine. ABSENT lies below every `low`.
    let in_range =
        values.iter().fold(true, |fine, &value| fine & (value >= rules.low) & (value <= rules.high));
    let on_step = || rules.step == 1 || values.iter().all(|&value| value % rules.step == 0);
    if in_range && on_step() {
        return Judged { accepted: values.len(), refused: 0 };
    }
    let mut judged = Judged { accepted: 0, refused: 0 };
    for value in &mut out[from..] {
        if refusal_of(rules, *value).is_some() {
            *value = ABSENT;
            judged.refused += 1;
        } else if *value != ABSENT {
            judged.accepted += 1;
        }
    }
    judged
}

/// What a register did between two samples (V06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterStep {
    /// Rose or stood.
    Forward,
    /// Started again from zero at its width.
    Rollover,
    /// Fell together with a new serial number: another meter.
    Swap,
    /// Fell for no known reason.
    Reverse,
}

/// A change is judged over no less time than this (D), in milliseconds: the noise of a sensor that is read each second is no
/// change.
pub const CHANGE_OVER_MS_MIN: i64 = 60_000;
/// No two wire integers are this far apart.
const ANY_CHANGE: i64 = 1 << 60;

/// The greatest plausible change of a channel over `elapsed_ms` (V07), a step of the instrument included.
#[must_use]
pub fn change_max(rules: &ChannelRules, elapsed_ms: i64) -> i64 {
    let Some(per_h) = rules.change_per_h_max else { return ANY_CHANGE };
    let elapsed_ms = elapsed_ms.max(CHANGE_OVER_MS_MIN);
    let change = i128::from(per_h) * i128::from(elapsed_ms) / 3_600_000 + i128::from(rules.step);
    i64::try_from(change).map_or(ANY_CHANGE, |change| change.min(ANY_CHANGE))
}

/// Is a change from `before` to `after` over `elapsed_ms` faster than plausible (V07)?
#[must_use]
pub fn is_too_fast(rules: &ChannelRules, before: i64, after: i64, elapsed_ms: i64) -> bool {
    after.saturating_sub(before).saturating_abs() > change_max(rules, elapsed_ms)
}

/// Is a gauge's value outside of its usual range (V05)? One that is not there is not.
#[must_use]
pub const fn is_unusual(rules: &ChannelRules, value: i64) -> bool {
    (value < rules.usual.0 || value > rules.usual.1) && value != ABSENT
}

/// Judges a register's step from `before` to `after` over `elapsed_ms`.
#[must_use]
pub fn register_step(
    rules: &ChannelRules,
    before: i64,
    after: i64,
    elapsed_ms: i64,
    serial_changed: bool,
) -> RegisterStep {
    if after >= before {
        return RegisterStep::Forward;
    }
    if serial_changed {
        return RegisterStep::Swap;
    }
    let rolled = rules.rollover.is_some_and(|width| {
        let near_the_end = i128::from(before) * 10 > i128::from(width) * 9;
        let used = i128::from(width) - i128::from(before) + i128::from(after);
        let possible = rules
            .change_per_h_max
            .map_or(i128::from(width) / 10, |per_h| i128::from(per_h) * i128::from(elapsed_ms) / 3_600_000);
        near_the_end && used <= possible
    });
    if rolled { RegisterStep::Rollover } else { RegisterStep::Reverse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hunhe_proto::class::Kind;

    fn register() -> ChannelRules {
        ChannelRules {
            number: 1,
            kind: Kind::Register,
            low: 0,
            high: 99_999_999,
            step: 10,
            rollover: Some(100_000_000),
            change_per_h_max: Some(7_200),
            usual: (0, 99_999_999),
            every_ms: 3_600_000,
        }
    }

    #[test]
    fn a_register_falls_for_one_of_three_reasons() {
        let step = |before, after, hours: i64, serial| {
            register_step(&register(), before, after, hours * 3_600_000, serial)
        };
        assert_eq!(step(10, 10, 1, false), RegisterStep::Forward);
        assert_eq!(step(99_999_000, 2_000, 1, false), RegisterStep::Rollover);
        assert_eq!(step(99_999_000, 20_000, 1, false), RegisterStep::Reverse, "more than the meter can pass");
        assert_eq!(step(99_999_000, 20_000, 3, false), RegisterStep::Rollover);
        assert_eq!(step(50_000_000, 0, 1, false), RegisterStep::Reverse, "not near its width");
        assert_eq!(step(50_000_000, 0, 1, true), RegisterStep::Swap);
    }

    #[test]
    fn a_change_is_too_fast_over_a_minute_at_least_and_by_more_than_a_step() {
        let fast = |change: i64, elapsed_ms| is_too_fast(&register(), 1_000, 1_000 + change, elapsed_ms);
        assert_eq!([7_210, 7_211].map(|change| fast(change, 3_600_000)), [false, true]);
        assert_eq!([130, 131, -130, -131].map(|change| fast(change, 60_000)), [false, true, false, true]);
        assert_eq!([130, 131].map(|change| fast(change, 1)), [false, true], "as over a minute");
        let any = ChannelRules { change_per_h_max: None, ..register() };
        assert!(!is_too_fast(&any, 0, (1 << 53) - 1, 1));
    }

    #[test]
    fn impossible_values_are_refused_one_by_one() {
        let mut out = Vec::new();
        let judged = judge_values(&register(), &[0, 10, -10, 15, 99_999_990, 100_000_000, ABSENT], &mut out);
        assert_eq!(judged, Judged { accepted: 3, refused: 3 });
        assert_eq!(out, [0, 10, ABSENT, ABSENT, 99_999_990, ABSENT, ABSENT]);
        assert_eq!(judge_values(&register(), &[20, 30], &mut out), Judged { accepted: 2, refused: 0 });
        let reasons = [15, -10, 100_000_000, 10, ABSENT].map(|value| refusal_of(&register(), value));
        let out_of_range = Some(Reason::OutOfRange);
        assert_eq!(reasons, [Some(Reason::Resolution), out_of_range, out_of_range, None, None]);
    }

    #[test]
    fn the_time_window_is_2020_to_a_quarter_ahead_unless_widened() {
        let now = 1_800_000_000_000;
        let window = TimeWindow::at(now, 0);
        let times = [EARLIEST_MS - 1, EARLIEST_MS, now, now + AHEAD_MAX_MS, now + AHEAD_MAX_MS + 1];
        assert_eq!(window.within(&times, 0..5), 1..4);
        assert_eq!(TimeWindow::at(now, 1000).from_ms, EARLIEST_MS);
        assert_eq!(TimeWindow::at(now, now).from_ms, 0);
        assert_eq!(window.within(&[1, 2], 0..2), 2..2);
    }

    #[test]
    fn what_the_sink_of_record_keeps_is_counted_back_from_the_arrival() {
        let now = 1_800_000_000_000;
        let window = TimeWindow::at(now, 0);
        let times = [now - 1001, now - 1000, now];
        assert_eq!(window.kept(&times, 0..3), 0..3, "no limit is known");
        assert_eq!(window.kept_for(now, 0).kept(&times, 0..3), 0..3, "it keeps for ever");
        assert_eq!(window.kept_for(now, 1000).kept(&times, 0..3), 1..3);
        assert_eq!(window.kept_for(now, 1000).kept(&times, 2..3), 2..3);
        assert_eq!(window.kept_for(i64::MIN, 1000).kept(&times, 0..3), 0..3, "no overflow");
    }
}
