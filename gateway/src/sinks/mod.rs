//! Where decisions go. Every sink reads the decided log in its own thread, at its own pace, with its own cursor, so that
//! one being down delays neither another nor the intake.
//!
//! A cursor is a cause: the journal record up to which all decisions are at the sink. After a crash a sink begins
//! at its cursor again and may write a last batch twice; each destination takes that as once (same series, same time).
//! The sink of record also counts what it wrote, by device and outbox, for the ledger: see [`Confirmation`].

pub mod embedded;
pub mod feed;
pub(crate) mod http;
pub mod influx;
pub mod line_protocol;
pub mod manners;
pub mod probe;
pub mod status;

use hunhe_gateway_core::event::Confirmed;
use hunhe_proto::id::Id;

/// What a sink did with one decided record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The journal record behind it.
    pub cause: u64,
    /// Whose samples.
    pub device: Id,
    /// Which outbox.
    pub boot: u32,
    /// What became of them.
    pub confirmed: Confirmed,
}
