//! An output's thread: reads the alert log, keeps letters under way, moves the cursor. The decisions are [`Window`]'s and
//! [`Backoff`]'s.

use super::{Handle, Letter, Outcome, Receiver, Source, open_cursor, status::OutputStatus, window::Window};
use crate::{
    alerts::feed::{Entry, Feed, Step},
    api::types::{OutputKind, OutputState},
    journal::{Lsn, ReadError},
    sinks::{cursor::CursorFile, http::random, manners::Backoff},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet, time::Instant};

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
    let feed = Feed::open(source.tail.clone(), cursor.hint)?;
    let status = Arc::new(OutputStatus::new(name.into(), kind, source.tail, cursor.hint));
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let receiver = {
        // A receiver may start tasks of its own.
        let _within = runtime.enter();
        Arc::new(receiver()?)
    };
    let courier = Courier {
        receiver,
        feed,
        window: Window::new(cursor),
        file,
        status: Arc::clone(&status),
        backoff: Backoff::default(),
        retry_at: None,
        attempts: JoinSet::new(),
        bell: source.bell,
        ended: false,
    };
    let thread = std::thread::Builder::new()
        .name(format!("alerts-{name}"))
        .spawn(move || runtime.block_on(courier.run(stopped)))?;
    Ok(Handle { status, stop, thread })
}

fn cursor_name(name: &str, kind: OutputKind) -> String {
    match kind {
        OutputKind::Mqtt => format!("alerts-{name}.cursor"),
        OutputKind::Webhook => format!("webhook-{name}.cursor"),
    }
}

struct Courier<R> {
    receiver: Arc<R>,
    feed: Feed,
    window: Window,
    file: CursorFile,
    status: Arc<OutputStatus>,
    backoff: Backoff,
    /// When the next attempt may begin, after one that failed.
    retry_at: Option<Instant>,
    attempts: JoinSet<(Lsn, Letter, Outcome)>,
    bell: watch::Receiver<Lsn>,
    /// The log's writer is gone: nothing will follow.
    ended: bool,
}

impl<R: Receiver> Courier<R> {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            // Marked seen before the log is read: what comes in between rings again.
            self.bell.borrow_and_update();
            let caught_up = match self.read() {
                Ok(caught_up) => caught_up,
                Err(error) => {
                    tracing::error!(output = self.status.name(), %error, "the alert log cannot be read: this output has ended");
                    self.status.enter(OutputState::Stopped, Some(error.to_string()));
                    return;
                }
            };
            self.advance();
            self.send();
            if self.ended && caught_up && self.attempts.is_empty() && self.retry_at.is_none() {
                break;
            }
            tokio::select! {
                Some(done) = self.attempts.join_next() => self.heard(done),
                () = until(self.retry_at), if self.attempts.is_empty() && self.retry_at.is_some() => {
                    self.retry_at = None;
                }
                rung = self.bell.changed(), if caught_up && !self.ended => self.ended = rung.is_err(),
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        self.status.enter(OutputState::Stopped, None);
    }

    /// Reads as far as there is room; answers whether to the end of the log.
    fn read(&mut self) -> Result<bool, ReadError> {
        while self.window.has_room() {
            match self.feed.step()? {
                Step::CaughtUp => return Ok(true),
                Step::Jump { last } => {
                    self.window.pass(last);
                    self.window.advance();
                }
                Step::Lost { last, records } => {
                    self.status.lose(records);
                    tracing::error!(
                        output = self.status.name(),
                        records,
                        "alerts are gone from the log, or cannot be read: they are not delivered"
                    );
                    self.window.pass(last);
                    self.window.advance();
                }
                Step::Entry(entry) => {
                    let Entry { lsn, cause, last, alert, json } = *entry;
                    let letter = alert.is_announced().then(|| Letter {
                        key: alert.idempotency_key(),
                        severity: alert.severity.name(),
                        alert: alert.id,
                        operator: alert.operator,
                        body: json,
                    });
                    self.window.take_up(lsn, cause, last, letter);
                    self.window.advance();
                }
            }
        }
        Ok(false)
    }

    fn send(&mut self) {
        while self.retry_at.is_none()
            && let Some((lsn, letter)) = self.window.next_letter()
        {
            self.status.attempted();
            let receiver = Arc::clone(&self.receiver);
            self.attempts.spawn(async move { (lsn, letter.clone(), receiver.attempt(letter).await) });
        }
    }

    fn heard(&mut self, done: Result<(Lsn, Letter, Outcome), tokio::task::JoinError>) {
        let (lsn, letter, outcome) = match done {
            Ok(done) => done,
            Err(error) => {
                // Nothing behind a lost attempt may be passed; after a restart it comes again.
                self.status
                    .enter(OutputState::Stopped, Some("a delivery panicked: restart the gateway".into()));
                std::panic::resume_unwind(Box::new(error.to_string()))
            }
        };
        match outcome {
            Outcome::Taken => {
                self.status.delivered();
                self.well(lsn, None);
            }
            Outcome::Refused { words } => {
                self.status.refused();
                tracing::error!(
                    output = self.status.name(),
                    key = letter.key,
                    words,
                    "an alert was refused: not delivered"
                );
                self.well(lsn, Some(words));
            }
            Outcome::Later { words, retry_after_s } => {
                let wait_ms = self.backoff.next_ms(retry_after_s, random());
                tracing::warn!(
                    output = self.status.name(),
                    words,
                    wait_ms,
                    "an alert was not taken: trying again"
                );
                self.again(lsn, OutputState::Retrying, words, wait_ms);
            }
            Outcome::Held { words } => {
                let wait_ms = self.backoff.next_held_ms();
                tracing::error!(
                    output = self.status.name(),
                    words,
                    wait_ms,
                    "not the receiver that was meant: alerts are kept"
                );
                self.again(lsn, OutputState::Held, words, wait_ms);
            }
        }
    }

    fn well(&mut self, lsn: Lsn, last_error: Option<String>) {
        self.window.settled(lsn);
        if self.window.is_troubled() {
            return;
        }
        self.backoff = Backoff::default();
        self.retry_at = None;
        self.status.enter(OutputState::Running, last_error);
    }

    fn again(&mut self, lsn: Lsn, state: OutputState, words: String, wait_ms: u64) {
        self.window.failed(lsn);
        let at = Instant::now() + Duration::from_millis(wait_ms);
        self.retry_at = Some(self.retry_at.map_or(at, |before| before.max(at)));
        self.status.enter(state, Some(words));
    }

    fn advance(&mut self) {
        self.window.advance();
        let cursor = self.window.cursor();
        if cursor.hint == self.status.passed() {
            return;
        }
        if let Err(error) = self.file.save(cursor) {
            tracing::warn!(output = self.status.name(), %error, "a restart will repeat what was delivered since");
        }
        self.status.moved(cursor.hint);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "courier/tests.rs"]
mod tests;
