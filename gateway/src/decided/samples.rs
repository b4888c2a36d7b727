//! Accepted samples as records: all sets of a message behind one head, those with the same channels as one set.

use super::{
    Message, StoredChannel,
    numbers::{Fields, gcd, put_numbers, put_signed, put_varint},
    put_channel, put_head, put_place, put_redrive, read_place,
};
use hunhe_gateway_core::{
    event::{Accepted, SampleSet},
    registry::{ClassRules, Place, Registry},
};
use hunhe_proto::{
    id::Id,
    reading::{COLUMNS_MAX, SAMPLES_MAX, VALUES_MAX},
};
use std::ops::Range;

/// Sequence numbers follow each other.
const CONSECUTIVE: u8 = 1;
/// Times are as far apart as sequence numbers, times a step.
const EVEN: u8 = 2;
/// Every row has the same quality.
const ALIKE: u8 = 4;

/// The accepted samples of a record: of one device and outbox.
#[derive(Debug, Clone, Copy)]
pub struct SampleSets<'a> {
    /// The journal record they come from.
    pub source_lsn: u64,
    /// Whose.
    pub device: Id,
    /// Where it stood in the registry.
    pub place: Place,
    /// Which outbox.
    pub boot: u32,
    /// The quarantine record they come from, where they were there before.
    pub redrive_of: Option<u64>,
    rows: &'a Rows,
}

impl<'a> SampleSets<'a> {
    /// Its sets, in the order in which they were decided.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Samples<'a>> + use<'a> {
        let Self { source_lsn, device, place, boot, redrive_of, rows } = *self;
        rows.sets.iter().map(move |set| Samples {
            source_lsn,
            device,
            place,
            boot,
            redrive_of,
            announced: set.announced,
            rows: set.rows.len(),
            channels: &rows.channels[set.channels.clone()],
            times_ms: &rows.times_ms[set.rows.clone()],
            seqs: &rows.seqs[set.rows.clone()],
            quality: &rows.quality[set.rows.clone()],
            values: &rows.values[set.values.clone()],
        })
    }
}

/// Accepted samples of one device and outbox, with the same channels.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// The journal record they come from.
    pub source_lsn: u64,
    /// Whose.
    pub device: Id,
    /// Where it stood in the registry.
    pub place: Place,
    /// Which outbox.
    pub boot: u32,
    /// The quarantine record they come from, where they were there before.
    pub redrive_of: Option<u64>,
    /// Samples that the lane says are here: what a sink reports as handled, whatever it then stores.
    pub announced: u32,
    /// Samples that are here.
    pub rows: usize,
    channels: &'a [u16],
    times_ms: &'a [i64],
    seqs: &'a [u64],
    quality: &'a [u8],
    values: &'a [i64],
}

impl<'a> Samples<'a> {
    /// The channels, as [`StoredChannel::bits`].
    #[must_use]
    pub fn channels(&self) -> &'a [u16] {
        self.channels
    }

    /// Times, milliseconds since 1970.
    #[must_use]
    pub fn times_ms(&self) -> &'a [i64] {
        self.times_ms
    }

    /// Sequence numbers, ascending.
    #[must_use]
    pub fn seqs(&self) -> &'a [u64] {
        self.seqs
    }

    /// Quality codes, each the worst of its sample's channels.
    #[must_use]
    pub fn quality(&self) -> &'a [u8] {
        self.quality
    }

    /// A channel's values, counted from 0: wire integers, `ABSENT` where there is none.
    #[must_use]
    pub fn column(&self, channel: usize) -> &'a [i64] {
        self.values.get(channel * self.rows..(channel + 1) * self.rows).unwrap_or_default()
    }

    /// All columns, one behind the other.
    #[must_use]
    pub fn values(&self) -> &'a [i64] {
        self.values
    }

    /// One value.
    #[must_use]
    pub fn value(&self, channel: usize, row: usize) -> i64 {
        self.column(channel).get(row).copied().unwrap_or(hunhe_proto::reading::ABSENT)
    }
}

