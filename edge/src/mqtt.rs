//! One MQTT 3.1.1 connection of an agent: a thin shell around rumqttc.
//!
//! - The polling task only moves packets: it never waits for the agent, which takes what came from a bounded inbox.
//! - Each connection is a new client with the same client id and a clean session: what the library still held of an older
//!   connection cannot leak into this one, and the outbox sends again what matters. A session kept for an agent that sleeps
//!   would hold every watermark it missed, oldest first; the retained one says all that they do.
//! - The watermark is subscribed after every CONNACK, and its SUBACK checked: a refusal ends the connection.
//! - Publishes beyond the inbox's bound cannot happen: the core's window is smaller.

use crate::{
    clock::wall_ms,
    run::{Wakes, agent::Port},
};
use hunhe_proto::{id::AgentId, topic, v1::AgentState};
use prost::Message;
use rumqttc::{
    AsyncClient, Broker as BrokerAddress, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing,
    Packet, PublishOptions, QoS, SubscribeReasonCode,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, task::JoinHandle};

/// The largest packet sent.
pub const OUTGOING_BYTES_MAX: usize = 128 * 1024;
/// The largest packet received: a concentrator's watermark.
pub const INCOMING_BYTES_MAX: usize = 1024 * 1024;
/// Watermarks not yet looked at; beyond it the oldest goes, since the next one says as much.
const WATERMARKS_MAX: usize = 16;

/// Where and as whom to connect.
#[derive(Clone)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name and password, where the broker wants them.
    pub credentials: Option<(String, String)>,
    /// Seconds between signs of life.
    pub keep_alive_s: u16,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What happened on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The broker accepted the connection.
    Connected,
    /// The broker granted the subscription to the watermark.
    Subscribed,
    /// The oldest publish not yet named got this packet id.
    Sent(u16),
    /// The broker acknowledged the packet.
    Acked(u16),
    /// A watermark's payload.
    Watermark(Vec<u8>),
    /// The connection is gone, and why.
    Lost(String),
}

/// Notes that wait for the agent.
#[derive(Debug, Default)]
pub struct Inbox {
    notes: Mutex<VecDeque<Note>>,
    arrived: Notify,
}

impl Inbox {
    fn notes(&self) -> MutexGuard<'_, VecDeque<Note>> {
        // A queue is whole at every moment, whatever panicked beside it.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, note: Note) {
        let mut notes = self.notes();
        if matches!(note, Note::Watermark(_)) {
            let is_watermark = |note: &Note| matches!(note, Note::Watermark(_));
            if notes.iter().filter(|note| is_watermark(note)).count() >= WATERMARKS_MAX
                && let Some(oldest) = notes.iter().position(is_watermark)
            {
                notes.remove(oldest);
            }
        }
        notes.push_back(note);
        drop(notes);
        self.arrived.notify_one();
    }

    /// Takes the oldest note.
    #[must_use]
    pub fn take(&self) -> Option<Note> {
        self.notes().pop_front()
    }

    /// Waits for a note.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

/// A connection and its polling task.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    inbox: Arc<Inbox>,
    task: JoinHandle<()>,
}

/// A publish that cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The library's queue is full or gone.
    #[error("the connection takes no more publishes")]
    Busy,
    /// Beyond [`OUTGOING_BYTES_MAX`].
    #[error("a publish of {0} bytes is larger than a packet may be")]
    Oversize(usize),
}

impl Connection {
    /// Opens a connection for `agent`. `window` bounds unacknowledged publishes. A `sleeping` agent leaves no will:
    /// its silence is no news.
    ///
    /// # Errors
    /// Options that the library refuses.
    pub fn open(
        broker: &Broker,
        agent: AgentId,
        window: u16,
        sleeping: bool,
        since_ms: i64,
    ) -> Result<Self, rumqttc::ClientBuildError> {
        let address = BrokerAddress::tcp(broker.host.clone(), broker.port);
        let mut options = MqttOptions::new(format!("hunhe-{agent}"), address);
        options
            .set_keep_alive(broker.keep_alive_s)
            .set_clean_session(true)
            .set_max_packet_size(INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX)
            .set_max_request_batch(64)
            .set_inflight(window.saturating_add(8));
        if let Some((name, password)) = &broker.credentials {
            options.set_credentials(name.clone(), password.clone().into_bytes());
        }
        if !sleeping {
            let will = LastWill::new(topic::state(agent), state(false, since_ms), QoS::AtLeastOnce, true);
            options.set_last_will(will);
        }
        let capacity = usize::from(window) + 8;
        let (client, mut events) = AsyncClient::builder(options).capacity(capacity).try_build()?;
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let inbox = Arc::new(Inbox::default());
        let task = tokio::spawn(poll(events, client.clone(), agent, Arc::clone(&inbox)));
        Ok(Self { client, inbox, task })
    }

