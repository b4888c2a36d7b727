//! What a record of the alert log holds.
//!
//! ```text
//! kind     1: live, 2: retrospective, 3: of either mode, and not announced by outputs
//! record   source u64 · part u32 · parts u32, little endian · one alert in postcard
//! ```
//! *Source record* is the journal record behind it, *part* counts the changes of one source record from 0. A reader knows by them when a
//! source record is complete, however many changes a tick of the clock brought. An alert's sequence is the record's own number, and
//! so is not in it.
//!
//! Invariant: each number that stands for a severity, a phase or a mode is written here, so that the core may reorder its
//! own. A record with another number is damaged.

use crate::alerts::Alert;
use hunhe_gateway_core::{
    device::alert::{Mode, Phase},
    rule::Severity,
};
use hunhe_log::Lsn;
use hunhe_proto::class::Text;
use serde::{Deserialize, Serialize};

/// A record's kind, so that an output skips the alerts that it does not deliver without decoding them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Announced, and speaks of now.
    Live = 1,
    /// Announced, and was found in old data.
    Retrospective = 2,
    /// Outputs do not deliver it.
    Unannounced = 3,
}

impl Kind {
    /// Of an alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        match alert.mode {
            _ if !alert.is_announced() => Self::Unannounced,
            Mode::Live => Self::Live,
            Mode::Retrospective => Self::Retrospective,
        }
    }

    pub(in crate::alerts) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Live, Self::Retrospective, Self::Unannounced].into_iter().find(|kind| *kind as u8 == byte)
    }
}

const HEAD_BYTES: usize = 16;

/// What stands before the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::alerts) struct Head {
    /// The journal record behind it.
    pub(in crate::alerts) source_lsn: u64,
    /// Counts the changes of the source record, from 0.
    pub(in crate::alerts) part: u32,
    /// How many changes the source record has.
    pub(in crate::alerts) parts: u32,
}

impl Head {
    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.source_lsn.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.part.to_le_bytes());
        bytes[12..].copy_from_slice(&self.parts.to_le_bytes());
        bytes
    }

    /// The head of a record, and what stands behind it.
    pub(in crate::alerts) fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (source_lsn, rest) = payload.split_first_chunk()?;
        let (part, rest) = rest.split_first_chunk()?;
        let (parts, rest) = rest.split_first_chunk()?;
        let source_lsn = u64::from_le_bytes(*source_lsn);
        let [part, parts] = [part, parts].map(|number| u32::from_le_bytes(*number));
        Some((Self { source_lsn, part, parts }, rest))
    }

    /// Is it the last change of its source record?
    pub(in crate::alerts) fn is_last(self) -> bool {
        self.part.saturating_add(1) >= self.parts
    }
}

type Two<'a> = (&'a str, &'a str);

/// An alert on disk; a field's place is its name.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: u64,
    #[serde(borrow)]
    rule: &'a str,
    rule_version: u32,
    severity: u8,
    phase: u8,
    fired: bool,
    mode: u8,
    #[serde(borrow)]
    device: Option<&'a str>,
    agent: &'a str,
    #[serde(borrow)]
    output: Option<&'a str>,
    #[serde(borrow)]
    class: Option<&'a str>,
    #[serde(borrow)]
    zone: Option<&'a str>,
    #[serde(borrow)]
    zone_name: Option<Two<'a>>,
    #[serde(borrow)]
    district: Option<&'a str>,
    #[serde(borrow)]
    district_name: Option<Two<'a>>,
    operator: &'a str,
    #[serde(borrow)]
    channel: Option<&'a str>,
    value: Option<f64>,
    threshold: Option<f64>,
    unit: &'a str,
    since_ms: i64,
    event_ms: i64,
    arrival_ms: i64,
    #[serde(borrow)]
    title: Two<'a>,
    #[serde(borrow)]
    text: Two<'a>,
}

