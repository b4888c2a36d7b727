//! What a reading costs, end to end, with the real broker and the real database on this machine.
//!
//! Reports of hourly gas registers, encoded beforehand, go over Mosquitto into the gateway with all its steps on and out to
//! VictoriaMetrics: once without and once with the embedded store. Two rounds of reports warm the database, and the time ends
//! with the last row there, not with the wait until rows are durable. CPU time is what Linux accounts to each process, broker,
//! database and loader included, as they share the cores. With `--peers` two usual pipelines do the part of it that they can
//! (receive, decode, write, with the same tags) on the same messages in the same run. With `--growth` a table says how the cost
//! of a reading grows with the number of devices, and with the readings of a message.

mod load;
mod peers;
mod run;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{Outcome, example_figures};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Gas meters.
    #[arg(long, default_value_t = 170_000)]
    meters: u64,
    /// Days of reports that are measured, after two that warm the database.
    #[arg(long, default_value_t = 2)]
    days: u64,
    /// Also measure a Node.js and a Python pipeline.
    #[arg(long)]
    peers: bool,
    /// Also measure other numbers of devices, and of readings in a message.
    #[arg(long)]
    growth: bool,
}

/// Devices and measured rounds of 24 readings, and readings in a message of 20,000 devices and measured rounds.
const DEVICES: [(u64, u64); 4] = [(1_000, 40), (10_000, 8), (100_000, 2), (1_000_000, 1)];
const READINGS: [(u64, u64); 3] = [(1, 24), (24, 4), (100, 2)];
const METERS_FOR_READINGS: u64 = 20_000;
const DAY: u64 = hunhe_tests::wire::GAS_SAMPLES as u64;

pub(crate) fn run(options: &Options) -> Outcome {
    let mut figures = city(options);
    if options.growth {
        figures.insert("by_devices".into(), by_devices());
        figures.insert("by_readings_per_message".into(), by_readings());
    }
    // The costs of today are figures, not promises.
    Outcome { figures: Value::Object(figures), broken: Vec::new() }
}

fn messages(meters: u64, measured: u64, readings: u64) -> load::Messages {
    let rounds = measured + run::WARM_ROUNDS as u64;
    println!("making {rounds} reports of {readings} readings of each of {meters} meters");
    load::Messages::new(meters, rounds, readings)
}

fn city(options: &Options) -> Map<String, Value> {
    let messages = messages(options.meters, options.days, DAY);
    let mut figures = Map::new();
    figures.insert("meters".into(), json!(options.meters));
    figures.insert("readings_per_message".into(), json!(DAY));
    figures.insert("payload_bytes_per_reading".into(), json!(messages.payload_bytes_per_reading()));

    let without = run::gateway(&messages, options.meters, false);
    figures.insert("gateway_cpu_ns_per_reading".into(), json!(without.gateway_ns));
    figures.insert("readings_per_s".into(), json!(without.readings_per_s));
    figures.insert("gateway_rss_mib_full_fleet".into(), json!(without.rss_mib));
    figures.insert("registry_load_s".into(), json!(without.registry_load_s));
    let with = run::gateway(&messages, options.meters, true);
    figures.insert("gateway_cpu_ns_per_reading_with_embedded".into(), json!(with.gateway_ns));
    figures.insert("readings_per_s_with_embedded".into(), json!(with.readings_per_s));
    figures.insert("gateway_rss_mib_full_fleet_with_embedded".into(), json!(with.rss_mib));
    figures.insert("budget_ns_per_reading".into(), without.budget);
    figures.insert("budget_ns_per_reading_with_embedded".into(), with.budget);
    for (example, arguments) in [("codec", vec![]), ("lane", vec![options.meters.to_string()])] {
        if let Value::Object(of_example) = example_figures(example, &arguments) {
            figures.extend(of_example);
        }
    }
    if options.peers {
        figures.insert("peers".into(), peers::measure(&messages));
    }
    figures
}

fn by_devices() -> Value {
    let costs = DEVICES.map(|(meters, rounds)| {
        let cost = run::gateway(&messages(meters, rounds, DAY), meters, false);
        (meters.to_string(), row(&cost))
    });
    Value::Object(costs.into_iter().collect())
}

fn by_readings() -> Value {
    let costs = READINGS.map(|(readings, rounds)| {
        let cost = run::gateway(&messages(METERS_FOR_READINGS, rounds, readings), METERS_FOR_READINGS, false);
        (readings.to_string(), row(&cost))
    });
    Value::Object(costs.into_iter().collect())
}

fn row(cost: &run::Figures) -> Value {
    json!({
        "gateway_cpu_ns_per_reading": cost.gateway_ns, "readings_per_s": cost.readings_per_s, "rss_mib": cost.rss_mib,
    })
}
