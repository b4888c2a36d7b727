//! An alert as receivers get it: one shape for the interface, the live stream, a webhook's body and an MQTT payload, so that
//! two of them can be compared byte for byte. It is mapped from [`Alert`](crate::alerts::Alert); a change there
//! changes nothing here.

use bytes::Bytes;
use hunhe_gateway_core::{
    device::alert::{Mode, Phase},
    rule::Severity,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Bilingual, Instant};
use crate::alerts::{self, deliver::status, list};

/// How badly something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

impl From<Severity> for AlertSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Major => Self::Major,
            Severity::Critical => Self::Critical,
        }
    }
}

impl From<AlertSeverity> for Severity {
    fn from(severity: AlertSeverity) -> Self {
        match severity {
            AlertSeverity::Info => Self::Info,
            AlertSeverity::Warning => Self::Warning,
            AlertSeverity::Major => Self::Major,
            AlertSeverity::Critical => Self::Critical,
        }
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition is met, and not yet for long enough.
    Pending,
    /// Raised.
    Firing,
    /// Over.
    Resolved,
}

impl From<Phase> for AlertState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Firing => Self::Firing,
            Phase::Resolved => Self::Resolved,
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

impl From<Mode> for AlertMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self::Live,
            Mode::Retrospective => Self::Retrospective,
        }
    }
}

impl From<AlertMode> for Mode {
    fn from(mode: AlertMode) -> Self {
        match mode {
            AlertMode::Live => Self::Live,
            AlertMode::Retrospective => Self::Retrospective,
        }
    }
}

/// One alert as it stands after its newest change.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
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

impl From<&alerts::Alert> for Alert {
    fn from(alert: &alerts::Alert) -> Self {
        Self {
            id: format!("{:016x}", alert.id),
            sequence: alert.sequence,
            rule: alert.rule.clone(),
            rule_version: alert.rule_version,
            severity: alert.severity.into(),
            state: alert.phase.into(),
            fired: alert.fired,
            mode: alert.mode.into(),
            device: alert.device.clone(),
            agent: alert.agent.clone(),
            output: alert.output.clone(),
            class: alert.class.clone(),
            zone: alert.zone.clone(),
            zone_name: alert.zone_name.as_ref().map(Bilingual::from),
            district: alert.district.clone(),
            district_name: alert.district_name.as_ref().map(Bilingual::from),
            operator: alert.operator.clone(),
            channel: alert.channel.clone(),
            value: alert.value,
            threshold: alert.threshold,
            unit: alert.unit.clone(),
            since: Instant(alert.since_ms),
            event_time: Instant(alert.event_ms),
            arrival_time: Instant(alert.arrival_ms),
            title: (&alert.title).into(),
            text: (&alert.text).into(),
        }
    }
}

/// An alert as its receivers get it: the body of a webhook's request, the payload of an MQTT message, the data of a live
/// event. The same alert gives the same bytes.
#[must_use]
pub fn encode_alert(alert: &alerts::Alert) -> Bytes {
    // Texts and numbers always serialise.
    serde_json::to_vec(&Alert::from(alert)).unwrap_or_default().into()
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

impl From<list::BySeverity> for AlertCounts {
    fn from(counts: list::BySeverity) -> Self {
        let list::BySeverity { critical, major, warning, info } = counts;
        Self { critical, major, warning, info }
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

impl From<list::Firing> for FiringCounts {
    fn from(firing: list::Firing) -> Self {
        Self { live: firing.live.into(), retrospective: firing.retrospective }
    }
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

impl From<&list::Page> for AlertPage {
    fn from(page: &list::Page) -> Self {
        let items = page.alerts.iter().map(|alert| alert.as_ref().into()).collect();
        Self { items, next: page.next, open: page.firing.into() }
    }
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

impl From<status::Snapshot> for OutputStatus {
    fn from(output: status::Snapshot) -> Self {
        let stalled_since = output.stalled_since_ms.map(Instant);
        Self {
            name: output.name,
            kind: output.kind.into(),
            state: if stalled_since.is_some() { OutputState::Stalled } else { output.state.into() },
            stalled_since,
            lag: output.lag_records,
            delivered: output.delivered,
            failed: output.failed,
            last_error: output.last_error,
        }
    }
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

impl From<status::Kind> for OutputKind {
    fn from(kind: status::Kind) -> Self {
        match kind {
            status::Kind::Webhook => Self::Webhook,
            status::Kind::Mqtt => Self::Mqtt,
        }
    }
}

/// What an output is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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

impl From<status::State> for OutputState {
    fn from(state: status::State) -> Self {
        match state {
            status::State::Running => Self::Running,
            status::State::Retrying => Self::Retrying,
            status::State::Held => Self::Held,
            status::State::Stopped => Self::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::alert::tests::{bare, full};

    fn encoded(alert: &alerts::Alert) -> String {
        String::from_utf8(encode_alert(alert).to_vec()).unwrap()
    }

    /// The contract with receivers: names, order, and what stands in place of a value that is absent.
    #[test]
    fn receivers_get_these_bytes() {
        assert_eq!(
            encoded(&full()),
            r#"{"id":"00a1b2c3d4000009","sequence":9,"rule":"station_ch4_high","rule_version":3,"severity":"critical","#
                .to_owned()
                + r#""state":"firing","fired":true,"mode":"live","device":"gas-leak-0001","agent":"agent-0","#
                + r#""output":"duty","class":"gas_leak","zone":"zone-1","zone_name":{"zh":"1 号分区","en":"DMA 1"},"#
                + r#""district":"210106","district_name":{"zh":"铁西区","en":"Tiexi"},"operator":"operator-1","#
                + r#""channel":"ch4","value":57.25,"threshold":50.0,"unit":"%{LEL}","#
                + r#""since":"2026-01-02T03:04:05.678Z","event_time":"1969-12-31T23:59:59.999Z","#
                + r#""arrival_time":"2026-01-02T03:04:05.798Z","#
                + r#""title":{"zh":"站内甲烷高报","en":"Station methane, high alarm"},"#
                + r#""text":{"zh":"甲烷 57.25 %LEL ≥ 50","en":"methane 57.25 %LEL ≥ 50"}}"#
        );
        let bare = encoded(&bare());
        for absent in
            ["device", "class", "zone", "zone_name", "district", "district_name", "channel", "value"]
        {
            assert!(bare.contains(&format!(r#""{absent}":null"#)), "{absent}: {bare}");
        }
        assert!(!bare.contains("output"), "{bare}");
        assert!(bare.contains(r#""state":"resolved","fired":true,"mode":"retrospective""#), "{bare}");
    }

    #[test]
    fn a_key_and_a_topic_use_the_words_of_the_body() {
        for severity in Severity::ALL {
            let alert = alerts::Alert { severity, ..full() };
            assert!(encoded(&alert).contains(&format!(r#""severity":"{}""#, severity.name())));
        }
        for phase in [Phase::Pending, Phase::Firing, Phase::Resolved] {
            for mode in [Mode::Live, Mode::Retrospective] {
                let alert = alerts::Alert { phase, mode, ..full() };
                let shown = serde_json::to_value(Alert::from(&alert)).unwrap();
                let part = |name: &str| shown[name].as_str().unwrap().to_owned();
                let key = format!("{}-{}-{}", part("id"), part("state"), part("mode"));
                assert_eq!(alert.idempotency_key(), key);
            }
        }
    }
}
