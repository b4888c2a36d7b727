//! The steps of a start, each with what it needs of those before it. None decides anything: rooms are handed their parts.

use super::{
    Extras, clock_ticks,
    configured::{broker, policy, rollups, store_options},
};
use crate::{
    alerts::{
        self, AlertList, AlertLog, ById,
        deliver::{self, status::OutputStatus, watchdog},
        describe::Describer,
    },
    api::{
        self, Api, Limits, live,
        queries::{self, Answers, View},
    },
    backup,
    clock::Clock,
    decide::{
        CheckpointPolicy, DISCARDED, Driver, LaneError, LaneHandle, OF_RECORD, Said,
        checkpoint::Checkpoints,
        finish_on_threads,
        published::Publisher,
        recover::{Layout, Recovered, fingerprint},
        sync_on_threads,
    },
    intake::{self, Acknowledger, Role, Settler},
    mqtt::Broker,
    ops::{descriptors::Shares, heartbeat},
    record::Entering,
    setup::{config::Config, places::Places},
    sinks::{self, Counted, Site, status::SinkStatus},
    watermark,
};
use anyhow::Context;
use bytes::Bytes;
use hunhe_gateway_core::{
    lane::{Lane, Policy},
    registry::Registry,
    view::{REMOVED_MAX, Snapshot},
};
use hunhe_log::{Bounds, Committer, Intake, Lsn, Tail, Writer};
use hunhe_store::Store;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, sync::watch, task::JoinSet};

/// What every step stands on.
pub(super) struct Ground {
    pub(super) config: Config,
    pub(super) registry: Arc<Registry>,
    pub(super) lane: LaneHandle,
    extras: Extras,
    policy: Policy,
    /// What alerts follow from beside messages.
    rules: u32,
    broker: Broker,
    files: Shares,
    places: Arc<Places>,
    fatal: mpsc::UnboundedSender<String>,
    stopped: watch::Receiver<bool>,
}

/// The other ends of the ground's channels.
pub(super) struct Ends {
    pub(super) stop: watch::Sender<bool>,
    pub(super) fatal: mpsc::UnboundedReceiver<String>,
    pub(super) reports: Receiver<Said>,
}

/// What of the alert log a start needs.
pub(super) struct AlertParts {
    pub(super) log: Writer,
    pub(super) from: Lsn,
    pub(super) source_lsn_max: u64,
}

/// Alerts on their way: the log's writing end, and all that follows it.
pub(super) struct Alerting {
    pub(super) log: AlertLog,
    pub(super) withdrawn: ById,
    pub(super) following: JoinHandle<()>,
    pub(super) outputs: Vec<deliver::Handle>,
    /// What queries show of it.
    pub(super) shown: queries::Alerting,
    /// Heartbeats: where they are put, and where they are read.
    pub(super) beats: (watch::Sender<Bytes>, watch::Receiver<Bytes>),
    pub(super) hub: Arc<live::Hub>,
}

/// The journal at work.
pub(super) struct Journal {
    pub(super) intake: Intake<Entering>,
    pub(super) committer: Committer,
    tail: Tail,
    acknowledger: Acknowledger,
}

/// What the lane's thread works with, beside the ground.
pub(super) struct LaneParts {
    pub(super) core: Lane,
    pub(super) decided: Writer,
    pub(super) checkpoints: Checkpoints,
    pub(super) from: Lsn,
    pub(super) confirmed: BTreeMap<String, u64>,
    pub(super) alerts: AlertLog,
    pub(super) withdrawn: ById,
    pub(super) publisher: Publisher,
    pub(super) outgoing: watermark::Outgoing,
    pub(super) reports: Receiver<Said>,
}

