//! One device sends the largest reports as fast as the broker takes them, while others raise alarms and report as ever: nobody
//! else's alarm waits, nobody else's sample is lost, and the flood does not fill the disk.
#![expect(clippy::expect_used, reason = "a broken promise fails loudly here")]

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use hunhe_proto::reading::{Header, SAMPLES_MAX};
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    detectors::{self, CH4, CLASS_VERSION, Detector, LOW},
    events,
    gateway::{Gateway, Setup},
    now_s,
    process::eventually,
    publisher::Publisher,
    raises::{raise, report_meters, times},
    report,
    wire::{gas_meter_list, report_every, up_topic},
};
use serde_json::{Value, json};

const P99_MS_MAX: f64 = 250.0;
const MAX_MS_MAX: f64 = 1_000.0;
const WITHIN: Duration = Duration::from_secs(60);
const RAISE_EVERY: Duration = Duration::from_millis(100);
const RAISES: usize = 200;
/// Detectors that raise alarms in turn; the next one floods.
const ALARMING: usize = 20;
/// Distinct reports of the flood, and how long one lasts: all of them lie within the last 29 days.
const REPORTS: usize = 600;
const REPORT_S: i64 = 4_096;
const METERS: u64 = 500;
const METERS_PER_S: u64 = 100;

fn setup(dir: &Path, broker: u16) -> Setup {
    let rules = detectors::write_rules(dir);
    let (meters, stations) = (dir.join("meters.csv"), dir.join("detectors.csv"));
    fs::write(&meters, gas_meter_list(METERS, 100)).expect("a list");
    fs::write(&stations, detectors::list(ALARMING + 1)).expect("a list");
    Setup::embedded(
        broker,
        format!("rules = {rules:?}\ndevices = [{meters:?}, {stations:?}]"),
        "[checkpoint]\nevery_s = 3600\nevery_journal_bytes = 4294967296\n",
    )
}

/// Reports of 4,096 samples in about 2.6 kB.
fn flood_reports() -> Vec<Vec<u8>> {
    let begin_s = now_s() - 29 * 86_400;
    let mut state = 88_172_645_463_325_252_u64;
    let payload = |number: usize| {
        let values = (0..SAMPLES_MAX).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            LOW + i64::try_from(state % 13).expect("small")
        });
        let values: Vec<i64> = values.collect();
        let seq = (number * SAMPLES_MAX) as u64;
        let header = Header { boot: 1, seq, class_version: Some(CLASS_VERSION), ..Header::default() };
        let t0 = begin_s + REPORT_S * i64::try_from(number).expect("small");
        report_every(header, t0, 1, CH4, &values)
    };
    (0..REPORTS).map(payload).collect()
}

/// As fast as the broker takes them, from one outbox after the other.
fn flood(port: u16, mut reports: Vec<Vec<u8>>, done: &AtomicBool, sent: &AtomicU64) {
    let mut publisher = Publisher::connect(port, "flood", 1_000).expect("a connection");
    let topic = up_topic(&detectors::id(ALARMING));
    for boot in 1_u32.. {
        for payload in &mut reports {
            if done.load(Ordering::SeqCst) {
                return;
            }
            // The first field, and never absent.
            payload[1..5].copy_from_slice(&boot.to_le_bytes());
            publisher.publish(topic.as_bytes(), payload).expect("the broker takes it");
            sent.fetch_add(payload.len() as u64, Ordering::SeqCst);
        }
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a log").filter_map(|file| file.ok()?.metadata().ok());
    files.map(|metadata| metadata.len()).sum()
}

/// A class's samples in the ledger.
fn ledger_of(gateway: &Gateway, class: &str) -> Value {
    let answer = gateway.http.json("/api/v1/ledger?by=class");
    let rows = answer["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["key"] == class).expect("the class").clone()
}

#[test]
fn a_device_that_floods_delays_nobodys_alarm_and_fills_no_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port), &[]);
    let page = events::alerts_of(gateway.port);
    let mqtt = events::published(broker.port, "listener", "hunhe/v1/alerts/#");
    let (done, flooded) = (AtomicBool::new(false), AtomicU64::new(0));
    let reports = flood_reports();
    assert!((2_000..3_000).contains(&reports[0].len()), "{} bytes", reports[0].len());
    let (raises, days) = std::thread::scope(|scope| {
        let meters = scope.spawn(|| report_meters(broker.port, METERS, METERS_PER_S, &done));
        scope.spawn(|| flood(broker.port, reports, &done, &flooded));
        let mut publisher = Publisher::connect(broker.port, "alarms", 64).expect("a connection");
        let mut alarming: Vec<Detector> = (0..ALARMING).map(|number| Detector::alarming(number, 1)).collect();
        let raises = raise(&mut publisher, &mut alarming, RAISES, RAISE_EVERY);
        done.store(true, Ordering::SeqCst);
        (raises, meters.join().expect("the meters' thread"))
    });
    let heard = || Some((times(&raises, events::so_far(&page))?, times(&raises, events::so_far(&mqtt))?));
    let (page_ms, mqtt_ms) = eventually(WITHIN, "every raise is heard", heard);
    let p99 = |sorted: &[f64]| sorted[(sorted.len() * 99).div_ceil(100) - 1];
    println!(
        "publish to page: {:.1} ms at the 99th percentile, to MQTT: {:.1}",
        p99(&page_ms),
        p99(&mqtt_ms)
    );
    let stored = eventually(WITHIN, "every meter's samples are stored", || {
        let totals = ledger_of(&gateway, "gas_meter");
        (totals["stored"] == json!(24 * days)).then_some(totals)
    });
    let status = gateway.http.json("/api/v1/status");
    let data = dir.path().join("gateway/data");
    let (journal, decided) = (folder_bytes(&data.join("journal")), folder_bytes(&data.join("decided")));
    let figures = json!({
        "page_ms_p99": p99(&page_ms), "page_ms_max": page_ms.last(),
        "mqtt_ms_p99": p99(&mqtt_ms), "mqtt_ms_max": mqtt_ms.last(),
        "raises": raises.len(), "flooded_bytes": flooded.load(Ordering::SeqCst),
        "journal_bytes": journal, "decided_bytes": decided, "honest_stored": stored["stored"],
    });
    report::write("faults", Some("flood"), &figures);
    for sorted in [&page_ms, &mqtt_ms] {
        assert!(p99(sorted) <= P99_MS_MAX && sorted.last() <= Some(&MAX_MS_MAX), "{figures}");
    }
    assert_eq!(status["over_share"][0]["device"], json!(detectors::id(ALARMING)), "{status}");
    assert!(decided * 2 <= journal * 5, "{figures}");
    assert!(
        journal < flooded.load(Ordering::SeqCst) / 4,
        "what is over its share is not journaled: {figures}"
    );
}
