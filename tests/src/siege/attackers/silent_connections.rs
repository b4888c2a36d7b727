//! Connections that say nothing, as many as there are file descriptors.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
};

use super::{Attacker, Field};
use crate::siege::effects::Aim;

const OPEN: usize = 1_100;
const PER_S: u32 = 500;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "silent_connections",
    about: "1,100 connections that say nothing, opened again wherever one is closed",
    attack,
    aims: &[
        Aim::Did("opened", 512),
        Aim::Did("closed by the gateway", 1),
        Aim::Rose("hunhe_http_closed_total", "room", 1.0),
    ],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if open.len() < OPEN {
            let knocked = field.knock().filter(|socket| socket.set_nonblocking(true).is_ok());
            field.note(if knocked.is_some() { "opened" } else { "not opened" });
            open.extend(knocked);
        }
        if !open.is_empty() {
            let at = super::index(number, open.len());
            // A reset is an end as well.
            let is_open = matches!(open[at].read(&mut [0; 512]), Ok(1..))
                || open[at].read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            if !is_open {
                field.note("closed by the gateway");
                open.swap_remove(at);
            }
        }
    });
}
