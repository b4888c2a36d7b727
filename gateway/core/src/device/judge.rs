//! Judges the fresh samples of one report: times, values, changes. What passes becomes columns, the rest refusals.
//!
//! Values are judged by the version of the class that the report follows, and leave here as the newest version's integers.
//!
//! Invariants: a sample is accepted where at least one value is, and each of the others is [`ABSENT`] then; every set
//! has consecutive sequence numbers; refused ranges ascend. No allocation unless a value is refused or a sample is empty.

use crate::{
    device::{
        DeviceState,
        alert::Context,
        validate::{
            CLOCK_SUSPECT_MS, RegisterStep, TimeWindow, change_max, is_too_fast, is_unusual, judge_values,
            refusal_of, register_step,
        },
    },
    event::{ABSENT, Arrival, Decisions, Reason, RefusedRange, SampleSet, worse},
    registry::{ClassRules, DeviceIx, VersionChannel, VersionRules},
};
use alloc::vec::Vec;
use core::ops::Range;
use hunhe_proto::{
    class::Kind,
    id::DeviceId,
    reading::{BlockSpan, Quality, Report},
};

pub(crate) struct Judge<'a> {
    pub(crate) device: DeviceIx,
    pub(crate) id: DeviceId,
    pub(crate) rules: &'a ClassRules,
    /// The version of the class that the report follows.
    pub(crate) version: &'a VersionRules,
    pub(crate) arrival: Arrival,
    /// The city's clock of silence, in milliseconds.
    pub(crate) listened_ms: u64,
    pub(crate) report: &'a Report,
    pub(crate) window: TimeWindow,
    /// What V01 makes of every sample here.
    pub(crate) doubt: Quality,
    pub(crate) state: &'a mut DeviceState,
    pub(crate) decisions: &'a mut Decisions,
    pub(crate) counted: Counted,
}

/// What a judge counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Values accepted.
    pub(crate) readings: usize,
    /// Values refused in accepted samples.
    pub(crate) values_refused: usize,
    /// Samples with a gauge beyond its usual range (V05).
    pub(crate) unusual: u64,
    /// Samples whose register ran backwards (V06).
    pub(crate) reversed: u64,
    /// Samples dated ahead of their arrival, each doubted for itself (V01).
    pub(crate) ahead: u64,
    /// Samples with a change faster than plausible (V07).
    pub(crate) too_fast: u64,
    /// Breaches that joined the one before, beyond the device's allowance of changes.
    pub(crate) joined: u64,
}

