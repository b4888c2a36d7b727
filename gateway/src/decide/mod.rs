//! What drives a lane: journal records in, alerts and decided records out, sinks' words back in.
//!
//! [`Running::turn`] is one step of it, with the time as an argument and without waiting for anything; [`Driver::run`] is the
//! thread around it, which sleeps between turns.
//!
//! Invariants: the lane sees only durable records, in order; all decisions of a record are in the alert log and the
//! decided log before the next record is taken; a checkpoint is valid only with both logs durable up to its positions
//! (`ahead.rs` syncs them beside the lane before); the journal is released up to the older checkpoint, the decided log up to where every sink was done by then: what a sink
//! confirmed later is confirmed once more after a crash, so it must still be there to be read.
//!
//! The way of an alert has no timer in it: the journal's commit wakes this thread, which writes and shows a record's
//! alerts before its decided records; that rings the outputs' bell. The 50 ms below are only how long it sleeps when
//! nobody has anything to say.
//!
//! Bounds: what is journaled and not decided (`journal::Bounds::lag_cost`), since an alarm waits for it; the decided log's limit. Where it has no room for a large decision the next record waits, the journal fills, and the
//! intake stops acknowledging; alerts of later records wait as well. Confirmations go on meanwhile, and checkpoints follow
//! them at once, since together they make room. A decision larger than the room kept for it (a quarter of a small log) leaves
//! the lane ahead of its log: then no checkpoint is taken until it fits, and sinks alone make room.
//!
//! Nobody can run anything on this thread: people see what it has [`published`].

mod ahead;
pub mod checkpoint;
mod discards;
mod driver;
pub mod formats;
mod handle;
pub mod published;
pub mod recover;
pub mod restored;
mod watermarks;

pub use driver::{CheckpointPolicy, Driver};
pub use handle::{LaneEnded, LaneError, LaneHandle, Progress, Said, finish_on_threads, sync_on_threads};

