//! The embedded store: hot history for the page and the API, and by default the ledger's sink of record.
//!
//! Samples lie in columnar blocks, one device each with a time axis shared by its channels, in the wire's own column
//! code, as values of fjall. A block is closed at [`BLOCK_ROWS`] samples or at the end of a month (UTC), whichever
//! comes first, and belongs to that month's keyspace; retention deletes whole months.
//!
//! - `table`: decoded samples, and which of two at one instant stays
//! - `block`: a table's bytes
//! - `disk`: keyspaces, keys; `format`: the version of all of it
//! - `memory`: what is not yet on disk; `append` for samples in order, `late` for all others
//! - `checkpoint`: memory to disk, in one batch with the cursor
//! - `scan`: blocks, runs and memory merged for a reader
//! - `dump`: all of it as of one moment, for backups, and a store made of that
//! - `catalog`, `rollup`, `quarantine`, `retain`: names; windows; refused messages; what is old
//!
//! Promises:
//! - **A checkpoint is all or nothing.** Samples, names, rollups and quarantine records written since the last one go
//!   down with the cursor in one batch. After a crash the content is what it was at the cursor; a replay from there
//!   brings the rest.
//! - **The content is a function of the set of writes**, not of their order. A (device, time) holds one sample: the
//!   better quality stays (final, valid, raw, edited, estimated, suspect, missing), then the lower seq, then the
//!   lower boot. How a sample that lost is *reported* depends on which sample it met: two equal samples that both lose to
//!   a third count as one conflict and one `same_value` if they met each other first, as two conflicts otherwise.
//! - **A failed write or sync is final.** The store is poisoned, says so to every later writer and is never retried;
//!   the caller drops it and opens it again.
//!
//! The open block of a device goes down as a run: a small block of what came since the last checkpoint. Eight runs of
//! a level are merged into one of the next, and all of them into one block when it closes, so a sample is encoded about
//! three times, not once a checkpoint, and no encoded tail is held in memory: an idle device costs about 70
//! bytes. Late samples revise the block they fall into, or fill the gap between two.
//!
//! Measured with `cargo run --profile ci -p hunhe-gateway --example store_rows`, three runs on two busy shared cores
//! (5 million rows of three values, 3,333 devices, a day of 24 rows a write, all checkpoints included): 0.28–0.29 µs of
//! CPU and 1.98 bytes a row; a device's day in 0.03–0.07 ms of CPU. With blocks of 24 rows 0.24–0.32 µs, 3.79 bytes and
//! 0.02–0.03 ms. LZ4 on top saves 7 % of the bytes (28 % with blocks of 24 rows) and costs 0 to 15 % more CPU: too
//! little for 512 rows, so there is none.
//!
//! Bounds: unwritten samples up to [`Options::dirty_limit_bytes`], from where [`WriteOutcome::checkpoint_due`] asks for
//! a checkpoint; at twice that, writes are refused ([`StoreError::CheckpointOverdue`]) until there was one. Devices
//! are bounded by the registry, whose names alone reach [`Store::device`].
//!
//! Deliberately absent: threads of its own (fjall runs one for flushes and compactions), clocks, compression on top
//! of the columns.

mod append;
mod block;
mod catalog;
mod checkpoint;
mod disk;
mod dump;
mod format;
mod late;
mod memory;
mod quarantine;
mod retain;
mod rollup;
mod scan;
mod table;
#[cfg(test)]
mod tests;

pub use disk::Month;
pub use dump::{Dump, Filling, is_key, is_space, samples_in};
pub use format::{FORMAT, MARKER, refuse_newer};
pub use hunhe_proto::reading::ABSENT;
pub use quarantine::{
    Amount, Discard, Held, Hold, Limits, NewRecord, Record, RecordFilter, RecordHead, RecordId,
    RecordIdError, RecordKind, Walk,
};
pub use retain::{Retained, Retired};
pub use rollup::Rollup;
pub use scan::{Series, Stretch};

use disk::Disk;
use hunhe_disk::FormatError;
use memory::Memory;
use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// Samples at which a block is closed.
pub const BLOCK_ROWS: usize = 512;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder, made where it is missing; nothing else may use it.
    pub dir: PathBuf,
    /// Months that ended longer ago than this are dropped.
    pub retention_days: u32,
    /// The oldest months are dropped while all months together are larger than this; never the newest.
    pub limit_bytes: u64,
    /// Unwritten samples that ask for a checkpoint.
    pub dirty_limit_bytes: usize,
    /// For blocks read from disk.
    pub cache_bytes: u64,
    /// Tables that are kept open.
    pub open_tables: usize,
    /// The quarantine's bounds.
    pub quarantine: Limits,
    /// Samples at which a block is closed, 2 to 4,096; other than [`BLOCK_ROWS`] in tests and measurements only.
    pub block_rows: usize,
    /// Compress with LZ4 on top of the columns; of use to measurements only. Kept by each month from when it began.
    pub lz4: bool,
}

