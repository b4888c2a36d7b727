//! What is old goes, by whole months: its keyspaces are deleted, and what memory holds of it is forgotten.
//!
//! The samples that went are counted, by why they went. The count of a month is on disk before the month goes, as pending;
//! it joins the totals when the month is gone, at the latest when the store is opened again. So a crash between neither
//! loses nor doubles it.

use super::{
    Store, StoreError, block,
    disk::{Disk, Month, MonthSpaces},
    memory::Memory,
};
use fjall::PersistMode;
use std::sync::{PoisonError, atomic::Ordering};

const DAY_MS: i64 = 86_400_000;
const KEY: &str = "retired";

/// Samples that were stored and that retention dropped since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retired {
    /// Older than the retention.
    pub expired: u64,
    /// Dropped sooner, since the store had reached its size.
    pub oversize: u64,
}

/// What [`Store::retain`] dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Dropped since they ended before the retention.
    pub expired: Vec<Month>,
    /// Dropped since all months together were larger than the bound.
    pub oversize: Vec<Month>,
    /// Samples in them.
    pub samples: u64,
    /// Bytes in the tables that are left.
    pub bytes: u64,
}

/// A month that is about to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    month: Month,
    is_expired: bool,
    samples: u64,
}

/// How much was dropped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    retired: Retired,
    pending: Option<Pending>,
}

impl Tally {
    pub(super) fn load(disk: &Disk) -> Result<Self, StoreError> {
        let Some(bytes) = disk.meta.get(KEY)? else { return Ok(Self::default()) };
        let mut tally =
            Self::read(&bytes).ok_or(StoreError::Corrupt { what: "count of what retention dropped" })?;
        match tally.pending {
            // The crash came before the month went: it is counted anew when it does.
            Some(pending) if disk.existing(pending.month).is_some() => tally.pending = None,
            _ => tally.settle(),
        }
        Ok(tally)
    }

    fn settle(&mut self) {
        if let Some(Pending { is_expired, samples, .. }) = self.pending.take() {
            let count = if is_expired { &mut self.retired.expired } else { &mut self.retired.oversize };
            *count = count.saturating_add(samples);
        }
    }

    fn save(&self, disk: &Disk) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(29);
        bytes.extend_from_slice(&self.retired.expired.to_be_bytes());
        bytes.extend_from_slice(&self.retired.oversize.to_be_bytes());
        if let Some(Pending { month, is_expired, samples }) = self.pending {
            bytes.extend_from_slice(&month.start_ms().to_be_bytes());
            bytes.push(is_expired.into());
            bytes.extend_from_slice(&samples.to_be_bytes());
        }
        disk.meta.insert(KEY, bytes)?;
        disk.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (expired, rest) = bytes.split_first_chunk::<8>()?;
        let (oversize, rest) = rest.split_first_chunk::<8>()?;
        let retired =
            Retired { expired: u64::from_be_bytes(*expired), oversize: u64::from_be_bytes(*oversize) };
        let pending = if let Some((start_ms, rest)) = rest.split_first_chunk::<8>() {
            let (&is_expired, samples) = rest.split_first()?;
            let samples = u64::from_be_bytes(samples.try_into().ok()?);
            let month = Month::of(i64::from_be_bytes(*start_ms));
            Some(Pending { month, is_expired: is_expired != 0, samples })
        } else {
            None
        };
        Some(Self { retired, pending })
    }
}

impl Store {
    /// Drops months that ended more than `retention_days` before `now_ms`, and then the oldest ones while those left are
    /// larger than `limit_bytes`; never the newest. Samples not yet in tables (at most fjall's own journal, 64
    /// MiB) are not counted as size.
    ///
    /// A month that ends on the day on which its last sample is as old as the retention goes then: no sample goes sooner.
    /// Take a checkpoint first, on the thread that writes: samples that are only in memory go uncounted, and a crash brings
    /// them again. Counting reads the month once, while others read and write; they wait only while its keyspaces are deleted.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`]; [`StoreError::Disk`] and [`StoreError::Corrupt`], after which the store is poisoned, unless it
    /// was the counting that failed.
    pub fn retain(&self, now_ms: i64) -> Result<Retained, StoreError> {
        let mut months = self.disk.months();
        let cutoff_ms = now_ms.saturating_sub(i64::from(self.options.retention_days) * DAY_MS);
        let mut retained =
            Retained { bytes: months.iter().map(|(_, spaces)| spaces.bytes()).sum(), ..Retained::default() };
        // Refuses where an earlier write failed, and waits for whoever writes.
        drop(self.writer()?);
        // The newest, last here, is only dropped by age.
        while let Some((month, spaces)) = months.first() {
            let is_expired = month.end_ms() <= cutoff_ms;
            if !is_expired && (months.len() == 1 || retained.bytes <= self.options.limit_bytes) {
                break;
            }
            let (month, bytes) = (*month, spaces.bytes());
            let pending = Pending { month, is_expired, samples: samples_of(spaces)? };
            // The handles keep the files.
            months.remove(0);
            self.retire(pending).inspect_err(|_| self.poisoned.store(true, Ordering::Release))?;
            retained.bytes -= bytes;
            retained.samples += pending.samples;
            if is_expired { &mut retained.expired } else { &mut retained.oversize }.push(month);
        }
        Ok(retained)
    }

    fn retire(&self, pending: Pending) -> Result<(), StoreError> {
        let _writer = self.writer()?;
        let mut tally = *self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        tally.pending = Some(pending);
        tally.save(&self.disk)?;
        self.memory_mut().forget_month(&self.disk, pending.month)?;
        tally.settle();
        tally.save(&self.disk)?;
        *self.retired.lock().unwrap_or_else(PoisonError::into_inner) = tally;
        Ok(())
    }

    /// Samples that retention dropped, since the store was made.
    #[must_use]
    pub fn retired(&self) -> Retired {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).retired
    }

    /// Moves all that fjall holds in memory into tables and merges them, so that every stale version is gone. Blocks
    /// while it runs; fjall does without in its own time. For measurements, and before a copy is made.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn compact(&self) -> Result<(), StoreError> {
        for (_, spaces) in self.disk.months() {
            for space in [spaces.blocks, spaces.rollups] {
                space.rotate_memtable()?;
                while space.sealed_memtable_count() > 0 {
                    // Says so if the thread that should flush has died.
                    self.disk.db.persist(PersistMode::Buffer)?;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                space.major_compact()?;
            }
        }
        Ok(())
    }
}

fn samples_of(spaces: &MonthSpaces) -> Result<u64, StoreError> {
    let mut samples = 0;
    for entry in spaces.blocks.iter() {
        samples += block::header(&entry.value()?)?.rows as u64;
    }
    Ok(samples)
}

impl Memory {
    fn forget_month(&mut self, disk: &Disk, month: Month) -> Result<(), StoreError> {
        disk.drop_month(month)?;
        let range_ms = month.start_ms()..month.end_ms();
        self.blocks.retain(|(_, first_ms), _| !range_ms.contains(first_ms));
        for head in &mut self.heads {
            if head.first_ms().is_some_and(|first_ms| range_ms.contains(&first_ms)) {
                head.runs.clear();
                head.pending = None;
            }
        }
        self.rollups.forget_month(&range_ms);
        Ok(())
    }
}
