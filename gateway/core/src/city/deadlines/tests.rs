//! The wheel against a look at every device after each tick, for random histories.

use super::*;
use crate::{
    city::silence::{Condition, Count},
    event::{Arrival, Event},
    lane::{Lane, Policy},
    registry::{AgentIx, Enrolment},
    rule::Rule,
};
use alloc::{collections::BTreeMap, format, string::String, sync::Arc};
use hunhe_fixtures::{FLOW, GAS, Sent, class, id};
use hunhe_proto::topic;
use proptest::prelude::*;

const START_MS: i64 = 1_785_513_600_000;
const NAMES: [&str; 9] =
    ["flow-0", "flow-1", "flow-2", "flow-3", "flow-4", "flow-5", "flow-6", "gas-0", "gas-1"];

const RULES: &str = r#"
[[rules]]
id = "flow_silent"
version = 1
class = "dma_flow"
severity = "warning"
title = { zh = "失联", en = "Silent" }
source = "D"
when = { silent_s = 7200 }

[[rules]]
id = "gas_silent"
version = 1
class = "gas_meter"
severity = "warning"
title = { zh = "失联", en = "Silent" }
source = "D"
when = { silent_s = 9000 }

[[rules]]
id = "cell_silent"
version = 1
severity = "major"
title = { zh = "失联", en = "Silent" }
source = "D"
when = { silent_share = 0.6, devices_min = 3 }

[[rules]]
id = "pressure_high"
version = 1
class = "dma_flow"
severity = "major"
title = { zh = "压力高", en = "Pressure high" }
source = "D"
when = { channel = "pressure", at_least = 80.0, clear_below = 70.0 }

[[rules]]
id = "version_unknown"
version = 1
severity = "major"
title = { zh = "版本未知", en = "Version unknown" }
source = "D"
when = { refused = "unknown_class_version" }
clear_hold_s = 1800
"#;

fn registry() -> Arc<Registry> {
    let mut registry = Registry::new([FLOW, GAS].map(class).into());
    let rules = toml::from_str::<BTreeMap<String, Vec<Rule>>>(RULES).unwrap().remove("rules").unwrap();
    registry.set_rules(rules);
    for (at, name) in NAMES.into_iter().enumerate() {
        let enrolment = Enrolment {
            id: id(name),
            pseudonym: id(&format!("p-{name}")),
            class: if name.starts_with("gas") { "gas_meter" } else { "dma_flow" }.into(),
            // One agent of two classes, one below the least number.
            agent: id(if at < 2 { "few" } else { "cell" }),
            operator: id("op"),
            district: 210_102,
            zone: id("zone-1"),
            position: (123.4, 41.8),
        };
        registry.enrol(enrolment).unwrap();
    }
    Arc::new(registry)
}

