//! The live stream: one bounded ring of events that every client reads at its own pace.
//!
//! Publishers never wait for a client: they append to the ring, whose oldest events fall out. A client that asks for
//! an event that fell out, whether slow or back from a pause, gets `reset` and goes on from now; it then reads anew
//! what it shows. Values are coalesced by device and channel between two flushes, the newest by sample time wins, so
//! a late sample does not move a live figure.
//!
//! Clients are bounded: beyond the bound the one that came first gives way and its connection is closed, so that a page that
//! is opened now always gets in. It comes back behind its last event, and asks for the alerts meanwhile.
//!
//! Without clients for a while the hub sleeps: noting a value then costs one atomic load, and a client that resumes across
//! that sleep gets `reset`. Event ids rise, and start above those of any earlier process.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::backend::Backend;
use super::metrics::{Metric, MetricKind};
use super::types::{Alert, Latest, QuarantineRecord, Samples, Status};

/// Time between two flushes: a screen that changes more often cannot be read.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Events handed to a client at once: what a client that does not read keeps in memory, in JSON.
const BATCH_EVENTS: usize = 8;

/// The hub's bounds.
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// Clients at one time; for one more the first one gives way.
    pub clients: usize,
    /// Events kept for slow and returning clients; the oldest fall out.
    pub ring_events: usize,
    /// Values in those events; the oldest events fall out.
    pub ring_values: usize,
    /// Different device-channels between two flushes; further ones are counted as omitted.
    pub pending_values: usize,
    /// Values in one event to a client that named no devices; the others are counted as omitted.
    pub values_per_event: usize,
    /// Flushes without a client until the hub sleeps.
    pub idle_flushes: u32,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            clients: 64,
            ring_events: 1_024,
            ring_values: 50_000,
            pending_values: 20_000,
            values_per_event: 500,
            idle_flushes: 120,
        }
    }
}

/// One event in the ring; its content is shared by all clients.
#[derive(Debug, Clone)]
enum Event {
    /// JSON of a [`Status`].
    Status(Arc<str>),
    /// JSON of a [`QuarantineRecord`].
    Quarantine(Arc<str>),
    /// JSON of an [`Alert`].
    Alert(Arc<str>),
    /// Sorted by device and channel.
    Samples { values: Arc<[Latest]>, omitted: u64 },
}

