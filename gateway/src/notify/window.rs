//! Which letters are under way, and how far an output has come. Pure: [`super::delivery`] decides by it when to read and send.
//!
//! Invariants: two letters of one alert are never under way at once; the cursor passes a change only when it and all
//! before it are settled, and a cause only with its last change. In trouble (an attempt failed) one letter alone is
//! tried, the oldest, until it is settled: what waited for a dead receiver reaches it in order.

use super::Letter;
use crate::{journal::Lsn, sinks::cursor::Cursor};
use std::collections::VecDeque;

/// Letters under way at once.
pub const IN_FLIGHT: usize = 4;
/// Changes behind an unsettled one that are remembered.
const SLOTS: usize = 256;

/// How much a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Letters under way at once.
    pub in_flight: usize,
    /// Changes behind an unsettled one that are remembered.
    pub slots: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { in_flight: IN_FLIGHT, slots: SLOTS }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Waiting,
    UnderWay,
    Settled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    lsn: Lsn,
    cause: u64,
    last: bool,
    letter: Option<Letter>,
    state: State,
}

impl Slot {
    fn alert(&self) -> Option<&str> {
        self.letter.as_ref().map(|letter| letter.alert.as_str())
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    bounds: Bounds,
    slots: VecDeque<Slot>,
    cursor: Cursor,
    troubled: bool,
    /// The letter that is tried alone.
    probe: Option<Lsn>,
}

impl Window {
    /// An empty one, behind `cursor`.
    #[must_use]
    pub fn new(bounds: Bounds, cursor: Cursor) -> Self {
        Self { bounds, slots: VecDeque::new(), cursor, troubled: false, probe: None }
    }

    /// How far the output has come.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether another change may be taken up. What has settled makes room with [`Self::advance`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        let open = self.slots.iter().filter(|slot| slot.state != State::Settled).count();
        open < self.bounds.in_flight && self.slots.len() < self.bounds.slots
    }

