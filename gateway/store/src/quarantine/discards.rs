//! Samples that left the quarantine at one of its bounds, and that the ledger still has to count as lost.
//!
//! Each discard has a number. It reaches the disk in the same checkpoint that removes the record, and is reported to the
//! ledger only then; the ledger keeps the last number it counted in its own checkpoint. So a discard is counted once,
//! whichever of the two a crash finds ahead: one that the ledger does not know is reported again, one that it knows is not.
//!
//! Bound: what was discarded between two of the lane's checkpoints, one entry a record with samples; the lane's progress
//! says what may be forgotten.

use super::super::{StoreError, disk::Disk};
use super::RecordId;
use fjall::OwnedWriteBatch;
use hunhe_proto::id::Id;
use std::collections::VecDeque;

/// Samples of one record that were discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discard {
    /// One more than the one before.
    pub number: u64,
    /// The record they were in.
    pub id: RecordId,
    /// Whose they are.
    pub device: Id,
    /// Their outbox.
    pub boot: u32,
    /// How many.
    pub samples: u32,
}

const PREFIX: &str = "discard/";
const LAST: &str = "discards";

#[derive(Default)]
pub(super) struct Discards {
    /// The last number given out.
    last: u64,
    /// Ascending.
    open: VecDeque<Discard>,
    /// All up to this one are on disk.
    durable: u64,
    /// On disk, and to be removed there.
    forgotten: Vec<u64>,
    changed: bool,
}

impl Discards {
    pub(super) fn load(disk: &Disk) -> Result<Self, StoreError> {
        const CORRUPT: StoreError = StoreError::Corrupt { what: "discard" };
        let mut discards = Self::default();
        if let Some(last) = disk.meta.get(LAST)? {
            let bytes = <[u8; 8]>::try_from(&*last).map_err(|_| CORRUPT)?;
            discards.last = u64::from_be_bytes(bytes);
        }
        for entry in disk.meta.prefix(PREFIX) {
            let (key, value) = entry.into_inner()?;
            discards.open.push_back(Discard::read(&key, &value).ok_or(CORRUPT)?);
        }
        discards.durable = discards.last;
        Ok(discards)
    }

    pub(super) fn add(&mut self, id: RecordId, device: Id, boot: u32, samples: u32) {
        self.last += 1;
        self.changed = true;
        self.open.push_back(Discard { number: self.last, id, device, boot, samples });
    }

    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) {
        if !self.changed {
            return;
        }
        batch.insert(&disk.meta, LAST, self.last.to_be_bytes());
        for discard in self.open.iter().filter(|discard| discard.number > self.durable) {
            batch.insert(&disk.meta, key_of(discard.number), discard.to_bytes());
        }
        for &number in &self.forgotten {
            batch.remove(&disk.meta, key_of(number));
        }
    }

    /// All of it is on disk now.
    pub(super) fn settle(&mut self) {
        self.durable = self.last;
        self.forgotten.clear();
        self.changed = false;
    }

    pub(super) fn durable_after(&self, number: u64) -> Vec<Discard> {
        self.open
            .iter()
            .filter(|discard| (number..self.durable).contains(&(discard.number - 1)))
            .copied()
            .collect()
    }

    pub(super) fn is_any_not_durable(&self) -> bool {
        self.last > self.durable
    }

    pub(super) fn continue_behind(&mut self, number: u64) {
        if self.last < number {
            (self.last, self.durable, self.changed) = (number, number, true);
        }
    }

    pub(super) fn forget(&mut self, is_over: impl Fn(&Discard) -> bool) {
        let durable = self.durable;
        let forgotten = &mut self.forgotten;
        let before = self.open.len();
        self.open.retain(|discard| {
            let over = is_over(discard);
            if over && discard.number <= durable {
                forgotten.push(discard.number);
            }
            !over
        });
        self.changed |= self.open.len() < before;
    }

    pub(super) fn conflicts_of(&self, source_lsn: u64) -> impl Iterator<Item = &Discard> {
        let range = RecordId::conflicts_of(source_lsn);
        self.open.iter().filter(move |discard| range.contains(&discard.id))
    }
}

fn key_of(number: u64) -> Vec<u8> {
    [PREFIX.as_bytes(), &number.to_be_bytes()].concat()
}

impl Discard {
    fn to_bytes(self) -> Vec<u8> {
        let key = self.id.key();
        let device = self.device.as_str().as_bytes();
        let mut out = Vec::with_capacity(10 + key.len() + device.len());
        out.extend_from_slice(&self.boot.to_be_bytes());
        out.extend_from_slice(&self.samples.to_be_bytes());
        // A key has at most 21 bytes.
        out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&key);
        out.extend_from_slice(device);
        out
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let number = u64::from_be_bytes(key.strip_prefix(PREFIX.as_bytes())?.try_into().ok()?);
        let (boot, rest) = value.split_first_chunk::<4>()?;
        let (samples, rest) = rest.split_first_chunk::<4>()?;
        let (&length, rest) = rest.split_first()?;
        let (id, device) = rest.split_at_checked(length.into())?;
        Some(Self {
            number,
            id: RecordId::from_key(id).ok()?,
            device: Id::from_bytes(device).ok()?,
            boot: u32::from_be_bytes(*boot),
            samples: u32::from_be_bytes(*samples),
        })
    }
}
