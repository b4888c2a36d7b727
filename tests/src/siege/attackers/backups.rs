//! Backups that are begun and not read.

use std::{io::Write, net::TcpStream};

use super::{
    Attacker, Field,
    field::{get, status_waiting},
};
use crate::siege::effects::Aim;

const OPEN: usize = 4;
const PER_S: u32 = 5;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "backups",
    about: "five backups begun a second, of which four at a time are never read",
    attack,
    aims: &[Aim::Did("200", 1)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if let Some(mut socket) = field.knock_deaf()
            && socket.write_all(get("/api/v1/backup", "127.0.0.1").as_bytes()).is_ok()
        {
            if open.len() < OPEN {
                open.push(socket);
            } else {
                let at = super::index(number, OPEN);
                field.note(status_waiting(&open[at]).as_deref().unwrap_or("no answer"));
                open[at] = socket;
            }
        }
    })
}
