//! What a lane decided, as records of the decided log: written once by the lane's thread, read by every sink.
//!
//! ```text
//! every record   source u64 (the journal record it comes from) · device: length u8, id
//! 1 samples      place · boot u32 · redriven u8, if 1: record u64 · sets up to the end, each:
//!                rows varint · announced varint · flags u8 · channels: count varint, numbers varint…
//!                seqs: first signed, from one past the last before · unless flag 1: numbers of what was skipped till then
//!                times: first signed, from the last before · step or unit signed · unless flag 2: numbers of units since the first
//!                quality: if flag 4 u8, else numbers · values: numbers, channel by channel
//! 2 windows      place · groups up to the end, each: windows varint · length ms signed · expected varint · channels: count varint,
//!                numbers varint… · starts: first signed, unit signed, numbers of units since the first, less the row · revisions
//!                numbers · each channel: numbers of count, last, last − min, max − last · wide u8 · rest of the sum: numbers,
//!                or i128… if wide
//! 3 refused      arrival ms i64 · boot u32 · redriven u8, if 1: record u64 · announced u8 · reason text8 · reasons u8, each text8
//!                · ranges varint, each: gap << 4 | count u8, both from 1 to 15 and the reason as before, or
//!                0, gap varint, count varint, reason u8 · topic bytes32 · payload bytes32
//! 4 judged       record u64: a quarantine record was judged again, and nothing of it was accepted or refused
//! ```
//! Little endian throughout; `numbers`, `signed` and `varint` as in [`numbers`]. A channel's number bears the decimals of its
//! integers ([`StoredChannel`]), so that a record keeps its meaning when its class gets a newer version. Devices are named by
//! id, so that a record outlives a change of registry. Beside it stands their place, the registry's order u64 and an index u32,
//! so that a sink under the same registry need not look it up.
//!
//! What a device can make grow is bounded by what it sends: a record of samples takes no more than twice their report and
//! [`HEAD_BYTES_MAX`], since its columns are the wire's. A report may close thousands of windows, so these are columns as well.
//!
//! Invariants: all records of one source record are adjacent, and source records never decrease; a record's rows, values and windows are
//! bounded before anything is allocated for them. Deliberately absent: a checksum (the log's framing has one).

mod channel;
mod confirm;
pub(crate) mod decimal;
pub mod feed;
mod numbers;
mod samples;
mod windows;

pub use channel::StoredChannel;
pub use confirm::{Confirmation, Confirmations};
pub use samples::{SampleSets, Samples};
pub use windows::{Window, Windows};

use hunhe_gateway_core::{
    event::{Decisions, Refusal, Rollups},
    registry::{ClassRules, DeviceIx, Place, Registry},
};
use hunhe_log::{AppendError, Writer};
use hunhe_proto::id::Id;
use numbers::{Fields, put_text, put_varint};

/// What a record of samples may take beyond twice the bytes of their report: source record, id, place, outbox, counts.
pub const HEAD_BYTES_MAX: usize = 96;
/// What a message can lead to at most: 4096 samples of 32 channels, 4096 windows of a minute of them, and its own bytes.
pub const DECISION_BYTES_MAX: u64 = 8 << 20;

/// Record kinds.
const SAMPLES: u8 = 1;
const WINDOWS: u8 = 2;
const REFUSED: u8 = 3;
const JUDGED: u8 = 4;

/// A record is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("decided record of kind {0} cannot be read")]
pub struct Unreadable(pub u8);

