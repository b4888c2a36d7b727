//! Retained reports for a thousand devices, and a state that changes all the time.
//!
//! To who is subscribed already these are reports like any other. They are old news to a gateway that subscribes anew, so it is
//! started again behind this attack.

use hunhe_proto::{reading::Header, v1};
use prost::Message;

use super::{Attacker, Field, now_s};
use crate::{
    publisher::Publisher,
    siege::effects::Aim,
    wire::{GAS_METER_VERSION, report},
};

const PER_S: u32 = 200;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "retained",
    about: "200 retained messages a second: reports of a thousand devices, and an agent that comes and goes",
    attack,
    aims: &[Aim::Did("taken", 100), Aim::Rose("hunhe_mqtt_retained_refused_total", "up", 100.0)],
    restarts: true,
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let agent = field.meters();
    let connect = || Publisher::connect(field.broker, &agent.id, 64).ok();
    let mut publisher = connect();
    field.pace(PER_S, |number| {
        let state = v1::AgentState { online: number.is_multiple_of(4), ..v1::AgentState::default() };
        let header = Header {
            boot: 0x4e7 + field.stage,
            seq: number / 1_000,
            class_version: Some(GAS_METER_VERSION),
            ..Header::default()
        };
        let (topic, payload) = match number % 2 {
            0 => (format!("hunhe/v1/agents/{}/state", agent.id), state.encode_to_vec()),
            _ => {
                let topic = agent.devices[super::index(number, agent.devices.len())].1.clone();
                (topic, report(header, now_s() / 3600 - 1, 1, &[1_000]))
            }
        };
        let sent = publisher.as_mut().is_some_and(|publisher| {
            publisher.publish_retained(topic.as_bytes(), &payload).and_then(|()| publisher.settle()).is_ok()
        });
        field.note(if sent { "taken" } else { "cut" });
        if !sent {
            publisher = connect();
        }
    });
}
