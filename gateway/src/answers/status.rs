//! The gateway at this moment, the ledger, and figures for Prometheus.

use super::{Answers, quarantine, sinks};
use crate::{
    alerts::describe::shown_agent,
    api::{
        ApiError,
        backend::LedgerQuery,
        metrics::{Figure, FigureValue, Metric, MetricKind},
        types::{
            Instant as At, JournalStatus, LaneStatus, Ledger, LedgerBy, LedgerRow, LedgerTotals, Status,
        },
    },
    journal::State as JournalState,
};
use hunhe_gateway_core::{
    lane::Lane,
    ledger::Totals,
    registry::{DeviceIx, Registry},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

/// Readings a second over the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    const OVER_S: f64 = 5.0;

    fn note(&mut self, now: Instant, readings: u64) -> f64 {
        self.seen.push_back((now, readings));
        while self.seen.len() > 2
            && self.seen.front().is_some_and(|(at, _)| (now - *at).as_secs_f64() > Self::OVER_S)
        {
            self.seen.pop_front();
        }
        let Some(&(since, before)) = self.seen.front() else { return 0.0 };
        let seconds = (now - since).as_secs_f64();
        if seconds < 0.1 { 0.0 } else { count(readings.saturating_sub(before)) / seconds }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

struct Seen {
    totals: LedgerTotals,
    messages: u64,
    samples: u64,
    readings: u64,
    online: u64,
    reporting: u64,
    refused: BTreeMap<String, u64>,
}

impl Answers {
    pub(super) async fn status_kept(&self) -> Result<Status, ApiError> {
        let mut kept = self.kept.lock().await;
        if let Some((at, status)) = &*kept
            && at.elapsed() < super::FRESH
        {
            return Ok(status.clone());
        }
        let status = self.status_now().await?;
        *kept = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    async fn status_now(&self) -> Result<Status, ApiError> {
        let registry = Arc::clone(&self.registry);
        let now_ms = self.clock.now_ms();
        let seen = self.ask(move |lane| look(lane, &registry, now_ms)).await?;
        let progress = self.lane.progress();
        let handled = progress.handled.load(Ordering::Relaxed);
        let head = self.journal_tail.head().0;
        let readings_per_s =
            self.rate.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now(), seen.readings);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: At(self.started_ms),
            uptime_s: u64::try_from(now_ms.saturating_sub(self.started_ms)).unwrap_or(0) / 1000,
            now: At(now_ms),
            readings_per_s,
            samples_total: seen.samples,
            messages_total: seen.messages,
            devices_known: self.registry.devices().len() as u64,
            devices_online: seen.online,
            devices_reporting: seen.reporting,
            lanes: vec![LaneStatus {
                lane: 0,
                devices: self.registry.devices().len() as u64,
                queued_records: head.saturating_sub(handled),
                applied: handled,
            }],
            journal: JournalStatus { bytes: self.journal_tail.bytes(), head: head + 1, durable: head },
            sinks: self.sinks.iter().map(|sink| sinks::shown(&sink.snapshot())).collect(),
            ledger: seen.totals,
            quarantined_by_reason: seen.refused,
            quarantine: self.quarantine_now(),
            retired: self.retired_now(),
            alerts: self.alerting.book.firing(),
            outputs: self.outputs_now(),
        })
    }

    pub(super) async fn ledger_of(&self, query: LedgerQuery) -> Result<Ledger, ApiError> {
        let registry = Arc::clone(&self.registry);
        let retired = self.retired_now();
        self.ask(move |lane| {
            let totals = totals_of(lane);
            let Some(by) = query.by else {
                return Ledger { totals, retired, by: None, rows: Vec::new(), next: None };
            };
            let mut parts: BTreeMap<String, (Totals, bool)> = BTreeMap::new();
            for (device, state) in lane.states() {
                let (sum, closed) =
                    parts.entry(key_of(&registry, device, by)).or_insert((Totals::default(), true));
                let one = state.outboxes.totals();
                *closed &= one.unexplained() == 0;
                sum.add(&one);
            }
            let mut rows: Vec<LedgerRow> = parts
                .into_iter()
                .filter(|(key, _)| query.after.as_ref().is_none_or(|after| key > after))
                .take(query.limit.saturating_add(1))
                .map(|(key, (sum, closed))| LedgerRow { key, totals: plain_totals(&sum, closed) })
                .collect();
            let more = rows.len() > query.limit;
            rows.truncate(query.limit);
            let next = rows.last().filter(|_| more).map(|row| row.key.clone());
            Ledger { totals, retired, by: Some(by), rows, next }
        })
        .await
    }

    pub(super) fn ready_now(&self) -> Result<(), ApiError> {
        let missing = |what: &str| Err(ApiError::Unavailable(what.into()));
        if self.journal.status().state != JournalState::Running {
            return missing("the journal takes nothing: it is at its limit or has failed, see the log");
        }
        if !self.sessions.all_ready() {
            return missing("not connected to the broker, or not subscribed yet");
        }
        Ok(())
    }

    pub(super) async fn metrics_now(&self) -> Result<Vec<Metric>, ApiError> {
        let status = self.status_kept().await?;
        let ledger = &status.ledger;
        let counter = |name, help, value| Metric::single(name, help, MetricKind::Counter, count(value));
        let gauge = |name, help, value| Metric::single(name, help, MetricKind::Gauge, value);
        let classes = [
            ("stored", ledger.stored),
            ("quarantined", ledger.quarantined),
            ("declared_lost", ledger.declared_lost),
            ("outstanding", ledger.outstanding),
            ("unexplained", ledger.unexplained),
        ];
        let labelled = |key, label: &str, value| Figure {
            labels: vec![(key, label.to_owned())],
            value: FigureValue::Number(value),
        };
        let sessions = self.sessions.status();
        let shed = sessions.iter().map(|session| session.shed.load(Ordering::Relaxed)).sum();
        let connections = sessions.iter().map(|session| session.connections.load(Ordering::Relaxed)).sum();
        let progress = self.lane.progress();
        let mut metrics = vec![
            counter("hunhe_messages_total", "Messages handled.", status.messages_total),
            counter("hunhe_samples_total", "Samples accepted.", status.samples_total),
            gauge(
                "hunhe_readings_per_second",
                "Values accepted a second, over a few seconds.",
                status.readings_per_s,
            ),
            gauge("hunhe_devices_online", "Devices whose agent is connected.", count(status.devices_online)),
            gauge("hunhe_devices_reporting", "Devices heard in time.", count(status.devices_reporting)),
            Metric {
                name: "hunhe_ledger_samples",
                help: "Samples by the ledger's class.",
                kind: MetricKind::Gauge,
                figures: classes
                    .iter()
                    .map(|&(class, value)| labelled("class", class, count(value)))
                    .collect(),
            },
            Metric {
                name: "hunhe_refused_total",
                help: "Samples and messages refused, by reason.",
                kind: MetricKind::Counter,
                figures: status
                    .quarantined_by_reason
                    .iter()
                    .map(|(reason, &number)| labelled("reason", reason, count(number)))
                    .collect(),
            },
            gauge("hunhe_journal_bytes", "Journal on disk.", count(status.journal.bytes)),
            gauge(
                "hunhe_decided_log_bytes",
                "Decided log on disk.",
                count(progress.decided_bytes.load(Ordering::Relaxed)),
            ),
            counter(
                "hunhe_checkpoints_total",
                "Checkpoints written.",
                progress.checkpoints.load(Ordering::Relaxed),
            ),
            counter(
                "hunhe_unreadable_records_total",
                "Journal records that could not be read.",
                progress.unreadable.load(Ordering::Relaxed),
            ),
            counter("hunhe_broker_connections_total", "Connections to the broker begun.", connections),
            counter(
                "hunhe_broker_shed_total",
                "Connections closed because the journal's queue was full.",
                shed,
            ),
        ];
        metrics.extend(sinks::metrics(&self.sinks));
        metrics.extend(quarantine::metrics(&status.quarantine, status.retired));
        metrics.extend(self.alert_metrics());
        Ok(metrics)
    }
}

