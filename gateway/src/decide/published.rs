//! What people see of a lane: the lane writes it, anyone reads it, and the lane never waits for a reader.
//!
//! The lane's thread owns the only [`Publisher`]. [`EVERY`] so often it writes one *row* for each device that changed, and
//! one [`Overview`]. Answers, metrics and the live stream read [`Published`] on their own threads. There is no way to run
//! anything on the lane's thread.
//!
//! Invariants:
//! - After a publication each row and the overview equal the lane's own state.
//! - A row is of one instant: its words are atomics behind a sequence number, and a reader that meets a write reads again.
//!   The overview is of one instant: it is replaced as a whole. Rows and overview may be of different publications.
//! - The lane publishes before it sends watermarks: when an agent learns that a sample is durable, the ledger shows it.
//!
//! Bounds: a row has [`FIXED`] words and one for each channel of its class, about 27 MiB for 238,000 devices. A busy device
//! costs one row a publication, however much it reports. The overview's lock is held for one pointer; the lane only
//! tries to take it, and otherwise publishes with its next turn. The view is at most [`EVERY`] and one turn old:
//! `hunhe_published_age_seconds`.

use hunhe_gateway_core::{
    city::audit::Audit,
    device::ledger::Totals,
    lane::{Counters, DeviceState, Lane},
    registry::{DeviceIx, Registry},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering, fence},
    },
    time::{Duration, Instant},
};

/// Between two publications.
pub const EVERY: Duration = Duration::from_millis(100);

/// Words of a row before its channels.
pub const FIXED: usize = 14;
/// Twice the publication that wrote the row; one less while it is being written; 0 before the first.
const VERSION: usize = 0;
/// The publication that last brought a message.
const REPORTED_IN: usize = 1;
const LEDGER: usize = 2;
/// Behind the ledger's totals.
const READINGS: usize = 7;
const ARRIVAL: usize = 10;
const NEWEST: usize = 11;
const CLOCK_OFFSET: usize = 12;
const QUALITY: usize = 13;
/// In place of an arrival or a clock's offset that is not known.
const UNKNOWN: i64 = i64::MIN;
/// A reader that met so many writes lets others run.
const TRIES: u64 = 64;

/// The ledger of one device, and its values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceLedger {
    /// Its samples by class.
    pub totals: Totals,
    /// Values accepted.
    pub readings: u64,
}

/// What is shown of a device that has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its ledger.
    pub ledger: DeviceLedger,
    /// The newest message's arrival, milliseconds since 1970.
    pub arrival_ms: i64,
    /// The newest sample's time, milliseconds since 1970; `i64::MIN` before the first.
    pub last_ms: i64,
    /// The newest sample's quality code.
    pub last_quality: u8,
    /// The newest value of each channel, [`ABSENT`](hunhe_gateway_core::event::ABSENT) where there never was one.
    pub last: Box<[i64]>,
    /// The device's clock minus the gateway's, milliseconds.
    pub clock_offset_ms: Option<i64>,
}

impl Row {
    /// What a publication shows of that state.
    #[must_use]
    pub fn of(state: &DeviceState) -> Self {
        Self {
            ledger: DeviceLedger { totals: state.outboxes.totals(), readings: state.readings },
            arrival_ms: state.arrival_ms,
            last_ms: state.last_ms,
            last_quality: state.last_quality,
            last: state.last.clone(),
            clock_offset_ms: state.clock_offset_ms,
        }
    }
}

/// What is shown of all devices together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// The ledger over all devices.
    pub ledger: Totals,
    /// Each device's ledger closes.
    pub closed: bool,
    /// What the lane has counted.
    pub counters: Counters,
    /// Devices behind agents that say they are connected.
    pub devices_online: u64,
    /// What operators wrote off. Copied when one is added, and shared else.
    pub audit: Arc<Audit>,
}

impl Overview {
    fn of(lane: &Lane, before: &Self) -> Self {
        let (ledger, closed) = lane.totals();
        let audited = before.audit.count() == lane.audit().count();
        Self {
            ledger,
            closed,
            counters: lane.counters().clone(),
            devices_online: lane.city().devices_online() as u64,
            audit: if audited { Arc::clone(&before.audit) } else { Arc::new(lane.audit().clone()) },
        }
    }

