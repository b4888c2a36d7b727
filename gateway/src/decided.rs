//! What a lane decided, as records of the decided log: written once by the lane's thread, read by every sink.
//!
//! ```text
//! every record   cause u64 (the journal record it comes from) · device: length u8, id
//! 1 samples      boot u32 · redriven u8, if 1: record u64 · announced u32 · rows u32 · first seq u64 · channels u8, numbers u16…
//!                times: 0, first i64, step i64 | 1, i64…  · quality: 0, u8 | 1, u8… · values i64…, channel by channel
//! 2 window       length ms i64 · start ms i64 · revision u32 · expected u32 · channels u8,
//!                each: number u16, count u32, sum i128, min i64, max i64, last i64
//! 3 refused      arrival ms i64 · boot u32 · redriven u8, if 1: record u64 · announced u8 · reason text8
//!                · ranges u16, each: first u64, count u64, reason text8 · topic bytes32 · payload bytes32
//! 4 judged       record u64: a quarantine record was judged again, and nothing of it was accepted or refused
//! ```
//! Little endian throughout. A channel's number bears the decimals of its integers ([`StoredChannel`]), so that a record
//! keeps its meaning when its class gets a newer version. Values are plain 64-bit integers: a record is read as it stands, and lives only until the
//! slowest sink has passed it. Devices are named by id, so that a record outlives a change of registry.
//!
//! Invariants: all records of one cause are adjacent, and causes never decrease. Deliberately absent: a checksum (the
//! log's framing has one) and compression.

mod channel;

pub use channel::StoredChannel;

use crate::journal::{AppendError, Writer};
use hunhe_gateway_core::{
    event::{Accepted, ChannelStat, Decisions, Refusal, SampleSet, Shown, WindowClosed},
    registry::{ClassRules, Registry},
};
use hunhe_proto::{id::Id, reading::SAMPLES_MAX};
use std::ops::Range;

/// A set of samples that takes more is several records: one has to fit into a record of the log.
const SAMPLES_BYTES_MAX: usize = 512 << 10;
/// What a message can lead to at most: 4096 samples of 32 channels, 4096 windows of a minute of them, and its own bytes.
pub const DECISION_BYTES_MAX: u64 = 8 << 20;

/// Record kinds.
const SAMPLES: u8 = 1;
const WINDOW: u8 = 2;
const REFUSED: u8 = 3;
const JUDGED: u8 = 4;

/// A record is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("decided record of kind {0} cannot be read")]
pub struct Unreadable(pub u8);

/// What a sink reads.
#[derive(Debug, Clone, Copy)]
pub enum Decided<'a> {
    /// Accepted samples.
    Samples(Samples<'a>),
    /// A window closed or corrected.
    Window(Window<'a>),
    /// A message of which something was refused.
    Refused(Refused<'a>),
    /// A quarantine record was judged again, and there is nothing left in it: all of it was known.
    Judged {
        /// The journal record that asked for it.
        cause: u64,
        /// The quarantine record: a refused message, by its cause.
        record: u64,
    },
}

impl Decided<'_> {
    /// The journal record it comes from.
    #[must_use]
    pub fn cause(&self) -> u64 {
        match self {
            Self::Samples(samples) => samples.cause,
            Self::Window(window) => window.cause,
            Self::Refused(refused) => refused.cause,
            Self::Judged { cause, .. } => *cause,
        }
    }
}

/// Accepted samples of one device and outbox, with consecutive sequence numbers.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// The journal record they come from.
    pub cause: u64,
    /// Whose.
    pub device: Id,
    /// Which outbox.
    pub boot: u32,
    /// The quarantine record they come from, where they were there before.
    pub redrive_of: Option<u64>,
    /// Samples that the lane says are here: what a sink reports as handled, whatever it then stores.
    pub announced: u32,
    /// Samples that are here.
    pub rows: usize,
    /// The first one's sequence number.
    pub first_seq: u64,
    channels: &'a [u8],
    times: Times<'a>,
    quality: Codes<'a>,
    values: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Times<'a> {
    Regular { first_ms: i64, step_ms: i64 },
    Each(&'a [u8]),
}

#[derive(Debug, Clone, Copy)]
enum Codes<'a> {
    All(u8),
    Each(&'a [u8]),
}

impl<'a> Samples<'a> {
    /// The channels.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = StoredChannel> + Clone + use<'a> {
        let numbers = self.channels.as_chunks::<2>().0.iter();
        numbers.map(|bytes| StoredChannel::from_bits(u16::from_le_bytes(*bytes)))
    }

    /// A row's time, milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self, row: usize) -> i64 {
        match self.times {
            // Rows are at most 4096, and the product was a real time when it was written.
            Times::Regular { first_ms, step_ms } => {
                first_ms.saturating_add(step_ms.saturating_mul(row.try_into().unwrap_or(0)))
            }
            Times::Each(bytes) => {
                bytes.as_chunks::<8>().0.get(row).map_or(0, |bytes| i64::from_le_bytes(*bytes))
            }
        }
    }

    /// A row's quality code, the worst of its channels.
    #[must_use]
    pub fn quality(&self, row: usize) -> u8 {
        match self.quality {
            Codes::All(code) => code,
            Codes::Each(codes) => codes.get(row).copied().unwrap_or(0),
        }
    }

    /// A channel's values, counted from 0: wire integers, `ABSENT` where there is none.
    pub fn column(&self, channel: usize) -> impl ExactSizeIterator<Item = i64> + Clone + use<'a> {
        let values = self.values.as_chunks::<8>().0;
        let column = values.get(channel * self.rows..(channel + 1) * self.rows).unwrap_or_default();
        column.iter().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// One value.
    #[must_use]
    pub fn value(&self, channel: usize, row: usize) -> i64 {
        let bytes = self.values.as_chunks::<8>().0.get(channel * self.rows + row);
        bytes.map_or(hunhe_proto::reading::ABSENT, |bytes| i64::from_le_bytes(*bytes))
    }
}

