//! Reads a report: one pass over the bytes into a reused [`Report`], every limit enforced before memory is taken.
//!
//! It reads the same protobuf as the generated types (proved against them in `tests/encoding.rs`), but flat, so that
//! a message costs no allocation, and strictly, so that what it lets through satisfies [`Report`]'s invariants.
//! Unknown fields are skipped, but none may follow the tag. A field of ours with another wire type (a float, say) is an error, not a guess.

mod fields;

pub(crate) use fields::{Fields, Value};

use crate::{
    column::{self, ColumnError},
    reading::{
        ABSENT, BLOCKS_MAX, BlockSpan, COLUMNS_MAX, ColumnSpan, DROPS_MAX, Drop, DropCause,
        PRINCIPAL_CHANNEL, Quality, REPORT_BYTES_MAX, Report, SAMPLES_MAX, SEQ_END, STATUS_CHANNEL, Sparse,
        TimeAxis, VALUES_MAX,
    },
};
use alloc::vec::Vec;
use core::ops::Range;

/// Why bytes are not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than [`REPORT_BYTES_MAX`] bytes.
    #[error("report is larger than 64 KiB")]
    Oversize,
    /// The bytes end inside a field.
    #[error("report ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits, a field number 0, or an unknown wire type.
    #[error("report is not protobuf")]
    NotProtobuf,
    /// A field has a wire type that is not the schema's: a float where the contract has integers, for example.
    #[error("field {0} is not of the schema's type")]
    WireType(u32),
    /// An integer exceeds its field's type.
    #[error("field {0} is out of range")]
    FieldRange(u32),
    /// More samples than [`SAMPLES_MAX`].
    #[error("report has more than 4096 samples")]
    TooManySamples,
    /// More columns in a block than [`COLUMNS_MAX`].
    #[error("block has more than 64 columns")]
    TooManyColumns,
    /// More values than [`VALUES_MAX`].
    #[error("report has more than 65536 values")]
    TooManyValues,
    /// More blocks than [`BLOCKS_MAX`].
    #[error("report has more than 256 blocks")]
    TooManyBlocks,
    /// More drops than [`DROPS_MAX`].
    #[error("report has more than 64 drops")]
    TooManyDrops,
    /// A column's bytes are not one.
    #[error(transparent)]
    Column(ColumnError),
    /// A block names no samples.
    #[error("block has no samples")]
    EmptyBlock,
    /// A column, bitmap or quality list does not fit the block's number of samples.
    #[error("column and block differ in length")]
    Length,
    /// A channel appears twice in a block.
    #[error("channel appears twice in a block")]
    DuplicateChannel,
    /// A quality code outside the contract.
    #[error("quality code is not known")]
    Quality,
    /// Two samples of a block share a time.
    #[error("times of a block do not increase")]
    TimeOrder,
    /// A time beyond what 64-bit milliseconds hold.
    #[error("time is out of range")]
    TimeRange,
    /// Sequence numbers reach 2^53, or a drop is empty.
    #[error("sequence number is out of range")]
    SeqRange,
    /// A field follows the authentication tag, which cannot vouch for it.
    #[error("report goes on after its tag")]
    AfterTag,
}

impl DecodeError {
    /// A short name for counters and lists.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Truncated => "truncated",
            Self::NotProtobuf => "not_protobuf",
            Self::WireType(_) => "not_an_integer",
            Self::FieldRange(_) => "field_range",
            Self::TooManySamples
            | Self::TooManyColumns
            | Self::TooManyValues
            | Self::TooManyBlocks
            | Self::TooManyDrops => "too_many",
            Self::Column(ColumnError::ValueOutOfRange) => "value_overflow",
            Self::Column(_) => "bad_column",
            Self::EmptyBlock | Self::Length | Self::DuplicateChannel | Self::Quality => "bad_block",
            Self::TimeOrder | Self::TimeRange => "bad_time",
            Self::SeqRange => "bad_seq",
            Self::AfterTag => "after_tag",
        }
    }
}

