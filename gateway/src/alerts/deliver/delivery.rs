//! What a queue of an output does next: read the log, try a notification, save its cursor, or wait. A pure state machine;
//! [`super::queues`] has one for each queue.
//!
//! [`Delivery::handle`] takes an event, [`Delivery::next`] answers what to do. Both take the time as an argument, in
//! milliseconds of a monotonic clock.
//!
//! Promise: it always makes progress. On [`Action::Wait`] an attempt is under way, or there is a deadline, or the log was
//! read to its end and everything in it is delivered, so that only [`Event::Grown`] can bring more. Completed changes make
//! room *before* the decision to read: a window that its last answer empties must not wait for an event that has come.
//!
//! Bounds: [`Window`]'s. A log that cannot be read is tried again each [`READ_AGAIN_MS`].

use super::{
    Notification, Outcome,
    status::{Health, State},
    window::{Bounds, Window},
};
use crate::retry::Backoff;
use hunhe_log::{Lsn, cursor::Cursor};

/// Between two attempts to read a log that cannot be read, in milliseconds.
pub const READ_AGAIN_MS: u64 = 1_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The log may have more. A record written after this event is another event.
    Grown,
    /// The log's writer is gone: what is there now is all.
    LogEnded,
    /// The answer to [`Task::Read`].
    Read(Found),
    /// An attempt has ended.
    Finished {
        /// Which notification's.
        lsn: Lsn,
        /// How.
        outcome: Outcome,
        /// Spreads the next attempt.
        random: u64,
    },
    /// Give up what is under way; it is repeated after the next start.
    Stop,
}

/// What the log held next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Found {
    /// A change, with a notification where outputs announce it.
    Change {
        /// Its record.
        lsn: Lsn,
        /// The journal record behind it.
        source_lsn: u64,
        /// Is it the last change of its source record?
        last: bool,
        /// What to deliver.
        notification: Option<Notification>,
    },
    /// Nothing to deliver up to this record: numbers given away, or records that are gone.
    Nothing {
        /// The last of them.
        last: Lsn,
    },
    /// The log's end, for now.
    End,
    /// The log cannot be read.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Something for one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read one step of the log. What is written after the read begins is another [`Event::Grown`].
    Read,
    /// Try this notification.
    Attempt {
        /// Its record.
        lsn: Lsn,
        /// The notification.
        notification: Notification,
    },
    /// Save the cursor.
    Save(Cursor),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// This.
    Do(Task),
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
pub struct Delivery {
    window: Window,
    backoff: Backoff,
    /// No attempt before this time, after one that failed.
    retry_at_ms: Option<u64>,
    /// The log was read to its end, and has not grown since.
    caught_up: bool,
    /// The log cannot be read: why, and when to try again.
    unreadable: Option<(String, u64)>,
    log_ended: bool,
    stopped: bool,
    saved: Cursor,
    receiver: Health,
}

impl Delivery {
    /// Begins behind `cursor`.
    #[must_use]
    pub fn new(bounds: Bounds, cursor: Cursor) -> Self {
        Self {
            window: Window::new(bounds, cursor),
            backoff: Backoff::default(),
            retry_at_ms: None,
            caught_up: false,
            unreadable: None,
            log_ended: false,
            stopped: false,
            saved: cursor,
            receiver: Health::well(),
        }
    }

