//! The store's promises one by one; `model` compares it with a sorted map.

mod model;
mod records;
mod retired;

use super::*;
use std::ops::ControlFlow;
use tempfile::TempDir;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2023-01-20.
const BASE_MS: i64 = 1_674_172_800_000;

/// In memory where that is possible: these tests cut no power, and syncing a disk is all they would wait for.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn options(dir: &TempDir) -> Options {
    let quarantine = Limits { records: 4, bytes: 1 << 20 };
    Options { block_rows: 8, quarantine, ..Options::new(dir.path()) }
}

fn open(dir: &TempDir) -> Store {
    Store::open(options(dir)).unwrap()
}

#[derive(Debug, Clone)]
struct Batch {
    device: usize,
    boot: u32,
    channels: Vec<u16>,
    /// Time, seq, quality, a value per channel.
    rows: Vec<(i64, u64, u8, Vec<i64>)>,
}

impl Batch {
    fn write(&self, store: &Store, conflicts: &mut Vec<Conflict>) -> Result<WriteOutcome, StoreError> {
        let device = store.device(&format!("device-{}", self.device))?;
        let channels = &self.channels;
        let rows = Rows {
            boot: self.boot,
            times_ms: &self.rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            seqs: &self.rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            quality: &self.rows.iter().map(|row| row.2).collect::<Vec<_>>(),
            channels,
            values: &(0..channels.len())
                .flat_map(|at| self.rows.iter().map(move |row| row.3[at]))
                .collect::<Vec<_>>(),
        };
        store.write(device, &rows, conflicts)
    }
}

/// One ascending batch of `count` samples with values equal to their seq.
fn hourly(device: usize, from_ms: i64, first_seq: u64, count: u64) -> Batch {
    let row = |at: u64| {
        (from_ms + at.cast_signed() * HOUR_MS, first_seq + at, 1, vec![(first_seq + at).cast_signed()])
    };
    Batch { device, boot: 1, channels: vec![1], rows: (0..count).map(row).collect() }
}

fn series(store: &Store, device: usize, range_ms: std::ops::Range<i64>) -> Series {
    let key = store.find_device(&format!("device-{device}")).unwrap();
    store.scan(key, range_ms, &[1]).unwrap()
}

#[test]
fn a_replay_counts_as_duplicates_and_the_same_value_under_another_seq_as_such() {
    let dir = folder();
    let store = open(&dir);
    let batch = hourly(0, BASE_MS, 10, 20);
    let write = |batch: &Batch| batch.write(&store, &mut vec![]).unwrap();
    assert_eq!(write(&batch), WriteOutcome { stored: 20, ..WriteOutcome::default() });
    assert_eq!(write(&batch), WriteOutcome { duplicates: 20, ..WriteOutcome::default() });
    store.checkpoint(&[]).unwrap();
    assert_eq!(write(&batch), WriteOutcome { duplicates: 20, ..WriteOutcome::default() });
    let mut again = batch.clone();
    again.rows.iter_mut().for_each(|row| row.1 -= 5);
    assert_eq!(write(&again), WriteOutcome { same_value: 20, ..WriteOutcome::default() });
    assert_eq!(series(&store, 0, 0..i64::MAX).seqs, (5..25).collect::<Vec<_>>());
}

#[test]
fn a_conflict_names_the_loser_even_when_it_was_stored_before() {
    let dir = folder();
    let store = open(&dir);
    let sample = |seq, quality, value| Batch {
        device: 0,
        boot: 7,
        channels: vec![1],
        rows: vec![(BASE_MS, seq, quality, vec![value])],
    };
    let mut conflicts = Vec::new();
    sample(5, 1, 50).write(&store, &mut conflicts).unwrap();
    let outcome = sample(6, 1, 60).write(&store, &mut conflicts).unwrap();
    assert_eq!(outcome, WriteOutcome { conflicts: 1, ..WriteOutcome::default() });
    let outcome = sample(4, 1, 40).write(&store, &mut conflicts).unwrap();
    assert_eq!(outcome, WriteOutcome { stored: 1, conflicts: 1, ..WriteOutcome::default() });
    // Better quality goes before the lower seq.
    sample(9, 6, 90).write(&store, &mut conflicts).unwrap();
    let lost: Vec<_> =
        conflicts.iter().map(|c| (c.seq, c.was_stored, c.winner_seq, c.values.clone())).collect();
    assert_eq!(
        lost,
        [(6, false, 5, vec![(1, 60)]), (5, true, 4, vec![(1, 50)]), (4, true, 9, vec![(1, 40)])]
    );
    assert_eq!(series(&store, 0, 0..i64::MAX).values, [90]);
}

