//! What sinks report to the ledger.

use hunhe_gateway_core::{event::Confirmed, registry::DeviceIx};
use hunhe_proto::id::Id;
use hunhe_store::Discard;
use std::sync::Arc;

/// What a sink did with one decided record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The journal record behind it.
    pub source_lsn: u64,
    /// Whose samples.
    pub device: Id,
    /// Its index in the registry, where the sink knows it.
    pub index: Option<DeviceIx>,
    /// Which outbox.
    pub boot: u32,
    /// What became of them.
    pub confirmed: Confirmed,
}

/// The way from sinks to the ledger. A report may block while too many wait; one that comes after the end of the thread that
/// keeps the ledger is dropped: it is repeated after the next start.
pub trait Confirmations: std::fmt::Debug + Send + Sync {
    /// A sink is done with all decisions of journal records up to `through`, and this is what became of their samples.
    fn confirmed(&self, sink: &Arc<str>, through: u64, rows: Vec<Confirmation>);

    /// Quarantined samples were discarded, for good.
    fn discarded(&self, discards: Vec<Discard>);

    /// Discards up to this number are counted in every checkpoint.
    fn discards_counted(&self) -> u64;

    /// The last journal record whose decisions are visible.
    fn decided_through(&self) -> u64;
}