fn look(lane: &Lane, registry: &Registry, now_ms: i64) -> Seen {
    let counters = lane.counters();
    let mut refused = counters.messages_refused.clone();
    for (reason, number) in &counters.samples_refused {
        *refused.entry(reason.clone()).or_default() += number;
    }
    Seen {
        totals: totals_of(lane),
        messages: counters.messages,
        samples: counters.samples,
        readings: counters.readings,
        online: lane.city().devices_online(registry) as u64,
        reporting: lane
            .states()
            .filter(|(device, state)| heard(registry, *device, state.arrival_ms, now_ms))
            .count() as u64,
        refused,
    }
}

/// Heard within what its class calls silence.
pub(super) fn heard(registry: &Registry, device: DeviceIx, arrival_ms: i64, now_ms: i64) -> bool {
    let silent_ms = i64::from(registry.class_of(device).class.report.silent_after_s) * 1000;
    now_ms - arrival_ms <= silent_ms
}

fn totals_of(lane: &Lane) -> LedgerTotals {
    let (sum, closed) = lane.totals();
    let counters = lane.counters();
    LedgerTotals {
        readings: counters.readings,
        messages_refused: counters.messages_refused.clone().into_iter().collect(),
        ..plain_totals(&sum, closed)
    }
}

pub(super) fn plain_totals(sum: &Totals, closed: bool) -> LedgerTotals {
    LedgerTotals {
        sampled: sum.sampled,
        stored: sum.stored,
        quarantined: sum.quarantined,
        declared_lost: sum.declared_lost,
        outstanding: sum.outstanding,
        // A sample in two classes shows as not closed.
        unexplained: u64::try_from(sum.unexplained()).unwrap_or(0),
        duplicates: sum.duplicates,
        readings: 0,
        closed,
        messages_refused: BTreeMap::new(),
    }
}

fn key_of(registry: &Registry, device: DeviceIx, by: LedgerBy) -> String {
    let known = registry.device(device);
    match by {
        LedgerBy::Device => known.pseudonym.to_string(),
        LedgerBy::Agent => shown_agent(registry, Some(device), known.agent),
        LedgerBy::Operator => known.operator.to_string(),
        LedgerBy::Zone => known.zone.to_string(),
        LedgerBy::District => known.district.to_string(),
        LedgerBy::Class => registry.class_of(device).class.name.clone(),
    }
}
