//! Samples out of order: behind the newest of their device, or in a write that is not ascending. They revise the
//! block they fall into; between two blocks they extend one that has room, or become a block of their own.
//!
//! Each group of late samples may read and decode one block from disk. That block stays decoded in memory until the next
//! checkpoint, so a backlog that comes in many writes decodes it once.

use super::{
    Conflict, Rows, StoreError, WriteOutcome,
    block::{self, Header},
    disk::{self, Disk, Month},
    memory::{Dirty, Memory},
    table::Table,
};
use std::{ops::Bound, sync::Arc};

/// A closed block, wherever it is.
#[derive(Debug, Clone, Copy)]
struct Found {
    first_ms: i64,
    last_ms: i64,
    rows: usize,
}

impl Memory {
    pub(super) fn write_late(
        &mut self,
        disk: &Disk,
        device: u32,
        rows: &Rows<'_>,
        outcome: &mut WriteOutcome,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<(), StoreError> {
        let mut order: Vec<usize> = (0..rows.times_ms.len()).collect();
        order.sort_by_key(|&row| rows.times_ms[row]);
        let mut left = &order[..];
        while let Some(&row) = left.first() {
            let time_ms = rows.times_ms[row];
            let head = &self.heads[device as usize];
            let open_ms = head.first_ms();
            let done = if time_ms > head.last_ms {
                outcome.stored += self.append(disk, device, rows, row..row + 1)?;
                1
            } else if open_ms.is_some_and(|open_ms| time_ms >= open_ms) {
                self.offer_open(disk, device, rows, left, outcome, conflicts)?
            } else {
                // What is newer than all else is appended, even where no block is open.
                let end_ms = open_ms.unwrap_or(head.last_ms + 1);
                self.offer_closed(disk, device, rows, left, end_ms, outcome, conflicts)?
            };
            left = &left[done..];
        }
        Ok(())
    }

    /// Offers what lies within the open block, whose runs come to memory unless all of it is still there.
    fn offer_open(
        &mut self,
        disk: &Disk,
        device: u32,
        rows: &Rows<'_>,
        left: &[usize],
        outcome: &mut WriteOutcome,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<usize, StoreError> {
        let head = &self.heads[device as usize];
        let last_ms = head.last_ms;
        let pending_ms = head.pending.as_ref().and_then(|table| table.first_ms());
        if pending_ms.is_none_or(|pending_ms| rows.times_ms[left[0]] < pending_ms) {
            let table = self.take_open(disk, device)?;
            self.bytes += table.bytes();
            self.heads[device as usize].pending = Some(Box::new(table));
            self.list(device);
        }
        let done = left.partition_point(|&row| rows.times_ms[row] <= last_ms);
        let head = &mut self.heads[device as usize];
        let table = head.pending.get_or_insert_default();
        let before = table.bytes();
        for &row in &left[..done] {
            table.offer(rows, row, outcome, conflicts);
        }
        self.bytes = (self.bytes + table.bytes()).saturating_sub(before);
        if head.rows() >= self.block_rows {
            self.close(disk, device)?;
        }
        Ok(done)
    }

    /// Offers what lies before `end_ms`, up to the next closed block or the end of the month.
    #[expect(clippy::too_many_arguments, reason = "one call, and a struct would only name them twice")]
    fn offer_closed(
        &mut self,
        disk: &Disk,
        device: u32,
        rows: &Rows<'_>,
        left: &[usize],
        end_ms: i64,
        outcome: &mut WriteOutcome,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<usize, StoreError> {
        let time_ms = rows.times_ms[left[0]];
        let month = Month::of(time_ms);
        disk.month(month)?;
        let limit_ms = month.end_ms().min(end_ms);
        let before = self.neighbour(disk, device, month, (month.start_ms(), time_ms + 1), false)?;
        let after = self.neighbour(disk, device, month, (time_ms + 1, limit_ms), true)?;
        let limit_ms = after.map_or(limit_ms, |after| after.first_ms);
        let done = left.partition_point(|&row| rows.times_ms[row] < limit_ms);

        let revised = before
            .filter(|block| time_ms <= block.last_ms || block.rows < self.block_rows)
            .or_else(|| after.filter(|block| block.rows + done <= self.block_rows));
        let mut table = match revised {
            Some(block) => self.take_block(disk, device, month, block.first_ms)?,
            None => Table::default(),
        };
        for &row in &left[..done] {
            table.offer(rows, row, outcome, conflicts);
        }
        for part in table.into_parts(self.block_rows) {
            if let Some(first_ms) = part.first_ms() {
                self.put_block(device, first_ms, Dirty::Rows(part.into()));
            }
        }
        Ok(done)
    }

    /// The closed block that begins last (or, `ascending`, first) in a range of one month.
    fn neighbour(
        &self,
        disk: &Disk,
        device: u32,
        month: Month,
        (from_ms, to_ms): (i64, i64),
        ascending: bool,
    ) -> Result<Option<Found>, StoreError> {
        if from_ms >= to_ms {
            return Ok(None);
        }
        let changed = self.changed_neighbour(device, (from_ms, to_ms), ascending)?;
        let spaces = disk.month(month)?;
        let mut stored =
            spaces.blocks.range(disk::block_key(device, from_ms)..disk::block_key(device, to_ms));
        while let Some(block) = if ascending { stored.next() } else { stored.next_back() } {
            let (key, bytes) = block.into_inner()?;
            let first_ms = disk::first_ms_of(&key)?;
            if self.blocks.contains_key(&(device, first_ms)) {
                continue;
            }
            let Header { rows, span_ms, .. } = block::header(&bytes)?;
            let found = Found { first_ms, last_ms: first_ms + span_ms, rows };
            return Ok(match changed {
                Some(changed) if (changed.first_ms < first_ms) == ascending => Some(changed),
                _ => Some(found),
            });
        }
        Ok(changed)
    }

    fn changed_neighbour(
        &self,
        device: u32,
        (from_ms, to_ms): (i64, i64),
        ascending: bool,
    ) -> Result<Option<Found>, StoreError> {
        let mut changed = (self.blocks)
            .range((Bound::Included((device, from_ms)), Bound::Excluded((device, to_ms))))
            .filter(|(_, block)| !matches!(block, Dirty::Removed));
        let Some((&(_, first_ms), block)) = (if ascending { changed.next() } else { changed.next_back() })
        else {
            return Ok(None);
        };
        let (rows, last_ms) = match block {
            Dirty::Removed => return Ok(None),
            Dirty::Encoded(bytes) => {
                let Header { rows, span_ms, .. } = block::header(bytes)?;
                (rows, first_ms + span_ms)
            }
            Dirty::Rows(table) => (table.len(), table.last_ms().unwrap_or(first_ms)),
        };
        Ok(Some(Found { first_ms, last_ms, rows }))
    }

    /// Takes a closed block out, to be put back under what is then its first sample.
    fn take_block(
        &mut self,
        disk: &Disk,
        device: u32,
        month: Month,
        first_ms: i64,
    ) -> Result<Table, StoreError> {
        let stored;
        let table = match self.blocks.get_mut(&(device, first_ms)) {
            Some(Dirty::Rows(table)) => {
                self.bytes = self.bytes.saturating_sub(table.bytes());
                Arc::unwrap_or_clone(std::mem::take(table))
            }
            Some(Dirty::Encoded(bytes)) => block::decode(bytes, first_ms, None)?,
            Some(Dirty::Removed) | None => {
                stored = (disk.month(month)?.blocks.get(disk::block_key(device, first_ms))?)
                    .ok_or(StoreError::Corrupt { what: "block" })?;
                block::decode(&stored, first_ms, None)?
            }
        };
        self.put_block(device, first_ms, Dirty::Removed);
        Ok(table)
    }
}
