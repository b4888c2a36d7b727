//! Test support: a backend with an invented city. Every figure here is made up; its only promise is to be the same
//! for the same clock, and to keep the rules that a real backend must keep.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "invented figures are small"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hunhe_gateway::api::backend::{
    AlertQuery, AlertStateQuery, Answer, BackupStream, DeviceQuery, LedgerQuery, QuarantineQuery,
    SeriesQuery, WriteOffQuery,
};
use hunhe_gateway::api::metrics::{Metric, MetricKind};
use hunhe_gateway::api::types::{
    Alert, AlertCounts, AlertPage, AlertSeverity, AlertState, Channel, Class, Device, DevicePage,
    DeviceState, District, FiringCounts, Instant, JournalStatus, LaneStatus, Latest, LatestValue, Ledger,
    LedgerBy, LedgerRow, OutputKind, OutputState, OverShare, Position, QuarantinePage, QuarantineRecord,
    QuarantineStatus, Redriven, Retired, Rule, Series, SeriesKind, SinkState, Status, WriteOff,
    WriteOffOrder, WriteOffPage, Zone,
};
use hunhe_gateway::api::{ApiError, Backend};

mod records;

pub(crate) use records::{ALERTS, alert, record, totals};
use records::{by_reason, firing, matches, number_of, output, sink, two, write_off};

/// 2026-01-02T03:04:05.678Z
pub(crate) const NOW_MS: i64 = 1_767_323_045_678;

const CLASSES: [(&str, &str, &str, u32); 4] = [
    ("dma_flow", "分区流量计", "DMA flow meter", 900),
    ("gas_meter", "居民燃气表", "Residential gas meter", 3_600),
    ("gas_leak", "场站泄漏探测器", "Station gas detector", 10),
    ("weather", "气象站", "Weather station", 300),
];
const CHANNELS: [(&str, &str, &str, &str, f64); 4] = [
    ("flow", "流量", "Flow", "m³/h", 41.2),
    ("volume", "累计用量", "Volume", "m³", 1_284.5),
    ("ch4", "甲烷", "Methane", "%LEL", 0.4),
    ("temperature", "气温", "Temperature", "°C", -11.5),
];
const DISTRICTS: [(&str, &str, &str); 3] =
    [("210106", "铁西区", "Tiexi"), ("210112", "浑南区", "Hunnan"), ("210123", "康平县", "Kangping")];

/// The invented gateway.
pub(crate) struct Fake {
    pub(crate) now_ms: AtomicI64,
    pub(crate) ready: AtomicBool,
    /// Status waits for ever while this is set.
    pub(crate) stuck: AtomicBool,
    /// Too many others ask for devices.
    pub(crate) busy: AtomicBool,
    pub(crate) backing_up: AtomicBool,
    pub(crate) devices: usize,
}

const RETIRED: Retired = Retired { expired: 4_096, oversize: 0 };
/// What the one backup holds that is given.
pub(crate) const BACKUP: &str = "all there is";

impl Fake {
    pub(crate) fn new(devices: usize) -> Arc<Self> {
        Arc::new(Self {
            now_ms: AtomicI64::new(NOW_MS),
            ready: AtomicBool::new(true),
            stuck: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            backing_up: AtomicBool::new(false),
            devices,
        })
    }

    fn id(at: usize) -> String {
        let (class, ..) = CLASSES[at % 4];
        format!("{}-{:04}", class.replace('_', "-"), at / 4)
    }

    fn value_at(at: usize, time_ms: i64) -> f64 {
        let base = CHANNELS[at % 4].4;
        let hours = time_ms as f64 / 3_600_000.0;
        let wave = (hours * std::f64::consts::TAU / 24.0 + at as f64).sin();
        let ripple = (hours * 47.0 + at as f64 * 1.7).sin() * 0.04;
        match at % 4 {
            1 => base + (time_ms - NOW_MS) as f64 / 36_000_000.0 + at as f64,
            3 => base + 6.0 * wave,
            _ => ((base * (1.0 + 0.35 * wave + ripple)) * 1_000.0).round() / 1_000.0,
        }
    }

