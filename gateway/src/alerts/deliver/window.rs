//! Which notifications are under way, and how far a queue of an output has come. Pure: [`super::delivery`] decides by it
//! when to read and send.
//!
//! Invariants: two notifications of one alert are never under way at once. The cursor passes a change only when it and all
//! before it are completed, and a source record only with its last change. Agents take [turns](super::turns), so that the alarms of
//! one, however many, delay those of others by one notification. In trouble (an attempt failed) only the oldest notification
//! is tried until it is completed: what waited for a dead receiver reaches it in order.

use super::{Notification, turns::Turns};
use hunhe_log::{Lsn, cursor::Cursor};
use std::collections::VecDeque;

/// How much a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Notifications under way at once.
    pub in_flight: usize,
    /// Changes from the oldest incomplete one on that are remembered, and so wait for their turn: what lies behind them waits
    /// in the log.
    pub slots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Waiting,
    UnderWay,
    Completed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    lsn: Lsn,
    source_lsn: u64,
    last: bool,
    notification: Option<Notification>,
    state: State,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    bounds: Bounds,
    /// By rising number.
    slots: VecDeque<Slot>,
    turns: Turns,
    under_way: usize,
    cursor: Cursor,
    troubled: bool,
    /// The notification that is tried alone.
    probe: Option<Lsn>,
}

impl Window {
    /// An empty one, behind `cursor`.
    #[must_use]
    pub fn new(bounds: Bounds, cursor: Cursor) -> Self {
        Self {
            bounds,
            slots: VecDeque::new(),
            turns: Turns::default(),
            under_way: 0,
            cursor,
            troubled: false,
            probe: None,
        }
    }