impl Options {
    /// The defaults: 45 days, 20 GiB, 8 MiB unwritten, 16 MiB cached, 900 tables open, 100,000 quarantine records in 256 MiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            retention_days: 45,
            limit_bytes: 20 << 30,
            dirty_limit_bytes: 8 << 20,
            cache_bytes: 16 << 20,
            open_tables: 900,
            quarantine: Limits { records: 100_000, bytes: 256 << 20 },
            block_rows: BLOCK_ROWS,
            lz4: false,
        }
    }
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database below failed.
    #[error("the embedded store's database failed; check its disk")]
    Disk(#[from] fjall::Error),
    /// An earlier write or sync failed, so nothing says what is on disk.
    #[error("the embedded store refuses writes since one failed; open it again")]
    Poisoned,
    /// A newer program's, or its format cannot be looked at.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Bytes on disk that this store did not write.
    #[error(
        "the embedded store holds a malformed {what}; restore it from a backup or start with an empty folder"
    )]
    Corrupt {
        /// Which part.
        what: &'static str,
    },
    /// Samples that no checked report holds.
    #[error("samples cannot be stored: {what}")]
    InvalidRows {
        /// Which rule they break.
        what: &'static str,
    },
    /// A key that this store did not give out.
    #[error("device key {0} is not in the catalog")]
    UnknownDevice(u32),
    /// Samples spread over more months than are held.
    #[error("no room for {month}: {months_max} months are held; shorten the retention or accept_past")]
    TooManyMonths {
        /// The month refused.
        month: Month,
        /// The bound.
        months_max: usize,
    },
    /// The caller ignored [`WriteOutcome::checkpoint_due`].
    #[error("unwritten samples reached twice their limit; checkpoint first")]
    CheckpointOverdue,
    /// An option out of its range.
    #[error("block_rows must be 2 to 4096, not {0}")]
    BlockRows(usize),
}

impl StoreError {
    /// Another process has the store open.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Disk(fjall::Error::Locked))
    }
}

impl From<block::Malformed> for StoreError {
    fn from(block::Malformed(what): block::Malformed) -> Self {
        Self::Corrupt { what }
    }
}

/// A device in this store: dense from 0, kept for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub u32);

/// Samples of one device and outbox to be written, in any order; slices of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The outbox.
    pub boot: u32,
    /// Milliseconds since 1970, before the year 9999.
    pub times_ms: &'a [i64],
    /// Below 2^53.
    pub seqs: &'a [u64],
    /// Quality codes.
    pub quality: &'a [u8],
    /// Channel numbers, each once.
    pub channels: &'a [u16],
    /// Channel after channel, a value per sample: below 2^53 in magnitude, or [`ABSENT`].
    pub values: &'a [i64],
}

impl<'a> Rows<'a> {
    /// The values of the channel with this index.
    fn column(&self, index: usize) -> &'a [i64] {
        let rows = self.times_ms.len();
        &self.values[index * rows..(index + 1) * rows]
    }

    fn check(&self) -> Result<(), StoreError> {
        const END: i64 = hunhe_proto::column::MAGNITUDE_END;
        let rows = self.times_ms.len();
        let refuse = |what| Err(StoreError::InvalidRows { what });
        if self.seqs.len() != rows
            || self.quality.len() != rows
            || self.values.len() != rows * self.channels.len()
        {
            return refuse("columns differ in length");
        }
        if self.times_ms.iter().any(|time_ms| !(0..disk::TIME_END_MS).contains(time_ms)) {
            return refuse("a time is not between 1970 and 9999");
        }
        if self.seqs.iter().any(|&seq| seq >= END.unsigned_abs()) {
            return refuse("a sequence number reaches 2^53");
        }
        if self.values.iter().any(|&value| value != ABSENT && (value <= -END || value >= END)) {
            return refuse("a value reaches 2^53");
        }
        let ascending = self.channels.is_sorted_by(|left, right| left < right);
        if !ascending && (1..self.channels.len()).any(|at| self.channels[..at].contains(&self.channels[at])) {
            return refuse("a channel stands twice");
        }
        Ok(())
    }
}

