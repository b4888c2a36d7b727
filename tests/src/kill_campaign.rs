//! Random SIGKILLs and pauses of gateway, broker and agent under load, judged by the publishers' own records.
//!
//! Two kinds of publisher: a load of thousands of meters with outboxes of their own, which is not killed, and the real
//! agent, which is. Moments and victims are drawn from a seed; the wall clock decides where in the load they fall.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    agent::{self, Agent},
    broker::{Mosquitto, Saving},
    gateway::Gateway,
    meters::Meters,
    outbox_load::OutboxLoad,
    recording::Recording,
    signals,
    stored::in_gateway,
};

/// The gateway's signs of life; the broker gives a client up after one and a half of it.
const KEEP_ALIVE_S: &str = "5";
/// Longer than that.
const PAUSE: Duration = Duration::from_secs(9);
/// Every so many kills something is paused instead.
const PAUSE_EVERY: u64 = 9;
const METERS: u64 = 2_000;
const DRAIN: Duration = Duration::from_secs(180);
const MORE: &str =
    "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n[checkpoint]\nevery_s = 2\n";

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

/// Runs a history; the answer has `lost` and `doubled`.
///
/// # Panics
/// A process ends that was not killed, or something does not come to its end.
#[must_use]
pub fn run(plan: &Plan) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    let mut recording = Recording::read();
    recording.keep_devices(4);
    let meters = Meters::new(METERS, 100);
    let mut broker = Mosquitto::start(dir.path(), plan.saving);
    let mut setup = meters.setup(dir.path(), broker.gateway_port, MORE);
    let list = dir.path().join("recorded.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    setup.registry = format!("devices = [{:?}, {list:?}]", dir.path().join("devices.csv"));
    let environment = [("HUNHE_BROKER_KEEP_ALIVE_S", KEEP_ALIVE_S)];
    let mut gateway = Gateway::start(dir.path(), &setup, &environment);
    let begun = Instant::now();
    let load = OutboxLoad::start(broker.port, meters, plan.messages_per_s);
    // It replays for about as long as the kills last.
    let lasting_s = plan.kills as f64 * 2.0;
    let speed = (recording.extent_ms.1 - recording.extent_ms.0) as f64 / 1000.0 / lasting_s;
    let mut agent = Agent::start_at(dir.path(), broker.port, &recording, 4_000, speed);
    let mut draw = Draw(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut restarts_s, mut counts, mut agent_over) = (Vec::new(), [0_u64; 3], false);
    let mut pauses = 0;
    let (mut rates, mut durable_before) = (Vec::new(), (0, Instant::now()));
    for kill in 0..plan.kills {
        std::thread::sleep(Duration::from_millis(300 + draw.below(2_700)));
        agent_over = agent_over || agent.process.ended().is_some();
        let mut victim = draw.below(3);
        if victim == 2 && agent_over {
            victim = draw.below(2);
        }
        let at_s = begun.elapsed().as_secs_f64();
        let durable = load.durable();
        rates.push((durable - durable_before.0) as f64 / durable_before.1.elapsed().as_secs_f64());
        durable_before = (durable, Instant::now());
        let name = ["gateway", "broker", "agent"][usize::try_from(victim).unwrap_or(0)];
        if kill % PAUSE_EVERY == PAUSE_EVERY - 1 {
            let pid = [gateway.process.id(), broker.process.id()]
                [usize::try_from(kill / PAUSE_EVERY % 2).unwrap_or(0)];
            println!(
                "{at_s:6.1} s: {} paused",
                ["gateway", "broker"][usize::try_from(kill / PAUSE_EVERY % 2).unwrap_or(0)]
            );
            signals::pause(pid, PAUSE);
            pauses += 1;
        }
        println!("{at_s:6.1} s, {} made, {durable} durable: {name} killed", load.produced());
        match victim {
            0 => {
                assert!(gateway.process.ended().is_none(), "the gateway ended before it was killed");
                restarts_s.push(gateway.kill_and_restart().as_secs_f64());
            }
            1 => broker.kill_and_restart(),
            _ => agent.kill_and_restart(),
        }
        counts[usize::try_from(victim).unwrap_or(0)] += 1;
    }
    let loaded_s = begun.elapsed().as_secs_f64();
    let totals = load.finish(DRAIN);
    let drained_s = begun.elapsed().as_secs_f64() - loaded_s;
    let ended = agent.process.wait(DRAIN);
    assert!(ended.success(), "the agent ended with {ended}");
    let samples = totals.samples + recording.samples;
    let ledger = gateway.await_settled(samples, DRAIN);
    let stored = ledger["stored"].as_u64().unwrap_or(0);
    let (mut lost, mut doubled) = (samples.saturating_sub(stored), stored.saturating_sub(samples));
    for (meter, &made) in totals.by_meter.iter().enumerate().step_by(plan.read_back_every) {
        let found = meters.stored(&gateway, meter as u64);
        lost += made.saturating_sub(found);
        doubled += found.saturating_sub(made);
    }
    let recorded = in_gateway(&gateway, &recording);
    rates.sort_by(f64::total_cmp);
    json!({
        "seed": plan.seed, "kills": plan.kills, "killed_gateway": counts[0], "killed_broker": counts[1],
        "killed_agent": counts[2], "pauses": pauses, "broker_keeps": plan.saving != Saving::Never,
        "samples": samples, "messages_per_s": totals.samples as f64 / loaded_s, "sent": totals.sent,
        "durable_per_s_median": rates.get(rates.len() / 2), "loaded_s": loaded_s, "drained_s": drained_s,
        "lost": lost + recorded.lost, "doubled": doubled + recorded.doubled, "invented": recorded.invented,
        "duplicates_refused": ledger["duplicates"], "unexplained": ledger["unexplained"],
        "ready_s_max": restarts_s.iter().copied().fold(0.0, f64::max),
    })
}
