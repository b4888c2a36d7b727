//! The fjall database below: which keyspaces there are, how keys look, what is synced when.
//!
//! One pair of keyspaces a month (UTC) holds blocks and rollups, so that retention is a matter of deleting folders. Catalog,
//! quarantine and a small `meta` (format version, cursor) stand beside them.
//!
//! Bounds: 128 months (more is refused); 4 MiB a memtable, and all memtables together about as much as the 64 MiB
//! that fjall's own journal may take before it flushes the stragglers; block cache and open tables as configured.

use super::{
    Options, StoreError,
    format::{self, FORMAT},
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy},
};
use hunhe_disk::{FormatError, NewerFormat};
use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{PoisonError, RwLock},
};

/// Ten years of months and a few.
const MONTHS_MAX: usize = 128;
/// The year 9999.
pub(super) const TIME_END_MS: i64 = 253_370_764_800_000;
const MEMTABLE_BYTES: u64 = 4 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;

/// A month of a year, counted from year 0; UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(i32);

impl Month {
    /// The month of a time in milliseconds since 1970; times out of `0..TIME_END_MS` count as the nearest in it.
    pub(super) fn of(time_ms: i64) -> Self {
        let time =
            Timestamp::from_millisecond(time_ms.clamp(0, TIME_END_MS - 1)).unwrap_or(Timestamp::UNIX_EPOCH);
        let date = TimeZone::UTC.to_datetime(time).date();
        Self(i32::from(date.year()) * 12 + i32::from(date.month()) - 1)
    }

    fn year_and_month(self) -> (i32, i32) {
        (self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    /// Its first millisecond.
    pub(super) fn start_ms(self) -> i64 {
        let (year, month) = self.year_and_month();
        let (year, month) = (i16::try_from(year), i8::try_from(month));
        let date = year.ok().zip(month.ok()).and_then(|(year, month)| Date::new(year, month, 1).ok());
        let midnight = date.map(|date| date.to_datetime(Time::midnight()));
        let time = midnight.and_then(|midnight| TimeZone::UTC.to_timestamp(midnight).ok());
        time.map_or(TIME_END_MS, Timestamp::as_millisecond)
    }

    /// The first millisecond after it.
    pub(super) fn end_ms(self) -> i64 {
        Self(self.0 + 1).start_ms()
    }

    pub(super) fn contains(self, time_ms: i64) -> bool {
        (self.start_ms()..self.end_ms()).contains(&time_ms)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (year, month) = name.split_once('-')?;
        Some(Self(year.parse::<i32>().ok()? * 12 + month.parse::<i32>().ok()? - 1))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = self.year_and_month();
        write!(f, "{year:04}-{month:02}")
    }
}

/// A month's keyspaces.
#[derive(Clone)]
pub(super) struct MonthSpaces {
    pub(super) blocks: Keyspace,
    pub(super) rollups: Keyspace,
}

pub(super) struct Disk {
    pub(super) db: Database,
    pub(super) meta: Keyspace,
    pub(super) catalog: Keyspace,
    pub(super) quarantine: Keyspace,
    months: RwLock<BTreeMap<Month, MonthSpaces>>,
    lz4: bool,
}

impl Disk {
    pub(super) fn open(options: &Options) -> Result<Self, StoreError> {
        // The database writes when it is opened.
        super::refuse_newer(&*hunhe_disk::real(), &options.dir)?;
        let db = Database::builder(&options.dir)
            .worker_threads(1)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(options.open_tables))
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let is_new = db.keyspace_count() == 0;
        let small = || space_options(false).max_memtable_size(MEMTABLE_BYTES);
        let meta = db.keyspace("meta", small)?;
        // A kill may come between a keyspace and what is written into it.
        if is_new || db.keyspace_count() == 1 && meta.is_empty()? {
            meta.insert("format", FORMAT.to_be_bytes())?;
            db.persist(PersistMode::SyncAll)?;
        }
        check_format(&meta, options)?;
        format::mark(&*hunhe_disk::real(), &options.dir)?;
        let disk = Self {
            catalog: db.keyspace("catalog", small)?,
            quarantine: db.keyspace("quarantine", small)?,
            meta,
            months: RwLock::default(),
            lz4: options.lz4,
            db,
        };
        for name in disk.db.list_keyspace_names() {
            if let Some(month) = name.strip_prefix("blocks-").and_then(Month::from_name) {
                disk.create_month(month)?;
            }
        }
        Ok(disk)
    }

    fn create_month(&self, month: Month) -> Result<MonthSpaces, StoreError> {
        let mut months = self.months.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(spaces) = months.get(&month) {
            return Ok(spaces.clone());
        }
        if months.len() >= MONTHS_MAX {
            return Err(StoreError::TooManyMonths { month, months_max: MONTHS_MAX });
        }
        let options = || space_options(self.lz4).max_memtable_size(MEMTABLE_BYTES);
        let spaces = MonthSpaces {
            blocks: self.db.keyspace(&format!("blocks-{month}"), options)?,
            rollups: self.db.keyspace(&format!("rollups-{month}"), options)?,
        };
        months.insert(month, spaces.clone());
        Ok(spaces)
    }

    /// The month's keyspaces, made where they are missing.
    pub(super) fn month(&self, month: Month) -> Result<MonthSpaces, StoreError> {
        match self.existing(month) {
            Some(spaces) => Ok(spaces),
            None => self.create_month(month),
        }
    }

    pub(super) fn existing(&self, month: Month) -> Option<MonthSpaces> {
        self.months.read().unwrap_or_else(PoisonError::into_inner).get(&month).cloned()
    }

    /// All months there are, oldest first.
    pub(super) fn months(&self) -> Vec<(Month, MonthSpaces)> {
        let months = self.months.read().unwrap_or_else(PoisonError::into_inner);
        months.iter().map(|(&month, spaces)| (month, spaces.clone())).collect()
    }

    /// The months that a range which is not empty touches, oldest first.
    pub(super) fn months_within(&self, range_ms: &Range<i64>) -> Vec<MonthSpaces> {
        let months = self.months.read().unwrap_or_else(PoisonError::into_inner);
        let touched = Month::of(range_ms.start)..=Month::of(range_ms.end - 1);
        months.range(touched).map(|(_, spaces)| spaces.clone()).collect()
    }

    /// Deletes a month's keyspaces; their files go once the last reader is done.
    pub(super) fn drop_month(&self, month: Month) -> Result<(), StoreError> {
        let removed = self.months.write().unwrap_or_else(PoisonError::into_inner).remove(&month);
        if let Some(MonthSpaces { blocks, rollups }) = removed {
            // The blocks' name alone makes a month exist, so it goes last.
            self.db.delete_keyspace(rollups)?;
            self.db.delete_keyspace(blocks)?;
        }
        Ok(())
    }

    pub(super) fn cursor(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.meta.get("cursor")?.map(|bytes| bytes.to_vec()))
    }
}

