//! All of it put together, in the order of a message's journey. Configuration and registry have been checked before:
//! what fails here is the machine, not the operator.
//!
//! Start: checkpoint → journal → decided log, alert log → store → sinks → outputs of alerts → lane → intake → page.
//! Intake does not wait for the replay. Stop: intake → journal → lane (with a last checkpoint) → sinks, outputs → page.

mod clock_ticks;
mod configured;
mod steps;

use crate::{
    alerts::deliver::{self, watchdog},
    api::queries::{Answers, Directory, View},
    clock::Clock,
    decide::{LaneError, LaneHandle, Said, formats, published::Publisher},
    record::Entering,
    setup::config::Config,
    sinks, watermark,
};
use hunhe_gateway_core::registry::Registry;
use hunhe_log::{Committer, Intake, Lsn};
use std::{
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use steps::{AlertParts, Alerting, Ground, LaneParts};
use tokio::{sync::mpsc, sync::watch, task::JoinSet};

/// What a caller may set beside the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// The clock of arrivals.
    pub clock: Clock,
}

/// A running gateway.
pub struct Gateway {
    /// Where page and API listen.
    pub address: SocketAddr,
    /// What people and programs ask.
    pub answers: Arc<Answers>,
    journal: Intake<Entering>,
    committer: Committer,
    lane: LaneHandle,
    lane_thread: JoinHandle<Result<(), LaneError>>,
    sinks: Vec<sinks::Running>,
    outputs: Vec<deliver::Handle>,
    watchdog: watchdog::Handle,
    following: JoinHandle<()>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
    fatal: mpsc::UnboundedReceiver<String>,
}

impl Gateway {
    /// Starts everything, step by step in the order of a reading's journey, each with what it needs of those before.
    ///
    /// # Errors
    /// What the machine refused, in words.
    pub async fn start(config: Config, registry: Registry, extras: Extras) -> anyhow::Result<Self> {
        let (ground, ends) = Ground::new(config, registry, extras)?;
        let listener = ground.bind()?;
        let address = listener.local_addr()?;
        let directory = tokio::task::spawn_blocking({
            let registry = Arc::clone(&ground.registry);
            move || Directory::of(&registry)
        });
        let disk = ground.recover()?;
        let store = Arc::new(ground.open_store()?);
        let sinks = ground.start_sinks(&disk, &store)?;
        let mut core = ground.restore_lane(disk.snapshot);
        let alerts = AlertParts { log: disk.alerts, from: disk.from, source_lsn_max: disk.source_lsn_max };
        let alerting = ground.start_alerts(alerts, &core, disk.raised)?;
        let publisher = Publisher::new(&mut core, &ground.registry, Instant::now());
        let view = View::new(Arc::clone(&ground.registry), directory.await?, publisher.published());
        let journal = ground.start_journal(disk.journal)?;
        let watchdog = ground.start_watchdog(&alerting, &journal)?;
        let outgoing = watermark::Outgoing::default();
        let Alerting { log, withdrawn, following, outputs, shown, beats, hub } = alerting;
        let lane = LaneParts {
            core,
            decided: disk.decided,
            checkpoints: disk.checkpoints,
            from: disk.from,
            confirmed: disk.confirmed,
            alerts: log,
            withdrawn,
            publisher,
            outgoing: outgoing.clone(),
            reports: ends.reports,
        };
        let statuses: Vec<_> = sinks.iter().map(sinks::Running::status).collect();
        let lane_thread = ground.start_lane(lane, &journal, statuses.clone())?;
        let mut tasks = JoinSet::new();
        ground.start_sessions(&mut tasks, &journal, outgoing)?;
        let answers = ground.answers(view, shown, &journal, store, statuses);
        ground.start_heartbeats(&mut tasks, &answers, &journal, beats);
        ground.serve(&mut tasks, listener, address, &answers, hub)?;
        Ok(Self {
            address,
            answers,
            journal: journal.intake,
            committer: journal.committer,
            lane: ground.lane,
            lane_thread,
            sinks,
            outputs,
            watchdog,
            following,
            stop: ends.stop,
            tasks,
            fatal: ends.fatal,
        })
    }

