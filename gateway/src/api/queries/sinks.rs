//! States and counters of the sinks, for the API and for Prometheus.

use super::{metrics::labelled, status::count};
use crate::{
    api::{
        metrics::{Figure, FigureValue, Metric, MetricKind},
        types::{self, SinkState},
    },
    sinks::status::{Circuit, SinkStatus, Snapshot, State},
};
use std::sync::Arc;

pub(super) fn shown(sink: &Snapshot) -> types::SinkStatus {
    let state = match sink.state {
        State::Starting | State::Running if sink.lag_s > 5 => SinkState::Draining,
        State::Starting | State::Running => SinkState::Running,
        State::Retrying => SinkState::Retrying,
        State::Held | State::Ended => SinkState::Stopped,
    };
    let trouble = matches!(sink.state, State::Retrying | State::Held).then(|| sink.reason.clone());
    types::SinkStatus {
        name: sink.name.clone(),
        state,
        circuit: match sink.circuit {
            Circuit::Closed => types::Circuit::Closed,
            Circuit::Open => types::Circuit::Open,
            Circuit::HalfOpen => types::Circuit::HalfOpen,
        },
        lag_records: sink.lag_records,
        unsettled_records: sink.unsettled_records,
        lag_s: count(sink.lag_s),
        cursor: sink.cursor.source_lsn,
        requests: sink.requests,
        retries: sink.retries,
        rewinds: sink.rewinds,
        dead_letters: sink.rows_dead_lettered,
        last_error: trouble.or_else(|| (!sink.warning.is_empty()).then(|| sink.warning.clone())),
    }
}

pub(super) fn metrics(sinks: &[Arc<SinkStatus>]) -> Vec<Metric> {
    let sinks: Vec<Snapshot> = sinks.iter().map(|sink| sink.snapshot()).collect();
    let mut metrics = positions(&sinks);
    metrics.push(circuits(&sinks));
    metrics.extend(requests(&sinks));
    metrics.extend(rows(&sinks));
    metrics
}

/// One figure a sink.
fn family(
    sinks: &[Snapshot],
    kind: MetricKind,
    name: &'static str,
    help: &'static str,
    value: fn(&Snapshot) -> u64,
) -> Metric {
    let figures = sinks.iter().map(|sink| labelled("sink", &sink.name, value(sink)));
    Metric { name, help, kind, figures: figures.collect() }
}

fn positions(sinks: &[Snapshot]) -> Vec<Metric> {
    let gauge = |name, help, value| family(sinks, MetricKind::Gauge, name, help, value);
    vec![
        gauge("hunhe_sink_lag_records", "Decided records that a sink has not written.", |sink| {
            sink.lag_records
        }),
        gauge(
            "hunhe_sink_unsettled_records",
            "Decided records written that the database might still lose if it were killed.",
            |sink| sink.unsettled_records,
        ),
    ]
}

fn circuits(sinks: &[Snapshot]) -> Metric {
    let states = [("closed", Circuit::Closed), ("half_open", Circuit::HalfOpen), ("open", Circuit::Open)];
    let figures = sinks.iter().flat_map(|sink| {
        states.map(|(name, circuit)| Figure {
            labels: vec![("sink", sink.name.clone()), ("circuit", name.to_owned())],
            value: FigureValue::Number(f64::from(u8::from(sink.circuit == circuit))),
        })
    });
    Metric {
        name: "hunhe_sink_circuit",
        help: "1 for what a sink's circuit is: closed, open after a failure, half_open while it is tried again.",
        kind: MetricKind::Gauge,
        figures: figures.collect(),
    }
}

fn requests(sinks: &[Snapshot]) -> Vec<Metric> {
    let counter = |name, help, value| family(sinks, MetricKind::Counter, name, help, value);
    vec![
        counter("hunhe_sink_requests_total", "Requests, repeats included.", |sink| sink.requests),
        counter(
            "hunhe_sink_retries_total",
            "Requests repeated after no answer, or one that asked for patience.",
            |sink| sink.retries,
        ),
        counter(
            "hunhe_sink_rewinds_total",
            "How often a sink wrote again what its database may have lost in a restart.",
            |sink| sink.rewinds,
        ),
    ]
}

fn rows(sinks: &[Snapshot]) -> Vec<Metric> {
    let counter = |name, help, value| family(sinks, MetricKind::Counter, name, help, value);
    vec![
        counter("hunhe_sink_rows_written_total", "Lines that a database took, repeats included.", |sink| {
            sink.rows_written
        }),
        counter(
            "hunhe_sink_dead_letters_total",
            "Lines that a database refused or skipped; they are in quarantine.",
            |sink| sink.rows_dead_lettered,
        ),
        counter(
            "hunhe_sink_rows_skipped_total",
            "Rows that a database reports as skipped after it accepted them, from any writer.",
            |sink| sink.rows_skipped,
        ),
        counter("hunhe_sink_records_lost_total", "Decided records that a sink could not read.", |sink| {
            sink.records_lost
        }),
    ]
}
