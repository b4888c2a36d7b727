//! What outlives a process: journal records, decided records and checkpoints come back as they were written, a source record is
//! seen whole or not at all, and one damaged checkpoint costs nothing but time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly, its helpers too"
)]

use std::{fs, path::Path, sync::Arc};

use hunhe_fixtures::{enrolment, id, seed_class};
use hunhe_gateway::{
    decide::checkpoint::{Checkpoint, Checkpoints},
    decided::{self, Buffers, DECISION_BYTES_MAX, Decided, Encoder, Message, StoredChannel},
    record::{self, Entering, OutputChange},
};
use hunhe_gateway_core::{
    event::{Arrival, ChannelStat, Decisions, Event, Rollups, SampleSet, WindowClosed, WriteOff},
    lane::{Lane, Policy},
    registry::{DeviceIx, Registry},
};
use hunhe_log::{AppendError, Entry, Lsn, Next, Options, Reader, Writer};
use hunhe_proto::{reading::Header, topic};

/// 2026-11-01T00:00:00Z.
const NOW_MS: i64 = 1_793_491_200_000;

fn registry() -> Arc<Registry> {
    let meter = enrolment("g-1", "gas_meter", "c-1");
    Arc::new(hunhe_fixtures::registry(vec![seed_class("gas_meter")], Vec::new(), [meter]))
}

/// Hourly registers from `seq` on; the second one of three is below the class's range.
fn report(seq: u64, good: bool) -> Vec<u8> {
    let hours = NOW_MS / 3_600_000 - 1000 + i64::try_from(seq).unwrap();
    let values = [1_000, if good { 1_010 } else { -10 }, 1_020];
    let header = Header { boot: 7, seq, class_version: Some(2), ..Header::default() };
    hunhe_fixtures::report(header, hours, 1, &values)
}

fn decide(lane: &mut Lane, source_lsn: u64, payload: &[u8]) -> Decisions {
    let arrival = Arrival { lsn: source_lsn, at_ms: NOW_MS, live: true, alarm: false };
    let mut decisions = Decisions::default();
    let topic = topic::up(id("g-1"));
    lane.handle(Event::Message { arrival, topic: topic.as_bytes(), payload }, &mut decisions);
    decisions
}

fn message(source_lsn: u64, payload: &[u8]) -> Message<'_> {
    Message { source_lsn, arrival_ms: NOW_MS, topic: b"some/topic", payload, redrive_of: None }
}

#[test]
fn journal_records_come_back_as_events() {
    let read = |entering: &Entering, check: &dyn Fn(Event<'_>)| {
        let bytes = entering.parts().concat();
        check(record::read(9, entering.kind(), &bytes).unwrap().event());
        for cut in 0..8 {
            assert!(record::read(9, entering.kind(), &bytes[..cut]).is_none(), "cut at {cut}");
        }
    };
    let sent = Arrival { lsn: 0, at_ms: NOW_MS, live: true, alarm: true };
    let entering = Entering::message(sent, "a/b".into(), vec![1, 2].into(), None);
    read(&entering, &|event| match event {
        Event::Message { arrival, topic: b"a/b", payload: [1, 2] } => {
            assert_eq!(arrival, Arrival { lsn: 9, ..sent });
        }
        other => panic!("{other:?}"),
    });
    read(&Entering::tick(NOW_MS, 1_000), &|event| {
        assert!(matches!(event, Event::Tick { lsn: 9, now_ms: NOW_MS, listened_ms: 1_000 }), "{event:?}");
    });
    let word = WriteOff {
        lsn: 9,
        at_ms: NOW_MS,
        device: id("g-1"),
        samples: 12,
        before: 3,
        reason: "备份恢复之后",
        by: "lin",
    };
    let entering = Entering::write_off(&word);
    read(&entering, &|event| assert!(matches!(event, Event::WriteOff(found) if found == word)));
    let bytes = entering.parts().concat();
    assert!((0..bytes.len()).all(|cut| record::read(9, entering.kind(), &bytes[..cut]).is_none()));
    let payload = vec![b'x'; 60_000];
    let costs = [
        Entering::message(sent, "a/b".into(), payload.clone().into(), None).cost(),
        Entering::redrive(NOW_MS, 44, &[], "a/b".into(), payload.into()).cost(),
    ];
    assert!(costs[0] > 3_000 && costs[0] == costs[1], "judged again costs what it cost at first: {costs:?}");
    let entering = Entering::redrive(NOW_MS, 44, &[(3, 2), (9, 1)], "a/b".into(), vec![5].into());
    read(&entering, &|event| match event {
        Event::Redrive { topic: b"a/b", payload: [5], refused, .. } => assert_eq!(refused, [(3, 2), (9, 1)]),
        other => panic!("{other:?}"),
    });
    let bytes = entering.parts().concat();
    assert_eq!(record::read(9, entering.kind(), &bytes).unwrap().redrive_of, Some(44));
    for stalled in [true, false] {
        let change = OutputChange { name: "duty", since_ms: NOW_MS - 30_000, stalled };
        let bytes = Entering::output(NOW_MS, change).parts().concat();
        let read = record::read(9, Entering::output(NOW_MS, change).kind(), &bytes).unwrap();
        assert_eq!((read.at_ms, read.output), (NOW_MS, Some(change)));
    }
    assert!(record::read(9, 99, &bytes).is_none());
}

