//! One connection of the scripted broker: read by one thread, written by another.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Manner, Message, Session, State};
use crate::mqtt::{self, Decoder, Packet, Publish};

/// Messages written at once.
const WRITE_MAX: usize = 64;
/// Payloads remembered of a client.
const SEEN_MAX: usize = 64;
/// As our sample of a broker's configuration has it.
const WINDOW: usize = 4_096;

pub(super) fn serve(state: &Arc<State>, mut socket: TcpStream) {
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
        Packet::Subscribe { id, filters } => grant(state, socket, client, connection, manner, (*id, filters)),
        Packet::PubAck(id) => {
            *heard += 1;
            if let Manner::Disbelieve(count) = manner {
                return *heard < *count;
            }
            acknowledge(state, client, *id)
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

/// Answers a subscription, and delivers from then on; whether the connection goes on.
fn grant(
    state: &Arc<State>,
    socket: &mut TcpStream,
    client: &str,
    connection: u64,
    manner: &Manner,
    (id, filters): (u16, &[String]),
) -> bool {
    let code = if *manner == Manner::RefuseSubscription { 0x80 } else { 1 };
    let mut answer = id.to_be_bytes().to_vec();
    answer.extend(filters.iter().map(|_| code));
    if code == 1 {
        subscribe(state, client, connection, filters);
    }
    if socket.write_all(&mqtt::packet(0x90, &answer)).is_err() || *manner == Manner::CloseAfterSuback {
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

fn acknowledge(state: &State, client: &str, id: u16) -> bool {
    let at = Instant::now();
    let mut sessions = state.sessions();
    let Some(session) = sessions.get_mut(client) else { return false };
    match session.in_flight.iter().position(|(known, ..)| *known == id) {
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
            let message = Message::new(u64::MAX, topic.clone(), payload.clone());
            session.waiting.push_back(Message { retain: true, ..message });
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
