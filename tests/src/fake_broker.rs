//! A scripted broker: a small MQTT 3.1.1 broker that can be told to misbehave as no real one does on request, and
//! that keeps record of what it delivered and what was acknowledged, and when.
//!
//! - Each connection takes the next [`Manner`] that its client's script holds; without one it is served well.
//! - A session outlives its connections: what was not acknowledged is delivered again on the next one, first and in
//!   order.
//! - Two threads a connection, so that an acknowledgement's time is taken when its bytes come.
//!
//! Deliberately absent: disks, QoS 2 of its own will, access lists.

mod serve;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    listener::listen,
    mqtt::{self, Publish},
    process::eventually,
};

const READY: Duration = Duration::from_secs(20);

/// How one connection is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As it should be, with this many deliveries unacknowledged at most.
    Window(usize),
    /// CONNACK with this return code, and the end.
    Refuse(u8),
    /// The end right after a good CONNACK.
    CloseAfterConnack,
    /// The end right after the subscription was granted.
    CloseAfterSuback,
    /// SUBACK with 0x80.
    RefuseSubscription,
    /// No memory of the session: CONNACK without it, nothing subscribed before is known.
    ForgetSession,
    /// CONNACK, SUBACK, and then not a byte more, not even an answer to a ping; the socket stays open.
    Silence,
    /// These bytes after the SUBACK, then as it should be.
    Unasked(Vec<u8>),
    /// So many deliveries, then half of one and no more; `cut`: and the end.
    HalfPacket {
        /// Deliveries before.
        after: u64,
        /// The socket is closed.
        cut: bool,
    },
    /// Each delivery twice with the same packet id.
    Twice,
    /// Each delivery with packet id 1, acknowledged or not.
    SameId,
    /// So many acknowledgements are heard and not believed, then the end: all comes again with other packet ids and
    /// without DUP.
    Disbelieve(u64),
    /// Publishes are passed on and never acknowledged.
    NeverAcknowledge,
    /// Publishes are acknowledged and thrown away.
    ThrowAway,
}

/// A message with the number that the test knows it by.
#[derive(Debug, Clone)]
struct Message {
    number: u64,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    /// On an earlier connection.
    delivered: bool,
}

impl Message {
    fn new(number: u64, topic: String, payload: Vec<u8>) -> Self {
        Self { number, topic, payload, retain: false, delivered: false }
    }
}

#[derive(Debug, Default)]
struct Session {
    filters: Vec<String>,
    waiting: VecDeque<Message>,
    in_flight: VecDeque<(u16, Message, Instant)>,
    next_id: u16,
    /// Counts connections; a thread of an earlier one has nothing to say any more.
    connection: u64,
    socket: Option<TcpStream>,
    /// Subscribed on this connection.
    subscribed: bool,
    acknowledged: Vec<u64>,
    latencies: Vec<Duration>,
    /// Acknowledgements of what was not in flight.
    stray: u64,
    /// Acknowledgements that overtook another.
    out_of_order: u64,
    /// Payloads that it published on its devices' topics, the latest.
    seen: VecDeque<Vec<u8>>,
    /// What was delivered before comes again as if it had not been.
    without_dup: bool,
    script: VecDeque<Manner>,
}

#[derive(Debug, Default)]
struct State {
    sessions: Mutex<BTreeMap<String, Session>>,
    retained: Mutex<BTreeMap<String, Vec<u8>>>,
    changed: Condvar,
    ended: AtomicBool,
}

impl State {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A broker; it ends when dropped.
#[derive(Debug)]
pub struct FakeBroker {
    /// Its port on loopback.
    pub port: u16,
    state: Arc<State>,
}

/// What a session's record says.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Numbers of the messages acknowledged, in the order of the acknowledgements.
    pub acknowledged: Vec<u64>,
    /// From a delivery to its acknowledgement.
    pub latencies: Vec<Duration>,
    /// Messages waiting or in flight.
    pub outstanding: usize,
    /// Connections so far.
    pub connections: u64,
    /// Acknowledgements of what was not in flight.
    pub stray: u64,
    /// Acknowledgements that overtook another.
    pub out_of_order: u64,
}

