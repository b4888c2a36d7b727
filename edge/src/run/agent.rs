//! One agent's turns, without sockets, clocks, threads or waiting: the caller passes the time, commits the outbox when
//! asked to, and carries packets through a [`Port`].
//!
//! Order within a turn: the agent takes what came and samples what is due; a commit makes durable what was sampled or
//! given up; only then anything leaves. [`Agent::step`] stops wherever a commit must come first. A step without it would
//! publish what a power cut can undo, so a failed commit ends the agent.
//!
//! Deliberately absent: faults of the network, which a simulation's port brings in.

use super::{Equipment, watch::Watch};
use crate::{
    mqtt::{Note, PublishError},
    report::Writer,
    samples::Samples,
    spool::{self, Recovered, Spool, SpoolError},
    stats::{DeviceStats, Progress},
};
use hunhe_edge_core::{Now, agent, link, outbox::Range};
use hunhe_proto::{
    id::{AgentId, DeviceId},
    reading::DropCause,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Samples taken from one device in one turn, so that a fast recording delays no other.
const TAKEN_MAX: usize = 64;

/// An agent's way to its broker: one connection at a time.
pub trait Port {
    /// Why none can be opened at all.
    type Error;
    /// Opens a connection; [`Port::take`] answers what becomes of it.
    ///
    /// # Errors
    /// Where it makes no sense to go on.
    fn open(&mut self, since_ms: i64) -> Result<(), Self::Error>;
    /// Is there one, standing or being opened?
    fn is_open(&self) -> bool;
    /// What it has to say next.
    fn take(&mut self) -> Option<Note>;
    /// Hands over a publish at QoS 1. Its packet id follows as [`Note::Sent`], in order.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was handed over then.
    fn publish(&mut self, topic: String, payload: &[u8], retain: bool) -> Result<(), PublishError>;
    /// Disconnects in good order, where there is a connection.
    fn close(&mut self);
    /// Tears the connection down without a word, where there is one.
    fn tear(&mut self);
    /// The machine's clock, milliseconds since 1970, as people read it.
    fn wall_ms(&self) -> i64;
}

/// How an agent behaves.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its id.
    pub id: AgentId,
    /// How it keeps its connection.
    pub link: link::Policy,
    /// Samples held per device; beyond it the oldest are declared lost.
    pub samples_max: u64,
    /// A full outbox makes the drivers wait instead: for models and recordings, which can.
    pub lossless: bool,
    /// Event time is real time: reports say how long after their last sample they were sent.
    pub live: bool,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The outbox must be committed before the next step: [`Agent::commit`], or [`Agent::lend_spool`].
    Commit,
    /// The turn is over.
    Rest {
        /// More samples are due at once.
        more: bool,
    },
}

/// Where a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Hear and sample.
    Begin,
    /// What was sampled is durable.
    Sampled,
    /// What was given up is durable as well.
    Durable,
}

pub(super) struct Seat {
    pub(super) equipment: Equipment,
    pub(super) samples: Samples,
    pub(super) stats: DeviceStats,
    /// Event time at which a report names the class version again.
    pub(super) version_due_ms: i64,
    /// Appended and not yet committed.
    fresh: Option<Fresh>,
    pub(super) watch: Watch,
}

/// What was taken of a device and is not yet committed.
#[derive(Debug, Clone, Copy)]
struct Fresh {
    /// The newest sample's time.
    time_ms: i64,
    /// One of them raised an alarm.
    alarm: bool,
    /// One of them is news, so that its report does not wait to fill.
    news: bool,
}

/// A publish on its way: which device's, or the agent's own.
pub(super) type Token = Option<usize>;

/// An agent at work.
pub struct Agent<P> {
    pub(super) policy: Policy,
    pub(super) core: agent::Agent<Box<[agent::Device]>>,
    pub(super) seats: Vec<Seat>,
    pub(super) by_id: HashMap<DeviceId, usize>,
    /// Away only while it is committed elsewhere.
    spool: Option<Spool>,
    pub(super) port: P,
    pub(super) since_ms: i64,
    pub(super) unnamed: VecDeque<Token>,
    pub(super) in_flight: HashMap<u16, Token>,
    pub(super) writer: Writer,
    row: Vec<i64>,
    /// Event time at which the next sample of any device is due.
    due_ms: i64,
    /// Devices with something fresh.
    fresh: Vec<usize>,
    pub(super) progress: Arc<Progress>,
    /// Devices whose outbox the gateway knows better.
    pub(super) rolled_back: Vec<usize>,
    phase: Phase,
    more: bool,
    stopping: bool,
}

