//! Invented records: alerts, quarantine, write-offs, outputs, sinks, sums. Each is a function of its number.

use std::collections::BTreeMap;

use hunhe_gateway::api::ApiError;
use hunhe_gateway::api::backend::AlertQuery;
use hunhe_gateway::api::types::{
    Alert, AlertCounts, AlertMode, AlertSeverity, AlertState, Bilingual, Breach, Circuit, Instant,
    LedgerTotals, OutputKind, OutputState, OutputStatus, QuarantineKind, QuarantineRecord, RefusedValue,
    SinkState, SinkStatus, WriteOff,
};

use super::{DISTRICTS, NOW_MS};

pub(crate) fn output(
    name: &str,
    kind: OutputKind,
    state: OutputState,
    last_error: Option<&str>,
) -> OutputStatus {
    let last_error = last_error.map(str::to_owned);
    OutputStatus {
        name: name.into(),
        kind,
        state,
        stalled_since: None,
        lag: 3,
        delivered: 21,
        failed: 0,
        last_error,
    }
}

pub(crate) fn firing() -> AlertCounts {
    AlertCounts { critical: 1, major: 2, warning: 0, info: 0 }
}

/// The invented alerts' sequences.
pub(crate) const ALERTS: std::ops::RangeInclusive<u64> = 1..=9;

pub(crate) fn matches(query: &AlertQuery, alert: &Alert) -> bool {
    query.mode.is_none_or(|mode| alert.mode == mode)
        && query.severity.is_none_or(|severity| alert.severity == severity)
        && (query.district.is_none() || alert.district == query.district)
        && query.operator.as_ref().is_none_or(|operator| alert.operator == *operator)
}

pub(crate) fn alert(sequence: u64) -> Alert {
    let (severity, district) = match sequence % 3 {
        0 => (AlertSeverity::Critical, DISTRICTS[0]),
        1 => (AlertSeverity::Major, DISTRICTS[1]),
        _ => (AlertSeverity::Info, DISTRICTS[2]),
    };
    let state = if sequence.is_multiple_of(2) { AlertState::Resolved } else { AlertState::Firing };
    let at = Instant(NOW_MS - 60_000 * i64::try_from(*ALERTS.end() - sequence).unwrap_or(0));
    Alert {
        id: format!("{:016x}", 0xa1b2_c3d4_0000_0000 + sequence),
        sequence,
        rule: "station_ch4_high".into(),
        rule_version: 1,
        severity,
        state,
        fired: true,
        mode: if sequence == 5 { AlertMode::Retrospective } else { AlertMode::Live },
        device: Some("gas-leak-0001".into()),
        agent: "agent-0".into(),
        output: None,
        class: Some("gas_leak".into()),
        zone: Some("zone-1".into()),
        zone_name: Some(two("1 号分区", "DMA 1")),
        district: Some(district.0.into()),
        district_name: Some(two(district.1, district.2)),
        operator: "operator-1".into(),
        channel: Some("ch4".into()),
        value: Some(57.0),
        threshold: Some(50.0),
        unit: "%{LEL}".into(),
        since: at,
        event_time: at,
        arrival_time: Instant(at.0 + 120),
        title: two("站内甲烷高报", "Station methane, high alarm"),
        text: two("铁西区 · 1 号分区：甲烷 57 %LEL ≥ 50", "Tiexi · DMA 1: methane 57 %LEL ≥ 50"),
    }
}

pub(crate) fn two(zh: &str, en: &str) -> Bilingual {
    Bilingual { zh: zh.into(), en: en.into() }
}

pub(crate) fn sink(name: &str, state: SinkState, lag_s: f64, last_error: Option<&str>) -> SinkStatus {
    let last_error = last_error.map(str::to_owned);
    let circuit = if state == SinkState::Retrying { Circuit::Open } else { Circuit::Closed };
    SinkStatus {
        name: name.into(),
        state,
        circuit,
        lag_records: 12,
        unsettled_records: 3,
        lag_s,
        cursor: 90_988,
        requests: 70,
        retries: 2,
        rewinds: 1,
        dead_letters: 0,
        last_error,
    }
}

/// Totals that close.
pub(crate) fn totals(sampled: u64) -> LedgerTotals {
    LedgerTotals {
        sampled,
        stored: sampled - 27,
        quarantined: 17,
        declared_lost: 4,
        written_off: 1,
        outstanding: 6,
        unexplained: 0,
        duplicates: 310,
        readings: sampled * 2,
        closed: true,
        messages_refused: BTreeMap::from([("undecodable".into(), 3)]),
    }
}

pub(crate) fn by_reason() -> BTreeMap<String, u64> {
    BTreeMap::from([("out_of_range".into(), 9), ("time_future".into(), 6), ("register_backwards".into(), 2)])
}

pub(crate) fn record(id: u64) -> QuarantineRecord {
    let (device, reason) = match id % 3 {
        0 => (None, "unknown_device"),
        1 => (Some("gas-meter-0001"), "out_of_range"),
        _ => (Some("dma-flow-0002"), "time_future"),
    };
    QuarantineRecord {
        id: format!("m-{id}"),
        kind: QuarantineKind::Message,
        arrival: Instant(NOW_MS - 1_000 * (100 - id as i64)),
        device: device.map(str::to_owned),
        reason: reason.into(),
        detail: "1 from 77: out_of_range; flow = 9999999 m³/h > 5000 m³/h".into(),
        values: vec![RefusedValue {
            time: Instant(NOW_MS - 1_000 * (100 - id as i64)),
            seq: 77,
            channel: "flow".into(),
            value: 9_999_999.0,
            unit: "m³/h".into(),
            breach: Breach::Above,
            limit: 5_000.0,
        }],
        payload_hex: None,
        topic: "hunhe/v1/3f/<img src=x onerror=alert(1)>/up".into(),
        payload_bytes: 48,
        payload_crc32c: "0badcafe".into(),
        samples: 1,
        first_seq: Some(77),
        boot: Some("1234abcd".into()),
    }
}

pub(crate) fn write_off(id: u64) -> WriteOff {
    WriteOff {
        id,
        at: Instant(NOW_MS),
        device: "gas-meter-0001".into(),
        samples: 10 * id,
        reason: "备份恢复之后".into(),
        by: "lin".into(),
    }
}

pub(crate) fn number_of(id: &str) -> Result<u64, ApiError> {
    let number = id.strip_prefix("m-").and_then(|number| number.parse().ok());
    match number {
        Some(number @ 1..=17) => Ok(number),
        Some(_) => Err(ApiError::NotFound(format!("no quarantine record {id}"))),
        None => Err(ApiError::BadRequest(format!("path: {id} is no record id"))),
    }
}
