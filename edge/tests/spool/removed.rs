//! An agent one of whose devices is no longer configured: what that owed is told as lost until the watermark has passed it.

use super::{FOLDER, LIMITS};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::{
    drivers::{Driver, simulated::Simulated},
    mqtt::{Note, PublishError},
    run::{
        Equipment,
        agent::{Agent, Policy, Port, Step},
    },
    spool::{Entry, Spool},
};
use hunhe_edge_core::{Now, link, sample::Late};
use hunhe_proto::{
    class::Class,
    decode::decode,
    id::{AgentId, DeviceId},
    reading::{Drop, DropCause, Report},
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
simulate = { base = 500, daily = 100, noise = 20 }
"#;
const START_MS: i64 = 1_785_513_600_000;

/// A broker that accepts everything, and keeps it.
#[derive(Default)]
struct Wire {
    open: bool,
    notes: VecDeque<Note>,
    published: Vec<(String, Vec<u8>)>,
}

impl Port for Wire {
    type Error = Infallible;

    fn open(&mut self, _: i64) -> Result<(), Infallible> {
        self.open = true;
        self.notes.extend([Note::Connected, Note::Subscribed]);
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

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn agent(disk: &SimulatedDisk, devices: &[&str]) -> Agent<Wire> {
    let class: Arc<Class> = Arc::new(toml::from_str(CLASS).unwrap());
    let entries: Vec<_> = devices.iter().map(|name| Entry { device: id(name), channels: vec![1] }).collect();
    let opened = Spool::open(disk.handle(), Path::new(FOLDER), LIMITS, &entries, || 77).unwrap();
    let equipment = devices.iter().map(|name| {
        let model = Simulated::new(Arc::clone(&class), id(name), 1, None, START_MS, Late::Skip);
        let driver = Driver::Simulated(Box::new(model));
        Equipment { device: id(name), class: Arc::clone(&class), driver }
    });
    let policy = Policy {
        id: AgentId::new("agent").unwrap(),
        link: link::Policy::default(),
        samples_max: 100,
        lossless: false,
        live: true,
        offline_ms: Vec::new(),
    };
    let now = Now { steady_ms: 0, event_ms: START_MS };
    Agent::new(policy, equipment.collect(), opened, Wire::default(), now, Arc::default())
}

fn run(agent: &mut Agent<Wire>, seconds: std::ops::Range<u32>) {
    for second in seconds {
        let now =
            Now { steady_ms: u64::from(second) * 1_000, event_ms: START_MS + i64::from(second) * 1_000 };
        while agent.step(now).unwrap() == Step::Commit {
            agent.commit().unwrap();
        }
    }
}

/// Reports of a device, as its gateway reads them.
fn reports(agent: &Agent<Wire>, device: &str) -> Vec<Report> {
    let published = agent.port().published.iter().filter(|(to, _)| *to == topic::up(id(device)));
    let class: Class = toml::from_str(CLASS).unwrap();
    let read = |payload: &[u8]| {
        let mut report = Report::default();
        decode(payload, class.axis(), &mut report).unwrap();
        report
    };
    published.map(|(_, payload)| read(payload)).collect()
}

#[test]
fn what_a_removed_device_owed_is_told_as_lost_until_the_watermark_passes_it() {
    let disk = SimulatedDisk::new();
    let mut both = agent(&disk, &["a", "b"]);
    run(&mut both, 0..9);
    let (boot, taken) = {
        let state = both.devices()[1].outbox().state();
        (state.boot, state.next_seq)
    };
    assert!(taken > 4 && !reports(&both, "b").is_empty());
    drop(both);
    for life in 0..2 {
        disk.power_loss(life);
        let mut one = agent(&disk, &["a"]);
        run(&mut one, 9..60);
        let told = reports(&one, "b");
        let report = told.first().expect("a report");
        assert!(told.iter().all(|again| again == report), "{told:?}");
        let lost = Drop { seq: 0, count: taken, cause: DropCause::Operator };
        assert_eq!((report.header.boot, report.drops.as_slice()), (boot, [lost].as_slice()));
        assert_eq!(
            (report.next_seq(), report.held_from(), report.header.class_version),
            (taken, taken, None)
        );
        assert!(!reports(&one, "a").is_empty(), "the other goes on");
        if life == 1 {
            let boots = vec![v1::BootDurable { boot, through: taken, missing: Vec::new() }];
            let devices = vec![v1::DeviceDurable { device: "b".into(), boots }];
            let durable = v1::Durable { devices, refused: Vec::new() };
            one.port_mut().notes.push_back(Note::Watermark(durable.encode_to_vec()));
            run(&mut one, 60..62);
            assert!(one.devices()[1].outbox().is_settled());
        }
    }
    disk.power_loss(2);
    assert_eq!(agent(&disk, &["a"]).devices().len(), 1, "and then it is over");
}
