//! Segments, commits and recovery.
//!
//! Order is what makes it safe: a frame is synced before the next is written, a segment's first frame and its name before
//! anything in it counts, and what allows a segment's deletion is durable before the deletion. So only the last frame of
//! the last segment can be torn, or be in the page cache alone, and recovery writes that one anew.

use super::{
    Entry, Limits, Recovered, SpoolError, reconcile,
    record::{self, HEADER_BYTES, Reader, Record},
};
use crate::samples::Samples;
use hunhe_disk::{Disk, File, Lock, Open};
use hunhe_edge_core::outbox::{Range, State};
use hunhe_proto::reading::ABSENT;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Segments beyond those that the byte bound allows when full: starts that took samples and never delivered any.
const SEGMENTS_SPARE: u64 = 1024;

#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    limits: Limits,
    /// Held for its lock.
    _lock: Arc<dyn File>,
    entries: Vec<Entry>,
    states: Vec<State>,
    newest_ms: Vec<Option<i64>>,
    segments: Vec<Segment>,
    /// The last segment, open for appending.
    file: Option<Arc<dyn File>>,
    /// A write, sync or deletion failed: nothing counts as durable any more.
    failed: bool,
    /// The frame being gathered; the header's place is left free.
    pending: Vec<u8>,
    /// One past the newest sample in `pending`, by device.
    pending_ends: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// One past the newest sample in it, by device.
    ends: BTreeMap<usize, u64>,
}