#[test]
fn decided_records_come_back_and_a_cause_is_seen_whole_or_not_at_all() {
    let registry = registry();
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    let dir = tempfile::tempdir().unwrap();
    // A segment holds a few source records of several records each, so that some would straddle two.
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().into(),
        segment_bytes: 4096,
        limit_bytes: 32 * 1024,
    };
    let (mut log, _) = Writer::open(options).unwrap();
    let mut reader = Reader::open(log.subscribe(), Lsn::FIRST).unwrap();
    let (mut encoder, mut buffers) = (Encoder::new(Rollups::All), Buffers::default());
    let mut full = false;
    for source_lsn in 1..300 {
        let payload = report(3 * (source_lsn - 1), false);
        let decisions = decide(&mut lane, source_lsn, &payload);
        assert_eq!((decisions.accepted.sets.len(), decisions.refused.len()), (2, 1));
        encoder.encode(&registry, message(source_lsn, &payload), &decisions);
        match encoder.append(&mut log) {
            Ok(()) => {}
            Err(AppendError::Full { .. }) => full = true,
            Err(error) => panic!("{error}"),
        }
        // Not flushed yet: whatever a roll has made visible must be whole source records.
        let (mut records, mut current) = (0, 0);
        while let Next::Record(found) = reader.next().unwrap() {
            let decided = decided::read(found.kind, found.payload, &mut buffers).unwrap();
            if decided.source_lsn() != current {
                assert!(current == 0 || records >= 2, "source record {current} has {records} records");
                (records, current) = (0, decided.source_lsn());
            }
            records += 1;
            match decided {
                Decided::Samples(sets) => {
                    // Two of its three samples, between which one was refused.
                    let sets: Vec<_> = sets.iter().collect();
                    let [samples] = sets.as_slice() else { panic!("{sets:?}") };
                    assert_eq!((samples.device, samples.boot, samples.rows), (id("g-1"), 7, 2));
                    assert_eq!(
                        (samples.announced, samples.channels()),
                        (2, &[StoredChannel::new(1, 3).bits()][..])
                    );
                    let first = 3 * (samples.source_lsn - 1);
                    assert_eq!(
                        (samples.seqs(), samples.column(0)),
                        (&[first, first + 2][..], &[1_000, 1_020][..])
                    );
                    for (seq, time_ms) in samples.seqs().iter().zip(samples.times_ms()) {
                        let hour = time_ms / 3_600_000 - (NOW_MS / 3_600_000 - 1000);
                        assert_eq!(u64::try_from(hour).unwrap(), *seq);
                    }
                }
                Decided::Windows(windows) => assert!(windows.iter().all(|window| window.stats().len() == 1)),
                Decided::Refused(refused) => {
                    assert_eq!((refused.samples(), refused.reason), (1, "out_of_range"));
                    assert_eq!(refused.payload, report(3 * (refused.source_lsn - 1), false));
                    let record = refused.to_record();
                    let again = decided::read_refused_record(&record).unwrap();
                    assert_eq!(again.ranges().collect::<Vec<_>>(), refused.ranges().collect::<Vec<_>>());
                    assert_eq!((again.topic, again.payload), (refused.topic, refused.payload));
                    assert!(refused.announced && again.announced);
                }
                Decided::Judged { .. } => panic!("nothing was judged again"),
            }
        }
        assert!(current == 0 || records >= 2, "source record {current} has {records} records");
        if full {
            break;
        }
        if source_lsn % 5 == 0 {
            log.flush().unwrap();
        }
    }
    assert!(full, "the limit was reached");
}

