//! All state of the devices of one process, driven by journaled events alone: the same journal gives the same decisions.
//!
//! The path of a message, [`Lane::handle`]: topic → device → report → class version → outbox (deduplication) → times →
//! values → changes → windows. What falls out on the way is a refusal with its reason; what comes through is a set of
//! columns. The ledger's counters move in step, but `stored` and `quarantined` only by a sink's word
//! ([`Lane::confirmed`]).
//!
//! Every method may be called in any order between events, and decisions never depend on what sinks have said. A sink
//! says of every decided sample once that it is done with it, after the event that decided it; saying it for fewer or
//! more shows in the ledger as outstanding or unexplained.
//!
//! **Redrive.** A quarantine record names the samples of one message that were refused. [`Event::Redrive`] judges them
//! again past deduplication, so whoever keeps the records makes it safe, by record id: it takes the record out of the
//! list, or marks it, in the same step that journals the redrive, and refuses another one of that record meanwhile.
//! Accepted samples then leave the record, move from quarantined to outstanding here, and to stored by a sink's word.
//! Samples that are refused again stay in quarantine: they are not announced anew, so no sink confirms them as handled,
//! and the record stays with them, listed again. A message that was refused whole (unknown device, undecodable,
//! `dedup_window`) never entered the ledger; its redrive names no samples and is decided like a message come now.
//!
//! One process has one lane, for all devices of its registry. Deliberately absent: clocks (time is an argument), storage.

mod confirm;
#[cfg(feature = "planted")]
mod planted;

use crate::{
    city::{City, audit::Audit, deadlines::Deadlines, totals::LedgerTotals},
    device::{
        alert::Context,
        conduct::{self, Seen},
        dedup::Pace,
        judge::{Counted, Judge},
        ledger::Totals,
        ranges::TooScattered,
        validate::TimeWindow,
    },
    event::{Arrival, Decisions, Event, Reason, Refusal, RefusedRange, WriteOff},
    registry::{ClassRules, DeviceIx, Registry, Resolved, VersionRules},
};
use alloc::{boxed::Box, collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::ops::Range;
use hunhe_proto::{
    decode::{DecodeError, class_version_of, decode},
    id::DeviceId,
    reading::{Quality, Report},
    topic::{self, Topic},
};
use serde::{Deserialize, Serialize};

pub use crate::device::DeviceState;

/// What decisions follow from beside registry and events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Samples this much older than their arrival are taken, even from before 2020; milliseconds.
    pub accept_past_ms: i64,
    /// How long the sink of record keeps samples, by their time; older ones are refused. 0: for ever. Milliseconds.
    pub retention_ms: i64,
    /// For tests of the ledger: the n-th accepted sample vanishes without a trace.
    #[cfg(feature = "planted")]
    pub planted_drop: Option<u64>,
}

