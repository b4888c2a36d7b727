//! The gateway's turns: commit, decide, feed sinks, tick; and how it starts and ends.

use super::*;

impl World {
    pub(super) fn wake_committer(&mut self) {
        let has_entries = self.gateway.process.as_ref().is_some_and(gateway::Process::has_entries);
        if has_entries && self.gateway.commit_ms == NEVER {
            let takes_ms = self.gateway.commit_takes_ms + self.random.between(1, 15);
            self.gateway.commit_ms = self.now_ms + takes_ms;
        }
    }

    pub(super) fn start_gateway(&mut self, again: Option<u64>) {
        if self.gateway.process.is_some() {
            return;
        }
        let site = &mut self.gateway;
        site.dead.store(false, Ordering::Relaxed);
        site.disk.clear_plan();
        if let Some(calls) = again {
            faults::die_after(&site.disk, calls, &site.dead);
        }
        site.life += 1;
        let random = self.random.fork();
        let started = gateway::Process::start(&site.nature, &self.fleet, &site.disk, random, self.now_ms);
        let started = match started {
            Ok(process) if site.dead.load(Ordering::Relaxed) => {
                drop(process);
                return self.end_gateway(true, 500, None);
            }
            Ok(process) => process,
            Err(error) => {
                let power = site.dead.load(Ordering::Relaxed);
                self.trace.note(
                    self.now_ms,
                    "gateway",
                    &format!("does not start: {}", trace::words(&error)),
                    0,
                    0,
                );
                self.failures += u32::from(!power);
                return self.end_gateway(
                    power,
                    if power { 500 } else { 3_000 << self.failures.min(7) },
                    None,
                );
            }
        };
        self.gateway.disk.clear_plan();
        match started.journal_content() {
            Ok(content) => self.oracle.journal(started.journal.oldest().0, &content),
            Err(error) => self.oracle.fault(format!("the recovered journal cannot be read: {error:?}")),
        }
        let site = &mut self.gateway;
        let from = started.journal.head().0;
        site.process = Some(started);
        (site.lane_ms, site.sinks_ms, site.tick_ms) = (self.now_ms, self.now_ms, self.now_ms);
        self.note("gateway", "up", from, 0);
    }

    /// Whatever is due of commit, lane, sinks and clock; one of them.
    pub(super) fn turn_gateway(&mut self) {
        let site = &mut self.gateway;
        let due = [site.commit_ms, site.lane_ms, site.sinks_ms, site.tick_ms];
        let Some(part) = due.iter().position(|at_ms| *at_ms <= self.now_ms) else { return };
        let Some(process) = &mut site.process else {
            (site.commit_ms, site.lane_ms, site.sinks_ms, site.tick_ms) = (NEVER, NEVER, NEVER, NEVER);
            return;
        };
        let mut acts = Vec::new();
        let ended = match part {
            0 => {
                site.commit_ms = NEVER;
                let journaled = &mut self.oracle.journaled;
                let mut durable = false;
                let ended = process.commit(|lsn, checksum| {
                    durable = true;
                    journaled.insert(lsn, checksum);
                });
                if durable {
                    site.lane_ms = site.lane_ms.min(self.now_ms + self.random.below(5));
                }
                ended.map(|said| acts = said)
            }
            1 => self.turn_lane(&mut acts),
            2 => {
                site.sinks_ms = NEVER;
                let fed = process.feed_sinks(&mut self.refused);
                if process.take_confirms() {
                    site.lane_ms = site.lane_ms.min(self.now_ms + self.random.below(10));
                }
                fed.map(|request| {
                    if let Some(request) = request {
                        self.ask_database(&request);
                    }
                })
            }
            _ => {
                site.tick_ms = self.now_ms + self.nap_ms.max(1_000);
                process.tick(self.now_ms);
                acts = process.turn_sessions(self.now_ms);
                site.lane_ms = site.lane_ms.min(self.now_ms);
                Ok(())
            }
        };
        let names = ["commit", "lane", "sinks", "tick"];
        self.note("gateway", names[part], acts.len() as u64, u64::from(ended.is_ok()));
        if !self.survive_gateway(ended) {
            return;
        }
        self.act(acts);
        self.wake_committer();
    }

    fn turn_lane(&mut self, acts: &mut Vec<gateway::Act>) -> Result<(), gateway::Death> {
        let site = &mut self.gateway;
        let Some(process) = &mut site.process else { return Ok(()) };
        site.lane_ms = NEVER;
        let before = process.handled();
        let decided = process.decide(self.now_ms);
        let unfinished = process.take_unfinished();
        if process.handled() != before {
            // For what is due some time after a record.
            site.lane_ms = self.now_ms + 2_000;
        }
        if process.sinks_are_behind() {
            site.sinks_ms = site.sinks_ms.min(self.now_ms + self.random.below(10));
        }
        if process.take_releases() {
            // A release has no entry of its own to bring a commit about.
            site.commit_ms = site.commit_ms.min(self.now_ms + 50);
        }
        let life = site.life;
        for begun in unfinished {
            let wait_ms = self.random.below(3_000);
            self.serial += 1;
            let due = Due::Checkpoint(life, Box::new(begun));
            self.agenda.insert((self.now_ms + wait_ms, self.serial), due);
        }
        decided.map(|(turn, said)| {
            *acts = said;
            if turn == Turn::Full {
                self.trace.note(self.now_ms, "gateway", "the decided log is full", 0, 0);
            }
            if turn == Turn::More {
                self.gateway.lane_ms = self.now_ms;
            }
        })
    }

    pub(super) fn ask_database(&mut self, request: &crate::sink::Request) {
        let answered = self.database.write(&request.body, request.lines);
        let wait_ms = match answered {
            crate::database::Answered::Nothing => self.random.between(5, 10_000),
            crate::database::Answered::Status(..) => self.random.between(1, 300),
        };
        let life = self.gateway.life;
        self.note("database", "asked", request.lines as u64, request.body.len() as u64);
        self.after(wait_ms, Due::Answer(life, answered));
    }

    /// Ends the process where it failed or the power went.
    pub(super) fn survive_gateway(&mut self, ended: Result<(), gateway::Death>) -> bool {
        if self.gateway.dead.load(Ordering::Relaxed) {
            self.kinds.insert(Kind::GatewayPower);
            self.end_gateway(true, 1_000, None);
            return false;
        }
        if let Err(death) = ended {
            if !self.gateway.full {
                self.kinds.insert(Kind::GatewayDiskFails);
            }
            self.trace.note(self.now_ms, "gateway", &format!("fails: {}", trace::words(&death)), 0, 0);
            self.failures += 1;
            self.end_gateway(false, 3_000 << self.failures.min(7), None);
            return false;
        }
        true
    }

    pub(super) fn end_gateway(&mut self, power: bool, back_ms: u64, again: Option<u64>) {
        // A start that fails for want of room is no crash.
        self.crashes += u64::from(power || self.gateway.process.is_some());
        self.note("gateway", if power { "power off" } else { "killed" }, back_ms, 0);
        let seed = self.random.draw();
        let site = &mut self.gateway;
        site.process = None;
        site.life += 1;
        (site.commit_ms, site.lane_ms, site.sinks_ms, site.tick_ms) = (NEVER, NEVER, NEVER, NEVER);
        site.disk.clear_plan();
        if power {
            site.disk.power_loss(seed);
        } else {
            site.disk.kill();
        }
        for client in [Client::Up, Client::Alarm, Client::Out] {
            self.tear(client, power);
        }
        self.after(back_ms, Due::GatewayUp(again));
    }
}
