//! The two MQTT sessions that receive: alarms never wait behind a backlog. What we publish has sessions of its own.
//!
//! Invariants:
//! - A delivery is acknowledged only after its journal record is durable, in receive order, on the connection that
//!   brought it. Each connection is a new client: no acknowledgement, queue or state crosses a reconnect.
//! - A packet id that the broker uses again before it was acknowledged is acknowledged once all that came under it is
//!   durable: the acknowledgement of one message never stands for another.
//! - At the bound of the journal's queue nothing more is read, so that TCP holds the broker back; after half a keep-alive
//!   without room the connection is closed unacknowledged, and the broker, whose session persists, delivers again.
//! - Subscriptions are renewed after every CONNACK and every SUBACK is checked.
//! - A retained report is old news at every subscription: it is acknowledged in its turn, counted, and never journaled.
//!   Only agents' states are retained by contract.
//! - What a device or an agent sends beyond its share (`share.rs`) is acknowledged in its turn and not taken, counted by reason.
//!   Of an agent's states the newest is taken as soon as its share allows.
//!
//! While the lane is behind (`journal::Bounds::lag_cost`) ordinary messages wait in the queue, unacknowledged: at the broker's
//! in-flight window nothing more comes, and the connection lives on. The queue holds a window of messages of up to 8 KiB; where
//! they are larger it may fill, and what is said above of its bound holds.
//!
//! Bounds: the queue's (`journal::Bounds`); packets (`packet_bytes_max`); back-off 100 ms to 30 s with full jitter.
//! Five connections in a row that the broker closes within a second mean that someone else uses our client id:
//! fatal, said in words. What we end ourselves over its bytes is no such sign, and is tried again for ever. Deliberately
//! absent: any look into a payload but for how many samples it holds at most.

mod backlog;
mod held;
mod share;

pub use share::{Over, OverShare, Shares};

use backlog::Backlog;
use held::Held;

use crate::{
    clock::Clock,
    mqtt::{self, Broker},
    record::{Delivery, Entering},
    retry::{Backoff, MQTT_WAITS},
};
use hunhe_gateway_core::event::Arrival;
use hunhe_log::{AppendError, Error as JournalError, Intake, Priority, Refused, Settled, Settlement};
use hunhe_proto::topic::{self, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, ManualAck, PubAck, QoS, StateError,
    SubscribeReasonCode, mqttbytes,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A connection that the broker ends sooner was probably taken over: another gateway is back within its first back-off, a
/// tenth of this, while a broker that crashes again and again lives longer in between.
const BRIEF: Duration = Duration::from_secs(1);
/// So many of them in a row are no accident.
const BRIEF_MAX: u32 = 5;

/// One session's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reports and agents' states.
    Up,
    /// Alarms.
    Alarm,
}

impl Role {
    /// The sessions that receive, by index.
    pub const ALL: [Self; 2] = [Self::Up, Self::Alarm];

    /// What the session's client id ends with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Alarm => "alarm",
        }
    }

    fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Up => &[topic::UP_FILTER, topic::STATE_FILTER],
            Self::Alarm => &[topic::ALARM_FILTER],
        }
    }
}

/// What a session is doing, for status and metrics.
#[derive(Debug, Default)]
pub struct SessionStatus {
    /// Connected and subscribed?
    pub ready: AtomicBool,
    /// Messages received.
    pub received: AtomicU64,
    /// Messages acknowledged.
    pub acknowledged: AtomicU64,
    /// Connections begun.
    pub connections: AtomicU64,
    /// Connections closed because the journal's queue was full.
    pub shed: AtomicU64,
    /// Retained reports refused.
    pub retained_refused: AtomicU64,
    /// Messages that were not taken, over somebody's share.
    pub over_share: OverShare,
}

/// The connection that acknowledgements may go to.
#[derive(Debug, Default)]
struct Current(Mutex<Option<(u64, AsyncClient, Held)>>);

