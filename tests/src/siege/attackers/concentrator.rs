//! One concentrator's password, a thousand meters: of each the largest report there is, and junk.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, noise, now_s};
use crate::{
    siege::effects::Aim,
    wire::{GAS_METER_VERSION, report},
};

const PER_S: u32 = 200;
const SAMPLES: u64 = 4_096;
const JUNK_BYTES: usize = 20_000;
const REGISTER: u16 = 1;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "concentrator",
    about: "a concentrator whose thousand meters each send reports of 4,096 samples and 20 kB of noise, 200 a second",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_refused_total", "older_than_retention", 10_000.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    // A register that rises by as little as it may.
    let values: Vec<i64> =
        (0..SAMPLES).map(|at| 1_000_000 + i64::try_from(at * 7 % 5 + at * 5).unwrap_or(0)).collect();
    let devices = &field.meters().devices;
    field.flood(field.meters(), PER_S, |number| {
        let (turn, topic) = (number / 2, &devices[super::index(number / 2, devices.len())].1);
        if number.is_multiple_of(2) {
            return (topic.clone(), noise(number, JUNK_BYTES));
        }
        let round = turn / devices.len() as u64;
        let header = Header {
            boot: 0xc0c + field.stage,
            seq: round * SAMPLES,
            class_version: Some(GAS_METER_VERSION),
            ..Header::default()
        };
        // Up to this hour: three quarters of it is older than the gateway keeps samples.
        let from = now_s() / 3600 - i64::try_from(SAMPLES).unwrap_or(0);
        (topic.clone(), report(header, from, REGISTER, &values))
    });
}
