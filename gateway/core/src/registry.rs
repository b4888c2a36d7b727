//! Who may report what: devices, their classes and agents, with every rule resolved to integers once.
//!
//! Nothing a device sends adds to the registry. Ids are looked up, never stored from the wire, so the number of
//! series is bounded by registry × schema. Indices are dense and valid for one registry only: whatever outlives a
//! run names devices by id.
//!
//! A city's registry is most of what an idle gateway holds, so nothing stands in it twice: the tables over ids hold
//! indices alone, and operators and zones are shared.

use crate::{
    device::conduct::Conduct,
    rule::{Rule, RuleIx, RuleKey, Share, Silence, Watch, When},
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::hash::{BuildHasher, BuildHasherDefault};
use hashbrown::{HashMap, HashTable};
use hunhe_proto::{
    class::{Channel, Class, Kind},
    id::{AgentId, DeviceId, Id},
    reading::TimeAxis,
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
    /// DMA, pressure zone, station or farm; shared with its other devices.
    pub zone: Arc<Id>,
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

/// A class with its rules as integers: its newest version, into whose integers those of older versions are converted as
/// soon as a report was judged. So windows, alerts, and all that is behind them know one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRules {
    /// The newest version, as written.
    pub class: Class,
    /// Older versions that devices may still follow, newest first.
    pub older: Vec<Class>,
    /// All versions, newest first.
    versions: Vec<VersionRules>,
    /// How its samples lie in time.
    pub axis: TimeAxis,
    /// Time between samples, in milliseconds.
    pub interval_ms: i64,
    /// The least time between two samples, an alarm's included, in milliseconds.
    pub densest_ms: i64,
    /// In the order of the class's file.
    pub channels: Vec<ChannelRules>,
    by_number: ByNumber,
    /// Window lengths in milliseconds that hold at least four intervals, ascending.
    pub windows_ms: Vec<i64>,
    /// Positions in `channels` that get rollups.
    pub rolled_up: Vec<u8>,
    /// A sample no older than this when it arrives speaks of now, in milliseconds: a report's span and dispersal in the
    /// version where that is longest, and five minutes (D) for the way.
    pub live_within_ms: i64,
    /// Rules on channels, in the order of `channels`.
    pub(crate) watches: Vec<Watch>,
    pub(crate) silence: Option<Silence>,
}

/// A channel with its rules as wire integers.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRules {
    /// Wire number.
    pub number: u16,
    /// What the number means.
    pub kind: Kind,
    /// The least possible wire integer.
    pub low: i64,
    /// The greatest possible wire integer.
    pub high: i64,
    /// Steps of the instrument; 1: any.
    pub step: i64,
    /// For a register: the wire integer at which it starts again.
    pub rollover: Option<i64>,
    /// The greatest plausible change per hour, in wire integers.
    pub change_per_h_max: Option<i64>,
    /// For a gauge: wire integers beyond these are doubted; the range itself where nothing says otherwise.
    pub usual: (i64, i64),
    /// Two values of a channel that only some samples carry are no closer than this, in milliseconds.
    pub every_ms: i64,
}

/// One version of a class: how reports that follow it are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRules {
    /// Its number.
    pub version: u32,
    /// In the order of its file.
    channels: Vec<VersionChannel>,
    by_number: ByNumber,
    /// Positions in `channels` that get rollups.
    pub(crate) rolled_up: Vec<u8>,
}

/// A channel of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionChannel {
    /// Its rules in the version's own wire integers.
    pub wire: ChannelRules,
    /// The same rules in the newest version's.
    pub converted: ChannelRules,
    /// What makes its wire integers the newest version's: a power of ten.
    pub factor: i64,
    /// Its position among the newest version's channels.
    pub at: usize,
}

/// Positions by wire number; `u8::MAX` where there is none.
#[derive(Debug, Clone, PartialEq)]
struct ByNumber([u8; 256]);

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

/// Who may report what.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    classes: Vec<ClassRules>,
    devices: Vec<Device>,
    agents: Vec<Agent>,
    /// By the hash of the id, which stands in `devices`.
    device_by_id: HashTable<DeviceIx>,
    /// By the hash of the pseudonym, which stands there as well.
    device_by_pseudonym: HashTable<DeviceIx>,
    /// Pseudonyms of devices that are registered no more.
    former: IdMap<Id>,
    agent_by_id: IdMap<AgentIx>,
    /// Operators and zones.
    names: IdMap<Arc<Id>>,
    rules: Vec<Rule>,
    pub(crate) shares: Vec<Share>,
    pub(crate) conducts: Vec<Conduct>,
}

