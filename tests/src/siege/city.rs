//! Who is registered: the whole city, a part of whose meters are the honest ones that are counted, and detectors that raise a true
//! alarm each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hunhe_proto::{
    fleet::{Fleet, Group},
    topic,
};

use crate::{gateway::Setup, seeds};

/// Who runs the honest devices: the ledger counts them apart.
pub(super) const HONEST: &str = "honest";
/// Honest meters, taken from the city's own.
const METERS: u32 = 60_000;
/// Behind one concentrator.
const METERS_PER_AGENT: u32 = 1_000;
const DETECTORS_PER_AGENT: u32 = 50;
/// The class of which a second version is installed.
const TWO_VERSIONS: &str = "pressure_logger.toml";

/// The devices behind an agent: their topics for reports.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    /// Its id, and so its user name.
    pub(super) id: String,
    /// Ids and topics of its devices.
    pub(super) devices: Vec<(String, String)>,
}

/// The registered devices, as far as the harness speaks for them.
#[derive(Debug)]
pub(super) struct City {
    fleet: Fleet,
    /// All devices.
    pub(super) devices: usize,
    /// Concentrators of honest meters.
    pub(super) meters: Vec<Agent>,
    /// Edge boxes of detectors that raise true alarms.
    pub(super) detectors: Vec<Agent>,
    /// Concentrators of gas meters whose passwords are stolen.
    pub(super) stolen_meters: Vec<Agent>,
    /// Edge boxes of gas detectors whose passwords are stolen.
    pub(super) stolen_detectors: Vec<Agent>,
    /// A device of its own whose password is stolen.
    pub(super) stolen_loggers: Vec<Agent>,
}

impl City {
    /// The city with so many detectors for true alarms.
    pub(super) fn with_alarms(detectors: u32) -> Self {
        let text = fs::read_to_string(seeds("city/full.toml")).expect("the city's fleet");
        let mut fleet: Fleet = toml::from_str(&text).expect("a fleet");
        let group = |fleet: &Fleet, prefix: &str| -> Group {
            fleet.groups.iter().find(|group| group.prefix == prefix).expect("a group of the city").clone()
        };
        let (meters, stations) = (group(&fleet, "g"), group(&fleet, "det"));
        for group in fleet.groups.iter_mut().filter(|group| group.prefix == "g") {
            group.count -= METERS;
        }
        let honest = |group: Group, prefix: &str, count, per_agent| Group {
            prefix: prefix.into(),
            operator: HONEST.into(),
            count,
            per_agent,
            ..group
        };
        fleet.groups.push(honest(meters, "h", METERS, METERS_PER_AGENT));
        fleet.groups.push(honest(stations, "true", detectors, DETECTORS_PER_AGENT));
        let members = fleet.expand().expect("the fleet expands");
        let devices = members.len();
        let of = |prefix: &str| -> Vec<Agent> {
            let mut agents: Vec<Agent> = Vec::new();
            for member in members.iter().filter(|member| member.group.prefix == prefix) {
                let id = member.agent.to_string();
                if agents.last().is_none_or(|agent| agent.id != id) {
                    agents.push(Agent { id, devices: Vec::new() });
                }
                if let Some(agent) = agents.last_mut() {
                    agent.devices.push((member.id.to_string(), topic::up(member.id)));
                }
            }
            agents
        };
        let [meters, detectors, stolen_meters, stolen_detectors, stolen_loggers] =
            ["h", "true", "g", "det", "p"].map(of);
        Self { devices, meters, detectors, stolen_meters, stolen_detectors, stolen_loggers, fleet }
    }

    /// A concentrator that a careless operator lets publish for whatever device it likes.
    pub(super) fn lawless(&self) -> &Agent {
        self.stolen_meters.last().expect("the city has concentrators")
    }

    /// Lines of the broker's access list beside those that the registry writes.
    pub(super) fn own_lines(&self) -> String {
        format!("user {}\ntopic write hunhe/v1/+/+/up\ntopic write hunhe/v1/+/+/alarm\n", self.lawless().id)
    }

    /// The gateway's configuration, its files below `dir`.
    pub(super) fn setup(&self, dir: &Path, broker: u16, webhooks: &str) -> Setup {
        let fleet = dir.join("city.toml");
        fs::write(&fleet, toml::to_string(&self.fleet).expect("a fleet is TOML")).expect("a fleet's file");
        Setup::embedded(broker, format!("fleets = [{fleet:?}]\nclasses = {:?}", classes(dir)), webhooks)
    }
}

/// The city's classes, with a newer version of one beside that which its devices follow.
fn classes(dir: &Path) -> PathBuf {
    let classes = dir.join("classes");
    fs::create_dir(&classes).expect("a folder");
    for entry in fs::read_dir(seeds("classes")).expect("the classes").flatten() {
        fs::copy(entry.path(), classes.join(entry.file_name())).expect("a class");
    }
    let text = fs::read_to_string(classes.join(TWO_VERSIONS)).expect("a class");
    assert!(text.contains("\nversion = 1\n"), "the class has another version: mend the attackers' as well");
    let newer = text.replace("\nversion = 1\n", "\nversion = 2\n").replace("decimals = 3", "decimals = 4");
    fs::write(classes.join("newer.toml"), newer).expect("a class");
    classes
}
