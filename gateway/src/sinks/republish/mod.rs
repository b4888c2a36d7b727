//! The sink that publishes validated samples as JSON for Node-RED and the city's other systems:
//! `hunhe/v1/clean/{operator}/{class}/{device}`, QoS 1, not retained, the device by its pseudonym. See [`message`].
//!
//! Promises:
//! - Each sample that is accepted is published at least once, in the order in which it was decided. The cursor moves only
//!   behind samples that the broker has acknowledged, on the connection that they were published on.
//! - A broker that is away or slow delays nothing but this sink: what waits, waits in the decided log.
//!
//! Bounds: a turn reads [`TURN_RECORDS`]; then the session and a request to stop get theirs. [`BATCH_MESSAGES`] publishes
//! and those of one record more are in memory. Where an acknowledgement takes longer than [`PATIENCE`] allows, the batch is
//! published again from the first message that lacks one. A sample of a device that has left the registry has no topic: it
//! is counted as skipped. At the decided log's limit the gateway waits for this sink as for any other.
//!
//! Deliberately absent: windows, refused samples, a retained last value.

pub mod message;
mod publish;

use super::{Running, Site, begin, is_stopping, status::SinkStatus, status::State};
use crate::{
    decided::{
        Decided,
        feed::{Feed, Step},
    },
    mqtt::{Broker, Publisher, PublishingSession},
    retry::Backoff,
};
use hunhe_log::{
    ReadError, Tail,
    cursor::{Cursor, CursorFile, Held},
};
use message::{Encoder, Message};
use publish::{IN_FLIGHT, Patience, publish};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The name in status and metrics.
pub const NAME: &str = "republish";
/// A batch is published once it has this many messages, or nothing more is there.
const BATCH_MESSAGES: usize = 1024;
/// An attempt that waits longer is repeated.
const PATIENCE: Patience =
    Patience { connection: Duration::from_secs(5), acknowledgement: Duration::from_secs(30) };
/// Records read in one turn: not every record makes messages.
const TURN_RECORDS: usize = 1024;
/// Between two looks at a log that had nothing more.
const NAP: Duration = Duration::from_millis(50);

/// The sink, where the configuration has it.
pub(super) fn register(site: &Site<'_>) -> anyhow::Result<Vec<Running>> {
    if !site.config.republish.enabled {
        return Ok(Vec::new());
    }
    let cursor = site.config.data_dir.join(format!("{NAME}.cursor"));
    let (cursor_file, held) =
        CursorFile::open_through(&*hunhe_disk::real(), &cursor, site.counted.through(false))?;
    let republish = Republish {
        encoder: Encoder::new(Arc::clone(site.registry)),
        broker: site.broker.clone(),
        status: Arc::new(SinkStatus::new(NAME.into(), site.decided.clone())),
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        decided: site.decided.clone(),
        cursor,
        cursor_file,
        held,
        patience: PATIENCE,
    };
    Ok(vec![Running::start(republish)?])
}

/// All that the thread works with.
struct Republish {
    encoder: Encoder,
    broker: Broker,
    status: Arc<SinkStatus>,
    runtime: tokio::runtime::Runtime,
    decided: Tail,
    cursor: PathBuf,
    cursor_file: CursorFile,
    held: Held,
    patience: Patience,
}

impl super::Sink for Republish {
    fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(&self.status)
    }

    fn run(self, stop: watch::Receiver<bool>) {
        let Self { encoder, broker, status, runtime, decided, cursor, cursor_file, held, patience } = self;
        let from = begin(held, &status, &cursor);
        status.moved(from);
        let session = PublishingSession {
            suffix: "clean",
            capacity: usize::from(IN_FLIGHT),
            in_flight: Some(IN_FLIGHT),
        };
        runtime.block_on(async {
            let publisher = Publisher::start(broker, session);
            let publishing =
                Publishing { encoder, publisher, status: Arc::clone(&status), cursor_file, stop, patience };
            publishing.follow(decided, from).await;
        });
        status.enter(State::Ended, "");
    }
}

/// How a turn of reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The batch is full, or nothing more is there: it can be published.
    Filled,
    /// There may be more to read.
    Over,
}

struct Publishing {
    encoder: Encoder,
    publisher: Publisher,
    status: Arc<SinkStatus>,
    cursor_file: CursorFile,
    stop: watch::Receiver<bool>,
    patience: Patience,
}

