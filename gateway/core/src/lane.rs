//! All state of a shard of devices, driven by journaled events alone: the same journal gives the same decisions.
//!
//! The path of a message, [`Lane::handle`]: topic → device → report → class → outbox (deduplication) → times → values
//! → registers → windows. What falls out on the way is a refusal with its reason; what comes through is a set of
//! columns. The ledger's counters move in step, but `stored` and `quarantined` only by a sink's word
//! ([`Lane::confirmed`]).
//!
//! Lanes share nothing. Deliberately absent: clocks (time is an argument), storage, alerts.

use crate::{
    aggregate::Windows,
    city::City,
    dedup::Outboxes,
    event::{ABSENT, Arrival, Confirmed, Decisions, Event, Reason, Refusal, RefusedRange, SampleSet, worse},
    registry::{AgentIx, ClassRules, DeviceIx, Registry},
    validate::{CLOCK_SUSPECT_MS, RegisterStep, TimeWindow, judge_values, register_step},
};
use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Range;
use hunhe_proto::{
    class::Kind,
    decode::{DecodeError, decode},
    reading::{BlockSpan, Quality, Report},
    topic::{self, Topic},
};
use serde::{Deserialize, Serialize};

/// What a lane may be told beside the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Samples this much older than their arrival are taken, even from before 2020; milliseconds.
    pub accept_past_ms: i64,
    /// For tests of the ledger: the n-th accepted sample vanishes without a trace.
    pub planted_drop: Option<u64>,
}

/// What is known of a device that has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// What was received.
    pub outboxes: Outboxes,
    /// Its windows.
    pub windows: Windows,
    /// The newest sample's time, milliseconds since 1970.
    pub last_ms: i64,
    /// The newest value of each of the class's channels, [`ABSENT`] where there never was one.
    pub last: Box<[i64]>,
    /// The newest sample's quality code.
    pub last_quality: u8,
    /// The newest message's arrival, milliseconds since 1970.
    pub arrival_ms: i64,
    /// The device clock minus the gateway's, where a live report told; milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Millivolts, as last reported.
    pub battery_mv: Option<u32>,
    /// dBm, as last reported.
    pub signal_dbm: Option<i32>,
    /// Intervals without a sample, between samples (V03).
    pub gaps: u32,
    /// The longest of them in milliseconds.
    pub longest_gap_ms: i64,
}

impl DeviceState {
    fn new(rules: &ClassRules) -> Self {
        Self {
            outboxes: Outboxes::default(),
            windows: Windows::default(),
            last_ms: i64::MIN,
            last: alloc::vec![ABSENT; rules.channels.len()].into_boxed_slice(),
            last_quality: Quality::Valid.code(),
            arrival_ms: 0,
            clock_offset_ms: None,
            battery_mv: None,
            signal_dbm: None,
            gaps: 0,
            longest_gap_ms: 0,
        }
    }
}

/// What a lane has counted since its first start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages handled.
    pub messages: u64,
    /// Samples accepted.
    pub samples: u64,
    /// Values accepted.
    pub readings: u64,
    /// Values refused in accepted samples.
    pub values_refused: u64,
    /// Messages refused whole, by reason.
    pub messages_refused: BTreeMap<alloc::string::String, u64>,
    /// Samples refused, by reason.
    pub samples_refused: BTreeMap<alloc::string::String, u64>,
    /// Samples that a rule doubted, by rule.
    pub doubted: BTreeMap<alloc::string::String, u64>,
    /// Samples too late for their window.
    pub late_for_window: u64,
}

/// All state of a shard of devices.
#[derive(Debug)]
pub struct Lane {
    pub(crate) registry: Arc<Registry>,
    policy: Policy,
    pub(crate) devices: Vec<Option<Box<DeviceState>>>,
    pub(crate) counters: Counters,
    pub(crate) city: City,
    report: Report,
    fresh: Vec<Range<u64>>,
    accepted_ever: u64,
}

/// How many payloads an agent is told of that no resend will make readable.
const REFUSED_MAX: usize = 16;

impl Lane {
    /// A lane that has seen nothing.
    #[must_use]
    pub fn new(registry: Arc<Registry>, policy: Policy) -> Self {
        let devices = alloc::vec![None; registry.devices().len()];
        let city = City::new(&registry);
        Self {
            registry,
            policy,
            devices,
            counters: Counters::default(),
            city,
            report: Report::default(),
            fresh: Vec::new(),
            accepted_ever: 0,
        }
    }

