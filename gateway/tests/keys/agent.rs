//! What an agent with three modelled devices of a class does in a few days: each report, but for its boot.

use hunhe_edge::{
    mqtt::{Note, PublishError},
    run::{
        Equipment,
        agent::{Agent, Policy, Port, Step},
    },
    spool::{Entry, Spool},
};
use hunhe_edge_core::{Now, link, sample::Late};
use hunhe_fleet::{
    faults::{Faults, Faulty, Moment},
    simulated::Simulated,
};
use hunhe_proto::{
    class::{Class, Fault},
    decode::decode,
    id::{AgentId, DeviceId},
    reading::Report,
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

/// 2026-04-30T00:00:00+08:00: the season of the class begins on the second day.
const START_MS: i64 = 1_777_478_400_000;
const STEP_S: i64 = 300;
const STEPS: i64 = 60 * 3_600 / STEP_S;
/// Nobody can be reached then, in steps.
const AWAY: std::ops::Range<i64> = 300..600;

/// Accepts everything at once, and keeps it.
#[derive(Default)]
struct Wire {
    open: bool,
    away: bool,
    notes: VecDeque<Note>,
    packet: u16,
    published: Vec<(String, Vec<u8>)>,
}

impl Port for Wire {
    type Error = Infallible;

    fn open(&mut self, _: i64) -> Result<(), Infallible> {
        self.open = true;
        let away = || Note::Lost("nobody is there".into());
        self.notes.extend(if self.away { vec![away()] } else { vec![Note::Connected, Note::Subscribed] });
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn take(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    fn publish(&mut self, topic: String, payload: &[u8], _: bool) -> Result<(), PublishError> {
        self.packet = self.packet.wrapping_add(1).max(1);
        self.notes.extend([Note::Sent(self.packet), Note::Acked(self.packet)]);
        self.published.push((topic, payload.to_vec()));
        Ok(())
    }

    fn close(&mut self) {
        self.open = false;
    }

    fn tear(&mut self) {
        self.open = false;
    }

    fn wall_ms(&self) -> i64 {
        START_MS
    }
}

/// With a fault from its class, or without.
pub(crate) fn observe(class: &Arc<Class>, fault: Option<&Fault>) -> String {
    let ids = ["d-1", "d-2", "d-3"].map(|name| DeviceId::new(name).unwrap());
    let entries = ids.map(|id| Entry::of(id, class));
    let mut faults = Faults::default();
    let equipment = ids.map(|device| {
        let mut model = Simulated::new(Arc::clone(class), device, 1, None, START_MS, Late::Skip);
        model.stand(123.4, 41.8);
        if let Some(fault) = fault {
            let hour_ms = 3_600_000;
            model.strike(fault.clone(), (START_MS + 12 * hour_ms..START_MS + 40 * hour_ms).into());
        }
        faults.add(device, &model);
        Equipment::new(device, Arc::clone(class), Box::new(model))
    });
    let event_ms = Arc::new(AtomicI64::new(START_MS));
    let clock = Arc::clone(&event_ms);
    let moment = move || Moment { event_ms: clock.load(Relaxed), draining: false };
    let port = Faulty::new(Wire::default(), faults, moment);
    let policy = Policy {
        id: AgentId::new("agent").unwrap(),
        link: link::Policy { backoff_ms_max: 60_000, ..link::Policy::default() },
        samples_max: 100_000,
        lossless: false,
        live: true,
    };
    let now = Now { steady_ms: 0, event_ms: START_MS };
    let mut agent =
        Agent::new(policy, equipment.into(), Spool::in_memory(&entries), port, now, Arc::default());
    for step in 0..STEPS {
        agent.port_mut().inner_mut().away = AWAY.contains(&step);
        if step == AWAY.start {
            agent.port_mut().inner_mut().notes.push_back(Note::Lost("it went".into()));
        }
        let ms = step * STEP_S * 1_000;
        event_ms.store(START_MS + ms, Relaxed);
        let now = Now { steady_ms: ms.unsigned_abs(), event_ms: START_MS + ms };
        while agent.step(now).unwrap() == Step::Commit {
            agent.commit().unwrap();
        }
    }
    told(class, &agent.port().inner().published)
}

fn told(class: &Class, published: &[(String, Vec<u8>)]) -> String {
    let (mut out, mut report) = (String::new(), Report::default());
    for (topic, payload) in published {
        if decode(payload, class.axis(), &mut report).is_err() || topic.contains("/agents/") {
            continue;
        }
        report.header.boot = 0;
        writeln!(
            out,
            "{topic} {:?} {:?} {:?} {:?} {:?}",
            report.header, report.drops, report.columns, report.times_ms, report.values
        )
        .unwrap();
    }
    out
}
