//! What is not yet on disk, and what must be known of each device to write without reading.

use super::{
    Conflict, DeviceKey, Options, Rows, StoreError, WriteOutcome,
    block::{self, CLOSED, Header},
    catalog::Catalog,
    disk::{self, Disk, Month},
    quarantine::Quarantine,
    rollup::Rollups,
    table::Table,
};
use fjall::Slice;
use smallvec::SmallVec;
use std::{collections::BTreeMap, sync::Arc};

/// A closed block that differs from what is on disk.
#[derive(Debug, Clone)]
pub(super) enum Dirty {
    /// To be deleted.
    Removed,
    Encoded(Slice),
    /// Late samples go here, so that the next of them does not decode it again. Shared with readers, so that they copy
    /// nothing; the writer copies a table only while one of them holds it.
    Rows(Arc<Table>),
}

impl Dirty {
    pub(super) fn bytes(&self) -> usize {
        64 + match self {
            Self::Removed => 0,
            Self::Encoded(bytes) => bytes.len(),
            Self::Rows(table) => table.bytes(),
        }
    }
}

/// A small block on disk, part of an open one: 48 bits of its first sample's time, 13 of its number of rows, 3 of its level.
/// A city has a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run(u64);

impl Run {
    /// None of what this store writes lies beyond these bounds: a time before [`disk::TIME_END_MS`], at most
    /// [`block::ROWS_MAX`] rows, and at each level eight times the rows of the one below.
    pub(super) fn new(first_ms: i64, rows: usize, level: u8) -> Result<Self, StoreError> {
        const CORRUPT: StoreError = StoreError::Corrupt { what: "run" };
        let (Ok(first_ms), Ok(rows)) = (u64::try_from(first_ms), u64::try_from(rows)) else {
            return Err(CORRUPT);
        };
        if first_ms >> 48 != 0 || rows >> 13 != 0 || level >> 3 != 0 {
            return Err(CORRUPT);
        }
        Ok(Self(first_ms << 16 | rows << 3 | u64::from(level)))
    }

    pub(super) fn first_ms(self) -> i64 {
        (self.0 >> 16).cast_signed()
    }

    pub(super) fn rows(self) -> usize {
        usize::try_from((self.0 >> 3) & 0x1fff).unwrap_or(usize::MAX)
    }

    pub(super) fn level(self) -> u8 {
        self.0.to_le_bytes()[0] & 7
    }
}

/// The runs of an open block: nearly always a few.
pub(super) type Runs = SmallVec<[Run; 2]>;

/// A device's open block: its runs on disk, then what came since. All closed samples are older, or of other months.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Nothing is known of it before the first write.
    pub(super) loaded: bool,
    /// The device's newest sample, open or closed; below 0: none.
    pub(super) last_ms: i64,
    /// Where the open block's month ends.
    pub(super) month_end_ms: i64,
    /// Ascending and disjoint.
    pub(super) runs: Runs,
    /// Later than all runs.
    pub(super) pending: Option<Box<Table>>,
    /// Is it in [`Memory::pending`]?
    pub(super) listed: bool,
}

impl Head {
    pub(super) fn new_device() -> Self {
        Self { loaded: true, last_ms: -1, ..Self::default() }
    }

    pub(super) fn rows(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |table| table.len());
        self.runs.iter().map(|run| run.rows()).sum::<usize>() + pending
    }

    /// The first sample of the open block, where there is one.
    pub(super) fn first_ms(&self) -> Option<i64> {
        let run = self.runs.first().map(|run| run.first_ms());
        run.or_else(|| self.pending.as_ref().and_then(|table| table.first_ms()))
    }
}

pub(super) struct Memory {
    pub(super) block_rows: usize,
    /// By device key.
    pub(super) heads: Vec<Head>,
    /// Devices whose head has, or had, something pending; each once.
    pub(super) pending: Vec<u32>,
    /// By device and first sample.
    pub(super) blocks: BTreeMap<(u32, i64), Dirty>,
    /// What all that is unwritten takes, about.
    pub(super) bytes: usize,
    pub(super) catalog: Catalog,
    pub(super) rollups: Rollups,
    pub(super) quarantine: Quarantine,
}

