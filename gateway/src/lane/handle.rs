//! What others say to a lane's thread, and what they see of it.

use crate::{checkpoint::Written, journal::Lsn, sinks::Confirmation, store::Discard};
use hunhe_gateway_core::{lane::Lane, registry::Registry};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// Messages to the lane that may wait.
const WAITING_MAX: usize = 4096;

/// A question, asked and answered on the lane's thread, between two records.
pub type Question = Box<dyn FnOnce(&Lane) + Send>;

/// What others tell the lane's thread.
pub enum Said {
    /// The journal has more.
    Wake,
    /// A sink did something; nothing before `cause` will be confirmed again by it.
    Confirmed {
        /// Which sink.
        sink: Arc<str>,
        /// Everything caused up to this journal record is done.
        cause: u64,
        /// What it did.
        rows: Vec<Confirmation>,
    },
    /// Quarantined samples were discarded, for good.
    Discarded(Vec<Discard>),
    /// Someone asks.
    Ask(Question),
    /// A checkpoint is on disk, covering the journal up to here.
    Checkpointed(Result<Written, String>),
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

/// Values accepted since this process began, by district; a replay counts them again.
#[derive(Debug, Default)]
pub struct DistrictReadings(BTreeMap<u32, AtomicU64>);

impl DistrictReadings {
    /// None yet, for each district of a registry.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self(registry.devices().iter().map(|device| (device.district, AtomicU64::new(0))).collect())
    }

    /// A district's.
    #[must_use]
    pub fn of(&self, district: u32) -> u64 {
        self.0.get(&district).map_or(0, |readings| readings.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, district: u32, readings: u64) {
        if let Some(sum) = self.0.get(&district) {
            sum.fetch_add(readings, Ordering::Relaxed);
        }
    }
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

    /// Asks something without blocking.
    ///
    /// # Errors
    /// [`LaneEnded`], also where too much waits.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Lane) -> T + Send + 'static,
    ) -> Result<T, LaneEnded> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let question: Question = Box::new(move |lane| {
            // Nobody may be waiting any more.
            let _ = answer.send(question(lane));
        });
        self.said.try_send(Said::Ask(question)).map_err(|_| LaneEnded)?;
        answered.await.map_err(|_| LaneEnded)
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