/// Decodes `payload` into `report`, which keeps its memory.
///
/// # Errors
/// [`DecodeError`]; `report` then holds nothing of use.
pub fn decode(payload: &[u8], axis: TimeAxis, report: &mut Report) -> Result<(), DecodeError> {
    report.clear();
    if payload.len() > REPORT_BYTES_MAX {
        return Err(DecodeError::Oversize);
    }
    let mut fields = Fields::new(payload, 0..payload.len());
    let mut held = 0;
    loop {
        let field_at = fields.at;
        let Some((field, value)) = fields.next()? else { break };
        if report.tag_at.is_some() {
            return Err(DecodeError::AfterTag);
        }
        let header = &mut report.header;
        match field {
            1 => header.boot = value.fixed32(field)?,
            2 => header.seq = value.varint(field)?,
            3 => held = value.varint(field)?,
            4 => header.next_seq = Some(value.varint(field)?),
            5 => decode_drop(fields.inside(&value, field)?, report)?,
            6 => header.sent_after_s = Some(value.sint32(field)?),
            7 => header.uptime_ms = Some(value.varint(field)?),
            8 => header.battery_mv = Some(value.uint32(field)?),
            9 => header.signal_dbm = Some(value.sint32(field)?),
            10 => decode_block(fields.inside(&value, field)?, axis, report)?,
            11 => header.prev_boot = Some(value.fixed32(field)?),
            12 => header.prev_next_seq = Some(value.varint(field)?),
            13 => header.class_version = Some(value.uint32(field)?),
            15 => {
                value.range(field)?;
                report.tag_at = Some(field_at);
            }
            _ => {}
        }
    }
    let header = &mut report.header;
    if held > 0 {
        header.held_from = Some(header.seq.checked_sub(held).ok_or(DecodeError::SeqRange)?);
    }
    let bounded = [Some(header.seq), header.held_from, header.next_seq, header.prev_next_seq];
    if bounded.into_iter().flatten().any(|seq| seq > SEQ_END - SAMPLES_MAX as u64) {
        return Err(DecodeError::SeqRange);
    }
    Ok(())
}

/// The class version that a payload names, where it is protobuf so far: also of one that is no report by the axis of
/// another version.
#[must_use]
pub fn class_version_of(payload: &[u8]) -> Option<u32> {
    let mut fields = Fields::new(payload, 0..payload.len());
    let mut version = None;
    while let Ok(Some((field, value))) = fields.next() {
        if field == 13 {
            version = value.uint32(field).ok();
        }
    }
    version
}

fn decode_drop(mut fields: Fields<'_>, report: &mut Report) -> Result<(), DecodeError> {
    if report.drops.len() == DROPS_MAX {
        return Err(DecodeError::TooManyDrops);
    }
    let mut drop = Drop { seq: 0, count: 0, cause: DropCause::Unspecified };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => drop.seq = value.varint(field)?,
            2 => drop.count = value.varint(field)?,
            3 => drop.cause = DropCause::from_code(value.varint(field)?),
            _ => {}
        }
    }
    let end = drop.seq.checked_add(drop.count).filter(|&end| drop.count > 0 && end <= SEQ_END);
    end.ok_or(DecodeError::SeqRange)?;
    report.drops.push(drop);
    Ok(())
}

#[derive(Default)]
struct BlockHead {
    t0: i64,
    step: u32,
    /// As the block says, where nothing else tells.
    samples: Option<usize>,
    /// The length of a column without a bitmap.
    dense: Option<usize>,
    /// How many distances `dt` had; they wait where the block's times will stand.
    distances: usize,
}