    /// Whether nothing waits, is under way or lies behind what is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the gateway found the oldest alert that is not delivered.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let mut open = self.slots.iter().filter(|slot| slot.state != State::Settled);
        open.find_map(|slot| slot.letter.as_ref()).map(|letter| letter.arrival_ms)
    }

    /// Takes up a change; without a letter it is settled at once. A cause that the cursor has passed is none of ours.
    pub fn take_up(&mut self, lsn: Lsn, cause: u64, last: bool, letter: Option<Letter>) {
        let letter = letter.filter(|_| cause > self.cursor.cause);
        let state = if letter.is_some() { State::Waiting } else { State::Settled };
        self.slots.push_back(Slot { lsn, cause, last, letter, state });
    }

    /// Passes records that cannot be read.
    pub fn pass(&mut self, lsn: Lsn) {
        self.slots.push_back(Slot { lsn, cause: 0, last: false, letter: None, state: State::Settled });
    }

    /// The next letter to try, which is then under way.
    pub fn next_letter(&mut self) -> Option<(Lsn, Letter)> {
        let under_way = self.slots.iter().any(|slot| slot.state == State::UnderWay);
        if self.troubled && under_way {
            return None;
        }
        let at = (0..self.slots.len()).find(|&at| self.is_free(at))?;
        let slot = &mut self.slots[at];
        slot.state = State::UnderWay;
        self.probe = self.troubled.then_some(slot.lsn);
        Some((slot.lsn, slot.letter.clone()?))
    }

    /// A letter was taken, or refused for good. That ends the trouble if it was tried alone; one that was under way
    /// when another failed says nothing of now.
    pub fn settled(&mut self, lsn: Lsn) {
        self.set(lsn, State::Settled);
        if self.probe == Some(lsn) {
            (self.troubled, self.probe) = (false, None);
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, lsn: Lsn) {
        self.set(lsn, State::Waiting);
        self.troubled = true;
    }

    /// Whether an attempt failed and none since, made alone, has succeeded.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// Moves the cursor behind what is settled; answers whether it moved.
    pub fn advance(&mut self) -> bool {
        let before = self.cursor;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.state == State::Settled) {
            self.cursor.hint = slot.lsn;
            if slot.last {
                self.cursor.cause = self.cursor.cause.max(slot.cause);
            }
        }
        self.cursor != before
    }

    /// Whether the letter may be sent now.
    fn is_free(&self, at: usize) -> bool {
        let slot = &self.slots[at];
        let blocks = |before: &Slot| {
            before.state != State::Settled && (self.troubled || before.alert() == slot.alert())
        };
        slot.state == State::Waiting && !self.slots.iter().take(at).any(blocks)
    }

    fn set(&mut self, lsn: Lsn, state: State) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.lsn == lsn) {
            slot.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(alert: &str) -> Option<Letter> {
        Some(Letter {
            alert: alert.into(),
            key: String::new(),
            operator: String::new(),
            severity: "info",
            arrival_ms: 0,
            body: bytes::Bytes::new(),
        })
    }

    /// Changes of these alerts, each the only one of its cause.
    fn window(alerts: &[&str]) -> Window {
        let mut window = Window::new(Bounds::default(), Cursor::default());
        for (number, alert) in (1..).zip(alerts) {
            window.take_up(Lsn(number), number * 10, true, letter(alert));
        }
        window
    }

    fn under_way(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.next_letter()).map(|(lsn, _)| lsn.0).collect()
    }

    #[test]
    fn letters_of_one_alert_wait_for_each_other() {
        let mut window = window(&["a", "b", "a", "b"]);
        assert_eq!(under_way(&mut window), [1, 2]);
        window.settled(Lsn(2));
        assert_eq!(under_way(&mut window), [4]);
        assert!(!window.advance(), "the first is still under way");
        window.settled(Lsn(1));
        assert!(window.advance());
        assert_eq!(window.cursor(), Cursor { cause: 20, hint: Lsn(2) });
    }

    #[test]
    fn in_trouble_the_oldest_is_tried_alone_until_it_is_settled() {
        let mut window = window(&["a", "b", "c"]);
        assert_eq!(under_way(&mut window), [1, 2, 3]);
        window.failed(Lsn(2));
        assert_eq!(under_way(&mut window), [0; 0], "others are still under way");
        window.failed(Lsn(1));
        window.settled(Lsn(3));
        assert!(window.is_troubled(), "what was under way before says nothing of now");
        assert_eq!(under_way(&mut window), [1]);
        window.failed(Lsn(1));
        assert_eq!(under_way(&mut window), [1]);
        window.settled(Lsn(1));
        assert!(!window.is_troubled());
        assert_eq!(under_way(&mut window), [2]);
    }

    #[test]
    fn a_cause_is_passed_with_its_last_change_only() {
        let mut window = Window::new(Bounds::default(), Cursor { cause: 5, hint: Lsn(3) });
        window.take_up(Lsn(4), 5, true, letter("known"));
        window.take_up(Lsn(5), 6, false, letter("a"));
        window.take_up(Lsn(6), 6, true, None);
        assert!(window.advance());
        assert_eq!(
            window.cursor(),
            Cursor { cause: 5, hint: Lsn(4) },
            "what the cursor has passed is skipped"
        );
        assert_eq!(under_way(&mut window), [5]);
        window.settled(Lsn(5));
        window.advance();
        assert_eq!(window.cursor(), Cursor { cause: 6, hint: Lsn(6) });
    }

    #[test]
    fn room_is_bounded_by_letters_and_by_what_lies_behind_one() {
        let mut window = window(&["a", "b", "c", "d"]);
        assert!(!window.has_room());
        window.next_letter();
        window.settled(Lsn(1));
        assert!(window.has_room(), "settled ones are not counted");
        let mut window = Window::new(Bounds::default(), Cursor::default());
        window.take_up(Lsn(1), 1, true, letter("a"));
        (2..=SLOTS as u64).for_each(|number| window.take_up(Lsn(number), number, true, None));
        assert!(!window.has_room());
    }
}
