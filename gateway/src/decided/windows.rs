//! Windows as records: all of a device in one, sorted into groups with the same length and channels, each a few columns.
//!
//! A report may close thousands of windows of one sample. Then count, least and greatest value say nothing that the last value
//! does not, and their columns take no more than two bytes. Where the windows of two lengths hold the same, as with a sample an
//! hour, a column is written once.

use super::{
    StoredChannel,
    numbers::{Fields, SAME, gcd, put_numbers, put_signed, put_varint},
    put_channel, put_head, put_place, read_place,
};
use hunhe_gateway_core::{
    event::{ChannelStat, Rollups, Shown, WindowClosed},
    registry::{ClassRules, Place, Registry},
};
use hunhe_proto::{id::Id, reading::COLUMNS_MAX};
use std::ops::Range;

/// The most windows in a record: those of four lengths that a report of an hour a sample closes.
const WINDOWS_MAX: usize = 16_384;
/// The most channels of windows in a record; a window has far fewer.
const STATS_MAX: usize = 16_384;

/// Windows of a device, closed or corrected.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// The journal record that closed or corrected them.
    pub source_lsn: u64,
    /// Whose.
    pub device: Id,
    /// Where it stood in the registry.
    pub place: Place,
    table: &'a Table,
}

impl<'a> Windows<'a> {
    /// Each of them, by length, channels and start.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Window<'a>> + use<'a> {
        let Self { source_lsn, device, place, table } = *self;
        table.windows.iter().map(move |window| Window {
            source_lsn,
            device,
            place,
            length_ms: window.length_ms,
            start_ms: window.start_ms,
            revision: window.revision,
            expected: window.expected,
            stats: &table.stats[window.stats.clone()],
        })
    }
}

/// A window as far as its samples are known.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// The journal record that closed or corrected it.
    pub source_lsn: u64,
    /// Whose.
    pub device: Id,
    /// Where it stood in the registry.
    pub place: Place,
    /// Length in milliseconds.
    pub length_ms: i64,
    /// Start, milliseconds since 1970.
    pub start_ms: i64,
    /// 0 at first, one more with each correction.
    pub revision: u32,
    /// Samples there should be.
    pub expected: u32,
    stats: &'a [ChannelStat],
}

impl<'a> Window<'a> {
    /// Its channels, each with its statistics.
    pub fn stats(&self) -> impl ExactSizeIterator<Item = (StoredChannel, ChannelStat)> + use<'a> {
        self.stats.iter().map(|stat| {
            let channel = StoredChannel::from_bits(stat.channel);
            (channel, ChannelStat { channel: channel.number(), ..*stat })
        })
    }
}

/// A record's windows, decoded. Bounds: [`WINDOWS_MAX`] and [`STATS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Table {
    windows: Vec<Known>,
    /// Their channels as [`StoredChannel::bits`].
    stats: Vec<ChannelStat>,
    channels: Vec<u16>,
    numbers: Vec<i64>,
}

#[derive(Debug)]
struct Known {
    length_ms: i64,
    start_ms: i64,
    revision: u32,
    expected: u32,
    stats: Range<usize>,
}

const EMPTY: ChannelStat = ChannelStat { channel: 0, count: 0, sum: 0, min: 0, max: 0, last: 0 };

impl Table {
    fn read_group(&mut self, fields: &mut Columns<'_>) -> Option<()> {
        let (first, stats) = (self.windows.len(), self.stats.len());
        let count = fields.fields.count(WINDOWS_MAX - first)?;
        let length_ms = fields.fields.signed()?;
        let expected = fields.fields.varint32()?;
        self.channels.clear();
        for _ in 0..usize::try_from(fields.fields.varint()?).ok().filter(|&count| count <= COLUMNS_MAX)? {
            self.channels.push(StoredChannel::from_compact(fields.fields.varint()?)?.bits());
        }
        let width = self.channels.len();
        if width * count > STATS_MAX - stats {
            return None;
        }
        let (first_ms, unit_ms) = (fields.fields.signed()?, fields.fields.signed()?);
        for (row, &steps) in fields.read(count, &mut self.numbers)?.iter().enumerate() {
            let steps = steps.checked_add(i64::try_from(row).ok()?)?;
            self.windows.push(Known {
                length_ms,
                start_ms: first_ms.checked_add(unit_ms.checked_mul(steps)?)?,
                revision: 0,
                expected,
                stats: stats + row * width..stats + (row + 1) * width,
            });
        }
        let revisions = fields.read(count, &mut self.numbers)?;
        for (window, &revision) in self.windows[first..].iter_mut().zip(revisions) {
            window.revision = revision.try_into().ok()?;
        }
        self.stats.resize(stats + width * count, EMPTY);
        for at in 0..width {
            let rows = self.stats[stats..].iter_mut().skip(at).step_by(width.max(1));
            read_channel(fields, count, self.channels[at], rows, &mut self.numbers)?;
        }
        Some(())
    }
}