impl Ground {
    pub(super) fn new(config: Config, registry: Registry, extras: Extras) -> anyhow::Result<(Self, Ends)> {
        let files = Shares::of_process(config.http.connections_max)?;
        let policy = policy(&config)?;
        let (stop, stopped) = watch::channel(false);
        let (fatal, fatal_reports) = mpsc::unbounded_channel();
        let (lane, reports) = LaneHandle::new();
        let ground = Self {
            rules: fingerprint(&registry, &policy),
            registry: Arc::new(registry),
            broker: broker(&config)?,
            places: Arc::new(Places::read(&config)),
            config,
            lane,
            extras,
            policy,
            files,
            fatal,
            stopped,
        };
        Ok((ground, Ends { stop, fatal: fatal_reports, reports }))
    }

    pub(super) fn bind(&self) -> anyhow::Result<TcpListener> {
        let listen = self.config.http.listen;
        api::bind(listen)
            .with_context(|| format!("cannot listen on {listen}: set http.listen to a free address"))
    }

    pub(super) fn recover(&self) -> anyhow::Result<Recovered> {
        let disk = Recovered::open(&hunhe_disk::real(), &Layout::of(&self.config), self.rules)?;
        self.lane.progress().unreadable.fetch_add(disk.gone, Ordering::Relaxed);
        // Behind the logs' locks: it is no other gateway's.
        if let Err(error) = backup::clear(&self.config.data_dir) {
            tracing::warn!(%error, "what a backup that was cut short has left cannot be removed");
        }
        Ok(disk)
    }

