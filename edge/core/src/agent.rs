//! An agent: all devices that share one connection. Events in, effects out.
//!
//! The shell's loop: take due samples, store them, say [`Agent::stored`] once they are durable; say what the
//! connection did; then [`Agent::poll`] until it has nothing more, doing what it asks. Persist
//! [`Outbox::state`](crate::outbox::Outbox::state) of every device that [`Agent::take_dirty`] names before the next
//! publish, so that no report declares a drop that a power cut could undo.
//!
//! The devices' memory is the caller's: an array in firmware, a boxed slice under Linux.

use crate::{
    Now,
    batch::{self, Batch},
    link::{self, Action, Link},
    outbox::{Outbox, Range, State, Watermark},
};
use hunhe_proto::{
    id::AgentId,
    reading::{DropCause, Header},
};

/// One device of an agent.
#[derive(Debug, Clone)]
pub struct Device {
    outbox: Outbox,
    batch: Batch,
    policy: batch::Policy,
    held_max: u64,
    /// 0: there is none to name.
    class_version: u32,
    /// One past the newest sample that carries a local alarm.
    alarm_to: u64,
    dirty: bool,
}

impl Device {
    /// A device with its outbox as stored. At most `held_max` samples are held, at least two reports' worth: a
    /// sleeping radio learns of a report's fate only when it sends the next. All of them follow `class_version`; 0 where
    /// there are none, since the device is no longer configured and its class not known.
    #[must_use]
    pub fn new(state: State, policy: batch::Policy, held_max: u64, class_version: u32) -> Self {
        Self {
            outbox: Outbox::new(state),
            batch: Batch::default(),
            policy,
            held_max: held_max.max(2 * u64::from(policy.samples)),
            class_version,
            alarm_to: 0,
            dirty: false,
        }
    }

    /// Its outbox.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Samples that fit before the oldest are declared lost.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.held_max.saturating_sub(self.outbox.held())
    }

    fn is_due(&self, now: Now) -> bool {
        self.outbox.is_overdue()
            || self.batch.is_due(&self.policy, self.outbox.waiting(), now.event_ms)
            || self.outbox.has_due_gap(now.steady_ms)
    }
}

/// A report to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Which device.
    pub device: usize,
    /// Its samples; may be empty, where only drops are declared.
    pub range: Range,
    /// It goes to the alarm topic.
    pub alarm: bool,
}

/// What the shell must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// See [`Action`].
    Link(Action),
    /// Encode and publish, then say [`Agent::sent`].
    Send(Send),
}

/// The devices of one connection.
#[derive(Debug, Clone)]
pub struct Agent<D> {
    link: Link,
    devices: D,
    scan: usize,
    flushing: bool,
}

impl<D: AsRef<[Device]> + AsMut<[Device]>> Agent<D> {
    /// An agent whose link is down.
    #[must_use]
    pub fn new(id: AgentId, policy: link::Policy, devices: D, now: Now) -> Self {
        Self { link: Link::new(id, policy, now), devices, scan: 0, flushing: false }
    }

