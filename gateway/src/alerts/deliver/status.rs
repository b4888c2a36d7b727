//! An output's state and counters. Its own thread and the watchdog write them, anyone reads them without waiting for either.

use hunhe_log::{Lsn, Tail};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// In place of a time.
const NEVER: i64 = i64::MIN;

/// Kinds of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP.
    Webhook,
    /// The broker.
    Mqtt,
}

/// What an output's thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Delivers as fast as alerts come.
    Running,
    /// Waits before the next attempt.
    Retrying,
    /// The receiver is not the one that was meant: tried at least each minute until somebody mends it.
    Held,
    /// Ended.
    Stopped,
}

/// What an output's thread is doing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// What it is doing.
    pub state: State,
    /// Its newest failure, until a delivery succeeds.
    pub last_error: Option<String>,
}

impl Health {
    pub(super) const fn well() -> Self {
        Self { state: State::Running, last_error: None }
    }
}

/// An output at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Name in the configuration; `mqtt` for the broker.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// What its thread is doing.
    pub state: State,
    /// Since when alerts have waited for it and none was delivered, milliseconds since 1970; none where it makes progress.
    pub stalled_since_ms: Option<i64>,
    /// Changes written and not yet passed by it.
    pub lag_records: u64,
    /// Deliveries taken since start.
    pub delivered: u64,
    /// Deliveries refused for good since start.
    pub failed: u64,
    /// Its newest failure, until a delivery succeeds.
    pub last_error: Option<String>,
}

/// An output's state and counters, shared.
#[derive(Debug)]
pub struct OutputStatus {
    name: String,
    kind: Kind,
    tail: Tail,
    health: Mutex<Health>,
    passed: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    attempts: AtomicU64,
    lost: AtomicU64,
    oldest_ms: AtomicI64,
    stalled_ms: AtomicI64,
}

impl OutputStatus {
    pub(super) fn new(name: String, kind: Kind, tail: Tail, passed: Lsn) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name,
            kind,
            passed: AtomicU64::new(passed.0.min(tail.head().0)),
            tail,
            health: Mutex::new(Health::well()),
            delivered: zero(),
            failed: zero(),
            attempts: zero(),
            lost: zero(),
            oldest_ms: AtomicI64::new(NEVER),
            stalled_ms: AtomicI64::new(NEVER),
        }
    }

    /// As configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last record that it needs no more.
    #[must_use]
    pub fn passed(&self) -> Lsn {
        Lsn(self.passed.load(Relaxed))
    }

    /// Attempts, repeats included.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// Records that were gone, or could not be read, when it came to them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Whether it has something to deliver.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.tail.head() > self.passed()
    }

    /// Rises with each change that it passes and each delivery that is taken or refused for good.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.passed().0 + self.delivered.load(Relaxed) + self.failed.load(Relaxed)
    }

    /// When the gateway found the oldest alert that this output has taken up and not delivered, milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        Some(self.oldest_ms.load(Relaxed)).filter(|&at| at != NEVER)
    }

    /// Since when it has made no progress although it has something to deliver, milliseconds since 1970.
    #[must_use]
    pub fn stalled_ms(&self) -> Option<i64> {
        Some(self.stalled_ms.load(Relaxed)).filter(|&at| at != NEVER)
    }

    /// Now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Health { state, last_error } = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot {
            name: self.name.clone(),
            kind: self.kind,
            state,
            stalled_since_ms: self.stalled_ms(),
            lag_records: self.tail.head().0.saturating_sub(self.passed().0),
            delivered: self.delivered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            last_error,
        }
    }

    pub(super) fn enter(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    pub(super) fn moved(&self, passed: Lsn) {
        self.passed.store(passed.0, Relaxed);
    }

    pub(super) fn waits_since(&self, oldest_ms: Option<i64>) {
        self.oldest_ms.store(oldest_ms.unwrap_or(NEVER), Relaxed);
    }

    pub(super) fn stall(&self, since_ms: Option<i64>) {
        self.stalled_ms.store(since_ms.unwrap_or(NEVER), Relaxed);
    }

    pub(super) fn attempted(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Relaxed);
    }
}
