//! What a reading costs, end to end, with the real broker and the real database on this machine.
//!
//! Reports of a day of hourly gas registers (24 readings), encoded beforehand, go over Mosquitto into the gateway with
//! all its steps on and out to VictoriaMetrics: once without and once with the embedded store. CPU time is what Linux
//! accounts to each process, broker, database and loader included, as they share the cores. With `--peers` two usual
//! pipelines do the part of it that they can (receive, decode, write) on the same messages in the same run.

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
}

pub(crate) fn run(options: &Options) -> Outcome {
    let days = options.days + run::WARM_DAYS as u64;
    println!("making {days} days of reports of {} meters", options.meters);
    let messages = load::Messages::of_days(options.meters, days);
    let mut figures = Map::new();
    figures.insert("meters".into(), json!(options.meters));
    figures.insert("readings_per_message".into(), json!(hunhe_tests::wire::GAS_SAMPLES));
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
        let peers = peers::measure(&messages);
        figures.insert("peers".into(), peers);
    }
    // The costs of today are figures, not promises.
    Outcome { figures: Value::Object(figures), broken: Vec::new() }
}
