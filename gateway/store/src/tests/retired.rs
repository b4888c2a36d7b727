//! What retention drops is counted once, by why it went, and no sample goes sooner than promised.

use super::*;

#[test]
fn what_retention_drops_is_counted_apart_by_age_and_by_size_and_outlives_the_process() {
    let dir = folder();
    let by_age = || Store::open(Options { retention_days: 45, ..options(&dir) }).unwrap();
    let store = by_age();
    // 20 January to 30 March, and one device that fell silent in January.
    hourly(0, BASE_MS, 0, 70 * 24).write(&store, &mut vec![]).unwrap();
    hourly(1, BASE_MS, 0, 3).write(&store, &mut vec![]).unwrap();
    store.checkpoint(&[]).unwrap();
    let january = u64::try_from((Month::of(BASE_MS).end_ms() - BASE_MS) / HOUR_MS).unwrap() + 3;
    let retained = store.retain(BASE_MS + 70 * DAY_MS).unwrap();
    assert_eq!((retained.samples, store.retired()), (january, Retired { expired: january, oversize: 0 }));
    drop(store);
    let store = by_age();
    assert_eq!(store.retired(), Retired { expired: january, oversize: 0 });
    store.compact().unwrap();
    drop(store);
    let store = Store::open(Options { retention_days: 3650, limit_bytes: 1, ..options(&dir) }).unwrap();
    store.retain(BASE_MS + 70 * DAY_MS).unwrap();
    assert_eq!(store.retired(), Retired { expired: january, oversize: 28 * 24 }, "February, for room");
}

#[test]
fn a_crash_before_or_behind_the_month_s_end_counts_it_once() {
    let dir = folder();
    let store = open(&dir);
    hourly(0, BASE_MS, 0, 100).write(&store, &mut vec![]).unwrap();
    store.checkpoint(&[]).unwrap();
    let untouched = crashed(&dir);
    let now_ms = BASE_MS + 365 * DAY_MS;
    store.retain(now_ms).unwrap();
    let retired = store.retired();
    assert_eq!(retired.expired, 100);
    let settled = store.disk.meta.get("retired").unwrap().unwrap();
    drop(store);

    // As the note stood just before the month went: 100 pending, 0 counted.
    let pending = |dir: &TempDir| {
        let store = open(dir);
        let mut note = vec![0; 16];
        note.extend_from_slice(&Month::of(BASE_MS).start_ms().to_be_bytes());
        note.push(1);
        note.extend_from_slice(&100_u64.to_be_bytes());
        store.disk.meta.insert("retired", note).unwrap();
        store.disk.db.persist(fjall::PersistMode::SyncAll).unwrap();
    };
    pending(&dir);
    assert_eq!(open(&dir).retired(), retired, "the month is gone: it counts");
    pending(&untouched);
    let store = open(&untouched);
    assert_eq!(store.retired(), Retired::default(), "the month is there: it does not count yet");
    store.retain(now_ms).unwrap();
    assert_eq!(store.retired(), retired);
    assert_eq!(store.disk.meta.get("retired").unwrap().unwrap(), settled);
}

/// Virtual time, hour by hour over a year: whatever is younger than the retention is there.
#[test]
fn no_sample_goes_before_its_retention_is_over_whatever_the_hour() {
    const RETENTION_DAYS: u32 = 45;
    let dir = folder();
    let store = Store::open(Options { retention_days: RETENTION_DAYS, ..options(&dir) }).unwrap();
    let retention_ms = i64::from(RETENTION_DAYS) * DAY_MS;
    let days = 200;
    for day in 0..days {
        let from_ms = BASE_MS + day * DAY_MS;
        // Four samples a day.
        let rows = (0..4).map(|n| (from_ms + n * 6 * HOUR_MS, (day * 4 + n).cast_unsigned(), 1, vec![1]));
        Batch { device: 0, boot: 1, channels: vec![1], rows: rows.collect() }
            .write(&store, &mut vec![])
            .unwrap();
        store.checkpoint(&[]).unwrap();
        for hour in [0, 7, 13, 23] {
            let now_ms = from_ms + hour * HOUR_MS;
            store.retain(now_ms).unwrap();
            let kept = series(&store, 0, now_ms - retention_ms..i64::MAX).times_ms.len();
            let promised =
                4 * (day + 1) - ((now_ms - retention_ms - BASE_MS).max(0) + 6 * HOUR_MS - 1) / (6 * HOUR_MS);
            assert_eq!(i64::try_from(kept).unwrap(), promised, "day {day}, hour {hour}");
        }
    }
    let held = series(&store, 0, 0..i64::MAX).times_ms.len() as u64;
    assert_eq!(
        held + store.retired().expired,
        4 * days.cast_unsigned(),
        "stored is what is held and what was retired"
    );
    assert!(store.retired().expired > 0);
}
