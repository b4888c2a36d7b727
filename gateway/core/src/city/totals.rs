//! The ledger over all devices, kept up by difference: asking for it costs what changed since, not the city.
//!
//! Invariant: the sum is that of every device's own totals, exactly, whenever it is asked. It is a [`Partial`]: those of
//! several processes merge into the city's. A device whose ledger is about to change is noted, and its part is removed. It
//! is merged anew when the ledger is balanced, or for the answer alone. So no device's part has to be remembered.
//! Bounds: a byte a device, and 4 bytes for each that is noted.

use crate::{city::partial::Partial, device::ledger::Totals};
use alloc::vec::Vec;

/// The sum of ledgers, and how many of them do not close.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    sampled: i128,
    stored: i128,
    quarantined: i128,
    declared_lost: i128,
    written_off: i128,
    outstanding: i128,
    duplicates: i128,
    open: i64,
}

impl From<&Totals> for Sum {
    /// The part of one device.
    fn from(totals: &Totals) -> Self {
        Self {
            sampled: totals.sampled.into(),
            stored: totals.stored.into(),
            quarantined: totals.quarantined.into(),
            declared_lost: totals.declared_lost.into(),
            written_off: totals.written_off.into(),
            outstanding: totals.outstanding.into(),
            duplicates: totals.duplicates.into(),
            open: i64::from(totals.unexplained() != 0),
        }
    }
}

impl Partial for Sum {
    fn merge(&mut self, other: &Self) {
        self.sampled += other.sampled;
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.declared_lost += other.declared_lost;
        self.written_off += other.written_off;
        self.outstanding += other.outstanding;
        self.duplicates += other.duplicates;
        self.open += other.open;
    }

    fn remove(&mut self, other: &Self) {
        self.sampled -= other.sampled;
        self.stored -= other.stored;
        self.quarantined -= other.quarantined;
        self.declared_lost -= other.declared_lost;
        self.written_off -= other.written_off;
        self.outstanding -= other.outstanding;
        self.duplicates -= other.duplicates;
        self.open -= other.open;
    }
}

impl Sum {
    /// Sums stop at the type's end: only devices that lie about their counters get there.
    fn totals(&self) -> Totals {
        let count = |sum: i128| u64::try_from(sum.max(0)).unwrap_or(u64::MAX);
        Totals {
            sampled: count(self.sampled),
            stored: count(self.stored),
            quarantined: count(self.quarantined),
            declared_lost: count(self.declared_lost),
            written_off: count(self.written_off),
            outstanding: count(self.outstanding),
            duplicates: count(self.duplicates),
        }
    }
}

/// The ledger over all devices of a lane.
#[derive(Debug, Default)]
pub(crate) struct LedgerTotals {
    /// Of all devices but those that are noted.
    sum: Sum,
    noted: Vec<u32>,
    is_noted: Vec<bool>,
}

impl LedgerTotals {
    /// LedgerTotals of so many devices that have not reported.
    pub(crate) fn new(devices: usize) -> Self {
        Self { is_noted: alloc::vec![false; devices], ..Self::default() }
    }

    /// The device's ledger is going to change, and stands so until then.
    pub(crate) fn note(&mut self, device: u32, standing: impl FnOnce() -> Totals) {
        if let Some(noted) = self.is_noted.get_mut(device as usize)
            && !core::mem::replace(noted, true)
        {
            self.sum.remove(&Sum::from(&standing()));
            self.noted.push(device);
        }
    }

    /// Takes up what changed.
    pub(crate) fn balance(&mut self, mut now: impl FnMut(u32) -> Totals) {
        for device in self.noted.drain(..) {
            self.sum.merge(&Sum::from(&now(device)));
            self.is_noted[device as usize] = false;
        }
    }

    /// The ledger over all devices, and whether each of them closes.
    pub(crate) fn totals(&self, now: impl Fn(u32) -> Totals) -> (Totals, bool) {
        let mut sum = self.sum;
        for &device in &self.noted {
            sum.merge(&Sum::from(&now(device)));
        }
        (sum.totals(), sum.open == 0)
    }
}
