//! Small messages that are no reports, on the topics for reports and for alarms.

use super::{Attacker, Field, noise};
use crate::siege::effects::Aim;

const PER_S: u32 = 500;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "undecodable",
    about: "500 messages a second of 40 bytes of noise, a half of them as alarms",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_refused_total", "not_protobuf", 100.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let devices = &field.meters().devices;
    field.flood(field.meters(), PER_S, |number| {
        let topic = &devices[super::index(number, devices.len())].1;
        let topic = if number.is_multiple_of(2) { topic.replace("/up", "/alarm") } else { topic.clone() };
        (topic, noise(number, 40))
    });
}
