//! A small city for tests: two classes, a few devices, and reports built field by field.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its own part")]

use hunhe_gateway_core::{
    event::{Arrival, Decisions, Event},
    lane::{Lane, Policy},
    registry::{DeviceIx, Enrolment, Registry},
    rule::{Rule, Severity, When, faults_of},
};
use hunhe_proto::{
    class::{Class, Text},
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    id::Id,
    reading::{Drop, Header},
    topic,
};
use std::{collections::BTreeMap, sync::Arc};

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// Of [`GAS`] and [`FLOW`].
pub const GAS_VERSION: u32 = 3;
pub const FLOW_VERSION: u32 = 1;
/// 2026-08-01T00:00:00+08:00
pub const START_MS: i64 = 1_785_513_600_000;
pub const START_H: i64 = START_MS / HOUR_MS;

pub const GAS: &str = r#"
name = "gas_meter"
version = 3
title = { zh = "燃气表", en = "Gas meter" }
time_unit_ms = 3600000
interval = 1
household = true
report = { samples = 24, sleeping = true, silent_after_s = 172800 }

[[channels]]
number = 1
name = "volume"
title = { zh = "累计量", en = "Volume" }
unit = "m3"
kind = "register"
decimals = 3
resolution = 10
min = 0
max = 99999.999
rollover = 100000.0
change_per_h_max = 7.2

[[channels]]
number = 2
name = "temperature"
title = { zh = "温度", en = "Temperature" }
unit = "Cel"
kind = "gauge"
decimals = 1
min = -40
max = 70

[[channels]]
number = 3
name = "serial"
title = { zh = "表号", en = "Serial number" }
unit = "1"
kind = "identity"
min = 0
max = 99999999
"#;

pub const FLOW: &str = r#"
name = "dma_flow"
version = 1
title = { zh = "分区流量计", en = "District flow meter" }
time_unit_ms = 1000
interval = 60
report = { samples = 15, silent_after_s = 3600 }

[[channels]]
number = 1
name = "flow"
title = { zh = "流量", en = "Flow" }
unit = "m3/h"
kind = "gauge"
decimals = 2
min = -9000000000000
max = 9000000000000

[[channels]]
number = 2
name = "pressure"
title = { zh = "压力", en = "Pressure" }
unit = "m"
kind = "gauge"
decimals = 2
min = 0
max = 120
"#;

pub const RULES: &str = r#"
[[rules]]
id = "pressure_high"
version = 1
class = "dma_flow"
severity = "major"
title = { zh = "压力高", en = "Pressure high" }
source = "D"
when = { channel = "pressure", at_least = 0.5, clear_below = 0.2 }
hold_s = 60

[[rules]]
id = "flow_silent"
version = 1
class = "dma_flow"
severity = "warning"
title = { zh = "静默", en = "Silent" }
source = "D"
when = { silent_s = 86400 }
"#;

pub fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

pub fn class(text: &str) -> Class {
    let class: Class = toml::from_str(text).unwrap();
    assert_eq!(class.faults_found(), []);
    class
}

/// Devices `gas-0`, `gas-1` and `flow-0`, `flow-1`; agents `agent-gas` and `agent-flow`.
pub fn registry() -> Arc<Registry> {
    registry_of(&[GAS, FLOW])
}

pub fn registry_of(classes: &[&str]) -> Arc<Registry> {
    let classes: Vec<Class> = classes.iter().map(|text| class(text)).collect();
    let rules = toml::from_str::<BTreeMap<String, Vec<Rule>>>(RULES).unwrap().remove("rules").unwrap();
    assert_eq!(faults_of(&rules, &classes), []);
    let mut registry = Registry::new(classes);
    registry.set_rules(rules);
    for (class, kind) in [("gas_meter", "gas"), ("dma_flow", "flow")] {
        for number in 0..2 {
            let enrolment = Enrolment {
                id: id(&format!("{kind}-{number}")),
                pseudonym: id(&format!("p-{kind}-{number}")),
                class: class.into(),
                agent: id(&format!("agent-{kind}")),
                operator: id("op"),
                district: 210_102,
                zone: id("zone-1"),
                position: (123.4, 41.8),
            };
            registry.enrol(enrolment).unwrap();
        }
    }
    Arc::new(registry)
}

/// Pressure from 80 m on, over below 70.
pub fn pressure_high(hold_s: u32, clear_hold_s: u32) -> Rule {
    Rule {
        id: "pressure_high".into(),
        version: 1,
        class: Some("dma_flow".into()),
        severity: Severity::Major,
        title: Text { zh: "压力高".into(), en: "Pressure high".into() },
        source: "D".into(),
        when: When::AtLeast { channel: "pressure".into(), at_least: 80.0, clear_below: 70.0 },
        hold_s,
        clear_hold_s,
    }
}

