//! The outbox on disk: what all devices of one agent took and still owe, shared in one append-only log.
//!
//! Promises:
//! - after [`Spool::commit`] returns, everything appended before survives a power cut; nothing is published before;
//! - a commit is one frame with one checksum: a torn one was never published and is trimmed at the next start;
//! - a damaged frame costs its samples, which are declared [`DropCause::Damaged`], and nothing else;
//! - the boot id is drawn when a device first appears, and its sequence numbers survive restarts;
//! - what a start recovers is durable when [`Spool::open`] returns, whatever the process before it failed to sync;
//! - a segment is deleted only when every sample in it was passed or declared lost, and that is durable.
//!
//! Bounds: [`Limits::bytes_max`] on disk. At the bound the oldest segment's samples are to be declared lost
//! ([`Spool::excess`]), and so they are when starts that took samples but delivered none have left about a thousand
//! segments. A start without samples leaves none. A failed write or sync is final: every later commit fails, the agent
//! stops, and what was not synced was not published.
//!
//! Without a folder nothing is kept, as in a device without durable storage: a new boot at each start.

mod disk;
mod record;

use crate::samples::Samples;
use disk::Log;
use hunhe_disk::Disk;
use hunhe_edge_core::outbox::{Range, State};
use hunhe_proto::{id::DeviceId, reading::DropCause};
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
    /// The bookkeeping.
    pub state: State,
    /// The time of the newest sample ever taken, where one was.
    pub newest_ms: Option<i64>,
    /// The samples still owed.
    pub samples: Samples,
}

impl Recovered {
    fn fresh(boot: u32, channels: usize) -> Self {
        Self { state: State::new(boot.max(1), None), newest_ms: None, samples: Samples::new(channels, 0) }
    }
}

/// A device as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub device: DeviceId,
    /// The channel numbers of its samples' values, in order.
    pub channels: Vec<u16>,
}

/// The outbox of one agent.
#[derive(Debug)]
pub struct Spool {
    log: Option<Log>,
}

impl Spool {
    /// Opens the log in `folder`, creating it where it is missing. `draw_boot` names outboxes that appear: [`draw_boot`],
    /// where nothing has to be the same each time.
    ///
    /// # Errors
    /// [`SpoolError`]; the log is then unchanged, or trimmed of what was torn.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        limits: Limits,
        devices: &[Entry],
        draw_boot: impl FnMut() -> u32,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let (log, recovered) = Log::open(disk, folder, limits, devices, draw_boot)?;
        Ok((Self { log: Some(log) }, recovered))
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn in_memory(devices: &[Entry]) -> (Self, Vec<Recovered>) {
        let recovered =
            devices.iter().map(|entry| Recovered::fresh(draw_boot(), entry.channels.len())).collect();
        (Self { log: None }, recovered)
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

/// Declares what the log lost, and takes its bookkeeping's word for the rest.
fn reconcile(state: State, samples: &mut Samples, lost: &[Range]) -> State {
    let mut outbox = hunhe_edge_core::outbox::Outbox::new(state);
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