    /// What to do now. The caller does it, and reports what came of it before it asks again.
    ///
    /// No notification of an alert that is `blocked` is tried: one is under way elsewhere, whose end is an event.
    pub fn next(&mut self, now_ms: u64, blocked: impl Fn(u64) -> bool) -> Action {
        self.window.advance();
        if self.stopped {
            return Action::Done;
        }
        self.retry_at_ms = self.retry_at_ms.filter(|&at| now_ms < at);
        if self.retry_at_ms.is_none()
            && let Some((lsn, notification)) = self.window.next_notification(blocked)
        {
            return Action::Do(Task::Attempt { lsn, notification });
        }
        let read_at_ms = self.unreadable.as_ref().map(|(_, at)| *at).filter(|&at| now_ms < at);
        let wants_to_read = !self.caught_up && self.window.has_room();
        if wants_to_read && read_at_ms.is_none() {
            return Action::Do(Task::Read);
        }
        let cursor = self.window.cursor();
        if cursor != self.saved {
            self.saved = cursor;
            return Action::Do(Task::Save(cursor));
        }
        if self.log_ended && self.caught_up && self.window.is_empty() {
            return Action::Done;
        }
        let read_at_ms = read_at_ms.filter(|_| wants_to_read);
        Action::Wait { until_ms: self.retry_at_ms.into_iter().chain(read_at_ms).min() }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        match event {
            Event::Grown => self.caught_up = false,
            Event::LogEnded => {
                self.log_ended = true;
                self.caught_up = false;
            }
            Event::Read(found) => self.found(now_ms, found),
            Event::Finished { lsn, outcome, random } => self.finished(now_ms, lsn, outcome, random),
            Event::Stop => self.stopped = true,
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn passed(&self) -> Lsn {
        self.window.cursor().decided_lsn
    }

    /// Whether a notification of this alert is under way.
    #[must_use]
    pub fn is_under_way(&self, alert: u64) -> bool {
        self.window.is_under_way(alert)
    }

    /// Notifications of this alert that wait are not needed any more.
    pub fn supersede(&mut self, alert: u64) {
        let was_troubled = self.window.is_troubled();
        self.window.supersede(alert);
        if was_troubled && !self.window.is_troubled() {
            self.recover(None);
        }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.unreadable {
            Some((reason, _)) => Health { state: State::Retrying, last_error: Some(reason.clone()) },
            None => self.receiver.clone(),
        }
    }

    /// When the gateway found the oldest alert that is taken up and not delivered.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.window.oldest_ms()
    }

    fn found(&mut self, now_ms: u64, found: Found) {
        self.unreadable = None;
        match found {
            Found::Change { lsn, source_lsn, last, notification } => {
                self.window.take_up(lsn, source_lsn, last, notification)
            }
            Found::Nothing { last } => self.window.pass(last),
            Found::End => self.caught_up = true,
            Found::Failed { reason } => {
                self.unreadable = Some((reason, now_ms.saturating_add(READ_AGAIN_MS)));
            }
        }
    }

    fn finished(&mut self, now_ms: u64, lsn: Lsn, outcome: Outcome, random: u64) {
        match outcome {
            Outcome::Taken => self.completed(lsn, None),
            Outcome::Refused { reason } => self.completed(lsn, Some(reason)),
            Outcome::Later { reason, retry_after_s } => {
                let is_new = self.window.is_news(lsn) || retry_after_s.is_some();
                let wait_ms = if is_new { self.backoff.next_ms(retry_after_s, random) } else { 0 };
                self.failed(lsn, now_ms.saturating_add(wait_ms), State::Retrying, reason);
            }
            Outcome::Held { reason } => {
                let wait_ms = if self.window.is_news(lsn) { self.backoff.next_held_ms() } else { 0 };
                self.failed(lsn, now_ms.saturating_add(wait_ms), State::Held, reason);
            }
        }
    }

    fn completed(&mut self, lsn: Lsn, last_error: Option<String>) {
        self.window.completed(lsn);
        if self.window.is_troubled() {
            return;
        }
        self.recover(last_error);
    }

    fn recover(&mut self, last_error: Option<String>) {
        self.backoff = Backoff::default();
        self.retry_at_ms = None;
        self.receiver = Health { state: State::Running, last_error };
    }

    fn failed(&mut self, lsn: Lsn, retry_at_ms: u64, state: State, reason: String) {
        self.window.failed(lsn);
        self.retry_at_ms = Some(self.retry_at_ms.map_or(retry_at_ms, |before| before.max(retry_at_ms)));
        self.receiver = Health { state, last_error: Some(reason) };
    }
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