/// What became of written samples. `stored + duplicates + same_value`, and the conflicts that were not stored, make
/// up all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Written, the winners of conflicts among them.
    pub stored: u32,
    /// Known already, seq and boot and values: a replay.
    pub duplicates: u32,
    /// Known already at that time under another seq or boot, with the same values. The better identity stays.
    pub same_value: u32,
    /// Conflicts: at that time another sample with other values. One [`Conflict`] each.
    pub conflicts: u32,
    /// Much is unwritten: checkpoint soon.
    pub checkpoint_due: bool,
}

/// A sample that lost its place to another at the same device and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The loser's outbox.
    pub boot: u32,
    /// The loser's sequence number.
    pub seq: u64,
    /// The loser's quality code.
    pub quality: u8,
    /// True: it was stored, and confirmed as such, by an earlier write. False: it is of this write and was not stored.
    pub was_stored: bool,
    /// The winner's outbox.
    pub winner_boot: u32,
    /// The winner's sequence number.
    pub winner_seq: u64,
    /// The loser's values by channel, absent ones left out.
    pub values: Vec<(u16, i64)>,
}

/// The store. Share it in an `Arc`: one thread writes (others would wait for it), any number reads. All calls block.
pub struct Store {
    options: Options,
    disk: Disk,
    /// Held by whoever changes something, so that a checkpoint sees one state while readers go on.
    writer: Mutex<()>,
    memory: RwLock<Memory>,
    /// What retention dropped.
    retired: Mutex<retain::Tally>,
    poisoned: AtomicBool,
    /// Records may be held: see [`Store::open_redrives`].
    redrives_open: AtomicBool,
    #[cfg(test)]
    fail_next_sync: AtomicBool,
    /// For a test of those who read: the next read of a record panics.
    #[cfg(feature = "planted")]
    pub panic_next_read: AtomicBool,
}

impl Store {
    /// Opens the store in `options.dir`, or makes it. Takes time in proportion to the catalog and quarantine alone.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Format`], [`StoreError::Corrupt`], [`StoreError::BlockRows`].
    pub fn open(options: Options) -> Result<Self, StoreError> {
        if !(2..=block::ROWS_MAX).contains(&options.block_rows) {
            return Err(StoreError::BlockRows(options.block_rows));
        }
        let disk = Disk::open(&options)?;
        let memory = Memory::load(&disk, &options)?;
        let retired = Mutex::new(retain::Tally::load(&disk)?);
        Ok(Self {
            options,
            disk,
            writer: Mutex::default(),
            memory: RwLock::new(memory),
            retired,
            poisoned: AtomicBool::new(false),
            redrives_open: AtomicBool::new(false),
            #[cfg(test)]
            fail_next_sync: AtomicBool::new(false),
            #[cfg(feature = "planted")]
            panic_next_read: AtomicBool::new(false),
        })
    }

    /// Writes samples to memory; [`checkpoint`](Self::checkpoint) brings them to disk. Losers of conflicts are appended to
    /// `conflicts`. On an error from reading, some rows may be written; writing them again counts those as duplicates.
    ///
    /// # Errors
    /// [`StoreError::InvalidRows`] (nothing is written), [`StoreError::UnknownDevice`],
    /// [`StoreError::CheckpointOverdue`], [`StoreError::Poisoned`], [`StoreError::TooManyMonths`]; late samples
    /// read from disk: [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn write(
        &self,
        device: DeviceKey,
        rows: &Rows<'_>,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<WriteOutcome, StoreError> {
        let _writer = self.writer()?;
        rows.check()?;
        let mut memory = self.memory_mut();
        if memory.bytes >= self.options.dirty_limit_bytes.saturating_mul(2) {
            return Err(StoreError::CheckpointOverdue);
        }
        let mut outcome = memory.write(&self.disk, device, rows, conflicts)?;
        outcome.checkpoint_due = memory.bytes >= self.options.dirty_limit_bytes;
        Ok(outcome)
    }

    /// Has as much been written since the last checkpoint as the memory should hold?
    #[must_use]
    pub fn is_checkpoint_due(&self) -> bool {
        self.memory_ref().bytes >= self.options.dirty_limit_bytes
    }

    /// The cursor of the last checkpoint, as the caller gave it.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn cursor(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.cursor()
    }

    /// Bytes of samples and records that the next checkpoint will bring to disk.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        self.memory_ref().bytes
    }

    /// Bytes on disk, fjall's own journal included.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.disk.db.disk_space()?)
    }

    fn writer(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        Ok(writer)
    }

    fn memory_ref(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}
