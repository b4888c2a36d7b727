//! Windows: one record per device, resolution, channel and start; of two revisions the newer stays.

use super::{
    DeviceKey, Store, StoreError,
    disk::{Disk, Month},
};
use fjall::OwnedWriteBatch;
use std::{collections::BTreeMap, ops::Range};

/// What a window knows of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollup {
    /// The window's length in seconds.
    pub resolution_s: u32,
    /// The window's start, milliseconds since 1970.
    pub start_ms: i64,
    /// 0 at first, more with each correction.
    pub revision: u32,
    /// Wire number of the channel.
    pub channel: u16,
    /// Values in the window.
    pub count: u32,
    /// Samples there should be.
    pub expected: u32,
    /// Sum of the values in wire integers.
    pub sum: i128,
    /// The least value.
    pub min: i64,
    /// The greatest value.
    pub max: i64,
    /// The value with the greatest (time, seq, boot).
    pub last: i64,
}

/// Device, resolution, channel, start.
type Key = (u32, u32, u16, i64);

const VALUE_BYTES: usize = 4 + 4 + 4 + 16 + 8 + 8 + 8;
/// What an unwritten record takes, about.
const DIRTY_BYTES: usize = 160;

#[derive(Default)]
pub(super) struct Rollups {
    dirty: BTreeMap<Key, Rollup>,
}

fn key_bytes((device, resolution_s, channel, start_ms): Key) -> [u8; 18] {
    let mut key = [0; 18];
    key[..4].copy_from_slice(&device.to_be_bytes());
    key[4..8].copy_from_slice(&resolution_s.to_be_bytes());
    key[8..10].copy_from_slice(&channel.to_be_bytes());
    key[10..].copy_from_slice(&start_ms.to_be_bytes());
    key
}

impl Rollup {
    fn encode(&self) -> [u8; VALUE_BYTES] {
        let mut bytes = [0; VALUE_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.revision.to_be_bytes());
        put(&self.count.to_be_bytes());
        put(&self.expected.to_be_bytes());
        put(&self.sum.to_be_bytes());
        put(&self.min.to_be_bytes());
        put(&self.max.to_be_bytes());
        put(&self.last.to_be_bytes());
        bytes
    }

    fn decode((_, resolution_s, channel, start_ms): Key, mut bytes: &[u8]) -> Option<Self> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(*taken)
        }
        let bytes = &mut bytes;
        Some(Self {
            resolution_s,
            start_ms,
            channel,
            revision: u32::from_be_bytes(take(bytes)?),
            count: u32::from_be_bytes(take(bytes)?),
            expected: u32::from_be_bytes(take(bytes)?),
            sum: i128::from_be_bytes(take(bytes)?),
            min: i64::from_be_bytes(take(bytes)?),
            max: i64::from_be_bytes(take(bytes)?),
            last: i64::from_be_bytes(take(bytes)?),
        })
    }

    fn decoded(key: Key, bytes: &[u8]) -> Result<Self, StoreError> {
        Self::decode(key, bytes).ok_or(StoreError::Corrupt { what: "rollup" })
    }
}

impl Rollups {
    pub(super) fn prepare(&self, disk: &Disk, batch: &mut OwnedWriteBatch) -> Result<(), StoreError> {
        for (&key, rollup) in &self.dirty {
            let spaces = disk.month(Month::of(rollup.start_ms))?;
            batch.insert(&spaces.rollups, key_bytes(key), rollup.encode());
        }
        Ok(())
    }

    pub(super) fn settle(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn forget_month(&mut self, range_ms: &Range<i64>) {
        self.dirty.retain(|_, rollup| !range_ms.contains(&rollup.start_ms));
    }
}

impl Store {
    /// Writes a window to memory, in place of an older revision or the same; true unless a newer one is there.
    ///
    /// # Errors
    /// [`StoreError::InvalidRows`] for a start before 1970 or after 9998; [`StoreError::Disk`],
    /// [`StoreError::Corrupt`], [`StoreError::TooManyMonths`], [`StoreError::Poisoned`],
    /// [`StoreError::UnknownDevice`].
    pub fn put_rollup(&self, DeviceKey(device): DeviceKey, rollup: &Rollup) -> Result<bool, StoreError> {
        let _writer = self.writer()?;
        if !(0..super::disk::TIME_END_MS).contains(&rollup.start_ms) {
            return Err(StoreError::InvalidRows { what: "a window does not start between 1970 and 9999" });
        }
        let mut memory = self.memory_mut();
        if device as usize >= memory.heads.len() {
            return Err(StoreError::UnknownDevice(device));
        }
        let key = (device, rollup.resolution_s, rollup.channel, rollup.start_ms);
        let held = match memory.rollups.dirty.get(&key) {
            Some(held) => Some(*held),
            None => {
                let spaces = self.disk.month(Month::of(rollup.start_ms))?;
                let bytes = spaces.rollups.get(key_bytes(key))?;
                bytes.map(|bytes| Rollup::decoded(key, &bytes)).transpose()?
            }
        };
        if held.is_some_and(|held| held.revision > rollup.revision) {
            return Ok(false);
        }
        if memory.rollups.dirty.insert(key, *rollup).is_none() {
            memory.bytes += DIRTY_BYTES;
        }
        Ok(true)
    }

    /// The windows of a device and channel with `range_ms.start <= start < range_ms.end`, ascending, the newest
    /// revision of each.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Corrupt`].
    pub fn scan_rollups(
        &self,
        DeviceKey(device): DeviceKey,
        resolution_s: u32,
        channel: u16,
        range_ms: Range<i64>,
    ) -> Result<Vec<Rollup>, StoreError> {
        if range_ms.is_empty() {
            return Ok(Vec::new());
        }
        let key_at = |start_ms: i64| (device, resolution_s, channel, start_ms.max(0));
        let memory = self.memory_ref();
        let mut found = BTreeMap::new();
        let (first_month, last_month) = (Month::of(range_ms.start), Month::of(range_ms.end - 1));
        for (month, spaces) in self.disk.months() {
            if month < first_month || month > last_month {
                continue;
            }
            let range = key_bytes(key_at(range_ms.start))..key_bytes(key_at(range_ms.end));
            for entry in spaces.rollups.range(range) {
                let (key, bytes) = entry.into_inner()?;
                let start_ms = (key.get(10..).and_then(|bytes| bytes.try_into().ok()))
                    .map(i64::from_be_bytes)
                    .ok_or(StoreError::Corrupt { what: "rollup key" })?;
                found.insert(start_ms, Rollup::decoded(key_at(start_ms), &bytes)?);
            }
        }
        let dirty = memory.rollups.dirty.range(key_at(range_ms.start)..key_at(range_ms.end));
        found.extend(dirty.map(|(_, &rollup)| (rollup.start_ms, rollup)));
        Ok(found.into_values().collect())
    }
}
