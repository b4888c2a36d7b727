//! A segmented log on disk, for three uses: the **journal** (the truth: synced before anything is acknowledged), the
//! **decided log** and the **alert log** (derived from it: flushed every batch, synced at checkpoints).
//!
//! # Promises
//! - What [`Writer::sync`] returned as durable is read back after any crash, byte for byte, in order, once.
//! - Nothing is lost in silence. Damage is reported as a range of record numbers by [`Writer::open`], by [`Reader`]
//!   and by [`inspect::verify`]; every whole record before and behind it stays readable.
//! - No state on disk needs a human to delete a file: torn tails are trimmed, unreadable segments are set aside.
//! - An I/O error is final: the writer answers every later call with it. An fsync that failed once may succeed the
//!   next time without having written anything.
//! - One writer per directory, held by a lock.
//!
//! # Format, version 1, little endian
//! A segment is named by its first record, `00000000000000000001.seg`, and starts with a header of 32 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HUNHELOG` |
//! | 1 + 3 | format version; zero |
//! | 8 | log id, random, the same in all segments of a log |
//! | 8 | number (LSN) of the first record |
//! | 4 | CRC-32C of the 28 bytes before |
//!
//! The header keeps this layout in every later version, so that a newer format is refused by its number, not as damage. The
//! version counts for all that is in a segment: a change of the frames, or of what the records of any of the three logs hold,
//! raises it, and a record that changes gets a new kind, so that the former one stays readable.
//! A record is a frame of 12 bytes and its payload:
//!
//! | bytes | what |
//! |---|---|
//! | 3 | payload length (22 bits), bit 22 *seal*, bit 23 *synced* |
//! | 1 | kind, the caller's |
//! | 4 | low half of the record's LSN |
//! | 4 | CRC-32C of log id, whole LSN, the 4 bytes of length and kind, payload |
//!
//! The LSN in the checksum makes a missing, doubled or swapped record or segment visible; its low half in the frame lets a
//! scan find the next whole record behind damage. *Synced* says that every record before this one was durable when it was
//! appended: it tells damage from records that were never promised. A *seal* (no payload, LSN of the next segment's first
//! record) ends each segment but the last, so that opening need not read sealed segments. A record of kind 255 is a *jump*: its
//! payload, 8 bytes, is the last number that is given away on purpose, and the next record is numbered behind that. Readers pass
//! it in silence; a program of before jumps finds numbers missing there, and goes on.
//!
//! # What it deliberately does not do
//! - Opening reads the last segment whole and of the others header and seal, unless the header is damaged; damage inside
//!   a sealed segment is reported by the reader that meets it and by [`inspect::verify`]. A restart must not read gigabytes
//!   first.
//! - It cannot tell a damaged *end* of the last batch from a write that never finished. Both are trimmed and reported as
//!   [`Finding::Torn`]; a caller that knows of later LSNs (a checkpoint) continues behind them with [`Writer::skip_to`].
//! - No compression, no index, no clock, no async. Finding a record in a segment reads that segment from its start.

mod commit;
pub mod cursor;
mod error;
mod finding;
mod format;
pub mod inspect;
mod lag;
mod queue;
mod reader;
mod record;
mod recover;
mod scan;
mod segment;
mod survey;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hunhe_disk::Disk;

pub use commit::{Commits, Committer, Entry, Settled, Settlement, Step};
pub use error::{AppendError, Error, ReadError};
pub use finding::{AsideReason, Finding, Gap, Recovery};
pub use format::refuse_newer_segments;
pub use queue::{Bounds, Ended, Intake, Priority, Refused, State, Status};
pub use reader::{Next, Reader, Record};
pub use record::{JUMP, MAX_PAYLOAD_BYTES};
pub use segment::FORMAT_VERSION;
pub use tail::Tail;
pub use writer::{Unsynced, Writer};

/// A record's number in its log: the first record is 1, and 0 means "nothing yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const NONE: Self = Self(0);
    /// The first record of a log.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before this one; nothing before the first is [`Lsn::NONE`].
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a log lives and how large it may grow.
#[derive(Clone, Debug)]
pub struct Options {
    /// The disk it lives on.
    pub disk: Arc<dyn Disk>,
    /// Directory of this log alone; created if absent.
    pub dir: PathBuf,
    /// A segment is closed before it would exceed this; 4 KiB to 1 GiB. Also bounds a record.
    pub segment_bytes: u64,
    /// All segments together never exceed this; at least two segments. At the bound [`Writer::append`] answers
    /// [`AppendError::Full`] until [`Writer::release_through`] freed a segment; nothing is ever overwritten.
    pub limit_bytes: u64,
}

impl Options {
    const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

    fn check(&self) -> Result<(), Error> {
        if Self::SEGMENT_BYTES.contains(&self.segment_bytes) && self.limit_bytes / 2 >= self.segment_bytes {
            return Ok(());
        }
        Err(Error::Options {
            dir: self.dir.clone(),
            segment_bytes: self.segment_bytes,
            limit_bytes: self.limit_bytes,
        })
    }
}
