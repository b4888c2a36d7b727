//! From a checked configuration to an agent.

use super::{Config, SetupError};
use crate::{
    classes,
    clock::{Clock, parse_utc, wall_ms},
    drivers::{Driver, DriverKind, Site, replay},
    run::{Equipment, Setup},
    spool::Limits,
};
use hunhe_edge_core::{link, sample::Late};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

impl Config {
    /// The agent that this configuration describes; `kinds` as it was loaded with.
    ///
    /// # Errors
    /// [`SetupError`]: classes, recordings or the password file cannot be used.
    pub fn setup(&self, kinds: &[DriverKind]) -> Result<Setup, SetupError> {
        let classes = classes::load(&self.classes)?;
        let mut recordings: BTreeMap<&PathBuf, Vec<Arc<replay::Series>>> = BTreeMap::new();
        for folder in self.devices.iter().filter_map(|device| device.recording.as_ref()) {
            if !recordings.contains_key(folder) {
                recordings.insert(folder, replay::load(folder, &classes)?);
            }
        }
        let from_ms = self.clock.from.as_deref().and_then(parse_utc);
        let first_ms =
            recordings.values().flatten().filter_map(|series| series.times_ms().first().copied()).min();
        let start_ms = from_ms.or(first_ms);
        let clock = start_ms.map_or_else(Clock::live, |start| Clock::virtual_from(start, self.clock.speed));
        let mut equipment = Vec::with_capacity(self.devices.len());
        for section in &self.devices {
            let missing = || SetupError::Series {
                folder: section.recording.clone().unwrap_or_default(),
                device: section.id,
                class: section.class.clone(),
            };
            let class = Arc::clone(classes.get(&section.class).ok_or_else(missing)?);
            let kind = kinds.iter().find(|kind| kind.name == section.driver);
            let driver: Box<dyn Driver> = if let Some(kind) = kind {
                // A live device is read as it is: what was missed is a gap.
                let late = if clock.is_live() { Late::Skip } else { Late::CatchUp };
                let from_ms = start_ms.unwrap_or_else(wall_ms);
                let settings = &section.settings;
                (kind.open)(&Site { device: section.id, class: &class, settings, from_ms, late })
            } else {
                let series = section.recording.as_ref().and_then(|folder| recordings.get(folder));
                let mut series = series.into_iter().flatten();
                let series = series.find(|series| series.device == section.id && series.class == class);
                Box::new(replay::Player::new(Arc::clone(series.ok_or_else(missing)?), start_ms.unwrap_or(0)))
            };
            equipment.push(Equipment::new(section.id, class, driver));
        }
        Ok(Setup {
            id: self.agent,
            equipment,
            broker: self.broker()?,
            link: link::Policy {
                sleeping: self.link.sleeping,
                window: self.link.window,
                backoff_ms_max: self.link.backoff_ms_max,
                spread_ms: self.link.spread_ms,
                ..link::Policy::default()
            },
            state_dir: Some(self.state_dir.clone()),
            limits: Limits {
                bytes_max: self.outbox.bytes_max,
                segment_bytes: (self.outbox.bytes_max / 16).min(8 << 20),
            },
            samples_max: self.outbox.samples_max,
            lossless: !clock.is_live(),
            clock,
            drain: self.drain(),
        })
    }
}
