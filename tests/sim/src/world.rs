//! One history: agents, network, broker, gateway and database on one virtual clock, with all that goes wrong. Everything
//! that is drawn is drawn from the seed, so that a seed is a history.

mod agents;
mod faults;
mod network;
mod turns;

use crate::{
    broker::{Broker, Client, Message, Packet},
    database::Database,
    edge,
    fleet::{Crew, Fleet, FleetError},
    gateway,
    oracle::{Oracle, Tally},
    plan::{CRASHES_MIN, Fault, KINDS_MIN, Kind, Plan},
    random::Random,
    sink::Refused,
    trace::{self, Trace},
};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::spool::Limits;
use hunhe_edge_core::outbox::STALL_MS;
use hunhe_gateway::decide::{Turn, checkpoint::Unfinished};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// 2026-08-01T00:00:00+08:00
const BASE_MS: i64 = 1_785_513_600_000;
/// When all faults have stopped, everything drains within so long, and two reports of the slowest device: what got lost behind
/// a broker's back is noticed when something follows it, and a sleeping radio hears only when it has something to say.
pub const DRAIN_MS: u64 = 60_000;
const NEVER: u64 = u64::MAX;

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was where in the end.
    pub tally: Tally,
    /// What was wrong; empty where nothing was.
    pub faults: Vec<String>,
    /// Stands for the whole history.
    pub hash: u64,
    /// Events of it.
    pub events: u64,
    /// How long it took to drain, in virtual milliseconds.
    pub drained_ms: u64,
    /// How long it was, in virtual milliseconds.
    pub duration_ms: u64,
    /// Crashes that happened, those in recovery and those by a failing disk among them.
    pub crashes: u64,
    /// Those of agents among them.
    pub edge_crashes: u64,
    /// Kinds of fault that happened.
    pub kinds: usize,
    /// The seed ran a second time, and the two runs were compared.
    pub repeated: bool,
}

/// Something due.
enum Due {
    ToBroker(u64, Packet),
    ToClient(u64, Packet),
    LostAtBroker(u64),
    LostAtClient(u64),
    EdgeUp(usize, Option<u64>),
    GatewayUp(Option<u64>),
    BrokerUp,
    /// An answer for the gateway's life of that number.
    Answer(u64, crate::database::Answered),
    Resume(u64),
    Checkpoint(u64, Box<Unfinished>),
    Strike(usize),
    Heal(Fault),
}

struct Line {
    client: Client,
    cut: bool,
    to_broker_ms: u64,
    to_client_ms: u64,
}

struct EdgeSite {
    disk: SimulatedDisk,
    dead: Arc<AtomicBool>,
    process: Option<edge::Process>,
    /// Its next life does without its last device.
    without: bool,
    /// Of its devices so many are configured.
    configured: usize,
    /// Its disk has little room, so that it is to end.
    full: bool,
    /// Ends by failures since the last fault that healed: it is tried again ever later.
    failures: u32,
    nature: edge::Nature,
    clock: edge::Clock,
    clock_since_ms: u64,
    turn_ms: u64,
    partitioned: bool,
}

impl EdgeSite {
    fn draw(random: &mut Random) -> Self {
        Self {
            disk: SimulatedDisk::new(),
            dead: Arc::default(),
            process: None,
            without: false,
            configured: 0,
            full: false,
            failures: 0,
            nature: edge::Nature {
                start_ms: BASE_MS,
                seed: random.draw(),
                samples_max: random.one_of(&[30, 200, 5_000]),
                limits: Limits {
                    bytes_max: random.one_of(&[8 << 10, 64 << 10, 1 << 20]),
                    segment_bytes: random.one_of(&[1 << 10, 4 << 10]),
                },
            },
            clock: edge::Clock::default(),
            clock_since_ms: 0,
            turn_ms: NEVER,
            partitioned: false,
        }
    }
}

struct GatewaySite {
    disk: SimulatedDisk,
    dead: Arc<AtomicBool>,
    process: Option<gateway::Process>,
    full: bool,
    nature: gateway::Nature,
    life: u64,
    commit_ms: u64,
    lane_ms: u64,
    sinks_ms: u64,
    tick_ms: u64,
    partitioned: bool,
    commit_takes_ms: u64,
}

impl GatewaySite {
    fn draw(random: &mut Random, interval_s: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(),
            dead: Arc::default(),
            process: None,
            full: false,
            nature: gateway::Nature::draw(&mut random.fork(), BASE_MS, interval_s),
            life: 0,
            commit_ms: NEVER,
            lane_ms: NEVER,
            sinks_ms: NEVER,
            tick_ms: NEVER,
            partitioned: false,
            commit_takes_ms: 0,
        }
    }
}

