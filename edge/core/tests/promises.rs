//! The promises of an agent under any interleaving of sampling, sending, losing, acknowledging and power cuts.
//!
//! The model gateway keeps what it received; the model network may lose, repeat, reorder and delay anything, and
//! watermarks may come again, late and out of order.
#![allow(clippy::unwrap_used, clippy::panic)]

use hunhe_edge_core::{
    Now,
    agent::{Agent, Device, Effect},
    batch,
    link::{self, Action},
    outbox::{self, Range, State},
};
use hunhe_proto::{
    id::Id,
    reading::{Drop, DropCause},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

const DEVICES: usize = 2;
const HELD_MAX: u64 = 40;

#[derive(Debug, Clone)]
enum Step {
    Sample { device: usize, count: u64 },
    Deliver { pick: usize, keep: bool },
    Lose { pick: usize },
    Corrupt { pick: usize },
    Watermark { pick: usize },
    PubAck,
    Disconnect,
    PowerCut { stale: bool },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..DEVICES, 1..6_u64).prop_map(|(device, count)| Step::Sample { device, count }),
        6 => (0..8_usize, any::<bool>()).prop_map(|(pick, keep)| Step::Deliver { pick, keep }),
        2 => (0..8_usize).prop_map(|pick| Step::Lose { pick }),
        1 => (0..8_usize).prop_map(|pick| Step::Corrupt { pick }),
        5 => (0..64_usize).prop_map(|pick| Step::Watermark { pick }),
        4 => Just(Step::PubAck),
        1 => Just(Step::Disconnect),
        1 => any::<bool>().prop_map(|stale| Step::PowerCut { stale }),
        4 => prop_oneof![0..3_000_u64, 3_000..1_000_000_u64].prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Debug, Clone)]
struct Message {
    device: usize,
    range: Range,
    next_seq: u64,
    held_from: u64,
    drops: Vec<Drop>,
    crc: u32,
}

#[derive(Debug, Clone)]
struct Mark {
    device: usize,
    through: u64,
    missing: Vec<Range>,
    refused: Vec<u32>,
}

#[derive(Default)]
struct Gateway {
    received: [BTreeSet<u64>; DEVICES],
    declared: [BTreeSet<u64>; DEVICES],
    next_seq: [u64; DEVICES],
    refused: Vec<u32>,
    marks: Vec<Mark>,
}

impl Gateway {
    fn take(&mut self, message: &Message) {
        let device = message.device;
        self.received[device].extend(message.range.start..message.range.end);
        for drop in &message.drops {
            self.declared[device].extend(drop.seq..drop.seq + drop.count);
        }
        self.next_seq[device] = self.next_seq[device].max(message.next_seq);
        self.mark(device);
    }

    fn mark(&mut self, device: usize) {
        let known = |seq: &u64| self.received[device].contains(seq) || self.declared[device].contains(seq);
        let end = self.next_seq[device];
        let through = (0..end).find(|seq| !known(seq)).unwrap_or(end);
        let missing = (through..end).filter(|seq| !known(seq)).take(8);
        let missing = missing.map(|seq| Range { start: seq, end: seq + 1 }).collect();
        self.marks.push(Mark { device, through, missing, refused: self.refused.clone() });
    }

    fn max_through(&self, device: usize) -> u64 {
        self.marks.iter().filter(|mark| mark.device == device).map(|mark| mark.through).max().unwrap_or(0)
    }
}

struct World {
    agent: Agent<[Device; DEVICES]>,
    persisted: [State; DEVICES],
    wire: Vec<Message>,
    gateway: Gateway,
    now: Now,
    sampled: [u64; DEVICES],
    declared: [BTreeSet<u64>; DEVICES],
    /// What a power cut brought back: a stale watermark may hold more than the bound until the next sample.
    recovered: [u64; DEVICES],
    sent: u32,
}

fn policy() -> batch::Policy {
    batch::Policy { samples: 4, offset_ms: 300, age_ms_max: 5_000 }
}