    /// How far the output has come.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether another change may be taken up. What has completed makes room with [`Self::advance`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.slots.len() < self.bounds.slots
    }

    /// Whether nothing waits, is under way or lies behind what is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the gateway found the oldest alert that is not delivered.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let mut open = self.slots.iter().filter(|slot| slot.state != State::Completed);
        open.find_map(|slot| slot.notification.as_ref()).map(|notification| notification.arrival_ms)
    }

    /// Takes up a change; without a notification it is completed at once. A source record that the cursor has passed is not delivered again.
    pub fn take_up(&mut self, lsn: Lsn, source_lsn: u64, last: bool, notification: Option<Notification>) {
        let notification = notification.filter(|_| source_lsn > self.cursor.source_lsn);
        let state = match &notification {
            Some(notification) => {
                self.turns.enter(lsn, notification.alert, &notification.agent);
                State::Waiting
            }
            None => State::Completed,
        };
        self.slots.push_back(Slot { lsn, source_lsn, last, notification, state });
    }

    /// Passes records that cannot be read.
    pub fn pass(&mut self, lsn: Lsn) {
        self.slots.push_back(Slot {
            lsn,
            source_lsn: 0,
            last: false,
            notification: None,
            state: State::Completed,
        });
    }

    /// The next notification to try, which is then under way; none of an alert that is `blocked`.
    pub fn next_notification(&mut self, blocked: impl Fn(u64) -> bool) -> Option<(Lsn, Notification)> {
        let at = self.next(blocked)?;
        let slot = &mut self.slots[at];
        slot.state = State::UnderWay;
        let notification = slot.notification.clone()?;
        self.under_way += 1;
        self.turns.begin(notification.alert);
        self.probe = self.troubled.then_some(slot.lsn);
        Some((slot.lsn, notification))
    }

    fn next(&self, blocked: impl Fn(u64) -> bool) -> Option<usize> {
        let is_free = |at: &usize| {
            self.slots[*at].notification.as_ref().is_some_and(|notification| !blocked(notification.alert))
        };
        if !self.troubled {
            let has_room = self.under_way < self.bounds.in_flight;
            return self.turns.ready().filter(|_| has_room).filter_map(|lsn| self.at(lsn)).find(is_free);
        }
        let is_ready = |at: &usize| {
            let Slot { lsn, notification, .. } = &self.slots[*at];
            notification.as_ref().is_some_and(|notification| self.turns.is_ready(*lsn, notification.alert))
        };
        (0..self.slots.len()).filter(|_| self.under_way == 0).filter(is_ready).find(is_free)
    }

    /// Whether a notification of this alert is under way.
    #[must_use]
    pub fn is_under_way(&self, alert: u64) -> bool {
        let oldest = self.turns.of_alert(alert).next().and_then(|lsn| self.at(lsn));
        oldest.is_some_and(|at| self.slots[at].state == State::UnderWay)
    }

    /// Whether a notification waits or is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Waiting notifications of this alert are not needed any more.
    pub fn supersede(&mut self, alert: u64) {
        let open = self.turns.of_alert(alert).filter_map(|lsn| self.at(lsn));
        let waiting: Vec<usize> = open.filter(|&at| self.slots[at].state == State::Waiting).collect();
        waiting.into_iter().for_each(|at| self.complete(at));
        self.troubled &= self.is_open();
    }

    /// A notification was taken, or refused for good. That ends the trouble if it was tried alone; one that was under way
    /// when another failed proves nothing about the receiver now.
    pub fn completed(&mut self, lsn: Lsn) {
        if let Some(at) = self.at(lsn) {
            self.complete(at);
        }
        if self.probe == Some(lsn) {
            (self.troubled, self.probe) = (false, None);
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, lsn: Lsn) {
        if let Some(slot) = self.at(lsn).and_then(|at| self.slots.get_mut(at))
            && slot.state == State::UnderWay
            && let Some(notification) = &slot.notification
        {
            slot.state = State::Waiting;
            self.under_way -= 1;
            self.turns.again(notification.alert);
        }
        self.troubled = true;
    }

    /// Whether a failure of this notification is news: it is the first failure, or the notification was tried alone. Others
    /// that were under way with the first fail for the same reason.
    #[must_use]
    pub fn is_news(&self, lsn: Lsn) -> bool {
        !self.troubled || self.probe == Some(lsn)
    }

    /// Whether an attempt failed and none since, made alone, has succeeded.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// Moves the cursor behind what is completed; answers whether it moved.
    pub fn advance(&mut self) -> bool {
        let before = self.cursor;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.state == State::Completed) {
            self.cursor.decided_lsn = slot.lsn;
            if slot.last {
                self.cursor.source_lsn = self.cursor.source_lsn.max(slot.source_lsn);
            }
        }
        self.cursor != before
    }

    fn complete(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let before = std::mem::replace(&mut slot.state, State::Completed);
        self.under_way -= usize::from(before == State::UnderWay);
        if let Some(notification) = slot.notification.as_ref().filter(|_| before != State::Completed) {
            self.turns.leave(slot.lsn, notification.alert, &notification.agent);
        }
    }

    fn at(&self, lsn: Lsn) -> Option<usize> {
        self.slots.binary_search_by_key(&lsn, |slot| slot.lsn).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { in_flight: 4, slots: 8 };

    /// The id of an alert that has a name here.
    fn id(name: &str) -> u64 {
        name.bytes().fold(0, |id, byte| id << 8 | u64::from(byte))
    }

    /// Of an alert whose name ends with its agent's.
    fn notification(alert: &str) -> Option<Notification> {
        Some(Notification::of(id(alert), &alert[alert.len() - 1..]))
    }

    /// Changes of these alerts, each the only one of its source record.
    fn window(alerts: &[&str]) -> Window {
        let mut window = Window::new(BOUNDS, Cursor::default());
        for (number, alert) in (1..).zip(alerts) {
            window.take_up(Lsn(number), number * 10, true, notification(alert));
        }
        window
    }

    fn under_way(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.next_notification(|_| false)).map(|(lsn, _)| lsn.0).collect()
    }

    #[test]
    fn notifications_of_one_alert_wait_for_each_other() {
        let mut window = window(&["a", "b", "a", "b"]);
        assert_eq!(under_way(&mut window), [1, 2]);
        window.completed(Lsn(2));
        assert_eq!(under_way(&mut window), [4]);
        assert!(!window.advance(), "the first is still under way");
        window.completed(Lsn(1));
        assert!(window.advance());
        assert_eq!(window.cursor(), Cursor { source_lsn: 20, decided_lsn: Lsn(2) });
    }

    #[test]
    fn agents_take_turns() {
        let mut window = window(&["1a", "2a", "3a", "4a", "5a", "1b", "2b", "1c"]);
        assert_eq!(under_way(&mut window), [1, 6, 8, 2]);
        window.completed(Lsn(6));
        assert_eq!(
            under_way(&mut window),
            [7],
            "the other agent's next, though older ones of the first wait"
        );
        window.completed(Lsn(1));
        window.completed(Lsn(2));
        assert_eq!(under_way(&mut window), [3, 4]);
    }

    #[test]
    fn an_alert_that_is_blocked_waits_and_no_other_for_it() {
        let mut window = window(&["a", "b"]);
        assert_eq!(window.next_notification(|alert| alert == id("a")).map(|(lsn, _)| lsn), Some(Lsn(2)));
        assert!(window.is_under_way(id("b")) && !window.is_under_way(id("a")));
        assert_eq!(window.next_notification(|alert| alert == id("a")), None);
        assert_eq!(under_way(&mut window), [1]);
    }

    #[test]
    fn what_is_superseded_is_passed_and_ends_the_trouble_that_it_was_in_alone() {
        let mut window = window(&["a", "b"]);
        assert_eq!(under_way(&mut window), [1, 2]);
        window.completed(Lsn(2));
        window.supersede(id("a"));
        assert!(window.is_open(), "what is under way is not");
        window.failed(Lsn(1));
        window.supersede(id("a"));
        assert!(!window.is_open() && !window.is_troubled());
        assert!(window.advance() && window.is_empty());
    }

    #[test]
    fn in_trouble_the_oldest_is_tried_alone_until_it_is_completed() {
        let mut window = window(&["a", "b", "c"]);
        assert_eq!(under_way(&mut window), [1, 2, 3]);
        window.failed(Lsn(2));
        assert_eq!(under_way(&mut window), [0; 0], "others are still under way");
        window.failed(Lsn(1));
        window.completed(Lsn(3));
        assert!(window.is_troubled(), "an attempt that began before the failure proves nothing");
        assert_eq!(under_way(&mut window), [1]);
        window.failed(Lsn(1));
        assert_eq!(under_way(&mut window), [1]);
        window.completed(Lsn(1));
        assert!(!window.is_troubled());
        assert_eq!(under_way(&mut window), [2]);
    }

    #[test]
    fn a_cause_is_passed_with_its_last_change_only() {
        let mut window = Window::new(BOUNDS, Cursor { source_lsn: 5, decided_lsn: Lsn(3) });
        window.take_up(Lsn(4), 5, true, notification("known"));
        window.take_up(Lsn(5), 6, false, notification("a"));
        window.take_up(Lsn(6), 6, true, None);
        assert!(window.advance());
        assert_eq!(
            window.cursor(),
            Cursor { source_lsn: 5, decided_lsn: Lsn(4) },
            "what the cursor has passed is skipped"
        );
        assert_eq!(under_way(&mut window), [5]);
        window.completed(Lsn(5));
        window.advance();
        assert_eq!(window.cursor(), Cursor { source_lsn: 6, decided_lsn: Lsn(6) });
    }

    #[test]
    fn room_is_bounded_from_the_oldest_incomplete_change_on() {
        let mut window = window(&["a"; 8]);
        assert!(!window.has_room());
        window.next_notification(|_| false);
        window.completed(Lsn(1));
        window.advance();
        assert!(window.has_room());
    }
}
