//! Reading a device's samples: closed blocks, runs and memory merged.
//!
//! A read takes one moment of disk and memory and then goes through it block by block, in time order. It holds one decoded
//! block at a time, whatever the range, so memory is bounded by the caller, who may also end the read after any block.

use super::{
    ABSENT, DeviceKey, Store, StoreError, block,
    disk::{self, MonthSpaces},
    memory::Dirty,
    table::Table,
};
use fjall::{Guard, Iter, Readable, Slice, Snapshot};
use std::{
    collections::{BTreeMap, btree_map},
    iter::{Chain, Peekable},
    ops::{ControlFlow, Range},
    option,
    sync::Arc,
    vec,
};

/// Samples of a device, ascending in time, slices of equal length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Milliseconds since 1970.
    pub times_ms: Vec<i64>,
    /// Sequence numbers.
    pub seqs: Vec<u64>,
    /// Outboxes.
    pub boots: Vec<u32>,
    /// Quality codes.
    pub quality: Vec<u8>,
    /// The channels asked for one after the other, a value per sample, [`ABSENT`] where there is none.
    pub values: Vec<i64>,
}

impl Series {
    /// The values of the channel asked for with this index.
    #[must_use]
    pub fn column(&self, index: usize) -> &[i64] {
        let rows = self.times_ms.len();
        self.values.get(index * rows..(index + 1) * rows).unwrap_or_default()
    }
}

/// Consecutive samples of one block, slices of equal length, never empty.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// Milliseconds since 1970.
    pub times_ms: &'a [i64],
    /// Sequence numbers.
    pub seqs: &'a [u64],
    /// Outboxes.
    pub boots: &'a [u32],
    /// Quality codes.
    pub quality: &'a [u8],
    table: &'a Table,
    from_row: usize,
}

impl<'a> Stretch<'a> {
    fn of(table: &'a Table, range_ms: &Range<i64>) -> Option<Self> {
        let at = |time_ms| table.times_ms.partition_point(|&time| time < time_ms);
        let rows = at(range_ms.start)..at(range_ms.end);
        (!rows.is_empty()).then(|| Self {
            times_ms: &table.times_ms[rows.clone()],
            seqs: &table.seqs[rows.clone()],
            boots: &table.boots[rows.clone()],
            quality: &table.quality[rows.clone()],
            table,
            from_row: rows.start,
        })
    }

    /// The values of a channel that was asked for, [`ABSENT`] where there is none; `None` where none of these samples
    /// has one.
    #[must_use]
    pub fn column(&self, channel: u16) -> Option<&'a [i64]> {
        let index = self.table.channels.binary_search(&channel).ok()?;
        Some(&self.table.columns[index][self.from_row..self.from_row + self.times_ms.len()])
    }
}

/// A block as it was found.
enum Piece {
    Encoded(Slice),
    Rows(Arc<Table>),
}

/// What memory knows better than the disk, shared so that neither writer nor reader waits for the other.
struct Overlay {
    snapshot: Snapshot,
    /// By first sample; absent: not to be read from disk.
    blocks: BTreeMap<i64, Option<Piece>>,
}

impl Store {
    /// The samples of a device with `range_ms.start <= time < range_ms.end`, all of them in memory: for ranges that the
    /// caller knows to be small. Others are read with [`visit`](Self::visit).
    ///
    /// # Errors
    /// As [`visit`](Self::visit).
    pub fn scan(
        &self,
        device: DeviceKey,
        range_ms: Range<i64>,
        channels: &[u16],
    ) -> Result<Series, StoreError> {
        let mut columns = vec![Vec::new(); channels.len()];
        let mut series = Series::default();
        // Nothing ends this visit early.
        let _ = self.visit(device, range_ms, channels, |stretch| {
            series.times_ms.extend_from_slice(stretch.times_ms);
            series.seqs.extend_from_slice(stretch.seqs);
            series.boots.extend_from_slice(stretch.boots);
            series.quality.extend_from_slice(stretch.quality);
            for (&channel, column) in channels.iter().zip(&mut columns) {
                match stretch.column(channel) {
                    Some(values) => column.extend_from_slice(values),
                    None => column.resize(series.times_ms.len(), ABSENT),
                }
            }
            ControlFlow::<()>::Continue(())
        })?;
        series.values = columns.concat();
        Ok(series)
    }

