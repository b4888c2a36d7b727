//! The fleet of a history: a few agents with a few devices each, on a time scale that the seed draws.

use crate::random::Random;
use hunhe_gateway_core::{
    registry::{Enrolment, EnrolmentError, Registry},
    rule::Rule,
};
use hunhe_proto::{class::Class, id::Id};
use std::sync::Arc;

/// An agent and its devices, each with its class.
#[derive(Debug, Clone)]
pub struct Crew {
    /// The agent.
    pub id: Id,
    /// Its radio sleeps between reports.
    pub sleeping: bool,
    /// Its devices.
    pub devices: Vec<(Id, Arc<Class>)>,
}

/// Who takes part.
#[derive(Debug)]
pub struct Fleet {
    /// The agents.
    pub crews: Vec<Crew>,
    /// The same as the gateway knows it.
    pub registry: Arc<Registry>,
}

/// A fleet cannot be made: a defect of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A class or a rule does not parse.
    #[error("class or rule")]
    Text(#[from] toml::de::Error),
    /// A device cannot be enrolled.
    #[error("enrolment")]
    Enrolment(#[from] EnrolmentError),
    /// A name is none.
    #[error("name {0}")]
    Name(String),
}

fn class_text(name: &str, interval_s: u64, samples: u64, sleeping: bool) -> String {
    format!(
        r#"
name = "{name}"
version = 1
title = {{ zh = "测", en = "Probe" }}
time_unit_ms = 1000
interval = {interval_s}
report = {{ samples = {samples}, sleeping = {sleeping}, silent_after_s = {silent_after_s} }}

[[channels]]
number = 1
name = "volume"
title = {{ zh = "累计量", en = "Volume" }}
unit = "m3"
kind = "register"
decimals = 3
min = 0
max = 99999.999
rollover = 100000.0
simulate = {{ base = 3.0, daily = 1.0, noise = 0.5 }}

[[channels]]
number = 2
name = "level"
title = {{ zh = "液位", en = "Level" }}
unit = "m"
kind = "gauge"
decimals = 2
min = -50
max = 120
simulate = {{ base = 20.0, daily = 12.0, noise = 6.0 }}
"#,
        silent_after_s = interval_s * samples * 10,
    )
}

fn rule_text(class: &str) -> String {
    format!(
        r#"
id = "{class}_high"
version = 1
class = "{class}"
severity = "major"
title = {{ zh = "高", en = "High" }}
source = "D"
when = {{ channel = "level", at_least = 26.0, clear_below = 22.0 }}
"#
    )
}

fn id(text: &str) -> Result<Id, FleetError> {
    Id::new(text).map_err(|_| FleetError::Name(text.to_owned()))
}

impl Fleet {
    /// Draws one whose devices sample about every `interval_s` seconds.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn draw(random: &mut Random, interval_s: u64) -> Result<Self, FleetError> {
        let sparse = interval_s * random.between(2, 6);
        let classes = [
            class_text("probe", interval_s, random.between(1, 9), false),
            class_text("meter", sparse, random.between(2, 13), true),
        ];
        let classes = classes.iter().map(|text| toml::from_str(text)).collect::<Result<Vec<Class>, _>>()?;
        let rules = classes.iter().map(|class| toml::from_str::<Rule>(&rule_text(&class.name)));
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        let shared: Vec<_> = classes.iter().cloned().map(Arc::new).collect();
        let mut registry = Registry::new(classes);
        registry.set_rules(rules);
        let mut crews = Vec::new();
        for agent in 0..random.between(2, 4) {
            let agent_id = id(&format!("agent-{agent}"))?;
            let sleeping = random.one_in(3);
            let class = &shared[usize::from(sleeping)];
            let mut devices = Vec::new();
            for number in 0..random.between(1, 4) {
                let device = id(&format!("d-{agent}-{number}"))?;
                registry.enrol(Enrolment {
                    id: device,
                    pseudonym: device,
                    class: class.name.clone(),
                    agent: agent_id,
                    operator: id("op")?,
                    district: 210_102,
                    zone: id("zone-1")?,
                    position: (123.4, 41.8),
                })?;
                devices.push((device, Arc::clone(class)));
            }
            crews.push(Crew { id: agent_id, sleeping, devices });
        }
        Ok(Self { crews, registry: Arc::new(registry) })
    }

    /// The time between two reports of the slowest device.
    #[must_use]
    pub fn report_ms_max(&self) -> u64 {
        let classes = self.crews.iter().flat_map(|crew| crew.devices.iter().map(|(_, class)| class));
        let report_s = classes.map(|class| u64::from(class.interval) * u64::from(class.report.samples));
        report_s.max().unwrap_or(0) * 1000
    }
}