/// How long a fresh report may be on its way, in milliseconds.
const ON_THE_WAY_MS: i64 = 300_000;

fn hash_of(id: Id) -> u64 {
    BuildHasherDefault::<SipHasher13>::default().hash_one(id)
}

/// The windows a class may have: a minute, a quarter, an hour, a day.
const WINDOWS_MS: [i64; 4] = [60_000, 900_000, 3_600_000, 86_400_000];

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
        let (operator, zone) = (self.shared(operator), self.shared(zone));
        self.devices.push(Device {
            id,
            pseudonym,
            class,
            agent: agent_at,
            operator,
            district,
            zone,
            position,
        });
        let devices = &self.devices;
        self.device_by_id.insert_unique(hash_of(id), index, |known| hash_of(devices[known.at()].id));
        self.device_by_pseudonym
            .insert_unique(hash_of(pseudonym), index, |known| hash_of(devices[known.at()].pseudonym));
        Ok(index)
    }

    fn shared(&mut self, name: Id) -> Arc<Id> {
        Arc::clone(self.names.entry(name).or_insert_with(|| Arc::new(name)))
    }

    /// The device of that id.
    #[must_use]
    pub fn find(&self, id: DeviceId) -> Option<DeviceIx> {
        self.device_by_id.find(hash_of(id), |known| self.devices[known.at()].id == id).copied()
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

    /// All devices, by index.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// All devices' indices.
    pub fn indices(&self) -> impl Iterator<Item = DeviceIx> + use<> {
        (0..u32::try_from(self.devices.len()).unwrap_or(u32::MAX)).map(DeviceIx)
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

impl ClassRules {
    /// Of all versions of a class, in any order; `None` of none.
    fn new(mut versions: Vec<Class>) -> Option<Self> {
        versions.sort_by_key(|class| core::cmp::Reverse(class.version));
        let of_version = |class: &Class| VersionRules::new(class, versions.first().unwrap_or(class));
        let rules: Vec<VersionRules> = versions.iter().map(of_version).collect();
        let live_within_ms = versions.iter().map(live_within_ms).max()?;
        let densest_ms = versions.iter().map(densest_ms).min()?;
        let mut versions = versions.into_iter();
        let class = versions.next()?;
        let interval_ms = interval_ms(&class);
        Some(Self {
            axis: class.axis(),
            interval_ms,
            densest_ms,
            channels: class.channels.iter().map(|channel| ChannelRules::new(channel, interval_ms)).collect(),
            by_number: ByNumber::new(&class),
            windows_ms: WINDOWS_MS.into_iter().filter(|&window| window >= 4 * interval_ms).collect(),
            rolled_up: rolled_up(&class),
            live_within_ms,
            watches: Vec::new(),
            silence: None,
            older: versions.collect(),
            versions: rules,
            class,
        })
    }

    /// The rules of a version, where it is installed.
    #[must_use]
    pub fn version(&self, version: u32) -> Option<&VersionRules> {
        self.versions.iter().find(|rules| rules.version == version)
    }

    /// The newest version's rules.
    #[must_use]
    pub fn newest(&self) -> &VersionRules {
        // `new` makes none without a version.
        &self.versions[0]
    }

    /// Is there such a rule for the class's devices?
    pub(crate) fn has_rule(&self, key: RuleKey) -> bool {
        self.watches.iter().any(|watch| watch.key == key)
            || self.silence.is_some_and(|silence| silence.key == key)
    }

    /// The rules on the channel at that position in `channels`.
    pub(crate) fn watches_of(&self, at: usize) -> &[Watch] {
        let from = self.watches.partition_point(|watch| watch.at < at);
        let length = self.watches[from..].iter().take_while(|watch| watch.at == at).count();
        &self.watches[from..from + length]
    }

    /// The position in `channels` of a wire number.
    #[must_use]
    pub fn position(&self, number: u16) -> Option<usize> {
        self.by_number.position(number)
    }
}

/// The bounds only keep arithmetic safe: no class comes near.
fn interval_ms(class: &Class) -> i64 {
    class.interval_ms().clamp(1, 1 << 53)
}

/// The least time between two samples, an alarm's included.
fn densest_ms(class: &Class) -> i64 {
    let on_alarm = class.report.on_alarm.as_ref().map_or(0, |alarm| i64::from(alarm.interval));
    let on_alarm_ms = on_alarm.saturating_mul(class.time_unit_ms.into());
    if on_alarm_ms > 0 { on_alarm_ms.min(interval_ms(class)) } else { interval_ms(class) }
}

fn live_within_ms(class: &Class) -> i64 {
    interval_ms(class)
        .saturating_mul(class.report.samples.into())
        .saturating_add(i64::from(class.report.dispersal_s) * 1000)
        .saturating_add(ON_THE_WAY_MS)
}

fn rolled_up(class: &Class) -> Vec<u8> {
    (0_u8..).zip(&class.channels).filter(|(_, c)| c.has_rollups()).map(|(at, _)| at).collect()
}

impl ByNumber {
    fn new(class: &Class) -> Self {
        let mut by_number = [u8::MAX; 256];
        for (position, channel) in (0_u8..).zip(&class.channels) {
            if let Some(slot) = by_number.get_mut(usize::from(channel.number)) {
                *slot = position;
            }
        }
        Self(by_number)
    }

    fn position(&self, number: u16) -> Option<usize> {
        let at = *self.0.get(usize::from(number))?;
        (at != u8::MAX).then_some(usize::from(at))
    }
}

impl VersionRules {
    fn new(class: &Class, newest: &Class) -> Self {
        let interval_ms = interval_ms(class);
        let channel = |channel: &Channel| {
            let found = newest.channels.iter().position(|other| other.name == channel.name);
            // Classes that stand side by side have it, with at least as many decimals.
            let at = found.unwrap_or(usize::MAX);
            let decimals = newest.channels.get(at).map_or(channel.decimals, |newest| newest.decimals);
            let factor = 10_i64.pow(u32::from(decimals.saturating_sub(channel.decimals).min(9)));
            let wire = ChannelRules::new(channel, interval_ms);
            VersionChannel { converted: wire.converted(factor), wire, factor, at }
        };
        Self {
            version: class.version,
            channels: class.channels.iter().map(channel).collect(),
            by_number: ByNumber::new(class),
            rolled_up: rolled_up(class),
        }
    }

    /// Its channels, in the order of its file.
    #[must_use]
    pub fn channels(&self) -> &[VersionChannel] {
        &self.channels
    }

    /// The channel of a wire number, which is the same in all versions.
    #[must_use]
    pub fn channel(&self, number: u16) -> Option<&VersionChannel> {
        self.channels.get(self.by_number.position(number)?)
    }
}

impl ChannelRules {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a class's bounds times scale were checked to stay below 2^53"
    )]
    fn new(channel: &Channel, interval_ms: i64) -> Self {
        let scale = channel.scale();
        let wire = |value: f64| libm::round(value * scale) as i64;
        let low = |value: f64| libm::ceil(value * scale - 1e-6) as i64;
        let high = |value: f64| libm::floor(value * scale + 1e-6) as i64;
        Self {
            number: channel.number,
            kind: channel.kind,
            low: low(channel.min),
            high: high(channel.max),
            step: i64::from(channel.resolution.max(1)),
            rollover: channel.rollover.map(wire),
            change_per_h_max: channel.change_per_h_max.map(wire),
            usual: (
                low(channel.usual_min.unwrap_or(channel.min)),
                high(channel.usual_max.unwrap_or(channel.max)),
            ),
            every_ms: if channel.every > 1 { interval_ms.saturating_mul(channel.every.into()) } else { 0 },
        }
    }

    /// The same rules for integers that are `factor` times as large.
    fn converted(&self, factor: i64) -> Self {
        let by = |wire: i64| wire.saturating_mul(factor);
        Self {
            low: by(self.low),
            high: by(self.high),
            step: by(self.step),
            rollover: self.rollover.map(by),
            change_per_h_max: self.change_per_h_max.map(by),
            usual: (by(self.usual.0), by(self.usual.1)),
            ..self.clone()
        }
    }
}
