//! Reading a device's samples: closed blocks, runs and memory merged.

use super::{
    ABSENT, DeviceKey, Store, StoreError, block,
    disk::{self, Month},
    memory::Dirty,
    table::Table,
};
use fjall::{Readable, Slice, Snapshot};
use std::{collections::BTreeMap, ops::Range};

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

enum Piece {
    Encoded(Slice),
    Rows(Table),
}

/// What memory knows better than the disk, copied so that the writer need not wait for the reader.
struct Overlay {
    snapshot: Snapshot,
    /// By first sample; absent: not to be read from disk.
    blocks: BTreeMap<i64, Option<Piece>>,
}

impl Store {
    /// The samples of a device with `range_ms.start <= time < range_ms.end`. Keeps the writer waiting only while it
    /// copies what is unwritten of this device.
    ///
    /// # Errors
    /// [`StoreError::UnknownDevice`], [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn scan(
        &self,
        DeviceKey(device): DeviceKey,
        range_ms: Range<i64>,
        channels: &[u16],
    ) -> Result<Series, StoreError> {
        let range_ms = range_ms.start.max(0)..range_ms.end.min(disk::TIME_END_MS);
        let overlay = self.overlay(device)?;
        let mut wanted = channels.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut columns = vec![Vec::new(); channels.len()];
        let mut series = Series::default();
        if !range_ms.is_empty() {
            for (first_ms, piece) in self.pieces(device, &range_ms, overlay)? {
                let table = match piece {
                    Piece::Encoded(bytes) => block::decode(&bytes, first_ms, Some(&wanted))?,
                    Piece::Rows(table) => table,
                };
                take_rows(&table, &range_ms, channels, &mut series, &mut columns);
            }
        }
        series.values = columns.concat();
        Ok(series)
    }

    fn overlay(&self, device: u32) -> Result<Overlay, StoreError> {
        let memory = self.memory_ref();
        let head = memory.heads.get(device as usize).ok_or(StoreError::UnknownDevice(device))?;
        let mut blocks: BTreeMap<i64, Option<Piece>> = (memory.blocks)
            .range((device, i64::MIN)..=(device, i64::MAX))
            .map(|(&(_, first_ms), block)| {
                let piece = match block {
                    Dirty::Removed => None,
                    Dirty::Encoded(bytes) => Some(Piece::Encoded(bytes.clone())),
                    Dirty::Rows(table) => Some(Piece::Rows(table.clone())),
                };
                (first_ms, piece)
            })
            .collect();
        if let Some(table) = &head.pending
            && let Some(first_ms) = table.first_ms()
        {
            blocks.insert(first_ms, Some(Piece::Rows((**table).clone())));
        }
        Ok(Overlay { snapshot: self.disk.db.snapshot(), blocks })
    }

    /// All pieces that may have samples in the range, by first sample. They do not overlap.
    fn pieces(
        &self,
        device: u32,
        range_ms: &Range<i64>,
        Overlay { snapshot, blocks }: Overlay,
    ) -> Result<BTreeMap<i64, Piece>, StoreError> {
        let (first_month, last_month) = (Month::of(range_ms.start), Month::of(range_ms.end - 1));
        let mut pieces = BTreeMap::new();
        for (month, spaces) in self.disk.months() {
            if month < first_month || month > last_month {
                continue;
            }
            // The block in which the range starts begins at or before it.
            let key_from = disk::block_key(device, 0);
            let key_start = disk::block_key(device, range_ms.start);
            let before = snapshot.range(&spaces.blocks, key_from..=key_start).next_back();
            let within = snapshot
                .range(&spaces.blocks, key_start..disk::block_key(device, range_ms.end))
                .chain(before);
            for stored in within {
                let (key, bytes) = stored.into_inner()?;
                let first_ms = disk::first_ms_of(&key)?;
                if !blocks.contains_key(&first_ms) {
                    pieces.insert(first_ms, Piece::Encoded(bytes));
                }
            }
        }
        let changed = blocks.into_iter().filter(|(first_ms, _)| *first_ms < range_ms.end);
        pieces.extend(changed.filter_map(|(first_ms, piece)| Some((first_ms, piece?))));
        Ok(pieces)
    }
}

fn take_rows(
    table: &Table,
    range_ms: &Range<i64>,
    channels: &[u16],
    series: &mut Series,
    columns: &mut [Vec<i64>],
) {
    let at = |time_ms| table.times_ms.partition_point(|&time| time < time_ms);
    let rows = at(range_ms.start)..at(range_ms.end);
    series.times_ms.extend_from_slice(&table.times_ms[rows.clone()]);
    series.seqs.extend_from_slice(&table.seqs[rows.clone()]);
    series.boots.extend_from_slice(&table.boots[rows.clone()]);
    series.quality.extend_from_slice(&table.quality[rows.clone()]);
    for (&channel, column) in channels.iter().zip(columns) {
        match table.channels.binary_search(&channel) {
            Ok(index) => column.extend_from_slice(&table.columns[index][rows.clone()]),
            Err(_) => column.resize(column.len() + rows.len(), ABSENT),
        }
    }
}
