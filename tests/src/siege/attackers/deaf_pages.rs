//! Live streams that nobody reads, in every place there is.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use super::{Attacker, Field, field::status_waiting, late_page};
use crate::siege::effects::Aim;

/// More than there are places.
const OPEN: usize = 80;
const PER_S: u32 = 40;

pub(super) const ATTACKER: Attacker = Attacker {
    name: "deaf_pages",
    about: "80 clients of the live stream that never read, and pages that come late",
    attack,
    aims: &[
        Aim::Did("200", 20),
        Aim::Did("closed by the gateway", 1),
        Aim::Did(late_page::IN_TIME, 1),
        Aim::Never(late_page::MISSED),
    ],
    // The gateway gives one that takes nothing 30 seconds from when its buffers are full.
    lasting: Duration::from_secs(42),
    ..Attacker::QUICK
};

struct Page {
    socket: TcpStream,
    is_counted: bool,
}

fn attack(field: &Field<'_>) {
    let mut open: Vec<Page> = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| late_page::watch(field));
        field.pace(PER_S, |number| {
            if open.len() < OPEN {
                let asked = field.knock_deaf().filter(|mut socket| {
                    socket.write_all(b"GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").is_ok()
                });
                open.extend(asked.map(|socket| Page { socket, is_counted: false }));
            }
            if open.is_empty() {
                return;
            }
            let at = super::index(number, open.len());
            let page = &mut open[at];
            if !page.is_counted
                && let Some(status) = status_waiting(&page.socket)
            {
                page.is_counted = true;
                field.note(&status);
            }
            // Only who reads sees an end. A line that means nothing is answered with a reset once the gateway has left.
            if page.socket.write_all(b"\r\n").is_err() {
                field.note("closed by the gateway");
                open.swap_remove(at);
            }
        });
    });
}
