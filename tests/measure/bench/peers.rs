//! Two pipelines as teams build them, on the same messages: receive by MQTT, decode, write by the official InfluxDB
//! client. They do not validate, journal, deduplicate or aggregate.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{GATEWAY, Mosquitto, Saving},
    database::VictoriaMetrics,
    mqtt::password_of,
    process::{Process, eventually},
    procfs, project_dir,
};
use serde_json::{Value, json};

use super::{load::Messages, run};

const WITHIN: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(30);
/// Reports that warm a pipeline up, and that are measured.
const METERS_MAX: u64 = 40_000;

/// Figures of both with their ratio to ours on the same meters: a database's cost grows with the number of series.
pub(crate) fn measure(messages: &Messages) -> Value {
    let meters = messages.meters.min(METERS_MAX);
    let ours = run::gateway(messages, meters, false);
    let (our_ns, our_readings_per_s) = (ours.gateway_ns, ours.readings_per_s);
    let mut figures = serde_json::Map::new();
    figures.insert("meters".into(), json!(meters));
    figures
        .insert("hunhe".into(), json!({"cpu_ns_per_reading": our_ns, "readings_per_s": our_readings_per_s}));
    for (name, command) in [("node", node()), ("python", python())] {
        let (ns, readings_per_s) = one(messages, name, command);
        figures.insert(
            name.into(),
            json!({"cpu_ns_per_reading": ns, "readings_per_s": readings_per_s, "cpu_ratio": ns / our_ns,
                "throughput_ratio": our_readings_per_s / readings_per_s}),
        );
    }
    Value::Object(figures)
}

fn one(messages: &Messages, name: &str, mut command: Command) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let database = VictoriaMetrics::start(dir.path());
    let said = dir.path().join("said");
    command.arg(broker.gateway_port.to_string()).arg(database.port.to_string());
    // It takes the gateway's place, and so its user.
    command.env("BROKER_USER", GATEWAY).env("BROKER_PASSWORD", password_of(GATEWAY));
    let mut process = Process::spawn(name, command, &dir.path().join("log"), Some(&said));
    eventually(READY, &format!("{name} subscribes"), || {
        assert!(process.ended().is_none(), "the {name} pipeline ended at once");
        std::fs::read_to_string(&said).is_ok_and(|text| text.contains("ready")).then_some(())
    });
    let meters = messages.meters.min(METERS_MAX);
    let rows = meters * messages.readings;
    messages.publish(broker.port, 0..1, meters);
    eventually(WITHIN, "the first day is written", || (database.rows_inserted() >= rows).then_some(()));
    let (before, begun) = (procfs::cpu_ns(process.id()), Instant::now());
    messages.publish(broker.port, 1..2, meters);
    eventually(WITHIN, "the second day is written", || (database.rows_inserted() >= 2 * rows).then_some(()));
    let elapsed_s = begun.elapsed().as_secs_f64();
    let ns = (procfs::cpu_ns(process.id()) - before) as f64 / rows as f64;
    println!("{name}: {ns:.0} ns of CPU a reading, {:.0} readings/s", rows as f64 / elapsed_s);
    (ns, rows as f64 / elapsed_s)
}

fn folder(name: &str) -> PathBuf {
    project_dir().join("tests/measure/peers").join(name)
}

fn must(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn node() -> Command {
    let folder = folder("node");
    must(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder));
    let mut command = Command::new("node");
    command.arg(folder.join("pipeline.mjs"));
    command
}

fn python() -> Command {
    let folder = folder("python");
    let venv = project_dir().join("target/peers-python");
    if !venv.join("bin/python").exists() {
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    }
    must(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(folder.join("requirements.txt")),
    );
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(folder.join("pipeline.py"));
    command
}
