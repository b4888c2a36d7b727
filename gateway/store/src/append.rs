//! Samples in order, behind all that the device has: the path of nearly every write. Reads nothing.

use super::{
    Rows, StoreError,
    block::CLOSED,
    disk::{Disk, Month},
    memory::{Dirty, Head, Memory},
    table::{TABLE_BYTES, Table, bytes_of},
};
use std::ops::Range;

impl Memory {
    /// Appends rows of a write, ascending and later than all the device has.
    pub(super) fn append(
        &mut self,
        disk: &Disk,
        device: u32,
        rows: &Rows<'_>,
        range: Range<usize>,
    ) -> Result<u32, StoreError> {
        let mut from = range.start;
        while from < range.end {
            self.open_for(disk, device, rows.times_ms[from])?;
            let head = &mut self.heads[device as usize];
            let room = self.block_rows.saturating_sub(head.rows()).max(1);
            let month = rows.times_ms[from..range.end].partition_point(|&time| time < head.month_end_ms);
            let to = from + room.min(month.max(1));
            if head.pending.is_none() {
                self.bytes += TABLE_BYTES;
            }
            head.pending.get_or_insert_default().append_rows(rows, from..to);
            head.last_ms = rows.times_ms[to - 1];
            let full = head.rows() >= self.block_rows;
            self.bytes += bytes_of(to - from, rows.channels.len());
            self.list(device);
            if full {
                self.close(disk, device)?;
            }
            from = to;
        }
        Ok(u32::try_from(range.len()).unwrap_or(u32::MAX))
    }

    /// Makes sure that the open block is of the time's month.
    fn open_for(&mut self, disk: &Disk, device: u32, time_ms: i64) -> Result<(), StoreError> {
        let Head { month_end_ms, .. } = self.heads[device as usize];
        if self.heads[device as usize].first_ms().is_some() {
            if time_ms < month_end_ms {
                return Ok(());
            }
            self.close(disk, device)?;
        }
        let month = Month::of(time_ms);
        disk.month(month)?;
        self.heads[device as usize].month_end_ms = month.end_ms();
        Ok(())
    }

    /// Turns the open block into closed ones: one, unless late samples made it too large.
    pub(super) fn close(&mut self, disk: &Disk, device: u32) -> Result<(), StoreError> {
        let table = self.take_open(disk, device)?;
        if table.len() == 0 {
            return Ok(());
        }
        for part in table.into_parts(self.block_rows) {
            if let Some(first_ms) = part.first_ms() {
                let bytes = Self::encoded(&part, CLOSED)?;
                self.put_block(device, first_ms, Dirty::Encoded(bytes));
            }
        }
        Ok(())
    }

    /// Takes all samples of the open block out, its runs on disk included, and leaves none open.
    pub(super) fn take_open(&mut self, disk: &Disk, device: u32) -> Result<Table, StoreError> {
        let head = &mut self.heads[device as usize];
        let mut table = Self::read_runs(disk, device, &head.runs)?;
        let runs = std::mem::take(&mut head.runs);
        if let Some(pending) = head.pending.take() {
            self.bytes = self.bytes.saturating_sub(pending.bytes() + TABLE_BYTES);
            if table.len() == 0 {
                table = *pending;
            } else {
                table.append(&pending);
            }
        }
        for run in runs {
            self.put_block(device, run.first_ms(), Dirty::Removed);
        }
        Ok(table)
    }
}
