//! Alarms that are raised in turn beside a city's reports, and how long each takes to be heard.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    detectors::{self, Detector, HIGH, LOW},
    now_s,
    publisher::Publisher,
    wire::{gas_day, gas_meter_id, up_topic},
};

/// By (device, since): when it was handed to the broker.
pub type Raises = BTreeMap<(String, String), Instant>;

/// Raises `raises` alarms of detectors in turn, and ends each half a round later.
///
/// # Panics
/// The broker ended the connection.
pub fn raise(
    publisher: &mut Publisher,
    detectors: &mut [Detector],
    raises: usize,
    every: Duration,
) -> Raises {
    let count = detectors.len();
    let mut sent = Raises::new();
    let mut at = Instant::now();
    for turn in 0..raises + count / 2 {
        // Never faster than that, even after a delay: a raise and its end are samples of different seconds.
        at = Instant::now().max(at + every);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if turn < raises {
            let detector = &mut detectors[turn % count];
            let (since_s, before) = (now_s(), Instant::now());
            detector.publish(publisher, since_s, &[HIGH]).expect("published");
            publisher.settle().expect("the broker has it");
            sent.insert((detector.id.clone(), detectors::instant(since_s)), before);
        }
        if let Some(over) = turn.checked_sub(count / 2) {
            detectors[over % count].publish(publisher, now_s(), &[LOW]).expect("published");
            publisher.settle().expect("the broker has it");
        }
    }
    sent
}

/// Milliseconds of each raise until it arrived live, sorted; nothing while one of them has not.
#[must_use]
pub fn times(raises: &Raises, arrived: impl IntoIterator<Item = (Instant, Value)>) -> Option<Vec<f64>> {
    let mut first: Raises = BTreeMap::new();
    for (at, alert) in arrived {
        if alert["state"] == "firing" && alert["mode"] == "live" {
            let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
            first.entry((text("device"), text("since"))).or_insert(at);
        }
    }
    let ms = |(raise, sent): (&(String, String), &Instant)| {
        first.get(raise).map(|at| at.duration_since(*sent).as_secs_f64() * 1000.0)
    };
    let mut ms: Vec<f64> = raises.iter().map(ms).collect::<Option<_>>()?;
    ms.sort_by(f64::total_cmp);
    Some(ms)
}

/// A day of each meter in turn, `per_s` of them a second, until `done`; how many.
///
/// # Panics
/// The broker ended the connection.
#[must_use]
pub fn report_meters(port: u16, meters: u64, per_s: u64, done: &AtomicBool) -> u64 {
    let mut publisher = Publisher::connect(port, "meters", 1_000).expect("a connection");
    let today = now_s() / 86_400;
    let begun = Instant::now();
    let mut turn = 0;
    while !done.load(Ordering::SeqCst) {
        let due = begun + Duration::from_micros(1_000_000 / per_s * turn);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (meter, round) = (turn % meters, turn / meters);
        let day = today - 30 + i64::try_from(round).expect("small");
        let payload = gas_day(1, 24 * round, day * 24, meter);
        publisher.publish(up_topic(&gas_meter_id(meter)).as_bytes(), &payload).expect("the broker takes it");
        // Each leaves at once, as from devices of their own.
        publisher.settle().expect("the broker has it");
        turn += 1;
    }
    turn
}