fn checkpoint(journal: u64, lane: &Lane) -> Checkpoint<'_> {
    Checkpoint {
        journal: Lsn(journal),
        decided: Lsn(2 * journal),
        alerts: Lsn(journal / 2),
        rules: 7,
        confirmed: std::iter::once(("embedded".to_owned(), journal)).collect(),
        snapshot: lane.snapshot(),
    }
}

#[test]
fn the_newer_checkpoint_is_taken_and_the_older_where_it_is_damaged() {
    let registry = registry();
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    decide(&mut lane, 1, &report(0, true));
    let dir = tempfile::tempdir().unwrap();
    let (mut files, found) = Checkpoints::open(&hunhe_disk::real(), dir.path()).unwrap();
    assert!(found.newest.is_none() && found.damaged.is_empty());
    for journal in 1..=3 {
        let written = files.begin(&checkpoint(journal, &lane)).unwrap().finish().unwrap();
        files.finished(&written);
    }
    let newest = |dir: &Path| Checkpoints::open(&hunhe_disk::real(), dir).unwrap().1;
    let found = newest(dir.path()).newest.unwrap();
    assert_eq!((found.journal, found.decided, found.confirmed["embedded"]), (Lsn(3), Lsn(6), 3));
    assert_eq!((found.alerts, found.rules), (Lsn(1), 7));
    let mut again = Lane::new(registry, Policy::default());
    assert_eq!(again.restore(found.snapshot), 0);
    assert_eq!(again.ledger(|_| true), lane.ledger(|_| true));

    let file = dir.path().join("checkpoint-0");
    let whole = fs::read(&file).unwrap();
    for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        fs::write(&file, &damaged).unwrap();
        // Not in the version either: rot is no newer Hunhe, and needs nobody to delete a file.
        let found = newest(dir.path());
        assert_eq!(found.newest.map(|checkpoint| checkpoint.journal), Some(Lsn(2)), "byte {at}, bit {bit}");
        assert_eq!(found.damaged, std::slice::from_ref(&file));
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let found = newest(dir.path());
    assert_eq!((found.newest.unwrap().journal, found.damaged), (Lsn(2), vec![file.clone()]));
}

#[test]
fn the_newest_whole_checkpoint_is_never_touched_however_often_the_next_fails() {
    let lane = Lane::new(registry(), Policy::default());
    let dir = tempfile::tempdir().unwrap();
    let journal = |dir: &Path| {
        Checkpoints::open(&hunhe_disk::real(), dir).unwrap().1.newest.map(|newest| newest.journal)
    };
    let (mut files, _) = Checkpoints::open(&hunhe_disk::real(), dir.path()).unwrap();
    let written = files.begin(&checkpoint(1, &lane)).unwrap().finish().unwrap();
    files.finished(&written);
    for attempt in 2..5 {
        // Never finished: a full disk, or a crash.
        drop(files.begin(&checkpoint(attempt, &lane)).unwrap());
        assert_eq!(journal(dir.path()), Some(Lsn(1)), "attempt {attempt}");
    }
    let (mut files, _) = Checkpoints::open(&hunhe_disk::real(), dir.path()).unwrap();
    files.begin(&checkpoint(5, &lane)).unwrap().finish().unwrap();
    assert_eq!(journal(dir.path()), Some(Lsn(5)));
}

