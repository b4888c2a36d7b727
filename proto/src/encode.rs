//! Writes a report into a caller's buffer: no allocation, so that a microcontroller can do it.
//!
//! The bytes are those of the protobuf schema (proved against the generated types in `tests/encoding.rs`). Fields
//! are written in order of number, and defaults are left out.

use crate::{
    column::{self, ColumnError},
    reading::{ABSENT, Drop, Header, PRINCIPAL_CHANNEL, Quality},
};

/// A report to be written.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Everything but samples and drops.
    pub header: Header,
    /// What the edge gave up.
    pub drops: &'a [Drop],
    /// Samples in order of sequence.
    pub blocks: &'a [BlockDraft<'a>],
}

/// Samples that share a time axis.
#[derive(Debug, Clone, Copy)]
pub struct BlockDraft<'a> {
    /// The first sample's time in the class's unit since 1970.
    pub t0: i64,
    /// Ticks between samples; 0 where it is the class's interval.
    pub step: u32,
    /// Irregular times: each sample's distance to the one before, else empty.
    pub dt: &'a [u32],
    /// The number of samples: `dt.len() + 1` where `dt` is given.
    pub samples: u32,
    /// The channels.
    pub columns: &'a [ColumnDraft<'a>],
}

/// One channel of a block.
#[derive(Debug, Clone, Copy)]
pub struct ColumnDraft<'a> {
    /// The class's channel number.
    pub channel: u16,
    /// One value per sample, [`ABSENT`] where there is none.
    pub values: &'a [i64],
    /// One quality code per sample; empty where all are valid.
    pub quality: &'a [u8],
}

/// A report cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The buffer is too small.
    #[error("report does not fit the buffer")]
    BufferFull,
    /// A value reaches 2^53.
    #[error("value reaches 2^53")]
    ValueOutOfRange,
    /// A block without samples, or a column or `dt` of another length than its block.
    #[error("column and block differ in length")]
    Length,
    /// A quality code outside the contract.
    #[error("quality code is not known")]
    Quality,
}

impl From<ColumnError> for EncodeError {
    fn from(error: ColumnError) -> Self {
        if error == ColumnError::BufferFull { Self::BufferFull } else { Self::ValueOutOfRange }
    }
}

const VARINT: u32 = 0;
const LEN: u32 = 2;
const I32: u32 = 5;

/// Writes `draft` to the front of `out` and returns its length in bytes. The tag is not written: it authenticates
/// what this wrote, and is appended by who holds the key.
///
/// # Errors
/// [`EncodeError`]; `out` then holds nothing of use.
pub fn encode(draft: &Draft<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut wire = Writer { out, len: 0 };
    let header = &draft.header;
    wire.fixed32_field(1, header.boot)?;
    wire.uint_field(2, header.seq)?;
    // What this report carries is held as well, so nothing is held from beyond its first sample.
    wire.uint_field(3, header.held_from.map_or(0, |from| header.seq.saturating_sub(from)))?;
    wire.optional(4, header.next_seq)?;
    for drop in draft.drops {
        wire.nested(5, |wire| {
            wire.uint_field(1, drop.seq)?;
            wire.uint_field(2, drop.count)?;
            wire.uint_field(3, u64::from(drop.cause as u8))
        })?;
    }
    wire.optional(6, header.sent_after_s.map(|seconds| zigzag(i64::from(seconds))))?;
    wire.optional(7, header.uptime_ms)?;
    wire.optional(8, header.battery_mv.map(u64::from))?;
    wire.optional(9, header.signal_dbm.map(|dbm| zigzag(i64::from(dbm))))?;
    for block in draft.blocks {
        wire.nested(10, |wire| write_block(wire, block))?;
    }
    if let Some(boot) = header.prev_boot {
        wire.key(11, I32)?;
        wire.bytes(&boot.to_le_bytes())?;
    }
    wire.optional(12, header.prev_next_seq)?;
    wire.optional(13, header.class_version.map(u64::from))?;
    Ok(wire.len)
}

