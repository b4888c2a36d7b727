//! The bounded way into the committer: two lanes, so that an urgent entry never waits behind a backlog. Pushing never blocks, so
//! that it may be done from an event loop; at the bound the entry comes back to the caller, who then holds its acknowledgement.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Lsn;
use super::commit::{Entry, Settled};
use super::lag::Lag;

/// Which lane an entry takes. Order is kept within a lane; urgent entries come first in each commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Alarms.
    Urgent,
    /// Everything else.
    Normal,
}

/// Bounds of the queue and of one commit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries waiting in each lane; the broker's in-flight window or more, so that a held acknowledgement stops the broker first.
    pub lane_items: usize,
    /// Payload bytes waiting in each lane; an empty lane takes any entry.
    pub lane_bytes: usize,
    /// Entries in one commit.
    pub batch_items: usize,
    /// Payload bytes in one commit, overshot by at most one entry.
    pub batch_bytes: usize,
    /// Cost of what is committed and not decided, at which ordinary entries wait: what an urgent one has before it.
    pub lag_cost: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lane_items: 65_536,
            lane_bytes: 32 << 20,
            batch_items: 65_536,
            batch_bytes: 8 << 20,
            lag_cost: 1 << 20,
        }
    }
}

/// An entry that was not taken.
#[derive(Debug)]
pub enum Refused<T> {
    /// The lane is at its bound; try again after a commit.
    Busy(T),
    /// The committer has ended; nothing will be acknowledged any more.
    Ended(T),
}

/// The committer has ended; nothing will be acknowledged any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// What the committer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Committing whatever comes.
    Running,
    /// The log is at its limit: nothing is acknowledged until a segment is released.
    Full,
    /// The log failed. Final.
    Failed,
    /// It was closed, or a callback panicked. Final.
    Ended,
}

/// A look at the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Urgent entries not yet taken for a commit.
    pub urgent_items: usize,
    /// Other entries not yet taken for a commit.
    pub normal_items: usize,
    /// Cost of what was taken and is not decided.
    pub undecided_cost: u64,
    /// Other entries wait for the lane.
    pub held: bool,
}

/// The way in; cheap to clone.
#[derive(Debug)]
pub struct Intake<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Clone for Intake<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue) }
    }
}

impl<T: Entry> Intake<T> {
    pub(super) fn new(queue: Arc<Queue<T>>) -> Self {
        Self { queue }
    }

    /// Hands an entry over; it is acknowledged by [`super::Settlement::settled`], or never.
    ///
    /// # Errors
    /// [`Refused`] gives the entry back.
    pub fn try_push(&self, priority: Priority, item: T) -> Result<(), Refused<T>> {
        let mut lanes = self.queue.lock();
        if lanes.takes_nothing() {
            return Err(Refused::Ended(item));
        }
        lanes.lane(priority).push(item, self.queue.bounds).map_err(Refused::Busy)?;
        drop(lanes);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Hands over entries in their order, under one lock and with one wake-up. Those for which there is no room stay in `items`.
    ///
    /// # Errors
    /// [`Ended`]; all of them stay.
    pub fn push_all(&self, priority: Priority, items: &mut VecDeque<T>) -> Result<(), Ended> {
        let mut lanes = self.queue.lock();
        if lanes.takes_nothing() {
            return Err(Ended);
        }
        let lane = lanes.lane(priority);
        while let Some(item) = items.pop_front() {
            if let Err(item) = lane.push(item, self.queue.bounds) {
                items.push_front(item);
                break;
            }
        }
        drop(lanes);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Lets the committer delete whole segments up to `lsn`, before its next commit. Lower values than before do nothing.
    pub fn release_through(&self, lsn: Lsn) {
        let mut lanes = self.queue.lock();
        if lanes.released < lsn {
            lanes.released = lsn;
            drop(lanes);
            self.queue.changed.notify_one();
        }
    }

    /// Says up to which record the log's reader is done, and whether it waits for room. See `lag.rs`.
    pub fn decided(&self, through: Lsn, waiting: bool) {
        let mut lanes = self.queue.lock();
        if lanes.lag.decided(through, waiting) {
            drop(lanes);
            self.queue.changed.notify_one();
        }
    }

    /// What the committer is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let lanes = self.queue.lock();
        Status {
            state: lanes.state,
            urgent_items: lanes.urgent.items.len(),
            normal_items: lanes.normal.items.len(),
            undecided_cost: lanes.lag.undecided(),
            held: !lanes.lag.is_open(),
        }
    }

    /// Whether entries of this priority wait for the log's reader. See `lag.rs`.
    #[must_use]
    pub fn holds_back(&self, priority: Priority) -> bool {
        priority == Priority::Normal && !self.queue.lock().lag.is_open()
    }

    /// Takes no more entries; what is queued is still committed, if the log has room.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_one();
    }
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    changed: Condvar,
    pub(super) bounds: Bounds,
}

#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<T>,
    bytes: usize,
}

impl<T: Entry> Lane<T> {
    /// Takes an entry, or gives it back at the bound.
    fn push(&mut self, item: T, bounds: Bounds) -> Result<(), T> {
        let bytes = payload_bytes(&item);
        if self.items.len() >= bounds.lane_items || self.bytes > 0 && self.bytes + bytes > bounds.lane_bytes {
            return Err(item);
        }
        self.items.push_back(item);
        self.bytes += bytes;
        Ok(())
    }
}

