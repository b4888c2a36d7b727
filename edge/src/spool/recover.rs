//! What the segments say of each outbox.

use super::{Channel, Entry, Recovered, boots::Boots, carried, reconcile, record, successor};
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
    /// In the integers of today's class.
    samples: Samples,
    class_version: u32,
    lost: Vec<Range>,
    /// The first segment that names this outbox of the device, counted as they are read.
    began_in: u64,
    /// The last one.
    named_in: u64,
    /// A later table does not name it: it owed nothing any more.
    over: bool,
}

/// A device by its number within a segment: where it is among the found, and what its values are in a row of today.
type Numbered = Vec<(usize, Vec<Option<Place>>)>;

/// Where a value stands in a row of today, and the decimals that it was written with and has there.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    written: u8,
    today: u8,
}

/// What the segments come to.
pub(super) struct Finished {
    /// The outboxes of the configured devices in their order, then those that are retired.
    pub(super) recovered: Vec<Recovered>,
    /// Which of them succeed another with what that held: its class has another version.
    pub(super) succeeded: Vec<usize>,
    pub(super) boots: Boots,
}

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
            Record::Device { entry, state, newest_ms } => {
                let device = entry.device;
                read.has_table = true;
                self.boots.see(state.boot);
                state.previous.iter().for_each(|(boot, _)| self.boots.see(*boot));
                let known = self.place_of.get(&device).and_then(|&place| self.devices.get(place));
                if known.is_some_and(|found| found.named_in == self.segments) {
                    return;
                }
                let place = self.meet(&entry, *state, newest_ms);
                let configured = self.devices[place].entry.map(|index| &self.entries[index].channels);
                let today = |written: &Channel| {
                    let at = configured?.iter().position(|known| known.number == written.number)?;
                    let today = configured?.get(at)?.decimals;
                    Some(Place { at, written: written.decimals, today })
                };
                numbered.push((place, entry.channels.iter().map(today).collect()));
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
                        if let Some((place, slot)) = place.and_then(|p| Some((p, row.get_mut(p.at)?))) {
                            *slot = place.value_of(value);
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
    fn meet(&mut self, table: &Entry, state: State, newest_ms: Option<i64>) -> usize {
        let device = table.device;
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
                    class_version: table.class_version,
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

    /// All outboxes. Where nothing tells how far the last one of a device came (`end_is_known`), another begins.
    pub(super) fn finish(mut self, end_is_known: bool, mut draw: impl FnMut() -> u32) -> Finished {
        self.devices.retain(|found| !found.over);
        let mut by_entry: Vec<Option<FoundDevice>> = self.entries.iter().map(|_| None).collect();
        let mut retired = Vec::new();
        for found in self.devices {
            match found.entry.and_then(|index| by_entry.get_mut(index)) {
                Some(slot) => *slot = Some(found),
                None => retired.extend(retire(found)),
            }
        }
        let boots = &mut self.boots;
        let mut recovered = Vec::with_capacity(by_entry.len());
        let mut succeeded = Vec::new();
        for (found, entry) in by_entry.into_iter().zip(self.entries) {
            let changed = found.as_ref().is_some_and(|found| found.class_version != entry.class_version);
            let found = found.map(|found| found.of(entry, end_is_known));
            let mut fresh = || boots.fresh(draw());
            match found {
                None => recovered.push(begun(entry, None, None, fresh())),
                Some(Past::Over { previous, newest_ms }) => {
                    recovered.push(begun(entry, previous, newest_ms, fresh()));
                }
                Some(Past::Stands(found)) if changed => {
                    succeeded.push(recovered.len());
                    recovered.push(follow_on(*found, entry, fresh()));
                }
                Some(Past::Stands(found)) => recovered.push(*found),
            }
        }
        let beyond = retired.split_off(retired.len().min(RETIRED_MAX));
        if !beyond.is_empty() {
            tracing::error!(
                outboxes = beyond.len(),
                "too many removed devices owe samples: theirs are forgotten"
            );
        }
        recovered.append(&mut retired);
        Finished { recovered, succeeded, boots: self.boots }
    }
}

/// An outbox without samples.
fn begun(entry: &Entry, previous: Option<(u32, u64)>, newest_ms: Option<i64>, boot: u32) -> Recovered {
    Recovered {
        device: entry.device,
        state: State::new(boot, previous),
        newest_ms,
        samples: Samples::new(entry.channels.len(), 0),
        class_version: entry.class_version,
    }
}

/// The outbox that succeeds one whose class has another version now. What the watermark has not passed is owed under its
/// numbers here, and no more under those there.
fn follow_on(found: Recovered, entry: &Entry, boot: u32) -> Recovered {
    let previous = (found.state.boot, found.state.through);
    let (samples, cause) = carried(&Outbox::new(found.state), &found.samples);
    tracing::info!(
        device = %entry.device,
        from = found.class_version,
        to = entry.class_version,
        boot = previous.0,
        held = samples.range().count(),
        "its class has another version: another outbox begins, with what this one held"
    );
    let state = successor(boot, previous, cause, &samples);
    Recovered { state, samples, class_version: entry.class_version, ..found }
}

/// What becomes of an outbox of a configured device.
enum Past {
    /// It goes on.
    Stands(Box<Recovered>),
    /// Another begins, which names it.
    Over { previous: Option<(u32, u64)>, newest_ms: Option<i64> },
}

impl Place {
    /// A value that was written, as today's class has it. Where that has fewer decimals, which the gateway takes no class for,
    /// a value that needs them is none.
    fn value_of(self, written: i64) -> i64 {
        let power = |decimals: u8| 10_i64.saturating_pow(u32::from(decimals));
        match (self.today.checked_sub(self.written), self.written.checked_sub(self.today)) {
            _ if written == ABSENT => ABSENT,
            (Some(more), _) => written.saturating_mul(power(more)),
            (None, Some(fewer)) if written % power(fewer) == 0 => written / power(fewer),
            (None, _) => {
                tracing::error!(
                    value = written,
                    "a value needs more decimals than its class has now, and is left out"
                );
                ABSENT
            }
        }
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
    let FoundDevice { device, newest_ms, class_version, .. } = found;
    Some(Recovered { device, state, newest_ms, samples, class_version })
}

impl FoundDevice {
    /// What becomes of it.
    fn of(mut self, entry: &Entry, end_is_known: bool) -> Past {
        let next_seq = self.state.next_seq.max(self.samples.next_seq());
        let newest_ms = self.newest_ms;
        if !end_is_known {
            tracing::error!(
                device = %entry.device,
                boot = self.state.boot,
                next_seq,
                "the outbox's end is damaged: what it still owed is declared lost, and another begins"
            );
            return Past::Over { previous: Some((self.state.boot, next_seq)), newest_ms };
        }
        if next_seq == 0 {
            // Its folder may be a copy that many starts begin with, and one of them may have used the number since.
            return Past::Over { previous: self.state.previous.or(Some((self.state.boot, 0))), newest_ms };
        }
        self.skip_to(self.state.next_seq);
        let state = reconcile(self.state, &mut self.samples, &self.lost);
        let (samples, class_version) = (self.samples, self.class_version);
        Past::Stands(Box::new(Recovered { device: entry.device, state, newest_ms, samples, class_version }))
    }

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
