//! Reports that claim to have sampled more than anybody could.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    siege::effects::Aim,
    wire::{GAS_METER_VERSION, report},
};

const PER_S: u32 = 50;
const CLAIMED: u64 = (1 << 53) - 4_096;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "next_seq",
    about: "50 reports a second of its own devices that claim 2^53 samples",
    attack,
    aims: &[Aim::Did("taken", 50), Aim::Rose("hunhe_refused_total", "implausible_seq", 50.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let devices = &field.meters().devices;
    field.flood(field.meters(), PER_S, |number| {
        let (seq, next_seq) =
            if number.is_multiple_of(2) { (0, Some(CLAIMED)) } else { (CLAIMED - 10, None) };
        let header = Header {
            boot: 0x5e0 + field.stage,
            seq,
            next_seq,
            class_version: Some(GAS_METER_VERSION),
            ..Header::default()
        };
        let topic = devices[super::index(number, devices.len())].1.clone();
        (topic, report(header, now_s() / 3600 - 1, 1, &[1_000]))
    });
}