    /// Hands the samples of a device with `range_ms.start <= time < range_ms.end` to `take`, ascending in time, at most a
    /// block at once, until all are read or `take` breaks. They are of one moment. Holds one decoded block at a time.
    /// Keeps the writer waiting only while it copies the device's newest, still open block.
    ///
    /// # Errors
    /// [`StoreError::UnknownDevice`], [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn visit<B>(
        &self,
        DeviceKey(device): DeviceKey,
        range_ms: Range<i64>,
        channels: &[u16],
        mut take: impl FnMut(Stretch<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, StoreError> {
        let range_ms = range_ms.start.max(0)..range_ms.end.min(disk::TIME_END_MS);
        let Overlay { snapshot, blocks } = self.overlay(device, range_ms.end)?;
        if range_ms.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let mut wanted = channels.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut pieces = Pieces {
            device,
            range_ms: &range_ms,
            snapshot: &snapshot,
            months: self.disk.months_within(&range_ms).into_iter(),
            in_month: None,
            stored: None,
            changed: blocks.into_iter().peekable(),
        };
        while let Some((first_ms, piece)) = pieces.next()? {
            let decoded;
            let table = match &piece {
                Piece::Encoded(bytes) => {
                    decoded = block::decode(bytes, first_ms, Some(&wanted))?;
                    &decoded
                }
                Piece::Rows(table) => &**table,
            };
            if let Some(stretch) = Stretch::of(table, &range_ms)
                && let ControlFlow::Break(end) = take(stretch)
            {
                return Ok(ControlFlow::Break(end));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What memory has of a device before `end_ms`. Closed blocks are bounded by what may be unwritten.
    fn overlay(&self, device: u32, end_ms: i64) -> Result<Overlay, StoreError> {
        let memory = self.memory_ref();
        let head = memory.heads.get(device as usize).ok_or(StoreError::UnknownDevice(device))?;
        let mut blocks: BTreeMap<i64, Option<Piece>> = (memory.blocks)
            .range((device, i64::MIN)..(device, end_ms.max(0)))
            .map(|(&(_, first_ms), block)| {
                let piece = match block {
                    Dirty::Removed => None,
                    Dirty::Encoded(bytes) => Some(Piece::Encoded(bytes.clone())),
                    Dirty::Rows(table) => Some(Piece::Rows(Arc::clone(table))),
                };
                (first_ms, piece)
            })
            .collect();
        if let Some(table) = &head.pending
            && let Some(first_ms) = table.first_ms()
            && first_ms < end_ms
        {
            blocks.insert(first_ms, Some(Piece::Rows(Arc::new((**table).clone()))));
        }
        Ok(Overlay { snapshot: self.disk.db.snapshot(), blocks })
    }
}

/// A month's blocks on disk in the range, the one in which the range starts first.
type InMonth = Chain<option::IntoIter<Guard>, Iter>;

/// All blocks that may have samples in the range, ascending; they do not overlap. Those on disk and those in memory
/// are merged while they are read.
struct Pieces<'a> {
    device: u32,
    range_ms: &'a Range<i64>,
    snapshot: &'a Snapshot,
    months: vec::IntoIter<MonthSpaces>,
    in_month: Option<InMonth>,
    /// The next block on disk.
    stored: Option<(i64, Slice)>,
    changed: Peekable<btree_map::IntoIter<i64, Option<Piece>>>,
}

impl Pieces<'_> {
    fn next(&mut self) -> Result<Option<(i64, Piece)>, StoreError> {
        loop {
            if self.stored.is_none() {
                self.stored = self.next_stored()?;
            }
            let stored_ms = self.stored.as_ref().map(|(first_ms, _)| *first_ms);
            let changed_ms = self.changed.peek().map(|(first_ms, _)| *first_ms);
            if let Some(stored_ms) = stored_ms
                && changed_ms.is_none_or(|changed_ms| stored_ms <= changed_ms)
            {
                let stored = self.stored.take();
                // Memory knows it better.
                if changed_ms == Some(stored_ms) {
                    continue;
                }
                return Ok(stored.map(|(first_ms, bytes)| (first_ms, Piece::Encoded(bytes))));
            }
            match self.changed.next() {
                Some((first_ms, Some(piece))) => return Ok(Some((first_ms, piece))),
                Some((_, None)) => {}
                None => return Ok(None),
            }
        }
    }

    fn next_stored(&mut self) -> Result<Option<(i64, Slice)>, StoreError> {
        loop {
            if let Some(block) = self.in_month.as_mut().and_then(Iterator::next) {
                let (key, bytes) = block.into_inner()?;
                return Ok(Some((disk::first_ms_of(&key)?, bytes)));
            }
            let Some(MonthSpaces { blocks, .. }) = self.months.next() else { return Ok(None) };
            let key = |first_ms| disk::block_key(self.device, first_ms);
            // The block in which the range starts begins at or before it.
            let start = key(self.range_ms.start);
            let before = self.snapshot.range(&blocks, key(0)..start).next_back();
            let within = self.snapshot.range(&blocks, start..key(self.range_ms.end));
            self.in_month = Some(before.into_iter().chain(within));
        }
    }
}
