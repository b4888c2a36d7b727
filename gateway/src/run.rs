//! All of it put together, in the order of a message's journey. Configuration and registry have been checked before:
//! what fails here is the machine, not the operator.
//!
//! Start: checkpoint → journal → decided log, alert log → store → sinks → outputs of alerts → lane → intake → page.
//! Intake does not wait for the replay. Stop: intake → journal → lane (with a last checkpoint) → sinks, outputs → page.

use crate::{
    alerts::{
        self, AlertLog, Book,
        deliver::{self, watchdog},
        describe::Describer,
    },
    api::{
        self, Api, Limits, live,
        queries::{Alerting, Answers, Directory, View},
    },
    backup,
    clock::Clock,
    decide::{
        CheckpointPolicy, DISCARDED, Driver, LaneError, LaneHandle, OF_RECORD, Said, finish_on_threads,
        formats,
        published::Publisher,
        recover::{Layout, Recovered, bound_cursor, fingerprint},
        sync_on_threads,
    },
    intake::{self, Acknowledger, Role, Settler},
    mqtt::Broker,
    ops::{descriptors::Shares, heartbeat},
    record::Entering,
    setup::{
        config::{Config, Period},
        places::Places,
    },
    sinks::{
        embedded,
        influx::{self, NotKept, Report, dead_letters},
        status::SinkStatus,
    },
    watermark,
};
use anyhow::Context;
use bytes::Bytes;
use hunhe_gateway_core::{
    lane::{Lane, Policy},
    registry::Registry,
    view::REMOVED_MAX,
};
use hunhe_log::{Bounds, Committer, Intake, Lsn, Priority};
use hunhe_store::Store;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, sync::watch, task::JoinSet};

/// What a caller may set beside the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// The clock of arrivals.
    pub clock: Clock,
    /// See [`Policy::planted_drop`].
    pub planted_drop: Option<u64>,
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
    embedded: embedded::Handle,
    influx: Vec<influx::Handle>,
    outputs: Vec<deliver::Handle>,
    watchdog: watchdog::Handle,
    following: JoinHandle<()>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
    fatal: mpsc::UnboundedReceiver<String>,
}

/// How often the store's memory goes to disk.
const STORE_CHECKPOINT: Duration = Duration::from_secs(300);
/// How often what is old goes from the store.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

