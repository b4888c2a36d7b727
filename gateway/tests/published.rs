//! What people see equals what the lane knows, after any sequence of messages, confirmations, discards, changes of agents
//! and restarts.

#![expect(clippy::unwrap_used, reason = "a broken promise fails loudly here")]

#[path = "../core/tests/support/mod.rs"]
mod support;

use std::time::Instant;

use hunhe_gateway::decide::published::{Overview, Published, Publisher, Row};
use hunhe_gateway_core::{
    event::Confirmed,
    lane::{Lane, Policy},
};
use hunhe_proto::v1::AgentState;
use proptest::prelude::*;
use prost::Message as _;
use support::{DAY_MS, START_H, START_MS, Sent, device, id, message, redrive, registry, send, tick, up};

const NAMES: [&str; 4] = ["gas-0", "gas-1", "flow-0", "flow-1"];

#[derive(Debug, Clone)]
enum Step {
    Report { device: usize, boot: u32, seq: u64, count: u64, held_from: Option<u64> },
    Undecodable(usize),
    Unknown,
    State { gas: bool, online: bool },
    Confirm { device: usize, boot: u32, stored: u64, quarantined: u64 },
    Discard { device: usize, boot: u32, samples: u64 },
    Redrive { device: usize, boot: u32, seq: u64 },
    Tick(i64),
    Publish,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (device, boot) = (0..NAMES.len(), 1..7_u32);
    let held_from = prop::option::of(0..30_u64);
    let step = prop_oneof![
        6 => (device.clone(), boot.clone(), 0..60_u64, 1..9_u64, held_from).prop_map(
            |(device, boot, seq, count, held_from)| Step::Report { device, boot, seq, count, held_from }
        ),
        1 => device.clone().prop_map(Step::Undecodable),
        1 => Just(Step::Unknown),
        2 => any::<(bool, bool)>().prop_map(|(gas, online)| Step::State { gas, online }),
        3 => (device.clone(), boot.clone(), 0..5_u64, 0..3_u64).prop_map(
            |(device, boot, stored, quarantined)| Step::Confirm { device, boot, stored, quarantined }
        ),
        1 => (device.clone(), boot.clone(), 0..3_u64)
            .prop_map(|(device, boot, samples)| Step::Discard { device, boot, samples }),
        1 => (device, boot, 0..60_u64).prop_map(|(device, boot, seq)| Step::Redrive { device, boot, seq }),
        1 => (0..300_i64).prop_map(Step::Tick),
        3 => Just(Step::Publish),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

fn sent(device: usize, boot: u32, seq: u64, count: u64) -> Sent {
    let hours = i64::try_from(seq).unwrap();
    let values: Vec<i64> = (hours..).map(|hour| hour * 10).take(usize::try_from(count).unwrap()).collect();
    let (t0, channel) = if device < 2 { (START_H + hours, 1) } else { (START_MS / 1000 + 60 * hours, 2) };
    Sent::new(boot, seq).block(t0, channel, &values)
}

struct World {
    lane: Lane,
    publisher: Publisher,
}

impl World {
    fn of(mut lane: Lane) -> Self {
        let publisher = Publisher::new(&mut lane, &registry(), Instant::now());
        Self { lane, publisher }
    }

    fn take(&mut self, step: &Step) {
        let now_ms = START_MS + 3 * DAY_MS;
        let lane = &mut self.lane;
        match *step {
            Step::Report { device, boot, seq, count, held_from } => {
                let mut sent = sent(device, boot, seq, count);
                sent.header.held_from = held_from.filter(|&from| from <= seq);
                send(lane, now_ms + i64::try_from(seq).unwrap(), NAMES[device], &sent);
            }
            Step::Undecodable(device) => drop(message(lane, now_ms, &up(NAMES[device]), &[0x07, 1])),
            Step::Unknown => drop(message(lane, now_ms, &up("nobody"), &sent(0, 1, 0, 1).bytes())),
            Step::State { gas, online } => {
                let topic = format!("hunhe/v1/agents/agent-{}/state", if gas { "gas" } else { "flow" });
                let state = AgentState { online, since_ms: 5, ..AgentState::default() };
                message(lane, now_ms, topic.as_bytes(), &state.encode_to_vec());
            }
            Step::Confirm { device, boot, stored, quarantined } => {
                let handled = stored + quarantined;
                lane.confirmed_of(
                    id(NAMES[device]),
                    boot,
                    Confirmed { handled, stored, quarantined, displaced: 0 },
                );
            }
            Step::Discard { device, boot, samples } => lane.discarded_of(id(NAMES[device]), boot, samples),
            Step::Redrive { device, boot, seq } => {
                redrive(lane, now_ms, NAMES[device], &sent(device, boot, seq, 4), &[(seq, 2)]);
            }
            Step::Tick(hours) => drop(tick(lane, START_MS + hours * 3_600_000)),
            Step::Publish => assert!(self.publisher.publish(lane, Instant::now())),
            Step::Restart => {
                let bytes = postcard::to_allocvec(&lane.snapshot()).unwrap();
                let mut next = Lane::new(registry(), Policy::default());
                next.restore(postcard::from_bytes(&bytes).unwrap());
                *self = Self::of(next);
            }
        }
    }
}

fn check(lane: &Lane, published: &Published) {
    let registry = registry();
    for device in registry.indices() {
        let row = lane.state(device).map(Row::of);
        assert_eq!(published.row(device), row);
        assert_eq!(published.ledger(device), row.as_ref().map(|row| row.ledger));
        assert_eq!(published.arrival_ms(device), row.as_ref().map(|row| row.arrival_ms));
        assert_eq!(published.readings(device), row.map_or(0, |row| row.ledger.readings));
    }
    let Overview { ledger, closed, counters, devices_online, audit } = (*published.overview()).clone();
    assert_eq!(*audit, *lane.audit());
    let (totals, _) = lane.ledger(|_| true);
    assert_eq!((ledger, counters), (totals, lane.counters().clone()));
    assert_eq!(closed, lane.states().all(|(_, state)| state.outboxes.totals().unexplained() == 0));
    let agents = registry.agents().iter();
    let online = agents.filter(|agent| {
        let at = registry.find_agent(agent.id).unwrap();
        lane.city().online(at).is_some_and(|(online, _)| online)
    });
    assert_eq!(devices_online, online.map(|agent| agent.devices.len() as u64).sum::<u64>());
    let readings: u64 = registry.indices().map(|device| published.readings(device)).sum();
    assert_eq!(readings, lane.counters().readings, "each value is some device's");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_published_is_what_the_lane_knows(steps in steps()) {
        let mut world = World::of(Lane::new(registry(), Policy::default()));
        for step in &steps {
            world.take(step);
            if matches!(step, Step::Publish | Step::Restart) {
                check(&world.lane, &world.publisher.published());
            }
        }
        world.take(&Step::Publish);
        check(&world.lane, &world.publisher.published());
    }
}

#[test]
fn a_lane_whose_books_were_balanced_before_is_published_whole() {
    let mut lane = Lane::new(registry(), Policy::default());
    send(&mut lane, START_MS + DAY_MS, "gas-0", &sent(0, 1, 0, 5));
    lane.balance(|_, _, _| ());
    let world = World::of(lane);
    check(&world.lane, &world.publisher.published());
    assert_eq!(world.publisher.published().readings(device("gas-0")), 5);
}
