//! Questions whose asker does not wait for the answer.

use std::io::Write;

use super::{Attacker, Field, field::get};
use crate::siege::effects::Aim;

const PER_S: u32 = 100;
const PATHS: [&str; 4] = [
    "/api/v1/devices?limit=1",
    "/api/v1/districts",
    "/api/v1/ledger?by=device&limit=1000",
    "/api/v1/quarantine?limit=1000",
];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "abandoned",
    about: "100 questions a second over all devices, the connection closed at once",
    attack,
    aims: &[Aim::Did("asked", 100), Aim::Rose("hunhe_http_accepted_total", "", 100.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    field.pace(PER_S, |number| {
        if let Some(mut socket) = field.knock() {
            let path = PATHS[super::index(number, PATHS.len())];
            let asked = socket.write_all(get(path, "127.0.0.1").as_bytes()).is_ok();
            field.note(if asked { "asked" } else { "cut" });
        }
    });
}
