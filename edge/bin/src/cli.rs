//! Commands and their flags.

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hunhe_edge::{
    classes,
    clock::parse_utc,
    config::{self, Config},
    drivers::{DriverKind, replay, simulated::SIMULATED},
    fleet::{self, Connections, FleetError, Options, Past, Summary},
    mqtt::Broker,
    run,
    scenario::Scenario,
    stats::Progress,
};
use std::{
    io::{BufWriter, IsTerminal, Write},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The drivers beyond the agent's own.
const KINDS: &[DriverKind] = &[SIMULATED];

/// An edge agent of Hunhe, and the simulator of a whole fleet.
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
    #[command(after_help = "Examples:
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --speed 3600 --for 30s --json
  hunhe-edge simulate --recording seeds/recordings/dma --classes seeds/classes --speed 1000000
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --fault stuck=0.05 --fault silent=0.01
  hunhe-edge simulate --fleet seeds/city/demo.toml --classes seeds/classes --speed 60 --for 2m --past report --scenario seeds/scenarios/shenyang.toml")]
    Simulate(Box<Simulate>),
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

#[derive(Args)]
struct Simulate {
    /// The fleet to model
    #[arg(long)]
    fleet: Option<PathBuf>,
    /// The folder of device classes
    #[arg(long, default_value = "seeds/classes")]
    classes: PathBuf,
    /// A recording to replay
    #[arg(long)]
    recording: Option<PathBuf>,
    /// The broker
    #[arg(long, default_value = "127.0.0.1:1883", value_parser = broker)]
    broker: Broker,
    /// A file that holds one password: each agent logs in with its own id as user name, and this
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Who holds a connection
    #[arg(long, default_value = "agent")]
    connections: ConnectionsFlag,
    /// Event seconds per real second; event time stops running ahead at the present
    #[arg(long, default_value = "1", value_parser = positive)]
    speed: f64,
    /// The same for the recording; absent: --speed
    #[arg(long, value_parser = positive)]
    recording_speed: Option<f64>,
    /// How long to sample: 30s, 5m, 2h
    #[arg(long = "for", value_parser = duration)]
    duration: Option<Duration>,
    /// Event time at the start; absent: so that the present is reached at the end
    #[arg(long, value_parser = time)]
    from: Option<i64>,
    /// How long devices have been there at the start
    #[arg(long, default_value = "none")]
    past: PastFlag,
    /// What goes wrong, by time
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// What models and faults are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A fault of the class files, and the share of devices that has it: stuck=0.05
    #[arg(long = "fault", value_name = "NAME=SHARE", value_parser = share)]
    faults: Vec<(String, f64)>,
    /// Keep outboxes here, one folder per agent; absent: in memory
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Publishes of one agent without acknowledgement
    #[arg(long, default_value_t = 64)]
    window: u16,
    /// Samples held per device
    #[arg(long)]
    samples_max: Option<u64>,
    /// A full outbox declares its oldest samples lost, as a live agent's does, instead of waiting
    #[arg(long)]
    lossy: bool,
    /// How long to wait at the end for the gateway's word
    #[arg(long, default_value = "10s", value_parser = duration)]
    drain: Duration,
    /// Write what each device did here, one JSON line each
    #[arg(long)]
    ledger_out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConnectionsFlag {
    /// The fleet's agents
    Agent,
    /// Every device for itself
    Each,
}

#[derive(Clone, Copy, ValueEnum)]
enum PastFlag {
    /// They begin with it, all at once
    None,
    /// Each is somewhere within its report: reports are spread over time
    Part,
    /// The same, and each owes one whole report
    Report,
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

fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure { error: error.into(), code: 2 }
}

pub(crate) fn dispatch(cli: Cli) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli.command {
        Command::Run { source, json } => block_on(run_agent(&source, json)),
        Command::Check { source, show, json } => check(&source, show, json),
        Command::Simulate(flags) => block_on(simulate(*flags)),
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
            // The exit code tells as well.
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

async fn simulate(flags: Simulate) -> Result<(), Failure> {
    let classes = classes::load(&flags.classes).map_err(usage)?;
    let mut options = Options::new(classes, flags.broker.clone());
    if let Some(path) = &flags.fleet {
        let read = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()));
        let parsed = toml::from_str(&read.map_err(usage)?);
        options.fleet = Some(parsed.with_context(|| path.display().to_string()).map_err(usage)?);
    }
    if let Some(folder) = &flags.recording {
        options.recording = replay::load(folder, &options.classes).map_err(usage)?;
    }
    if let Some(path) = &flags.password_file {
        let read = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()));
        options.password = Some(read.map_err(usage)?.trim_end().to_owned());
    }
    options.connections = match flags.connections {
        ConnectionsFlag::Agent => Connections::Agent,
        ConnectionsFlag::Each => Connections::Each,
    };
    options.speed = flags.speed;
    options.recording_speed = flags.recording_speed;
    options.duration = flags.duration;
    options.from_ms = flags.from;
    options.past = match flags.past {
        PastFlag::None => Past::None,
        PastFlag::Part => Past::Part,
        PastFlag::Report => Past::Report,
    };
    if let Some(file) = &flags.scenario {
        options.scenario = Some(Scenario::read(file).map_err(usage)?);
    }
    options.seed = flags.seed;
    options.faults.clone_from(&flags.faults);
    options.state_dir.clone_from(&flags.state_dir);
    options.window = flags.window;
    options.samples_max = flags.samples_max;
    options.lossless = !flags.lossy;
    options.drain = flags.drain;
    let progress = Arc::new(Progress::default());
    let watcher = tokio::spawn(report_progress(Arc::clone(&progress)));
    let summary = fleet::simulate_with(options, stop_on_signal()?, progress).await;
    watcher.abort();
    let summary = summary.map_err(|error| match error {
        FleetError::Run(_) | FleetError::Task(_) => Failure::from(anyhow::Error::from(error)),
        other => usage(other),
    })?;
    if let Some(path) = &flags.ledger_out {
        write_ledger(path, &summary).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if flags.json {
        let text = serde_json::to_string(&summary).context("cannot write the summary")?;
        return Ok(print(&format!("{text}\n"))?);
    }
    Ok(print(&format!(
        "{} devices over {} connections, {:.1} s: {} samples in {} reports ({} acknowledged, {} bytes), {} declared \
         lost, {} devices settled\n",
        summary.devices,
        summary.agents,
        summary.elapsed_s,
        summary.sampled,
        summary.published,
        summary.acked,
        summary.bytes,
        summary.declared_lost,
        summary.settled
    ))?)
}