impl Event {
    fn values(&self) -> usize {
        match self {
            Self::Samples { values, .. } => values.len(),
            Self::Status(_) | Self::Quarantine(_) | Self::Alert(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Ring {
    /// Events with consecutive ids, the last one being `next_id - 1`.
    events: VecDeque<Event>,
    values: usize,
    next_id: u64,
    pending: HashMap<(Arc<str>, Arc<str>), Latest>,
    pending_omitted: u64,
    flushes_without_client: u32,
}

impl Ring {
    fn oldest_id(&self) -> u64 {
        self.next_id - u64::try_from(self.events.len()).unwrap_or(u64::MAX).min(self.next_id)
    }

    fn push(&mut self, event: Event, limits: &HubLimits) {
        self.values += event.values();
        self.events.push_back(event);
        self.next_id += 1;
        while self.events.len() > limits.ring_events
            || (self.values > limits.ring_values && self.events.len() > 1)
        {
            if let Some(oldest) = self.events.pop_front() {
                self.values -= oldest.values();
            }
        }
    }

    /// Forgets everything, so that no earlier id can be resumed.
    fn forget(&mut self) {
        self.events.clear();
        self.values = 0;
        self.pending.clear();
        self.pending_omitted = 0;
        self.next_id += 1;
    }
}

/// The clients by when they came, and what closes the connection of each: one that never reads is not asked to go.
#[derive(Debug, Default)]
struct Clients {
    next: u64,
    open: BTreeMap<u64, Arc<Notify>>,
}

/// Where threads of the gateway publish and clients of the API listen.
#[derive(Debug)]
pub struct Hub {
    limits: HubLimits,
    ring: Mutex<Ring>,
    /// Changes with every event; also ends waiting clients.
    bell: watch::Sender<bool>,
    awake: AtomicBool,
    clients: Mutex<Clients>,
    gave_way: AtomicU64,
    resets: AtomicU64,
    omitted: AtomicU64,
}

impl Hub {
    /// A sleeping hub. `started_ms` (milliseconds since 1970) keeps its event ids above those of earlier processes.
    pub fn new(limits: HubLimits, started_ms: i64) -> Arc<Self> {
        let ring = Ring {
            events: VecDeque::new(),
            values: 0,
            next_id: u64::try_from(started_ms).unwrap_or(0).max(1),
            pending: HashMap::new(),
            pending_omitted: 0,
            flushes_without_client: 0,
        };
        Arc::new(Self {
            limits,
            ring: Mutex::new(ring),
            bell: watch::Sender::new(true),
            awake: AtomicBool::new(false),
            clients: Mutex::default(),
            gave_way: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            omitted: AtomicU64::new(0),
        })
    }

    /// Whether anyone listens, or did a moment ago.
    pub fn awake(&self) -> bool {
        self.awake.load(Ordering::Acquire)
    }

    /// Notes the newest values of devices, from any thread; they go out with the next flush. Does nothing while
    /// the hub sleeps. Call it once for many values.
    pub fn note(&self, values: impl IntoIterator<Item = Latest>) {
        if !self.awake() {
            return;
        }
        let mut ring = self.lock();
        for latest in values {
            let key = (Arc::clone(&latest.device), Arc::clone(&latest.channel));
            if let Some(known) = ring.pending.get_mut(&key) {
                if latest.time >= known.time {
                    *known = latest;
                }
            } else if ring.pending.len() < self.limits.pending_values {
                ring.pending.insert(key, latest);
            } else {
                ring.pending_omitted += 1;
                self.omitted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Announces a refused message, from any thread.
    pub fn quarantined(&self, record: &QuarantineRecord) {
        if self.awake()
            && let Ok(json) = serde_json::to_string(record)
        {
            self.publish(Event::Quarantine(json.into()));
        }
    }

    /// Announces a change of an alert, from any thread, at once: it waits for no flush.
    pub fn alert(&self, alert: &Alert) {
        if self.awake()
            && let Ok(json) = serde_json::to_string(alert)
        {
            self.publish(Event::Alert(json.into()));
        }
    }

    /// Announces the gateway's state.
    pub fn status(&self, status: &Status) {
        if self.awake()
            && let Ok(json) = serde_json::to_string(status)
        {
            self.publish(Event::Status(json.into()));
        }
    }

    /// Sends out what was noted since the last flush, and puts the hub to sleep when nobody listened for long.
    pub fn flush(&self) {
        let mut ring = self.lock();
        if !self.clients().open.is_empty() {
            ring.flushes_without_client = 0;
        } else if self.awake() {
            ring.flushes_without_client += 1;
            if ring.flushes_without_client >= self.limits.idle_flushes {
                self.awake.store(false, Ordering::Release);
                ring.forget();
                return;
            }
        }
        if ring.pending.is_empty() {
            return;
        }
        let mut values: Vec<Latest> = ring.pending.drain().map(|(_, latest)| latest).collect();
        values.sort_unstable_by(|a, b| (&a.device, &a.channel).cmp(&(&b.device, &b.channel)));
        let omitted = std::mem::take(&mut ring.pending_omitted);
        ring.push(Event::Samples { values: values.into(), omitted }, &self.limits);
        drop(ring);
        self.bell.send_replace(true);
    }

    /// Ends all streams, now and later: the process is shutting down.
    pub fn close(&self) {
        self.bell.send_replace(false);
    }

    /// A place in the stream, from the event after `last_id` where that is still known, else from now. Where every place is
    /// taken, the client that came first loses its own.
    ///
    /// `devices`: whose values to send; empty for all, up to the bound of one event. `leave`: notified when this client is to
    /// give way, so that its connection is closed even where nobody reads.
    pub fn subscribe(
        self: &Arc<Self>,
        last_id: Option<u64>,
        devices: HashSet<String>,
        leave: Arc<Notify>,
    ) -> Subscription {
        let place = self.take_place(leave);
        let ring = self.lock();
        self.awake.store(true, Ordering::Release);
        let next_id = last_id.map_or(ring.next_id, |last| last.saturating_add(1));
        drop(ring);
        Subscription { hub: Arc::clone(self), place, bell: self.bell.subscribe(), next_id, devices }
    }

    fn take_place(&self, leave: Arc<Notify>) -> u64 {
        let mut clients = self.clients();
        while clients.open.len() >= self.limits.clients.max(1)
            && let Some((_, first)) = clients.open.pop_first()
        {
            first.notify_one();
            self.gave_way.fetch_add(1, Ordering::Relaxed);
        }
        clients.next += 1;
        let place = clients.next;
        clients.open.insert(place, leave);
        place
    }

    /// The hub's own figures.
    pub fn metrics(&self) -> Vec<Metric> {
        let clients = u32::try_from(self.clients().open.len()).unwrap_or(u32::MAX);
        let counter = |name, help, count: &AtomicU64| {
            let count = u32::try_from(count.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            Metric::single(name, help, MetricKind::Counter, f64::from(count))
        };
        vec![
            Metric::single(
                "hunhe_live_clients",
                "Clients of the live stream.",
                MetricKind::Gauge,
                f64::from(clients),
            ),
            counter(
                "hunhe_live_gave_way_total",
                "Clients that lost their place to a newer one because every place was taken.",
                &self.gave_way,
            ),
            counter(
                "hunhe_live_resets_total",
                "Clients that must read anew because their events fell out.",
                &self.resets,
            ),
            counter(
                "hunhe_live_values_omitted_total",
                "Values that no live event had room for.",
                &self.omitted,
            ),
        ]
    }

    fn publish(&self, event: Event) {
        self.lock().push(event, &self.limits);
        self.bell.send_replace(true);
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        // Each change of it is whole.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A publisher that panicked left the ring between two whole events at worst.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Flushes the hub and announces the status twice a second, until the hub is closed.
pub async fn drive(hub: Arc<Hub>, backend: Arc<dyn Backend>) {
    let mut bell = hub.bell.subscribe();
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = bell.wait_for(|open| !open) => return,
        }
        hub.flush();
        if hub.awake()
            && let Ok(status) = backend.status().await
        {
            hub.status(&status);
        }
    }
}

/// One event as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id, for `Last-Event-ID`.
    pub id: u64,
    /// `status`, `samples`, `quarantine`, `alert` or `reset`.
    pub name: &'static str,
    /// JSON.
    pub data: String,
}

/// One client's place in the stream; dropping it frees the place.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    /// Nobody's once it gave way.
    place: u64,
    bell: watch::Receiver<bool>,
    next_id: u64,
    devices: HashSet<String>,
}

impl Subscription {
    /// The next events, oldest first, at least one; `None` when the hub is closed, or the place given to another.
    pub async fn next(&mut self) -> Option<Vec<Outgoing>> {
        loop {
            // Marked seen before the ring is read: what comes in between rings again.
            if !*self.bell.borrow_and_update() || !self.hub.clients().open.contains_key(&self.place) {
                return None;
            }
            let batch = self.take();
            if !batch.is_empty() {
                return Some(batch);
            }
            self.bell.changed().await.ok()?;
        }
    }

    /// What is there now; empty when nothing is.
    fn take(&mut self) -> Vec<Outgoing> {
        let (first_id, events) = {
            let ring = self.hub.lock();
            if self.next_id < ring.oldest_id() || self.next_id > ring.next_id {
                self.next_id = ring.next_id;
                self.hub.resets.fetch_add(1, Ordering::Relaxed);
                let data = r#"{"reason":"events in between are gone: read anew what you show"}"#.into();
                return vec![Outgoing { id: ring.next_id - 1, name: "reset", data }];
            }
            let skip = usize::try_from(self.next_id - ring.oldest_id()).unwrap_or(usize::MAX);
            let events: Vec<Event> = ring.events.iter().skip(skip).take(BATCH_EVENTS).cloned().collect();
            (self.next_id, events)
        };
        self.next_id += u64::try_from(events.len()).unwrap_or(0);
        let newest_status = events.iter().rposition(|event| matches!(event, Event::Status(_)));
        (first_id..)
            .zip(events.iter().enumerate())
            .filter(|(_, (at, event))| !matches!(event, Event::Status(_)) || Some(*at) == newest_status)
            .filter_map(|(id, (_, event))| self.outgoing(id, event))
            .collect()
    }

    fn outgoing(&self, id: u64, event: &Event) -> Option<Outgoing> {
        match event {
            Event::Status(json) => Some(Outgoing { id, name: "status", data: json.as_ref().into() }),
            Event::Quarantine(json) => Some(Outgoing { id, name: "quarantine", data: json.as_ref().into() }),
            Event::Alert(json) => Some(Outgoing { id, name: "alert", data: json.as_ref().into() }),
            Event::Samples { values, omitted } => {
                let samples = self.chosen(values, *omitted);
                if samples.values.is_empty() && samples.omitted == 0 {
                    return None;
                }
                let data = serde_json::to_string(&samples).ok()?;
                Some(Outgoing { id, name: "samples", data })
            }
        }
    }

    fn chosen(&self, values: &[Latest], omitted: u64) -> Samples {
        if !self.devices.is_empty() {
            let values =
                values.iter().filter(|latest| self.devices.contains(&*latest.device)).cloned().collect();
            return Samples { values, omitted: 0 };
        }
        let sent = values.len().min(self.hub.limits.values_per_event);
        let cut = u64::try_from(values.len() - sent).unwrap_or(u64::MAX);
        Samples { values: values[..sent].to_vec(), omitted: omitted.saturating_add(cut) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.clients().open.remove(&self.place);
    }
}
