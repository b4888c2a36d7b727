//! A report after decoding: checked, flat, ready to be judged.
//!
//! All columns of a report lie in one array, each block's columns dense and of equal length, so that whoever judges
//! readings walks plain slices. A `Report` is meant to be reused: decoding into it keeps its memory.

use alloc::vec::Vec;
use core::ops::Range;

/// The largest report in bytes.
pub const REPORT_BYTES_MAX: usize = 64 * 1024;
/// The most samples in a report.
pub const SAMPLES_MAX: usize = 4096;
/// The most columns in a block.
pub const COLUMNS_MAX: usize = 64;
/// The most values in a report, absent ones included.
pub const VALUES_MAX: usize = 65_536;
/// The most blocks in a report.
pub const BLOCKS_MAX: usize = 256;
/// The most drops in a report.
pub const DROPS_MAX: usize = 64;
/// Sequence numbers stay below this, so that sums of a few never overflow and JavaScript can show them.
pub const SEQ_END: u64 = 1 << 53;
/// Stands in a dense column where a sample lacks the channel; no wire value reaches it.
pub const ABSENT: i64 = i64::MIN;
/// The channel of the status word.
pub const STATUS_CHANNEL: u16 = 0;
/// A class's principal channel, which has the shortest form on the wire.
pub const PRINCIPAL_CHANNEL: u16 = 1;

/// How far a value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// As sampled, not yet judged.
    Raw = 0,
    /// Judged and found plausible.
    Valid = 1,
    /// Kept, but a rule doubts it.
    Suspect = 2,
    /// Filled in by a method.
    Estimated = 3,
    /// Changed by a person.
    Edited = 4,
    /// Known not to exist.
    Missing = 5,
    /// Fixed for billing.
    Final = 6,
}

impl Quality {
    /// The quality of a wire code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Raw,
            1 => Self::Valid,
            2 => Self::Suspect,
            3 => Self::Estimated,
            4 => Self::Edited,
            5 => Self::Missing,
            6 => Self::Final,
            _ => return None,
        })
    }

    /// The wire code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why samples were given up at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum DropCause {
    /// A cause newer than this reader.
    Unspecified = 0,
    /// The outbox reached its bound.
    Full = 1,
    /// Older than the class lets a reading be.
    Expired = 2,
    /// The gateway named the report undecodable.
    Refused = 3,
    /// The outbox's storage lost it.
    Damaged = 4,
    /// Discarded by command.
    Operator = 5,
}

impl DropCause {
    /// The cause of a wire code; unknown codes are [`Self::Unspecified`].
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        match code {
            1 => Self::Full,
            2 => Self::Expired,
            3 => Self::Refused,
            4 => Self::Damaged,
            5 => Self::Operator,
            _ => Self::Unspecified,
        }
    }
}

/// Samples `[seq, seq + count)` that the edge gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Drop {
    /// First sample given up.
    pub seq: u64,
    /// How many.
    pub count: u64,
    /// Why.
    pub cause: DropCause,
}

/// A report's fields beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Identity of the outbox.
    pub boot: u32,
    /// Sequence number of the first sample.
    pub seq: u64,
    /// Oldest sample still in the outbox, never beyond `seq`; absent: `seq`.
    pub held_from: Option<u64>,
    /// One past the newest sampled; absent: one past the last sample here.
    pub next_seq: Option<u64>,
    /// Device clock at sending minus the last sample's time, in seconds.
    pub sent_after_s: Option<i32>,
    /// Milliseconds since the device started.
    pub uptime_ms: Option<u64>,
    /// Battery voltage in millivolts.
    pub battery_mv: Option<u32>,
    /// Received signal strength in dBm.
    pub signal_dbm: Option<i32>,
    /// The outbox before this one.
    pub prev_boot: Option<u32>,
    /// One past the newest sample of the outbox before this one.
    pub prev_next_seq: Option<u64>,
    /// The version of the device class that the device follows.
    pub class_version: Option<u32>,
}

/// What a reader must know of the device's class to place samples in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeAxis {
    /// One tick of the class's clock, in milliseconds; at least 1.
    pub unit_ms: u32,
    /// Ticks between samples where a block names no step; at least 1.
    pub interval: u32,
}

/// Samples sharing a time axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpan {
    /// Which of the report's samples these are.
    pub samples: Range<usize>,
    /// Which of the report's columns belong to them.
    pub columns: Range<usize>,
}

/// One channel of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpan {
    /// The class's channel number.
    pub channel: u16,
    /// Its values, one per sample of the block, [`ABSENT`] where there is none.
    pub values: Range<usize>,
    /// Quality codes, one per sample, where the device gave any.
    pub quality: Option<Range<usize>>,
}

/// A decoded and checked report.
///
/// Invariants: ranges lie within their arrays; the blocks' samples follow each other and cover all of `times_ms`;
/// within a block times strictly increase, channels are distinct, and every column is as long as the block; times
/// stay within 2^53 of 1970; every value is [`ABSENT`] or below 2^53 in magnitude; `seq + samples ≤ 2^53`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything but samples and drops.
    pub header: Header,
    /// What the edge gave up.
    pub drops: Vec<Drop>,
    /// The blocks, in order of sequence.
    pub blocks: Vec<BlockSpan>,
    /// The columns of all blocks.
    pub columns: Vec<ColumnSpan>,
    /// Each sample's time in milliseconds since 1970, in order of sequence.
    pub times_ms: Vec<i64>,
    /// The values of all columns.
    pub values: Vec<i64>,
    /// The quality codes of the columns that have them.
    pub qualities: Vec<u8>,
    /// Where the authentication tag's field begins in the payload, if there is one.
    pub tag_at: Option<usize>,
    /// Columns of the block being decoded that wait for its number of samples.
    pub(crate) sparse: Vec<Sparse>,
}

/// A column with a bitmap, as ranges of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) column: usize,
    pub(crate) deltas: Range<usize>,
    pub(crate) present: Range<usize>,
}

impl Report {
    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.header = Header::default();
        self.drops.clear();
        self.blocks.clear();
        self.columns.clear();
        self.times_ms.clear();
        self.values.clear();
        self.qualities.clear();
        self.tag_at = None;
        self.sparse.clear();
    }

    /// The number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.times_ms.len()
    }

    /// One past the last sample's sequence number.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.header.seq + self.times_ms.len() as u64
    }

    /// Oldest sample still held by the edge.
    #[must_use]
    pub fn held_from(&self) -> u64 {
        self.header.held_from.unwrap_or(self.header.seq)
    }

    /// One past the newest sample that the edge took.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.header.next_seq.unwrap_or(self.end_seq()).max(self.end_seq())
    }

    /// The values of a column, one per sample of its block.
    #[must_use]
    pub fn values_of(&self, column: &ColumnSpan) -> &[i64] {
        &self.values[column.values.clone()]
    }
}
