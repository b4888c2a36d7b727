//! Alert rules from a folder: every `.toml` file is a list of `[[rules]]`.

use std::path::Path;

use hunhe_gateway_core::rule::{Rule, faults_of};
use hunhe_proto::class::Class;

use super::classes::files_of;
use super::locate::Located;
use super::read_text;
use crate::setup::config::{Fault, Place};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: Vec<Rule>,
}

/// The rules of a folder, in the order of file names; none where any of them is at fault. An empty folder is a city
/// without alerts.
pub(crate) fn read_folder(dir: &Path, classes: &[Class], faults: &mut Vec<Fault>) -> Vec<Rule> {
    let files = match files_of(dir) {
        Ok(files) => files,
        Err(error) => {
            let place = Place::whole(&dir.display().to_string());
            let remedy = "name a readable folder, an empty one where no alert is wanted";
            faults.push(Fault::new(place, "", format!("cannot be read: {error}"), remedy));
            return Vec::new();
        }
    };
    let before = faults.len();
    let mut rules: Vec<Rule> = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match read_text(&path).map_err(|fault| vec![fault]) {
            Ok(text) => match read_rules(&file, &text, &rules, classes) {
                Ok(mut read) => rules.append(&mut read),
                Err(mut found) => faults.append(&mut found),
            },
            Err(mut found) => faults.append(&mut found),
        }
    }
    if faults.len() > before { Vec::new() } else { rules }
}

/// The rules of one file, beside those of the files before.
///
/// # Errors
/// As [`read_class`](super::read_class).
pub fn read_rules(
    file: &str,
    text: &str,
    before: &[Rule],
    classes: &[Class],
) -> Result<Vec<Rule>, Vec<Fault>> {
    let located = Located::parse(file, text)?;
    let read: File = located.read().map_err(|fault| vec![fault])?;
    let all: Vec<Rule> = before.iter().chain(&read.rules).cloned().collect();
    let faults: Vec<Fault> = faults_of(&all, classes)
        .into_iter()
        .filter(|(at, ..)| *at >= before.len())
        .map(|(at, key, remedy)| {
            let key = format!("rules.{}.{key}", all[at].id);
            Fault::new(located.place(&key, "id"), key, "is not allowed so", remedy)
        })
        .collect();
    if faults.is_empty() { Ok(read.rules) } else { Err(faults) }
}
