//! One connection of a receiving session: from its CONNACK until it ends.

use super::{
    Acknowledger, Role,
    backlog::Backlog,
    held::Held,
    share::{Over, Shares},
};
use crate::{
    clock::Clock,
    mqtt::{self, Broker},
    record::{Delivery, Entering},
};
use hunhe_gateway_core::event::Arrival;
use hunhe_log::{Intake, Priority};
use hunhe_proto::topic::{self, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, QoS, StateError, SubscribeReasonCode, mqttbytes,
};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::atomic::Ordering,
    task::Poll,
    time::{Duration, Instant},
};

/// Messages, and their bytes, that are ready at once and go to the journal together.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Where so many are ready at once, more are on their way. They are let come for [`GATHER`] before they are read: all that
/// follows, from the journal's sync to a sink's request, costs by the batch. Alarms never wait for it.
const MANY: usize = 4;
const GATHER: Duration = Duration::from_millis(4);

pub(super) fn connect(broker: &Broker, client_id: &str) -> (AsyncClient, EventLoop) {
    let mut options = mqtt::options(broker, client_id);
    mqtt::gather_writes(&mut options);
    let (client, mut event_loop) = AsyncClient::builder(options).unbounded().build();
    event_loop.set_network_options(mqtt::network());
    (client, event_loop)
}

/// As where the broker gives our session to another client; else it was we who ended it.
pub(super) fn is_closed_by_peer(error: &ConnectionError) -> bool {
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

pub(super) enum Ended {
    Lost(Box<ConnectionError>),
    Shed,
    NotSubscribed(&'static str),
    NoJournal,
}

pub(super) struct Connection<'a> {
    pub(super) epoch: u64,
    pub(super) session: usize,
    pub(super) role: Role,
    pub(super) journal: &'a Intake<Entering>,
    pub(super) acknowledger: &'a Acknowledger,
    pub(super) shares: &'a mut Shares,
    /// When the session began: shares count from here.
    pub(super) begun: Instant,
    pub(super) clock: Clock,
    pub(super) held: Held,
    /// How long a message waits for room in the journal's queue.
    pub(super) patience: Duration,
    pub(super) ready_at: Option<Instant>,
    pub(super) backlog: Backlog,
    /// What came and is not yet handed to the journal.
    pub(super) batch: Batch,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    entering: VecDeque<Entering>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entering: Entering, bytes: usize) {
        self.entering.push_back(entering);
        self.bytes += bytes;
    }

    fn is_full(&self) -> bool {
        self.entering.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Ended {
    /// Logs why a connection ended, and what to do about it.
    pub(super) fn report(&self, client_id: &str, broker: &Broker) {
        match self {
            Self::NoJournal => {}
            Self::Shed => tracing::warn!(
                client_id,
                "the journal's queue is full: connection closed, the broker keeps the rest"
            ),
            Self::Lost(error) => match &**error {
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
            Self::NotSubscribed(filter) => tracing::error!(
                client_id,
                filter,
                "the broker refuses the subscription: check its access list"
            ),
        }
    }
}

impl Connection<'_> {
    /// Everything that is ready at once goes to the journal together: one lock of its queue and one wake-up.
    pub(super) async fn run(&mut self, client: AsyncClient, mut event_loop: EventLoop) -> Ended {
        let mut subscribed = 0;
        loop {
            let mut event = pin!(event_loop.poll());
            let polled = poll_fn(|context| Poll::Ready(event.as_mut().poll(context))).await;
            if polled.is_pending() || self.batch.is_full() {
                let gathers = self.role == Role::Up && self.batch.entering.len() >= MANY;
                if let Some(ended) = self.hand_over().await {
                    return ended;
                }
                if gathers && polled.is_pending() {
                    tokio::time::sleep(GATHER).await;
                }
            }
            let event = match polled {
                Poll::Ready(event) => event,
                Poll::Pending => event.await,
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    // What came before the end may be of a kind that the broker does not deliver again.
                    let ended = self.hand_over().await;
                    return ended.unwrap_or_else(|| Ended::Lost(Box::new(error)));
                }
            };
            self.take_states();
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
                Incoming::Publish(publish) => self.take(publish),
                _ => {}
            }
        }
    }

    fn take(&mut self, publish: rumqttc::Publish) {
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
        let bytes = publish.topic.len() + publish.payload.len();
        let entering = if is_retained_report(&publish) {
            status.retained_refused.fetch_add(1, Ordering::Relaxed);
            delivery.map(Entering::unrecorded)
        } else {
            match self.shares.take(&publish.topic, &publish.payload, now_ns) {
                Ok(size) => Some(Entering::sized(arrival, publish.topic, publish.payload, size, delivery)),
                Err(over) => {
                    status.over_share.note(over);
                    if let Over::State(agent) = over {
                        self.shares.keep_state(agent, publish.topic, publish.payload);
                    }
                    delivery.map(Entering::unrecorded)
                }
            }
        };
        if let Some(entering) = entering {
            self.batch.push(entering, bytes);
        }
    }

    /// Takes the states that waited for their agent's share. Whatever comes on the connection brings us here, an answer to a
    /// keep-alive at the latest.
    fn take_states(&mut self) {
        while self.shares.keeps_states() {
            let now_ns = self.clock.event_ns(self.begun.elapsed());
            let Some((topic, payload)) = self.shares.due_state(now_ns) else { return };
            let alarm = self.role == Role::Alarm;
            let arrival = Arrival { lsn: 0, at_ms: self.clock.now_ms(), live: false, alarm };
            let bytes = topic.len() + payload.len();
            self.batch.push(Entering::message(arrival, topic, payload, None), bytes);
        }
    }

    fn priority(&self) -> Priority {
        if self.role == Role::Alarm { Priority::Urgent } else { Priority::Normal }
    }

    /// Hands what came to the journal, in its order, under one lock of its queue.
    async fn hand_over(&mut self) -> Option<Ended> {
        let mut moved_at = Instant::now();
        while !self.batch.entering.is_empty() {
            let before = self.batch.entering.len();
            if self.journal.push_all(self.priority(), &mut self.batch.entering).is_err() {
                return Some(Ended::NoJournal);
            }
            let left = self.batch.entering.len();
            if left < before {
                moved_at = Instant::now();
            }
            if left > 0 {
                // To close at once would lose the acknowledgements of what is queued, and it would all come again.
                if moved_at.elapsed() >= self.patience {
                    return Some(Ended::Shed);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        self.batch.bytes = 0;
        None
    }
}