impl Memory {
    pub(super) fn load(disk: &Disk, options: &Options) -> Result<Self, StoreError> {
        let catalog = Catalog::load(disk)?;
        let mut heads = Vec::new();
        heads.resize_with(catalog.len(), Head::default);
        Ok(Self {
            block_rows: options.block_rows,
            heads,
            pending: Vec::new(),
            blocks: BTreeMap::new(),
            bytes: 0,
            catalog,
            rollups: Rollups::default(),
            quarantine: Quarantine::load(disk, options.quarantine)?,
        })
    }

    /// Splits a write into what goes in order behind the newest sample, and the rest.
    pub(super) fn write(
        &mut self,
        disk: &Disk,
        DeviceKey(device): DeviceKey,
        rows: &Rows<'_>,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<WriteOutcome, StoreError> {
        let mut outcome = WriteOutcome::default();
        self.load_head(disk, device)?;
        let last_ms = self.heads[device as usize].last_ms;
        let in_order = rows.times_ms.is_sorted_by(|left, right| left < right);
        if in_order && rows.times_ms.first().is_some_and(|&time_ms| time_ms > last_ms) {
            let stored = self.append(disk, device, rows, 0..rows.times_ms.len())?;
            outcome.stored += stored;
        } else {
            self.write_late(disk, device, rows, &mut outcome, conflicts)?;
        }
        Ok(outcome)
    }

    /// Finds the open block's runs: the last blocks of the device, back to one that is closed.
    fn load_head(&mut self, disk: &Disk, device: u32) -> Result<(), StoreError> {
        let head = self.heads.get_mut(device as usize).ok_or(StoreError::UnknownDevice(device))?;
        if head.loaded {
            return Ok(());
        }
        let mut loaded = Head::new_device();
        for (month, spaces) in disk.months().into_iter().rev() {
            let range = disk::block_key(device, 0)..=disk::block_key(device, i64::MAX);
            for block in spaces.blocks.range(range).rev() {
                let (key, bytes) = block.into_inner()?;
                let first_ms = disk::first_ms_of(&key)?;
                let Header { level, rows, span_ms } = block::header(&bytes)?;
                loaded.last_ms = loaded.last_ms.max(first_ms + span_ms);
                if level == CLOSED {
                    break;
                }
                loaded.runs.push(Run::new(first_ms, rows, level)?);
                loaded.month_end_ms = month.end_ms();
            }
            if loaded.last_ms >= 0 {
                break;
            }
        }
        loaded.runs.reverse();
        loaded.runs.shrink_to_fit();
        *head = loaded;
        Ok(())
    }

    /// Decodes a device's blocks on disk and joins them.
    pub(super) fn read_runs(disk: &Disk, device: u32, runs: &[Run]) -> Result<Table, StoreError> {
        let mut table = Table::default();
        let Some(first) = runs.first() else { return Ok(table) };
        let spaces = disk.month(Month::of(first.first_ms()))?;
        for run in runs {
            let bytes = (spaces.blocks.get(disk::block_key(device, run.first_ms()))?)
                .ok_or(StoreError::Corrupt { what: "run" })?;
            table.append(&block::decode(&bytes, run.first_ms(), None)?);
        }
        Ok(table)
    }

    /// Has the next checkpoint look at this device.
    pub(super) fn list(&mut self, device: u32) {
        let head = &mut self.heads[device as usize];
        if !std::mem::replace(&mut head.listed, true) {
            self.pending.push(device);
        }
    }

    pub(super) fn put_block(&mut self, device: u32, first_ms: i64, block: Dirty) {
        self.bytes += block.bytes();
        if let Some(before) = self.blocks.insert((device, first_ms), block) {
            self.bytes = self.bytes.saturating_sub(before.bytes());
        }
    }

    pub(super) fn encoded(table: &Table, level: u8) -> Result<Slice, StoreError> {
        let mut bytes = Vec::with_capacity(64 + table.len() * (1 + 2 * table.channels.len()));
        block::encode(table, level, &mut bytes)?;
        Ok(bytes.into())
    }
}
