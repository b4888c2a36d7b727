//! The answers of the HTTP interface, as its callers read them.
//!
//! Shapes are a contract: a field is added, never renamed. Instants in answers about the present are RFC 3339 in UTC
//! with milliseconds ([`Instant`]); the columns of a series are integer milliseconds, since there are thousands.
//! A household device appears by its pseudonym alone; nothing here carries a serial number or an address.

mod alert;
mod ledger;
mod live;
mod quarantine;
mod series;

use std::collections::BTreeMap;

use hunhe_proto::class::Text;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub use alert::{
    Alert, AlertCounts, AlertMode, AlertPage, AlertSeverity, AlertState, FiringCounts, OutputKind,
    OutputState, OutputStatus, Rule, encode_alert,
};
pub use ledger::{Ledger, LedgerBy, LedgerRow, LedgerTotals, Retired, WriteOff, WriteOffOrder, WriteOffPage};
pub use live::{Latest, Samples};
pub use quarantine::{
    Breach, QuarantineKind, QuarantinePage, QuarantineRecord, QuarantineStatus, Redriven, RefusedValue,
};
pub use series::{Series, SeriesKind};

/// An instant in milliseconds since 1970-01-01 UTC, written as RFC 3339 with milliseconds: `2026-01-02T03:04:05.678Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05.678Z")]
pub struct Instant(pub i64);

impl Serialize for Instant {
    /// Instants outside the years −9999 to 9999 are written as `null`: no calendar has a name for them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => serializer.collect_str(&format_args!("{at:.3}")),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// A text in both languages of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bilingual {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

impl From<&Text> for Bilingual {
    fn from(text: &Text) -> Self {
        Self { zh: text.zh.clone(), en: text.en.clone() }
    }
}

/// The gateway at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// Version of the gateway.
    pub version: String,
    /// When this process began.
    pub started_at: Instant,
    /// Seconds since then.
    pub uptime_s: u64,
    /// The gateway's clock (event time, where a demonstration runs faster).
    pub now: Instant,
    /// Channel values accepted a second, over the last few seconds.
    pub readings_per_s: f64,
    /// Samples received since the ledger began, duplicates excluded.
    pub samples_total: u64,
    /// Messages received since start.
    pub messages_total: u64,
    /// Devices in the registry.
    pub devices_known: u64,
    /// Devices whose agent holds a connection.
    pub devices_online: u64,
    /// Devices that reported within the interval that their class promises.
    pub devices_reporting: u64,
    /// What each lane has in hand.
    pub lanes: Vec<LaneStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// The sinks, each with its own lag.
    pub sinks: Vec<SinkStatus>,
    /// The ledger over all devices.
    pub ledger: LedgerTotals,
    /// Samples and messages refused since the ledger began, by reason.
    pub quarantined_by_reason: BTreeMap<String, u64>,
    /// How full the quarantine is.
    pub quarantine: QuarantineStatus,
    /// Stored samples that the embedded store has dropped since.
    pub retired: Retired,
    /// Alerts that fire.
    pub alerts: FiringCounts,
    /// Where alerts are delivered, each with its own lag.
    pub outputs: Vec<OutputStatus>,
    /// Devices that send more than their share, the worst ten since start.
    pub over_share: Vec<OverShare>,
}

/// A device of which messages were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OverShare {
    /// The device, by its pseudonym where it has one.
    pub device: String,
    /// Messages not taken since start, at most.
    pub messages: u64,
}

/// One lane: a thread that owns its devices.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LaneStatus {
    /// Number of the lane, from 0.
    pub lane: u32,
    /// Devices that it owns.
    pub devices: u64,
    /// Journal records waiting for it.
    pub queued_records: u64,
    /// Journal position that it has applied.
    pub applied: u64,
}

/// The journal's extent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct JournalStatus {
    /// Bytes on disk.
    pub bytes: u64,
    /// Position after the newest record appended.
    pub head: u64,
    /// Position up to which records survive a crash.
    pub durable: u64,
}

/// One sink's progress.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SinkStatus {
    /// Name in the configuration.
    pub name: String,
    /// What it is doing.
    pub state: SinkState,
    /// Whether requests go to its database.
    pub circuit: Circuit,
    /// Records decided and not yet written by this sink.
    pub lag_records: u64,
    /// Records written that its database might still lose if it were killed now.
    pub unsettled_records: u64,
    /// Age of the oldest of them in seconds; 0 when there is none.
    pub lag_s: f64,
    /// Position up to which all is written for good.
    pub cursor: u64,
    /// Requests made to its database, repeats included.
    pub requests: u64,
    /// Repeats after no answer, or one that asked for patience.
    pub retries: u64,
    /// How often it wrote again what its database may have lost in a restart.
    pub rewinds: u64,
    /// Lines that its database refused or skipped; they are in quarantine.
    pub dead_letters: u64,
    /// The newest failure in words, until a write succeeds.
    pub last_error: Option<String>,
}

