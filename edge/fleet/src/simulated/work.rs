//! When a simulated machine works: in season, by day, and not every machine every day.

use super::{
    DAY_MS, HOUR_MS, LOCAL_MS,
    course::{mix, unit},
};
use hunhe_proto::class::Work;

/// A machine's day at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shift {
    /// Does it work?
    pub(super) working: bool,
    /// Seconds worked so far that day.
    pub(super) worked_s: f64,
    /// When that changes, or at midnight, in milliseconds since 1970.
    pub(super) change_ms: i64,
}

impl Shift {
    /// The shift of the machine of that key.
    pub(super) fn at(work: &Work, key: u64, time_ms: i64) -> Self {
        let day = (time_ms + LOCAL_MS).div_euclid(DAY_MS);
        let midnight_ms = day * DAY_MS - LOCAL_MS;
        let (from_ms, to_ms) = (midnight_ms + of_day(work.from_h), midnight_ms + of_day(work.to_h));
        let drawn = unit(mix(key ^ mix(day.cast_unsigned() ^ 0x0da7))) < work.share;
        let in_season = work.seasons.is_empty()
            || work.seasons.iter().any(|&(first, last)| (first..=last).contains(&month_and_day(day)));
        let today = drawn && in_season;
        let change_ms = match today {
            true if time_ms < from_ms => from_ms,
            true if time_ms < to_ms => to_ms,
            _ => midnight_ms + DAY_MS,
        };
        let working = today && (from_ms..to_ms).contains(&time_ms);
        let worked_ms = if today { (time_ms - from_ms).clamp(0, to_ms - from_ms) } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "a day in milliseconds is far below 2^53")]
        let worked_s = worked_ms as f64 / 1000.0;
        Self { working, worked_s, change_ms }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "hours of a day are checked to be 0 to 24")]
fn of_day(hours: f64) -> i64 {
    (hours * HOUR_MS as f64).round() as i64
}

/// Month × 100 + day of a day since 1970 in the proleptic Gregorian calendar, by years that begin in March.
fn month_and_day(day: i64) -> u16 {
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    u16::try_from(month * 100 + day).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_year_are_told() {
        // Checked with `date -u -d @…`.
        for (day, expected) in
            [(0, 101), (11_016, 229), (11_017, 301), (20_819, 101), (20_742, 1016), (-1, 1231)]
        {
            assert_eq!(month_and_day(day), expected, "day {day}");
        }
    }

    #[test]
    fn machines_work_by_day_in_season_and_by_their_share() {
        let work =
            Work { share: 0.25, from_h: 7.0, to_h: 17.0, seasons: vec![(1005, 1115)], rest_every: 720 };
        // 2026-10-16 local midnight.
        let midnight_ms = 20_742 * DAY_MS - LOCAL_MS;
        let working = |time_ms| (0..4000).filter(|&key| Shift::at(&work, mix(key), time_ms).working).count();
        assert!((900..1100).contains(&working(midnight_ms + 12 * HOUR_MS)));
        assert_eq!(working(midnight_ms + 6 * HOUR_MS) + working(midnight_ms + 17 * HOUR_MS), 0);
        assert_eq!(working(midnight_ms + 60 * DAY_MS + 12 * HOUR_MS), 0);
        let key = (0..).map(mix).find(|&key| Shift::at(&work, key, midnight_ms + 8 * HOUR_MS).working);
        let at = |hour| Shift::at(&work, key.unwrap(), midnight_ms + hour * HOUR_MS);
        assert_eq!(
            (at(3).change_ms - midnight_ms, at(8).change_ms - midnight_ms),
            (7 * HOUR_MS, 17 * HOUR_MS)
        );
        assert_eq!((at(8).worked_s, at(20).worked_s), (3600.0, 36_000.0));
    }
}
