//! Backups that are begun and not read.

use std::{io::Write, net::TcpStream};

use super::{Attacker, Field, get};

const OPEN: usize = 4;
const PER_S: u32 = 5;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "backups",
    about: "five backups begun a second, of which four at a time are never read",
    attack,
};

fn attack(field: &Field<'_>) -> u64 {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |number| {
        if let Some(mut socket) = field.knock()
            && socket.write_all(get("/api/v1/backup", "127.0.0.1").as_bytes()).is_ok()
        {
            if open.len() < OPEN {
                open.push(socket);
            } else {
                let at = super::index(number, OPEN);
                open[at] = socket;
            }
        }
    })
}
