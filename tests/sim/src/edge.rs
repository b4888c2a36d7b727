//! An agent's process: the real run loop, core and outbox, on a simulated clock, connection and disk.

use crate::{
    broker::{Message, Packet},
    fleet::Crew,
    random::Random,
};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::{
    mqtt::{Note, PublishError},
    run::{
        Equipment,
        agent::{Agent, Policy, Port, Step},
    },
    spool::{Entry, Limits, Spool, SpoolError},
};
use hunhe_edge_core::{Now, link, sample::Late};
use hunhe_fleet::simulated::Simulated;
use hunhe_proto::topic;
use std::{collections::VecDeque, convert::Infallible, path::Path, rc::Rc, sync::Arc};

/// What an agent does to the network.
#[derive(Debug)]
pub enum Act {
    /// Connects.
    Open,
    /// Sends.
    Send(Packet),
    /// Leaves without a word.
    Tear,
}

/// An agent's end of its connection.
#[derive(Debug, Default)]
pub struct Wire {
    durable: Rc<str>,
    open: bool,
    notes: VecDeque<Note>,
    acts: Vec<Act>,
    last_packet: u16,
    wall_ms: i64,
}

impl Wire {
    /// Something came from the broker.
    pub fn take_packet(&mut self, packet: &Packet) {
        match packet {
            Packet::ConnAck { .. } => {
                self.acts.push(Act::Send(Packet::Subscribe(vec![Rc::clone(&self.durable)])));
                self.notes.push_back(Note::Connected);
            }
            Packet::SubAck(true) => self.notes.push_back(Note::Subscribed),
            Packet::SubAck(false) => self.lost(),
            Packet::PubAck(packet) => self.notes.push_back(Note::Acked(*packet)),
            Packet::Publish { packet, message, .. } => {
                // The library acknowledges by itself.
                self.acts.push(Act::Send(Packet::PubAck(*packet)));
                self.notes.push_back(Note::Watermark(message.payload.to_vec()));
            }
            Packet::Connect { .. } | Packet::Subscribe(_) | Packet::Disconnect => {}
        }
    }

    /// The connection broke.
    pub fn lost(&mut self) {
        self.notes.push_back(Note::Lost("lost".into()));
    }
}

impl Port for Wire {
    type Error = Infallible;

    fn open(&mut self, _since_ms: i64) -> Result<(), Infallible> {
        self.open = true;
        self.last_packet = 0;
        self.acts.push(Act::Open);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn take(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    fn publish(&mut self, topic: String, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        self.last_packet = if self.last_packet == 100 { 1 } else { self.last_packet + 1 };
        let message = Message { topic: topic.into(), payload: payload.into(), retain };
        self.notes.push_back(Note::Sent(self.last_packet));
        self.acts.push(Act::Send(Packet::Publish { packet: self.last_packet, again: false, message }));
        Ok(())
    }

    fn close(&mut self) {
        if self.open {
            self.acts.push(Act::Send(Packet::Disconnect));
            self.tear();
        }
    }

    fn tear(&mut self) {
        if std::mem::take(&mut self.open) {
            self.acts.push(Act::Tear);
        }
        self.notes.clear();
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms
    }
}

/// A device's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// It is ahead by so much.
    pub offset_ms: i64,
    /// And gains so many milliseconds in a million.
    pub drift_ppm: i64,
}

impl Clock {
    /// What it shows at a true time.
    #[must_use]
    pub fn show(&self, true_ms: i64, since_ms: u64) -> i64 {
        let gained = i64::try_from(since_ms).unwrap_or(0).saturating_mul(self.drift_ppm) / 1_000_000;
        true_ms + self.offset_ms + gained
    }
}

/// A running agent.
pub struct Process {
    agent: Agent<Wire>,
    started_ms: u64,
}

/// When an agent is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// What it holds may be lost, or not.
    Before,
    /// All that it holds is durable.
    Committed,
}

/// What ends one.
#[derive(Debug, thiserror::Error)]
#[error("the outbox failed")]
pub struct EdgeError(#[from] SpoolError);

/// What is the same in all its lives.
#[derive(Debug, Clone, Copy)]
pub struct Nature {
    /// When its devices began, by their clock.
    pub start_ms: i64,
    /// For its models.
    pub seed: u64,
    /// Samples held per device.
    pub samples_max: u64,
    /// Of its outbox.
    pub limits: Limits,
}

impl Process {
    /// Opens the outbox, and starts it.
    ///
    /// # Errors
    /// [`EdgeError`]: it must be started again.
    pub fn start(
        crew: &Crew,
        nature: Nature,
        disk: &SimulatedDisk,
        mut boots: Random,
        now: Now,
        at_ms: u64,
    ) -> Result<Self, EdgeError> {
        let entries: Vec<_> = crew.devices.iter().map(|(device, class)| Entry::of(*device, class)).collect();
        // Nothing draws a boot by itself here: a seed is a history.
        let draw = move || u32::try_from(boots.below(1 << 32)).unwrap_or(1);
        let opened = Spool::open(disk.handle(), Path::new("/outbox"), nature.limits, &entries, draw)?;
        let equipment = crew.devices.iter().map(|(device, class)| {
            let model =
                Simulated::new(Arc::clone(class), *device, nature.seed, None, nature.start_ms, Late::Skip);
            Equipment::new(*device, Arc::clone(class), Box::new(model))
        });
        let link = link::Policy {
            sleeping: crew.sleeping,
            window: 16,
            backoff_ms_max: 15_000,
            ..link::Policy::default()
        };
        let policy =
            Policy { id: crew.id, link, samples_max: nature.samples_max, lossless: false, live: true };
        let wire = Wire { durable: topic::durable(crew.id).into(), ..Wire::default() };
        let now = Now { steady_ms: 0, ..now };
        let agent = Agent::new(policy, equipment.collect(), opened, wire, now, Arc::default());
        Ok(Self { agent, started_ms: at_ms })
    }

    /// A turn; every commit is shown, before it is tried and when it has succeeded.
    ///
    /// # Errors
    /// [`EdgeError`]: it must be started again.
    pub fn turn(
        &mut self,
        event_ms: i64,
        at_ms: u64,
        mut shown: impl FnMut(&Agent<Wire>, Moment),
    ) -> Result<bool, EdgeError> {
        let now = Now { steady_ms: at_ms - self.started_ms, event_ms };
        self.agent.port_mut().wall_ms = event_ms;
        loop {
            match self.agent.step(now) {
                Ok(Step::Commit) => {
                    shown(&self.agent, Moment::Before);
                    self.agent.commit()?;
                    shown(&self.agent, Moment::Committed);
                }
                Ok(Step::Rest { more }) => return Ok(more),
                Err(never) => match never {},
            }
        }
    }

    /// What it wants of the network since the last call.
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.agent.port_mut().acts)
    }

    /// Its end of the connection.
    pub fn wire(&mut self) -> &mut Wire {
        self.agent.port_mut()
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &Agent<Wire> {
        &self.agent
    }
}
