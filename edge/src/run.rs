//! One agent at work. [`run`] is the path of a sample as a table of contents.
//!
//! Order within a turn: what came is heard, what is due is sampled, what was sampled or given up is made durable,
//! and only then does anything leave. A failed write ends the agent: what was not synced was not published.

mod connection;
mod watch;

use crate::{
    clock::Clock,
    drivers::Driver,
    mqtt::{Broker, Connection},
    report::Writer,
    samples::Samples,
    spool::{Entry, Limits, Recovered, Spool, SpoolError},
    stats::{DeviceStats, Progress},
};
use hunhe_edge_core::{agent, batch, link, outbox::Range};
use hunhe_proto::{
    class::Class,
    id::{AgentId, DeviceId},
    reading::DropCause,
};
use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch as signal;
use watch::Watch;

/// Samples taken from one device in one turn, so that a fast recording delays no other.
const TAKEN_MAX: usize = 64;
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
    pub driver: Driver,
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
    /// Event times, as [from, until) in milliseconds since 1970, at which it is kept from connecting: a simulation's.
    pub offline_ms: Vec<(i64, i64)>,
    /// When told to stop: how long to wait until the watermark has passed everything.
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
    /// The MQTT library refuses the options.
    #[error("agent {agent}: connection")]
    Connection {
        /// Which agent.
        agent: AgentId,
        /// Why.
        source: rumqttc::ClientBuildError,
    },
}

struct Seat {
    equipment: Equipment,
    samples: Samples,
    stats: DeviceStats,
    /// Event time at which the class version is to be told again.
    version_due_ms: i64,
    /// Appended and not yet committed.
    fresh: Option<Fresh>,
    watch: Watch,
}

/// What was taken of a device and is not yet committed.
#[derive(Debug, Clone, Copy)]
struct Fresh {
    /// The newest sample's time.
    time_ms: i64,
    /// One of them raised an alarm.
    alarm: bool,
    /// One of them is news, so that its report does not wait to fill.
    news: bool,
}

/// A publish on its way: which device's, or the agent's own.
type Token = Option<usize>;

struct Agent {
    setup: Setup,
    core: agent::Agent<Box<[agent::Device]>>,
    seats: Vec<Seat>,
    by_id: HashMap<DeviceId, usize>,
    spool: Option<Spool>,
    connection: Option<Connection>,
    since_ms: i64,
    unnamed: VecDeque<Token>,
    in_flight: HashMap<u16, Token>,
    writer: Writer,
    row: Vec<i64>,
    /// Event time at which the next sample of any device is due.
    due_ms: i64,
    /// Devices with something fresh.
    fresh: Vec<usize>,
    progress: Arc<Progress>,
}

