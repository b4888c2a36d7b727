//! Small messages that are no reports, on the topics for reports and for alarms.

use super::{Attacker, Field, noise};

const PER_S: u32 = 500;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "undecodable",
    about: "500 messages a second of 40 bytes of noise, a half of them as alarms",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let devices = &field.meters().devices;
    field.flood(field.meters(), PER_S, |number| {
        let topic = &devices[super::index(number, devices.len())].1;
        let topic = if number.is_multiple_of(2) { topic.replace("/up", "/alarm") } else { topic.clone() };
        (topic, noise(number, 40))
    })
}
