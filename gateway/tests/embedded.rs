//! The embedded store as a sink, over restarts that find store and ledger at different places: what is confirmed in all is
//! what the store holds and what the quarantine holds, each sample once.

#![expect(clippy::unwrap_used, reason = "a broken promise fails loudly here")]

#[expect(dead_code, reason = "the other sinks' tests need more of it")]
#[path = "influx/fixture.rs"]
mod fixture;

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};

use fixture::{Log, Row, registry};
use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};
use hunhe_gateway::{
    clock::Clock,
    decide::{LaneHandle, Said},
    sinks::{
        embedded::{self, Options},
        status::State,
    },
};
use hunhe_gateway_core::{event::Confirmed, registry::Registry};
use hunhe_store::{Hold, NewRecord, RecordId, Store};

const T0: i64 = 1_767_225_600_000;

/// What the ledger has heard in all, and up to which source record.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Heard {
    handled: u64,
    stored: i64,
    quarantined: i64,
    through: u64,
    /// Samples discarded, and the number of the last discard.
    lost: u64,
    discarded: u64,
}

impl Heard {
    fn add(&mut self, confirmed: Confirmed) {
        let signed = |count: u64| i64::try_from(count).unwrap();
        self.handled += confirmed.handled;
        self.stored += signed(confirmed.stored) - signed(confirmed.displaced);
        self.quarantined += signed(confirmed.quarantined) + signed(confirmed.displaced);
    }

    fn listen(&mut self, said: &Receiver<Said>) {
        while let Ok(said) = said.try_recv() {
            if let Said::Confirmed { source_lsn, rows, .. } = said {
                rows.iter().for_each(|row| self.add(row.confirmed));
                self.through = source_lsn;
            } else if let Said::Discarded(discards) = said {
                // As the lane counts them: each number once.
                for discard in discards {
                    if discard.number > self.discarded {
                        self.lost += u64::from(discard.samples);
                        self.discarded = discard.number;
                    }
                }
            }
        }
    }
}

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(hunhe_store::Options::new(dir)).unwrap())
}

fn options(before: Heard) -> Options {
    Options {
        samples: true,
        of_record: true,
        confirmed: before.through,
        confirmed_of_record: before.through,
        source_lsn_max: u64::MAX,
        replay_to: 0,
        discarded: before.discarded,
        checkpoint_every: Duration::from_secs(3600),
        retain_every: Duration::from_secs(3600),
        quarantine_age_ms: i64::MAX,
        clock: Clock::system(),
    }
}

/// Runs the sink over all of the log, and ends it as a stop does: with its store on disk.
fn run(options: Options, log: &Log, dir: &Path) -> Heard {
    run_with(registry(2), options, log, dir)
}

fn run_with(registry: Arc<Registry>, options: Options, log: &Log, dir: &Path) -> Heard {
    run_on(open(dir), registry, options, log)
}

fn run_on(store: Arc<Store>, registry: Arc<Registry>, options: Options, log: &Log) -> Heard {
    let (lane, said) = LaneHandle::new();
    let (through, discarded) = (options.confirmed, options.discarded);
    let mut heard = Heard { through, discarded, ..Heard::default() };
    let sink = embedded::start(options, store, registry, log.writer.subscribe(), Arc::new(lane)).unwrap();
    sink.end();
    heard.listen(&said);
    heard
}

/// Three source records: ten samples; one that loses to the first of them and one that displaces the second; one more.
fn story(dir: &Path) -> Log {
    let mut log = Log::new(dir, &registry(2));
    let row = |n: i64, quality, value| Row { time_ms: T0 + n * 3_600_000, quality, values: [value, 1, 1] };
    let ten: Vec<Row> = (0..10).map(|n| row(n, if n == 1 { 2 } else { 1 }, 100 + n)).collect();
    log.append_rows(0, 7, 0, &ten);
    log.append_rows(0, 7, 10, &[row(0, 2, 500), row(1, 1, 501)]);
    log.append_rows(0, 7, 12, &[row(11, 1, 111)]);
    log
}

