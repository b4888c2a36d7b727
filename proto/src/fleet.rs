//! A fleet from a short description, and the city it stands in: the same for the gateway's registry and the simulator.
//!
//! Expansion is a pure function of the description. Household ids are tokens drawn from the fleet's seed, never a
//! serial number. Numbers taken from a source are marked so in the file, the rest are assumptions.

use crate::{
    class::Text,
    id::{AgentId, DeviceId, Id},
};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// A described fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Drawn upon for ids.
    pub seed: u64,
    /// Alike devices.
    pub groups: Vec<Group>,
}

/// Devices that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Their class's name.
    pub class: String,
    /// How many.
    pub count: u32,
    /// Ids are `{prefix}-{n}`, or `{prefix}-{token}` for households.
    pub prefix: String,
    /// Draw tokens instead of counting.
    #[serde(default)]
    pub household: bool,
    /// Who runs them.
    pub operator: String,
    /// Where their agents stand, in turn.
    pub places: Vec<Place>,
    /// Devices per concentrator; 1: each is its own agent.
    pub per_agent: u32,
}

/// A place that devices share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// District code.
    pub district: u32,
    /// DMA, pressure zone, station or farm.
    pub zone: String,
    /// WGS-84 degrees.
    pub lon: f64,
    /// WGS-84 degrees.
    pub lat: f64,
}

/// One device of an expanded fleet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<'a> {
    /// Its id.
    pub id: DeviceId,
    /// What holds its connection.
    pub agent: AgentId,
    /// Its group.
    pub group: &'a Group,
    /// Where it stands.
    pub place: &'a Place,
}

/// The most devices of a fleet.
pub const MEMBERS_MAX: usize = 4_000_000;

/// A description that does not expand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("group {prefix}: {what}")]
pub struct FleetError {
    /// The group's prefix.
    pub prefix: String,
    /// What is wrong and what would be right.
    pub what: &'static str,
}

impl Fleet {
    /// Every device, in order of description.
    ///
    /// # Errors
    /// The first group that cannot be expanded.
    pub fn expand(&self) -> Result<Vec<Member<'_>>, FleetError> {
        // It grows with the members: a number in a file asks for no memory by itself.
        let mut members = Vec::new();
        for group in &self.groups {
            let error = |what| FleetError { prefix: group.prefix.clone(), what };
            if members.len() + group.count as usize > MEMBERS_MAX {
                return Err(error("count must be lower: a fleet has at most 4,000,000 devices"));
            }
            if group.places.is_empty() || group.per_agent == 0 {
                return Err(error("needs at least one place, and per_agent of at least 1"));
            }
            for index in 0..group.count {
                let id = if group.household {
                    let token = token(self.seed, &group.prefix, index);
                    DeviceId::new(&format!("{}-{token:012x}", group.prefix))
                } else {
                    DeviceId::new(&format!("{}-{}", group.prefix, index + 1))
                };
                let id =
                    id.map_err(|_| error("prefix must make ids of lower-case letters, digits and hyphens"))?;
                let agent = if group.per_agent == 1 {
                    id
                } else {
                    AgentId::new(&format!("c-{}-{}", group.prefix, index / group.per_agent + 1))
                        .map_err(|_| error("prefix is too long for a concentrator's id"))?
                };
                // What shares a connection stands together.
                let place = &group.places[(index / group.per_agent) as usize % group.places.len()];
                members.push(Member { id, agent, group, place });
            }
        }
        Ok(members)
    }
}

/// The districts, operators and zones that devices are placed in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct City {
    /// By administrative code.
    #[serde(default)]
    pub districts: Vec<District>,
    /// Who runs devices.
    #[serde(default)]
    pub operators: Vec<Operator>,
    /// What is balanced or watched as one.
    #[serde(default)]
    pub zones: Vec<Zone>,
}

/// An administrative district.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct District {
    /// Administrative code.
    pub code: u32,
    /// For people.
    pub title: Text,
    /// Its seat, in degrees, approximate.
    pub lon: f64,
    /// Its seat, in degrees, approximate.
    pub lat: f64,
}

/// Who runs devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// As fleets and topics name it.
    pub id: Id,
    /// For people.
    pub title: Text,
}

