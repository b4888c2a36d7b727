//! Every decoder that faces outside or reads a disk, against mutated input: see [`hunhe_fuzz`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test may fail loudly, and its numbers are its own"
)]

mod checkpoint;
mod configuration;
mod cursor;
mod decided;
mod journal;
mod line_protocol;
mod outbox;
mod registry;
mod report;
mod topic;

use hunhe_fuzz::Target;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{
    alloc::System,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Where tests share a process, one at a time: the allocator counts for all.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn allocated() -> usize {
    ALLOCATOR.stats().bytes_allocated
}

/// A target without words and checksums.
fn target(name: &'static str, made: Vec<Vec<u8>>, allocated_max: usize) -> Target<'static> {
    Target { name, made, words: &[], mend: &|_| {}, allocated_max, allocated: &allocated }
}

fn seeds(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds").join(name)
}

/// A folder in memory where there is one: each input is a file for some targets.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Mutation must reach both sides, or the target shows nothing.
fn reached_both_sides(outcome: hunhe_fuzz::Outcome) {
    assert!(outcome.accepted > 0 && outcome.accepted < outcome.inputs, "{outcome:?}");
}
