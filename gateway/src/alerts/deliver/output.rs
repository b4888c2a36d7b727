//! An output's thread: carries out what [`Queues`] decides, and reports the result. It reads the alert log for each queue,
//! keeps attempts under way, saves the cursors and sleeps; it decides nothing.
//!
//! An attempt that panics counts as one that failed. A log that cannot be read is opened again. A failure that repeats is
//! logged once a minute.

use super::{
    Encode, Handle, Notification, Outcome, Receiver, Source,
    delivery::{Event, Found, Task},
    open_cursor,
    queues::{Action, Limits, Queue, Queues},
    status::{self, Health, OutputStatus, State},
};
use crate::{
    alerts::{
        feed::{Entry, Feed, Step},
        log::Kind,
    },
    retry::{Repeats, http::random},
};
use hunhe_log::{
    Lsn, ReadError, Tail,
    cursor::{Cursor, CursorFile},
};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

/// Steps between two looks at sockets: a long stretch of changes without a notification must not starve them.
const STEPS_AT_ONCE: u32 = 64;

/// What an output is called, and how much of it is under way at once.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) kind: status::Kind,
    pub(super) limits: Limits,
}

/// Starts an output that delivers to what `receiver` makes, on the output's own runtime.
///
/// # Errors
/// Where its cursors, its receiver or a thread are not to be had.
pub(super) fn start<R: Receiver>(
    named: &Named<'_>,
    source: Source,
    receiver: impl FnOnce() -> anyhow::Result<R>,
) -> anyhow::Result<Handle> {
    let Named { name, kind, limits } = *named;
    let [live, retrospective] = Queue::ALL.map(|queue| open_cursor(&source, &cursor_name(name, kind, queue)));
    let opened = [live?, retrospective?];
    // The log may have been cut behind what was delivered: then the replay writes those records again, under their numbers.
    let head = source.tail.head();
    let cursors =
        opened.each_ref().map(|(_, cursor)| Cursor { decided_lsn: cursor.decided_lsn.min(head), ..*cursor });
    let begins = Queues::begins(cursors);
    let [live, retrospective] = opened.map(|(file, _)| file);
    let passed = cursors.map(|cursor| cursor.decided_lsn);
    let reading = |queue: Queue, file| Reading {
        file,
        log: Log { tail: source.tail.clone(), wanted: kind_of(queue), at: begins[queue.at()], feed: None },
        passed: passed[queue.at()],
    };
    let readings = [reading(Queue::Live, live), reading(Queue::Retrospective, retrospective)];
    let oldest = passed[0].min(passed[1]);
    let status = Arc::new(OutputStatus::new(name.into(), kind, source.tail.clone(), oldest));
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let receiver = {
        // A receiver may start tasks of its own.
        let _within = runtime.enter();
        Arc::new(receiver()?)
    };
    let output = Output {
        receiver,
        readings,
        queues: Queues::new(limits, cursors),
        lost_to: Lsn::NONE,
        status: Arc::clone(&status),
        attempts: JoinSet::new(),
        under_way: HashMap::new(),
        encode: source.encode,
        newest: source.newest,
        log_ended: false,
        begun: Instant::now(),
        logged: Logged::default(),
    };
    let thread = std::thread::Builder::new().name(format!("alerts-{name}")).spawn({
        let status = Arc::clone(&status);
        move || {
            let run = AssertUnwindSafe(|| runtime.block_on(output.run(stopped)));
            if catch_unwind(run).is_err() {
                let last_error = Some("its thread panicked: restart the gateway".into());
                status.enter(Health { state: State::Stopped, last_error });
            }
        }
    })?;
    Ok(Handle { status, stop, thread })
}

fn cursor_name(name: &str, kind: status::Kind, queue: Queue) -> String {
    let kind = match kind {
        status::Kind::Mqtt => "alerts",
        status::Kind::Webhook => "webhook",
    };
    // No name of an output has a dot.
    let queue = match queue {
        Queue::Live => "",
        Queue::Retrospective => ".retrospective",
    };
    format!("{kind}-{name}{queue}.cursor")
}

