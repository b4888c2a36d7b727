//! What people and programs ask of a lane: the ledger, watermarks, devices, and its state for a checkpoint.

use crate::{
    city::{Notes, audit::Audit, deadlines::Deadlines},
    device::{alert::episode_id, ledger::Totals},
    lane::{Counters, DeviceState, Lane, ledger_of},
    registry::{AgentIx, ClassRules, DeviceIx},
};
use alloc::{boxed::Box, string::String, vec::Vec};
use hunhe_proto::{
    id::DeviceId,
    v1::{BootDurable, DeviceDurable, Durable, Range},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Devices that left the registry and whose ledger is kept: a few tens of megabytes. That of further ones is forgotten, and
/// whoever of them comes back leaves unexplained what came before.
pub const REMOVED_MAX: usize = 65_536;
/// In place of the class of a device that has none.
const NO_CLASS: u32 = u32::MAX;

/// A lane's state between two journal records, by device id, so that it outlives a change of registry.
///
/// Taken, it borrows the devices: they are written as they stand, and never copied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot<'a> {
    pub(crate) counters: Counters,
    pub(crate) city: Notes,
    pub(crate) audit: Audit,
    /// Names and versions, in the order of the registry then.
    pub(crate) classes: Vec<(String, u32)>,
    /// Each with its class then.
    pub(crate) devices: Vec<(DeviceId, u32, Kept<'a>)>,
}

/// A device's state where it stands, or for itself. It is a pointer in either case: a snapshot has one for each device of
/// the city, and stands beside the city while it is written.
#[derive(Debug)]
pub(crate) enum Kept<'a> {
    Standing(&'a DeviceState),
    Own(Box<DeviceState>),
}

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Standing(state) => state.serialize(serializer),
            Self::Own(state) => state.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Kept<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::Own(Box::deserialize(deserializer)?))
    }
}

impl Kept<'_> {
    fn into_own(self) -> Box<DeviceState> {
        match self {
            Self::Standing(state) => Box::new(state.clone()),
            Self::Own(state) => state,
        }
    }
}

impl Lane {
    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The ledger over all devices, and whether each of them closes.
    #[must_use]
    pub fn totals(&self) -> (Totals, bool) {
        self.ledger_totals.totals(|device| ledger_of(&self.devices, device))
    }

    /// The ledger over devices that `wanted` lets through, and how many of them have reported.
    pub fn ledger(&self, mut wanted: impl FnMut(DeviceIx) -> bool) -> (Totals, u64) {
        let mut sum = Totals::default();
        let mut reporting = 0;
        for (device, state) in self.states() {
            if wanted(device) {
                sum.add(&state.outboxes.totals());
                reporting += 1;
            }
        }
        (sum, reporting)
    }

    /// Devices that have reported.
    pub fn states(&self) -> impl Iterator<Item = (DeviceIx, &DeviceState)> {
        self.registry
            .indices()
            .zip(&self.devices)
            .filter_map(|(device, state)| Some((device, state.as_deref()?)))
    }

    /// One device's state, if it has reported.
    #[must_use]
    pub fn state(&self, device: DeviceIx) -> Option<&DeviceState> {
        self.devices.get(device.at())?.as_deref()
    }

    /// What operators wrote off.
    #[must_use]
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What crosses devices.
    #[must_use]
    pub fn city(&self) -> &crate::city::City {
        &self.city
    }

    /// Ids of all episodes that are open: what a book of alerts holds beside them belongs to a rule, a class or a device
    /// that is no more.
    pub fn open_alerts(&self) -> impl Iterator<Item = u64> {
        let devices =
            self.states().flat_map(|(device, state)| state.alerts.open(self.registry.device(device).id));
        let agents = (0..).map(AgentIx).zip(self.registry.agents()).filter_map(|(ix, agent)| {
            let episode = self.city.silence_of(ix)?.episode;
            Some(episode_id(agent.id, episode.key, episode.since_ms, false))
        });
        devices.chain(agents)
    }

