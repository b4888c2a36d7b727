//! Faults between an agent and its broker: a port around the agent's own that reaches nobody for a while, sends
//! reports twice, or in another order.
//!
//! Promises: the agent behind it does not know. An outage breaks the connection; one that is opened meanwhile stands
//! when the outage ends. A copy has the bytes of its report, and the agent never receives the copy's acknowledgement.
//! A report held back goes behind the device's next one, or at the latest when the agent takes what came.
//!
//! Bound: one report held back at a time. The packet ids of a report held back and of another device's that overtakes it
//! are exchanged: the agent then counts each one's acknowledgement for the other.
//!
//! Deliberately absent: loss and damage of single packets, which QoS 1 over TCP does not show.

use crate::{rounds::Span, simulated::Simulated};
use hunhe_edge::{
    mqtt::{Inbox, Mqtt, Note, PublishError},
    run::{Wakes, agent::Port},
};
use hunhe_proto::{
    class::Fault,
    id::DeviceId,
    topic::{self, Topic},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Display,
    sync::Arc,
};

/// When which fault stands, in event time, milliseconds since 1970.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The agent reaches nobody.
    pub offline_ms: Vec<Span>,
    /// Reports of a device are sent twice.
    pub duplicate_ms: BTreeMap<DeviceId, Vec<Span>>,
    /// Reports of a device are sent in another order, where two wait at once.
    pub disorder_ms: BTreeMap<DeviceId, Vec<Span>>,
}

impl Faults {
    /// Adds what a modelled device does not do itself.
    pub fn add(&mut self, device: DeviceId, model: &Simulated) {
        for (fault, span) in model.faults() {
            let spans = match fault {
                Fault::Duplicate => &mut self.duplicate_ms,
                Fault::Disorder => &mut self.disorder_ms,
                _ => continue,
            };
            spans.entry(device).or_default().push(span);
        }
    }

    /// No fault ever stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offline_ms.is_empty() && self.duplicate_ms.is_empty() && self.disorder_ms.is_empty()
    }
}

/// What a fault depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Event time.
    pub event_ms: i64,
    /// Nothing is sampled any more: outages are over, so that what is held can leave.
    pub draining: bool,
}

#[derive(Debug)]
struct Publish {
    device: Option<DeviceId>,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

/// A port with faults.
pub struct Faulty<P> {
    inner: P,
    faults: Faults,
    now: Box<dyn Fn() -> Moment + Send>,
    /// Opened in an outage, with the wall time of then.
    hanging: Option<i64>,
    held_back: Option<Publish>,
    /// Publishes without a packet id yet, oldest first: is it a copy?
    unnamed: VecDeque<bool>,
    /// Packet ids of copies that are not acknowledged.
    copies: BTreeSet<u16>,
}

impl<P: Port> Faulty<P> {
    /// `inner` with faults, at the time that `now` says.
    pub fn new(inner: P, faults: Faults, now: impl Fn() -> Moment + Send + 'static) -> Self {
        Self {
            inner,
            faults,
            now: Box::new(now),
            hanging: None,
            held_back: None,
            unnamed: VecDeque::new(),
            copies: BTreeSet::new(),
        }
    }

    /// The port behind the faults.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The same, to carry its packets.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    fn is_offline(&self) -> bool {
        let Moment { event_ms, draining } = (self.now)();
        !draining && stands(&self.faults.offline_ms, event_ms)
    }

    fn has_fault(&self, of: &BTreeMap<DeviceId, Vec<Span>>, publish: &Publish) -> bool {
        let spans = publish.device.and_then(|device| of.get(&device));
        spans.is_some_and(|spans| stands(spans, (self.now)().event_ms))
    }

    fn send(&mut self, publish: Publish) -> Result<(), PublishError> {
        let is_doubled = self.has_fault(&self.faults.duplicate_ms, &publish);
        let Publish { topic, payload, retain, .. } = publish;
        self.inner.publish(topic.clone(), &payload, retain)?;
        self.unnamed.push_back(false);
        // A copy that does not fit is no loss.
        if is_doubled && self.inner.publish(topic, &payload, retain).is_ok() {
            self.unnamed.push_back(true);
        }
        Ok(())
    }

    fn release(&mut self) {
        if let Some(held_back) = self.held_back.take()
            && let Err(error) = self.send(held_back)
        {
            tracing::warn!(%error, "a report held back was not handed over; the agent sends it again");
        }
    }

    fn forget(&mut self) {
        (self.hanging, self.held_back) = (None, None);
        self.unnamed.clear();
        self.copies.clear();
    }
}

impl<P: Port<Error: Display>> Port for Faulty<P> {
    type Error = P::Error;

    fn open(&mut self, since_ms: i64) -> Result<(), P::Error> {
        if self.is_offline() {
            self.hanging = Some(since_ms);
            return Ok(());
        }
        self.inner.open(since_ms)
    }

    fn is_open(&self) -> bool {
        self.hanging.is_some() || self.inner.is_open()
    }

    fn take(&mut self) -> Option<Note> {
        if self.is_offline() {
            let broken = self.inner.is_open();
            if broken {
                self.inner.tear();
                self.forget();
            }
            return broken.then(|| Note::Lost("the simulated network is gone".into()));
        }
        if let Some(since_ms) = self.hanging.take()
            && let Err(error) = self.inner.open(since_ms)
        {
            return Some(Note::Lost(error.to_string()));
        }
        self.release();
        loop {
            match self.inner.take()? {
                Note::Sent(packet) if self.unnamed.pop_front() == Some(true) => {
                    self.copies.insert(packet);
                }
                Note::Acked(packet) if self.copies.remove(&packet) => {}
                note => return Some(note),
            }
        }
    }

    fn publish(&mut self, topic: String, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        let device = match topic::parse(topic.as_bytes()) {
            Ok(Topic::Up(device) | Topic::Alarm(device)) => Some(device),
            _ => None,
        };
        let publish = Publish { device, topic, payload: payload.to_vec(), retain };
        match &self.held_back {
            None if self.has_fault(&self.faults.disorder_ms, &publish) => {
                self.held_back = Some(publish);
                Ok(())
            }
            Some(held_back) if held_back.device == publish.device => {
                let sent = self.send(publish);
                self.release();
                sent
            }
            _ => self.send(publish),
        }
    }

    fn close(&mut self) {
        self.forget();
        self.inner.close();
    }

    fn tear(&mut self) {
        self.forget();
        self.inner.tear();
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }
}

impl Wakes for Faulty<Mqtt> {
    fn inbox(&self) -> Option<Arc<Inbox>> {
        self.inner.inbox()
    }
}

fn stands(spans: &[Span], event_ms: i64) -> bool {
    spans.iter().any(|span| span.stands(event_ms))
}

#[cfg(test)]
mod tests;
