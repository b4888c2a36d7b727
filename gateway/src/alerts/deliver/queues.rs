//! The two queues of an output: live alerts, and those found in old data. Pure: the output around it owns files, sockets and
//! the clock.
//!
//! Each queue reads the alert log for itself, with its own cursor and its own [`Delivery`], and passes what belongs to the
//! other. So a backlog of months in which an alarm came and went a hundred thousand times delays no live alarm.
//!
//! Promise: the changes of one alert keep their order across both. An alert that was found in old data can go live (never the
//! other way). Its live notifications wait while one of its old notifications is under way. An old notification that was not
//! sent by then is never sent: the live raise replaces it.
//!
//! Bound: [`WENT_LIVE_MAX`] alerts that went live are remembered until the retrospective queue has passed them. Beyond it the
//! oldest are forgotten, and an outdated raise may follow a live one; `sequence` shows which is newer. After a restart the
//! live queue reads again what the other one has not passed, to find these alerts.

use super::{
    delivery::{self, Delivery, Event, Found, Task},
    status::{Health, State},
    window::Bounds,
};
use hunhe_log::{Lsn, cursor::Cursor};
use std::collections::{BTreeMap, VecDeque};

/// Live alerts that may have older notifications, for each output.
pub const WENT_LIVE_MAX: usize = 16_384;

/// One of the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Of alerts that speak of now.
    Live,
    /// Of alerts that were found in old data.
    Retrospective,
}

impl Queue {
    /// Both, the first first.
    pub const ALL: [Self; 2] = [Self::Live, Self::Retrospective];

    /// Its place in an array.
    #[must_use]
    pub const fn at(self) -> usize {
        match self {
            Self::Live => 0,
            Self::Retrospective => 1,
        }
    }
}

/// What each queue holds, in the order of [`Queue::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits(pub [Bounds; 2]);

impl Limits {
    /// With so many live notifications under way at once.
    #[must_use]
    pub const fn with_in_flight(live: usize) -> Self {
        // A concentrator has a thousand devices, each of which may alarm some times before it is over its share.
        Self([Bounds { in_flight: live, slots: 4_096 }, Bounds { in_flight: 2, slots: 256 }])
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Something for one queue.
    For(Queue, Task),
    /// Sleep until an event, or until this time.
    Wait {
        /// When to look again.
        until_ms: Option<u64>,
    },
    /// Nothing more, ever.
    Done,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queues {
    queues: [Delivery; 2],
    /// Where alerts went live that may have older notifications.
    went_live: BTreeMap<u64, Lsn>,
    /// The same in the order of the log.
    in_order: VecDeque<(Lsn, u64)>,
}

impl Queues {
    /// They begin behind these cursors, in the order of [`Queue::ALL`].
    #[must_use]
    pub fn new(limits: Limits, cursors: [Cursor; 2]) -> Self {
        let queues = Queue::ALL.map(|queue| Delivery::new(limits.0[queue.at()], cursors[queue.at()]));
        Self { queues, went_live: BTreeMap::new(), in_order: VecDeque::new() }
    }

    /// Where in the log each queue begins to read.
    #[must_use]
    pub fn begins(cursors: [Cursor; 2]) -> [Lsn; 2] {
        let [live, retrospective] = cursors.map(|cursor| cursor.decided_lsn);
        [live.min(retrospective), retrospective]
    }

    /// What to do now. The caller does it, and reports what came of it before it asks again.
    pub fn next(&mut self, now_ms: u64) -> Action {
        self.forget();
        let [live, retrospective] = &mut self.queues;
        let mut wake_ms = None;
        let mut done = 0;
        let first = live.next(now_ms, |alert| retrospective.is_under_way(alert));
        for (queue, action) in [(Queue::Live, Some(first)), (Queue::Retrospective, None)] {
            let action = action.unwrap_or_else(|| retrospective.next(now_ms, |_| false));
            match action {
                delivery::Action::Wait { until_ms } => wake_ms = wake_ms.into_iter().chain(until_ms).min(),
                delivery::Action::Done => done += 1,
                delivery::Action::Do(task) => return Action::For(queue, task),
            }
        }
        if done == Queue::ALL.len() { Action::Done } else { Action::Wait { until_ms: wake_ms } }
    }

    /// Takes what happened to one queue: what it read, or what became of an attempt.
    pub fn handle(&mut self, now_ms: u64, queue: Queue, event: Event) {
        let event = match event {
            Event::Read(found) => Event::Read(self.of_queue(queue, found)),
            event => event,
        };
        self.queues[queue.at()].handle(now_ms, event);
    }

    /// An attempt for an alert has ended.
    pub fn finished(&mut self, now_ms: u64, queue: Queue, alert: u64, event: Event) {
        self.handle(now_ms, queue, event);
        if queue == Queue::Retrospective && self.went_live.contains_key(&alert) {
            self.queues[queue.at()].supersede(alert);
        }
    }

    /// Takes what concerns both.
    pub fn handle_both(&mut self, now_ms: u64, event: &Event) {
        self.queues.iter_mut().for_each(|queue| queue.handle(now_ms, event.clone()));
    }

    /// How the output is: as its queue in the worse state.
    #[must_use]
    pub fn health(&self) -> Health {
        let [live, retrospective] = self.queues.each_ref().map(Delivery::health);
        let well = |health: &Health| health.state == State::Running;
        if well(&live) && (!well(&retrospective) || live.last_error.is_none()) { retrospective } else { live }
    }

    /// When the gateway found the oldest alert that is taken up and not delivered.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.queues.iter().filter_map(Delivery::oldest_ms).min()
    }

    /// The change as the queue sees it: without a notification that belongs to the other one or is not needed.
    fn of_queue(&mut self, queue: Queue, found: Found) -> Found {
        let Found::Change { lsn, source_lsn, last, notification } = found else { return found };
        let notification = notification.filter(|notification| notification.live == (queue == Queue::Live));
        let notification = match queue {
            Queue::Live => {
                if let Some(notification) = notification.as_ref().filter(|notification| notification.raises) {
                    self.goes_live(lsn, notification.alert);
                }
                notification
            }
            Queue::Retrospective => notification
                .filter(|notification| self.went_live.get(&notification.alert).is_none_or(|&at| at < lsn)),
        };
        Found::Change { lsn, source_lsn, last, notification }
    }

    fn goes_live(&mut self, lsn: Lsn, alert: u64) {
        let retrospective = &mut self.queues[Queue::Retrospective.at()];
        if lsn <= retrospective.passed() {
            return;
        }
        retrospective.supersede(alert);
        if self.in_order.len() >= WENT_LIVE_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.drop_note(&oldest);
        }
        self.went_live.insert(alert, lsn);
        self.in_order.push_back((lsn, alert));
    }

    /// Forgets what the retrospective queue has passed.
    fn forget(&mut self) {
        let passed = self.queues[Queue::Retrospective.at()].passed();
        while let Some(note) = self.in_order.pop_front_if(|(lsn, _)| *lsn <= passed) {
            self.drop_note(&note);
        }
    }

    fn drop_note(&mut self, (lsn, alert): &(Lsn, u64)) {
        if self.went_live.get(alert) == Some(lsn) {
            self.went_live.remove(alert);
        }
    }
}

#[cfg(test)]
#[path = "queues/tests.rs"]
mod tests;