fn decode_block(mut fields: Fields<'_>, axis: TimeAxis, report: &mut Report) -> Result<(), DecodeError> {
    if report.blocks.len() == BLOCKS_MAX {
        return Err(DecodeError::TooManyBlocks);
    }
    let first_sample = report.times_ms.len();
    let first_column = report.columns.len();
    let mut block = BlockHead::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => block.t0 = value.sint64(field)?,
            2 => block.step = value.uint32(field)?,
            3 => {
                let times_ms = &mut report.times_ms;
                fields.numbers(&value, field, |ticks| block.push_distance(ticks, times_ms))?;
            }
            4 | 5 if report.columns.len() - first_column == COLUMNS_MAX => {
                return Err(DecodeError::TooManyColumns);
            }
            4 => {
                let start = report.values.len();
                let count =
                    decode_values(fields.bytes, value.range(field)?, SAMPLES_MAX, &mut report.values)?;
                report.columns.push(ColumnSpan {
                    channel: PRINCIPAL_CHANNEL,
                    values: start..start + count,
                    quality: None,
                });
                block.note_dense(count)?;
            }
            5 => {
                if let Some(count) = decode_column(fields.inside(&value, field)?, report)? {
                    block.note_dense(count)?;
                }
            }
            6 => block.samples = Some(value.uint32(field)? as usize),
            _ => {}
        }
    }
    let samples = if block.distances > 0 { Some(block.distances + 1) } else { block.dense.or(block.samples) };
    let samples = samples.filter(|&count| count > 0).ok_or(DecodeError::EmptyBlock)?;
    if samples > SAMPLES_MAX - first_sample {
        return Err(DecodeError::TooManySamples);
    }
    if block.samples.is_some_and(|count| count != samples) {
        return Err(DecodeError::Length);
    }
    place_in_time(&block, axis, samples, first_sample, &mut report.times_ms)?;
    spread_sparse_columns(fields.bytes, samples, report)?;
    let columns = first_column..report.columns.len();
    check_columns(&report.columns[columns.clone()], samples)?;
    report.blocks.push(BlockSpan { samples: first_sample..first_sample + samples, columns });
    Ok(())
}

impl BlockHead {
    /// Columns without a bitmap are equally long. This is checked before times are placed, so that a block refused for it has
    /// placed no more of them than its shortest column says.
    fn note_dense(&mut self, count: usize) -> Result<(), DecodeError> {
        let known = *self.dense.get_or_insert(count);
        if known == count { Ok(()) } else { Err(DecodeError::Length) }
    }

    fn push_distance(&mut self, ticks: u64, times_ms: &mut Vec<i64>) -> Result<(), DecodeError> {
        let first = usize::from(self.distances == 0);
        if times_ms.len() + first >= SAMPLES_MAX {
            return Err(DecodeError::TooManySamples);
        }
        if first == 1 {
            times_ms.push(0);
        }
        times_ms.push(i64::from(u32::try_from(ticks).map_err(|_| DecodeError::FieldRange(3))?));
        self.distances += 1;
        Ok(())
    }
}

fn place_in_time(
    block: &BlockHead,
    axis: TimeAxis,
    samples: usize,
    first_sample: usize,
    times_ms: &mut Vec<i64>,
) -> Result<(), DecodeError> {
    let unit_ms = i64::from(axis.unit_ms.max(1));
    let first = block.t0.checked_mul(unit_ms).filter(|time| time.unsigned_abs() <= SEQ_END);
    let first = first.ok_or(DecodeError::TimeRange)?;
    let in_range = |last: i64| last <= SEQ_END.cast_signed();
    if block.distances == 0 {
        let step = if block.step == 0 { axis.interval.max(1) } else { block.step };
        let step_ms = i64::from(step).saturating_mul(unit_ms);
        let steps = i64::try_from(samples - 1).unwrap_or(i64::MAX);
        if !in_range(first.saturating_add(step_ms.saturating_mul(steps))) {
            return Err(DecodeError::TimeRange);
        }
        times_ms.extend((0..=steps).map(|index| first + index * step_ms));
        return Ok(());
    }
    let times = &mut times_ms[first_sample..];
    let mut time = first;
    for slot in &mut *times {
        time = time.saturating_add(slot.saturating_mul(unit_ms));
        *slot = time;
    }
    // Distances are never negative, so the last is the greatest; additions saturate far above the bound.
    if !in_range(time) {
        return Err(DecodeError::TimeRange);
    }
    if times.is_sorted_by(|earlier, later| earlier < later) { Ok(()) } else { Err(DecodeError::TimeOrder) }
}

fn check_columns(columns: &[ColumnSpan], samples: usize) -> Result<(), DecodeError> {
    for (index, column) in columns.iter().enumerate() {
        if column.values.len() != samples || column.quality.as_ref().is_some_and(|q| q.len() != samples) {
            return Err(DecodeError::Length);
        }
        if columns[..index].iter().any(|earlier| earlier.channel == column.channel) {
            return Err(DecodeError::DuplicateChannel);
        }
    }
    Ok(())
}