#[test]
fn a_checkpoint_that_only_the_page_cache_holds_is_on_disk_before_the_other_is_given_up() {
    use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};
    let lane = Lane::new(registry(), Policy::default());
    let dir = Path::new("/data/checkpoint");
    for seed in 0..60 {
        let disk = SimulatedDisk::new();
        disk.handle().make_dir(Path::new("/data")).unwrap();
        disk.handle().make_dir(dir).unwrap();
        let (mut files, _) = Checkpoints::open(&disk.handle(), dir).unwrap();
        let written = files.begin(&checkpoint(1, &lane)).unwrap().finish().unwrap();
        files.finished(&written);
        disk.handle().sync_dir(Path::new("/data")).unwrap();
        // The second one's header is written and not synced: its sync fails, or a kill comes before it.
        let mut syncs = 0;
        disk.set_plan(move |call| {
            syncs += u64::from(call.action == Action::Sync);
            let fails = call.action == Action::Sync && syncs == 2;
            if fails { Fate::Fails(std::io::ErrorKind::StorageFull) } else { Fate::Done }
        });
        assert!(files.begin(&checkpoint(2, &lane)).unwrap().finish().is_err());
        disk.clear_plan();
        disk.kill();
        let (mut files, found) = Checkpoints::open(&disk.handle(), dir).unwrap();
        assert_eq!(found.newest.unwrap().journal, Lsn(2), "the page cache has it");
        // The third takes the first one's file, and the power is cut before it is whole.
        drop(files.begin(&checkpoint(3, &lane)).unwrap());
        disk.power_loss(seed);
        let found = Checkpoints::open(&disk.handle(), dir).unwrap().1;
        assert_eq!(found.newest.map(|newest| newest.journal), Some(Lsn(2)), "seed {seed}");
    }
}

#[test]
fn one_checkpoint_that_cannot_be_read_is_as_good_as_none() {
    use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};
    let lane = Lane::new(registry(), Policy::default());
    let (disk, dir) = (SimulatedDisk::new(), Path::new("/checkpoint"));
    let (mut files, _) = Checkpoints::open(&disk.handle(), dir).unwrap();
    for journal in 1..=2 {
        let written = files.begin(&checkpoint(journal, &lane)).unwrap().finish().unwrap();
        files.finished(&written);
    }
    disk.set_plan(|call| {
        let broken = call.action == Action::Read && call.path.ends_with("checkpoint-1");
        if broken { Fate::Fails(std::io::ErrorKind::InvalidData) } else { Fate::Done }
    });
    let found = Checkpoints::open(&disk.handle(), dir).unwrap().1;
    assert_eq!((found.newest.unwrap().journal, found.damaged.len()), (Lsn(1), 1));
}

