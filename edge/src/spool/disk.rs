//! Segments and commits.
//!
//! Order is what makes it safe: a commit is synced before the next is written; a segment gets its name when its table is
//! durable, and the name is durable before anything in it counts; what allows a segment's deletion is durable before the
//! deletion. So only the last commit of the last segment can be torn, or be in the page cache alone, and recovery writes that
//! one anew. A segment without a table is no crash's doing, but damage.

use super::{
    Entry, Limits, Recovered, SpoolError,
    boots::Boots,
    record::{self, HEADER_BYTES},
    recover::{Finished, Found, Read},
};
use crate::samples::Samples;
use hunhe_disk::{Disk, File, Lock, Open};
use hunhe_edge_core::outbox::{Range, State};
use std::{
    collections::BTreeMap,
    fmt, io,
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
    /// The configured devices, then the retired ones.
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
    /// The states in `pending`, once more.
    pending_states: Vec<u8>,
    /// Devices whose outbox another one succeeds with the next commit.
    succeeded: Vec<usize>,
    boots: Boots,
    draw: Draw,
}

/// What boot numbers are made of.
struct Draw(Box<dyn FnMut() -> u32 + Send>);

impl fmt::Debug for Draw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Draw")
    }
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
        mut draw: impl FnMut() -> u32 + Send + 'static,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let io = |action| io_at(folder, action);
        disk.make_dir(folder).map_err(io("create the folder"))?;
        let lock = disk.open(&folder.join("lock"), Open::Keep).map_err(io("create the lock"))?;
        if !lock.try_lock(Lock::Exclusive).map_err(io("take the lock"))? {
            return Err(SpoolError::Locked(folder.to_path_buf()));
        }
        let names = disk.names(folder).map_err(io("list the folder"))?;
        let mut found = Found::new(entries, Boots::of(&names));
        let mut segments = Vec::new();
        let mut last = Read::default();
        for number in segment_numbers(&names) {
            let path = segment_path(folder, number);
            let bytes = disk.read(&path).map_err(io_at(&path, "read"))?;
            let read = found.read_segment(&bytes);
            if read.damaged > 0 || !read.has_table {
                tracing::warn!(path = %path.display(), bytes = read.damaged, "a part of the outbox is damaged");
            }
            segments.push(Segment { number, bytes: read.end as u64, ends: read.ends.clone() });
            last = read;
        }
        if let Some(segment) = segments.last().filter(|_| last.end > 0) {
            let path = segment_path(folder, segment.number);
            trim(&*disk, &path, &last).map_err(io_at(&path, "trim"))?;
        }
        let end_is_known = segments.is_empty() || last.has_table;
        for (segment, number) in segments.iter_mut().zip(1..) {
            segment.ends.retain(|&index, _| end_is_known && found.is_of(number, index));
        }
        let Finished { recovered, succeeded, boots } = found.finish(end_is_known, &mut draw);
        let retired = recovered.iter().skip(entries.len());
        let retired = retired.map(|retired| Entry::new(retired.device, retired.class_version, []));
        let mut log = Self {
            entries: entries.iter().cloned().chain(retired).collect(),
            states: recovered.iter().map(|device| device.state.clone()).collect(),
            newest_ms: recovered.iter().map(|device| device.newest_ms).collect(),
            disk,
            folder: folder.to_path_buf(),
            limits,
            _lock: lock,
            segments,
            file: None,
            failed: false,
            pending: Vec::new(),
            pending_ends: BTreeMap::new(),
            pending_states: Vec::new(),
            succeeded: Vec::new(),
            boots,
            draw: Draw(Box::new(draw)),
        };
        log.begin_frame();
        for index in succeeded {
            if let Some(recovered) = recovered.get(index) {
                log.take_over(index, &recovered.samples);
            }
        }
        log.boots.note(&*log.disk, folder).map_err(io("name a boot in"))?;
        // A new segment at each start: what was read is never written again, and new boots are durable at once.
        log.roll()?;
        let past = names.iter().filter(|name| log.boots.is_past(name)).map(|name| folder.join(name));
        log.delete_needless(past.collect())?;
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
        record::write_state(&mut self.pending_states, device, state);
        if let Some(known) = self.states.get_mut(device) {
            known.clone_from(state);
        }
    }

    /// Nothing may be pending, nor be appended or noted of this device before the next commit: that makes the outbox and what
    /// it holds durable at once, under the name of a new segment, or not at all.
    pub(super) fn succeed(&mut self, device: usize, mut state: State, held: &Samples) -> State {
        debug_assert!(self.pending.len() == HEADER_BYTES || !self.succeeded.is_empty());
        state.previous.iter().for_each(|(boot, _)| self.boots.see(*boot));
        state.boot = self.boots.fresh((self.draw.0)());
        if let Some(known) = self.states.get_mut(device) {
            known.clone_from(&state);
        }
        self.take_over(device, held);
        state
    }

    /// The outbox of this device is another's successor, and holds this from the beginning.
    fn take_over(&mut self, device: usize, held: &Samples) {
        let newest_ms = self.newest_ms.get(device).copied().flatten();
        self.succeeded.push(device);
        for (seq, row) in (held.first_seq()..).zip(held.rows(held.range())) {
            if let [time_ms, values @ ..] = row {
                self.append(device, seq, *time_ms, values);
            }
        }
        if let Some(newest) = self.newest_ms.get_mut(device) {
            *newest = newest_ms;
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.pending.len() > HEADER_BYTES || !self.succeeded.is_empty()
    }

    pub(super) fn commit(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        if self.failed {
            return Err(SpoolError::Failed(self.folder.clone()));
        }
        self.failed = true;
        if !self.succeeded.is_empty() {
            let noted = self.boots.note(&*self.disk, &self.folder);
            noted.map_err(io_at(&self.folder, "name a boot in"))?;
            self.roll()?;
        } else if self.is_dirty() {
            self.write_frame()?;
        }
        if self.segments.last().is_some_and(|segment| segment.bytes >= self.limits.segment_bytes) {
            self.roll()?;
        }
        self.release(held_from)?;
        self.failed = false;
        Ok(())
    }

    /// Makes of what is pending a commit and its tally.
    fn close_pending(&mut self) {
        record::close_frame(&mut self.pending, 0);
        let tally = self.pending.len();
        self.pending.resize(tally + HEADER_BYTES, 0);
        for (&device, &end) in &self.pending_ends {
            record::write_end(&mut self.pending, device, end);
        }
        self.pending.append(&mut self.pending_states);
        record::close_frame(&mut self.pending, tally);
    }

    fn write_frame(&mut self) -> Result<(), SpoolError> {
        self.close_pending();
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

    /// Starts a segment with all that must be known of every device, and with what succeeding outboxes hold.
    fn roll(&mut self) -> Result<(), SpoolError> {
        let number = self.segments.last().map_or(0, |segment| segment.number + 1);
        let (path, begun) = (segment_path(&self.folder, number), self.folder.join("outbox.new"));
        // What a start that failed has left under this name is no segment yet.
        let file = self.disk.open(&begun, Open::Empty).map_err(io_at(&begun, "create"))?;
        let mut table = vec![0; HEADER_BYTES];
        for ((entry, state), newest_ms) in self.entries.iter().zip(&self.states).zip(&self.newest_ms) {
            record::write_device(&mut table, entry, state, *newest_ms);
        }
        record::write_all(&mut table);
        record::close_frame(&mut table, 0);
        table.extend_from_within(..);
        if self.pending.len() > HEADER_BYTES {
            self.close_pending();
            table.append(&mut self.pending);
        }
        file.write_all_at(&table, 0).map_err(io_at(&begun, "write"))?;
        file.sync_data().map_err(io_at(&begun, "sync"))?;
        self.disk.rename(&begun, &path).map_err(io_at(&path, "name"))?;
        self.disk.sync_dir(&self.folder).map_err(io_at(&path, "sync the folder of"))?;
        for device in self.succeeded.drain(..) {
            self.segments.iter_mut().for_each(|segment| segment.ends.retain(|&of, _| of != device));
        }
        let ends = std::mem::take(&mut self.pending_ends);
        self.segments.push(Segment { number, bytes: table.len() as u64, ends });
        self.file = Some(file);
        self.begin_frame();
        Ok(())
    }

    /// Deletes segments from the front that hold nothing owed; the newest stays.
    fn release(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        let owed = |(&device, &end): (&usize, &u64)| held_from.get(device).is_some_and(|&from| from < end);
        let kept = self.segments.len().saturating_sub(1);
        let passed = self.segments.iter().take(kept).take_while(|segment| !segment.ends.iter().any(owed));
        let passed = passed.map(|segment| segment.number).collect::<Vec<_>>();
        self.delete(&passed, Vec::new())
    }

    /// Deletes segments without samples of configured devices wherever they are, so that starts without progress do not
    /// pile them up, and `further` files. What those segments knew of the devices, the newest knows; what removed devices
    /// owed, it declares lost.
    fn delete_needless(&mut self, further: Vec<PathBuf>) -> Result<(), SpoolError> {
        let kept = self.segments.len().saturating_sub(1);
        let empty = self.segments.iter().take(kept).filter(|segment| segment.ends.is_empty());
        let empty = empty.map(|segment| segment.number).collect::<Vec<_>>();
        self.delete(&empty, further)
    }

    fn delete(&mut self, numbers: &[u64], further: Vec<PathBuf>) -> Result<(), SpoolError> {
        let segments = numbers.iter().map(|&number| segment_path(&self.folder, number));
        let paths: Vec<PathBuf> = segments.chain(further).collect();
        for path in &paths {
            self.disk.remove(path).map_err(io_at(path, "delete"))?;
        }
        self.segments.retain(|segment| !numbers.contains(&segment.number));
        if paths.is_empty() {
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

/// Cuts behind the last whole frame and makes the last commit, its last two frames, durable. They are written anew first:
/// after a sync that failed, the operating system takes pages for written that never were, and a second sync would pass over
/// them.
fn trim(disk: &dyn Disk, path: &Path, read: &Read) -> io::Result<()> {
    let file = disk.open(path, Open::Write)?;
    file.set_len(read.end as u64)?;
    let mut frames = vec![0; read.end - read.last_from];
    file.read_exact_at(&mut frames, read.last_from as u64)?;
    file.write_all_at(&frames, read.last_from as u64)?;
    file.sync_data()
}

fn io_at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SpoolError::Full { path, action, source }
        }
        _ => SpoolError::Io { path, action, source },
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("outbox-{number:010}.seg"))
}

fn segment_numbers(names: &[String]) -> Vec<u64> {
    let number = |name: &String| name.strip_prefix("outbox-")?.strip_suffix(".seg")?.parse().ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}
