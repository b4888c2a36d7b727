//! Configuration in layers: built-in defaults, one TOML file, `HUNHE_` environment variables, flags.
//!
//! It is read twice. [`raw`]: a table of all keys ([`schema`]) checks each value of each layer by itself. [`checked`]: the
//! layers are merged, rules about several keys are checked, and secrets are read from their files. All faults are reported
//! together, each with its place, before any port opens or file changes. Loading only reads.
//!
//! Deliberately absent: reloading at run time, keys without an explanation, and secrets in the file or on the
//! command line.

mod checked;
mod fault;
mod keys;
mod nearest;
mod period;
mod raw;
mod schema;
mod secret;
mod show;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use fault::{Fault, Faults, Place};
pub use period::{Period, PeriodError};
pub use schema::{
    Alerts, Broker, Checkpointing, Config, DecidedLimits, Embedded, Http, Influx, InfluxKind, JournalLimits,
    Log, LogFormat, QuarantineLimits, Registration, Republish, Validation, Webhook,
};
pub use secret::Secret;
pub use show::{Loaded, sample};

use raw::Raw;

/// The name of the output of alerts at the broker, which no webhook may have.
pub const MQTT_OUTPUT: &str = "mqtt";

/// What all our variables begin with.
const VARIABLE_PREFIX: &str = "HUNHE_";

/// Variables of the edge agent, which may run in the same environment.
const FOREIGN_PREFIX: &str = "HUNHE_EDGE_";

/// What lies above the defaults, from the weakest to the strongest.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Variables by name; only the gateway's own.
    pub environment: Vec<(String, String)>,
    /// Values by path, as (`broker.port`, `1884`).
    pub flags: Vec<(String, String)>,
}

impl Layers {
    /// A file and flags, with the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let ours = |name: &str| name.starts_with(VARIABLE_PREFIX) && !name.starts_with(FOREIGN_PREFIX);
        let variables = std::env::vars_os().map(|(name, value)| (text(name), value));
        let environment = variables.filter(|(name, _)| ours(name)).map(|(name, value)| (name, text(value)));
        Self { file, environment: environment.collect(), flags }
    }

    /// The configuration that the layers make.
    ///
    /// # Errors
    /// All that is wrong. Nothing was changed.
    pub fn load(&self) -> Result<Loaded, Faults> {
        let mut raw = Raw::gather(self);
        let mut builder = config::Config::builder();
        for layer in &raw.layers {
            builder = builder.add_source(layer.clone());
        }
        match builder.build().and_then(config::Config::try_deserialize::<Config>) {
            Ok(mut config) => {
                if !raw.unread {
                    checked::complete(&mut config, &mut raw);
                }
                let origins = raw.places;
                Faults::none_or(raw.faults, || Loaded { config, origins })
            }
            Err(error) => {
                let what = format!("the layers do not fit together: {error}");
                raw.faults.push(Fault::new(Place::Default, "", what, "correct the value"));
                Err(Faults::of(raw.faults))
            }
        }
    }
}
