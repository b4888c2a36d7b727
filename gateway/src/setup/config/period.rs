//! A length of time as people write it: a whole number and one unit, as `45d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Units from the greatest to the least, in seconds. A year is 365 days, so that it is a whole number of days.
const UNITS: [(&str, u64); 6] =
    [("y", 365 * 86_400), ("w", 7 * 86_400), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// The longest length of time.
const MAX_S: u64 = 200 * 365 * 86_400;

/// A whole number of seconds, written `90s`, `15m`, `36h`, `45d`, `6w` or `10y` (of 365 days).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    s: u64,
}

/// A text is not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a length of time is a whole number with one of the units s, m, h, d, w, y, as 45d, and at most 200y"
)]
pub struct PeriodError;

impl Period {
    /// That many days.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self { s: days as u64 * 86_400 }
    }

    /// In seconds.
    #[must_use]
    pub const fn as_s(self) -> u64 {
        self.s
    }

    /// In milliseconds; at most 200 years, so never out of range.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.s.saturating_mul(1000)).unwrap_or(i64::MAX)
    }

    /// For timers.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.s)
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(PeriodError)?;
        let (number, unit) = text.split_at(split);
        let (_, unit_s) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(PeriodError)?;
        let s = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
        s.filter(|&s| s <= MAX_S).map(|s| Self { s }).ok_or(PeriodError)
    }
}

impl fmt::Display for Period {
    /// In the greatest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&(_, unit_s): &(&str, u64)| self.s > 0 && self.s.is_multiple_of(unit_s);
        let (unit, unit_s) = UNITS.into_iter().find(fits).unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.s / unit_s)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_shown_alike() {
        for (text, s) in
            [("90s", 90), ("15m", 900), ("36h", 129_600), ("45d", 3_888_000), ("10y", 315_360_000)]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.as_s(), s);
            assert_eq!(period.to_string(), text);
        }
        assert_eq!("14d".parse::<Period>().unwrap().to_string(), "2w");
        assert_eq!("0s".parse::<Period>().unwrap().to_string(), "0s");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "45", "d", "-1d", "1.5d", "45 d", "1d2h", "45D", "201y", "99999999999999999999y"] {
            assert_eq!(text.parse::<Period>(), Err(PeriodError), "{text}");
        }
    }
}
