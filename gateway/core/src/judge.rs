//! Judges the fresh samples of one report: times, values, registers. What passes becomes columns, the rest refusals.
//!
//! Invariants: a sample is accepted where at least one value is, and each of the others is [`ABSENT`] then; every set
//! has consecutive sequence numbers; refused ranges ascend. No allocation unless a value is refused or a sample is empty.

use crate::{
    alert::Context,
    device::DeviceState,
    event::{ABSENT, Arrival, Decisions, Reason, RefusedRange, SampleSet, worse},
    registry::{ClassRules, DeviceIx},
    validate::{CLOCK_SUSPECT_MS, RegisterStep, TimeWindow, judge_values, refusal_of, register_step},
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
    pub(crate) arrival: Arrival,
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
    /// Samples whose register ran backwards.
    pub(crate) reversed: u64,
    /// Samples dated ahead of their arrival, each doubted for itself.
    pub(crate) ahead: u64,
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
            let Some(at) = self.rules.position(column.channel) else { continue };
            let values = &self.report.values_of(column)[within.clone()];
            let judged = judge_values(&self.rules.channels[at], values, &mut out.values);
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
        self.doubt_registers(&set);
        let ahead_from_ms = self.state.ahead_from_ms(self.arrival);
        let context = Context {
            device: self.device,
            id: self.id,
            rules: self.rules,
            arrival_ms: self.arrival.at_ms,
            live_from_ms: self.state.live_from_ms(self.arrival, self.rules),
            ahead_from_ms,
        };
        let Decisions { accepted, alerts, .. } = &mut *self.decisions;
        self.state.alerts.judge(&context, &set, accepted, alerts);
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
            let Some(at) = self.rules.position(column.channel) else { continue };
            let value = self.report.values_of(column)[row];
            let why = refusal_of(&self.rules.channels[at], value);
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

    /// V06 for samples newer than all before. An older one is not judged: its neighbours are in the store, not here.
    fn doubt_registers(&mut self, set: &SampleSet) {
        for column in 0..set.channels.len() {
            let number = self.decisions.accepted.channels[set.channels.start + column];
            let Some(at) = self.rules.position(number) else { continue };
            if self.rules.channels[at].kind == Kind::Register && self.falls(set, column, at) {
                self.doubt_register(set, column, at);
            }
        }
    }

    /// Does the column fall anywhere? Nearly none does, and this is quick to say.
    fn falls(&self, set: &SampleSet, column: usize, at: usize) -> bool {
        let mut highest = self.state.last[at];
        let mut falls = false;
        for &value in self.decisions.accepted.column(set, column) {
            falls |= value < highest;
            highest = highest.max(value);
        }
        falls
    }

    fn doubt_register(&mut self, set: &SampleSet, column: usize, at: usize) {
        // A new serial number explains one fall.
        let mut swapped = self.serial_changed(set);
        let out = &mut self.decisions.accepted;
        let (mut before, mut before_ms) = (self.state.last[at], self.state.last_ms);
        for row in 0..set.rows.len() {
            let value = out.values[set.values_from + column * set.rows.len() + row];
            let time_ms = out.times_ms[set.rows.start + row];
            if value == ABSENT || time_ms <= before_ms {
                continue;
            }
            if before != ABSENT {
                let elapsed_ms = time_ms - before_ms;
                match register_step(&self.rules.channels[at], before, value, elapsed_ms, swapped) {
                    RegisterStep::Forward | RegisterStep::Rollover => {}
                    RegisterStep::Swap => swapped = false,
                    RegisterStep::Reverse => {
                        let quality = &mut out.quality[set.rows.start + row];
                        *quality = worse_code(*quality, Quality::Suspect.code());
                        self.counted.reversed += 1;
                    }
                }
            }
            (before, before_ms) = (value, time_ms);
        }
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

fn worse_code(left: u8, right: u8) -> u8 {
    let quality = |code| Quality::from_code(code).unwrap_or(Quality::Suspect);
    worse(quality(left), quality(right)).code()
}