/// Part of a district that is balanced or watched as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// As fleets name it.
    pub id: Id,
    /// What it is.
    pub kind: ZoneKind,
    /// Its district's code.
    pub district: u32,
    /// For people.
    pub title: Text,
}

/// What a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// District metered area of a water network.
    Dma,
    /// Part of a gas network under one pressure.
    GasPressure,
    /// Gas station.
    GasStation,
    /// Weather site.
    Weather,
    /// Part of a drainage network.
    Drainage,
    /// Farm or field.
    Farm,
    /// Hatchery.
    Hatchery,
}

impl ZoneKind {
    /// As in files and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "dma",
            Self::GasPressure => "gas_pressure",
            Self::GasStation => "gas_station",
            Self::Weather => "weather",
            Self::Drainage => "drainage",
            Self::Farm => "farm",
            Self::Hatchery => "hatchery",
        }
    }
}

impl City {
    /// All that is wrong with this city, and with `fleet` in it, each as (key, what is wrong and what would be right).
    #[must_use]
    pub fn faults_found(&self, fleet: &Fleet) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut fault = |key: String, what: &str| found.push((key, String::from(what)));
        let district = |code: u32| self.districts.iter().any(|district| district.code == code);
        for (at, known) in self.districts.iter().enumerate() {
            if self.districts[..at].iter().any(|other| other.code == known.code) {
                fault(format!("districts.{}", known.code), "must be there once");
            }
        }
        for (at, known) in self.operators.iter().enumerate() {
            if self.operators[..at].iter().any(|other| other.id == known.id) {
                fault(format!("operators.{}", known.id), "must be there once");
            }
        }
        for (at, zone) in self.zones.iter().enumerate() {
            if self.zones[..at].iter().any(|other| other.id == zone.id) {
                fault(format!("zones.{}", zone.id), "must be there once");
            }
            if !district(zone.district) {
                fault(format!("zones.{}.district", zone.id), "must be the code of one of the districts");
            }
        }
        for group in &fleet.groups {
            if !self.operators.iter().any(|operator| operator.id.as_str() == group.operator) {
                fault(format!("groups.{}.operator", group.prefix), "must be the id of one of the operators");
            }
            for place in &group.places {
                let key = || format!("groups.{}.places.{}", group.prefix, place.zone);
                match self.zones.iter().find(|zone| zone.id.as_str() == place.zone) {
                    None => fault(key(), "must be the id of one of the zones"),
                    Some(zone) if zone.district != place.district => {
                        fault(key(), "must lie in its zone's district")
                    }
                    Some(_) => {}
                }
            }
        }
        found
    }
}

/// 48 bits by a bijection of the index (so that none repeats within a group), keyed with the seed and prefix.
fn token(seed: u64, prefix: &str, index: u32) -> u64 {
    const MASK: u64 = (1 << 48) - 1;
    let key = seed ^ u64::from(crc32fast::hash(prefix.as_bytes())) << 16;
    let mut x = (u64::from(index) ^ key) & MASK;
    for _ in 0..3 {
        // Odd multipliers and xor-shifts are both invertible modulo 2^48.
        x = x.wrapping_mul(0x5851_f42d_4c95_7f2d) & MASK;
        x ^= x >> 23;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeSet, string::ToString, vec};

    #[test]
    fn ids_are_unique_and_expansion_is_repeatable() {
        let place = Place { district: 210_102, zone: "z-1".into(), lon: 123.4, lat: 41.8 };
        let group = |prefix: &str, household| Group {
            class: "gas_meter".into(),
            count: 20_000,
            prefix: prefix.into(),
            household,
            operator: "gas".into(),
            places: vec![place.clone()],
            per_agent: 1000,
        };
        let fleet = Fleet { seed: 7, groups: vec![group("g", true), group("dma", false)] };
        let members = fleet.expand().unwrap();
        let ids: BTreeSet<_> = members.iter().map(|member| member.id).collect();
        assert_eq!(ids.len(), 40_000);
        assert_eq!(members, fleet.expand().unwrap());
        assert_eq!(members[1000].agent.to_string(), "c-g-2");
    }
}
