//! The agent's side of its connection: it receives what came, and does what the core asks for.

use super::agent::{Agent, Port, Token};
use crate::mqtt::Note;
use hunhe_edge_core::{
    Now,
    agent::{Effect, Send},
    batch, link,
    outbox::{Range, Watermark},
};
use hunhe_proto::{id::DeviceId, reading::DropCause, topic, v1};
use prost::Message;
use std::sync::atomic::Ordering::Relaxed;

const DAY_MS: i64 = 86_400_000;

impl<P: Port> Agent<P> {
    /// What the connection has to say.
    pub fn hear(&mut self, now: Now) {
        while let Some(note) = self.port.take() {
            match note {
                Note::Connected => self.core.connected(now),
                Note::Subscribed => {
                    self.core.subscribed(now);
                    self.progress.connected.fetch_add(1, Relaxed);
                    if !self.policy.link.sleeping {
                        self.publish_state(true);
                    }
                    tracing::info!(agent = %self.policy.id, "connected");
                }
                Note::Sent(pkid) => {
                    let token = self.unnamed.pop_front().unwrap_or_default();
                    self.in_flight.insert(pkid, token);
                }
                Note::Acked(pkid) => {
                    if let Some(Some(device)) = self.in_flight.remove(&pkid) {
                        self.core.acked(now);
                        self.seats[device].stats.acked += 1;
                        self.progress.acked.fetch_add(1, Relaxed);
                    }
                }
                Note::Watermark(payload) => self.hear_watermark(&payload, now),
                Note::Lost(why) => {
                    tracing::info!(agent = %self.policy.id, why, "disconnected");
                    self.forget_connection();
                    self.core.lost(now);
                }
            }
        }
    }

    fn hear_watermark(&mut self, payload: &[u8], now: Now) {
        let durable = match v1::Durable::decode(payload) {
            Ok(durable) => durable,
            Err(error) => {
                tracing::warn!(agent = %self.policy.id, %error, "a watermark is unreadable and ignored");
                return;
            }
        };
        self.core.watermark_seen();
        for named in &durable.devices {
            let index = DeviceId::new(&named.device).ok().and_then(|id| self.by_id.get(&id).copied());
            let Some(index) = index else { continue };
            for boot in &named.boots {
                let missing = boot.missing.iter();
                let missing =
                    missing.map(|gap| Range { start: gap.start, end: gap.start.saturating_add(gap.count) });
                let outcome = self.core.watermark(index, boot.boot, boot.through, missing, now);
                if outcome == Watermark::Implausible && !self.rolled_back.contains(&index) {
                    self.rolled_back.push(index);
                }
            }
        }
        for &crc in &durable.refused {
            if let Some(index) = self.core.refused(crc) {
                tracing::warn!(
                    device = %self.seats[index].equipment.device,
                    "the gateway cannot read a report; its samples are declared lost"
                );
            }
        }
    }

    /// Does what the core asks for, up to where something was given up.
    pub(super) fn act(&mut self, now: Now) -> Result<(), P::Error> {
        while let Some(effect) = self.core.poll(now) {
            match effect {
                Effect::Link(link::Action::Connect) => {
                    self.forget_connection();
                    self.since_ms = self.port.wall_ms();
                    self.port.open(self.since_ms)?;
                }
                Effect::Link(link::Action::Disconnect) => {
                    self.port.close();
                    self.forget_connection();
                }
                Effect::Send(send) => {
                    if !self.send(send, now) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers whether it could be encoded.
    fn send(&mut self, send: Send, now: Now) -> bool {
        let (core, seat) = (&self.core, &mut self.seats[send.device]);
        let drops = core.devices()[send.device].outbox().drops();
        let with_health = now.event_ms >= seat.version_due_ms;
        let (live, version) = (self.policy.live, seat.equipment.class.version);
        let samples = &seat.samples;
        let last_ms = |range: Range| {
            samples
                .rows(Range { start: range.end.saturating_sub(1), end: range.end })
                .next()?
                .first()
                .copied()
        };
        let header = |range: Range| {
            let mut header = core.header(send, range);
            if live && range.count() > 0 {
                header.sent_after_s = last_ms(range).map(|last| batch::sent_after_s(now.event_ms, last));
            }
            if with_health {
                header.class_version = Some(version);
                header.uptime_ms = Some(now.steady_ms);
            }
            header
        };
        let encoded = self.writer.encode(&seat.equipment.class, samples, send.range, drops, header);
        let (range, payload) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                // Values were checked when they were taken: a class whose single sample exceeds its own limit.
                tracing::error!(device = %seat.equipment.device, %error, "a sample cannot be reported and is given up");
                let first = Range { start: send.range.start, end: send.range.start + 1 };
                self.core.give_up(send.device, first, DropCause::Damaged);
                self.note_changes();
                return false;
            }
        };
        if with_health {
            seat.version_due_ms = now.event_ms.saturating_add(DAY_MS);
        }
        let device = seat.equipment.device;
        let topic = if send.alarm { topic::alarm(device) } else { topic::up(device) };
        if let Some(newest) =
            seat.samples.rows(Range { start: range.end.saturating_sub(1), end: range.end }).next()
        {
            seat.watch.note_reported(newest.get(1..).unwrap_or_default());
        }
        seat.stats.published += 1;
        self.progress.published.fetch_add(1, Relaxed);
        self.progress.bytes.fetch_add(payload.len() as u64, Relaxed);
        self.core.sent(send.device, range, crc32c::crc32c(payload), now);
        let payload = payload.to_vec();
        self.publish(Some(send.device), topic, &payload, false);
        true
    }

    fn publish(&mut self, token: Token, topic: String, payload: &[u8], retain: bool) {
        if !self.port.is_open() {
            return;
        }
        match self.port.publish(topic, payload, retain) {
            Ok(()) => self.unnamed.push_back(token),
            // The outbox still holds it; the link notices that no acknowledgement comes, and begins anew.
            Err(error) => tracing::warn!(agent = %self.policy.id, %error, "a publish was not handed over"),
        }
    }

    fn publish_state(&mut self, online: bool) {
        let since_ms = if online { self.since_ms } else { self.port.wall_ms() };
        self.publish(None, topic::state(self.policy.id), &crate::mqtt::state(online, since_ms), true);
    }

    fn forget_connection(&mut self) {
        self.port.tear();
        self.unnamed.clear();
        self.in_flight.clear();
    }

    /// Says good-bye where a connection stands; answers whether one does.
    pub fn say_goodbye(&mut self) -> bool {
        let up = self.port.is_open() && self.core.link().is_up();
        if up && !self.policy.link.sleeping {
            self.publish_state(false);
        }
        up
    }

    /// Has the broker acknowledged everything that was published?
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.unnamed.is_empty() && self.in_flight.is_empty()
    }
}
