//! Large answers that nobody takes: they are held in memory, and must leave room for whoever asks next.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

use super::{
    Attacker, Field,
    field::{get, status_of, status_waiting},
};
use crate::siege::effects::Aim;

const OPEN: usize = 40;
const PER_S: u32 = 20;
const HEALTH_PER_S: u32 = 4;
const IN_TIME: &str = "healthy in time";
const LATE: &str = "healthy too late";

pub(super) const ATTACKER: Attacker = Attacker {
    name: "untaken",
    about: "40 at a time who ask for a thousand devices and do not read; /healthz must answer as soon as an alarm comes",
    attack,
    aims: &[Aim::Did("200", 25), Aim::Did(IN_TIME, 4), Aim::Never(LATE)],
    ..Attacker::QUICK
};

fn attack(field: &Field<'_>) {
    let mut open: VecDeque<TcpStream> = VecDeque::new();
    let request = get("/api/v1/devices?limit=1000", "127.0.0.1");
    thread::scope(|scope| {
        scope.spawn(|| {
            field.pace(HEALTH_PER_S, |_| {
                let healthy = is_healthy(field);
                if !field.is_over() {
                    field.note(if healthy { IN_TIME } else { LATE });
                }
            });
        });
        field.pace(PER_S, |_| {
            let asked = field.knock_deaf().filter(|mut socket| socket.write_all(request.as_bytes()).is_ok());
            open.extend(asked);
            if open.len() > OPEN
                && let Some(socket) = open.pop_front()
            {
                field.note(status_waiting(&socket).as_deref().unwrap_or("no answer"));
            }
        });
        // Those that are still open count as well.
        for socket in &open {
            field.note(status_waiting(socket).as_deref().unwrap_or("no answer"));
        }
    });
}

fn is_healthy(field: &Field<'_>) -> bool {
    let begun = Instant::now();
    let mut answer = Vec::new();
    let asked = field.knock_honestly().is_some_and(|mut socket| {
        socket.set_read_timeout(Some(field.slowest)).is_ok()
            && socket.write_all(get("/healthz", "127.0.0.1").as_bytes()).is_ok()
            && socket.read_to_end(&mut answer).is_ok()
    });
    asked && status_of(&answer) == Some("200") && begun.elapsed() <= field.slowest
}
