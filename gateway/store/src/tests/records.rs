//! The quarantine's promises: bounds, shares, what is on disk when, and discards that are counted once.

use super::*;
use hunhe_proto::id::Id;

pub(super) fn message(source_lsn: u64, device: Option<&str>, samples: u32) -> NewRecord<'static> {
    NewRecord {
        id: RecordId::Message { source_lsn },
        arrival_ms: BASE_MS + source_lsn.cast_signed(),
        device: device.map(|device| Id::new(device).unwrap()),
        boot: 7,
        samples,
        reason: if device.is_some() { "out_of_range" } else { "unknown_device" },
        body: b"body",
    }
}

/// The source records of what is there, oldest first.
fn sources(store: &Store) -> Vec<u64> {
    let walk = store.walk_records(&RecordFilter::default(), None, 1000, 1000);
    walk.found.iter().rev().map(|(_, id)| id.source_lsn()).collect()
}

fn open_with(dir: &TempDir, limits: Limits) -> Store {
    Store::open(Options { quarantine: limits, ..options(dir) }).unwrap()
}

/// Of twelve records one is less than an eighth, and two are more.
const TWELVE: Limits = Limits { records: 12, bytes: 1 << 20 };

/// Source records in order.
fn listed(ranges: &[std::ops::RangeInclusive<u64>]) -> Vec<u64> {
    ranges.iter().cloned().flatten().collect()
}

#[test]
fn junk_of_one_device_evicts_its_own_and_never_another_s_samples() {
    let dir = folder();
    let store = open_with(&dir, TWELVE);
    for source_lsn in 1..=8 {
        store.put_record(&message(source_lsn, Some("honest"), 2)).unwrap();
    }
    for source_lsn in 10..=40 {
        store.put_record(&message(source_lsn, Some("hostile"), 0)).unwrap();
    }
    assert_eq!(sources(&store), listed(&[1..=8, 37..=40]), "though the honest share is the largest");
}

#[test]
fn junk_goes_before_samples_and_the_largest_share_before_a_small_one() {
    let dir = folder();
    let store = open_with(&dir, TWELVE);
    for source_lsn in 1..=2 {
        store.put_record(&message(source_lsn, Some("honest"), 2)).unwrap();
    }
    // Of nobody in the registry.
    for source_lsn in 10..=29 {
        store.put_record(&message(source_lsn, None, 0)).unwrap();
    }
    assert_eq!(sources(&store), listed(&[1..=2, 20..=29]));
    for source_lsn in 30..=60 {
        store.put_record(&message(source_lsn, Some("hostile"), 4_000)).unwrap();
    }
    assert_eq!(sources(&store), listed(&[1..=2, 29..=29, 52..=60]), "then its own samples make way");
    let another = message(70, Some("second"), 1);
    store.put_record(&another).unwrap();
    let after = listed(&[1..=2, 29..=29, 53..=60, 70..=70]);
    assert_eq!(sources(&store), after, "a small share takes its place from the largest");
}

#[test]
fn samples_of_one_device_evict_its_own_records_and_no_other_s_whole_messages() {
    let dir = folder();
    let store = open_with(&dir, TWELVE);
    // Refused whole, so that the ledger counts no samples: nobody would hear of it if they went.
    store.put_record(&message(1, None, 0)).unwrap();
    store.put_record(&message(2, Some("honest"), 0)).unwrap();
    store.put_record(&message(3, Some("hostile"), 4_000)).unwrap();
    store.put_record(&message(4, Some("hostile"), 0)).unwrap();
    for source_lsn in 10..=18 {
        store.put_record(&message(source_lsn, Some("hostile"), 4_000)).unwrap();
    }
    assert_eq!(sources(&store), listed(&[1..=3, 10..=18]), "of a share its junk first");
    for source_lsn in 19..=60 {
        store.put_record(&message(source_lsn, Some("hostile"), 4_000)).unwrap();
    }
    assert_eq!(sources(&store), listed(&[1..=2, 51..=60]), "then the oldest");
}

