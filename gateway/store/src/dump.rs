//! All entries of the store as of one moment, and a store made of such entries.
//!
//! A dump is a snapshot of the database: writers go on, and what they change stays to be read until the dump is dropped. What is
//! in memory alone is not in it: as after a crash, it is written again from the cursor on. The filling goes to a folder of its
//! own and is no store before [`Filling::finish`].

use super::{
    Options, Store, StoreError, block,
    disk::{self, Disk, Month},
};
use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Readable, Snapshot};
use std::path::Path;

const META: &str = "meta";
const CATALOG: &str = "catalog";
const QUARANTINE: &str = "quarantine";
const BLOCKS: &str = "blocks-";
const ROLLUPS: &str = "rollups-";
/// What goes into one batch of a filling.
const BATCH_BYTES: usize = 1 << 20;

/// The store's entries as of one moment.
pub struct Dump {
    snapshot: Snapshot,
    spaces: Vec<(String, Keyspace)>,
    about_bytes: u64,
}

impl Store {
    /// Everything that is on disk now. Waits for a checkpoint that is being written.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], [`StoreError::Disk`].
    pub fn dump(&self) -> Result<Dump, StoreError> {
        let _writer = self.writer()?;
        let disk = &self.disk;
        let snapshot = disk.db.snapshot();
        let named = |name: &str, space: &Keyspace| (name.to_owned(), space.clone());
        let mut spaces =
            vec![named(META, &disk.meta), named(CATALOG, &disk.catalog), named(QUARANTINE, &disk.quarantine)];
        for (month, month_spaces) in disk.months() {
            spaces.push((format!("{BLOCKS}{month}"), month_spaces.blocks));
            spaces.push((format!("{ROLLUPS}{month}"), month_spaces.rollups));
        }
        Ok(Dump { snapshot, spaces, about_bytes: disk.db.disk_space()? })
    }
}

impl Dump {
    /// The names of its parts.
    pub fn spaces(&self) -> impl Iterator<Item = &str> {
        self.spaces.iter().map(|(name, _)| name.as_str())
    }

    /// What it may take, about.
    #[must_use]
    pub fn about_bytes(&self) -> u64 {
        self.about_bytes
    }

    /// Gives every entry of a part.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; what `give` says.
    pub fn each<E: From<StoreError>>(
        &self,
        name: &str,
        mut give: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((_, space)) = self.spaces.iter().find(|(known, _)| known == name) else { return Ok(()) };
        for entry in self.snapshot.iter(space) {
            let (key, value) = entry.into_inner().map_err(StoreError::from)?;
            give(&key, &value)?;
        }
        Ok(())
    }
}

/// Whether a store has parts of this name.
#[must_use]
pub fn is_space(name: &str) -> bool {
    [META, CATALOG, QUARANTINE].contains(&name) || month_of(name).is_some()
}

/// Whether the database takes a key of this length; it panics at others.
#[must_use]
pub fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= usize::from(u16::MAX)
}

fn month_of(name: &str) -> Option<Month> {
    let month = name.strip_prefix(BLOCKS).or_else(|| name.strip_prefix(ROLLUPS))?;
    // One name a month, and no other.
    Month::from_name(month).filter(|parsed| parsed.to_string() == month)
}

/// How many samples an entry holds.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn samples_in(space: &str, value: &[u8]) -> Result<u64, StoreError> {
    if !space.starts_with(BLOCKS) {
        return Ok(0);
    }
    Ok(block::header(value)?.rows as u64)
}

/// A store being made of entries.
pub struct Filling {
    disk: Disk,
    dir: std::path::PathBuf,
    space: Option<Keyspace>,
    batch: OwnedWriteBatch,
    bytes: usize,
}

impl Filling {
    /// An empty one in a folder that is not there yet.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn begin(dir: &Path) -> Result<Self, StoreError> {
        let disk = Disk::open(&Options::new(dir))?;
        let batch = disk.db.batch();
        Ok(Self { disk, dir: dir.to_owned(), space: None, batch, bytes: 0 })
    }

    /// What follows belongs to this part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn space(&mut self, name: &str) -> Result<(), StoreError> {
        self.space = Some(match name {
            META => self.disk.meta.clone(),
            CATALOG => self.disk.catalog.clone(),
            QUARANTINE => self.disk.quarantine.clone(),
            _ => {
                let month = month_of(name).ok_or(StoreError::Corrupt { what: "part" })?;
                let spaces = self.disk.month(month)?;
                if name.starts_with(BLOCKS) { spaces.blocks } else { spaces.rollups }
            }
        });
        Ok(())
    }

    /// Takes an entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let space = self.space.as_ref().ok_or(StoreError::Corrupt { what: "part" })?;
        if !is_key(key) {
            return Err(StoreError::Corrupt { what: "key" });
        }
        self.batch.insert(space, key, value);
        self.bytes += key.len() + value.len();
        if self.bytes >= BATCH_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        std::mem::replace(&mut self.batch, self.disk.db.batch()).commit()?;
        Ok(())
    }

    /// Brings it to disk, durably.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Format`] where the entries are of another version.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.commit()?;
        let options = Options::new(&self.dir);
        disk::check_format(&self.disk.meta, &options)?;
        self.disk.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}
