//! An alert: one shape for the interface, the live stream, a webhook's body, an MQTT payload and the alert log, so that
//! whoever compares two of them compares like with like.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Bilingual, Instant};

/// How badly something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Somebody must act today.
    Major,
    /// Somebody must act now.
    Critical,
}

impl AlertSeverity {
    /// As in topics, labels and questions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition is met, and not yet for long enough.
    Pending,
    /// Raised.
    Firing,
    /// Over.
    Resolved,
}

impl AlertState {
    /// As in keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Whether an alert speaks of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertMode {
    /// Its sample was fresh.
    Live,
    /// It was found in old data.
    Retrospective,
}

impl AlertMode {
    /// As in keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Retrospective => "retrospective",
        }
    }
}

/// One alert as it stands after its newest change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// The same through all states, sixteen hex digits.
    pub id: String,
    /// Position of this change among all changes, rising. After a crash the same change may have another one.
    pub sequence: u64,
    /// Rule.
    pub rule: String,
    /// Its version.
    pub rule_version: u32,
    /// How badly something is wrong.
    pub severity: AlertSeverity,
    /// Where it stands.
    pub state: AlertState,
    /// Whether it was ever raised: tells a resolved alert from a pending one that went away.
    pub fired: bool,
    /// Whether it speaks of now.
    pub mode: AlertMode,
    /// Device, by pseudonym where it has one; absent for an alert about an agent.
    pub device: Option<String>,
    /// The agent that it is about, or that connects the device; `gateway` for an alert about the gateway itself.
    pub agent: String,
    /// The gateway's own output that it is about; absent for every other alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The device's class.
    pub class: Option<String>,
    /// Zone; absent where an agent's devices stand in several.
    pub zone: Option<String>,
    /// The zone's name.
    pub zone_name: Option<Bilingual>,
    /// District code; absent where an agent's devices stand in several.
    pub district: Option<String>,
    /// The district's name.
    pub district_name: Option<Bilingual>,
    /// Operator; `gateway` for an alert about the gateway itself.
    pub operator: String,
    /// The channel that the rule watches; absent for status bits and silence.
    pub channel: Option<String>,
    /// The value that made the change: of the channel, the status word, seconds of silence, or how many devices are
    /// silent; absent where the end of old data ended it.
    pub value: Option<f64>,
    /// The rule's threshold in the same unit; absent for bits and shares.
    pub threshold: Option<f64>,
    /// Unit of both, as the class writes it.
    pub unit: String,
    /// Time of the first sample that met the condition.
    pub since: Instant,
    /// Time of the sample that made this change.
    pub event_time: Instant,
    /// The gateway's clock when it was found.
    pub arrival_time: Instant,
    /// The rule's title.
    pub title: Bilingual,
    /// Where, what and how much, in one line.
    pub text: Bilingual,
}

impl Alert {
    /// The same for every attempt to deliver the same change, across restarts.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}-{}", self.id, self.state.name(), self.mode.name())
    }

    /// The id as the number that it is made of.
    pub(crate) fn number(&self) -> Option<u64> {
        u64::from_str_radix(&self.id, 16).ok()
    }

    /// Whether outputs hear of it: raises, and the end of what was raised.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        match self.state {
            AlertState::Pending => false,
            AlertState::Firing => true,
            AlertState::Resolved => self.fired,
        }
    }
}

/// Alerts by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertCounts {
    /// Of severity `critical`.
    pub critical: u64,
    /// Of severity `major`.
    pub major: u64,
    /// Of severity `warning`.
    pub warning: u64,
    /// Of severity `info`.
    pub info: u64,
}

impl AlertCounts {
    /// One more of that severity.
    pub fn count(&mut self, severity: AlertSeverity) {
        let slot = match severity {
            AlertSeverity::Critical => &mut self.critical,
            AlertSeverity::Major => &mut self.major,
            AlertSeverity::Warning => &mut self.warning,
            AlertSeverity::Info => &mut self.info,
        };
        *slot += 1;
    }
}

/// Alerts that fire, for a status line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FiringCounts {
    /// Live ones by severity.
    #[serde(flatten)]
    pub live: AlertCounts,
    /// Retrospective ones.
    pub retrospective: u64,
}

/// One page of alerts, newest change first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AlertPage {
    /// The alerts.
    pub items: Vec<Alert>,
    /// Pass as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// All that are firing and live, whatever was asked for.
    pub open: AlertCounts,
}

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Rule {
    /// Identifier.
    pub id: String,
    /// Version.
    pub version: u32,
    /// The class that it watches; absent where it is about agents.
    pub class: Option<String>,
    /// How badly something is wrong.
    pub severity: AlertSeverity,
    /// Title.
    pub title: Bilingual,
    /// Where the threshold comes from.
    pub source: String,
    /// The condition, as in the rule's file.
    #[schema(value_type = Object)]
    pub when: serde_json::Value,
    /// Seconds that the condition must hold before the alert fires.
    pub hold_s: u32,
    /// Seconds that it must be over before the alert resolves.
    pub clear_hold_s: u32,
}

/// Where alerts are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputStatus {
    /// Name in the configuration; `mqtt` for the broker.
    pub name: String,
    /// What kind it is.
    pub kind: OutputKind,
    /// What it is doing.
    pub state: OutputState,
    /// Since when it is stalled.
    pub stalled_since: Option<Instant>,
    /// Changes written and not yet passed by this output.
    pub lag: u64,
    /// Deliveries taken since start.
    pub delivered: u64,
    /// Deliveries refused for good since start.
    pub failed: u64,
    /// The newest failure in words, until a delivery succeeds.
    pub last_error: Option<String>,
}

/// Kinds of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// HTTP.
    Webhook,
    /// The broker.
    Mqtt,
}

/// What an output is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputState {
    /// Delivers as fast as alerts come.
    Running,
    /// Waits before the next attempt.
    Retrying,
    /// The receiver is not the one that was meant: tried at least each minute until somebody mends it.
    Held,
    /// Alerts wait for it, and none was delivered for longer than `alerts.stalled_after_s`.
    Stalled,
    /// Ended.
    Stopped,
}
