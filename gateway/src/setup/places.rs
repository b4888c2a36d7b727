//! The city's file, `city/city.toml` in the seeds: names of districts and zones, and what zones are.
//!
//! A place that the file does not name shows its code. Without the file no place has a name. A faulty file is a fault of
//! the registry, which is read first.

use crate::setup::{
    config::{Config, Fault},
    registry::{Located, read_text},
};
use hunhe_proto::{
    class::Text,
    fleet::{City, District, Zone},
};
use std::collections::HashMap;

/// The city's names by code.
#[derive(Debug, Default)]
pub struct Places {
    districts: HashMap<String, Text>,
    zones: HashMap<String, Text>,
}

/// The city in the configured seeds.
///
/// # Errors
/// The file cannot be read, or does not describe a city.
pub(super) fn read_city(config: &Config) -> Result<City, Vec<Fault>> {
    let path = config.seeds_dir.join("city/city.toml");
    if !path.exists() {
        return Ok(City::default());
    }
    let text = read_text(&path).map_err(|fault| vec![fault])?;
    Located::parse(&path.display().to_string(), &text)?.read().map_err(|fault| vec![fault])
}

impl Places {
    /// The names in the configured seeds.
    #[must_use]
    pub fn read(config: &Config) -> Self {
        let City { districts, zones, operators: _ } = read_city(config).unwrap_or_default();
        Self {
            districts: districts
                .into_iter()
                .map(|District { code, title, .. }| (code.to_string(), title))
                .collect(),
            zones: zones.into_iter().map(|Zone { id, title, .. }| (id.to_string(), title)).collect(),
        }
    }

    /// A district's name, or its code.
    #[must_use]
    pub fn district(&self, code: &str) -> Text {
        title(&self.districts, code)
    }

    /// A zone's name, or its id.
    #[must_use]
    pub fn zone(&self, id: &str) -> Text {
        title(&self.zones, id)
    }
}

fn title(titles: &HashMap<String, Text>, code: &str) -> Text {
    let plain = || Text { zh: code.to_owned(), en: code.to_owned() };
    titles.get(code).cloned().unwrap_or_else(plain)
}
