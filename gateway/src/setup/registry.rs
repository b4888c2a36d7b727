//! The registry, from files: classes, alert rules, fleets, device lists, and the pseudonyms of earlier runs.
//!
//! [`read`] only reads, and reports all faults together. [`load`] then writes new pseudonyms, before anything is stored under
//! them. A household's device is shown by its pseudonym everywhere. The mapping is a file of its own, so that a change of ids
//! or keys leaves the series as they are.
//!
//! The caller refuses a data folder of a newer format first ([`formats`](crate::decide::formats)). Nothing here runs after the
//! start: a changed registry takes a restart.

pub mod acl;
mod classes;
mod devices;
mod locate;
mod pseudonyms;
mod rows;
mod rules;
#[cfg(test)]
mod tests;

use std::path::Path;

use hunhe_gateway_core::registry::{Enrolment, EnrolmentError, Registry};
use hunhe_proto::class::Class;
use hunhe_proto::id::Id;

use crate::setup::config::{Config, Fault, Faults, Place};
use crate::setup::places::read_city;

pub use classes::read_class;
pub(super) use locate::Located;
pub use pseudonyms::Pseudonyms;
pub use rules::read_rules;

/// Faults kept of one file; a list made wrongly by a script has as many as lines.
const FAULTS_PER_FILE_MAX: usize = 100;

/// A registry, and the pseudonyms in it.
#[derive(Debug)]
pub struct RegistryDraft {
    /// Who may report what.
    pub registry: Registry,
    /// Old and new; the new ones are not on disk yet.
    pub pseudonyms: Pseudonyms,
}

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The files are wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// New pseudonyms cannot be written.
    #[error("cannot write {file}: free space or correct its permissions")]
    Pseudonyms {
        /// The mapping's file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads all files of the registry, and writes new pseudonyms to `data_dir`.
///
/// # Errors
/// All faults of all files, with nothing changed; or the mapping cannot be written.
pub fn load(config: &Config) -> Result<Registry, RegistryError> {
    let mut draft = read(config)?;
    let file = || Pseudonyms::file(&config.data_dir).display().to_string();
    let written = draft.pseudonyms.keep(&config.data_dir);
    written.map_err(|source| RegistryError::Pseudonyms { file: file(), source })?;
    Ok(draft.registry)
}

/// Reads all files of the registry and changes nothing.
///
/// # Errors
/// All faults of all files.
pub fn read(config: &Config) -> Result<RegistryDraft, Faults> {
    let mut faults = Vec::new();
    let classes = classes::read_folder(&config.registry.classes, &mut faults);
    let rules = rules::read_folder(&config.registry.rules, &classes, &mut faults);
    let pseudonyms = Pseudonyms::read(&config.data_dir, &mut faults);
    let mut builder = RegistryBuilder::new(classes, pseudonyms);
    builder.registry.set_rules(rules);
    for path in &config.registry.fleets {
        match read_text(path) {
            Ok(text) => builder.fleet(&path.display().to_string(), &text),
            Err(fault) => builder.faults.push(fault),
        }
    }
    for path in &config.registry.devices {
        match read_text(path) {
            Ok(text) => builder.devices(&path.display().to_string(), &text),
            Err(fault) => builder.faults.push(fault),
        }
    }
    match read_city(config) {
        Ok(city) => {
            for zone in city.zones {
                builder.registry.set_zone_kind(zone.id, zone.kind);
            }
        }
        Err(mut found) => builder.faults.append(&mut found),
    }
    builder.faults.append(&mut faults);
    builder.faults.extend(acl::faults_of_names(&builder.registry, &config.broker));
    builder.finish()
}

/// Adds devices to a registry, and their faults to a list.
#[derive(Debug)]
pub struct RegistryBuilder {
    registry: Registry,
    pseudonyms: Pseudonyms,
    faults: Vec<Fault>,
}

impl RegistryBuilder {
    /// A registry of faultless classes without devices.
    #[must_use]
    pub fn new(classes: Vec<Class>, pseudonyms: Pseudonyms) -> Self {
        Self { registry: Registry::new(classes), pseudonyms, faults: Vec::new() }
    }

    /// The registry.
    ///
    /// # Errors
    /// All faults of what was added; having no device at all is one.
    pub fn finish(mut self) -> Result<RegistryDraft, Faults> {
        if self.faults.is_empty() && self.registry.devices().is_empty() {
            self.faults.push(Fault::new(
                Place::Default,
                "registry",
                "no device is registered, so every message would be refused",
                "name a fleet in registry.fleets or a list in registry.devices",
            ));
        }
        for (device, pseudonym) in self.pseudonyms.iter() {
            if self.registry.find(device).is_none() {
                self.registry.remember(device, pseudonym);
            }
        }
        Faults::none_or(self.faults, || RegistryDraft {
            registry: self.registry,
            pseudonyms: self.pseudonyms,
        })
    }

    fn class(&self, name: &str) -> Option<&Class> {
        self.registry.classes().iter().map(|rules| &rules.class).find(|class| class.name == name)
    }

    /// Chooses the pseudonym and adds the device; the error is the fault and its remedy.
    fn add(&mut self, mut enrolment: Enrolment, given: Option<Id>) -> Result<(), (String, &'static str)> {
        let household = self.class(&enrolment.class).is_some_and(|class| class.household);
        enrolment.pseudonym = match (household, given) {
            (false, given) => given.unwrap_or(enrolment.id),
            (true, given) => self.pseudonyms.of(enrolment.id, given).map_err(|error| {
                let remedy = "leave the column empty to keep the series, or ask for a free one";
                (error.to_string(), remedy)
            })?,
        };
        self.registry.enrol(enrolment).map(|_| ()).map_err(|error| {
            let remedy = match error {
                EnrolmentError::UnknownClass { .. } => "write the name of a class in registry.classes",
                EnrolmentError::Taken { .. } => "list each device once, in one file",
                EnrolmentError::Full(_) => "divide the city among several gateways",
            };
            (error.to_string(), remedy)
        })
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|error| {
        let place = Place::whole(&path.display().to_string());
        Fault::new(place, "", format!("cannot be read: {error}"), "name a readable UTF-8 file")
    })
}
