//! Every decision an edge agent takes, without clock, disk, socket or heap.
//!
//! In the order of a sample's way:
//! - [`sample`]: when a device is sampled
//! - [`batch`]: when its samples become a report, and at which moment of the day
//! - [`outbox`]: what it still owes, what it may forget, what it sends again, what it gives up
//! - [`link`]: when to connect, how long to back off, when a sleeping radio may sleep again
//! - [`agent`]: the above for all devices that share one connection
//!
//! A shell (the `hunhe-edge` program, or firmware) brings time, storage and a connection: it reports what happened and
//! does what [`agent::Agent::poll`] asks for.
#![no_std]

pub mod agent;
pub mod batch;
pub mod link;
pub mod outbox;
pub mod sample;

/// The two clocks that decisions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps: for waiting, retrying and timing out.
    pub steady_ms: u64,
    /// Milliseconds since 1970 of the clock that stamps samples; it may step, or run faster in a simulation.
    pub event_ms: i64,
}
