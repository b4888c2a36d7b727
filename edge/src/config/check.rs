//! Finds every fault of a file, the environment and flags, and only then builds the configuration.

use super::{Config, ENV_PREFIX, Fault, KEYS, Kind};
use crate::{classes, clock::parse_utc, drivers::DriverKind};
use hunhe_proto::id::Id;
use std::{collections::BTreeSet, path::Path};
use toml::de::{DeTable, DeValue};

/// What every device has.
const DEVICE_KEYS: [&str; 3] = ["id", "class", "driver"];
const REPLAY: &str = "replay";
/// The key of a device that replays.
const RECORDING: &str = "recording";

struct Check<'a> {
    file: String,
    text: &'a str,
    kinds: &'a [DriverKind],
    faults: Vec<Fault>,
    seen: BTreeSet<&'static str>,
}

pub(super) fn load(
    file: &Path,
    environment: &[(String, String)],
    flags: &[(String, String)],
    kinds: &[DriverKind],
) -> Result<Config, Vec<Fault>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        vec![Fault { file: name.clone(), line: 0, key: "file".into(), what: format!("cannot read: {error}") }]
    })?;
    let mut check = Check { file: name, text: &text, kinds, faults: Vec::new(), seen: BTreeSet::new() };
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        check.fault(at, "syntax", error.message().to_string());
    }
    check.table("", document.get_ref());
    check.environment(environment);
    for (key, value) in flags {
        check.setting("flag", key, value);
    }
    check.missing();
    let devices = document.get_ref().get("devices").map(|devices| devices.get_ref());
    check.devices(devices, document.get_ref());
    if !check.faults.is_empty() {
        check.faults.sort_by_key(|fault| fault.line);
        return Err(check.faults);
    }
    build(&text, environment, flags).map_err(|error| {
        vec![Fault { file: check.file, line: 0, key: "configuration".into(), what: error.to_string() }]
    })
}

fn build(
    text: &str,
    environment: &[(String, String)],
    flags: &[(String, String)],
) -> Result<Config, config::ConfigError> {
    let defaults = KEYS.iter().filter(|key| !key.default.is_empty());
    let defaults: String = defaults.map(|key| format!("{} = {}\n", key.name, key.default)).collect();
    let overrides: String = flags.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let source = |text: &str| config::File::from_str(text, config::FileFormat::Toml);
    let environment = environment.iter().cloned().collect();
    config::Config::builder()
        .add_source(source(&defaults))
        .add_source(source(text))
        .add_source(
            config::Environment::with_prefix(ENV_PREFIX)
                .prefix_separator("_")
                .separator("__")
                .try_parsing(true)
                .source(Some(environment)),
        )
        .add_source(source(&overrides))
        .build()?
        .try_deserialize()
}

