//! The raw configuration: the values of every layer, each checked by itself, each with its place.
//!
//! A wrong value is left out of its layer, so that later checks still find all other faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use config::{Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};
use super::keys::{Key, Kind, RawValue, Unwritten};
use super::nearest::nearest;
use super::schema::{SECTIONS, Section};
use super::{Layers, VARIABLE_PREFIX};

/// One layer of checked values by path, as `broker.port` and `influx[0].url`.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    values: BTreeMap<String, ValueKind>,
}

impl fmt::Debug for Layer {
    /// Paths only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let value = |(path, kind): (&String, &ValueKind)| (path.clone(), Value::new(None, kind.clone()));
        Ok(self.values.iter().map(value).collect())
    }
}

/// All layers, from the weakest to the strongest, and their faults.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) layers: [Layer; 4],
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) faults: Vec<Fault>,
    /// Number of tables of each section that may stand several times.
    pub(crate) list_len: BTreeMap<&'static str, usize>,
    /// The file cannot be read: the defaults are not checked in its place.
    pub(crate) unread: bool,
}

const DEFAULTS: usize = 0;
const FILE: usize = 1;
const ENVIRONMENT: usize = 2;
const FLAGS: usize = 3;

impl Raw {
    /// Reads all layers.
    pub(crate) fn gather(layers: &Layers) -> Self {
        let mut raw = Self::default();
        if let Some(path) = &layers.file {
            raw.read_file(path);
        }
        raw.read_environment(&layers.environment);
        for (path, text) in &layers.flags {
            raw.read_flag(path, text);
        }
        raw.fill_defaults();
        raw
    }

    /// The place of a key, or of the table that should have it.
    pub(crate) fn place(&self, path: &str) -> Place {
        self.places.get(path).cloned().unwrap_or(Place::Default)
    }

    /// How many tables a listed section has.
    fn tables(&self, section: &str) -> usize {
        self.list_len.get(section).copied().unwrap_or(0)
    }

