//! What a gateway decides on the reports of one device of a class, whatever the class says.

use hunhe_fixtures::{Block, Sent, enrolment, id};
use hunhe_gateway_core::{
    event::{Arrival, Decisions, Event},
    lane::{Lane, Policy},
    registry::Enrolment,
    rule::Rule,
};
use hunhe_proto::{class::Class, reading::Header, topic};
use std::{fmt::Write as _, sync::Arc};

/// 2026-05-01T00:00:00+08:00
const START_MS: i64 = 1_777_564_800_000;
const HOUR_MS: i64 = 3_600_000;
/// In ticks of the class's clock, which the base counts in minutes.
const T0: i64 = START_MS / 60_000;

fn payload(version: u32, seq: u64, t0: i64, columns: &[(u16, Vec<i64>)]) -> Vec<u8> {
    let header = Header { boot: 7, seq, class_version: Some(version), ..Header::default() };
    report(header, t0, columns)
}

fn report(header: Header, t0: i64, columns: &[(u16, Vec<i64>)]) -> Vec<u8> {
    let columns = columns.iter().map(|(channel, values)| (*channel, values.clone(), vec![])).collect();
    Sent { header, ..Sent::default() }.with(Block { t0, step: 10, columns, ..Block::default() }).bytes()
}

/// Decisions on a device that begins one outbox after the other, owes samples of the first, and then claims numbers that it
/// cannot have sampled.
pub(crate) fn observe_conduct(class: &Class, rules: &[Rule]) -> String {
    let mut lane = lane_of(class, rules);
    let mut out = String::new();
    let version = Some(class.version);
    let headers = (1..=8).map(|boot| {
        let next_seq = (boot == 1).then_some(20);
        Header { boot, next_seq, class_version: version, ..Header::default() }
    });
    let claims = Header { boot: 8, next_seq: Some(1 << 52), class_version: version, ..Header::default() };
    for header in headers.chain([claims]) {
        let (topic, payload) = (topic::up(id("d-0")), report(header, T0, &[(1, vec![200, 201])]));
        let arrival = Arrival { lsn: 1, at_ms: START_MS + HOUR_MS, live: true, alarm: false };
        let mut decisions = Decisions::default();
        let event = Event::Message { arrival, topic: topic.as_bytes(), payload: &payload };
        lane.handle(event, &mut decisions);
        writeln!(out, "{:?}", decisions.alerts).unwrap();
    }
    out
}

/// Decisions on reports as the base class has them; `version` is what they say.
pub(crate) fn observe(class: &Class, rules: &[Rule], version: u32) -> String {
    let mut lane = lane_of(class, rules);
    let mut out = String::new();
    let mut handle = |event: Event<'_>| {
        let mut decisions = Decisions::default();
        lane.handle(event, &mut decisions);
        writeln!(out, "{decisions:?} {:?}", lane.counters()).unwrap();
    };
    // Level: steps, edges of both ranges, a leap. Total: a rise, a leap, a rollover, a fall. Status and place.
    let level = vec![200, 202, 204, 98, 100, 5_000, 5_002, 5_990, 6_000, -200, -202, 301, 260, 260, 260, 100];
    let total: Vec<i64> =
        [0, 40, 100, 4_000, 99_000, 99_990, 10, 60, 20, 30].map(|value| value * 10).to_vec();
    let first =
        [(1, level), (0, vec![0, 0, 1, 0, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0]), (3, vec![41_800; 16])];
    let message = |hour: i64| Arrival { lsn: 1, at_ms: START_MS + hour * HOUR_MS, live: true, alarm: false };
    for device in 0..4 {
        let (topic, payload) = (topic::up(id(&format!("d-{device}"))), payload(version, 0, T0, &first));
        handle(Event::Message { arrival: message(5), topic: topic.as_bytes(), payload: &payload });
    }
    // Silence, hour by hour; one of the four speaks once more.
    for hour in 5..60 {
        if hour == 12 {
            let (topic, payload) =
                (topic::up(id("d-0")), payload(version, 16, T0 + 160, &[(2, total.clone())]));
            handle(Event::Message { arrival: message(hour), topic: topic.as_bytes(), payload: &payload });
        }
        handle(Event::Tick { lsn: 1, now_ms: START_MS + hour * HOUR_MS, listened_ms: 3_600_000 });
    }
    out
}

fn lane_of(class: &Class, rules: &[Rule]) -> Lane {
    let devices = (0..4).map(|n| Enrolment {
        pseudonym: id(&format!("p-{n}")),
        ..enrolment(&format!("d-{n}"), &class.name, "agent")
    });
    let registry = hunhe_fixtures::registry(vec![class.clone()], rules.to_vec(), devices);
    Lane::new(Arc::new(registry), Policy::default())
}
