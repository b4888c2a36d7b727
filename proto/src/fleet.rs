//! A fleet from a short description: the same devices for the gateway's registry and for the simulator.
//!
//! Expansion is a pure function of the description. Household ids are tokens drawn from the fleet's seed, never a
//! serial number. Numbers taken from a source are marked so in the file, the rest are assumptions.

use crate::id::{AgentId, DeviceId};
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
    /// Where they stand, in turn.
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
        let total = self.groups.iter().map(|group| group.count as usize).sum();
        let mut members = Vec::with_capacity(total);
        for group in &self.groups {
            let error = |what| FleetError { prefix: group.prefix.clone(), what };
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
                let place = &group.places[index as usize % group.places.len()];
                members.push(Member { id, agent, group, place });
            }
        }
        Ok(members)
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