    /// What the agent's outboxes may forget, and should send again: in parts, whose concatenation as bytes is the whole
    /// message. A concentrator may have thousands of devices; one of them at a time is in `part`.
    pub fn watermark_in_parts(&self, agent: AgentIx, part: &mut Durable, mut each: impl FnMut(&Durable)) {
        part.refused.clear();
        part.devices.resize_with(1, DeviceDurable::default);
        for &device in &self.registry.agent(agent).devices {
            let (Some(state), [slot]) = (self.state(device), &mut part.devices[..]) else { continue };
            slot.device.clear();
            slot.device.push_str(self.registry.device(device).id.as_str());
            slot.boots.clear();
            slot.boots.extend(state.outboxes.watermarks().map(|mark| {
                let missing = mark.missing.iter();
                BootDurable {
                    boot: mark.boot,
                    through: mark.through,
                    missing: missing
                        .map(|gap| Range { start: gap.start, count: gap.end - gap.start })
                        .collect(),
                }
            }));
            each(part);
        }
        part.devices.clear();
        part.refused.extend(self.city.refused(agent));
        each(part);
    }

    /// [`Self::watermark_in_parts`] as one message.
    #[must_use]
    pub fn watermark(&self, agent: AgentIx) -> Durable {
        let mut whole = Durable::default();
        self.watermark_in_parts(agent, &mut Durable::default(), |part| {
            whole.devices.extend_from_slice(&part.devices);
            whole.refused.extend_from_slice(&part.refused);
        });
        whole
    }

    /// All that a restart needs.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        let class = |rules: &ClassRules| (rules.class.name.clone(), rules.class.version);
        let mut devices = Vec::with_capacity(self.states().count() + self.removed.len());
        devices.extend(self.states().map(|(index, state)| {
            let device = self.registry.device(index);
            (device.id, device.class.0, Kept::Standing(state))
        }));
        devices.extend(self.removed.iter().map(|(id, state)| (*id, NO_CLASS, Kept::Standing(state))));
        Snapshot {
            counters: self.counters.clone(),
            city: self.city.notes(&self.registry),
            audit: self.audit.clone(),
            classes: self.registry.classes().iter().map(class).collect(),
            devices,
        }
    }

    /// Takes up a snapshot. Of devices that are no longer registered, whose number is returned, the ledger is kept for when they
    /// come back, of [`REMOVED_MAX`] at the most. Where a newer version of its class was installed, a device's windows and
    /// newest values are converted, for as long as the older one is beside it; with another class it loses them.
    pub fn restore(&mut self, snapshot: Snapshot<'_>) -> usize {
        self.counters = snapshot.counters;
        self.city.restore(snapshot.city, &self.registry);
        self.audit = snapshot.audit;
        let mut unregistered = 0;
        for (id, class, state) in snapshot.devices {
            let Some(device) = self.registry.find(id) else {
                unregistered += 1;
                if self.removed.len() < REMOVED_MAX {
                    let mut state = state.into_own();
                    state.remove();
                    self.removed.insert(id, state);
                }
                continue;
            };
            let mut state = state.into_own();
            let rules = self.registry.class_of(device);
            let before = snapshot.classes.get(class as usize);
            let before = before.filter(|(name, _)| *name == rules.class.name);
            let before = before.and_then(|&(_, version)| rules.version(version));
            match before.filter(|before| before.channels().len() == state.last.len()) {
                Some(before) if before.version == rules.class.version => {}
                before => state.change_class(rules, before),
            }
            state.alerts.keep_rules(|key| self.registry.has_rule(rules, key));
            if class == NO_CLASS {
                // Nobody listened to it while it was away.
                state.listened_ms = self.city.listened_ms;
            }
            self.ledger_totals.note(device.0, || ledger_of(&self.devices, device.0));
            self.devices[device.at()] = Some(state);
        }
        self.deadlines = Deadlines::restored(&self.registry, &self.devices, &self.city);
        unregistered
    }
}
