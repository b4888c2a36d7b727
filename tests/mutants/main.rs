//! `hunhe-mutants`: plants each bug of `tests/mutants/mutants.toml` in a copy of the project and runs the test that has to
//! notice it.
//!
//! Promises: the project itself is never touched; each named test is first seen to pass without a bug; a bug that does not
//! compile, and a test that does not exist, count as failures of the list, not as a bug that was caught. Exit code 1 unless every bug was caught.
//!
//! The copy and what was built of it stay in `target/mutants` for the next time.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
    time::{Duration, Instant},
};

use clap::Parser;
use hunhe_tests::{
    mutants::{self, Mutant},
    project_dir, report,
};
use serde_json::json;

/// How nextest says that a test failed, rather than that nothing could be run.
const TESTS_FAILED: i32 = 100;
/// How `timeout` says that it ended what it ran: a bug that hangs was noticed.
const TIMED_OUT: i32 = 124;
/// A bug may make its test hang; longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(900);

/// Plants bugs, one by one, and runs the test that must notice each.
#[derive(Debug, Parser)]
#[command(name = "hunhe-mutants", after_help = "Example:\n  hunhe-mutants --only \"sync of a commit\"")]
struct Options {
    /// Those alone whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// It did not compile, or there is no such test.
    NotRun,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hunhe-mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let project = project_dir();
    let list = mutants::read(&project)?;
    let faults = mutants::faults(&project, &list);
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    let list: Vec<Mutant> = list.into_iter().filter(|mutant| mutant.name.contains(&options.only)).collect();
    if list.is_empty() {
        return Err(format!("no planted bug has {:?} in its name", options.only));
    }
    let copy =
        Copy { tree: project.join("target/mutants/tree"), target: project.join("target/mutants/target") };
    copy.follow(&project)?;
    copy.pass_without_a_bug(&list)?;
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for (number, mutant) in (1..).zip(&list) {
        let took = Instant::now();
        let verdict = copy.try_with(mutant)?;
        let word = match verdict {
            Verdict::Failed => "caught",
            Verdict::Passed => "NOT CAUGHT",
            Verdict::NotRun => "NOT RUN",
        };
        let (seconds, all) = (took.elapsed().as_secs(), begun.elapsed().as_secs() / 60);
        println!(
            "{number:>3} of {} {word:<10} {seconds:>4} s, {all} min in all: {}",
            list.len(),
            mutant.name
        );
        outcomes.push(json!({
            "bug": mutant.name, "file": mutant.file, "test": named(mutant), "outcome": word, "seconds": seconds,
        }));
    }
    let caught = outcomes.iter().filter(|outcome| outcome["outcome"] == "caught").count();
    let figures = json!({ "planted": list.len(), "caught": caught, "minutes": begun.elapsed().as_secs() / 60, "list": outcomes });
    report::write("mutants", None, &figures);
    Ok(caught == list.len())
}

fn named(mutant: &Mutant) -> String {
    match mutant.seeds {
        Some(seeds) => format!("make sim SEEDS={seeds}"),
        None => format!("{}::{} {}", mutant.package, mutant.binary, mutant.test),
    }
}

/// The project once more.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes it equal to the project. What is equal already is not written, so that nothing is built for nothing.
    fn follow(&self, project: &Path) -> Result<(), String> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(project)
            .output()
            .map_err(|error| format!("git: {error}"))?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names: BTreeSet<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
        for name in names.iter().filter(|name| project.join(name).is_file()) {
            let told = |error| format!("{name}: {error}");
            let bytes = fs::read(project.join(name)).map_err(told)?;
            self.put(name, &bytes).map_err(told)?;
        }
        self.forget_others(&self.tree, project).map_err(|error| format!("{}: {error}", self.tree.display()))
    }

    /// What the project has no more, cargo might find as a test of its own.
    fn forget_others(&self, dir: &Path, project: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                self.forget_others(&path, project)?;
            } else if path.strip_prefix(&self.tree).is_ok_and(|name| !project.join(name).exists()) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.tree.join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)
    }

    fn pass_without_a_bug(&self, list: &[Mutant]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for mutant in list.iter().filter(|mutant| seen.insert(named(mutant))) {
            let (verdict, output) = self.verdict(mutant)?;
            if verdict != Verdict::Passed {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!("{} does not pass without a bug:\n{words}", named(mutant)));
            }
            println!("without a bug {} passes", named(mutant));
        }
        Ok(())
    }

    fn try_with(&self, mutant: &Mutant) -> Result<Verdict, String> {
        let path = self.tree.join(&mutant.file);
        let told = |error| format!("{}: {error}", mutant.file);
        let whole = fs::read_to_string(&path).map_err(told)?;
        fs::write(&path, mutant.plant(&whole)).map_err(told)?;
        let outcome = self.verdict(mutant);
        fs::write(&path, whole).map_err(told)?;
        let (verdict, output) = outcome?;
        if verdict == Verdict::NotRun {
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(verdict)
    }

    fn verdict(&self, mutant: &Mutant) -> Result<(Verdict, Output), String> {
        if let Some(seeds) = mutant.seeds {
            let built = self.cargo(&["build", "--profile", "ci", "-p", &mutant.package])?;
            if !built.status.success() {
                return Ok((Verdict::NotRun, built));
            }
            let program = self.target.join("ci").join(&mutant.package);
            let ran = self.run(Command::new(program).args(["--seeds", &seeds.to_string()]))?;
            let verdict = if ran.status.success() { Verdict::Passed } else { Verdict::Failed };
            return Ok((verdict, ran));
        }
        if mutant.package == "hunhe-tests" {
            // They run the programs as they are shipped.
            let features = "hunhe-gateway/planted";
            let built =
                self.cargo(&["build", "--profile", "ci", "--workspace", "--bins", "--features", features])?;
            if !built.status.success() {
                return Ok((Verdict::NotRun, built));
            }
        }
        let filter = format!("test(/{}/)", mutant.test);
        let mut words = vec!["nextest", "run", "--cargo-profile", "ci", "-p", &mutant.package, "-E", &filter];
        if mutant.binary == "lib" {
            words.push("--lib");
        } else {
            words.extend(["--test", &mutant.binary]);
        }
        let ran = self.cargo(&words)?;
        let verdict = match ran.status.code() {
            Some(0) => Verdict::Passed,
            Some(TESTS_FAILED | TIMED_OUT) => Verdict::Failed,
            _ => Verdict::NotRun,
        };
        Ok((verdict, ran))
    }

    fn cargo(&self, words: &[&str]) -> Result<Output, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.run(Command::new(cargo).args(words))
    }

    fn run(&self, command: &mut Command) -> Result<Output, String> {
        let words = format!("{command:?}");
        let mut bounded = Command::new("timeout");
        bounded
            .args(["--kill-after=30", &PATIENCE.as_secs().to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        bounded
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // A bug touches one file: most of its crate need not be built anew.
            .env("CARGO_INCREMENTAL", "1")
            .env("TESTS_BIN_DIR", self.target.join("ci"))
            .output()
            .map_err(|error| format!("{words}: {error}"))
    }
}