/// The small city under these rules, where data of years ago are taken.
pub fn watching(rules: Vec<Rule>) -> Lane {
    let mut registry = Arc::unwrap_or_clone(registry());
    assert_eq!(faults_of(&rules, &[class(GAS), class(FLOW)]), []);
    registry.set_rules(rules);
    Lane::new(Arc::new(registry), Policy { accept_past_ms: 10 * 365 * DAY_MS, ..Policy::default() })
}

pub fn lane() -> Lane {
    Lane::new(registry(), Policy::default())
}

#[derive(Debug, Clone, Default)]
pub struct Block {
    pub t0: i64,
    pub step: u32,
    pub dt: Vec<u32>,
    /// Channel, values, quality codes.
    pub columns: Vec<(u16, Vec<i64>, Vec<u8>)>,
}

#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub header: Header,
    pub drops: Vec<Drop>,
    pub blocks: Vec<Block>,
}

impl Sent {
    pub fn new(boot: u32, seq: u64) -> Self {
        Self { header: Header { boot, seq, ..Header::default() }, ..Self::default() }
    }

    pub fn block(self, t0: i64, channel: u16, values: &[i64]) -> Self {
        self.with(Block { t0, columns: vec![(channel, values.to_vec(), vec![])], ..Block::default() })
    }

    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    pub fn held_from(mut self, seq: u64) -> Self {
        self.header.held_from = Some(seq);
        self
    }

    /// Says the version of the device's class, by its name, where it does not say any.
    pub fn versioned(&self, device: &str) -> Self {
        let mut sent = self.clone();
        let version = if device.starts_with("gas-") { GAS_VERSION } else { FLOW_VERSION };
        sent.header.class_version.get_or_insert(version);
        sent
    }

    pub fn bytes(&self) -> Vec<u8> {
        let columns: Vec<Vec<ColumnDraft<'_>>> = self
            .blocks
            .iter()
            .map(|block| {
                block
                    .columns
                    .iter()
                    .map(|(channel, values, quality)| ColumnDraft { channel: *channel, values, quality })
                    .collect()
            })
            .collect();
        let blocks: Vec<BlockDraft<'_>> = self
            .blocks
            .iter()
            .zip(&columns)
            .map(|(block, columns)| BlockDraft {
                t0: block.t0,
                step: block.step,
                dt: &block.dt,
                samples: block.columns.first().map_or(0, |column| column.1.len().try_into().unwrap()),
                columns,
            })
            .collect();
        let draft = Draft { header: self.header, drops: &self.drops, blocks: &blocks };
        let mut out = vec![0; 128 * 1024];
        let len = encode(&draft, &mut out).unwrap();
        out.truncate(len);
        out
    }
}

pub fn up(device: &str) -> Vec<u8> {
    topic::up(id(device)).into_bytes()
}

pub fn arrival(at_ms: i64) -> Arrival {
    Arrival { lsn: 1, at_ms, live: false, alarm: false }
}

pub fn message(lane: &mut Lane, at_ms: i64, topic: &[u8], payload: &[u8]) -> Decisions {
    let mut decisions = Decisions::default();
    lane.handle(Event::Message { arrival: arrival(at_ms), topic, payload }, &mut decisions);
    decisions
}

/// Sends a report, which says its class's version where nothing says another.
pub fn send(lane: &mut Lane, at_ms: i64, device: &str, sent: &Sent) -> Decisions {
    message(lane, at_ms, &up(device), &sent.versioned(device).bytes())
}

pub fn redrive(lane: &mut Lane, at_ms: i64, device: &str, sent: &Sent, refused: &[(u64, u64)]) -> Decisions {
    let mut decisions = Decisions::default();
    let (topic, payload) = (up(device), sent.versioned(device).bytes());
    let event = Event::Redrive { arrival: arrival(at_ms), topic: &topic, payload: &payload, refused };
    lane.handle(event, &mut decisions);
    decisions
}

pub fn tick(lane: &mut Lane, now_ms: i64) -> Decisions {
    let mut decisions = Decisions::default();
    let since_ms = lane.city().now_ms.max(START_MS);
    let listened_ms = u32::try_from(now_ms.saturating_sub(since_ms).max(0)).unwrap_or(u32::MAX);
    lane.handle(Event::Tick { lsn: 1, now_ms, listened_ms }, &mut decisions);
    decisions
}

pub fn device(name: &str) -> DeviceIx {
    registry().find(id(name)).unwrap()
}

pub fn accepted_seqs(decisions: &Decisions) -> Vec<u64> {
    decisions
        .accepted
        .sets
        .iter()
        .flat_map(|set| decisions.accepted.seqs[set.rows.clone()].to_vec())
        .collect()
}
