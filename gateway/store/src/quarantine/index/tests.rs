//! The index against a plain list of records.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { records: 12, bytes: 1_000 };

#[derive(Debug, Clone)]
struct Held {
    place: Place,
    device: Option<Id>,
    samples: u32,
    bytes: usize,
    reason: &'static str,
    held: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Put { device: usize, samples: u32, bytes: usize, reason: usize },
    Remove(prop::sample::Index),
    Hold(prop::sample::Index),
    Release(prop::sample::Index),
    Expire(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..5_usize, prop_oneof![Just(0), 1..5_u32], 1..400_usize, 0..3_usize)
            .prop_map(|(device, samples, bytes, reason)| Op::Put { device, samples, bytes, reason }),
        1 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => any::<prop::sample::Index>().prop_map(Op::Hold),
        1 => any::<prop::sample::Index>().prop_map(Op::Release),
        1 => any::<prop::sample::Index>().prop_map(Op::Expire),
    ]
}

const REASONS: [&str; 3] = ["out_of_range", "unknown_device", "conflict"];

fn device(number: usize) -> Option<Id> {
    number.checked_sub(1).map(|number| Id::new(&format!("device-{number}")).unwrap())
}

/// Bytes and records against their bounds, as a plain fraction's numerator.
fn size(records: &[Held], device: Option<Id>) -> u128 {
    let of_share = |held: &&Held| held.device == device;
    records
        .iter()
        .filter(of_share)
        .map(|held| (held.bytes * LIMITS.records) as u128 + u128::from(LIMITS.bytes))
        .sum()
}

fn is_full(records: &[Held]) -> bool {
    let bytes: usize = records.iter().map(|held| held.bytes).sum();
    records.len() > LIMITS.records || bytes as u64 > LIMITS.bytes
}

/// The record that has to go, by the rule and no index.
fn expected_victim(records: &[Held]) -> Place {
    let large = u128::from(LIMITS.bytes) * LIMITS.records as u128 / 8;
    let free = || records.iter().filter(|held| !held.held);
    let junk = free().filter(|held| held.samples == 0 && size(records, held.device) >= large);
    let pool: Vec<&Held> = if junk.clone().next().is_some() { junk.collect() } else { free().collect() };
    let largest = pool.iter().map(|held| size(records, held.device)).max().expect("somebody has to go");
    let of_largest: Vec<&Held> =
        pool.into_iter().filter(|held| size(records, held.device) == largest).collect();
    // Of several shares of that size any will do; the index takes the one that it knows for the shortest time.
    let share = of_largest.iter().map(|held| held.device).collect::<Vec<_>>();
    let first = |device: Option<Id>| {
        let own = of_largest.iter().filter(|held| held.device == device);
        own.map(|held| (held.samples > 0, held.place)).min().map(|(_, place)| place)
    };
    share.into_iter().find_map(first).expect("somebody has to go")
}

/// The victim is the one that is expected, or one of another share of the same size.
fn assert_fair(records: &[Held], victim: Place) {
    let of = |place: Place| records.iter().find(|held| held.place == place).expect("it is there");
    let (gone, expected) = (of(victim), of(expected_victim(records)));
    assert!(!gone.held);
    assert_eq!(size(records, gone.device), size(records, expected.device), "of the largest share");
    if gone.device == expected.device {
        assert_eq!(victim, expected.place);
    }
    assert!(gone.samples == 0 || expected.samples > 0 || gone.device != expected.device, "junk first");
}

fn check(index: &Index, records: &[Held]) {
    let total = index.total();
    assert_eq!(total.records, records.len() as u64);
    assert_eq!(total.bytes, records.iter().map(|held| held.bytes as u64).sum::<u64>());
    for (number, reason) in REASONS.into_iter().enumerate() {
        let count = records.iter().filter(|held| held.reason == reason).count() as u64;
        assert_eq!(index.by_reason(None).get(reason).copied().unwrap_or(0), count);
        for device in [None, device(number + 1)] {
            let filter = RecordFilter { reason: Some(reason.into()), device, ..RecordFilter::default() };
            let mut expected: Vec<Place> = records
                .iter()
                .filter(|held| held.reason == reason && (device.is_none() || held.device == device))
                .map(|held| held.place)
                .collect();
            expected.sort_unstable();
            expected.reverse();
            assert_eq!(walk_all(index, &filter, 2, 3), expected);
        }
    }
}

