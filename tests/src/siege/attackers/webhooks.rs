//! Outputs that are slow, hang and refuse, while hundreds of detectors alarm at once.

use std::time::Duration;

use hunhe_proto::reading::Header;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION, HIGH, LOW},
    publisher::Publisher,
    siege::effects::Aim,
    webhook::Answer,
    wire::report,
};

const SLOW_MS: u64 = 5_000;
/// 280 devices behind so many boxes of four. The other attackers have the rest of the hundred.
const BOXES: usize = 70;
/// Between two waves of alarms.
const EVERY: Duration = Duration::from_secs(4);

pub(super) const ATTACKER: Attacker = Attacker {
    name: "webhooks",
    about: "one webhook takes 5 s, one hangs, one refuses, and 280 detectors alarm at once every 4 s",
    attack,
    aims: &[Aim::Did("reports taken", 280), Aim::Did("slow", 1), Aim::Did("hung", 1), Aim::Did("refused", 1)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let [slow, hanging, refusing] = field.webhooks;
    let asked = [slow, hanging, refusing].map(|webhook| webhook.requests());
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
            if publisher.settle().is_ok() {
                field.effects.add("reports taken", agent.devices.len() as u64);
            }
        }
        waves += 1;
        field.wait(EVERY);
    }
    for (webhook, what, before) in
        [(slow, "slow", asked[0]), (hanging, "hung", asked[1]), (refusing, "refused", asked[2])]
    {
        field.effects.add(what, webhook.requests() - before);
    }
    slow.set_slow(0);
    hanging.set_usual(None);
    refusing.set_usual(None);
}
