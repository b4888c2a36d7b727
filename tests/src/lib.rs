//! What the end-to-end tests and `hunhe-measure` share: the real programs as guarded processes, and independent readers
//! of what they should have stored.
//!
//! Promises: every process is stopped by its own id when its guard goes; ports are free ones on loopback; data lives in
//! temporary folders; nothing waits but by polling a condition with a deadline. A step that cannot be done panics with
//! the reason, because here it is a failed test. Deliberately absent: the gateway's and the agent's own code.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a step of a test that cannot be done is a failed test"
)]

pub mod agent;
pub mod broker;
pub mod cgroup;
pub mod database;
pub mod detectors;
pub mod events;
pub mod fake_broker;
pub mod gateway;
pub mod http;
pub mod kills;
mod listener;
pub mod load;
pub mod meters;
pub mod mqtt;
pub mod mutants;
pub mod outbox_load;
pub mod overload;
pub mod poisoned;
pub mod process;
pub mod procfs;
pub mod proxy;
pub mod publisher;
pub mod raises;
pub mod recording;
pub mod report;
pub mod siege;
pub mod signals;
pub mod stored;
pub mod trace;
pub mod webhook;
pub mod wire;

use std::{
    path::PathBuf,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970.
///
/// # Panics
/// The clock is before 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a time")
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> i64 {
    now_ms() / 1000
}

/// Hours since 1970.
#[must_use]
pub fn now_h() -> i64 {
    now_s() / 3600
}

/// The project's folder.
#[must_use]
pub fn project_dir() -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().expect("the crate lies in the project").to_path_buf()
}

/// A folder below `seeds/`.
#[must_use]
pub fn seeds(below: &str) -> PathBuf {
    project_dir().join("seeds").join(below)
}

/// A program of this project: in `TESTS_BIN_DIR`, else where this one was built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("TESTS_BIN_DIR").map_or_else(
        || {
            let own = std::env::current_exe().expect("a program knows its own path");
            let dir = own.parent().expect("a program lies in a folder");
            // Tests lie one folder deeper than programs.
            if dir.ends_with("deps") { dir.join("..") } else { dir.to_path_buf() }
        },
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: run `make build` first, or set TESTS_BIN_DIR", path.display());
    path
}

/// A command of this project's program, without what of this process's environment would configure it.
#[must_use]
pub fn command_of(name: &str) -> Command {
    without_settings(program(name))
}

/// The same by a program that ends up as this one: a shell that sets limits, a tracer that detaches.
#[must_use]
pub fn command_under(name: &str, wrapper: &[String]) -> Command {
    let [first, rest @ ..] = wrapper else { return command_of(name) };
    let mut command = without_settings(first);
    command.args(rest).arg(program(name));
    command
}

fn without_settings(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HUNHE_") {
            command.env_remove(variable);
        }
    }
    command
}
