//! What an output says of itself, and what the watchdog says of it. Their threads write, anyone reads.

use crate::api::types::{self, Instant, OutputKind, OutputState};
use hunhe_log::{Lsn, Tail};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// In place of a time.
const NEVER: i64 = i64::MIN;

/// An output's state and counters, shared.
#[derive(Debug)]
pub struct OutputStatus {
    name: String,
    kind: OutputKind,
    tail: Tail,
    words: Mutex<(OutputState, Option<String>)>,
    passed: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    attempts: AtomicU64,
    lost: AtomicU64,
    oldest_ms: AtomicI64,
    stalled_ms: AtomicI64,
}

impl OutputStatus {
    pub(super) fn new(name: String, kind: OutputKind, tail: Tail, passed: Lsn) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name,
            kind,
            passed: AtomicU64::new(passed.0.min(tail.head().0)),
            tail,
            words: Mutex::new((OutputState::Running, None)),
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

    /// As the interface shows it.
    #[must_use]
    pub fn snapshot(&self) -> types::OutputStatus {
        let (state, last_error) = self.words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stalled = self.stalled_ms();
        types::OutputStatus {
            name: self.name.clone(),
            kind: self.kind,
            state: if stalled.is_some() { OutputState::Stalled } else { state },
            stalled_since: stalled.map(Instant),
            lag: self.tail.head().0.saturating_sub(self.passed().0),
            delivered: self.delivered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            last_error,
        }
    }

    pub(super) fn enter(&self, state: OutputState, last_error: Option<String>) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = (state, last_error);
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
