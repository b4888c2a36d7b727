//! What the sinks say of themselves, for the API and for Prometheus.

use super::status::count;
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
        cursor: sink.cursor.cause,
        requests: sink.requests,
        retries: sink.retries,
        rewinds: sink.rewinds,
        dead_letters: sink.rows_dead_lettered,
        last_error: trouble.or_else(|| (!sink.warning.is_empty()).then(|| sink.warning.clone())),
    }
}

pub(super) fn metrics(sinks: &[Arc<SinkStatus>]) -> Vec<Metric> {
    let sinks: Vec<Snapshot> = sinks.iter().map(|sink| sink.snapshot()).collect();
    let family = |name, help, kind, value: fn(&Snapshot) -> u64| {
        let figure = |sink: &Snapshot| Figure {
            labels: vec![("sink", sink.name.clone())],
            value: FigureValue::Number(count(value(sink))),
        };
        Metric { name, help, kind, figures: sinks.iter().map(figure).collect() }
    };
    let (counter, gauge) = (MetricKind::Counter, MetricKind::Gauge);
    let circuits = [("closed", Circuit::Closed), ("half_open", Circuit::HalfOpen), ("open", Circuit::Open)];
    let circuit = sinks.iter().flat_map(|sink| {
        circuits.map(|(name, circuit)| Figure {
            labels: vec![("sink", sink.name.clone()), ("circuit", name.to_owned())],
            value: FigureValue::Number(f64::from(u8::from(sink.circuit == circuit))),
        })
    });
    vec![
        family("hunhe_sink_lag_records", "Decided records that a sink has not written.", gauge, |sink| {
            sink.lag_records
        }),
        family(
            "hunhe_sink_unsettled_records",
            "Decided records written that the database might still lose if it were killed.",
            gauge,
            |sink| sink.unsettled_records,
        ),
        Metric {
            name: "hunhe_sink_circuit",
            help: "1 for what a sink's circuit is: closed, open after a failure, half_open while it is tried again.",
            kind: gauge,
            figures: circuit.collect(),
        },
        family("hunhe_sink_requests_total", "Requests, repeats included.", counter, |sink| sink.requests),
        family(
            "hunhe_sink_retries_total",
            "Requests repeated after no answer, or one that asked for patience.",
            counter,
            |sink| sink.retries,
        ),
        family(
            "hunhe_sink_rewinds_total",
            "How often a sink wrote again what its database may have lost in a restart.",
            counter,
            |sink| sink.rewinds,
        ),
        family(
            "hunhe_sink_rows_written_total",
            "Lines that a database took, repeats included.",
            counter,
            |sink| sink.rows_written,
        ),
        family(
            "hunhe_sink_dead_letters_total",
            "Lines that a database refused or skipped; they are in quarantine.",
            counter,
            |sink| sink.rows_dead_lettered,
        ),
        family(
            "hunhe_sink_rows_skipped_total",
            "Rows that a database says it skipped after accepting them, whoever wrote them.",
            counter,
            |sink| sink.rows_skipped,
        ),
        family(
            "hunhe_sink_records_lost_total",
            "Decided records that a sink could not read.",
            counter,
            |sink| sink.records_lost,
        ),
    ]
}