impl Log {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        limits: Limits,
        entries: &[Entry],
        draw_boot: impl FnMut() -> u32,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let io = |action| io_at(folder, action);
        disk.make_dir(folder).map_err(io("create the folder"))?;
        let lock = disk.open(&folder.join("lock"), Open::Keep).map_err(io("create the lock"))?;
        if !lock.try_lock(Lock::Exclusive).map_err(io("take the lock"))? {
            return Err(SpoolError::Locked(folder.to_path_buf()));
        }
        let mut found = Found::new(entries);
        let mut segments = Vec::new();
        for number in segment_numbers(&*disk, folder).map_err(io("list the folder"))? {
            let path = segment_path(folder, number);
            let bytes = disk.read(&path).map_err(io_at(&path, "read"))?;
            let (ends, extent) = found.read_segment(&bytes);
            segments.push((Segment { number, bytes: extent.end as u64, ends }, extent));
        }
        // A crash while a segment was begun leaves one without a whole frame. Its number is free again, so that starts that
        // fail here leave no more than one.
        while let Some((segment, _)) = segments.pop_if(|(segment, _)| segment.bytes == 0) {
            let path = segment_path(folder, segment.number);
            disk.remove(&path).map_err(io_at(&path, "delete"))?;
        }
        if let Some((segment, extent)) = segments.last() {
            let path = segment_path(folder, segment.number);
            trim(&*disk, &path, *extent).map_err(io_at(&path, "trim"))?;
        }
        let segments = segments.into_iter().map(|(segment, _)| segment).collect();
        let recovered = found.finish(draw_boot);
        let states = recovered.iter().map(|device| device.state.clone()).collect();
        let newest_ms = recovered.iter().map(|device| device.newest_ms).collect();
        let mut log = Self {
            disk,
            folder: folder.to_path_buf(),
            limits,
            _lock: lock,
            entries: entries.to_vec(),
            states,
            newest_ms,
            segments,
            file: None,
            failed: false,
            pending: Vec::new(),
            pending_ends: BTreeMap::new(),
        };
        log.begin_frame();
        // A new segment at each start: what was read is never written again, and new boots are durable at once.
        log.roll()?;
        log.delete_empty()?;
        Ok((log, recovered))
    }

    fn begin_frame(&mut self) {
        self.pending.clear();
        self.pending.resize(HEADER_BYTES, 0);
    }

    pub(super) fn append(&mut self, device: usize, seq: u64, time_ms: i64, values: &[i64]) {
        record::write_sample(&mut self.pending, device, seq, time_ms, values);
        self.pending_ends.insert(device, seq + 1);
        if let Some(state) = self.states.get_mut(device) {
            state.next_seq = seq + 1;
        }
        if let Some(newest) = self.newest_ms.get_mut(device) {
            *newest = Some(time_ms);
        }
    }

    pub(super) fn note(&mut self, device: usize, state: &State) {
        record::write_state(&mut self.pending, device, state);
        if let Some(known) = self.states.get_mut(device) {
            known.clone_from(state);
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.pending.len() > HEADER_BYTES
    }

    pub(super) fn commit(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        if self.failed {
            return Err(SpoolError::Failed(self.folder.clone()));
        }
        self.failed = true;
        if self.is_dirty() {
            self.write_frame()?;
        }
        if self.segments.last().is_some_and(|segment| segment.bytes >= self.limits.segment_bytes) {
            self.roll()?;
        }
        self.release(held_from)?;
        self.failed = false;
        Ok(())
    }

    fn write_frame(&mut self) -> Result<(), SpoolError> {
        record::close_frame(&mut self.pending, 0);
        let (Some(segment), Some(file)) = (self.segments.last_mut(), self.file.as_ref()) else {
            return Ok(());
        };
        let path = segment_path(&self.folder, segment.number);
        file.write_all_at(&self.pending, segment.bytes).map_err(io_at(&path, "write"))?;
        file.sync_data().map_err(io_at(&path, "sync"))?;
        segment.bytes += self.pending.len() as u64;
        segment.ends.append(&mut self.pending_ends);
        self.begin_frame();
        Ok(())
    }

    /// Starts a segment with all that must be known of every device.
    fn roll(&mut self) -> Result<(), SpoolError> {
        let number = self.segments.last().map_or(0, |segment| segment.number + 1);
        let path = segment_path(&self.folder, number);
        let file = self.disk.open(&path, Open::New).map_err(io_at(&path, "create"))?;
        let mut frame = vec![0; HEADER_BYTES];
        for ((entry, state), newest_ms) in self.entries.iter().zip(&self.states).zip(&self.newest_ms) {
            record::write_device(&mut frame, entry.device, state, *newest_ms, &entry.channels);
        }
        record::close_frame(&mut frame, 0);
        file.write_all_at(&frame, 0).map_err(io_at(&path, "write"))?;
        file.sync_data().map_err(io_at(&path, "sync"))?;
        self.disk.sync_dir(&self.folder).map_err(io_at(&path, "sync the folder of"))?;
        self.segments.push(Segment { number, bytes: frame.len() as u64, ends: BTreeMap::new() });
        self.file = Some(file);
        Ok(())
    }

    /// Deletes segments from the front that hold nothing owed; the newest stays.
    fn release(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        let owed = |(&device, &end): (&usize, &u64)| held_from.get(device).is_some_and(|&from| from < end);
        let kept = self.segments.len().saturating_sub(1);
        let passed = self.segments.iter().take(kept).take_while(|segment| !segment.ends.iter().any(owed));
        let passed = passed.map(|segment| segment.number).collect::<Vec<_>>();
        self.delete(&passed)
    }

    /// Deletes segments without samples wherever they are, so that starts without progress do not pile them up. What
    /// they knew of the devices, the newest knows.
    fn delete_empty(&mut self) -> Result<(), SpoolError> {
        let kept = self.segments.len().saturating_sub(1);
        let empty = self.segments.iter().take(kept).filter(|segment| segment.ends.is_empty());
        let empty = empty.map(|segment| segment.number).collect::<Vec<_>>();
        self.delete(&empty)
    }

    fn delete(&mut self, numbers: &[u64]) -> Result<(), SpoolError> {
        for &number in numbers {
            let path = segment_path(&self.folder, number);
            self.disk.remove(&path).map_err(io_at(&path, "delete"))?;
            self.segments.retain(|segment| segment.number != number);
        }
        if numbers.is_empty() {
            return Ok(());
        }
        self.disk.sync_dir(&self.folder).map_err(io_at(&self.folder, "sync"))
    }

    pub(super) fn excess(&self) -> Vec<(usize, Range)> {
        let segments_max = self.limits.bytes_max / self.limits.segment_bytes.max(1) + SEGMENTS_SPARE;
        let over = self.bytes() > self.limits.bytes_max || self.segments.len() as u64 > segments_max;
        match self.segments.as_slice() {
            [oldest, _, ..] if over => {
                oldest.ends.iter().map(|(&device, &end)| (device, Range { start: 0, end })).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

struct FoundDevice {
    state: State,
    newest_ms: Option<i64>,
    samples: Samples,
    lost: Vec<Range>,
}

/// Where the last whole frame of a segment starts and ends.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    last_frame: usize,
    end: usize,
}

/// What a scan of the segments found, by configured device.
struct Found<'a> {
    entries: &'a [Entry],
    devices: Vec<Option<FoundDevice>>,
}

impl<'a> Found<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self { entries, devices: entries.iter().map(|_| None).collect() }
    }

    /// Reads a segment; returns the newest sample by device and how far it is whole.
    fn read_segment(&mut self, bytes: &[u8]) -> (BTreeMap<usize, u64>, Extent) {
        let mut ends = BTreeMap::new();
        // This segment's device numbers: which configured device, and where its values stand in a row of today.
        let mut numbered: Vec<(Option<usize>, Vec<Option<usize>>)> = Vec::new();
        let (mut at, mut extent) = (0, Extent::default());
        while at < bytes.len() {
            // A damaged frame hides its length: the next one is found by its magic and checksum.
            let Some(payload) = bytes.get(at..).and_then(record::frame_payload) else {
                at += 1;
                continue;
            };
            extent = Extent { last_frame: at, end: at + HEADER_BYTES + payload.len() };
            at = extent.end;
            let mut reader = Reader { rest: payload };
            loop {
                let width = |device: usize| numbered.get(device).map(|(_, places)| places.len());
                let Some(record) = reader.next(width) else { break };
                self.apply(record, &mut numbered, &mut ends);
            }
        }
        (ends, extent)
    }

    fn apply(
        &mut self,
        record: Record,
        numbered: &mut Vec<(Option<usize>, Vec<Option<usize>>)>,
        ends: &mut BTreeMap<usize, u64>,
    ) {
        match record {
            Record::Device { device, state, newest_ms, channels } => {
                let index = self.entries.iter().position(|entry| entry.device == device);
                let places = channels.iter().map(|channel| {
                    index.and_then(|index| {
                        self.entries[index].channels.iter().position(|known| known == channel)
                    })
                });
                numbered.push((index, places.collect()));
                if let Some(index) = index {
                    self.meet(index, *state, newest_ms);
                }
            }
            Record::Sample { device, seq, time_ms, values } => {
                let Some((Some(index), places)) = numbered.get(device) else { return };
                let mut row = vec![ABSENT; self.entries[*index].channels.len()];
                for (value, place) in values.into_iter().zip(places) {
                    if let Some(slot) = place.and_then(|place| row.get_mut(place)) {
                        *slot = value;
                    }
                }
                let Some(found) = &mut self.devices[*index] else { return };
                if seq < found.samples.next_seq() {
                    return;
                }
                found.skip_to(seq, row.len());
                found.samples.push(time_ms, &row);
                found.newest_ms = Some(time_ms);
                found.state.next_seq = found.state.next_seq.max(seq + 1);
                ends.insert(*index, seq + 1);
            }
            Record::State { device, through, drops } => {
                let Some((Some(index), _)) = numbered.get(device) else { return };
                if let Some(found) = &mut self.devices[*index] {
                    found.state.through = found.state.through.max(through);
                    found.state.drops = drops.into_iter().collect();
                }
            }
        }
    }

    fn meet(&mut self, index: usize, state: State, newest_ms: Option<i64>) {
        let width = self.entries[index].channels.len();
        if let Some(found) = &mut self.devices[index] {
            found.skip_to(state.next_seq, width);
            (found.state, found.newest_ms) = (state, newest_ms);
        } else {
            // What was released lies below the first sample that is met; until then nothing is.
            let samples = Samples::new(width, state.through);
            self.devices[index] = Some(FoundDevice { state, newest_ms, samples, lost: Vec::new() });
        }
    }

    fn finish(self, mut draw_boot: impl FnMut() -> u32) -> Vec<Recovered> {
        let found = self.devices.into_iter().zip(self.entries);
        found
            .map(|(found, entry)| {
                let width = entry.channels.len();
                let Some(mut found) = found else { return Recovered::fresh(draw_boot(), width) };
                found.skip_to(found.state.next_seq, width);
                let state = reconcile(found.state, &mut found.samples, &found.lost);
                Recovered { state, newest_ms: found.newest_ms, samples: found.samples }
            })
            .collect()
    }
}