fn write_block(wire: &mut Writer<'_>, block: &BlockDraft<'_>) -> Result<(), EncodeError> {
    let samples = block.samples as usize;
    if samples == 0 || !(block.dt.is_empty() || block.dt.len() + 1 == samples) {
        return Err(EncodeError::Length);
    }
    wire.uint_field(1, zigzag(block.t0))?;
    wire.uint_field(2, u64::from(block.step))?;
    if !block.dt.is_empty() {
        wire.nested(3, |wire| block.dt.iter().try_for_each(|&ticks| wire.varint(u64::from(ticks))))?;
    }
    let mut dense = false;
    for (position, column) in block.columns.iter().enumerate() {
        if column.values.len() != samples || !(column.quality.is_empty() || column.quality.len() == samples) {
            return Err(EncodeError::Length);
        }
        let complete = !column.values.contains(&ABSENT);
        dense |= complete;
        if position == 0 && column.channel == PRINCIPAL_CHANNEL && complete && all_valid(column.quality) {
            wire.nested(4, |wire| write_deltas(wire, column.values.iter().copied()))?;
        } else {
            wire.nested(5, |wire| write_column(wire, column))?;
        }
    }
    if !dense && block.dt.is_empty() {
        wire.uint_field(6, u64::from(block.samples))?;
    }
    Ok(())
}

fn write_column(wire: &mut Writer<'_>, column: &ColumnDraft<'_>) -> Result<(), EncodeError> {
    wire.uint_field(1, u64::from(column.channel))?;
    let present = column.values.iter().copied().filter(|&value| value != ABSENT);
    if present.clone().next().is_some() {
        wire.nested(2, |wire| write_deltas(wire, present))?;
    }
    if column.values.contains(&ABSENT) {
        wire.nested(3, |wire| {
            column.values.chunks(8).try_for_each(|chunk| {
                let bit = |(index, &value): (usize, &i64)| u8::from(value != ABSENT) << index;
                wire.bytes(&[chunk.iter().enumerate().map(bit).sum()])
            })
        })?;
    }
    if column.quality.iter().any(|&code| Quality::from_code(code).is_none()) {
        return Err(EncodeError::Quality);
    }
    if !all_valid(column.quality) {
        wire.nested(4, |wire| {
            column.quality.chunk_by(|left, right| left == right).try_for_each(|run| {
                wire.varint(u64::from(run[0]))?;
                wire.varint(run.len() as u64)
            })
        })?;
    }
    Ok(())
}

fn write_deltas(wire: &mut Writer<'_>, values: impl Iterator<Item = i64> + Clone) -> Result<(), EncodeError> {
    wire.len += column::encode_into(values, &mut wire.out[wire.len..])?;
    Ok(())
}

fn all_valid(quality: &[u8]) -> bool {
    quality.iter().all(|&code| code == Quality::Valid.code())
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(EncodeError::BufferFull)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn varint(&mut self, mut value: u64) -> Result<(), EncodeError> {
        while value >= 0x80 {
            self.bytes(&[value.to_le_bytes()[0] | 0x80])?;
            value >>= 7;
        }
        self.bytes(&[value.to_le_bytes()[0]])
    }

    fn key(&mut self, field: u32, wire_type: u32) -> Result<(), EncodeError> {
        self.varint(u64::from(field << 3 | wire_type))
    }

    fn optional(&mut self, field: u32, value: Option<u64>) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.key(field, VARINT)?;
        self.varint(value)
    }

    fn uint_field(&mut self, field: u32, value: u64) -> Result<(), EncodeError> {
        self.optional(field, (value != 0).then_some(value))
    }

    fn fixed32_field(&mut self, field: u32, value: u32) -> Result<(), EncodeError> {
        if value == 0 {
            return Ok(());
        }
        self.key(field, I32)?;
        self.bytes(&value.to_le_bytes())
    }

    /// Writes the body behind a one-byte length, and makes room afterwards where it needs more: nearly no body does.
    fn nested(
        &mut self,
        field: u32,
        body: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.key(field, LEN)?;
        let length_at = self.len;
        self.bytes(&[0])?;
        let start = self.len;
        body(self)?;
        let (length, end) = (self.len - start, self.len);
        let extra = (length.max(1).ilog2() / 7) as usize;
        if extra > 0 {
            if end + extra > self.out.len() {
                return Err(EncodeError::BufferFull);
            }
            self.out.copy_within(start..end, start + extra);
        }
        self.len = length_at;
        self.varint(length as u64)?;
        self.len = end + extra;
        Ok(())
    }
}
