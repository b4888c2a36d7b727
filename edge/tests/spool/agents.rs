//! A whole agent on a simulated disk, and a broker that accepts everything and keeps it.

use super::{FOLDER, LIMITS};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::{
    drivers::{Driver, Taken},
    mqtt::{Note, PublishError},
    run::{
        Equipment,
        agent::{Agent, Policy, Port, Step},
    },
    spool::{Entry, Spool, SpoolError},
};
use hunhe_edge_core::{
    Now, link,
    sample::{Late, Schedule},
};
use hunhe_proto::{
    class::Class,
    decode::decode,
    id::{AgentId, DeviceId},
    reading::Report,
    topic, v1,
};
use prost::Message as _;
use std::{collections::VecDeque, convert::Infallible, path::Path, sync::Arc};

const CLASS: &str = r#"
name = "level"
version = 1
title = { zh = "液位", en = "level" }
time_unit_ms = 1000
interval = 1
report = { samples = 4, silent_after_s = 3600 }
[[channels]]
number = 1
name = "level"
title = { zh = "液位", en = "level" }
unit = "mm"
kind = "gauge"
min = 0
max = 10000
"#;
pub(crate) const START_MS: i64 = 1_785_513_600_000;

/// Reads the seconds since the start.
#[derive(Debug)]
struct Ticks(Schedule);

impl Driver for Ticks {
    fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken> {
        let time_ms = self.0.take_due(event_ms)?;
        row[0] = (time_ms - START_MS) / 1_000;
        Some(Taken { time_ms, alarm: false })
    }

    fn resume(&mut self, newest_ms: i64) {
        while self.0.next_ms() <= newest_ms && self.0.take_due(newest_ms).is_some() {}
    }

    fn next_ms(&self) -> Option<i64> {
        Some(self.0.next_ms())
    }
}

/// A broker that accepts everything, and keeps it.
#[derive(Default)]
pub(crate) struct Wire {
    open: bool,
    /// The broker cannot be reached.
    pub(crate) away: bool,
    notes: VecDeque<Note>,
    pub(crate) published: Vec<(String, Vec<u8>)>,
}

impl Port for Wire {
    type Error = Infallible;

    fn open(&mut self, _: i64) -> Result<(), Infallible> {
        self.open = true;
        if self.away {
            self.notes.push_back(Note::Lost("nobody is there".into()));
        } else {
            self.notes.extend([Note::Connected, Note::Subscribed]);
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn take(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    fn publish(&mut self, topic: String, payload: &[u8], _: bool) -> Result<(), PublishError> {
        self.published.push((topic, payload.to_vec()));
        Ok(())
    }

    fn close(&mut self) {
        self.tear();
    }

    fn tear(&mut self) {
        self.open = false;
    }

    fn wall_ms(&self) -> i64 {
        START_MS
    }
}

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(crate) fn agent(disk: &SimulatedDisk, devices: &[&str]) -> Agent<Wire> {
    let class: Arc<Class> = Arc::new(toml::from_str(CLASS).unwrap());
    let entries: Vec<_> = devices.iter().map(|name| Entry::new(id(name), 1, [(1, 0)])).collect();
    let opened = Spool::open(disk.handle(), Path::new(FOLDER), LIMITS, &entries, || 77).unwrap();
    let equipment = devices.iter().map(|name| {
        let ticks = Ticks(Schedule::new(class.interval_ms(), START_MS, Late::Skip));
        Equipment::new(id(name), Arc::clone(&class), Box::new(ticks))
    });
    let policy = Policy {
        id: AgentId::new("agent").unwrap(),
        link: link::Policy::default(),
        samples_max: 100,
        lossless: false,
        live: true,
    };
    let now = Now { steady_ms: 0, event_ms: START_MS };
    Agent::new(policy, equipment.collect(), opened, Wire::default(), now, Arc::default())
}

pub(crate) fn run(agent: &mut Agent<Wire>, seconds: std::ops::Range<u32>) {
    try_run(agent, seconds).unwrap();
}

pub(crate) fn try_run(agent: &mut Agent<Wire>, seconds: std::ops::Range<u32>) -> Result<(), SpoolError> {
    for second in seconds {
        let now =
            Now { steady_ms: u64::from(second) * 1_000, event_ms: START_MS + i64::from(second) * 1_000 };
        while agent.step(now).unwrap() == Step::Commit {
            agent.commit()?;
        }
    }
    Ok(())
}

/// The gateway says so.
pub(crate) fn tell(agent: &mut Agent<Wire>, device: &str, boot: u32, through: u64) {
    let boots = vec![v1::BootDurable { boot, through, missing: Vec::new() }];
    let devices = vec![v1::DeviceDurable { device: device.into(), boots }];
    let durable = v1::Durable { devices, refused: Vec::new() };
    agent.port_mut().notes.push_back(Note::Watermark(durable.encode_to_vec()));
}

/// Reports of a device, as its gateway reads them.
pub(crate) fn reports(agent: &Agent<Wire>, device: &str) -> Vec<Report> {
    let published = agent.port().published.iter().filter(|(to, _)| *to == topic::up(id(device)));
    let class: Class = toml::from_str(CLASS).unwrap();
    let read = |payload: &[u8]| {
        let mut report = Report::default();
        decode(payload, class.axis(), &mut report).unwrap();
        report
    };
    published.map(|(_, payload)| read(payload)).collect()
}
