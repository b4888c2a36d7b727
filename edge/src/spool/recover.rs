//! What the segments say of each outbox.

use super::{Entry, Recovered, boots::Boots, reconcile, record};
use crate::samples::Samples;
use hunhe_edge_core::outbox::{Outbox, Range, State};
use hunhe_proto::{
    id::DeviceId,
    reading::{ABSENT, DropCause},
};
use record::{HEADER_BYTES, Reader, Record};
use std::collections::{BTreeMap, HashMap};

/// Outboxes of devices that are no longer configured and still have something to tell.
pub(super) const RETIRED_MAX: usize = 4_096;

/// How a segment reads.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// One past the newest sample in it, by configured device.
    pub(super) ends: BTreeMap<usize, u64>,
    /// Its last two whole frames begin here.
    pub(super) last_from: usize,
    /// Its last whole frame ends here.
    pub(super) end: usize,
    /// Bytes before that which belong to no whole frame.
    pub(super) damaged: usize,
    /// It says whose its samples are.
    pub(super) has_table: bool,
}

#[derive(Debug)]
struct FoundDevice {
    device: DeviceId,
    /// Which of the configured ones it is.
    entry: Option<usize>,
    state: State,
    newest_ms: Option<i64>,
    samples: Samples,
    lost: Vec<Range>,
    /// The first segment that names this outbox of the device, counted as they are read.
    began_in: u64,
    /// The last one.
    named_in: u64,
    /// A later table does not name it: it owed nothing any more.
    over: bool,
}

/// A device by its number within a segment: where it is among the found, and where its values stand in a row of today.
type Numbered = Vec<(usize, Vec<Option<usize>>)>;

/// What a scan of the segments found.
pub(super) struct Found<'a> {
    entries: &'a [Entry],
    entry_of: HashMap<DeviceId, usize>,
    devices: Vec<FoundDevice>,
    place_of: HashMap<DeviceId, usize>,
    /// Segments read.
    segments: u64,
    boots: Boots,
}

impl<'a> Found<'a> {
    pub(super) fn new(entries: &'a [Entry], boots: Boots) -> Self {
        let entry_of = entries.iter().zip(0..).map(|(entry, index)| (entry.device, index)).collect();
        Self { entries, entry_of, devices: Vec::new(), place_of: HashMap::new(), segments: 0, boots }
    }

    /// Reads the next segment.
    pub(super) fn read_segment(&mut self, bytes: &[u8]) -> Read {
        self.segments += 1;
        let mut read = Read::default();
        let mut numbered = Numbered::new();
        let (mut at, mut last_frame) = (0, 0);
        while at < bytes.len() {
            // A damaged frame hides its length: the next one is found by its magic and checksum.
            let Some(payload) = bytes.get(at..).and_then(record::frame_payload) else {
                at += 1;
                continue;
            };
            read.damaged += at - read.end;
            read.last_from = last_frame;
            last_frame = at;
            at += HEADER_BYTES + payload.len();
            read.end = at;
            let mut reader = Reader { rest: payload };
            loop {
                let width =
                    |device: usize| numbered.get(device).map(|(_, places): &(_, Vec<_>)| places.len());
                let Some(record) = reader.next(width) else { break };
                self.apply(record, &mut numbered, &mut read);
            }
        }
        read
    }

    fn apply(&mut self, record: Record, numbered: &mut Numbered, read: &mut Read) {
        let place = |device: usize| numbered.get(device).map(|&(place, _)| place);
        match record {
            Record::Device { device, state, newest_ms, channels } => {
                read.has_table = true;
                self.boots.see(state.boot);
                state.previous.iter().for_each(|(boot, _)| self.boots.see(*boot));
                let known = self.place_of.get(&device).and_then(|&place| self.devices.get(place));
                if known.is_some_and(|found| found.named_in == self.segments) {
                    return;
                }
                let place = self.meet(device, *state, newest_ms);
                let configured = self.devices[place].entry.map(|index| &self.entries[index].channels);
                let today = |channel: &u16| configured?.iter().position(|known| known == channel);
                numbered.push((place, channels.iter().map(today).collect()));
            }
            Record::All => {
                for found in &mut self.devices {
                    found.over |= found.named_in != self.segments;
                }
            }
            Record::Sample { device, seq, time_ms, values } => {
                let Some((place, places)) = numbered.get(device) else { return };
                let found = &mut self.devices[*place];
                if let Some(index) = found.entry {
                    let mut row = vec![ABSENT; self.entries[index].channels.len()];
                    for (value, place) in values.into_iter().zip(places) {
                        if let Some(slot) = place.and_then(|place| row.get_mut(place)) {
                            *slot = value;
                        }
                    }
                    if seq < found.samples.next_seq() {
                        return;
                    }
                    found.skip_to(seq);
                    found.samples.push(time_ms, &row);
                    read.ends.insert(index, seq + 1);
                }
                found.newest_ms = Some(time_ms);
                found.state.next_seq = found.state.next_seq.max(seq + 1);
            }
            Record::State { device, through, drops } => {
                let Some(place) = place(device) else { return };
                let state = &mut self.devices[place].state;
                state.through = state.through.max(through);
                state.drops = drops.into_iter().collect();
            }
            Record::End { device, next_seq } => {
                let Some(place) = place(device) else { return };
                let found = &mut self.devices[place];
                found.skip_to(next_seq);
                found.state.next_seq = found.state.next_seq.max(next_seq);
            }
        }
    }

