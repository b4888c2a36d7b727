//! Runs seeded histories, prints a line of progress, and fails where one failed.

use clap::Parser;
use hunhe_sim::world::{self, Outcome};
use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Seeded histories of a small city: at least five crashes and three kinds of fault each.
#[derive(Parser)]
#[command(after_help = "Example: hunhe-sim --seeds 2000\n         hunhe-sim --seed 17 --trace")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens; with --seed.
    #[arg(long)]
    trace: bool,
    /// Seeds that failed once: run before all others, one a line.
    #[arg(long, default_value = "seeds/sim/regressions.txt")]
    regressions: PathBuf,
    /// Threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Where the figures go.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// One seed in so many runs twice.
const REPEAT_EVERY: u64 = 10;

#[derive(Default)]
struct Figures {
    histories: u64,
    crashes: u64,
    edge_crashes: u64,
    crashes_min: Option<u64>,
    kinds_min: Option<usize>,
    virtual_ms: u64,
    taken: u64,
    stored: u64,
    quarantined: u64,
    dropped: u64,
    displaced: u64,
    repeats: u64,
    /// The sum of all histories' hashes: every profile must come to the same one.
    fingerprint: u64,
    lost: u64,
    doubled: u64,
    invented: u64,
    drained_ms_max: u64,
    failing: Vec<u64>,
}

impl Figures {
    fn add(&mut self, outcome: &Outcome) {
        let tally = &outcome.tally;
        self.histories += 1;
        self.crashes += outcome.crashes;
        self.edge_crashes += outcome.edge_crashes;
        self.crashes_min = Some(self.crashes_min.map_or(outcome.crashes, |min| min.min(outcome.crashes)));
        self.kinds_min = Some(self.kinds_min.map_or(outcome.kinds, |min| min.min(outcome.kinds)));
        self.virtual_ms += outcome.duration_ms;
        self.taken += tally.taken;
        self.stored += tally.stored;
        self.quarantined += tally.quarantined;
        self.dropped += tally.dropped;
        self.displaced += tally.displaced;
        self.fingerprint = self.fingerprint.wrapping_add(outcome.hash);
        self.repeats += u64::from(outcome.repeated);
        self.lost += tally.lost;
        self.doubled += tally.doubled;
        self.invented += tally.invented;
        if outcome.faults.is_empty() {
            self.drained_ms_max = self.drained_ms_max.max(outcome.drained_ms);
        } else {
            self.failing.push(outcome.seed);
        }
    }

    fn json(&self, seconds: f64) -> serde_json::Value {
        serde_json::json!({
            "histories": self.histories,
            "crashes": self.crashes,
            "agent_crashes": self.edge_crashes,
            "crashes_min": self.crashes_min,
            "kinds_of_fault_min": self.kinds_min,
            "virtual_hours": self.virtual_ms / 3_600_000,
            "samples": self.taken,
            "stored": self.stored,
            "quarantined": self.quarantined,
            "declared_lost": self.dropped,
            "displaced": self.displaced,
            "repeats": self.repeats,
            "fingerprint": format!("{:016x}", self.fingerprint),
            "lost": self.lost,
            "doubled": self.doubled,
            "invented": self.invented,
            "drained_ms_max": self.drained_ms_max,
            "failed": self.failing.len(),
            "first_failing_seed": self.failing.iter().min(),
            "seconds": seconds,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let seeds: Vec<u64> = match arguments.seed {
        Some(seed) => vec![seed],
        None => {
            let mut seeds = regressions(arguments)?;
            seeds.extend(arguments.from..arguments.from + arguments.seeds);
            seeds
        }
    };
    let begun = Instant::now();
    let figures = Mutex::new(Figures::default());
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if seeds.len() == 1 { 1 } else { arguments.threads.unwrap_or(cores) };
    let work = || -> anyhow::Result<()> {
        loop {
            let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
            let Some(&seed) = seeds.get(index) else { return Ok(()) };
            let outcome = judge(seed, arguments.trace && arguments.seed.is_some())?;
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            report_failure(&outcome);
            figures.add(&outcome);
            progress(&figures, seeds.len(), begun.elapsed());
        }
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a history panicked: see above"))??;
        }
        Ok(())
    })?;
    let figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let json = figures.json(begun.elapsed().as_secs_f64());
    println!("{}", serde_json::to_string_pretty(&json)?);
    if let Some(path) = &arguments.report {
        std::fs::write(path, serde_json::to_vec_pretty(&json)?)?;
    }
    Ok(figures.failing.is_empty())
}

/// One seed in ten runs twice: the same seed must be the same history.
fn judge(seed: u64, shown: bool) -> anyhow::Result<Outcome> {
    let mut outcome = world::run(seed, shown)?;
    if seed.is_multiple_of(REPEAT_EVERY) || shown {
        outcome.repeated = true;
        let again = world::run(seed, false)?;
        if again.hash != outcome.hash {
            let words = format!("two runs differ: {:016x} and {:016x}", outcome.hash, again.hash);
            outcome.faults.push(words);
        }
    }
    Ok(outcome)
}

fn regressions(arguments: &Arguments) -> anyhow::Result<Vec<u64>> {
    let text = match std::fs::read_to_string(&arguments.regressions) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let seeds = lines.map(|line| line.split_whitespace().next().unwrap_or_default().parse::<u64>());
    Ok(seeds.collect::<Result<_, _>>()?)
}

fn report_failure(outcome: &Outcome) {
    if outcome.faults.is_empty() {
        return;
    }
    let Outcome { seed, tally, hash, .. } = outcome;
    println!("\nseed {seed} fails (history {hash:016x}): {tally:?}");
    for fault in outcome.faults.iter().take(6) {
        println!("  {fault}");
    }
    if outcome.faults.len() > 6 {
        println!("  and {} more", outcome.faults.len() - 6);
    }
    println!("  again: hunhe-sim --seed {seed} --trace");
}

fn progress(figures: &Figures, of: usize, elapsed: Duration) {
    if figures.histories.is_multiple_of(100) {
        println!(
            "{:>6} of {of} histories, {} failed, {:.0} s",
            figures.histories,
            figures.failing.len(),
            elapsed.as_secs_f64()
        );
    }
}
