//! A quarantine full of values out of range, and pages of it that nobody waits for.

use std::{io::Write, thread};

use hunhe_proto::reading::Header;

use super::{Attacker, Field, field::get, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION},
    siege::effects::Aim,
    wire::report,
};

const PER_S: u32 = 200;
const PAGES_PER_S: u32 = 20;
const SAMPLES: usize = 10;
const STEP_S: i64 = 10;
const BACK_S: i64 = 30 * 86_400;
/// 600 %LEL, of which there is none.
const OUT_OF_RANGE: i64 = 60_000;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "quarantine_pages",
    about: "2,000 values out of range a second, and 20 pages of a thousand records asked and abandoned",
    attack,
    aims: &[
        Aim::Did("abandoned", 60),
        Aim::Did("200", 1),
        Aim::Rose("hunhe_refused_total", "out_of_range", 1_000.0),
    ],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let agent = field.detectors();
    let request = get("/api/v1/quarantine?limit=1000", "127.0.0.1");
    thread::scope(|scope| {
        scope.spawn(|| {
            field.pace(PAGES_PER_S, |_| {
                if let Some(mut socket) = field.knock()
                    && socket.write_all(request.as_bytes()).is_ok()
                {
                    field.note("abandoned");
                }
            });
        });
        // One who waits: the pages are there.
        scope.spawn(|| field.pace(1, |_| drop(field.ask(&request))));
        field.flood(agent, PER_S, |number| {
            let of = super::index(number, agent.devices.len());
            let turn = number / agent.devices.len() as u64;
            let header = Header {
                boot: 0x9a7 + field.stage,
                seq: turn * SAMPLES as u64,
                class_version: Some(CLASS_VERSION),
                ..Header::default()
            };
            let ahead_s = i64::try_from(turn * SAMPLES as u64).unwrap_or(0) * STEP_S % BACK_S;
            let values = [OUT_OF_RANGE; SAMPLES];
            (agent.devices[of].1.clone(), report(header, now_s() - BACK_S + ahead_s, CH4, &values))
        });
    });
}