impl Publishing {
    /// Publishes until it is asked to stop, or the log has ended.
    async fn follow(mut self, decided: Tail, from: Cursor) {
        let mut feed = None;
        let mut unreadable = None;
        // Outlasts a failed read: the feed goes on behind what it has given out.
        let mut batch = Vec::new();
        self.status.enter(State::Running, "");
        while !is_stopping(&self.stop) {
            let opened = match &mut feed {
                Some(feed) => Ok(feed),
                none => Feed::open(decided.clone(), from).map(|opened| none.insert(opened)),
            };
            let filled = opened.and_then(|feed| self.fill(feed, &mut batch).map(|turn| (feed, turn)));
            let (feed, turn) = match filled {
                Ok(filled) => filled,
                Err(error) => {
                    tracing::error!(sink = NAME, %error, "the decided log cannot be read; trying again");
                    self.status.enter(State::Held, &error.to_string());
                    let backoff = unreadable.get_or_insert_with(Backoff::default);
                    self.pause(Duration::from_millis(backoff.next_held_ms())).await;
                    continue;
                }
            };
            if unreadable.take().is_some() {
                self.status.enter(State::Running, "");
            }
            let through = feed.complete();
            if turn == Turn::Over {
                if batch.is_empty() {
                    self.advance(through);
                }
                tokio::task::yield_now().await;
                continue;
            }
            if !batch.is_empty() {
                if self.publish_until_taken(&batch).await.is_none() {
                    return;
                }
                self.status.wrote(batch.len() as u64);
                self.status.batch_done();
                batch.clear();
                self.advance(through);
                continue;
            }
            self.advance(through);
            self.status.caught_up();
            if feed.behind() == 0 && feed.is_closed() {
                return;
            }
            // Not a wait for the log: the session needs this thread.
            self.pause(NAP).await;
        }
    }

    /// Reads until the batch is full, nothing more is there, or the turn is over. Once the batch is published, the cursor
    /// may stand at [`Feed::complete`]: what the batch has of a source behind that is published again after a restart.
    fn fill(&mut self, feed: &mut Feed, batch: &mut Vec<Message>) -> Result<Turn, ReadError> {
        let known = feed.known();
        for _ in 0..TURN_RECORDS {
            if batch.len() >= BATCH_MESSAGES {
                return Ok(Turn::Filled);
            }
            match feed.step()? {
                Step::CaughtUp => return Ok(Turn::Filled),
                Step::Lost { records, how } => self.status.lose(records, how),
                Step::Record(_, Decided::Samples(sets)) if sets.source_lsn > known => {
                    let skipped = sets.iter().map(|samples| self.encoder.encode(&samples, batch)).sum();
                    if skipped > 0 {
                        let total = self.status.skipped(skipped);
                        self.status.warn(format!("{total} samples of devices that are no longer registered"));
                    }
                }
                Step::Record(..) => {}
            }
        }
        Ok(Turn::Over)
    }

    /// Publishes a batch in as many attempts as needed; `None`: asked to stop.
    async fn publish_until_taken(&mut self, batch: &[Message]) -> Option<()> {
        let mut backoff = Backoff::default();
        let mut acknowledged = 0;
        loop {
            let before = acknowledged;
            let on_its_way = self.status.request();
            let mut stop = self.stop.clone();
            let outcome = tokio::select! {
                outcome = publish(&self.publisher, batch, &mut acknowledged, self.patience) => outcome,
                _ = stop.wait_for(|stop| *stop) => return None,
            };
            drop(on_its_way);
            let Err(reason) = outcome else {
                self.status.enter(State::Running, "");
                return Some(());
            };
            if let Some(unlogged) = self.status.failure_to_log(false) {
                tracing::warn!(sink = NAME, reason, unlogged, "samples are published again");
            }
            if reason == publish::TOO_LATE {
                // What it owes would fill the window of every later attempt.
                self.publisher.leave();
            }
            self.status.enter(State::Retrying, reason);
            self.status.will_retry();
            if acknowledged > before {
                backoff.reset();
            }
            self.pause(backoff.next_wait()).await;
        }
    }

    /// Sleeps, but not beyond a request to stop.
    async fn pause(&mut self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.stop.wait_for(|stop| *stop)).await;
    }

    fn advance(&mut self, through: Cursor) {
        if through.source_lsn <= self.status.cursor().source_lsn {
            return;
        }
        if let Err(error) = self.cursor_file.save(through) {
            tracing::warn!(sink = NAME, %error, "a restart will publish again what was published since");
            self.status.warn(error.to_string());
        }
        self.status.moved(through);
    }
}

#[cfg(test)]
mod tests;
