//! One agent at work. [`Agent::run`] is the path of a sample as a table of contents.
//!
//! Order within a turn: what came is heard, what is due is sampled, what was sampled or given up is made durable,
//! and only then does anything leave. A failed write ends the agent: what was not synced was not published.

use crate::{
    clock::{Clock, wall_ms},
    drivers::Driver,
    mqtt::{Broker, Connection, Note},
    report::Writer,
    samples::Samples,
    spool::{Entry, Limits, Recovered, Spool, SpoolError},
    stats::{DeviceStats, Progress},
};
use hunhe_edge_core::{
    Now,
    agent::{self, Effect, Send},
    batch, link,
    outbox::{Range, Watermark},
};
use hunhe_proto::{
    class::Class,
    id::{AgentId, DeviceId},
    reading::DropCause,
    topic, v1,
};
use prost::Message;
use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Samples taken from one device in one turn, so that a fast recording delays no other.
const TAKEN_MAX: usize = 64;
/// The longest rest between two turns, where nothing arrives.
const REST_MS_MAX: u64 = 250;
/// The same for an agent of one device: a city of them must not keep a machine busy.
const REST_MS_MAX_SINGLE: u64 = 1_000;
const DAY_MS: i64 = 86_400_000;

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
    /// Appended and not yet committed: the newest sample's time, and whether one raised an alarm.
    fresh: Option<(i64, bool)>,
}

/// A publish on its way: which device's, or the agent's own.
type Token = Option<usize>;

