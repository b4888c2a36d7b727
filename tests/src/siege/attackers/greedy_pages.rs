//! Live streams that are read, more than there are places for.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
};

use super::{Attacker, Field, field::status_of, late_page};
use crate::siege::effects::Aim;

/// More than there are places.
const OPEN: usize = 80;
/// Turns a second; in each, all are read.
const PER_S: u32 = 40;
/// Turns from one that comes back to the next.
const BACK_EVERY: u64 = 4;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "greedy_pages",
    about: "80 clients of the live stream that read all of it, and pages that come late",
    attack,
    aims: &[
        Aim::Did("200", 20),
        Aim::Did("kB read", 100),
        Aim::Did(late_page::IN_TIME, 1),
        Aim::Never(late_page::MISSED),
    ],
    ..Attacker::QUICK
};

struct Page {
    socket: TcpStream,
    is_answered: bool,
}

fn attack(field: &Field<'_>) {
    let (mut open, mut bytes) = (Vec::<Page>::new(), 0);
    thread::scope(|scope| {
        scope.spawn(|| late_page::watch(field));
        field.pace(PER_S, |number| {
            let is_first = number < OPEN as u64;
            if open.len() < OPEN && (is_first || number.is_multiple_of(BACK_EVERY)) {
                let asked = field.knock().filter(|mut socket| {
                    socket.set_nonblocking(true).is_ok()
                        && socket.write_all(b"GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").is_ok()
                });
                open.extend(asked.map(|socket| Page { socket, is_answered: false }));
            }
            open.retain_mut(|page| page.read(field, &mut bytes));
        });
    });
    field.effects.add("kB read", bytes / 1_000);
}

impl Page {
    /// Reads what is there; whether more will come.
    fn read(&mut self, field: &Field<'_>, bytes: &mut u64) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(length @ 1..) => {
                    *bytes += length as u64;
                    if !std::mem::replace(&mut self.is_answered, true) {
                        let status = status_of(&buffer[..length]).unwrap_or("no answer");
                        field.note(status);
                        if status != "200" {
                            return false;
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(0) | Err(_) => {
                    field.note("closed by the gateway");
                    return false;
                }
            }
        }
    }
}
