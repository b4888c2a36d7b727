//! Where alerts are delivered: the broker and webhooks. Each output follows the alert log on its own thread with its own
//! cursors, so that one that is dead delays neither another nor the page.
//!
//! Promises:
//! - Each raise and each end of a raised alert is delivered at least once; but the raise found in old data of an alert that
//!   goes live before it was sent, whose live raise is delivered. Every attempt carries the same idempotency key
//!   and the same bytes but for `sequence`, also after a restart; but for the time of a withdrawal.
//! - What is live waits for nothing that is retrospective ([`queues`]), and the alerts of one agent for one of each other
//!   ([`turns`]), as far as the window reaches.
//! - Changes of one alert are delivered in their order. Different alerts may overtake each other, but not while their queue
//!   is in trouble.
//! - An output always makes progress, or waits for its receiver with a deadline ([`delivery`]). One that delivers nothing for
//!   `alerts.stalled_after_s` although alerts wait is an alert of its own ([`stall`], [`watchdog`]).
//! - A cursor moves only behind deliveries that the receiver took, or refused for good, or that were not needed. Where a replay goes by other rules
//!   than before, it is set back to where the replay begins.
//!
//! Bounds: [`queues::Limits`] deliveries under way and changes remembered; back-off 5 s, or what `Retry-After` says, up to five minutes, and a
//! minute where only a person can mend it. What waits, waits in the alert log; beyond its limit the oldest is gone, counted.
//! Deliberately absent: grouping, routing, quiet hours. What an answer of a webhook means is said in [`webhook`].

pub mod delivery;
pub mod mqtt;
mod output;
pub mod queues;
pub mod stall;
pub mod status;
mod turns;
pub mod watchdog;
pub mod webhook;
pub mod window;

use super::Alert;
use bytes::Bytes;
use hunhe_gateway_core::alert::{Mode, Phase};
use hunhe_log::{
    Lsn, Tail,
    cursor::{Cursor, CursorError, CursorFile, Held},
};
use status::OutputStatus;
use std::{
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};
use tokio::sync::watch;

/// One change on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Letter {
    /// Of the alert: letters of one alert keep their order.
    pub alert: u64,
    /// The agent that it came from: agents take turns.
    pub agent: String,
    /// Whether it speaks of now.
    pub live: bool,
    /// Whether it says that the alert is raised, not that it is over.
    pub raises: bool,
    /// For the receiver, to take two of the same as one.
    pub key: String,
    /// Who runs what it is about.
    pub operator: String,
    /// How bad it is.
    pub severity: &'static str,
    /// When the gateway found it, milliseconds since 1970.
    pub arrival_ms: i64,
    /// The alert as JSON.
    pub body: Bytes,
}

impl Letter {
    fn new(alert: Alert, encode: Encode) -> Self {
        Self {
            live: alert.mode == Mode::Live,
            raises: alert.phase == Phase::Firing,
            key: alert.idempotency_key(),
            severity: alert.severity.name(),
            arrival_ms: alert.arrival_ms,
            body: encode(&alert),
            alert: alert.id,
            agent: alert.agent,
            operator: alert.operator,
        }
    }

    /// A live raise of this alert of this agent.
    #[cfg(test)]
    fn of(alert: u64, agent: &str) -> Self {
        Self {
            alert,
            agent: agent.into(),
            live: true,
            raises: true,
            key: String::new(),
            operator: String::new(),
            severity: "info",
            arrival_ms: 0,
            body: Bytes::new(),
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Taken.
    Taken,
    /// Not now.
    Later {
        /// Why.
        words: String,
        /// When the receiver asks to be left alone for so long.
        retry_after_s: Option<u64>,
    },
    /// Not the receiver that was meant: only a person can mend that.
    Held {
        /// Why.
        words: String,
    },
    /// Refused for good.
    Refused {
        /// Why.
        words: String,
    },
}

/// A receiver. An attempt always ends, within a bounded time.
pub trait Receiver: Send + Sync + 'static {
    /// Tries once.
    fn attempt(&self, letter: Letter) -> impl Future<Output = Outcome> + Send;
}

/// Makes the bytes that receivers get of an alert: the same of the same alert.
pub type Encode = fn(&Alert) -> Bytes;

/// Where an output reads.
#[derive(Debug, Clone)]
pub struct Source {
    /// The alert log.
    pub tail: Tail,
    /// Rings with its newest record.
    pub bell: watch::Receiver<Lsn>,
    /// Where a new output begins: the journal record that the lane begins behind.
    pub from_cause: u64,
    /// No cursor stands beyond this journal record: what is behind it is judged anew, by other rules, or is not there
    /// any more.
    pub cause_max: u64,
    /// Where cursors lie.
    pub data_dir: PathBuf,
    /// Makes what receivers get.
    pub encode: Encode,
}

/// A running output. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    status: Arc<OutputStatus>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// State and counters.
    #[must_use]
    pub fn status(&self) -> Arc<OutputStatus> {
        Arc::clone(&self.status)
    }

    /// Stops it: attempts under way are given up, and repeated after the next start.
    pub fn stop(self) {
        self.stop.send_replace(true);
        // A panic there has been logged, and nothing waits for this thread.
        let _ = self.thread.join();
    }
}

/// An output's cursor, made durable where it is new: an output that has never delivered must not begin later, at its
/// next start, than it did at its first.
fn open_cursor(source: &Source, file: &str) -> Result<(CursorFile, Cursor), CursorError> {
    let path = source.data_dir.join(file);
    let (mut cursor_file, held) = CursorFile::open(&*hunhe_disk::real(), &path)?;
    let cursor = match held {
        Held::Cursor(cursor) if cursor.cause > source.cause_max => {
            // Idempotency keys make the repeats harmless, and a raise passed by would be lost.
            let cursor = Cursor { cause: source.cause_max, ..cursor };
            cursor_file.save(cursor)?;
            sync(&path);
            cursor
        }
        Held::Cursor(cursor) => cursor,
        Held::Damaged => {
            tracing::error!(path = %path.display(), "a cursor is damaged: all alerts in the log are delivered again");
            Cursor::default()
        }
        Held::Nothing => {
            let cursor = Cursor { cause: source.from_cause, hint: source.tail.head() };
            cursor_file.save(cursor)?;
            sync(&path);
            cursor
        }
    };
    Ok((cursor_file, cursor))
}

fn sync(path: &Path) {
    let synced = File::open(path).and_then(|file| file.sync_all());
    let parent = path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all());
    if let Err(error) = synced.and(parent) {
        tracing::warn!(path = %path.display(), %error, "a new cursor could not be made durable");
    }
}
