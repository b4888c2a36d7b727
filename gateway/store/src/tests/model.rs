//! The store against a sorted map of all samples ever offered.

use super::{super::table::rank, *};
use proptest::prelude::*;
use std::{cmp::Reverse, collections::BTreeMap};

const CHANNELS: [u16; 3] = [9, 0, 1];

/// What a sample is, beside its device and time.
type Sample = (u8, u64, u32, [i64; 3]);

/// All samples ever offered; the best of each instant is the content.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<(usize, i64), Vec<Sample>>);

impl Model {
    fn apply(&mut self, batch: &Batch) {
        for (time_ms, seq, quality, values) in &batch.rows {
            let by_channel = CHANNELS.map(|channel| {
                batch.channels.iter().position(|&c| c == channel).map_or(ABSENT, |at| values[at])
            });
            let offered = self.0.entry((batch.device, *time_ms)).or_default();
            offered.push((*quality, *seq, batch.boot, by_channel));
        }
    }

    /// Values decide by channel number, and `CHANNELS` is not sorted on purpose.
    fn best(samples: &[Sample]) -> Sample {
        let order = |&&(quality, seq, boot, [nine, zero, one]): &&Sample| {
            (rank(quality), seq, boot, Reverse([zero, one, nine]))
        };
        *samples.iter().min_by_key(order).unwrap()
    }

    fn scan(&self, device: usize, range_ms: std::ops::Range<i64>) -> Series {
        let mut series = Series::default();
        let mut columns = [const { Vec::new() }; 3];
        for (&(_, time_ms), samples) in self.0.range((device, range_ms.start)..(device, range_ms.end)) {
            let (quality, seq, boot, values) = Self::best(samples);
            series.times_ms.push(time_ms);
            series.seqs.push(seq);
            series.boots.push(boot);
            series.quality.push(quality);
            (0..3).for_each(|at| columns[at].push(values[at]));
        }
        series.values = columns.concat();
        series
    }

