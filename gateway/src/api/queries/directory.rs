//! The registry as it is searched: devices by pseudonym, agents by name, and what devices share as integers.
//!
//! Made once at start, since a registry does not change while the gateway runs. Invariant: names ascend as text, so a page
//! of any list goes on behind its last key. About 36 bytes a device.

use hunhe_gateway_core::registry::{AgentIx, ClassIx, DeviceIx, IdMap, Registry, ZoneIx};
use hunhe_proto::{fleet::ZoneKind, id::Id};
use std::collections::{BTreeMap, BTreeSet};

/// Names that many devices share, ascending.
#[derive(Debug, Default)]
pub(super) struct Names(Box<[String]>);

impl Names {
    /// The place of a name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        u32::try_from(self.0.binary_search_by(|known| known.as_str().cmp(name)).ok()?).ok()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Devices by what they share, in the order of the directory's names; each list is in the order of pseudonyms.
pub(super) type Lists = Box<[Box<[DeviceIx]>]>;

/// What a device shares with others: places in the directory's names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) rules: ClassIx,
    pub(super) class: u32,
    pub(super) district: u32,
    pub(super) zone: u32,
    pub(super) operator: u32,
}

/// A name under which an agent is shown, and the devices that belong to it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShownAgent {
    pub(super) name: Id,
    agent: u32,
    /// The device that is its own agent and shown by its pseudonym; none: all others of the agent.
    own: Option<u32>,
}

/// The registry, to be searched.
#[derive(Debug)]
pub struct Directory {
    by_pseudonym: Box<[DeviceIx]>,
    places: Box<[Place]>,
    agents: Box<[ShownAgent]>,
    pub(super) classes: Names,
    pub(super) districts: Names,
    pub(super) zones: Names,
    pub(super) operators: Names,
    pub(super) by_class: Lists,
    pub(super) by_district: Lists,
    pub(super) by_zone: Lists,
    /// By zone: what it is, where the city says.
    pub(super) zone_kinds: Box<[Option<ZoneKind>]>,
    /// By zone: the district of its first device.
    pub(super) zone_districts: Box<[u32]>,
}

impl Directory {
    /// The directory of a registry.
    #[must_use]
    pub fn of(registry: &Registry) -> Self {
        let mut sorted: Vec<(Id, DeviceIx)> =
            registry.indices().map(|device| (registry.device(device).pseudonym, device)).collect();
        sorted.sort_unstable();
        let mut zones: Vec<ZoneIx> = (0..).map(ZoneIx).take(registry.zones().len()).collect();
        zones.sort_unstable_by_key(|&zone| registry.zone(zone).id);
        let mut zone_at = vec![0; zones.len()];
        for (at, zone) in (0..).zip(&zones) {
            zone_at[zone.at()] = at;
        }
        let (operators, operator_at) = shared(registry, |device| *device.operator);
        let codes: BTreeMap<String, u32> = {
            let codes: BTreeSet<u32> = registry.devices().iter().map(|device| device.district).collect();
            codes.into_iter().map(|code| (code.to_string(), code)).collect()
        };
        let district_at: BTreeMap<u32, u32> = codes.values().copied().zip(0..).collect();
        let classes: BTreeSet<String> =
            registry.classes().iter().map(|rules| rules.class.name.clone()).collect();
        let classes = Names(classes.into_iter().collect());
        let class_at: Vec<u32> = (registry.classes().iter())
            .map(|rules| classes.find(&rules.class.name).unwrap_or_default())
            .collect();
        let place = |device: &hunhe_gateway_core::registry::Device| Place {
            rules: device.class,
            class: class_at[device.class.at()],
            district: district_at.get(&device.district).copied().unwrap_or_default(),
            zone: zone_at[device.zone.at()],
            operator: operator_at.get(&*device.operator).copied().unwrap_or_default(),
        };
        let places: Box<[Place]> = registry.devices().iter().map(place).collect();
        let zone_kinds = zones.iter().map(|&zone| registry.zone(zone).kind).collect();
        let zones = Names(zones.iter().map(|&zone| registry.zone(zone).id.to_string()).collect());
        let mut zone_districts = vec![0; zones.len()].into_boxed_slice();
        for (device, place) in registry.devices().iter().zip(&places).rev() {
            zone_districts[place.zone as usize] = device.district;
        }
        let by_pseudonym: Box<[DeviceIx]> = sorted.into_iter().map(|(_, device)| device).collect();
        let districts = Names(codes.into_keys().collect());
        let list = |names: &Names, of: fn(&Place) -> u32| lists(&by_pseudonym, &places, names, of);
        Self {
            by_class: list(&classes, |place| place.class),
            by_district: list(&districts, |place| place.district),
            by_zone: list(&zones, |place| place.zone),
            by_pseudonym,
            places,
            agents: agents(registry),
            classes,
            districts,
            zones,
            operators,
            zone_kinds,
            zone_districts,
        }
    }