fn agent(states: [State; DEVICES], now: Now) -> Agent<[Device; DEVICES]> {
    let link = link::Policy { window: 3, ..link::Policy::default() };
    Agent::new(Id::new("c-1").unwrap(), link, states.map(|s| Device::new(s, policy(), HELD_MAX, 1)), now)
}

impl World {
    fn new() -> Self {
        let now = Now { steady_ms: 0, event_ms: 0 };
        let persisted = [State::new(11, None), State::new(12, Some((9, 3)))];
        Self {
            agent: agent(persisted.clone(), now),
            persisted,
            wire: Vec::new(),
            gateway: Gateway::default(),
            now,
            sampled: [0; DEVICES],
            declared: Default::default(),
            recovered: [0; DEVICES],
            sent: 0,
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Sample { device, count } => {
                for _ in 0..count {
                    self.sampled[device] += 1;
                    self.recovered[device] = 0;
                    self.persisted[device].next_seq = self.sampled[device];
                    self.agent.stored(device, self.sampled[device], self.now.event_ms, false);
                }
            }
            Step::Deliver { pick, keep } if !self.wire.is_empty() => {
                let index = pick % self.wire.len();
                let message = if keep { self.wire[index].clone() } else { self.wire.remove(index) };
                self.gateway.take(&message);
            }
            Step::Lose { pick } if !self.wire.is_empty() => {
                self.wire.remove(pick % self.wire.len());
            }
            Step::Corrupt { pick } if !self.wire.is_empty() => {
                let message = self.wire.remove(pick % self.wire.len());
                self.gateway.refused.push(message.crc);
                self.gateway.mark(message.device);
            }
            Step::Watermark { pick } if !self.gateway.marks.is_empty() => {
                let mark = self.gateway.marks[pick % self.gateway.marks.len()].clone();
                self.receive(&mark);
            }
            Step::PubAck => self.agent.acked(self.now),
            Step::Disconnect => self.agent.lost(self.now),
            Step::PowerCut { stale } => {
                if !stale {
                    for (device, state) in self.persisted.iter_mut().enumerate() {
                        *state = self.agent.devices()[device].outbox().state().clone();
                    }
                }
                self.agent = agent(self.persisted.clone(), self.now);
                self.recovered = std::array::from_fn(|device| self.agent.devices()[device].outbox().held());
            }
            Step::Wait { ms } => self.wait(ms),
            _ => {}
        }
        self.settle();
        self.check();
    }

    fn wait(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.event_ms += i64::try_from(ms).unwrap();
    }

    fn receive(&mut self, mark: &Mark) {
        self.agent.watermark_seen();
        let (device, now) = (mark.device, self.now);
        let boot = self.persisted[device].boot;
        self.agent.watermark(device, boot, mark.through, mark.missing.iter().copied(), now);
        for &crc in &mark.refused {
            self.agent.refused(crc);
        }
    }