/// The world of a seed.
pub struct World {
    now_ms: u64,
    serial: u64,
    agenda: BTreeMap<(u64, u64), Due>,
    random: Random,
    trace: Trace,
    fleet: Fleet,
    plan: Plan,
    lines: BTreeMap<u64, Line>,
    current: BTreeMap<Client, u64>,
    last_line: u64,
    broker: Broker,
    broker_up: bool,
    edges: Vec<EdgeSite>,
    gateway: GatewaySite,
    database: Database,
    refused: Refused,
    oracle: Oracle,
    /// Reports that were sent once, to be sent again.
    sent: Vec<Message>,
    /// What was taken when all faults had stopped.
    marks: crate::oracle::Marks,
    crashes: u64,
    edge_crashes: u64,
    /// Of what struck.
    kinds: BTreeSet<Kind>,
    /// Of the gateway's disk, since the last fault that healed: it is tried again ever later.
    failures: u32,
    /// How long components nap.
    nap_ms: u64,
}

/// Runs a history.
///
/// # Errors
/// [`FleetError`]: a defect of the simulator.
pub fn run(seed: u64, shown: bool) -> Result<Outcome, FleetError> {
    let mut world = World::new(seed, shown)?;
    let drained_ms = world.live();
    Ok(world.close(seed, drained_ms))
}

impl World {
    fn new(seed: u64, shown: bool) -> Result<Self, FleetError> {
        let mut random = Random::new(seed ^ 0x6875_6e68_6500_0000);
        let interval_s = random.one_of(&[1, 1, 2, 2, 5, 5, 15, 60, 900]);
        let fleet = Fleet::draw(&mut random.fork(), interval_s)?;
        let plan = Plan::draw(&mut random.fork(), interval_s, fleet.crews.len());
        let edges = (0..fleet.crews.len()).map(|_| EdgeSite::draw(&mut random)).collect();
        let gateway = GatewaySite::draw(&mut random, interval_s);
        let nap_ms = (plan.duration_ms / 2_500).clamp(100, 15_000);
        let mut world = Self {
            now_ms: 0,
            serial: 0,
            agenda: BTreeMap::new(),
            random,
            trace: Trace::new(shown),
            fleet,
            plan,
            lines: BTreeMap::new(),
            current: BTreeMap::new(),
            last_line: 0,
            broker: Broker::default(),
            broker_up: true,
            edges,
            gateway,
            database: Database::default(),
            refused: Refused::new(),
            oracle: Oracle::default(),
            sent: Vec::new(),
            marks: Default::default(),
            crashes: 0,
            edge_crashes: 0,
            kinds: BTreeSet::new(),
            failures: 0,
            nap_ms,
        };
        for agent in 0..world.edges.len() {
            world.schedule(0, Due::EdgeUp(agent, None));
        }
        world.schedule(0, Due::GatewayUp(None));
        for index in 0..world.plan.faults.len() {
            world.schedule(world.plan.faults[index].0, Due::Strike(index));
        }
        Ok(world)
    }

    fn note(&mut self, who: &str, what: &str, first: u64, second: u64) {
        self.trace.note(self.now_ms, who, what, first, second);
    }

    fn schedule(&mut self, at_ms: u64, due: Due) {
        self.serial += 1;
        self.agenda.insert((at_ms.max(self.now_ms), self.serial), due);
    }

    fn after(&mut self, wait_ms: u64, due: Due) {
        self.schedule(self.now_ms + wait_ms, due);
    }

    /// Returns how long the end took to drain, or nothing where it did not.
    fn live(&mut self) -> Option<u64> {
        self.go_until(self.plan.duration_ms);
        for number in 0..100 {
            if self.crashes >= CRASHES_MIN && self.kinds.len() >= KINDS_MIN {
                break;
            }
            self.strike(Plan::further(number, self.edges.len()));
            self.go_until(self.now_ms + 2_000);
        }
        self.heal_everything();
        let from_ms = self.now_ms;
        while self.now_ms < from_ms + self.patience_ms() {
            self.go_until(self.now_ms + 500);
            if self.is_drained() {
                return Some(self.now_ms - from_ms);
            }
        }
        None
    }

    /// How long the end may take to drain. Nothing follows the word of a device that is gone, so it may be missed for as long as
    /// an outbox waits; its agent may still be on its way back without it.
    fn patience_ms(&self) -> u64 {
        let gone = |(site, crew): (&EdgeSite, &Crew)| site.configured < crew.devices.len();
        let gone = self.edges.iter().zip(&self.fleet.crews).any(gone);
        DRAIN_MS + 2 * self.fleet.report_ms_max() + if gone { STALL_MS } else { 0 }
    }