    fn device_at(&self, at: usize) -> Device {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let (class, _, _, interval_s) = CLASSES[at % 4];
        let (channel, zh, en, unit, _) = CHANNELS[at % 4];
        let (age_s, state) = match at % 37 {
            5 => (86_400 * 3, DeviceState::Silent),
            11 => (i64::from(interval_s) * 2, DeviceState::Late),
            _ => (i64::from(interval_s.min(60)) / 3, DeviceState::Reporting),
        };
        let time_ms = now_ms - age_s * 1_000;
        let latest = LatestValue {
            channel: channel.into(),
            name: two(zh, en),
            unit: unit.into(),
            value: Some(Self::value_at(at, time_ms)),
            quality: if at % 41 == 7 { 2 } else { 1 },
            time: Instant(time_ms),
        };
        let household = class == "gas_meter";
        Device {
            id: Self::id(at),
            class: class.into(),
            district: DISTRICTS[at % 3].0.into(),
            zone: Some(format!("zone-{}", at % 5)),
            operator: "operator-1".into(),
            agent: format!("agent-{}", at / 100),
            position: (!household).then_some(Position { latitude: 41.8, longitude: 123.4 }),
            last_seen: Some(Instant(time_ms + 800)),
            last_event_time: Some(Instant(time_ms)),
            state,
            interval_s,
            report_s: interval_s,
            clock_offset_s: Some(0.2),
            latest: vec![latest],
            ledger: totals(1_000),
        }
    }

    /// Newest values of every device that reports, for the live stream.
    pub(crate) fn newest(&self) -> Vec<Latest> {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        (0..self.devices)
            .filter(|at| !matches!(at % 37, 5 | 11))
            .map(|at| Latest {
                device: Self::id(at).into(),
                channel: CHANNELS[at % 4].0.into(),
                time: now_ms,
                value: Some(Self::value_at(at, now_ms)),
                quality: 1,
            })
            .collect()
    }

    pub(crate) fn status_now(&self) -> Status {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let second = (now_ms - NOW_MS) as f64 / 1_000.0;
        let devices = self.devices as u64;
        Status {
            version: "0.1.0".into(),
            started_at: Instant(NOW_MS - 60_000),
            uptime_s: 60 + ((now_ms - NOW_MS) / 1_000) as u64,
            now: Instant(now_ms),
            readings_per_s: (4_800.0 + 220.0 * (second / 5.0).sin() + 90.0 * (second * 1.3).cos()).round(),
            samples_total: 120_000 + ((now_ms - NOW_MS) / 10) as u64,
            messages_total: 9_000 + ((now_ms - NOW_MS) / 100) as u64,
            devices_known: devices,
            devices_online: devices,
            devices_reporting: devices - devices / 37 * 2,
            lanes: vec![LaneStatus { lane: 0, devices, queued_records: 2, applied: 88 }],
            journal: JournalStatus { bytes: 48_234_496, head: 91_002, durable: 91_000 },
            sinks: vec![
                sink("embedded", SinkState::Running, 0.2, None),
                sink("influx", SinkState::Retrying, 42.0, Some("connection refused")),
            ],
            ledger: totals(120_000 + ((now_ms - NOW_MS) / 10) as u64),
            quarantined_by_reason: by_reason(),
            quarantine: QuarantineStatus {
                records: 17,
                limit_records: 100_000,
                bytes: 4_200,
                limit_bytes: 256 << 20,
                discarded: 3,
                by_reason: by_reason(),
            },
            retired: RETIRED,
            alerts: FiringCounts { live: firing(), retrospective: 1 },
            outputs: vec![
                output("mqtt", OutputKind::Mqtt, OutputState::Running, None),
                output("duty", OutputKind::Webhook, OutputState::Retrying, Some("503 later")),
            ],
            over_share: vec![OverShare { device: "det-7".into(), messages: 1_204 }],
        }
    }
}

