//! The command line: what can be asked of `hunhe-gateway`, and the commands that need nothing but files or a running
//! gateway's HTTP interface. The program itself (`main.rs`) adds those that start something.
//!
//! Reports go to standard output and everything else to standard error. Exit codes: 0 done; 1 failed, or the answer
//! is bad news (a ledger that does not close, a damaged journal, a database that is not ready); 2 bad usage or configuration.

mod ask;
mod backup;
mod check;
mod quarantine;
mod registry;
mod write_off;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::setup::config::{Faults, Layers, Loaded, Period};

pub use ask::{AskError, ledger};
pub use backup::{BackupOptions, RestoreOptions, SaveError, backup, is_restore_usage, restore};
pub use check::check;
pub use quarantine::quarantine;
pub use registry::registry;

/// Bad usage or configuration.
pub const BAD_CONFIGURATION: u8 = 2;

/// The Hunhe telemetry gateway.
#[derive(Debug, Parser)]
#[command(name = "hunhe-gateway", version, about, propagate_version = true)]
#[command(
    after_help = "Example:\n  hunhe-gateway demo --for 30s\n\nExit codes: 0 done, 1 failed, 2 bad usage or configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway until it is told to stop (SIGINT, SIGTERM).
    #[command(
        after_help = "Example:\n  hunhe-gateway run --config /etc/hunhe/hunhe-gateway.toml --set log.level=debug"
    )]
    Run(Configured),
    /// Show a simulated city in one process, on loopback, with nothing to install.
    #[command(after_help = "Example:\n  hunhe-gateway demo --for 30s --json")]
    Demo(DemoOptions),
    /// Check configuration and registry; ask each database, and create a missing bucket.
    #[command(after_help = "Example:\n  hunhe-gateway check --config /etc/hunhe/hunhe-gateway.toml --show")]
    Check(CheckOptions),
    /// Ask a running gateway whether every sample is accounted for; exit 1 if not.
    #[command(after_help = "Example:\n  hunhe-gateway ledger --json")]
    Ledger(LedgerOptions),
    /// Save everything a gateway keeps to one file, while it runs.
    #[command(after_help = "Example:\n  hunhe-gateway backup --to /srv/backup/hunhe-monday.backup")]
    Backup(BackupOptions),
    /// Make a data folder of a backup; then start the gateway as usual.
    #[command(
        after_help = "Example:\n  hunhe-gateway restore --from hunhe-monday.backup --config /etc/hunhe/hunhe-gateway.toml"
    )]
    Restore(RestoreOptions),
    /// Look at a journal's folder while no gateway needs it, or beside a running one.
    #[command(subcommand, after_help = "Example:\n  hunhe-gateway journal verify /var/lib/hunhe/journal")]
    Journal(JournalCommand),
    /// What follows from the registry.
    #[command(
        subcommand,
        after_help = "Example:\n  hunhe-gateway registry acl --config /etc/hunhe/hunhe-gateway.toml"
    )]
    Registry(RegistryCommand),
    /// What a running gateway refused, and why.
    #[command(subcommand, after_help = "Example:\n  hunhe-gateway quarantine list --reason out_of_range")]
    Quarantine(QuarantineCommand),
    /// Print the HTTP interface's OpenAPI document.
    #[command(after_help = "Example:\n  hunhe-gateway openapi > openapi.json")]
    Openapi,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct Configured {
    /// The TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set a key over file and environment; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

impl Configured {
    /// The configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Faults> {
        Layers::of_process(Some(self.config.clone()), self.set.clone()).load()
    }
}

/// How the demonstration runs.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DemoOptions {
    /// End after this time with the ledger on standard output, and exit 0 only if it closes.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// How many times faster than the clock events go.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub speed: u32,
    /// Simulated devices beside the recording.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub devices: u32,
    /// What goes wrong: a file in seeds/scenarios without its ending, or `none`.
    #[arg(long, value_name = "NAME", default_value = "shenyang")]
    pub scenario: String,
    /// Where page and API listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Keep the data here; without it, in a temporary folder that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to check and what to show.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// The TOML file.
    #[arg(long, value_name = "FILE", required_unless_present = "sample")]
    pub config: Option<PathBuf>,
    /// Set a key over file and environment; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Show what holds and where it was written, secrets masked.
    #[arg(long)]
    pub show: bool,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Print a commented file with every key instead.
    #[arg(long, conflicts_with_all = ["config", "set", "show", "json"])]
    pub sample: bool,
}

