//! The deterministic simulator: a small city on a virtual clock, with everything going wrong that a seed draws.
//!
//! What runs is the real code: the agents' core, run loop and outbox; the gateway's recovery, journal, committer, lane,
//! decided log, alert log, checkpoints, cursors and the feeds of its sinks. What is simulated: disks ([`hunhe_disk`]), clocks,
//! the network and the broker ([`broker`]), the database ([`database`]), and the loops of threads around the real steps
//! ([`edge`], [`gateway`], [`sink`], [`world`]). What is not in it: sockets, HTTP, the embedded store, outputs of alerts.
//!
//! Promises: a seed is a history, the same in every run; each has at least five crashes and three kinds of fault, which is counted
//! as they happen, made up for where the draw has too few ([`plan`]), and a failure where it is not so; a start of an agent finds
//! all that its outbox had called durable ([`oracle`]); when the last fault has stopped everything drains within 60 virtual
//! seconds, two reports of the slowest device and, where an agent was left without one of its devices, the ten minutes after
//! which it tells its losses again; and then the oracle finds nothing acknowledged lost, nothing stored twice, nothing invented,
//! and a ledger that closes.

pub mod broker;
pub mod database;
pub mod edge;
pub mod fleet;
pub mod gateway;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod sink;
pub mod trace;
pub mod world;
