//! A new outbox in each message, for its own devices.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    siege::effects::Aim,
    wire::{GAS_METER_VERSION, report},
};

const PER_S: u32 = 200;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "forged_boots",
    about: "200 messages a second for its own devices, each from an outbox that nobody had",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_alerts_firing", "major", 10.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let devices = &field.meters().devices[..20];
    field.flood(field.meters(), PER_S, |number| {
        let boot = u32::try_from(number % 0xffff_0000).unwrap_or(0) + 1;
        let header = Header {
            boot: boot ^ field.stage << 24,
            prev_boot: Some(boot + 7),
            class_version: Some(GAS_METER_VERSION),
            ..Header::default()
        };
        let topic = devices[super::index(number, devices.len())].1.clone();
        (topic, report(header, now_s() / 3600 - 1, 1, &[1_000]))
    });
}
