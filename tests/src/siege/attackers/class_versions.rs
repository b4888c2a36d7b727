//! Reports under other versions of their class: one that is installed beside theirs, some that nobody knows, and none.

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{siege::effects::Aim, wire::report};

const PER_S: u32 = 100;
const PRESSURE: u16 = 1;
const OUTBOXES: u64 = 5;
/// Of `seeds/classes/pressure_logger.toml`, and the one that [`super::super::city`] installs beside it.
const KNOWN: [u32; 2] = [1, 2];
const UNKNOWN: [u32; 2] = [3, 4_000_000_000];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "class_versions",
    about: "100 reports a second under versions of their class that are older, newer, unknown or not said",
    attack,
    aims: &[
        Aim::Did("taken", 100),
        Aim::Rose("hunhe_refused_total", "unknown_class_version", 10.0),
        Aim::Rose("hunhe_refused_total", "class_version_unknown", 1.0),
    ],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let topic = &field.logger().devices[0].1;
    field.flood(field.logger(), PER_S, |number| {
        let (turn, outbox) = (number / OUTBOXES, number % OUTBOXES);
        // An outbox of each kind; the first one changes its version all the time.
        let class_version = match outbox {
            0 => Some(KNOWN[super::index(turn, 2)]),
            1 => Some(KNOWN[1]),
            2 => Some(UNKNOWN[0]),
            3 => Some(UNKNOWN[1]),
            _ => None,
        };
        let boot = 0xc1a5_0000 + field.stage * 8 + u32::try_from(outbox).unwrap_or(0);
        let header = Header { boot, seq: turn, class_version, ..Header::default() };
        let minutes_back = i64::try_from(number % 40_000).unwrap_or(0);
        (topic.clone(), report(header, now_s() / 60 - 1 - minutes_back, PRESSURE, &[2_500]))
    });
}