/// A record's samples, decoded. Bounds: [`SAMPLES_MAX`] rows and [`VALUES_MAX`] values, as in a report.
#[derive(Debug, Default)]
pub(super) struct Rows {
    sets: Vec<Set>,
    channels: Vec<u16>,
    times_ms: Vec<i64>,
    seqs: Vec<u64>,
    quality: Vec<u8>,
    values: Vec<i64>,
    numbers: Vec<i64>,
}

#[derive(Debug)]
struct Set {
    announced: u32,
    rows: Range<usize>,
    channels: Range<usize>,
    values: Range<usize>,
}

impl Rows {
    fn clear(&mut self) {
        self.sets.clear();
        self.channels.clear();
        self.times_ms.clear();
        self.seqs.clear();
        self.quality.clear();
        self.values.clear();
    }

    fn read_set(&mut self, fields: &mut Fields<'_>, before: &mut Before) -> Option<()> {
        let first = self.seqs.len();
        let count = fields.count(SAMPLES_MAX - first)?;
        let announced = fields.varint32()?;
        let flags = fields.u8()?;
        let channels = self.channels.len();
        for _ in 0..usize::try_from(fields.varint()?).ok().filter(|&count| count <= COLUMNS_MAX)? {
            self.channels.push(StoredChannel::from_compact(fields.varint()?)?.bits());
        }
        self.read_seqs(fields, count, flags, before)?;
        self.read_times(fields, count, flags, before)?;
        if flags & ALIKE == 0 {
            self.numbers.clear();
            fields.numbers(count, &mut self.numbers)?;
            for &code in &self.numbers {
                self.quality.push(code.try_into().ok()?);
            }
        } else {
            self.quality.resize(first + count, fields.u8()?);
        }
        let values = self.values.len();
        if (self.channels.len() - channels) * count > VALUES_MAX - values {
            return None;
        }
        for _ in channels..self.channels.len() {
            fields.numbers(count, &mut self.values)?;
        }
        self.sets.push(Set {
            announced,
            rows: first..first + count,
            channels: channels..self.channels.len(),
            values: values..self.values.len(),
        });
        Some(())
    }

    fn read_seqs(
        &mut self,
        fields: &mut Fields<'_>,
        count: usize,
        flags: u8,
        before: &mut Before,
    ) -> Option<()> {
        let first = before.seq.checked_add_signed(fields.signed()?)?;
        // Rows are few: nothing overflows where the last does not.
        let last = first.checked_add(count as u64)?;
        if flags & CONSECUTIVE == 0 {
            self.numbers.clear();
            fields.numbers(count, &mut self.numbers)?;
            for (even, &skipped) in (first..).zip(&self.numbers) {
                self.seqs.push(even.checked_add_signed(skipped)?);
            }
        } else {
            self.seqs.extend(first..last);
        }
        before.seq = self.seqs.last()?.checked_add(1)?;
        Some(())
    }

    fn read_times(
        &mut self,
        fields: &mut Fields<'_>,
        count: usize,
        flags: u8,
        before: &mut Before,
    ) -> Option<()> {
        let first_ms = before.time_ms.checked_add(fields.signed()?)?;
        let unit_ms = fields.signed()?;
        if flags & EVEN == 0 {
            self.numbers.clear();
            fields.numbers(count, &mut self.numbers)?;
            for &steps in &self.numbers {
                self.times_ms.push(first_ms.checked_add(unit_ms.checked_mul(steps)?)?);
            }
        } else {
            let seqs = &self.seqs[self.seqs.len() - count..];
            for seq in seqs {
                let steps = i64::try_from(seq.checked_sub(seqs[0])?).ok()?;
                self.times_ms.push(first_ms.checked_add(unit_ms.checked_mul(steps)?)?);
            }
        }
        before.time_ms = *self.times_ms.last()?;
        Some(())
    }
}

/// Where the set before ended.
#[derive(Debug, Default)]
struct Before {
    seq: u64,
    time_ms: i64,
}

