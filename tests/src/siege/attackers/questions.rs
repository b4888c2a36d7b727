//! Questions over all devices, asked without rest by people who mean no harm.

use std::thread;

use super::{Attacker, Field};

const DEVICES_PER_S: u32 = 30;
/// Those who ask for something large again as soon as they have it.
const RESTLESS: [&str; 4] =
    ["/api/v1/districts", "/api/v1/districts", "/api/v1/zones", "/api/v1/ledger?by=district"];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "questions",
    about: "30 lists of devices a second, and four who ask for districts, zones and the ledger without rest",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    thread::scope(|scope| {
        let restless = RESTLESS.map(|path| {
            scope.spawn(move || {
                let mut asked = 0;
                while !field.is_over() {
                    // An answer that is a refusal takes no time.
                    field.get(path);
                    field.wait(std::time::Duration::from_millis(5));
                    asked += 1;
                }
                asked
            })
        });
        let lists = field.pace(DEVICES_PER_S, |_| {
            scope.spawn(|| field.get("/api/v1/devices?limit=1"));
        });
        restless.into_iter().filter_map(|thread| thread.join().ok()).sum::<u64>() + lists
    })
}
