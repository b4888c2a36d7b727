//! Connections that say nothing, as many as there are file descriptors.

use std::{io::Read, net::TcpStream};

use super::{Attacker, Field};

const OPEN: usize = 1_100;
const PER_S: u32 = 500;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "silent_connections",
    about: "1,100 connections that say nothing, opened again wherever one is closed",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if open.len() < OPEN {
            open.extend(field.knock().filter(|socket| socket.set_nonblocking(true).is_ok()));
        }
        if !open.is_empty() {
            let at = super::index(number, open.len());
            if matches!(open[at].read(&mut [0; 512]), Ok(0)) {
                open.swap_remove(at);
            }
        }
    })
}
