//! The Linux edge agent: what `hunhe-edge-core` decides, done with real clocks, disks and sockets, and the simulator
//! of a whole fleet.
//!
//! In the order of a sample's way: [`drivers`] read it, [`spool`] makes it durable, [`run`] asks the core what to do,
//! [`report`] encodes what is to be sent at the moment it is sent, [`mqtt`] carries it. [`fleet`] runs many agents in
//! one process, and a [`scenario`] says what goes wrong in it; [`config`] says what an agent is, [`formats`] which outboxes
//! it leaves alone.

pub mod classes;
pub mod clock;
pub mod config;
pub mod drivers;
pub mod fleet;
pub mod formats;
pub mod mqtt;
pub mod report;
pub mod run;
pub mod samples;
pub mod scenario;
pub mod spool;
pub mod stats;
#[cfg(test)]
mod testing;
