//! Outputs that are slow, hang and refuse, while hundreds of detectors alarm at once.

use std::time::Duration;

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION, HIGH, LOW},
    publisher::Publisher,
    webhook::Answer,
    wire::report,
};

const SLOW_MS: u64 = 5_000;
/// Three hundred devices behind so many boxes of four.
const BOXES: usize = 75;
/// Between two waves of alarms.
const EVERY: Duration = Duration::from_secs(4);

pub(super) const ATTACKER: Attacker = Attacker {
    name: "webhooks",
    about: "one webhook takes 5 s, one hangs, one refuses, and 300 detectors alarm at once every 4 s",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let [slow, hanging, refusing] = field.webhooks;
    slow.set_slow(SLOW_MS);
    hanging.set_usual(Some(Answer::Hang));
    refusing.set_usual(Some(Answer::Status(503)));
    // The last of the stolen ones: the other attackers have the first.
    let boxes: Vec<_> = field.city.stolen_detectors.iter().rev().take(BOXES).collect();
    let mut connections: Vec<Option<Publisher>> =
        boxes.iter().map(|agent| Publisher::connect(field.broker, &agent.id, 8).ok()).collect();
    let mut waves = 0_u64;
    while !field.is_over() {
        let (seq, boot) = (waves, 0x3e40 + field.stage);
        let value = if waves.is_multiple_of(2) { HIGH } else { LOW };
        for (agent, connection) in boxes.iter().zip(&mut connections) {
            let Some(publisher) = connection else { continue };
            for (_, topic) in &agent.devices {
                let header = Header { boot, seq, class_version: Some(CLASS_VERSION), ..Header::default() };
                let sent = publisher.publish(topic.as_bytes(), &report(header, now_s(), CH4, &[value]));
                if sent.is_err() {
                    break;
                }
            }
            let _ = publisher.settle();
        }
        waves += 1;
        field.wait(EVERY);
    }
    slow.set_slow(0);
    hanging.set_usual(None);
    refusing.set_usual(None);
    waves * 4 * BOXES as u64
}