/// Runs an agent until `stop` becomes true or its recordings end, and then until the outbox has drained or the drain
/// time is over. Returns what each
/// device did.
///
/// # Errors
/// [`RunError`]: nothing was published that was not durable.
pub async fn run(
    mut setup: Setup,
    mut stop: signal::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Vec<DeviceStats>, RunError> {
    let equipment = std::mem::take(&mut setup.equipment);
    let mut agent = Agent::open(setup, equipment, progress)?;
    let mut stopping: Option<Instant> = None;
    loop {
        agent.hear();
        let more = stopping.is_none() && agent.sample();
        agent.make_durable().await?;
        if stopping.is_none() && agent.is_kept_offline() {
            agent.fall_silent();
        } else {
            agent.act().await?;
        }
        if stopping.is_none() && (*stop.borrow() || agent.is_exhausted()) {
            stopping = Some(Instant::now());
            agent.core.flush();
            continue;
        }
        if let Some(since) = stopping
            && (agent.core.is_settled() || since.elapsed() >= agent.setup.drain)
        {
            break;
        }
        if more {
            tokio::task::yield_now().await;
        } else {
            let inbox = agent.connection.as_ref().map(|connection| Arc::clone(connection.inbox()));
            tokio::select! {
                () = async { match &inbox { Some(inbox) => inbox.arrived().await, None => std::future::pending().await } } => {}
                () = tokio::time::sleep(agent.rest(stopping.is_some())) => {}
                _ = stop.changed(), if stopping.is_none() => {}
            }
        }
    }
    agent.make_durable().await?;
    agent.leave().await;
    Ok(agent
        .seats
        .into_iter()
        .zip(agent.core.devices())
        .map(|(seat, device)| seat.stats.close(device))
        .collect())
}

impl Agent {
    fn open(mut setup: Setup, equipment: Vec<Equipment>, progress: Arc<Progress>) -> Result<Self, RunError> {
        let entry = |equipment: &Equipment| Entry {
            device: equipment.device,
            channels: equipment.class.channels.iter().map(|channel| channel.number).collect(),
        };
        let entries: Vec<_> = equipment.iter().map(entry).collect();
        let (spool, recovered) = match &setup.state_dir {
            Some(folder) => Spool::open(folder, setup.limits, &entries)
                .map_err(|source| RunError::Spool { agent: setup.id, source })?,
            None => Spool::in_memory(&entries),
        };
        if let Some(newest_ms) = recovered.iter().filter_map(|device| device.newest_ms).max() {
            setup.clock = setup.clock.not_before(newest_ms);
        }
        let now = setup.clock.now();
        let mut devices = Vec::with_capacity(equipment.len());
        let mut seats = Vec::with_capacity(equipment.len());
        for (mut equipment, Recovered { state, newest_ms, samples }) in equipment.into_iter().zip(recovered) {
            if let Some(newest_ms) = newest_ms {
                equipment.driver.resume(newest_ms);
            }
            let mut policy = batch::Policy::of(&equipment.class, equipment.device);
            if equipment.driver.disorders() {
                // Two reports at a time, so that there is an order to turn round.
                policy.offset_ms +=
                    equipment.class.interval_ms().saturating_mul(i64::from(equipment.class.report.samples));
            }
            let stats = DeviceStats::new(equipment.device, &state);
            devices.push(agent::Device::new(state, policy, setup.samples_max));
            let watch = Watch::of(&equipment.class);
            seats.push(Seat { equipment, samples, stats, version_due_ms: i64::MIN, fresh: None, watch });
        }
        let by_id = seats.iter().zip(0..).map(|(seat, index)| (seat.equipment.device, index)).collect();
        let core = agent::Agent::new(setup.id, setup.link, devices.into_boxed_slice(), now);
        Ok(Self {
            setup,
            core,
            seats,
            by_id,
            spool: Some(spool),
            connection: None,
            since_ms: 0,
            unnamed: VecDeque::new(),
            in_flight: HashMap::new(),
            writer: Writer::default(),
            row: Vec::new(),
            due_ms: i64::MIN,
            fresh: Vec::new(),
            progress,
        })
    }

    /// Takes what is due; says whether more is due at once.
    fn sample(&mut self) -> bool {
        let event_ms = self.setup.clock.now().event_ms;
        // A live clock may step back, and the grid with it: then each device is asked.
        let live = self.setup.clock.is_live();
        if event_ms < self.due_ms && !live {
            return false;
        }
        let mut more = false;
        let mut sampled = 0;
        self.due_ms = i64::MAX;
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let due_ms = seat.equipment.driver.next_ms().unwrap_or(i64::MAX);
            if due_ms > event_ms && !live {
                self.due_ms = self.due_ms.min(due_ms);
                continue;
            }
            let room = if self.setup.lossless { self.core.devices()[index].room() } else { u64::MAX };
            let limit = usize::try_from(room).unwrap_or(usize::MAX).min(TAKEN_MAX);
            self.row.resize(seat.equipment.class.channels.len(), 0);
            let mut taken = 0;
            while taken < limit
                && let Some(sample) = seat.equipment.driver.take(event_ms, &mut self.row)
            {
                let seq = seat.samples.push(sample.time_ms, &self.row);
                if let Some(spool) = &mut self.spool {
                    spool.append(index, seq, sample.time_ms, &self.row);
                }
                let news = seat.watch.is_news(&self.row);
                let alarm = sample.alarm || (news && seat.equipment.class.report.on_alarm.is_some());
                let before = seat.fresh.map_or((false, false), |fresh| (fresh.alarm, fresh.news));
                let time_ms = sample.time_ms;
                seat.fresh = Some(Fresh { time_ms, alarm: alarm | before.0, news: news | before.1 });
                taken += 1;
            }
            if taken > 0 {
                self.fresh.push(index);
            }
            seat.stats.sampled += taken as u64;
            sampled += taken as u64;
            more |= taken == TAKEN_MAX;
            self.due_ms = self.due_ms.min(seat.equipment.driver.next_ms().unwrap_or(i64::MAX));
        }
        self.progress.sampled.fetch_add(sampled, Relaxed);
        more
    }

    /// One sync for all devices: their samples, what the watermark passed, what was given up.
    async fn make_durable(&mut self) -> Result<(), RunError> {
        self.commit().await?;
        for index in self.fresh.drain(..) {
            let seat = &mut self.seats[index];
            if let Some(Fresh { time_ms, alarm, news }) = seat.fresh.take() {
                self.core.stored(index, seat.samples.next_seq(), time_ms, alarm);
                if news {
                    self.core.hurry(index);
                }
            }
        }
        self.expire();
        for (device, range) in self.spool.as_ref().map(Spool::excess).unwrap_or_default() {
            self.core.give_up(device, range, DropCause::Full);
        }
        self.note_changes();
        // A drop must be durable before a report tells it.
        self.commit().await
    }

    /// Gives up what is older than its class lets a sample be.
    fn expire(&mut self) {
        let event_ms = self.setup.clock.now().event_ms;
        for (index, seat) in self.seats.iter().enumerate() {
            let keep_s = seat.equipment.class.report.keep_s;
            if keep_s == 0 {
                continue;
            }
            let held = Range { start: seat.samples.first_seq(), end: seat.samples.next_seq() };
            if held.count() == 0 {
                continue;
            }
            let oldest_ms = event_ms.saturating_sub(i64::from(keep_s) * 1000);
            let expired =
                seat.samples.rows(held).take_while(|row| row.first().is_some_and(|&time| time < oldest_ms));
            let end = held.start + expired.count() as u64;
            if end > held.start {
                self.core.give_up(index, Range { start: held.start, end }, DropCause::Expired);
            }
        }
    }

    fn note_changes(&mut self) {
        let (spool, seats) = (&mut self.spool, &mut self.seats);
        self.core.take_dirty(|index, outbox| {
            let seat = &mut seats[index];
            if let Some(spool) = spool {
                spool.note(index, outbox.state());
            }
            seat.stats.note_drops(outbox.drops());
            seat.samples.release_below(outbox.held_from());
        });
    }

    async fn commit(&mut self) -> Result<(), RunError> {
        if !self.spool.as_ref().is_some_and(Spool::is_dirty) {
            return Ok(());
        }
        let held: Vec<u64> = self.core.devices().iter().map(|device| device.outbox().held_from()).collect();
        let Some(mut spool) = self.spool.take() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || {
            let result = spool.commit(&held);
            (spool, result)
        });
        let failed = |source| RunError::Spool { agent: self.setup.id, source };
        match done.await {
            Ok((spool, result)) => {
                self.spool = Some(spool);
                result.map_err(failed)
            }
            Err(error) => Err(failed(SpoolError::Io {
                path: self.setup.state_dir.clone().unwrap_or_default(),
                action: "commit",
                source: std::io::Error::other(error),
            })),
        }
    }

    fn is_kept_offline(&self) -> bool {
        let event_ms = || self.setup.clock.now().event_ms;
        !self.setup.offline_ms.is_empty() && {
            let now_ms = event_ms();
            self.setup.offline_ms.iter().any(|&(from_ms, until_ms)| (from_ms..until_ms).contains(&now_ms))
        }
    }

    /// Has every recording come to its end?
    fn is_exhausted(&self) -> bool {
        self.seats.iter().all(|seat| seat.equipment.driver.next_ms().is_none())
    }

    /// Until the next sample, or a while.
    fn rest(&self, stopping: bool) -> Duration {
        let bound = if self.seats.len() > 1 || stopping { REST_MS_MAX } else { REST_MS_MAX_SINGLE };
        let bound = Duration::from_millis(bound);
        self.setup.clock.until(self.due_ms).clamp(Duration::from_millis(10), bound)
    }
}
