//! Reports of 4,096 samples, as fast as one device can send them.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION},
    siege::effects::Aim,
    wire::report,
};

const PER_S: u32 = 200;
const SAMPLES: i64 = 4_096;
const STEP_S: i64 = 10;
/// As far back as samples go, so that none is there twice.
const BACK_S: i64 = 39 * 86_400;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "big_reports",
    about: "200 reports a second of 4,096 samples each, all of one device",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_intake_over_share_total", "device", 100.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    // Alternating, so that they take room.
    let values: Vec<i64> = (0..SAMPLES).map(|at| at * 7 % 5 * 30).collect();
    let per_pass = BACK_S / (SAMPLES * STEP_S);
    field.flood(field.detectors(), PER_S, |number| {
        let number = i64::try_from(number).unwrap_or(0);
        let header = Header {
            boot: 0xb16 + field.stage,
            seq: (number * SAMPLES).unsigned_abs(),
            class_version: Some(CLASS_VERSION),
            ..Header::default()
        };
        // Each pass over the past falls between the samples of the one before.
        let from = now_s() - BACK_S + number % per_pass * SAMPLES * STEP_S + number / per_pass % STEP_S;
        (field.detectors().devices[0].1.clone(), report(header, from, CH4, &values))
    });
}