const ALL: Heard = Heard { handled: 13, stored: 11, quarantined: 2, through: 3, lost: 0, discarded: 0 };

#[test]
fn conflicts_are_counted_once_wherever_store_and_ledger_stand_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = story(dir.path());
    let store = dir.path().join("store");
    assert_eq!(run(options(Heard::default()), &log, &store), ALL);
    assert_eq!(open(&store).held_records(None).total.records, 2);

    let again = run(options(Heard::default()), &log, &store);
    assert_eq!(again, ALL, "the store is ahead of the ledger: nothing is written, and the same is confirmed");

    let fresh = dir.path().join("fresh");
    log.append_rows(0, 7, 13, &[Row { time_ms: T0 + 12 * 3_600_000, quality: 1, values: [112, 1, 1] }]);
    let one = Heard { handled: 1, stored: 1, through: 4, ..Heard::default() };
    assert_eq!(run(options(ALL), &log, &fresh), one, "the ledger is ahead: only what is new is confirmed");
    assert_eq!(open(&fresh).held_records(None).total.records, 2);

    let half = Heard { through: 1, ..Heard::default() };
    let rest = Heard { handled: 4, stored: 2, quarantined: 2, through: 4, ..Heard::default() };
    assert_eq!(run(options(half), &log, &store), rest, "the ledger had the first source record");
}

#[test]
fn what_is_decided_anew_is_written_again_whatever_the_store_s_cursor_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut before = Log::new(&dir.path().join("before"), &registry(2));
    before.source_lsn = 4;
    before.append_rows(0, 7, 0, &[Row { time_ms: T0, quality: 1, values: [1, 1, 1] }]);
    run(options(Heard::default()), &before, &store);
    // The journal's record 5 was of a device that nobody knew; now it is known, and record 4 is where the checkpoint is.
    let mut after = Log::new(&dir.path().join("after"), &registry(2));
    after.source_lsn = 4;
    after.append_rows(1, 7, 0, &[Row { time_ms: T0, quality: 1, values: [2, 1, 1] }]);
    let counted = Heard { through: 4, ..Heard::default() };
    let heard = run(Options { source_lsn_max: 4, ..options(counted) }, &after, &store);
    assert_eq!((heard.stored, heard.through), (1, 5));
    assert!(open(&store).find_device("p-1").is_some(), "it was never written");
}

/// It counts as stored, so that it has to be where the device finds it when it comes back; and a household's id is in no store.
#[test]
fn what_a_device_left_behind_when_it_left_the_registry_is_stored_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), &registry(2));
    log.append_rows(1, 7, 0, &[Row { time_ms: T0, quality: 1, values: [1, 1, 1] }]);
    let mut without = (*registry(1)).clone();
    without.remember(fixture::id("g-1"), fixture::id("p-1"));
    let store = dir.path().join("store");
    let heard = run_with(Arc::new(without), options(Heard::default()), &log, &store);
    assert_eq!((heard.stored, heard.through), (1, 1));
    let store = open(&store);
    assert!(store.find_device("p-1").is_some() && store.find_device("g-1").is_none());
}

#[test]
fn another_sink_of_record_goes_on_where_the_one_before_had_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let log = story(dir.path());
    let store = dir.path().join("store");
    let second = run(Options { of_record: false, ..options(Heard::default()) }, &log, &store);
    assert_eq!(
        (second.handled, second.through),
        (0, 3),
        "not of record: nothing is confirmed, its own mark moves"
    );
    // The database that was of record had confirmed the first source record.
    let switched = Options { confirmed: 3, confirmed_of_record: 1, ..options(Heard::default()) };
    let heard = run(switched, &log, &store);
    assert_eq!((heard.handled, heard.stored, heard.quarantined), (3, 1, 2));
}

fn narrow(dir: &Path) -> Arc<Store> {
    let quarantine = hunhe_store::Limits { records: 1, bytes: 1 << 20 };
    Arc::new(Store::open(hunhe_store::Options { quarantine, ..hunhe_store::Options::new(dir) }).unwrap())
}

