//! The gateway's three connections to the broker, as its shell keeps them.

use crate::broker::{Client, Packet};
use bytes::Bytes;
use hunhe_gateway::record::{Delivery, Entering};
use hunhe_gateway_core::event::Arrival;
use hunhe_log::Priority;
use hunhe_proto::topic;
use std::time::Duration;

use super::{Act, Process};

/// In the order of the sessions.
pub(super) const CLIENTS: [Client; 3] = [Client::Up, Client::Alarm, Client::Out];
/// Without an answer for so long a session begins anew.
const PATIENCE_MS: u64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down { until_ms: u64 },
    Opening { until_ms: u64 },
    Subscribing { until_ms: u64 },
    Ready,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) state: State,
    pub(super) epoch: u64,
    pub(super) backoff_ms: u64,
    pub(super) live: bool,
    pub(super) last_ms: u64,
    pub(super) last_packet: u16,
    /// Packet and ticket.
    pub(super) in_flight: Vec<(u16, u64)>,
}

impl Session {
    pub(super) fn new(client: Client, now_ms: u64, wait_ms: u64) -> Self {
        Self {
            client,
            state: State::Down { until_ms: now_ms + wait_ms },
            epoch: 0,
            backoff_ms: 100,
            live: false,
            last_ms: now_ms,
            last_packet: 0,
            in_flight: Vec::new(),
        }
    }
}

impl Process {
    /// Connects what is to be connected.
    pub fn turn_sessions(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.outgoing.is_stuck(self.nature.base + Duration::from_millis(now_ms)) {
            acts.push(Act::Tear(Client::Out));
            self.lost(Client::Out, now_ms);
        }
        for (index, client) in CLIENTS.into_iter().enumerate() {
            let session = &mut self.sessions[index];
            match session.state {
                State::Down { until_ms } if now_ms >= until_ms => {
                    session.epoch += 1;
                    session.state = State::Opening { until_ms: now_ms + PATIENCE_MS };
                    acts.push(Act::Open(session.client));
                }
                State::Opening { until_ms } | State::Subscribing { until_ms } if now_ms >= until_ms => {
                    acts.push(Act::Tear(session.client));
                    self.lost(client, now_ms);
                }
                _ => {}
            }
        }
        acts
    }

    /// A connection is gone.
    pub fn lost(&mut self, client: Client, now_ms: u64) {
        let Some(index) = CLIENTS.iter().position(|known| *known == client) else { return };
        let wait_ms = self.random.below(self.sessions[index].backoff_ms).max(10);
        let session = &mut self.sessions[index];
        session.backoff_ms = (session.backoff_ms * 2).min(30_000);
        session.state = State::Down { until_ms: now_ms + wait_ms };
        if client == Client::Out {
            session.in_flight.clear();
            self.outgoing.lost();
        }
        // What is acknowledged from now on belongs to no connection.
        session.epoch += 1;
    }

    /// A packet came.
    pub fn take_packet(&mut self, client: Client, packet: Packet, now_ms: u64) -> Vec<Act> {
        let Some(index) = CLIENTS.iter().position(|known| *known == client) else { return Vec::new() };
        let session = &mut self.sessions[index];
        match packet {
            Packet::ConnAck { present } => {
                session.live = !present;
                session.last_ms = now_ms;
                if client == Client::Out {
                    session.state = State::Ready;
                    session.backoff_ms = 100;
                    return self.publish_watermarks(now_ms);
                }
                session.state = State::Subscribing { until_ms: now_ms + PATIENCE_MS };
                let filters: &[&str] = match client {
                    Client::Up => &[topic::UP_FILTER, topic::STATE_FILTER],
                    _ => &[topic::ALARM_FILTER],
                };
                let filters = filters.iter().map(|filter| (*filter).into()).collect();
                vec![Act::Send(client, Packet::Subscribe(filters))]
            }
            Packet::SubAck(true) => {
                session.state = State::Ready;
                session.backoff_ms = 100;
                Vec::new()
            }
            Packet::SubAck(false) => {
                self.lost(client, now_ms);
                vec![Act::Tear(client)]
            }
            Packet::PubAck(packet) => {
                for (_, ticket) in session.in_flight.extract_if(.., |(known, _)| *known == packet) {
                    self.outgoing.acknowledged(ticket, self.nature.base + Duration::from_millis(now_ms));
                }
                self.publish_watermarks(now_ms)
            }
            Packet::Publish { packet, again, message } => {
                session.live = session.live || now_ms - session.last_ms > 50;
                session.last_ms = now_ms;
                let at_ms = self.nature.base_ms + i64::try_from(now_ms).unwrap_or(0);
                let alarm = client == Client::Alarm;
                let live = session.live && !again && !message.retain;
                let arrival = Arrival { lsn: 0, at_ms, live, alarm };
                let delivery = Delivery { session: index, epoch: session.epoch, packet };
                let topic = Bytes::copy_from_slice(message.topic.as_bytes());
                let payload = Bytes::copy_from_slice(&message.payload);
                let entering = Entering::message(arrival, topic, payload, Some(delivery));
                let priority = if alarm { Priority::Urgent } else { Priority::Normal };
                if self.intake.try_push(priority, entering).is_err() {
                    self.lost(client, now_ms);
                    return vec![Act::Tear(client)];
                }
                Vec::new()
            }
            Packet::Connect { .. } | Packet::Subscribe(_) | Packet::Disconnect => Vec::new(),
        }
    }
}