    fn shows(&self, lane: &Lane) -> bool {
        let (ledger, closed) = lane.totals();
        self.ledger == ledger
            && self.closed == closed
            && self.devices_online == lane.city().devices_online() as u64
            && self.audit.count() == lane.audit().count()
            && self.counters == *lane.counters()
    }
}

/// The readers' side.
#[derive(Debug)]
pub struct Published {
    /// Where in `words` each device's row begins, and where the last one ends.
    starts: Box<[u32]>,
    words: Box<[AtomicU64]>,
    /// The newest publication that is complete.
    number: AtomicU64,
    overview: Mutex<Arc<Overview>>,
    begun: Instant,
    /// Milliseconds from `begun` to the newest publication.
    published_ms: AtomicU64,
}

impl Published {
    fn empty(registry: &Registry, now: Instant) -> Self {
        let channels = registry.devices().iter().map(|device| registry.class(device.class).channels.len());
        let ends = channels.scan(0_usize, |end, channels| {
            *end += FIXED + channels;
            Some(*end)
        });
        // A registry's bounds keep this below 2^32.
        let starts = std::iter::once(0).chain(ends).map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        let starts: Box<[u32]> = starts.collect();
        let words: Box<[AtomicU64]> =
            (0..starts.last().copied().unwrap_or(0)).map(|_| AtomicU64::new(0)).collect();
        let published = Self {
            starts,
            words,
            number: AtomicU64::new(0),
            overview: Mutex::default(),
            begun: now,
            published_ms: AtomicU64::new(0),
        };
        for slot in registry.indices().filter_map(|device| published.slot(device)) {
            slot[ARRIVAL].store(UNKNOWN.cast_unsigned(), Ordering::Relaxed);
        }
        published
    }

    fn slot(&self, device: DeviceIx) -> Option<&[AtomicU64]> {
        let (&from, &to) = (self.starts.get(device.at())?, self.starts.get(device.at() + 1)?);
        self.words.get(from as usize..to as usize)
    }

    /// One device's row, if it has reported.
    #[must_use]
    pub fn row(&self, device: DeviceIx) -> Option<Row> {
        self.read(device, |slot| {
            let word = |at: usize| slot[at].load(Ordering::Relaxed);
            Row {
                ledger: ledger_of(slot),
                arrival_ms: word(ARRIVAL).cast_signed(),
                last_ms: word(NEWEST).cast_signed(),
                last_quality: u8::try_from(word(QUALITY)).unwrap_or(u8::MAX),
                last: slot[FIXED..].iter().map(|word| word.load(Ordering::Relaxed).cast_signed()).collect(),
                clock_offset_ms: Some(word(CLOCK_OFFSET).cast_signed()).filter(|&ms| ms != UNKNOWN),
            }
        })
    }

    /// One device's ledger, if it has reported.
    #[must_use]
    pub fn ledger(&self, device: DeviceIx) -> Option<DeviceLedger> {
        self.read(device, ledger_of)
    }

    /// Values accepted of one device.
    #[must_use]
    pub fn readings(&self, device: DeviceIx) -> u64 {
        self.slot(device).map_or(0, |slot| slot[LEDGER + READINGS].load(Ordering::Relaxed))
    }

    /// When one device's newest message arrived, milliseconds since 1970, if it has reported.
    #[must_use]
    pub fn arrival_ms(&self, device: DeviceIx) -> Option<i64> {
        let arrival_ms = self.slot(device)?[ARRIVAL].load(Ordering::Relaxed).cast_signed();
        (arrival_ms != UNKNOWN).then_some(arrival_ms)
    }

    /// Devices of which a publication after `number` brought a message.
    pub fn reported_since(&self, number: u64) -> impl Iterator<Item = DeviceIx> {
        let devices = u32::try_from(self.starts.len() - 1).unwrap_or(u32::MAX);
        let reported_in =
            |device| self.slot(device).map_or(0, |slot| slot[REPORTED_IN].load(Ordering::Relaxed));
        (0..devices).map(DeviceIx).filter(move |&device| reported_in(device) > number)
    }