    fn read_file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.unread = true;
                let what = format!("cannot be read: {error}");
                self.faults.push(Fault::new(Place::whole(&file), "", what, "name a readable TOML file"));
                return;
            }
        };
        let dir = path.parent().unwrap_or(Path::new(""));
        let (table, errors) = DeTable::parse_recoverable(&text);
        Reader { raw: self, file: &file, text: &text, dir }.document(table.get_ref());
        for error in errors {
            let at = error.span().map_or(text.len(), |span| span.start);
            let place = Place::at(&file, &text, at);
            // The parser guesses a value for a broken line: its faults are not the author's.
            self.faults.retain(|fault| fault.place != place);
            let what = format!("is not TOML: {}", error.message().replace('\n', ", "));
            self.faults.push(Fault::new(place, "", what, "correct the line"));
        }
    }

    fn read_environment(&mut self, variables: &[(String, String)]) {
        for section in SECTIONS.iter().filter(|section| section.list) {
            if self.tables(section.name) == 0 && variables.iter().any(|(name, _)| is_of(section, name)) {
                self.list_len.insert(section.name, 1);
            }
        }
        let known = self.variables();
        for (name, text) in variables {
            let place = Place::Variable(name.clone());
            match known.get(name) {
                Some((path, key)) => self.put_text(ENVIRONMENT, path, key, text, place),
                None => self.faults.push(Fault::new(
                    place,
                    "",
                    "names no key",
                    did_you_mean(name, known.keys().map(String::as_str), "unset it"),
                )),
            }
        }
    }

    fn read_flag(&mut self, path: &str, text: &str) {
        let place = Place::Flag(format!("--set {path}"));
        let known = self.paths();
        match known.iter().find(|(known, _)| known == path) {
            Some((_, key)) => self.put_text(FLAGS, path, key, text, place),
            None => {
                let remedy = did_you_mean(path, known.iter().map(|(path, _)| path.as_str()), "leave it out");
                self.faults.push(Fault::new(place, path, "there is no such key", remedy));
            }
        }
    }

    fn put_text(&mut self, layer: usize, path: &str, key: &'static Key, text: &str, place: Place) {
        let from_environment = matches!(place, Place::Variable(_));
        if matches!(key.kind, Kind::Secret) && from_environment && !text.is_empty() {
            self.layers[layer].values.insert(path.into(), text.into());
            self.places.insert(path.into(), place);
        } else {
            self.put(layer, path, key, RawValue::from_text(key.kind, text), place);
        }
    }

    fn put(&mut self, layer: usize, path: &str, key: &'static Key, raw: RawValue, place: Place) {
        match key.kind.check(raw) {
            Ok(value) => {
                self.layers[layer].values.insert(path.into(), value);
                self.places.insert(path.into(), place);
            }
            Err(wrong) => self.faults.push(Fault::new(place, path, wrong.what, wrong.remedy)),
        }
    }

    /// Every key that can be written, with its path.
    fn paths(&self) -> Vec<(String, &'static Key)> {
        let prefixes = SECTIONS.iter().flat_map(|section| {
            let prefixes = match (section.name, section.list) {
                ("", _) => vec![String::new()],
                (name, false) => vec![format!("{name}.")],
                (name, true) => (0..self.tables(name)).map(|index| format!("{name}[{index}].")).collect(),
            };
            prefixes.into_iter().map(move |prefix| (prefix, section))
        });
        let keys = prefixes.flat_map(|(prefix, section)| {
            section.keys.iter().map(move |key| (format!("{prefix}{}", key.name), key))
        });
        keys.collect()
    }

    /// Every variable that can be set: the path in capitals; a listed table goes by its name, or, alone, by none.
    fn variables(&self) -> BTreeMap<String, (String, &'static Key)> {
        let capital = |text: &str| text.to_uppercase().replace(['-', '.'], "_");
        let mut known = BTreeMap::new();
        for (path, key) in self.paths() {
            let Some((section, rest)) = path.split_once('[') else {
                known.insert(format!("{VARIABLE_PREFIX}{}", capital(&path)), (path, key));
                continue;
            };
            let table = path.split_once('.').map_or(path.as_str(), |(table, _)| table);
            let name = match self.layers[FILE].values.get(&format!("{table}.name")) {
                Some(ValueKind::String(name)) => name.clone(),
                _ => section.into(),
            };
            let key_name = rest.split_once('.').map_or("", |(_, key)| key);
            let variable = format!("{VARIABLE_PREFIX}{}_", capital(section));
            if self.tables(section) == 1 {
                known.insert(format!("{variable}{}", capital(key_name)), (path.clone(), key));
            }
            known.entry(format!("{variable}{}_{}", capital(&name), capital(key_name))).or_insert((path, key));
        }
        known
    }

    /// The weakest layer. A key that must be written is reported and, for the sake of the checks to come, has its example.
    fn fill_defaults(&mut self) {
        let reported: BTreeSet<String> = self.faults.iter().map(|fault| fault.key.clone()).collect();
        for (path, key) in self.paths() {
            let literal = match key.unwritten {
                Unwritten::Absent(_) => continue,
                Unwritten::Is(literal) => literal,
                Unwritten::Refused(example) => {
                    let missing = self.layers.iter().all(|layer| !layer.values.contains_key(&path));
                    if missing && !reported.contains(&path) {
                        let table = path.rsplit_once('.').map_or("", |(table, _)| table);
                        let remedy = format!("write {}", key.kind.wanted());
                        self.faults.push(Fault::new(self.place(table), path.as_str(), "is missing", remedy));
                    }
                    example
                }
            };
            let value = DeValue::parse(literal).map(|value| RawValue::of(value.get_ref()));
            if let Some(value) = value.ok().and_then(|raw| key.kind.check(raw).ok()) {
                self.layers[DEFAULTS].values.insert(path, value);
            }
        }
    }
}

