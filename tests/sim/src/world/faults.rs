//! What goes wrong in a history, and how it ends.

use super::{Due, EdgeSite, NEVER, World};
use crate::{
    broker::{Client, Manners, Remembers},
    database::Mood,
    edge,
    plan::{End, Fault},
};
use hunhe_disk::simulated::{Fate, SimulatedDisk};
use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        self.trace.note(self.now_ms, "fault", &format!("{fault:?}"), 0, 0);
        // A process that is to end does not always.
        if !fault.is_crash() {
            self.kinds.insert(fault.kind());
        }
        match fault {
            Fault::Gateway { end, back_ms, again } => self.strike_gateway(&fault, end, (back_ms, again)),
            Fault::Edge { agent, end, back_ms, again, without } => {
                self.edges[agent].without = without;
                self.strike_edge(agent, &fault, end, (back_ms, again));
            }
            Fault::EdgeFull { agent, bytes, for_ms } => {
                let EdgeSite { disk, full, .. } = &mut self.edges[agent];
                *full = true;
                disk.set_capacity(disk.used_bytes() + bytes);
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::Broker { remembers, back_ms } => {
                self.kinds.insert(fault.kind());
                self.crash_broker(remembers, back_ms);
            }
            Fault::Forgets(client) => {
                self.broker.forget(client);
                self.flush_broker();
            }
            Fault::Cut(client) => self.cut(client),
            Fault::Partition { agent, for_ms } => {
                self.set_partition(agent, true);
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::Database { mood, for_ms } => {
                self.database.mood = mood;
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::SlowDisk { commit_ms, for_ms } => {
                self.gateway.commit_takes_ms = commit_ms;
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::GatewayFull { bytes, for_ms } => {
                self.gateway.full = true;
                self.gateway.disk.set_capacity(self.gateway.disk.used_bytes() + bytes);
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::Clock { agent, by_ms, drift_ppm, for_ms } => {
                self.edges[agent].clock = edge::Clock { offset_ms: by_ms, drift_ppm };
                self.edges[agent].clock_since_ms = self.now_ms;
                self.edges[agent].turn_ms = self.now_ms;
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::Manners { kind, for_ms } => {
                self.broker.manners = Manners {
                    hides_repeats: kind == 0,
                    doubles_every: (kind == 1).then_some(3),
                    refuses_subscriptions: kind == 2,
                    never_acknowledges: kind == 3,
                };
                self.after(for_ms, Due::Heal(fault));
            }
            Fault::Echo => {
                let index = usize::try_from(self.random.below(self.sent.len() as u64)).unwrap_or(0);
                if let Some(message) = self.sent.get(index).cloned() {
                    self.broker.publish(message);
                    self.flush_broker();
                }
            }
        }
    }

    fn crash_broker(&mut self, remembers: Remembers, back_ms: u64) {
        self.crashes += 1;
        self.broker.crash(remembers);
        self.broker_up = false;
        let lines: Vec<u64> = self.current.values().copied().collect();
        for number in lines {
            if let Some(line) = self.lines.get_mut(&number) {
                line.cut = true;
            }
            let wait_ms = self.latency_ms();
            self.after(wait_ms, Due::LostAtClient(number));
        }
        self.after(back_ms, Due::BrokerUp);
    }

    fn strike_gateway(&mut self, fault: &Fault, end: End, (back_ms, again): (u64, Option<u64>)) {
        match end {
            End::Kill | End::Power => {
                if self.gateway.process.is_some() {
                    self.kinds.insert(fault.kind());
                    self.end_gateway(end == End::Power, back_ms, again);
                }
            }
            End::PowerWithin(calls) => die_after(&self.gateway.disk, calls, &self.gateway.dead),
            End::Fails(calls) => fail_once(&self.gateway.disk, calls),
        }
    }

    fn strike_edge(&mut self, agent: usize, fault: &Fault, end: End, (back_ms, again): (u64, Option<u64>)) {
        let site = &mut self.edges[agent];
        match end {
            End::Kill | End::Power => {
                if site.process.is_some() {
                    self.kinds.insert(fault.kind());
                    self.end_edge(agent, end == End::Power, back_ms, again);
                }
            }
            End::PowerWithin(calls) => die_after(&site.disk, calls, &site.dead),
            End::Fails(calls) => fail_once(&site.disk, calls),
        }
    }

    fn set_partition(&mut self, agent: Option<usize>, on: bool) {
        let clients = match agent {
            Some(agent) => {
                self.edges[agent].partitioned = on;
                vec![Client::Agent(agent)]
            }
            None => {
                self.gateway.partitioned = on;
                vec![Client::Up, Client::Alarm, Client::Out]
            }
        };
        if on {
            clients.into_iter().for_each(|client| self.cut(client));
        }
    }

    pub(super) fn heal(&mut self, fault: Fault) {
        self.trace.note(self.now_ms, "heals", &format!("{:?}", fault.kind()), 0, 0);
        match fault {
            Fault::Partition { agent, .. } => self.set_partition(agent, false),
            Fault::Database { .. } => self.database.mood = Mood::Well,
            Fault::SlowDisk { .. } => self.gateway.commit_takes_ms = 0,
            Fault::GatewayFull { .. } => {
                (self.failures, self.gateway.full) = (0, false);
                self.gateway.disk.set_capacity(u64::MAX);
            }
            Fault::EdgeFull { agent, .. } => {
                let site = &mut self.edges[agent];
                (site.failures, site.full) = (0, false);
                site.disk.set_capacity(u64::MAX);
                self.schedule(self.now_ms, Due::EdgeUp(agent, None));
            }
            Fault::Clock { agent, .. } => {
                self.edges[agent].clock = edge::Clock::default();
                self.edges[agent].turn_ms = self.now_ms;
            }
            Fault::Manners { .. } => self.broker.manners = Manners::default(),
            _ => {}
        }
        self.broker.save();
    }

    /// Nothing goes wrong any more, and nothing new is sampled.
    pub(super) fn heal_everything(&mut self) {
        self.note("world", "all faults stop", 0, 0);
        self.marks = self.oracle.taken();
        self.nap_ms = (self.fleet.report_ms_max() / 500).clamp(250, 10_000);
        self.database.mood = Mood::Well;
        self.broker.manners = Manners::default();
        self.failures = 0;
        self.gateway.disk.set_capacity(u64::MAX);
        self.gateway.disk.clear_plan();
        self.gateway.commit_takes_ms = 0;
        self.gateway.partitioned = false;
        self.agenda.retain(|_, due| !matches!(due, Due::Heal(_) | Due::Strike(_)));
        self.broker_up = true;
        self.gateway.tick_ms = if self.gateway.process.is_some() { self.now_ms } else { NEVER };
        for agent in 0..self.edges.len() {
            let site = &mut self.edges[agent];
            site.partitioned = false;
            (site.failures, site.full) = (0, false);
            site.disk.set_capacity(u64::MAX);
            site.disk.clear_plan();
            site.clock = edge::Clock::default();
            site.turn_ms = self.now_ms;
            self.schedule(self.now_ms, Due::EdgeUp(agent, None));
        }
        self.schedule(self.now_ms, Due::GatewayUp(None));
    }
}

/// The power goes after so many further calls: none of them does anything any more.
pub(super) fn die_after(disk: &SimulatedDisk, calls: u64, dead: &Arc<AtomicBool>) {
    let dead = Arc::clone(dead);
    let left = AtomicU64::new(calls);
    disk.set_plan(move |_| {
        if dead.load(Ordering::Relaxed) {
            return Fate::Fails(ErrorKind::Other);
        }
        if left.fetch_sub(1, Ordering::Relaxed) > 1 {
            return Fate::Done;
        }
        dead.store(true, Ordering::Relaxed);
        Fate::Torn
    });
}

/// One call fails, so many calls later; those after it go on as if nothing had happened.
fn fail_once(disk: &SimulatedDisk, calls: u64) {
    let mut left = calls;
    disk.set_plan(move |call| {
        left = left.saturating_sub(1);
        if left == 0 && call.action.changes() {
            left = u64::MAX;
            return Fate::Fails(ErrorKind::Other);
        }
        left = left.max(1);
        Fate::Done
    });
}