/// Appends the column and returns its length, unless a bitmap has yet to spread it.
fn decode_column(mut fields: Fields<'_>, report: &mut Report) -> Result<Option<usize>, DecodeError> {
    let mut channel = STATUS_CHANNEL;
    let mut deltas = 0..0;
    let mut present = 0..0;
    let quality_from = report.qualities.len();
    let mut run_of = None;
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => channel = u16::try_from(value.varint(field)?).map_err(|_| DecodeError::FieldRange(field))?,
            2 => deltas = value.range(field)?,
            3 => present = value.range(field)?,
            4 => {
                let qualities = &mut report.qualities;
                fields.numbers(&value, field, |number| push_quality(number, &mut run_of, qualities))?;
            }
            _ => {}
        }
    }
    if run_of.is_some() {
        return Err(DecodeError::Length);
    }
    let quality = quality_from..report.qualities.len();
    let quality = (!quality.is_empty()).then_some(quality);
    let start = report.values.len();
    let dense = present.is_empty();
    let end = if dense {
        start + decode_values(fields.bytes, deltas, SAMPLES_MAX, &mut report.values)?
    } else {
        report.sparse.push(Sparse { column: report.columns.len(), deltas, present });
        start
    };
    report.columns.push(ColumnSpan { channel, values: start..end, quality });
    Ok(dense.then_some(end - start))
}

/// Appends at most `limit` values and returns their number.
fn decode_values(
    payload: &[u8],
    deltas: Range<usize>,
    limit: usize,
    values: &mut Vec<i64>,
) -> Result<usize, DecodeError> {
    let room = VALUES_MAX - values.len();
    let deltas = payload.get(deltas).unwrap_or_default();
    column::decode(deltas, values, room.min(limit)).map_err(|error| match error {
        ColumnError::TooManyValues if room < limit => DecodeError::TooManyValues,
        ColumnError::TooManyValues => DecodeError::TooManySamples,
        other => DecodeError::Column(other),
    })
}

/// Pairs of (code, run length).
fn push_quality(number: u64, run_of: &mut Option<u8>, qualities: &mut Vec<u8>) -> Result<(), DecodeError> {
    let Some(code) = run_of.take() else {
        let code = u8::try_from(number).ok().filter(|&code| Quality::from_code(code).is_some());
        *run_of = Some(code.ok_or(DecodeError::Quality)?);
        return Ok(());
    };
    let room = VALUES_MAX - qualities.len();
    let run =
        usize::try_from(number).ok().filter(|run| (1..=room).contains(run)).ok_or(DecodeError::Length)?;
    qualities.extend(core::iter::repeat_n(code, run));
    Ok(())
}

/// Decodes the columns with a bitmap and gives every value its sample's place. Only now is the block's number of
/// samples known: a bitmap alone tells it to the byte, not to the bit.
fn spread_sparse_columns(payload: &[u8], samples: usize, report: &mut Report) -> Result<(), DecodeError> {
    while let Some(Sparse { column, deltas, present }) = report.sparse.pop() {
        let bitmap = payload.get(present).unwrap_or_default();
        let ones: usize = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        let beyond =
            bitmap.last().is_some_and(|&byte| !samples.is_multiple_of(8) && byte >> (samples % 8) != 0);
        if bitmap.len() != samples.div_ceil(8) || beyond {
            return Err(DecodeError::Length);
        }
        let start = report.values.len();
        if samples > VALUES_MAX - start {
            return Err(DecodeError::TooManyValues);
        }
        let decoded = decode_values(payload, deltas, ones, &mut report.values);
        if decoded
            .map_err(|error| if error == DecodeError::TooManySamples { DecodeError::Length } else { error })?
            != ones
        {
            return Err(DecodeError::Length);
        }
        report.values.resize(start + samples, ABSENT);
        spread(&mut report.values[start..], bitmap, ones);
        report.columns[column].values = start..start + samples;
    }
    Ok(())
}

/// Moves the first `ones` values to where `bitmap` has its ones, from the last on: none is overwritten unread.
fn spread(values: &mut [i64], bitmap: &[u8], ones: usize) {
    let mut next = ones;
    for sample in (0..values.len()).rev() {
        values[sample] = if bitmap[sample / 8] >> (sample % 8) & 1 == 1 {
            next -= 1;
            values[next]
        } else {
            ABSENT
        };
    }
}