    fn go_until(&mut self, end_ms: u64) {
        loop {
            let first = self.agenda.first_key_value().map_or(NEVER, |((at_ms, _), _)| *at_ms);
            let edge = self.edges.iter().map(|site| site.turn_ms).min().unwrap_or(NEVER);
            let site = &self.gateway;
            let gateway = site.commit_ms.min(site.lane_ms).min(site.sinks_ms).min(site.tick_ms);
            let next_ms = first.min(edge).min(gateway);
            if next_ms > end_ms {
                self.now_ms = end_ms;
                return;
            }
            self.now_ms = self.now_ms.max(next_ms);
            if first == next_ms {
                if let Some((_, due)) = self.agenda.pop_first() {
                    self.happen(due);
                }
            } else if gateway == next_ms {
                self.turn_gateway();
            } else if let Some(agent) = self.edges.iter().position(|site| site.turn_ms == next_ms) {
                self.turn_edge(agent);
            }
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::ToBroker(line, packet) => self.at_broker(line, packet),
            Due::ToClient(line, packet) => self.at_client(line, packet),
            Due::LostAtBroker(line) => {
                self.broker.lost(line);
                self.flush_broker();
            }
            Due::LostAtClient(line) => self.lose_at_client(line),
            Due::EdgeUp(agent, again) => self.start_edge(agent, again),
            Due::GatewayUp(again) => self.start_gateway(again),
            Due::BrokerUp => {
                self.note("broker", "up", 0, 0);
                self.broker_up = true;
            }
            Due::Answer(life, answered) if life == self.gateway.life => {
                if let Some(process) = &mut self.gateway.process {
                    let wait_ms = process.answered(answered);
                    self.note("database", "answers", wait_ms, 0);
                    self.after(wait_ms, Due::Resume(life));
                }
            }
            Due::Resume(life) if life == self.gateway.life => {
                if let Some(process) = &mut self.gateway.process {
                    process.resume_recorder();
                    self.gateway.sinks_ms = self.now_ms;
                }
            }
            Due::Checkpoint(life, unfinished) if life == self.gateway.life => {
                if let Some(process) = &mut self.gateway.process {
                    process.finish_checkpoint(*unfinished);
                    self.gateway.lane_ms = self.now_ms;
                    self.note("gateway", "checkpoint", 0, 0);
                    self.survive_gateway(Ok(()));
                }
            }
            Due::Answer(..) | Due::Resume(_) | Due::Checkpoint(..) => {}
            Due::Strike(index) => {
                let fault = self.plan.faults[index].1;
                self.strike(fault);
            }
            Due::Heal(fault) => self.heal(fault),
        }
    }

    fn act(&mut self, acts: Vec<gateway::Act>) {
        for act in acts {
            match act {
                gateway::Act::Open(client) => self.open(client, client == Client::Out),
                gateway::Act::Send(client, packet) => self.send(client, packet),
                gateway::Act::Tear(client) => self.tear(client, false),
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.oracle.is_heard(&self.marks)
            && self.gateway.process.as_ref().is_some_and(|process| {
                let (totals, _) = process.lane().totals();
                process.is_idle() && totals.outstanding == 0
            })
    }

    fn close(mut self, seed: u64, drained_ms: Option<u64>) -> Outcome {
        for (agent, site) in self.edges.iter().enumerate() {
            if site.process.is_none() {
                self.oracle.fault(format!("agent {agent} is not up after all faults"));
            }
        }
        for words in self.oracle.missing(&self.marks) {
            self.oracle.fault(words);
        }
        match &self.gateway.process {
            None => self.oracle.fault("the gateway is not up after all faults".into()),
            Some(process) => {
                let (totals, _) = process.lane().totals();
                if totals.unexplained() != 0 || totals.outstanding != 0 {
                    self.oracle.fault(format!("the ledger does not close: {totals:?}"));
                }
                if !process.is_idle() {
                    self.oracle.fault("the gateway's sinks have not caught up".into());
                }
            }
        }
        if self.crashes < CRASHES_MIN || self.kinds.len() < KINDS_MIN {
            self.oracle
                .fault(format!("no more than {} crashes, and of faults {:?}", self.crashes, self.kinds));
        }
        if self.database.unreadable > 0 {
            self.oracle.fault(format!("{} lines were unreadable", self.database.unreadable));
        }
        let tally = self.oracle.judge(&self.fleet.crews, &self.database, &self.refused, &self.marks);
        let mut faults = self.oracle.faults().to_vec();
        if drained_ms.is_none() && faults.is_empty() {
            faults.push("it did not drain".into());
        }
        Outcome {
            seed,
            tally,
            faults,
            hash: self.trace.hash(),
            events: self.trace.events(),
            drained_ms: drained_ms.unwrap_or(NEVER),
            duration_ms: self.plan.duration_ms,
            crashes: self.crashes,
            edge_crashes: self.edge_crashes,
            kinds: self.kinds.len(),
            repeated: false,
        }
    }
}
