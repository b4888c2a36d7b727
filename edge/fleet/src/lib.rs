//! A whole fleet in one process: every device of a description, modelled or replayed, over few connections or one
//! each. Tests, the demonstration and load runs drive it; its summary is the oracle that a ledger is compared with.
//!
//! - [`simulated`]: one modelled device, a driver as an agent uses it
//! - [`faults`]: what goes wrong between an agent and its broker, a port around the agent's own
//! - [`scenario`]: what goes wrong where, and when
//! - [`rounds`]: when it stands, where a scenario begins again
//!
//! Promise: agents are those of `hunhe-edge`, unchanged; whatever is simulated comes in through their driver and their
//! port. Devices of a recording take their samples from it, whether the description names them (then with the agent it
//! gives them) or not (then each is its own agent); the class models all others.
//!
//! Deliberately absent: the gateway and the broker, and any use in the field. Of the project, only programs and tests
//! that simulate link this crate.

pub mod faults;
pub mod rounds;
pub mod scenario;
mod setups;
pub mod simulated;
#[cfg(test)]
mod testing;

use faults::{Faults, Faulty, Moment};
use hunhe_edge::{
    classes::Classes,
    drivers::replay::Series,
    mqtt::{Broker, Mqtt},
    run::{self, RunError, Setup},
    stats::{DeviceStats, Progress},
};
use hunhe_proto::fleet::{Fleet, FleetError as Unexpandable};
use scenario::Scenario;
use setups::setups;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

/// Who holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// The agents of the description: concentrators for many devices.
    #[default]
    Agent,
    /// Every device for itself. The registry must then name each as its own agent.
    Each,
}

/// How long modelled devices have been there when the simulation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Past {
    /// They begin with it, all at once.
    #[default]
    None,
    /// Each is somewhere within its report, so that reports are spread over time as a city's are.
    Part,
    /// The same, and each owes one whole report, so that the whole city reports at once.
    Report,
}

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// The classes of all devices.
    pub classes: Classes,
    /// The fleet to model.
    pub fleet: Option<Fleet>,
    /// Series to replay.
    pub recording: Vec<Arc<Series>>,
    /// Where to publish.
    pub broker: Broker,
    /// Every agent's password, with its id as user name; absent: as `broker` says.
    pub password: Option<String>,
    /// Over how many connections.
    pub connections: Connections,
    /// Event seconds per real second.
    pub speed: f64,
    /// The same for the recording; absent: `speed`.
    pub recording_speed: Option<f64>,
    /// How long to sample; absent: until `shutdown`, or until the recording ends where nothing else is simulated.
    pub duration: Option<Duration>,
    /// Event time at the start, in milliseconds since 1970; absent: so that the present is reached at the end, and
    /// for a recording its first sample. A recording with a speed of its own starts at its first sample in any case.
    pub from_ms: Option<i64>,
    /// Event time may run ahead of the present: where the gateway's clock does as well.
    pub ahead: bool,
    /// How long devices have been there.
    pub past: Past,
    /// What goes wrong, by time.
    pub scenario: Option<Scenario>,
    /// What models and faults are drawn from.
    pub seed: u64,
    /// Faults by name in the class file, and the share of the devices that has each.
    pub faults: Vec<(String, f64)>,
    /// Where outboxes are kept, one folder per agent; absent: in memory.
    pub state_dir: Option<PathBuf>,
    /// Publishes of one agent without acknowledgement.
    pub window: u16,
    /// Samples held per device.
    pub samples_max: Option<u64>,
    /// A full outbox makes models and recordings wait, instead of declaring the oldest samples lost.
    pub lossless: bool,
    /// How long to wait at the end until the watermark has passed everything.
    pub drain: Duration,
}

