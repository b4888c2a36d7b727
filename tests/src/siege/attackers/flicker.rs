//! A backlog in which two of a device's alerts come and go with each sample, while the duty officer's webhook takes its time.
//!
//! All of it is old, so none of it pages as live; the true alarms beside it must not wait for it.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{publisher::Publisher, siege::effects::Aim, wire::report};

/// How long the duty officer's webhook takes for an answer.
const DUTY_MS: u64 = 50;
/// Each brings twice as many changes as it has samples.
const REPORTS: i64 = 4;
const SAMPLES: i64 = 4_096;
/// What is told of one device's old alerts at once, by `hunhe_gateway_core::device::alert::allowance`, but for a few.
const TOLD: f64 = 4_000.0;
const STATUS: u16 = 0;
/// Battery low, housing opened: `seeds/rules/instruments.toml` lets both end at once.
const BITS: i64 = 0x1 | 0x8;
/// Of `seeds/classes/pressure_logger.toml`.
const CLASS_VERSION: u32 = 1;
const BACK_MINUTES: i64 = 30 * 1_440;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "flicker",
    about: "a backlog at once whose alerts come and go 32,768 times, the duty officer's webhook taking 50 ms",
    attack,
    aims: &[
        Aim::Did("taken", REPORTS as u64),
        // One output after the other; all of them have it when all has drained.
        Aim::Rose("hunhe_alerts_delivered_total", "duty", TOLD),
    ],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    field.duty.set_slow(DUTY_MS);
    let agent = field.logger();
    let values: Vec<i64> = (0..SAMPLES).map(|at| if at % 2 == 0 { BITS } else { 0 }).collect();
    if let Ok(mut publisher) = Publisher::connect(field.broker, &agent.id, 8) {
        for number in 0..REPORTS {
            let header = Header {
                boot: 0xf11c + field.stage,
                seq: (number * SAMPLES).unsigned_abs(),
                class_version: Some(CLASS_VERSION),
                ..Header::default()
            };
            let from = now_s() / 60 - BACK_MINUTES + number * SAMPLES;
            let sent =
                publisher.publish(agent.devices[0].1.as_bytes(), &report(header, from, STATUS, &values));
            if sent.and_then(|()| publisher.settle()).is_ok() {
                field.note("taken");
            }
        }
    }
    while !field.is_over() {
        field.wait(std::time::Duration::from_secs(1));
    }
    field.duty.set_slow(0);
}