#[derive(Debug, Clone)]
enum Step {
    /// Reports of these devices, so many minutes old.
    Send(u16, u32),
    /// A report of a version that is not installed.
    Refused(usize),
    /// Old samples with a breach: the late track.
    Late(usize),
    /// Refused samples are judged again: the device has not reported.
    Redrive(usize),
    /// The clock of silence moves so many milliseconds, and the other clock so many seconds further.
    Tick(u32, i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..1_u16 << NAMES.len(), 0..120_u32).prop_map(|(of, old)| Step::Send(of, old)),
        1 => Just(Step::Send(u16::MAX, 0)),
        1 => (0..NAMES.len()).prop_map(Step::Refused),
        1 => (0..7_usize).prop_map(Step::Late),
        1 => (0..7_usize).prop_map(Step::Redrive),
        6 => (0..4_000_000_u32, -4_000..4_000_i64).prop_map(|(ms, s)| Step::Tick(ms, s)),
        2 => (6_900_000..7_300_000_u32).prop_map(|ms| Step::Tick(ms, 0)),
        1 => Just(Step::Tick(0, 100_000)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

struct History {
    registry: Arc<Registry>,
    lane: Lane,
    now_ms: i64,
    seqs: [u64; NAMES.len()],
}

impl History {
    fn new() -> Self {
        let registry = registry();
        let lane = Lane::new(Arc::clone(&registry), Policy::default());
        Self { registry, lane, now_ms: START_MS, seqs: [0; NAMES.len()] }
    }

    fn send(&mut self, at: usize, old_s: i64, breach: bool, version: Option<u32>, redrive: bool) {
        let name = NAMES[at];
        let of_gas = name.starts_with("gas");
        let t0 = self.now_ms / 1000 - old_s;
        let (t0, values) =
            if of_gas { (t0 / 3600, [1, 2]) } else { (t0 / 60 * 60, [if breach { 9_000 } else { 100 }; 2]) };
        let seq = self.seqs[at];
        self.seqs[at] += 2;
        let mut sent = Sent::new(1, seq).block(t0, if of_gas { 1 } else { 2 }, &values);
        sent.header.class_version = version;
        let payload = sent.versioned(name).bytes();
        let topic = topic::up(id(name)).into_bytes();
        let arrival = Arrival { lsn: 1, at_ms: self.now_ms, live: old_s < 300, alarm: false };
        let (topic, payload) = (&topic[..], &payload[..]);
        let event = if redrive {
            Event::Redrive { arrival, topic, payload, refused: &[(seq, 2)] }
        } else {
            Event::Message { arrival, topic, payload }
        };
        self.lane.handle(event, &mut Decisions::default());
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Send(of, old_min) => {
                for at in (0..NAMES.len()).filter(|at| of >> at & 1 == 1) {
                    self.send(at, i64::from(old_min) * 60, false, None, false);
                }
            }
            Step::Refused(at) => self.send(at, 0, false, Some(9), false),
            Step::Late(at) => {
                self.send(at, 60, false, None, false);
                self.send(at, 86_400, true, None, false);
            }
            Step::Redrive(at) => self.send(at, 3_000, false, None, true),
            Step::Tick(listened_ms, s) => {
                self.now_ms += i64::from(listened_ms) + s * 1000;
                return self.tick(listened_ms);
            }
            Step::Restart => {
                let mut lane = Lane::new(Arc::clone(&self.registry), Policy::default());
                lane.restore(self.lane.snapshot());
                self.lane = lane;
            }
        }
        Ok(())
    }

    fn tick(&mut self, listened_ms: u32) -> Result<(), TestCaseError> {
        let (mut devices, mut city) = (self.lane.devices.clone(), self.lane.city.clone());
        let (mut expected, mut decisions) = (Decisions::default(), Decisions::default());
        city.now_ms = self.now_ms;
        city.listened_ms += u64::from(listened_ms);
        if listened_ms > 0 {
            look_at_all(&self.registry, &mut devices, &mut city, &mut expected);
        }
        let tick = Event::Tick { lsn: 1, now_ms: self.now_ms, listened_ms };
        self.lane.handle(tick, &mut decisions);
        prop_assert_eq!(&decisions.alerts, &expected.alerts);
        prop_assert_eq!(&decisions.shown.windows, &expected.shown.windows);
        prop_assert_eq!(&self.lane.devices, &devices);
        prop_assert_eq!(&self.lane.city.agents, &city.agents);
        let counts = counts(&self.registry, &devices, &city);
        for (agent, count) in self.registry.agents_indices().zip(counts) {
            prop_assert_eq!(self.lane.deadlines.conditions.of(agent), count);
        }
        Ok(())
    }
}

/// What each agent's devices come to, counted anew.
fn counts(registry: &Registry, devices: &[Option<Box<DeviceState>>], city: &City) -> Vec<Count> {
    let mut counts = alloc::vec![Count::default(); registry.agents().len()];
    for (ix, state) in registry.indices().zip(devices) {
        let agent = registry.device(ix).agent;
        let silence = registry.class_of(ix).silence;
        let now = condition(state.as_deref(), silence, city.silence_of(agent), city.listened_ms);
        counts[agent.at()].watched += u32::from(now != Condition::Unwatched);
        counts[agent.at()].silent += u32::from(now == Condition::Silent);
    }
    counts
}

/// The specification: every agent, then every device, by index.
fn look_at_all(
    registry: &Registry,
    devices: &mut [Option<Box<DeviceState>>],
    city: &mut City,
    out: &mut Decisions,
) {
    let counts = counts(registry, devices, city);
    let share = registry.shares.first().unwrap();
    for (agent, &count) in (0..).map(AgentIx).zip(&counts) {
        let now_ms = city.now_ms;
        silence::judge_agent(registry, (share, agent, count), city, now_ms, &mut out.alerts);
    }
    for (device, state) in registry.indices().zip(devices) {
        let Some(state) = state.as_deref_mut() else { continue };
        let (rules, known) = (registry.class_of(device), registry.device(device));
        let context = Context::at(device, known.id, rules, (city.now_ms, city.listened_ms));
        let quiet_ms = city.listened_ms - state.listened_ms;
        let silence = rules.silence.unwrap();
        let in_a_cell = counts[known.agent.at()].watched >= share.devices_min;
        let after_ms = silence.after_ms + if in_a_cell { held_back_ms(rules) } else { 0 };
        if city.silence_of(known.agent).is_none() && quiet_ms >= after_ms {
            let since = (state.arrival_ms, quiet_ms);
            state.alerts.silent(&context, silence, since, &mut out.alerts);
        }
        state.alerts.tick(&context, &mut out.alerts);
        conduct::tick(&registry.conducts, &mut state.alerts, &context, &mut out.alerts);
        if quiet_ms >= windows_after_ms(rules) {
            state.windows.show_due(rules, device, i64::MAX, &mut out.shown);
        }
    }
}

proptest! {
    #[test]
    fn the_wheel_decides_as_a_look_at_every_device(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.take(step)?;
        }
    }
}

/// Counts how often a device is looked at, by the wheel's own steps.
#[test]
fn a_tick_costs_the_devices_that_are_due_and_not_the_city() {
    let mut wheel = Wheel::new(100_000);
    for device in 0..100_000 {
        wheel.no_later_than(DeviceIx(device), 90_000_000 + u64::from(device) * 10);
    }
    let mut due = 0;
    for now_s in 0..90_000 {
        wheel.advance(now_s * 1000, |_| due += 1);
    }
    assert_eq!(due, 0);
    wheel.advance(90_000_000, |_| due += 1);
    assert_eq!(due, 1);
    wheel.advance(91_000_000, |_| due += 1);
    assert_eq!(due, 100_000);
}