/// Which running gateway to ask.
#[derive(Debug, Clone, Args)]
pub struct Asking {
    /// Address of the gateway's HTTP interface.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The ledger, or what is written off in it.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LedgerOptions {
    /// What to do; nothing: show it.
    #[command(subcommand)]
    pub command: Option<LedgerCommand>,
    /// Which gateway.
    #[command(flatten)]
    pub asking: Asking,
}

/// What to do with what the ledger cannot explain.
#[derive(Debug, Clone, Subcommand)]
pub enum LedgerCommand {
    /// Declare lost what is unexplained of a device now; it stays in the audit trail.
    #[command(
        after_help = "Example:\n  hunhe-gateway ledger write-off --device p-1042 --reason backup-of-monday --by lin"
    )]
    WriteOff {
        /// Which gateway.
        #[command(flatten)]
        asking: Asking,
        /// Device, as the ledger by device names it.
        #[arg(long, value_name = "NAME")]
        device: String,
        /// Why, in a line.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who; by default the user who is logged in here.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// What was written off, newest first.
    #[command(after_help = "Example:\n  hunhe-gateway ledger write-offs --limit 20")]
    WriteOffs {
        /// Which gateway.
        #[command(flatten)]
        asking: Asking,
        /// Write-offs at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
}

/// What to do with a journal.
#[derive(Debug, Clone, Subcommand)]
pub enum JournalCommand {
    /// Read every record and change nothing; exit 1 if anything is not as it was written.
    #[command(after_help = "Example:\n  hunhe-gateway journal verify /var/lib/hunhe/journal")]
    Verify(JournalDir),
    /// Tell what the folder holds without reading every record.
    #[command(after_help = "Example:\n  hunhe-gateway journal stat /var/lib/hunhe/journal --json")]
    Stat(JournalDir),
    /// Mend what can be mended, with the gateway stopped; exit 1 if records are lost.
    #[command(after_help = "Example:\n  hunhe-gateway journal repair /var/lib/hunhe/journal")]
    Repair(JournalDir),
}

/// A journal's folder.
#[derive(Debug, Clone, Args)]
pub struct JournalDir {
    /// The folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to make of the registry.
#[derive(Debug, Clone, Subcommand)]
pub enum RegistryCommand {
    /// Write the broker's access list for agents: each publishes for its own devices alone.
    #[command(
        after_help = "Example:\n  hunhe-gateway registry acl --config /etc/hunhe/hunhe-gateway.toml --out /etc/mosquitto/hunhe-agents.acl\n\n\
                      A new file is yours alone: make it the broker's first (chown mosquitto: FILE).\n\
                      Mosquitto reads it again on SIGHUP: systemctl reload mosquitto."
    )]
    Acl(AclOptions),
}

/// Where the access list goes.
#[derive(Debug, Clone, Args)]
pub struct AclOptions {
    /// Which registry.
    #[command(flatten)]
    pub configured: Configured,
    /// Replace this file in one step; its owner, group and mode stay. Without it the list goes to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Lines of your own, put at the end: who may read hunhe/v1/alerts/#, for example.
    #[arg(long, value_name = "FILE")]
    pub with: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long, requires = "out")]
    pub json: bool,
}

