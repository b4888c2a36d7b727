//! Requests of which the half never comes.

use std::{io::Write, net::TcpStream};

use super::{Attacker, Field};
use crate::siege::effects::Aim;

/// A quarter is answered and closed; the rest are more than the gateway has places for.
const OPEN: usize = 800;
const PER_S: u32 = 300;
const HALVES: [&str; 4] = [
    "GET /api/v1/status HTTP/1.1\r\nhost: 127.0.0.1\r\n",
    "GET /api/v1/dev",
    "POST /api/v1/quarantine/1/redrive HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000\r\n\r\n{",
    "\r\n",
];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "half_requests",
    about: "800 connections with half a request, a byte more of it now and then",
    attack,
    aims: &[Aim::Did("opened", 512), Aim::Rose("hunhe_http_closed_total", "room", 1.0)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if open.len() < OPEN {
            let half = HALVES[super::index(number, HALVES.len())];
            let sent = field.knock().filter(|mut socket| socket.write_all(half.as_bytes()).is_ok());
            field.note(if sent.is_some() { "opened" } else { "not opened" });
            open.extend(sent);
            return;
        }
        // A byte keeps those alive that only silence would end.
        let at = super::index(number, open.len());
        if open[at].write_all(b"x").is_err() {
            field.note("closed by the gateway");
            open.swap_remove(at);
        }
    });
}
