//! Agents that connect again and again, some with a wrong password.

use super::{Attacker, Field};
use crate::{publisher::Publisher, siege::effects::Aim};

const PER_S: u32 = 100;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "reconnects",
    about: "100 connections a second to the broker, a half with a wrong password",
    attack,
    aims: &[Aim::Did("accepted", 50), Aim::Did("refused", 50)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let user = &field.meters().id;
    field.pace(PER_S, |number| {
        let password = if number.is_multiple_of(2) { None } else { Some("a guess") };
        let connected = Publisher::connect_with(field.broker, user, password, 1);
        field.note(if connected.is_ok() { "accepted" } else { "refused" });
    });
}
