//! The Linux edge agent: what `hunhe-edge-core` decides, done with real clocks, disks and sockets.
//!
//! In the order of a sample's way: [`drivers`] read it, [`spool`] makes it durable, [`run`] asks the core what to do,
//! [`report`] encodes what is to be sent at the moment it is sent, [`mqtt`] carries it. [`config`] says what an agent
//! is, [`formats`] which outboxes it leaves alone.
//!
//! Deliberately absent: the simulator. Models of devices, their faults, and whole fleets are in `hunhe-fleet`, which
//! builds on this crate; the program links it under its feature `simulate` alone.

pub mod classes;
pub mod clock;
pub mod config;
pub mod drivers;
pub mod formats;
pub mod mqtt;
pub mod report;
pub mod run;
pub mod samples;
pub mod spool;
pub mod stats;
#[cfg(test)]
mod testing;