/// Does a variable belong to that section?
fn is_of(section: &Section, variable: &str) -> bool {
    variable.starts_with(&format!("{VARIABLE_PREFIX}{}_", section.name.to_uppercase()))
}

fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(word, known).map_or_else(|| otherwise.into(), |known| format!("did you mean {known}?"))
}

/// Walks one file.
struct Reader<'a> {
    raw: &'a mut Raw,
    file: &'a str,
    text: &'a str,
    dir: &'a Path,
}

impl Reader<'_> {
    fn document(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let top = &SECTIONS[0];
            if let Some(key) = top.key(name.get_ref()) {
                self.value(key.name, key, value);
            } else if let Some(section) =
                SECTIONS.iter().find(|section| section.name == name.get_ref().as_ref())
            {
                self.section(section, value);
            } else {
                self.unknown(None, name.get_ref(), name.span().start);
            }
        }
    }

    fn section(&mut self, section: &'static Section, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) if section.list => {
                self.listed(section, table, value.span().start);
            }
            DeValue::Table(table) => self.table(section, section.name, table, value.span().start),
            DeValue::Array(items) if section.list => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => self.listed(section, table, item.span().start),
                        _ => self.no_table(section, item.span().start),
                    }
                }
            }
            _ => self.no_table(section, value.span().start),
        }
    }

    fn listed(&mut self, section: &'static Section, table: &DeTable<'_>, at: usize) {
        let path = format!("{}[{}]", section.name, self.raw.tables(section.name));
        *self.raw.list_len.entry(section.name).or_default() += 1;
        self.table(section, &path, table, at);
    }

    fn table(&mut self, section: &'static Section, path: &str, table: &DeTable<'_>, at: usize) {
        self.raw.places.insert(path.into(), self.place(at));
        for (name, value) in table {
            match section.key(name.get_ref()) {
                Some(key) => self.value(&format!("{path}.{}", key.name), key, value),
                None => self.unknown(Some((section, path)), name.get_ref(), name.span().start),
            }
        }
    }

    fn value(&mut self, path: &str, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        let place = self.place(value.span().start);
        let raw = match (key.kind, RawValue::of(value.get_ref())) {
            (Kind::Path, RawValue::Text(text)) if !text.trim().is_empty() => {
                RawValue::Text(self.dir.join(text).display().to_string())
            }
            (_, raw) => raw,
        };
        self.raw.put(FILE, path, key, raw, place);
    }

    fn no_table(&mut self, section: &Section, at: usize) {
        let brackets = if section.list { ("[[", "]]") } else { ("[", "]") };
        let remedy = format!("write its keys below {}{}{}", brackets.0, section.name, brackets.1);
        self.raw.faults.push(Fault::new(self.place(at), section.name, "is not a table", remedy));
    }

    fn unknown(&mut self, within: Option<(&Section, &str)>, name: &str, at: usize) {
        let in_scope: Vec<&str> = match within {
            Some((section, _)) => section.keys.iter().map(|key| key.name).collect(),
            None => {
                SECTIONS[0].keys.iter().map(|key| key.name).chain(SECTIONS.iter().map(|s| s.name)).collect()
            }
        };
        let elsewhere = || {
            let section = SECTIONS.iter().find(|section| section.key(name).is_some())?;
            Some(format!("{}{}{name}", section.name, if section.name.is_empty() { "" } else { "." }))
        };
        let meant = nearest(name, in_scope.into_iter()).map(str::to_owned).or_else(elsewhere);
        let remedy = meant.map_or_else(|| "remove it".into(), |meant| format!("did you mean {meant}?"));
        let path = within.map_or_else(|| name.to_owned(), |(_, path)| format!("{path}.{name}"));
        self.raw.faults.push(Fault::new(self.place(at), path, "there is no such key", remedy));
    }

    fn place(&self, at: usize) -> Place {
        Place::at(self.file, self.text, at)
    }
}
