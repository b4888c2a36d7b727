//! Names of districts and zones, where the seeds have them: `city/city.toml`. A place without a name shows its code.

use crate::setup::config::Config;
use hunhe_proto::class::Text;
use std::collections::HashMap;

/// The city's names by code.
#[derive(Debug, Default)]
pub struct Places {
    districts: HashMap<String, Place>,
    zones: HashMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    kind: String,
    title: Text,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Written {
    districts: Vec<WrittenPlace>,
    zones: Vec<WrittenPlace>,
}

#[derive(Debug, serde::Deserialize)]
struct WrittenPlace {
    #[serde(alias = "id")]
    code: toml::Value,
    #[serde(default)]
    kind: String,
    title: Text,
}

impl Places {
    /// The names in the configured seeds.
    #[must_use]
    pub fn read(config: &Config) -> Self {
        let path = config.seeds_dir.join("city/city.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match toml::from_str::<Written>(&text) {
            Ok(written) => Self { districts: by_code(written.districts), zones: by_code(written.zones) },
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "names of districts and zones cannot be read: codes are shown");
                Self::default()
            }
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

    /// What kind of zone it is; empty where the seeds do not name it.
    #[must_use]
    pub fn kind(&self, zone: &str) -> &str {
        self.zones.get(zone).map_or("", |place| &place.kind)
    }
}

fn title(places: &HashMap<String, Place>, code: &str) -> Text {
    let plain = || Text { zh: code.to_owned(), en: code.to_owned() };
    places.get(code).map_or_else(plain, |place| place.title.clone())
}

fn by_code(written: Vec<WrittenPlace>) -> HashMap<String, Place> {
    let place = |place: WrittenPlace| {
        let code = match place.code {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        (code, Place { kind: place.kind, title: place.title })
    };
    written.into_iter().map(place).collect()
}