/// What a sink reads.
#[derive(Debug, Clone, Copy)]
pub enum Decided<'a> {
    /// Accepted samples of a message.
    Samples(SampleSets<'a>),
    /// Windows of a device, closed or corrected.
    Windows(Windows<'a>),
    /// A message of which something was refused.
    Refused(Refused<'a>),
    /// A quarantine record was judged again, and there is nothing left in it: all of it was known.
    Judged {
        /// The journal record that asked for it.
        source_lsn: u64,
        /// The quarantine record: a refused message, by its source record.
        record: u64,
    },
}

impl Decided<'_> {
    /// The journal record it comes from.
    #[must_use]
    pub fn source_lsn(&self) -> u64 {
        match self {
            Self::Samples(samples) => samples.source_lsn,
            Self::Windows(windows) => windows.source_lsn,
            Self::Refused(refused) => refused.source_lsn,
            Self::Judged { source_lsn, .. } => *source_lsn,
        }
    }
}

/// A message of which something was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The journal record that brought it: also the quarantine record's id.
    pub source_lsn: u64,
    /// The gateway's clock at arrival, milliseconds since 1970.
    pub arrival_ms: i64,
    /// Whose, where it is known.
    pub device: Option<Id>,
    /// Which outbox; 0 where it is not known.
    pub boot: u32,
    /// The quarantine record it is, where it was there before.
    pub redrive_of: Option<u64>,
    /// Are its samples new to the ledger? Those that were in quarantine before are not.
    pub announced: bool,
    /// Why.
    pub reason: &'a str,
    /// As delivered.
    pub topic: &'a [u8],
    /// As delivered.
    pub payload: &'a [u8],
    ranges: Ranges<'a>,
    count: usize,
}

/// Ranges that are left to read.
#[derive(Debug, Clone, Copy)]
struct Ranges<'a> {
    /// The reasons' texts.
    reasons: Fields<'a>,
    fields: Fields<'a>,
    reason: &'a str,
    /// One past the range before.
    seq: u64,
}

impl<'a> Ranges<'a> {
    fn next(&mut self) -> Option<(u64, u64, &'a str)> {
        let (gap, count) = match self.fields.u8()? {
            0 => {
                let (gap, count) = (self.fields.varint()?, self.fields.varint()?);
                let mut reasons = self.reasons;
                for _ in 0..self.fields.u8()? {
                    reasons.text()?;
                }
                self.reason = reasons.text()?;
                (gap, count)
            }
            short => (u64::from(short >> 4), u64::from(short & 15)),
        };
        // From its reader a range may begin anywhere: in a record of a conflict they need not ascend.
        let first = self.seq.wrapping_add(gap);
        self.seq = first.wrapping_add(count);
        Some((first, count, self.reason))
    }
}

impl<'a> Refused<'a> {
    /// Which samples, as (first, count, reason); none where the message could not be read at all.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64, &'a str)> + use<'a> {
        let mut ranges = self.ranges;
        // They were read once, whole, when the record was.
        (0..self.count).map(move |_| ranges.next().unwrap_or((0, 0, "")))
    }

    /// How many samples.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.ranges().fold(0, |sum, (_, count, _)| sum.saturating_add(count))
    }

    /// As a record of the quarantine; [`read_refused_record`] reads it.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let Self {
            source_lsn, arrival_ms, device, boot, redrive_of, announced, reason, topic, payload, ..
        } = *self;
        RefusedParts { source_lsn, device, arrival_ms, boot, redrive_of, announced, reason, topic, payload }
            .to_record(self.ranges())
    }
}

/// What a refused record is made of, but for its ranges.
#[derive(Debug, Clone, Copy)]
pub struct RefusedParts<'a> {
    /// See [`Refused`].
    pub source_lsn: u64,
    /// See [`Refused`].
    pub device: Option<Id>,
    /// See [`Refused`].
    pub arrival_ms: i64,
    /// See [`Refused`].
    pub boot: u32,
    /// See [`Refused`].
    pub redrive_of: Option<u64>,
    /// See [`Refused`].
    pub announced: bool,
    /// See [`Refused`].
    pub reason: &'a str,
    /// See [`Refused`].
    pub topic: &'a [u8],
    /// See [`Refused`].
    pub payload: &'a [u8],
}

impl RefusedParts<'_> {
    /// The record, with ranges of (first, count, reason).
    #[must_use]
    pub fn to_record<'r>(&self, ranges: impl ExactSizeIterator<Item = (u64, u64, &'r str)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.topic.len() + self.payload.len());
        self.put(&mut out, ranges);
        out
    }

    fn put<'r>(&self, out: &mut Vec<u8>, ranges: impl ExactSizeIterator<Item = (u64, u64, &'r str)>) {
        put_head(out, self.source_lsn, self.device.as_ref().map_or("", Id::as_str));
        out.extend_from_slice(&self.arrival_ms.to_le_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
        put_redrive(out, self.redrive_of);
        out.push(self.announced.into());
        put_text(out, self.reason);
        put_ranges(out, ranges);
        put_bytes(out, self.topic);
        put_bytes(out, self.payload);
    }
}

