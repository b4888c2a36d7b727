//! Who may report what: devices, their classes and agents, with every rule resolved to integers once.
//!
//! Nothing a device sends adds to the registry. Ids are looked up, never stored from the wire, so the number of
//! series is bounded by registry × schema. Indices are dense and valid for one registry only: whatever outlives a
//! run names devices by id.
//!
//! A city's registry is most of what an idle gateway holds, so nothing stands in it twice: the tables over ids hold
//! indices alone, operators are shared, and zones are an index.

mod class_rules;

pub use class_rules::{ChannelRules, ClassRules, VersionChannel, VersionRules};

use crate::{
    device::conduct::Conduct,
    rule::{Rule, RuleIx, RuleKey, Share, Silence, Watch, When},
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::hash::{BuildHasher, BuildHasherDefault};
use hashbrown::{HashMap, HashTable};
use hunhe_proto::{
    class::Class,
    fleet::ZoneKind,
    id::{AgentId, DeviceId, Id},
};
use siphasher::sip::SipHasher13;

/// A hash map that hashes alike in every run.
pub type IdMap<V> = HashMap<Id, V, BuildHasherDefault<SipHasher13>>;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
        impl $name {
            /// As an array index.
            #[must_use]
            pub const fn at(self) -> usize {
                self.0 as usize
            }
        }
    };
}
index!(
    /// A device of this registry.
    DeviceIx
);
index!(
    /// A class of this registry.
    ClassIx
);
index!(
    /// An agent of this registry.
    AgentIx
);
index!(
    /// A zone of this registry.
    ZoneIx
);

/// A registered device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// As it names itself in topics.
    pub id: DeviceId,
    /// As it is named wherever people or databases see it.
    pub pseudonym: Id,
    /// What it measures.
    pub class: ClassIx,
    /// What holds its connection.
    pub agent: AgentIx,
    /// Who runs it; shared with its other devices.
    pub operator: Arc<Id>,
    /// District code.
    pub district: u32,
    /// DMA, pressure zone, station or farm.
    pub zone: ZoneIx,
    /// WGS-84 degrees of longitude and latitude.
    pub position: (f64, f64),
}

/// What holds connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// As it names itself.
    pub id: AgentId,
    /// The devices behind it.
    pub devices: Vec<DeviceIx>,
}

/// What devices of one place are balanced or watched as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// As registry files name it.
    pub id: Id,
    /// What it is, where the city says.
    pub kind: Option<ZoneKind>,
}

/// A device before registration.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolment {
    /// As it will name itself in topics.
    pub id: DeviceId,
    /// As it will be named wherever people or databases see it.
    pub pseudonym: Id,
    /// Its class's name.
    pub class: String,
    /// What will hold its connection.
    pub agent: AgentId,
    /// Who runs it.
    pub operator: Id,
    /// District code.
    pub district: u32,
    /// DMA, pressure zone, station or farm.
    pub zone: Id,
    /// WGS-84 degrees of longitude and latitude.
    pub position: (f64, f64),
}

/// An enrolment that cannot stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// No class of that name.
    #[error("device {device}: no class is named {class}")]
    UnknownClass {
        /// The device.
        device: DeviceId,
        /// The name.
        class: String,
    },
    /// The id or pseudonym is taken.
    #[error("device {device}: its id or pseudonym is taken")]
    Taken {
        /// The device.
        device: DeviceId,
    },
    /// More devices or agents than indices.
    #[error("registry is full at {0} devices")]
    Full(usize),
}

/// The most devices in one registry.
pub const DEVICES_MAX: usize = 4_000_000;

/// What a message's device id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The device.
    pub device: DeviceIx,
    /// Its class.
    pub class: ClassIx,
    /// What holds its connection.
    pub agent: AgentIx,
}

/// Where a device stands in a registry, for those who name it to another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// See [`Registry::order`].
    pub order: u64,
    /// Its index there.
    pub device: DeviceIx,
}

/// Who may report what.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// A hash of all ids in their order.
    order: u64,
    classes: Vec<ClassRules>,
    devices: Vec<Device>,
    agents: Vec<Agent>,
    zones: Vec<Zone>,
    /// By the hash of the id, which stands in `devices`.
    device_by_id: HashTable<DeviceIx>,
    /// By the hash of the pseudonym, which stands there as well.
    device_by_pseudonym: HashTable<DeviceIx>,
    /// Pseudonyms of devices that are registered no more.
    former: IdMap<Id>,
    agent_by_id: IdMap<AgentIx>,
    zone_by_id: IdMap<ZoneIx>,
    operators: IdMap<Arc<Id>>,
    rules: Vec<Rule>,
    pub(crate) shares: Vec<Share>,
    pub(crate) conducts: Vec<Conduct>,
}

