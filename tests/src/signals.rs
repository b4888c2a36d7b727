//! Signals to processes that tests started, by id.

use std::{process::Command, time::Duration};

/// SIGSTOP, a while, SIGCONT.
///
/// # Panics
/// The process is gone.
pub fn pause(pid: u32, lasting: Duration) {
    signal(pid, "-STOP");
    std::thread::sleep(lasting);
    signal(pid, "-CONT");
}

/// Sends one, named as `kill` names it.
///
/// # Panics
/// The process is gone.
pub fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(pid.to_string()).status();
    assert!(sent.expect("kill runs").success(), "process {pid} is gone");
}
