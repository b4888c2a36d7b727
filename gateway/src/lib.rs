//! The gateway. In the order of a message's journey:
//!
//! - [`intake`]: three MQTT sessions; nothing is acknowledged before it is in the journal
//! - [`journal`]: the segmented log on disk
//! - [`record`]: what the journal's records hold
//! - [`lane`]: the thread that drives `hunhe-gateway-core`
//! - [`checkpoint`]: the lane's state on disk
//! - [`decided`]: what was decided, as a second log
//! - [`sinks`]: from there to the databases
//! - [`store`]: the embedded history
//! - [`watermark`]: back to the edge, what it may forget

pub mod checkpoint;
pub mod decided;
pub mod intake;
pub mod journal;
pub mod lane;
pub mod record;
pub mod sinks;
pub mod store;
pub mod watermark;
