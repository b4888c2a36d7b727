//! A file's content as processes see it, and as a power cut leaves it.

use super::BLOCK_BYTES;
use crate::Lock;
use std::{collections::BTreeSet, sync::Arc};

/// Numbers that look random and follow from a seed: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }
}

/// Content is shared with forks until one of them writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    current: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Blocks written since the last sync.
    dirty: BTreeSet<usize>,
    /// The length was changed since the last sync.
    resized: bool,
    /// Locks, by the numbers of the handles that have them.
    locks: Vec<(u64, Lock)>,
    pub(super) open: u32,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.current.len() as u64
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn read_at(&self, into: &mut [u8], at: u64) -> usize {
        let rest = usize::try_from(at).ok().and_then(|at| self.current.get(at..)).unwrap_or_default();
        let bytes = rest.len().min(into.len());
        into[..bytes].copy_from_slice(&rest[..bytes]);
        bytes
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        // Bytes between the old end and the write are zeros, in blocks that count as written with it.
        let from = at.min(self.current.len());
        self.resize(end.max(self.current.len()));
        Arc::make_mut(&mut self.current)[at..end].copy_from_slice(bytes);
        self.dirty.extend(from / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES);
    }

    pub(super) fn resize(&mut self, len: usize) {
        if len != self.current.len() {
            // The block that the end lies in is written, too: cutting zeroes its rest.
            self.dirty.insert(len.min(self.current.len()) / BLOCK_BYTES);
            Arc::make_mut(&mut self.current).resize(len, 0);
            self.resized = true;
        }
    }

    pub(super) fn sync(&mut self) {
        if self.resized {
            let len = self.current.len();
            Arc::make_mut(&mut self.durable).resize(len, 0);
            self.resized = false;
        }
        if self.dirty.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for block in std::mem::take(&mut self.dirty) {
            copy_block(&self.current, durable, block, BLOCK_BYTES);
        }
    }

    /// Some of the blocks that a sync should have written are taken for written.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.dirty.retain(|_| random.one_in(2));
    }

    pub(super) fn power_loss(&mut self, random: &mut Random) {
        if !self.resized && self.dirty.is_empty() {
            self.current = Arc::clone(&self.durable);
            return;
        }
        let (old, new) = (self.durable.len(), self.current.len());
        let len = match (self.resized, random.below(3)) {
            (false, _) | (true, 0) => old,
            (true, 1) => new,
            (true, _) => old.min(new) + random.below(old.abs_diff(new) + 1),
        };
        let durable = Arc::make_mut(&mut self.durable);
        durable.resize(len, 0);
        for block in std::mem::take(&mut self.dirty) {
            let bytes = match random.below(5) {
                0 | 1 => 0,
                2 | 3 => BLOCK_BYTES,
                _ => random.below(BLOCK_BYTES),
            };
            copy_block(&self.current, durable, block, bytes);
        }
        self.resized = false;
        self.current = Arc::clone(&self.durable);
    }

    /// Changes it at rest: all that was written counts as synced.
    pub(super) fn settle(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(Arc::make_mut(&mut self.current));
        self.durable = Arc::clone(&self.current);
        self.dirty.clear();
        self.resized = false;
    }

    pub(super) fn try_lock(&mut self, handle: u64, kind: Lock) -> bool {
        let others = self.locks.iter().filter(|(other, _)| *other != handle);
        if others.into_iter().any(|(_, lock)| *lock == Lock::Exclusive || kind == Lock::Exclusive) {
            return false;
        }
        self.unlock(handle);
        self.locks.push((handle, kind));
        true
    }

    pub(super) fn unlock(&mut self, handle: u64) {
        self.locks.retain(|(other, _)| *other != handle);
    }

    /// Its processes have ended.
    pub(super) fn orphan(&mut self) {
        self.locks.clear();
        self.open = 0;
    }
}

/// Copies the first bytes of a block, as far as both have it.
fn copy_block(from: &[u8], to: &mut [u8], block: usize, bytes: usize) {
    let start = block * BLOCK_BYTES;
    let end = (start + bytes).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