impl Current {
    fn set(&self, current: Option<(u64, AsyncClient, Held)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

/// Where acknowledgements go: shared by the sessions and the journal's thread.
#[derive(Debug, Clone, Default)]
pub struct Acknowledger {
    current: Arc<[Current; Role::ALL.len()]>,
    status: Arc<[SessionStatus; Role::ALL.len()]>,
}

impl Acknowledger {
    /// The sessions' statuses, in the order of [`Role::ALL`].
    #[must_use]
    pub fn status(&self) -> &[SessionStatus] {
        &*self.status
    }

    /// Are all sessions connected and subscribed?
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.status.iter().all(|session| session.ready.load(Ordering::Relaxed))
    }

    /// Acknowledges deliveries of one session, in order; those of an earlier connection are left to the broker, which
    /// delivers them again.
    fn acknowledge(&self, session: usize, deliveries: impl Iterator<Item = Delivery>) {
        let current = self.current[session].0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((epoch, client, held)) = &*current else { return };
        for delivery in deliveries.filter(|delivery| delivery.epoch == *epoch) {
            if !held.is_last(delivery.packet) {
                continue;
            }
            // The channel is unbounded, and holds at most the broker's in-flight window.
            if client.try_manual_ack(ManualAck::PubAck(PubAck::new(delivery.packet))).is_ok() {
                self.status[session].acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Told by the journal's thread what is durable.
pub struct Settler {
    /// Where acknowledgements go.
    pub acknowledger: Acknowledger,
    /// Wakes who reads the journal.
    pub wake: Box<dyn Fn() + Send>,
    /// Ends the process's run.
    pub fatal: Box<dyn Fn(String) + Send>,
}

impl Settlement<Entering> for Settler {
    fn settled(&mut self, batch: &mut Vec<Settled<Entering>>) {
        for session in 0..Role::ALL.len() {
            let durable = batch.iter().filter(|settled| settled.outcome.is_ok());
            let deliveries = durable.filter_map(|settled| settled.item.delivery);
            self.acknowledger.acknowledge(session, deliveries.filter(|delivery| delivery.session == session));
        }
        for refused in batch.iter().filter_map(|settled| settled.outcome.as_ref().err()) {
            if let AppendError::TooLarge { bytes, bound_bytes } = refused {
                tracing::error!(
                    bytes,
                    bound_bytes,
                    "a message is larger than a journal record: it stays at the broker"
                );
            }
        }
        (self.wake)();
    }

    fn full(&mut self, full: bool) {
        if full {
            tracing::error!(
                "the journal is at its limit: nothing is acknowledged until the sinks have caught up"
            );
        } else {
            tracing::info!("the journal has room again");
        }
    }

    fn failed(&mut self, error: &JournalError) {
        (self.fatal)(format!("the journal failed, and nothing later is acknowledged: {error}"));
    }
}

/// A session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Someone else uses our client id.
    #[error(
        "another client uses the MQTT client id {0}: only one gateway may, so stop the other or set broker.client_id"
    )]
    TakenOver(String),
    /// The journal took its last record.
    #[error("the journal has ended")]
    JournalEnded,
}

/// Runs a session until `stop` is set, reconnecting as often as needed.
///
/// # Errors
/// [`SessionError`] where going on makes no sense.
pub async fn run_session(
    broker: Broker,
    role: Role,
    journal: Intake<Entering>,
    acknowledger: Acknowledger,
    mut shares: Shares,
    clock: Clock,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<(), SessionError> {
    let begun = Instant::now();
    let session = Role::ALL.iter().position(|known| *known == role).unwrap_or(0);
    let client_id = format!("{}-{}", broker.client_id, role.suffix());
    let mut backoff = Backoff::new(MQTT_WAITS);
    let mut brief = 0;
    for epoch in 1.. {
        if *stop.borrow() {
            break;
        }
        acknowledger.status[session].connections.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection {
            epoch,
            session,
            role,
            journal: &journal,
            acknowledger: &acknowledger,
            shares: &mut shares,
            begun,
            clock,
            held: Held::new(begun),
            patience: Duration::from_secs(u64::from(broker.keep_alive_s)) / 2,
            ready_at: None,
            backlog: Backlog::default(),
        };
        let (client, event_loop) = connect(&broker, &client_id);
        acknowledger.current[session].set(Some((epoch, client.clone(), connection.held.clone())));
        let mut stop_wait = stop.clone();
        let ended = tokio::select! {
            ended = connection.run(client, event_loop) => ended,
            _ = stop_wait.wait_for(|stop| *stop) => break,
        };
        acknowledger.current[session].set(None);
        acknowledger.status[session].ready.store(false, Ordering::Relaxed);
        let up_for = connection.ready_at.map(|at| at.elapsed());
        // What we ended ourselves says nothing of another client.
        let closed = matches!(&ended, Ended::Lost(error) if is_closed_by_peer(error));
        let thrown_out = closed && up_for.is_some_and(|up| up < BRIEF);
        brief = if thrown_out { brief + 1 } else { 0 };
        match ended {
            Ended::NoJournal => return Err(SessionError::JournalEnded),
            Ended::Shed => {
                acknowledger.status[session].shed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    client_id,
                    "the journal's queue is full: connection closed, the broker keeps the rest"
                );
            }
            Ended::Lost(error) => match *error {
                ConnectionError::MqttState(StateError::Deserialization(
                    mqttbytes::Error::PayloadSizeLimitExceeded(bytes),
                )) => tracing::error!(
                    client_id,
                    bytes,
                    bound_bytes = broker.packet_bytes_max,
                    "the broker holds a packet that is too long, and nothing behind it can come: raise \
                     broker.packet_bytes_max above it, or take it away at the broker, and set the broker's \
                     max_packet_size below"
                ),
                error => tracing::warn!(client_id, %error, "connection to the broker lost"),
            },
            Ended::NotSubscribed(filter) => {
                tracing::error!(
                    client_id,
                    filter,
                    "the broker refuses the subscription: check its access list"
                );
            }
        }
        if brief >= BRIEF_MAX {
            return Err(SessionError::TakenOver(client_id));
        }
        if up_for.is_some() {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    acknowledger.current[session].set(None);
    Ok(())
}

fn connect(broker: &Broker, client_id: &str) -> (AsyncClient, EventLoop) {
    let mut options = mqtt::options(broker, client_id);
    // Acknowledgements of one commit leave together.
    options.set_max_request_batch(256);
    let (client, mut event_loop) = AsyncClient::builder(options).unbounded().build();
    event_loop.set_network_options(mqtt::network());
    (client, event_loop)
}

/// As where the broker gives our session to another client; else it was we who ended it.
fn is_closed_by_peer(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::Io(_)
            | ConnectionError::MqttState(
                StateError::Io(_)
                    | StateError::ConnectionAborted
                    | StateError::Deserialization(mqttbytes::Error::Io(_))
            )
    )
}

/// Whether the broker kept this report for whoever subscribes.
fn is_retained_report(publish: &rumqttc::Publish) -> bool {
    publish.retain && !matches!(topic::parse(&publish.topic), Ok(Topic::State(_)))
}

enum Ended {
    Lost(Box<ConnectionError>),
    Shed,
    NotSubscribed(&'static str),
    NoJournal,
}

struct Connection<'a> {
    epoch: u64,
    session: usize,
    role: Role,
    journal: &'a Intake<Entering>,
    acknowledger: &'a Acknowledger,
    shares: &'a mut Shares,
    /// When the session began: shares count from here.
    begun: Instant,
    clock: Clock,
    held: Held,
    /// How long a message waits for room in the journal's queue.
    patience: Duration,
    ready_at: Option<Instant>,
    backlog: Backlog,
}

impl Connection<'_> {
    async fn run(&mut self, client: AsyncClient, mut event_loop: EventLoop) -> Ended {
        let mut subscribed = 0;
        loop {
            let event = match event_loop.poll().await {
                Ok(event) => event,
                Err(error) => return Ended::Lost(Box::new(error)),
            };
            if let Some(ended) = self.take_states().await {
                return ended;
            }
            let Event::Incoming(incoming) = event else { continue };
            match incoming {
                Incoming::ConnAck(connected) => {
                    self.backlog.connected(connected.session_present, self.begun.elapsed());
                    for filter in self.role.filters() {
                        if client.try_subscribe(*filter, QoS::AtLeastOnce).is_err() {
                            return Ended::NotSubscribed(filter);
                        }
                    }
                }
                Incoming::SubAck(answer) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        // Answers come in the order of the questions.
                        let filter = self.role.filters().get(subscribed);
                        return Ended::NotSubscribed(filter.copied().unwrap_or_default());
                    }
                    subscribed += answer.return_codes.len();
                    if subscribed == self.role.filters().len() {
                        self.ready_at = Some(Instant::now());
                        self.backlog.subscribed(self.begun.elapsed());
                        self.acknowledger.status[self.session].ready.store(true, Ordering::Relaxed);
                    }
                }
                Incoming::Publish(publish) => {
                    if let Some(ended) = self.take(publish).await {
                        return ended;
                    }
                }
                _ => {}
            }
        }
    }

