//! Requests of which the half never comes.

use std::{io::Write, net::TcpStream};

use super::{Attacker, Field};

const OPEN: usize = 500;
const PER_S: u32 = 200;
const HALVES: [&str; 4] = [
    "GET /api/v1/status HTTP/1.1\r\nhost: 127.0.0.1\r\n",
    "GET /api/v1/dev",
    "POST /api/v1/quarantine/1/redrive HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000\r\n\r\n{",
    "\r\n",
];

pub(super) const ATTACKER: Attacker = Attacker {
    name: "half_requests",
    about: "500 connections with half a request, a byte more of it now and then",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if open.len() < OPEN {
            let half = HALVES[super::index(number, HALVES.len())];
            open.extend(field.knock().filter(|mut socket| socket.write_all(half.as_bytes()).is_ok()));
            return;
        }
        // A byte keeps those alive that only silence would end.
        let at = super::index(number, open.len());
        if open[at].write_all(b"x").is_err() {
            open.swap_remove(at);
        }
    })
}