    /// Decides on an event. `decisions` is empty before.
    pub fn handle(&mut self, event: Event<'_>, decisions: &mut Decisions) {
        match event {
            Event::Message { arrival, topic, payload } => {
                self.counters.messages += 1;
                if let Err(refusal) = self.message(arrival, topic, payload, None, decisions) {
                    *self.counters.messages_refused.entry(refusal.reason.name().into()).or_default() += 1;
                    decisions.refusal = Some(refusal);
                }
            }
            Event::Redrive { arrival, topic, payload, refused } => {
                decisions.redriven = true;
                if let Err(refusal) = self.message(arrival, topic, payload, Some(refused), decisions) {
                    decisions.refusal = Some(refusal);
                }
            }
            Event::Tick { now_ms, .. } => self.tick(now_ms, decisions),
        }
    }

    fn message(
        &mut self,
        arrival: Arrival,
        topic: &[u8],
        payload: &[u8],
        redrive: Option<&[(u64, u64)]>,
        decisions: &mut Decisions,
    ) -> Result<(), Refusal> {
        let registry = Arc::clone(&self.registry);
        let unknown = |reason| Refusal { device: None, boot: 0, reason };
        let id = match topic::parse(topic).map_err(|error| unknown(Reason::Topic(error)))? {
            Topic::Up(id) | Topic::Alarm(id) => id,
            Topic::State(agent) => {
                let agent = registry.find_agent(agent).ok_or(unknown(Reason::UnknownDevice))?;
                return self.city.agent_state(agent, payload).map_err(unknown);
            }
        };
        let device = registry.find(id).ok_or(unknown(Reason::UnknownDevice))?;
        let rules = registry.class_of(device);
        let agent = registry.device(device).agent;
        let mut report = core::mem::take(&mut self.report);
        let outcome = match decode(payload, rules.axis, &mut report) {
            Ok(()) => self.report(arrival, device, rules, &report, redrive, decisions),
            Err(error) => {
                self.city.refuse(agent, crc32c::crc32c(payload), REFUSED_MAX);
                Err(Refusal { device: Some(device), boot: 0, reason: Reason::Undecodable(error) })
            }
        };
        self.report = report;
        self.city.touch(agent);
        outcome
    }

    fn report(
        &mut self,
        arrival: Arrival,
        device: DeviceIx,
        rules: &ClassRules,
        report: &Report,
        redrive: Option<&[(u64, u64)]>,
        decisions: &mut Decisions,
    ) -> Result<(), Refusal> {
        let boot = report.header.boot;
        let refuse = |reason| Refusal { device: Some(device), boot, reason };
        let state = self.devices[device.at()].get_or_insert_with(|| Box::new(DeviceState::new(rules)));
        self.fresh.clear();
        match redrive {
            Some(refused) => {
                self.fresh.extend(refused.iter().map(|&(seq, count)| seq..seq.saturating_add(count)))
            }
            None => {
                let fresh = &mut self.fresh;
                state
                    .outboxes
                    .admit(report, |range| fresh.push(range))
                    .map_err(|_| refuse(Reason::DedupWindow))?;
                state.arrival_ms = state.arrival_ms.max(arrival.at_ms);
                state.note_health(report);
            }
        }
        let wrong_class = report.header.class_version.is_some_and(|version| version != rules.class.version);
        let doubt = state.judge_clock(arrival, report);
        let mut judge = Judge {
            device,
            rules,
            report,
            window: TimeWindow::at(arrival.at_ms, self.policy.accept_past_ms),
            doubt,
            decisions,
            values_refused: 0,
            doubted: 0,
        };
        for fresh in &self.fresh {
            if wrong_class {
                judge.refuse(fresh.start, fresh.end - fresh.start, Reason::WrongClass);
                continue;
            }
            for block in &report.blocks {
                judge.block(block, fresh, state);
            }
        }
        let Judge { values_refused, doubted, .. } = judge;
        self.counters.values_refused += u64::from(values_refused);
        if doubted > 0 {
            *self.counters.doubted.entry("V06".into()).or_default() += u64::from(doubted);
        }
        self.settle(device, rules, boot, decisions);
        Ok(())
    }