    fn assert_equals(&self, store: &Store, range_ms: &std::ops::Range<i64>) {
        for device in 0..3 {
            let Some(key) = store.find_device(&format!("device-{device}")) else {
                assert!(self.0.range((device, 0)..(device, i64::MAX)).next().is_none());
                continue;
            };
            for range_ms in [0..i64::MAX, range_ms.clone()] {
                let expected = self.scan(device, range_ms.clone());
                assert_eq!(store.scan(key, range_ms, &CHANNELS).unwrap(), expected, "device {device}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Batch),
    Checkpoint,
    /// Forget all that is unwritten, open again, and write it again from the cursor on.
    Crash,
    Check(std::ops::Range<i64>),
}

/// Seventy instants over three and a half months, so that many meet.
fn time_at(slot: i64) -> i64 {
    BASE_MS + slot * 36 * HOUR_MS
}

fn batch() -> impl Strategy<Value = Batch> {
    let value = prop_oneof![1 => Just(ABSENT), 4 => -2..3_i64];
    let random_row = (0..70_i64, 0..5_u64, 0..8_u8, prop::collection::vec(value.clone(), 3));
    let random = prop::collection::vec(random_row, 1..20);
    let ascending =
        (0..60_i64, 1..40_i64, prop::collection::vec(value, 3)).prop_map(|(from, count, values)| {
            (from..(from + count).min(70))
                .map(|slot| (slot, slot.unsigned_abs(), 1, values.clone()))
                .collect()
        });
    let rows = prop_oneof![2 => random, 3 => ascending];
    let channels = prop_oneof![Just(vec![0, 1, 9]), Just(vec![1]), Just(vec![9, 1])];
    (0..3_usize, 1..4_u32, channels, rows).prop_map(|(device, boot, channels, rows)| {
        let row =
            |(slot, seq, quality, values): (i64, u64, u8, Vec<i64>)| (time_at(slot), seq, quality, values);
        Batch { device, boot, channels, rows: rows.into_iter().map(row).collect() }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => batch().prop_map(Step::Write),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        2 => (0..70_i64, 0..70_i64).prop_map(|(a, b)| Step::Check(time_at(a.min(b)) + 1..time_at(a.max(b)) + 1)),
    ]
}

fn run(steps: &[Step]) {
    let dir = folder();
    let mut store = Some(open(&dir));
    let mut model = Model::default();
    let mut at_cursor = (0, model.clone());
    for (at, step) in steps.iter().enumerate() {
        let open_store = store.as_ref().unwrap();
        match step {
            Step::Write(batch) => {
                let mut conflicts = Vec::new();
                let instants = model.0.len();
                let outcome = batch.write(open_store, &mut conflicts).unwrap();
                model.apply(batch);
                let unseated = conflicts.iter().filter(|conflict| conflict.was_stored).count();
                let refused = conflicts.len() - unseated;
                assert_eq!(outcome.conflicts as usize, conflicts.len());
                assert_eq!(outcome.stored as usize - unseated, model.0.len() - instants);
                let accounted = outcome.stored + outcome.duplicates + outcome.same_value;
                assert_eq!(accounted as usize + refused, batch.rows.len());
            }
            Step::Checkpoint => {
                open_store.checkpoint(&at.to_be_bytes()).unwrap();
                at_cursor = (at, model.clone());
            }
            Step::Crash => {
                drop(store.take());
                let reopened = open(&dir);
                let cursor = reopened.cursor().unwrap();
                assert_eq!(
                    cursor.map_or(0, |bytes| usize::from_be_bytes(bytes.try_into().unwrap())),
                    at_cursor.0
                );
                at_cursor.1.assert_equals(&reopened, &(0..0));
                for step in &steps[at_cursor.0..at] {
                    if let Step::Write(batch) = step {
                        batch.write(&reopened, &mut Vec::new()).unwrap();
                    }
                }
                store = Some(reopened);
            }
            Step::Check(range_ms) => model.assert_equals(open_store, range_ms),
        }
    }
    let store = store.unwrap();
    model.assert_equals(&store, &(0..0));
    store.checkpoint(b"end").unwrap();
    model.assert_equals(&store, &(0..0));
    assert_eq!(store.dirty_bytes(), 0);
    drop(store);
    model.assert_equals(&open(&dir), &(0..0));
}

proptest! {
    #[test]
    fn content_is_that_of_a_sorted_map_through_late_double_and_conflicting_writes_checkpoints_and_crashes(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        run(&steps);
    }
}

#[test]
fn small_writes_and_checkpoints_make_the_same_content_as_one_large_write() {
    let dir = folder();
    let store = Store::open(Options { block_rows: 512, ..options(&dir) }).unwrap();
    let mut model = Model::default();
    let mut at = 0;
    for size in (1..60).cycle().take(150) {
        let batch = hourly(0, BASE_MS + at * HOUR_MS, at.unsigned_abs(), size);
        assert_eq!(u64::from(batch.write(&store, &mut vec![]).unwrap().stored), size);
        model.apply(&batch);
        at += size.cast_signed();
        store.checkpoint(&[]).unwrap();
    }
    model.assert_equals(&store, &(BASE_MS..BASE_MS + DAY_MS));
    drop(store);
    let store = open(&dir);
    model.assert_equals(&store, &(BASE_MS..BASE_MS + DAY_MS));
    // No more runs than two levels of eight can have.
    let blocks: usize = store.disk.months().iter().map(|(_, spaces)| spaces.blocks.len().unwrap()).sum();
    let closed = usize::try_from(at).unwrap() / 512;
    assert!(blocks <= closed + 8 + 3 * 8, "{blocks}");
}

/// With no block open, a late write that also reaches past the newest sample must not put that end into a closed block.
#[test]
fn a_late_write_that_ends_with_the_newest_sample_hides_nothing() {
    let batch = |slots: &[i64], first_seq: u64| Batch {
        device: 0,
        boot: 1,
        channels: vec![0, 1, 9],
        rows: (first_seq..).zip(slots).map(|(seq, &slot)| (time_at(slot), seq, 1, vec![slot; 3])).collect(),
    };
    run(&[
        Step::Write(batch(&[43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55], 43)),
        Step::Write(batch(&[48, 56], 0)),
        Step::Write(batch(&[56], 56)),
    ]);
}