impl MonthSpaces {
    /// Bytes in tables; what is still in memtables is not among them.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.disk_space() + self.rollups.disk_space()
    }
}

fn space_options(lz4: bool) -> KeyspaceCreateOptions {
    let compression = if lz4 { CompressionType::Lz4 } else { CompressionType::None };
    KeyspaceCreateOptions::default()
        .data_block_size_policy(BlockSizePolicy::all(16 << 10))
        .data_block_compression_policy(CompressionPolicy::all(compression))
}

pub(super) fn check_format(meta: &Keyspace, options: &Options) -> Result<(), StoreError> {
    let stored = meta.get("format")?;
    let found = stored.as_deref().and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            let newer = NewerFormat { path: options.dir.clone(), found, known: FORMAT };
            Err(FormatError::from(newer).into())
        }
        _ => Err(StoreError::Corrupt { what: "format" }),
    }
}

/// Where a block lies within its month: the device, then the time of its first sample.
pub(super) fn block_key(device: u32, first_ms: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&device.to_be_bytes());
    key[4..].copy_from_slice(&first_ms.to_be_bytes());
    key
}

/// The first sample's time in a block's key.
pub(super) fn first_ms_of(key: &[u8]) -> Result<i64, StoreError> {
    let bytes = key.get(4..).and_then(|bytes| bytes.try_into().ok());
    bytes.map(i64::from_be_bytes).ok_or(StoreError::Corrupt { what: "block key" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_utc_and_join_without_gaps() {
        assert_eq!(Month::of(1_677_628_799_999).to_string(), "2023-02");
        assert_eq!(Month::of(1_677_628_800_000).to_string(), "2023-03");
        assert_eq!(Month::of(0).start_ms(), 0);
        let mut month = Month::of(0);
        for _ in 0..2400 {
            let next = Month::of(month.end_ms());
            assert_eq!(next.start_ms(), month.end_ms());
            assert_eq!(Month::from_name(&month.to_string()), Some(month));
            assert_eq!(Month::of(next.start_ms() - 1), month);
            month = next;
        }
    }
}
