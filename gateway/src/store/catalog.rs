//! Device names and their keys: given out at first sight, dense, kept for good.
//!
//! A key given out goes to disk with the next checkpoint, and so does everything written under it; what a crash takes
//! away, it takes away together.

use super::{DeviceKey, Store, StoreError, disk::Disk, memory::Head};
use fjall::OwnedWriteBatch;
use std::collections::HashMap;

pub(super) struct Catalog {
    keys: HashMap<Box<str>, u32>,
    /// By key.
    names: Vec<Box<str>>,
    /// So many of the names are on disk.
    stored: usize,
}

impl Catalog {
    pub(super) fn load(disk: &Disk) -> Result<Self, StoreError> {
        const CORRUPT: StoreError = StoreError::Corrupt { what: "catalog" };
        let mut entries = Vec::new();
        for entry in disk.catalog.iter() {
            let (name, key) = entry.into_inner()?;
            let key = u32::from_be_bytes((*key).try_into().map_err(|_| CORRUPT)?);
            entries.push((key, Box::from(std::str::from_utf8(&name).map_err(|_| CORRUPT)?)));
        }
        entries.sort_unstable();
        if entries.iter().enumerate().any(|(at, &(key, _))| u32::try_from(at) != Ok(key)) {
            return Err(CORRUPT);
        }
        let names: Vec<Box<str>> = entries.into_iter().map(|(_, name)| name).collect();
        let keys = (0..).zip(&names).map(|(key, name)| (name.clone(), key)).collect();
        Ok(Self { keys, stored: names.len(), names })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) {
        for name in &self.names[self.stored..] {
            if let Some(key) = self.keys.get(name) {
                batch.insert(&disk.catalog, name.as_bytes(), key.to_be_bytes());
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.stored = self.names.len();
    }
}

impl Store {
    /// The key of a device, given out where it has none. `name` is the registry's.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    pub fn device(&self, name: &str) -> Result<DeviceKey, StoreError> {
        if let Some(key) = self.find_device(name) {
            return Ok(key);
        }
        let _writer = self.writer()?;
        let mut memory = self.memory_mut();
        if let Some(&key) = memory.catalog.keys.get(name) {
            return Ok(DeviceKey(key));
        }
        // The names of 2^32 devices would not fit into memory.
        let key = u32::try_from(memory.catalog.len()).map_err(|_| StoreError::UnknownDevice(u32::MAX))?;
        memory.catalog.names.push(name.into());
        memory.catalog.keys.insert(name.into(), key);
        memory.heads.push(Head::new_device());
        Ok(DeviceKey(key))
    }

    /// The key of a device that has one.
    #[must_use]
    pub fn find_device(&self, name: &str) -> Option<DeviceKey> {
        self.memory_ref().catalog.keys.get(name).copied().map(DeviceKey)
    }
}
