//! Back to the edge: what each agent's outboxes may forget and should send again, retained on its topic.
//!
//! Coalesced to one message per agent and [`EVERY`]. Nobody tells an agent twice what does not change, so a watermark counts as
//! told only when the broker has acknowledged it: until then it is sent again on the next connection, and after a crash, since
//! checkpoints name the agents that wait.
//!
//! Bound: the newest watermark of each agent waits while the broker is away, none else; [`IN_FLIGHT`] are on their way.

use crate::intake::{Backoff, Broker, network, options};
use hunhe_proto::id::AgentId;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, PublishOptions, QoS};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    marks: Arc<Mutex<Marks>>,
    more: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Marks {
    waiting: BTreeMap<AgentId, Vec<u8>>,
    /// Handed over and not acknowledged, by ticket: later ones are newer.
    sent: BTreeMap<u64, (AgentId, Vec<u8>)>,
    last_ticket: u64,
}

/// A watermark that was taken to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// For [`Outgoing::acknowledged`].
    pub ticket: u64,
    /// Whose.
    pub agent: AgentId,
    /// The message.
    pub durable: Vec<u8>,
}

impl Outgoing {
    /// Puts an agent's newest watermark in the place of any that still waits.
    pub fn put(&self, agent: AgentId, durable: Vec<u8>) {
        self.marks().waiting.insert(agent, durable);
        self.more.notify_one();
    }

    /// Takes one that waits, to be sent.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let mut marks = self.marks();
        let (agent, durable) = marks.waiting.pop_first()?;
        marks.last_ticket += 1;
        let ticket = marks.last_ticket;
        marks.sent.insert(ticket, (agent, durable.clone()));
        Some(Taken { ticket, agent, durable })
    }

    /// The broker has it.
    pub fn acknowledged(&self, ticket: u64) {
        self.marks().sent.remove(&ticket);
    }

    /// The connection is gone: what it did not acknowledge waits again, unless something newer does.
    pub fn lost(&self) {
        let mut marks = self.marks();
        for (agent, durable) in std::mem::take(&mut marks.sent).into_values().rev() {
            marks.waiting.entry(agent).or_insert(durable);
        }
        drop(marks);
        self.more.notify_one();
    }

    /// Whose newest watermark the broker does not have yet.
    #[must_use]
    pub fn unacknowledged(&self) -> BTreeSet<AgentId> {
        let marks = self.marks();
        marks.waiting.keys().copied().chain(marks.sent.values().map(|(agent, _)| *agent)).collect()
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        // No change is ever left half done under the lock.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
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
        let handed = Arc::<Mutex<VecDeque<u64>>>::default();
        let publisher = tokio::spawn(publish(client, outgoing.clone(), Arc::clone(&handed)));
        let connected = tokio::select! {
            connected = poll(event_loop, &outgoing, &handed) => connected,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        publisher.abort();
        // It may be taking one just now.
        let _ = publisher.await;
        outgoing.lost();
        if connected {
            backoff.reset();
        }
        if !*stop.borrow() {
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

/// Returns when the connection is lost, and whether there was one.
async fn poll(mut event_loop: EventLoop, outgoing: &Outgoing, handed: &Mutex<VecDeque<u64>>) -> bool {
    let mut connected = false;
    let mut tickets = BTreeMap::new();
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => connected = true,
            // Packets get their ids in the order in which they were handed over.
            Ok(Event::Outgoing(rumqttc::Outgoing::Publish(packet))) => {
                let ticket = handed.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                tickets.extend(ticket.map(|ticket| (packet, ticket)));
            }
            Ok(Event::Incoming(Incoming::PubAck(acknowledged))) => {
                if let Some(ticket) = tickets.remove(&acknowledged.pkid) {
                    outgoing.acknowledged(ticket);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "connection for watermarks lost");
                return connected;
            }
        }
    }
}

async fn publish(client: AsyncClient, outgoing: Outgoing, handed: Arc<Mutex<VecDeque<u64>>>) {
    loop {
        let Some(Taken { ticket, agent, durable }) = outgoing.take() else {
            outgoing.more.notified().await;
            continue;
        };
        let topic = hunhe_proto::topic::durable(agent);
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        handed.lock().unwrap_or_else(PoisonError::into_inner).push_back(ticket);
        if client.publish(topic, durable, options).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    #[test]
    fn a_watermark_is_sent_until_it_is_acknowledged_and_never_in_place_of_a_newer_one() {
        let outgoing = Outgoing::default();
        outgoing.put(agent("a"), vec![1]);
        outgoing.put(agent("b"), vec![2]);
        let (first, second) = (outgoing.take().unwrap(), outgoing.take().unwrap());
        outgoing.put(agent("a"), vec![3]);
        let third = outgoing.take().unwrap();
        outgoing.acknowledged(second.ticket);
        assert_eq!(outgoing.unacknowledged(), BTreeSet::from([agent("a")]));
        outgoing.lost();
        let again = outgoing.take().unwrap();
        assert_eq!((again.agent, &again.durable), (first.agent, &third.durable));
        outgoing.put(agent("a"), vec![4]);
        outgoing.lost();
        let newest = outgoing.take().unwrap();
        assert_eq!((newest.durable, outgoing.take()), (vec![4], None));
        outgoing.acknowledged(newest.ticket);
        assert!(outgoing.unacknowledged().is_empty());
    }
}
