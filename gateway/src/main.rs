//! The program: reads the command line, does what it says, and turns the outcome into an exit code.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use hunhe_gateway::ops::cli::{self, BAD_CONFIGURATION, Cli, Command, JournalCommand, SaveError, exit_code};
use hunhe_gateway::setup::config::Faults;
use hunhe_gateway::setup::registry::RegistryError;
use hunhe_gateway::{api, demo, ops::observe, run};
use hunhe_log::inspect;

fn main() -> ExitCode {
    // Whatever is written tells who lives where: nobody but the gateway's user reads it, whoever starts the gateway.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// One line a command: what follows is its own module's business.
fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match command {
        Command::Run(configured) => {
            drop(out);
            let config = configured.load()?.config;
            observe::start(&config.log)?;
            run::run(config).map(|()| ExitCode::SUCCESS)
        }
        Command::Demo(options) => {
            drop(out);
            demo::run(options)
        }
        Command::Check(options) => Ok(ExitCode::from(cli::check(&options, &mut out)?)),
        Command::Ledger(asking) => Ok(exit_code(wait(cli::ledger(&asking, &mut out))??)),
        Command::Quarantine(command) => Ok(exit_code(wait(cli::quarantine(&command, &mut out))??)),
        Command::Backup(options) => {
            wait(cli::backup(&options, &mut out))??;
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore(options) => cli::restore(&options, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Registry(command) => cli::registry(&command, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Journal(command) => journal(&command, &mut out),
        Command::Openapi => {
            writeln!(out, "{}", api::openapi())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn journal(command: &JournalCommand, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (asked, look): (_, fn(&_, &_) -> _) = match command {
        JournalCommand::Verify(asked) => (asked, inspect::verify),
        JournalCommand::Stat(asked) => (asked, inspect::stat),
        JournalCommand::Repair(asked) => (asked, inspect::repair),
    };
    let dir = asked.dir.display();
    anyhow::ensure!(asked.dir.is_dir(), "{dir} is no folder: name a journal's, as /var/lib/hunhe/journal");
    let report = look(&hunhe_disk::real(), &asked.dir)?;
    if asked.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    let good = match command {
        JournalCommand::Repair(_) => !report.lost_records,
        JournalCommand::Verify(_) | JournalCommand::Stat(_) => report.sound,
    };
    Ok(exit_code(good))
}

fn wait<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Says what went wrong and why, and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    // Standard error is the last resort: where even that is gone, the exit code remains.
    let _ = writeln!(io::stderr(), "hunhe-gateway: {error:#}");
    let misconfigured = error.chain().any(|source_lsn: &(dyn Error + 'static)| {
        source_lsn.is::<Faults>()
            || matches!(source_lsn.downcast_ref(), Some(RegistryError::Faults(_)))
            || source_lsn.downcast_ref().is_some_and(SaveError::is_usage)
            || source_lsn.downcast_ref().is_some_and(cli::is_restore_usage)
    });
    if misconfigured { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::FAILURE }
}

/// A reader such as `head` had enough: no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|source_lsn| {
        source_lsn.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
