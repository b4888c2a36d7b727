//! `hunhe-fleet`: one day of the whole city, about 238,000 devices, through the real broker and the real gateway at six
//! hundred times real time.
//!
//! The day is the last 20 October, so that tractors work. Promises: the registry loads in two seconds, a device's hot state takes
//! at most 1,200 bytes, the gateway stays below 400 MiB with every device heard of, and the ledger closes over the day. As in
//! `hunhe-bench`, the database is VictoriaMetrics and the embedded store is off, unless `--embedded` has it instead.

#![expect(clippy::expect_used, clippy::panic, reason = "a campaign that cannot go on has no figures to give")]
#![expect(clippy::cast_precision_loss, reason = "figures of a run are far below 2^53")]

use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::Parser;
use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    process::Process,
    procfs, program, report, seeds,
};
use serde_json::{Value, json};

/// How long the gateway may take for what is still on its way when the day is over.
const WITHIN: Duration = Duration::from_secs(600);
const REGISTRY_LOAD_S_MAX: f64 = 2.0;
const STATE_BYTES_MAX: u64 = 1200;
const RSS_MIB_MAX: f64 = 400.0;
/// Every agent's.
const PASSWORD: &str = "one for all";

/// A day of the whole city: `target/report/fleet.json` and a table.
#[derive(Debug, Parser)]
#[command(name = "hunhe-fleet", after_help = "Example:\n  hunhe-fleet --speed 600")]
struct Options {
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

fn main() -> ExitCode {
    let options = Options::parse();
    let run_s = options.hours * 3600 / options.speed.max(1);
    println!(
        "{} hours of the city in {run_s} s and what it takes to settle; about 5 minutes in all",
        options.hours
    );
    let state = state_bytes();
    let (mut figures, mut broken) = day(&options, run_s);
    let bytes = state["state_bytes_per_device"].as_u64().expect("a figure");
    figures["state_bytes_per_device"] = json!(bytes);
    if bytes > STATE_BYTES_MAX {
        broken.push(format!("hot state of {bytes} bytes a device, promised {STATE_BYTES_MAX}"));
    }
    figures["broken_promises"] = json!(broken);
    report::write("fleet", None, &figures);
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The last line that the core's example prints.
fn state_bytes() -> Value {
    let path = program("hunhe-gateway").with_file_name("examples").join("fleet");
    let output = Command::new(&path).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: run `make build` first", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.trim_end());
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("figures of the example")
}

fn day(options: &Options, run_s: u32) -> (Value, Vec<String>) {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let fleet = seeds("city/full.toml");
    let embedded = options.embedded;
    let database = (!embedded).then(|| VictoriaMetrics::start(dir.path()));
    let setup = Setup {
        broker: broker.gateway_port,
        database: database.as_ref().map(|database| database.port),
        registry: format!("fleets = [{fleet:?}]"),
        more: format!("[embedded]\nenabled = {embedded}\nretention = \"400d\"\n"),
        sink_of_record: if embedded { "embedded" } else { "main" },
    };
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let registry_load_s = gateway.ready_after.as_secs_f64();
    broker.admit_registry_of(&gateway, "", Some(PASSWORD));
    let password = dir.path().join("password");
    fs::write(&password, PASSWORD).expect("a password");
    let rss_mib_empty = procfs::rss_mib(gateway.process.id());

    let said = dir.path().join("edge.json");
    let mut command = command_of("hunhe-edge");
    command.args(["simulate", "--past", "part", "--drain", "300s", "--json", "--fleet"]).arg(&fleet);
    command.arg("--classes").arg(seeds("classes")).arg("--broker").arg(format!("127.0.0.1:{}", broker.port));
    command
        .arg("--password-file")
        .arg(password)
        .arg("--speed")
        .arg(options.speed.to_string())
        .arg("--for")
        .arg(format!("{run_s}s"));
    command.arg("--from").arg(autumn_midnight());
    let begun = Instant::now();
    let mut edge = Process::spawn("hunhe-edge", command, &dir.path().join("edge.log"), Some(&said));
    let (mut rss_mib_max, mut edge_cpu_ns) = (0.0_f64, 0);
    let status = loop {
        if let Some(status) = edge.ended() {
            break status;
        }
        rss_mib_max = rss_mib_max.max(procfs::rss_mib(gateway.process.id()));
        edge_cpu_ns = procfs::cpu_ns(edge.id());
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(status.success(), "the city ended with {status}");
    // Before a slow sink has settled, those that report most often are silent again.
    let reporting = gateway.http.json("/api/v1/status")["devices_reporting"].as_u64().unwrap_or(0);
    let simulated_s = begun.elapsed().as_secs_f64();
    let city: Value =
        serde_json::from_str(&fs::read_to_string(&said).expect("a summary")).expect("a summary in JSON");
    let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let sampled = count(&city, "sampled");
    let ledger = gateway.await_settled(sampled, WITHIN);
    let settled_s = begun.elapsed().as_secs_f64();
    let rss_mib = procfs::rss_mib(gateway.process.id());
    rss_mib_max = rss_mib_max.max(rss_mib);
    let devices = count(&city, "devices");

    let mut broken = Vec::new();
    let mut promise = |kept: bool, what: String| {
        if !kept {
            broken.push(what);
        }
    };
    promise(
        registry_load_s < REGISTRY_LOAD_S_MAX,
        format!("ready after {registry_load_s:.2} s, promised {REGISTRY_LOAD_S_MAX}"),
    );
    promise(
        rss_mib_max < RSS_MIB_MAX,
        format!(
            "gateway of {rss_mib:.0} MiB, of {rss_mib_max:.0} at most, promised {RSS_MIB_MAX} at any time"
        ),
    );
    promise(reporting == devices, format!("{reporting} of {devices} devices were heard of"));
    promise(ledger["closed"] == true, format!("the ledger is open: {ledger}"));
    promise(
        count(&ledger, "stored") == sampled
            && count(&ledger, "sampled") == sampled
            && ["quarantined", "declared_lost", "outstanding", "unexplained"]
                .iter()
                .all(|class| ledger[class] == 0),
        format!("{sampled} samples were taken, the ledger says {ledger}"),
    );
    let cpu_s = |ns: u64| ns as f64 / 1e9;
    let figures = json!({
        "devices": devices,
        "agents": city["agents"],
        "hours": options.hours,
        "speed": options.speed,
        "embedded": embedded,
        "samples": sampled,
        "reports": city["published"],
        "payload_bytes": city["bytes"],
        "registry_load_s": registry_load_s,
        "gateway_rss_mib_empty": rss_mib_empty,
        "gateway_rss_mib_full_fleet": rss_mib,
        "gateway_rss_mib_max": rss_mib_max,
        "simulated_s": simulated_s,
        "settled_s": settled_s,
        "samples_per_s": sampled as f64 / settled_s,
        "gateway_cpu_s": cpu_s(procfs::cpu_ns(gateway.process.id())),
        "gateway_cpu_s_by_thread": procfs::cpu_ns_by_thread(gateway.process.id())
            .into_iter()
            .map(|(name, ns)| (name, cpu_s(ns)))
            .collect::<std::collections::BTreeMap<_, _>>(),
        "broker_cpu_s": cpu_s(procfs::cpu_ns(broker.process.id())),
        "database_cpu_s": database.as_ref().map(|database| cpu_s(procfs::cpu_ns(database.process.id()))),
        "city_cpu_s": cpu_s(edge_cpu_ns),
        "ledger": ledger,
    });
    (figures, broken)
}

/// The last 20 October that is wholly over, at midnight in Shenyang.
fn autumn_midnight() -> String {
    let output = Command::new("date").args(["-u", "+%Y %m%d"]).output().expect("date runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let (year, day) = text.trim().split_once(' ').expect("a year and a day");
    let (year, day): (u32, u32) = (year.parse().expect("a year"), day.parse().expect("a day"));
    format!("{}-10-19T16:00:00Z", if day > 1021 { year } else { year - 1 })
}
