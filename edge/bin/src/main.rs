//! The `hunhe-edge` program: an agent, a check of its configuration, a new agent's first file, and under the feature
//! `simulate` a simulated fleet. A field build leaves the feature out, and with it every line of the simulator.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration.

mod cli;
#[cfg(feature = "simulate")]
mod simulate;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // What a device measured belongs to its household: only the agent's user may read it.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let cli = cli::Cli::parse();
    match cli::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            use std::io::Write;
            // Standard error may be closed; the exit code remains.
            let _ = writeln!(std::io::stderr(), "hunhe-edge: {:#}", failure.error);
            ExitCode::from(failure.code)
        }
    }
}
