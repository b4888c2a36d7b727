//! Where an attacker attacks: passwords, ports, a pace, and connections from several addresses.
//!
//! The gateway bounds connections in all and of each address. Attackers come from [`PEERS`] addresses of loopback, so that they meet
//! the bounds in all as well; the page and whoever else is honest comes from 127.0.0.1.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpSocket, runtime::Runtime};

use super::super::{
    alarms::Alarms,
    city::{Agent, City},
    effects::Effects,
};
use crate::{publisher::Publisher, webhook::Webhook};

/// Addresses that attackers come from.
const PEERS: u8 = 8;
/// Longest wait for one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(2);
/// Behind by more than this, an attacker does not make up for it.
const BEHIND: Duration = Duration::from_millis(500);
/// What a client that reads nothing takes before it blocks: the least that Linux grants.
const RECEIVE_BYTES: u32 = 2_048;
/// What an attacker counts where nobody answers.
const NO_ANSWER: &str = "no answer";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// Where it attacks, and with whose passwords.
#[derive(Debug)]
pub(in crate::siege) struct Field<'a> {
    /// The city.
    pub(in crate::siege) city: &'a City,
    /// The true alarms, which pages must see.
    pub(in crate::siege) alarms: &'a Alarms,
    /// How long one may take, and a small answer with it.
    pub(in crate::siege) slowest: Duration,
    /// The gateway's port for people.
    pub(in crate::siege) http: u16,
    /// The broker's port for agents.
    pub(in crate::siege) broker: u16,
    /// The broker's port for the gateway.
    pub(in crate::siege) gateway_broker: u16,
    /// The output that alarms are counted at.
    pub(in crate::siege) duty: &'a Webhook,
    /// Outputs that somebody configured: to be slow, to hang, to refuse.
    pub(in crate::siege) webhooks: &'a [Arc<Webhook>; 3],
    /// Which attacker this is: nobody else has its agents.
    pub(in crate::siege) number: usize,
    /// Unlike in any stage before: outboxes begun then are not gone on with.
    pub(in crate::siege) stage: u32,
    /// Set when it is over.
    pub(in crate::siege) cleared: &'a AtomicBool,
    /// What came of it so far.
    pub(in crate::siege) effects: &'a Effects,
}

