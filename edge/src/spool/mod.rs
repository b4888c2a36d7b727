//! The outbox on disk: what all devices of one agent took and still owe, shared in one append-only log.
//!
//! Promises:
//! - after [`Spool::commit`] returns, everything appended before survives a power cut; nothing is published before;
//! - a commit is one frame with one checksum: a torn one was never published and is trimmed at the next start;
//! - a damaged frame costs its samples, which are declared [`DropCause::Damaged`], and nothing else;
//! - the boot id is drawn when a device first appears, and its sequence numbers survive restarts;
//! - a segment is deleted only when every sample in it was passed or declared lost.
//!
//! Bounds: [`Limits::bytes_max`] on disk. At the bound the oldest segment's samples are to be declared lost
//! ([`Spool::excess`]). A failed write or sync is final: the agent stops, and what was not synced was not published.
//!
//! Without a folder nothing is kept, as in a device without durable storage: a new boot at each start.

mod disk;
mod record;

use crate::samples::Samples;
use disk::Disk;
use hunhe_edge_core::outbox::{Range, State};
use hunhe_proto::{id::DeviceId, reading::DropCause};
use std::{
    hash::{BuildHasher, Hasher},
    path::{Path, PathBuf},
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
    fn fresh(channels: usize) -> Self {
        Self { state: State::new(draw_boot(), None), newest_ms: None, samples: Samples::new(channels, 0) }
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
    disk: Option<Disk>,
}

impl Spool {
    /// Opens the log in `folder`, creating it where it is missing.
    ///
    /// # Errors
    /// [`SpoolError`]; the log is then unchanged, or trimmed of what was torn.
    pub fn open(
        folder: &Path,
        limits: Limits,
        devices: &[Entry],
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let (disk, recovered) = Disk::open(folder, limits, devices)?;
        Ok((Self { disk: Some(disk) }, recovered))
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn in_memory(devices: &[Entry]) -> (Self, Vec<Recovered>) {
        let recovered = devices.iter().map(|entry| Recovered::fresh(entry.channels.len())).collect();
        (Self { disk: None }, recovered)
    }

    /// Appends a sample: durable after the next [`Spool::commit`].
    pub fn append(&mut self, device: usize, seq: u64, time_ms: i64, values: &[i64]) {
        if let Some(disk) = &mut self.disk {
            disk.append(device, seq, time_ms, values);
        }
    }

    /// Notes a device's bookkeeping: durable after the next [`Spool::commit`].
    pub fn note(&mut self, device: usize, state: &State) {
        if let Some(disk) = &mut self.disk {
            disk.note(device, state);
        }
    }

    /// Is there something to commit?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.disk.as_ref().is_some_and(Disk::is_dirty)
    }

    /// Writes and syncs all that was appended, and deletes segments that nobody needs: `held_from` says, by device,
    /// the oldest sample still owed according to what was noted.
    ///
    /// # Errors
    /// [`SpoolError::Io`]: the agent must stop.
    pub fn commit(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        self.disk.as_mut().map_or(Ok(()), |disk| disk.commit(held_from))
    }

    /// Samples to be declared lost, by device, so that the log comes back under its bound.
    #[must_use]
    pub fn excess(&self) -> Vec<(usize, Range)> {
        self.disk.as_ref().map_or_else(Vec::new, Disk::excess)
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, Disk::bytes)
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
fn draw_boot() -> u32 {
    // The standard library keys each of these from the system's random source.
    let bits = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests;
