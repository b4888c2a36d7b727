//! What the server counts, for `/metrics` and the log.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::conduct::Late;
use super::places::Full;
use crate::api::failures::Failures;
use crate::api::metrics::{Figure, FigureValue, Metric, MetricKind};
use crate::api::weight::Weights;

/// Bytes of answers that callers may leave untaken, all together.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// Beside them, for small ones.
const SMALL_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The server's counts.
#[derive(Debug)]
pub(in crate::api) struct Figures {
    open: AtomicUsize,
    accepted: AtomicU64,
    late: [AtomicU64; Late::ALL.len()],
    made_room: AtomicU64,
    refused_all: AtomicU64,
    refused_peer: AtomicU64,
    accept_errors: AtomicU64,
    misdirected: AtomicU64,
    too_heavy: AtomicU64,
    /// An answer was refused because others are not taken.
    crowded: Notify,
    weights: Arc<Weights>,
    failures: Mutex<Failures>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            open: AtomicUsize::default(),
            accepted: AtomicU64::default(),
            late: Default::default(),
            made_room: AtomicU64::default(),
            refused_all: AtomicU64::default(),
            refused_peer: AtomicU64::default(),
            accept_errors: AtomicU64::default(),
            misdirected: AtomicU64::default(),
            too_heavy: AtomicU64::default(),
            crowded: Notify::new(),
            weights: Weights::new(ANSWER_BYTES_MAX, SMALL_ANSWER_BYTES_MAX),
            failures: Mutex::default(),
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Figures {
    pub(super) fn open(&self, number: usize) {
        self.open.store(number, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) {
        add(&self.accepted);
    }

    pub(super) fn late(&self, late: Late) {
        let at = Late::ALL.iter().position(|other| *other == late);
        if let Some(count) = at.and_then(|at| self.late.get(at)) {
            add(count);
        }
    }

    pub(super) fn made_room(&self) {
        add(&self.made_room);
    }

    pub(super) fn refused(&self, full: Full) {
        add(match full {
            Full::All => &self.refused_all,
            Full::Peer => &self.refused_peer,
        });
    }

    pub(super) fn accept_failed(&self, now: Instant, error: &io::Error) {
        add(&self.accept_errors);
        if self.failures().note(now, ACCEPT, 0) {
            tracing::error!(%error, "no connection to page and API can be accepted: it is tried again");
        }
    }

    pub(in crate::api) fn misdirected(&self) {
        add(&self.misdirected);
    }

    pub(in crate::api) fn too_heavy(&self) {
        add(&self.too_heavy);
        self.crowded.notify_one();
    }

    /// Ready once an answer was refused because others are not taken.
    pub(super) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    pub(in crate::api) fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    pub(in crate::api) fn failures(&self) -> MutexGuard<'_, Failures> {
        // Each change of it is whole.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs how often something failed again since it was logged last.
    pub(super) fn log_due(&self, now: Instant) {
        let due = self.failures().due(now);
        for ((path, status), times) in due {
            if path == ACCEPT {
                tracing::error!(times, "connections to page and API could not be accepted");
            } else {
                tracing::warn!(path, status, times, "requests not answered since this was last logged");
            }
        }
    }

    pub(in crate::api) fn metrics(&self) -> Vec<Metric> {
        let counter = |name, help, count: &AtomicU64| {
            Metric::single(name, help, MetricKind::Counter, float(count.load(Ordering::Relaxed)))
        };
        let labelled = |key, label: &str, count: &AtomicU64| Figure {
            labels: vec![(key, label.to_owned())],
            value: FigureValue::Number(float(count.load(Ordering::Relaxed))),
        };
        let late = Late::ALL.iter().zip(&self.late).map(|(late, count)| labelled("why", late.name(), count));
        let closed = late.chain([labelled("why", "room", &self.made_room)]).collect();
        let open = self.open.load(Ordering::Relaxed) as u64;
        let gauge = |name, help, value| Metric::single(name, help, MetricKind::Gauge, float(value));
        vec![
            gauge("hunhe_http_connections", "Open connections to page and API.", open),
            counter("hunhe_http_accepted_total", "Connections accepted.", &self.accepted),
            Metric {
                name: "hunhe_http_closed_total",
                help: "Connections closed before their time: a step took too long, or another needed the room.",
                kind: MetricKind::Counter,
                figures: closed,
            },
            Metric {
                name: "hunhe_http_refused_total",
                help: "Connections closed at once because there was no room, in all or for one address.",
                kind: MetricKind::Counter,
                figures: vec![
                    labelled("bound", "all", &self.refused_all),
                    labelled("bound", "peer", &self.refused_peer),
                ],
            },
            counter(
                "hunhe_http_accept_errors_total",
                "Times that no connection could be accepted.",
                &self.accept_errors,
            ),
            counter(
                "hunhe_http_misdirected_total",
                "Requests refused because they were for another host.",
                &self.misdirected,
            ),
            counter(
                "hunhe_http_answers_refused_total",
                "Answers not given because too many others were not yet taken.",
                &self.too_heavy,
            ),
            gauge("hunhe_http_answer_bytes", "Bytes of answers not yet taken.", self.weights.bytes()),
            Metric::single(
                "hunhe_http_failed_total",
                "Requests answered with a failure of the gateway, and failures to accept a connection.",
                MetricKind::Counter,
                float(self.failures().total()),
            ),
        ]
    }
}

/// The kind of failure that has no route.
const ACCEPT: &str = "accept";

/// Exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 takes centuries")]
fn float(count: u64) -> f64 {
    count as f64
}
