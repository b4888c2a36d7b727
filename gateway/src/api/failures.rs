//! Failures of the gateway's own, told to the operator without flooding the log: the first of each kind at once, then a
//! count, at most once a minute. A kind is a route's pattern and a status, never anything that a caller wrote.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two lines about one kind.
pub(super) const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// Route pattern and status.
pub(super) type Kind = (String, u16);

/// Failures since each kind was last logged. Bounded by the routes and their statuses.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kinds: BTreeMap<Kind, Seen>,
    total: u64,
}

#[derive(Debug)]
struct Seen {
    logged: Instant,
    since: u64,
}

impl Failures {
    /// Notes one; true where it is to be logged now.
    pub(super) fn note(&mut self, now: Instant, pattern: &str, status: u16) -> bool {
        self.total += 1;
        let mut is_first = false;
        let seen = self.kinds.entry((pattern.to_owned(), status)).or_insert_with(|| {
            is_first = true;
            Seen { logged: now, since: 0 }
        });
        seen.since += u64::from(!is_first);
        is_first
    }

    /// The kinds that were last logged a minute ago or longer, and how often each happened since. A kind that did not
    /// happen in that time is forgotten, so that its next one is logged at once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Kind, u64)> {
        let is_due = |seen: &Seen| now.saturating_duration_since(seen.logged) >= SUMMARY_EVERY;
        self.kinds.retain(|_, seen| !is_due(seen) || seen.since > 0);
        let due = self.kinds.iter_mut().filter(|(_, seen)| is_due(seen));
        due.map(|(kind, seen)| {
            seen.logged = now;
            (kind.clone(), std::mem::take(&mut seen.since))
        })
        .collect()
    }

    /// All so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_is_one_line_and_one_count_a_minute() {
        let begun = Instant::now();
        let mut failures = Failures::default();
        let mut lines = Vec::new();
        for second in 0..180 {
            let now = begun + Duration::from_secs(second);
            for _ in 0..1_000 {
                if failures.note(now, "/api/v1/status", 503) {
                    lines.push((second, 1));
                }
            }
            lines.extend(failures.due(now).into_iter().map(|(_, count)| (second, count)));
        }
        assert_eq!(lines, [(0, 1), (60, 60_999), (120, 60_000)]);
        assert_eq!(failures.total(), 180_000);
    }

    #[test]
    fn a_kind_that_was_quiet_for_a_minute_is_logged_at_once_and_others_have_lines_of_their_own() {
        let begun = Instant::now();
        let mut failures = Failures::default();
        assert!(failures.note(begun, "/readyz", 503));
        assert!(failures.note(begun, "/metrics", 503));
        assert!(failures.note(begun, "/metrics", 500));
        assert!(!failures.note(begun, "/metrics", 500));
        let later = begun + SUMMARY_EVERY;
        assert_eq!(failures.due(later), [(("/metrics".to_owned(), 500), 1)]);
        assert!(failures.note(later, "/readyz", 503));
    }
}
