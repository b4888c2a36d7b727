//! What a sample comes from: a recording ([`replay`]), or whatever else a program brings along as a [`DriverKind`].
//!
//! A driver says at which instants there is a sample and what it reads there. A missing instant is a gap: nothing is
//! sampled, nothing invented.

pub mod replay;

use hunhe_edge_core::sample::Late;
use hunhe_proto::{class::Class, id::DeviceId};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

/// A device's source of samples.
pub trait Driver: Debug + Send {
    /// Takes the next sample that is due at `event_ms`, into `row` (one value per channel of the class).
    fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken>;

    /// Goes on behind the sample taken at `newest_ms`, before a restart.
    fn resume(&mut self, newest_ms: i64);

    /// When the next sample is due, in event time; `None` where there is no further one.
    fn next_ms(&self) -> Option<i64>;
}

/// A sample that a driver took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The time it bears, in milliseconds since 1970.
    pub time_ms: i64,
    /// The device raises an alarm by itself.
    pub alarm: bool,
}

/// Nothing: the device is no longer configured, and has only losses to report.
#[derive(Debug)]
pub(crate) struct Gone;

impl Driver for Gone {
    fn take(&mut self, _: i64, _: &mut [i64]) -> Option<Taken> {
        None
    }

    fn resume(&mut self, _: i64) {}

    fn next_ms(&self) -> Option<i64> {
        None
    }
}

/// A driver that a program brings along: how `[[devices]]` names it, and how it is opened.
#[derive(Debug, Clone, Copy)]
pub struct DriverKind {
    /// The value of `driver`.
    pub name: &'static str,
    /// Its own keys of `[[devices]]`; each takes a text.
    pub keys: &'static [&'static str],
    /// Says what is wrong with the value of one of its keys, for a device of that class.
    pub check: fn(key: &str, value: &str, class: &Class) -> Result<(), String>,
    /// Opens it; what [`DriverKind::check`] refuses does not come here.
    pub open: fn(&Site<'_>) -> Box<dyn Driver>,
}

/// What a driver is opened for.
#[derive(Debug)]
pub struct Site<'a> {
    /// The device.
    pub device: DeviceId,
    /// Its class.
    pub class: &'a Arc<Class>,
    /// The values of the driver's keys.
    pub settings: &'a BTreeMap<String, String>,
    /// Event time of the first sample.
    pub from_ms: i64,
    /// What becomes of instants that were missed.
    pub late: Late,
}