/// A window as far as its samples are known.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// The journal record that closed or corrected it.
    pub cause: u64,
    /// Whose.
    pub device: Id,
    /// Length in milliseconds.
    pub length_ms: i64,
    /// Start, milliseconds since 1970.
    pub start_ms: i64,
    /// 0 at first, one more with each correction.
    pub revision: u32,
    /// Samples there should be.
    pub expected: u32,
    stats: &'a [u8],
}

const STAT_BYTES: usize = 46;

impl<'a> Window<'a> {
    /// Its channels, each with its statistics.
    pub fn stats(&self) -> impl ExactSizeIterator<Item = (StoredChannel, ChannelStat)> + use<'a> {
        self.stats.as_chunks::<STAT_BYTES>().0.iter().map(|bytes| {
            let mut fields = Fields(bytes);
            // The chunk has exactly these fields, so the default is never taken.
            let mut stat = || {
                Some(ChannelStat {
                    channel: fields.u16()?,
                    count: fields.u32()?,
                    sum: i128::from_le_bytes(fields.array()?),
                    min: fields.i64()?,
                    max: fields.i64()?,
                    last: fields.i64()?,
                })
            };
            let stat =
                stat().unwrap_or(ChannelStat { channel: 0, count: 0, sum: 0, min: 0, max: 0, last: 0 });
            let channel = StoredChannel::from_bits(stat.channel);
            (channel, ChannelStat { channel: channel.number(), ..stat })
        })
    }
}

/// A message of which something was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The journal record that brought it: also the quarantine record's id.
    pub cause: u64,
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
    ranges: Fields<'a>,
    count: u16,
}

impl<'a> Refused<'a> {
    /// Which samples, as (first, count, reason); none where the message could not be read at all.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64, &'a str)> + use<'a> {
        let mut fields = self.ranges;
        // They were read once, whole, when the record was.
        let mut range = move || Some((fields.u64()?, fields.u64()?, fields.text()?));
        (0..self.count).map(move |_| range().unwrap_or((0, 0, "")))
    }

    /// How many samples.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.ranges().fold(0, |sum, (_, count, _)| sum.saturating_add(count))
    }

    /// As a record of the quarantine; [`read_refused_record`] reads it.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let Self { cause, arrival_ms, device, boot, redrive_of, announced, reason, topic, payload, .. } =
            *self;
        RefusedParts { cause, device, arrival_ms, boot, redrive_of, announced, reason, topic, payload }
            .to_record(self.ranges())
    }
}

