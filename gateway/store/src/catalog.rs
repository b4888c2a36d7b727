//! Device names and their keys: given out at first sight, dense, kept for good.
//!
//! A key given out goes to disk with the next checkpoint, and so does everything written under it; what a crash takes
//! away, it takes away together. Names lie one after another in one piece of memory: a city has hundreds of thousands.

use super::{DeviceKey, Store, StoreError, disk::Disk, memory::Head};
use fjall::OwnedWriteBatch;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

#[derive(Default)]
pub(super) struct Catalog {
    /// By the hash of their names.
    keys: HashTable<u32>,
    names: Names,
    hasher: RandomState,
    /// So many of the names are on disk.
    stored: usize,
}

/// Names by key.
#[derive(Default)]
struct Names {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Names {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The name of a key that was given out.
    fn of(&self, key: usize) -> &str {
        let from = if key == 0 { 0 } else { self.ends[key - 1] };
        &self.text[from..self.ends[key]]
    }

    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }
}

impl Catalog {
    pub(super) fn load(disk: &Disk) -> Result<Self, StoreError> {
        const CORRUPT: StoreError = StoreError::Corrupt { what: "catalog" };
        // The disk has them by name.
        let (mut by_name, mut keys) = (Names::default(), Vec::new());
        for entry in disk.catalog.iter() {
            let (name, key) = entry.into_inner()?;
            by_name.push(std::str::from_utf8(&name).map_err(|_| CORRUPT)?);
            keys.push(u32::from_be_bytes((*key).try_into().map_err(|_| CORRUPT)?));
        }
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| keys[at]);
        let mut catalog = Self::default();
        for at in order {
            if usize::try_from(keys[at]) != Ok(catalog.len()) {
                return Err(CORRUPT);
            }
            catalog.add(keys[at], by_name.of(at));
        }
        catalog.settle();
        Ok(catalog)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn find(&self, name: &str) -> Option<u32> {
        let is_it = |&key: &u32| self.names.of(key as usize) == name;
        self.keys.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// `key` is the next, and `name` is new.
    fn add(&mut self, key: u32, name: &str) {
        self.names.push(name);
        let Self { keys, names, hasher, .. } = self;
        keys.insert_unique(hasher.hash_one(name), key, |&key| hasher.hash_one(names.of(key as usize)));
    }

    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) {
        for (key, at) in (0_u32..).zip(0..self.len()).skip(self.stored) {
            batch.insert(&disk.catalog, self.names.of(at), key.to_be_bytes());
        }
    }

    pub(super) fn settle(&mut self) {
        self.stored = self.len();
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
        if let Some(key) = memory.catalog.find(name) {
            return Ok(DeviceKey(key));
        }
        // The names of 2^32 devices would not fit into memory.
        let key = u32::try_from(memory.catalog.len()).map_err(|_| StoreError::UnknownDevice(u32::MAX))?;
        memory.catalog.add(key, name);
        memory.heads.push(Head::new_device());
        Ok(DeviceKey(key))
    }

    /// The key of a device that has one.
    #[must_use]
    pub fn find_device(&self, name: &str) -> Option<DeviceKey> {
        self.memory_ref().catalog.find(name).map(DeviceKey)
    }
}
