//! `check`: configuration and registry, read as `run` reads them; then each database is asked as its sink asks it.
//!
//! Promises: no file changes, and faults are reported before anything is asked. A bucket that is missing is created, as `run`
//! does. Exit 2: configuration or registry is wrong. Exit 1: a database cannot be written to; the gateway would start, and
//! keep everything for it.

use std::io::{self, Write};

use serde_json::json;

use super::{BAD_CONFIGURATION, CheckOptions};
use crate::decide::formats;
use crate::setup::config::{Config, Faults, Layers, Loaded, sample};
use crate::setup::registry::{self, RegistryDraft};
use crate::sinks::influx::{
    Options,
    setup::{Found, SetupError, ask},
};

/// A database cannot be written to.
const BAD_DATABASE: u8 = 1;

/// Writes the report to `out`; answers the exit code.
///
/// # Errors
/// Of `out`, or no runtime for the questions.
pub fn check(options: &CheckOptions, out: &mut dyn Write) -> io::Result<u8> {
    if options.sample {
        return out.write_all(sample().as_bytes()).map(|()| 0);
    }
    let layers = Layers::of_process(options.config.clone(), options.set.clone());
    let loaded = layers.load();
    let checked = loaded.as_ref().map_err(Clone::clone).and_then(|loaded| {
        formats::check(&loaded.config.data_dir)?;
        let RegistryDraft { registry, .. } = registry::read(&loaded.config)?;
        Ok((registry, &loaded.config))
    });
    let report = match checked {
        Ok((registry, config)) => Ok(Sound { registry, databases: ask_all(config)? }),
        Err(faults) => Err(faults),
    };
    let code = match &report {
        Err(_) => BAD_CONFIGURATION,
        Ok(sound) if sound.databases.iter().any(|(_, answer)| answer.is_err()) => BAD_DATABASE,
        Ok(_) => 0,
    };
    let shown = loaded.ok().filter(|_| options.show);
    if options.json {
        as_json(shown, report, out)?
    } else {
        as_text(shown, report, out)?
    }
    Ok(code)
}

/// Configuration and registry without a fault, and what each database answers.
struct Sound {
    registry: hunhe_gateway_core::registry::Registry,
    databases: Vec<(String, Result<Found, SetupError>)>,
}

fn ask_all(config: &Config) -> io::Result<Vec<(String, Result<Found, SetupError>)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = config.influx.iter().map(|database| {
        let options = Options::of(database, config.data_dir.join(format!("{}.cursor", database.name)));
        (database.name.clone(), runtime.block_on(ask(&options)))
    });
    Ok(asked.collect())
}

fn as_text(shown: Option<Loaded>, report: Result<Sound, Faults>, out: &mut dyn Write) -> io::Result<()> {
    if let Some(loaded) = shown {
        writeln!(out, "{}", loaded.to_toml())?;
    }
    let Sound { registry, databases } = match report {
        Ok(sound) => sound,
        Err(faults) => return writeln!(out, "{faults}"),
    };
    let (devices, agents) = (registry.devices().len(), registry.agents().len());
    writeln!(out, "configuration is sound: {devices} devices behind {agents} agents")?;
    for (class, count) in devices_by_class(&registry) {
        writeln!(out, "  {class:<24} {count:>9}")?;
    }
    for (name, answer) in databases {
        match answer {
            Ok(found) => {
                let created = if found.created_bucket { "; the bucket was created" } else { "" };
                writeln!(out, "database {name} is ready: {}{created}", found.database)?;
                found.warnings.iter().try_for_each(|warning| writeln!(out, "  {warning}"))?;
            }
            Err(error) => writeln!(out, "database {name} is not ready: {error}")?,
        }
    }
    Ok(())
}

fn as_json(shown: Option<Loaded>, report: Result<Sound, Faults>, out: &mut dyn Write) -> io::Result<()> {
    let mut report = match report {
        Ok(Sound { registry, databases }) => {
            let classes: serde_json::Map<_, _> =
                devices_by_class(&registry).map(|(class, count)| (class.to_owned(), count.into())).collect();
            let databases: Vec<_> = databases
                .into_iter()
                .map(|(name, answer)| match answer {
                    Ok(found) => json!({ "name": name, "ready": true, "found": found }),
                    Err(error) => json!({ "name": name, "ready": false, "error": error.to_string() }),
                })
                .collect();
            json!({
                "sound": true, "faults": [], "devices": registry.devices().len(), "agents": registry.agents().len(),
                "classes": classes, "databases": databases,
            })
        }
        Err(faults) => json!({ "sound": false, "faults": faults }),
    };
    if let Some(shown) = shown {
        report["shown"] = serde_json::to_value(shown)?;
    }
    writeln!(out, "{report:#}")
}

fn devices_by_class(
    registry: &hunhe_gateway_core::registry::Registry,
) -> impl Iterator<Item = (&str, usize)> {
    let mut counts = vec![0_usize; registry.classes().len()];
    for device in registry.devices() {
        counts[device.class.at()] += 1;
    }
    registry.classes().iter().map(|rules| rules.class.name.as_str()).zip(counts)
}
