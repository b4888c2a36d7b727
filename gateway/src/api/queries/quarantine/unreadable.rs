//! Records that cannot be read: skipped where they are listed, counted, and logged once a minute.

use crate::{
    api::metrics::{Metric, MetricKind},
    retry::Repeats,
};
use hunhe_store::{RecordId, StoreError};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How often one was met.
#[derive(Debug)]
pub(in crate::api::queries) struct Unreadable {
    count: AtomicU64,
    logged: Mutex<Repeats>,
    begun: Instant,
}

impl Default for Unreadable {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), logged: Mutex::default(), begun: Instant::now() }
    }
}

impl Unreadable {
    pub(in crate::api::queries) fn note(&self, id: RecordId, error: &StoreError) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.logged.lock().unwrap_or_else(PoisonError::into_inner).due(now_ms);
        if let Some(unlogged) = due {
            tracing::error!(%id, ?error, unlogged, "a quarantine record cannot be read: lists show the others");
        }
    }

    pub(super) fn metric(&self) -> Metric {
        Metric::single(
            "hunhe_quarantine_unreadable_total",
            "How often a list met a quarantine record that cannot be read, and went on without it.",
            MetricKind::Counter,
            crate::api::queries::status::count(self.count.load(Ordering::Relaxed)),
        )
    }
}
