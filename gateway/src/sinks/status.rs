//! What a sink says of itself, for the API, the metrics and the log.
//!
//! The sink's thread writes, anyone reads: counters are atomics, the words behind one short lock taken once a batch.
//! A snapshot is not one instant: its counters may be a batch apart.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::retry::Repeats;
use hunhe_log::cursor::Cursor;
use hunhe_log::{Lsn, Tail};

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not yet heard from its destination.
    Starting,
    /// Writing, or waiting for something to write.
    Running,
    /// The destination does not answer, or asks for patience; tried again soon.
    Retrying,
    /// The destination refuses for a reason that only a person can remove; everything is kept, and tried each minute.
    Held,
    /// Ended, on request or with the log.
    Ended,
}

/// Whether requests go to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// As there is something to write.
    Closed,
    /// None: the last one failed, and the wait after it is not over.
    Open,
    /// The wait is over, and the attempt that decides is on its way.
    HalfOpen,
}

#[derive(Debug)]
struct Words {
    state: State,
    reason: String,
    warning: String,
    last_error: String,
    last_error_ms: i64,
}

/// A sink's state and counters, shared.
#[derive(Debug)]
pub struct SinkStatus {
    name: String,
    tail: Tail,
    words: Mutex<Words>,
    /// When failures were logged last, by whether a person must mend them.
    logged: Mutex<[Repeats; 2]>,
    begun: Instant,
    source_lsn: AtomicU64,
    decided_lsn: AtomicU64,
    written: AtomicU64,
    rows_written: AtomicU64,
    batches: AtomicU64,
    requests: AtomicU64,
    on_their_way: AtomicU32,
    retries: AtomicU64,
    rewinds: AtomicU64,
    rows_dead_lettered: AtomicU64,
    rows_skipped: AtomicU64,
    records_lost: AtomicU64,
    last_ok_ms: AtomicU64,
    caught_up_ms: AtomicU64,
}

/// A sink's state and counters as they were. Times are milliseconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// As configured.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Why, where it is not simply running; else empty.
    pub reason: String,
    /// What someone should look at although it runs; else empty.
    pub warning: String,
    /// Whether requests go out.
    pub circuit: Circuit,
    /// How far it has come for good.
    pub cursor: Cursor,
    /// Decided records that are not yet written.
    pub lag_records: u64,
    /// Decided records that are written, and that a crash of the destination might still lose.
    pub unsettled_records: u64,
    /// Seconds since it last had nothing left to do; 0 while that is so.
    pub lag_s: u64,
    /// Lines that the destination took: samples and windows.
    pub rows_written: u64,
    /// Batches done.
    pub batches: u64,
    /// Requests made, repeats included.
    pub requests: u64,
    /// Requests repeated because the one before was not answered, or answered with "not now".
    pub retries: u64,
    /// How often it went back to its cursor, since the destination may have lost what it had taken.
    pub rewinds: u64,
    /// Lines that the destination refused, or that could not be written as lines.
    pub rows_dead_lettered: u64,
    /// Lines that the destination says it took and skipped.
    pub rows_skipped: u64,
    /// Decided records that could not be read.
    pub records_lost: u64,
    /// The last failure's words.
    pub last_error: String,
    /// When that was.
    pub last_error_ms: i64,
    /// When the destination last took something.
    pub last_ok_ms: u64,
}

impl SinkStatus {
    /// Whether a failed request is to be logged, and how many were not since the last that was.
    pub(super) fn failure_to_log(&self, held: bool) -> Option<u64> {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged[usize::from(held)].due(now_ms)
    }

    /// A sink that has not begun, reading the log behind `tail`.
    #[must_use]
    pub fn new(name: String, tail: Tail) -> Self {
        let words = Words {
            state: State::Starting,
            reason: String::new(),
            warning: String::new(),
            last_error: String::new(),
            last_error_ms: 0,
        };
        let zero = || AtomicU64::new(0);
        Self {
            name,
            tail,
            words: Mutex::new(words),
            logged: Mutex::default(),
            begun: Instant::now(),
            source_lsn: zero(),
            decided_lsn: zero(),
            written: zero(),
            rows_written: zero(),
            batches: zero(),
            requests: zero(),
            on_their_way: AtomicU32::new(0),
            retries: zero(),
            rewinds: zero(),
            rows_dead_lettered: zero(),
            rows_skipped: zero(),
            records_lost: zero(),
            last_ok_ms: zero(),
            caught_up_ms: AtomicU64::new(now_ms()),
        }
    }