    /// All devices by pseudonym.
    pub(super) fn devices(&self) -> &[DeviceIx] {
        &self.by_pseudonym
    }

    /// What each device shares with others, by index.
    pub(super) fn places(&self) -> impl Iterator<Item = (DeviceIx, Place)> {
        (0..).map(DeviceIx).zip(self.places.iter().copied())
    }

    /// What one device shares with others.
    pub(super) fn place(&self, device: DeviceIx) -> Option<Place> {
        self.places.get(device.at()).copied()
    }

    /// Agents by the name that is shown, those behind `after` alone; a name may come twice.
    pub(super) fn agents(&self, after: Option<&str>) -> &[ShownAgent] {
        let behind = |after: &str| self.agents.partition_point(|shown| shown.name.as_str() <= after);
        &self.agents[after.map_or(0, behind)..]
    }
}

impl ShownAgent {
    /// The devices that belong to it under this name.
    pub(super) fn devices(self, registry: &Registry) -> impl Iterator<Item = DeviceIx> {
        let agent = registry.agent(AgentIx(self.agent));
        let is_its_own = move |device: DeviceIx| registry.device(device).id == agent.id;
        let others =
            agent.devices.iter().copied().filter(move |&device| self.own.is_none() && !is_its_own(device));
        others.chain(self.own.map(DeviceIx))
    }
}

/// How many of these devices, which are in the order of pseudonyms, stand before or at `after`.
pub(super) fn through(registry: &Registry, devices: &[DeviceIx], after: Option<&str>) -> usize {
    let stands =
        |after: &str| devices.partition_point(|&device| registry.device(device).pseudonym.as_str() <= after);
    after.map_or(0, stands)
}

fn lists(sorted: &[DeviceIx], places: &[Place], names: &Names, of: fn(&Place) -> u32) -> Lists {
    let mut lists = vec![Vec::new(); names.len()];
    for &device in sorted {
        lists[of(&places[device.at()]) as usize].push(device);
    }
    lists.into_iter().map(Vec::into_boxed_slice).collect()
}

fn agents(registry: &Registry) -> Box<[ShownAgent]> {
    let mut shown = Vec::with_capacity(registry.agents().len());
    for (at, agent) in (0..).zip(registry.agents()) {
        let own = agent.devices.iter().find(|&&device| registry.device(device).id == agent.id);
        if let Some(&device) = own {
            let name = registry.device(device).pseudonym;
            shown.push(ShownAgent { name, agent: at, own: Some(device.0) });
        }
        if agent.devices.len() > usize::from(own.is_some()) {
            shown.push(ShownAgent { name: agent.id, agent: at, own: None });
        }
    }
    shown.sort_unstable();
    shown.into_boxed_slice()
}

/// The names of all devices by some key, ascending, and where each stands.
fn shared(
    registry: &Registry,
    name: impl Fn(&hunhe_gateway_core::registry::Device) -> Id,
) -> (Names, IdMap<u32>) {
    let mut seen: IdMap<u32> = IdMap::default();
    for device in registry.devices() {
        seen.entry(name(device)).or_default();
    }
    let mut names: Vec<Id> = seen.keys().copied().collect();
    names.sort_unstable();
    for (at, name) in (0..).zip(&names) {
        seen.insert(*name, at);
    }
    (Names(names.iter().map(ToString::to_string).collect()), seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::describe::{shown_agent, tests::own_agents};

    #[test]
    fn each_device_stands_under_the_agent_that_it_is_shown_with() {
        let registry = own_agents();
        let directory = Directory::of(&registry);
        let listed: Vec<(String, DeviceIx)> = (directory.agents(None).iter())
            .flat_map(|shown| shown.devices(&registry).map(|device| (shown.name.to_string(), device)))
            .collect();
        let mut expected: Vec<(String, DeviceIx)> = registry
            .indices()
            .map(|device| (shown_agent(&registry, Some(device), registry.device(device).agent), device))
            .collect();
        expected.sort();
        assert_eq!(listed, expected);
        assert_eq!(directory.agents(Some("c-1")).len(), 1);
    }

    #[test]
    fn devices_go_on_behind_the_last_of_a_page() {
        let registry = own_agents();
        let directory = Directory::of(&registry);
        let names = |after| -> Vec<String> {
            let devices = directory.devices();
            let behind = devices[through(&registry, devices, after)..].iter();
            behind.map(|&device| registry.device(device).pseudonym.to_string()).collect()
        };
        assert_eq!(names(None), ["shown-1", "shown-2"]);
        assert_eq!(names(Some("shown-1")), ["shown-2"]);
        assert!(names(Some("shown-2")).is_empty());
    }
}
