//! The command `simulate`: its flags, its progress line, its summary.

use crate::cli::{Failure, print, stop_on_signal, usage};
use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use hunhe_edge::{classes, clock::parse_utc, drivers::replay, mqtt::Broker, stats::Progress};
use hunhe_fleet::{Connections, FleetError, Options, Past, Summary, scenario::Scenario};
use std::{
    io::{BufWriter, IsTerminal, Write},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

#[derive(Args)]
pub(crate) struct Flags {
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

/// Simulates what the flags say, and prints what it came to.
pub(crate) async fn simulate(flags: Flags) -> Result<(), Failure> {
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
    let summary = hunhe_fleet::simulate_with(options, stop_on_signal()?, progress).await;
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
    fn flags_are_read_or_refused() {
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7200));
        assert!(duration("30").is_err() && share("a=2").is_err() && positive("0").is_err());
    }
}
