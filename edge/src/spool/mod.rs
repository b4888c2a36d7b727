//! The outbox on disk: what all devices of one agent took and still owe, shared in one append-only log.
//!
//! Promises:
//! - after [`Spool::commit`] returns, everything appended before survives a power cut; nothing is published before;
//! - what was appended and not committed may survive a power cut, or a kill, as it was, or not: then nobody ever heard of it,
//!   and its numbers are given out again. Where only the tally behind its commit survived it is declared
//!   [`DropCause::Damaged`]: it was taken, and it is gone;
//! - samples of one outbox follow one version of their class. Where a start finds another version configured, another outbox
//!   succeeds this one, which it names, with all that it still owed, in the integers of that version; an older version's
//!   decimals need not be known for that, since each segment says them;
//! - a damaged frame costs its samples, which are declared [`DropCause::Damaged`], and nothing else: each segment names its
//!   devices twice, and a tally behind each commit says what that held;
//! - a device's boot number is drawn when it first appears, and its sequence numbers survive restarts. No boot number is used
//!   again, whatever is damaged: a fresh one is greater than all in records that can be read and than the one that stands in
//!   the name of an empty file (see `boots`). Where nothing tells how far an outbox came – its last segment lost both of its
//!   tables – another begins, which names it as its predecessor: so the gateway counts what it never delivered as lost, and
//!   no sequence number is used for two samples;
//! - what a start recovers is durable when [`Spool::open`] returns, whatever the process before it failed to sync;
//! - a segment is deleted only when every sample in it was passed or declared lost, and that is durable;
//! - what a device owed that is no longer configured is declared lost ([`DropCause::Operator`]), and that is told until the
//!   watermark has passed it. A device that comes back before goes on where it was;
//! - a full disk ([`SpoolError::Full`]) costs nothing that was committed: with room again, the next start has it all.
//!
//! Deliberately absent: news of a last segment that lost its end, exactly between two frames or with part of a commit, or of
//! a folder restored from a copy. It reads as after a crash before that commit, as in any log; only the watermark may know
//! better, and then another outbox succeeds this one ([`Spool::succeed`]).
//!
//! Bounds: [`Limits::bytes_max`] on disk, and once more as much for the commit in which outboxes are succeeded. At the bound
//! the oldest segment's samples are to be declared lost ([`Spool::excess`]), and so they are when starts that took samples
//! but delivered none have left about a thousand segments. A start without samples leaves none. Of removed devices 4,096 are
//! told of; what further ones owed is forgotten, with a line in the log. A failed write or sync is final: every later commit
//! fails, the agent stops, and what was not synced was not published.
//!
//! Without a folder nothing is kept, as in a device without durable storage: a new boot at each start.

mod boots;
mod disk;
mod record;
mod recover;

use crate::samples::Samples;
use disk::Log;
use hunhe_disk::Disk;
use hunhe_edge_core::outbox::{Outbox, Range, State};
use hunhe_proto::{
    class::Class,
    id::DeviceId,
    reading::{Drop, DropCause},
};
use std::{
    hash::{BuildHasher, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the log may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All segments together, in bytes.
    pub bytes_max: u64,
    /// A segment is closed when it has grown to this many bytes.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 256 << 20, segment_bytes: 8 << 20 }
    }
}

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system failed.
    #[error("{path}: cannot {action}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it answered.
        source: std::io::Error,
    },
    /// There is no room.
    #[error(
        "{path}: cannot {action}: the disk is full. Nothing the outbox held is lost: make room on this file system and \
         start the agent again",
        path = .path.display()
    )]
    Full {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it answered.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another agent; give each agent its own state_dir", .0.display())]
    Locked(PathBuf),
    /// A commit failed before, and nothing counts as durable since.
    #[error("{}: closed by an earlier failure; start the agent again", .0.display())]
    Failed(PathBuf),
}

/// What the log keeps of a device.
#[derive(Debug)]
pub struct Recovered {
    /// Whose it is.
    pub device: DeviceId,
    /// The bookkeeping.
    pub state: State,
    /// The time of the newest sample ever taken, where one was.
    pub newest_ms: Option<i64>,
    /// The samples still owed.
    pub samples: Samples,
    /// The version of its class that they follow; 0 where it is not known.
    pub class_version: u32,
}

/// A device as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub device: DeviceId,
    /// The version of its class; 0 where it is not known.
    pub class_version: u32,
    /// The channels of its samples' values, in order.
    pub channels: Vec<Channel>,
}

/// A channel as the log knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Its wire number.
    pub number: u16,
    /// Its values are their integers divided by 10 to this power.
    pub decimals: u8,
}

impl Entry {
    /// A device of `class`.
    #[must_use]
    pub fn of(device: DeviceId, class: &Class) -> Self {
        let channels = class.channels.iter().map(|channel| (channel.number, channel.decimals));
        Self::new(device, class.version, channels)
    }

    /// A device whose class has this version and channels of these numbers and decimals.
    #[must_use]
    pub fn new(device: DeviceId, class_version: u32, channels: impl IntoIterator<Item = (u16, u8)>) -> Self {
        let channel = |(number, decimals)| Channel { number, decimals };
        Self { device, class_version, channels: channels.into_iter().map(channel).collect() }
    }
}

