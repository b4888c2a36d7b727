//! The thread around a lane: what it works with, and its loop of turns and sleep.

use super::{
    Covered, LaneError, LaneHandle, NAP, Running, Said, Turn, Turns, Work,
    ahead::Ahead,
    checkpoint::{Checkpoints, Unfinished},
    published::Publisher,
};
use crate::{
    alerts::{self, AlertLog},
    decided, watermark,
};
use hunhe_gateway_core::{
    event::{Decisions, Rollups},
    lane::Lane,
    registry::Registry,
};
use hunhe_log::{Lsn, Reader, Tail, Unsynced, Writer};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

/// When to write checkpoints.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// At least this often.
    pub every: Duration,
    /// And after so many journal bytes, so that a replay stays short.
    pub every_journal_bytes: u64,
}

/// All that a lane's thread works with.
pub struct Driver {
    /// The core.
    pub lane: Lane,
    /// Who may report what.
    pub registry: Arc<Registry>,
    /// The journal.
    pub journal: Tail,
    /// What was decided.
    pub decided: Writer,
    /// Its limit.
    pub decided_limit_bytes: u64,
    /// Windows that some sink takes: others are not kept.
    pub rollups: Rollups,
    /// Which alerts changed.
    pub alerts: AlertLog,
    /// Alerts that receivers were told of and that the lane may not know: closed once the replay is over, but for those
    /// that it has made again.
    pub withdrawn: alerts::ById,
    /// What people see of the lane.
    pub publisher: Publisher,
    /// Where checkpoints go.
    pub checkpoints: Checkpoints,
    /// When they go there.
    pub policy: CheckpointPolicy,
    /// Finishes a checkpoint that was begun, elsewhere, and then says [`Said::Checkpointed`].
    pub finish: Box<dyn FnMut(Unfinished) + Send>,
    /// Syncs logs elsewhere, and then says [`Said::Synced`].
    pub sync: Box<dyn FnMut(Vec<Unsynced>) + Send>,
    /// The last journal record of the checkpoint that was loaded.
    pub from: Lsn,
    /// What alerts follow from beside messages: see [`Checkpoint::rules`](super::checkpoint::Checkpoint::rules).
    pub rules: u32,
    /// What sinks had confirmed then.
    pub confirmed: BTreeMap<String, u64>,
    /// The name of the sink whose confirmations of stored samples count.
    pub of_record: String,
    /// Releases the journal.
    pub release: Box<dyn Fn(Lsn) + Send>,
    /// Tells the journal up to where everything is decided, and whether the next record waits for room: what else may come in
    /// follows from that ([`hunhe_log::Bounds::lag_cost`]).
    pub decided_through: Box<dyn Fn(Lsn, bool) + Send>,
    /// The decided record up to which every sink is done, durably, and has said so.
    pub sinks_done: Box<dyn Fn() -> Lsn + Send>,
    /// Watermarks on their way out.
    pub outgoing: watermark::Outgoing,
    /// What others say.
    pub said: Receiver<Said>,
    /// Our own handle, for progress.
    pub handle: LaneHandle,
}

impl Driver {
    /// Takes turns until told to stop.
    ///
    /// # Errors
    /// [`LaneError`]: nothing later is decided, and the process should end.
    pub fn run(self) -> Result<(), LaneError> {
        let mut running = self.start(Instant::now())?;
        loop {
            match running.turn(Instant::now())? {
                Turn::More => {}
                Turn::Idle | Turn::Full => running.work.listen(NAP),
                Turn::Over => return Ok(()),
            }
        }
    }

    /// Begins behind the checkpoint that was loaded.
    ///
    /// # Errors
    /// [`LaneError::Journal`].
    pub fn start(self, now: Instant) -> Result<Running, LaneError> {
        let reader = Reader::open(self.journal.clone(), self.from.next())?;
        let turns = Turns {
            handled: self.from,
            replayed_to: self.journal.head(),
            bytes: 0,
            checkpoint_at: now,
            checkpoint_running: false,
            ahead: Ahead::new(now),
            failed: None,
            older_checkpoint: Covered::default(),
            begun_checkpoint: Covered::default(),
            releasable: Lsn::NONE,
            released: Lsn::NONE,
            done: Lsn::NONE,
            watermarks_at: now,
            watermark_round: 0,
            full: false,
            without_room: None,
            stopping: false,
        };
        let rollups = self.rollups;
        let work = Work {
            driver: self,
            turns,
            decisions: Decisions::default(),
            encoder: decided::Encoder::new(rollups),
            watermark: super::watermarks::Watermark::default(),
        };
        Ok(Running { reader, work })
    }
}