    /// Waits for something that ends the run: a failure. Never returns while all is well.
    pub async fn failed(&mut self) -> anyhow::Error {
        let (lane, journal, sinks) = (&self.lane_thread, &self.committer, &self.sinks);
        let (watchdog, following) = (&self.watchdog, &self.following);
        first_failure(&mut self.fatal, &mut self.tasks, || {
            // A database that is away ends no sink, and nobody has asked one to stop.
            let over = [
                ("lane", lane.is_finished()),
                ("journal", journal.is_finished()),
                ("sink", sinks.iter().any(sinks::Running::has_failed)),
                // Without it nobody would see that alerts are not delivered.
                ("alerts-watch", watchdog.is_finished()),
                ("alerts", following.is_finished()),
            ];
            over.into_iter().find_map(|(name, is_over)| is_over.then_some(name))
        })
        .await
    }

    /// Stops in order, with everything journaled decided and in the store.
    ///
    /// # Errors
    /// What could not be brought to its end; a restart takes it up.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.journal.close();
        let threads = tokio::task::spawn_blocking(move || {
            self.watchdog.stop();
            let head = self.committer.join().map_or(Lsn::NONE, |journal| journal.subscribe().head());
            // What a failed write left behind nobody can see, nor wait for. Sinks end with what the journal holds, and before the last checkpoint, which then counts what they did.
            while !self.lane_thread.is_finished() && self.lane.must_be_waited_for(head) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.sinks.iter().for_each(sinks::Running::stop);
            self.sinks.into_iter().for_each(sinks::Running::end);
            // Where the decided log was full the lane reads the rest now, or leaves it in the journal.
            let _ = self.lane.say(Said::Stop);
            let lane = self.lane_thread.join();
            self.outputs.into_iter().for_each(deliver::Handle::stop);
            // It ends with the log, whose writer went with the lane.
            let _ = self.following.join();
            lane
        });
        while self.tasks.join_next().await.is_some() {}
        match threads.await? {
            Ok(ended) => Ok(ended?),
            Err(_) => anyhow::bail!("the lane's thread panicked: see the log"),
        }
    }
}

/// A thread that panics says nothing: how often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

async fn first_failure(
    said: &mut mpsc::UnboundedReceiver<String>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    thread_over: impl Fn() -> Option<&'static str>,
) -> anyhow::Error {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            // What a thread said is the reason; a session that found no journal is what came of it.
            biased;
            Some(words) = said.recv() => return anyhow::anyhow!(words),
            _ = look.tick() => if let Some(name) = thread_over() {
                // It may have said why just before its end.
                let words = said.try_recv().unwrap_or_else(|_| format!("the thread {name} panicked: see the log"));
                return anyhow::anyhow!(words);
            },
            Some(ended) = tasks.join_next() => match (ended, thread_over()) {
                (_, Some(_)) => look.reset_immediately(),
                (Ok(Ok(())), None) => {}
                (Ok(Err(error)), None) => return error,
                (Err(error), None) => return error.into(),
            },
        }
    }
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What is wrong with the registry's files, before anything opens; what ended the run.
pub fn run(config: Config) -> anyhow::Result<()> {
    formats::check(&config.data_dir)?;
    let registry = crate::setup::registry::load(&config)?;
    tracing::info!(devices = registry.devices().len(), agents = registry.agents().len(), "registry read");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_until_signal(config, registry, Extras::default()))
}

async fn run_until_signal(config: Config, registry: Registry, extras: Extras) -> anyhow::Result<()> {
    let mut gateway = Gateway::start(config, registry, extras).await?;
    tracing::info!(address = %gateway.address, "the gateway runs: page and API are there");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let failure = tokio::select! {
        error = gateway.failed() => Some(error),
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    tracing::info!("stopping");
    let stopped = gateway.stop().await;
    match failure {
        Some(error) => Err(error),
        None => stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_ends_the_gateway_and_what_one_said_is_the_reason() {
        let lane = std::thread::spawn(|| panic!("planted"));
        let over = || lane.is_finished().then_some("lane");
        let (say, mut said) = mpsc::unbounded_channel();
        let error = first_failure(&mut said, &mut JoinSet::new(), over).await;
        assert_eq!(error.to_string(), "the thread lane panicked: see the log");
        say.send("the disk is full".to_owned()).unwrap();
        let error = first_failure(&mut said, &mut JoinSet::new(), over).await;
        assert_eq!(error.to_string(), "the disk is full");
    }
}
