//! A set of sequence numbers as sorted, disjoint, non-adjacent ranges, bounded in their number.

use core::ops::Range;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The most ranges in a set.
pub const RANGES_MAX: usize = 64;

/// Sequence numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Sorted, disjoint, non-empty, none adjacent to the next. Most sets never have another than the first.
    list: SmallVec<[Range<u64>; 1]>,
    /// Sum of the lengths.
    count: u64,
}

/// Inserting would need more than [`RANGES_MAX`] ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequence numbers have more than 64 gaps")]
pub struct TooScattered;

impl Ranges {
    /// The set of one range.
    #[must_use]
    pub fn of(range: Range<u64>) -> Self {
        let count = range.end.saturating_sub(range.start);
        Self { list: (count > 0).then_some(range).into_iter().collect(), count }
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Range<u64>] {
        &self.list
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.list.spilled() { self.list.capacity() * size_of::<Range<u64>>() } else { 0 }
    }

    /// One past the greatest number; 0 for the empty set.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.list.last().map_or(0, |range| range.end)
    }

    /// Is the number in the set?
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.list[self.first_ending_after(number)..].first().is_some_and(|range| range.start <= number)
    }

    /// Calls `each` with the parts of `range` that are not in the set, ascending.
    pub fn missing_in(&self, range: Range<u64>, mut each: impl FnMut(Range<u64>)) {
        let mut from = range.start;
        for known in &self.list[self.first_ending_after(range.start)..] {
            if known.start >= range.end {
                break;
            }
            if known.start > from {
                each(from..known.start);
            }
            from = known.end;
        }
        if from < range.end {
            each(from..range.end);
        }
    }

    /// How many numbers of `range` are in the set.
    #[must_use]
    pub fn count_in(&self, range: Range<u64>) -> u64 {
        let mut missing = 0;
        self.missing_in(range.clone(), |gap| missing += gap.end - gap.start);
        range.end.saturating_sub(range.start) - missing
    }

    /// Adds `range`.
    ///
    /// # Errors
    /// [`TooScattered`]; the set is then unchanged.
    pub fn insert(&mut self, range: Range<u64>) -> Result<(), TooScattered> {
        if range.is_empty() {
            return Ok(());
        }
        // In order is the rule: the last range grows.
        if let Some(last) = self.list.last_mut().filter(|last| last.end == range.start) {
            self.count += range.end - range.start;
            last.end = range.end;
            return Ok(());
        }
        let from = self.list.partition_point(|known| known.end < range.start);
        let to = self.list.partition_point(|known| known.start <= range.end);
        if from == to {
            if self.list.len() == RANGES_MAX {
                return Err(TooScattered);
            }
            self.count += range.end - range.start;
            self.list.insert(from, range);
            return Ok(());
        }
        let merged = self.list[from].start.min(range.start)..self.list[to - 1].end.max(range.end);
        let before: u64 = self.list[from..to].iter().map(|known| known.end - known.start).sum();
        self.count += merged.end - merged.start - before;
        self.list[from] = merged;
        self.list.drain(from + 1..to);
        Ok(())
    }

    /// Takes `range` out.
    ///
    /// # Errors
    /// [`TooScattered`] where that would split one range too many; the set is then unchanged.
    pub fn remove(&mut self, range: Range<u64>) -> Result<(), TooScattered> {
        let from = self.first_ending_after(range.start);
        let to = self.list.partition_point(|known| known.start < range.end);
        if from >= to || range.is_empty() {
            return Ok(());
        }
        let left = self.list[from].start..range.start;
        let right = range.end..self.list[to - 1].end;
        let kept = [left, right].into_iter().filter(|part| !part.is_empty());
        if self.list.len() - (to - from) + kept.clone().count() > RANGES_MAX {
            return Err(TooScattered);
        }
        self.list.drain(from..to);
        self.list.insert_many(from, kept);
        self.count = self.list.iter().map(|known| known.end - known.start).sum();
        Ok(())
    }

    fn first_ending_after(&self, number: u64) -> usize {
        // Nearly every question is about the end.
        match self.list.last() {
            Some(last) if last.end <= number => self.list.len(),
            _ => self.list.partition_point(|known| known.end <= number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), 0..200_u64, 0..20_u64), 0..80)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (add, start, length) in steps {
                let range = start..start + length;
                if add {
                    if ranges.insert(range.clone()).is_ok() {
                        model.extend(range);
                    }
                } else if ranges.remove(range.clone()).is_ok() {
                    model.retain(|number| !range.contains(number));
                }
                prop_assert_eq!(ranges.count(), model.len() as u64);
                prop_assert!(ranges.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!((0..240).all(|number| ranges.contains(number) == model.contains(&number)));
                let mut missing = BTreeSet::new();
                ranges.missing_in(10..150, |gap| missing.extend(gap));
                prop_assert!((10..150).all(|number| missing.contains(&number) != model.contains(&number)));
            }
        }
    }

    #[test]
    fn the_bound_refuses_and_changes_nothing() {
        let mut ranges = Ranges::default();
        for index in 0..RANGES_MAX as u64 {
            ranges.insert(index * 10..index * 10 + 5).unwrap();
        }
        let before = ranges.clone();
        assert_eq!(ranges.insert(10_000..10_001), Err(TooScattered));
        assert_eq!(ranges.remove(1..2), Err(TooScattered));
        assert_eq!(ranges, before);
        ranges.insert(5..10).unwrap();
        assert_eq!(ranges.as_slice()[0], 0..15);
    }
}
