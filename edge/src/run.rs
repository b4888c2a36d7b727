//! One agent at work: the thread of turns around [`Agent`], with real clocks, a real disk and a real connection.
//!
//! [`agent`] decides what a turn does, and in which order. A failed write ends the agent: what was not synced was not
//! published.

pub mod agent;
mod connection;
mod watch;

use crate::{
    clock::Clock,
    drivers::{Driver, Gone},
    formats::{self, FormatError},
    mqtt::{Broker, Inbox, Mqtt},
    spool::{Entry, Limits, Spool, SpoolError, draw_boot},
    stats::{DeviceStats, Progress},
};
use agent::{Agent, Policy, Port, Step};
use hunhe_edge_core::{batch, link};
use hunhe_proto::{
    class::{Class, Reporting, Text},
    id::{AgentId, DeviceId},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch as signal;

/// The longest rest between two turns, where nothing arrives.
const REST_MS_MAX: u64 = 250;
/// The same for an agent of one device: a city of them must not keep a machine busy.
const REST_MS_MAX_SINGLE: u64 = 1_000;

/// A device of an agent.
#[derive(Debug)]
pub struct Equipment {
    /// Its id.
    pub device: DeviceId,
    /// Its class.
    pub class: Arc<Class>,
    /// What reads it.
    pub driver: Box<dyn Driver>,
    /// How its samples become reports.
    pub batch: batch::Policy,
}

impl Equipment {
    /// A device that reports as its class says.
    #[must_use]
    pub fn new(device: DeviceId, class: Arc<Class>, driver: Box<dyn Driver>) -> Self {
        let batch = batch::Policy::of(&class, device);
        Self { device, class, driver, batch }
    }

    /// That of a device which is no longer configured: its class only lets it report what its outbox gave up.
    pub(crate) fn gone(device: DeviceId) -> Self {
        let report = Reporting {
            samples: 1,
            dispersal_s: 0,
            sleeping: false,
            silent_after_s: 0,
            bytes_max: 0,
            keep_s: 0,
            on_alarm: None,
        };
        let class = Class {
            name: String::new(),
            version: 0,
            title: Text { zh: String::new(), en: String::new() },
            time_unit_ms: 1_000,
            interval: 1,
            report,
            household: false,
            channels: Vec::new(),
            faults: BTreeMap::new(),
            work: None,
        };
        Self::new(device, Arc::new(class), Box::new(Gone))
    }
}

/// All that an agent needs.
#[derive(Debug)]
pub struct Setup {
    /// Its id.
    pub id: AgentId,
    /// Its devices.
    pub equipment: Vec<Equipment>,
    /// Where it publishes.
    pub broker: Broker,
    /// How it keeps its connection.
    pub link: link::Policy,
    /// The folder of its outbox; without one it keeps nothing through a restart.
    pub state_dir: Option<PathBuf>,
    /// What the outbox may take on disk.
    pub limits: Limits,
    /// Samples held per device; beyond it the oldest are declared lost.
    pub samples_max: u64,
    /// A full outbox makes the drivers wait instead: for models and recordings, which can.
    pub lossless: bool,
    /// Its clocks.
    pub clock: Clock,
    /// After a stop: how long to wait until the watermark has passed everything.
    pub drain: Duration,
}

/// An agent that had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The outbox failed.
    #[error("agent {agent}: outbox")]
    Spool {
        /// Which agent.
        agent: AgentId,
        /// What failed.
        source: SpoolError,
    },
    /// The outbox is a newer agent's.
    #[error("agent {agent}: outbox")]
    Format {
        /// Which agent.
        agent: AgentId,
        /// Why.
        source: FormatError,
    },
    /// The MQTT library refuses the options.
    #[error("agent {agent}: connection")]
    Connection {
        /// Which agent.
        agent: AgentId,
        /// Why.
        source: rumqttc::ClientBuildError,
    },
}

/// A port that wakes its agent when something comes.
pub trait Wakes: Port<Error = rumqttc::ClientBuildError> {
    /// What came on the connection there is.
    fn inbox(&self) -> Option<Arc<Inbox>>;
}

