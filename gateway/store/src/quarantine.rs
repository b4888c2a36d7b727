//! What was refused: messages, conflicts and dead letters, each record with a head that accounts need and a body that is
//! its owner's.
//!
//! Bounds: [`Limits`] of records and bytes, and an age that the caller enforces; what goes there, and whose, is decided in
//! [`index`]. Samples of a record that went are a numbered [`Discard`]: the ledger counts each once ([`discards`]).
//!
//! Like samples, records reach the disk with the next checkpoint, and so do removals. Whoever cannot make a record again in
//! time has it on disk at once: [`Store::keep_records`]. In memory are the index, what is not yet on disk, and the ids of
//! the last [`RECENT_MAX`] records; never a body that is on disk.

mod discards;
mod id;
mod index;
mod record;

pub use discards::Discard;
pub use id::{RecordId, RecordIdError, RecordKind};
pub use index::{Amount, Limits, RecordFilter, Walk};
pub use record::{NewRecord, Record, RecordHead};

use super::{Store, StoreError, disk::Disk};
use discards::Discards;
use fjall::{OwnedWriteBatch, PersistMode, Slice};
use index::Index;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::Ordering,
};

/// Records remembered as new, for whoever follows them.
const RECENT_MAX: usize = 256;
/// What a record takes in memory beside its bytes until it is on disk, about.
const DIRTY_BYTES: usize = 96;

/// What the quarantine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Records and bytes.
    pub total: Amount,
    /// What they may be.
    pub limits: Limits,
    /// Records by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Records that went at a bound since this process began.
    pub discarded: u64,
}

/// Whether a record may be judged again now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// From now on, until it is replaced, removed or released.
    Begun,
    /// It is being judged again already.
    Running,
    /// There is no such record.
    Gone,
    /// The replay of a start is not over: see [`Store::open_redrives`].
    Replaying,
}

pub(super) struct Quarantine {
    index: Index,
    /// What differs from the disk; absent: removed.
    dirty: BTreeMap<RecordId, Option<Slice>>,
    discards: Discards,
    /// Records that came last, and how many came in all.
    recent: VecDeque<RecordId>,
    came: u64,
    discarded: u64,
}

impl Quarantine {
    /// Reads the heads of all records, one record at a time.
    pub(super) fn load(disk: &Disk, limits: Limits) -> Result<Self, StoreError> {
        let mut index = Index::new(limits);
        for entry in disk.quarantine.iter() {
            let (key, bytes) = entry.into_inner()?;
            let id = RecordId::from_key(&key)?;
            let (head, _) =
                record::read_head(&bytes).ok_or(StoreError::Corrupt { what: "quarantine record" })?;
            index.insert(id, &head, key.len() + bytes.len());
        }
        Ok(Self {
            index,
            dirty: BTreeMap::new(),
            discards: Discards::load(disk)?,
            recent: VecDeque::new(),
            came: 0,
            discarded: 0,
        })
    }

    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) {
        for (id, bytes) in &self.dirty {
            match bytes {
                Some(bytes) => batch.insert(&disk.quarantine, id.key(), bytes.clone()),
                None => batch.remove(&disk.quarantine, id.key()),
            }
        }
        self.discards.prepare(disk, batch);
    }

    pub(super) fn settle(&mut self) {
        self.dirty.clear();
        self.discards.settle();
    }

    fn get(&self, disk: &Disk, id: RecordId) -> Result<Option<Record>, StoreError> {
        let bytes = match self.dirty.get(&id) {
            Some(changed) => changed.clone(),
            None => disk.quarantine.get(id.key())?,
        };
        bytes.map(Record::read).transpose()
    }

    fn put(&mut self, disk: &Disk, new: &NewRecord<'_>, bytes: Slice) -> Result<(), StoreError> {
        if let Some(before) = self.get(disk, new.id)? {
            self.index.remove((before.head.arrival_ms, new.id));
        }
        self.index.insert(new.id, &new.head(), new.id.key().len() + bytes.len());
        self.dirty.insert(new.id, Some(bytes));
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(new.id);
        self.came += 1;
        Ok(())
    }

    fn discard(&mut self, disk: &Disk, place: (i64, RecordId)) -> Result<(), StoreError> {
        let id = place.1;
        if let Some(Record { head, .. }) = self.get(disk, id)?
            && let Some(device) = head.device
            && head.samples > 0
        {
            self.discards.add(id, device, head.boot, head.samples);
        }
        self.index.remove(place);
        self.dirty.insert(id, None);
        self.discarded += 1;
        Ok(())
    }

    /// Discards until the bounds hold.
    fn trim(&mut self, disk: &Disk) -> Result<(), StoreError> {
        while let Some(place) = self.index.victim() {
            self.discard(disk, place)?;
        }
        Ok(())
    }
}

