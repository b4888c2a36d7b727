//! Makes an alert of a change: names in place of indices, values in their units, a line of text in two languages.
//!
//! A function of the change, the registry, the rules and the city's names: a replay writes the same bytes again.

use super::{
    Alert,
    texts::{self, Finding, Level},
};
use crate::setup::places::Places;
use hunhe_gateway_core::{
    device::alert::{Change, Phase, Subject},
    event::ABSENT,
    registry::{AgentIx, DeviceIx, Registry},
    rule::{Rule, When},
};
use hunhe_proto::class::Class;
use std::sync::Arc;

/// Resolves a change's indices.
#[derive(Debug, Clone)]
pub struct Describer {
    registry: Arc<Registry>,
    places: Arc<Places>,
}

impl Describer {
    /// For that registry and city.
    #[must_use]
    pub fn new(registry: Arc<Registry>, places: Arc<Places>) -> Self {
        Self { registry, places }
    }

    /// The alert after a change; the log gives it its sequence.
    #[must_use]
    pub fn describe(&self, change: &Change) -> Alert {
        let registry = &*self.registry;
        let rule = registry.rule(change.rule);
        let (device, agent) = match change.subject {
            Subject::Device(device) => (Some(device), registry.device(device).agent),
            Subject::Agent(agent) => (None, agent),
        };
        let concerned: &[DeviceIx] = match &device {
            Some(device) => std::slice::from_ref(device),
            None => &registry.agent(agent).devices,
        };
        let zone = self.common(concerned, |at| registry.zone(registry.device(at).zone).id.to_string());
        let district = self.common(concerned, |at| registry.device(at).district.to_string());
        let operator =
            concerned.first().map_or_else(String::new, |&at| registry.device(at).operator.to_string());
        let class = device.map(|device| &registry.class_of(device).class);
        let zone_name = zone.as_deref().map(|zone| self.places.zone(zone));
        let district_name = district.as_deref().map(|code| self.places.district(code));
        let measured = Measured::of(change, rule, class);
        let agent = shown_agent(registry, device, agent);
        let finding = measured.finding(change, rule, class, &agent);
        let text = texts::line(district_name.as_ref(), zone_name.as_ref(), &finding, change.phase);
        Alert {
            id: change.id,
            sequence: 0,
            rule: rule.id.clone(),
            rule_version: rule.version,
            severity: rule.severity,
            phase: change.phase,
            fired: change.fired,
            mode: change.mode,
            device: device.map(|device| registry.device(device).pseudonym.to_string()),
            agent,
            output: None,
            class: class.map(|class| class.name.clone()),
            text,
            zone,
            zone_name,
            district,
            district_name,
            operator,
            channel: measured.channel,
            value: measured.value,
            threshold: measured.threshold,
            unit: measured.unit,
            since_ms: change.since_ms,
            event_ms: change.event_ms,
            arrival_ms: change.arrival_ms,
            title: rule.title.clone(),
        }
    }

    /// What all of these devices have in common.
    fn common(&self, devices: &[DeviceIx], of: impl Fn(DeviceIx) -> String) -> Option<String> {
        let (first, rest) = devices.split_first()?;
        let first = of(*first);
        rest.iter().all(|&device| of(device) == first).then_some(first)
    }
}

/// What the rule compared.
struct Measured {
    channel: Option<String>,
    value: Option<f64>,
    threshold: Option<f64>,
    unit: String,
}

impl Measured {
    fn of(change: &Change, rule: &Rule, class: Option<&Class>) -> Self {
        let plain = (change.value != ABSENT).then(|| whole(change.value));
        let nameless =
            |threshold, unit: &str| Self { channel: None, value: plain, threshold, unit: unit.into() };
        let level = |channel: &String, threshold: f64| {
            let known = class.and_then(|class| class.channel(channel));
            Self {
                channel: Some(channel.clone()),
                value: known.filter(|_| plain.is_some()).map(|channel| channel.value(change.value)),
                threshold: Some(threshold),
                unit: known.map_or_else(String::new, |channel| channel.unit.clone()),
            }
        };
        match &rule.when {
            When::AtLeast { channel, at_least, .. } => level(channel, *at_least),
            When::AtMost { channel, at_most, .. } => level(channel, *at_most),
            When::Bits { .. } => nameless(None, ""),
            When::Silent { silent_s } => nameless(Some(f64::from(*silent_s)), "s"),
            When::NewOutboxes { new_outboxes_per_h } => nameless(Some(f64::from(*new_outboxes_per_h)), ""),
            When::SilentShare { .. } | When::FoldedMissing { .. } | When::Refused { .. } => {
                nameless(None, "")
            }
        }
    }

