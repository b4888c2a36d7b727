//! A scripted broker: a small MQTT 3.1.1 broker that can be told to misbehave as no real one does on request, and
//! that keeps record of what it delivered and what was acknowledged, and when.
//!
//! - Each connection takes the next [`Manner`] that its client's script holds; without one it is served well.
//! - A session outlives its connections: what was not acknowledged is delivered again on the next one, first and in
//!   order.
//! - Two threads a connection, so that an acknowledgement's time is taken when its bytes come.
//!
//! Deliberately absent: disks, QoS 2 of its own will, access lists.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    listener::listen,
    mqtt::{self, Decoder, Packet, Publish},
    process::eventually,
};

const READY: Duration = Duration::from_secs(20);
/// Messages written at once.
const WRITE_MAX: usize = 64;
/// Payloads remembered of a client.
const SEEN_MAX: usize = 64;
/// As our sample of a broker's configuration has it.
const WINDOW: usize = 4_096;

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
                std::thread::spawn(move || serve(&state, socket));
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
        session.waiting.extend(messages.into_iter().map(|(number, topic, payload)| Message {
            number,
            topic,
            payload,
            retain: false,
            delivered: false,
        }));
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
        while self.record(client_id).outstanding > 0 {
            assert!(
                begun.elapsed() < within,
                "{client_id} has not acknowledged {} messages within {within:?}",
                self.record(client_id).outstanding
            );
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
                session.waiting.push_back(Message {
                    number: u64::MAX,
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    retain: false,
                    delivered: false,
                });
            }
        }
        self.changed.notify_all();
    }
}