#[test]
fn what_the_quarantine_discards_is_lost_once_wherever_store_and_ledger_stand_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = story(dir.path());
    let path = dir.path().join("store");
    // Two conflicts, and room for one.
    let run = |options, log: &Log, path: &Path| run_on(narrow(path), registry(2), options, log);
    let all = Heard { lost: 1, discarded: 1, ..ALL };
    assert_eq!(run(options(Heard::default()), &log, &path), all);
    assert_eq!(
        run(options(Heard::default()), &log, &path),
        all,
        "the ledger's checkpoint knows nothing: all again"
    );
    let counted = Heard { through: 3, discarded: 1, ..Heard::default() };
    assert_eq!(run(options(counted), &log, &path), counted, "it has counted all of it: nothing again");
    let missed = Heard { through: 3, ..Heard::default() };
    let told = Heard { lost: 1, discarded: 1, ..missed };
    assert_eq!(run(options(missed), &log, &path), told, "it has missed the discard alone");

    let fresh = dir.path().join("fresh");
    log.append_rows(0, 7, 13, &[Row { time_ms: T0 + 12 * 3_600_000, quality: 1, values: [112, 1, 1] }]);
    let ahead = run(options(counted), &log, &fresh);
    assert_eq!((ahead.stored, ahead.quarantined), (1, 0));
    assert_eq!((ahead.lost, ahead.discarded), (1, 2), "another store's discard is another one");
}

#[test]
fn a_record_too_old_for_quarantine_goes_and_its_sample_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = story(dir.path());
    let store = dir.path().join("store");
    // A millisecond is a minute and more.
    let fast = Clock::virtual_from(T0, 100_000);
    let options = Options {
        clock: fast,
        retain_every: Duration::ZERO,
        quarantine_age_ms: 1,
        ..options(Heard::default())
    };
    run(options, &log, &store);
    // The stop may come before the clock has moved: what is left goes with the next one.
    let heard = run(options, &log, &store);
    assert_eq!((heard.stored, heard.quarantined, heard.lost), (11, 2, 2));
    assert_eq!(open(&store).held_records(None).total.records, 0);
}

fn refused(source_lsn: u64) -> NewRecord<'static> {
    NewRecord {
        id: RecordId::Message { source_lsn },
        arrival_ms: 0,
        device: None,
        boot: 0,
        samples: 0,
        reason: "unknown_device",
        body: b"",
    }
}

/// After a crash a record may still be listed although the journal has the order to judge it again: a second order would
/// count its samples twice.
#[test]
fn no_record_is_judged_again_until_all_that_was_journaled_before_the_start_is_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), &registry(2));
    let store = open(&dir.path().join("store"));
    store.put_record(&refused(1)).unwrap();
    store.put_record(&refused(2)).unwrap();
    let options = Options { replay_to: 3, ..options(Heard::default()) };
    let (lane, _said) = LaneHandle::new();
    let tail = log.writer.subscribe();
    let sink =
        embedded::start(options, Arc::clone(&store), registry(2), tail, Arc::new(lane.clone())).unwrap();
    let hold = |source_lsn| store.hold_record(RecordId::Message { source_lsn }).unwrap();
    // The lane is on its way to the order, which is the journal's last record.
    for handled in 0..3 {
        log.append_rows(0, 7, handled, &[row_at(handled)]);
        lane.progress().handled.store(handled, Ordering::Release);
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(hold(1), Hold::Replaying);
    }
    log.append_of(Some(1), &fixture::decisions_of(0, 7, 4, &[row_at(4)]));
    lane.progress().handled.store(3, Ordering::Release);
    let begun = Instant::now();
    while hold(2) == Hold::Replaying {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never may");
        std::thread::yield_now();
    }
    assert_eq!(hold(1), Hold::Gone, "its order was carried out first");
    sink.end();
}