    /// What came.
    #[must_use]
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Hands over a publish at QoS 1. Its packet id follows as [`Note::Sent`], in order.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was handed over then.
    pub fn publish(&self, topic: String, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        if topic.len() + payload.len() + 16 > OUTGOING_BYTES_MAX {
            return Err(PublishError::Oversize(payload.len()));
        }
        let options = PublishOptions::at_least_once().retain(retain);
        self.client.try_publish(topic, payload, options).map_err(|_| PublishError::Busy)
    }

    /// Disconnects in good order, so that no will is published.
    pub fn close(self) {
        if self.client.try_disconnect_now().is_err() {
            self.task.abort();
        }
    }

    /// Tears the connection down without a word, as a power cut would.
    pub fn tear(self) {
        self.task.abort();
    }
}

/// An agent's connections over MQTT, one at a time.
#[derive(Debug)]
pub struct Mqtt {
    broker: Broker,
    agent: AgentId,
    window: u16,
    sleeping: bool,
    connection: Option<Connection>,
}

impl Mqtt {
    /// None yet. See [`Connection::open`].
    #[must_use]
    pub const fn new(broker: Broker, agent: AgentId, window: u16, sleeping: bool) -> Self {
        Self { broker, agent, window, sleeping, connection: None }
    }
}

impl Wakes for Mqtt {
    fn inbox(&self) -> Option<Arc<Inbox>> {
        self.connection.as_ref().map(|connection| Arc::clone(connection.inbox()))
    }
}

impl Port for Mqtt {
    type Error = rumqttc::ClientBuildError;

    fn open(&mut self, since_ms: i64) -> Result<(), Self::Error> {
        let connection = Connection::open(&self.broker, self.agent, self.window, self.sleeping, since_ms)?;
        self.connection = Some(connection);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    fn take(&mut self) -> Option<Note> {
        self.connection.as_ref()?.inbox().take()
    }

    fn publish(&mut self, topic: String, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        self.connection.as_ref().ok_or(PublishError::Busy)?.publish(topic, payload, retain)
    }

    fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    fn tear(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.tear();
        }
    }

    fn wall_ms(&self) -> i64 {
        wall_ms()
    }
}

/// The payload of an agent's state topic.
#[must_use]
pub fn state(online: bool, since_ms: i64) -> Vec<u8> {
    AgentState { online, since_ms, version: env!("CARGO_PKG_VERSION").into() }.encode_to_vec()
}

async fn poll(mut events: EventLoop, client: AsyncClient, agent: AgentId, inbox: Arc<Inbox>) {
    let watermark = topic::durable(agent);
    let lost = loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                if let Err(error) = client.try_subscribe(watermark.clone(), QoS::AtLeastOnce) {
                    break error.to_string();
                }
                inbox.push(Note::Connected);
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                if !ack.return_codes.iter().all(granted) {
                    break format!(
                        "the broker refuses the subscription to {watermark}; its rules must allow it"
                    );
                }
                inbox.push(Note::Subscribed);
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => inbox.push(Note::Acked(ack.pkid)),
            Ok(Event::Outgoing(Outgoing::Publish(pkid))) => inbox.push(Note::Sent(pkid)),
            Ok(Event::Incoming(Packet::Publish(publish))) if publish.topic == watermark.as_bytes() => {
                inbox.push(Note::Watermark(publish.payload.to_vec()));
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => break "disconnected".to_string(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    inbox.push(Note::Lost(lost));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_keeps_the_newest_watermarks_and_every_acknowledgement() {
        let inbox = Inbox::default();
        for index in 0..40 {
            inbox.push(Note::Acked(index));
            inbox.push(Note::Watermark(vec![index.to_le_bytes()[0]]));
        }
        let notes: Vec<_> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(notes.iter().filter(|note| matches!(note, Note::Acked(_))).count(), 40);
        let marks: Vec<_> = notes.iter().filter(|note| matches!(note, Note::Watermark(_))).collect();
        assert_eq!(marks.len(), WATERMARKS_MAX);
        assert_eq!(marks.last(), Some(&&Note::Watermark(vec![39])));
    }

    #[test]
    fn a_password_is_never_printed() {
        let credentials = Some(("a".to_string(), "geheim".to_string()));
        let broker = Broker { host: "h".into(), port: 1, credentials, keep_alive_s: 30 };
        assert_eq!(format!("{broker:?}"), "h:1");
    }
}