/// The outbox of one agent.
#[derive(Debug)]
pub struct Spool {
    log: Option<Log>,
}

impl Spool {
    /// Opens the log in `folder`, creating it where it is missing. `draw` is what boot numbers are made of: [`draw_boot`],
    /// where nothing has to be the same each time. Returns the outboxes of `devices`, in their order, and behind them those
    /// of removed devices that still have losses to tell; they go by their place in this list from then on.
    ///
    /// # Errors
    /// [`SpoolError`]; the log is then unchanged, or trimmed of what was torn.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        limits: Limits,
        devices: &[Entry],
        draw: impl FnMut() -> u32 + Send + 'static,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let (log, recovered) = Log::open(disk, folder, limits, devices, draw)?;
        Ok((Self { log: Some(log) }, recovered))
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn in_memory(devices: &[Entry]) -> (Self, Vec<Recovered>) {
        let recovered = devices.iter().map(|entry| Recovered {
            device: entry.device,
            state: State::new(draw_boot(), None),
            newest_ms: None,
            samples: Samples::new(entry.channels.len(), 0),
            class_version: entry.class_version,
        });
        (Self { log: None }, recovered.collect())
    }

    /// Appends a sample: durable after the next [`Spool::commit`].
    pub fn append(&mut self, device: usize, seq: u64, time_ms: i64, values: &[i64]) {
        if let Some(log) = &mut self.log {
            log.append(device, seq, time_ms, values);
        }
    }

    /// Notes a device's bookkeeping: durable after the next [`Spool::commit`].
    pub fn note(&mut self, device: usize, state: &State) {
        if let Some(log) = &mut self.log {
            log.note(device, state);
        }
    }

    /// Another outbox succeeds that of `device`. It names the `previous` one and how far that was reported, holds what was `held`
    /// under the numbers that has there, and takes what is below those for `lost`. Durable after the next [`Spool::commit`],
    /// which must come before anything else of this device is appended or noted.
    #[must_use]
    pub fn succeed(
        &mut self,
        device: usize,
        previous: (u32, u64),
        lost: Option<DropCause>,
        held: &Samples,
    ) -> State {
        let state = successor(0, previous, lost, held);
        match &mut self.log {
            Some(log) => log.succeed(device, state, held),
            None => State { boot: draw_boot(), ..state },
        }
    }

    /// Is there something to commit?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.log.as_ref().is_some_and(Log::is_dirty)
    }

    /// Writes and syncs all that was appended, and deletes segments that nobody needs: `held_from` says, by device,
    /// the oldest sample still owed according to what was noted.
    ///
    /// # Errors
    /// [`SpoolError::Io`]: the agent must stop.
    pub fn commit(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        self.log.as_mut().map_or(Ok(()), |log| log.commit(held_from))
    }

    /// Samples to be declared lost, by device, so that the log comes back under its bound.
    #[must_use]
    pub fn excess(&self) -> Vec<(usize, Range)> {
        self.log.as_ref().map_or_else(Vec::new, Log::excess)
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::bytes)
    }
}

/// What another outbox takes over: the samples that `outbox` still owes, under numbers behind those that it gave up, and why
/// it gave them up.
#[must_use]
pub fn carried(outbox: &Outbox, samples: &Samples) -> (Samples, Option<DropCause>) {
    let drops = outbox.drops();
    let lost = drops.iter().map(|drop| drop.count).sum();
    let cause = drops.first().map(|first| {
        if drops.iter().all(|drop| drop.cause == first.cause) { first.cause } else { DropCause::Full }
    });
    let mut held = Samples::new(samples.channels(), lost);
    for (seq, row) in (samples.first_seq()..).zip(samples.rows(samples.range())) {
        if let Some((&time_ms, values)) = row.split_first().filter(|_| outbox.owes(seq)) {
            held.push(time_ms, values);
        }
    }
    (held, cause)
}

/// An outbox that names the `previous` one and how far the gateway is to wait for that, with what was [`carried`].
fn successor(boot: u32, previous: (u32, u64), lost: Option<DropCause>, held: &Samples) -> State {
    let mut state = State::new(boot, Some(previous));
    state.drops.extend(lost.map(|cause| Drop { seq: 0, count: held.first_seq(), cause }));
    state.next_seq = held.next_seq();
    state
}

/// Declares what the log lost, and takes its bookkeeping's word for the rest.
fn reconcile(state: State, samples: &mut Samples, lost: &[Range]) -> State {
    let mut outbox = Outbox::new(state);
    for &range in lost {
        outbox.give_up(range, DropCause::Damaged);
    }
    outbox.give_up(Range { start: 0, end: samples.first_seq() }, DropCause::Damaged);
    samples.release_below(outbox.held_from());
    outbox.state().clone()
}

/// A boot id nobody can guess; never 0, which a report leaves out.
#[must_use]
pub fn draw_boot() -> u32 {
    // The standard library keys each of these from the system's random source.
    let bits = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests;
