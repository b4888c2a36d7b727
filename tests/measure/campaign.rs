//! The full figures of every promise about faults, in some three hours, in pieces.
//!
//! Promises: a piece that passed on the code as it is now is not run again, so that a campaign goes on where it was cut off
//! (`target/report/campaign` keeps the pieces); each piece is a `make` command that anyone can repeat; what is not committed
//! is not measured. `tests/CAMPAIGNS.md` gets one line for each part that was run: figures, date, commit, machine, command. Exit code
//! 1 unless every piece passed.
//!
//! Deliberately absent: figures of its own. A piece's are what its command wrote to `target/report`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Args;
use hunhe_tests::{project_dir, report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What may differ between two commits that are the same code: nothing here is measured.
const NOT_CODE: [&str; 3] = [".", ":!tests/measure/campaign.rs", ":!*.md"];
/// Planted bugs, which no other part measures.
const MUTANTS: (&str, &str) = ("mutants", ":!tests/mutants");
const SUMMARY: &str = "tests/CAMPAIGNS.md";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// These parts alone; may be repeated.
    #[arg(long, value_name = "NAME")]
    part: Vec<String>,
    /// Name what has passed and what is due, and run nothing.
    #[arg(long)]
    list: bool,
}

/// A promise that is shown in pieces.
struct Part {
    name: &'static str,
    /// Arguments of `make`, a piece each.
    pieces: Vec<String>,
    /// The report in `target/report` that a piece writes.
    report: Option<&'static str>,
    /// Figures of it that the summary has, by JSON pointer.
    shown: &'static [&'static str],
}

