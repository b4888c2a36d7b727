//! One day of the whole city, about 238,000 devices, through the real broker and the real gateway at six hundred times real time.
//!
//! The day is the last 20 October, so that tractors work. Promises: the registry loads in two seconds, a device's hot state takes
//! at most 1,200 bytes, the gateway stays below 400 MiB with every device heard of, and the ledger closes over the day. As in the
//! benchmark, the database is VictoriaMetrics and the embedded store is off, unless `--embedded` has it instead.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    process::Process,
    procfs, seeds,
};
use serde_json::{Value, json};

use crate::{Outcome, example_figures};

/// How long the gateway may take for what is still on its way when the day is over.
const WITHIN: Duration = Duration::from_secs(600);
const REGISTRY_LOAD_S_MAX: f64 = 2.0;
const STATE_BYTES_MAX: u64 = 1200;
const RSS_MIB_MAX: f64 = 400.0;
const CITY: &str = "city/full.toml";
/// Every agent's.
const PASSWORD: &str = "one for all";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Event seconds a second.
    #[arg(long, default_value_t = 600)]
    speed: u32,
    /// Hours of event time.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// The embedded store instead of a database. It keeps the day's open blocks in memory, beyond what is promised.
    #[arg(long)]
    embedded: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let run_s = options.hours * 3600 / options.speed.max(1);
    println!("{} hours of the city in {run_s} s and what it takes to settle", options.hours);
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let embedded = options.embedded;
    let database = (!embedded).then(|| VictoriaMetrics::start(dir.path()));
    let setup = Setup {
        broker: broker.gateway_port,
        database: database.as_ref().map(|database| database.port),
        registry: format!("fleets = [{:?}]", seeds(CITY)),
        more: format!("[embedded]\nenabled = {embedded}\nretention = \"400d\"\n"),
        sink_of_record: if embedded { "embedded" } else { "main" },
    };
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let rss_mib_empty = procfs::rss_mib(gateway.process.id());
    broker.admit_registry_of(&gateway, "", Some(PASSWORD));
    let day = day(dir.path(), options, run_s, &broker, &gateway);

    let bytes = example_figures("fleet", &[])["state_bytes_per_device"].as_u64().expect("a figure");
    let broken = broken_promises(&day, gateway.ready_after.as_secs_f64(), bytes);
    let cpu_s = |ns: u64| ns as f64 / 1e9;
    let of_threads = procfs::cpu_ns_by_thread(gateway.process.id()).into_iter();
    let figures = json!({
        "devices": day.city["devices"], "agents": day.city["agents"], "hours": options.hours,
        "speed": options.speed, "embedded": embedded, "samples": day.city["sampled"],
        "reports": day.city["published"], "payload_bytes": day.city["bytes"], "state_bytes_per_device": bytes,
        "registry_load_s": gateway.ready_after.as_secs_f64(), "gateway_rss_mib_empty": rss_mib_empty,
        "gateway_rss_mib_full_fleet": procfs::rss_mib(gateway.process.id()),
        "gateway_rss_mib_max": day.rss_mib_max, "simulated_s": day.simulated_s, "settled_s": day.settled_s,
        "samples_per_s": day.city["sampled"].as_f64().unwrap_or(0.0) / day.settled_s,
        "gateway_cpu_s": cpu_s(procfs::cpu_ns(gateway.process.id())),
        "gateway_cpu_s_by_thread": of_threads.map(|(name, ns)| (name, cpu_s(ns))).collect::<BTreeMap<_, _>>(),
        "broker_cpu_s": cpu_s(procfs::cpu_ns(broker.process.id())),
        "database_cpu_s": database.as_ref().map(|database| cpu_s(procfs::cpu_ns(database.process.id()))),
        "city_cpu_s": cpu_s(day.edge_cpu_ns), "ledger": day.ledger,
    });
    Outcome { figures, broken }
}

/// What the city did and the gateway made of it.
struct Day {
    /// The simulator's summary.
    city: Value,
    ledger: Value,
    devices_reporting: u64,
    rss_mib_max: f64,
    edge_cpu_ns: u64,
    simulated_s: f64,
    settled_s: f64,
}