    /// Its devices.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        self.devices.as_ref()
    }

    /// Its connection.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The newest sample of `device`, at `time_ms`, and all before it are durable up to `next_seq`.
    pub fn stored(&mut self, device: usize, next_seq: u64, time_ms: i64, alarm: bool) {
        let flushing = self.flushing;
        let Some(device) = self.devices.as_mut().get_mut(device) else { return };
        device.outbox.stored(next_seq);
        if alarm {
            device.alarm_to = next_seq;
        }
        device.batch.sampled(&device.policy, time_ms, device.outbox.waiting(), alarm || flushing);
        if device.outbox.bound(device.held_max) {
            device.dirty = true;
        }
    }

    /// What waits of `device` goes as soon as the connection allows.
    pub fn hurry(&mut self, device: usize) {
        if let Some(device) = self.devices.as_mut().get_mut(device) {
            device.batch.hurry();
        }
    }

    /// Samples of `device` are given up for a reason of the shell's.
    pub fn give_up(&mut self, device: usize, range: Range, cause: DropCause) {
        if let Some(device) = self.devices.as_mut().get_mut(device) {
            device.outbox.give_up(range, cause);
            device.dirty = true;
        }
    }

    /// The broker accepted the connection.
    pub fn connected(&mut self, now: Now) {
        self.link.connected(now);
    }

    /// The broker granted the subscription to the watermark.
    pub fn subscribed(&mut self, now: Now) {
        let mut resuming = false;
        for device in self.devices.as_mut() {
            resuming |= device.outbox.should_settle();
            device.outbox.rewind(now.steady_ms);
        }
        self.link.subscribed(now, resuming);
    }

    /// The connection is gone, or never came about.
    pub fn lost(&mut self, now: Now) {
        self.link.lost(now);
    }

    /// The broker acknowledged a publish.
    pub fn acked(&mut self, now: Now) {
        self.link.acked(now);
    }

    /// A watermark message came; its devices follow by [`Agent::watermark`] and [`Agent::refused`].
    pub fn watermark_seen(&mut self) {
        self.link.watermark_seen();
    }

    /// The watermark of one boot of one device.
    pub fn watermark(
        &mut self,
        device: usize,
        boot: u32,
        through: u64,
        missing: impl IntoIterator<Item = Range>,
        now: Now,
    ) -> Watermark {
        let Some(device) = self.devices.as_mut().get_mut(device) else { return Watermark::Stale };
        let outcome = device.outbox.watermark(boot, through, missing, now.steady_ms);
        device.dirty |= matches!(outcome, Watermark::Passed(1..));
        outcome
    }

    /// Another outbox succeeds the one of `device`: in this state, its newest samples those that were held, in order.
    pub fn succeed(&mut self, device: usize, state: State) {
        if let Some(device) = self.devices.as_mut().get_mut(device) {
            let first = state.next_seq.saturating_sub(device.outbox.held());
            let before = device.outbox.held_before(device.alarm_to);
            let alarm_to = if before > 0 { first + before } else { 0 };
            let successor = Device::new(state, device.policy, device.held_max, device.class_version);
            *device = Device { alarm_to, ..successor };
        }
    }

    /// The gateway refused the payload of this CRC-32C. Returns the device whose samples are given up by that.
    pub fn refused(&mut self, crc: u32) -> Option<usize> {
        let found = self.devices.as_mut().iter_mut().position(|device| device.outbox.refused(crc))?;
        self.devices.as_mut()[found].dirty = true;
        Some(found)
    }

    /// Everything that waits goes as soon as the connection allows, full or not, from now on.
    pub fn flush(&mut self) {
        self.flushing = true;
        self.devices.as_mut().iter_mut().for_each(|device| device.batch.hurry());
    }

    /// Is nothing owed by any device?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.devices.as_ref().iter().all(|device| device.outbox.is_settled())
    }

    /// Calls `persist` with every device whose stored state is out of date.
    pub fn take_dirty(&mut self, mut persist: impl FnMut(usize, &Outbox)) {
        for (index, device) in self.devices.as_mut().iter_mut().enumerate() {
            if core::mem::take(&mut device.dirty) {
                persist(index, &device.outbox);
            }
        }
    }

    /// What to do now. Call until it returns `None`.
    pub fn poll(&mut self, now: Now) -> Option<Effect> {
        if self.link.can_send()
            && let Some(send) = self.next_send(now)
        {
            return Some(Effect::Send(send));
        }
        // Scanning is worth it only where the answer depends on it: a link that stays up needs no reason.
        let wanted = self.link.is_sleeping() && self.devices.as_ref().iter().any(|device| device.is_due(now));
        self.link.poll(now, wanted).map(Effect::Link)
    }

    /// A report went: `range` is what it held, which may be less than asked, and `crc` the CRC-32C of its payload.
    pub fn sent(&mut self, device: usize, range: Range, crc: u32, now: Now) {
        self.link.sent(now);
        let Some(device) = self.devices.as_mut().get_mut(device) else { return };
        device.outbox.sent(range, crc, now.steady_ms);
        device.batch.reported(&device.policy, device.outbox.waiting(), now.event_ms);
    }

    /// The counters of a report of `range`, as of now: the part of `send` that fits. It says the class version where the
    /// gateway may not know it, and with each alarm, which may come before all others.
    #[must_use]
    pub fn header(&self, send: Send, range: Range) -> Header {
        let Some(device) = self.devices.as_ref().get(send.device) else { return Header::default() };
        let tells = send.alarm || !device.outbox.is_version_known();
        let class_version = Some(device.class_version).filter(|&version| version > 0 && tells);
        Header { class_version, ..device.outbox.header(range) }
    }

    /// Devices take turns, so that a long backlog of one delays no other.
    fn next_send(&mut self, now: Now) -> Option<Send> {
        let devices = self.devices.as_mut();
        for _ in 0..devices.len() {
            let index = self.scan;
            self.scan = if index + 1 >= devices.len() { 0 } else { index + 1 };
            let Some(device) = devices.get_mut(index) else { continue };
            device.outbox.rewind_if_stalled(now.steady_ms);
            if device.is_due(now)
                && let Some(range) = device.outbox.next_report(device.policy.samples, now.steady_ms)
            {
                let alarm = range.start < device.alarm_to && device.alarm_to <= range.end;
                return Some(Send { device: index, range, alarm });
            }
        }
        None
    }
}