fn kind_of(queue: Queue) -> Kind {
    match queue {
        Queue::Live => Kind::Live,
        Queue::Retrospective => Kind::Retrospective,
    }
}

/// What one queue reads, and how far it is kept to have come.
struct Reading {
    log: Log,
    file: CursorFile,
    passed: Lsn,
}

/// The alert log, opened anew where it could not be read.
struct Log {
    tail: Tail,
    wanted: Kind,
    at: Lsn,
    feed: Option<Feed>,
}

impl Log {
    fn step(&mut self) -> Result<Step, ReadError> {
        let feed = match &mut self.feed {
            Some(feed) => feed,
            None => self.feed.insert(Feed::open(self.tail.clone(), self.at)?.only(self.wanted)),
        };
        let step = feed.step();
        self.at = feed.last();
        if step.is_err() {
            self.feed = None;
        }
        step
    }
}

/// Failures that may repeat, by kind.
#[derive(Default)]
struct Logged {
    later: Repeats,
    held: Repeats,
    refused: Repeats,
    unreadable: Repeats,
    unsaved: Repeats,
}

/// Of one that is under way.
struct Attempt {
    queue: Queue,
    lsn: Lsn,
    alert: u64,
    key: String,
}

/// What ends a wait.
enum Woken {
    Both(Event),
    Finished(Id, Outcome),
    ByTime,
}

struct Output<R> {
    receiver: Arc<R>,
    /// In the order of [`Queue::ALL`].
    readings: [Reading; 2],
    queues: Queues,
    /// The last record that was counted as lost: each queue comes upon it.
    lost_to: Lsn,
    status: Arc<OutputStatus>,
    attempts: JoinSet<Outcome>,
    under_way: HashMap<Id, Attempt>,
    encode: Encode,
    newest: watch::Receiver<Lsn>,
    log_ended: bool,
    begun: Instant,
    logged: Logged,
}