fn day(dir: &Path, options: &Options, run_s: u32, broker: &Mosquitto, gateway: &Gateway) -> Day {
    let (password, summary) = (dir.join("password"), dir.join("edge.json"));
    fs::write(&password, PASSWORD).expect("a password");
    let mut command = command_of("hunhe-edge");
    command.args(["simulate", "--past", "part", "--drain", "300s", "--json", "--fleet"]).arg(seeds(CITY));
    command.arg("--classes").arg(seeds("classes")).arg("--broker").arg(format!("127.0.0.1:{}", broker.port));
    command.arg("--password-file").arg(password).arg("--speed").arg(options.speed.to_string());
    command.arg("--for").arg(format!("{run_s}s")).arg("--from").arg(autumn_midnight());
    let begun = Instant::now();
    let mut edge = Process::spawn("hunhe-edge", command, &dir.join("edge.log"), Some(&summary));
    let (mut rss_mib_max, mut edge_cpu_ns, mut next_line_s) = (0.0_f64, 0, 0);
    let status = loop {
        if let Some(status) = edge.ended() {
            break status;
        }
        let rss_mib = procfs::rss_mib(gateway.process.id());
        rss_mib_max = rss_mib_max.max(rss_mib);
        edge_cpu_ns = procfs::cpu_ns(edge.id());
        if begun.elapsed().as_secs() >= next_line_s {
            println!("{next_line_s:4} s of {run_s}: gateway of {rss_mib:.0} MiB");
            next_line_s += 30;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(status.success(), "the city ended with {status}");
    // Before a slow sink has settled, those that report most often are silent again.
    let devices_reporting = gateway.http.json("/api/v1/status")["devices_reporting"].as_u64().unwrap_or(0);
    let simulated_s = begun.elapsed().as_secs_f64();
    println!("the day is over after {simulated_s:.0} s; now the sinks");
    let city = fs::read_to_string(&summary).expect("a summary");
    let city: Value = serde_json::from_str(&city).expect("a summary in JSON");
    let ledger = gateway.await_settled(city["sampled"].as_u64().unwrap_or(0), WITHIN);
    let settled_s = begun.elapsed().as_secs_f64();
    rss_mib_max = rss_mib_max.max(procfs::rss_mib(gateway.process.id()));
    Day { city, ledger, devices_reporting, rss_mib_max, edge_cpu_ns, simulated_s, settled_s }
}

fn broken_promises(day: &Day, registry_load_s: f64, state_bytes: u64) -> Vec<String> {
    let Day { city, ledger, devices_reporting, rss_mib_max, .. } = day;
    let sampled = &city["sampled"];
    let is_whole = ledger["stored"] == *sampled
        && ledger["sampled"] == *sampled
        && ["quarantined", "declared_lost", "outstanding", "unexplained"]
            .iter()
            .all(|what| ledger[what] == 0);
    let promises = [
        (
            registry_load_s < REGISTRY_LOAD_S_MAX,
            format!("ready after {registry_load_s:.2} s, promised {REGISTRY_LOAD_S_MAX}"),
        ),
        (*rss_mib_max < RSS_MIB_MAX, format!("gateway of {rss_mib_max:.0} MiB, promised {RSS_MIB_MAX}")),
        (
            city["devices"] == *devices_reporting,
            format!("{devices_reporting} of {} devices were heard of", city["devices"]),
        ),
        (ledger["closed"] == true, format!("the ledger is open: {ledger}")),
        (is_whole, format!("{sampled} samples were taken, the ledger says {ledger}")),
        (
            state_bytes <= STATE_BYTES_MAX,
            format!("hot state of {state_bytes} bytes a device, promised {STATE_BYTES_MAX}"),
        ),
    ];
    promises.into_iter().filter(|(holds, _)| !holds).map(|(_, words)| words).collect()
}

/// The last 20 October that is wholly over, at midnight in Shenyang.
fn autumn_midnight() -> String {
    let output = Command::new("date").args(["-u", "+%Y %m%d"]).output().expect("date runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let (year, day) = text.trim().split_once(' ').expect("a year and a day");
    let (year, day): (u32, u32) = (year.parse().expect("a year"), day.parse().expect("a day"));
    format!("{}-10-19T16:00:00Z", if day > 1021 { year } else { year - 1 })
}
