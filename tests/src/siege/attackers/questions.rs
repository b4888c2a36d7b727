//! Questions over all devices, asked without rest by people who mean no harm.

use std::thread;

use super::{Attacker, Field};
use crate::siege::effects::Aim;

const DEVICES_PER_S: u32 = 30;
/// Those who ask for something large again as soon as they have it.
const RESTLESS: [&str; 4] =
    ["/api/v1/districts", "/api/v1/districts", "/api/v1/zones", "/api/v1/ledger?by=district"];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "questions",
    about: "30 lists of devices a second, and four who ask for districts, zones and the ledger without rest",
    attack,
    aims: &[Aim::Did("200", 100), Aim::Rose("hunhe_queries_started_total", "", 50.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    thread::scope(|scope| {
        for path in RESTLESS {
            scope.spawn(move || {
                while !field.is_over() {
                    field.get(path);
                    // An answer that is a refusal takes no time.
                    field.wait(std::time::Duration::from_millis(5));
                }
            });
        }
        field.pace(DEVICES_PER_S, |_| {
            scope.spawn(|| field.get("/api/v1/devices?limit=1"));
        });
    });
}