/// What a refused record is made of, but for its ranges.
#[derive(Debug, Clone, Copy)]
pub struct RefusedParts<'a> {
    /// See [`Refused`].
    pub cause: u64,
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
        put_head(out, self.cause, self.device.as_ref().map_or("", Id::as_str));
        out.extend_from_slice(&self.arrival_ms.to_le_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
        put_redrive(out, self.redrive_of);
        out.push(self.announced.into());
        put_text(out, self.reason);
        out.extend_from_slice(&u16::try_from(ranges.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (first, count, reason) in ranges {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            put_text(out, reason);
        }
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
    pub cause: u64,
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
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Kind and end of each record.
    records: Vec<(u8, usize)>,
}

impl Encoder {
    /// Takes a message's decisions.
    pub fn encode(&mut self, registry: &Registry, message: Message<'_>, decisions: &Decisions) {
        self.bytes.clear();
        self.records.clear();
        for set in &decisions.accepted.sets {
            let rows_max = (SAMPLES_BYTES_MAX / (8 * set.channels.len() + 9)).max(1);
            for from in (0..set.rows.len()).step_by(rows_max) {
                let rows = from..set.rows.len().min(from + rows_max);
                put_samples(&mut self.bytes, registry, &message, &decisions.accepted, set, rows);
                self.records.push((SAMPLES, self.bytes.len()));
            }
        }
        for window in &decisions.shown.windows {
            put_window(&mut self.bytes, registry, message.cause, window, &decisions.shown);
            self.records.push((WINDOW, self.bytes.len()));
        }
        if let Some(refusal) = &decisions.refusal {
            put_refused(&mut self.bytes, registry, &message, refusal, decisions);
            self.records.push((REFUSED, self.bytes.len()));
        } else if let Some(record) = message.redrive_of.filter(|_| decisions.accepted.sets.is_empty()) {
            put_head(&mut self.bytes, message.cause, "");
            self.bytes.extend_from_slice(&record.to_le_bytes());
            self.records.push((JUDGED, self.bytes.len()));
        }
    }

    /// Appends all of them, or none: no reader ever sees a part of a cause.
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

fn put_head(out: &mut Vec<u8>, cause: u64, id: &str) {
    out.extend_from_slice(&cause.to_le_bytes());
    put_text(out, id);
}

/// At most 255 bytes: ids and reasons are far shorter.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
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

fn put_samples(
    out: &mut Vec<u8>,
    registry: &Registry,
    message: &Message<'_>,
    accepted: &Accepted,
    set: &SampleSet,
    rows: Range<usize>,
) {
    put_head(out, message.cause, registry.device(set.device).id.as_str());
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&set.boot.to_le_bytes());
    put_redrive(out, message.redrive_of);
    out.extend_from_slice(&count);
    out.extend_from_slice(&count);
    let all = set.rows.start + rows.start..set.rows.start + rows.end;
    out.extend_from_slice(&accepted.seqs[all.start].to_le_bytes());
    let channels = &accepted.channels[set.channels.clone()];
    // A class has at most 32.
    out.push(u8::try_from(channels.len()).unwrap_or(u8::MAX));
    let rules = registry.class_of(set.device);
    channels.iter().for_each(|&channel| put_channel(out, rules, channel));
    put_times(out, &accepted.times_ms[all.clone()]);
    let quality = &accepted.quality[all];
    if quality.iter().all(|code| *code == quality[0]) {
        out.extend_from_slice(&[0, quality[0]]);
    } else {
        out.push(1);
        out.extend_from_slice(quality);
    }
    for channel in 0..channels.len() {
        let column = set.values_from + channel * set.rows.len();
        let values = &accepted.values[column + rows.start..column + rows.end];
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

fn put_channel(out: &mut Vec<u8>, rules: &ClassRules, number: u16) {
    let decimals = rules.position(number).map_or(0, |at| rules.class.channels[at].decimals);
    out.extend_from_slice(&StoredChannel::new(number, decimals).bits().to_le_bytes());
}

fn put_times(out: &mut Vec<u8>, times_ms: &[i64]) {
    let step_ms = times_ms.get(1).map_or(0, |second| second - times_ms[0]);
    if times_ms.windows(2).all(|pair| pair[1] - pair[0] == step_ms) {
        out.push(0);
        out.extend_from_slice(&times_ms[0].to_le_bytes());
        out.extend_from_slice(&step_ms.to_le_bytes());
    } else {
        out.push(1);
        times_ms.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
    }
}

fn put_window(out: &mut Vec<u8>, registry: &Registry, cause: u64, window: &WindowClosed, shown: &Shown) {
    put_head(out, cause, registry.device(window.device).id.as_str());
    out.extend_from_slice(&window.length_ms.to_le_bytes());
    out.extend_from_slice(&window.start_ms.to_le_bytes());
    out.extend_from_slice(&window.revision.to_le_bytes());
    out.extend_from_slice(&window.expected.to_le_bytes());
    let rules = registry.class_of(window.device);
    let stats = &shown.stats[window.stats_from..window.stats_from + window.channels];
    out.push(u8::try_from(stats.len()).unwrap_or(u8::MAX));
    for stat in stats {
        put_channel(out, rules, stat.channel);
        out.extend_from_slice(&stat.count.to_le_bytes());
        out.extend_from_slice(&stat.sum.to_le_bytes());
        out.extend_from_slice(&stat.min.to_le_bytes());
        out.extend_from_slice(&stat.max.to_le_bytes());
        out.extend_from_slice(&stat.last.to_le_bytes());
    }
}

fn put_refused(
    out: &mut Vec<u8>,
    registry: &Registry,
    message: &Message<'_>,
    refusal: &Refusal,
    decisions: &Decisions,
) {
    let parts = RefusedParts {
        cause: message.cause,
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

/// Reads a record.
///
/// # Errors
/// [`Unreadable`] where it is of an unknown kind or shape.
pub fn read(kind: u8, payload: &[u8]) -> Result<Decided<'_>, Unreadable> {
    let fields = Fields(payload);
    let read = match kind {
        SAMPLES => read_samples(fields).map(Decided::Samples),
        WINDOW => read_window(fields).map(Decided::Window),
        REFUSED => read_refused(fields).map(Decided::Refused),
        JUDGED => read_judged(fields),
        _ => None,
    };
    read.ok_or(Unreadable(kind))
}

fn read_samples(mut fields: Fields<'_>) -> Option<Samples<'_>> {
    let cause = fields.u64()?;
    let device = Id::new(fields.text()?).ok()?;
    let boot = fields.u32()?;
    let redrive_of = fields.redrive()?;
    let announced = fields.u32()?;
    // Without channels their number would be bounded by nothing here.
    let rows = usize::try_from(fields.u32()?).ok().filter(|&rows| rows <= SAMPLES_MAX)?;
    let first_seq = fields.u64()?;
    let channel_count = usize::from(fields.u8()?);
    let channels = fields.take(channel_count * 2)?;
    let times = match fields.u8()? {
        0 => Times::Regular { first_ms: fields.i64()?, step_ms: fields.i64()? },
        _ => Times::Each(fields.take(rows.checked_mul(8)?)?),
    };
    let quality = match fields.u8()? {
        0 => Codes::All(fields.u8()?),
        _ => Codes::Each(fields.take(rows)?),
    };
    let values = fields.take(rows.checked_mul(channel_count)?.checked_mul(8)?)?;
    Some(Samples {
        cause,
        device,
        boot,
        redrive_of,
        announced,
        rows,
        first_seq,
        channels,
        times,
        quality,
        values,
    })
}

fn read_window(mut fields: Fields<'_>) -> Option<Window<'_>> {
    Some(Window {
        cause: fields.u64()?,
        device: Id::new(fields.text()?).ok()?,
        length_ms: fields.i64()?,
        start_ms: fields.i64()?,
        revision: fields.u32()?,
        expected: fields.u32()?,
        stats: {
            let count = usize::from(fields.u8()?);
            fields.take(count * STAT_BYTES)?
        },
    })
}

fn read_refused(mut fields: Fields<'_>) -> Option<Refused<'_>> {
    let cause = fields.u64()?;
    let id = fields.text()?;
    let device = if id.is_empty() { None } else { Some(Id::new(id).ok()?) };
    let arrival_ms = fields.i64()?;
    let boot = fields.u32()?;
    let redrive_of = fields.redrive()?;
    let announced = fields.u8()? != 0;
    let reason = fields.text()?;
    let count = fields.u16()?;
    let ranges = fields;
    for _ in 0..count {
        fields.take(16)?;
        fields.text()?;
    }
    let topic = fields.bytes()?;
    let payload = fields.bytes()?;
    Some(Refused {
        cause,
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
    let cause = fields.u64()?;
    fields.text()?;
    Some(Decided::Judged { cause, record: fields.u64()? })
}

#[derive(Debug, Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn redrive(&mut self) -> Option<Option<u64>> {
        if self.u8()? == 0 { Some(None) } else { self.u64().map(Some) }
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        core::str::from_utf8(self.take(length.into())?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}