    /// Moves the ledger's counters in step with the decisions, and folds what was accepted into windows.
    fn settle(&mut self, device: DeviceIx, rules: &ClassRules, boot: u32, decisions: &mut Decisions) {
        let Some(state) = self.devices[device.at()].as_deref_mut() else { return };
        if !decisions.accepted.sets.is_empty() {
            state.note_newest(rules, &decisions.accepted);
            for set in &decisions.accepted.sets {
                let samples = set.rows.len() as u64;
                self.counters.samples += samples;
                let values = set.values_from..set.values_from + set.channels.len() * set.rows.len();
                let readings =
                    decisions.accepted.values[values].iter().filter(|&&value| value != ABSENT).count();
                self.counters.readings += readings as u64;
                self.counters.late_for_window +=
                    state.windows.add(rules, set, &decisions.accepted, &mut decisions.shown);
                if decisions.redriven {
                    state.outboxes.redriven(boot, samples);
                } else {
                    state.outboxes.decided(boot, samples);
                }
                self.accepted_ever += samples;
            }
            state.windows.show_due(rules, device, state.last_ms, &mut decisions.shown);
        }
        if let Some(&RefusedRange { reason, .. }) = decisions.refused.first() {
            decisions.refusal = Some(Refusal { device: Some(device), boot, reason });
            for range in &decisions.refused {
                *self.counters.samples_refused.entry(range.reason.name().into()).or_default() += range.count;
                if !decisions.redriven {
                    state.outboxes.decided(boot, range.count);
                }
            }
        }
        self.plant(decisions, boot, device);
    }

    /// See [`Policy::planted_drop`].
    fn plant(&mut self, decisions: &mut Decisions, boot: u32, device: DeviceIx) {
        let Some(nth) = self.policy.planted_drop else { return };
        if self.accepted_ever < nth {
            return;
        }
        self.policy.planted_drop = None;
        decisions.accepted.forget_last_row();
        if let Some(state) = self.devices[device.at()].as_deref_mut() {
            // The sample left for a sink, and nobody will hear of it again.
            state.outboxes.confirmed(boot, Confirmed { handled: 1, ..Confirmed::default() });
        }
    }

    fn tick(&mut self, now_ms: i64, decisions: &mut Decisions) {
        self.city.now_ms = now_ms;
        for (device, state) in self.registry.indices().zip(&mut self.devices) {
            let Some(state) = state.as_deref_mut().filter(|state| state.windows.has_unshown()) else {
                continue;
            };
            let rules = self.registry.class_of(device);
            let silent_ms = i64::from(rules.class.report.silent_after_s) * 1000;
            if now_ms - state.arrival_ms > silent_ms {
                state.windows.show_due(rules, device, i64::MAX, &mut decisions.shown);
            }
        }
    }

    /// Notes what a sink did with a device's decided samples.
    pub fn confirmed(&mut self, device: DeviceIx, boot: u32, confirmed: Confirmed) {
        if let Some(state) = self.devices.get_mut(device.at()).and_then(Option::as_deref_mut) {
            state.outboxes.confirmed(boot, confirmed);
        }
    }

    /// Notes that quarantined samples were discarded, by an operator or at the quarantine's bound.
    pub fn discarded(&mut self, device: DeviceIx, boot: u32, samples: u64) {
        if let Some(state) = self.devices.get_mut(device.at()).and_then(Option::as_deref_mut) {
            state.outboxes.discarded(boot, samples);
        }
    }

    /// The agents whose watermark may have moved since the last call.
    pub fn take_touched_agents(&mut self) -> Vec<AgentIx> {
        self.city.take_touched()
    }
}

impl DeviceState {
    fn note_health(&mut self, report: &Report) {
        self.battery_mv = report.header.battery_mv.or(self.battery_mv);
        self.signal_dbm = report.header.signal_dbm.or(self.signal_dbm);
    }

    /// V01: the device's clock at sending against arrival, for messages that were not held up on the way.
    fn judge_clock(&mut self, arrival: Arrival, report: &Report) -> Quality {
        let (true, Some(after_s), Some(last_ms)) =
            (arrival.live, report.header.sent_after_s, report.times_ms.last())
        else {
            return Quality::Valid;
        };
        let offset_ms = last_ms + i64::from(after_s) * 1000 - arrival.at_ms;
        self.clock_offset_ms = Some(offset_ms);
        if offset_ms.abs() > CLOCK_SUSPECT_MS { Quality::Suspect } else { Quality::Valid }
    }

