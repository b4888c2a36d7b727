//! Noise as large as a message may be: each goes to quarantine whole.

use super::{Attacker, Field, noise};
use crate::siege::effects::Aim;

const PER_S: u32 = 50;
const BYTES: usize = 60_000;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "junk",
    about: "50 messages of 60 kB of noise a second, and a page of quarantine",
    attack,
    aims: &[Aim::Did("taken", 50), Aim::Did("200", 1), Aim::Rose("hunhe_refused_total", "not_protobuf", 5.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let topic = &field.logger().devices[0].1;
    std::thread::scope(|scope| {
        scope.spawn(|| field.pace(1, |_| drop(field.get("/api/v1/quarantine?limit=1000"))));
        field.flood(field.logger(), PER_S, |number| (topic.clone(), noise(number, BYTES)))
    });
}
