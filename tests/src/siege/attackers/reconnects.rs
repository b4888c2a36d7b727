//! Agents that connect again and again, some with a wrong password.

use super::{Attacker, Field};
use crate::publisher::Publisher;

const PER_S: u32 = 100;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "reconnects",
    about: "100 connections a second to the broker, a half with a wrong password",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let user = &field.meters().id;
    field.pace(PER_S, |number| {
        let password = if number.is_multiple_of(2) { None } else { Some("a guess") };
        drop(Publisher::connect_with(field.broker, user, password, 1));
    })
}