/// All values of a channel are there by now; wrapping additions undo the writer's wrapping subtractions.
fn read_channel<'s>(
    fields: &mut Columns<'_>,
    count: usize,
    channel: u16,
    rows: impl Iterator<Item = &'s mut ChannelStat>,
    numbers: &mut Vec<i64>,
) -> Option<()> {
    numbers.clear();
    for _ in 0..4 {
        fields.append(count, numbers)?;
    }
    let wide = match fields.fields.u8()? {
        0 => {
            fields.append(count, numbers)?;
            None
        }
        _ => Some(fields.fields.take(count * size_of::<i128>())?.as_chunks::<16>().0),
    };
    for (row, stat) in rows.enumerate() {
        let of = |column: usize| numbers[column * count + row];
        stat.channel = channel;
        stat.count = of(0).try_into().ok()?;
        stat.last = of(1);
        stat.min = stat.last.wrapping_sub(of(2));
        stat.max = stat.last.wrapping_add(of(3));
        let rest = match wide {
            None => i128::from(of(4)),
            Some(wide) => i128::from_le_bytes(*wide.get(row)?),
        };
        stat.sum = likely_sum(stat).wrapping_add(rest);
    }
    Some(())
}

/// A record being read, and where its columns began: of the group before, and of this one so far.
struct Columns<'p> {
    fields: Fields<'p>,
    before: Vec<Fields<'p>>,
    here: Vec<Fields<'p>>,
}

impl Columns<'_> {
    fn append(&mut self, count: usize, numbers: &mut Vec<i64>) -> Option<()> {
        let mut from = self.fields;
        if self.fields.0.first() == Some(&SAME) {
            self.fields.take(1)?;
            from = *self.before.get(self.here.len())?;
            { from }.numbers(count, numbers)?;
        } else {
            self.fields.numbers(count, numbers)?;
        }
        self.here.push(from);
        Some(())
    }

    fn read<'n>(&mut self, count: usize, numbers: &'n mut Vec<i64>) -> Option<&'n [i64]> {
        numbers.clear();
        self.append(count, numbers)?;
        Some(numbers)
    }
}

/// The sum of one or two values follows from the least, the greatest and the last.
fn likely_sum(stat: &ChannelStat) -> i128 {
    let others = (i128::from(stat.count) - 2) * i128::from(stat.last);
    i128::from(stat.min) + i128::from(stat.max) + others
}

pub(super) fn read<'a>(mut fields: Fields<'_>, head_only: bool, table: &'a mut Table) -> Option<Windows<'a>> {
    table.windows.clear();
    table.stats.clear();
    let source_lsn = fields.u64()?;
    let device = Id::new(fields.text()?).ok()?;
    let place = read_place(&mut fields)?;
    let mut columns = Columns { fields, before: Vec::new(), here: Vec::new() };
    while !head_only && !columns.fields.0.is_empty() {
        table.read_group(&mut columns)?;
        columns.before.clear();
        std::mem::swap(&mut columns.before, &mut columns.here);
    }
    Some(Windows { source_lsn, device, place, table })
}

/// Writes records of windows; keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    order: Vec<usize>,
    numbers: Vec<i64>,
    rests: Vec<i128>,
    /// Where columns stand: of the group before, and of this one so far.
    before: Vec<Range<usize>>,
    here: Vec<Range<usize>>,
}

