//! Rules as they are written, and the figures of alerts and their outputs.

use super::{
    Answers,
    metrics::{counter, gauge, labelled},
    status::{Standing, count},
};
use crate::{
    alerts::{
        deliver::status::{self, Snapshot},
        list::BySeverity,
    },
    api::{
        metrics::{Figure, FigureValue, Metric, MetricKind},
        types::{OutputStatus, Rule},
    },
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

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
        let age = |output: &Arc<status::OutputStatus>| {
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
        let mut metrics = vec![firing(&standing.firing.live)];
        metrics.extend(self.output_metrics());
        metrics.extend(self.alert_log_metrics(standing));
        metrics
    }

    fn output_metrics(&self) -> [Metric; 5] {
        let outputs: Vec<Snapshot> = self.alerting.outputs.iter().map(|output| output.snapshot()).collect();
        let by_output = |name, help, kind, of: fn(&Snapshot) -> u64| {
            let figures = outputs.iter().map(|output| labelled("output", &output.name, of(output)));
            Metric { name, help, kind, figures: figures.collect() }
        };
        [
            by_output(
                "hunhe_alerts_delivered_total",
                "Alerts that an output took.",
                MetricKind::Counter,
                |output| output.delivered,
            ),
            by_output(
                "hunhe_alerts_failed_total",
                "Alerts that an output refused for good.",
                MetricKind::Counter,
                |output| output.failed,
            ),
            by_output(
                "hunhe_alerts_lag_records",
                "Changes of alerts that an output has not passed.",
                MetricKind::Gauge,
                |output| output.lag_records,
            ),
            by_output(
                "hunhe_output_stalled",
                "1 where alerts wait for an output and none was delivered for longer than alerts.stalled_after_s.",
                MetricKind::Gauge,
                |output| u64::from(output.stalled_since_ms.is_some()),
            ),
            self.oldest_undelivered(),
        ]
    }

    fn alert_log_metrics(&self, standing: &Standing) -> [Metric; 5] {
        let figures = &self.alerting.figures;
        [
            counter(
                "hunhe_alerts_follower_failures_total",
                "How often the alert log could not be read for the page and the lists, and was opened again.",
                figures.follower_failures.load(Relaxed),
            ),
            counter(
                "hunhe_alerts_dropped_total",
                "Changes of alerts released at the alert log's limit before every output had them.",
                figures.dropped.load(Relaxed),
            ),
            counter(
                "hunhe_alerts_forgotten_total",
                "Open alerts that the list had no room for.",
                standing.forgotten,
            ),
            counter(
                "hunhe_alerts_joined_total",
                "Breaches counted with the breach before: their device brings too many changes of its alerts.",
                self.view.published.overview().counters.breaches_joined,
            ),
            gauge("hunhe_alert_log_bytes", "Alert log on disk.", count(figures.bytes.load(Relaxed))),
        ]
    }
}

fn firing(live: &BySeverity) -> Metric {
    let by_severity =
        [("critical", live.critical), ("major", live.major), ("warning", live.warning), ("info", live.info)];
    Metric {
        name: "hunhe_alerts_firing",
        help: "Live alerts that fire, by severity.",
        kind: MetricKind::Gauge,
        figures: by_severity.iter().map(|(name, value)| labelled("severity", name, *value)).collect(),
    }
}