impl Gateway {
    /// Starts everything.
    ///
    /// # Errors
    /// What the machine refused, in words.
    pub async fn start(config: Config, registry: Registry, extras: Extras) -> anyhow::Result<Self> {
        let files = Shares::of_process(config.http.connections_max)?;
        let listener = api::bind(config.http.listen).with_context(|| {
            format!("cannot listen on {}: set http.listen to a free address", config.http.listen)
        })?;
        let address = listener.local_addr()?;
        let registry = Arc::new(registry);
        let directory = tokio::task::spawn_blocking({
            let registry = Arc::clone(&registry);
            move || Directory::of(&registry)
        });
        let (stop, stopped) = watch::channel(false);
        let (fatal_said, fatal) = mpsc::unbounded_channel();
        let (lane, said) = LaneHandle::new();

        let policy = policy(&config, extras);
        let rules = fingerprint(&registry, &policy);
        let disk = Recovered::open(&hunhe_disk::real(), &Layout::of(&config), rules)?;
        lane.progress().unreadable.fetch_add(disk.gone, Ordering::Relaxed);
        // Behind the logs' locks: it is no other gateway's.
        if let Err(error) = backup::clear(&config.data_dir) {
            tracing::warn!(%error, "what a backup that was cut short has left cannot be removed");
        }
        let confirmed = disk.confirmed.clone();
        let marks = Marks::of(&confirmed, disk.cause_max);
        let store = Arc::new(open_store(&config, files.tables)?);
        let decided_tail = disk.decided.subscribe();
        let embedded = embedded::start(
            embedded::Options {
                samples: config.embedded.enabled,
                of_record: config.sink_of_record == embedded::NAME,
                confirmed: confirmed.get(embedded::NAME).copied().unwrap_or(0),
                confirmed_of_record: marks.of_record,
                cause_max: marks.cause_max,
                replay_to: disk.journal.head().0,
                discarded: confirmed.get(DISCARDED).copied().unwrap_or(0),
                checkpoint_every: STORE_CHECKPOINT,
                retain_every: RETAIN_EVERY,
                quarantine_age_ms: config.quarantine.limit_age.as_ms(),
                clock: extras.clock,
            },
            Arc::clone(&store),
            Arc::clone(&registry),
            decided_tail.clone(),
            lane.clone(),
        )?;
        let mut influx = Vec::new();
        for database in &config.influx {
            let options = influx_options(database, &config, marks)?;
            let of_record = options.of_record;
            let reports =
                influx_reports(&database.name, of_record, Arc::clone(&store), lane.clone(), extras.clock);
            influx.push(influx::start(options, Arc::clone(&registry), decided_tail.clone(), reports)?);
        }
        let statuses: Vec<Arc<SinkStatus>> = std::iter::once(Arc::clone(&embedded.status))
            .chain(influx.iter().map(influx::Handle::status))
            .collect();

        let mut core = Lane::new(Arc::clone(&registry), policy);
        if let Some(snapshot) = disk.snapshot {
            let unregistered = core.restore(snapshot);
            if unregistered > 0 {
                tracing::warn!(
                    devices = unregistered,
                    kept_max = REMOVED_MAX,
                    "devices of the checkpoint are not in the registry: their ledger is kept for when they come back"
                );
            }
            let forgotten = unregistered.saturating_sub(REMOVED_MAX);
            if forgotten > 0 {
                tracing::error!(
                    devices = forgotten,
                    "too many devices have left the registry: the ledger of these is forgotten"
                );
            }
        }
        let broker = broker(&config)?;
        let places = Arc::new(Places::read(&config));
        let (alert_bell, alert_bell_heard) = watch::channel(disk.alerts.head());
        let source = deliver::Source {
            tail: disk.alerts.subscribe(),
            bell: alert_bell_heard,
            from_cause: disk.from.0,
            cause_max: disk.cause_max,
            data_dir: config.data_dir.clone(),
        };
        let limits = live::HubLimits {
            clients: usize::try_from(config.http.sse_clients_max)?,
            ..live::HubLimits::default()
        };
        let hub = live::Hub::new(limits, Clock::system().now_ms());
        let book = Arc::new(Book::default());
        let known = core.open_alerts().collect();
        let figures = Arc::<alerts::log::Figures>::default();
        let (following, mut withdrawn) = alerts::follow(
            source.tail.clone(),
            Arc::clone(&book),
            Arc::clone(&hub),
            &known,
            Arc::clone(&figures),
        )?;
        let (beats, beats_heard) = watch::channel(Bytes::new());
        let outputs = outputs(&config, &broker, &source, &beats_heard)?;
        let output_statuses: Vec<_> = outputs.iter().map(deliver::Handle::status).collect();
        let alert_log = AlertLog::new(
            disk.alerts,
            Describer::new(Arc::clone(&registry), Arc::clone(&places)),
            Arc::clone(&figures),
            alert_bell,
            Box::new({
                let statuses = output_statuses.clone();
                let tail = source.tail.clone();
                move || statuses.iter().map(|status| status.passed()).min().unwrap_or_else(|| tail.head())
            }),
        );
        let publisher = Publisher::new(&mut core, &registry, Instant::now());
        let view = View::new(Arc::clone(&registry), directory.await?, publisher.published());
        let recorded = Arc::clone(alert_log.stalled_outputs());
        recorded.take_over(&mut withdrawn);
        withdrawn.extend(disk.raised);
        let acknowledger = Acknowledger::default();
        let journal_tail = disk.journal.subscribe();
        let fatal = fatal;
        let settler = Settler {
            acknowledger: acknowledger.clone(),
            wake: Box::new({
                let lane = lane.clone();
                move || lane.wake()
            }),
            fatal: Box::new({
                let said = fatal_said.clone();
                // The receiver lives as long as the gateway.
                move |words| drop(said.send(words))
            }),
        };
        let bounds = Bounds::default();
        let (committer, journal) = Committer::start(disk.journal, bounds, settler)?;
        let watchdog = watchdog::start(watchdog::Options {
            limit: Duration::from_secs(config.alerts.stalled_after_s.into()),
            outputs: output_statuses.clone(),
            recorded,
            journal: journal.clone(),
            clock: extras.clock,
        })?;
        let outgoing = watermark::Outgoing::default();
        let driver = Driver {
            lane: core,
            registry: Arc::clone(&registry),
            journal: journal_tail.clone(),
            decided: disk.decided,
            decided_limit_bytes: config.decided.limit_bytes,
            alerts: alert_log,
            withdrawn,
            rules,
            publisher,
            checkpoints: disk.checkpoints,
            policy: CheckpointPolicy {
                every: Duration::from_secs(config.checkpoint.every_s.into()),
                every_journal_bytes: config.checkpoint.every_journal_bytes,
            },
            finish: finish_on_threads(lane.clone()),
            sync: sync_on_threads(lane.clone()),
            from: disk.from,
            confirmed,
            of_record: config.sink_of_record.clone(),
            release: Box::new({
                let journal = journal.clone();
                move |lsn| journal.release_through(lsn)
            }),
            decided_through: Box::new({
                let journal = journal.clone();
                move |lsn, waiting| journal.decided(lsn, waiting)
            }),
            sinks_done: Box::new({
                let statuses = statuses.clone();
                move || statuses.iter().map(|status| status.cursor().hint).min().unwrap_or(Lsn::NONE)
            }),
            outgoing: outgoing.clone(),
            said,
            handle: lane.clone(),
        };
        let lane_thread = std::thread::Builder::new().name("lane".into()).spawn({
            let said = fatal_said;
            move || {
                let ended = driver.run();
                if let Err(error) = &ended {
                    let chain =
                        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
                    let words: Vec<String> = chain.map(ToString::to_string).collect();
                    let words = format!("the lane ended: {}", words.join(": "));
                    drop(said.send(words));
                }
                ended
            }
        })?;

        let mut tasks = JoinSet::new();
        for role in Role::ALL {
            let session = intake::run_session(
                broker.clone(),
                role,
                journal.clone(),
                acknowledger.clone(),
                intake::Shares::new(Arc::clone(&registry), role == Role::Alarm),
                extras.clock,
                stopped.clone(),
            );
            tasks.spawn(async move { Ok(session.await?) });
        }
        let watermarks = watermark::run(broker, outgoing, stopped.clone());
        tasks.spawn(async move {
            watermarks.await;
            Ok(())
        });
        tasks.spawn(tick(journal.clone(), acknowledger.clone(), extras.clock, stopped.clone()));

        let beat_of = (output_statuses.clone(), journal_tail.clone());
        let answers = Arc::new(Answers::new(
            view,
            places,
            Alerting { book, figures, outputs: output_statuses },
            extras.clock,
            lane.clone(),
            journal.clone(),
            journal_tail,
            store,
            statuses,
            acknowledger,
            backup::Source::of(&config),
        ));
        let backend: Arc<dyn api::backend::Backend> = Arc::clone(&answers) as _;
        tasks.spawn({
            let (outputs, journal) = beat_of;
            let backend = Arc::clone(&backend);
            let source =
                heartbeat::Source { backend, outputs, lane: lane.clone(), journal, clock: extras.clock };
            let stopped = stopped.clone();
            async move {
                heartbeat::run(source, beats, stopped).await;
                Ok(())
            }
        });
        if let Some(url) = config.alerts.heartbeat_url.clone() {
            tasks.spawn(heartbeat::post(url, beats_heard, stopped.clone()));
        }
        let api = page_and_api(&config, &files, address, Arc::clone(&backend), Arc::clone(&hub))?;
        tasks.spawn({
            let (hub, backend) = (Arc::clone(&hub), backend);
            async move {
                live::drive(hub, backend).await;
                Ok(())
            }
        });
        tasks.spawn({
            let (answers, hub) = (Arc::clone(&answers), hub);
            let stopped = stopped.clone();
            async move {
                answers.publish_live(hub, stopped).await;
                Ok(())
            }
        });
        let mut stopped = stopped;
        tasks.spawn(async move {
            let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
            api::serve(listener, api, shutdown).await;
            Ok(())
        });
        Ok(Self {
            address,
            answers,
            journal,
            committer,
            lane,
            lane_thread,
            embedded,
            influx,
            outputs,
            watchdog,
            following,
            stop,
            tasks,
            fatal,
        })
    }

