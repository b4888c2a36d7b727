//! The external database is stopped for a minute under load: intake goes on, the gateway's memory stays bounded, and
//! afterwards what waited drains at least three times faster than it came in. Nothing is lost, nothing stored twice.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    load::Load,
    process::eventually,
    procfs, report, wire,
};
use serde_json::{Value, json};

const METERS: u64 = 10_000;
/// Reports of 24 readings.
const REPORTS_PER_S: u64 = 400;
const BEFORE: Duration = Duration::from_secs(10);
const DOWN: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(60);
const DRAIN_RATIO_MIN: f64 = 3.0;
/// What the gateway may grow by, the open blocks of ten thousand meters in the embedded store and the drain's requests
/// included: what waits is on disk.
const GROWTH_MIB_MAX: f64 = 128.0;

/// How far the database is behind, in records, and for how many samples the gateway has answered.
fn lag(gateway: &Gateway) -> (u64, Value) {
    let status = gateway.http.json("/api/v1/status");
    let sinks = status["sinks"].as_array().expect("sinks");
    let sink = sinks.iter().find(|sink| sink["name"] == "main").expect("the sink");
    (sink["lag_records"].as_u64().expect("a count"), status.clone())
}

/// Readings in the database, and those that are there a second time.
fn points(database: &VictoriaMetrics) -> (u64, u64) {
    let stored = database.export("gas_meter_register", false);
    let doubled =
        |points: &[(i64, f64)]| points.windows(2).filter(|pair| pair[0].0 == pair[1].0).count() as u64;
    (
        stored.values().map(|points| points.len() as u64).sum(),
        stored.values().map(|points| doubled(points)).sum(),
    )
}

fn start_gateway(dir: &Path, broker: u16, database: u16) -> Gateway {
    let list = dir.join("devices.csv");
    std::fs::write(&list, wire::gas_meter_list(METERS, 1000)).expect("a list");
    let registry = format!("devices = [{list:?}]");
    // The load is of January 2026.
    let setup = Setup::embedded(broker, registry, "[embedded]\nretention = \"20y\"\n");
    Gateway::start(dir, &Setup { database: Some(database), ..setup }, &[])
}

#[test]
fn a_minute_without_the_database_stops_nothing_and_drains_at_least_three_times_faster() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let mut database = VictoriaMetrics::start(dir.path());
    let gateway = start_gateway(dir.path(), broker.gateway_port, database.port);
    let load = Load::start(broker.port, METERS, REPORTS_PER_S);
    let reports = |duration: Duration| duration.as_secs() * REPORTS_PER_S;
    eventually(DRAIN, "the load runs", || (load.sent() >= reports(BEFORE)).then_some(()));

    let rss = || procfs::rss_mib(gateway.process.id());
    let rss_before = rss();
    database.stop();
    let (down_at, sent_at_stop, (lag_at_stop, _)) = (Instant::now(), load.sent(), lag(&gateway));
    let mut rss_max = rss_before;
    eventually(2 * DOWN, "the minute passes", || {
        rss_max = rss_max.max(rss());
        (down_at.elapsed() >= DOWN).then_some(())
    });
    let sent_while_down = load.sent() - sent_at_stop;
    let (behind, status) = lag(&gateway);
    let in_per_s = (behind - lag_at_stop) as f64 / down_at.elapsed().as_secs_f64();
    let taken_while_down = status["samples_total"].as_u64().expect("a count") / 24;
    println!(
        "down {:?}: {sent_while_down} reports sent, {behind} records wait; status {}",
        DOWN, status["sinks"]
    );

    database.restart();
    let back_at = Instant::now();
    let first_rows = eventually(DRAIN, "the sink writes again", || {
        rss_max = rss_max.max(rss());
        (database.rows_inserted() > 0).then(|| back_at.elapsed())
    });
    let drained = eventually(DRAIN, "the backlog drains", || {
        rss_max = rss_max.max(rss());
        (lag(&gateway).0 as f64 <= in_per_s).then(|| back_at.elapsed())
    });
    let sent = load.stop();
    let drain_ratio = behind as f64 / (in_per_s * drained.as_secs_f64()) + 1.0;
    let ledger = gateway.await_settled(sent * 24, DRAIN);

    let (points, times_doubled) = points(&database);
    let lost = (sent * 24).saturating_sub(points - times_doubled);
    report::write(
        "faults",
        Some("database_down"),
        &json!({"down_s": DOWN.as_secs(), "readings_per_s": REPORTS_PER_S * 24, "readings": sent * 24,
            "reports_sent_while_down": sent_while_down, "records_behind": behind,
            "seconds_to_first_write": first_rows.as_secs_f64(), "drain_s": drained.as_secs_f64(),
            "drain_ratio": drain_ratio, "gateway_rss_mib_before": rss_before, "gateway_rss_mib_max": rss_max,
            "lost": lost, "doubled": times_doubled}),
    );
    assert!(
        taken_while_down + REPORTS_PER_S * 2 >= sent_at_stop + sent_while_down,
        "intake fell behind: {taken_while_down} of {} reports",
        sent_at_stop + sent_while_down
    );
    assert!(rss_max - rss_before <= GROWTH_MIB_MAX, "memory grew from {rss_before} to {rss_max} MiB");
    assert!(drain_ratio >= DRAIN_RATIO_MIN, "drained only {drain_ratio} times as fast as it came in");
    assert_eq!((&ledger["unexplained"], &ledger["stored"]), (&json!(0), &json!(sent * 24)), "{ledger}");
    assert_eq!((lost, times_doubled), (0, 0), "in the database, after it was stopped");
}