pub(super) fn read<'a>(
    mut fields: Fields<'_>,
    head_only: bool,
    rows: &'a mut Rows,
) -> Option<SampleSets<'a>> {
    rows.clear();
    let source_lsn = fields.u64()?;
    let device = Id::new(fields.text()?).ok()?;
    let place = read_place(&mut fields)?;
    let boot = fields.u32()?;
    let redrive_of = fields.redrive()?;
    let mut before = Before::default();
    while !head_only && !fields.0.is_empty() {
        rows.read_set(&mut fields, &mut before)?;
    }
    Some(SampleSets { source_lsn, device, place, boot, redrive_of, rows })
}

/// Part of a set.
#[derive(Debug, Clone)]
struct Part {
    set: usize,
    rows: Range<usize>,
}

/// Writes records of samples; keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    parts: Vec<Part>,
    numbers: Vec<i64>,
    seqs: Vec<u64>,
    times_ms: Vec<i64>,
    quality: Vec<u8>,
}

impl Scratch {
    /// Appends records, and says after each that it ends there.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        registry: &Registry,
        message: &Message<'_>,
        accepted: &Accepted,
        mut ended: impl FnMut(&Vec<u8>),
    ) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        for (at, set) in accepted.sets.iter().enumerate() {
            let rows_max = (VALUES_MAX / set.channels.len().max(1)).clamp(1, SAMPLES_MAX);
            let pieces = (0..set.rows.len()).step_by(rows_max);
            parts
                .extend(pieces.map(|from| Part { set: at, rows: from..set.rows.len().min(from + rows_max) }));
        }
        let mut rest = &parts[..];
        while let Some(first) = rest.first() {
            let (fit, others) = rest.split_at(record_of(rest, accepted));
            rest = others;
            let set = &accepted.sets[first.set];
            put_head(out, message.source_lsn, registry.device(set.device).id.as_str());
            put_place(out, registry.place(set.device));
            out.extend_from_slice(&set.boot.to_le_bytes());
            put_redrive(out, message.redrive_of);
            let mut before = Before::default();
            for parts in fit.chunk_by(|left, right| continues(left, right, accepted)) {
                self.put_set(out, registry.class_of(set.device), accepted, parts, &mut before);
            }
            ended(out);
        }
        self.parts = parts;
    }

    /// Parts with the same channels.
    fn put_set(
        &mut self,
        out: &mut Vec<u8>,
        rules: &ClassRules,
        accepted: &Accepted,
        parts: &[Part],
        before: &mut Before,
    ) {
        self.gather(accepted, parts);
        let Some(&first_seq) = self.seqs.first() else { return };
        let first_ms = self.times_ms[0];
        let consecutive = self.seqs.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
        let step_ms = self.even_step(first_seq, first_ms);
        let alike = self.quality.iter().all(|&code| code == self.quality[0]);
        put_varint(out, self.seqs.len() as u64);
        // What a test of the ledger took away was never announced.
        put_varint(out, self.seqs.len() as u64);
        out.push(
            (u8::from(consecutive) * CONSECUTIVE)
                | (u8::from(step_ms.is_some()) * EVEN)
                | (u8::from(alike) * ALIKE),
        );
        let set = &accepted.sets[parts[0].set];
        put_varint(out, set.channels.len() as u64);
        accepted.channels[set.channels.clone()].iter().for_each(|&channel| put_channel(out, rules, channel));
        put_signed(out, first_seq.wrapping_sub(before.seq).cast_signed());
        if !consecutive {
            let skipped = |(even, &seq): (u64, &u64)| seq.wrapping_sub(even).cast_signed();
            self.numbers.clear();
            self.numbers.extend((first_seq..).zip(&self.seqs).map(skipped));
            put_numbers(out, &self.numbers);
        }
        put_signed(out, first_ms.wrapping_sub(before.time_ms));
        self.put_times(out, first_ms, step_ms);
        if alike {
            out.push(self.quality[0]);
        } else {
            self.numbers.clear();
            self.numbers.extend(self.quality.iter().map(|&code| i64::from(code)));
            put_numbers(out, &self.numbers);
        }
        for channel in 0..set.channels.len() {
            match parts {
                [Part { set: at, rows }] => put_numbers(out, column(accepted, *at, channel, rows)),
                parts => {
                    self.numbers.clear();
                    for Part { set: at, rows } in parts {
                        self.numbers.extend_from_slice(column(accepted, *at, channel, rows));
                    }
                    put_numbers(out, &self.numbers);
                }
            }
        }
        before.seq = self.seqs.last().map_or(0, |seq| seq.wrapping_add(1));
        before.time_ms = self.times_ms.last().copied().unwrap_or(0);
    }

    fn gather(&mut self, accepted: &Accepted, parts: &[Part]) {
        self.seqs.clear();
        self.times_ms.clear();
        self.quality.clear();
        for Part { set, rows } in parts {
            let start = accepted.sets[*set].rows.start;
            let all = start + rows.start..start + rows.end;
            self.seqs.extend_from_slice(&accepted.seqs[all.clone()]);
            self.times_ms.extend_from_slice(&accepted.times_ms[all.clone()]);
            self.quality.extend_from_slice(&accepted.quality[all]);
        }
    }

    /// Milliseconds a sequence number, where they explain every time.
    fn even_step(&self, first_seq: u64, first_ms: i64) -> Option<i64> {
        let mut rows = self.seqs.iter().zip(&self.times_ms).skip(1).map(|(&seq, &time_ms)| {
            Some((i64::try_from(seq.checked_sub(first_seq)?).ok()?, time_ms.checked_sub(first_ms)?))
        });
        let Some(second) = rows.next() else { return Some(0) };
        let (steps, passed_ms) = second?;
        let step_ms = passed_ms.checked_div(steps).filter(|step_ms| step_ms * steps == passed_ms)?;
        let explains = |row: Option<(i64, i64)>| {
            row.is_some_and(|(steps, passed_ms)| step_ms.checked_mul(steps) == Some(passed_ms))
        };
        rows.all(explains).then_some(step_ms)
    }

    fn put_times(&mut self, out: &mut Vec<u8>, first_ms: i64, step_ms: Option<i64>) {
        if let Some(step_ms) = step_ms {
            return put_signed(out, step_ms);
        }
        let passed_ms = |time_ms: &i64| time_ms.wrapping_sub(first_ms);
        let unit_ms = self.times_ms.iter().map(passed_ms).fold(0, gcd).max(1);
        put_signed(out, unit_ms);
        self.numbers.clear();
        self.numbers.extend(self.times_ms.iter().map(|time_ms| passed_ms(time_ms) / unit_ms));
        put_numbers(out, &self.numbers);
    }
}

