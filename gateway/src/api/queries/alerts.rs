//! Rules as they are written, and the figures of alerts and their outputs.

use super::{
    Answers,
    status::{Standing, count},
};
use crate::api::{
    metrics::{Figure, FigureValue, Metric, MetricKind},
    types::{OutputStatus, Rule},
};
use std::sync::{Arc, atomic::Ordering};

impl Answers {
    pub(super) fn rules_as_written(&self) -> Vec<Rule> {
        let rule = |rule: &hunhe_gateway_core::rule::Rule| Rule {
            id: rule.id.clone(),
            version: rule.version,
            class: rule.class.clone(),
            severity: rule.severity.into(),
            title: (&rule.title).into(),
            source: rule.source.clone(),
            // Numbers and names always serialise.
            when: serde_json::to_value(&rule.when).unwrap_or_default(),
            hold_s: rule.hold_s,
            clear_hold_s: rule.clear_hold_s,
        };
        self.registry.rules().iter().map(rule).collect()
    }

    pub(super) fn outputs_now(&self) -> Vec<OutputStatus> {
        self.alerting.outputs.iter().map(|output| output.snapshot().into()).collect()
    }

    fn oldest_undelivered(&self) -> Metric {
        let now_ms = self.clock.now_ms();
        let age = |output: &Arc<crate::alerts::deliver::status::OutputStatus>| {
            let waits_ms = output.oldest_ms().map_or(0, |oldest| now_ms.saturating_sub(oldest));
            Figure {
                labels: vec![("output", output.name().to_owned())],
                value: FigureValue::Number(count(u64::try_from(waits_ms).unwrap_or(0)) / 1000.0),
            }
        };
        Metric {
            name: "hunhe_output_oldest_undelivered_seconds",
            help: "Age of the oldest alert that an output has taken up and not delivered; 0 where none waits.",
            kind: MetricKind::Gauge,
            figures: self.alerting.outputs.iter().map(age).collect(),
        }
    }

    pub(super) fn alert_metrics(&self, standing: &Standing) -> Vec<Metric> {
        let firing = standing.firing.live;
        let by_severity = [
            ("critical", firing.critical),
            ("major", firing.major),
            ("warning", firing.warning),
            ("info", firing.info),
        ];
        let figure = |key, label: &str, value| Figure {
            labels: vec![(key, label.to_owned())],
            value: FigureValue::Number(count(value)),
        };
        let outputs = self.outputs_now();
        let by_output = |name, help, kind, of: fn(&OutputStatus) -> u64| Metric {
            name,
            help,
            kind,
            figures: outputs.iter().map(|output| figure("output", &output.name, of(output))).collect(),
        };
        let figures = &self.alerting.figures;
        let counter = |name, help, value| Metric::single(name, help, MetricKind::Counter, count(value));
        vec![
            Metric {
                name: "hunhe_alerts_firing",
                help: "Live alerts that fire, by severity.",
                kind: MetricKind::Gauge,
                figures: by_severity.iter().map(|(name, value)| figure("severity", name, *value)).collect(),
            },
            by_output(
                "hunhe_alerts_delivered_total",
                "Alerts that an output took.",
                MetricKind::Counter,
                |o| o.delivered,
            ),
            by_output(
                "hunhe_alerts_failed_total",
                "Alerts that an output refused for good.",
                MetricKind::Counter,
                |o| o.failed,
            ),
            by_output(
                "hunhe_alerts_lag_records",
                "Changes of alerts that an output has not passed.",
                MetricKind::Gauge,
                |o| o.lag,
            ),
            by_output(
                "hunhe_output_stalled",
                "1 where alerts wait for an output and none was delivered for longer than alerts.stalled_after_s.",
                MetricKind::Gauge,
                |o| u64::from(o.stalled_since.is_some()),
            ),
            self.oldest_undelivered(),
            counter(
                "hunhe_alerts_follower_failures_total",
                "How often the alert log could not be read for the page and the lists, and was opened again.",
                figures.follower_failures.load(Ordering::Relaxed),
            ),
            counter(
                "hunhe_alerts_dropped_total",
                "Changes of alerts released at the alert log's limit before every output had them.",
                figures.dropped.load(Ordering::Relaxed),
            ),
            counter(
                "hunhe_alerts_forgotten_total",
                "Open alerts that the list had no room for.",
                standing.forgotten,
            ),
            counter(
                "hunhe_alerts_joined_total",
                "Breaches told as one with the breach before: their device brings too many changes of its alerts.",
                self.view.published.overview().counters.breaches_joined,
            ),
            Metric::single(
                "hunhe_alert_log_bytes",
                "Alert log on disk.",
                MetricKind::Gauge,
                count(figures.bytes.load(Ordering::Relaxed)),
            ),
        ]
    }
}
