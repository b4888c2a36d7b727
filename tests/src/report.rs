//! Figures of a run: a table for people, and `target/report/NAME.json` for programs.
//!
//! Promise: figures stand beside the command, commit, date and machine of the very run that found them.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Map, Value, json};

use crate::project_dir;

/// Writes `figures` to `target/report/{name}.json`, below `key` if there is one and beside what other tests wrote there, and
/// prints them.
///
/// # Panics
/// The file cannot be written.
pub fn write(name: &str, key: Option<&str>, figures: &Value) {
    print_table(key.unwrap_or(name), figures);
    let path = path(name);
    path.parent().map_or(Ok(()), fs::create_dir_all).expect("folder of reports");
    let mut run = match figures {
        Value::Object(figures) => figures.clone(),
        other => Map::from_iter([("figures".into(), other.clone())]),
    };
    run.insert("command".into(), json!(command()));
    run.insert("date".into(), json!(now()));
    run.insert("commit".into(), json!(said("git", &["rev-parse", "HEAD"])));
    run.insert("machine".into(), machine());
    let all = match key {
        Some(key) => {
            let before = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
            let mut all: Map<String, Value> = before.unwrap_or_default();
            all.insert(key.into(), Value::Object(run));
            all
        }
        None => run,
    };
    let text = serde_json::to_string_pretty(&Value::Object(all)).expect("figures are JSON");
    fs::write(&path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// How this program was called.
fn command() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    words.join(" ")
}

/// Where a report is.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    project_dir().join("target/report").join(name).with_extension("json")
}

/// The time as reports write it.
#[must_use]
pub fn now() -> String {
    said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(project_dir()).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    json!({
        "cpu": line(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": line(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

fn print_table(title: &str, figures: &Value) {
    println!("{title}");
    if let Value::Object(figures) = figures {
        for (name, value) in figures {
            println!("  {name:<44} {}", cell(value));
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => format!("{:>14.3}", number.as_f64().unwrap_or(0.0)),
        Value::Object(inner) => {
            inner.iter().map(|(name, value)| format!("\n    {name:<42} {}", cell(value))).collect()
        }
        other => format!("{:>14}", other.to_string()),
    }
}