fn serve(state: &Arc<State>, mut socket: TcpStream) {
    let _ = socket.set_nonblocking(false);
    let _ = socket.set_nodelay(true);
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 64 * 1024]);
    let mut client: Option<(String, u64, Manner)> = None;
    let mut heard = 0;
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        decoder.feed(&buffer[..length]);
        while let Some(packet) = decoder.next_packet() {
            let goes_on = match (&packet, &mut client) {
                (Packet::Connect { client_id, clean }, None) => {
                    client = begin(state, &mut socket, client_id, *clean);
                    client.is_some()
                }
                (Packet::Disconnect, _) | (_, None) => false,
                (_, Some((_, _, Manner::Silence))) if !matches!(packet, Packet::Subscribe { .. }) => true,
                (_, Some((id, number, manner))) => {
                    hear(state, &mut socket, id, *number, manner, &packet, &mut heard)
                }
            };
            if !goes_on {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    state.changed.notify_all();
}

/// A client is there: its manner, its session, its CONNACK.
fn begin(state: &Arc<State>, socket: &mut TcpStream, id: &str, clean: bool) -> Option<(String, u64, Manner)> {
    let mut sessions = state.sessions();
    let present = sessions.get(id).is_some_and(|session| session.connection > 0);
    let session = sessions.entry(id.into()).or_default();
    let manner = session.script.pop_front().unwrap_or(Manner::Window(WINDOW));
    session.connection += 1;
    session.subscribed = false;
    session.without_dup |= matches!(manner, Manner::Disbelieve(_));
    if let Some(old) = session.socket.take() {
        let _ = old.shutdown(Shutdown::Both);
    }
    session.socket = socket.try_clone().ok();
    while let Some((_, mut message, _)) = session.in_flight.pop_back() {
        message.delivered = true;
        session.waiting.push_front(message);
    }
    if clean {
        session.waiting.clear();
    }
    let forgets = clean || manner == Manner::ForgetSession;
    if forgets {
        session.filters.clear();
    }
    let number = session.connection;
    drop(sessions);
    let code = if let Manner::Refuse(code) = manner { code } else { 0 };
    let answered = socket.write_all(&[0x20, 2, u8::from(present && !forgets && code == 0), code]);
    (answered.is_ok() && code == 0 && manner != Manner::CloseAfterConnack)
        .then(|| (id.to_owned(), number, manner))
}

/// Whether the connection goes on.
fn hear(
    state: &Arc<State>,
    socket: &mut TcpStream,
    client: &str,
    connection: u64,
    manner: &Manner,
    packet: &Packet,
    heard: &mut u64,
) -> bool {
    match packet {
        Packet::Subscribe { id, filters } => {
            let code = if *manner == Manner::RefuseSubscription { 0x80 } else { 1 };
            let mut answer = id.to_be_bytes().to_vec();
            answer.extend(filters.iter().map(|_| code));
            if code == 1 {
                subscribe(state, client, connection, filters);
            }
            if socket.write_all(&mqtt::packet(0x90, &answer)).is_err() || *manner == Manner::CloseAfterSuback
            {
                return false;
            }
            if let Manner::Unasked(bytes) = manner {
                // A broker's bytes may meet a socket that the client has given up.
                let _ = socket.write_all(bytes);
            }
            // One deliverer a connection, however many subscriptions.
            let mut sessions = state.sessions();
            let Some(session) = sessions.get_mut(client) else { return false };
            if code == 1 && !session.subscribed && session.connection == connection {
                session.subscribed = true;
                drop(sessions);
                let (state, client, manner) = (Arc::clone(state), client.to_owned(), manner.clone());
                if let Ok(socket) = socket.try_clone() {
                    std::thread::spawn(move || deliver(&state, socket, &client, connection, &manner));
                }
            }
            true
        }
        Packet::PubAck(id) => {
            let at = Instant::now();
            *heard += 1;
            if let Manner::Disbelieve(count) = manner {
                return *heard < *count;
            }
            let mut sessions = state.sessions();
            let Some(session) = sessions.get_mut(client) else { return false };
            match session.in_flight.iter().position(|(known, ..)| known == id) {
                Some(position) => {
                    session.out_of_order += u64::from(position > 0);
                    if let Some((_, message, sent)) = session.in_flight.remove(position) {
                        session.acknowledged.push(message.number);
                        session.latencies.push(at - sent);
                    }
                }
                None => session.stray += 1,
            }
            drop(sessions);
            state.changed.notify_all();
            true
        }
        Packet::Publish(publish) => {
            if !publish.topic.starts_with("hunhe/v1/agents/")
                && let Some(session) = state.sessions().get_mut(client)
            {
                session.seen.push_back(publish.payload.clone());
                if session.seen.len() > SEEN_MAX {
                    session.seen.pop_front();
                }
            }
            if *manner != Manner::ThrowAway {
                state.route(publish);
            }
            let silent = publish.qos == 0 || *manner == Manner::NeverAcknowledge;
            silent || socket.write_all(&mqtt::with_id(0x40, publish.id)).is_ok()
        }
        // An answer would be read as the rest of the packet.
        Packet::PingReq if matches!(manner, Manner::HalfPacket { .. }) => true,
        Packet::PingReq => socket.write_all(&[0xd0, 0]).is_ok(),
        _ => true,
    }
}

fn subscribe(state: &State, client: &str, connection: u64, filters: &[String]) {
    let retained = state.retained.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut sessions = state.sessions();
    let Some(session) = sessions.get_mut(client).filter(|session| session.connection == connection) else {
        return;
    };
    for filter in filters {
        if !session.filters.contains(filter) {
            session.filters.push(filter.clone());
        }
        for (topic, payload) in retained.iter().filter(|(topic, _)| mqtt::matches(filter, topic)) {
            session.waiting.push_back(Message {
                number: u64::MAX,
                topic: topic.clone(),
                payload: payload.clone(),
                retain: true,
                delivered: false,
            });
        }
    }
}

fn deliver(state: &State, mut socket: TcpStream, client: &str, connection: u64, manner: &Manner) {
    if *manner == Manner::Silence {
        return;
    }
    let window = if let Manner::Window(window) = manner { *window } else { WINDOW };
    let mut delivered = 0;
    loop {
        let mut out = Vec::new();
        let mut sessions = state.sessions();
        let half = loop {
            let Some(session) = sessions.get_mut(client).filter(|session| session.connection == connection)
            else {
                return;
            };
            if take(session, window, manner, &mut delivered, &mut out) {
                break true;
            }
            if !out.is_empty() {
                break false;
            }
            let waited = state.changed.wait_timeout(sessions, Duration::from_millis(100));
            sessions = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(sessions);
        if socket.write_all(&out).is_err() {
            return;
        }
        if half {
            if matches!(manner, Manner::HalfPacket { cut: true, .. }) {
                let _ = socket.shutdown(Shutdown::Both);
            }
            return;
        }
    }
}

/// Moves what may be delivered into flight and writes it to `out`; true if its last packet is half a one.
fn take(
    session: &mut Session,
    window: usize,
    manner: &Manner,
    delivered: &mut u64,
    out: &mut Vec<u8>,
) -> bool {
    for _ in 0..WRITE_MAX {
        if session.in_flight.len() >= window {
            break;
        }
        let Some(message) = session.waiting.pop_front() else { break };
        session.next_id = session.next_id.checked_add(1).unwrap_or(1);
        let id = if *manner == Manner::SameId { 1 } else { session.next_id };
        let publish = Publish {
            dup: message.delivered && !session.without_dup,
            qos: 1,
            retain: message.retain,
            topic: message.topic.clone(),
            id,
            payload: message.payload.clone(),
        };
        let begun = out.len();
        mqtt::push_publish(out, &publish);
        if matches!(manner, Manner::HalfPacket { after, .. } if *after == *delivered) {
            out.truncate(begun + (out.len() - begun) / 2);
            session.waiting.push_front(message);
            return true;
        }
        if *manner == Manner::Twice {
            mqtt::push_publish(out, &Publish { dup: true, ..publish });
        }
        *delivered += 1;
        session.in_flight.push_back((id, message, Instant::now()));
    }
    false
}
