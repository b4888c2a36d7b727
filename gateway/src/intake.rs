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
mod connection;
mod held;
mod share;

pub use share::{Over, OverShare, Shares};

use backlog::Backlog;
use connection::{Batch, Connection, Ended, connect, is_closed_by_peer};
use held::Held;

use crate::{
    clock::Clock,
    mqtt::Broker,
    record::{Delivery, Entering},
    retry::{Backoff, MQTT_WAITS},
};
use hunhe_log::{AppendError, Error as JournalError, Intake, Settled, Settlement};
use hunhe_proto::topic::{self};
use rumqttc::{AsyncClient, ManualAck, PubAck};
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
    /// Its thread panicked.
    #[error("a session's thread has panicked: the log has the cause")]
    Panicked,
}

/// Starts a session on a thread of its own, so that nothing else that the process does delays it. The future ends with it.
///
/// # Errors
/// No thread is to be had.
pub fn start_session(
    role: Role,
    session: impl Future<Output = Result<(), SessionError>> + Send + 'static,
) -> std::io::Result<impl Future<Output = Result<(), SessionError>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name(format!("mqtt-{}", role.suffix())).spawn(move || {
        // Nobody may be waiting any more.
        let _ = ended.send(runtime.block_on(session));
    })?;
    Ok(async { end.await.unwrap_or(Err(SessionError::Panicked)) })
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
            batch: Batch::default(),
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
        if matches!(ended, Ended::NoJournal) {
            return Err(SessionError::JournalEnded);
        }
        if matches!(ended, Ended::Shed) {
            acknowledger.status[session].shed.fetch_add(1, Ordering::Relaxed);
        }
        ended.report(&client_id, &broker);
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
