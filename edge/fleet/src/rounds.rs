//! When a scenario's event stands, where the scenario begins again after a period.
//!
//! Promises: an event of a round stands at the same offset in every later round. Rounds do not overlap, since a
//! scenario refuses a period that is shorter than its last event. A span without a period stands once.
//!
//! Every answer is computed from the time alone: nothing is kept by round, and a demonstration may run for years.
//!
//! Deliberately absent: a last round. A scenario with a period goes on as long as the simulation does.

use std::ops::Range;

/// A time from which, and until which, something stands; once, or in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first beginning, in milliseconds.
    pub from_ms: i64,
    /// The end of that, which comes after the beginning.
    pub until_ms: i64,
    /// The time from one beginning to the next, above 0; absent: it stands once.
    pub every_ms: Option<i64>,
}

impl From<Range<i64>> for Span {
    fn from(once: Range<i64>) -> Self {
        Self { from_ms: once.start, until_ms: once.end, every_ms: None }
    }
}

impl Span {
    /// The same span as many milliseconds later.
    #[must_use]
    pub const fn later(self, by_ms: i64) -> Self {
        let from_ms = self.from_ms.saturating_add(by_ms);
        Self { from_ms, until_ms: self.until_ms.saturating_add(by_ms), every_ms: self.every_ms }
    }

    /// When it stands at `time_ms`, or else next; after its end, when it stood last.
    #[must_use]
    pub const fn around(&self, time_ms: i64) -> Range<i64> {
        let shift_ms = match self.every_ms {
            Some(every_ms) if every_ms > 0 && time_ms >= self.until_ms => {
                let past_ms = time_ms.saturating_sub(self.until_ms);
                (past_ms / every_ms).saturating_add(1).saturating_mul(every_ms)
            }
            _ => 0,
        };
        self.from_ms.saturating_add(shift_ms)..self.until_ms.saturating_add(shift_ms)
    }

    /// Does it stand at `time_ms`?
    #[must_use]
    pub const fn stands(&self, time_ms: i64) -> bool {
        let around = self.around(time_ms);
        around.start <= time_ms && time_ms < around.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Event;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Vec<(i64, i64)>> {
        prop::collection::vec((-5_000..5_000_i64, 1..5_000_i64), 1..6)
    }

    /// Spans as a scenario makes them of (from, length) in seconds, which begins again after its last end and a pause.
    fn spans(events: &[(i64, i64)], pause_s: i64) -> (i64, Vec<Span>) {
        let until_s = events.iter().map(|(from_s, length_s)| from_s + length_s).max().unwrap();
        let repeat_s = until_s.max(1) + pause_s;
        let event = |&(from_s, length_s): &(i64, i64)| Event {
            device: None,
            agent: None,
            zone: None,
            class: None,
            fault: None,
            offline: true,
            from_s,
            until_s: from_s + length_s,
        };
        (repeat_s * 1000, events.iter().map(|one| event(one).span(Some(repeat_s)).unwrap()).collect())
    }

    proptest! {
        #[test]
        fn each_event_of_a_round_comes_at_the_same_offset_in_every_later_round(
            events in events(),
            pause_s in 0..3_000_i64,
            offset_ms in 0..20_000_000_i64,
            round in 1..100_000_i64,
        ) {
            let (repeat_ms, spans) = spans(&events, pause_s);
            let offset_ms = offset_ms % repeat_ms;
            for span in spans {
                let (first, later) = (offset_ms, offset_ms + round * repeat_ms);
                if span.from_ms < 0 {
                    prop_assert!(span.stands(span.from_ms) && span.stands(span.until_ms - 1));
                    prop_assert!(!span.stands(later), "what began before the start stands once");
                    continue;
                }
                prop_assert_eq!(span.stands(first), span.stands(later));
                prop_assert_eq!(span.stands(first), (span.from_ms..span.until_ms).contains(&first));
                let begun = span.around(span.from_ms + round * repeat_ms);
                prop_assert_eq!(begun.start, span.from_ms + round * repeat_ms);
                prop_assert!(begun.end <= (round + 1) * repeat_ms, "it is over when the next round begins");
                prop_assert!(!span.stands(begun.start - 1) || span.until_ms - span.from_ms == repeat_ms);
                prop_assert!(span.around(begun.end).start >= (round + 1) * repeat_ms);
            }
        }

        #[test]
        fn a_span_without_a_period_stands_once(from_ms in -9_000..9_000_i64, length_ms in 1..9_000_i64, by in 0..i64::MAX) {
            let span = Span::from(from_ms..from_ms + length_ms);
            prop_assert!(!span.stands(from_ms - 1) && span.stands(from_ms) && span.stands(span.until_ms - 1));
            prop_assert!(!span.stands(span.until_ms.saturating_add(by)));
        }
    }
}