    /// Keeps the newest value of each channel, and counts the intervals without a sample (V03).
    fn note_newest(&mut self, rules: &ClassRules, accepted: &crate::event::Accepted) {
        for set in &accepted.sets {
            let times = &accepted.times_ms[set.rows.clone()];
            let (Some(&first_ms), Some(&last_ms)) = (times.first(), times.last()) else { continue };
            if last_ms <= self.last_ms {
                continue;
            }
            if self.last_ms != i64::MIN && first_ms - self.last_ms > rules.interval_ms * 3 / 2 {
                self.gaps = self.gaps.saturating_add(1);
                self.longest_gap_ms = self.longest_gap_ms.max(first_ms - self.last_ms);
            }
            self.last_ms = last_ms;
            self.last_quality = accepted.quality[set.rows.end - 1];
            for (column, &number) in accepted.channels[set.channels.clone()].iter().enumerate() {
                let newest = accepted.column(set, column).iter().rfind(|&&value| value != ABSENT);
                if let (Some(at), Some(&value)) = (rules.position(number), newest) {
                    self.last[at] = value;
                }
            }
        }
    }
}

/// Judges the fresh samples of one report.
struct Judge<'a> {
    device: DeviceIx,
    rules: &'a ClassRules,
    report: &'a Report,
    window: TimeWindow,
    /// What V01 makes of every sample here.
    doubt: Quality,
    decisions: &'a mut Decisions,
    values_refused: u32,
    doubted: u32,
}

