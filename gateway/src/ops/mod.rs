//! What operators use beside the page: commands, logs, heartbeats, and how many files each part may open.

pub mod cli;
pub(crate) mod descriptors;
pub mod heartbeat;
pub mod observe;
