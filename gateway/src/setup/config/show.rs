//! The configuration shown: as TOML with the place of each value, secrets masked; and the commented sample.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::fault::Place;
use super::keys::{Key, Kind, Unwritten};
use super::schema::{Config, SECTIONS, Section};

/// A checked configuration and where each value came from.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// What the program reads.
    pub config: Config,
    /// Places by path; a path that is not here has its default.
    pub origins: BTreeMap<String, Place>,
}

impl Loaded {
    /// As TOML that would load again, but for secrets, with the place of each value behind it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let tree = serde_json::to_value(&self.config).unwrap_or_default();
        let mut out = String::new();
        for section in SECTIONS {
            let table = if section.name.is_empty() { &tree } else { &tree[section.name] };
            match table.as_array() {
                Some(tables) => {
                    for (index, table) in tables.iter().enumerate() {
                        let _ = write!(out, "\n[[{}]]\n", section.name);
                        self.table(&mut out, section, &format!("{}[{index}].", section.name), table);
                    }
                }
                None if section.name.is_empty() => self.table(&mut out, section, "", table),
                None => {
                    let _ = write!(out, "\n[{}]\n", section.name);
                    self.table(&mut out, section, &format!("{}.", section.name), table);
                }
            }
        }
        out
    }

    fn table(&self, out: &mut String, section: &Section, prefix: &str, table: &serde_json::Value) {
        for key in section.keys {
            let value = &table[key.name];
            if value.is_null() {
                continue;
            }
            let place = self.origins.get(&format!("{prefix}{}", key.name)).unwrap_or(&Place::Default);
            // JSON's texts, numbers and lists of texts are TOML's as well.
            let comment = if matches!(key.kind, Kind::Secret) { "# " } else { "" };
            let _ = writeln!(out, "{comment}{} = {value}  # {place}", key.name);
        }
    }
}

/// Every key with its explanation and default, as a file to start from.
#[must_use]
pub fn sample() -> String {
    let mut out = String::from(
        "# A sample of the gateway's configuration: every key with its default. A key that is left out keeps its\n\
         # default, so a real file needs only the lines that differ.\n\
         #\n\
         # Environment variables are stronger than this file (HUNHE_BROKER_PORT for port below [broker]), and flags are\n\
         # stronger still (--set broker.port=1884). A relative path starts at the folder of this file.\n\
         # `hunhe-gateway check --config FILE --show` shows each value and where it was written.\n\n",
    );
    for section in SECTIONS {
        if !section.name.is_empty() {
            out.push('\n');
            comment(&mut out, section.about);
            let brackets = if section.list { ("# [[", "]]") } else { ("[", "]") };
            let _ = writeln!(out, "{}{}{}", brackets.0, section.name, brackets.1);
        }
        for key in section.keys {
            comment(&mut out, key.doc);
            sample_line(&mut out, section, key);
        }
    }
    out
}

fn sample_line(out: &mut String, section: &Section, key: &Key) {
    let _ = match key.unwritten {
        _ if matches!(key.kind, Kind::Secret) => Ok(()),
        Unwritten::Is(value) if section.list => writeln!(out, "# {} = {value}", key.name),
        Unwritten::Is(value) => writeln!(out, "{} = {value}", key.name),
        Unwritten::Absent(value) | Unwritten::Refused(value) => writeln!(out, "# {} = {value}", key.name),
    };
}

fn comment(out: &mut String, text: &str) {
    for line in text.trim_end().lines() {
        let _ = writeln!(out, "#{line}");
    }
}
