//! Which outputs make no progress, and what the journal must record about it. Pure: the watchdog's thread looks and journals.
//!
//! An output is stalled when it has had something to deliver for as long as the limit, and no change was passed and no
//! delivery taken or refused for good meanwhile. It is stalled no longer with the first progress, or when nothing is left.
//! An output that an earlier process recorded as stalled stays so until it moves: a restart neither ends nor repeats it.
//!
//! A record is asked for where the alert log and the output's present state differ, and again after [`ASK_AGAIN_MS`]: the
//! journal may have had no room, and the lane ignores a record that changes nothing.

use std::collections::BTreeMap;

/// A record that had no effect is asked for again after this time, in milliseconds.
pub const ASK_AGAIN_MS: u64 = 10_000;

/// One look at an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Rises with each change passed, and each delivery that is taken or refused for good.
    pub progress: u64,
    /// Whether it has something to deliver.
    pub is_behind: bool,
}

/// A change of an output to be journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The output.
    pub name: String,
    /// Since when it had made no progress, milliseconds since 1970.
    pub since_ms: i64,
    /// Whether it is stalled now.
    pub stalled: bool,
}

/// One output over time.
#[derive(Debug)]
struct Watched {
    name: String,
    /// At the look before; where an output stands at the first one is no progress of this process.
    progress: Option<u64>,
    /// When it last moved, or had nothing to deliver: by the monotonic clock, and by the calendar's.
    moved: (u64, i64),
    /// Whether it has moved since this process began.
    has_moved: bool,
    stalled_since_ms: Option<i64>,
}

/// All outputs. See the module.
#[derive(Debug)]
pub struct Stalls {
    limit_ms: u64,
    outputs: Vec<Watched>,
    asked: BTreeMap<String, (bool, u64)>,
}

impl Stalls {
    /// Begins to watch outputs of these names, none of them stalled.
    pub fn new(
        limit_ms: u64,
        now_ms: u64,
        calendar_ms: i64,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        let watched = |name| Watched {
            name,
            progress: None,
            moved: (now_ms, calendar_ms),
            has_moved: false,
            stalled_since_ms: None,
        };
        Self { limit_ms, outputs: names.into_iter().map(watched).collect(), asked: BTreeMap::new() }
    }

    /// Takes a look at each output, in the order of their names at the beginning, with what the alert log has `recorded`;
    /// answers what is to be journaled.
    pub fn look(
        &mut self,
        now_ms: u64,
        calendar_ms: i64,
        looks: &[Look],
        recorded: &BTreeMap<String, i64>,
    ) -> Vec<Turn> {
        for (output, look) in self.outputs.iter_mut().zip(looks) {
            output.look(self.limit_ms, now_ms, calendar_ms, *look, recorded.get(&output.name).copied());
        }
        let mut turns: Vec<Turn> = Vec::new();
        for output in &self.outputs {
            let recorded_ms = recorded.get(&output.name).copied();
            let stalled = output.stalled_since_ms.is_some();
            if stalled != recorded_ms.is_some() {
                let since_ms = output.stalled_since_ms.or(recorded_ms).unwrap_or(calendar_ms);
                turns.push(Turn { name: output.name.clone(), since_ms, stalled });
            }
        }
        // An output that was taken out of the configuration delivers nothing, and owes nothing.
        for (name, &since_ms) in recorded {
            if self.outputs.iter().all(|output| output.name != *name) {
                turns.push(Turn { name: name.clone(), since_ms, stalled: false });
            }
        }
        self.asked.retain(|name, _| turns.iter().any(|turn| turn.name == *name));
        turns.retain(|turn| {
            let asked = self.asked.get(&turn.name);
            asked.is_none_or(|&(stalled, at)| stalled != turn.stalled || now_ms >= at + ASK_AGAIN_MS)
        });
        for turn in &turns {
            self.asked.insert(turn.name.clone(), (turn.stalled, now_ms));
        }
        turns
    }

    /// Since when each output is stalled, in the order of their names at the beginning.
    pub fn stalled(&self) -> impl Iterator<Item = Option<i64>> {
        self.outputs.iter().map(|output| output.stalled_since_ms)
    }
}

impl Watched {
    fn look(&mut self, limit_ms: u64, now_ms: u64, calendar_ms: i64, look: Look, recorded_ms: Option<i64>) {
        let Look { progress, is_behind } = look;
        let moves = self.progress.replace(progress).is_some_and(|before| before != progress);
        if moves || !is_behind {
            self.moved = (now_ms, calendar_ms);
            self.has_moved = true;
            self.stalled_since_ms = None;
        } else if now_ms.saturating_sub(self.moved.0) >= limit_ms {
            self.stalled_since_ms.get_or_insert(self.moved.1);
        } else if !self.has_moved {
            self.stalled_since_ms = recorded_ms;
        }
    }
}

#[cfg(test)]
#[path = "stall/tests.rs"]
mod tests;