struct Agent {
    setup: Setup,
    core: agent::Agent<Box<[agent::Device]>>,
    seats: Vec<Seat>,
    spool: Option<Spool>,
    connection: Option<Connection>,
    since_ms: i64,
    unnamed: VecDeque<Token>,
    in_flight: HashMap<u16, Token>,
    writer: Writer,
    row: Vec<i64>,
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
    mut stop: watch::Receiver<bool>,
    progress: Arc<Progress>,
) -> Result<Vec<DeviceStats>, RunError> {
    let equipment = std::mem::take(&mut setup.equipment);
    let mut agent = Agent::open(setup, equipment, progress)?;
    let mut stopping: Option<Instant> = None;
    loop {
        agent.hear();
        let more = stopping.is_none() && agent.sample();
        agent.make_durable().await?;
        agent.act().await?;
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
            seats.push(Seat { equipment, samples, stats, version_due_ms: i64::MIN, fresh: None });
        }
        let core = agent::Agent::new(setup.id, setup.link, devices.into_boxed_slice(), now);
        Ok(Self {
            setup,
            core,
            seats,
            spool: Some(spool),
            connection: None,
            since_ms: 0,
            unnamed: VecDeque::new(),
            in_flight: HashMap::new(),
            writer: Writer::default(),
            row: Vec::new(),
            progress,
        })
    }

    /// What the connection has to say.
    fn hear(&mut self) {
        while let Some(note) = self.connection.as_ref().and_then(|connection| connection.inbox().take()) {
            let now = self.setup.clock.now();
            match note {
                Note::Connected => self.core.connected(now),
                Note::Subscribed => {
                    self.core.subscribed(now);
                    self.progress.connected.fetch_add(1, Relaxed);
                    if !self.setup.link.sleeping {
                        self.publish_state(true);
                    }
                    tracing::info!(agent = %self.setup.id, broker = ?self.setup.broker, "connected");
                }
                Note::Sent(pkid) => {
                    let token = self.unnamed.pop_front().unwrap_or_default();
                    self.in_flight.insert(pkid, token);
                }
                Note::Acked(pkid) => {
                    if let Some(Some(device)) = self.in_flight.remove(&pkid) {
                        self.core.acked(now);
                        self.seats[device].stats.acked += 1;
                        self.progress.acked.fetch_add(1, Relaxed);
                    }
                }
                Note::Watermark(payload) => self.hear_watermark(&payload, now),
                Note::Lost(why) => {
                    tracing::info!(agent = %self.setup.id, why, "disconnected");
                    self.forget_connection();
                    self.core.lost(now);
                }
            }
        }
    }

    fn hear_watermark(&mut self, payload: &[u8], now: Now) {
        let durable = match v1::Durable::decode(payload) {
            Ok(durable) => durable,
            Err(error) => {
                tracing::warn!(agent = %self.setup.id, %error, "a watermark is unreadable and ignored");
                return;
            }
        };
        self.core.watermark_seen();
        for named in &durable.devices {
            let Some(index) =
                self.seats.iter().position(|seat| seat.equipment.device.as_str() == named.device)
            else {
                continue;
            };
            for boot in &named.boots {
                let missing = boot.missing.iter();
                let missing =
                    missing.map(|gap| Range { start: gap.start, end: gap.start.saturating_add(gap.count) });
                if self.core.watermark(index, boot.boot, boot.through, missing, now) == Watermark::Implausible
                {
                    tracing::error!(
                        device = named.device,
                        through = boot.through,
                        "the watermark passes samples never taken: was this outbox restored from a copy? \
                         delete its state_dir, so that a new one begins"
                    );
                }
            }
        }
        for &crc in &durable.refused {
            if let Some(index) = self.core.refused(crc) {
                tracing::warn!(
                    device = %self.seats[index].equipment.device,
                    "the gateway cannot read a report; its samples are declared lost"
                );
            }
        }
    }

    /// Takes what is due; says whether more is due at once.
    fn sample(&mut self) -> bool {
        let event_ms = self.setup.clock.now().event_ms;
        let mut more = false;
        for (index, seat) in self.seats.iter_mut().enumerate() {
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
                let alarm = sample.alarm || seat.fresh.is_some_and(|(_, alarm)| alarm);
                seat.fresh = Some((sample.time_ms, alarm));
                taken += 1;
            }
            seat.stats.sampled += taken as u64;
            self.progress.sampled.fetch_add(taken as u64, Relaxed);
            more |= taken == TAKEN_MAX;
        }
        more
    }

    /// One sync for all devices: their samples, what the watermark passed, what was given up.
    async fn make_durable(&mut self) -> Result<(), RunError> {
        self.commit().await?;
        for (index, seat) in self.seats.iter_mut().enumerate() {
            if let Some((time_ms, alarm)) = seat.fresh.take() {
                self.core.stored(index, seat.samples.next_seq(), time_ms, alarm);
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
            let held = Range { start: seat.samples.first_seq(), end: seat.samples.next_seq() };
            if keep_s == 0 || held.count() == 0 {
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

    /// Does what the core asks for.
    async fn act(&mut self) -> Result<(), RunError> {
        // A report held back to be sent after the next one: the fault `disorder`.
        let mut held_back: Option<(Token, String, Vec<u8>)> = None;
        loop {
            let now = self.setup.clock.now();
            match self.core.poll(now) {
                None => break,
                Some(Effect::Link(link::Action::Connect)) => self.connect()?,
                Some(Effect::Link(link::Action::Disconnect)) => {
                    if let Some(connection) = self.connection.take() {
                        connection.close();
                    }
                    self.forget_connection();
                }
                Some(Effect::Send(send)) => self.send(send, now, &mut held_back).await?,
            }
        }
        if let Some((token, topic, payload)) = held_back {
            self.publish(token, topic, &payload, false);
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), RunError> {
        self.forget_connection();
        self.since_ms = wall_ms();
        let (link, id) = (&self.setup.link, self.setup.id);
        let connection = Connection::open(&self.setup.broker, id, link.window, link.sleeping, self.since_ms)
            .map_err(|source| RunError::Connection { agent: id, source })?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn send(
        &mut self,
        send: Send,
        now: Now,
        held_back: &mut Option<(Token, String, Vec<u8>)>,
    ) -> Result<(), RunError> {
        let (core, seat) = (&self.core, &mut self.seats[send.device]);
        let drops = core.devices()[send.device].outbox().drops();
        let with_health = now.event_ms >= seat.version_due_ms;
        let (live, version) = (self.setup.clock.is_live(), seat.equipment.class.version);
        let samples = &seat.samples;
        let last_ms = |range: Range| {
            samples
                .rows(Range { start: range.end.saturating_sub(1), end: range.end })
                .next()?
                .first()
                .copied()
        };
        let header = |range: Range| {
            let mut header = core.header(send.device, range);
            if live && range.count() > 0 {
                header.sent_after_s = last_ms(range).map(|last| batch::sent_after_s(now.event_ms, last));
            }
            if with_health {
                header.class_version = Some(version);
                header.uptime_ms = Some(now.steady_ms);
            }
            header
        };
        let encoded = self.writer.encode(&seat.equipment.class, samples, send.range, drops, header);
        let (range, payload) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                // Values were checked when they were taken: a class whose single sample exceeds its own limit.
                tracing::error!(device = %seat.equipment.device, %error, "a sample cannot be reported and is given up");
                let first = Range { start: send.range.start, end: send.range.start + 1 };
                self.core.give_up(send.device, first, DropCause::Damaged);
                self.note_changes();
                return self.commit().await;
            }
        };
        if with_health {
            seat.version_due_ms = now.event_ms.saturating_add(DAY_MS);
        }
        let device = seat.equipment.device;
        let topic = if send.alarm { topic::alarm(device) } else { topic::up(device) };
        seat.stats.published += 1;
        self.progress.published.fetch_add(1, Relaxed);
        self.progress.bytes.fetch_add(payload.len() as u64, Relaxed);
        self.core.sent(send.device, range, crc32c::crc32c(payload), now);
        let payload = payload.to_vec();
        let (duplicates, disorders) = (seat.equipment.driver.duplicates(), seat.equipment.driver.disorders());
        if disorders && held_back.is_none() {
            *held_back = Some((Some(send.device), topic, payload));
            return Ok(());
        }
        if duplicates {
            self.publish(None, topic.clone(), &payload, false);
        }
        self.publish(Some(send.device), topic, &payload, false);
        Ok(())
    }

    fn publish(&mut self, token: Token, topic: String, payload: &[u8], retain: bool) {
        let Some(connection) = &self.connection else { return };
        match connection.publish(topic, payload, retain) {
            Ok(()) => self.unnamed.push_back(token),
            // The outbox still holds it; the link notices that no acknowledgement comes, and begins anew.
            Err(error) => tracing::warn!(agent = %self.setup.id, %error, "a publish was not handed over"),
        }
    }

    fn publish_state(&mut self, online: bool) {
        let since_ms = if online { self.since_ms } else { wall_ms() };
        self.publish(None, topic::state(self.setup.id), &crate::mqtt::state(online, since_ms), true);
    }

    fn forget_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.tear();
        }
        self.unnamed.clear();
        self.in_flight.clear();
    }

    /// Says good-bye where a connection stands, and waits a moment for the broker to hear it.
    async fn leave(&mut self) {
        if self.connection.is_none() || !self.core.link().is_up() {
            return;
        }
        if !self.setup.link.sleeping {
            self.publish_state(false);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && (!self.unnamed.is_empty() || !self.in_flight.is_empty()) {
            let Some(inbox) = self.connection.as_ref().map(|connection| Arc::clone(connection.inbox()))
            else {
                return;
            };
            tokio::select! {
                () = inbox.arrived() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            self.hear();
        }
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    /// Has every recording come to its end?
    fn is_exhausted(&self) -> bool {
        self.seats.iter().all(|seat| seat.equipment.driver.next_ms().is_none())
    }

    /// Until the next sample, or a while.
    fn rest(&self, stopping: bool) -> Duration {
        let next = self.seats.iter().filter_map(|seat| seat.equipment.driver.next_ms()).min();
        let bound = if self.seats.len() > 1 || stopping { REST_MS_MAX } else { REST_MS_MAX_SINGLE };
        let bound = Duration::from_millis(bound);
        next.map_or(bound, |next| self.setup.clock.until(next).clamp(Duration::from_millis(10), bound))
    }
}
