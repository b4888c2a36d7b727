//! SIGKILLs and pauses of gateway, broker and agent under load, judged by the publishers' own records.
//!
//! Two kinds of publisher: a load of thousands of meters with outboxes of their own, which is never killed, and the real
//! agent, which is. A seed decides moments and victims; the wall clock decides where in the load they fall. Everything goes
//! to both sinks: the embedded store is the sink of record, VictoriaMetrics stands beside it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    agent::{self, Agent},
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::Gateway,
    meters::Meters,
    outbox_load::OutboxLoad,
    recording::Recording,
    signals,
    stored::{in_database, in_gateway},
};

/// The gateway's keep-alive; the broker gives a client up after one and a half of it.
const KEEP_ALIVE_S: &str = "5";
/// Longer than that.
const PAUSE: Duration = Duration::from_secs(9);
/// Before every so many kills, gateway or broker is paused.
const PAUSE_EVERY: u64 = 9;
const METERS: u64 = 2_000;
const DRAIN: Duration = Duration::from_secs(180);
/// Checkpoints often, so that kills fall before, into and after them.
const MORE: &str =
    "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n[checkpoint]\nevery_s = 2\n";
const VICTIMS: [&str; 3] = ["gateway", "broker", "agent"];

/// What must be 0 behind a history.
pub const FAULTS: [&str; 4] = ["lost", "doubled", "invented", "unexplained"];

/// A history.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// SIGKILLs.
    pub kills: u64,
    /// Decides moments and victims.
    pub seed: u64,
    /// Load in messages a second.
    pub messages_per_s: u64,
    /// Whether the broker keeps what it acknowledged.
    pub saving: Saving,
    /// Each so many meters, one is read back.
    pub read_back_every: usize,
}

#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// Runs a history; the figures hold every one of [`FAULTS`] and `ready_s_max`, the longest restart of the gateway.
///
/// # Panics
/// A process ends that was not killed, or something does not come to its end.
#[must_use]
pub fn run(plan: &Plan) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(dir.path(), plan);
    let mut draw = Draw(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for kill in 0..plan.kills {
        std::thread::sleep(Duration::from_millis(300 + draw.below(2_700)));
        let victim = draw.below(3);
        // An agent that has replayed everything has ended.
        let victim = if victim == 2 && site.agent.process.ended().is_some() { draw.below(2) } else { victim };
        site.note_rate();
        if kill % PAUSE_EVERY == PAUSE_EVERY - 1 {
            site.pause((kill / PAUSE_EVERY).is_multiple_of(2));
        }
        site.kill(usize::try_from(victim).unwrap_or(0));
    }
    site.judge(plan)
}

struct Site {
    recording: Recording,
    meters: Meters,
    broker: Mosquitto,
    database: VictoriaMetrics,
    gateway: Gateway,
    agent: Agent,
    load: OutboxLoad,
    begun: Instant,
    /// By victim.
    killed: [u64; 3],
    pauses: u64,
    restarts_s: Vec<f64>,
    /// Samples that became durable, a second, between two kills.
    rates: Vec<f64>,
    durable_before: (u64, Instant),
}

impl Site {
    fn start(dir: &Path, plan: &Plan) -> Self {
        let mut recording = Recording::read();
        recording.keep_devices(4);
        let meters = Meters::new(METERS, 100);
        let broker = Mosquitto::start(dir, plan.saving);
        let database = VictoriaMetrics::start(dir);
        let mut setup = meters.setup(dir, broker.gateway_port, MORE);
        setup.database = Some(database.port);
        let list = dir.join("recorded.csv");
        fs::write(&list, recording.device_list(agent::ID)).expect("a list");
        setup.registry = format!("devices = [{:?}, {list:?}]", dir.join("devices.csv"));
        let gateway = Gateway::start(dir, &setup, &[("HUNHE_BROKER_KEEP_ALIVE_S", KEEP_ALIVE_S)]);
        let begun = Instant::now();
        let load = OutboxLoad::start(broker.port, meters, plan.messages_per_s);
        // It replays for about as long as the kills last.
        let lasting_s = plan.kills as f64 * 2.0;
        let speed = (recording.extent_ms.1 - recording.extent_ms.0) as f64 / 1000.0 / lasting_s;
        let agent = Agent::start_at(dir, broker.port, &recording, 4_000, speed);
        Self {
            recording,
            meters,
            broker,
            database,
            gateway,
            agent,
            load,
            begun,
            killed: [0; 3],
            pauses: 0,
            restarts_s: Vec::new(),
            rates: Vec::new(),
            durable_before: (0, begun),
        }
    }

