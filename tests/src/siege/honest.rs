//! Honest readings: a day of a gas meter in each report, from concentrators that take turns.
//!
//! Nothing is sent again: what the broker acknowledged and the gateway does not store is lost, although an agent would still hold it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::city::Agent;
use crate::{
    now_s,
    publisher::Publisher,
    wire::{GAS_SAMPLES, gas_day},
};

const BOOT: u32 = 0x600d;
const TURN: Duration = Duration::from_millis(10);
const WINDOW: u16 = 64;
/// The first report of each meter is of so many days ago.
const DAYS: i64 = 20;

/// The load, from its own thread until it is dropped.
#[derive(Debug)]
pub(super) struct Honest {
    sent: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Honest {
    /// Starts it.
    pub(super) fn start(port: u16, agents: &[Agent], readings_per_s: u64) -> Self {
        let (sent, [ended, paused]) =
            (Arc::<AtomicU64>::default(), [(); 2].map(|()| Arc::<AtomicBool>::default()));
        let (count, agents) = (Arc::clone(&sent), agents.to_vec());
        let (until, pause) = (Arc::clone(&ended), Arc::clone(&paused));
        let thread =
            std::thread::spawn(move || publish(port, &agents, readings_per_s, &count, [&until, &pause]));
        Self { sent, ended, paused, thread: Some(thread) }
    }

    /// Some of the meters, evenly over all that have reported, each with the samples that the broker has taken of it.
    pub(super) fn some(&self, agents: &[Agent], most: usize) -> Vec<(String, u64)> {
        let reports = self.sent() / GAS_SAMPLES as u64;
        let devices = agents.first().map_or(0, |agent| agent.devices.len());
        let meters = (agents.len() * devices) as u64;
        let reported = reports.min(meters);
        let every = (reported / most.max(1) as u64).max(1);
        (0..reported)
            .step_by(usize::try_from(every).unwrap_or(1))
            .filter_map(|turn| {
                let at = usize::try_from(turn).ok()?;
                let (id, _) = agents.get(at % agents.len())?.devices.get(at / agents.len())?;
                let rounds = reports / meters + u64::from(turn < reports % meters);
                Some((id.clone(), rounds * GAS_SAMPLES as u64))
            })
            .collect()
    }

    /// Publishes nothing more, or goes on.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// Samples that the broker has taken.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn publish(
    port: u16,
    agents: &[Agent],
    readings_per_s: u64,
    sent: &AtomicU64,
    [ended, paused]: [&AtomicBool; 2],
) {
    let connect = |agent: &Agent| Publisher::connect(port, &agent.id, WINDOW);
    let mut connections: Vec<Option<Publisher>> = agents.iter().map(|agent| connect(agent).ok()).collect();
    let first_day = now_s() / 86_400 - DAYS;
    let devices = agents.first().map_or(0, |agent| agent.devices.len());
    let (mut number, mut due, mut looked) = (0_usize, 0.0, Instant::now());
    while !ended.load(Relaxed) {
        let since = std::mem::replace(&mut looked, Instant::now()).elapsed().as_secs_f64();
        if !paused.load(Relaxed) {
            due += since * readings_per_s as f64 / GAS_SAMPLES as f64;
        }
        while (number as f64) < due && !ended.load(Relaxed) && !paused.load(Relaxed) {
            // A device of each agent in turn, then the next device of each, then the next day.
            let (agent, position) = (number % agents.len(), number / agents.len());
            let (device, round) = (position % devices, position / devices);
            let day = first_day + i64::try_from(round).unwrap_or(0);
            let payload =
                gas_day(BOOT, (round * GAS_SAMPLES) as u64, day * 24, (agent * devices + device) as u64);
            let topic = agents[agent].devices[device].1.as_bytes();
            let taken = connections[agent].as_mut().is_some_and(|publisher| {
                publisher.publish(topic, &payload).and_then(|()| publisher.settle()).is_ok()
            });
            if taken {
                number += 1;
                sent.fetch_add(GAS_SAMPLES as u64, Relaxed);
            } else {
                // As an agent does: connected anew, and sent again.
                std::thread::sleep(TURN);
                connections[agent] = connect(&agents[agent]).ok();
            }
        }
        std::thread::sleep(TURN);
    }
}
