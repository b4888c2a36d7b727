//! Samples ahead of the clock: some by as much as is taken, some by more.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION},
    siege::effects::Aim,
    wire::report,
};

const PER_S: u32 = 100;
const AHEAD_S: [i64; 4] = [14 * 60, 16 * 60, 86_400, 365 * 86_400];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "future_samples",
    about: "100 reports a second of its own detectors, ahead by 14 minutes to a year",
    attack,
    aims: &[Aim::Did("taken", 50), Aim::Rose("hunhe_refused_total", "in_future", 50.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let devices = &field.detectors().devices;
    field.flood(field.detectors(), PER_S, |number| {
        let header = Header {
            boot: 0xf0 + field.stage,
            seq: number,
            class_version: Some(CLASS_VERSION),
            ..Header::default()
        };
        let from = now_s() + AHEAD_S[super::index(number / 4, AHEAD_S.len())];
        (devices[super::index(number, devices.len())].1.clone(), report(header, from, CH4, &[100]))
    });
}
