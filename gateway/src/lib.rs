//! The gateway, in the order of a reading's journey:
//!
//! - [`setup`]: configuration, registry, names of places
//! - [`mqtt`], [`retry`]: one broker connection, and when to try again
//! - [`intake`]: three MQTT sessions; nothing is acknowledged before it is in the journal
//! - [`record`]: what the journal's records hold
//! - [`decided`]: the log of decisions: its records, its reader, confirmations
//! - [`alerts`]: alerts, their log, and their delivery
//! - [`watermark`]: what an agent may forget
//! - [`decide`]: the thread that drives `hunhe-gateway-core`, its checkpoints and its recovery
//! - [`sinks`]: from the decided log to each database
//! - [`backup`]: a copy of the data folder, and back
//! - [`api`]: HTTP routes, queries, the live stream
//! - [`ops`]: commands, logs, heartbeats
//! - [`run`]: starts each step, in this order; [`demo`]: with a city and a broker around it
//!
//! A room imports only rooms above it in this list.

pub mod alerts;
pub mod api;
pub mod backup;
pub mod clock;
pub mod decide;
pub mod decided;
pub mod demo;
pub mod intake;
pub mod mqtt;
pub mod ops;
pub mod record;
pub mod retry;
pub mod run;
pub mod setup;
pub mod sinks;
pub mod watermark;