    /// Does what the agent asks for; the connection always comes up, and may go at any step.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.persist();
            match self.agent.poll(self.now) {
                None => return,
                Some(Effect::Link(Action::Connect)) => {
                    self.agent.connected(self.now);
                    self.agent.subscribed(self.now);
                }
                Some(Effect::Link(Action::Disconnect)) => {}
                Some(Effect::Send(send)) => {
                    let header = self.agent.header(send, send.range);
                    self.sent += 1;
                    let outbox = self.agent.devices()[send.device].outbox();
                    let message = Message {
                        device: send.device,
                        range: send.range,
                        next_seq: header.next_seq.unwrap_or(send.range.end),
                        held_from: header.held_from.unwrap_or(send.range.start),
                        drops: outbox.drops().to_vec(),
                        crc: self.sent,
                    };
                    self.truthful(&message);
                    self.wire.push(message);
                    self.agent.sent(send.device, send.range, self.sent, self.now);
                }
            }
        }
        panic!("the agent never comes to rest");
    }

    fn truthful(&self, message: &Message) {
        let device = message.device;
        assert_eq!(message.next_seq, self.sampled[device], "next_seq is what was sampled");
        for seq in message.held_from..message.next_seq {
            assert!(!self.forgotten(device, seq), "{seq} is reported as held and is not");
        }
        for seq in message.range.start..message.range.end {
            assert!(!self.forgotten(device, seq), "{seq} is sent and was forgotten");
            let dropped = |drop: &Drop| (drop.seq..drop.seq + drop.count).contains(&seq);
            assert!(!message.drops.iter().any(dropped), "{seq} is sent and declared lost");
        }
    }

    fn forgotten(&self, device: usize, seq: u64) -> bool {
        seq < self.agent.devices()[device].outbox().state().through
    }

    /// Drops before they are told; the watermark now and then.
    fn persist(&mut self) {
        let (persisted, declared) = (&mut self.persisted, &mut self.declared);
        self.agent.take_dirty(|device, outbox| {
            persisted[device].drops = outbox.state().drops.clone();
            for drop in outbox.drops() {
                declared[device].extend(drop.seq..drop.seq + drop.count);
            }
        });
    }

    fn check(&self) {
        for device in 0..DEVICES {
            let outbox = self.agent.devices()[device].outbox();
            assert!(outbox.held() <= HELD_MAX.max(self.recovered[device]), "memory is bounded");
            assert!(outbox.state().next_seq == self.sampled[device]);
            for seq in 0..self.sampled[device] {
                let passed = seq < self.gateway.max_through(device);
                assert!(
                    !self.forgotten(device, seq) || passed,
                    "{seq} of device {device} was forgotten before the watermark passed it"
                );
                let dropped = |drop: &Drop| (drop.seq..drop.seq + drop.count).contains(&seq);
                if outbox.drops().iter().any(dropped) {
                    assert!(self.declared[device].contains(&seq), "a drop was not persisted");
                }
            }
        }
    }

    /// The faults end: everything is delivered in order and every watermark arrives.
    fn heal(&mut self) {
        self.agent.flush();
        for _ in 0..5_000 {
            self.wait(500);
            self.settle();
            for message in std::mem::take(&mut self.wire) {
                self.agent.acked(self.now);
                self.gateway.take(&message);
                let mark = self.gateway.marks.last().unwrap().clone();
                self.receive(&mark);
            }
            self.persist();
            self.check();
            if self.agent.is_settled() {
                return;
            }
        }
        let states: Vec<_> = self.agent.devices().iter().map(|d| d.outbox().state().clone()).collect();
        panic!("never settled: {states:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_forgotten_unpassed_and_everything_arrives_or_is_declared(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        world.heal();
        for device in 0..DEVICES {
            for seq in 0..world.sampled[device] {
                let stored = world.gateway.received[device].contains(&seq);
                let declared = world.gateway.declared[device].contains(&seq);
                prop_assert!(stored || declared, "{} of device {} is unexplained", seq, device);
            }
        }
    }
}

#[test]
fn what_was_sent_and_never_acknowledged_is_sent_again_after_a_reconnect() {
    let mut world = World::new();
    world.apply(&Step::Sample { device: 0, count: 4 });
    world.apply(&Step::Wait { ms: 300 });
    assert_eq!(world.wire.len(), 1);
    world.wire.clear();
    world.apply(&Step::Disconnect);
    for _ in 0..300 {
        world.apply(&Step::Wait { ms: 500 });
    }
    assert_eq!(world.wire.first().map(|message| message.range), Some(Range { start: 0, end: 4 }));
}

#[test]
fn an_agent_of_a_thousand_devices_stays_small() {
    assert!(size_of::<Device>() <= 1024, "{}", size_of::<Device>());
    assert!(outbox::DROPS_MAX * size_of::<Drop>() <= 256);
    let _ = DropCause::Full;
}