#[test]
fn a_bound_in_bytes_holds_whatever_the_records_count_and_after_a_restart() {
    let dir = folder();
    let limits = Limits { records: 1000, bytes: 100_000 };
    let large = vec![7; 20_000];
    let store = open_with(&dir, limits);
    for source_lsn in 0..50 {
        store.put_record(&NewRecord { body: &large, ..message(source_lsn, None, 0) }).unwrap();
        assert!(store.held_records(None).total.bytes <= limits.bytes);
    }
    assert_eq!(sources(&store), [46, 47, 48, 49]);
    let held = store.held_records(None);
    store.checkpoint(&[]).unwrap();
    drop(store);
    let store = open_with(&dir, limits);
    assert_eq!(sources(&store), [46, 47, 48, 49]);
    let again = store.held_records(None);
    assert_eq!((again.total, &again.by_reason), (held.total, &held.by_reason), "counted anew from the disk");
    assert_eq!(again.by_reason, [("unknown_device".to_owned(), 4)].into());
}

#[test]
fn records_leave_at_their_age_and_their_samples_are_a_discard() {
    let dir = folder();
    let store = open(&dir);
    for source_lsn in 1..=4 {
        store.put_record(&message(source_lsn, Some("a"), 3)).unwrap();
    }
    assert_eq!(store.hold_record(RecordId::Message { source_lsn: 2 }).unwrap(), Hold::Replaying);
    store.open_redrives();
    assert_eq!(store.hold_record(RecordId::Message { source_lsn: 2 }).unwrap(), Hold::Begun);
    assert_eq!(store.expire_records(BASE_MS + 4).unwrap(), (2, false));
    assert_eq!(sources(&store), [2, 4], "one that is being judged again stays");
    assert_eq!(store.discards_after(0), [], "not before they are on disk");
    assert!(store.is_discard_waiting());
    store.checkpoint(&[]).unwrap();
    let discards = store.discards_after(0);
    let found: Vec<_> = discards.iter().map(|d| (d.number, d.id.source_lsn(), d.boot, d.samples)).collect();
    assert_eq!(found, [(1, 1, 7, 3), (2, 3, 7, 3)]);
    assert_eq!(store.expire_records(BASE_MS + 4).unwrap(), (0, false));
}

#[test]
fn a_discard_is_on_disk_with_the_removal_it_stands_for_and_forgotten_only_when_it_is_counted() {
    let dir = folder();
    let store = open_with(&dir, Limits { records: 2, bytes: 1 << 20 });
    for source_lsn in 1..=3 {
        store.put_record(&message(source_lsn, Some("a"), 1)).unwrap();
    }
    // A crash takes removal and discard back together.
    drop(store);
    let store = open_with(&dir, Limits { records: 2, bytes: 1 << 20 });
    assert_eq!((sources(&store), store.discards_after(0)), (vec![], vec![]));
    for source_lsn in 1..=4 {
        store.put_record(&message(source_lsn, Some("a"), 1)).unwrap();
    }
    store.checkpoint(&[]).unwrap();
    drop(store);
    let store = open_with(&dir, Limits { records: 2, bytes: 1 << 20 });
    assert_eq!(sources(&store), [3, 4]);
    let numbers = |store: &Store, after| -> Vec<u64> {
        store.discards_after(after).iter().map(|discard| discard.number).collect()
    };
    assert_eq!((numbers(&store, 0), numbers(&store, 1)), (vec![1, 2], vec![2]));
    store.forget_discards(1);
    store.checkpoint(&[]).unwrap();
    drop(store);
    let store = open_with(&dir, Limits { records: 2, bytes: 1 << 20 });
    assert_eq!(numbers(&store, 0), [2]);
    // A ledger that has counted more, of another store: numbers go on behind it.
    store.continue_discards(10);
    store.put_record(&message(5, Some("a"), 1)).unwrap();
    store.checkpoint(&[]).unwrap();
    assert_eq!(numbers(&store, 10), [11]);
}

#[test]
fn what_was_discarded_of_causes_that_come_again_is_forgotten() {
    let dir = folder();
    let store = open_with(&dir, Limits { records: 1, bytes: 1 << 20 });
    for source_lsn in 1..=4 {
        store.put_record(&message(source_lsn, Some("a"), 1)).unwrap();
    }
    store.checkpoint(&[]).unwrap();
    store.forget_discards_behind(2);
    let left: Vec<u64> = store.discards_after(0).iter().map(|discard| discard.id.source_lsn()).collect();
    assert_eq!(left, [1, 2]);
}

