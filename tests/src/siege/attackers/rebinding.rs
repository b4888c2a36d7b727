//! A page of somebody else's whose name now leads here: its requests name another host.

use super::{Attacker, Field, field::get};
use crate::siege::effects::Aim;

const PER_S: u32 = 30;
const PATHS: [&str; 3] = ["/api/v1/status", "/api/v1/devices?limit=1000", "/api/v1/quarantine?limit=1000"];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "rebinding",
    about: "30 requests a second that name another host, as after a rebinding of DNS",
    attack,
    aims: &[Aim::Did("421", 50), Aim::Never("200"), Aim::Rose("hunhe_http_misdirected_total", "", 50.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    field.pace(PER_S, |number| {
        field.ask(&get(PATHS[super::index(number, PATHS.len())], "evil.example:8080"));
    });
}