#[test]
fn retention_drops_whole_months_by_age_and_keeps_every_younger_sample() {
    let dir = folder();
    let store = Store::open(Options { retention_days: 45, ..options(&dir) }).unwrap();
    // 20 January to 30 March, and one device that fell silent in January.
    hourly(0, BASE_MS, 0, 70 * 24).write(&store, &mut vec![]).unwrap();
    hourly(1, BASE_MS, 0, 3).write(&store, &mut vec![]).unwrap();
    let key = store.device("device-0").unwrap();
    for day in 0..70 {
        store.put_rollup(key, &rollup(BASE_MS + day * DAY_MS, 0, 1)).unwrap();
    }
    store.checkpoint(&[]).unwrap();
    hourly(1, BASE_MS + 5 * HOUR_MS, 5, 1).write(&store, &mut vec![]).unwrap();

    let now_ms = BASE_MS + 70 * DAY_MS;
    assert_eq!(store.retain(now_ms).unwrap().expired, [Month::of(BASE_MS)]);
    let february_ms = Month::of(BASE_MS).end_ms();
    let mut store = Some(store);
    for _ in 0..2 {
        let store = store.take().unwrap_or_else(|| open(&dir));
        let kept = series(&store, 0, 0..i64::MAX);
        assert_eq!(kept.times_ms.first(), Some(&february_ms));
        assert_eq!(i64::try_from(kept.times_ms.len()).unwrap(), (now_ms - february_ms) / HOUR_MS);
        assert!(february_ms <= now_ms - 45 * DAY_MS);
        assert_eq!(series(&store, 1, 0..i64::MAX), Series::default());
        let windows = store.scan_rollups(key, 86_400, 1, 0..i64::MAX).unwrap();
        assert_eq!(windows.first().map(|window| window.start_ms), Some(february_ms));
        assert_eq!(store.retain(now_ms).unwrap().expired, []);
        // The silent device goes on.
        hourly(1, now_ms, 9, 2).write(&store, &mut vec![]).unwrap();
        assert_eq!(series(&store, 1, 0..i64::MAX).seqs, [9, 10]);
    }
}

#[test]
fn retention_by_size_drops_the_oldest_months_and_never_the_newest() {
    let dir = folder();
    let store = Store::open(Options { retention_days: 3650, limit_bytes: 1, ..options(&dir) }).unwrap();
    hourly(0, BASE_MS, 0, 70 * 24).write(&store, &mut vec![]).unwrap();
    store.checkpoint(&[]).unwrap();
    store.compact().unwrap();
    let retained = store.retain(BASE_MS).unwrap();
    let names: Vec<String> = retained.oversize.iter().map(Month::to_string).collect();
    assert_eq!(names, ["2023-01", "2023-02"]);
    assert_eq!(retained.expired, []);
    assert!(retained.bytes > 1);
    assert_eq!(Month::of(series(&store, 0, 0..i64::MAX).times_ms[0]).to_string(), "2023-03");
    assert_eq!(store.disk.months().len(), 1);
}

#[test]
fn ten_years_of_months_are_held_and_no_more_than_the_bound() {
    let dir = folder();
    let store = open(&dir);
    let mut month = Month::of(0);
    for at in 0..128 {
        hourly(0, month.start_ms(), at, 1).write(&store, &mut vec![]).unwrap();
        month = Month::of(month.end_ms());
    }
    let refused = hourly(0, month.start_ms(), 128, 1).write(&store, &mut vec![]);
    assert!(matches!(refused, Err(StoreError::TooManyMonths { months_max: 128, .. })), "{refused:?}");
    store.checkpoint(&[]).unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(series(&store, 0, 0..i64::MAX).seqs, (0..128).collect::<Vec<_>>());
    let retained = store.retain(month.start_ms()).unwrap();
    assert_eq!(retained.expired.len(), 126);
}

fn rollup(start_ms: i64, revision: u32, sum: i128) -> Rollup {
    Rollup {
        resolution_s: 86_400,
        start_ms,
        revision,
        channel: 1,
        count: 24,
        expected: 25,
        sum,
        min: -5,
        max: i64::MAX,
        last: i64::MIN,
    }
}

