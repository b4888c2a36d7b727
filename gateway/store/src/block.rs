//! A block's bytes: samples of one device within a month (UTC), as columns.
//!
//! ```text
//! level     u8       0…: a run of the open block, merged that many times; 255: closed
//! rows      varint
//! span      varint   last time minus first; the first is the block's key
//! times     varint step, column of what differs from the even axis, left empty where nothing does
//! seqs      varint first, column of what differs from first, first + 1, …, left empty where nothing does
//! boots     runs of u32
//! quality   runs of u8
//! channels  varint count, then each: varint distance from the one before, varint flags, [bitmap], column
//! ```
//! A column is `hunhe_proto::column`'s, the one on the wire, preceded by its length as a varint. Flag bit 0 of a channel: some
//! samples lack it, and a bitmap (one bit a row, least significant first) says which have it. Runs: varint count,
//! then each value followed by a varint length, which the only run leaves out.
//!
//! Deliberately absent: a checksum. The tables and the journal below carry one.

use super::{ABSENT, table::Table};
use hunhe_proto::column;

/// A block that no append extends any more; only late data revises it.
pub(super) const CLOSED: u8 = u8::MAX;
/// The most rows a block can have.
pub(super) const ROWS_MAX: usize = 4096;

/// Bytes that are no block, and which part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// What can be known of a block without decoding its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) level: u8,
    pub(super) rows: usize,
    pub(super) span_ms: i64,
}

/// Appends the block of a table of at least one row. Fails where a value or seq reaches 2^53, which `write` refuses.
pub(super) fn encode(table: &Table, level: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (Some(first_ms), Some(last_ms)) = (table.first_ms(), table.last_ms()) else {
        return Err(Malformed("rows"));
    };
    let mut scratch = Scratch::default();
    out.push(level);
    varint(table.len() as u64, out);
    varint(last_ms.abs_diff(first_ms), out);

    let step = usual_step(&table.times_ms);
    varint(step.unsigned_abs(), out);
    let off_axis = |row: usize, time_ms: i64| time_ms - first_ms - step * signed(row);
    scratch
        .residuals(table.times_ms.iter().enumerate().map(|(row, &time_ms)| off_axis(row, time_ms)), out)?;

    let first_seq = table.seqs[0];
    varint(first_seq, out);
    let off_count = |row: usize, seq: u64| seq.cast_signed() - first_seq.cast_signed() - signed(row);
    scratch.residuals(table.seqs.iter().enumerate().map(|(row, &seq)| off_count(row, seq)), out)?;

    runs(&table.boots, |boot, out| out.extend_from_slice(&boot.to_le_bytes()), out);
    runs(&table.quality, |quality, out| out.push(quality), out);

    let filled = || {
        table.channels.iter().zip(&table.columns).filter(|(_, column)| column.iter().any(|&v| v != ABSENT))
    };
    varint(filled().count() as u64, out);
    let mut before = 0;
    for (&channel, values) in filled() {
        varint(u64::from(channel - before), out);
        before = channel;
        scratch.channel(values, out)?;
    }
    Ok(())
}

#[derive(Default)]
struct Scratch {
    values: Vec<i64>,
    bytes: Vec<u8>,
}

impl Scratch {
    fn residuals(&mut self, values: impl Iterator<Item = i64>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.values.clear();
        self.values.extend(values);
        if self.values.iter().all(|&value| value == 0) {
            self.values.clear();
        }
        self.column(out)
    }

    fn channel(&mut self, values: &[i64], out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.values.clear();
        self.values.extend(values.iter().filter(|&&value| value != ABSENT));
        let some_absent = self.values.len() < values.len();
        out.push(u8::from(some_absent));
        if some_absent {
            for rows in values.chunks(8) {
                out.push(rows.iter().rev().fold(0, |bits, &value| bits << 1 | u8::from(value != ABSENT)));
            }
        }
        self.column(out)
    }

    fn column(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.bytes.clear();
        column::encode(&self.values, &mut self.bytes).map_err(|_| Malformed("value"))?;
        varint(self.bytes.len() as u64, out);
        out.extend_from_slice(&self.bytes);
        Ok(())
    }
}

/// Reads what stands before the columns.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Malformed> {
    Reader(bytes).header()
}