    async fn take(&mut self, publish: rumqttc::Publish) -> Option<Ended> {
        self.acknowledger.status[self.session].received.fetch_add(1, Ordering::Relaxed);
        let now = self.begun.elapsed();
        let alarm = self.role == Role::Alarm;
        // Asked for a backlog's messages alone: it takes the queue's lock.
        let held = !self.backlog.is_through() && self.journal.holds_back(self.priority());
        let is_through = self.backlog.came(now, self.held.ours(held));
        let live = is_through && !publish.dup && !publish.retain;
        let arrival = Arrival { lsn: 0, at_ms: self.clock.now_ms(), live, alarm };
        let delivery = Delivery { session: self.session, epoch: self.epoch, packet: publish.pkid };
        let acknowledged = publish.qos != QoS::AtMostOnce;
        let publish_id = publish.pkid;
        if acknowledged {
            self.held.came(publish_id);
        }
        let delivery = acknowledged.then_some(delivery);
        let now_ns = self.clock.event_ns(now);
        let status = &self.acknowledger.status[self.session];
        let entering = if is_retained_report(&publish) {
            status.retained_refused.fetch_add(1, Ordering::Relaxed);
            Entering::unrecorded(delivery?)
        } else {
            match self.shares.take(&publish.topic, &publish.payload, now_ns) {
                Ok(size) => Entering::sized(arrival, publish.topic, publish.payload, size, delivery),
                Err(over) => {
                    status.over_share.note(over);
                    if let Over::State(agent) = over {
                        self.shares.keep_state(agent, publish.topic, publish.payload);
                    }
                    Entering::unrecorded(delivery?)
                }
            }
        };
        self.push(entering).await
    }