/// In pages, each of which may look at a few records only.
fn walk_all(index: &Index, filter: &RecordFilter, limit: usize, look_at: usize) -> Vec<Place> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let walk = index.walk(filter, after, limit, look_at);
        assert!(walk.found.len() <= limit);
        found.extend(walk.found);
        let Some(next) = walk.next else { return found };
        assert!(after.is_none_or(|after| next < after), "each page is behind the one before");
        after = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_bounds_hold_whoever_comes_and_the_largest_share_makes_way(ops in prop::collection::vec(op(), 1..120)) {
        let mut index = Index::new(LIMITS);
        let mut records: Vec<Held> = Vec::new();
        for (source_lsn, op) in (1_u64..).zip(ops) {
            let at = |place: prop::sample::Index, len: usize| place.index(len.max(1));
            match op {
                Op::Put { device: number, samples, bytes, reason } => {
                    // Clocks are set back now and then.
                    let arrival_ms = source_lsn.cast_signed() * 10 - (source_lsn % 7).cast_signed() * 15;
                    let place = (arrival_ms, RecordId::Message { source_lsn });
                    let (device, reason) = (device(number), REASONS[reason]);
                    let head = RecordHead { arrival_ms, device, boot: 1, samples, reason: reason.into() };
                    index.insert(place.1, &head, bytes);
                    records.push(Held { place, device, samples, bytes, reason, held: false });
                }
                Op::Remove(which) => {
                    if !records.is_empty() {
                        let gone = records.remove(at(which, records.len()));
                        prop_assert!(index.remove(gone.place));
                        prop_assert!(!index.remove(gone.place));
                    }
                }
                Op::Hold(which) => {
                    let at = at(which, records.len());
                    if let Some(held) = records.get_mut(at) {
                        prop_assert_eq!(index.hold(held.place), !held.held);
                        held.held = true;
                    }
                }
                Op::Release(which) => {
                    let at = at(which, records.len());
                    if let Some(held) = records.get_mut(at) {
                        index.release(held.place);
                        held.held = false;
                    }
                }
                Op::Expire(which) => {
                    let before = records.get(at(which, records.len())).map_or(0, |held| held.place.0);
                    let old = records.iter().filter(|held| held.place.0 < before && !held.held);
                    prop_assert_eq!(index.older_than(before), old.map(|held| held.place).min());
                }
            }
            while let Some(victim) = index.victim() {
                prop_assert!(is_full(&records));
                assert_fair(&records, victim);
                records.retain(|held| held.place != victim);
                index.remove(victim);
            }
            prop_assert!(!is_full(&records) || records.iter().all(|held| held.held));
            check(&index, &records);
        }
    }
}

#[test]
fn a_list_can_begin_and_end_at_any_time() {
    let mut index = Index::new(LIMITS);
    for source_lsn in 0..10 {
        let arrival_ms = i64::try_from(source_lsn).unwrap() * 10;
        let head = RecordHead { arrival_ms, device: None, boot: 0, samples: 0, reason: "a".into() };
        index.insert(RecordId::Message { source_lsn }, &head, 1);
    }
    let sources = |from_ms, to_ms| {
        let filter = RecordFilter { from_ms, to_ms, ..RecordFilter::default() };
        let walk = walk_all(&index, &filter, 4, 4);
        walk.iter().map(|(_, id)| id.source_lsn()).collect::<Vec<_>>()
    };
    assert_eq!(sources(Some(20), Some(50)), [4, 3, 2]);
    assert_eq!(sources(Some(70), None), [9, 8, 7]);
    assert_eq!(sources(None, Some(11)), [1, 0]);
    assert_eq!(sources(Some(50), Some(20)), [0; 0]);
    assert_eq!(sources(Some(i64::MAX), Some(i64::MIN)), [0; 0]);
    let kind = RecordFilter { kind: Some(RecordKind::Conflict), ..RecordFilter::default() };
    let walk = index.walk(&kind, None, 4, 3);
    assert_eq!(
        (walk.found.len(), walk.next),
        (0, Some((70, RecordId::Message { source_lsn: 7 }))),
        "no more than asked"
    );
}
