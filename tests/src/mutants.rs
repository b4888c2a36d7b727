//! The list of planted bugs: `tests/mutants/mutants.toml`.
//!
//! A planted bug replaces one place of one file. Its place occurs exactly once, so that the list cannot outlive the code it
//! speaks of unnoticed: `tests/mutants/list.rs` is part of `make test`, the bugs themselves are planted by `make mutants`.
//! Nor can a bug be taken out unnoticed that is the last of what it undoes of [`GUARDED`].

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

/// What planted bugs undo: parts of the program, and findings by issue, section and number. Each has a bug at least.
pub const GUARDED: [&str; 28] = [
    "journal",
    "checkpoint",
    "decided",
    "sinks",
    "outputs",
    "watermark",
    "ledger",
    "alerts",
    "outbox",
    "spool",
    "intake",
    "12.A.1",
    "12.A.2",
    "12.A.3",
    "12.A.4",
    "12.A.5",
    "12.A.6",
    "12.A.7",
    "12.A.8",
    "12.A.9",
    "12.A.10",
    "12.A.11",
    "12.A.12",
    "12.A.13",
    "12.B.1",
    "12.B.2",
    "12.B.3",
    "12.B.4",
];

/// A bug, and the test that has to notice it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// What it does wrong.
    pub name: String,
    /// One of [`GUARDED`], where it undoes that.
    pub guards: Option<String>,
    /// From the project's folder.
    pub file: String,
    /// What stands there.
    pub from: String,
    /// What is put in its place.
    pub to: String,
    /// The crate whose test notices.
    pub package: String,
    /// The test's binary, or `lib` for the crate's own tests.
    #[serde(default)]
    pub binary: String,
    /// A part of the test's name.
    #[serde(default)]
    pub test: String,
    /// In place of a test: so many seeds of the simulator.
    pub seeds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// Reads the list.
///
/// # Errors
/// What cannot be read, in words.
pub fn read(project: &Path) -> Result<Vec<Mutant>, String> {
    let path = project.join("tests/mutants/mutants.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(list.mutant)
}

/// What is wrong with the list as it stands; empty if nothing.
#[must_use]
pub fn faults(project: &Path, list: &[Mutant]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    faults.extend(unguarded(list));
    for mutant in list {
        let name = &mutant.name;
        if !names.insert(name) {
            faults.push(format!("{name}: twice in the list"));
        }
        if mutant.seeds.is_none() && (mutant.binary.is_empty() || mutant.test.is_empty()) {
            faults.push(format!("{name}: no test is named"));
        }
        let folder = project.join(folder_of(&mutant.package));
        if mutant.seeds.is_none() && !has_test(&folder, &mutant.test) {
            faults.push(format!("{name}: {} has no test like {}", mutant.package, mutant.test));
        }
        match fs::read_to_string(project.join(&mutant.file)) {
            Err(error) => faults.push(format!("{name}: {}: {error}", mutant.file)),
            Ok(text) => {
                let places = text.matches(&mutant.from).count();
                if places != 1 {
                    faults.push(format!("{name}: its place occurs {places} times in {}", mutant.file));
                }
            }
        }
    }
    faults
}

/// What no bug of the list undoes although one should, and what one undoes that is not known.
fn unguarded(list: &[Mutant]) -> Vec<String> {
    let guarded: BTreeSet<&str> = list.iter().filter_map(|mutant| mutant.guards.as_deref()).collect();
    let missing = GUARDED.iter().filter(|known| !guarded.contains(*known));
    let unknown = guarded.iter().filter(|guards| !GUARDED.contains(guards));
    let missing = missing.map(|known| format!("no planted bug undoes {known}"));
    missing.chain(unknown.map(|guards| format!("guards = {guards:?} is not known"))).collect()
}

/// Where a package lies, from the project's folder.
fn folder_of(package: &str) -> &'static str {
    match package {
        "hunhe-edge" => "edge",
        "hunhe-edge-bin" => "edge/bin",
        "hunhe-edge-core" => "edge/core",
        "hunhe-fleet" => "edge/fleet",
        "hunhe-gateway" => "gateway",
        "hunhe-gateway-core" => "gateway/core",
        "hunhe-log" => "gateway/log",
        "hunhe-store" => "gateway/store",
        "hunhe-proto" => "proto",
        "hunhe-disk" => "proto/disk",
        _ => "tests",
    }
}

/// Is there a function below the folder whose name has `test` in it, right behind `#[test]` or another attribute of one?
fn has_test(folder: &Path, test: &str) -> bool {
    let name = test.rsplit("::").next().unwrap_or(test);
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return !path.ends_with("target") && !path.ends_with("node_modules") && has_test(&path, test);
        }
        path.extension().is_some_and(|extension| extension == "rs")
            && fs::read_to_string(&path).is_ok_and(|text| names_test(&text, name))
    })
}

fn names_test(text: &str, name: &str) -> bool {
    text.split("#[test]").skip(1).chain(text.split("::test").skip(1)).any(|behind| {
        let function = behind.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
        function.is_some_and(|(function, _)| function.contains(name))
    })
}

impl Mutant {
    /// The file's text with the bug in it.
    #[must_use]
    pub fn plant(&self, text: &str) -> String {
        text.replacen(&self.from, &self.to, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project_dir;

    #[test]
    fn the_last_bug_that_undoes_something_cannot_be_taken_out() {
        let mut list = read(&project_dir()).unwrap();
        assert_eq!(unguarded(&list), Vec::<String>::new());
        list.retain(|mutant| mutant.guards.as_deref() != Some("12.A.8"));
        assert_eq!(faults(&project_dir(), &list), ["no planted bug undoes 12.A.8"]);
        assert_eq!(unguarded(&[]).len(), GUARDED.len());
    }

    #[test]
    fn a_bug_undoes_nothing_that_is_not_named() {
        let mut list = read(&project_dir()).unwrap();
        list[0].guards = Some("12.A.99".into());
        assert!(unguarded(&list).contains(&"guards = \"12.A.99\" is not known".into()));
    }
}