impl Judge<'_> {
    fn refuse(&mut self, seq: u64, count: u64, reason: Reason) {
        if count == 0 {
            return;
        }
        match self.decisions.refused.last_mut() {
            Some(last) if last.reason == reason && last.seq + last.count == seq => last.count += count,
            _ => self.decisions.refused.push(RefusedRange { seq, count, reason }),
        }
    }

    fn block(&mut self, block: &BlockSpan, fresh: &Range<u64>, state: &DeviceState) {
        let seq0 = self.report.header.seq;
        let row_of = |seq: u64| usize::try_from(seq.saturating_sub(seq0)).unwrap_or(usize::MAX);
        let rows = block.samples.start.max(row_of(fresh.start))..block.samples.end.min(row_of(fresh.end));
        if rows.is_empty() {
            return;
        }
        let timely = self.window.within(&self.report.times_ms, rows.clone());
        self.refuse(seq0 + rows.start as u64, (timely.start - rows.start) as u64, Reason::TooOld);
        self.accept(block, timely.clone(), state);
        self.refuse(seq0 + timely.end as u64, (rows.end - timely.end) as u64, Reason::InFuture);
    }

    fn accept(&mut self, block: &BlockSpan, rows: Range<usize>, state: &DeviceState) {
        if rows.is_empty() {
            return;
        }
        let seq0 = self.report.header.seq;
        let out = &mut self.decisions.accepted;
        let set_rows = out.times_ms.len()..out.times_ms.len() + rows.len();
        let channels_from = out.channels.len();
        let values_from = out.values.len();
        out.times_ms.extend_from_slice(&self.report.times_ms[rows.clone()]);
        out.seqs.extend(rows.clone().map(|row| seq0 + row as u64));
        out.quality.resize(set_rows.end, self.doubt.code());
        let mut first_reason = None;
        for column in &self.report.columns[block.columns.clone()] {
            let Some(at) = self.rules.position(column.channel) else { continue };
            let offset = rows.start - block.samples.start;
            let values = &self.report.values_of(column)[offset..offset + rows.len()];
            let (refused, reason) = judge_values(&self.rules.channels[at], values, &mut out.values);
            self.values_refused += refused;
            first_reason = first_reason.or(reason);
            out.channels.push(column.channel);
            if let Some(codes) = &column.quality {
                let codes = &self.report.qualities[codes.clone()][offset..offset + rows.len()];
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
        if set.channels.is_empty() || first_reason.is_some() {
            self.accept_what_has_values(set, first_reason.unwrap_or(Reason::NoKnownChannel), state);
        } else {
            self.doubt_registers(&set, state);
            self.decisions.accepted.sets.push(set);
        }
    }

    /// The rare way: some values were refused, so some samples may have none left.
    fn accept_what_has_values(&mut self, set: SampleSet, reason: Reason, state: &DeviceState) {
        let out = &self.decisions.accepted;
        let columns = set.channels.len();
        let has_value = |row: usize| (0..columns).any(|column| out.column(&set, column)[row] != ABSENT);
        let kept: Vec<bool> = (0..set.rows.len()).map(has_value).collect();
        let values: Vec<i64> = out.values[set.values_from..].to_vec();
        let seqs: Vec<u64> = out.seqs[set.rows.clone()].to_vec();
        let times: Vec<i64> = out.times_ms[set.rows.clone()].to_vec();
        let quality: Vec<u8> = out.quality[set.rows.clone()].to_vec();
        let channels: Vec<u16> = out.channels[set.channels.clone()].to_vec();
        let out = &mut self.decisions.accepted;
        out.times_ms.truncate(set.rows.start);
        out.seqs.truncate(set.rows.start);
        out.quality.truncate(set.rows.start);
        out.channels.truncate(set.channels.start);
        out.values.truncate(set.values_from);
        let mut row = 0;
        while row < kept.len() {
            let run = kept[row..].iter().take_while(|&&keep| keep == kept[row]).count();
            let rows = row..row + run;
            row = rows.end;
            if !kept[rows.start] {
                self.values_refused =
                    self.values_refused.saturating_sub(u32::try_from(run * columns).unwrap_or(0));
                self.refuse(seqs[rows.start], run as u64, reason);
                continue;
            }
            let out = &mut self.decisions.accepted;
            let part = SampleSet {
                device: set.device,
                boot: set.boot,
                rows: out.times_ms.len()..out.times_ms.len() + run,
                channels: out.channels.len()..out.channels.len() + columns,
                values_from: out.values.len(),
            };
            out.times_ms.extend_from_slice(&times[rows.clone()]);
            out.seqs.extend_from_slice(&seqs[rows.clone()]);
            out.quality.extend_from_slice(&quality[rows.clone()]);
            out.channels.extend_from_slice(&channels);
            for column in values.chunks(kept.len()) {
                out.values.extend_from_slice(&column[rows.clone()]);
            }
            self.doubt_registers(&part, state);
            self.decisions.accepted.sets.push(part);
        }
    }

    /// V06 for samples newer than all before. An older one is not judged: its neighbours are in the store, not here.
    fn doubt_registers(&mut self, set: &SampleSet, state: &DeviceState) {
        let serial_changed = self.serial_changed(set, state, &self.decisions.accepted);
        let out = &mut self.decisions.accepted;
        for column in 0..set.channels.len() {
            let number = out.channels[set.channels.start + column];
            let Some(at) = self.rules.position(number) else { continue };
            let rules = &self.rules.channels[at];
            if rules.kind != Kind::Register {
                continue;
            }
            let (mut before, mut before_ms) = (state.last[at], state.last_ms);
            for row in 0..set.rows.len() {
                let value = out.values[set.values_from + column * set.rows.len() + row];
                let time_ms = out.times_ms[set.rows.start + row];
                if value == ABSENT || time_ms <= before_ms {
                    continue;
                }
                if before != ABSENT && value < before {
                    let step = register_step(rules, before, value, time_ms - before_ms, serial_changed);
                    if step == RegisterStep::Reverse {
                        let quality = &mut out.quality[set.rows.start + row];
                        *quality = worse_code(*quality, Quality::Suspect.code());
                        self.doubted += 1;
                    }
                }
                (before, before_ms) = (value, time_ms);
            }
        }
    }

    fn serial_changed(&self, set: &SampleSet, state: &DeviceState, out: &crate::event::Accepted) -> bool {
        (0..set.channels.len()).any(|column| {
            let number = out.channels[set.channels.start + column];
            self.rules.position(number).is_some_and(|at| {
                self.rules.channels[at].kind == Kind::Identity
                    && state.last[at] != ABSENT
                    && out.column(set, column).iter().any(|&value| value != ABSENT && value != state.last[at])
            })
        })
    }
}

fn worse_code(left: u8, right: u8) -> u8 {
    let quality = |code| Quality::from_code(code).unwrap_or(Quality::Suspect);
    worse(quality(left), quality(right)).code()
}

/// A payload too large for the broker's and our own packet limits is refused before decoding, under the same name.
pub const OVERSIZE: Reason = Reason::Undecodable(DecodeError::Oversize);