    /// Waits for something that ends the run: a failure. Never returns while all is well.
    pub async fn failed(&mut self) -> anyhow::Error {
        let (lane, journal, embedded, influx) =
            (&self.lane_thread, &self.committer, &self.embedded, &self.influx);
        let (watchdog, following) = (&self.watchdog, &self.following);
        first_failure(&mut self.fatal, &mut self.tasks, || {
            // A database that is away ends no sink, and nobody has asked one to stop.
            let over = [
                ("lane", lane.is_finished()),
                ("journal", journal.is_finished()),
                ("embedded", embedded.has_panicked()),
                ("sink", influx.iter().any(influx::Handle::is_finished)),
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
            self.embedded.stop();
            for sink in self.influx {
                sink.stop();
                let _ = sink.join();
            }
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

/// Between two ticks, and what makes the gateway doubt that it was awake.
const TICK: Duration = Duration::from_secs(1);
const OVERSLEPT: Duration = Duration::from_secs(5);

/// The clock goes into the journal, so that a replay sees time pass as the lane did. How long the gateway listened is told by
/// a clock that nobody sets.
async fn tick(
    journal: Intake<Entering>,
    sessions: Acknowledger,
    clock: Clock,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(TICK);
    let mut before = Instant::now();
    let mut listened = Duration::ZERO;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let passed = before.elapsed();
        before = Instant::now();
        tell(&mut listened, passed, sessions.all_ready(), |listened| {
            let tick = Entering::tick(clock.now_ms(), clock.event_ms(listened));
            journal.try_push(Priority::Normal, tick).is_ok()
        });
    }
}

/// What a tick that finds no room had to say, the next one says.
fn tell(listened: &mut Duration, passed: Duration, ready: bool, has_room: impl FnOnce(Duration) -> bool) {
    if passed < OVERSLEPT && ready {
        *listened += passed;
    }
    if has_room(*listened) {
        *listened = Duration::ZERO;
    }
}

/// The broker, and one output for each webhook.
fn outputs(
    config: &Config,
    broker: &Broker,
    source: &deliver::Source,
    beats: &watch::Receiver<Bytes>,
) -> anyhow::Result<Vec<deliver::Handle>> {
    let mut outputs = Vec::new();
    if config.alerts.mqtt {
        outputs.push(deliver::mqtt::start(broker.clone(), source.clone(), beats.clone())?);
    }
    for webhook in &config.webhook {
        outputs.push(deliver::webhook::start(webhook, source.clone())?);
    }
    Ok(outputs)
}

fn broker(config: &Config) -> anyhow::Result<Broker> {
    Ok(Broker {
        host: config.broker.host.clone(),
        port: config.broker.port,
        client_id: config.broker.client_id.clone(),
        credentials: config.broker.username.clone().map(|name| {
            let password = config.broker.password.as_ref().map_or("", |secret| secret.expose());
            (name, password.to_owned())
        }),
        keep_alive_s: config.broker.keep_alive_s,
        packet_bytes_max: usize::try_from(config.broker.packet_bytes_max)?,
    })
}

fn page_and_api(
    config: &Config,
    files: &Shares,
    address: SocketAddr,
    backend: Arc<dyn api::backend::Backend>,
    hub: Arc<live::Hub>,
) -> anyhow::Result<Api> {
    let connections = api::ConnectionLimits {
        all: files.connections,
        peer: usize::try_from(config.http.connections_per_peer_max)?,
        ..api::ConnectionLimits::default()
    };
    let limits = Limits { connections, ..Limits::default() };
    Ok(Api::new(backend, hub, limits, api::Hosts::new(address, &config.http.hosts)))
}

/// What decisions follow from beside registry and messages.
fn policy(config: &Config, extras: Extras) -> Policy {
    let database = config.influx.iter().find(|influx| influx.name == config.sink_of_record);
    let retention = match database {
        Some(database) => database.retention,
        None => Some(config.embedded.retention),
    };
    Policy {
        accept_past_ms: config.validate.accept_past.as_ms(),
        retention_ms: retention.map_or(0, Period::as_ms),
        planted_drop: extras.planted_drop,
    }
}

fn open_store(config: &Config, tables: usize) -> anyhow::Result<Store> {
    let mut options = hunhe_store::Options::new(config.data_dir.join("store"));
    options.retention_days = u32::try_from(config.embedded.retention.as_s().div_ceil(86_400))?;
    options.limit_bytes = config.embedded.limit_bytes;
    options.open_tables = tables;
    options.quarantine = hunhe_store::Limits {
        records: usize::try_from(config.quarantine.limit_records)?,
        bytes: config.quarantine.limit_bytes,
    };
    Ok(Store::open(options)?)
}

/// What was counted before this start, as journal records.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// Confirmations of stored samples up to here are in the ledger, whichever sink made them.
    of_record: u64,
    /// See [`Recovered::cause_max`].
    cause_max: u64,
}

impl Marks {
    fn of(confirmed: &BTreeMap<String, u64>, cause_max: u64) -> Self {
        Self { of_record: confirmed.get(OF_RECORD).copied().unwrap_or(0), cause_max }
    }
}

fn influx_options(
    database: &crate::setup::config::Influx,
    config: &Config,
    marks: Marks,
) -> anyhow::Result<influx::Options> {
    let cursor = config.data_dir.join(format!("{}.cursor", database.name));
    let of_record = config.sink_of_record == database.name;
    let counted = if of_record { marks.of_record } else { u64::MAX };
    bound_cursor(&*hunhe_disk::real(), &cursor, counted.min(marks.cause_max))?;
    let mut options = influx::Options::of(database, cursor);
    options.of_record = of_record;
    options.confirmed = marks.of_record;
    Ok(options)
}

fn influx_reports(
    name: &str,
    of_record: bool,
    store: Arc<Store>,
    lane: LaneHandle,
    clock: Clock,
) -> influx::Reports {
    let sink: Arc<str> = name.into();
    Box::new(move |report| match report {
        Report::Confirmed(rows) => {
            // A batch of windows alone confirms nothing, and must not take the mark back.
            if let Some(cause) = rows.iter().map(|row| row.cause).max() {
                // The lane ends first only when all of us end.
                let _ = lane.say(Said::Confirmed { sink: Arc::clone(&sink), cause, rows });
            }
            Ok(())
        }
        Report::DeadLetters(letters) => {
            let arrival_ms = clock.now_ms();
            dead_letters::keep(&store, &sink, of_record, &letters, arrival_ms)
                .map_err(|error| NotKept(format!("{:#}", anyhow::Error::from(error))))
        }
    })
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What is wrong with the registry's files, before anything opens; what ended the run.
pub fn run(config: Config) -> anyhow::Result<()> {
    formats::check(&config.data_dir)?;
    let registry = crate::setup::registry::load(&config)?;
    tracing::info!(devices = registry.devices().len(), agents = registry.agents().len(), "registry read");
    let extras = Extras { planted_drop: planted_drop()?, ..Extras::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_until_signal(config, registry, extras))
}

/// A test of the ledger may ask for a sample to vanish. Only a program built for tests listens.
fn planted_drop() -> anyhow::Result<Option<u64>> {
    if !cfg!(feature = "planted") {
        return Ok(None);
    }
    let Ok(nth) = std::env::var("PLANT_DROP") else { return Ok(None) };
    Ok(Some(nth.parse().context("PLANT_DROP is the number of the sample to drop")?))
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

    #[test]
    fn what_was_heard_and_what_was_not_outlasts_a_tick_without_room() {
        let (mut listened, mut told) = (Duration::ZERO, Vec::new());
        for (passed_s, ready, room) in
            [(1, true, false), (1, false, false), (9, true, false), (1, true, true), (1, false, true)]
        {
            tell(&mut listened, Duration::from_secs(passed_s), ready, |listened| {
                told.extend(room.then_some(listened.as_secs()));
                room
            });
        }
        assert_eq!(told, [2, 0], "neither the second that was not ready nor the nine overslept");
    }

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