#[derive(Debug)]
struct Lanes<T> {
    urgent: Lane<T>,
    normal: Lane<T>,
    lag: Lag,
    released: Lsn,
    applied: Lsn,
    closing: bool,
    state: State,
}

impl<T> Lanes<T> {
    fn takes_nothing(&self) -> bool {
        self.closing || matches!(self.state, State::Failed | State::Ended)
    }

    fn lane(&mut self, priority: Priority) -> &mut Lane<T> {
        match priority {
            Priority::Urgent => &mut self.urgent,
            Priority::Normal => &mut self.normal,
        }
    }
}

/// Entries taken for a commit, and those a full log left over from the one before. Each lane keeps its order.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) urgent: VecDeque<T>,
    pub(super) normal: VecDeque<T>,
    bytes: usize,
}

impl<T: Entry> Batch<T> {
    pub(super) fn new() -> Self {
        Self { urgent: VecDeque::new(), normal: VecDeque::new(), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.urgent.front().or_else(|| self.normal.front())
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.urgent.pop_front().or_else(|| self.normal.pop_front())?;
        self.bytes = self.bytes.saturating_sub(payload_bytes(&item));
        Some(item)
    }
}

/// What there is for the committer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Release up to this record first, then commit the batch, which may be empty.
    Work { release: Option<Lsn> },
    /// Closed, and nothing is left that could be committed.
    Over,
}

impl<T: Entry> Queue<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let lane = || Lane { items: VecDeque::new(), bytes: 0 };
        let lanes = Lanes {
            urgent: lane(),
            normal: lane(),
            lag: Lag::new(bounds.lag_cost),
            released: Lsn::NONE,
            applied: Lsn::NONE,
            closing: false,
            state: State::Running,
        };
        Self { lanes: Mutex::new(lanes), changed: Condvar::new(), bounds }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // No change is ever left half done under the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a commit made durable, until it is decided.
    pub(super) fn committed(&self, done: &[Settled<T>]) {
        let mut lanes = self.lock();
        for settled in done.iter().filter(|settled| settled.item.is_recorded()) {
            lanes.lag.commit(settled.outcome.as_ref().ok().copied(), settled.item.cost());
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().state == State::Failed
    }

    pub(super) fn set_state(&self, state: State) {
        self.lock().state = state;
    }

    /// Marks the end, whatever it was, unless a failure already did; entries still queued are dropped unacknowledged.
    pub(super) fn end(&self) {
        let mut lanes = self.lock();
        if lanes.state != State::Failed {
            lanes.state = State::Ended;
        }
        let (urgent, normal) =
            (std::mem::take(&mut lanes.urgent.items), std::mem::take(&mut lanes.normal.items));
        drop(lanes);
        drop((urgent, normal));
    }

    /// Sleeps until there is something to do; see [`Queue::try_take`].
    pub(super) fn take(&self, batch: &mut Batch<T>) -> Turn {
        let mut lanes = self.lock();
        loop {
            match self.ready(&mut lanes, batch) {
                Some(turn) => return turn,
                None => lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Tops `batch` up to its bounds, urgent entries first. While the log is full only a release (or closing) is something to
    /// do; `None` where nothing is.
    pub(super) fn try_take(&self, batch: &mut Batch<T>) -> Option<Turn> {
        self.ready(&mut self.lock(), batch)
    }

    fn ready(&self, lanes: &mut Lanes<T>, batch: &mut Batch<T>) -> Option<Turn> {
        let release = (lanes.applied < lanes.released).then_some(lanes.released);
        let full = lanes.state == State::Full;
        if release.is_none()
            && lanes.closing
            && (full || lanes.urgent.items.len() + lanes.normal.items.len() == 0)
        {
            return Some(Turn::Over);
        }
        lanes.applied = lanes.released;
        if release.is_some() || !full {
            self.top_up(lanes, batch);
            if release.is_some() || batch.len() > 0 {
                return Some(Turn::Work { release });
            }
        }
        None
    }

    fn top_up(&self, lanes: &mut Lanes<T>, batch: &mut Batch<T>) {
        let bounds = self.bounds;
        for priority in [Priority::Urgent, Priority::Normal] {
            while batch.len() < bounds.batch_items && batch.bytes < bounds.batch_bytes {
                // At the end everything goes: nobody may be there to decide any more.
                if priority == Priority::Normal && !lanes.lag.is_open() && !lanes.closing {
                    break;
                }
                let lane = lanes.lane(priority);
                let Some(item) = lane.items.pop_front() else { break };
                let bytes = payload_bytes(&item);
                lane.bytes = lane.bytes.saturating_sub(bytes);
                batch.bytes += bytes;
                if item.is_recorded() {
                    lanes.lag.take(item.cost());
                }
                match priority {
                    Priority::Urgent => batch.urgent.push_back(item),
                    Priority::Normal => batch.normal.push_back(item),
                }
            }
        }
    }
}

fn payload_bytes(item: &impl Entry) -> usize {
    item.parts().iter().map(|part| part.len()).sum()
}