fn hash_of(id: Id) -> u64 {
    BuildHasherDefault::<SipHasher13>::default().hash_one(id)
}

impl Registry {
    /// A registry without devices. Classes have been found faultless (`Class::faults_found`), and the newest version of each
    /// beside its older ones (`Class::faults_beside`).
    #[must_use]
    pub fn new(classes: Vec<Class>) -> Self {
        let mut by_name: Vec<Vec<Class>> = Vec::new();
        for class in classes {
            match by_name.iter_mut().find(|versions| versions[0].name == class.name) {
                Some(versions) => versions.push(class),
                None => by_name.push(alloc::vec![class]),
            }
        }
        Self { classes: by_name.into_iter().filter_map(ClassRules::new).collect(), ..Self::default() }
    }

    /// Sets the alert rules, in place of any before. They have been found faultless ([`rule::faults_of`](crate::rule::faults_of)).
    pub fn set_rules(&mut self, rules: Vec<Rule>) {
        let numbered = || (0..).map(RuleIx).zip(&rules);
        for class in &mut self.classes {
            let mut watches: Vec<Watch> =
                numbered().filter_map(|(ix, rule)| Watch::of(rule, ix, class)).collect();
            watches.sort_by_key(|watch| watch.at);
            class.watches = watches;
            let own = |rule: &&Rule| rule.class.as_deref() == Some(class.class.name.as_str());
            class.silence = numbered().filter(|(_, rule)| own(rule)).find_map(|(ix, rule)| match rule.when {
                When::Silent { silent_s } => {
                    Some(Silence { rule: ix, key: rule.key(), after_ms: u64::from(silent_s) * 1000 })
                }
                _ => None,
            });
        }
        let share = |(ix, rule): (RuleIx, &Rule)| match rule.when {
            When::SilentShare { silent_share: share, devices_min } => {
                Some(Share { rule: ix, key: rule.key(), share, devices_min })
            }
            _ => None,
        };
        self.shares = numbered().filter_map(share).collect();
        self.conducts = numbered().filter_map(|(ix, rule)| Conduct::of(rule, ix)).collect();
        self.rules = rules;
    }

    /// Is there such a rule for devices of that class?
    pub(crate) fn has_rule(&self, rules: &ClassRules, key: RuleKey) -> bool {
        rules.has_rule(key) || self.conducts.iter().any(|conduct| conduct.key() == key)
    }

    /// All alert rules, by position.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// An alert rule.
    #[must_use]
    pub fn rule(&self, index: RuleIx) -> &Rule {
        &self.rules[index.at()]
    }

    /// Adds a device.
    ///
    /// # Errors
    /// [`EnrolmentError`]; the registry is then unchanged.
    pub fn enrol(&mut self, enrolment: Enrolment) -> Result<DeviceIx, EnrolmentError> {
        let Enrolment { id, pseudonym, class, agent, operator, district, zone, position } = enrolment;
        let Some(class_at) = self.classes.iter().position(|rules| rules.class.name == class) else {
            return Err(EnrolmentError::UnknownClass { device: id, class });
        };
        if self.find(id).is_some() || self.find_pseudonym(pseudonym).is_some() {
            return Err(EnrolmentError::Taken { device: id });
        }
        if self.devices.len() >= DEVICES_MAX {
            return Err(EnrolmentError::Full(DEVICES_MAX));
        }
        let full = |_| EnrolmentError::Full(DEVICES_MAX);
        let index = DeviceIx(u32::try_from(self.devices.len()).map_err(full)?);
        let class = ClassIx(u32::try_from(class_at).map_err(full)?);
        let next_agent = AgentIx(u32::try_from(self.agents.len()).map_err(full)?);
        let agent_at = *self.agent_by_id.entry(agent).or_insert(next_agent);
        if agent_at == next_agent {
            self.agents.push(Agent { id: agent, devices: Vec::new() });
        }
        self.agents[agent_at.at()].devices.push(index);
        let operator = Arc::clone(self.operators.entry(operator).or_insert_with(|| Arc::new(operator)));
        let next_zone = ZoneIx(u32::try_from(self.zones.len()).map_err(full)?);
        let zone_at = *self.zone_by_id.entry(zone).or_insert(next_zone);
        if zone_at == next_zone {
            self.zones.push(Zone { id: zone, kind: None });
        }
        self.devices.push(Device {
            id,
            pseudonym,
            class,
            agent: agent_at,
            operator,
            district,
            zone: zone_at,
            position,
        });
        let devices = &self.devices;
        self.device_by_id.insert_unique(hash_of(id), index, |known| hash_of(devices[known.at()].id));
        self.device_by_pseudonym
            .insert_unique(hash_of(pseudonym), index, |known| hash_of(devices[known.at()].pseudonym));
        self.order = BuildHasherDefault::<SipHasher13>::default().hash_one((self.order, id));
        Ok(index)
    }

