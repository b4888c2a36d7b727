//! Questions whose asker does not wait for the answer.

use std::io::Write;

use super::{Attacker, Field, get};

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
};

fn attack(field: &Field<'_>) -> u64 {
    field.pace(PER_S, |number| {
        if let Some(mut socket) = field.knock() {
            let path = PATHS[super::index(number, PATHS.len())];
            // Whether it goes out is the gateway's business.
            let _ = socket.write_all(get(path, "127.0.0.1").as_bytes());
        }
    })
}