fn column<'a>(accepted: &'a Accepted, set: usize, channel: usize, rows: &Range<usize>) -> &'a [i64] {
    let set = &accepted.sets[set];
    let from = set.values_from + channel * set.rows.len();
    &accepted.values[from + rows.start..from + rows.end]
}

/// How many of the parts fit into a record: of one outbox, and no more than a report may hold.
fn record_of(parts: &[Part], accepted: &Accepted) -> usize {
    let whose = |part: &Part| (accepted.sets[part.set].device, accepted.sets[part.set].boot);
    let (mut rows, mut values) = (0, 0);
    let fits = |part: &&Part| {
        rows += part.rows.len();
        values += part.rows.len() * accepted.sets[part.set].channels.len();
        rows <= SAMPLES_MAX && values <= VALUES_MAX && whose(part) == whose(&parts[0])
    };
    parts.iter().take_while(fits).count().max(1)
}

/// May the parts be one set? Channels are the same, and the later one is later.
fn continues(left: &Part, right: &Part, accepted: &Accepted) -> bool {
    let set = |part: &Part| -> &SampleSet { &accepted.sets[part.set] };
    let channels = |part: &Part| &accepted.channels[set(part).channels.clone()];
    let last = set(left).rows.start + left.rows.end - 1;
    let next = set(right).rows.start + right.rows.start;
    accepted.times_ms[last] < accepted.times_ms[next]
        && accepted.seqs[last] < accepted.seqs[next]
        && channels(left) == channels(right)
}
