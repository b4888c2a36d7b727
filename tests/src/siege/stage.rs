//! One attacker, or all of them, for a while; then a pause in which everything must drain.

use std::{
    collections::{BTreeMap, HashMap},
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
    alarms::{Alarms, EVERY, Raised},
    attackers::{Attacker, Field},
    city::{City, HONEST},
    effects::{Counts, Effects, Rises, figures, rises},
    figures::{Attack, Cores, Figures, Promise},
    honest::Honest,
    receivers::{LISTENER, Receivers, is_awaited},
    stored,
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
    duty: Arc<Webhook>,
    webhooks: [Arc<Webhook>; 3],
    city: City,
    /// Of the honest meters, since they are households'.
    pseudonyms: HashMap<String, String>,
    stages: u32,
    readings_per_s: u64,
    /// Of earlier stages.
    lost: u64,
    /// Stored in earlier stages, although nobody sent them.
    forged: u64,
    /// Quarantined in earlier stages.
    refused: u64,
    _dir: tempfile::TempDir,
}

impl Siege {
    /// Starts everything, for so many seconds of alarms.
    pub(super) fn begin(seconds: u64, readings_per_s: u64) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let city = City::with_alarms(u32::try_from(seconds).expect("less than a year"));
        let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::default());
        let [duty, slow, hanging, refusing] = [(); 4].map(|()| Arc::new(Webhook::start_keeping(is_awaited)));
        let webhooks = [slow, hanging, refusing];
        let mut outputs = duty.to_toml("duty", 10);
        for (webhook, name) in webhooks.iter().zip(["slow", "hanging", "refusing"]) {
            outputs += &webhook.to_toml(name, 10);
        }
        let setup = city.setup(dir.path(), broker.gateway_port, &outputs);
        let gateway = Gateway::start_under(dir.path(), &setup, &[], &few_files());
        let own_lines = format!("user {LISTENER}\ntopic read hunhe/v1/alerts/#\n{}", city.own_lines());
        broker.admit_registry_of(&gateway, &own_lines, None);
        let data_dir = gateway.data_dir();
        let receivers = Receivers::connect(gateway.port, broker.port, Arc::clone(&duty));
        let honest = Honest::start(broker.port, &city.meters, readings_per_s);
        let alarms = Alarms::start(broker.port, &city.detectors);
        let siege = Self {
            honest,
            alarms,
            receivers,
            gateway,
            broker,
            duty,
            webhooks,
            city,
            pseudonyms: stored::pseudonyms(&data_dir),
            stages: 0,
            readings_per_s,
            lost: 0,
            forged: 0,
            refused: 0,
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
    pub(super) fn stage(&mut self, attackers: &[&Attacker], lasting: Duration, promise: &Promise) -> Figures {
        self.stages += 1;
        let before = self.alarms.raised();
        let (sent_before, reconnects_before) = (self.honest.sent(), self.receivers.page_reconnects());
        let figures_before = self.figures();
        let begun = Instant::now();
        let mut peak = Peak::begin(self.gateway.process.id());
        self.pause(false);
        let (effects, cores, lasted) = self.attack(attackers, lasting, promise, &mut peak);
        let raised: Raised =
            self.alarms.raised().into_iter().filter(|(device, _)| !before.contains_key(device)).collect();
        let ended = self.gateway.process.ended().map(|status| status.to_string());
        if ended.is_some() {
            self.start_again();
        }
        let mut drained = self.drain(&raised, &mut peak);
        let mut rises = Rises { during: rises(&figures_before, &self.figures()), restarted: BTreeMap::new() };
        if attackers.iter().any(|attacker| attacker.restarts) && drained.seconds.is_some() {
            peak.end(self.gateway.process.id());
            self.gateway.process.terminate(READY);
            self.start_again();
            let again = self.drain(&raised, &mut peak);
            let seconds = drained.seconds.zip(again.seconds).map(|(before, again)| before + again);
            drained = Drained { seconds, ..again };
            rises.restarted = self.figures();
        }
        peak.end(self.gateway.process.id());
        let stored_faults = if drained.lost == 0 { self.stored_faults(&raised) } else { Vec::new() };
        self.lost += drained.lost;
        self.forged += drained.forged;
        self.refused += drained.refused;
        let attack = |(attacker, counts): (&&Attacker, Counts)| {
            let missed = attacker
                .aims
                .iter()
                .filter_map(|aim| aim.missed(&counts, &rises, promise.aims_part))
                .collect();
            Attack { name: attacker.name, counts, missed }
        };
        Figures {
            times: self.receivers.times(&raised),
            alarms_due: lasted.as_secs_f64() / EVERY.as_secs_f64(),
            attacks: attackers.iter().zip(effects).map(attack).collect(),
            rose: rises.during.clone().into_iter().collect(),
            peak,
            cores,
            lasted_s: lasted.as_secs_f64(),
            whole_s: begun.elapsed().as_secs_f64(),
            honest_due: lasted.as_secs_f64() * self.readings_per_s as f64,
            honest_sent: self.honest.sent() - sent_before,
            drained,
            stored_faults,
            page_reconnects: self.receivers.page_reconnects() - reconnects_before,
            gateway_ended: ended,
        }
    }

    fn pause(&self, paused: bool) {
        self.honest.pause(paused);
        self.alarms.pause(paused);
    }

    fn start_again(&mut self) {
        self.gateway.relaunch(&few_files());
        self.gateway.await_ready();
    }

    fn attack(
        &self,
        attackers: &[&Attacker],
        lasting: Duration,
        promise: &Promise,
        peak: &mut Peak,
    ) -> (Vec<Counts>, Cores, Duration) {
        let cleared = AtomicBool::new(false);
        let processes = [self.gateway.process.id(), self.broker.process.id(), std::process::id()];
        let cpu = || processes.map(procfs::cpu_ns);
        let (begun, cpu_before) = (Instant::now(), cpu());
        let effects: Vec<Effects> = attackers.iter().map(|_| Effects::default()).collect();
        let (cpu_after, lasted) = thread::scope(|scope| {
            for (number, (attacker, effects)) in attackers.iter().zip(&effects).enumerate() {
                let field = Field {
                    city: &self.city,
                    alarms: &self.alarms,
                    slowest: promise.slowest(),
                    http: self.gateway.port,
                    broker: self.broker.port,
                    gateway_broker: self.broker.gateway_port,
                    duty: &self.duty,
                    webhooks: &self.webhooks,
                    number,
                    stage: self.stages,
                    cleared: &cleared,
                    effects,
                };
                let attack = attacker.attack;
                scope.spawn(move || attack(&field));
            }
            while begun.elapsed() < lasting {
                peak.look(processes[0]);
                thread::sleep(LOOK);
            }
            let (cpu_after, lasted) = (cpu(), begun.elapsed());
            // Some attackers wait for an answer before they see that it is over.
            self.pause(true);
            cleared.store(true, Relaxed);
            (cpu_after, lasted)
        });
        let cores =
            |at: usize| (cpu_after[at].saturating_sub(cpu_before[at])) as f64 / 1e9 / lasted.as_secs_f64();
        let counts = effects.iter().map(Effects::counts).collect();
        (counts, Cores { gateway: cores(0), broker: cores(1), harness: cores(2) }, lasted)
    }

    /// Waits until every alarm has come, every honest sample is stored, and sinks and outputs are through.
    fn drain(&self, raised: &Raised, peak: &mut Peak) -> Drained {
        let begun = Instant::now();
        let mut row = Row::default();
        loop {
            peak.look(self.gateway.process.id());
            let came = self.receivers.times(raised).iter().flatten().all(Option::is_some);
            row = self.honest_row().unwrap_or(row);
            // Both publish nothing now, but for what was under way.
            let expected = self.honest.sent() + self.alarms.raised().len() as u64 + self.forged - self.lost;
            let is_through = came && row.stored >= expected && self.is_through();
            if !is_through && begun.elapsed() < DRAIN {
                thread::sleep(ASK);
                continue;
            }
            return Drained {
                seconds: is_through.then(|| begun.elapsed().as_secs_f64()),
                lost: expected.saturating_sub(row.stored + row.outstanding),
                forged: row.stored.saturating_sub(expected),
                refused: row.quarantined.saturating_sub(self.refused),
            };
        }
    }

    /// Samples of the honest by the ledger.
    fn honest_row(&self) -> Option<Row> {
        let ledger = self.json("/api/v1/ledger?by=operator&limit=1000")?;
        let row = ledger["rows"].as_array()?.iter().find(|row| row["key"] == HONEST)?.clone();
        let count = |key: &str| row[key].as_u64();
        Some(Row {
            stored: count("stored")?,
            outstanding: count("outstanding")?,
            quarantined: count("quarantined")?,
        })
    }

    /// Whether the store holds of the honest what they sent; of some of them, since each is a question of its own.
    fn stored_faults(&self, raised: &Raised) -> Vec<String> {
        let meters = self.honest.some(&self.city.meters, stored::LOOKED_AT);
        let meters = meters.into_iter().map(|(device, sent)| (device, "register", sent));
        let detectors = raised.keys().take(stored::LOOKED_AT).map(|device| (device.clone(), "ch4", 1));
        let fault = |(device, channel, sent): (String, &str, u64)| {
            let name = self.pseudonyms.get(&device).unwrap_or(&device);
            stored::fault(&device, sent, self.json(&stored::path(name, channel)).as_ref())
        };
        stored::shown(meters.chain(detectors).filter_map(fault).collect())
    }

    fn figures(&self) -> BTreeMap<String, f64> {
        let answer = self.gateway.http.ask(Method::GET, "/metrics");
        answer.map(|(_, text)| figures(&text)).unwrap_or_default()
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

/// The honest by the ledger.
#[derive(Debug, Default)]
struct Row {
    stored: u64,
    outstanding: u64,
    quarantined: u64,
}

/// How a stage drained.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// Until everything was through; `None` where it never was.
    pub(super) seconds: Option<f64>,
    /// Honest samples that are neither stored nor on their way to the store.
    pub(super) lost: u64,
    /// Samples stored as honest that nobody honest sent.
    pub(super) forged: u64,
    /// Samples of honest devices that went to quarantine.
    pub(super) refused: u64,
}

/// The most that the gateway had since it began.
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
    fn begin(pid: u32) -> Self {
        procfs::forget_peak(pid);
        Self::default()
    }

    fn look(&mut self, pid: u32) {
        let entries = |name: &str| {
            fs::read_dir(Path::new("/proc").join(pid.to_string()).join(name)).map_or(0, Iterator::count)
        };
        self.files = self.files.max(entries("fd"));
        self.threads = self.threads.max(entries("task"));
    }

    /// Before the process ends, or the stage does: the kernel remembers what was between two looks.
    fn end(&mut self, pid: u32) {
        self.rss_mib = self.rss_mib.max(procfs::peak_rss_mib(pid));
    }
}
