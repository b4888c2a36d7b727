//! What happened, as a hash that two runs of one seed must share, and in words where someone looks.
//!
//! Words are part of the hash, so nothing in them may come from the process: no address, no clock, no backtrace. Errors are
//! noted by [`words`], since the `Debug` form of some carries a backtrace, which names the line that ran the history.

use std::error::Error;

/// Collects events.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    shown: bool,
}

impl Trace {
    /// Empty; `shown` prints every event.
    #[must_use]
    pub const fn new(shown: bool) -> Self {
        // As in FNV-1a, but with whole words.
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, shown }
    }

    /// Something happened at `at_ms`.
    pub fn note(&mut self, at_ms: u64, who: &str, what: &str, first: u64, second: u64) {
        self.events += 1;
        for word in [at_ms, first, second] {
            self.mix(word);
        }
        who.bytes().chain(what.bytes()).for_each(|byte| self.mix(byte.into()));
        if self.shown {
            println!("{:>12.3} s  {who:<9} {what:<28} {first:>8} {second:>8}", seconds(at_ms));
        }
    }

    /// Stands for everything that was noted, in order.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How much was noted.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }
}

/// An error and its sources, without a backtrace.
#[must_use]
pub fn words(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Death;

    #[test]
    fn words_of_an_error_hold_its_causes_and_no_backtrace() {
        let start = || {
            let refused = std::io::Error::other("no room");
            Death::Start(anyhow::Error::new(refused).context("cannot open the journal"))
        };
        // Two lines, as two runs of a seed begin on two lines.
        let first = words(&start());
        let second = words(&start());
        assert_eq!(first, "start: cannot open the journal: no room");
        assert_eq!(first, second);
    }
}
