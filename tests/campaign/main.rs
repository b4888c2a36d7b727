//! `hunhe-campaign`: the full figures of every promise about faults, in some three hours, in pieces that are kept.
//!
//! Promises: a piece that passed on the code as it is now is not run again, so that a campaign goes on where it was cut off;
//! each piece is a `make` command that anyone can repeat, and is kept under `tests/campaigns/PART.json` with it, its figures
//! and the commit they were measured at; what is not committed is not measured. Exit code 1 unless every piece passed.
//!
//! Deliberately absent: figures of its own. A piece's are what its command wrote to `target/report`.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Parser;
use hunhe_tests::{project_dir, report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What may differ between two commits that are the same code: nothing here is measured.
const NOT_CODE: [&str; 4] = [".", ":!tests/campaigns", ":!tests/campaign", ":!*.md"];
/// That neither, but by the part of this name.
const MUTANTS: (&str, &str) = ("mutants", ":!tests/mutants");

/// The full figures of every promise about faults. What passed already is not run again.
#[derive(Debug, Parser)]
#[command(name = "hunhe-campaign", after_help = "Example:\n  hunhe-campaign --part simulation --part kills")]
struct Options {
    /// These parts alone; may be repeated.
    #[arg(long)]
    part: Vec<String>,
    /// Say what has passed and what is to be run, and run nothing.
    #[arg(long)]
    list: bool,
}

/// Something that is shown, in pieces.
struct Part {
    name: &'static str,
    /// Arguments of `make`, a piece each.
    pieces: Vec<String>,
    /// The report in `target/report` that a piece writes.
    report: Option<&'static str>,
}

fn parts() -> Vec<Part> {
    let part = |name, report, pieces: Vec<String>| Part { name, pieces, report };
    let one = |piece: &str| vec![piece.to_owned()];
    vec![
        part("power", None, one("power IMAGES=200000")),
        part("restart", Some("faults"), one("restart JOURNAL_MIB=1024")),
        part("acknowledgement", Some("acknowledgement"), one("acknowledgement")),
        part("overload", Some("overload"), one("overload")),
        part("alarms", Some("alarms"), one("alarms")),
        part("kills", Some("kills"), (1..=10).map(|seed| format!("kills COUNT=20 SEED={seed}")).collect()),
        part(
            "simulation",
            Some("sim"),
            (0..20).map(|thousand| format!("sim SEEDS=1000 FROM={}", thousand * 1000)).collect(),
        ),
        part("faults", Some("faults"), one("faults")),
        part(MUTANTS.0, Some("mutants"), one("mutants")),
        part("fuzz", None, (1..=10).map(|seed| format!("fuzz INPUTS=10000000 SEED={seed}")).collect()),
        part("fleet", Some("fleet"), vec!["fleet".into(), "fleet ARGS=--embedded".into()]),
    ]
}

/// A piece that was run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    command: String,
    commit: String,
    date: String,
    minutes: f64,
    passed: bool,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    figures: Value,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hunhe-campaign: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let known = parts();
    if let Some(unknown) =
        options.part.iter().find(|name| known.iter().all(|part| part.name != name.as_str()))
    {
        let names: Vec<&str> = known.iter().map(|part| part.name).collect();
        return Err(format!("no part {unknown}: there are {}", names.join(", ")));
    }
    if !options.list && !git(&[&["status", "--porcelain", "--"], &NOT_CODE[..]].concat())?.is_empty() {
        return Err("what is not committed would not be measured: commit it, or stash it".into());
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    let chosen = |part: &&Part| options.part.is_empty() || options.part.iter().any(|name| name == part.name);
    let mut all_passed = true;
    for part in known.iter().filter(chosen) {
        let mut kept = part.kept()?;
        kept.retain(|piece| {
            piece.passed && part.pieces.contains(&piece.command) && part.is_same_code(&piece.commit, &commit)
        });
        let due = |kept: &[Kept], piece: &str| kept.iter().all(|kept| kept.command != piece);
        for piece in &part.pieces {
            if options.list || !due(&kept, piece) {
                continue;
            }
            println!("== {}: make {piece}", part.name);
            let outcome = part.measure(piece, &commit)?;
            kept.push(outcome);
            part.keep(&kept)?;
        }
        let passed =
            part.pieces.iter().filter(|piece| kept.iter().any(|kept| kept.passed && &kept.command == *piece));
        let passed = passed.count();
        let minutes: f64 = kept.iter().fold(0.0, |sum, piece| sum + piece.minutes);
        println!("{:<16} {passed:>2} of {:>2} passed, {minutes:.0} min", part.name, part.pieces.len());
        all_passed &= passed == part.pieces.len();
    }
    Ok(all_passed)
}

impl Part {
    fn is_same_code(&self, one: &str, other: &str) -> bool {
        let (mutants, besides) = MUTANTS;
        let besides: &[&str] = if self.name == mutants { &[] } else { &[besides] };
        one == other
            || git(&[&["diff", "--quiet", one, other, "--"], &NOT_CODE[..], besides].concat()).is_ok()
    }

    fn path(&self) -> PathBuf {
        project_dir().join("tests/campaigns").join(self.name).with_extension("json")
    }

    fn kept(&self) -> Result<Vec<Kept>, String> {
        match fs::read_to_string(self.path()) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", self.path().display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("{}: {error}", self.path().display())),
        }
    }

    fn keep(&self, kept: &[Kept]) -> Result<(), String> {
        let text = serde_json::to_string_pretty(kept).map_err(|error| error.to_string())?;
        let written = self.path().parent().map_or(Ok(()), fs::create_dir_all);
        written
            .and_then(|()| fs::write(self.path(), text + "\n"))
            .map_err(|error| format!("{}: {error}", self.path().display()))
    }

    fn measure(&self, piece: &str, commit: &str) -> Result<Kept, String> {
        // A report that an earlier command left must not be taken for this one's.
        let written = self.report.map(report::path);
        if let Some(path) = &written {
            let _ = fs::remove_file(path);
        }
        let begun = Instant::now();
        let status = Command::new("make")
            .arg("--no-print-directory")
            .args(piece.split(' '))
            .current_dir(project_dir())
            .status()
            .map_err(|error| format!("make {piece}: {error}"))?;
        let figures = written.and_then(|path| fs::read_to_string(path).ok());
        let figures = figures.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
        let passed = status.success() && (self.report.is_none() || !figures.is_null());
        Ok(Kept {
            command: piece.to_owned(),
            commit: commit.to_owned(),
            date: report::now(),
            minutes: (begun.elapsed().as_secs_f64() / 6.0).round() / 10.0,
            passed,
            figures,
        })
    }
}

fn git(words: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(words).current_dir(project_dir()).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
