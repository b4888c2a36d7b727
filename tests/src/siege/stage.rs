//! One attacker, or all of them, for a while; then a pause in which everything must drain.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;

use super::{
    alarms::{Alarms, Raised},
    attackers::{Attacker, Field},
    city::{City, HONEST},
    figures::{Cores, Figures},
    honest::Honest,
    receivers::{LISTENER, Receivers},
};
use crate::{
    broker::{Agents, Mosquitto, Saving},
    gateway::{Gateway, sinks_idle},
    process::eventually,
    procfs,
    webhook::Webhook,
};

/// What a service without limits of its own gets, and so less than the shipped unit asks for.
const FILES_MAX: u32 = 1_024;
const READY: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);
/// Asked no oftener: an answer may go over all devices.
const ASK: Duration = Duration::from_millis(300);

/// The programs, the honest and the receivers, from the first stage to the last.
pub(super) struct Siege {
    // Dropped in this order: those who publish before those who receive.
    honest: Honest,
    alarms: Alarms,
    receivers: Receivers,
    gateway: Gateway,
    broker: Mosquitto,
    webhooks: [Arc<Webhook>; 3],
    city: City,
    stages: u32,
    /// Of earlier stages.
    lost: u64,
    _dir: tempfile::TempDir,
}

impl Siege {
    /// Starts everything, for so many seconds of alarms.
    pub(super) fn begin(seconds: u64, readings_per_s: u64) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let city = City::with_alarms(u32::try_from(seconds).expect("less than a year"));
        let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::default());
        let duty = Arc::new(Webhook::start());
        let webhooks = [(); 3].map(|()| Arc::new(Webhook::start()));
        let mut outputs = duty.to_toml("duty", 10);
        for (webhook, name) in webhooks.iter().zip(["slow", "hanging", "refusing"]) {
            outputs += &webhook.to_toml(name, 10);
        }
        let setup = city.setup(dir.path(), broker.gateway_port, &outputs);
        let gateway = Gateway::start_under(dir.path(), &setup, &[], &few_files());
        broker.admit_registry_of(&gateway, &format!("user {LISTENER}\ntopic read hunhe/v1/alerts/#\n"), None);
        let receivers = Receivers::connect(gateway.port, broker.port, duty);
        let honest = Honest::start(broker.port, &city.meters, readings_per_s);
        let alarms = Alarms::start(broker.port, &city.detectors);
        let siege = Self {
            honest,
            alarms,
            receivers,
            gateway,
            broker,
            webhooks,
            city,
            stages: 0,
            lost: 0,
            _dir: dir,
        };
        eventually(READY, "the first alarm has reached everybody", || {
            let raised = siege.alarms.raised();
            let times = siege.receivers.times(&raised);
            times.iter().all(|times| times.iter().any(Option::is_some)).then_some(())
        });
        siege
    }

    /// How many devices are registered.
    pub(super) fn devices(&self) -> usize {
        self.city.devices
    }

    /// Lets these attack for so long, and waits until all has drained.
    pub(super) fn stage(&mut self, attackers: &[&Attacker], lasting: Duration) -> Figures {
        self.stages += 1;
        let before = self.alarms.raised();
        let (sent_before, reconnects_before) = (self.honest.sent(), self.receivers.page_reconnects());
        let begun = Instant::now();
        self.pause(false);
        let (attempts, peak, cores, lasted) = self.attack(attackers, lasting);
        let raised: Raised =
            self.alarms.raised().into_iter().filter(|(device, _)| !before.contains_key(device)).collect();
        let ended = self.gateway.process.ended().map(|status| status.to_string());
        if ended.is_some() {
            self.gateway.relaunch(&few_files());
            self.gateway.await_ready();
        }
        let (drained_s, honest_lost) = self.drain(&raised);
        self.lost += honest_lost;
        Figures {
            times: self.receivers.times(&raised),
            attempts,
            peak,
            cores,
            lasted_s: lasted.as_secs_f64(),
            whole_s: begun.elapsed().as_secs_f64(),
            honest_sent: self.honest.sent() - sent_before,
            honest_lost,
            drained_s,
            page_reconnects: self.receivers.page_reconnects() - reconnects_before,
            gateway_ended: ended,
        }
    }

    fn pause(&self, paused: bool) {
        self.honest.pause(paused);
        self.alarms.pause(paused);
    }

    fn attack(
        &self,
        attackers: &[&Attacker],
        lasting: Duration,
    ) -> (Vec<(&'static str, u64)>, Peak, Cores, Duration) {
        let cleared = AtomicBool::new(false);
        let processes = [self.gateway.process.id(), self.broker.process.id(), std::process::id()];
        let cpu = || processes.map(procfs::cpu_ns);
        let (begun, cpu_before) = (Instant::now(), cpu());
        let mut peak = Peak::default();
        let (attempts, cpu_after, lasted) = thread::scope(|scope| {
            let attacking: Vec<_> = attackers
                .iter()
                .enumerate()
                .map(|(number, attacker)| {
                    let field = Field {
                        city: &self.city,
                        http: self.gateway.port,
                        broker: self.broker.port,
                        gateway_broker: self.broker.gateway_port,
                        webhooks: &self.webhooks,
                        number,
                        stage: self.stages,
                        cleared: &cleared,
                    };
                    let attack = attacker.attack;
                    (attacker.name, scope.spawn(move || attack(&field)))
                })
                .collect();
            while begun.elapsed() < lasting {
                peak.look(processes[0]);
                thread::sleep(LOOK);
            }
            let (cpu_after, lasted) = (cpu(), begun.elapsed());
            // Some attackers wait for an answer before they see that it is over.
            self.pause(true);
            cleared.store(true, Relaxed);
            let count =
                |(name, thread): (_, thread::ScopedJoinHandle<'_, u64>)| (name, thread.join().unwrap_or(0));
            (attacking.into_iter().map(count).collect(), cpu_after, lasted)
        });
        let cores =
            |at: usize| (cpu_after[at].saturating_sub(cpu_before[at])) as f64 / 1e9 / lasted.as_secs_f64();
        (attempts, peak, Cores { gateway: cores(0), broker: cores(1), harness: cores(2) }, lasted)
    }

    /// Waits until every alarm has come, every honest sample is stored, and sinks and outputs are through. Answers the seconds
    /// that this took, if it did, and the honest samples of this stage that are neither stored nor on their way to the store.
    fn drain(&mut self, raised: &Raised) -> (Option<f64>, u64) {
        let begun = Instant::now();
        let expected = |siege: &Self| siege.honest.sent() + siege.alarms.raised().len() as u64 - siege.lost;
        let (mut stored, mut outstanding) = (0, 0);
        loop {
            let came = self.receivers.times(raised).iter().flatten().all(Option::is_some);
            (stored, outstanding) = self.honest_stored().unwrap_or((stored, outstanding));
            // Both publish nothing now, but for what was under way.
            if came && stored >= expected(self) && self.is_through() {
                return (Some(begun.elapsed().as_secs_f64()), 0);
            }
            if begun.elapsed() > DRAIN {
                return (None, expected(self).saturating_sub(stored + outstanding));
            }
            thread::sleep(ASK);
        }
    }

    /// Samples of the honest by the ledger: stored, and outstanding.
    fn honest_stored(&self) -> Option<(u64, u64)> {
        let ledger = self.json("/api/v1/ledger?by=operator&limit=1000")?;
        let row = ledger["rows"].as_array()?.iter().find(|row| row["key"] == HONEST)?.clone();
        Some((row["stored"].as_u64()?, row["outstanding"].as_u64()?))
    }

    /// Sinks and outputs have done what there was to do.
    fn is_through(&self) -> bool {
        self.json("/api/v1/status").is_some_and(|status| {
            let outputs = status["outputs"]
                .as_array()
                .is_some_and(|outputs| outputs.iter().all(|output| output["lag"] == 0));
            outputs && sinks_idle(&status)
        })
    }

    fn json(&self, path: &str) -> Option<Value> {
        let (status, body) = self.gateway.http.ask(Method::GET, path)?;
        serde_json::from_str(&body).ok().filter(|_| status == 200)
    }
}

/// A shell that leaves the gateway few file descriptors.
fn few_files() -> Vec<String> {
    ["sh", "-c", &format!("ulimit -n {FILES_MAX}; exec \"$@\""), "sh"].map(Into::into).into()
}

/// The most that the gateway ever had.
#[derive(Debug, Default)]
pub(super) struct Peak {
    /// Resident memory.
    pub(super) rss_mib: f64,
    /// Open files and connections.
    pub(super) files: usize,
    /// Threads.
    pub(super) threads: usize,
}

impl Peak {
    fn look(&mut self, pid: u32) {
        let entries = |name: &str| {
            fs::read_dir(Path::new("/proc").join(pid.to_string()).join(name)).map_or(0, Iterator::count)
        };
        self.rss_mib = self.rss_mib.max(procfs::rss_mib(pid));
        self.files = self.files.max(entries("fd"));
        self.threads = self.threads.max(entries("task"));
    }
}
