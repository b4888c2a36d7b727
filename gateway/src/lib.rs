//! The gateway. In the order of a message's journey:
//!
//! - [`cli`], [`config`], [`enrol`]: what the operator wants, and who may report what
//! - [`intake`]: three MQTT sessions; nothing is acknowledged before it is in the journal
//! - [`journal`]: the segmented log on disk
//! - [`record`]: what the journal's records hold
//! - [`lane`]: the thread that drives `hunhe-gateway-core`
//! - [`checkpoint`]: the lane's state on disk
//! - [`decided`]: what was decided, as a second log
//! - [`sinks`], [`store`]: from there to the databases
//! - [`alerts`], [`notify`]: what is wrong, as a third log, and from there to who should hear of it
//! - [`watermark`]: back to the edge, what it may forget
//! - [`api`], [`answers`]: what people and programs ask
//! - [`observe`], [`heartbeat`]: what the gateway says of itself
//! - [`formats`]: what of it a newer Hunhe wrote, which is refused
//! - [`descriptors`]: who may have how many files open
//! - [`recover`]: what a start makes of what is on disk; [`backup`]: a copy of that, and back
//! - [`run`]: all of it put together; [`demo`]: with a city and a broker around it

pub mod alerts;
pub mod answers;
pub mod api;
pub mod backup;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decided;
pub mod demo;
mod descriptors;
pub mod enrol;
pub mod formats;
pub mod heartbeat;
pub mod intake;
pub mod lane;
pub mod notify;
pub mod observe;
pub mod places;
pub mod record;
pub mod recover;
pub mod run;
pub mod sinks;
pub mod watermark;