impl Field<'_> {
    /// A concentrator of a thousand gas meters.
    pub(super) fn meters(&self) -> &Agent {
        &self.city.stolen_meters[self.number]
    }

    /// An edge box of four gas detectors.
    pub(super) fn detectors(&self) -> &Agent {
        &self.city.stolen_detectors[self.number]
    }

    /// A pressure logger, its own agent.
    pub(super) fn logger(&self) -> &Agent {
        &self.city.stolen_loggers[self.number]
    }

    /// Counts one more of this.
    pub(super) fn note(&self, what: &str) {
        self.effects.add(what, 1);
    }

    pub(super) fn is_over(&self) -> bool {
        self.cleared.load(Relaxed)
    }

    /// Waits for a while, or until it is over.
    pub(super) fn wait(&self, lasting: Duration) {
        let begun = Instant::now();
        while !self.is_over() && begun.elapsed() < lasting {
            std::thread::sleep(TICK.min(lasting));
        }
    }

    /// Calls `each` so often a second, with its number.
    pub(super) fn pace(&self, per_s: u32, mut each: impl FnMut(u64)) {
        let (every, mut due, mut count) = (Duration::from_secs(1) / per_s, Instant::now(), 0);
        while !self.is_over() {
            let now = Instant::now();
            if now < due {
                std::thread::sleep((due - now).min(TICK.max(every)));
                continue;
            }
            each(count);
            count += 1;
            due = (due + every).max(Instant::now().checked_sub(BEHIND).unwrap_or(due));
        }
    }

    /// Publishes as an agent so often a second, connected again wherever the broker ends that. Counts what the broker `took`.
    pub(super) fn flood(&self, agent: &Agent, per_s: u32, mut message: impl FnMut(u64) -> (String, Vec<u8>)) {
        let connect = || Publisher::connect(self.broker, &agent.id, 64).ok();
        let mut publisher = connect();
        self.pace(per_s, |number| {
            let (topic, payload) = message(number);
            let sent = publisher.as_mut().is_some_and(|publisher| {
                publisher.publish(topic.as_bytes(), &payload).and_then(|()| publisher.settle()).is_ok()
            });
            self.note(if sent { "taken" } else { "cut" });
            if !sent {
                publisher = connect();
            }
        });
    }

    /// Sends text to the gateway's port and reads what comes, until the end or for a while. Counts the status, or that there is none.
    pub(super) fn ask(&self, request: &str) -> Option<Vec<u8>> {
        let answer = self.knock().and_then(|mut socket| {
            socket.write_all(request.as_bytes()).ok()?;
            let (mut answer, begun, mut buffer) = (Vec::new(), Instant::now(), [0; 16 * 1024]);
            while begun.elapsed() < PATIENCE && !self.is_over() {
                match socket.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => answer.extend_from_slice(&buffer[..length]),
                }
            }
            Some(answer)
        });
        if !(self.is_over() && answer.as_ref().is_none_or(Vec::is_empty)) {
            self.note(answer.as_deref().and_then(status_of).unwrap_or(NO_ANSWER));
        }
        answer
    }

    /// Connects to the gateway's port, from one of the attackers' addresses.
    pub(super) fn knock(&self) -> Option<TcpStream> {
        self.connect(next_peer(), None)
    }

    /// The same with a receive buffer as small as may be, for one that reads nothing.
    pub(super) fn knock_deaf(&self) -> Option<TcpStream> {
        self.connect(next_peer(), Some(RECEIVE_BYTES))
    }

    /// The same from where honest people come.
    pub(super) fn knock_honestly(&self) -> Option<TcpStream> {
        self.connect(Ipv4Addr::LOCALHOST, None)
    }

    fn connect(&self, from: Ipv4Addr, receive_bytes: Option<u32>) -> Option<TcpStream> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.http));
        let connected = RUNTIME.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            if let Some(bytes) = receive_bytes {
                socket.set_recv_buffer_size(bytes)?;
            }
            tokio::time::timeout(PATIENCE, socket.connect(to))
                .await?
                .and_then(tokio::net::TcpStream::into_std)
        });
        let socket = connected.ok()?;
        socket.set_nonblocking(false).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(socket)
    }

    /// Asks for a path as a browser would.
    pub(super) fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.ask(&get(path, "127.0.0.1"))
    }
}

fn next_peer() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    Ipv4Addr::new(127, 0, 0, 2 + NEXT.fetch_add(1, Relaxed) % PEERS)
}

/// A request that ends its connection.
pub(super) fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

/// The status of an answer that begins so.
pub(super) fn status_of(answer: &[u8]) -> Option<&str> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(status).ok().filter(|status| status.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The status that waits at a socket, which takes nothing.
pub(super) fn status_waiting(socket: &TcpStream) -> Option<String> {
    let mut begin = [0; 12];
    socket.set_nonblocking(true).ok()?;
    let length = socket.peek(&mut begin).ok();
    socket.set_nonblocking(false).ok()?;
    status_of(&begin[..length?]).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_behind_the_version() {
        assert_eq!(status_of(b"HTTP/1.1 429 Too Many Requests\r\n"), Some("429"));
        for other in [&b""[..], b"HTTP/1.1 42", b"HTTP/1.0 200 OK", b"HTTP/1.1 2x0 OK"] {
            assert_eq!(status_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn attackers_come_from_other_addresses_than_the_page() {
        let peers: std::collections::BTreeSet<Ipv4Addr> = (0..300).map(|_| next_peer()).collect();
        assert_eq!(peers.len(), usize::from(PEERS));
        assert!(!peers.contains(&Ipv4Addr::LOCALHOST));
    }
}
