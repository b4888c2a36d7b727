//! An alert as the gateway knows it, after one change of it. Disk ([`super::log`]) and interface (`api::types`) each have a
//! form of their own that is mapped from this one.

use hunhe_gateway_core::{
    device::alert::{Mode, Phase},
    rule::Severity,
};
use hunhe_proto::class::Text;

/// One alert as it stands after its newest change.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The same through all phases.
    pub id: u64,
    /// The change's record in the alert log. After a crash the same change may have another one.
    pub sequence: u64,
    /// Rule.
    pub rule: String,
    /// Its version.
    pub rule_version: u32,
    /// How badly something is wrong.
    pub severity: Severity,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it was ever raised: distinguishes a resolved alert from a pending one that went away.
    pub fired: bool,
    /// Whether it speaks of now.
    pub mode: Mode,
    /// Device, by pseudonym where it has one; none for an alert about an agent.
    pub device: Option<String>,
    /// The agent that it is about, or that connects the device; `gateway` for an alert about the gateway itself.
    pub agent: String,
    /// The gateway's own output that it is about.
    pub output: Option<String>,
    /// The device's class.
    pub class: Option<String>,
    /// Zone; none where an agent's devices stand in several.
    pub zone: Option<String>,
    /// The zone's name.
    pub zone_name: Option<Text>,
    /// District code; none where an agent's devices stand in several.
    pub district: Option<String>,
    /// The district's name.
    pub district_name: Option<Text>,
    /// Operator; `gateway` for an alert about the gateway itself.
    pub operator: String,
    /// The channel that the rule watches; none for status bits and silence.
    pub channel: Option<String>,
    /// The value that made the change: of the channel, the status word, seconds of silence, or how many devices are
    /// silent; none where the end of old data ended it.
    pub value: Option<f64>,
    /// The rule's threshold in the same unit; none for bits and shares.
    pub threshold: Option<f64>,
    /// Unit of both, as the class writes it.
    pub unit: String,
    /// Time of the first sample that met the condition, milliseconds since 1970.
    pub since_ms: i64,
    /// Time of the sample that made this change, milliseconds since 1970.
    pub event_ms: i64,
    /// The gateway's clock when it was found, milliseconds since 1970.
    pub arrival_ms: i64,
    /// The rule's title.
    pub title: Text,
    /// Where, what and how much, in one line.
    pub text: Text,
}

impl Alert {
    /// The same for every attempt to deliver the same change, across restarts.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{:016x}-{}-{}", self.id, phase_name(self.phase), mode_name(self.mode))
    }

    /// Whether outputs deliver it: raises, and the end of what was raised.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        match self.phase {
            Phase::Pending => false,
            Phase::Firing => true,
            Phase::Resolved => self.fired,
        }
    }
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Firing => "firing",
        Phase::Resolved => "resolved",
    }
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Retrospective => "retrospective",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn text(zh: &str, en: &str) -> Text {
        Text { zh: zh.into(), en: en.into() }
    }

    /// An alert with every field set.
    pub(crate) fn full() -> Alert {
        let owned = |text: &str| Some(text.to_owned());
        Alert {
            id: 0x00a1_b2c3_d400_0009,
            sequence: 9,
            rule: "station_ch4_high".into(),
            rule_version: 3,
            severity: Severity::Critical,
            phase: Phase::Firing,
            fired: true,
            mode: Mode::Live,
            device: owned("gas-leak-0001"),
            agent: "agent-0".into(),
            output: owned("duty"),
            class: owned("gas_leak"),
            zone: owned("zone-1"),
            zone_name: Some(text("1 号分区", "DMA 1")),
            district: owned("210106"),
            district_name: Some(text("铁西区", "Tiexi")),
            operator: "operator-1".into(),
            channel: owned("ch4"),
            value: Some(57.25),
            threshold: Some(50.0),
            unit: "%{LEL}".into(),
            since_ms: 1_767_323_045_678,
            event_ms: -1,
            arrival_ms: 1_767_323_045_798,
            title: text("站内甲烷高报", "Station methane, high alarm"),
            text: text("甲烷 57.25 %LEL ≥ 50", "methane 57.25 %LEL ≥ 50"),
        }
    }

    /// A change about an agent: nothing is set that need not be.
    pub(crate) fn bare() -> Alert {
        Alert {
            severity: Severity::Info,
            phase: Phase::Resolved,
            mode: Mode::Retrospective,
            device: None,
            output: None,
            class: None,
            zone: None,
            zone_name: None,
            district: None,
            district_name: None,
            channel: None,
            value: None,
            threshold: None,
            unit: String::new(),
            ..full()
        }
    }

    #[test]
    fn a_key_names_alert_phase_and_mode_in_words_that_receivers_know() {
        assert_eq!(full().idempotency_key(), "00a1b2c3d4000009-firing-live");
        assert_eq!(bare().idempotency_key(), "00a1b2c3d4000009-resolved-retrospective");
        assert!(Alert { phase: Phase::Pending, ..full() }.idempotency_key().ends_with("-pending-live"));
    }
}