impl Options {
    /// Nothing to simulate yet, at real speed, towards `broker`.
    #[must_use]
    pub const fn new(classes: Classes, broker: Broker) -> Self {
        Self {
            classes,
            fleet: None,
            recording: Vec::new(),
            broker,
            password: None,
            connections: Connections::Agent,
            speed: 1.0,
            recording_speed: None,
            duration: None,
            from_ms: None,
            ahead: false,
            past: Past::None,
            scenario: None,
            seed: 0,
            faults: Vec::new(),
            state_dir: None,
            window: 64,
            samples_max: None,
            lossless: true,
            drain: Duration::from_secs(10),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// Devices simulated.
    pub devices: usize,
    /// Connections they shared.
    pub agents: usize,
    /// Samples taken.
    pub sampled: u64,
    /// Reports published, each time counted.
    pub published: u64,
    /// Reports that the broker acknowledged.
    pub acked: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Samples declared lost.
    pub declared_lost: u64,
    /// Devices whose watermark passed everything.
    pub settled: usize,
    /// Real time, in seconds.
    pub elapsed_s: f64,
    /// Each device.
    #[serde(skip)]
    pub per_device: Vec<DeviceStats>,
}

/// A fleet that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The description does not expand.
    #[error("fleet")]
    Fleet(#[from] Unexpandable),
    /// A device's class is not there.
    #[error("group {prefix}: no class is called {class:?}; known are {known}")]
    Class {
        /// Which group.
        prefix: String,
        /// Its class.
        class: String,
        /// The classes there are.
        known: String,
    },
    /// No class has this fault.
    #[error("no class has a fault called {0:?}; faults are named in the class files")]
    Fault(String),
    /// The scenario does not fit the fleet.
    #[error("the scenario does not fit the fleet:\n{}", .0.join("\n"))]
    Scenario(Vec<String>),
    /// Neither a fleet nor a recording.
    #[error("nothing to simulate: give a fleet, a recording, or both")]
    Nothing,
    /// An agent failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An agent's task ended without a word.
    #[error("an agent's task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Whether these options can be simulated: nothing is connected.
///
/// # Errors
/// [`FleetError`].
pub fn check(options: &Options) -> Result<(), FleetError> {
    setups(options).map(drop)
}

/// Simulates until `shutdown` becomes true, the duration is over, or every recording ended; then waits for the
/// watermark as long as the options say.
///
/// # Errors
/// [`FleetError`]; before anything is published where the options are at fault.
pub async fn simulate(options: Options, shutdown: watch::Receiver<bool>) -> Result<Summary, FleetError> {
    simulate_with(options, shutdown, Arc::default()).await
}

/// [`simulate`], with counters that can be watched meanwhile.
///
/// # Errors
/// As [`simulate`].
pub async fn simulate_with(
    options: Options,
    mut shutdown: watch::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Summary, FleetError> {
    let started = Instant::now();
    let setups = setups(&options)?;
    let agents = setups.len();
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for (setup, faults) in setups {
        tasks.spawn(run_agent(setup, faults, stopped.clone(), Arc::clone(&progress)));
    }
    drop(stopped);
    let mut per_device = Vec::new();
    let timeout = async {
        match options.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timeout);
    let mut stopping = false;
    loop {
        tokio::select! {
            () = &mut timeout, if !stopping => stopping = true,
            // A shutdown whose sender is gone never comes.
            Ok(()) = shutdown.changed(), if !stopping => stopping = *shutdown.borrow(),
            done = tasks.join_next() => match done {
                None => break,
                Some(stats) => per_device.extend(stats??),
            },
        }
        if stopping {
            stop.send_replace(true);
        }
    }
    per_device.sort_unstable_by_key(|stats| stats.device);
    Ok(Summary {
        devices: per_device.len(),
        agents,
        sampled: per_device.iter().map(|stats| stats.sampled).sum(),
        published: per_device.iter().map(|stats| stats.published).sum(),
        acked: per_device.iter().map(|stats| stats.acked).sum(),
        bytes: progress.bytes.load(Relaxed),
        declared_lost: per_device.iter().map(|stats| stats.declared_lost).sum(),
        settled: per_device.iter().filter(|stats| stats.through >= stats.next_seq).count(),
        elapsed_s: started.elapsed().as_secs_f64(),
        per_device,
    })
}

async fn run_agent(
    setup: Setup,
    faults: Faults,
    stop: watch::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Vec<DeviceStats>, RunError> {
    if faults.is_empty() {
        return run::run(setup, stop, progress).await;
    }
    let stopped = stop.clone();
    let port = move |setup: &Setup| {
        // Copies need room beside the window.
        let window = setup.link.window.saturating_mul(2);
        let mqtt = Mqtt::new(setup.broker.clone(), setup.id, window, setup.link.sleeping);
        let clock = setup.clock;
        let now = move || Moment { event_ms: clock.now().event_ms, draining: *stopped.borrow() };
        Faulty::new(mqtt, faults, now)
    };
    run::run_over(setup, port, stop, progress).await
}