/// What to do with what was refused.
#[derive(Debug, Clone, Subcommand)]
pub enum QuarantineCommand {
    /// The newest records.
    #[command(after_help = "Example:\n  hunhe-gateway quarantine list --reason out_of_range --limit 20")]
    List {
        /// Which gateway.
        #[command(flatten)]
        asking: Asking,
        /// Which records.
        #[command(flatten)]
        filter: RecordsAsked,
        /// Records at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// All records, newest first, one JSON object a line.
    #[command(
        after_help = "Example:\n  hunhe-gateway quarantine export --kind dead_letter --payload > letters.ndjson"
    )]
    Export {
        /// Which gateway.
        #[command(flatten)]
        asking: Asking,
        /// Which records.
        #[command(flatten)]
        filter: RecordsAsked,
        /// With each record's payload in hex digits, one request a record. The gateway logs that it was read.
        #[arg(long)]
        payload: bool,
    },
    /// Send refused messages through validation again, after the registry or a class was corrected. One that fails does
    /// not stop the rest; exit 1 if any did.
    #[command(after_help = "Example:\n  hunhe-gateway quarantine redrive --reason unknown_device")]
    Redrive {
        /// Which gateway.
        #[command(flatten)]
        asking: Asking,
        /// Which records, where none is named; conflicts and dead letters are passed over.
        #[command(flatten)]
        filter: RecordsAsked,
        /// Records, as listed.
        #[arg(
            value_name = "ID",
            required_unless_present_any = ["all", "kind", "reason", "device", "from", "to"],
            conflicts_with_all = ["all", "kind", "reason", "device", "from", "to"]
        )]
        ids: Vec<String>,
        /// All messages in quarantine.
        #[arg(long)]
        all: bool,
    },
}

/// Which records of the quarantine: every filter that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RecordsAsked {
    /// Only these: message, conflict or dead_letter.
    #[arg(long, value_parser = ["message", "conflict", "dead_letter"])]
    pub kind: Option<String>,
    /// Only this reason.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only this device, by pseudonym.
    #[arg(long)]
    pub device: Option<String>,
    /// Arrived at or after, as 2026-01-02T03:04:05Z or 2026-01-02.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Arrived before.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// Success or bad news.
#[must_use]
pub fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    pair.filter(|(key, _)| !key.is_empty()).ok_or_else(|| "write it as key=value, as broker.port=1884".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let period: Period =
        text.parse().map_err(|error: crate::setup::config::PeriodError| error.to_string())?;
    Some(period.as_duration()).filter(|time| !time.is_zero()).ok_or_else(|| "must be at least 1s".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every command with its path of names, the program itself first.
    fn every_command(command: &clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().flat_map(every_command);
        std::iter::once(command.clone()).chain(below).collect()
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        Cli::command().debug_assert();
        let all = every_command(&Cli::command());
        assert!(all.len() >= 18, "{}", all.len());
        for mut command in all {
            let help = command.render_help().to_string();
            assert!(help.contains("Example:\n  hunhe-gateway "), "{help}");
        }
    }

    #[test]
    fn every_example_in_help_is_understood() {
        for mut command in every_command(&Cli::command()) {
            let help = command.render_help().to_string();
            let example = help.split("Example:\n  ").nth(1).unwrap().lines().next().unwrap();
            let words = example.split(" > ").next().unwrap().split_whitespace();
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn bad_usage_is_exit_code_2() {
        for line in [
            "",
            "run",
            "check",
            "demo --for 0s",
            "demo --for soon",
            "demo --speed 0",
            "journal verify",
            "run --config f --set x",
            "quarantine list --kind other",
            "quarantine redrive",
            "registry",
            "registry acl",
            "registry acl --config f --json",
            "ledger write-off --device d",
            "ledger write-off --reason r",
            "ledger --json write-offs",
            "quarantine redrive --reason a m-1",
            "quarantine redrive --all m-1",
            "backup",
            "backup --to f --url http://x --config c",
            "restore --from f",
            "restore --from f --config c --data-dir d",
        ] {
            let words = std::iter::once("hunhe-gateway").chain(line.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_demonstrations_options_have_defaults() {
        let cli = Cli::try_parse_from(["hunhe-gateway", "demo", "--for", "30s"]).unwrap();
        let Command::Demo(options) = cli.command else { panic!() };
        assert_eq!(options.run_for, Some(Duration::from_secs(30)));
        assert_eq!((options.speed, options.devices, options.json), (60, 2000, false));
        assert_eq!(options.scenario, "shenyang");
        assert!(options.listen.ip().is_loopback());
    }
}
