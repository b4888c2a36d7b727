//! Group commit: one thread owns the writer, takes everything queued, appends it, syncs once, and only then settles it.
//! Commits run back to back, without a timer: under load a commit is as large as what arrived during the one before.
//! [`Commits::step`] is one of them; [`Committer`] is the thread around it.
//!
//! - Nothing is settled as durable before the sync that made it so.
//! - Entries are settled in the order in which their lane received them; the urgent lane comes first in each commit.
//! - Ordinary entries wait in their lane while whoever reads the log is too far behind (`lag.rs`).
//! - At the log's limit nothing is acknowledged; the entry that did not fit stays first and is tried again after a release.
//! - An I/O error ends the thread: nothing later is acknowledged, and [`State::Failed`] stays visible.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::{AppendError, Error};
use super::queue::{Batch, Bounds, Intake, Queue, State, Turn};
use super::{Lsn, Writer};

/// What can be committed.
pub trait Entry: Send + 'static {
    /// The record's kind.
    fn kind(&self) -> u8;
    /// The record's payload is the concatenation of these; unused ones are empty. Must not change once the entry is queued.
    fn parts(&self) -> [&[u8]; 4];
    /// What it costs whoever reads the log, in [`Bounds::lag_cost`]'s unit.
    fn cost(&self) -> u64 {
        0
    }
    /// Whether it becomes a record. Another one only keeps its place among the acknowledgements.
    fn is_recorded(&self) -> bool {
        true
    }
}

/// The fate of an entry.
#[derive(Debug)]
pub struct Settled<T> {
    /// The entry.
    pub item: T,
    /// Its durable record, or why it can never be one ([`AppendError::TooLarge`]); [`Lsn::NONE`] where none was wanted.
    pub outcome: Result<Lsn, AppendError>,
}

/// Told by the committer's thread what became of the entries. A slow implementation delays the next commit.
pub trait Settlement<T>: Send + 'static {
    /// A commit: in order, to be acknowledged in order. What is left in `batch` is dropped; the allocation is used again.
    fn settled(&mut self, batch: &mut Vec<Settled<T>>);
    /// The log reached its limit (`true`), or goes on after a release (`false`).
    fn full(&mut self, _full: bool) {}
    /// The log failed; the thread ends, and only then pushers are refused. Whatever was not settled must never be
    /// acknowledged.
    fn failed(&mut self, error: &Error);
}

/// The thread that commits. Dropping it leaves the thread running until every lane is closed by [`Intake::close`].
#[derive(Debug)]
pub struct Committer {
    thread: JoinHandle<Writer>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start<T: Entry>(
        writer: Writer,
        bounds: Bounds,
        settlement: impl Settlement<T>,
    ) -> std::io::Result<(Self, Intake<T>)> {
        let (mut commits, intake) = Commits::new(writer, bounds, settlement);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || {
            let _ending = Ending(Arc::clone(&commits.queue));
            while commits.wait_and_step() != Step::Over {}
            commits.worker.writer
        })?;
        Ok((Self { thread }, intake))
    }

    /// Is there nobody left who commits?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end, which [`Intake::close`] or a failure brings, and gives the writer back; `None` if a callback panicked.
    #[must_use]
    pub fn join(self) -> Option<Writer> {
        self.thread.join().ok()
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A commit, or at least a release.
    Done,
    /// Nothing to do until something is pushed, released or closed.
    Idle,
    /// Closed, and nothing is left that could be committed; or the log failed.
    Over,
}

/// The committer without its thread: whoever has it says when.
pub struct Commits<T, S> {
    queue: Arc<Queue<T>>,
    batch: Batch<T>,
    worker: Worker<T, S>,
}

impl<T: Entry, S: Settlement<T>> Commits<T, S> {
    /// Takes an opened log.
    #[must_use]
    pub fn new(writer: Writer, bounds: Bounds, settlement: S) -> (Self, Intake<T>) {
        let queue = Arc::new(Queue::new(bounds));
        let intake = Intake::new(Arc::clone(&queue));
        let worker = Worker { writer, settlement, done: Vec::new(), full: false };
        (Self { queue, batch: Batch::new(), worker }, intake)
    }

    /// One commit of what is queued: append, sync, settle. Waits for nothing but the disk. After a failure no step does
    /// anything.
    pub fn step(&mut self) -> Step {
        if self.queue.has_failed() {
            return Step::Over;
        }
        self.queue.try_take(&mut self.batch).map_or(Step::Idle, |turn| self.take_turn(turn))
    }

    fn wait_and_step(&mut self) -> Step {
        let turn = self.queue.take(&mut self.batch);
        self.take_turn(turn)
    }

    fn take_turn(&mut self, turn: Turn) -> Step {
        let Turn::Work { release } = turn else { return Step::Over };
        match self.worker.commit(&self.queue, release, &mut self.batch) {
            Ok(()) => Step::Done,
            Err(error) => {
                // First the reason, then the refusals that follow from it: nobody may tell those for the reason.
                self.worker.settlement.failed(&error);
                self.queue.set_state(State::Failed);
                Step::Over
            }
        }
    }
}

struct Worker<T, S> {
    writer: Writer,
    settlement: S,
    done: Vec<Settled<T>>,
    full: bool,
}

/// Tells pushers that nobody listens any more, also when the thread unwinds.
struct Ending<T: Entry>(Arc<Queue<T>>);

impl<T: Entry> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T: Entry, S: Settlement<T>> Worker<T, S> {
    fn commit(&mut self, queue: &Queue<T>, release: Option<Lsn>, batch: &mut Batch<T>) -> Result<(), Error> {
        if let Some(lsn) = release {
            self.writer.release_through(lsn)?;
        }
        let full = self.append(batch)?;
        if !self.done.is_empty() {
            // Before they can be read: whoever reads the log may be done with a record at once.
            queue.committed(&self.done);
            self.writer.sync()?;
            self.settlement.settled(&mut self.done);
            self.done.clear();
        }
        if full != self.full {
            self.full = full;
            queue.set_state(if full { State::Full } else { State::Running });
            self.settlement.full(full);
        }
        Ok(())
    }

    /// Appends the batch in order; true if the log is full, and the rest stays in the batch.
    fn append(&mut self, batch: &mut Batch<T>) -> Result<bool, Error> {
        while let Some(item) = batch.front() {
            let appended = match item.is_recorded() {
                true => self.writer.append(item.kind(), &item.parts()),
                false => Ok(Lsn::NONE),
            };
            let outcome = match appended {
                Err(AppendError::Full { .. }) => return Ok(true),
                Err(AppendError::Log(error)) => return Err(error),
                outcome => outcome,
            };
            self.done.extend(batch.pop().map(|item| Settled { item, outcome }));
        }
        Ok(false)
    }
}