impl FakeBroker {
    /// Starts one.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn start() -> Self {
        let state = Arc::<State>::default();
        let (of_listener, of_sessions) = (Arc::clone(&state), Arc::clone(&state));
        let port = listen(
            move || of_listener.ended.load(Ordering::Relaxed),
            move |socket| {
                let state = Arc::clone(&of_sessions);
                std::thread::spawn(move || serve::serve(&state, socket));
            },
        );
        Self { port, state }
    }

    /// The next connections of a client are served so, one each.
    pub fn script(&self, client_id: &str, manners: impl IntoIterator<Item = Manner>) {
        self.state.sessions().entry(client_id.into()).or_default().script.extend(manners);
    }

    /// Ends a client's connection, so that its script's next line begins.
    pub fn cut(&self, client_id: &str) {
        if let Some(socket) =
            self.state.sessions().get_mut(client_id).and_then(|session| session.socket.take())
        {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a client has subscribed on its present connection.
    ///
    /// # Panics
    /// It does not.
    pub fn await_subscribed(&self, client_id: &str) {
        eventually(READY, &format!("{client_id} subscribes"), || {
            self.state.sessions().get(client_id).is_some_and(|session| session.subscribed).then_some(())
        });
    }

    /// Puts messages into a client's session, `(number, topic, payload)`, whatever it subscribed.
    pub fn offer(&self, client_id: &str, messages: impl IntoIterator<Item = (u64, String, Vec<u8>)>) {
        let mut sessions = self.state.sessions();
        let session = sessions.entry(client_id.into()).or_default();
        let messages = messages.into_iter();
        session.waiting.extend(messages.map(|(number, topic, payload)| Message::new(number, topic, payload)));
        drop(sessions);
        self.state.changed.notify_all();
    }

    /// Publishes as a client would, to every session that subscribed and into the store of what is retained.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        self.state.route(&Publish {
            dup: false,
            qos: 1,
            retain,
            topic: topic.into(),
            id: 0,
            payload: payload.into(),
        });
    }

    /// What is retained on a topic.
    #[must_use]
    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        self.state.retained.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// The latest payloads that a client published on its devices' topics.
    #[must_use]
    pub fn seen(&self, client_id: &str) -> Vec<Vec<u8>> {
        let sessions = self.state.sessions();
        sessions.get(client_id).map_or_else(Vec::new, |session| session.seen.iter().cloned().collect())
    }

    /// Messages waiting in a session, not yet delivered.
    #[must_use]
    pub fn waiting(&self, client_id: &str) -> usize {
        self.state.sessions().get(client_id).map_or(0, |session| session.waiting.len())
    }

    /// Drops what waits in a session and was never delivered; answers how many that were.
    #[must_use]
    pub fn withdraw(&self, client_id: &str) -> usize {
        let mut sessions = self.state.sessions();
        let Some(session) = sessions.get_mut(client_id) else { return 0 };
        // What comes again was delivered before.
        let fresh = session.waiting.iter().filter(|message| !message.delivered).count();
        session.waiting.retain(|message| message.delivered);
        fresh
    }

    /// What is known of a session.
    #[must_use]
    pub fn record(&self, client_id: &str) -> Record {
        let sessions = self.state.sessions();
        sessions.get(client_id).map_or_else(Record::default, |session| Record {
            acknowledged: session.acknowledged.clone(),
            latencies: session.latencies.clone(),
            outstanding: session.waiting.len() + session.in_flight.len(),
            connections: session.connection,
            stray: session.stray,
            out_of_order: session.out_of_order,
        })
    }

    /// How many messages a session has acknowledged.
    #[must_use]
    pub fn acknowledged(&self, client_id: &str) -> usize {
        self.state.sessions().get(client_id).map_or(0, |session| session.acknowledged.len())
    }

    /// Waits until everything that a session was offered is acknowledged.
    ///
    /// # Panics
    /// It takes longer.
    pub fn await_all_acknowledged(&self, client_id: &str, within: Duration) {
        let begun = Instant::now();
        loop {
            let outstanding = self.record(client_id).outstanding;
            if outstanding == 0 {
                return;
            }
            let late = begun.elapsed() >= within;
            assert!(!late, "{client_id} has not acknowledged {outstanding} messages within {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        for session in self.state.sessions().values_mut() {
            session.connection += 1;
            if let Some(socket) = session.socket.take() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.state.changed.notify_all();
    }
}

impl State {
    fn route(&self, publish: &Publish) {
        if publish.retain {
            let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
            retained.insert(publish.topic.clone(), publish.payload.clone());
        }
        for session in self.sessions().values_mut() {
            if session.filters.iter().any(|filter| mqtt::matches(filter, &publish.topic)) {
                session.waiting.push_back(Message::new(
                    u64::MAX,
                    publish.topic.clone(),
                    publish.payload.clone(),
                ));
            }
        }
        self.changed.notify_all();
    }
}