impl<P: Port> Agent<P> {
    /// An agent of an opened outbox, whose devices are those of `equipment`, in order, and then those that are gone and
    /// have losses to declare.
    #[must_use]
    pub fn new(
        policy: Policy,
        equipment: Vec<Equipment>,
        (spool, recovered): (Spool, Vec<Recovered>),
        port: P,
        now: Now,
        progress: Arc<Progress>,
    ) -> Self {
        let mut devices = Vec::with_capacity(recovered.len());
        let mut seats = Vec::with_capacity(recovered.len());
        let mut equipment = equipment.into_iter();
        for Recovered { device, state, newest_ms, samples, .. } in recovered {
            let configured = equipment.next();
            // Only the classes of configured devices are known, and with them their versions.
            let version_due_ms = if configured.is_some() { i64::MIN } else { i64::MAX };
            let mut equipment = configured.unwrap_or_else(|| Equipment::gone(device));
            if let Some(newest_ms) = newest_ms {
                equipment.driver.resume(newest_ms);
            }
            let stats = DeviceStats::new(equipment.device, &state);
            let version = equipment.class.version;
            devices.push(agent::Device::new(state, equipment.batch, policy.samples_max, version));
            let watch = Watch::of(&equipment.class);
            seats.push(Seat { equipment, samples, stats, version_due_ms, fresh: None, watch });
        }
        let by_id = seats.iter().zip(0..).map(|(seat, index)| (seat.equipment.device, index)).collect();
        let core = agent::Agent::new(policy.id, policy.link, devices.into_boxed_slice(), now);
        Self {
            policy,
            core,
            seats,
            by_id,
            spool: Some(spool),
            port,
            since_ms: 0,
            unnamed: VecDeque::new(),
            in_flight: HashMap::new(),
            writer: Writer::default(),
            row: Vec::new(),
            due_ms: i64::MIN,
            fresh: Vec::new(),
            progress,
            rolled_back: Vec::new(),
            phase: Phase::Begin,
            more: false,
            stopping: false,
        }
    }

    /// A turn, or the part of it up to where something must be made durable.
    ///
    /// # Errors
    /// The port's.
    pub fn step(&mut self, now: Now) -> Result<Step, P::Error> {
        loop {
            if self.is_dirty() {
                return Ok(Step::Commit);
            }
            match self.phase {
                Phase::Begin => {
                    self.hear(now);
                    self.begin_anew();
                    let has_succeeded = self.is_dirty();
                    // The next commit releases what a watermark passed, so that it must know of it.
                    self.note_changes();
                    if has_succeeded {
                        continue;
                    }
                    self.more = !self.stopping && self.sample(now);
                    self.phase = Phase::Sampled;
                }
                Phase::Sampled => {
                    self.note_stored();
                    self.expire(now);
                    for (device, range) in self.spool.as_ref().map(Spool::excess).unwrap_or_default() {
                        self.core.give_up(device, range, DropCause::Full);
                    }
                    self.note_changes();
                    // A drop must be durable before a report declares it.
                    self.phase = Phase::Durable;
                }
                Phase::Durable => {
                    self.act(now)?;
                    // A sample that could not be reported was given up: that must be durable as well.
                    if !self.is_dirty() {
                        self.phase = Phase::Begin;
                        return Ok(Step::Rest { more: self.more });
                    }
                }
            }
        }
    }

    /// Samples no more; what waits goes as soon as the connection allows.
    pub fn finish(&mut self) {
        self.stopping = true;
        self.core.flush();
    }