/// Reads a record of the quarantine.
///
/// # Errors
/// [`Unreadable`].
pub fn read_refused_record(record: &[u8]) -> Result<Refused<'_>, Unreadable> {
    read_refused(Fields(record)).ok_or(Unreadable(REFUSED))
}

/// The message that caused decisions, as journaled.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its journal record.
    pub source_lsn: u64,
    /// The gateway's clock at arrival, milliseconds since 1970.
    pub arrival_ms: i64,
    /// As delivered.
    pub topic: &'a [u8],
    /// As delivered.
    pub payload: &'a [u8],
    /// The quarantine record it is, where it was there before.
    pub redrive_of: Option<u64>,
}

/// A message's decisions as records, kept for its memory.
#[derive(Debug)]
pub struct Encoder {
    /// Windows that nobody reads are not written.
    rollups: Rollups,
    bytes: Vec<u8>,
    /// Kind and end of each record.
    records: Vec<(u8, usize)>,
    samples: samples::Scratch,
    windows: windows::Scratch,
}

impl Encoder {
    /// Writes these windows, beside all else.
    #[must_use]
    pub fn new(rollups: Rollups) -> Self {
        Self {
            rollups,
            bytes: Vec::new(),
            records: Vec::new(),
            samples: samples::Scratch::default(),
            windows: windows::Scratch::default(),
        }
    }

    /// Takes a message's decisions.
    pub fn encode(&mut self, registry: &Registry, message: Message<'_>, decisions: &Decisions) {
        let Self { rollups, bytes, records, samples, windows } = self;
        bytes.clear();
        records.clear();
        samples.put(bytes, registry, &message, &decisions.accepted, |bytes| {
            records.push((SAMPLES, bytes.len()))
        });
        windows.put(bytes, registry, message.source_lsn, &decisions.shown, *rollups, |bytes| {
            records.push((WINDOWS, bytes.len()));
        });
        if let Some(refusal) = &decisions.refusal {
            put_refused(bytes, registry, &message, refusal, decisions);
            records.push((REFUSED, bytes.len()));
        } else if let Some(record) = message.redrive_of.filter(|_| decisions.accepted.sets.is_empty()) {
            put_head(bytes, message.source_lsn, "");
            bytes.extend_from_slice(&record.to_le_bytes());
            records.push((JUDGED, bytes.len()));
        }
    }

    /// Appends all of them, or none: no reader ever sees a part of a source record.
    ///
    /// # Errors
    /// The log's.
    pub fn append(&self, log: &mut Writer) -> Result<(), AppendError> {
        log.reserve(self.records.len(), self.bytes.len())?;
        let mut from = 0;
        for &(kind, end) in &self.records {
            log.append(kind, &[&self.bytes[from..end]])?;
            from = end;
        }
        Ok(())
    }
}

fn put_head(out: &mut Vec<u8>, source_lsn: u64, id: &str) {
    out.extend_from_slice(&source_lsn.to_le_bytes());
    put_text(out, id);
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(&place.order.to_le_bytes());
    out.extend_from_slice(&place.device.0.to_le_bytes());
}

fn read_place(fields: &mut Fields<'_>) -> Option<Place> {
    Some(Place { order: fields.u64()?, device: DeviceIx(fields.u32()?) })
}

/// A report may alternate between good and bad: mostly one byte a range.
fn put_ranges<'r>(out: &mut Vec<u8>, ranges: impl ExactSizeIterator<Item = (u64, u64, &'r str)>) {
    let mut reasons: Vec<&str> = Vec::new();
    let mut coded = Vec::with_capacity(ranges.len());
    let number = ranges.len() as u64;
    let (mut seq, mut before) = (0_u64, None);
    for (first, count, reason) in ranges {
        let at = reasons.iter().position(|&known| known == reason).unwrap_or(reasons.len());
        if at == reasons.len() {
            reasons.push(reason);
        }
        let gap = first.wrapping_sub(seq);
        seq = first.wrapping_add(count);
        match (gap, count) {
            (1..16, 1..16) if before == Some(at) => coded.push((gap << 4 | count).to_le_bytes()[0]),
            _ => {
                coded.push(0);
                put_varint(&mut coded, gap);
                put_varint(&mut coded, count);
                // There are about a dozen.
                coded.push(u8::try_from(at).unwrap_or(u8::MAX));
            }
        }
        before = Some(at);
    }
    out.push(u8::try_from(reasons.len()).unwrap_or(u8::MAX));
    reasons.iter().for_each(|reason| put_text(out, reason));
    put_varint(out, number);
    out.extend_from_slice(&coded);
}

