//! Every key of a class and of a rule changes something that can be seen; one that does not is a promise that nothing keeps.
//!
//! A whole class and a whole rule are written as TOML; each of their keys stands in a table with another value, and what an
//! agent and a gateway do is compared before and after. A key that is for people alone is looked for in the program's text.

#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unimplemented,
    reason = "a test may fail loudly, its helpers too"
)]

mod agent;
mod classes;
mod documents;
mod lane;
mod rules;
mod source;

use std::{collections::BTreeSet, fs, path::Path};
use toml::Value;

/// Each leaf of a value by its path, with `[]` for a place in a list and `*` for a name under `faults`.
fn leaves(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, out: &mut BTreeSet<String>) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    let key = if path == "faults" { "*" } else { key };
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(value, &format!("{path}{dot}{key}"), out);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), out)),
            _ => {
                out.insert(path.to_string());
            }
        }
    }
    let mut out = BTreeSet::new();
    walk(value, "", &mut out);
    out
}

/// The same path with names and places taken out.
fn general(path: &str) -> String {
    let mut out = Vec::new();
    let mut under_faults = false;
    for step in path.split('.') {
        if step.parse::<usize>().is_ok() {
            if let Some(last) = out.last_mut() {
                *last = format!("{last}[]");
            }
        } else if under_faults {
            out.push("*".to_string());
        } else {
            out.push(step.to_string());
        }
        under_faults = step == "faults";
    }
    out.join(".")
}

/// Puts another value in a place such as `channels.1.min`.
fn set(root: &mut Value, path: &str, new: Value) {
    let mut at = root;
    for step in path.split('.') {
        at = match at {
            Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
            Value::Table(table) => table.get_mut(step).unwrap_or_else(|| panic!("{path} is not in the base")),
            _ => panic!("{path} goes through a value"),
        };
    }
    assert_ne!(*at, new, "{path} would stay as it is");
    *at = new;
}

/// The program's text, without its tests, comments and strings.
fn program() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders =
        ["src", "core/src", "../edge/src", "../edge/fleet/src"].map(|at| root.join(at)).to_vec();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let code = fs::read_to_string(path).unwrap();
                text += &source::without_words(source::without_tests(&code));
            }
        }
    }
    text
}