/// Decodes the block that begins at `first_ms`. `channels`: which to decode, ascending; all where absent.
pub(super) fn decode(bytes: &[u8], first_ms: i64, channels: Option<&[u16]>) -> Result<Table, Malformed> {
    let mut reader = Reader(bytes);
    let Header { rows, .. } = reader.header()?;
    let mut table = Table::default();

    let step = reader.signed("step")?;
    reader.residuals(rows, "times", &mut table.times_ms)?;
    for (row, time_ms) in table.times_ms.iter_mut().enumerate() {
        *time_ms = (step.checked_mul(signed(row)))
            .and_then(|even| even.checked_add(first_ms)?.checked_add(*time_ms))
            .ok_or(Malformed("times"))?;
    }

    let first_seq = reader.signed("seqs")?;
    let mut seqs = Vec::with_capacity(rows);
    reader.residuals(rows, "seqs", &mut seqs)?;
    for (row, &residual) in seqs.iter().enumerate() {
        let seq = first_seq.checked_add(signed(row)).and_then(|even| even.checked_add(residual));
        table.seqs.push(seq.and_then(|seq| u64::try_from(seq).ok()).ok_or(Malformed("seqs"))?);
    }

    reader.runs(rows, "boots", &mut table.boots, |reader| {
        Ok(u32::from_le_bytes(reader.take(4, "boots")?.try_into().map_err(|_| Malformed("boots"))?))
    })?;
    reader.runs(rows, "quality", &mut table.quality, |reader| reader.byte("quality"))?;

    let mut channel = 0_u64;
    for _ in 0..reader.varint("channels")? {
        channel += reader.varint("channels")?.min(1 << 16);
        let id = u16::try_from(channel).map_err(|_| Malformed("channels"))?;
        let bitmap =
            if reader.byte("flags")? & 1 == 1 { reader.take(rows.div_ceil(8), "bitmap")? } else { &[] };
        let column = reader.bytes("channel")?;
        if channels.is_none_or(|wanted| wanted.binary_search(&id).is_ok()) {
            table.channels.push(id);
            table.columns.push(channel_values(column, bitmap, rows)?);
        }
    }
    Ok(table)
}

fn channel_values(column: &[u8], bitmap: &[u8], rows: usize) -> Result<Vec<i64>, Malformed> {
    let mut present = Vec::with_capacity(rows);
    column::decode(column, &mut present, rows).map_err(|_| Malformed("channel"))?;
    if !bitmap.is_empty() {
        let has = |row: &usize| bitmap[row / 8] >> (row % 8) & 1 == 1;
        if (0..rows).filter(has).count() != present.len() {
            return Err(Malformed("bitmap"));
        }
        let mut values = present.into_iter();
        return Ok((0..rows)
            .map(|row| if has(&row) { values.next() } else { None }.unwrap_or(ABSENT))
            .collect());
    }
    if present.len() == rows { Ok(present) } else { Err(Malformed("channel")) }
}

/// The step that most pairs of neighbours have, where one has the majority: one pass, no memory.
fn usual_step(times_ms: &[i64]) -> i64 {
    let (mut candidate, mut votes) = (0, 0_u32);
    for pair in times_ms.windows(2) {
        let step = pair[1] - pair[0];
        if step == candidate {
            votes += 1;
        } else if votes == 0 {
            (candidate, votes) = (step, 1);
        } else {
            votes -= 1;
        }
    }
    candidate
}

