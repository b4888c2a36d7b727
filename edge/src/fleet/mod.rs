//! A whole fleet in one process: every device of a description, modelled or replayed, over few connections or one
//! each. It is what tests, the demo and load runs drive; its summary is the oracle that a ledger is compared with.
//!
//! Devices of a recording take their samples from it, whether the description names them (then with the agent it
//! gives them) or not (then each is its own agent); all others are modelled by their class.

use crate::{
    classes::Classes,
    clock::{Clock, wall_ms},
    drivers::{
        Driver,
        replay::{Player, Series},
        simulated::{Simulated, is_struck},
    },
    mqtt::Broker,
    run::{self, Equipment, RunError, Setup},
    scenario::{Plan, Scenario, Strike},
    spool::Limits,
    stats::{DeviceStats, Progress},
};
use hunhe_edge_core::{batch, link, sample::Late};
use hunhe_proto::{
    class::{Class, Fault},
    fleet::{Fleet, FleetError as Unexpandable, Member},
    id::{AgentId, DeviceId},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

/// Samples a device holds where nothing else is said: two days by the minute.
const SAMPLES_MAX: u64 = 2_880;

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
    /// The same, and each owes one whole report, so that all of the city is heard of at once.
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
    /// How long to sample; absent: until told to stop, or until the recording ends where nothing else is simulated.
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
    for setup in setups {
        tasks.spawn(run::run(setup, stopped.clone(), Arc::clone(&progress)));
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

/// The agents of a fleet.
fn setups(options: &Options) -> Result<Vec<Setup>, FleetError> {
    for (name, _) in &options.faults {
        if !options.classes.values().any(|class| class.faults.contains_key(name)) {
            return Err(FleetError::Fault(name.clone()));
        }
    }
    let clocks = Clocks::of(options);
    let members = options.fleet.as_ref().map_or_else(|| Ok(Vec::new()), Fleet::expand)?;
    let plan = match &options.scenario {
        Some(scenario) => scenario.plan(&members, &options.classes).map_err(FleetError::Scenario)?,
        None => Plan::default(),
    };
    let mut offline_ms: BTreeMap<AgentId, Vec<(i64, i64)>> = BTreeMap::new();
    let mut recorded: BTreeMap<DeviceId, &Arc<Series>> =
        options.recording.iter().map(|series| (series.device, series)).collect();
    let mut agents: BTreeMap<AgentId, (bool, Vec<Equipment>)> = BTreeMap::new();
    let mut seat = |agent: AgentId, recorded: bool, equipment: Equipment| {
        let agent = if options.connections == Connections::Each { equipment.device } else { agent };
        let (is_recorded, seats) = agents.entry(agent).or_default();
        *is_recorded |= recorded;
        seats.push(equipment);
    };
    for member in &members {
        if let Some(series) = recorded.remove(&member.id) {
            seat(member.agent, true, clocks.replayed(series));
            continue;
        }
        let class = options.classes.get(&member.group.class).ok_or_else(|| FleetError::Class {
            prefix: member.group.prefix.clone(),
            class: member.group.class.clone(),
            known: options.classes.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let equipment = clocks.modelled(class, member, options, &plan);
        if let Some(times) = plan.offline.get(&member.agent) {
            let agent = if options.connections == Connections::Each { member.id } else { member.agent };
            let times = times.iter().map(|&(from_s, until_s)| (clocks.at(from_s), clocks.at(until_s)));
            offline_ms.insert(agent, times.collect());
        }
        seat(member.agent, false, equipment);
    }
    for (device, series) in recorded {
        seat(device, true, clocks.replayed(series));
    }
    if agents.is_empty() {
        return Err(FleetError::Nothing);
    }
    let many = agents.len() > 1;
    Ok(agents
        .into_iter()
        .map(|(id, (is_recorded, equipment))| {
            let single = equipment.len() == 1;
            let sleeping = single && equipment.iter().all(|one| one.class.report.sleeping);
            Setup {
                id,
                equipment,
                broker: options.password.as_ref().map_or_else(
                    || options.broker.clone(),
                    |password| Broker {
                        credentials: Some((id.to_string(), password.clone())),
                        ..options.broker.clone()
                    },
                ),
                link: link::Policy {
                    sleeping,
                    window: options.window,
                    spread_ms: if many { 500 } else { 0 },
                    ..link::Policy::default()
                },
                state_dir: options.state_dir.as_ref().map(|folder| folder.join(id.as_str())),
                limits: Limits::default(),
                samples_max: options.samples_max.unwrap_or(SAMPLES_MAX),
                lossless: options.lossless,
                clock: if is_recorded { clocks.recording } else { clocks.models },
                offline_ms: offline_ms.remove(&id).unwrap_or_default(),
                drain: options.drain,
            }
        })
        .collect())
}

/// When event time begins, for models and for the recording.
struct Clocks {
    models: Clock,
    models_from_ms: i64,
    recording: Clock,
    recording_from_ms: i64,
}

impl Clocks {
    fn of(options: &Options) -> Self {
        let span_ms = options.duration.map_or(0, |duration| {
            let event =
                Duration::try_from_secs_f64(duration.as_secs_f64() * options.speed).unwrap_or_default();
            i64::try_from(event.as_millis()).unwrap_or(0)
        });
        let is_live = options.from_ms.is_none() && options.speed == 1.0;
        let models_from_ms = options.from_ms.unwrap_or_else(|| wall_ms() - if is_live { 0 } else { span_ms });
        let first = options.recording.iter().filter_map(|series| series.times_ms().first().copied()).min();
        let shared = options.from_ms.filter(|_| options.recording_speed.is_none());
        let recording_from_ms = shared.or(first).unwrap_or(0);
        let recording_speed = options.recording_speed.unwrap_or(options.speed);
        Self {
            models: match (is_live, options.ahead) {
                (true, _) => Clock::live(),
                (false, true) => Clock::ahead_from(models_from_ms, options.speed),
                (false, false) => Clock::virtual_from(models_from_ms, options.speed),
            },
            models_from_ms,
            recording: Clock::virtual_from(recording_from_ms, recording_speed),
            recording_from_ms,
        }
    }

    fn replayed(&self, series: &Arc<Series>) -> Equipment {
        Equipment {
            device: series.device,
            class: Arc::clone(&series.class),
            driver: Driver::Replay(Player::new(Arc::clone(series), self.recording_from_ms)),
        }
    }

    /// Event time in milliseconds, so many seconds from the start.
    const fn at(&self, from_start_s: i64) -> i64 {
        self.models_from_ms.saturating_add(from_start_s.saturating_mul(1000))
    }

    fn modelled(&self, class: &Arc<Class>, member: &Member<'_>, options: &Options, plan: &Plan) -> Equipment {
        let device = member.id;
        let struck = |(name, share): &&(String, f64)| is_struck(device, options.seed, name, *share);
        let fault = options.faults.iter().filter(struck).find_map(|(name, _)| class.faults.get(name));
        let fault: Option<Fault> = fault.cloned();
        let offline = plan.offline.get(&member.agent).into_iter().flatten();
        let from_ms = match offline.map(|&(from_s, _)| from_s).min() {
            Some(from_s) if from_s < 0 => self.at(from_s),
            _ => self.models_from_ms - past_ms(class, member, options.past),
        };
        let class = Arc::clone(class);
        let mut model =
            Simulated::new(Arc::clone(&class), device, options.seed, fault, from_ms, Late::CatchUp);
        model.stand(member.place.lon, member.place.lat);
        for Strike { fault, from_s, until_s, .. } in plan.strikes.get(&device).into_iter().flatten() {
            model.strike(fault.clone(), self.at(*from_s), self.at(*until_s));
        }
        Equipment { device, class, driver: Driver::Simulated(Box::new(model)) }
    }
}

/// How long before the start a device began. What has no dispersal of its own comes as its agent does: a concentrator asks
/// all of its devices in one round.
fn past_ms(class: &Class, member: &Member<'_>, past: Past) -> i64 {
    let report_ms = class.interval_ms().saturating_mul(i64::from(class.report.samples)).max(1);
    let by = if class.report.dispersal_s > 0 { member.id } else { member.agent };
    let part_ms = i64::from(batch::slot_s(by, u32::try_from(report_ms / 1000).unwrap_or(u32::MAX))) * 1000;
    match past {
        Past::None => 0,
        Past::Part => part_ms,
        Past::Report => {
            // A machine that rests fills its report at its own pace.
            let pace = class.work.as_ref().map_or(1, |work| i64::from(work.rest_every));
            report_ms.saturating_mul(pace) + i64::from(class.report.dispersal_s) * 1000 + part_ms
        }
    }
}