/// Appends an alert to `out`.
pub(super) fn write(alert: &Alert, out: Vec<u8>) -> Result<Vec<u8>, postcard::Error> {
    let stored = Stored {
        id: alert.id,
        rule: &alert.rule,
        rule_version: alert.rule_version,
        severity: severity_byte(alert.severity),
        phase: phase_byte(alert.phase),
        fired: alert.fired,
        mode: mode_byte(alert.mode),
        device: alert.device.as_deref(),
        agent: &alert.agent,
        output: alert.output.as_deref(),
        class: alert.class.as_deref(),
        zone: alert.zone.as_deref(),
        zone_name: alert.zone_name.as_ref().map(two),
        district: alert.district.as_deref(),
        district_name: alert.district_name.as_ref().map(two),
        operator: &alert.operator,
        channel: alert.channel.as_deref(),
        value: alert.value,
        threshold: alert.threshold,
        unit: &alert.unit,
        since_ms: alert.since_ms,
        event_ms: alert.event_ms,
        arrival_ms: alert.arrival_ms,
        title: two(&alert.title),
        text: two(&alert.text),
    };
    postcard::to_extend(&stored, out)
}

/// The alert of a record; none where it is damaged.
pub(in crate::alerts) fn read(lsn: Lsn, bytes: &[u8]) -> Option<Alert> {
    let (stored, rest) = postcard::take_from_bytes::<Stored<'_>>(bytes).ok()?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let text = |(zh, en): Two<'_>| Text { zh: zh.into(), en: en.into() };
    let alert = Alert {
        id: stored.id,
        sequence: lsn.0,
        rule: stored.rule.into(),
        rule_version: stored.rule_version,
        severity: Severity::ALL.into_iter().find(|of| severity_byte(*of) == stored.severity)?,
        phase: [Phase::Pending, Phase::Firing, Phase::Resolved]
            .into_iter()
            .find(|of| phase_byte(*of) == stored.phase)?,
        fired: stored.fired,
        mode: [Mode::Live, Mode::Retrospective].into_iter().find(|of| mode_byte(*of) == stored.mode)?,
        device: owned(stored.device),
        agent: stored.agent.into(),
        output: owned(stored.output),
        class: owned(stored.class),
        zone: owned(stored.zone),
        zone_name: stored.zone_name.map(text),
        district: owned(stored.district),
        district_name: stored.district_name.map(text),
        operator: stored.operator.into(),
        channel: owned(stored.channel),
        value: stored.value,
        threshold: stored.threshold,
        unit: stored.unit.into(),
        since_ms: stored.since_ms,
        event_ms: stored.event_ms,
        arrival_ms: stored.arrival_ms,
        title: text(stored.title),
        text: text(stored.text),
    };
    rest.is_empty().then_some(alert)
}

fn two(text: &Text) -> Two<'_> {
    (&text.zh, &text.en)
}

const fn severity_byte(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Major => 2,
        Severity::Critical => 3,
    }
}

const fn phase_byte(phase: Phase) -> u8 {
    match phase {
        Phase::Pending => 0,
        Phase::Firing => 1,
        Phase::Resolved => 2,
    }
}

const fn mode_byte(mode: Mode) -> u8 {
    match mode {
        Mode::Live => 0,
        Mode::Retrospective => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::alert::tests::{bare, full};

    #[test]
    fn every_field_is_read_back_and_the_sequence_is_the_records_number() {
        for alert in [full(), bare()] {
            let bytes = write(&alert, Vec::new()).unwrap();
            assert_eq!(read(Lsn(9), &bytes).as_ref(), Some(&alert));
            assert_eq!(read(Lsn(10), &bytes), Some(Alert { sequence: 10, ..alert }));
        }
        for severity in Severity::ALL {
            let bytes = write(&Alert { severity, ..full() }, Vec::new()).unwrap();
            assert_eq!(read(Lsn(9), &bytes).map(|alert| alert.severity), Some(severity));
        }
    }

    #[test]
    fn bytes_that_are_no_alert_are_none() {
        let bytes = write(&full(), Vec::new()).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(read(Lsn(9), &bytes[..length]), None, "cut to {length}");
        }
        assert_eq!(read(Lsn(9), &[&bytes[..], &[0]].concat()), None, "a byte more");
    }
}