    fn finding<'a>(
        &'a self,
        change: &Change,
        rule: &'a Rule,
        class: Option<&'a Class>,
        agent: &'a str,
    ) -> Finding<'a> {
        let title = class.map_or(&rule.title, |class| &class.title);
        let channel = self.channel.as_ref().and_then(|name| class?.channel(name));
        let over = change.phase == Phase::Resolved && change.fired;
        let level = |sign, threshold| Level {
            title: channel.map_or(title, |channel| &channel.title),
            value: self.value,
            decimals: channel.map_or(0, |channel| channel.decimals),
            unit: &self.unit,
            sign,
            threshold,
        };
        match &rule.when {
            When::AtLeast { at_least, clear_below, .. } => {
                Finding::Level(if over { level("<", *clear_below) } else { level("≥", *at_least) })
            }
            When::AtMost { at_most, clear_above, .. } => {
                Finding::Level(if over { level(">", *clear_above) } else { level("≤", *at_most) })
            }
            When::Bits { bits } => {
                let word = u32::try_from(change.value).unwrap_or(0);
                // The bit that cleared is no longer in the word, and the change does not name it.
                if over {
                    Finding::Bits { title: &rule.title, bits: 0 }
                } else {
                    Finding::Bits { title, bits: word & bits }
                }
            }
            When::Silent { silent_s } => {
                Finding::Silent { title, seconds: change.value, after_s: (*silent_s).into() }
            }
            When::SilentShare { silent_share, .. } => {
                Finding::ManySilent { agent, devices: change.value, share: *silent_share }
            }
            // It ends when it was not seen again.
            When::NewOutboxes { .. } | When::FoldedMissing { .. } | When::Refused { .. } if over => {
                Finding::Conduct { title, rule: &rule.title }
            }
            When::NewOutboxes { new_outboxes_per_h } => {
                Finding::NewOutboxes { title, outboxes: change.value, most: *new_outboxes_per_h }
            }
            When::FoldedMissing { .. } => Finding::FoldedMissing { title, samples: change.value },
            When::Refused { .. } => Finding::Conduct { title, rule: &rule.title },
        }
    }
}

/// An agent's name; that of a household device which is its own agent is hidden, as the device's is.
pub(crate) fn shown_agent(registry: &Registry, device: Option<DeviceIx>, agent: AgentIx) -> String {
    let agent = registry.agent(agent).id;
    let own = device.map(|device| registry.device(device)).filter(|known| known.id == agent);
    own.map_or(agent, |known| known.pseudonym).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "words, seconds and counts stay below 2^53")]
fn whole(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hunhe_fixtures::{enrolment, id, seed_class};
    use hunhe_gateway_core::registry::Enrolment;

    /// Two households: `secret-1`, its own agent, and `secret-2` behind `c-1`; shown as `shown-1` and `shown-2`.
    pub(crate) fn own_agents() -> Registry {
        let devices = [("secret-1", "secret-1"), ("secret-2", "c-1")].map(|(device, agent)| Enrolment {
            pseudonym: id(&device.replace("secret", "shown")),
            ..enrolment(device, "gas_meter", agent)
        });
        hunhe_fixtures::registry(vec![seed_class("gas_meter")], Vec::new(), devices)
    }

    #[test]
    fn a_device_that_is_its_own_agent_is_named_by_its_pseudonym_alone() {
        let registry = own_agents();
        let shown = |device: DeviceIx| shown_agent(&registry, Some(device), registry.device(device).agent);
        assert_eq!(registry.indices().map(shown).collect::<Vec<_>>(), ["shown-1", "c-1"]);
    }
}
