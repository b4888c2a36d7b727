//! `hunhe-reality`: campaigns against the real programs on this machine, each with figures in `target/report` and exit
//! code 1 where a promise is broken.
//!
//! Promises: at 5,000 messages a second the 99th percentile from a delivery to its acknowledgement is under 50 ms; under
//! random SIGKILLs nothing is lost and nothing doubled; under ten times that load it stays below 256 MiB and alarms are acknowledged within a second.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand};
use hunhe_tests::{
    broker::Saving,
    kill_campaign,
    overload::{self, Plan},
    report,
};
use serde_json::{Value, json};

const MESSAGES_PER_S: u64 = 5_000;
const MIB: u64 = 1 << 20;

/// Campaigns against the real programs.
#[derive(Debug, Parser)]
#[command(name = "hunhe-reality", after_help = "Example:\n  hunhe-reality kills --count 200 --seed 7")]
struct Options {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// From a delivery to its acknowledgement at 5,000 messages a second.
    Acknowledgement {
        /// For so many seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// SIGKILLs of gateway, broker and agent: half of them with a broker that keeps what it acknowledged, half without.
    Kills {
        /// How many.
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// Decides moments and victims; drawn and printed if it is not given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Ten times the load in a memory-limited control group.
    Overload {
        /// For so many seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let broken = match Options::parse().campaign {
        Campaign::Acknowledgement { seconds } => {
            let lasting = Duration::from_secs(seconds);
            let figures = overload::run(&Plan { messages_per_s: MESSAGES_PER_S, lasting, limit_bytes: None });
            report::write("acknowledgement", None, &figures);
            broken(&figures, &[("publish_to_acknowledgement_ms_p99", 50.0), ("lost", 1.0), ("doubled", 1.0)])
        }
        Campaign::Kills { count, seed } => kills(count, seed),
        Campaign::Overload { seconds } => {
            let lasting = Duration::from_secs(seconds);
            let limit_bytes = Some(256 * MIB);
            let figures = overload::run(&Plan { messages_per_s: 10 * MESSAGES_PER_S, lasting, limit_bytes });
            report::write("overload", None, &figures);
            broken(
                &figures,
                &[
                    ("rss_peak_mib", 256.0),
                    ("alarm_to_acknowledgement_ms_p99", 1_000.0),
                    ("lost", 1.0),
                    ("doubled", 1.0),
                ],
            )
        }
    };
    for words in &broken {
        println!("BROKEN: {words}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

fn kills(count: u64, seed: Option<u64>) -> Vec<String> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = seed.unwrap_or_else(now);
    println!("seed {seed}");
    let mut words = Vec::new();
    let mut histories = Vec::new();
    for (index, saving) in [Saving::EverySecond, Saving::Never].into_iter().enumerate() {
        let plan = kill_campaign::Plan {
            kills: count / 2 + count % 2 * (1 - index as u64),
            seed: seed + index as u64,
            messages_per_s: MESSAGES_PER_S,
            saving,
            read_back_every: 1,
        };
        let figures = kill_campaign::run(&plan);
        words.extend(broken(&figures, &[("lost", 1.0), ("doubled", 1.0), ("invented", 1.0)]));
        histories.push(figures);
    }
    let sum = |key: &str| histories.iter().filter_map(|figures| figures[key].as_u64()).sum::<u64>();
    let figures = json!({
        "seed": seed, "kills": count, "lost": sum("lost"), "doubled": sum("doubled"), "invented": sum("invented"),
        "samples": sum("samples"), "with_persistence": histories[0], "without_persistence": histories[1]
    });
    report::write("kills", None, &figures);
    words
}

/// What is not below its bound.
fn broken(figures: &Value, bounds: &[(&str, f64)]) -> Vec<String> {
    let found = |name: &str| figures[name].as_f64().unwrap_or(f64::INFINITY);
    bounds
        .iter()
        .filter(|(name, bound)| found(name) >= *bound)
        .map(|(name, bound)| format!("{name} is {}, not below {bound}", found(name)))
        .collect()
}
