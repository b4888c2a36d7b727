//! Where alerts are delivered: the broker and webhooks. Each output follows the alert log on its own thread with its own
//! cursors, so that a dead output delays neither another nor the page.
//!
//! Promises:
//! - Each raise and each end of a raised alert is delivered at least once. One exception: where an alert found in old data
//!   goes live before its raise was sent, only the live raise is delivered.
//! - Every attempt carries the same idempotency key and the same bytes except `sequence`, also after a restart of the same
//!   version; except the time of a withdrawal.
//! - A live alert waits for no retrospective one ([`queues`]). An alert of one agent waits for at most one alert of each
//!   other agent ([`turns`]), as far as the window reaches.
//! - Changes of one alert are delivered in their order. Different alerts may overtake each other, but not while their queue
//!   is in trouble.
//! - An output always makes progress, or waits for its receiver with a deadline ([`delivery`]). An output that delivers
//!   nothing for `alerts.stalled_after_s` although alerts wait raises an alert of its own ([`stall`], [`watchdog`]).
//! - A cursor moves only behind deliveries that the receiver took, or refused for good, or that were not needed. Where a
//!   replay uses other rules than before, the cursor moves back to where the replay begins.
//!
//! Bounds: [`queues::Limits`] deliveries under way and changes remembered. The back-off is 5 s, or what `Retry-After` asks
//! for, up to five minutes, and a minute where only a person can help. Alerts wait in the alert log; beyond its limit the
//! oldest are released and counted.
//! Deliberately absent: grouping, routing, quiet hours. [`webhook`] lists what an answer of a webhook means.

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
use hunhe_gateway_core::device::alert::{Mode, Phase};
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
pub struct Notification {
    /// Of the alert: notifications of one alert keep their order.
    pub alert: u64,
    /// The agent that it came from: agents take turns.
    pub agent: String,
    /// Whether it speaks of now.
    pub live: bool,
    /// Whether it raises the alert; otherwise it ends it.
    pub raises: bool,
    /// Lets the receiver recognise a repeat.
    pub key: String,
    /// The operator of the device or agent.
    pub operator: String,
    /// Its severity, as in topics.
    pub severity: &'static str,
    /// When the gateway found it, milliseconds since 1970.
    pub arrival_ms: i64,
    /// What the receiver gets of the alert.
    pub body: Bytes,
}

impl Notification {
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
        reason: String,
        /// The receiver's `Retry-After`.
        retry_after_s: Option<u64>,
    },
    /// Not the configured receiver: only a person can correct that.
    Held {
        /// Why.
        reason: String,
    },
    /// Refused for good.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A receiver. An attempt always ends, within a bounded time.
pub trait Receiver: Send + Sync + 'static {
    /// Tries once.
    fn attempt(&self, notification: Notification) -> impl Future<Output = Outcome> + Send;
}

/// Makes the bytes that receivers get of an alert: the same of the same alert.
pub type Encode = fn(&Alert) -> Bytes;

/// Where an output reads.
#[derive(Debug, Clone)]
pub struct Source {
    /// The alert log.
    pub tail: Tail,
    /// Its newest record.
    pub newest: watch::Receiver<Lsn>,
    /// Where a new output begins: the journal record that the lane begins behind.
    pub from_source_lsn: u64,
    /// No cursor stands beyond this journal record: what is behind it is decided again by other rules, or no
    /// longer there.
    pub source_lsn_max: u64,
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
        Held::Cursor(cursor) if cursor.source_lsn > source.source_lsn_max => {
            // Idempotency keys make the repeats harmless, and a raise passed by would be lost.
            let cursor = Cursor { source_lsn: source.source_lsn_max, ..cursor };
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
            let cursor = Cursor { source_lsn: source.from_source_lsn, decided_lsn: source.tail.head() };
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
