//! Alerts about the gateway itself: an output of alerts that makes no progress. The watchdog (`deliver::watchdog`) finds it and
//! journals it; the lane's thread writes the alert, so that a replay raises and ends the same one under the same id.
//!
//! Nothing here is about a device: agent and operator are [`NAME`], and the text names the output as configured.
//!
//! Bound: one open alert an output.

use super::{Alert, ById};
use crate::record::OutputChange;
use hunhe_gateway_core::{
    device::alert::{Mode, Phase, own_id},
    rule::Severity,
};
use hunhe_proto::class::Text;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who an alert about the gateway is about, and who runs it.
pub const NAME: &str = "gateway";
/// The rule of an output that makes no progress.
pub const OUTPUT_STALLED: &str = "output_stalled";

/// Outputs with an open alert, as the alert log has it, by name, each with its time since.
#[derive(Debug, Default)]
pub struct StalledOutputs(Mutex<BTreeMap<String, i64>>);

impl StalledOutputs {
    /// Now.
    #[must_use]
    pub fn now(&self) -> BTreeMap<String, i64> {
        self.lock().clone()
    }

    /// Takes over its open alerts at a start, out of those in the alert log that the lane does not know.
    pub fn take_over(&self, standing: &mut ById) {
        let own: Vec<u64> =
            standing.iter().filter(|(_, alert)| alert.output.is_some()).map(|(&id, _)| id).collect();
        for alert in own.into_iter().filter_map(|id| standing.remove(&id)) {
            if let Some(output) = alert.output {
                self.lock().insert(output, alert.since_ms);
            }
        }
    }

    /// Ids of the open alerts.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.lock().iter().map(|(name, &since_ms)| id_of(name, since_ms)).collect()
    }

    /// The alert that follows from a change; none where the change is known already.
    pub(super) fn take(&self, change: OutputChange<'_>, at_ms: i64) -> Option<Alert> {
        let mut open = self.lock();
        let since_ms = match (change.stalled, open.get(change.name)) {
            (true, None) => {
                open.insert(change.name.to_owned(), change.since_ms);
                change.since_ms
            }
            (false, Some(_)) => open.remove(change.name)?,
            (true, Some(_)) | (false, None) => return None,
        };
        Some(describe(OutputChange { since_ms, ..change }, at_ms))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        // One insertion or removal at a time: a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id_of(name: &str, since_ms: i64) -> u64 {
    own_id(&format!("{OUTPUT_STALLED} {name}"), since_ms)
}

fn describe(change: OutputChange<'_>, at_ms: i64) -> Alert {
    let OutputChange { name, since_ms, stalled } = change;
    let text = if stalled {
        Text {
            zh: format!("告警输出 {name} 停滞：有告警待发送，但一直没有送达"),
            en: format!("alert output {name} is stalled: alerts wait for it, and none is delivered"),
        }
    } else {
        Text {
            zh: format!("告警输出 {name} 停滞，已恢复"),
            en: format!("alert output {name} was stalled, resolved"),
        }
    };
    Alert {
        id: id_of(name, since_ms),
        sequence: 0,
        rule: OUTPUT_STALLED.into(),
        rule_version: 1,
        severity: Severity::Major,
        phase: if stalled { Phase::Firing } else { Phase::Resolved },
        fired: true,
        mode: Mode::Live,
        device: None,
        agent: NAME.into(),
        output: Some(name.into()),
        class: None,
        zone: None,
        zone_name: None,
        district: None,
        district_name: None,
        operator: NAME.into(),
        channel: None,
        value: None,
        threshold: None,
        unit: String::new(),
        since_ms,
        event_ms: at_ms,
        arrival_ms: at_ms,
        title: Text { zh: "告警输出停滞".into(), en: "Alert output stalled".into() },
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::log::tests::Site;

    fn change(name: &str, since_ms: i64, stalled: bool) -> OutputChange<'_> {
        OutputChange { name, since_ms, stalled }
    }

    #[test]
    fn an_output_that_stalls_is_one_alert_and_one_end_however_often_it_is_journaled() {
        let mut site = Site::new();
        let records = [
            change("duty", 1_000, true),
            change("duty", 1_500, true),
            change("mqtt", 2_000, false),
            change("duty", 9_000, false),
            change("duty", 9_000, false),
            change("duty", 20_000, true),
        ];
        for (source_lsn, change) in (1..).zip(records) {
            site.log.write_output(source_lsn, 31_000, change).unwrap();
        }
        let entries = site.entries();
        let seen: Vec<_> =
            entries.iter().map(|entry| (entry.source_lsn, entry.alert.phase, entry.alert.since_ms)).collect();
        assert_eq!(
            seen,
            [(1, Phase::Firing, 1_000), (4, Phase::Resolved, 1_000), (6, Phase::Firing, 20_000)]
        );
        let alerts: Vec<_> = entries.iter().map(|entry| &entry.alert).collect();
        assert_eq!(alerts[0].id, alerts[1].id, "one episode, one id");
        assert_ne!(alerts[0].id, alerts[2].id, "another episode, another id");
        assert!(alerts.iter().all(|alert| alert.is_announced() && alert.severity == Severity::Major));
        assert!(alerts[0].text.zh.contains("duty 停滞") && alerts[0].text.en.contains("duty is stalled"));
        assert_eq!(site.log.stalled_outputs().ids(), [alerts[2].id]);
    }

    #[test]
    fn what_stands_at_a_start_is_taken_over_and_not_withdrawn() {
        let before = StalledOutputs::default();
        let raised = before.take(change("duty", 1_000, true), 31_000).unwrap();
        let mut device = raised.clone();
        (device.output, device.id) = (None, 7);
        let mut standing = ById::from([(raised.id, raised), (7, device)]);
        let after = StalledOutputs::default();
        after.take_over(&mut standing);
        assert_eq!(after.now(), BTreeMap::from([("duty".into(), 1_000)]));
        assert_eq!(standing.keys().copied().collect::<Vec<_>>(), [7]);
    }
}
