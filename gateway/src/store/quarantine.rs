//! Refused messages: opaque records by ascending id, at most `limit_records` of them. At the bound the oldest (the least id) is
//! discarded and handed to the caller, who has to count it.
//!
//! Like samples they reach the disk with the next checkpoint, and so do removals: a crash cannot keep a discard whose
//! count it took away. Whoever cannot make a record again in time has it on disk at once: [`Store::keep_quarantine`].

use super::{Store, StoreError, disk::Disk};
use fjall::{OwnedWriteBatch, PersistMode, Slice};
use std::{collections::BTreeMap, ops::Bound, sync::atomic::Ordering};

/// A record that made way for a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Its id.
    pub id: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

pub(super) struct Quarantine {
    limit_records: usize,
    count: usize,
    /// No record has a lesser id.
    floor: u64,
    /// What differs from the disk; absent: removed.
    dirty: BTreeMap<u64, Option<Slice>>,
}

fn id_of(key: &[u8]) -> Result<u64, StoreError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Corrupt { what: "quarantine key" })
}

impl Quarantine {
    pub(super) fn load(disk: &Disk, limit_records: usize) -> Result<Self, StoreError> {
        let mut quarantine = Self { limit_records, count: 0, floor: 0, dirty: BTreeMap::new() };
        for entry in disk.quarantine.iter() {
            let id = id_of(&entry.key()?)?;
            if quarantine.count == 0 {
                quarantine.floor = id;
            }
            quarantine.count += 1;
        }
        Ok(quarantine)
    }

    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) {
        for (id, bytes) in &self.dirty {
            match bytes {
                Some(bytes) => batch.insert(&disk.quarantine, id.to_be_bytes(), bytes.clone()),
                None => batch.remove(&disk.quarantine, id.to_be_bytes()),
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.dirty.clear();
    }

    fn get(&self, disk: &Disk, id: u64) -> Result<Option<Slice>, StoreError> {
        match self.dirty.get(&id) {
            Some(changed) => Ok(changed.clone()),
            None => Ok(disk.quarantine.get(id.to_be_bytes())?),
        }
    }

    /// Up to `limit` records with ids from `from` on, ascending.
    fn list(&self, disk: &Disk, from: Bound<u64>, limit: usize) -> Result<Vec<(u64, Slice)>, StoreError> {
        let key_from = from.map(u64::to_be_bytes);
        let mut stored = disk.quarantine.range((key_from, Bound::Unbounded));
        let mut changed = self.dirty.range((from, Bound::Unbounded)).peekable();
        let mut on_disk = stored.next().transpose_entry()?;
        let mut found = Vec::new();
        while found.len() < limit {
            match (on_disk.as_ref().map(|&(id, _)| id), changed.peek().map(|&(&id, _)| id)) {
                (None, None) => break,
                (Some(id), other) if other.is_none_or(|other| id < other) => {
                    found.extend(on_disk.take());
                    on_disk = stored.next().transpose_entry()?;
                }
                (stored_id, _) => {
                    if let Some((&id, bytes)) = changed.next() {
                        found.extend(bytes.clone().map(|bytes| (id, bytes)));
                        if stored_id == Some(id) {
                            on_disk = stored.next().transpose_entry()?;
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    fn put(&mut self, disk: &Disk, id: u64, bytes: Slice) -> Result<(), StoreError> {
        let known = self.get(disk, id)?.is_some();
        self.dirty.insert(id, Some(bytes));
        self.floor = self.floor.min(id);
        self.count += usize::from(!known);
        Ok(())
    }

    fn discard_oldest(&mut self, disk: &Disk) -> Result<Option<Discarded>, StoreError> {
        let Some((id, bytes)) = self.list(disk, Bound::Included(self.floor), 1)?.pop() else {
            return Ok(None);
        };
        self.dirty.insert(id, None);
        self.count -= 1;
        self.floor = id.saturating_add(1);
        Ok(Some(Discarded { id, bytes: bytes.to_vec() }))
    }
}

trait TransposeEntry {
    fn transpose_entry(self) -> Result<Option<(u64, Slice)>, StoreError>;
}

impl TransposeEntry for Option<fjall::Guard> {
    fn transpose_entry(self) -> Result<Option<(u64, Slice)>, StoreError> {
        let Some(entry) = self else { return Ok(None) };
        let (key, bytes) = entry.into_inner()?;
        Ok(Some((id_of(&key)?, bytes)))
    }
}

impl Store {
    /// Keeps a record, in place of one with the same id. Beyond the bound the oldest makes way and is returned.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`], [`StoreError::Poisoned`].
    pub fn put_quarantine(&self, id: u64, bytes: &[u8]) -> Result<Option<Discarded>, StoreError> {
        let _writer = self.writer()?;
        let mut memory = self.memory_mut();
        memory.bytes += bytes.len() + 64;
        let quarantine = &mut memory.quarantine;
        quarantine.put(&self.disk, id, bytes.into())?;
        if quarantine.count > quarantine.limit_records {
            return quarantine.discard_oldest(&self.disk);
        }
        Ok(None)
    }

    /// Keeps records, in place of those with the same ids, and has them on disk when it returns; nothing else of the store
    /// goes there with them. Beyond the bound the oldest make way and are returned; they leave the disk with the next
    /// checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Disk`], after which the store is poisoned where a write or a sync failed; [`StoreError::Corrupt`],
    /// [`StoreError::Poisoned`].
    pub fn keep_quarantine(&self, records: BTreeMap<u64, Vec<u8>>) -> Result<Vec<Discarded>, StoreError> {
        let _writer = self.writer()?;
        let mut batch = self.disk.db.batch();
        let mut discarded = Vec::new();
        let poison = |_: &fjall::Error| self.poisoned.store(true, Ordering::Release);
        {
            let mut memory = self.memory_mut();
            let quarantine = &mut memory.quarantine;
            let ids: Vec<u64> = records.keys().copied().collect();
            for (id, bytes) in records {
                let bytes = Slice::from(bytes);
                quarantine.put(&self.disk, id, bytes.clone())?;
                batch.insert(&self.disk.quarantine, id.to_be_bytes(), bytes);
            }
            while quarantine.count > quarantine.limit_records {
                let Some(oldest) = quarantine.discard_oldest(&self.disk)? else { break };
                discarded.push(oldest);
            }
            batch.commit().inspect_err(poison)?;
            // What was discarded just now still differs from the disk.
            for id in ids {
                if quarantine.dirty.get(&id).is_some_and(Option::is_some) {
                    quarantine.dirty.remove(&id);
                }
            }
        }
        #[cfg(test)]
        if self.fail_next_sync.swap(false, Ordering::AcqRel) {
            self.poisoned.store(true, Ordering::Release);
            return Err(StoreError::Disk(std::io::Error::other("injected").into()));
        }
        self.disk.db.persist(PersistMode::SyncAll).inspect_err(poison)?;
        Ok(discarded)
    }

    /// Takes a record away; false where there is none.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Poisoned`].
    pub fn remove_quarantine(&self, id: u64) -> Result<bool, StoreError> {
        let _writer = self.writer()?;
        let mut memory = self.memory_mut();
        let known = memory.quarantine.get(&self.disk, id)?.is_some();
        if known {
            memory.quarantine.dirty.insert(id, None);
            memory.quarantine.count -= 1;
            memory.bytes += 64;
        }
        Ok(known)
    }

    /// A record's content.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn get_quarantine(&self, id: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.memory_ref().quarantine.get(&self.disk, id)?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    /// Up to `limit` records with ids above `after`, or from the first; ascending.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn list_quarantine(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.memory_ref().quarantine.list(&self.disk, from, limit)?;
        Ok(found.into_iter().map(|(id, bytes)| (id, bytes.to_vec())).collect())
    }

    /// How many records there are.
    #[must_use]
    pub fn quarantine_count(&self) -> usize {
        self.memory_ref().quarantine.count
    }
}
