//! An output's thread: does what [`Delivery`] says, and reports what came of it. It reads the alert log, keeps attempts under
//! way, saves the cursor and sleeps; it decides nothing.
//!
//! An attempt that panics counts as one that failed. A log that cannot be read is opened again. A failure that repeats is
//! logged once a minute.

use super::{
    Handle, Letter, Outcome, Receiver, Source,
    delivery::{Action, Delivery, Event, Found},
    open_cursor,
    status::OutputStatus,
    window::Bounds,
};
use crate::{
    alerts::feed::{Entry, Feed, Step},
    api::types::{OutputKind, OutputState},
    journal::{Lsn, ReadError, Tail},
    observe::Repeats,
    sinks::{
        cursor::{Cursor, CursorFile},
        http::random,
    },
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

/// Steps between two looks at sockets: a long stretch of changes without a letter must not starve them.
const STEPS_AT_ONCE: u32 = 64;

/// Starts an output that delivers to what `receiver` makes, on the output's own runtime.
///
/// # Errors
/// Where its cursor, its receiver or a thread is not to be had.
pub(super) fn start<R: Receiver>(
    name: &str,
    kind: OutputKind,
    source: Source,
    receiver: impl FnOnce() -> anyhow::Result<R>,
) -> anyhow::Result<Handle> {
    let (file, cursor) = open_cursor(&source, &cursor_name(name, kind))?;
    // The log may have been cut behind what was delivered: then the replay writes those records again, under their numbers.
    let cursor = Cursor { hint: cursor.hint.min(source.tail.head()), ..cursor };
    let status = Arc::new(OutputStatus::new(name.into(), kind, source.tail.clone(), cursor.hint));
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let receiver = {
        // A receiver may start tasks of its own.
        let _within = runtime.enter();
        Arc::new(receiver()?)
    };
    let courier = Courier {
        receiver,
        log: Log { tail: source.tail, at: cursor.hint, feed: None },
        delivery: Delivery::new(Bounds::default(), cursor),
        file,
        status: Arc::clone(&status),
        attempts: JoinSet::new(),
        under_way: HashMap::new(),
        bell: source.bell,
        bell_is_gone: false,
        begun: Instant::now(),
        said: Said::default(),
    };
    let thread = std::thread::Builder::new().name(format!("alerts-{name}")).spawn({
        let status = Arc::clone(&status);
        move || {
            let run = AssertUnwindSafe(|| runtime.block_on(courier.run(stopped)));
            if catch_unwind(run).is_err() {
                status.enter(OutputState::Stopped, Some("its thread panicked: restart the gateway".into()));
            }
        }
    })?;
    Ok(Handle { status, stop, thread })
}

fn cursor_name(name: &str, kind: OutputKind) -> String {
    match kind {
        OutputKind::Mqtt => format!("alerts-{name}.cursor"),
        OutputKind::Webhook => format!("webhook-{name}.cursor"),
    }
}

/// The alert log, opened anew where it could not be read.
struct Log {
    tail: Tail,
    at: Lsn,
    feed: Option<Feed>,
}

impl Log {
    fn step(&mut self) -> Result<Step, ReadError> {
        let feed = match &mut self.feed {
            Some(feed) => feed,
            None => self.feed.insert(Feed::open(self.tail.clone(), self.at)?),
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
struct Said {
    later: Repeats,
    held: Repeats,
    refused: Repeats,
    unreadable: Repeats,
    unsaved: Repeats,
}

struct Courier<R> {
    receiver: Arc<R>,
    log: Log,
    delivery: Delivery,
    file: CursorFile,
    status: Arc<OutputStatus>,
    attempts: JoinSet<Outcome>,
    /// Records and keys of the attempts.
    under_way: HashMap<Id, (Lsn, String)>,
    bell: watch::Receiver<Lsn>,
    bell_is_gone: bool,
    begun: Instant,
    said: Said,
}

impl<R: Receiver> Courier<R> {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut steps = 0;
        loop {
            let now_ms = self.now_ms();
            match self.delivery.next(now_ms) {
                Action::Read => {
                    let found = self.read();
                    self.delivery.handle(now_ms, Event::Read(found));
                }
                Action::Attempt { lsn, letter } => self.attempt(lsn, letter),
                Action::Save(cursor) => self.save(cursor),
                Action::Wait { until_ms } => {
                    self.show();
                    let event = self.wait(until_ms, &mut stopped).await;
                    if let Some(event) = event {
                        self.delivery.handle(self.now_ms(), event);
                    }
                }
                Action::Done => break,
            }
            steps += 1;
            if steps % STEPS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.status.enter(OutputState::Stopped, None);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn read(&mut self) -> Found {
        // Marked seen before the log is read: what comes in between rings again.
        self.bell.borrow_and_update();
        match self.log.step() {
            Ok(Step::CaughtUp) => Found::End,
            Ok(Step::Jump { last }) => Found::Nothing { last },
            Ok(Step::Lost { last, records }) => {
                self.status.lose(records);
                tracing::error!(
                    output = self.status.name(),
                    records,
                    "alerts are gone from the log, or cannot be read: they are not delivered"
                );
                Found::Nothing { last }
            }
            Ok(Step::Entry(entry)) => {
                let Entry { lsn, cause, last, alert, json } = *entry;
                let letter = alert.is_announced().then(|| Letter {
                    key: alert.idempotency_key(),
                    severity: alert.severity.name(),
                    arrival_ms: alert.arrival_time.0,
                    alert: alert.id,
                    operator: alert.operator,
                    body: json,
                });
                Found::Change { lsn, cause, last, letter }
            }
            Err(error) => {
                if let Some(repeats) = self.said.unreadable.due(self.now_ms()) {
                    tracing::error!(
                        output = self.status.name(),
                        %error,
                        repeats,
                        "the alert log cannot be read: trying again"
                    );
                }
                Found::Failed { words: format!("the alert log cannot be read: {error}") }
            }
        }
    }

    fn attempt(&mut self, lsn: Lsn, letter: Letter) {
        self.status.attempted();
        let receiver = Arc::clone(&self.receiver);
        let key = letter.key.clone();
        let task = self.attempts.spawn(async move { receiver.attempt(letter).await });
        self.under_way.insert(task.id(), (lsn, key));
    }

    async fn wait(&mut self, until_ms: Option<u64>, stopped: &mut watch::Receiver<bool>) -> Option<Event> {
        let until = until_ms.map(|at| self.begun + Duration::from_millis(at));
        tokio::select! {
            Some(done) = self.attempts.join_next_with_id() => self.finished(done),
            rung = self.bell.changed(), if !self.bell_is_gone => {
                self.bell_is_gone = rung.is_err();
                Some(if self.bell_is_gone { Event::LogEnded } else { Event::Rang })
            }
            () = sleep_until(until) => None,
            _ = stopped.wait_for(|stop| *stop) => Some(Event::Stop),
        }
    }

    fn finished(&mut self, done: Result<(Id, Outcome), JoinError>) -> Option<Event> {
        let (id, outcome) = match done {
            Ok(done) => done,
            // Its message is in the log already.
            Err(error) => {
                let words = "a delivery panicked: see the log".to_owned();
                (error.id(), Outcome::Later { words, retry_after_s: None })
            }
        };
        let (lsn, key) = self.under_way.remove(&id)?;
        self.count(&key, &outcome);
        Some(Event::Finished { lsn, outcome, random: random() })
    }

    fn count(&mut self, key: &str, outcome: &Outcome) {
        let (output, now_ms) = (self.status.name(), self.now_ms());
        match outcome {
            Outcome::Taken => self.status.delivered(),
            Outcome::Refused { words } => {
                self.status.refused();
                if let Some(repeats) = self.said.refused.due(now_ms) {
                    tracing::error!(output, key, words, repeats, "an alert was refused: not delivered");
                }
            }
            Outcome::Later { words, .. } => {
                if let Some(repeats) = self.said.later.due(now_ms) {
                    tracing::warn!(output, words, repeats, "an alert was not taken: trying again");
                }
            }
            Outcome::Held { words } => {
                if let Some(repeats) = self.said.held.due(now_ms) {
                    tracing::error!(
                        output,
                        words,
                        repeats,
                        "not the receiver that was meant: alerts are kept"
                    );
                }
            }
        }
    }

    fn save(&mut self, cursor: Cursor) {
        if let Err(error) = self.file.save(cursor)
            && let Some(repeats) = self.said.unsaved.due(self.now_ms())
        {
            let output = self.status.name();
            tracing::warn!(output, %error, repeats, "a restart will repeat what was delivered since");
        }
        self.status.moved(cursor.hint);
    }

    fn show(&self) {
        let health = self.delivery.health();
        self.status.enter(health.state, health.last_error);
        self.status.waits_since(self.delivery.oldest_ms());
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "courier/tests.rs"]
mod tests;