impl Check<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count()
    }

    fn fault(&mut self, at: usize, key: &str, what: String) {
        let line = self.line(at);
        self.faults.push(Fault { file: self.file.clone(), line, key: key.to_string(), what });
    }

    /// Checks every key of a table by [`KEYS`]; devices have their own turn.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let at = name.span().start;
            if key == "devices" {
                continue;
            }
            if let Some(known) = KEYS.iter().find(|known| known.name == key) {
                self.seen.insert(known.name);
                if let Err(what) = fits(known.kind, value.get_ref()) {
                    self.fault(at, &key, what);
                }
            } else if let Some(inner) = value.get_ref().as_table().filter(|_| is_section(&key)) {
                self.table(&key, inner);
            } else if is_section(&key) {
                self.fault(at, &key, "must be a table".into());
            } else {
                self.fault(at, &key, unknown(&key));
            }
        }
    }

    fn environment(&mut self, environment: &[(String, String)]) {
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix(ENV_PREFIX).and_then(|rest| rest.strip_prefix('_')) else {
                continue;
            };
            self.setting(variable, &rest.to_lowercase().replace("__", "."), value);
        }
    }

    /// A key outside the file; its value is text that may stand for a number.
    fn setting(&mut self, origin: &str, key: &str, value: &str) {
        let fault = |what: String| Fault { file: origin.to_string(), line: 0, key: key.to_string(), what };
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            self.faults.push(fault(unknown(key)));
            return;
        };
        self.seen.insert(known.name);
        let quoted = toml::Value::from(value.trim_matches('"')).to_string();
        let literal = match known.kind {
            Kind::Id | Kind::Text | Kind::Time => quoted.as_str(),
            Kind::Secret => return,
            _ => value,
        };
        let parsed = DeValue::parse(literal);
        let fitted = match &parsed {
            Ok(parsed) => fits(known.kind, parsed.get_ref()),
            Err(_) => Err(format!("must be {}", expected(known.kind))),
        };
        if let Err(what) = fitted {
            self.faults.push(fault(what));
        }
    }

    fn missing(&mut self) {
        for key in KEYS.iter().filter(|key| key.required && !self.seen.contains(key.name)) {
            let what = format!("is missing; set it to {}", key.about);
            self.faults.push(Fault { file: self.file.clone(), line: 0, key: key.name.into(), what });
        }
    }

    fn devices(&mut self, devices: Option<&DeValue<'_>>, document: &DeTable<'_>) {
        let folder = document.get("classes").and_then(|value| value.get_ref().as_str());
        let classes = folder.and_then(|folder| match classes::load(Path::new(folder)) {
            Ok(classes) => Some(classes),
            Err(errors) => {
                let at = document.get_key_value("classes").map_or(0, |(key, _)| key.span().start);
                errors.0.into_iter().for_each(|what| self.fault(at, "classes", what));
                None
            }
        });
        let Some(list) = devices.and_then(DeValue::as_array).filter(|list| !list.is_empty()) else {
            let what = "is missing; an agent has at least one [[devices]]".to_string();
            self.faults.push(Fault { file: self.file.clone(), line: 0, key: "devices".into(), what });
            return;
        };
        let mut ids = BTreeSet::new();
        for (index, device) in list.iter().enumerate() {
            let (place, at) = (format!("devices[{index}]"), device.span().start);
            let Some(table) = device.get_ref().as_table() else {
                self.fault(at, &place, "must be a table".into());
                continue;
            };
            self.device(&place, at, table, classes.as_ref(), &mut ids);
        }
    }

    fn device(
        &mut self,
        place: &str,
        at: usize,
        table: &DeTable<'_>,
        classes: Option<&classes::Classes>,
        ids: &mut BTreeSet<String>,
    ) {
        let text = |key: &str| {
            let (name, value) = table.get_key_value(key)?;
            Some((name.span().start, value.get_ref().as_str()?))
        };
        for key in DEVICE_KEYS.iter().filter(|key| table.get(**key).is_none()) {
            self.fault(at, &format!("{place}.{key}"), "is missing".into());
        }
        if let Some((at, id)) = text("id") {
            if let Err(error) = Id::new(id) {
                self.fault(at, &format!("{place}.id"), error.to_string());
            } else if !ids.insert(id.to_string()) {
                self.fault(at, &format!("{place}.id"), format!("{id:?} stands here twice; ids are unique"));
            }
        }
        let mut class = None;
        if let (Some((at, name)), Some(classes)) = (text("class"), classes) {
            class = classes.get(name);
            if class.is_none() {
                let known = classes.keys().cloned().collect::<Vec<_>>().join(", ");
                let what = format!("no class is called {name:?}; known are {known}");
                self.fault(at, &format!("{place}.class"), what);
            }
        }
        let driver = text("driver");
        let kind = driver.and_then(|(_, name)| self.kinds.iter().find(|kind| kind.name == name));
        let own = match (kind, driver) {
            (Some(kind), _) => kind.keys,
            (None, Some((_, REPLAY)) | None) => &[RECORDING],
            (None, Some((at, name))) => {
                self.fault(at, &format!("{place}.driver"), no_driver(name, self.kinds));
                // Whose keys they are is not known.
                return;
            }
        };
        if let Some((at, REPLAY)) = driver.filter(|_| table.get(RECORDING).is_none()) {
            self.fault(at, &format!("{place}.driver"), "\"replay\" needs `recording`, a folder".into());
        }
        for (name, value) in table {
            let (name, at) = (name.get_ref().as_ref(), name.span().start);
            let key = format!("{place}.{name}");
            if !DEVICE_KEYS.iter().chain(own).any(|known| *known == name) {
                let known = DEVICE_KEYS.iter().chain(own).copied().collect::<Vec<_>>().join(", ");
                self.fault(at, &key, format!("is not known; a device with this driver has {known}"));
            } else if let Some(value) = value.get_ref().as_str() {
                let checked = kind.zip(class).filter(|(kind, _)| kind.keys.contains(&name));
                if let Some(Err(what)) = checked.map(|(kind, class)| (kind.check)(name, value, class)) {
                    self.fault(at, &key, what);
                }
            } else {
                self.fault(at, &key, "must be a text in quotes".into());
            }
        }
    }
}