    /// Says what a zone is. Nothing follows where no device is in it.
    pub fn set_zone_kind(&mut self, zone: Id, kind: ZoneKind) {
        if let Some(known) = self.zone_by_id.get(&zone).and_then(|zone| self.zones.get_mut(zone.at())) {
            known.kind = Some(kind);
        }
    }

    /// The device of that id.
    #[must_use]
    pub fn find(&self, id: DeviceId) -> Option<DeviceIx> {
        self.device_by_id.find(hash_of(id), |known| self.devices[known.at()].id == id).copied()
    }

    /// Equal, but for 1 in 2^64, only where the same devices stand in the same order.
    #[must_use]
    pub const fn order(&self) -> u64 {
        self.order
    }

    /// Where a device stands.
    #[must_use]
    pub const fn place(&self, device: DeviceIx) -> Place {
        Place { order: self.order, device }
    }

    /// The device of that id, which stood at `place` in a registry that may be this one: then nothing is looked up.
    #[must_use]
    pub fn find_at(&self, place: Place, id: DeviceId) -> Option<DeviceIx> {
        if place.order == self.order && place.device.at() < self.devices.len() {
            return Some(place.device);
        }
        self.find(id)
    }

    /// The device of that id, with its class and agent.
    #[must_use]
    pub fn resolve(&self, id: DeviceId) -> Option<Resolved> {
        let device = self.find(id)?;
        let &Device { class, agent, .. } = self.device(device);
        Some(Resolved { device, class, agent })
    }

    /// A class.
    #[must_use]
    pub fn class(&self, index: ClassIx) -> &ClassRules {
        &self.classes[index.at()]
    }

    /// Remembers a device that is registered no more, but of which something may still be on its way to a sink.
    pub fn remember(&mut self, id: DeviceId, pseudonym: Id) {
        self.former.insert(id, pseudonym);
    }

    /// The name under which a device is shown, registered or not: its pseudonym where it ever had one.
    #[must_use]
    pub fn shown_as(&self, id: DeviceId) -> Id {
        let registered = self.find(id).map(|index| self.device(index).pseudonym);
        registered.or_else(|| self.former.get(&id).copied()).unwrap_or(id)
    }

    /// The device that is shown under that name.
    #[must_use]
    pub fn find_pseudonym(&self, pseudonym: Id) -> Option<DeviceIx> {
        let is_it = |known: &DeviceIx| self.devices[known.at()].pseudonym == pseudonym;
        self.device_by_pseudonym.find(hash_of(pseudonym), is_it).copied()
    }

    /// The agent of that id.
    #[must_use]
    pub fn find_agent(&self, id: AgentId) -> Option<AgentIx> {
        self.agent_by_id.get(&id).copied()
    }

    /// A device.
    #[must_use]
    pub fn device(&self, index: DeviceIx) -> &Device {
        &self.devices[index.at()]
    }

    /// A device's class.
    #[must_use]
    pub fn class_of(&self, index: DeviceIx) -> &ClassRules {
        &self.classes[self.device(index).class.at()]
    }

    /// An agent.
    #[must_use]
    pub fn agent(&self, index: AgentIx) -> &Agent {
        &self.agents[index.at()]
    }

    /// A zone.
    #[must_use]
    pub fn zone(&self, index: ZoneIx) -> &Zone {
        &self.zones[index.at()]
    }

    /// All zones that have a device, by index.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// All devices, by index.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// All devices' indices.
    pub fn indices(&self) -> impl Iterator<Item = DeviceIx> + use<> {
        (0..u32::try_from(self.devices.len()).unwrap_or(u32::MAX)).map(DeviceIx)
    }

    /// All agents' indices.
    pub(crate) fn agents_indices(&self) -> impl Iterator<Item = AgentIx> + use<> {
        (0..u32::try_from(self.agents.len()).unwrap_or(u32::MAX)).map(AgentIx)
    }

    /// All agents, by index.
    #[must_use]
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// All classes, by index.
    #[must_use]
    pub fn classes(&self) -> &[ClassRules] {
        &self.classes
    }
}
