//! Segments, commits and recovery.

use super::{
    Entry, Limits, Recovered, SpoolError, reconcile,
    record::{self, HEADER_BYTES, Reader, Record},
};
use crate::samples::Samples;
use hunhe_edge_core::outbox::{Range, State};
use hunhe_proto::reading::ABSENT;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    limits: Limits,
    /// Held for its lock.
    _lock: File,
    entries: Vec<Entry>,
    states: Vec<State>,
    newest_ms: Vec<Option<i64>>,
    segments: Vec<Segment>,
    /// The last segment, open for appending.
    file: Option<File>,
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

impl Disk {
    pub(super) fn open(
        folder: &Path,
        limits: Limits,
        entries: &[Entry],
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        let io = |action| {
            let path = folder.to_path_buf();
            move |source| SpoolError::Io { path, action, source }
        };
        std::fs::create_dir_all(folder).map_err(io("create the folder"))?;
        let lock = File::create(folder.join("lock")).map_err(io("create the lock"))?;
        lock.try_lock().map_err(|_| SpoolError::Locked(folder.to_path_buf()))?;
        let mut found = Found::new(entries);
        let mut segments = Vec::new();
        let numbers = segment_numbers(folder).map_err(io("list the folder"))?;
        for (index, &number) in numbers.iter().enumerate() {
            let path = segment_path(folder, number);
            let bytes = std::fs::read(&path).map_err(|source| SpoolError::Io {
                path: path.clone(),
                action: "read",
                source,
            })?;
            let (ends, valid) = found.read_segment(&bytes);
            if valid < bytes.len() && index + 1 == numbers.len() {
                trim(&path, valid).map_err(|source| SpoolError::Io {
                    path: path.clone(),
                    action: "trim",
                    source,
                })?;
            }
            segments.push(Segment { number, bytes: valid as u64, ends });
        }
        let recovered = found.finish();
        let states = recovered.iter().map(|device| device.state.clone()).collect();
        let newest_ms = recovered.iter().map(|device| device.newest_ms).collect();
        let mut disk = Self {
            folder: folder.to_path_buf(),
            limits,
            _lock: lock,
            entries: entries.to_vec(),
            states,
            newest_ms,
            segments,
            file: None,
            pending: Vec::new(),
            pending_ends: BTreeMap::new(),
        };
        disk.begin_frame();
        // A new segment at each start: what was read is never written again, and new boots are durable at once.
        disk.roll()?;
        Ok((disk, recovered))
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
        if self.is_dirty() {
            self.write_frame()?;
        }
        if self.segments.last().is_some_and(|segment| segment.bytes >= self.limits.segment_bytes) {
            self.roll()?;
        }
        self.release(held_from)
    }

    fn write_frame(&mut self) -> Result<(), SpoolError> {
        record::close_frame(&mut self.pending, 0);
        let io = |action, folder: &Path, number| {
            let path = segment_path(folder, number);
            move |source| SpoolError::Io { path, action, source }
        };
        let (Some(segment), Some(file)) = (self.segments.last_mut(), self.file.as_mut()) else {
            return Ok(());
        };
        file.write_all(&self.pending).map_err(io("write", &self.folder, segment.number))?;
        file.sync_data().map_err(io("sync", &self.folder, segment.number))?;
        segment.bytes += self.pending.len() as u64;
        segment.ends.append(&mut self.pending_ends);
        self.begin_frame();
        Ok(())
    }

    /// Starts a segment with all that must be known of every device.
    fn roll(&mut self) -> Result<(), SpoolError> {
        let number = self.segments.last().map_or(0, |segment| segment.number + 1);
        let path = segment_path(&self.folder, number);
        let io = |action| {
            let path = path.clone();
            move |source| SpoolError::Io { path, action, source }
        };
        let mut file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(io("create"))?;
        let mut frame = vec![0; HEADER_BYTES];
        for ((entry, state), newest_ms) in self.entries.iter().zip(&self.states).zip(&self.newest_ms) {
            record::write_device(&mut frame, entry.device, state, *newest_ms, &entry.channels);
        }
        record::close_frame(&mut frame, 0);
        file.write_all(&frame).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io("sync the folder of"))?;
        self.segments.push(Segment { number, bytes: frame.len() as u64, ends: BTreeMap::new() });
        self.file = Some(file);
        Ok(())
    }

    /// Deletes segments from the front that hold nothing owed; the newest stays.
    fn release(&mut self, held_from: &[u64]) -> Result<(), SpoolError> {
        while let [oldest, _, ..] = self.segments.as_slice() {
            let owed =
                |(&device, &end): (&usize, &u64)| held_from.get(device).is_some_and(|&from| from < end);
            if oldest.ends.iter().any(owed) {
                break;
            }
            let path = segment_path(&self.folder, oldest.number);
            std::fs::remove_file(&path).map_err(|source| SpoolError::Io {
                path,
                action: "delete",
                source,
            })?;
            self.segments.remove(0);
        }
        Ok(())
    }

    pub(super) fn excess(&self) -> Vec<(usize, Range)> {
        match self.segments.as_slice() {
            [oldest, _, ..] if self.bytes() > self.limits.bytes_max => {
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

/// What a scan of the segments found, by configured device.
struct Found<'a> {
    entries: &'a [Entry],
    devices: Vec<Option<FoundDevice>>,
}

impl<'a> Found<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self { entries, devices: entries.iter().map(|_| None).collect() }
    }

    /// Reads a segment; returns the newest sample by device and the end of its last whole frame.
    fn read_segment(&mut self, bytes: &[u8]) -> (BTreeMap<usize, u64>, usize) {
        let mut ends = BTreeMap::new();
        // This segment's device numbers: which configured device, and where its values stand in a row of today.
        let mut numbered: Vec<(Option<usize>, Vec<Option<usize>>)> = Vec::new();
        let (mut at, mut valid) = (0, 0);
        while at < bytes.len() {
            // A damaged frame hides its length: the next one is found by its magic and checksum.
            let Some(payload) = bytes.get(at..).and_then(record::frame_payload) else {
                at += 1;
                continue;
            };
            at += HEADER_BYTES + payload.len();
            valid = at;
            let mut reader = Reader { rest: payload };
            loop {
                let width = |device: usize| numbered.get(device).map(|(_, places)| places.len());
                let Some(record) = reader.next(width) else { break };
                self.apply(record, &mut numbered, &mut ends);
            }
        }
        (ends, valid)
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

    fn finish(self) -> Vec<Recovered> {
        let found = self.devices.into_iter().zip(self.entries);
        found
            .map(|(found, entry)| {
                let width = entry.channels.len();
                let Some(mut found) = found else { return Recovered::fresh(width) };
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

fn trim(path: &Path, valid: usize) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(valid as u64)?;
    file.sync_all()
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("outbox-{number:010}.seg"))
}

fn segment_numbers(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("outbox-")?.strip_suffix(".seg")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