    /// As configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far the sink has come: what it needs no more from the decided log. Source record and decided position may be a batch apart.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        // Stored in the other order, so that a source record read here is never ahead of its decided position.
        let source_lsn = self.source_lsn.load(std::sync::atomic::Ordering::Acquire);
        Cursor { source_lsn, decided_lsn: Lsn(self.decided_lsn.load(Relaxed)) }
    }

    /// All of it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let cursor = self.cursor();
        let written = self.written.load(Relaxed).max(cursor.decided_lsn.0);
        let lag_records = self.tail.head().0.saturating_sub(written);
        let caught_up_ms = self.caught_up_ms.load(Relaxed);
        let words = self.words();
        Snapshot {
            name: self.name.clone(),
            state: words.state,
            reason: words.reason.clone(),
            warning: words.warning.clone(),
            circuit: match words.state {
                State::Starting | State::Running | State::Ended => Circuit::Closed,
                State::Retrying | State::Held if self.on_their_way.load(Relaxed) > 0 => Circuit::HalfOpen,
                State::Retrying | State::Held => Circuit::Open,
            },
            cursor,
            lag_records,
            unsettled_records: written - cursor.decided_lsn.0,
            lag_s: if lag_records == 0 { 0 } else { now_ms().saturating_sub(caught_up_ms) / 1000 },
            rows_written: self.rows_written.load(Relaxed),
            batches: self.batches.load(Relaxed),
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            rewinds: self.rewinds.load(Relaxed),
            rows_dead_lettered: self.rows_dead_lettered.load(Relaxed),
            rows_skipped: self.rows_skipped.load(Relaxed),
            records_lost: self.records_lost.load(Relaxed),
            last_error: words.last_error.clone(),
            last_error_ms: words.last_error_ms,
            last_ok_ms: self.last_ok_ms.load(Relaxed),
        }
    }

    /// Notes a change of state; a reason is also the last error.
    pub(super) fn enter(&self, state: State, reason: &str) {
        let mut words = self.words();
        words.state = state;
        if words.reason != reason {
            reason.clone_into(&mut words.reason);
        }
        if !reason.is_empty() {
            reason.clone_into(&mut words.last_error);
            words.last_error_ms = i64::try_from(now_ms()).unwrap_or(i64::MAX);
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.words().warning = warning;
    }

    /// The cursor moves; what is behind it is not needed any more.
    pub(super) fn moved(&self, cursor: Cursor) {
        self.decided_lsn.store(cursor.decided_lsn.0, Relaxed);
        self.source_lsn.store(cursor.source_lsn, std::sync::atomic::Ordering::Release);
        self.has_written(cursor.decided_lsn);
    }

    /// Everything up to that record is at the destination, though perhaps not for good.
    pub(super) fn has_written(&self, decided_lsn: Lsn) {
        self.written.fetch_max(decided_lsn.0, Relaxed);
        if self.tail.head() == decided_lsn {
            self.caught_up();
        }
    }

    /// Everything behind the cursor is to be written again.
    pub(super) fn rewound(&self) {
        self.written.store(self.decided_lsn.load(Relaxed), Relaxed);
        self.rewinds.fetch_add(1, Relaxed);
    }

    pub(super) fn caught_up(&self) {
        self.caught_up_ms.store(now_ms(), Relaxed);
    }

    pub(super) fn wrote(&self, rows: u64) {
        self.rows_written.fetch_add(rows, Relaxed);
        self.last_ok_ms.store(now_ms(), Relaxed);
    }

    pub(super) fn batch_done(&self) {
        self.batches.fetch_add(1, Relaxed);
    }

    pub(super) fn dead_lettered(&self, rows: u64) {
        self.rows_dead_lettered.fetch_add(rows, Relaxed);
    }

    /// A request begins; it ends with what is returned.
    pub(super) fn request(&self) -> OnItsWay<'_> {
        self.requests.fetch_add(1, Relaxed);
        self.on_their_way.fetch_add(1, Relaxed);
        OnItsWay(self)
    }

    pub(super) fn will_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn skipped(&self, rows: u64) -> u64 {
        self.rows_skipped.fetch_add(rows, Relaxed) + rows
    }

    /// Decided records are missing at this sink.
    pub(super) fn lose(&self, records: u64, how: &'static str) {
        tracing::error!(sink = self.name, records, how, "decided records are missing at this sink");
        self.warn(format!("{records} decided records are missing here: {how}"));
        self.records_lost.fetch_add(records, Relaxed);
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        // Every change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request until its answer, or until it is given up.
pub(super) struct OnItsWay<'a>(&'a SinkStatus);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.on_their_way.fetch_sub(1, Relaxed);
    }
}

/// The wall clock, milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
