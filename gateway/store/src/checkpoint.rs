//! Memory to disk: one batch, then one sync.
//!
//! The batch is prepared while readers go on; only its entry into the database, a memory copy, keeps them waiting, so that what
//! they read from disk and from memory always fits together. They do not wait for the sync.

use super::{
    Store, StoreError,
    disk::{Disk, Month, block_key},
    memory::{Dirty, Memory, Run, Runs},
    table::Table,
};
use fjall::{OwnedWriteBatch, PersistMode, Slice};
use std::{collections::BTreeMap, sync::atomic::Ordering};

/// Runs of one level that are merged into one of the next.
const FAN_IN: usize = 8;

/// Blocks to be put or, where absent, removed; by device and first sample. Each key once: within a batch the order of
/// two writes to a key is not defined.
type Blocks = BTreeMap<(u32, i64), Option<Slice>>;

impl Store {
    /// Brings everything written so far to disk, together with the caller's `cursor`, and syncs it. After a crash
    /// the store is as it was at the last cursor; what was written behind it has to be written again.
    ///
    /// # Errors
    /// [`StoreError::Disk`] and [`StoreError::Corrupt`], after either of which the store is poisoned;
    /// [`StoreError::Poisoned`].
    pub fn checkpoint(&self, cursor: &[u8]) -> Result<(), StoreError> {
        let _writer = self.writer()?;
        self.checkpoint_held(cursor).inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    fn checkpoint_held(&self, cursor: &[u8]) -> Result<(), StoreError> {
        let (batch, heads) = {
            let memory = self.memory_ref();
            let mut batch = self.disk.db.batch();
            let heads = memory.prepare(&self.disk, &mut batch)?;
            batch.insert(&self.disk.meta, "cursor", cursor);
            (batch, heads)
        };
        {
            let mut memory = self.memory_mut();
            batch.commit()?;
            memory.settle(heads);
        }
        #[cfg(test)]
        if self.fail_next_sync.swap(false, Ordering::AcqRel) {
            return Err(StoreError::Disk(std::io::Error::other("injected").into()));
        }
        self.disk.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}

impl Memory {
    /// Fills the batch with all that is unwritten; returns the runs that each open block then has.
    fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) -> Result<Vec<(u32, Runs)>, StoreError> {
        let mut blocks = Blocks::new();
        for (&key, block) in &self.blocks {
            let bytes = match block {
                Dirty::Removed => None,
                Dirty::Encoded(bytes) => Some(bytes.clone()),
                Dirty::Rows(table) => Some(Self::encoded(table, super::block::CLOSED)?),
            };
            blocks.insert(key, bytes);
        }
        let mut heads = Vec::with_capacity(self.pending.len());
        for &device in &self.pending {
            if let Some(pending) = &self.heads[device as usize].pending {
                heads.push((device, self.add_run(disk, device, pending, &mut blocks)?));
            }
        }
        put_blocks(disk, blocks, batch)?;
        self.catalog.prepare(disk, batch);
        self.rollups.prepare(disk, batch)?;
        self.quarantine.prepare(disk, batch);
        Ok(heads)
    }

    /// Writes what is pending as a run, merged with the runs before it once there are enough of a level.
    fn add_run(
        &self,
        disk: &Disk,
        device: u32,
        pending: &Table,
        blocks: &mut Blocks,
    ) -> Result<Runs, StoreError> {
        let mut runs = self.heads[device as usize].runs.clone();
        let (mut level, mut merged) = (0, runs.len());
        loop {
            let peers = runs[..merged].iter().rev().take_while(|run| run.level() == level).count();
            if peers + 1 < FAN_IN {
                break;
            }
            merged -= peers;
            level += 1;
        }
        let absorbed: Runs = runs.drain(merged..).collect();
        let joined;
        let table = if absorbed.is_empty() {
            pending
        } else {
            let mut table = Self::read_runs(disk, device, &absorbed)?;
            table.append(pending);
            joined = table;
            &joined
        };
        for run in &absorbed {
            blocks.insert((device, run.first_ms()), None);
        }
        if let Some(first_ms) = table.first_ms() {
            blocks.insert((device, first_ms), Some(Self::encoded(table, level)?));
            runs.push(Run::new(first_ms, table.len(), level)?);
        }
        // It stays as long as the device is idle.
        runs.shrink_to_fit();
        Ok(runs)
    }

    /// Everything is in the database now.
    fn settle(&mut self, heads: Vec<(u32, Runs)>) {
        for (device, runs) in heads {
            let head = &mut self.heads[device as usize];
            head.runs = runs;
            head.pending = None;
        }
        for device in self.pending.drain(..) {
            self.heads[device as usize].listed = false;
        }
        self.blocks.clear();
        self.catalog.settle();
        self.rollups.settle();
        self.quarantine.settle();
        self.bytes = 0;
    }
}

fn put_blocks(disk: &Disk, blocks: Blocks, batch: &mut OwnedWriteBatch) -> Result<(), StoreError> {
    // Neighbours are mostly of one month.
    let mut current: Option<(Month, _)> = None;
    for ((device, first_ms), bytes) in blocks {
        let (month, spaces) = match current.take() {
            Some((month, spaces)) if Month::contains(month, first_ms) => (month, spaces),
            _ => {
                let month = Month::of(first_ms);
                (month, disk.month(month)?)
            }
        };
        let key = block_key(device, first_ms);
        match bytes {
            Some(bytes) => batch.insert(&spaces.blocks, key, bytes),
            None => batch.remove(&spaces.blocks, key),
        }
        current = Some((month, spaces));
    }
    Ok(())
}
