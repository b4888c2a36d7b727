//! The ledger as it is answered: five counts, each counted on its own, and whether they close.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Instant;

/// Counts of samples. Nothing here is computed as a remainder but `unexplained`, which is what must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerTotals {
    /// Samples that devices took, by their own count.
    pub sampled: u64,
    /// Confirmed by the sink of record.
    pub stored: u64,
    /// Kept in quarantine with a reason.
    pub quarantined: u64,
    /// Given up by the edge or from quarantine, with a cause.
    pub declared_lost: u64,
    /// Of these, unexplained until an operator wrote them off.
    pub written_off: u64,
    /// Held by the edge, or journaled and not yet confirmed.
    pub outstanding: u64,
    /// In no class: a fault of the system.
    pub unexplained: u64,
    /// Samples that came again; in none of the counts above.
    pub duplicates: u64,
    /// Channel values in the accepted samples.
    pub readings: u64,
    /// True when `unexplained` is 0 for every device.
    pub closed: bool,
    /// Messages refused whole, by reason: none of their samples is in the counts above. Of the totals alone.
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

/// An operator's order to declare lost what is unexplained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOffOrder {
    /// Device by pseudonym.
    pub device: String,
    /// Why: 1 to 200 characters.
    pub reason: String,
    /// Who: 1 to 64 characters.
    pub by: String,
}

/// A write-off: part of the audit trail, which nothing takes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WriteOff {
    /// Its journal record.
    pub id: u64,
    /// When it was ordered.
    pub at: Instant,
    /// Device by pseudonym.
    pub device: String,
    /// Samples that were unexplained then. What is explained later leaves the ledger's `written_off`, not this.
    pub samples: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// One page of write-offs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WriteOffPage {
    /// The write-offs.
    pub items: Vec<WriteOff>,
    /// Pass as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// How many there ever were; the last 10,000 are listed.
    pub total: u64,
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
