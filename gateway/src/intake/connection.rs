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
use hunhe_log::{Intake, Priority, Refused};
use hunhe_proto::topic::{self, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, QoS, StateError, SubscribeReasonCode, mqttbytes,
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

pub(super) fn connect(broker: &Broker, client_id: &str) -> (AsyncClient, EventLoop) {
    let mut options = mqtt::options(broker, client_id);
    // Acknowledgements of one commit leave together.
    options.set_max_request_batch(256);
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
    pub(super) async fn run(&mut self, client: AsyncClient, mut event_loop: EventLoop) -> Ended {
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