fn no_driver(name: &str, kinds: &[DriverKind]) -> String {
    let known = std::iter::once(REPLAY).chain(kinds.iter().map(|kind| kind.name));
    let known = known.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ");
    let what = format!("{name:?} is no driver of this program, which has {known}");
    // By name, since it is most likely a trial's configuration on a field's program.
    let is_left_out = name == "simulated";
    what + if is_left_out {
        "; models of devices need hunhe-edge built with its feature `simulate`"
    } else {
        ""
    }
}

fn is_section(key: &str) -> bool {
    KEYS.iter().any(|known| known.name.split_once('.').is_some_and(|(section, _)| section == key))
}

fn unknown(key: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    // Nearly right is most likely a slip of the finger.
    let near = KEYS.iter().find(|known| {
        let (known_section, known_name) = known.name.rsplit_once('.').unwrap_or(("", known.name));
        known_name == name || (known_section == section && distance(known_name, name) <= 2)
    });
    near.map_or_else(
        || "is not known; `hunhe-edge provision` prints every key".to_string(),
        |near| format!("is not known; did you mean {}?", near.name),
    )
}

/// Insertions, deletions and replacements between two words.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let best = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[right.len()]
}

fn fits(kind: Kind, value: &DeValue<'_>) -> Result<(), String> {
    let integer = || match value {
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok(),
        _ => None,
    };
    let number = || match value {
        DeValue::Float(digits) => digits.as_str().parse::<f64>().ok(),
        DeValue::Integer(digits) => digits.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let right = match kind {
        Kind::Id => value.as_str().is_some_and(|text| Id::new(text).is_ok()),
        Kind::Text => value.as_str().is_some_and(|text| !text.is_empty()),
        Kind::Time => value.as_str().is_some_and(|text| parse_utc(text).is_some()),
        Kind::Switch => value.is_bool(),
        Kind::Integer(low, high) => integer().is_some_and(|value| (low..=high).contains(&value)),
        Kind::Positive => number().is_some_and(|value| value.is_finite() && value > 0.0),
        Kind::Secret => false,
    };
    if right { Ok(()) } else { Err(format!("must be {}", expected(kind))) }
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Id => "an id: lower-case letters, digits and hyphens, at most 32".into(),
        Kind::Text => "a text in quotes".into(),
        Kind::Switch => "true or false".into(),
        Kind::Integer(low, high) => format!("an integer from {low} to {high}"),
        Kind::Positive => "a number above 0".into(),
        Kind::Time => "a UTC time such as \"2021-01-01T00:00:00Z\"".into(),
        Kind::Secret => {
            "in HUNHE_EDGE_BROKER__PASSWORD or in a file named by broker.password_file, not here".into()
        }
    }
}

#[cfg(test)]
mod tests;