impl<R: Receiver> Output<R> {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut steps = 0;
        loop {
            let now_ms = self.now_ms();
            match self.queues.next(now_ms) {
                Action::For(queue, task) => self.carry_out(queue, task),
                Action::Wait { until_ms } => {
                    self.show();
                    match self.wait(until_ms, &mut stopped).await {
                        Woken::Both(event) => self.queues.handle_both(self.now_ms(), &event),
                        Woken::Finished(id, outcome) => self.finished(id, outcome),
                        Woken::ByTime => {}
                    }
                }
                Action::Done => break,
            }
            steps += 1;
            if steps % STEPS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.status.enter(Health { state: State::Stopped, last_error: None });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn carry_out(&mut self, queue: Queue, task: Task) {
        match task {
            Task::Read => {
                let found = self.read(queue);
                self.queues.handle(self.now_ms(), queue, Event::Read(found));
            }
            Task::Attempt { lsn, notification } => self.attempt(queue, lsn, notification),
            Task::Save(cursor) => self.save(queue, cursor),
        }
    }

    fn read(&mut self, queue: Queue) -> Found {
        match self.readings[queue.at()].log.step() {
            Ok(Step::CaughtUp) => Found::End,
            Ok(Step::Jump { last }) => Found::Nothing { last },
            Ok(Step::Lost { last, records }) => {
                self.lose(last, records);
                Found::Nothing { last }
            }
            Ok(Step::Entry(entry)) => {
                let Entry { lsn, source_lsn, last, alert } = *entry;
                let notification = Notification::new(alert, self.encode);
                Found::Change { lsn, source_lsn, last, notification: Some(notification) }
            }
            Ok(Step::Other { lsn, source_lsn, last }) => {
                Found::Change { lsn, source_lsn, last, notification: None }
            }
            Err(error) => {
                if let Some(repeats) = self.logged.unreadable.due(self.now_ms()) {
                    tracing::error!(
                        output = self.status.name(),
                        %error,
                        repeats,
                        "the alert log cannot be read: trying again"
                    );
                }
                Found::Failed { reason: format!("the alert log cannot be read: {error}") }
            }
        }
    }

    fn lose(&mut self, last: Lsn, records: u64) {
        let anew = records.min(last.0.saturating_sub(self.lost_to.0));
        if anew > 0 {
            self.lost_to = last;
            self.status.lose(anew);
            tracing::error!(
                output = self.status.name(),
                records = anew,
                "alerts are gone from the log, or cannot be read: they are not delivered"
            );
        }
    }

    fn attempt(&mut self, queue: Queue, lsn: Lsn, notification: Notification) {
        self.status.attempted();
        let receiver = Arc::clone(&self.receiver);
        let attempt = Attempt { queue, lsn, alert: notification.alert, key: notification.key.clone() };
        let task = self.attempts.spawn(async move { receiver.attempt(notification).await });
        self.under_way.insert(task.id(), attempt);
    }

    async fn wait(&mut self, until_ms: Option<u64>, stopped: &mut watch::Receiver<bool>) -> Woken {
        let until = until_ms.map(|at| self.begun + Duration::from_millis(at));
        tokio::select! {
            Some(done) = self.attempts.join_next_with_id() => ended(done),
            // Marked as seen before the log is read: what is written in between is seen next.
            changed = self.newest.changed(), if !self.log_ended => {
                self.log_ended = changed.is_err();
                Woken::Both(if self.log_ended { Event::LogEnded } else { Event::Grown })
            }
            () = sleep_until(until) => Woken::ByTime,
            _ = stopped.wait_for(|stop| *stop) => Woken::Both(Event::Stop),
        }
    }

    fn finished(&mut self, id: Id, outcome: Outcome) {
        let Some(Attempt { queue, lsn, alert, key }) = self.under_way.remove(&id) else { return };
        self.count(&key, &outcome);
        let event = Event::Finished { lsn, outcome, random: random() };
        self.queues.finished(self.now_ms(), queue, alert, event);
    }

    fn count(&mut self, key: &str, outcome: &Outcome) {
        let (output, now_ms) = (self.status.name(), self.now_ms());
        match outcome {
            Outcome::Taken => self.status.delivered(),
            Outcome::Refused { reason } => {
                self.status.refused();
                if let Some(repeats) = self.logged.refused.due(now_ms) {
                    tracing::error!(output, key, reason, repeats, "an alert was refused: not delivered");
                }
            }
            Outcome::Later { reason, .. } => {
                if let Some(repeats) = self.logged.later.due(now_ms) {
                    tracing::warn!(output, reason, repeats, "an alert was not taken: trying again");
                }
            }
            Outcome::Held { reason } => {
                if let Some(repeats) = self.logged.held.due(now_ms) {
                    tracing::error!(
                        output,
                        reason,
                        repeats,
                        "not the receiver that was meant: alerts are kept"
                    );
                }
            }
        }
    }

    fn save(&mut self, queue: Queue, cursor: Cursor) {
        let reading = &mut self.readings[queue.at()];
        reading.passed = cursor.decided_lsn;
        if let Err(error) = reading.file.save(cursor)
            && let Some(repeats) = self.logged.unsaved.due(self.now_ms())
        {
            let output = self.status.name();
            tracing::warn!(output, %error, repeats, "a restart will repeat what was delivered since");
        }
        self.status.moved(self.readings[0].passed.min(self.readings[1].passed));
    }

    fn show(&self) {
        self.status.enter(self.queues.health());
        self.status.waits_since(self.queues.oldest_ms());
    }
}

fn ended(done: Result<(Id, Outcome), JoinError>) -> Woken {
    match done {
        Ok((id, outcome)) => Woken::Finished(id, outcome),
        // Its message is in the log already.
        Err(error) => {
            let reason = "a delivery panicked: see the log".to_owned();
            Woken::Finished(error.id(), Outcome::Later { reason, retry_after_s: None })
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "output/tests.rs"]
mod tests;