use crate::{
    decide::checkpoint::{Checkpoint, CheckpointError, Unfinished, Written},
    decided::{self, Message},
    record, watermark,
};
use ahead::{Ahead, Due};
use hunhe_gateway_core::{device::alert::Phase, event::Decisions, lane::Lane};
use hunhe_log::{AppendError, Lsn, Next, Reader};
use hunhe_store::Discard;
use std::{
    sync::{
        atomic::Ordering,
        mpsc::{RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

/// Records handled between two looks at what others say.
const RECORDS_PER_TURN: usize = 2048;
/// Records handled between two words to the journal of how far the lane is.
const RECORDS_PER_WORD: u64 = 32;
/// In a checkpoint's marks: how far whoever was of record then had confirmed. No sink can be named so.
pub const OF_RECORD: &str = "of record";
/// There as well: the last discard of the quarantine that is counted.
pub const DISCARDED: &str = "discarded from quarantine";
/// How long the lane sleeps when nobody has anything to say.
const NAP: Duration = Duration::from_millis(50);

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    More,
    /// Nothing more until somebody says something.
    Idle,
    /// A record waits for room in the decided log.
    Full,
    /// Told to stop, and everything is done. No turn may follow.
    Over,
}

/// What a checkpoint stands for in the logs.
#[derive(Debug, Clone, Copy, Default)]
struct Covered {
    /// Journal records up to here are in it.
    journal: Lsn,
    /// Decided records up to here are done, and all that sinks said of them is in it.
    decided: Lsn,
    /// Discards up to this number are counted in it.
    discards: u64,
}

/// The bookkeeping of turns.
struct Turns {
    handled: Lsn,
    /// The journal's end when the lane began.
    replayed_to: Lsn,
    /// Journal bytes since the last checkpoint.
    bytes: u64,
    checkpoint_at: Instant,
    checkpoint_running: bool,
    ahead: Ahead,
    /// Why nothing may be decided any more.
    failed: Option<LaneError>,
    older_checkpoint: Covered,
    begun_checkpoint: Covered,
    /// The decided log may be released up to here: the older checkpoint no longer needs it.
    releasable: Lsn,
    released: Lsn,
    /// Decided records up to here are done, and all that was said of them has been heard.
    done: Lsn,
    watermarks_at: Instant,
    watermark_round: u64,
    /// The next record waits for room in the decided log.
    full: bool,
    /// The journal record whose decisions are encoded and wait for more room than is kept.
    without_room: Option<Lsn>,
    stopping: bool,
}

/// A lane at work.
pub struct Running {
    reader: Reader,
    work: Work,
}

struct Work {
    driver: Driver,
    turns: Turns,
    decisions: Decisions,
    encoder: decided::Encoder,
    watermark: watermarks::Watermark,
}

impl Running {
    /// Hears what was said, decides what the journal holds, and does what is due at `now`. Waits for nothing.
    ///
    /// # Errors
    /// [`LaneError`]: no turn may follow.
    pub fn turn(&mut self, now: Instant) -> Result<Turn, LaneError> {
        self.work.turn(&mut self.reader, now)
    }

    /// The core, between two turns.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.work.driver.lane
    }
}

impl Work {
    fn turn(&mut self, reader: &mut Reader, now: Instant) -> Result<Turn, LaneError> {
        // In this order: what sinks have said of records that they are done with is heard when they count as done.
        let done = (self.driver.sinks_done)();
        self.hear_all();
        self.turns.failed.take().map_or(Ok(()), Err)?;
        self.turns.done = done;
        // A decision that does not fit cannot wait for checkpoints, since none is taken: then the ledger may show what is
        // done as outstanding after a crash.
        let releasable = if self.turns.without_room.is_some() { done } else { self.turns.releasable };
        if releasable > self.turns.released {
            self.turns.released = releasable;
            self.driver.decided.release_through(releasable)?;
        }
        let more = self.append_waiting()? && self.take_records(reader)?;
        self.driver.decided.flush()?;
        self.note_progress();
        if self.driver.publisher.is_due(now) {
            self.publish(now);
        }
        let full = self.turns.full || self.turns.without_room.is_some();
        if !full {
            self.driver.handle.progress.waiting.store(false, Ordering::Relaxed);
        }
        if self.turns.stopping && !more {
            self.publish(now);
            self.send_watermarks();
            if self.turns.checkpoint_running || self.turns.ahead.is_running() {
                // It is being made valid: the last one must not be written over it. What is being synced may fail.
                return Ok(Turn::Idle);
            }
            if self.turns.without_room.is_none() {
                self.begin_checkpoint(now)??.finish()?;
            }
            return Ok(Turn::Over);
        }
        self.housekeeping(now)?;
        Ok(match (more, full) {
            (true, _) => Turn::More,
            (false, true) => Turn::Full,
            (false, false) => Turn::Idle,
        })
    }

    /// Returns whether there may be more.
    fn take_records(&mut self, reader: &mut Reader) -> Result<bool, LaneError> {
        self.driver.handle.woken.store(false, Ordering::Release);
        for _ in 0..RECORDS_PER_TURN {
            // The journal's end is behind a lock, which is not for every record.
            self.turns.full = !self.has_room() && self.turns.handled < self.driver.journal.head();
            if self.turns.full {
                self.note_full();
                return Ok(false);
            }
            match reader.next()? {
                Next::CaughtUp => {
                    // Numbers that were given away are no records, and yet done with.
                    self.turns.handled = self.turns.handled.max(reader.position().previous());
                    return Ok(false);
                }
                Next::Lost { first, last } => {
                    let records = last.0.saturating_sub(first.0) + 1;
                    self.driver.handle.progress.unreadable.fetch_add(records, Ordering::Relaxed);
                    tracing::error!(%first, %last, "journal records cannot be read: their samples become unexplained");
                    self.turns.handled = last;
                }
                Next::Record(journaled) => {
                    let (lsn, kind, payload) = (journaled.lsn, journaled.kind, journaled.payload);
                    self.turns.bytes += payload.len() as u64;
                    match record::read(lsn.0, kind, payload) {
                        Some(entry) => self.decide(lsn, &entry)?,
                        None => {
                            self.driver.handle.progress.unreadable.fetch_add(1, Ordering::Relaxed);
                            tracing::error!(%lsn, kind, "journal record is of no known kind");
                        }
                    }
                    if !self.append_waiting()? {
                        return Ok(false);
                    }
                    self.turns.handled = lsn;
                    if lsn.0 % RECORDS_PER_WORD == 0 {
                        (self.driver.decided_through)(lsn, false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Has the decided log room for whatever is decided next?
    fn has_room(&self) -> bool {
        let (log, limit) = (&self.driver.decided, self.driver.decided_limit_bytes);
        let room = u64::try_from(log.segment_room_bytes()).unwrap_or(u64::MAX);
        let kept = decided::DECISION_BYTES_MAX.min(room).min(limit / 4);
        log.bytes_on_disk().saturating_add(kept) <= limit
    }

    fn note_full(&self) {
        if !self.driver.handle.progress.waiting.swap(true, Ordering::Relaxed) {
            tracing::error!("the decided log is at its limit: waiting for the slowest sink");
        }
    }

    /// Appends the decisions that wait, if any; answers whether none wait any more.
    fn append_waiting(&mut self) -> Result<bool, LaneError> {
        let Some(lsn) = self.turns.without_room else { return Ok(true) };
        match self.encoder.append(&mut self.driver.decided) {
            Ok(()) => {}
            Err(AppendError::Full { .. }) => {
                self.note_full();
                return Ok(false);
            }
            Err(AppendError::Log(error)) => return Err(error.into()),
            Err(AppendError::TooLarge { bytes, bound_bytes }) => {
                // See `decided::DECISION_BYTES_MAX`.
                tracing::error!(
                    %lsn,
                    bytes,
                    bound_bytes,
                    "a decision is larger than a segment of the decided log: its samples stay outstanding; raise \
                     decided.segment_bytes"
                );
            }
        }
        self.turns.without_room = None;
        self.turns.handled = lsn;
        Ok(true)
    }

    fn decide(&mut self, lsn: Lsn, entry: &record::Journaled<'_>) -> Result<(), LaneError> {
        if let Some(change) = entry.output {
            // What is closed for want of a reason waits for a source record without a change of its own: the next tick.
            if let Some(ended) = self.driver.alerts.write_output(lsn.0, entry.at_ms, change)? {
                self.driver.withdrawn.remove(&ended);
            }
            return Ok(());
        }
        self.decisions.clear();
        self.driver.lane.handle(entry.event(), &mut self.decisions);
        if !self.driver.withdrawn.is_empty() {
            self.withdraw(lsn, entry.at_ms)?;
        }
        // A record that is judged again is waited for, whatever comes of it.
        if self.decisions.is_empty() && entry.redrive_of.is_none() {
            return Ok(());
        }
        if !self.decisions.alerts.is_empty() {
            self.driver.alerts.write(lsn.0, &self.decisions.alerts)?;
        }
        let message = Message {
            source_lsn: lsn.0,
            arrival_ms: entry.at_ms,
            topic: entry.topic,
            payload: entry.payload,
            redrive_of: entry.redrive_of,
        };
        self.encoder.encode(&self.driver.registry, message, &self.decisions);
        self.turns.without_room = Some(lsn);
        Ok(())
    }

    fn withdraw(&mut self, lsn: Lsn, at_ms: i64) -> Result<(), LaneError> {
        let withdrawn = &mut self.driver.withdrawn;
        for change in self.decisions.alerts.iter().filter(|change| change.phase == Phase::Resolved) {
            withdrawn.remove(&change.id);
        }
        // Replayed records have source records that outputs may have passed; and a source record has its changes written at once.
        if lsn <= self.turns.replayed_to || !self.decisions.alerts.is_empty() {
            return Ok(());
        }
        let mut withdrawn = std::mem::take(withdrawn);
        let own = self.driver.alerts.stalled_outputs().ids();
        for id in self.driver.lane.open_alerts().chain(own) {
            withdrawn.remove(&id);
        }
        if withdrawn.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            alerts = withdrawn.len(),
            "alerts stood whose rule, class or device is no more: they are closed"
        );
        Ok(self.driver.alerts.withdraw(lsn.0, at_ms, withdrawn)?)
    }

    /// Hears what waits to be said.
    fn hear_all(&mut self) {
        loop {
            match self.driver.said.try_recv() {
                Ok(said) => self.heard(said),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.turns.stopping = true;
                    return;
                }
            }
        }
    }

    /// Sleeps until something is said.
    fn listen(&mut self, at_most: Duration) {
        match self.driver.said.recv_timeout(at_most) {
            Ok(said) => self.heard(said),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.turns.stopping = true,
        }
    }

    fn heard(&mut self, said: Said) {
        match said {
            Said::Wake => {}
            Said::Confirmed { sink, source_lsn, rows } => {
                for row in rows {
                    match row.index {
                        Some(device) => self.driver.lane.confirmed(device, row.boot, row.confirmed),
                        None => self.driver.lane.confirmed_of(row.device, row.boot, row.confirmed),
                    }
                }
                if *sink == *self.driver.of_record {
                    self.driver.confirmed.insert(OF_RECORD.to_owned(), source_lsn);
                }
                self.driver.confirmed.insert(sink.as_ref().to_owned(), source_lsn);
            }
            Said::Discarded(discards) => self.count_discards(&discards),
            Said::Checkpointed(outcome) => self.checkpointed(outcome),
            Said::Synced(Ok(())) => self.turns.ahead.ended(),
            Said::Synced(Err(error)) => self.turns.failed = Some(LaneError::Unsynced(error)),
            Said::Stop => self.turns.stopping = true,
        }
    }

    fn publish(&mut self, now: Instant) -> bool {
        self.driver.publisher.publish(&mut self.driver.lane, now)
    }

    fn count_discards(&mut self, discards: &[Discard]) {
        let counted = self.driver.confirmed.entry(DISCARDED.to_owned()).or_default();
        for discard in discards::uncounted(discards, counted) {
            self.driver.lane.discarded_of(discard.device, discard.boot, discard.samples.into());
        }
    }

    fn note_progress(&self) {
        let progress = &self.driver.handle.progress;
        // Released: whoever reads it finds what was decided until here.
        progress.handled.store(self.turns.handled.0, Ordering::Release);
        progress.decided.store(self.driver.decided.head().0, Ordering::Relaxed);
        progress.decided_bytes.store(self.driver.decided.bytes_on_disk(), Ordering::Relaxed);
        let waiting = self.turns.full || self.turns.without_room.is_some();
        (self.driver.decided_through)(self.turns.handled, waiting);
    }

    fn housekeeping(&mut self, now: Instant) -> Result<(), LaneError> {
        // What an agent is told is durable, the ledger shows.
        if now - self.turns.watermarks_at >= watermark::EVERY && self.publish(now) {
            self.turns.watermarks_at = now;
            self.send_watermarks();
        }
        let due = now - self.turns.checkpoint_at >= self.driver.policy.every
            || self.turns.bytes >= self.driver.policy.every_journal_bytes;
        let makes_room = self.turns.full && self.turns.releasable < self.turns.done;
        let fits = self.turns.without_room.is_none() && !self.turns.checkpoint_running;
        let checkpoint = fits && (due && self.turns.bytes > 0 || makes_room);
        let dirty = self.driver.decided.is_dirty() || self.driver.alerts.is_dirty();
        match self.turns.ahead.due(now, dirty, checkpoint) {
            Due::Nothing => {}
            Due::Sync => {
                let logs = [self.driver.decided.unsynced(), self.driver.alerts.unsynced()];
                (self.driver.sync)(logs.into_iter().flatten().collect());
            }
            Due::Checkpoint => match self.begin_checkpoint(now)? {
                Ok(unfinished) => {
                    self.turns.checkpoint_running = true;
                    (self.driver.finish)(unfinished);
                }
                Err(error) => self.checkpointed(Err(format!("{error:?}"))),
            },
        }
        Ok(())
    }

    /// The outer error is the end; the inner one is a disk that may have room again later.
    fn begin_checkpoint(&mut self, now: Instant) -> Result<Result<Unfinished, CheckpointError>, LaneError> {
        let begun = Instant::now();
        let decided = self.driver.decided.sync()?;
        let alerts = self.driver.alerts.sync()?;
        let synced = Instant::now();
        self.turns.bytes = 0;
        self.turns.checkpoint_at = now;
        self.turns.begun_checkpoint = Covered {
            journal: self.turns.handled,
            decided: self.turns.done,
            discards: self.driver.confirmed.get(DISCARDED).copied().unwrap_or(0),
        };
        // The broker has not taken these yet: after a crash they are to be sent again.
        for agent in self.driver.outgoing.unacknowledged() {
            if let Some(agent) = self.driver.registry.find_agent(agent) {
                self.driver.lane.touch_agent(agent);
            }
        }
        let unfinished = self.driver.checkpoints.begin(&Checkpoint {
            journal: self.turns.handled,
            decided,
            alerts,
            rules: self.driver.rules,
            confirmed: self.driver.confirmed.clone(),
            snapshot: self.driver.lane.snapshot(),
        });
        let (logs, state) = (synced - begun, synced.elapsed());
        tracing::debug!(
            ?logs,
            ?state,
            "a checkpoint is begun: so long the lane synced its logs and wrote its state"
        );
        Ok(unfinished)
    }

    fn checkpointed(&mut self, outcome: Result<Written, String>) {
        self.turns.checkpoint_running = false;
        match outcome {
            Ok(written) => {
                self.driver.checkpoints.finished(&written);
                self.driver.handle.progress.checkpoints.fetch_add(1, Ordering::Relaxed);
                (self.driver.release)(self.turns.older_checkpoint.journal);
                self.turns.releasable = self.turns.older_checkpoint.decided;
                let discards = &self.driver.handle.progress.discards;
                discards.store(self.turns.older_checkpoint.discards, Ordering::Relaxed);
                self.turns.older_checkpoint = self.turns.begun_checkpoint;
            }
            Err(error) => tracing::error!(
                error,
                "a checkpoint could not be written: the journal is kept from the one before"
            ),
        }
    }
}
