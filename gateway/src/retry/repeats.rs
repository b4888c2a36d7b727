//! One line for a failure that repeats: the first at once, then one a minute that counts the rest. A receiver that answers
//! 503 to everything must not fill the disk that the journal is on.

/// The least time between two lines, in milliseconds.
const EVERY_MS: u64 = 60_000;

/// When a repeated failure was last logged, and how often it happened since. One for each kind of failure.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    logged_ms: Option<u64>,
    since: u64,
}

impl Repeats {
    /// It happened again, at a time of any clock that only rises. Where a line is due, answers how often it happened since
    /// the line before without being logged.
    pub fn due(&mut self, now_ms: u64) -> Option<u64> {
        let early = self.logged_ms.is_some_and(|logged| now_ms < logged.saturating_add(EVERY_MS));
        if early {
            self.since += 1;
            return None;
        }
        self.logged_ms = Some(now_ms);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_each_millisecond_is_one_line_a_minute_and_none_is_uncounted() {
        let mut repeats = Repeats::default();
        let lines: Vec<_> = (0..=150_000).filter_map(|ms| repeats.due(ms).map(|since| (ms, since))).collect();
        assert_eq!(lines, [(0, 0), (60_000, 59_999), (120_000, 59_999)]);
        assert_eq!(repeats.due(180_000), Some(30_000));
    }
}
