//! Series as long as there are, many at a time.

use std::thread;

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{detectors::CLASS_VERSION, siege::effects::Aim, wire::report};

const PARALLEL: usize = 50;
/// What one of them asks for has so many samples, sent before.
const REPORTS: i64 = 40;
const SAMPLES: i64 = 2_000;
const STEP_S: i64 = 10;
/// A half asks for means over so much, which reads all of it and answers; the samples themselves are more than one answer carries.
const STEP_ASKED_S: u32 = 3_600;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "series",
    about: "50 who ask without rest for the whole history of one device and of others",
    attack,
    aims: &[
        Aim::Did("200", 20),
        Aim::Did("400", 1),
        Aim::Did("429", 20),
        Aim::Rose("hunhe_series_reads_refused_total", "", 20.0),
    ],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    fill(field);
    let devices: Vec<&str> =
        field.city.stolen_detectors.iter().map(|agent| agent.devices[0].0.as_str()).collect();
    let own = field.detectors().devices[0].0.as_str();
    let to_ms = now_s() * 1_000;
    let path = |device: &str| {
        let from_ms = to_ms - 45 * 86_400_000;
        format!("/api/v1/devices/{device}/series?channel=ch4&from={from_ms}&to={to_ms}")
    };
    thread::scope(|scope| {
        for asker in 0..PARALLEL {
            let of = if asker % 4 == 0 { devices[asker % devices.len()] } else { own };
            let step = if asker % 2 == 0 { String::new() } else { format!("&step={STEP_ASKED_S}") };
            let path = path(of) + &step;
            scope.spawn(move || {
                while !field.is_over() {
                    field.get(&path);
                    field.wait(std::time::Duration::from_millis(20));
                }
            });
        }
    });
}

/// A history of nine days for its own device.
fn fill(field: &Field<'_>) {
    let agent = field.detectors();
    let Ok(mut publisher) = crate::publisher::Publisher::connect(field.broker, &agent.id, 8) else { return };
    for number in 0..REPORTS {
        let seq = (number * SAMPLES).unsigned_abs();
        let header =
            Header { boot: 0x5e + field.stage, seq, class_version: Some(CLASS_VERSION), ..Header::default() };
        let values: Vec<i64> = (0..SAMPLES).map(|at| 40 + at % 7).collect();
        let from = now_s() - (REPORTS - number) * SAMPLES * STEP_S;
        let sent = publisher.publish(agent.devices[0].1.as_bytes(), &report(header, from, 1, &values));
        if field.is_over() || sent.and_then(|()| publisher.settle()).is_err() {
            return;
        }
    }
}
