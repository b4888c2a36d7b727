//! SIGKILL of VictoriaMetrics under load, again and again. It loses rows that it had acknowledged; afterwards every reading is
//! there, exactly once, and what the ledger called stored had been on the database's disk.

use std::time::{Duration, Instant};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    load::Load,
    process::eventually,
    report, wire,
};
use serde_json::json;

const METERS: u64 = 2_000;
/// Reports of 24 readings.
const REPORTS_PER_S: u64 = 200;
const KILLS: u64 = 5;
/// Killed together with the gateway, the database is asked before the gateway can mend anything.
const KILL_BOTH: u64 = 3;
/// Time between kills: less and more than the database takes to have something on its disk.
const BETWEEN: [Duration; 5] = [
    Duration::from_secs(6),
    Duration::from_secs(3),
    Duration::from_secs(13),
    Duration::from_secs(28),
    Duration::from_secs(8),
];
/// The lag, and what a slow machine needs.
const SETTLE: Duration = Duration::from_secs(120);

fn points(database: &VictoriaMetrics, raw: bool) -> (u64, u64) {
    let series = database.export("gas_meter_register", raw);
    let all = series.values().map(|points| points.len() as u64).sum();
    let doubled = series
        .values()
        .map(|points| points.windows(2).filter(|pair| pair[0].0 == pair[1].0).count() as u64)
        .sum();
    (all, doubled)
}

#[test]
fn a_database_killed_under_load_loses_nothing_for_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let mut database = VictoriaMetrics::start(dir.path());
    let list = dir.path().join("devices.csv");
    std::fs::write(&list, wire::gas_meter_list(METERS, 1000)).expect("a list");
    let setup = Setup {
        broker: broker.gateway_port,
        database: Some(database.port),
        registry: format!("devices = [{list:?}]"),
        more: "[embedded]\nenabled = false\n".into(),
        sink_of_record: "main",
    };
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    let load = Load::start(broker.port, METERS, REPORTS_PER_S);
    let stored = |gateway: &Gateway| gateway.ledger()["stored"].as_u64().expect("a count");
    let (mut rewinds, mut lost_to_kills) = (0, 0);
    let mut stored_at_kill = 0;
    for (kill, between) in (0..KILLS).zip(BETWEEN) {
        let begun = Instant::now();
        eventually(2 * between, "the load goes on", || (begun.elapsed() >= between).then_some(()));
        let rows_before = database.rows_inserted();
        let said_stored = stored(&gateway);
        let rewinds_before = gateway.sink("main")["rewinds"].as_u64().expect("a count");
        database.kill();
        if kill == KILL_BOTH {
            gateway.process.kill();
            database.restart();
            let (there, doubled) = points(&database, false);
            println!("both killed: {said_stored} were called stored, {there} are there");
            assert!(there - doubled >= said_stored, "stored means on the database's disk");
            stored_at_kill = said_stored;
            gateway.kill_and_restart();
        } else {
            database.restart();
            eventually(SETTLE, "the sink goes back", || {
                (gateway.sink("main")["rewinds"].as_u64()? > rewinds_before).then_some(())
            });
            rewinds += 1;
            lost_to_kills += u64::from(rows_before > 0);
        }
        println!(
            "kill {kill} after {between:?}: {said_stored} stored, {rows_before} rows taken since its start"
        );
    }
    let sent = load.stop();
    let ledger = gateway.await_settled(sent * 24, SETTLE);
    let (there, doubled) = points(&database, false);
    let (written, _) = points(&database, true);
    let lost = (sent * 24).saturating_sub(there - doubled);
    report::write(
        "faults",
        Some("database_killed"),
        &json!({"kills": KILLS, "readings": sent * 24, "readings_per_s": REPORTS_PER_S * 24, "lost": lost,
            "doubled": doubled, "rewinds": rewinds, "points_as_they_lie_on_disk": written,
            "stored_when_both_were_killed": stored_at_kill}),
    );
    assert_eq!((lost, doubled), (0, 0));
    assert_eq!(there, sent * 24);
    assert_eq!((&ledger["unexplained"], &ledger["stored"]), (&json!(0), &json!(sent * 24)), "{ledger}");
    assert!(stored_at_kill > 0, "the pause before killing both was long enough for something to be stored");
    assert!(lost_to_kills > 0);
}