    /// The newest complete publication.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// All devices together.
    #[must_use]
    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long ago the lane last published.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        let published = Duration::from_millis(self.published_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.begun).saturating_sub(published)
    }

    /// Reads a row until no write comes between: the lane writes one in a few nanoseconds, once a publication.
    fn read<T>(&self, device: DeviceIx, take: impl Fn(&[AtomicU64]) -> T) -> Option<T> {
        let slot = self.slot(device)?;
        for tries in 1_u64.. {
            let before = slot[VERSION].load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before.is_multiple_of(2) {
                let taken = take(slot);
                // No word above is read after the version below.
                fence(Ordering::Acquire);
                if slot[VERSION].load(Ordering::Relaxed) == before {
                    return Some(taken);
                }
            }
            if tries.is_multiple_of(TRIES) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        None
    }

    /// Writes a row; only a [`Publisher`] may, and there is one.
    fn write(&self, number: u64, device: DeviceIx, state: &DeviceState, totals: &Totals) {
        let Some(slot) = self.slot(device) else { return };
        let read = |at: usize| slot[at].load(Ordering::Relaxed);
        let store = |at: usize, word: u64| slot[at].store(word, Ordering::Relaxed);
        let (arrival, newest) = (state.arrival_ms.cast_unsigned(), state.last_ms.cast_unsigned());
        let reported = read(ARRIVAL) != arrival || read(NEWEST) != newest;
        store(VERSION, 2 * number - 1);
        // No word below is written before the version above.
        fence(Ordering::Release);
        if reported {
            store(REPORTED_IN, number);
        }
        let Totals { sampled, stored, quarantined, declared_lost, written_off, outstanding, duplicates } =
            *totals;
        let totals = [sampled, stored, quarantined, declared_lost, written_off, outstanding, duplicates];
        let ledger = totals.into_iter().chain([state.readings]);
        for (at, word) in (LEDGER..).zip(ledger) {
            store(at, word);
        }
        store(ARRIVAL, arrival);
        store(NEWEST, newest);
        store(CLOCK_OFFSET, state.clock_offset_ms.unwrap_or(UNKNOWN).cast_unsigned());
        store(QUALITY, state.last_quality.into());
        for (word, &value) in slot[FIXED..].iter().zip(&state.last) {
            word.store(value.cast_unsigned(), Ordering::Relaxed);
        }
        slot[VERSION].store(2 * number, Ordering::Release);
    }
}

fn ledger_of(slot: &[AtomicU64]) -> DeviceLedger {
    let word = |at: usize| slot[LEDGER + at].load(Ordering::Relaxed);
    DeviceLedger {
        totals: Totals {
            sampled: word(0),
            stored: word(1),
            quarantined: word(2),
            declared_lost: word(3),
            written_off: word(4),
            outstanding: word(5),
            duplicates: word(6),
        },
        readings: word(READINGS),
    }
}

/// The lane's side.
#[derive(Debug)]
pub struct Publisher {
    published: Arc<Published>,
    number: u64,
    at: Instant,
    /// What the readers' overview is.
    shown: Arc<Overview>,
}

impl Publisher {
    /// Publishes all that the lane knows, as after a checkpoint's restore.
    #[must_use]
    pub fn new(lane: &mut Lane, registry: &Registry, now: Instant) -> Self {
        let published = Arc::new(Published::empty(registry, now));
        let mut publisher = Self { published, number: 0, at: now, shown: Arc::default() };
        publisher.publish(lane, now);
        // What was balanced before is not seen as changed.
        for (device, state) in
            lane.states().filter(|(device, _)| publisher.published.ledger(*device).is_none())
        {
            publisher.published.write(publisher.number, device, state, &state.outboxes.totals());
        }
        publisher
    }

    /// The readers' side.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Is it time to publish?
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= EVERY
    }

    /// Publishes what changed since the last time, and waits for nobody. Answers whether readers see all of it: where a
    /// reader is just taking the overview they keep the one before, and the next call tries again.
    pub fn publish(&mut self, lane: &mut Lane, now: Instant) -> bool {
        self.number += 1;
        let (published, number) = (&self.published, self.number);
        lane.balance(|device, state, totals| published.write(number, device, state, totals));
        published.number.store(number, Ordering::Release);
        if !self.shown.shows(lane) {
            let next = Arc::new(Overview::of(lane, &self.shown));
            match published.overview.try_lock() {
                Ok(mut overview) => *overview = Arc::clone(&next),
                // A reader that panicked has only cloned it.
                Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = Arc::clone(&next),
                Err(TryLockError::WouldBlock) => return false,
            }
            self.shown = next;
        }
        self.at = now;
        let passed = now.saturating_duration_since(published.begun);
        published
            .published_ms
            .store(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
#[path = "published/tests.rs"]
pub(crate) mod tests;
