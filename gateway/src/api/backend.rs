//! What the HTTP interface asks of the gateway, and nothing more: the interface is tested without a gateway, and the
//! gateway without a socket.
//!
//! An implementation answers from snapshots and the store. It bounds what it returns by the limits in the question;
//! the routes have already refused questions that are malformed or too large.

use std::future::Future;
use std::pin::Pin;

use super::metrics::Metric;
use super::problem::ApiError;
use super::types::{
    AlertMode, AlertPage, AlertSeverity, Class, Device, DevicePage, District, Ledger, LedgerBy,
    QuarantineKind, QuarantinePage, QuarantineRecord, Redriven, Rule, Series, Status, WriteOff,
    WriteOffOrder, WriteOffPage, Zone,
};
use crate::alerts::list;

/// A backup as it is taken, piece by piece; dropped, it ends.
pub type BackupStream = tokio::sync::mpsc::Receiver<bytes::Bytes>;

/// A future answer, boxed so that the backend can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// Which devices: every filter that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceQuery {
    /// Class name.
    pub class: Option<String>,
    /// District code.
    pub district: Option<String>,
    /// Zone id.
    pub zone: Option<String>,
    /// Part of the device id, its zone or its agent, ignoring case.
    pub text: Option<String>,
    /// Only devices whose id sorts after this.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Which part of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerQuery {
    /// How to split it; `None`: totals alone.
    pub by: Option<LedgerBy>,
    /// Only keys that sort after this.
    pub after: Option<String>,
    /// At most so many rows.
    pub limit: usize,
}

/// Which stretch of which series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    /// Device id.
    pub device: String,
    /// Channel name.
    pub channel: String,
    /// First instant, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// First instant after the stretch; above `from_ms`.
    pub to_ms: i64,
    /// Seconds a step; `None`: the samples themselves. Steps begin at multiples of themselves since 1970.
    pub step_s: Option<u32>,
    /// Return at most this and one more: the one more shows that there were too many.
    pub limit_points: usize,
}

/// Which quarantine records: every filter that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuarantineQuery {
    /// What they are about.
    pub kind: Option<QuarantineKind>,
    /// Reason.
    pub reason: Option<String>,
    /// Device by pseudonym.
    pub device: Option<String>,
    /// Arrived at or after, milliseconds since 1970 UTC.
    pub from_ms: Option<i64>,
    /// Arrived before, milliseconds since 1970 UTC.
    pub to_ms: Option<i64>,
    /// Only records behind this one, as a page's `next` names it.
    pub before: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Which write-offs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOffQuery {
    /// Only those with a lower id.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// Which alerts by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertStateQuery {
    /// Pending and firing ones.
    Open,
    /// Those that are over.
    Resolved,
    /// Both.
    #[default]
    All,
}

/// Which alerts: every filter that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertQuery {
    /// By state.
    pub state: AlertStateQuery,
    /// Live or retrospective.
    pub mode: Option<AlertMode>,
    /// Severity.
    pub severity: Option<AlertSeverity>,
    /// District code.
    pub district: Option<String>,
    /// Operator.
    pub operator: Option<String>,
    /// Only alerts whose newest change is before this sequence.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl From<AlertQuery> for list::Filter {
    fn from(query: AlertQuery) -> Self {
        let AlertQuery { state, mode, severity, district, operator, before, limit } = query;
        let phases = match state {
            AlertStateQuery::Open => list::Phases::Open,
            AlertStateQuery::Resolved => list::Phases::Resolved,
            AlertStateQuery::All => list::Phases::All,
        };
        let (mode, severity) = (mode.map(Into::into), severity.map(Into::into));
        Self { phases, mode, severity, district, operator, before, limit }
    }
}

/// The gateway, as the interface sees it. What does not exist is answered with [`ApiError::NotFound`], what cannot be
/// answered now with [`ApiError::Unavailable`].
pub trait Backend: Send + Sync + 'static {
    /// The gateway's clock, milliseconds since 1970 UTC: the default end of a series.
    fn now_ms(&self) -> i64;
    /// The gateway at this moment.
    fn status(&self) -> Answer<'_, Status>;
    /// The ledger.
    fn ledger(&self, query: LedgerQuery) -> Answer<'_, Ledger>;
    /// Declares lost what is unexplained of a device; [`ApiError::Conflict`] where nothing is.
    fn write_off(&self, order: WriteOffOrder) -> Answer<'_, WriteOff>;
    /// What was written off, newest first.
    fn write_offs(&self, query: WriteOffQuery) -> Answer<'_, WriteOffPage>;
    /// Device classes by name.
    fn classes(&self) -> Answer<'_, Vec<Class>>;
    /// Districts by code.
    fn districts(&self) -> Answer<'_, Vec<District>>;
    /// Zones by id.
    fn zones(&self) -> Answer<'_, Vec<Zone>>;
    /// Devices by id.
    fn devices(&self, query: DeviceQuery) -> Answer<'_, DevicePage>;
    /// One device.
    fn device(&self, id: String) -> Answer<'_, Device>;
    /// One channel's values.
    fn series(&self, query: SeriesQuery) -> Answer<'_, Series>;
    /// Quarantine, newest first.
    fn quarantine(&self, query: QuarantineQuery) -> Answer<'_, QuarantinePage>;
    /// One quarantine record, with its payload if that is asked for.
    fn quarantined(&self, id: String, payload: bool) -> Answer<'_, QuarantineRecord>;
    /// Sends a quarantined record through validation again. Asking twice is no error as long as the record is there.
    fn redrive(&self, id: String) -> Answer<'_, Redriven>;
    /// Alerts, newest change first.
    fn alerts(&self, query: AlertQuery) -> Answer<'_, AlertPage>;
    /// The rules that make alerts.
    fn rules(&self) -> Answer<'_, Vec<Rule>>;
    /// A backup of everything; [`ApiError::Conflict`] while one is being taken.
    fn backup(&self) -> Answer<'_, BackupStream>;
    /// Counters and gauges for `/metrics`.
    fn metrics(&self) -> Answer<'_, Vec<Metric>>;
    /// `Ok` when samples sent now would be journaled; otherwise [`ApiError::Unavailable`] with what is missing.
    fn ready(&self) -> Answer<'_, ()>;
}
