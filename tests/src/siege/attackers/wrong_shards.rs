//! Its own devices under shards that are not theirs, and topics that are nobody's.
//!
//! The access list that the registry writes lets none of this through, so this agent has a careless operator's line of its own:
//! `City::own_lines`.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    siege::effects::Aim,
    wire::{GAS_METER_VERSION, report},
};

const PER_S: u32 = 300;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "wrong_shards",
    about: "300 messages a second under other shards, or for devices that nobody registered",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_refused_total", "wrong_shard", 100.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let devices = &field.city.lawless().devices;
    field.flood(field.city.lawless(), PER_S, |number| {
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
    });
}
