//! An agent's password, and the client ids of the gateway's sessions.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::{Attacker, Field, field::PATIENCE};
use crate::{mqtt, siege::effects::Aim};

const PER_S: u32 = 40;
const SESSIONS: [&str; 4] = ["up", "alarm", "out", "alerts"];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "takeover",
    about: "40 connections a second under the client ids of the gateway's sessions, at both listeners",
    attack,
    aims: &[Aim::Did("accepted", 10), Aim::Did("refused", 10), Aim::Still("hunhe_broker_connections_total")],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let user = &field.meters().id;
    field.pace(PER_S, |number| {
        let session = format!("hunhe-gateway-{}", SESSIONS[super::index(number, SESSIONS.len())]);
        let port = if number % 8 < 4 { field.broker } else { field.gateway_broker };
        if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = socket.set_read_timeout(Some(PATIENCE));
            let clean = number % 16 < 8;
            let _ = socket.write_all(&mqtt::connect_as(user, &mqtt::password_of(user), &session, clean));
            let mut answer = [0; 4];
            // The last byte of a CONNACK is 0 where the connection is accepted.
            let accepted = socket.read_exact(&mut answer).is_ok() && answer[3] == 0;
            field.note(if accepted { "accepted" } else { "refused" });
        }
    });
}
