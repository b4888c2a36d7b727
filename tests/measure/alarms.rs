//! How long it takes from a detector's report until people hear of it, with the real broker on this machine, the journal on, a
//! city's reports beside it, and a backlog of forty days with breaches in it arriving at the same time.
//!
//! Promises: of the live raises, 99 in 100 are at a webhook within half a second of being published; no breach of the
//! backlog is announced as live, and each of them is announced as retrospective, once.
//!
//! Times are taken on one clock: before a report is handed to the broker, and after the webhook's request, or the event
//! of the live stream, was read.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use hunhe_proto::reading::Header;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    detectors::{self, CH4, Detector, HIGH, LOW},
    events,
    gateway::{Gateway, Setup},
    now_s,
    publisher::Publisher,
    raises::{raise, report_meters, times},
    webhook::Webhook,
    wire::{gas_meter_list, report_every, up_topic},
};
use serde_json::{Value, json};

use crate::{Outcome, not_below};

const P99_MS_MAX: f64 = 500.0;
const WITHIN: Duration = Duration::from_secs(120);
/// Between two live raises.
const RAISE_EVERY: Duration = Duration::from_millis(200);
/// Detectors that take turns in them; each has time for its end in between.
const LIVE: usize = 40;
/// Detectors with a backlog, its length, and the time between its samples.
const BACKLOGGED: usize = 8;
const BACKLOG_DAYS: i64 = 40;
const BACKLOG_STEP_S: i64 = 60;
/// Samples in a report of the backlog.
const BACKLOG_SAMPLES: usize = 512;
/// Breaches in the backlog of each detector, each three samples long.
const BREACHES: usize = 12;
const PLANTED: usize = BACKLOGGED * BREACHES;
/// Meters that report a day each in turn, as the demonstration's do, and their reports a second.
const METERS: u64 = 2_000;
const METERS_PER_S: u64 = 200;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Live raises that are measured.
    #[arg(long, default_value_t = 300)]
    raises: usize,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port, &webhook), &[]);
    let page = events::alerts_of(gateway.port);

    // What is older than a device's newest sample is a backlog: so each has a newest one.
    let mut publisher = Publisher::connect(broker.port, "alarms", 64).expect("a connection");
    for number in LIVE..LIVE + BACKLOGGED {
        Detector::new(number, 2).publish(&mut publisher, now_s(), &[LOW]).expect("published");
    }
    publisher.settle().expect("the broker has it");

    let (done, backlog) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut live: Vec<Detector> = (0..LIVE).map(|number| Detector::new(number, 1)).collect();
    let (raises, days) = std::thread::scope(|scope| {
        let meters = scope.spawn(|| report_meters(broker.port, METERS, METERS_PER_S, &done));
        scope.spawn(|| send_backlog(broker.port, &done, options.raises, &backlog));
        let raises = raise(&mut publisher, &mut live, options.raises, RAISE_EVERY);
        done.store(true, Ordering::SeqCst);
        (raises, meters.join().expect("the meters' thread"))
    });
    let (backlogged, readings) = (backlog.into_inner(), days * 24);
    let heard = || {
        let taken = webhook.taken().into_iter().map(|received| (received.at, received.body));
        Some((times(&raises, taken)?, times(&raises, events::so_far(&page))?))
    };
    let begun = Instant::now();
    let all_here = || announced(&webhook, "retrospective") >= PLANTED && heard().is_some();
    while !all_here() && begun.elapsed() < WITHIN {
        std::thread::sleep(Duration::from_millis(100));
    }
    // One announcement too many would come now.
    gateway.await_settled(backlogged + readings, WITHIN);
    std::thread::sleep(Duration::from_secs(2));
    let Some((to_webhook, to_page)) = heard() else {
        return Outcome {
            figures: json!({}),
            broken: vec![format!("a raise was not delivered within {WITHIN:?}")],
        };
    };
    let figures = json!({
        "publish_to_webhook_ms_p50": quantile(&to_webhook, 50), "publish_to_webhook_ms_p99": quantile(&to_webhook, 99),
        "publish_to_webhook_ms_max": to_webhook.last(),
        "publish_to_sse_ms_p50": quantile(&to_page, 50), "publish_to_sse_ms_p99": quantile(&to_page, 99),
        "publish_to_sse_ms_max": to_page.last(),
        "raises": raises.len(), "backfill_planted": PLANTED, "backfill_live": announced(&webhook, "live"),
        "backfill_retrospective": announced(&webhook, "retrospective"), "backfill_samples": backlogged,
        "background_readings": readings,
    });
    let mut broken =
        not_below(&figures, &[("publish_to_webhook_ms_p99", P99_MS_MAX), ("backfill_live", 1.0)]);
    if figures["backfill_retrospective"] != PLANTED {
        broken.push(format!(
            "{} breaches were found in the backlog, {PLANTED} are in it",
            figures["backfill_retrospective"]
        ));
    }
    Outcome { figures, broken }
}

