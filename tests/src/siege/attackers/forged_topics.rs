//! A concentrator that speaks for other agents' devices, in outboxes that it invents.

use hunhe_proto::{reading::Header, v1};
use prost::Message;

use super::{Attacker, Field, now_s};
use crate::{
    detectors::{CH4, CLASS_VERSION},
    siege::effects::Aim,
    wire::report,
};

const PER_S: u32 = 200;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "forged_topics",
    about: "200 messages a second for devices of others: reports, alarms, states, watermarks",
    attack,
    // That none of it arrives is what the count of the honest shows: these devices are the honest's.
    aims: &[Aim::Did("taken", 100)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    // Those whose true alarms are to come, among others.
    let victims: Vec<&str> = field
        .city
        .detectors
        .iter()
        .flat_map(|agent| agent.devices.iter().map(|(_, topic)| topic.as_str()))
        .collect();
    let others = &field.city.detectors;
    field.flood(field.meters(), PER_S, |number| {
        let topic = victims[super::index(number, victims.len())];
        let agent = &others[super::index(number, others.len())].id;
        let boot = u32::try_from(number % 0xffff_ffff).unwrap_or(0);
        let forged = report(
            Header { boot, class_version: Some(CLASS_VERSION), ..Header::default() },
            now_s() + 840,
            CH4,
            &[0],
        );
        match number % 4 {
            0 => (topic.to_owned(), forged),
            1 => (topic.replace("/up", "/alarm"), forged),
            2 => (format!("hunhe/v1/agents/{agent}/state"), v1::AgentState::default().encode_to_vec()),
            _ => (format!("hunhe/v1/agents/{agent}/durable"), v1::Durable::default().encode_to_vec()),
        }
    });
}