#[test]
fn the_three_kinds_have_keys_of_their_own_and_conflicts_are_found_by_their_cause() {
    let dir = folder();
    let store = open_with(&dir, Limits { records: 10, bytes: 1 << 20 });
    let plain = message(5, Some("a"), 1);
    let conflict = |seq| NewRecord { id: RecordId::Conflict { source_lsn: 5, boot: 7, seq }, ..plain };
    let letter = NewRecord { id: RecordId::DeadLetter { source_lsn: 5, hash: 5 }, ..plain };
    for record in [plain, conflict(1), conflict(2), letter] {
        store.put_record(&record).unwrap();
    }
    assert_eq!(store.held_records(None).total.records, 4);
    let device = Id::new("a").unwrap();
    assert_eq!(store.conflicts_of(5).unwrap(), [(device, 7); 2]);
    store.checkpoint(&[]).unwrap();
    store.put_record(&conflict(3)).unwrap();
    assert!(store.remove_record(conflict(1).id).unwrap());
    assert!(!store.remove_record(conflict(1).id).unwrap());
    assert_eq!(store.conflicts_of(5).unwrap(), [(device, 7); 2]);
    assert_eq!(store.conflicts_of(6).unwrap(), []);
    let of_kind = |kind| store.held_records(Some(kind)).by_reason.values().sum::<u64>();
    assert_eq!([RecordKind::Message, RecordKind::Conflict, RecordKind::DeadLetter].map(of_kind), [1, 2, 1]);
}

#[test]
fn who_follows_new_records_sees_each_kind_once_in_the_order_they_came() {
    let dir = folder();
    let store = open_with(&dir, Limits { records: 10, bytes: 1 << 20 });
    let (none, mut since) = store.records_since(u64::MAX, 9);
    assert_eq!(none, []);
    let conflict =
        NewRecord { id: RecordId::Conflict { source_lsn: 90, boot: 7, seq: 1 }, ..message(90, None, 1) };
    let later = message(2, None, 0);
    for record in [conflict, later] {
        store.put_record(&record).unwrap();
        let (new, now) = store.records_since(since, 9);
        assert_eq!(
            new,
            [record.id],
            "a conflict of a later source record hides no message of an earlier one"
        );
        since = now;
    }
    for source_lsn in 10..500 {
        store.put_record(&message(source_lsn, None, 0)).unwrap();
    }
    let (new, now) = store.records_since(since, 3);
    assert_eq!((new.len(), now - since), (3, 490), "the newest, where there are too many");
    assert_eq!(store.records_since(since, 1000).0.len(), 256);
}

#[test]
fn records_kept_are_on_disk_at_once_and_nothing_else_is() {
    let dir = folder();
    let store = open(&dir);
    store.put_record(&message(1, None, 0)).unwrap();
    let kept = [message(2, None, 0), message(3, None, 0)];
    store.keep_records(&kept).unwrap();
    assert_eq!(sources(&open(&crashed(&dir))), [2, 3]);
    // Again under the same ids: once.
    store.keep_records(&kept).unwrap();
    assert_eq!(sources(&store), [1, 2, 3]);
    store.checkpoint(b"").unwrap();
    assert_eq!(sources(&open(&crashed(&dir))), [1, 2, 3]);
}

#[test]
fn records_kept_beyond_the_bound_make_others_leave_with_the_next_checkpoint() {
    let dir = folder();
    let store = open(&dir);
    let kept = |sources: std::ops::Range<u64>| -> Vec<_> {
        sources.map(|source_lsn| message(source_lsn, Some("a"), 1)).collect()
    };
    store.keep_records(&kept(1..4)).unwrap();
    store.keep_records(&kept(20..26)).unwrap();
    assert_eq!(sources(&store), [22, 23, 24, 25]);
    let before = open(&crashed(&dir));
    assert_eq!(sources(&before).len(), 9);
    before.put_record(&message(30, Some("b"), 1)).unwrap();
    assert_eq!(sources(&before), [23, 24, 25, 30], "the next one has the bound hold again");
    store.checkpoint(b"").unwrap();
    let after = open(&crashed(&dir));
    assert_eq!(sources(&after), [22, 23, 24, 25]);
    assert_eq!(after.discards_after(0).len(), 5);
}

#[test]
fn a_record_whose_sync_failed_is_not_kept_and_the_store_takes_no_more() {
    let dir = folder();
    let store = open(&dir);
    store.fail_next_sync.store(true, Ordering::Release);
    assert!(store.keep_records(&[message(1, None, 0)]).is_err());
    assert!(matches!(store.keep_records(&[message(1, None, 0)]), Err(StoreError::Poisoned)));
}
