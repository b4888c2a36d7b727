//! Mergeable partials: how what crosses devices is fed, so that one process or ten give the same answer.
//!
//! Promise: partials of disjoint sets of devices, merged in any grouping and order, equal the partial of the union. So
//! they hold integer sums, counts and histograms alone: never a mean, a ratio or a float. What is asked of the whole
//! (a share, whether the ledger closes) is computed from the merged partial.
//!
//! Deliberately absent: a form on the wire. One process owns all devices today.

/// A sum over devices that merges.
pub(crate) trait Partial: Default {
    /// Adds the partial of other devices.
    fn merge(&mut self, other: &Self);

    /// Takes the partial of some of its devices out: the inverse of [`Self::merge`].
    fn remove(&mut self, other: &Self);

    /// In place of the partial of some of its devices there is another one.
    fn replace(&mut self, before: &Self, now: &Self) {
        self.remove(before);
        self.merge(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        city::{
            silence::{Condition, Count},
            totals::Sum,
        },
        device::ledger::Totals,
    };
    use alloc::vec::Vec;
    use core::fmt::Debug;
    use proptest::prelude::*;

    /// The whole, and the same from partials of processes: device `n` is in process `of[n]`, and partials are merged two
    /// by two, as `order` says.
    fn merged<P: Partial + Clone>(parts: &[P], of: &[usize], order: &[usize]) -> (P, P) {
        let mut whole = P::default();
        let mut processes = alloc::vec![P::default(); 10];
        for (part, &process) in parts.iter().zip(of) {
            whole.merge(part);
            processes[process].merge(part);
        }
        for &at in order.iter().cycle().take(processes.len() - 1) {
            let other = processes.swap_remove(at % processes.len());
            let into = at / 2 % processes.len();
            processes[into].merge(&other);
        }
        (whole, processes.remove(0))
    }

    /// A device's part that is replaced, in any process, leaves the sum of what is there now.
    fn check<P: Partial + Clone + PartialEq + Debug>(
        parts: &[P],
        later: &[P],
        of: &[usize],
        order: &[usize],
    ) -> Result<(), TestCaseError> {
        let (whole, city) = merged(parts, of, order);
        prop_assert_eq!(&whole, &city);
        let mut kept = city;
        for (before, now) in parts.iter().zip(later) {
            kept.replace(before, now);
        }
        let (whole, city) = merged(later, of, order);
        prop_assert_eq!(&whole, &city);
        prop_assert_eq!(&kept, &city);
        Ok(())
    }

    fn totals() -> impl Strategy<Value = Totals> {
        let count = || prop_oneof![0..9_u64, Just(u64::MAX), any::<u64>()];
        (count(), count(), count(), count(), count(), count(), count()).prop_map(
            |(sampled, stored, quarantined, declared_lost, written_off, outstanding, duplicates)| Totals {
                sampled,
                stored,
                quarantined,
                declared_lost,
                written_off,
                outstanding,
                duplicates,
            },
        )
    }

    fn condition() -> impl Strategy<Value = Condition> {
        prop_oneof![Just(Condition::Unwatched), Just(Condition::Reporting), Just(Condition::Silent)]
    }

    proptest! {
        #[test]
        fn one_process_or_ten_give_the_same_sums(
            devices in prop::collection::vec((totals(), totals(), condition(), condition(), 0..10_usize), 0..40),
            order in prop::collection::vec(0..100_usize, 1..10),
        ) {
            let of: Vec<usize> = devices.iter().map(|device| device.4).collect();
            let ledgers: Vec<Sum> = devices.iter().map(|device| Sum::from(&device.0)).collect();
            let later: Vec<Sum> = devices.iter().map(|device| Sum::from(&device.1)).collect();
            check(&ledgers, &later, &of, &order)?;
            let counts: Vec<Count> = devices.iter().map(|device| device.2.into()).collect();
            let later: Vec<Count> = devices.iter().map(|device| device.3.into()).collect();
            check(&counts, &later, &of, &order)?;
        }
    }
}