#[test]
fn the_newest_revision_of_a_window_replaces_the_others_in_any_order() {
    let dir = folder();
    let store = open(&dir);
    let key = store.device("device-0").unwrap();
    let windows = |store: &Store| store.scan_rollups(key, 86_400, 1, BASE_MS..BASE_MS + DAY_MS).unwrap();
    let newest = rollup(BASE_MS, 3, i128::MIN);
    assert!(store.put_rollup(key, &rollup(BASE_MS, 1, 1)).unwrap());
    store.checkpoint(&[]).unwrap();
    assert!(store.put_rollup(key, &newest).unwrap());
    assert!(!store.put_rollup(key, &rollup(BASE_MS, 2, 2)).unwrap());
    assert_eq!(windows(&store), [newest]);
    store.checkpoint(&[]).unwrap();
    assert!(!store.put_rollup(key, &rollup(BASE_MS, 2, 2)).unwrap());
    store.checkpoint(&[]).unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(windows(&store), [newest]);
    // Neighbours in device, resolution, channel and time stay out.
    let other = store.device("device-1").unwrap();
    store.put_rollup(other, &newest).unwrap();
    store.put_rollup(key, &Rollup { channel: 2, ..newest }).unwrap();
    store.put_rollup(key, &Rollup { resolution_s: 3600, ..newest }).unwrap();
    store.put_rollup(key, &rollup(BASE_MS + DAY_MS, 0, 0)).unwrap();
    assert_eq!(windows(&store), [newest]);
}

#[test]
fn device_keys_are_dense_and_outlive_the_process() {
    let dir = folder();
    let store = open(&dir);
    let keys: Vec<u32> = ["b", "a", "b", "c"].map(|name| store.device(name).unwrap().0).into();
    assert_eq!(keys, [0, 1, 0, 2]);
    store.checkpoint(&[]).unwrap();
    store.device("lost").unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(
        ["a", "b", "c", "lost"].map(|name| store.find_device(name).map(|key| key.0)),
        [Some(1), Some(0), Some(2), None]
    );
    assert_eq!(store.device("d").unwrap(), DeviceKey(3));
    assert!(matches!(store.scan(DeviceKey(9), 0..1, &[]), Err(StoreError::UnknownDevice(9))));
}

#[test]
fn a_failed_sync_poisons_the_store_until_it_is_opened_again() {
    let dir = folder();
    let store = open(&dir);
    let batch = hourly(0, BASE_MS, 0, 3);
    batch.write(&store, &mut vec![]).unwrap();
    store.fail_next_sync.store(true, Ordering::Release);
    assert!(matches!(store.checkpoint(b"one"), Err(StoreError::Disk(_))));
    assert!(matches!(store.checkpoint(b"two"), Err(StoreError::Poisoned)));
    assert!(matches!(batch.write(&store, &mut vec![]), Err(StoreError::Poisoned)));
    let record = records::message(1, None, 0);
    assert!(matches!(store.put_record(&record), Err(StoreError::Poisoned)));
    assert!(matches!(store.retain(BASE_MS), Err(StoreError::Poisoned)));
    drop(store);
    let store = open(&dir);
    assert_ne!(store.cursor().unwrap().as_deref(), Some(&b"two"[..]));
    batch.write(&store, &mut vec![]).unwrap();
    store.checkpoint(b"three").unwrap();
    assert_eq!(series(&store, 0, 0..i64::MAX).seqs, [0, 1, 2]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = folder();
    let store = open(&dir);
    store.disk.meta.insert("format", 7_u32.to_be_bytes()).unwrap();
    drop(store);
    let message = Store::open(options(&dir)).err().unwrap().to_string();
    assert!(
        message.contains("has format 7, and this version reads up to 1")
            && message.contains(&*dir.path().to_string_lossy()),
        "{message}"
    );
}

#[test]
fn unwritten_samples_ask_for_a_checkpoint_and_are_bounded() {
    let dir = folder();
    let store = Store::open(Options { dirty_limit_bytes: 10_000, block_rows: 512, ..options(&dir) }).unwrap();
    let mut at = 0;
    let mut next = || {
        at += 10;
        hourly(0, BASE_MS + at * HOUR_MS, at.unsigned_abs(), 10).write(&store, &mut vec![])
    };
    while !next().unwrap().checkpoint_due {}
    assert!(store.dirty_bytes() >= 10_000 && store.dirty_bytes() < 10_400);
    // Closing blocks shrinks them, and still the bound is reached.
    let refused = std::iter::from_fn(|| Some(next())).take(100_000).find_map(Result::err);
    assert!(matches!(refused, Some(StoreError::CheckpointOverdue)), "{refused:?}");
    assert!(store.dirty_bytes() < 20_400);
    store.checkpoint(&[]).unwrap();
    assert!(!next().unwrap().checkpoint_due);
}

#[test]
fn rows_that_no_checked_report_holds_are_refused_whole() {
    let dir = folder();
    let store = open(&dir);
    let good = hourly(0, BASE_MS, 0, 2);
    let with = |change: fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch.write(&store, &mut vec![])
    };
    for refused in [
        with(|batch| batch.rows[1].0 = -1),
        with(|batch| batch.rows[1].0 = i64::MAX),
        with(|batch| batch.rows[1].1 = 1 << 53),
        with(|batch| batch.rows[1].3 = vec![1 << 53]),
        with(|batch| {
            batch.channels = vec![1, 1];
            batch.rows.iter_mut().for_each(|row| row.3.push(0));
        }),
    ] {
        assert!(matches!(refused, Err(StoreError::InvalidRows { .. })), "{refused:?}");
    }
    assert_eq!(series(&store, 0, 0..i64::MAX), Series::default());
}

