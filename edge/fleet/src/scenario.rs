//! A scenario: what goes wrong in a simulated fleet, where, and from when until when.
//!
//! A file in `seeds/scenarios` names targets (a device, an agent, or a zone) and faults of the class files. Times are
//! seconds of event time from the simulation's start. A negative beginning means that the target was there before the
//! start: an agent that is offline from hours before until minutes after it then delivers all it took meanwhile.
//!
//! A scenario with a period begins again after it ([`rounds`](crate::rounds)). What began before the start belongs to
//! the first round alone.

use crate::rounds::Span;
use hunhe_edge::classes::Classes;
use hunhe_proto::{
    class::{Fault, Text},
    fleet::Member,
    id::{AgentId, DeviceId, Id},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For people.
    pub title: Text,
    /// Event time after which all begins again, in seconds; absent: it happens once.
    pub repeat_s: Option<i64>,
    /// In any order.
    pub events: Vec<Event>,
}

/// One thing that goes wrong, and ends. Exactly one of `device`, `agent`, `zone` says where, and either `fault` or
/// `offline` says what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// This device.
    pub device: Option<DeviceId>,
    /// All devices behind this agent.
    pub agent: Option<AgentId>,
    /// All devices in this zone.
    pub zone: Option<Id>,
    /// Of these, only devices of this class.
    pub class: Option<String>,
    /// A fault by its name in the class file.
    pub fault: Option<String>,
    /// The agent has no connection; its devices are sampled all the same.
    #[serde(default)]
    pub offline: bool,
    /// Event time of its beginning, in seconds from the start.
    pub from_s: i64,
    /// Event time of its end, in seconds from the start.
    pub until_s: i64,
}

/// A scenario that cannot be read, or does not fit its fleet.
#[derive(Debug, thiserror::Error)]
#[error("{}:\n{}", .file.display(), .faults.join("\n"))]
pub struct ScenarioError {
    /// Its file.
    pub file: PathBuf,
    /// All that is wrong.
    pub faults: Vec<String>,
}

/// A fault and its time, from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// The fault's name.
    pub name: String,
    /// What it does.
    pub fault: Fault,
    /// When it stands.
    pub span: Span,
}

/// A scenario, by device and agent of one fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What strikes each device.
    pub strikes: BTreeMap<DeviceId, Vec<Strike>>,
    /// When an agent has no connection, from the start.
    pub offline: BTreeMap<AgentId, Vec<Span>>,
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// It cannot be read, or has keys or values that no scenario has.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let error = |what: String| ScenarioError { file: file.to_path_buf(), faults: vec![what] };
        let text = std::fs::read_to_string(file).map_err(|e| error(format!("cannot read: {e}")))?;
        toml::from_str(&text).map_err(|e| error(e.to_string().trim_end().to_string()))
    }

    /// What happens to which of these members.
    ///
    /// # Errors
    /// All that does not fit: targets that are not there, faults that their class does not have.
    pub fn plan(&self, members: &[Member<'_>], classes: &Classes) -> Result<Plan, Vec<String>> {
        let (mut plan, mut faults) = (Plan::default(), Vec::new());
        for (number, event) in (1..).zip(&self.events) {
            let planned =
                event.span(self.repeat_s).and_then(|span| event.plan(span, members, classes, &mut plan));
            if let Err(what) = planned {
                faults.push(format!("event {number}: {what}"));
            }
        }
        if faults.is_empty() { Ok(plan) } else { Err(faults) }
    }
}

impl Event {
    /// When it stands, in milliseconds from the start, in a scenario that begins again after `repeat_s`.
    pub(crate) fn span(&self, repeat_s: Option<i64>) -> Result<Span, String> {
        if self.until_s <= self.from_s {
            return Err("until_s must come after from_s".into());
        }
        if repeat_s.is_some_and(|repeat_s| repeat_s < self.until_s.max(1)) {
            return Err("until_s must not come after repeat_s, where the next round begins".into());
        }
        let every_s = repeat_s.filter(|_| self.from_s >= 0);
        Ok(Span {
            from_ms: self.from_s.saturating_mul(1000),
            until_ms: self.until_s.saturating_mul(1000),
            every_ms: every_s.map(|every_s| every_s.saturating_mul(1000)),
        })
    }