    /// A table names an outbox; answers where it stands.
    fn meet(&mut self, device: DeviceId, state: State, newest_ms: Option<i64>) -> usize {
        let place = *self.place_of.entry(device).or_insert(self.devices.len());
        match self.devices.get_mut(place).filter(|found| !found.over && found.state.boot == state.boot) {
            Some(found) => {
                found.skip_to(state.next_seq);
                (found.state, found.newest_ms) = (state, newest_ms);
                found.named_in = self.segments;
            }
            None => {
                let entry = self.entry_of.get(&device).copied();
                let width = entry.map_or(0, |index| self.entries[index].channels.len());
                // What was released lies below the first sample that is met; until then nothing is.
                let samples = Samples::new(width, state.through);
                let found = FoundDevice {
                    device,
                    entry,
                    state,
                    newest_ms,
                    samples,
                    lost: Vec::new(),
                    began_in: self.segments,
                    named_in: self.segments,
                    over: false,
                };
                if place == self.devices.len() {
                    self.devices.push(found);
                } else {
                    self.devices[place] = found;
                }
            }
        }
        place
    }

    /// Does the `segment`th hold samples of this configured device's outbox, and not of one before it?
    pub(super) fn is_of(&self, segment: u64, index: usize) -> bool {
        let place = self.entries.get(index).and_then(|entry| self.place_of.get(&entry.device));
        let found = place.and_then(|&place| self.devices.get(place));
        found.is_some_and(|found| found.began_in <= segment && !found.over)
    }

    /// The outboxes of the configured devices in their order, then those that are retired. Where nothing tells how far the
    /// last one came (`end_is_known`), another begins.
    pub(super) fn finish(
        mut self,
        end_is_known: bool,
        mut draw: impl FnMut() -> u32,
    ) -> (Vec<Recovered>, Boots) {
        self.devices.retain(|found| !found.over);
        let mut by_entry: Vec<Option<FoundDevice>> = self.entries.iter().map(|_| None).collect();
        let mut retired = Vec::new();
        for found in self.devices {
            match found.entry.and_then(|index| by_entry.get_mut(index)) {
                Some(slot) => *slot = Some(found),
                None => retired.extend(retire(found)),
            }
        }
        let (entries, boots) = (self.entries, &mut self.boots);
        let configured = by_entry.into_iter().zip(entries).map(|(found, entry)| {
            let mut fresh = |previous| {
                let state = State::new(boots.fresh(draw()), previous);
                let samples = Samples::new(entry.channels.len(), 0);
                Recovered { device: entry.device, state, newest_ms: None, samples }
            };
            match found {
                None => fresh(None),
                Some(found) if !end_is_known => {
                    let next_seq = found.state.next_seq.max(found.samples.next_seq());
                    tracing::error!(
                        device = %entry.device,
                        boot = found.state.boot,
                        next_seq,
                        "the outbox's end is damaged: what it still owed is declared lost, and another begins"
                    );
                    let newest_ms = found.newest_ms;
                    Recovered { newest_ms, ..fresh(Some((found.state.boot, next_seq))) }
                }
                // Its folder may be a copy that many starts begin with, and one of them may have used the number since.
                Some(found) if found.state.next_seq.max(found.samples.next_seq()) == 0 => {
                    let newest_ms = found.newest_ms;
                    let previous = found.state.previous.or(Some((found.state.boot, 0)));
                    Recovered { newest_ms, ..fresh(previous) }
                }
                Some(mut found) => {
                    found.skip_to(found.state.next_seq);
                    let state = reconcile(found.state, &mut found.samples, &found.lost);
                    let (newest_ms, samples) = (found.newest_ms, found.samples);
                    Recovered { device: entry.device, state, newest_ms, samples }
                }
            }
        });
        let mut recovered: Vec<Recovered> = configured.collect();
        let beyond = retired.split_off(retired.len().min(RETIRED_MAX));
        if !beyond.is_empty() {
            tracing::error!(
                outboxes = beyond.len(),
                "too many removed devices owe samples: theirs are forgotten"
            );
        }
        recovered.append(&mut retired);
        (recovered, self.boots)
    }
}

/// What a device that is no longer configured owes is declared lost; nothing where it owes nothing.
fn retire(found: FoundDevice) -> Option<Recovered> {
    let mut outbox = Outbox::new(found.state);
    outbox.give_up(Range { start: 0, end: u64::MAX }, DropCause::Operator);
    if outbox.is_settled() {
        return None;
    }
    let state = outbox.state().clone();
    tracing::warn!(
        device = %found.device,
        samples = state.drops.iter().map(|drop| drop.count).sum::<u64>(),
        "it is no longer configured: what its outbox owed is declared lost"
    );
    let samples = Samples::new(0, state.next_seq);
    Some(Recovered { device: found.device, state, newest_ms: found.newest_ms, samples })
}

impl FoundDevice {
    /// Samples up to `seq` are not in the log. Empty rows keep the numbers in step; the range is declared lost.
    fn skip_to(&mut self, seq: u64) {
        let Some(width) = self.entry.map(|_| self.samples.channels()) else { return };
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
