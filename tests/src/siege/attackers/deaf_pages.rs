//! Live streams that nobody reads, in every place there is.

use std::{io::Write, net::TcpStream};

use super::{Attacker, Field};

/// More than there are places.
const OPEN: usize = 80;
const PER_S: u32 = 40;

pub(super) const ATTACKER: Attacker =
    Attacker { name: "deaf_pages", about: "80 clients of the live stream that never read", attack };

fn attack(field: &Field<'_>) -> u64 {
    let mut open: Vec<TcpStream> = Vec::new();
    field.pace(PER_S, |_| {
        if open.len() < OPEN
            && let Some(mut socket) = field.knock()
            && socket.write_all(b"GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").is_ok()
        {
            open.push(socket);
        }
    })
}