impl Policy {
    /// Samples so much older than their arrival are taken, and kept for so long; milliseconds.
    #[must_use]
    pub fn new(accept_past_ms: i64, retention_ms: i64) -> Self {
        Self {
            accept_past_ms,
            retention_ms,
            #[cfg(feature = "planted")]
            planted_drop: None,
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
    pub messages_refused: BTreeMap<String, u64>,
    /// Samples refused, by reason.
    pub samples_refused: BTreeMap<String, u64>,
    /// Samples that a rule doubted, by rule.
    pub doubted: BTreeMap<String, u64>,
    /// Samples too late for their window, counted for each length.
    pub late_for_window: u64,
    /// Breaches that are told as one with the breach before: their device brings too many changes of its alerts.
    pub breaches_joined: u64,
}

/// All state of the devices of one process.
#[derive(Debug)]
pub struct Lane {
    pub(crate) registry: Arc<Registry>,
    policy: Policy,
    pub(crate) devices: Vec<Option<Box<DeviceState>>>,
    /// Of devices that left the registry: their ledger and what was received of them, for when they come back.
    pub(crate) removed: BTreeMap<DeviceId, Box<DeviceState>>,
    pub(crate) counters: Counters,
    pub(crate) city: City,
    pub(crate) deadlines: Deadlines,
    pub(crate) audit: Audit,
    pub(crate) ledger_totals: LedgerTotals,
    report: Report,
    fresh: Vec<Range<u64>>,
}

/// How many payloads an agent is told of that no resend will make readable.
const REFUSED_MAX: usize = 16;

impl Lane {
    /// A lane that has seen nothing.
    #[must_use]
    pub fn new(registry: Arc<Registry>, policy: Policy) -> Self {
        let devices = alloc::vec![None; registry.devices().len()];
        let city = City::new(&registry);
        let deadlines = Deadlines::new(&registry);
        let ledger_totals = LedgerTotals::new(devices.len());
        Self {
            registry,
            policy,
            devices,
            removed: BTreeMap::new(),
            counters: Counters::default(),
            city,
            deadlines,
            audit: Audit::default(),
            ledger_totals,
            report: Report::default(),
            fresh: Vec::new(),
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
                decisions.redriven = !refused.is_empty();
                if let Err(refusal) = self.message(arrival, topic, payload, Some(refused), decisions) {
                    decisions.refusal = Some(refusal);
                }
            }
            Event::WriteOff(write_off) => self.write_off(&write_off),
            Event::Tick { now_ms, listened_ms, .. } => self.tick(now_ms, listened_ms, decisions),
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
        let heard = redrive.is_none();
        let redrive = redrive.filter(|refused| !refused.is_empty());
        let registry = Arc::clone(&self.registry);
        let unknown = |reason| Refusal { device: None, boot: 0, reason };
        let id = match topic::parse(topic).map_err(|error| unknown(Reason::Topic(error)))? {
            Topic::Up(id) | Topic::Alarm(id) => id,
            Topic::State(agent) => {
                let agent = registry.find_agent(agent).ok_or(unknown(Reason::UnknownDevice))?;
                return self.city.agent_state(&registry, agent, payload).map_err(unknown);
            }
        };
        let Resolved { device, class, agent } = registry.resolve(id).ok_or(unknown(Reason::UnknownDevice))?;
        let rules = registry.class(class);
        let mut report = core::mem::take(&mut self.report);
        let outcome = match decode(payload, rules.axis, &mut report) {
            Ok(()) => self.report(arrival, (device, id), rules, &report, (heard, redrive), decisions),
            // By another version's clock it may be a report.
            Err(DecodeError::TimeRange)
                if class_version_of(payload).is_some_and(|told| rules.version(told).is_none()) =>
            {
                let context = Context::at(device, id, rules, (arrival.at_ms, self.city.listened_ms));
                if heard {
                    self.refused_whole(&context, arrival, Reason::UnknownClassVersion, decisions);
                }
                Err(Refusal { device: Some(device), boot: 0, reason: Reason::UnknownClassVersion })
            }
            Err(error) => {
                self.city.refuse(agent, crc32c::crc32c(payload), REFUSED_MAX);
                Err(Refusal { device: Some(device), boot: 0, reason: Reason::Undecodable(error) })
            }
        };
        self.report = report;
        self.deadlines.note(&registry, device, self.devices[device.at()].as_deref(), &self.city);
        self.city.touch(agent);
        outcome
    }

    fn report(
        &mut self,
        arrival: Arrival,
        (device, id): (DeviceIx, DeviceId),
        rules: &ClassRules,
        report: &Report,
        (heard, redrive): (bool, Option<&[(u64, u64)]>),
        decisions: &mut Decisions,
    ) -> Result<(), Refusal> {
        let boot = report.header.boot;
        let window = TimeWindow::at(arrival.at_ms, self.policy.accept_past_ms)
            .kept_for(arrival.at_ms, self.policy.retention_ms);
        self.ledger_totals.note(device.0, || ledger_of(&self.devices, device.0));
        self.fresh.clear();
        let doubt = match redrive {
            Some(refused) => {
                ascending(refused, report, &mut self.fresh);
                Quality::Valid
            }
            None => self
                .admit(
                    &Context::at(device, id, rules, (arrival.at_ms, self.city.listened_ms)),
                    arrival,
                    (report, window),
                    heard,
                    decisions,
                )
                .map_err(|reason| Refusal { device: Some(device), boot, reason })?,
        };
        let listened_ms = self.city.listened_ms;
        let state = self.devices[device.at()]
            .get_or_insert_with(|| Box::new(DeviceState::heard_first(rules, arrival, listened_ms)));
        let version = version_of(rules, state, report);
        let counted = Counted::default();
        let of = version.unwrap_or(rules.newest());
        let mut judge = Judge {
            device,
            id,
            rules,
            version: of,
            arrival,
            listened_ms,
            report,
            window,
            doubt,
            state,
            decisions,
            counted,
        };
        for fresh in &self.fresh {
            if let Err(reason) = version {
                judge.refuse(fresh.start, fresh.end - fresh.start, reason);
                continue;
            }
            for block in &report.blocks {
                judge.block(block, fresh);
            }
        }
        let counted = judge.counted;
        let ahead_from_ms = state.ahead_from_ms(arrival);
        self.settle(device, rules, boot, (doubt, ahead_from_ms), counted, decisions);
        Ok(())
    }

    /// Raises what rules say of a message that was refused before its outbox was looked at.
    fn refused_whole(
        &mut self,
        context: &Context<'_>,
        arrival: Arrival,
        reason: Reason,
        decisions: &mut Decisions,
    ) {
        self.ledger_totals.note(context.device.0, || ledger_of(&self.devices, context.device.0));
        let listened_ms = self.city.listened_ms;
        let state = self.devices[context.device.at()]
            .get_or_insert_with(|| Box::new(DeviceState::heard_first(context.rules, arrival, listened_ms)));
        let seen = Seen { refused: Some(reason.name()), ..Seen::default() };
        let conducts = &self.registry.conducts;
        conduct::judge(conducts, &mut state.alerts, context, &seen, &mut decisions.alerts);
    }

    /// Takes a report into its outbox; what of it was never received goes to `self.fresh`. Answers what V01 makes of its
    /// samples.
    fn admit(
        &mut self,
        context: &Context<'_>,
        arrival: Arrival,
        (report, window): (&Report, TimeWindow),
        heard: bool,
        decisions: &mut Decisions,
    ) -> Result<Quality, Reason> {
        let listened_ms = self.city.listened_ms;
        let state = self.devices[context.device.at()]
            .get_or_insert_with(|| Box::new(DeviceState::heard_first(context.rules, arrival, listened_ms)));
        let pace = Pace {
            now_ms: arrival.at_ms,
            earliest_ms: window.from_ms,
            interval_ms: context.rules.densest_ms,
        };
        let mut doubt = Quality::Valid;
        let mut seen = Seen::default();
        let mut refused;
        // A redrive is an operator's word, not the device's, and may know better.
        if heard && !state.outboxes.is_plausible(report, pace) {
            refused = Some(Reason::ImplausibleSeq);
        } else {
            // Not admitted where its version is not known, so that the agent sends it again. A device of which no sample can be
            // read has not been heard.
            refused = version_of(context.rules, state, report).err();
            if refused.is_none() {
                if heard {
                    state.note_message(arrival, listened_ms, report);
                    state.alerts.heard(context, &mut decisions.alerts);
                    doubt = state.judge_clock(context.rules, arrival, report);
                }
                let fresh = &mut self.fresh;
                match state.outboxes.admit(report, arrival.at_ms, |range| fresh.push(range)) {
                    Ok(admitted) => seen.admitted = admitted,
                    Err(TooScattered) => refused = Some(Reason::DedupWindow),
                }
            }
        }
        seen.refused = refused.map(Reason::name);
        if seen != Seen::default() {
            seen.new_lately = state.outboxes.new_lately(arrival.at_ms);
            let conducts = &self.registry.conducts;
            conduct::judge(conducts, &mut state.alerts, context, &seen, &mut decisions.alerts);
        }
        refused.map_or(Ok(doubt), Err)
    }

    fn write_off(&mut self, write_off: &WriteOff<'_>) {
        let Some(device) = self.registry.find(write_off.device) else { return };
        if !self.audit.is_known_to(write_off) {
            return;
        }
        self.ledger_totals.note(device.0, || ledger_of(&self.devices, device.0));
        if let Some(state) = self.devices[device.at()].as_deref_mut() {
            state.outboxes.write_off(write_off.samples);
            self.audit.note(write_off);
        }
    }

    /// Moves the ledger's counters in step with the decisions, and folds what was accepted into windows.
    fn settle(
        &mut self,
        device: DeviceIx,
        rules: &ClassRules,
        boot: u32,
        (doubt, ahead_from_ms): (Quality, i64),
        counted: Counted,
        decisions: &mut Decisions,
    ) {
        let Some(state) = self.devices[device.at()].as_deref_mut() else { return };
        let accepted = decisions.accepted.times_ms.len() as u64;
        let refused: u64 = decisions.refused.iter().map(|range| range.count).sum();
        for set in &decisions.accepted.sets {
            self.counters.late_for_window +=
                state.windows.add(rules, set, &decisions.accepted, ahead_from_ms, &mut decisions.shown);
        }
        if accepted > 0 {
            state.windows.show_due(rules, device, state.last_ms, &mut decisions.shown);
        }
        if decisions.redriven {
            state.outboxes.redriven(boot, accepted);
        } else if accepted + refused > 0 {
            state.outboxes.decided(boot, accepted + refused);
        }
        state.readings = state.readings.saturating_add(counted.readings as u64);
        self.counters.samples += accepted;
        self.counters.readings += counted.readings as u64;
        self.counters.values_refused += counted.values_refused as u64;
        self.counters.breaches_joined += counted.joined;
        self.counters.doubt("V01", if doubt == Quality::Suspect { accepted } else { counted.ahead });
        self.counters.doubt("V05", counted.unusual);
        self.counters.doubt("V06", counted.reversed);
        self.counters.doubt("V07", counted.too_fast);
        if let Some(&RefusedRange { reason, .. }) = decisions.refused.first() {
            decisions.refusal = Some(Refusal { device: Some(device), boot, reason });
        }
        // What is refused again was counted when it was refused first.
        for range in decisions.refused.iter().filter(|_| !decisions.redriven) {
            *self.counters.samples_refused.entry(range.reason.name().into()).or_default() += range.count;
        }
        #[cfg(feature = "planted")]
        self.plant(decisions, boot, device, accepted);
    }

    fn tick(&mut self, now_ms: i64, listened_ms: u32, decisions: &mut Decisions) {
        self.city.listened_ms = self.city.listened_ms.saturating_add(listened_ms.into());
        self.city.now_ms = now_ms;
        if listened_ms > 0 {
            self.deadlines.tick(&self.registry, &mut self.devices, &mut self.city, decisions);
        }
    }
}

/// The ledger of a device; of one that has not reported it is empty.
pub(crate) fn ledger_of(devices: &[Option<Box<DeviceState>>], device: u32) -> Totals {
    let state = devices.get(device as usize).and_then(Option::as_deref);
    state.map_or_else(Totals::default, |state| state.outboxes.totals())
}

impl Counters {
    fn doubt(&mut self, rule: &str, samples: u64) {
        if samples > 0 {
            *self.doubted.entry(rule.into()).or_default() += samples;
        }
    }
}

/// The version of its class that a report follows: as it says, or as one before it of its outbox did. A report without
/// samples has no integers, and needs none.
fn version_of<'a>(
    rules: &'a ClassRules,
    state: &DeviceState,
    report: &Report,
) -> Result<&'a VersionRules, Reason> {
    let known = state.outboxes.class_version(report.header.boot);
    let version = match (report.header.class_version, known) {
        (Some(said), Some(known)) if said != known => return Err(Reason::WrongClass),
        (Some(version), _) | (None, Some(version)) => version,
        (None, None) if report.samples() == 0 => return Ok(rules.newest()),
        (None, None) => return Err(Reason::ClassVersionUnknown),
    };
    rules.version(version).ok_or(Reason::UnknownClassVersion)
}

/// The parts of a report that `refused` names, each sample once whatever it says.
fn ascending(refused: &[(u64, u64)], report: &Report, out: &mut Vec<Range<u64>>) {
    let mut from = report.header.seq;
    for &(seq, count) in refused {
        let end = seq.saturating_add(count).min(report.end_seq());
        let start = seq.max(from);
        if start < end {
            out.push(start..end);
            from = end;
        }
    }
}

/// A payload too large for the broker's and our own packet limits is refused before decoding, under the same name.
pub const OVERSIZE: Reason = Reason::Undecodable(DecodeError::Oversize);