fn write_ledger(path: &PathBuf, summary: &Summary) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for device in &summary.per_device {
        serde_json::to_writer(&mut out, device)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// One line, rewritten every second, where somebody watches.
async fn report_progress(progress: Arc<Progress>) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (sampled, published, acked, connected) = (
            progress.sampled.load(Relaxed),
            progress.published.load(Relaxed),
            progress.acked.load(Relaxed),
            progress.connected.load(Relaxed),
        );
        let elapsed = started.elapsed().as_secs();
        let line = format!(
            "\r{elapsed} s: {sampled} samples, {published} reports, {acked} acknowledged, {connected} connections"
        );
        if stderr.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn stop_on_signal() -> Result<watch::Receiver<bool>, Failure> {
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

fn print(text: &str) -> Result<(), anyhow::Error> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn key_value(text: &str) -> Result<(String, String), anyhow::Error> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("must be KEY=VALUE"))?;
    // A bare word is a text.
    let is_literal = toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok();
    let value = if is_literal { value.to_string() } else { toml::Value::from(value).to_string() };
    Ok((key.to_string(), value))
}

fn broker(text: &str) -> Result<Broker, anyhow::Error> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| anyhow!("must be HOST:PORT"))?;
    Ok(Broker { host: host.to_string(), port: port.parse()?, credentials: None, keep_alive_s: 30 })
}

fn positive(text: &str) -> Result<f64, anyhow::Error> {
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite() && *value > 0.0)
        .ok_or_else(|| anyhow!("must be above 0"))
}

fn share(text: &str) -> Result<(String, f64), anyhow::Error> {
    let (name, share) = text.split_once('=').ok_or_else(|| anyhow!("must be NAME=SHARE"))?;
    let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    Ok((name.to_string(), share.ok_or_else(|| anyhow!("the share must be 0 to 1"))?))
}

fn duration(text: &str) -> Result<Duration, anyhow::Error> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "ms" => 0.001,
        _ => return Err(anyhow!("must end in ms, s, m, h or d: 30s")),
    };
    let seconds: f64 = number.parse()?;
    Ok(Duration::try_from_secs_f64(seconds * factor)?)
}

fn time(text: &str) -> Result<i64, anyhow::Error> {
    parse_utc(text).ok_or_else(|| anyhow!("must be a UTC time such as 2021-01-01T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7200));
        assert!(duration("30").is_err() && share("a=2").is_err() && positive("0").is_err());
        assert_eq!(key_value("a.b=1").unwrap(), ("a.b".into(), "1".into()));
        assert_eq!(key_value("a=b c").unwrap(), ("a".into(), "\"b c\"".into()));
    }
}
