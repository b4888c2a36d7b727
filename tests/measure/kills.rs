//! Two histories of kills, one with a broker that keeps what it acknowledged and one with a broker that does not. See
//! `hunhe_tests::kills`.
//!
//! Promise: nothing is lost, doubled or invented.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use hunhe_tests::{
    broker::Saving,
    kills::{self, Plan},
};
use serde_json::json;

use crate::{Outcome, load::MESSAGES_PER_S, not_below};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many SIGKILLs.
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Decides moments and victims; drawn and printed if it is not given.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let (count, seed) = (options.count, options.seed.unwrap_or_else(now));
    println!("seed {seed}");
    let mut broken = Vec::new();
    let histories = [Saving::EverySecond, Saving::Never].into_iter().zip([0, 1]).map(|(saving, index)| {
        let kills = count / 2 + count % 2 * (1 - index);
        println!("{kills} kills, {saving:?}");
        let (seed, messages_per_s) = (seed + index, MESSAGES_PER_S);
        let figures = kills::run(&Plan { kills, seed, messages_per_s, saving, read_back_every: 1 });
        broken.extend(not_below(&figures, &kills::FAULTS.map(|what| (what, 1.0))));
        figures
    });
    let histories: Vec<_> = histories.collect();
    let sum = |key: &str| histories.iter().filter_map(|figures| figures[key].as_u64()).sum::<u64>();
    let figures = json!({
        "seed": seed, "kills": sum("kills"), "lost": sum("lost"), "doubled": sum("doubled"), "invented": sum("invented"),
        "samples": sum("samples"), "with_persistence": histories[0], "without_persistence": histories[1]
    });
    Outcome { figures, broken }
}
