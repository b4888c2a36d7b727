//! Its own devices under shards that are not theirs, and topics that are nobody's.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::wire::{GAS_METER_VERSION, report};

const PER_S: u32 = 300;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "wrong_shards",
    about: "300 messages a second under other shards, or for devices that nobody registered",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let devices = &field.meters().devices;
    field.flood(field.meters(), PER_S, |number| {
        let device = &devices[super::index(number, devices.len())].0;
        let topic = match number % 3 {
            0 => format!("hunhe/v1/{:02x}/{device}/up", number % 256),
            1 => format!("hunhe/v1/{:02x}/nobody-{number}/up", number % 256),
            _ => format!("hunhe/v1/zz/{device}/alarm"),
        };
        (
            topic,
            report(
                Header { boot: 9, seq: number, class_version: Some(GAS_METER_VERSION), ..Header::default() },
                now_s() / 3600 - 1,
                1,
                &[1_000],
            ),
        )
    })
}
