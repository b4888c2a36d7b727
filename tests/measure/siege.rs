//! A city under siege: every attacker alone, and all of them together, beside honest readings and true alarms. See
//! `hunhe_tests::siege`.
//!
//! Promises: beside one attacker an alarm is on the page, at MQTT and at the webhook within 250 ms in 99 of 100 cases and within a
//! second in all; beside all of them within 500 ms and two seconds. The gateway's resident memory stays within 512 MiB, no honest
//! sample is lost or forged, and everything drains. An attacker without effect breaks the siege.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use hunhe_tests::siege::{self, Plan};

use crate::Outcome;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long each attacker is alone; 0: none is.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// How long all attack together; 0: they do not.
    #[arg(long, default_value_t = 120)]
    together: u64,
    /// Only this attacker; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Honest readings a second.
    #[arg(long, default_value_t = 5_000)]
    readings: u64,
    /// Name the attackers, and do nothing.
    #[arg(long)]
    list: bool,
}

/// No outcome where nothing was to be measured, but an exit code.
pub(crate) fn run(options: Options) -> Result<Outcome, ExitCode> {
    let known = siege::attackers();
    if options.list {
        known.iter().for_each(|(name, about)| println!("{name:<19} {about}"));
        return Err(ExitCode::SUCCESS);
    }
    if let Some(unknown) = options.only.iter().find(|name| !known.iter().any(|(known, _)| known == name)) {
        println!("no attacker is called {unknown:?}: `hunhe-measure siege --list` names them");
        return Err(ExitCode::from(2));
    }
    let lasting = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
    let plan = Plan {
        alone: lasting(options.seconds),
        together: lasting(options.together),
        only: options.only,
        readings_per_s: options.readings,
        beside_tests: false,
    };
    let (figures, broken) = siege::run(&plan);
    Ok(Outcome { figures, broken })
}
