//! Back to the edge: what each agent's outboxes may forget and should send again, retained on its topic.
//!
//! Coalesced to one message per agent and [`EVERY`]. While an agent with many devices sends, it gets one in several of these
//! rounds ([`is_due`]), since its message names all of them and the lane encodes it. A watermark that does not change is not
//! published twice, so it counts as published only when the broker has acknowledged it: until then it is sent again on the next
//! connection, and after a crash, since checkpoints name the agents that wait.
//!
//! A broker that acknowledges nothing for [`PATIENCE`] is left and found anew, since it may have forgotten what it was sent.
//!
//! Bound: the newest watermark of each agent waits while the broker is away, none else; [`IN_FLIGHT`] are on their way.

use crate::mqtt::{self, Broker, PublishingSession};
use hunhe_gateway_core::registry::AgentIx;
use hunhe_proto::id::AgentId;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, PublishOptions, QoS};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The least time between two watermarks of an agent.
pub const EVERY: Duration = Duration::from_secs(2);
/// Devices that a message may name in every round, and the most rounds between two messages to an agent.
const DEVICES_A_ROUND: usize = 256;
const ROUNDS_MAX: u64 = 5;

/// Whether an agent with so many devices, which sends, gets its watermark in a round. Agents of a size take turns.
#[must_use]
pub fn is_due(round: u64, agent: AgentIx, devices: usize) -> bool {
    let rounds = (devices.div_ceil(DEVICES_A_ROUND) as u64).clamp(1, ROUNDS_MAX);
    (round + u64::from(agent.0)).is_multiple_of(rounds)
}

/// Publishes waiting for the broker's acknowledgement.
const IN_FLIGHT: u16 = 64;
/// Without an acknowledgement for so long a connection is taken for dead.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
    /// When the oldest silence of the broker began: with the first watermark sent, or the last one acknowledged.
    silent_since: Option<Instant>,
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
    pub fn take(&self, now: Instant) -> Option<Taken> {
        let mut marks = self.marks();
        let (agent, durable) = marks.waiting.pop_first()?;
        marks.silent_since.get_or_insert(now);
        marks.last_ticket += 1;
        let ticket = marks.last_ticket;
        marks.sent.insert(ticket, (agent, durable.clone()));
        Some(Taken { ticket, agent, durable })
    }

    /// The broker has it.
    pub fn acknowledged(&self, ticket: u64, now: Instant) {
        let mut marks = self.marks();
        marks.sent.remove(&ticket);
        marks.silent_since = (!marks.sent.is_empty()).then_some(now);
    }

    /// Has the broker owed an acknowledgement for longer than [`PATIENCE`]?
    #[must_use]
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.marks().silent_since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }

    /// The connection is gone: what it did not acknowledge waits again, unless something newer does.
    pub fn lost(&self) {
        let mut marks = self.marks();
        marks.silent_since = None;
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
    let session =
        PublishingSession { suffix: "out", capacity: usize::from(IN_FLIGHT), in_flight: Some(IN_FLIGHT) };
    let connections = mqtt::keep_connected(broker, session, |client, event_loop| {
        let outgoing = outgoing.clone();
        async move {
            let handed = Arc::<Mutex<VecDeque<u64>>>::default();
            let connected = tokio::select! {
                connected = poll(event_loop, &outgoing, &handed) => connected,
                () = publish(client, outgoing.clone(), Arc::clone(&handed)) => true,
                () = stuck(&outgoing) => true,
            };
            outgoing.lost();
            connected
        }
    });
    tokio::select! {
        () = connections => {}
        _ = stop.wait_for(|stop| *stop) => outgoing.lost(),
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
                    outgoing.acknowledged(ticket, Instant::now());
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

/// Returns when the broker has been silent for too long.
async fn stuck(outgoing: &Outgoing) {
    while !outgoing.is_stuck(Instant::now()) {
        tokio::time::sleep(PATIENCE / 10).await;
    }
    tracing::warn!("the broker acknowledges no watermark: connecting anew");
}

async fn publish(client: AsyncClient, outgoing: Outgoing, handed: Arc<Mutex<VecDeque<u64>>>) {
    loop {
        let Some(Taken { ticket, agent, durable }) = outgoing.take(Instant::now()) else {
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
    fn an_agent_has_a_watermark_every_round_and_one_with_many_devices_every_few_rounds() {
        for (devices, rounds) in [(0, 1), (1, 1), (256, 1), (257, 2), (1_000, 4), (100_000, 5)] {
            for from in 0..10 {
                let told = (from..from + rounds).filter(|round| is_due(*round, AgentIx(7), devices)).count();
                assert_eq!(told, 1, "{devices} devices, of {rounds} rounds from {from}");
            }
        }
    }

    #[test]
    fn a_watermark_is_sent_until_it_is_acknowledged_and_never_in_place_of_a_newer_one() {
        let (outgoing, now) = (Outgoing::default(), Instant::now());
        outgoing.put(agent("a"), vec![1]);
        outgoing.put(agent("b"), vec![2]);
        let (first, second) = (outgoing.take(now).unwrap(), outgoing.take(now).unwrap());
        outgoing.put(agent("a"), vec![3]);
        let third = outgoing.take(now).unwrap();
        outgoing.acknowledged(second.ticket, now);
        assert_eq!(outgoing.unacknowledged(), BTreeSet::from([agent("a")]));
        outgoing.lost();
        let again = outgoing.take(now).unwrap();
        assert_eq!((again.agent, &again.durable), (first.agent, &third.durable));
        outgoing.put(agent("a"), vec![4]);
        outgoing.lost();
        let newest = outgoing.take(now).unwrap();
        assert_eq!((newest.durable, outgoing.take(now)), (vec![4], None));
        outgoing.acknowledged(newest.ticket, now);
        assert!(outgoing.unacknowledged().is_empty());
    }

    #[test]
    fn a_broker_that_owes_acknowledgements_for_too_long_is_stuck() {
        let (outgoing, start) = (Outgoing::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!outgoing.is_stuck(after(99)), "nothing was sent");
        outgoing.put(agent("a"), vec![1]);
        outgoing.put(agent("b"), vec![2]);
        let (first, second) = (outgoing.take(start).unwrap(), outgoing.take(after(20)).unwrap());
        assert!(!outgoing.is_stuck(after(29)) && outgoing.is_stuck(after(30)));
        outgoing.acknowledged(first.ticket, after(29));
        assert!(!outgoing.is_stuck(after(58)) && outgoing.is_stuck(after(59)));
        outgoing.acknowledged(second.ticket, after(58));
        assert!(!outgoing.is_stuck(after(999)));
        outgoing.put(agent("a"), vec![3]);
        let _ = outgoing.take(after(60));
        outgoing.lost();
        assert!(!outgoing.is_stuck(after(999)), "a new connection owes nothing yet");
    }
}
