//! One run of the gateway under load.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    process::eventually,
    procfs, wire,
};
use serde_json::{Value, json};

use super::load::Messages;

const WITHIN: Duration = Duration::from_secs(600);
/// Rounds before the measured ones: the first makes the series, the second is the first that only adds to them.
pub(crate) const WARM_ROUNDS: usize = 2;

/// What a run showed; times are nanoseconds of CPU per reading.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) gateway_ns: f64,
    pub(crate) readings_per_s: f64,
    pub(crate) rss_mib: f64,
    pub(crate) registry_load_s: f64,
    pub(crate) budget: Value,
}

/// All rounds of the first `meters` meters; [`WARM_ROUNDS`] are not measured.
pub(crate) fn gateway(messages: &Messages, meters: u64, embedded: bool) -> Figures {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let database = VictoriaMetrics::start(dir.path());
    let list = dir.path().join("devices.csv");
    fs::write(&list, wire::gas_meter_list(messages.meters, 1000)).expect("a list");
    let setup = Setup {
        broker: broker.gateway_port,
        database: Some(database.port),
        registry: format!("devices = [{list:?}]"),
        more: format!("[embedded]\nenabled = {embedded}\n"),
        sink_of_record: "main",
    };
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let registry_load_s = gateway.ready_after.as_secs_f64();
    let round = meters * messages.readings;
    messages.publish(broker.port, 0..WARM_ROUNDS, meters);
    await_rows(&database, round * WARM_ROUNDS as u64);
    gateway.await_settled(round * WARM_ROUNDS as u64, WITHIN);

    let processes = [
        ("gateway", gateway.process.id()),
        ("broker", broker.process.id()),
        ("database", database.process.id()),
        ("loader", std::process::id()),
    ];
    let cpu = || processes.map(|(_, pid)| procfs::cpu_ns(pid));
    let (before, threads_before, begun) =
        (cpu(), procfs::cpu_ns_by_thread(gateway.process.id()), Instant::now());
    messages.publish(broker.port, WARM_ROUNDS..messages.rounds(), meters);
    let published_s = begun.elapsed().as_secs_f64();
    let all = round * messages.rounds() as u64;
    await_rows(&database, all);
    // The last row is in the database. What follows costs the gateway something, too: it is not the figure of throughput.
    let elapsed_s = begun.elapsed().as_secs_f64();
    gateway.await_settled(all, WITHIN);
    let (after, threads_after) = (cpu(), procfs::cpu_ns_by_thread(gateway.process.id()));

    let readings = (round * (messages.rounds() - WARM_ROUNDS) as u64) as f64;
    let ledger = gateway.ledger();
    assert_eq!(ledger["unexplained"], 0, "{ledger}");
    assert_eq!(ledger["stored"], all, "{ledger}");
    let by_process: BTreeMap<_, _> = processes
        .iter()
        .zip(before.iter().zip(after))
        .map(|((name, _), (before, after))| (*name, (after - before) as f64 / readings))
        .collect();
    let by_stage: BTreeMap<_, _> = threads_after
        .iter()
        .map(|(name, after)| {
            let before = threads_before.get(name).copied().unwrap_or(0);
            (name.clone(), after.saturating_sub(before) as f64 / readings)
        })
        .collect();
    let figures = Figures {
        gateway_ns: by_process["gateway"],
        readings_per_s: readings / elapsed_s,
        rss_mib: procfs::rss_mib(gateway.process.id()),
        registry_load_s,
        budget: json!({"by_process": by_process, "gateway_by_thread": by_stage, "loading_s": published_s, "elapsed_s": elapsed_s}),
    };
    println!(
        "embedded store {}: {:.0} ns of gateway CPU a reading, {:.0} readings/s",
        if embedded { "on" } else { "off" },
        figures.gateway_ns,
        figures.readings_per_s
    );
    println!("{:#}", figures.budget);
    figures
}

fn await_rows(database: &VictoriaMetrics, rows: u64) {
    eventually(WITHIN, "the database has the rows", || (database.rows_inserted() >= rows).then_some(()));
}
