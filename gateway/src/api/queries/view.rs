//! What people see of the city: the lane's published view beside the registry's directory, and the two sums over all devices
//! that many answers share.
//!
//! Each sum is one pass over the rows, on a blocking thread, never on the lane's.

use super::directory::{Directory, Names, Place};
use crate::{
    alerts::list::BySeverity,
    decide::published::{DeviceLedger, Published},
};
use hunhe_gateway_core::registry::{DeviceIx, Registry};
use std::{collections::HashMap, sync::Arc};

/// The city as it is seen.
#[derive(Debug)]
pub struct View {
    pub(super) registry: Arc<Registry>,
    pub(super) published: Arc<Published>,
    pub(super) directory: Directory,
    /// Values that were accepted before this process began, by district.
    readings_before: Box<[u64]>,
}

/// Devices that share a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) devices: u64,
    pub(super) reporting: u64,
    /// They reported once, and are silent now.
    pub(super) silent: u64,
}

/// All devices by what they share, in the order of the directory's names.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) all: Count,
    pub(super) classes: Box<[Count]>,
    pub(super) districts: Box<[Count]>,
    pub(super) zones: Box<[Count]>,
    /// Values accepted since this process began, by district.
    pub(super) readings: Box<[u64]>,
    /// Live alerts that fire, by district code.
    pub(super) alerts: HashMap<String, BySeverity>,
}

/// The ledger of devices that share a key, and whether each of theirs closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) ledger: DeviceLedger,
    pub(super) closed: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { ledger: DeviceLedger::default(), closed: true }
    }
}

impl Part {
    pub(super) fn add(&mut self, device: &DeviceLedger) {
        self.closed &= device.totals.unexplained() == 0;
        self.ledger.totals.add(&device.totals);
        self.ledger.readings = self.ledger.readings.saturating_add(device.readings);
    }
}

/// The ledger by what devices share, in the order of the directory's names; none where no device has reported.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) classes: Box<[Option<Part>]>,
    pub(super) districts: Box<[Option<Part>]>,
    pub(super) zones: Box<[Option<Part>]>,
    pub(super) operators: Box<[Option<Part>]>,
}

impl View {
    /// What is seen of that city. The lane has only been restored, and decided nothing since.
    #[must_use]
    pub fn new(registry: Arc<Registry>, directory: Directory, published: Arc<Published>) -> Self {
        let mut view = Self { registry, published, directory, readings_before: Box::default() };
        view.readings_before = view.readings();
        view
    }

    fn readings(&self) -> Box<[u64]> {
        let mut sums = zeros(&self.directory.districts);
        for (device, place) in self.directory.places() {
            let sum: &mut u64 = &mut sums[place.district as usize];
            *sum = sum.saturating_add(self.published.readings(device));
        }
        sums
    }

    /// Counts all devices; alerts are counted where they are listed.
    pub(super) fn census(&self, now_ms: i64, alerts: HashMap<String, BySeverity>) -> Census {
        let directory = &self.directory;
        let mut census = Census {
            all: Count::default(),
            classes: zeros(&directory.classes),
            districts: zeros(&directory.districts),
            zones: zeros(&directory.zones),
            readings: self.readings(),
            alerts,
        };
        for (now, before) in census.readings.iter_mut().zip(&self.readings_before) {
            *now = now.saturating_sub(*before);
        }
        let silent_ms: Vec<i64> =
            self.registry.classes().iter().map(|rules| silent_after_ms(&rules.class)).collect();
        for (device, place) in directory.places() {
            let age_ms = self.published.arrival_ms(device).map(|arrival_ms| now_ms - arrival_ms);
            let (mut reporting, mut silent) = (0, 0);
            if let Some(age_ms) = age_ms {
                reporting = u64::from(age_ms <= silent_ms[place.rules.at()]);
                silent = 1 - reporting;
            }
            let Place { class, district, zone, .. } = place;
            let by = [
                &mut census.all,
                &mut census.classes[class as usize],
                &mut census.districts[district as usize],
                &mut census.zones[zone as usize],
            ];
            for count in by {
                count.devices += 1;
                count.reporting += reporting;
                count.silent += silent;
            }
        }
        census
    }

    /// Sums up the ledgers of all devices.
    pub(super) fn parts(&self) -> Parts {
        let directory = &self.directory;
        let mut parts = Parts {
            classes: zeros(&directory.classes),
            districts: zeros(&directory.districts),
            zones: zeros(&directory.zones),
            operators: zeros(&directory.operators),
        };
        for (device, place) in directory.places() {
            let Some(ledger) = self.published.ledger(device) else { continue };
            let Place { class, district, zone, operator, .. } = place;
            let by = [
                &mut parts.classes[class as usize],
                &mut parts.districts[district as usize],
                &mut parts.zones[zone as usize],
                &mut parts.operators[operator as usize],
            ];
            for part in by {
                part.get_or_insert_default().add(&ledger);
            }
        }
        parts
    }

    /// Has the device reported within what its class calls silence?
    pub(super) fn is_reporting(&self, device: DeviceIx, arrival_ms: i64, now_ms: i64) -> bool {
        now_ms - arrival_ms <= silent_after_ms(&self.registry.class_of(device).class)
    }
}

fn silent_after_ms(class: &hunhe_proto::class::Class) -> i64 {
    i64::from(class.report.silent_after_s) * 1000
}

fn zeros<T: Default + Clone>(names: &Names) -> Box<[T]> {
    vec![T::default(); names.len()].into_boxed_slice()
}