/// Rows are far fewer than 2^63.
fn signed(row: usize) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn runs<T: Copy + PartialEq>(values: &[T], put: impl Fn(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    let chunks = || values.chunk_by(|left, right| left == right);
    let count = chunks().count();
    varint(count as u64, out);
    for run in chunks() {
        put(run[0], out);
        if count > 1 {
            varint(run.len() as u64, out);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn header(&mut self) -> Result<Header, Malformed> {
        let level = self.byte("level")?;
        let rows = self.length("rows")?;
        if rows == 0 || rows > ROWS_MAX {
            return Err(Malformed("rows"));
        }
        Ok(Header { level, rows, span_ms: self.signed("span")? })
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(byte)
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(what))
    }

    fn signed(&mut self, what: &'static str) -> Result<i64, Malformed> {
        i64::try_from(self.varint(what)?).map_err(|_| Malformed(what))
    }

    fn length(&mut self, what: &'static str) -> Result<usize, Malformed> {
        usize::try_from(self.varint(what)?).map_err(|_| Malformed(what))
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.length(what)?;
        self.take(length, what)
    }

    fn residuals(&mut self, rows: usize, what: &'static str, out: &mut Vec<i64>) -> Result<(), Malformed> {
        let column = self.bytes(what)?;
        out.reserve(rows);
        if column.is_empty() {
            out.resize(rows, 0);
            return Ok(());
        }
        match column::decode(column, out, rows) {
            Ok(count) if count == rows => Ok(()),
            _ => Err(Malformed(what)),
        }
    }

    fn runs<T: Copy>(
        &mut self,
        rows: usize,
        what: &'static str,
        out: &mut Vec<T>,
        mut value: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<(), Malformed> {
        let count = self.length(what)?;
        for _ in 0..count {
            let value = value(self)?;
            let length = if count == 1 { rows } else { self.length(what)? };
            if length > rows - out.len() {
                return Err(Malformed(what));
            }
            out.resize(out.len() + length, value);
        }
        if out.len() == rows { Ok(()) } else { Err(Malformed(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(table: &Table, level: u8) -> Vec<u8> {
        let mut out = Vec::new();
        encode(table, level, &mut out).unwrap();
        out
    }

    fn table() -> impl Strategy<Value = Table> {
        let value = prop_oneof![3 => Just(ABSENT), 5 => -1000..1000_i64, 1 => 1 - (1_i64 << 53)..1 << 53];
        let row = (
            prop_oneof![4 => Just(900_000_i64), 1 => 1..5_000_000_i64],
            prop_oneof![4 => 0..3_u64, 1 => 0..1_u64 << 53],
            prop_oneof![4 => Just(7_u32), 1 => any::<u32>()],
            prop_oneof![4 => Just(1_u8), 1 => any::<u8>()],
            prop::collection::vec(value, 3),
        );
        (0..1_i64 << 44, prop::collection::vec(row, 1..80)).prop_map(|(mut time_ms, rows)| {
            let mut table =
                Table { channels: vec![0, 5, 65_535], columns: vec![vec![]; 3], ..Table::default() };
            for (row, (step, seq, boot, quality, values)) in rows.into_iter().enumerate() {
                table.times_ms.push(time_ms);
                table.seqs.push((seq + row as u64) % (1 << 53));
                table.boots.push(boot);
                table.quality.push(quality);
                (0..3).for_each(|at| table.columns[at].push(values[at]));
                time_ms += step;
            }
            for at in
                (0..3).rev().filter(|&at| table.columns[at].iter().all(|&v| v == ABSENT)).collect::<Vec<_>>()
            {
                table.channels.remove(at);
                table.columns.remove(at);
            }
            table
        })
    }

    proptest! {
        #[test]
        fn any_table_comes_back(table in table(), level: u8) {
            let bytes = encoded(&table, level);
            let first_ms = table.times_ms[0];
            let span_ms = table.last_ms().unwrap() - first_ms;
            prop_assert_eq!(header(&bytes), Ok(Header { level, rows: table.len(), span_ms }));
            prop_assert_eq!(decode(&bytes, first_ms, None), Ok(table.clone()));
            let one = decode(&bytes, first_ms, Some(&[5])).unwrap();
            prop_assert!(one.channels.iter().all(|&channel| channel == 5));
            prop_assert_eq!(one.times_ms, table.times_ms);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0..90_usize, table in table()) {
            let _ = decode(&bytes, 0, None);
            let mut damaged = encoded(&table, 0);
            let at = at % damaged.len();
            damaged[at] = damaged[at].wrapping_add(1);
            let _ = decode(&damaged, table.times_ms[0], None);
        }
    }

    /// A day of hourly registers is what a meter sends; its axis and its sequence cost nothing but their beginnings.
    #[test]
    fn an_even_day_costs_its_values_and_twenty_five_bytes() {
        let table = Table {
            times_ms: (0..24).map(|hour| 1_700_000_000_000 + hour * 3_600_000).collect(),
            seqs: (9000..9024).collect(),
            boots: vec![3; 24],
            quality: vec![1; 24],
            channels: vec![1],
            columns: vec![vec![81_234; 24]],
        };
        let mut column = Vec::new();
        column::encode(&table.columns[0], &mut column).unwrap();
        assert_eq!(encoded(&table, CLOSED).len() - column.len(), 25);
    }
}