impl Judge<'_> {
    pub(crate) fn refuse(&mut self, seq: u64, count: u64, reason: Reason) {
        if count == 0 {
            return;
        }
        match self.decisions.refused.last_mut() {
            Some(last) if last.reason == reason && last.seq + last.count == seq => last.count += count,
            _ => self.decisions.refused.push(RefusedRange { seq, count, reason }),
        }
    }

    /// Judges what is fresh of a block.
    pub(crate) fn block(&mut self, block: &BlockSpan, fresh: &Range<u64>) {
        let seq0 = self.report.header.seq;
        let row_of = |seq: u64| usize::try_from(seq.saturating_sub(seq0)).unwrap_or(usize::MAX);
        let rows = block.samples.start.max(row_of(fresh.start))..block.samples.end.min(row_of(fresh.end));
        if rows.is_empty() {
            return;
        }
        let timely = self.window.within(&self.report.times_ms, rows.clone());
        self.refuse(seq0 + rows.start as u64, (timely.start - rows.start) as u64, Reason::TooOld);
        let kept = self.window.kept(&self.report.times_ms, timely.clone());
        let dropped = (kept.start - timely.start) as u64;
        self.refuse(seq0 + timely.start as u64, dropped, Reason::OlderThanRetention);
        if !kept.is_empty() {
            self.timely(block, kept);
        }
        self.refuse(seq0 + timely.end as u64, (rows.end - timely.end) as u64, Reason::InFuture);
    }

    fn timely(&mut self, block: &BlockSpan, rows: Range<usize>) {
        let seq0 = self.report.header.seq;
        let out = &mut self.decisions.accepted;
        let set_rows = out.times_ms.len()..out.times_ms.len() + rows.len();
        let channels_from = out.channels.len();
        let values_from = out.values.len();
        out.times_ms.extend_from_slice(&self.report.times_ms[rows.clone()]);
        out.seqs.extend((seq0 + rows.start as u64..).take(rows.len()));
        out.quality.resize(set_rows.end, self.doubt.code());
        let within = rows.start - block.samples.start..rows.end - block.samples.start;
        let (mut whole, mut refused) = (false, false);
        for column in &self.report.columns[block.columns.clone()] {
            let Some(channel) = self.version.channel(column.channel) else { continue };
            let values = &self.report.values_of(column)[within.clone()];
            let converted_from = out.values.len();
            let judged = judge_values(&channel.wire, values, &mut out.values);
            convert(channel, &mut out.values[converted_from..]);
            whole |= judged.accepted == values.len();
            refused |= judged.refused > 0;
            self.counted.readings += judged.accepted;
            out.channels.push(column.channel);
            if let Some(codes) = &column.quality {
                let codes = &self.report.qualities[codes.clone()][within.clone()];
                for (quality, &code) in out.quality[set_rows.clone()].iter_mut().zip(codes) {
                    *quality = worse_code(*quality, code);
                }
            }
        }
        let set = SampleSet {
            device: self.device,
            boot: self.report.header.boot,
            rows: set_rows,
            channels: channels_from..out.channels.len(),
            values_from,
        };
        if whole && !refused {
            self.accept(set);
        } else {
            self.accept_what_has_values(set, block, rows);
        }
    }

    fn accept(&mut self, set: SampleSet) {
        self.doubt_times(&set);
        self.doubt_unusual(&set);
        self.doubt_changes(&set);
        let ahead_from_ms = self.state.ahead_from_ms(self.arrival);
        let context = Context {
            device: self.device,
            id: self.id,
            rules: self.rules,
            arrival_ms: self.arrival.at_ms,
            listened_ms: self.listened_ms,
            live_from_ms: self.state.live_from_ms(self.arrival, self.rules),
            ahead_from_ms,
        };
        let Decisions { accepted, alerts, .. } = &mut *self.decisions;
        self.counted.joined += self.state.alerts.judge(&context, &set, accepted, alerts);
        self.state.note(self.rules, &set, &self.decisions.accepted, ahead_from_ms);
        self.decisions.accepted.sets.push(set);
    }

    /// The rare way: some samples may have no value, at all or left.
    fn accept_what_has_values(&mut self, set: SampleSet, block: &BlockSpan, rows: Range<usize>) {
        let verdicts: Vec<Option<Reason>> = rows
            .clone()
            .zip(set.rows.clone())
            .map(|(row, slot)| self.row_verdict(block, row - block.samples.start, slot))
            .collect();
        if verdicts.iter().all(Option::is_none) {
            return self.accept(set);
        }
        let (times, seqs, quality, channels, values) = self.take_back(&set);
        let mut row = 0;
        while row < verdicts.len() {
            let alike = verdicts[row..].iter().take_while(|&&verdict| verdict == verdicts[row]).count();
            let run = row..row + alike;
            row = run.end;
            if let Some(reason) = verdicts[run.start] {
                self.refuse(seqs[run.start], alike as u64, reason);
                continue;
            }
            let out = &mut self.decisions.accepted;
            let part = SampleSet {
                device: set.device,
                boot: set.boot,
                rows: out.times_ms.len()..out.times_ms.len() + alike,
                channels: out.channels.len()..out.channels.len() + channels.len(),
                values_from: out.values.len(),
            };
            out.times_ms.extend_from_slice(&times[run.clone()]);
            out.seqs.extend_from_slice(&seqs[run.clone()]);
            out.quality.extend_from_slice(&quality[run.clone()]);
            out.channels.extend_from_slice(&channels);
            for column in values.chunks(verdicts.len()) {
                out.values.extend_from_slice(&column[run.clone()]);
            }
            self.accept(part);
        }
    }

    /// Why a sample is refused whole, if it is. One that lost some of its values is suspect.
    fn row_verdict(&mut self, block: &BlockSpan, row: usize, slot: usize) -> Option<Reason> {
        let (mut accepted, mut refused, mut reason) = (false, 0, None);
        for column in &self.report.columns[block.columns.clone()] {
            let Some(channel) = self.version.channel(column.channel) else { continue };
            let value = self.report.values_of(column)[row];
            let why = refusal_of(&channel.wire, value);
            accepted |= why.is_none() && value != ABSENT;
            refused += usize::from(why.is_some());
            reason = reason.or(why);
        }
        if !accepted {
            return Some(reason.unwrap_or(Reason::NoKnownChannel));
        }
        if refused > 0 {
            self.counted.values_refused += refused;
            let quality = &mut self.decisions.accepted.quality[slot];
            *quality = worse_code(*quality, Quality::Suspect.code());
        }
        None
    }

    #[expect(clippy::type_complexity, reason = "the columns of `Accepted`, once")]
    fn take_back(&mut self, set: &SampleSet) -> (Vec<i64>, Vec<u64>, Vec<u8>, Vec<u16>, Vec<i64>) {
        let out = &mut self.decisions.accepted;
        (
            out.times_ms.split_off(set.rows.start),
            out.seqs.split_off(set.rows.start),
            out.quality.split_off(set.rows.start),
            out.channels.split_off(set.channels.start),
            out.values.split_off(set.values_from),
        )
    }

    /// V01 for samples dated ahead of their arrival, where nothing is known of the device's clock.
    fn doubt_times(&mut self, set: &SampleSet) {
        if self.doubt == Quality::Suspect {
            return;
        }
        let from_ms = self.arrival.at_ms.saturating_add(CLOCK_SUSPECT_MS);
        let out = &mut self.decisions.accepted;
        let ahead =
            set.rows.start + out.times_ms[set.rows.clone()].partition_point(|&time_ms| time_ms <= from_ms);
        for quality in &mut out.quality[ahead..set.rows.end] {
            *quality = worse_code(*quality, Quality::Suspect.code());
        }
        self.counted.ahead += (set.rows.end - ahead) as u64;
    }

    /// The rules of a set's column, in the newest version's integers, and the channel's newest value before the set.
    fn column_rules(&self, set: &SampleSet, column: usize) -> Option<(&VersionChannel, i64)> {
        let number = self.decisions.accepted.channels[set.channels.start + column];
        let channel = self.version.channel(number)?;
        Some((channel, *self.state.last.get(channel.at)?))
    }

    /// V05: a gauge beyond its usual range. Nearly none is, and this is quick to say.
    fn doubt_unusual(&mut self, set: &SampleSet) {
        let out = &self.decisions.accepted;
        let unusual_rows = |column: usize| {
            let rules = self.column_rules(set, column).map(|(channel, _)| &channel.converted);
            let rules =
                rules.filter(|rules| rules.kind == Kind::Gauge && rules.usual != (rules.low, rules.high))?;
            let values = out.column(set, column);
            let is_usual = values.iter().all(|&value| value >= rules.usual.0 && value <= rules.usual.1);
            let unusual = values.iter().enumerate().filter(|&(_, &value)| is_unusual(rules, value));
            (!is_usual).then(|| unusual.map(|(row, _)| row))
        };
        let mut rows: Vec<usize> = (0..set.channels.len()).filter_map(unusual_rows).flatten().collect();
        if rows.is_empty() {
            return;
        }
        rows.sort_unstable();
        rows.dedup();
        self.counted.unusual += rows.len() as u64;
        self.suspect(set, rows);
    }

    /// V06 and V07 for samples newer than all before. An older one is not judged: its neighbours are in the store, not here.
    fn doubt_changes(&mut self, set: &SampleSet) {
        let mut too_fast: Vec<usize> = Vec::new();
        for column in 0..set.channels.len() {
            if self.is_steady(set, column) {
                continue;
            }
            too_fast.extend(self.doubt_column(set, column));
        }
        if !too_fast.is_empty() {
            too_fast.sort_unstable();
            too_fast.dedup();
            self.counted.too_fast += too_fast.len() as u64;
            self.suspect(set, too_fast);
        }
    }

    fn suspect(&mut self, set: &SampleSet, rows: Vec<usize>) {
        for row in rows {
            let quality = &mut self.decisions.accepted.quality[set.rows.start + row];
            *quality = worse_code(*quality, Quality::Suspect.code());
        }
    }

    /// Does the column neither fall, where it is a register, nor change faster than over its shortest step is plausible?
    /// Nearly all are so, and this is quick to say.
    fn is_steady(&self, set: &SampleSet, column: usize) -> bool {
        let Some((channel, last)) = self.column_rules(set, column) else { return true };
        let rules = &channel.converted;
        let is_register = rules.kind == Kind::Register;
        if !is_register && (rules.kind != Kind::Gauge || rules.change_per_h_max.is_none()) {
            return true;
        }
        let out = &self.decisions.accepted;
        let times = &out.times_ms[set.rows.clone()];
        let values = out.column(set, column);
        let before_ms = self.state.last_ms;
        let since_last_ms = times[0].saturating_sub(before_ms).max(rules.every_ms);
        let shortest_ms = times.windows(2).fold(since_last_ms, |least, pair| least.min(pair[1] - pair[0]));
        let most = change_max(rules, shortest_ms);
        let least = if is_register { 0 } else { -most };
        let mut before = if last == ABSENT { values[0] } else { last };
        // ABSENT is far from every value, so that a column with gaps is looked at closely.
        values.iter().all(|&value| {
            let change = value.saturating_sub(core::mem::replace(&mut before, value));
            change >= least && change <= most
        })
    }

    /// Marks where a register runs backwards, and returns the rows where the channel changes too fast.
    fn doubt_column(&mut self, set: &SampleSet, column: usize) -> Vec<usize> {
        // A new serial number explains one leap.
        let mut swapped = self.serial_changed(set);
        let Some((channel, last)) = self.column_rules(set, column) else { return Vec::new() };
        let rules = channel.converted.clone();
        let (mut before, mut before_ms) = (last, self.state.last_ms);
        let mut reversed = Vec::new();
        let mut too_fast = Vec::new();
        let out = &self.decisions.accepted;
        for (row, &value) in out.column(set, column).iter().enumerate() {
            let time_ms = out.times_ms[set.rows.start + row];
            if value == ABSENT || time_ms <= before_ms {
                continue;
            }
            if before != ABSENT {
                // Between reports only the newest sample's time is known, which may have lacked the channel.
                let elapsed_ms = (time_ms - before_ms).max(rules.every_ms);
                let step = match rules.kind {
                    Kind::Register => register_step(&rules, before, value, time_ms - before_ms, swapped),
                    _ => RegisterStep::Forward,
                };
                match step {
                    RegisterStep::Forward if !is_too_fast(&rules, before, value, elapsed_ms) => {}
                    RegisterStep::Forward if rules.kind == Kind::Register && swapped => swapped = false,
                    RegisterStep::Forward => too_fast.push(row),
                    RegisterStep::Rollover => {}
                    RegisterStep::Swap => swapped = false,
                    RegisterStep::Reverse => reversed.push(row),
                }
            }
            (before, before_ms) = (value, time_ms);
        }
        self.counted.reversed += reversed.len() as u64;
        self.suspect(set, reversed);
        too_fast
    }

    fn serial_changed(&self, set: &SampleSet) -> bool {
        let out = &self.decisions.accepted;
        (0..set.channels.len()).any(|column| {
            let number = out.channels[set.channels.start + column];
            self.rules.position(number).is_some_and(|at| {
                let known = self.state.last[at];
                self.rules.channels[at].kind == Kind::Identity
                    && out
                        .column(set, column)
                        .iter()
                        .any(|&value| value != ABSENT && known != ABSENT && value != known)
            })
        })
    }
}

/// Makes wire integers those of the newest version; classes that stand side by side keep them below 2^53.
fn convert(channel: &VersionChannel, values: &mut [i64]) {
    if channel.factor != 1 {
        values.iter_mut().filter(|value| **value != ABSENT).for_each(|value| *value *= channel.factor);
    }
}

fn worse_code(left: u8, right: u8) -> u8 {
    let quality = |code| Quality::from_code(code).unwrap_or(Quality::Suspect);
    worse(quality(left), quality(right)).code()
}
