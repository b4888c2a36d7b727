//! The attackers, one file each: what each does, from its first turn until it is stopped.
//!
//! Each has a pace: a city's machine must bear it beside everything else on two processors, and what it does to the programs, not to
//! the processors, is what is judged. An attacker with an agent's password has that agent for itself.

mod abandoned;
mod alert_changes;
mod backups;
mod big_reports;
mod deaf_pages;
mod forged_boots;
mod forged_topics;
mod future_samples;
mod half_requests;
mod junk;
mod next_seq;
mod questions;
mod rebinding;
mod reconnects;
mod retained;
mod series;
mod silent_connections;
mod takeover;
mod undecodable;
mod webhooks;
mod wrong_shards;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::city::{Agent, City};
use crate::{publisher::Publisher, webhook::Webhook};

/// All of them, in the order in which they attack alone.
pub(super) const ALL: [Attacker; 21] = [
    questions::ATTACKER,
    abandoned::ATTACKER,
    series::ATTACKER,
    half_requests::ATTACKER,
    silent_connections::ATTACKER,
    deaf_pages::ATTACKER,
    backups::ATTACKER,
    rebinding::ATTACKER,
    webhooks::ATTACKER,
    takeover::ATTACKER,
    reconnects::ATTACKER,
    forged_topics::ATTACKER,
    forged_boots::ATTACKER,
    future_samples::ATTACKER,
    big_reports::ATTACKER,
    junk::ATTACKER,
    undecodable::ATTACKER,
    wrong_shards::ATTACKER,
    retained::ATTACKER,
    next_seq::ATTACKER,
    alert_changes::ATTACKER,
];

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(2);
/// Behind by more than this, an attacker does not make up for it.
const BEHIND: Duration = Duration::from_millis(500);

/// One kind of attack.
#[derive(Debug)]
pub(super) struct Attacker {
    /// As the figures name it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    /// Attacks until the field is cleared; answers how often.
    pub(super) attack: fn(&Field<'_>) -> u64,
}

/// Where it attacks, and with whose passwords.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// The city.
    pub(super) city: &'a City,
    /// The gateway's port for people.
    pub(super) http: u16,
    /// The broker's port for agents.
    pub(super) broker: u16,
    /// The broker's port for the gateway.
    pub(super) gateway_broker: u16,
    /// Outputs that somebody configured: to be slow, to hang, to refuse.
    pub(super) webhooks: &'a [Arc<Webhook>; 3],
    /// Which attacker this is: nobody else has its agents.
    pub(super) number: usize,
    /// Unlike in any stage before: outboxes begun then are not gone on with.
    pub(super) stage: u32,
    /// Set when it is over.
    pub(super) cleared: &'a AtomicBool,
}

impl Field<'_> {
    /// A concentrator of a thousand gas meters.
    fn meters(&self) -> &Agent {
        &self.city.stolen_meters[self.number]
    }

    /// An edge box of four gas detectors.
    fn detectors(&self) -> &Agent {
        &self.city.stolen_detectors[self.number]
    }

    /// A pressure logger, its own agent.
    fn logger(&self) -> &Agent {
        &self.city.stolen_loggers[self.number]
    }

    fn is_over(&self) -> bool {
        self.cleared.load(Relaxed)
    }

    /// Waits for a while, or until it is over.
    fn wait(&self, lasting: Duration) {
        let begun = Instant::now();
        while !self.is_over() && begun.elapsed() < lasting {
            std::thread::sleep(TICK.min(lasting));
        }
    }

    /// Calls `each` so often a second; answers how often it did.
    fn pace(&self, per_s: u32, mut each: impl FnMut(u64)) -> u64 {
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
        count
    }

    /// Publishes as an agent so often a second, connected again wherever the broker ends that.
    fn flood(&self, agent: &Agent, per_s: u32, mut message: impl FnMut(u64) -> (String, Vec<u8>)) -> u64 {
        let connect = || Publisher::connect(self.broker, &agent.id, 64).ok();
        let mut publisher = connect();
        self.pace(per_s, |number| {
            let (topic, payload) = message(number);
            let sent = publisher.as_mut().is_some_and(|publisher| {
                publisher.publish(topic.as_bytes(), &payload).and_then(|()| publisher.settle()).is_ok()
            });
            if !sent {
                publisher = connect();
            }
        })
    }

    /// Sends text to the gateway's port and reads what comes, until the end or for a while; `None` where nobody answers.
    fn ask(&self, request: &str) -> Option<Vec<u8>> {
        let mut socket = self.knock()?;
        socket.write_all(request.as_bytes()).ok()?;
        let (mut answer, begun, mut buffer) = (Vec::new(), Instant::now(), [0; 16 * 1024]);
        while begun.elapsed() < PATIENCE && !self.is_over() {
            match socket.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
        Some(answer)
    }

    /// A connection to the gateway's port.
    fn knock(&self) -> Option<TcpStream> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.http));
        let socket = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(socket)
    }

    /// Asks for a path as a browser would.
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.ask(&get(path, "127.0.0.1"))
    }
}

/// A request that ends its connection.
fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(0)
}

/// As many bytes of noise as wanted, others for each number.
fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..bytes).map(byte).collect()
}

fn index(number: u64, of: usize) -> usize {
    usize::try_from(number).unwrap_or(0) % of.max(1)
}
