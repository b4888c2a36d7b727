//! The log's bytes: frames, and the records inside them.
//!
//! ```text
//! frame   magic "HuS1" · length u32 LE · CRC-32C u32 LE over the payload · payload
//! payload records, one behind the other, of LEB128 integers (signed ones zigzag)
//!   1 device  id length, id, boot, previous boot + 1 or 0, previous next seq, through, next seq,
//!             newest time + 1 or 0, class version, channels: count, (number, decimals)…; drops: count, (seq, count, cause)…
//!             devices are numbered in order of first appearance within a segment
//!   2 sample  device, seq, time, then per channel 0 where absent, else the zigzag value + 1
//!   3 state   device, through, drops as above
//!   4 end     device, one past the newest sample of the frame before this one
//!   5 all     the frame named all outboxes that there are: others are over
//!
//! segment = table table (commit tally)…
//!   table     a frame of devices and an `all`, twice, so that no single spot of damage hides whose the samples are
//!   commit    a frame of samples and states
//!   tally     a frame that says what the commit before it held: its ends, and its states once more
//! ```
//! An older version wrote one table without an `all`, and no tallies; it passes over the records that it does not know.

use super::{Channel, Entry};
use hunhe_edge_core::outbox::State;
use hunhe_proto::{
    id::{DeviceId, ID_BYTES_MAX},
    reading::{ABSENT, Drop, DropCause},
};

pub(super) const MAGIC: [u8; 4] = *b"HuS1";
pub(super) const HEADER_BYTES: usize = 12;

const DEVICE: u8 = 1;
const SAMPLE: u8 = 2;
const STATE: u8 = 3;
const END: u8 = 4;
const ALL: u8 = 5;

/// One record as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    Device { entry: Entry, state: Box<State>, newest_ms: Option<i64> },
    Sample { device: usize, seq: u64, time_ms: i64, values: Vec<i64> },
    State { device: usize, through: u64, drops: Vec<Drop> },
    End { device: usize, next_seq: u64 },
    All,
}

pub(super) fn write_device(out: &mut Vec<u8>, entry: &Entry, state: &State, newest_ms: Option<i64>) {
    let Entry { device, class_version, channels } = entry;
    out.push(DEVICE);
    uint(out, device.as_str().len() as u64);
    out.extend_from_slice(device.as_str().as_bytes());
    uint(out, u64::from(state.boot));
    uint(out, state.previous.map_or(0, |(boot, _)| u64::from(boot) + 1));
    uint(out, state.previous.map_or(0, |(_, next)| next));
    uint(out, state.through);
    uint(out, state.next_seq);
    uint(out, newest_ms.map_or(0, |time| zigzag(time).saturating_add(1)));
    uint(out, u64::from(*class_version));
    uint(out, channels.len() as u64);
    for channel in channels {
        uint(out, u64::from(channel.number));
        uint(out, u64::from(channel.decimals));
    }
    write_drops(out, &state.drops);
}

pub(super) fn write_sample(out: &mut Vec<u8>, device: usize, seq: u64, time_ms: i64, values: &[i64]) {
    out.push(SAMPLE);
    uint(out, device as u64);
    uint(out, seq);
    uint(out, zigzag(time_ms));
    for &value in values {
        uint(out, if value == ABSENT { 0 } else { zigzag(value) + 1 });
    }
}

pub(super) fn write_state(out: &mut Vec<u8>, device: usize, state: &State) {
    out.push(STATE);
    uint(out, device as u64);
    uint(out, state.through);
    write_drops(out, &state.drops);
}

pub(super) fn write_end(out: &mut Vec<u8>, device: usize, next_seq: u64) {
    out.push(END);
    uint(out, device as u64);
    uint(out, next_seq);
}

pub(super) fn write_all(out: &mut Vec<u8>) {
    out.push(ALL);
}

fn write_drops(out: &mut Vec<u8>, drops: &[Drop]) {
    uint(out, drops.len() as u64);
    for drop in drops {
        uint(out, drop.seq);
        uint(out, drop.count);
        uint(out, u64::from(drop.cause as u8));
    }
}

/// Puts a frame around what `out` holds from `start + HEADER_BYTES` on.
pub(super) fn close_frame(out: &mut [u8], start: usize) {
    let Some((header, payload)) =
        out.get_mut(start..).and_then(|frame| frame.split_at_mut_checked(HEADER_BYTES))
    else {
        return;
    };
    // Frames hold one commit of bounded size.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(payload);
    for (slot, byte) in
        header.iter_mut().zip(MAGIC.into_iter().chain(length.to_le_bytes()).chain(crc.to_le_bytes()))
    {
        *slot = byte;
    }
}

/// The payload of the whole frame at the front of `bytes`.
pub(super) fn frame_payload(bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let payload = rest.get(..usize::try_from(word(4)?).ok()?)?;
    (header.starts_with(&MAGIC) && !payload.is_empty() && word(8)? == crc32c::crc32c(payload))
        .then_some(payload)
}

/// Reads the records of a payload. Samples need to know how many channels their device has.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl Reader<'_> {
    /// The next record; `None` at the end, and at what this version cannot read.
    pub(super) fn next(&mut self, width_of: impl Fn(usize) -> Option<usize>) -> Option<Record> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        match kind {
            DEVICE => {
                let length = self.index().filter(|&length| length <= ID_BYTES_MAX)?;
                let (id, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                let device = DeviceId::from_bytes(id).ok()?;
                let boot = u32::try_from(self.uint()?).ok()?;
                let (previous, previous_next) = (self.uint()?, self.uint()?);
                let previous =
                    previous.checked_sub(1).and_then(|boot| Some((u32::try_from(boot).ok()?, previous_next)));
                let (through, next_seq) = (self.uint()?, self.uint()?);
                let newest_ms = self.uint()?.checked_sub(1).map(unzigzag);
                let class_version = u32::try_from(self.uint()?).ok()?;
                let channels = (0..self.index()?).map(|_| self.channel()).collect::<Option<Vec<_>>>()?;
                let drops = self.drops()?.into_iter().collect();
                Some(Record::Device {
                    entry: Entry { device, class_version, channels },
                    state: Box::new(State { boot, previous, through, next_seq, drops }),
                    newest_ms,
                })
            }
            SAMPLE => {
                let device = self.index()?;
                let (seq, time_ms) = (self.uint()?, unzigzag(self.uint()?));
                let value = |raw: u64| raw.checked_sub(1).map_or(ABSENT, unzigzag);
                let values = (0..width_of(device)?).map(|_| self.uint().map(value)).collect::<Option<_>>()?;
                Some(Record::Sample { device, seq, time_ms, values })
            }
            STATE => {
                Some(Record::State { device: self.index()?, through: self.uint()?, drops: self.drops()? })
            }
            END => Some(Record::End { device: self.index()?, next_seq: self.uint()? }),
            ALL => Some(Record::All),
            _ => None,
        }
    }

    fn channel(&mut self) -> Option<Channel> {
        let number = u16::try_from(self.uint()?).ok()?;
        Some(Channel { number, decimals: u8::try_from(self.uint()?).ok()? })
    }

    fn drops(&mut self) -> Option<Vec<Drop>> {
        let count = self.index().filter(|&count| count <= hunhe_edge_core::outbox::DROPS_MAX)?;
        (0..count)
            .map(|_| {
                let (seq, count) = (self.uint()?, self.uint()?);
                Some(Drop { seq, count, cause: DropCause::from_code(self.uint()?) })
            })
            .collect()
    }

    fn index(&mut self) -> Option<usize> {
        usize::try_from(self.uint()?).ok()
    }

    fn uint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

fn uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
