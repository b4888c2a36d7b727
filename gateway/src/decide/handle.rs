//! What others say to a lane's thread, and how far it is. Nobody can ask it anything: what people see is
//! [`published`](super::published).

use crate::{
    decide::checkpoint::{CheckpointError, Unfinished, Written},
    decided::{Confirmation, Confirmations},
};
use hunhe_log::{Error as JournalError, Lsn, ReadError, Unsynced};
use hunhe_store::Discard;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender, sync_channel},
};

/// Messages to the lane that may wait.
const WAITING_MAX: usize = 4096;

/// What others tell the lane's thread.
pub enum Said {
    /// The journal has more.
    Wake,
    /// A sink did something; nothing before `source_lsn` will be confirmed again by it.
    Confirmed {
        /// Which sink.
        sink: Arc<str>,
        /// Everything caused up to this journal record is done.
        source_lsn: u64,
        /// What it did.
        rows: Vec<Confirmation>,
    },
    /// Quarantined samples were discarded, for good.
    Discarded(Vec<Discard>),
    /// A checkpoint is on disk, covering the journal up to here.
    Checkpointed(Result<Written, String>),
    /// What of the logs was handed over to be synced is durable; or may be lost, which is the end.
    Synced(Result<(), String>),
    /// The end: what the journal holds, a last checkpoint, then return.
    Stop,
}

/// The way to a lane's thread.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    said: SyncSender<Said>,
    pub(super) woken: Arc<AtomicBool>,
    pub(super) progress: Arc<Progress>,
}

/// How far the lane is, for status and metrics.
#[derive(Debug, Default)]
pub struct Progress {
    /// The last journal record handled.
    pub handled: AtomicU64,
    /// The last decided record.
    pub decided: AtomicU64,
    /// Decided log, bytes on disk.
    pub decided_bytes: AtomicU64,
    /// Waiting for room in the decided log.
    pub waiting: AtomicBool,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Journal records that could not be read, each a possible loss.
    pub unreadable: AtomicU64,
    /// Discards of the quarantine up to this number are counted in both checkpoints.
    pub discards: AtomicU64,
}

/// The lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The journal cannot be read.
    #[error("the journal cannot be read")]
    Journal(#[from] ReadError),
    /// The decided log or the alert log failed.
    #[error("the decided log or the alert log failed")]
    Derived(#[from] JournalError),
    /// A checkpoint cannot be taken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The decided log or the alert log may have lost what was written.
    #[error("the decided log or the alert log cannot be synced: {0}")]
    Unsynced(String),
}

/// A lane's thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the lane's thread has ended")]
pub struct LaneEnded;

impl LaneHandle {
    /// The handle and what the thread will need.
    #[must_use]
    pub fn new() -> (Self, Receiver<Said>) {
        let (said, receiver) = sync_channel(WAITING_MAX);
        (Self { said, woken: Arc::default(), progress: Arc::default() }, receiver)
    }

    /// Says that the journal has more. Never blocks.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // At the bound the thread is awake anyway.
            let _ = self.said.try_send(Said::Wake);
        }
    }

    /// Says something; blocks while too much waits.
    ///
    /// # Errors
    /// [`LaneEnded`].
    pub fn say(&self, said: Said) -> Result<(), LaneEnded> {
        self.said.send(said).map_err(|_| LaneEnded)
    }

    /// Is the lane on its way to that record, without having to wait for others?
    #[must_use]
    pub fn must_be_waited_for(&self, head: Lsn) -> bool {
        self.wake();
        let progress = &self.progress;
        progress.handled.load(Ordering::Relaxed) < head.0 && !progress.waiting.load(Ordering::Relaxed)
    }

    /// How far the lane is.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Confirmations for LaneHandle {
    fn confirmed(&self, sink: &Arc<str>, through: u64, rows: Vec<Confirmation>) {
        let _ = self.say(Said::Confirmed { sink: Arc::clone(sink), source_lsn: through, rows });
    }

    fn discarded(&self, discards: Vec<Discard>) {
        let _ = self.say(Said::Discarded(discards));
    }

    fn discards_counted(&self) -> u64 {
        self.progress.discards.load(Ordering::Relaxed)
    }

    fn decided_through(&self) -> u64 {
        self.progress.handled.load(Ordering::Acquire)
    }
}

/// Finishes checkpoints on threads of their own: a sync of a city's state takes long.
pub fn finish_on_threads(handle: LaneHandle) -> Box<dyn FnMut(Unfinished) + Send> {
    Box::new(move |unfinished| say_from_a_thread(&handle, move || unfinished.finish(), Said::Checkpointed))
}

/// Syncs logs on threads of their own, one at a time: a sync of what a flood wrote takes long.
pub fn sync_on_threads(handle: LaneHandle) -> Box<dyn FnMut(Vec<Unsynced>) + Send> {
    Box::new(move |logs| {
        say_from_a_thread(&handle, move || logs.iter().try_for_each(Unsynced::sync), Said::Synced);
    })
}

/// The lane waits for the outcome, so a panic is one as well.
fn say_from_a_thread<T: 'static, E: std::fmt::Debug + 'static>(
    handle: &LaneHandle,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    said: fn(Result<T, String>) -> Said,
) {
    let handle = handle.clone();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_or_else(
            |_| Err("it panicked: see the log".to_owned()),
            |outcome| outcome.map_err(|error| format!("{error:?}")),
        );
        // The lane may have ended meanwhile, with a checkpoint of its own.
        let _ = handle.say(said(outcome));
    });
}
