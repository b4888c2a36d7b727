//! The ledger as it is answered: five counts, each counted on its own, and whether they close.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Counts of samples. Nothing here is computed as a remainder but `unexplained`, which is what must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerTotals {
    /// Samples that devices say they took.
    pub sampled: u64,
    /// Confirmed by the sink of record.
    pub stored: u64,
    /// Kept in quarantine with a reason.
    pub quarantined: u64,
    /// Given up by the edge or from quarantine, with a cause.
    pub declared_lost: u64,
    /// Held by the edge, or journaled and not yet confirmed.
    pub outstanding: u64,
    /// In no class: a fault of the system.
    pub unexplained: u64,
    /// Samples that came again; in none of the counts above.
    pub duplicates: u64,
    /// Channel values in the stored samples.
    pub readings: u64,
    /// True when `unexplained` is 0 for every device.
    pub closed: bool,
    /// Messages that no device could be charged with, by reason.
    pub messages_refused: BTreeMap<String, u64>,
}

/// Samples that are counted as stored, and that the embedded store has dropped since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Retired {
    /// Older than `embedded.retention`.
    pub expired: u64,
    /// Dropped sooner, at `embedded.limit_bytes`.
    pub oversize: u64,
}

/// By what the ledger is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerBy {
    /// One row a device.
    Device,
    /// One row an agent.
    Agent,
    /// One row an operator.
    Operator,
    /// One row a zone.
    Zone,
    /// One row a district.
    District,
    /// One row a class.
    Class,
}

/// One part of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerRow {
    /// Device, agent, operator, zone, district or class; empty for devices that have none.
    pub key: String,
    /// Its counts.
    #[serde(flatten)]
    pub totals: LedgerTotals,
}

/// The ledger, and its parts when asked for with `by`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ledger {
    /// Over all devices.
    pub totals: LedgerTotals,
    /// Of the samples that the embedded store was given, those that it holds no more.
    pub retired: Retired,
    /// By what `rows` are split.
    pub by: Option<LedgerBy>,
    /// The parts, ordered by key; empty without `by`.
    pub rows: Vec<LedgerRow>,
    /// Pass as `after` for the next rows; absent on the last page and without `by`.
    pub next: Option<String>,
}