/// Whether a sink's requests go to its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// As there is something to write.
    Closed,
    /// None go: the last one failed, and the wait after it is not over.
    Open,
    /// The wait is over, and the attempt that decides is on its way.
    HalfOpen,
}

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// Confirms as fast as samples come.
    Running,
    /// Behind, and catching up.
    Draining,
    /// Waits before the next attempt.
    Retrying,
    /// Stopped until its configuration or its disk is repaired.
    Stopped,
}

/// A device class: what its devices measure and how often.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Class {
    /// Name, also the measurement's name in the database.
    pub name: String,
    /// Version of the class's definition: the newest that is installed.
    pub version: u32,
    /// Older versions that devices may still follow, newest first.
    pub older_versions: Vec<u32>,
    /// Title.
    pub title: Bilingual,
    /// Seconds between two samples.
    pub interval_s: u32,
    /// Channels in the order of their numbers.
    pub channels: Vec<Channel>,
    /// Registered devices.
    pub devices: u64,
    /// Of these, devices that reported in time.
    pub reporting: u64,
}

/// One channel of a class.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Channel {
    /// Number on the wire.
    pub id: u32,
    /// Name, also the field's name in the database.
    pub name: String,
    /// Title.
    pub title: Bilingual,
    /// Unit as written beside a figure; empty for a bare number.
    pub unit: String,
    /// `gauge`, `register`, `angle`, `state`, `bits`, `position` or `identity`.
    pub kind: String,
    /// Lowest plausible value.
    pub min: Option<f64>,
    /// Highest plausible value.
    pub max: Option<f64>,
    /// Decimal places that mean something.
    pub decimals: u8,
    /// Where its range comes from.
    pub source: String,
}

/// A district of the city.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct District {
    /// Administrative division code, six digits.
    pub code: String,
    /// Name.
    pub name: Bilingual,
    /// Registered devices.
    pub devices: u64,
    /// Of these, devices that reported in time.
    pub reporting: u64,
    /// Of these, devices that reported once and are offline now.
    pub silent: u64,
    /// Alerts that fire here, live ones.
    pub alerts: AlertCounts,
    /// Values accepted from its devices since this process began.
    pub readings: u64,
}

/// A zone: a metered area, part of a gas network, a gas station, a farm.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Zone {
    /// Identifier.
    pub id: String,
    /// `dma`, `gas_pressure`, `gas_station`, `weather`, `drainage`, `farm` or `hatchery`; empty where the city does not say.
    pub kind: String,
    /// Name.
    pub name: Bilingual,
    /// Code of its district.
    pub district: String,
    /// Registered devices.
    pub devices: u64,
    /// Of these, devices that reported in time.
    pub reporting: u64,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Device {
    /// Identifier; for a household its pseudonym.
    pub id: String,
    /// Class.
    pub class: String,
    /// District code.
    pub district: String,
    /// Zone, where it belongs to one.
    pub zone: Option<String>,
    /// Operator.
    pub operator: String,
    /// The agent that connects it.
    pub agent: String,
    /// Where it stands; absent for households.
    pub position: Option<Position>,
    /// Arrival of its newest message.
    pub last_seen: Option<Instant>,
    /// Time of its newest sample.
    pub last_event_time: Option<Instant>,
    /// Whether it reports.
    pub state: DeviceState,
    /// Seconds between two samples as registered.
    pub interval_s: u32,
    /// Seconds that a report spans and may be dispersed over: a value older than this is old.
    pub report_s: u32,
    /// The device's clock minus the gateway's, seconds, when last compared.
    pub clock_offset_s: Option<f64>,
    /// Newest value of each channel.
    pub latest: Vec<LatestValue>,
    /// The ledger of this device.
    pub ledger: LedgerTotals,
}

/// Where a device stands (WGS-84).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Position {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// Whether a device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Within its class's interval.
    Reporting,
    /// Past its interval, within what its class allows for a sleeping radio.
    Late,
    /// Past that.
    Silent,
    /// Registered, and nothing came yet.
    Never,
}

/// The newest value of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LatestValue {
    /// Channel name.
    pub channel: String,
    /// Title of the channel.
    pub name: Bilingual,
    /// Unit.
    pub unit: String,
    /// Value; `null` where the sample lacked the channel.
    pub value: Option<f64>,
    /// Quality: 0 raw, 1 valid, 2 suspect, 3 estimated, 4 edited, 5 missing, 6 final.
    pub quality: u8,
    /// Time of the sample.
    pub time: Instant,
}

/// One page of devices, ordered by id.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DevicePage {
    /// The devices.
    pub items: Vec<Device>,
    /// Pass as `after` for the next page; absent on the last.
    pub next: Option<String>,
    /// How many devices match in all.
    pub total: u64,
}
