//! One report in which a detector's alarm comes and goes hundreds of times.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION, HIGH},
    siege::effects::Aim,
    wire::report,
};

const PER_S: u32 = 1;
/// An alarm, and the minute behind it that ends it.
const CYCLE: i64 = 8;
const CYCLES: i64 = 128;
const STEP_S: i64 = 10;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "alert_changes",
    about: "a report a second in which one detector's alarms are raised and over 128 times",
    attack,
    aims: &[Aim::Did("taken", 3), Aim::Rose("hunhe_alerts_delivered_total", "duty", 500.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let values: Vec<i64> = (0..CYCLE * CYCLES).map(|at| if at % CYCLE == 0 { HIGH } else { 0 }).collect();
    let devices = &field.detectors().devices;
    field.flood(field.detectors(), PER_S, |number| {
        let of = super::index(number, devices.len());
        let turn = i64::try_from(number).unwrap_or(0) / 4;
        let seq = (turn * CYCLE * CYCLES).unsigned_abs();
        let header = Header {
            boot: 0xa1e + field.stage,
            seq,
            class_version: Some(CLASS_VERSION),
            ..Header::default()
        };
        // The newest ends now, so that some of it is live.
        let from = now_s() - (CYCLE * CYCLES - 1) * STEP_S;
        (devices[of].1.clone(), report(header, from, CH4, &values))
    });
}
