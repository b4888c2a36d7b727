//! Commands and their flags.

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use hunhe_edge::{
    config::{self, Config},
    drivers::DriverKind,
    run,
};
use std::{io::Write, path::PathBuf, sync::Arc};
use tokio::sync::watch;

/// The drivers beyond the agent's own.
const KINDS: &[DriverKind] = &[
    #[cfg(feature = "simulate")]
    hunhe_fleet::simulated::SIMULATED,
];

/// An edge agent of Hunhe.
#[derive(Parser)]
#[command(
    name = "hunhe-edge",
    version,
    after_help = "Example: hunhe-edge check --config edge.toml && hunhe-edge run --config edge.toml"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent that a configuration describes, until SIGINT or SIGTERM
    #[command(after_help = "Example: hunhe-edge run --config /etc/hunhe/edge.toml --set broker.port=8883")]
    Run {
        #[command(flatten)]
        source: Source,
        /// Print what each device did, as JSON, at the end
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration: every fault at once, with its line
    #[command(
        after_help = "Example: HUNHE_EDGE_BROKER__HOST=10.0.0.7 hunhe-edge check --config edge.toml --show"
    )]
    Check {
        #[command(flatten)]
        source: Source,
        /// Print the whole configuration as it would be used, secrets masked
        #[arg(long)]
        show: bool,
        /// Print faults as a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Simulate a fleet in one process
    #[cfg(feature = "simulate")]
    #[command(after_help = "Examples:
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --speed 3600 --for 30s --json
  hunhe-edge simulate --recording seeds/recordings/dma --classes seeds/classes --speed 1000000
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --fault stuck=0.05 --fault silent=0.01
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --speed 60 --for 2m --past report --scenario seeds/scenarios/shenyang.toml")]
    Simulate(Box<crate::simulate::Flags>),
    /// Print a first configuration for a new agent, and the line that the registry needs
    #[command(
        after_help = "Example: hunhe-edge provision --device dma-11 --class dma_flow --config edge.toml"
    )]
    Provision {
        /// The device's id
        #[arg(long)]
        device: hunhe_proto::id::DeviceId,
        /// Its class
        #[arg(long)]
        class: String,
        /// The agent's id; absent: the device is its own
        #[arg(long)]
        agent: Option<hunhe_proto::id::AgentId>,
        /// The folder of device classes
        #[arg(long, default_value = "/usr/share/hunhe/classes")]
        classes: String,
        /// The folder of the outbox
        #[arg(long, default_value = "/var/lib/hunhe-edge")]
        state_dir: String,
        /// Write the configuration here instead of printing it; an existing file is left alone
        #[arg(long)]
        config: Option<PathBuf>,
        /// Who runs the device
        #[arg(long, default_value = "")]
        operator: String,
        /// District code
        #[arg(long, default_value_t = 0)]
        district: u32,
        /// Zone
        #[arg(long, default_value = "")]
        zone: String,
        /// Degrees east, WGS-84
        #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
        lon: f64,
        /// Degrees north, WGS-84
        #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
        lat: f64,
    },
}

#[derive(Args)]
struct Source {
    /// The configuration file
    #[arg(long)]
    config: PathBuf,
    /// Override a key: --set broker.port=1884
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

/// An error and the exit code it means.
pub(crate) struct Failure {
    pub(crate) error: anyhow::Error,
    pub(crate) code: u8,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { error, code: 1 }
    }
}

pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure { error: error.into(), code: 2 }
}

pub(crate) fn dispatch(cli: Cli) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli.command {
        Command::Run { source, json } => block_on(run_agent(&source, json)),
        Command::Check { source, show, json } => check(&source, show, json),
        #[cfg(feature = "simulate")]
        Command::Simulate(flags) => block_on(crate::simulate::simulate(*flags)),
        Command::Provision {
            device,
            class,
            agent,
            classes,
            state_dir,
            config,
            operator,
            district,
            zone,
            lon,
            lat,
        } => {
            let agent = agent.unwrap_or(device);
            let text =
                config::starter(agent.as_str(), &classes, &state_dir, (device.as_str(), &class), KINDS);
            let registry = serde_json::json!({
                "id": device, "class": class, "agent": agent, "operator": operator, "district": district,
                "zone": zone, "lon": lon, "lat": lat,
            });
            match config {
                None => print(&text)?,
                Some(path) => {
                    let file = std::fs::File::create_new(&path);
                    file.and_then(|mut file| file.write_all(text.as_bytes()))
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
            Ok(print(&format!("{registry}\n"))?)
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

fn load(source: &Source) -> Result<Config, config::Faults> {
    let environment: Vec<_> =
        std::env::vars().filter(|(name, _)| name.starts_with(&format!("{}_", config::ENV_PREFIX))).collect();
    Config::load(&source.config, &environment, &source.set, KINDS)
}

fn check(source: &Source, show: bool, json: bool) -> Result<(), Failure> {
    let config = load(source).map_err(|faults| {
        if json {
            let list = faults.0.iter().map(|fault| {
                serde_json::json!({"file": fault.file, "line": fault.line, "key": fault.key, "what": fault.what})
            });
            // The exit code says the same.
            let _ = print(&format!("{}\n", serde_json::Value::Array(list.collect())));
        }
        usage(faults)
    })?;
    if show {
        return Ok(print(&config.show())?);
    }
    Ok(print(if json { "[]\n" } else { "the configuration is good\n" })?)
}

async fn run_agent(source: &Source, json: bool) -> Result<(), Failure> {
    let config = load(source).map_err(usage)?;
    let setup = config.setup(KINDS).map_err(usage)?;
    let stats = run::run(setup, stop_on_signal()?, Arc::default()).await.map_err(anyhow::Error::from)?;
    if json {
        let text = serde_json::to_string(&stats).context("cannot write the summary")?;
        print(&format!("{text}\n"))?;
    }
    Ok(())
}

pub(crate) fn stop_on_signal() -> Result<watch::Receiver<bool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // A second signal ends a drain that takes too long.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(stopped)
}

pub(crate) fn print(text: &str) -> Result<(), anyhow::Error> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn key_value(text: &str) -> Result<(String, String), anyhow::Error> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("must be KEY=VALUE"))?;
    // A bare word is a text.
    let is_literal = toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok();
    let value = if is_literal { value.to_string() } else { toml::Value::from(value).to_string() };
    Ok((key.to_string(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let simulates = Cli::try_parse_from(["hunhe-edge", "simulate"]).is_ok();
        assert_eq!((simulates, !KINDS.is_empty()), [cfg!(feature = "simulate"); 2].into());
        assert_eq!(key_value("a.b=1").unwrap(), ("a.b".into(), "1".into()));
        assert_eq!(key_value("a=b c").unwrap(), ("a".into(), "\"b c\"".into()));
    }
}