    fn note_rate(&mut self) {
        let durable = self.load.durable();
        let (before, since) = self.durable_before;
        self.rates.push((durable - before) as f64 / since.elapsed().as_secs_f64());
        self.durable_before = (durable, Instant::now());
    }

    fn say(&self, what: &str) {
        let (made, (durable, _)) = (self.load.produced(), self.durable_before);
        println!("{:6.1} s, {made} made, {durable} durable: {what}", self.begun.elapsed().as_secs_f64());
    }

    fn pause(&mut self, gateway: bool) {
        self.say(if gateway { "gateway paused" } else { "broker paused" });
        let process = if gateway { &self.gateway.process } else { &self.broker.process };
        signals::pause(process.id(), PAUSE);
        self.pauses += 1;
    }

    fn kill(&mut self, victim: usize) {
        self.say(&format!("{} killed", VICTIMS[victim]));
        match victim {
            0 => {
                assert!(self.gateway.process.ended().is_none(), "the gateway ended before it was killed");
                self.restarts_s.push(self.gateway.kill_and_restart().as_secs_f64());
            }
            1 => self.broker.kill_and_restart(),
            _ => self.agent.kill_and_restart(),
        }
        self.killed[victim] += 1;
    }

    fn judge(mut self, plan: &Plan) -> Value {
        let loaded_s = self.begun.elapsed().as_secs_f64();
        let totals = self.load.finish(DRAIN);
        let drained_s = self.begun.elapsed().as_secs_f64() - loaded_s;
        let ended = self.agent.process.wait(DRAIN);
        assert!(ended.success(), "the agent ended with {ended}");
        let samples = totals.samples + self.recording.samples;
        let ledger = self.gateway.await_settled(samples, DRAIN);
        let (exit_code, _) = self.gateway.ledger_command();
        let stored = ledger["stored"].as_u64().unwrap_or(0);
        let (mut lost, mut doubled) = (samples.saturating_sub(stored), stored.saturating_sub(samples));
        for (meter, &made) in totals.by_meter.iter().enumerate().step_by(plan.read_back_every) {
            let found = self.meters.stored(&self.gateway, meter as u64);
            lost += made.saturating_sub(found);
            doubled += found.saturating_sub(made);
        }
        let (embedded, external) =
            (in_gateway(&self.gateway, &self.recording), in_database(&self.database, &self.recording, false));
        let written_again = in_database(&self.database, &self.recording, true).doubled;
        self.rates.sort_by(f64::total_cmp);
        json!({
            "seed": plan.seed, "kills": self.killed.iter().sum::<u64>(), "killed_gateway": self.killed[0],
            "killed_broker": self.killed[1], "killed_agent": self.killed[2], "pauses": self.pauses,
            "broker_keeps": plan.saving != Saving::Never, "samples": samples,
            "messages_per_s": totals.samples as f64 / loaded_s, "sent": totals.sent,
            "durable_per_s_median": self.rates.get(self.rates.len() / 2), "loaded_s": loaded_s,
            "drained_s": drained_s, "lost": lost + embedded.lost + external.lost,
            "doubled": doubled + embedded.doubled + external.doubled,
            "invented": embedded.invented + external.invented, "written_again_and_merged": written_again,
            "duplicates_refused": ledger["duplicates"], "unexplained": ledger["unexplained"],
            "closed": ledger["closed"], "ledger_exit_code": exit_code,
            "ready_s_max": self.restarts_s.iter().copied().fold(0.0, f64::max),
        })
    }
}
