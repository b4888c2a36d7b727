//! The agent's clocks: one that never steps, and event time, which may start anywhere and run faster.
//!
//! Only at speed 1 from the present is a clock *live*: only then does a report carry how long after its last sample
//! it was sent, since the gateway compares that with its own clock.

use hunhe_edge_core::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Event time = start + elapsed × speed, but unless it is [`Clock::ahead_from`] never beyond the present: once it has
/// caught up it goes on in real time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    start_ms: i64,
    speed: f64,
    live: bool,
    ahead: bool,
}

impl Clock {
    /// Real time.
    #[must_use]
    pub fn live() -> Self {
        Self { origin: Instant::now(), start_ms: wall_ms(), speed: 1.0, live: true, ahead: false }
    }

    /// Event time from `start_ms` (milliseconds since 1970) on, `speed` times as fast as real time.
    #[must_use]
    pub fn virtual_from(start_ms: i64, speed: f64) -> Self {
        Self { origin: Instant::now(), start_ms, speed, live: false, ahead: false }
    }

    /// As [`Clock::virtual_from`], and beyond the present: for a gateway whose own clock does the same.
    #[must_use]
    pub fn ahead_from(start_ms: i64, speed: f64) -> Self {
        Self { ahead: true, ..Self::virtual_from(start_ms, speed) }
    }

    /// The same clock, set forward to `event_ms` where it stands before that: an agent goes on where it was stopped.
    /// A live clock is left alone.
    #[must_use]
    pub fn not_before(mut self, event_ms: i64) -> Self {
        let behind_ms = event_ms.saturating_sub(self.now().event_ms);
        if !self.live && behind_ms > 0 {
            self.start_ms = self.start_ms.saturating_add(behind_ms);
        }
        self
    }

    /// Does event time equal real time?
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Event seconds per real second.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        self.speed
    }

    /// Both clocks, now.
    #[must_use]
    pub fn now(&self) -> Now {
        self.after(self.origin.elapsed())
    }

    fn after(&self, elapsed: Duration) -> Now {
        let event_ms = if self.live {
            wall_ms()
        } else {
            // A duration times a positive speed is a duration; beyond its range event time stands at the end of time.
            let passed = Duration::try_from_secs_f64(elapsed.as_secs_f64() * self.speed);
            let event_ms = self.start_ms.saturating_add(passed.map_or(i64::MAX, whole_ms));
            if self.ahead { event_ms } else { event_ms.min(wall_ms().max(self.start_ms)) }
        };
        Now { steady_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), event_ms }
    }

    /// Real time until event time reaches `event_ms`.
    #[must_use]
    pub fn until(&self, event_ms: i64) -> Duration {
        let now_ms = self.now().event_ms;
        let ahead = Duration::from_millis(u64::try_from(event_ms.saturating_sub(now_ms)).unwrap_or(0));
        let caught_up = !self.ahead && wall_ms() - now_ms < 1_000;
        let speed = if caught_up { 1.0 } else { self.speed };
        Duration::try_from_secs_f64(ahead.as_secs_f64() / speed).unwrap_or(Duration::MAX)
    }
}

/// Milliseconds since 1970 by the machine's clock.
#[must_use]
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms)
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads `2020-12-31T23:00:00Z`, with or without a fraction of up to three digits, as milliseconds since 1970.
#[must_use]
pub fn parse_utc(text: &str) -> Option<i64> {
    let rest = text.strip_suffix('Z')?;
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let (date, time) = whole.split_once('T')?;
    let fields = |text: &str, separator, widths: [usize; 3]| -> Option<[i64; 3]> {
        let mut parts = text.split(separator);
        let mut out = [0; 3];
        for (slot, width) in out.iter_mut().zip(widths) {
            let part = parts.next().filter(|part| part.len() == width)?;
            *slot = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
        }
        parts.next().is_none().then_some(out)
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 || fraction.len() > 3 {
        return None;
    }
    let ms: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().ok()? };
    // Days since 1970 of the proleptic Gregorian calendar, counted in years that start in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_times_are_read_exactly_or_not_at_all() {
        // Checked with `date -u -d`.
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2020-12-31T23:00:00Z", 1_609_455_600_000),
            ("2024-02-29T12:34:56.7Z", 1_709_210_096_700),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2023-03-31T21:00:00Z", 1_680_296_400_000),
        ] {
            assert_eq!(parse_utc(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "2021-02-29T00:00:00Z",
            "2021-01-01T24:00:00Z",
            "2021-01-01 00:00:00Z",
            "2021-1-01T00:00:00Z",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn a_virtual_clock_runs_at_its_speed() {
        let clock = Clock::virtual_from(1_000, 60.0);
        assert_eq!(clock.after(Duration::from_secs(2)), Now { steady_ms: 2_000, event_ms: 121_000 });
        assert!(
            clock.until(601_000) <= Duration::from_secs(10) && clock.until(601_000) > Duration::from_secs(9)
        );
        assert_eq!(clock.until(0), Duration::ZERO);
        assert!((50_000..60_000).contains(&clock.not_before(50_000).now().event_ms));
        assert!(clock.not_before(0).now().event_ms < 10_000);
        assert!(!clock.is_live() && Clock::live().is_live());
        let present_ms = wall_ms();
        let after = |clock: Clock| clock.after(Duration::from_secs(60)).event_ms;
        assert!(after(Clock::virtual_from(present_ms, 60.0)) < present_ms + 60_000);
        assert_eq!(after(Clock::ahead_from(present_ms, 60.0)), present_ms + 3_600_000);
    }
}
