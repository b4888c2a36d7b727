//! What is old goes, by whole months: its keyspaces are deleted, and what memory holds of it is forgotten.

use super::{
    Store, StoreError,
    disk::{Disk, Month},
    memory::Memory,
};
use fjall::PersistMode;

const DAY_MS: i64 = 86_400_000;

/// What [`Store::retain`] dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Dropped since they ended before the retention.
    pub expired: Vec<Month>,
    /// Dropped since all months together were larger than the bound.
    pub oversize: Vec<Month>,
    /// Bytes in the tables that are left.
    pub bytes: u64,
}

impl Store {
    /// Drops months that ended more than `retention_days` before `now_ms`, and then the oldest ones while those left are
    /// larger than `limit_bytes`; never the newest. Samples not yet in tables (at most fjall's own journal, 128
    /// MiB) are not counted.
    ///
    /// Takes effect at once, without a checkpoint: after a crash, a replay may bring some of a dropped month again, until the
    /// next call.
    ///
    /// # Errors
    /// [`StoreError::Disk`] (the store is then poisoned), [`StoreError::Poisoned`].
    pub fn retain(&self, now_ms: i64) -> Result<Retained, StoreError> {
        let _writer = self.writer()?;
        let mut months = self.disk.months();
        let cutoff_ms = now_ms.saturating_sub(i64::from(self.options.retention_days) * DAY_MS);
        let mut retained =
            Retained { bytes: months.iter().map(|(_, spaces)| spaces.bytes()).sum(), ..Retained::default() };
        // The newest, last here, is only dropped by age.
        while let Some((month, spaces)) = months.first() {
            let expired = month.end_ms() <= cutoff_ms;
            if !expired && (months.len() == 1 || retained.bytes <= self.options.limit_bytes) {
                break;
            }
            let (month, bytes) = (*month, spaces.bytes());
            // The handles keep the files.
            months.remove(0);
            self.memory_mut().forget_month(&self.disk, month).inspect_err(|_| {
                self.poisoned.store(true, std::sync::atomic::Ordering::Release);
            })?;
            retained.bytes -= bytes;
            if expired { &mut retained.expired } else { &mut retained.oversize }.push(month);
        }
        Ok(retained)
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