    pub(super) fn open_store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(store_options(&self.config, self.files.tables)?)?)
    }

    pub(super) fn start_sinks(
        &self,
        disk: &Recovered,
        store: &Arc<Store>,
    ) -> anyhow::Result<Vec<sinks::Running>> {
        let counted = |name: &str| disk.confirmed.get(name).copied().unwrap_or(0);
        sinks::start_all(&Site {
            config: &self.config,
            registry: &self.registry,
            store,
            decided: disk.decided.subscribe(),
            ledger: Arc::new(self.lane.clone()),
            counted: Counted {
                of_record: counted(OF_RECORD),
                discarded: counted(DISCARDED),
                by_sink: disk.confirmed.clone(),
                source_lsn_max: disk.source_lsn_max,
            },
            replay_to: disk.journal.head().0,
            broker: &self.broker,
            clock: self.extras.clock,
        })
    }

    pub(super) fn restore_lane(&self, snapshot: Option<Snapshot<'static>>) -> Lane {
        let mut core = Lane::new(Arc::clone(&self.registry), self.policy);
        let unregistered = snapshot.map_or(0, |snapshot| core.restore(snapshot));
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
        core
    }

    pub(super) fn start_alerts(
        &self,
        parts: AlertParts,
        core: &Lane,
        raised: ById,
    ) -> anyhow::Result<Alerting> {
        let (newest_sender, newest) = watch::channel(parts.log.head());
        let source = deliver::Source {
            tail: parts.log.subscribe(),
            newest,
            from_source_lsn: parts.from.0,
            source_lsn_max: parts.source_lsn_max,
            data_dir: self.config.data_dir.clone(),
            encode: api::types::encode_alert,
        };
        let clients = usize::try_from(self.config.http.sse_clients_max)?;
        let hub = live::Hub::new(
            live::HubLimits { clients, ..live::HubLimits::default() },
            Clock::system().now_ms(),
        );
        let (list, figures) = (Arc::<AlertList>::default(), Arc::<alerts::log::Figures>::default());
        let known = core.open_alerts().collect();
        let publish = Box::new({
            let hub = Arc::clone(&hub);
            move |alert: &alerts::Alert| hub.alert(&alert.into())
        });
        let (following, mut withdrawn) =
            alerts::follow(source.tail.clone(), Arc::clone(&list), publish, &known, Arc::clone(&figures))?;
        let beats = watch::channel(Bytes::new());
        let outputs = self.start_outputs(&source, &beats.1)?;
        let statuses: Vec<Arc<OutputStatus>> = outputs.iter().map(deliver::Handle::status).collect();
        let log = AlertLog::new(
            parts.log,
            Describer::new(Arc::clone(&self.registry), Arc::clone(&self.places)),
            Arc::clone(&figures),
            newest_sender,
            Box::new({
                let (statuses, tail) = (statuses.clone(), source.tail);
                move || statuses.iter().map(|status| status.passed()).min().unwrap_or_else(|| tail.head())
            }),
        );
        log.stalled_outputs().take_over(&mut withdrawn);
        withdrawn.extend(raised);
        let shown = queries::Alerting { list, figures, outputs: statuses };
        Ok(Alerting { log, withdrawn, following, outputs, shown, beats, hub })
    }

    /// The broker, and one output for each webhook.
    fn start_outputs(
        &self,
        source: &deliver::Source,
        beats: &watch::Receiver<Bytes>,
    ) -> anyhow::Result<Vec<deliver::Handle>> {
        let mut outputs = Vec::new();
        if self.config.alerts.mqtt {
            outputs.push(deliver::mqtt::start(self.broker.clone(), source.clone(), beats.clone())?);
        }
        for webhook in &self.config.webhook {
            outputs.push(deliver::webhook::start(webhook, source.clone())?);
        }
        Ok(outputs)
    }

    pub(super) fn start_journal(&self, journal: Writer) -> anyhow::Result<Journal> {
        let acknowledger = Acknowledger::default();
        let tail = journal.subscribe();
        let settler = Settler {
            acknowledger: acknowledger.clone(),
            wake: Box::new({
                let lane = self.lane.clone();
                move || lane.wake()
            }),
            fatal: Box::new({
                let fatal = self.fatal.clone();
                // The receiver lives as long as the gateway.
                move |reason| drop(fatal.send(reason))
            }),
        };
        let (committer, intake) = Committer::start(journal, Bounds::default(), settler)?;
        Ok(Journal { intake, committer, tail, acknowledger })
    }

    pub(super) fn start_watchdog(
        &self,
        alerting: &Alerting,
        journal: &Journal,
    ) -> anyhow::Result<watchdog::Handle> {
        Ok(watchdog::start(watchdog::Options {
            limit: Duration::from_secs(self.config.alerts.stalled_after_s.into()),
            outputs: alerting.shown.outputs.clone(),
            recorded: Arc::clone(alerting.log.stalled_outputs()),
            journal: journal.intake.clone(),
            clock: self.extras.clock,
        })?)
    }

    pub(super) fn start_lane(
        &self,
        parts: LaneParts,
        journal: &Journal,
        statuses: Vec<Arc<SinkStatus>>,
    ) -> anyhow::Result<JoinHandle<Result<(), LaneError>>> {
        let driver = Driver {
            lane: parts.core,
            registry: Arc::clone(&self.registry),
            journal: journal.tail.clone(),
            decided: parts.decided,
            decided_limit_bytes: self.config.decided.limit_bytes,
            rollups: rollups(&self.config),
            alerts: parts.alerts,
            withdrawn: parts.withdrawn,
            rules: self.rules,
            publisher: parts.publisher,
            checkpoints: parts.checkpoints,
            policy: CheckpointPolicy {
                every: Duration::from_secs(self.config.checkpoint.every_s.into()),
                every_journal_bytes: self.config.checkpoint.every_journal_bytes,
            },
            finish: finish_on_threads(self.lane.clone()),
            sync: sync_on_threads(self.lane.clone()),
            from: parts.from,
            confirmed: parts.confirmed,
            of_record: self.config.sink_of_record.clone(),
            release: Box::new({
                let journal = journal.intake.clone();
                move |lsn| journal.release_through(lsn)
            }),
            decided_through: Box::new({
                let journal = journal.intake.clone();
                move |lsn, waiting| journal.decided(lsn, waiting)
            }),
            sinks_done: Box::new(move || {
                statuses.iter().map(|status| status.cursor().decided_lsn).min().unwrap_or(Lsn::NONE)
            }),
            outgoing: parts.outgoing,
            said: parts.reports,
            handle: self.lane.clone(),
        };
        let fatal = self.fatal.clone();
        let thread = std::thread::Builder::new().name("lane".into()).spawn(move || {
            let ended = driver.run();
            if let Err(error) = &ended {
                let chain =
                    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
                let reasons: Vec<String> = chain.map(ToString::to_string).collect();
                drop(fatal.send(format!("the lane ended: {}", reasons.join(": "))));
            }
            ended
        })?;
        Ok(thread)
    }

    /// The sessions that receive, the one that publishes watermarks, and the clock's ticks.
    pub(super) fn start_sessions(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        journal: &Journal,
        outgoing: watermark::Outgoing,
    ) -> anyhow::Result<()> {
        for role in Role::ALL {
            let session = intake::run_session(
                self.broker.clone(),
                role,
                journal.intake.clone(),
                journal.acknowledger.clone(),
                intake::Shares::new(Arc::clone(&self.registry), role == Role::Alarm),
                self.extras.clock,
                self.stopped.clone(),
            );
            let ended = intake::start_session(role, session)?;
            tasks.spawn(async move { Ok(ended.await?) });
        }
        let watermarks = watermark::run(self.broker.clone(), outgoing, self.stopped.clone());
        tasks.spawn(async move {
            watermarks.await;
            Ok(())
        });
        let (intake, acknowledger) = (journal.intake.clone(), journal.acknowledger.clone());
        tasks.spawn(clock_ticks::run(intake, acknowledger, self.extras.clock, self.stopped.clone()));
        Ok(())
    }

    pub(super) fn answers(
        &self,
        view: View,
        shown: queries::Alerting,
        journal: &Journal,
        store: Arc<Store>,
        statuses: Vec<Arc<SinkStatus>>,
    ) -> Arc<Answers> {
        Arc::new(Answers::new(
            view,
            Arc::clone(&self.places),
            shown,
            self.extras.clock,
            self.lane.clone(),
            journal.intake.clone(),
            journal.tail.clone(),
            store,
            statuses,
            journal.acknowledger.clone(),
            backup::Source::of(&self.config),
        ))
    }

    pub(super) fn start_heartbeats(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        answers: &Arc<Answers>,
        journal: &Journal,
        (sender, receiver): (watch::Sender<Bytes>, watch::Receiver<Bytes>),
    ) {
        let source = heartbeat::Source {
            backend: Arc::clone(answers) as _,
            outputs: answers.outputs().to_vec(),
            lane: self.lane.clone(),
            journal: journal.tail.clone(),
            clock: self.extras.clock,
        };
        let stopped = self.stopped.clone();
        tasks.spawn(async move {
            heartbeat::run(source, sender, stopped).await;
            Ok(())
        });
        if let Some(url) = self.config.alerts.heartbeat_url.clone() {
            tasks.spawn(heartbeat::post(url, receiver, self.stopped.clone()));
        }
    }

    /// Page, API and live stream.
    pub(super) fn serve(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        listener: TcpListener,
        address: SocketAddr,
        answers: &Arc<Answers>,
        hub: Arc<live::Hub>,
    ) -> anyhow::Result<()> {
        let backend: Arc<dyn api::backend::Backend> = Arc::clone(answers) as _;
        let connections = api::ConnectionLimits {
            all: self.files.connections,
            peer: usize::try_from(self.config.http.connections_per_peer_max)?,
            ..api::ConnectionLimits::default()
        };
        let limits = Limits { connections, ..Limits::default() };
        let hosts = api::Hosts::new(address, &self.config.http.hosts);
        let api = Api::new(Arc::clone(&backend), Arc::clone(&hub), limits, hosts);
        let driven = live::drive(Arc::clone(&hub), backend);
        tasks.spawn(async move {
            driven.await;
            Ok(())
        });
        let (answers, stopped) = (Arc::clone(answers), self.stopped.clone());
        tasks.spawn(async move {
            answers.publish_live(hub, stopped).await;
            Ok(())
        });
        let mut stopped = self.stopped.clone();
        tasks.spawn(async move {
            let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
            api::serve(listener, api, shutdown).await;
            Ok(())
        });
        Ok(())
    }
}