/// Whatever a checkpoint is about to move, a reader finds each sample once.
#[test]
fn a_reader_beside_the_writer_always_sees_an_unbroken_beginning() {
    let dir = folder();
    let store = Store::open(Options { block_rows: 16, ..options(&dir) }).unwrap();
    let key = store.device("device-0").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut longest = 0;
            while !done.load(Ordering::Acquire) {
                let seqs = store.scan(key, 0..i64::MAX, &[1]).unwrap().seqs;
                assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
                assert!(seqs.len() >= longest);
                longest = seqs.len();
            }
        });
        for at in 0..3000_u64 {
            hourly(0, BASE_MS + at.cast_signed() * 3 * HOUR_MS, at * 3, 3)
                .write(&store, &mut vec![])
                .unwrap();
            store.checkpoint(&[]).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert_eq!(series(&store, 0, 0..i64::MAX).seqs.len(), 9000);
}

/// What a crash now would leave of the files.
fn crashed(dir: &TempDir) -> TempDir {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() { copy(&from, &to) } else { assert!(std::fs::copy(&from, &to).is_ok()) }
        }
    }
    let copied = folder();
    copy(dir.path(), copied.path());
    copied
}

#[test]
fn a_visit_hands_out_a_block_at_a_time_in_order_and_ends_where_it_is_told() {
    let dir = folder();
    let store = open(&dir);
    let write = |batch: Batch| batch.write(&store, &mut vec![]).unwrap();
    write(hourly(0, BASE_MS, 0, 500));
    store.checkpoint(&[]).unwrap();
    write(hourly(0, BASE_MS + 500 * HOUR_MS, 500, 500));
    // Late ones, between those on disk.
    write(hourly(0, BASE_MS + HOUR_MS / 2, 2_000, 300));
    let key = store.find_device("device-0").unwrap();
    let mut visited = Vec::new();
    let end = store.visit(key, 0..i64::MAX, &[1], |stretch| {
        assert!((1..=8).contains(&stretch.times_ms.len()), "a block has eight rows here");
        assert_eq!(stretch.column(1).map(<[i64]>::len), Some(stretch.times_ms.len()));
        assert_eq!(stretch.column(2), None);
        visited.extend_from_slice(stretch.times_ms);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    assert_eq!(visited, series(&store, 0, 0..i64::MAX).times_ms);
    assert_eq!(visited.len(), 1_300);
    assert!(visited.is_sorted());

    let mut visits = 0;
    let end = store.visit(key, 0..i64::MAX, &[1], |_| {
        visits += 1;
        if visits == 3 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) }
    });
    assert_eq!((end.unwrap().break_value(), visits), (Some("enough"), 3));
}

#[test]
fn a_read_keeps_its_moment_while_late_samples_revise_what_it_reads() {
    let dir = folder();
    let store = open(&dir);
    let write = |batch: Batch| batch.write(&store, &mut vec![]).unwrap();
    write(hourly(0, BASE_MS, 0, 100));
    write(hourly(0, BASE_MS + HOUR_MS / 4, 1_000, 60));
    let before = series(&store, 0, 0..i64::MAX);
    let key = store.find_device("device-0").unwrap();
    let mut visited = Vec::new();
    let end = store.visit(key, 0..i64::MAX, &[1], |stretch| {
        if visited.is_empty() {
            write(hourly(0, BASE_MS + HOUR_MS / 2, 2_000, 90));
            store.checkpoint(&[]).unwrap();
        }
        visited.extend_from_slice(stretch.times_ms);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    assert_eq!(visited, before.times_ms);
    assert_eq!(series(&store, 0, 0..i64::MAX).times_ms.len(), 250);
}