    fn plan(
        &self,
        span: Span,
        members: &[Member<'_>],
        classes: &Classes,
        plan: &mut Plan,
    ) -> Result<(), String> {
        let targets = self.targets(members)?;
        match (&self.fault, self.offline) {
            (Some(name), false) => {
                for member in targets {
                    let class = classes.get(&member.group.class);
                    let fault = class.and_then(|class| class.faults.get(name)).ok_or_else(|| {
                        format!("class {} of {} has no fault {name:?}", member.group.class, member.id)
                    })?;
                    let strike = Strike { name: name.clone(), fault: fault.clone(), span };
                    plan.strikes.entry(member.id).or_default().push(strike);
                }
            }
            (None, true) => {
                let agents: BTreeSet<AgentId> = targets.iter().map(|member| member.agent).collect();
                for agent in agents {
                    plan.offline.entry(agent).or_default().push(span);
                }
            }
            _ => return Err("needs either a fault or `offline = true`".into()),
        }
        Ok(())
    }

    fn targets<'a, 'b>(&self, members: &'a [Member<'b>]) -> Result<Vec<&'a Member<'b>>, String> {
        let is_target = |member: &Member<'_>| match (self.device, self.agent, self.zone) {
            (Some(device), None, None) => Ok(member.id == device),
            (None, Some(agent), None) => Ok(member.agent == agent),
            (None, None, Some(zone)) => Ok(member.place.zone == zone.as_str()),
            _ => Err("needs exactly one of device, agent and zone".to_string()),
        };
        let mut targets = Vec::new();
        for member in members {
            let of_class = self.class.as_ref().is_none_or(|class| *class == member.group.class);
            if is_target(member)? && of_class {
                targets.push(member);
            }
        }
        let name = self.device.or(self.agent).or(self.zone);
        match name {
            Some(name) if targets.is_empty() => {
                Err(format!("{name} is not in this fleet, which may be too small"))
            }
            _ => Ok(targets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use hunhe_proto::fleet::{Fleet, Group, Place};

    fn fleet() -> Fleet {
        let place = |zone: &str| Place { district: 210_102, zone: zone.into(), lon: 123.4, lat: 41.8 };
        Fleet {
            seed: 1,
            groups: vec![Group {
                class: "gas_meter".into(),
                count: 4,
                prefix: "g".into(),
                household: false,
                operator: "gas".into(),
                places: vec![place("west"), place("east")],
                per_agent: 2,
            }],
        }
    }

    fn plan(events: &str) -> Result<Plan, Vec<String>> {
        let text = format!("title = {{ zh = \"\", en = \"\" }}\nrepeat_s = 60\n{events}");
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let classes = [("gas_meter".to_string(), testing::gas_meter())].into_iter().collect();
        scenario.plan(&fleet().expand().unwrap(), &classes)
    }

    #[test]
    fn targets_are_a_device_an_agent_or_a_zone() {
        let plan = plan(
            "[[events]]\ndevice = \"g-1\"\nfault = \"stuck\"\nfrom_s = 1\nuntil_s = 2\n\
             [[events]]\nzone = \"east\"\nclass = \"gas_meter\"\nfault = \"silent\"\nfrom_s = -5\nuntil_s = 9\n\
             [[events]]\nagent = \"c-g-2\"\noffline = true\nfrom_s = 3\nuntil_s = 4\n",
        )
        .unwrap();
        let struck: Vec<String> = plan.strikes.keys().map(ToString::to_string).collect();
        assert_eq!(struck, ["g-1", "g-3", "g-4"]);
        assert_eq!(
            plan.offline.into_iter().next().unwrap().1,
            [Span { every_ms: Some(60_000), ..Span::from(3000..4000) }]
        );
    }

    #[test]
    fn each_event_that_does_not_fit_is_named() {
        let faults = plan(
            "[[events]]\ndevice = \"g-9\"\nfault = \"stuck\"\nfrom_s = 1\nuntil_s = 2\n\
             [[events]]\ndevice = \"g-1\"\nfault = \"burst\"\nfrom_s = 1\nuntil_s = 2\n\
             [[events]]\ndevice = \"g-1\"\nagent = \"c-g-1\"\nfault = \"stuck\"\nfrom_s = 1\nuntil_s = 2\n\
             [[events]]\ndevice = \"g-1\"\nfrom_s = 1\nuntil_s = 2\n\
             [[events]]\ndevice = \"g-1\"\nfault = \"stuck\"\nfrom_s = 2\nuntil_s = 2\n\
             [[events]]\ndevice = \"g-1\"\nfault = \"stuck\"\nfrom_s = 2\nuntil_s = 61\n",
        )
        .unwrap_err();
        for (fault, what) in faults.iter().zip([
            "not in this fleet",
            "no fault",
            "exactly one",
            "either a fault",
            "after from_s",
            "after repeat_s",
        ]) {
            assert!(fault.contains(what), "{fault}");
        }
        assert_eq!(faults.len(), 6);
        assert!(
            toml::from_str::<Scenario>("title = { zh = \"\", en = \"\" }\nevents = []\nspeed = 1").is_err()
        );
    }
}
