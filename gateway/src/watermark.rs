//! Back to the edge: what each agent's outboxes may forget and should send again, retained on its topic.
//!
//! Coalesced to one message per agent and [`EVERY`]. Losing one loses nothing: the next carries the whole state.
//! Bound: the newest watermark of each agent waits while the broker is away, none else.

use crate::intake::{Backoff, Broker, network, options};
use hunhe_proto::id::AgentId;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, PublishOptions, QoS};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// The least time between two watermarks of an agent.
pub const EVERY: Duration = Duration::from_secs(2);
/// Publishes waiting for the broker's acknowledgement.
const IN_FLIGHT: u16 = 64;

/// Watermarks on their way out.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    waiting: Arc<Mutex<BTreeMap<AgentId, Vec<u8>>>>,
    more: Arc<Notify>,
}

impl Outgoing {
    /// Puts an agent's newest watermark in the place of any that still waits.
    pub fn put(&self, agent: AgentId, durable: Vec<u8>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(agent, durable);
        self.more.notify_one();
    }

    /// Takes one that waits.
    #[must_use]
    pub fn take(&self) -> Option<(AgentId, Vec<u8>)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    fn put_back(&self, agent: AgentId, durable: Vec<u8>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(agent).or_insert(durable);
    }
}

/// Publishes until `stop` is set.
pub async fn run(broker: Broker, outgoing: Outgoing, mut stop: tokio::sync::watch::Receiver<bool>) {
    let client_id = format!("{}-out", broker.client_id);
    let mut backoff = Backoff::new(&client_id);
    while !*stop.borrow() {
        let mut options = options(&broker, &client_id);
        options.set_clean_session(true).set_inflight(IN_FLIGHT);
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(usize::from(IN_FLIGHT)).build();
        event_loop.set_network_options(network());
        let publisher = tokio::spawn(publish(client, outgoing.clone()));
        let connected = tokio::select! {
            connected = poll(event_loop) => connected,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        publisher.abort();
        if connected {
            backoff.reset();
        }
        if !*stop.borrow() {
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

/// Returns when the connection is lost, and whether there was one.
async fn poll(mut event_loop: EventLoop) -> bool {
    let mut connected = false;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => connected = true,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "connection for watermarks lost");
                return connected;
            }
        }
    }
}

async fn publish(client: AsyncClient, outgoing: Outgoing) {
    loop {
        let Some((agent, durable)) = outgoing.take() else {
            outgoing.more.notified().await;
            continue;
        };
        let topic = hunhe_proto::topic::durable(agent);
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        if client.publish(topic, durable.clone(), options).await.is_err() {
            outgoing.put_back(agent, durable);
            return;
        }
    }
}