impl Store {
    /// Keeps a record. Beyond a bound others make way: see [`Self::discards_after`].
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`], [`StoreError::Poisoned`].
    pub fn put_record(&self, new: &NewRecord<'_>) -> Result<(), StoreError> {
        let _writer = self.writer()?;
        let mut memory = self.memory_mut();
        let bytes = Slice::from(new.to_bytes());
        memory.bytes += bytes.len() + DIRTY_BYTES;
        memory.quarantine.put(&self.disk, new, bytes)?;
        memory.quarantine.trim(&self.disk)
    }

    /// Keeps records and has them on disk when it returns; nothing else of the store goes there with them. Beyond a bound
    /// others make way, which leave the disk with the next checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Disk`], after which the store is poisoned where a write or a sync failed; [`StoreError::Corrupt`],
    /// [`StoreError::Poisoned`].
    pub fn keep_records(&self, records: &[NewRecord<'_>]) -> Result<(), StoreError> {
        let _writer = self.writer()?;
        let mut batch = self.disk.db.batch();
        let poison = |_: &fjall::Error| self.poisoned.store(true, Ordering::Release);
        {
            let mut memory = self.memory_mut();
            let quarantine = &mut memory.quarantine;
            let mut kept = BTreeMap::new();
            for new in records {
                let bytes = Slice::from(new.to_bytes());
                quarantine.put(&self.disk, new, bytes.clone())?;
                kept.insert(new.id, bytes);
            }
            for (id, bytes) in &kept {
                batch.insert(&self.disk.quarantine, id.key(), bytes.clone());
            }
            quarantine.trim(&self.disk)?;
            batch.commit().inspect_err(poison)?;
            // What was discarded just now still differs from the disk.
            quarantine.dirty.retain(|id, bytes| bytes.is_none() || !kept.contains_key(id));
        }
        #[cfg(test)]
        if self.fail_next_sync.swap(false, Ordering::AcqRel) {
            self.poisoned.store(true, Ordering::Release);
            return Err(StoreError::Disk(std::io::Error::other("injected").into()));
        }
        self.disk.db.persist(PersistMode::SyncAll).inspect_err(poison)?;
        Ok(())
    }

    /// Takes a record away; false where there is none.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`], [`StoreError::Poisoned`].
    pub fn remove_record(&self, id: RecordId) -> Result<bool, StoreError> {
        let _writer = self.writer()?;
        let mut memory = self.memory_mut();
        let Some(record) = memory.quarantine.get(&self.disk, id)? else { return Ok(false) };
        memory.quarantine.index.remove((record.head.arrival_ms, id));
        memory.quarantine.dirty.insert(id, None);
        memory.bytes += DIRTY_BYTES;
        Ok(true)
    }

    /// Discards records that arrived before, the oldest first, until a checkpoint is due: what goes is unwritten like what
    /// comes. Answers how many went, and whether there are more to go behind a checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`], [`StoreError::Poisoned`].
    pub fn expire_records(&self, before_ms: i64) -> Result<(u64, bool), StoreError> {
        let _writer = self.writer()?;
        let mut expired = 0;
        loop {
            // Readers have their turn between two records.
            let mut memory = self.memory_mut();
            let Some(place) = memory.quarantine.index.older_than(before_ms) else {
                return Ok((expired, false));
            };
            if expired > 0 && memory.bytes >= self.options.dirty_limit_bytes {
                return Ok((expired, true));
            }
            memory.quarantine.discard(&self.disk, place)?;
            memory.bytes += DIRTY_BYTES;
            expired += 1;
        }
    }

    /// A record.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn record(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        #[cfg(feature = "planted")]
        assert!(!self.panic_next_read.swap(false, Ordering::AcqRel), "injected");
        self.memory_ref().quarantine.get(&self.disk, id)
    }

    /// Records from the newest, or from behind `after`, at most `limit` of them; looks at no more than `look_at`.
    #[must_use]
    pub fn walk_records(
        &self,
        filter: &RecordFilter,
        after: Option<(i64, RecordId)>,
        limit: usize,
        look_at: usize,
    ) -> Walk {
        self.memory_ref().quarantine.index.walk(filter, after, limit, look_at)
    }

    /// The newest of the records that came behind the `since`-th, at most `limit` and in order, and how many came by now.
    #[must_use]
    pub fn records_since(&self, since: u64, limit: usize) -> (Vec<RecordId>, u64) {
        let memory = self.memory_ref();
        let quarantine = &memory.quarantine;
        let new = usize::try_from(quarantine.came.saturating_sub(since)).unwrap_or(usize::MAX);
        let recent = quarantine.recent.len();
        let from = recent - new.min(limit).min(recent);
        (quarantine.recent.range(from..).copied().collect(), quarantine.came)
    }

    /// What the quarantine holds, of one kind or of all; the amounts are of all.
    #[must_use]
    pub fn held_records(&self, kind: Option<RecordKind>) -> Held {
        let memory = self.memory_ref();
        let quarantine = &memory.quarantine;
        Held {
            total: quarantine.index.total(),
            limits: quarantine.index.limits(),
            by_reason: quarantine.index.by_reason(kind),
            discarded: quarantine.discarded,
        }
    }

    /// From now on records may be judged again. Whoever writes the store calls it when all that was journaled before its start
    /// is in here: until then a record may be listed although the journal has the order to judge it, and a second order would
    /// count its samples twice.
    pub fn open_redrives(&self) {
        self.redrives_open.store(true, Ordering::Release);
    }

    /// May records be judged again?
    #[must_use]
    pub fn are_redrives_open(&self) -> bool {
        self.redrives_open.load(Ordering::Acquire)
    }

    /// Keeps a record from being discarded while it is judged again.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn hold_record(&self, id: RecordId) -> Result<Hold, StoreError> {
        if !self.are_redrives_open() {
            return Ok(Hold::Replaying);
        }
        let mut memory = self.memory_mut();
        let Some(record) = memory.quarantine.get(&self.disk, id)? else { return Ok(Hold::Gone) };
        let begun = memory.quarantine.index.hold((record.head.arrival_ms, id));
        Ok(if begun { Hold::Begun } else { Hold::Running })
    }

    /// The record was judged again, or will not be, and stays.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn release_record(&self, id: RecordId) -> Result<(), StoreError> {
        let mut memory = self.memory_mut();
        if let Some(record) = memory.quarantine.get(&self.disk, id)? {
            memory.quarantine.index.release((record.head.arrival_ms, id));
        }
        Ok(())
    }

    /// The conflicts of a source record: those that are kept, and those that were discarded and are not forgotten, as device and boot.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn conflicts_of(&self, source_lsn: u64) -> Result<Vec<(hunhe_proto::id::Id, u32)>, StoreError> {
        let memory = self.memory_ref();
        let quarantine = &memory.quarantine;
        let ids = RecordId::conflicts_of(source_lsn);
        let mut found = BTreeMap::new();
        for entry in self.disk.quarantine.range(ids.start().key()..=ids.end().key()) {
            let (key, bytes) = entry.into_inner()?;
            found.insert(RecordId::from_key(&key)?, Some(bytes));
        }
        found.extend(quarantine.dirty.range(ids).map(|(&id, bytes)| (id, bytes.clone())));
        let mut conflicts = Vec::new();
        for bytes in found.into_values().flatten() {
            let head = Record::read(bytes)?.head;
            conflicts.extend(head.device.map(|device| (device, head.boot)));
        }
        let discarded = quarantine.discards.conflicts_of(source_lsn);
        conflicts.extend(discarded.map(|discard| (discard.device, discard.boot)));
        Ok(conflicts)
    }

    /// The discards behind that number which are on disk, ascending.
    #[must_use]
    pub fn discards_after(&self, number: u64) -> Vec<Discard> {
        self.memory_ref().quarantine.discards.durable_after(number)
    }

    /// Does a discard wait for a checkpoint?
    #[must_use]
    pub fn is_discard_waiting(&self) -> bool {
        self.memory_ref().quarantine.discards.is_any_not_durable()
    }

    /// The ledger has counted discards up to that number, perhaps of another store: what follows is numbered behind it.
    pub fn continue_discards(&self, behind: u64) {
        self.memory_mut().quarantine.discards.continue_behind(behind);
    }

    /// The ledger has counted the discards up to that number, in every checkpoint that a start may take.
    pub fn forget_discards(&self, through: u64) {
        self.memory_mut().quarantine.discards.forget(|discard| discard.number <= through);
    }

    /// What was discarded of records behind that source record comes again, and is discarded again.
    pub fn forget_discards_behind(&self, source_lsn: u64) {
        self.memory_mut().quarantine.discards.forget(|discard| discard.id.source_lsn() > source_lsn);
    }
}