impl Scratch {
    /// Appends records of these windows, and says after each that it ends there.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        registry: &Registry,
        source_lsn: u64,
        shown: &Shown,
        rollups: Rollups,
        mut ended: impl FnMut(&Vec<u8>),
    ) {
        let mut order = std::mem::take(&mut self.order);
        let mut rest = &shown.windows[..];
        while let Some(first) = rest.first() {
            let (fit, others) = rest.split_at(record_of(rest));
            rest = others;
            // A message shows a window at most once: their order says nothing.
            order.clear();
            order.extend((0..fit.len()).filter(|&at| rollups.has(fit[at].length_ms)));
            if order.is_empty() {
                continue;
            }
            order.sort_unstable_by(|&left, &right| {
                let (left, right) = (&fit[left], &fit[right]);
                (left.length_ms, left.expected)
                    .cmp(&(right.length_ms, right.expected))
                    .then_with(|| channels(left, shown).cmp(channels(right, shown)))
                    .then(left.start_ms.cmp(&right.start_ms))
            });
            put_head(out, source_lsn, registry.device(first.device).id.as_str());
            put_place(out, registry.place(first.device));
            let alike = |&left: &usize, &right: &usize| {
                let (left, right) = (&fit[left], &fit[right]);
                left.length_ms == right.length_ms
                    && left.expected == right.expected
                    && channels(left, shown).eq(channels(right, shown))
            };
            self.before.clear();
            for group in order.chunk_by(alike) {
                self.put_group(out, registry.class_of(first.device), fit, group, shown);
                self.before.clear();
                std::mem::swap(&mut self.before, &mut self.here);
            }
            ended(out);
        }
        self.order = order;
    }

    fn put_group(
        &mut self,
        out: &mut Vec<u8>,
        rules: &ClassRules,
        windows: &[WindowClosed],
        group: &[usize],
        shown: &Shown,
    ) {
        let Some(first) = group.first().map(|&at| &windows[at]) else { return };
        put_varint(out, group.len() as u64);
        put_signed(out, first.length_ms);
        put_varint(out, first.expected.into());
        put_varint(out, first.channels as u64);
        channels(first, shown).for_each(|channel| put_channel(out, rules, channel));
        let passed_ms = |&at: &usize| windows[at].start_ms.wrapping_sub(first.start_ms);
        let unit_ms = group.iter().map(passed_ms).fold(0, gcd).max(1);
        put_signed(out, first.start_ms);
        put_signed(out, unit_ms);
        let steps = |(row, at): (i64, &usize)| passed_ms(at).wrapping_div(unit_ms).wrapping_sub(row);
        self.column(out, (0..).zip(group).map(steps));
        self.column(out, group.iter().map(|&at| windows[at].revision.into()));
        for channel in 0..first.channels {
            let stat = |&at: &usize| shown.stats[windows[at].stats_from + channel];
            self.put_channel(out, group.iter().map(stat));
        }
    }

    fn put_channel(&mut self, out: &mut Vec<u8>, stats: impl Iterator<Item = ChannelStat> + Clone) {
        self.column(out, stats.clone().map(|stat| stat.count.into()));
        self.column(out, stats.clone().map(|stat| stat.last));
        self.column(out, stats.clone().map(|stat| stat.last.wrapping_sub(stat.min)));
        self.column(out, stats.clone().map(|stat| stat.max.wrapping_sub(stat.last)));
        self.rests.clear();
        self.rests.extend(stats.map(|stat| stat.sum.wrapping_sub(likely_sum(&stat))));
        if self.rests.iter().all(|&rest| i64::try_from(rest).is_ok()) {
            out.push(0);
            self.numbers.clear();
            self.numbers.extend(self.rests.iter().filter_map(|&rest| i64::try_from(rest).ok()));
            return self.put_column(out);
        }
        out.push(1);
        self.rests.iter().for_each(|rest| out.extend_from_slice(&rest.to_le_bytes()));
    }

    fn column(&mut self, out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
        self.numbers.clear();
        self.numbers.extend(numbers);
        self.put_column(out);
    }

    fn put_column(&mut self, out: &mut Vec<u8>) {
        let from = out.len();
        put_numbers(out, &self.numbers);
        let mut place = from..out.len();
        if let Some(before) = self.before.get(self.here.len())
            && before.len() > 1
            && out[before.clone()] == out[place.clone()]
        {
            place = before.clone();
            out.truncate(from);
            out.push(SAME);
        }
        self.here.push(place);
    }
}

fn channels<'s>(window: &WindowClosed, shown: &'s Shown) -> impl Iterator<Item = u16> + use<'s> {
    shown.stats[window.stats_from..window.stats_from + window.channels].iter().map(|stat| stat.channel)
}

/// How many of the windows fit into a record: of one device, and at least one.
fn record_of(windows: &[WindowClosed]) -> usize {
    let mut stats = 0;
    let fits = |window: &&WindowClosed| {
        stats += window.channels;
        stats <= STATS_MAX && window.device == windows[0].device
    };
    windows.iter().take(WINDOWS_MAX).take_while(fits).count().max(1)
}