/// Runs an agent over MQTT until `stop` becomes true or its recordings end, and then until the outbox has drained or
/// the drain time is over. Returns what each device did.
///
/// # Errors
/// [`RunError`]: nothing was published that was not durable.
pub async fn run(
    setup: Setup,
    stop: signal::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Vec<DeviceStats>, RunError> {
    let port =
        |setup: &Setup| Mqtt::new(setup.broker.clone(), setup.id, setup.link.window, setup.link.sleeping);
    run_over(setup, port, stop, progress).await
}

/// [`run`] over another port, made once the outbox is open and the clock stands.
///
/// # Errors
/// As [`run`].
pub async fn run_over<P: Wakes>(
    setup: Setup,
    port: impl FnOnce(&Setup) -> P,
    mut stop: signal::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Vec<DeviceStats>, RunError> {
    let drain = setup.drain;
    let mut running = Running::open(setup, port, progress)?;
    let single = running.agent.devices().len() == 1;
    let mut stopping: Option<Instant> = None;
    loop {
        let more = running.turn().await?;
        if stopping.is_none() && (*stop.borrow() || running.agent.is_exhausted()) {
            stopping = Some(Instant::now());
            running.agent.finish();
            continue;
        }
        if let Some(since) = stopping
            && (running.agent.is_settled() || since.elapsed() >= drain)
        {
            break;
        }
        if more {
            tokio::task::yield_now().await;
        } else {
            let inbox = running.agent.port().inbox();
            let rest = rest(&running.clock, running.agent.due_ms(), single && stopping.is_none());
            tokio::select! {
                () = async { match &inbox { Some(inbox) => inbox.arrived().await, None => std::future::pending().await } } => {}
                () = tokio::time::sleep(rest) => {}
                _ = stop.changed(), if stopping.is_none() => {}
            }
        }
    }
    running.leave().await;
    Ok(running.agent.into_stats())
}

/// An agent, and what its turns need beside it.
struct Running<P> {
    id: AgentId,
    clock: Clock,
    state_dir: PathBuf,
    agent: Agent<P>,
}

impl<P: Wakes> Running<P> {
    fn open(
        mut setup: Setup,
        port: impl FnOnce(&Setup) -> P,
        progress: Arc<Progress>,
    ) -> Result<Self, RunError> {
        let id = setup.id;
        let equipment = std::mem::take(&mut setup.equipment);
        let entry = |equipment: &Equipment| Entry::of(equipment.device, &equipment.class);
        let entries: Vec<_> = equipment.iter().map(entry).collect();
        if let Some(folder) = &setup.state_dir {
            formats::refuse_newer(folder).map_err(|source| RunError::Format { agent: id, source })?;
        }
        let (spool, recovered) = match &setup.state_dir {
            Some(folder) => Spool::open(hunhe_disk::real(), folder, setup.limits, &entries, draw_boot)
                .map_err(|source| RunError::Spool { agent: id, source })?,
            None => Spool::in_memory(&entries),
        };
        if let Some(newest_ms) = recovered.iter().filter_map(|device| device.newest_ms).max() {
            setup.clock = setup.clock.not_before(newest_ms);
        }
        let clock = setup.clock;
        let policy = Policy {
            id,
            link: setup.link,
            samples_max: setup.samples_max,
            lossless: setup.lossless,
            live: clock.is_live(),
        };
        let agent = Agent::new(policy, equipment, (spool, recovered), port(&setup), clock.now(), progress);
        Ok(Self { id, clock, state_dir: setup.state_dir.unwrap_or_default(), agent })
    }

    /// A whole turn, with its commits; answers whether more samples are due at once.
    async fn turn(&mut self) -> Result<bool, RunError> {
        loop {
            let step = self.agent.step(self.clock.now());
            match step.map_err(|source| RunError::Connection { agent: self.id, source })? {
                Step::Commit => self.commit().await?,
                Step::Rest { more } => return Ok(more),
            }
        }
    }

    async fn commit(&mut self) -> Result<(), RunError> {
        let Some((mut spool, held_from)) = self.agent.lend_spool() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || {
            let result = spool.commit(&held_from);
            (spool, result)
        });
        let agent = self.id;
        let failed = |source| RunError::Spool { agent, source };
        match done.await {
            Ok((spool, result)) => {
                self.agent.return_spool(spool);
                result.map_err(failed)
            }
            Err(error) => Err(failed(SpoolError::Io {
                path: self.state_dir.clone(),
                action: "commit",
                source: std::io::Error::other(error),
            })),
        }
    }

    /// Says good-bye where a connection stands, and waits a moment for the broker to acknowledge it.
    async fn leave(&mut self) {
        if !self.agent.say_goodbye() {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && !self.agent.is_answered() {
            let Some(inbox) = self.agent.port().inbox() else { return };
            tokio::select! {
                () = inbox.arrived() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            self.agent.hear(self.clock.now());
        }
        self.agent.port_mut().close();
    }
}

/// Until the next sample, or a while.
fn rest(clock: &Clock, due_ms: i64, single: bool) -> Duration {
    let bound = Duration::from_millis(if single { REST_MS_MAX_SINGLE } else { REST_MS_MAX });
    clock.until(due_ms).clamp(Duration::from_millis(10), bound)
}
