//! The agents of a history: how they start, take their turns and end.

use super::{BASE_MS, Due, NEVER, World, faults};
use crate::{
    broker::Client,
    edge::{self, Moment},
    plan::Kind,
    trace,
};
use hunhe_edge_core::Now;
use std::sync::atomic::Ordering;

impl World {
    pub(super) fn event_ms(&self, agent: usize) -> i64 {
        let site = &self.edges[agent];
        let true_ms = BASE_MS + i64::try_from(self.now_ms).unwrap_or(0);
        site.clock.show(true_ms, self.now_ms - site.clock_since_ms)
    }

    pub(super) fn start_edge(&mut self, agent: usize, again: Option<u64>) {
        if self.edges[agent].process.is_some() {
            return;
        }
        let now = Now { steady_ms: 0, event_ms: self.event_ms(agent) };
        let boots = self.random.fork();
        let (crew, site) = (&self.fleet.crews[agent], &mut self.edges[agent]);
        site.dead.store(false, Ordering::Relaxed);
        site.disk.clear_plan();
        if let Some(calls) = again {
            faults::die_after(&site.disk, calls, &site.dead);
        }
        let mut configured = crew.clone();
        if site.without && crew.devices.len() > 1 {
            configured.devices.pop();
        }
        site.configured = configured.devices.len();
        let started = edge::Process::start(&configured, site.nature, &site.disk, boots, now, self.now_ms);
        let power = site.dead.load(Ordering::Relaxed);
        match started {
            Ok(process) if !power => {
                site.disk.clear_plan();
                self.oracle.recovered(crew, site.configured, process.agent());
                site.without = false;
                site.process = Some(process);
                site.turn_ms = self.now_ms;
                self.note("edge", "up", agent as u64, 0);
            }
            Ok(_) => self.end_edge(agent, true, 500, None),
            Err(error) => {
                self.trace.note(
                    self.now_ms,
                    "edge",
                    &format!("does not start: {}", trace::words(&error)),
                    agent as u64,
                    0,
                );
                self.edge_fails(agent, power);
            }
        }
    }

    pub(super) fn turn_edge(&mut self, agent: usize) {
        let event_ms = self.event_ms(agent);
        let (crew, site, oracle) = (&self.fleet.crews[agent], &mut self.edges[agent], &mut self.oracle);
        site.turn_ms = NEVER;
        let Some(process) = &mut site.process else { return };
        let ended = process.turn(event_ms, self.now_ms, |agent, moment| match moment {
            Moment::Before => oracle.appended(crew, agent),
            Moment::Committed => oracle.committed(crew, agent, false),
        });
        if ended.is_ok() {
            oracle.committed(crew, process.agent(), true);
        }
        oracle.heard(crew, process.agent());
        let acts = process.take_acts();
        let due_ms = process.agent().due_ms();
        let sent = acts.len() as u64;
        // What it published before it failed has left.
        for act in acts {
            match act {
                edge::Act::Open => self.open(Client::Agent(agent), true),
                edge::Act::Send(packet) => self.send(Client::Agent(agent), packet),
                edge::Act::Tear => self.tear(Client::Agent(agent), false),
            }
        }
        match ended {
            Ok(more) => {
                let until_due = u64::try_from(due_ms.saturating_sub(event_ms)).unwrap_or(0);
                let rest_ms = if more { 1 } else { until_due.clamp(10, self.nap_ms) };
                self.edges[agent].turn_ms = self.now_ms + rest_ms;
                if sent > 0 {
                    self.note("edge", "acts", agent as u64, sent);
                }
            }
            Err(error) => {
                self.trace.note(
                    self.now_ms,
                    "edge",
                    &format!("fails: {}", trace::words(&error)),
                    agent as u64,
                    0,
                );
                let power = self.edges[agent].dead.load(Ordering::Relaxed);
                self.edge_fails(agent, power);
            }
        }
    }

    /// Its disk did not do what it should, or the power went.
    fn edge_fails(&mut self, agent: usize, power: bool) {
        let site = &mut self.edges[agent];
        site.failures += u32::from(!power);
        let back_ms = if power { 1_000 } else { 3_000 << site.failures.min(7) };
        if power {
            self.kinds.insert(Kind::EdgePower);
        } else if !site.full {
            self.kinds.insert(Kind::EdgeDiskFails);
        }
        self.end_edge(agent, power, back_ms, None);
    }

    pub(super) fn end_edge(&mut self, agent: usize, power: bool, back_ms: u64, again: Option<u64>) {
        self.note("edge", if power { "power off" } else { "killed" }, agent as u64, back_ms);
        let seed = self.random.draw();
        let site = &mut self.edges[agent];
        // A start that fails for want of room is no crash.
        let crashes = u64::from(power || site.process.is_some());
        site.process = None;
        site.turn_ms = NEVER;
        site.disk.clear_plan();
        if power {
            site.disk.power_loss(seed);
        } else {
            site.disk.kill();
        }
        self.crashes += crashes;
        self.edge_crashes += crashes;
        self.tear(Client::Agent(agent), power);
        self.after(back_ms, Due::EdgeUp(agent, again));
    }
}