fn ok<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Backend for Fake {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn status(&self) -> Answer<'_, Status> {
        if self.stuck.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        ok(self.status_now())
    }

    fn ledger(&self, query: LedgerQuery) -> Answer<'_, Ledger> {
        let keys: Vec<String> = match query.by {
            None => vec![],
            Some(LedgerBy::District) => DISTRICTS.iter().map(|(code, ..)| (*code).into()).collect(),
            Some(LedgerBy::Class) => CLASSES.iter().map(|(name, ..)| (*name).into()).collect(),
            Some(_) => (0..self.devices).map(Self::id).collect(),
        };
        let mut keys: Vec<String> =
            keys.into_iter().filter(|key| query.after.as_ref().is_none_or(|after| key > after)).collect();
        keys.sort_unstable();
        let more = keys.len() > query.limit;
        keys.truncate(query.limit);
        let next = more.then(|| keys.last().cloned()).flatten();
        let rows = keys.into_iter().map(|key| LedgerRow { key, totals: totals(1_000) }).collect();
        ok(Ledger { totals: totals(120_000), retired: RETIRED, by: query.by, rows, next })
    }

    fn write_off(&self, order: WriteOffOrder) -> Answer<'_, WriteOff> {
        ok(WriteOff { device: order.device, reason: order.reason, by: order.by, ..write_off(9) })
    }

    fn write_offs(&self, query: WriteOffQuery) -> Answer<'_, WriteOffPage> {
        let ids = (1..=9).rev().filter(|id| query.before.is_none_or(|before| *id < before));
        let mut items: Vec<WriteOff> = ids.take(query.limit + 1).map(write_off).collect();
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = items.last().filter(|_| more).map(|write_off| write_off.id);
        ok(WriteOffPage { items, next, total: 9 })
    }

    fn classes(&self) -> Answer<'_, Vec<Class>> {
        let of = |at: usize| {
            let (name, zh, en, interval_s) = CLASSES[at];
            let (channel, czh, cen, unit, _) = CHANNELS[at];
            Class {
                name: name.into(),
                version: 2,
                older_versions: vec![1],
                title: two(zh, en),
                interval_s,
                channels: vec![Channel {
                    id: 1,
                    name: channel.into(),
                    title: two(czh, cen),
                    unit: unit.into(),
                    kind: "gauge".into(),
                    min: None,
                    max: Some(5_000.0),
                    decimals: 2,
                    source: "D".into(),
                }],
                devices: self.devices as u64 / 4,
                reporting: self.devices as u64 / 4 - 1,
            }
        };
        ok((0..CLASSES.len()).map(of).collect())
    }

    fn districts(&self) -> Answer<'_, Vec<District>> {
        let of = |(code, zh, en): &(&str, &str, &str)| District {
            code: (*code).into(),
            name: two(zh, en),
            devices: self.devices as u64 / 3,
            reporting: self.devices as u64 / 3,
            silent: 0,
            alerts: AlertCounts { critical: u64::from(*code == "210106"), ..AlertCounts::default() },
            readings: 48_000,
        };
        ok(DISTRICTS.iter().map(of).collect())
    }

    fn zones(&self) -> Answer<'_, Vec<Zone>> {
        let of = |at: usize| Zone {
            id: format!("zone-{at}"),
            kind: "dma".into(),
            name: two(&format!("{at} 号分区"), &format!("DMA {at}")),
            district: DISTRICTS[at % 3].0.into(),
            devices: self.devices as u64 / 5,
            reporting: self.devices as u64 / 5,
        };
        ok((0..5).map(of).collect())
    }

    fn devices(&self, query: DeviceQuery) -> Answer<'_, DevicePage> {
        if self.busy.load(Ordering::Relaxed) {
            return Box::pin(async {
                Err(ApiError::Busy("too many queries at once: try again in a second".into()))
            });
        }
        let text = query.text.map(|text| text.to_lowercase());
        let mut all: Vec<Device> = (0..self.devices)
            .map(|at| self.device_at(at))
            .filter(|device| query.class.as_ref().is_none_or(|class| &device.class == class))
            .filter(|device| query.district.as_ref().is_none_or(|district| &device.district == district))
            .filter(|device| query.zone.is_none() || device.zone == query.zone)
            .filter(|device| text.as_ref().is_none_or(|text| device.id.contains(text)))
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let total = all.len() as u64;
        let after = |device: &Device| query.after.as_ref().is_none_or(|after| &device.id > after);
        let mut items: Vec<Device> = all.into_iter().filter(after).collect();
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = if more { items.last().map(|device| device.id.clone()) } else { None };
        ok(DevicePage { items, next, total })
    }

    fn device(&self, id: String) -> Answer<'_, Device> {
        let found = (0..self.devices).find(|at| Self::id(*at) == id).map(|at| self.device_at(at));
        let found = found.ok_or_else(|| ApiError::NotFound(format!("no device is called {id}")));
        Box::pin(std::future::ready(found))
    }

    fn series(&self, query: SeriesQuery) -> Answer<'_, Series> {
        let Some(at) = (0..self.devices).find(|at| Self::id(*at) == query.device) else {
            return Box::pin(std::future::ready(Err(ApiError::NotFound(format!(
                "no device is called {}",
                query.device
            )))));
        };
        if CHANNELS[at % 4].0 != query.channel {
            let detail = format!("{} has no channel {}", query.device, query.channel);
            return Box::pin(std::future::ready(Err(ApiError::NotFound(detail))));
        }
        let step_ms = i64::from(query.step_s.unwrap_or(CLASSES[at % 4].3)) * 1_000;
        let first = query.from_ms.div_euclid(step_ms) * step_ms;
        let times: Vec<i64> = (0..)
            .map(|n| first + n * step_ms)
            .take_while(|time| *time < query.to_ms)
            .filter(|time| *time >= query.from_ms || query.step_s.is_some())
            .take(query.limit_points + 1)
            .collect();
        let hole = |time: i64| time.rem_euclid(86_400_000) / 3_600_000 == 19;
        let values =
            times.iter().map(|time| (!hole(*time)).then(|| Self::value_at(at, *time))).collect::<Vec<_>>();
        let quality = times
            .iter()
            .map(|time| {
                if hole(*time) {
                    5
                } else if time / 3_600_000 % 9 == 0 {
                    2
                } else {
                    1
                }
            })
            .collect();
        ok(Series {
            device: query.device,
            channel: query.channel,
            unit: CHANNELS[at % 4].3.into(),
            kind: if query.step_s.is_some() { SeriesKind::Steps } else { SeriesKind::Samples },
            step_s: query.step_s,
            from: query.from_ms,
            to: query.to_ms,
            times,
            values,
            quality,
        })
    }

    fn quarantine(&self, query: QuarantineQuery) -> Answer<'_, QuarantinePage> {
        let matches = |record: &QuarantineRecord| {
            query.reason.as_ref().is_none_or(|reason| &record.reason == reason)
                && query.device.as_ref().is_none_or(|device| record.device.as_ref() == Some(device))
                && query.kind.is_none_or(|kind| record.kind == kind)
                && query.from_ms.is_none_or(|from_ms| record.arrival.0 >= from_ms)
                && query.to_ms.is_none_or(|to_ms| record.arrival.0 < to_ms)
        };
        let matching: Vec<QuarantineRecord> = (1..=17).rev().map(record).filter(matches).collect();
        let total = Some(matching.len() as u64);
        let from = match &query.before {
            None => 0,
            Some(before) => match matching.iter().position(|record| &record.id == before) {
                Some(at) => at + 1,
                None => {
                    let words = "query: `before` is not the `next` of a page";
                    return Box::pin(async move { Err(ApiError::BadRequest(words.into())) });
                }
            },
        };
        let mut items = matching.into_iter().skip(from).collect::<Vec<_>>();
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = if more { items.last().map(|record| record.id.clone()) } else { None };
        ok(QuarantinePage { items, next, total, by_reason: by_reason() })
    }

    fn quarantined(&self, id: String, payload: bool) -> Answer<'_, QuarantineRecord> {
        let found = number_of(&id).map(|number| {
            let payload_hex = payload.then(|| "00ff".to_owned());
            QuarantineRecord { payload_hex, ..record(number) }
        });
        Box::pin(std::future::ready(found))
    }

    fn redrive(&self, id: String) -> Answer<'_, Redriven> {
        Box::pin(std::future::ready(number_of(&id).map(|_| Redriven { id, samples: 1 })))
    }

    fn alerts(&self, query: AlertQuery) -> Answer<'_, AlertPage> {
        let of_state = |alert: &Alert| match query.state {
            AlertStateQuery::All => true,
            AlertStateQuery::Open => alert.state != AlertState::Resolved,
            AlertStateQuery::Resolved => alert.state == AlertState::Resolved,
        };
        let before = query.before.unwrap_or(u64::MAX);
        let mut items: Vec<Alert> = ALERTS.rev().filter(|sequence| *sequence < before).map(alert).collect();
        items.retain(|alert| of_state(alert) && matches(&query, alert));
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = if more { items.last().map(|alert| alert.sequence) } else { None };
        ok(AlertPage { items, next, open: firing() })
    }

    fn rules(&self) -> Answer<'_, Vec<Rule>> {
        ok(vec![Rule {
            id: "station_ch4_high".into(),
            version: 1,
            class: Some("gas_leak".into()),
            severity: AlertSeverity::Critical,
            title: two("站内甲烷高报", "Station methane, high alarm"),
            source: "S GB/T 50493-2019".into(),
            when: serde_json::json!({"channel": "ch4", "at_least": 50.0, "clear_below": 40.0}),
            hold_s: 0,
            clear_hold_s: 60,
        }])
    }

    fn backup(&self) -> Answer<'_, BackupStream> {
        if self.backing_up.swap(true, Ordering::Relaxed) {
            let words = "a backup is being taken: try again when it is done";
            return Box::pin(async move { Err(ApiError::Conflict(words.into())) });
        }
        let (give, stream) = tokio::sync::mpsc::channel(2);
        // There is room for two.
        drop(give.try_send(BACKUP.into()));
        ok(stream)
    }

    fn metrics(&self) -> Answer<'_, Vec<Metric>> {
        ok(vec![Metric::single("hunhe_samples_total", "Samples received.", MetricKind::Counter, 120_000.0)])
    }

    fn ready(&self) -> Answer<'_, ()> {
        let ready = self.ready.load(Ordering::Relaxed);
        let answer = if ready { Ok(()) } else { Err(ApiError::Unavailable("no broker is connected".into())) };
        Box::pin(std::future::ready(answer))
    }
}