    /// Hands over the states that waited for their agent's share. Whatever comes on the connection brings us here, an answer
    /// to a keep-alive at the latest.
    async fn take_states(&mut self) -> Option<Ended> {
        while self.shares.keeps_states() {
            let now_ns = self.clock.event_ns(self.begun.elapsed());
            let (topic, payload) = self.shares.due_state(now_ns)?;
            let alarm = self.role == Role::Alarm;
            let arrival = Arrival { lsn: 0, at_ms: self.clock.now_ms(), live: false, alarm };
            let ended = self.push(Entering::message(arrival, topic, payload, None)).await;
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    fn priority(&self) -> Priority {
        if self.role == Role::Alarm { Priority::Urgent } else { Priority::Normal }
    }

    async fn push(&self, mut entering: Entering) -> Option<Ended> {
        let begun = Instant::now();
        let priority = self.priority();
        loop {
            match self.journal.try_push(priority, entering) {
                Ok(()) => return None,
                // To close at once would lose the acknowledgements of what is queued, and it would all come again.
                Err(Refused::Busy(back)) if begun.elapsed() < self.patience => {
                    entering = back;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(Refused::Busy(_)) => return Some(Ended::Shed),
                Err(Refused::Ended(_)) => return Some(Ended::NoJournal),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(acknowledger: &Acknowledger, deliveries: &[(u64, u16)]) -> u64 {
        let of = |&(epoch, packet)| Delivery { session: 0, epoch, packet };
        acknowledger.acknowledge(0, deliveries.iter().map(of));
        acknowledger.status[0].acknowledged.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn an_acknowledgement_goes_to_the_connection_that_delivered_and_stands_for_one_message() {
        let options = rumqttc::MqttOptions::new("tested", rumqttc::Broker::tcp("127.0.0.1", 1));
        let (client, _events) = AsyncClient::builder(options).capacity(10).build();
        let (acknowledger, held) = (Acknowledger::default(), Held::new(Instant::now()));
        for packet in [7, 8, 8] {
            held.came(packet);
        }
        acknowledger.current[0].set(Some((2, client, held)));
        assert_eq!(acknowledged(&acknowledger, &[(1, 7), (3, 7)]), 0, "another connection's");
        assert_eq!(acknowledged(&acknowledger, &[(2, 7)]), 1);
        assert_eq!(acknowledged(&acknowledger, &[(2, 8)]), 1, "the broker has used this number twice");
        assert_eq!(acknowledged(&acknowledger, &[(2, 8)]), 2);
        acknowledger.current[0].set(None);
        assert_eq!(acknowledged(&acknowledger, &[(2, 7)]), 2, "nobody is there");
    }
}
