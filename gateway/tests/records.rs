//! What outlives a process: journal records, decided records and checkpoints come back as they were written, a cause is
//! seen whole or not at all, and one damaged checkpoint costs nothing but time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly, its helpers too"
)]

use std::{fs, path::Path, sync::Arc};

use hunhe_gateway::{
    checkpoint::{Checkpoint, Checkpoints},
    decided::{self, Decided, Encoder, Message},
    journal::{AppendError, Entry, Lsn, Next, Options, Reader, Writer},
    record::{self, Entering},
};
use hunhe_gateway_core::{
    event::{Arrival, Decisions, Event},
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
};
use hunhe_proto::{
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    id::Id,
    reading::Header,
    topic,
};

/// 2026-11-01T00:00:00Z.
const NOW_MS: i64 = 1_793_491_200_000;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn registry() -> Arc<Registry> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds/classes/gas_meter.toml");
    let class = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut registry = Registry::new(vec![class]);
    registry
        .enrol(Enrolment {
            id: id("g-1"),
            pseudonym: id("p-1"),
            class: "gas_meter".into(),
            agent: id("c-1"),
            operator: id("gas"),
            district: 210_102,
            zone: id("z-1"),
            position: (123.4, 41.8),
        })
        .unwrap();
    Arc::new(registry)
}

/// Hourly registers from `seq` on; the second one of three is below the class's range.
fn report(seq: u64, good: bool) -> Vec<u8> {
    let hours = NOW_MS / 3_600_000 - 1000 + i64::try_from(seq).unwrap();
    let values = [1_000, if good { 1_010 } else { -10 }, 1_020];
    let columns = [ColumnDraft { channel: 1, values: &values, quality: &[] }];
    let blocks = [BlockDraft { t0: hours, step: 0, dt: &[], samples: 3, columns: &columns }];
    let mut out = vec![0; 512];
    let header = Header { boot: 7, seq, ..Header::default() };
    let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut out).unwrap();
    out.truncate(length);
    out
}

fn decide(lane: &mut Lane, cause: u64, payload: &[u8]) -> Decisions {
    let arrival = Arrival { lsn: cause, at_ms: NOW_MS, live: true, alarm: false };
    let mut decisions = Decisions::default();
    let topic = topic::up(id("g-1"));
    lane.handle(Event::Message { arrival, topic: topic.as_bytes(), payload }, &mut decisions);
    decisions
}

fn message(cause: u64, payload: &[u8]) -> Message<'_> {
    Message { cause, arrival_ms: NOW_MS, topic: b"some/topic", payload, redrive_of: None }
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
    let entering = Entering::redrive(NOW_MS, 44, &[(3, 2), (9, 1)], "a/b".into(), vec![5].into());
    read(&entering, &|event| match event {
        Event::Redrive { topic: b"a/b", payload: [5], refused, .. } => assert_eq!(refused, [(3, 2), (9, 1)]),
        other => panic!("{other:?}"),
    });
    let bytes = entering.parts().concat();
    assert_eq!(record::read(9, entering.kind(), &bytes).unwrap().redrive_of, Some(44));
    assert!(record::read(9, 99, &bytes).is_none());
}

#[test]
fn decided_records_come_back_and_a_cause_is_seen_whole_or_not_at_all() {
    let registry = registry();
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    let dir = tempfile::tempdir().unwrap();
    // A segment holds a few causes of three records each, so that some would straddle two.
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().into(),
        segment_bytes: 4096,
        limit_bytes: 64 * 1024,
    };
    let (mut log, _) = Writer::open(options).unwrap();
    let mut reader = Reader::open(log.subscribe(), Lsn::FIRST).unwrap();
    let mut encoder = Encoder::default();
    let mut full = false;
    for cause in 1..300 {
        let payload = report(3 * (cause - 1), false);
        let decisions = decide(&mut lane, cause, &payload);
        assert_eq!((decisions.accepted.sets.len(), decisions.refused.len()), (2, 1));
        encoder.encode(&registry, message(cause, &payload), &decisions);
        match encoder.append(&mut log) {
            Ok(()) => {}
            Err(AppendError::Full { .. }) => full = true,
            Err(error) => panic!("{error}"),
        }
        // Not flushed yet: whatever a roll has made visible must be whole causes.
        let (mut records, mut current) = (0, 0);
        while let Next::Record(found) = reader.next().unwrap() {
            let decided = decided::read(found.kind, found.payload).unwrap();
            if decided.cause() != current {
                assert!(current == 0 || records >= 3, "cause {current} has {records} records");
                (records, current) = (0, decided.cause());
            }
            records += 1;
            match decided {
                Decided::Samples(samples) => {
                    assert_eq!((samples.device, samples.boot, samples.rows), (id("g-1"), 7, 1));
                    assert_eq!(samples.announced, 1);
                    assert_eq!(samples.channels().collect::<Vec<_>>(), [1]);
                    let value = samples.value(0, 0);
                    let seq = samples.first_seq - 3 * (samples.cause - 1);
                    assert!((seq, value) == (0, 1_000) || (seq, value) == (2, 1_020), "{seq} {value}");
                    let hour = samples.time_ms(0) / 3_600_000 - (NOW_MS / 3_600_000 - 1000);
                    assert_eq!(u64::try_from(hour).unwrap(), samples.first_seq);
                }
                Decided::Window(window) => assert_eq!(window.stats().len(), 1),
                Decided::Refused(refused) => {
                    assert_eq!((refused.samples(), refused.reason), (1, "out_of_range"));
                    assert_eq!(refused.payload, report(3 * (refused.cause - 1), false));
                    let record = refused.to_record();
                    let again = decided::read_refused_record(&record).unwrap();
                    assert_eq!(again.ranges().collect::<Vec<_>>(), refused.ranges().collect::<Vec<_>>());
                    assert_eq!((again.topic, again.payload), (refused.topic, refused.payload));
                }
            }
        }
        assert!(current == 0 || records >= 3, "cause {current} has {records} records");
        if full {
            break;
        }
        if cause % 5 == 0 {
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