fn put_redrive(out: &mut Vec<u8>, redrive_of: Option<u64>) {
    match redrive_of {
        None => out.push(0),
        Some(record) => {
            out.push(1);
            out.extend_from_slice(&record.to_le_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A wire number with the decimals of its integers.
fn put_channel(out: &mut Vec<u8>, rules: &ClassRules, number: u16) {
    let decimals = rules.position(number).map_or(0, |at| rules.class.channels[at].decimals);
    put_varint(out, StoredChannel::new(number, decimals).compact());
}

fn put_refused(
    out: &mut Vec<u8>,
    registry: &Registry,
    message: &Message<'_>,
    refusal: &Refusal,
    decisions: &Decisions,
) {
    let parts = RefusedParts {
        source_lsn: message.source_lsn,
        device: refusal.device.map(|device| registry.device(device).id),
        arrival_ms: message.arrival_ms,
        boot: refusal.boot,
        redrive_of: message.redrive_of,
        announced: !decisions.redriven,
        reason: refusal.reason.name(),
        topic: message.topic,
        payload: message.payload,
    };
    parts.put(out, decisions.refused.iter().map(|range| (range.seq, range.count, range.reason.name())));
}

/// Where records are decoded to, kept for its memory.
#[derive(Debug, Default)]
pub struct Buffers {
    rows: samples::Rows,
    windows: windows::Table,
    heads_only: bool,
}

impl Buffers {
    /// Of samples and windows only the head is read: their source record, device and outbox.
    #[must_use]
    pub fn of_heads() -> Self {
        Self { heads_only: true, ..Self::default() }
    }
}

/// Reads a record.
///
/// # Errors
/// [`Unreadable`] where it is of an unknown kind or shape.
pub fn read<'a>(kind: u8, payload: &'a [u8], buffers: &'a mut Buffers) -> Result<Decided<'a>, Unreadable> {
    let fields = Fields(payload);
    let read = match kind {
        SAMPLES => samples::read(fields, buffers.heads_only, &mut buffers.rows).map(Decided::Samples),
        WINDOWS => windows::read(fields, buffers.heads_only, &mut buffers.windows).map(Decided::Windows),
        REFUSED => read_refused(fields).map(Decided::Refused),
        JUDGED => read_judged(fields),
        _ => None,
    };
    read.ok_or(Unreadable(kind))
}

fn read_refused(mut fields: Fields<'_>) -> Option<Refused<'_>> {
    let source_lsn = fields.u64()?;
    let id = fields.text()?;
    let device = if id.is_empty() { None } else { Some(Id::new(id).ok()?) };
    let arrival_ms = fields.i64()?;
    let boot = fields.u32()?;
    let redrive_of = fields.redrive()?;
    let announced = fields.u8()? != 0;
    let reason = fields.text()?;
    let reasons = fields.u8()?;
    let texts = fields;
    for _ in 0..reasons {
        fields.text()?;
    }
    // Each has a byte at least.
    let count = usize::try_from(fields.varint()?).ok()?;
    let ranges = Ranges { reasons: texts, fields, reason: "", seq: 0 };
    let mut rest = ranges;
    for _ in 0..count {
        rest.next()?;
    }
    fields = rest.fields;
    let topic = fields.bytes()?;
    let payload = fields.bytes()?;
    Some(Refused {
        source_lsn,
        arrival_ms,
        device,
        boot,
        redrive_of,
        announced,
        reason,
        topic,
        payload,
        ranges,
        count,
    })
}

fn read_judged(mut fields: Fields<'_>) -> Option<Decided<'_>> {
    let source_lsn = fields.u64()?;
    fields.text()?;
    Some(Decided::Judged { source_lsn, record: fields.u64()? })
}