/// Breaches of the backlog that the webhook was told of in this mode.
fn announced(webhook: &Webhook, mode: &str) -> usize {
    let is_backlogged = |alert: &Value| {
        let number = alert["device"].as_str().and_then(|id| id.strip_prefix("det-")?.parse::<usize>().ok());
        number.is_some_and(|number| number >= LIVE)
    };
    let alerts = webhook.taken().into_iter().map(|received| received.body);
    let raised =
        alerts.filter(|alert| is_backlogged(alert) && alert["state"] == "firing" && alert["mode"] == mode);
    raised.map(|alert| format!("{} {}", alert["device"], alert["since"])).collect::<BTreeSet<_>>().len()
}

fn setup(dir: &Path, broker: u16, webhook: &Webhook) -> Setup {
    let rules = detectors::write_rules(dir);
    let (meters, stations) = (dir.join("meters.csv"), dir.join("detectors.csv"));
    fs::write(&meters, gas_meter_list(METERS, 100)).expect("a list");
    fs::write(&stations, detectors::list(LIVE + BACKLOGGED)).expect("a list");
    Setup::embedded(
        broker,
        format!("rules = {rules:?}\ndevices = [{meters:?}, {stations:?}]"),
        webhook.to_toml("duty", 10),
    )
}

fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Forty days of detectors, spread over the time of the live raises.
fn send_backlog(port: u16, done: &AtomicBool, raises: usize, sent: &AtomicU64) {
    let mut publisher = Publisher::connect(port, "backlog", 64).expect("a connection");
    let samples = usize::try_from(BACKLOG_DAYS * 86_400 / BACKLOG_STEP_S).expect("small");
    let from_s = now_s() - BACKLOG_DAYS * 86_400;
    let value = |at: usize| {
        // Three samples in the middle of each of the breaches' parts.
        let part = samples / BREACHES;
        if (part / 2..part / 2 + 3).contains(&(at % part)) { HIGH } else { LOW }
    };
    let reports = samples.div_ceil(BACKLOG_SAMPLES);
    let whole = RAISE_EVERY * u32::try_from(raises).expect("small") * 8 / 10;
    let begun = Instant::now();
    for number in 0..reports {
        let due =
            begun + whole * u32::try_from(number).expect("small") / u32::try_from(reports).expect("small");
        if !done.load(Ordering::SeqCst) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let first = number * BACKLOG_SAMPLES;
        let values: Vec<i64> = (first..(first + BACKLOG_SAMPLES).min(samples)).map(value).collect();
        let t0 = from_s + BACKLOG_STEP_S * i64::try_from(first).expect("small");
        let step = u32::try_from(BACKLOG_STEP_S).expect("small");
        for detector in LIVE..LIVE + BACKLOGGED {
            let class_version = Some(detectors::CLASS_VERSION);
            let header = Header { boot: 1, seq: first as u64, class_version, ..Header::default() };
            let payload = report_every(header, t0, step, CH4, &values);
            let topic = up_topic(&detectors::id(detector));
            publisher.publish(topic.as_bytes(), &payload).expect("the broker takes it");
            sent.fetch_add(values.len() as u64, Ordering::SeqCst);
        }
        publisher.settle().expect("the broker has it");
    }
}