#[test]
fn a_journal_that_lost_what_the_replay_needs_is_read_from_where_it_begins() {
    use hunhe_gateway::decide::recover::{Layout, Recovered};
    use hunhe_gateway::setup::config::{DecidedLimits, JournalLimits};
    let lane = Lane::new(registry(), Policy::default());
    let dir = tempfile::tempdir().unwrap();
    let disk = hunhe_disk::real();
    let layout = Layout {
        data_dir: dir.path().to_owned(),
        journal: JournalLimits { segment_bytes: 4096, limit_bytes: 1 << 20 },
        decided: DecidedLimits { segment_bytes: 4096, limit_bytes: 1 << 20 },
        alerts_limit_bytes: 8 << 20,
    };
    let mut recovered = Recovered::open(&disk, &layout, 7).unwrap();
    for _ in 0..40 {
        recovered.journal.append(1, &[&[7; 500]]).unwrap();
    }
    recovered.journal.sync().unwrap();
    let written = recovered.checkpoints.begin(&checkpoint(2, &lane)).unwrap().finish().unwrap();
    recovered.checkpoints.finished(&written);
    drop(recovered);
    let mut segments: Vec<_> =
        fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    fs::remove_file(&segments[0]).unwrap();
    let recovered = Recovered::open(&disk, &layout, 7).unwrap();
    let oldest = recovered.journal.oldest();
    assert!(oldest > Lsn(3));
    assert_eq!((recovered.from, recovered.gone), (oldest.previous(), oldest.0 - 3));
    let mut reader = Reader::open(recovered.journal.subscribe(), recovered.from.next()).unwrap();
    assert!(matches!(reader.next().unwrap(), Next::Record(record) if record.lsn == oldest));
}

#[test]
fn the_largest_decision_of_a_report_fits_and_comes_back() {
    let registry = registry();
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().into(),
        segment_bytes: 64 << 20,
        limit_bytes: 1 << 30,
    };
    let (mut log, _) = Writer::open(options).unwrap();
    let (rows, channels) = (4096_usize, 32_u16);
    let mut decisions = Decisions::default();
    let accepted = &mut decisions.accepted;
    let set = |rows| SampleSet { device: DeviceIx(0), boot: 7, rows, channels: 0..32, values_from: 0 };
    accepted.sets.push(set(0..rows));
    accepted.channels = (1..=channels).collect();
    accepted.times_ms = (0..).map(|row: i64| row * row).take(rows).collect();
    accepted.seqs = (100..).take(rows).collect();
    accepted.quality = vec![1; rows];
    // As little alike as values can be.
    let value = |at: i64| at.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 10;
    accepted.values = (0..).map(value).take(rows * usize::from(channels)).collect();
    for start_ms in 0..4096 {
        let stats_from = decisions.shown.stats.len();
        let stat = |channel: u16| {
            let last = value(start_ms * 32 + i64::from(channel));
            let (min, max) = (last.min(value(last)), last.max(value(last + 1)));
            ChannelStat { channel, count: 9, sum: i128::from(last) << 60, min, max, last }
        };
        decisions.shown.stats.extend((1..=channels).map(stat));
        decisions.shown.windows.push(WindowClosed {
            device: DeviceIx(0),
            length_ms: 60_000,
            start_ms,
            revision: 0,
            expected: 1,
            stats_from,
            channels: usize::from(channels),
        });
    }
    let mut encoder = Encoder::new(Rollups::All);
    encoder.encode(&registry, message(1, &[0; 65_536]), &decisions);
    encoder.append(&mut log).unwrap();
    log.flush().unwrap();
    assert!(log.bytes_on_disk() < DECISION_BYTES_MAX, "{} bytes", log.bytes_on_disk());
    let mut reader = Reader::open(log.subscribe(), Lsn::FIRST).unwrap();
    let (mut next_row, mut windows, mut buffers) = (0_usize, 0, Buffers::default());
    while let Next::Record(found) = reader.next().unwrap() {
        match decided::read(found.kind, found.payload, &mut buffers).unwrap() {
            Decided::Samples(sets) => {
                for samples in sets.iter() {
                    for row in 0..samples.rows {
                        let at = i64::try_from(next_row).unwrap();
                        assert_eq!(samples.seqs()[row], 100 + next_row as u64);
                        assert_eq!(samples.times_ms()[row], at * at);
                        assert_eq!(samples.value(5, row), value(5 * 4096 + at));
                        next_row += 1;
                    }
                }
            }
            Decided::Windows(found) => windows += found.iter().len(),
            Decided::Refused(_) | Decided::Judged { .. } => panic!("nothing was refused"),
        }
    }
    assert_eq!((next_row, windows), (rows, 4096));
}