    /// Is nothing owed by any device?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.is_settled()
    }

    /// Has every recording come to its end?
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.seats.iter().all(|seat| seat.equipment.driver.next_ms().is_none())
    }

    /// Event time at which the next sample of any device is due.
    #[must_use]
    pub fn due_ms(&self) -> i64 {
        self.due_ms
    }

    /// Its devices and their outboxes.
    #[must_use]
    pub fn devices(&self) -> &[agent::Device] {
        self.core.devices()
    }

    /// The samples that a device still owes, and that are not all durable while [`Step::Commit`] is asked for.
    #[must_use]
    pub fn samples(&self, device: usize) -> &Samples {
        &self.seats[device].samples
    }

    /// Its connection.
    #[must_use]
    pub fn port(&self) -> &P {
        &self.port
    }

    /// The same, to carry its packets.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// What each device did.
    #[must_use]
    pub fn into_stats(self) -> Vec<DeviceStats> {
        let seats = self.seats.into_iter().zip(self.core.devices());
        seats.map(|(seat, device)| seat.stats.close(device)).collect()
    }

    /// Commits the outbox on the spot.
    ///
    /// # Errors
    /// [`SpoolError`]: the agent must stop.
    pub fn commit(&mut self) -> Result<(), SpoolError> {
        let held_from = self.held_from();
        self.spool.as_mut().map_or(Ok(()), |spool| spool.commit(&held_from))
    }

    /// Lends the outbox to be committed elsewhere, with what [`Spool::commit`] asks for; no step may follow before
    /// [`Agent::return_spool`].
    pub fn lend_spool(&mut self) -> Option<(Spool, Vec<u64>)> {
        let held_from = self.held_from();
        self.spool.take().map(|spool| (spool, held_from))
    }

    /// Takes the outbox back.
    pub fn return_spool(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    fn held_from(&self) -> Vec<u64> {
        self.core.devices().iter().map(|device| device.outbox().held_from()).collect()
    }

    /// An outbox that is away is being committed.
    fn is_dirty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_dirty)
    }

    /// A rolled-back outbox gives numbers out again under which the gateway knows other samples. Another outbox takes over
    /// what is held and what was given up, also what the gateway may already have: twice is better than never.
    fn begin_anew(&mut self) {
        for index in std::mem::take(&mut self.rolled_back) {
            let (outbox, seat) = (self.core.devices()[index].outbox(), &mut self.seats[index]);
            let (held, cause) = spool::carried(outbox, &seat.samples);
            // Away only while it is committed, and no turn is taken then.
            let Some(spool) = &mut self.spool else { return };
            let state = spool.succeed(index, (outbox.state().boot, outbox.reported_to()), cause, &held);
            tracing::error!(
                device = %seat.equipment.device,
                boot = outbox.state().boot,
                next_seq = outbox.state().next_seq,
                held = held.range().count(),
                lost = held.first_seq(),
                "the watermark passes samples that this outbox never reported: it was rolled back, as by a restored copy of its \
                 folder. Another outbox begins, with what this one held"
            );
            seat.stats.succeed(&state);
            seat.samples = held;
            self.core.succeed(index, state);
        }
    }

    /// Takes what is due; answers whether more is due at once.
    fn sample(&mut self, now: Now) -> bool {
        let event_ms = now.event_ms;
        // A live clock may step back, and the grid with it: then each device is asked.
        let live = self.policy.live;
        if event_ms < self.due_ms && !live {
            return false;
        }
        let mut more = false;
        let mut sampled = 0;
        self.due_ms = i64::MAX;
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let due_ms = seat.equipment.driver.next_ms().unwrap_or(i64::MAX);
            if due_ms > event_ms && !live {
                self.due_ms = self.due_ms.min(due_ms);
                continue;
            }
            let room = if self.policy.lossless { self.core.devices()[index].room() } else { u64::MAX };
            let limit = usize::try_from(room).unwrap_or(usize::MAX).min(TAKEN_MAX);
            self.row.resize(seat.equipment.class.channels.len(), 0);
            let mut taken = 0;
            while taken < limit
                && let Some(sample) = seat.equipment.driver.take(event_ms, &mut self.row)
            {
                let seq = seat.samples.push(sample.time_ms, &self.row);
                if let Some(spool) = &mut self.spool {
                    spool.append(index, seq, sample.time_ms, &self.row);
                }
                let news = seat.watch.is_news(&self.row);
                let alarm = sample.alarm || (news && seat.equipment.class.report.on_alarm.is_some());
                let before = seat.fresh.map_or((false, false), |fresh| (fresh.alarm, fresh.news));
                let time_ms = sample.time_ms;
                seat.fresh = Some(Fresh { time_ms, alarm: alarm | before.0, news: news | before.1 });
                taken += 1;
            }
            if taken > 0 {
                self.fresh.push(index);
            }
            seat.stats.sampled += taken as u64;
            sampled += taken as u64;
            more |= taken == TAKEN_MAX;
            self.due_ms = self.due_ms.min(seat.equipment.driver.next_ms().unwrap_or(i64::MAX));
        }
        self.progress.sampled.fetch_add(sampled, Relaxed);
        more
    }

    /// Tells the core what a commit has made durable.
    fn note_stored(&mut self) {
        for index in self.fresh.drain(..) {
            let seat = &mut self.seats[index];
            if let Some(Fresh { time_ms, alarm, news }) = seat.fresh.take() {
                self.core.stored(index, seat.samples.next_seq(), time_ms, alarm);
                if news {
                    self.core.hurry(index);
                }
            }
        }
    }

    /// Gives up what is older than its class lets a sample be.
    fn expire(&mut self, now: Now) {
        for (index, seat) in self.seats.iter().enumerate() {
            let keep_s = seat.equipment.class.report.keep_s;
            if keep_s == 0 {
                continue;
            }
            let held = Range { start: seat.samples.first_seq(), end: seat.samples.next_seq() };
            if held.count() == 0 {
                continue;
            }
            let oldest_ms = now.event_ms.saturating_sub(i64::from(keep_s) * 1000);
            let expired =
                seat.samples.rows(held).take_while(|row| row.first().is_some_and(|&time| time < oldest_ms));
            let end = held.start + expired.count() as u64;
            if end > held.start {
                self.core.give_up(index, Range { start: held.start, end }, DropCause::Expired);
            }
        }
    }

    pub(super) fn note_changes(&mut self) {
        let (spool, seats) = (&mut self.spool, &mut self.seats);
        self.core.take_dirty(|index, outbox| {
            let seat = &mut seats[index];
            if let Some(spool) = spool {
                spool.note(index, outbox.state());
            }
            seat.stats.note_drops(outbox.drops());
            seat.samples.release_below(outbox.held_from());
        });
    }
}
