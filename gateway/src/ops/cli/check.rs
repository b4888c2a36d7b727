//! `check`: configuration and registry, read as `run` would, with nothing changed.

use std::io::{self, Write};

use serde_json::json;

use super::{BAD_CONFIGURATION, CheckOptions};
use crate::setup::config::{Faults, Layers, Loaded, sample};
use crate::setup::registry::{self, Enrolled};

/// Writes the report to `out`; answers the exit code.
///
/// # Errors
/// Of `out` alone.
pub fn check(options: &CheckOptions, out: &mut dyn Write) -> io::Result<u8> {
    if options.sample {
        return out.write_all(sample().as_bytes()).map(|()| 0);
    }
    let layers = Layers::of_process(options.config.clone(), options.set.clone());
    let loaded = layers.load();
    let enrolled = loaded.as_ref().map_err(Clone::clone).and_then(|loaded| registry::read(&loaded.config));
    if options.json {
        return as_json(options, loaded.ok(), enrolled, out);
    }
    if let (true, Ok(loaded)) = (options.show, &loaded) {
        writeln!(out, "{}", loaded.to_toml())?;
    }
    match enrolled {
        Ok(Enrolled { registry, .. }) => {
            let (devices, agents) = (registry.devices().len(), registry.agents().len());
            writeln!(out, "configuration is sound: {devices} devices behind {agents} agents")?;
            for (class, count) in devices_by_class(&registry) {
                writeln!(out, "  {class:<24} {count:>9}")?;
            }
            Ok(0)
        }
        Err(faults) => writeln!(out, "{faults}").map(|()| BAD_CONFIGURATION),
    }
}

fn as_json(
    options: &CheckOptions,
    loaded: Option<Loaded>,
    enrolled: Result<Enrolled, Faults>,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let shown = loaded.filter(|_| options.show);
    let (code, mut report) = match enrolled {
        Ok(Enrolled { registry, .. }) => {
            let classes: serde_json::Map<_, _> =
                devices_by_class(&registry).map(|(class, count)| (class.to_owned(), count.into())).collect();
            let (devices, agents) = (registry.devices().len(), registry.agents().len());
            (
                0,
                json!({ "sound": true, "faults": [], "devices": devices, "agents": agents, "classes": classes }),
            )
        }
        Err(faults) => (BAD_CONFIGURATION, json!({ "sound": false, "faults": faults })),
    };
    if let Some(shown) = shown {
        report["shown"] = serde_json::to_value(shown)?;
    }
    writeln!(out, "{report:#}").map(|()| code)
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