fn parts() -> Vec<Part> {
    let part = |name, report, shown, pieces: Vec<String>| Part { name, pieces, report, shown };
    let one = |piece: &str| vec![piece.to_owned()];
    let kills = (1..=10).map(|seed| format!("kills COUNT=20 SEED={seed}")).collect();
    let simulation = (0..20).map(|thousand| format!("sim SEEDS=1000 FROM={}", thousand * 1000)).collect();
    let fuzz = (1..=10).map(|seed| format!("fuzz INPUTS=10000000 SEED={seed}")).collect();
    let latency: &[_] = &["/publish_to_acknowledgement_ms_p99", "/acknowledged_per_s", "/lost", "/doubled"];
    let overload: &[_] = &["/rss_peak_mib", "/alarm_to_acknowledgement_ms_p99", "/lost", "/doubled"];
    let alarms: &[_] = &["/publish_to_webhook_ms_p99", "/backfill_live", "/backfill_retrospective"];
    let killed: &[_] =
        &["/kills", "/samples", "/lost", "/doubled", "/invented", "/with_persistence/ready_s_max"];
    let simulated: &[_] = &["/crashes", "/samples", "/failed", "/lost", "/doubled", "/invented"];
    let whole: &[_] =
        &["/devices", "/samples", "/gateway_rss_mib_max", "/state_bytes_per_device", "/settled_s"];
    let restart: &[_] = &["/restart/journal_mib", "/restart/first_acknowledgement_s", "/restart/replayed_s"];
    vec![
        part("power", None, &[], one("power IMAGES=200000")),
        part("restart", Some("faults"), restart, one("restart JOURNAL_MIB=1024")),
        part("acknowledgement", Some("acknowledgement"), latency, one("acknowledgement")),
        part("overload", Some("overload"), overload, one("overload")),
        part("alarms", Some("alarms"), alarms, one("alarms")),
        part("kills", Some("kills"), killed, kills),
        part("siege", Some("siege"), &["/alarm_ms_p99_worst", "/honest_lost", "/rss_mib_max"], one("siege")),
        part("simulation", Some("sim"), simulated, simulation),
        part(
            "faults",
            Some("faults"),
            &["/alerts/lost", "/alerts/invented", "/backup/lost", "/kills/lost"],
            one("faults"),
        ),
        part(MUTANTS.0, Some("mutants"), &["/planted", "/caught"], one("mutants")),
        part("fuzz", None, &[], fuzz),
        part("fleet", Some("fleet"), whole, vec!["fleet".into(), "fleet ARGS=--embedded".into()]),
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

pub(crate) fn run(options: &Options) -> ExitCode {
    match measure(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hunhe-measure campaign: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<bool, String> {
    let known = parts();
    let is_known = |name: &&String| known.iter().any(|part| part.name == name.as_str());
    if let Some(unknown) = options.part.iter().find(|name| !is_known(name)) {
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
        let due = part.pieces.iter().filter(|piece| kept.iter().all(|kept| kept.command != **piece));
        for piece in due.filter(|_| !options.list).cloned().collect::<Vec<_>>() {
            println!("== {}: make {piece}", part.name);
            kept.push(part.measure(&piece, &commit)?);
            part.keep(&kept)?;
            summarise(&part.line(&kept))?;
        }
        let passed = kept.iter().filter(|kept| kept.passed).count();
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
        project_dir().join("target/report/campaign").join(self.name).with_extension("json")
    }

    fn kept(&self) -> Result<Vec<Kept>, String> {
        let in_words = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path().display());
        match fs::read_to_string(self.path()) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| in_words(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(in_words(&error)),
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

    /// Its line of the summary. A figure that differs between pieces is a range.
    fn line(&self, kept: &[Kept]) -> String {
        let range = |pointer: &&str| {
            let mut found: Vec<f64> =
                kept.iter().filter_map(|piece| piece.figures.pointer(pointer)?.as_f64()).collect();
            found.sort_by(f64::total_cmp);
            let shown =
                |value: f64| if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") };
            let (least, most) = (shown(*found.first()?), shown(*found.last()?));
            let range = if least == most { least } else { format!("{least}–{most}") };
            Some(format!("{} {range}", pointer[1..].replace('/', ".")))
        };
        let passed = kept.iter().filter(|piece| piece.passed).count();
        let mut figures = vec![format!("{passed} of {} passed", self.pieces.len())];
        figures.extend(self.shown.iter().filter_map(range));
        let each = |of: fn(&Kept) -> &str| {
            kept.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
        };
        let (dates, commits) = (each(|piece| &piece.date[..10]), each(|piece| &piece.commit[..7]));
        let minutes: f64 = kept.iter().fold(0.0, |sum, piece| sum + piece.minutes);
        let command = self.pieces.first().map_or("", String::as_str);
        let machine = kept.iter().find_map(|piece| piece.figures.get("machine"));
        let machine = machine.map_or_else(String::new, |of| {
            format!("{} cores, {}", of["cores"], of["cpu"].as_str().unwrap_or(""))
        });
        let more = if self.pieces.len() > 1 { ", …" } else { "" };
        format!(
            "| {} | {} | {minutes:.0} | {dates} | {commits} | {machine} | `make {command}`{more} |",
            self.name,
            figures.join("; ")
        )
    }
}

/// Puts the line in the place of its part's, or at the end.
fn summarise(line: &str) -> Result<(), String> {
    let path = project_dir().join(SUMMARY);
    let text = fs::read_to_string(&path).map_err(|error| format!("{SUMMARY}: {error}"))?;
    fs::write(&path, replaced(&text, line)).map_err(|error| format!("{SUMMARY}: {error}"))
}

fn replaced(text: &str, line: &str) -> String {
    let head = line.split_inclusive('|').take(2).collect::<String>();
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|before| before.starts_with(&head)) {
        Some(at) => lines[at] = line,
        None => lines.push(line),
    }
    lines.join("\n") + "\n"
}

fn git(words: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(words).current_dir(project_dir()).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_holds_what_its_pieces_measured_and_replaces_the_one_before() {
        let kept = |lost: u64, passed| Kept {
            command: "kills COUNT=20 SEED=1".into(),
            commit: "0123456789".into(),
            date: "2026-11-26T15:00:00Z".into(),
            minutes: 1.5,
            passed,
            figures: json!({"lost": lost, "kills": 20, "machine": {"cores": 2, "cpu": "C"}}),
        };
        let part = parts().into_iter().find(|part| part.name == "kills").unwrap();
        let line = part.line(&[kept(0, true), kept(3, false)]);
        let figures = "1 of 10 passed; kills 20; lost 0–3";
        let command = "`make kills COUNT=20 SEED=1`, …";
        assert_eq!(
            line,
            format!("| kills | {figures} | 3 | 2026-11-26 | 0123456 | 2 cores, C | {command} |")
        );
        assert_eq!(replaced("| a | 1 |\n| kills | old |\n", &line), format!("| a | 1 |\n{line}\n"));
        assert_eq!(replaced("| a | 1 |\n", &line), format!("| a | 1 |\n{line}\n"));
    }
}
