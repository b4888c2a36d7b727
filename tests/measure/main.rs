//! `hunhe-measure`: what needs minutes or hours to be shown, on the real programs, broker and database of this machine.
//!
//! Promises: a measurement writes its figures to `target/report/NAME.json`, with command, commit and machine, and prints them as a
//! table; exit code 1 where one breaks a promise, and each broken promise on a line of its own. Nothing in a report stands for
//! something that the run did not measure or was not told.
//!
//! Deliberately absent: the simulator (`hunhe-sim`) and planted bugs (`hunhe-mutants`), which need neither broker nor database.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on has no figures to give"
)]
#![expect(clippy::cast_precision_loss, reason = "figures of a run are far below 2^53")]

mod alarms;
mod bench;
mod campaign;
mod fleet;
mod kills;
mod load;
mod siege;

use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use hunhe_tests::{program, report};
use serde_json::{Value, json};

/// Measures the real programs on this machine. `make` has a target for each, which builds what it needs.
#[derive(Debug, Parser)]
#[command(
    name = "hunhe-measure",
    after_help = "Figures: target/report/NAME.json. Exit code 1: a promise is broken.\n\nExamples:\n  \
                  hunhe-measure kills --count 20 --seed 7\n  hunhe-measure bench --meters 10000 --days 2\n  \
                  hunhe-measure siege --only questions --only junk --together 0"
)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What a reading costs, end to end (3 minutes; with --peers 10 more, with --growth 8 more).
    Bench(bench::Options),
    /// From a delivery to its acknowledgement at 5,000 messages a second (half a minute).
    Acknowledgement(load::Acknowledgement),
    /// Ten times the load in 256 MiB; needs root for the memory limit (1 minute).
    Overload(load::Overload),
    /// SIGKILLs of gateway, broker and agent: half of them with a broker that keeps what it acknowledged (12 minutes).
    Kills(kills::Options),
    /// From a detector's report to a webhook, beside a backlog of forty days (2 minutes).
    Alarms(alarms::Options),
    /// A day of the whole city, about 238,000 devices (5 minutes).
    Fleet(fleet::Options),
    /// Attackers one by one and all together, beside honest readings and true alarms (6 minutes).
    Siege(siege::Options),
    /// The full figures about faults, in pieces; goes on where it was cut off (3 hours).
    Campaign(campaign::Options),
}

/// What a measurement found.
#[derive(Debug)]
struct Outcome {
    figures: Value,
    /// Promises that do not hold, in words.
    broken: Vec<String>,
}

fn main() -> ExitCode {
    let (name, outcome) = match Options::parse().what {
        What::Bench(options) => ("bench", bench::run(&options)),
        What::Acknowledgement(options) => ("acknowledgement", options.run()),
        What::Overload(options) => ("overload", options.run()),
        What::Kills(options) => ("kills", kills::run(&options)),
        What::Alarms(options) => ("alarms", alarms::run(&options)),
        What::Fleet(options) => ("fleet", fleet::run(&options)),
        What::Siege(options) => match siege::run(options) {
            Ok(outcome) => ("siege", outcome),
            Err(code) => return code,
        },
        What::Campaign(options) => return campaign::run(&options),
    };
    let Outcome { mut figures, broken } = outcome;
    figures["broken_promises"] = json!(broken);
    report::write(name, None, &figures);
    broken.iter().for_each(|words| println!("BROKEN: {words}"));
    ExitCode::from(u8::from(!broken.is_empty()))
}

/// Each figure that is not below its bound.
fn not_below(figures: &Value, bounds: &[(&str, f64)]) -> Vec<String> {
    let found = |name: &str| figures[name].as_f64().unwrap_or(f64::INFINITY);
    let broken = bounds.iter().filter(|(name, bound)| found(name) >= *bound);
    broken.map(|(name, bound)| format!("{name} is {}, not below {bound}", found(name))).collect()
}

/// The figures that an example prints as its last line.
fn example_figures(name: &str, arguments: &[String]) -> Value {
    let path = program("hunhe-gateway").with_file_name("examples").join(name);
    let output = Command::new(&path).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: run `make build` first", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
}