impl FoundDevice {
    /// Samples up to `seq` are not in the log. Empty rows keep the numbers in step; the range is declared lost.
    fn skip_to(&mut self, seq: u64, width: usize) {
        let missing = Range { start: self.samples.next_seq(), end: seq };
        if missing.count() == 0 {
            return;
        }
        self.lost.push(missing);
        if self.samples.first_seq() == self.samples.next_seq() {
            self.samples = Samples::new(width, seq);
        } else {
            let row = vec![ABSENT; width];
            for _ in missing.start..missing.end {
                self.samples.push(0, &row);
            }
        }
    }
}

/// Cuts behind the last whole frame and makes that one durable. It is written anew first: after a sync that failed, the
/// operating system takes pages for written that never were, and a second sync would pass over them.
fn trim(disk: &dyn Disk, path: &Path, extent: Extent) -> io::Result<()> {
    let file = disk.open(path, Open::Write)?;
    file.set_len(extent.end as u64)?;
    let mut frame = vec![0; extent.end - extent.last_frame];
    file.read_exact_at(&mut frame, extent.last_frame as u64)?;
    file.write_all_at(&frame, extent.last_frame as u64)?;
    file.sync_data()
}

fn io_at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_path_buf();
    move |source| SpoolError::Io { path, action, source }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("outbox-{number:010}.seg"))
}

fn segment_numbers(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<u64>> {
    let number = |name: String| name.strip_prefix("outbox-")?.strip_suffix(".seg")?.parse().ok();
    let mut numbers: Vec<u64> = disk.names(folder)?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
