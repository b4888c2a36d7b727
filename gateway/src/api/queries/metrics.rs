//! Figures for Prometheus, one function a subject. The names and their order are a contract with whoever scrapes them.

use super::{Answers, sinks, status::count};
use crate::{
    api::{
        ApiError,
        metrics::{Figure, FigureValue, Metric, MetricKind},
        types::Status,
    },
    intake::Role,
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// A family with one figure that only rises.
pub(super) fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::single(name, help, MetricKind::Counter, count(value))
}

/// A family with one figure that rises and falls.
pub(super) fn gauge(name: &'static str, help: &'static str, value: f64) -> Metric {
    Metric::single(name, help, MetricKind::Gauge, value)
}

/// One figure of a family, with a label.
pub(super) fn labelled(key: &'static str, label: &str, value: u64) -> Figure {
    Figure { labels: vec![(key, label.to_owned())], value: FigureValue::Number(count(value)) }
}

impl Answers {
    pub(super) async fn metrics_now(&self) -> Result<Vec<Metric>, ApiError> {
        let status = self.status_kept().await?;
        let standing = self.standing_now().await?;
        let mut metrics = Vec::from(traffic(&status));
        metrics.extend(ledger(&status));
        metrics.extend(self.lane_metrics(&status));
        metrics.extend(self.broker_metrics());
        metrics.extend(self.intake_metrics());
        metrics.extend(self.query_metrics());
        metrics.extend(sinks::metrics(&self.sinks));
        metrics.extend(self.quarantine_metrics(&status.quarantine, status.retired));
        metrics.extend(self.alert_metrics(&standing));
        metrics.extend(self.reads.metrics());
        Ok(metrics)
    }

    fn lane_metrics(&self, status: &Status) -> [Metric; 4] {
        let progress = self.lane.progress();
        [
            gauge("hunhe_journal_bytes", "Journal on disk.", count(status.journal.bytes)),
            gauge(
                "hunhe_decided_log_bytes",
                "Decided log on disk.",
                count(progress.decided_bytes.load(Relaxed)),
            ),
            counter("hunhe_checkpoints_total", "Checkpoints written.", progress.checkpoints.load(Relaxed)),
            counter(
                "hunhe_unreadable_records_total",
                "Journal records that could not be read.",
                progress.unreadable.load(Relaxed),
            ),
        ]
    }

    fn broker_metrics(&self) -> [Metric; 3] {
        let sessions = self.sessions.status();
        let shed = sessions.iter().map(|session| session.shed.load(Relaxed)).sum();
        let connections = sessions.iter().map(|session| session.connections.load(Relaxed)).sum();
        let refused = Role::ALL.iter().zip(sessions).map(|(role, session)| {
            labelled("session", role.suffix(), session.retained_refused.load(Relaxed))
        });
        [
            counter("hunhe_broker_connections_total", "Connections to the broker begun.", connections),
            counter(
                "hunhe_broker_shed_total",
                "Connections closed because the journal's queue was full.",
                shed,
            ),
            Metric {
                name: "hunhe_mqtt_retained_refused_total",
                help: "Retained reports refused, by session: nothing of them is journaled or counted as data.",
                kind: MetricKind::Counter,
                figures: refused.collect(),
            },
        ]
    }

    fn query_metrics(&self) -> [Metric; 3] {
        let figures = self.queries.figures();
        let counter = |name, help, value: &AtomicU64| counter(name, help, value.load(Relaxed));
        [
            counter("hunhe_queries_started_total", "Queries begun on a blocking thread.", &figures.started),
            counter(
                "hunhe_queries_refused_total",
                "Queries refused because too many waited, or others took too long.",
                &figures.refused,
            ),
            gauge(
                "hunhe_published_age_seconds",
                "Time since the lane last published what people see of it.",
                self.view.published.age(Instant::now()).as_secs_f64(),
            ),
        ]
    }
}

fn traffic(status: &Status) -> [Metric; 5] {
    [
        counter("hunhe_messages_total", "Messages handled.", status.messages_total),
        counter("hunhe_samples_total", "Samples accepted.", status.samples_total),
        gauge(
            "hunhe_readings_per_second",
            "Values accepted a second, over a few seconds.",
            status.readings_per_s,
        ),
        gauge("hunhe_devices_online", "Devices whose agent is connected.", count(status.devices_online)),
        gauge("hunhe_devices_reporting", "Devices that reported in time.", count(status.devices_reporting)),
    ]
}

fn ledger(status: &Status) -> [Metric; 3] {
    let ledger = &status.ledger;
    let classes = [
        ("stored", ledger.stored),
        ("quarantined", ledger.quarantined),
        ("declared_lost", ledger.declared_lost),
        ("outstanding", ledger.outstanding),
        ("unexplained", ledger.unexplained),
    ];
    let refused = status.quarantined_by_reason.iter();
    [
        Metric {
            name: "hunhe_ledger_samples",
            help: "Samples by the ledger's class.",
            kind: MetricKind::Gauge,
            figures: classes.iter().map(|&(class, value)| labelled("class", class, value)).collect(),
        },
        gauge(
            "hunhe_ledger_written_off_samples",
            "Samples that operators wrote off, part of those declared lost.",
            count(ledger.written_off),
        ),
        Metric {
            name: "hunhe_refused_total",
            help: "Samples and messages refused, by reason.",
            kind: MetricKind::Counter,
            figures: refused.map(|(reason, &number)| labelled("reason", reason, number)).collect(),
        },
    ]
}
