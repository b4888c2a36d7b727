//! What the intake refused, by which device, and how much work waits for the lane.

use super::{Answers, status::count};
use crate::{
    api::{
        metrics::{Figure, FigureValue, Metric, MetricKind},
        types::OverShare,
    },
    intake::{Over, Role},
};
use hunhe_gateway_core::registry::DeviceIx;
use std::collections::BTreeMap;

/// Devices over their share that are shown.
const SHOWN_MAX: usize = 10;

impl Answers {
    pub(super) fn over_share_now(&self) -> Vec<OverShare> {
        let mut by_device: BTreeMap<DeviceIx, u64> = BTreeMap::new();
        for (device, messages) in
            self.sessions.status().iter().flat_map(|session| session.over_share.offenders())
        {
            *by_device.entry(device).or_default() += messages;
        }
        let mut worst: Vec<(DeviceIx, u64)> = by_device.into_iter().collect();
        worst.sort_by_key(|&(device, messages)| (std::cmp::Reverse(messages), device));
        worst.truncate(SHOWN_MAX);
        let shown = |(device, messages)| OverShare {
            device: self.registry.device(device).pseudonym.to_string(),
            messages,
        };
        worst.into_iter().map(shown).collect()
    }

    pub(super) fn intake_metrics(&self) -> Vec<Metric> {
        let journal = self.journal.status();
        let sessions = Role::ALL.iter().zip(self.sessions.status());
        let figures = sessions.flat_map(|(role, session)| {
            Over::NAMES.into_iter().zip(session.over_share.messages()).map(|(reason, messages)| Figure {
                labels: vec![("session", role.suffix().to_owned()), ("reason", reason.to_owned())],
                value: FigureValue::Number(count(messages)),
            })
        });
        vec![
            Metric {
                name: "hunhe_intake_over_share_total",
                help: "Messages acknowledged and not taken: over the share of their device or agent, or of nobody known.",
                kind: MetricKind::Counter,
                figures: figures.collect(),
            },
            Metric::single(
                "hunhe_undecided_cost",
                "Work journaled and not decided, in units of about 20 ns: an alarm waits for it.",
                MetricKind::Gauge,
                count(journal.undecided_cost),
            ),
            Metric::single(
                "hunhe_intake_held",
                "1 while ordinary messages wait for the lane.",
                MetricKind::Gauge,
                count(journal.held.into()),
            ),
        ]
    }
}