#[test]
fn a_decided_log_that_cannot_be_read_holds_the_sink_until_it_can_and_never_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let mut log = Log::on(disk.handle(), Path::new("/decided"), 1 << 20, &registry(2));
    for seq in 0..2 {
        log.append_rows(0, 7, seq, &[row_at(seq)]);
    }
    let store = dir.path().join("store");
    let two = run(options(Heard::default()), &log, &store);
    assert_eq!((two.stored, two.through), (2, 2));
    disk.set_plan(
        |call| {
            if call.action == Action::Read { Fate::Fails(io::ErrorKind::Other) } else { Fate::Done }
        },
    );
    let (lane, _said) = LaneHandle::new();
    let tail = log.writer.subscribe();
    let sink = embedded::start(options(two), open(&store), registry(2), tail, Arc::new(lane)).unwrap();
    let status = sink.status();
    let comes_to = |state| {
        let begun = Instant::now();
        while status.snapshot().state != state {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never is {state:?}");
            std::thread::yield_now();
        }
    };
    comes_to(State::Held);
    assert!(!sink.has_failed());
    disk.clear_plan();
    comes_to(State::Running);
    // Beside what is read already: the sink comes back to the place where the disk failed.
    disk.set_plan(
        |call| {
            if call.action == Action::Read { Fate::Fails(io::ErrorKind::Other) } else { Fate::Done }
        },
    );
    log.append_rows(0, 7, 2, &[row_at(2)]);
    comes_to(State::Held);
    disk.clear_plan();
    comes_to(State::Running);
    while status.snapshot().rows_written < 1 {
        std::thread::yield_now();
    }
    sink.stop();
    assert!(sink.join());
}

fn row_at(hour: u64) -> Row {
    Row { time_ms: T0 + i64::try_from(hour).unwrap() * 3_600_000, quality: 1, values: [1, 1, 1] }
}

/// What goes is unwritten like what comes, and nothing else says how much that is.
#[test]
fn more_old_records_than_the_store_holds_unwritten_go_in_pieces_and_hold_up_no_sample() {
    const RECORDS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), &registry(2));
    let small = hunhe_store::Options {
        dirty_limit_bytes: 64 << 10,
        ..hunhe_store::Options::new(dir.path().join("store"))
    };
    let store = Arc::new(Store::open(small).unwrap());
    for source_lsn in 0..RECORDS {
        store.put_record(&refused(source_lsn)).unwrap();
    }
    store.checkpoint(&[0; 16]).unwrap();
    let options = Options {
        retain_every: Duration::from_millis(500),
        quarantine_age_ms: 1,
        ..options(Heard::default())
    };
    let (lane, said) = LaneHandle::new();
    let sink =
        embedded::start(options, Arc::clone(&store), registry(2), log.writer.subscribe(), Arc::new(lane))
            .unwrap();
    while store.held_records(None).total.records > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    log.append_rows(0, 7, 0, &[Row { time_ms: T0, quality: 1, values: [1, 1, 1] }]);
    let status = sink.status();
    sink.end();
    assert_eq!(status.snapshot().reason, "");
    let mut heard = Heard::default();
    heard.listen(&said);
    assert_eq!(heard.stored, 1);
}

#[test]
fn history_older_than_its_retention_goes_and_counts_as_retired_not_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = story(dir.path());
    let store = dir.path().join("store");
    let later = |days: i64| Options {
        clock: Clock::virtual_from(T0 + days * 86_400_000, 1),
        retain_every: Duration::ZERO,
        ..options(Heard::default())
    };
    // January ends on the 31st day.
    let heard = run(later(31 + 45 - 1), &log, &store);
    assert_eq!((heard.stored, open(&store).retired().expired), (11, 0));
    let heard = run(later(31 + 45), &log, &store);
    assert_eq!((heard.stored, heard.lost), (11, 0), "stored is what was stored");
    assert_eq!(open(&store).retired(), hunhe_store::Retired { expired: 11, oversize: 0 });
}
