//! The gateway. In the order of a message's journey: intake, [`journal`], lane (in `hunhe-gateway-core`), [`decided`], [`sinks`].

pub mod decided;
pub mod journal;
pub mod sinks;
