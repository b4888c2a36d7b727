//! Each fixture is read to what it was written from, and today's program still writes the same bytes: a format that changes
//! without a new version shows here.

use std::{fs, path::Path};

use hunhe_gateway::{
    alerts::feed::{Feed, Step},
    api::types::encode_alert,
    decide::checkpoint::{Checkpoint, Checkpoints},
    decided::{self, Decided, StoredChannel},
    record,
    setup::registry::Pseudonyms,
};
use hunhe_gateway_core::{
    device::alert::Phase,
    event::{ABSENT, Arrival, Event},
    lane::{Lane, Policy},
};
use hunhe_log::{
    Entry as _, Lsn, Next, Reader, Writer,
    cursor::{Cursor, CursorFile, Held},
    inspect,
};
use hunhe_store::{Discard, NewRecord, RecordHead, RecordId};

use crate::{fixture, story};
use story::{BOOT, NOW_MS, id};

/// Kind and content of each record, with nothing found that is not as written.
fn records(dir: &Path) -> Vec<(u8, Vec<u8>)> {
    let (log, recovery) = Writer::open(story::log(dir)).unwrap();
    assert_eq!(recovery.findings, [], "{recovery}");
    let mut reader = Reader::open(log.subscribe(), Lsn::FIRST).unwrap();
    let mut records = Vec::new();
    loop {
        match reader.next().unwrap() {
            Next::Record(record) => records.push((record.kind, record.payload.to_vec())),
            Next::Lost { first, last } => panic!("{first} to {last} are lost"),
            Next::CaughtUp => return records,
        }
    }
}

#[test]
fn a_journal_of_format_1_is_read_record_by_record() {
    assert_eq!(hunhe_log::FORMAT_VERSION, 1, "a fixture of the new version belongs beside this one");
    let dir = fixture("journal-v1");
    let report = inspect::verify(&hunhe_disk::real(), dir.path()).unwrap();
    assert!(report.sound, "{report}");
    assert_eq!((report.segments.len(), report.records, report.head), (2, Some(8), Lsn(8)));
    let found = records(dir.path());
    let written: Vec<_> =
        story::entering().iter().map(|entering| (entering.kind(), entering.parts().concat())).collect();
    assert_eq!(found, written);

    let read = |at: usize| record::read(at as u64 + 1, found[at].0, &found[at].1).unwrap();
    let arrival = |lsn, alarm| Arrival { lsn, at_ms: NOW_MS, live: true, alarm };
    match read(0).event() {
        Event::Message { arrival: found, topic: b"hunhe/v1/5e/secret-7/up", payload } => {
            assert_eq!((found, payload), (arrival(1, false), story::report(0, &[100, 120, 140]).as_slice()));
        }
        other => panic!("{other:?}"),
    }
    match read(1).event() {
        Event::Message { arrival: found, topic: b"hunhe/v1/5e/secret-7/alarm", .. } => {
            assert_eq!(found, arrival(2, true));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(read(2).event(), Event::Tick { lsn: 3, now_ms, listened_ms: 1_000 } if now_ms == NOW_MS + 1_000)
    );
    assert_eq!(read(3).redrive_of, Some(5));
    assert!(matches!(read(3).event(), Event::Redrive { refused: [(9, 1), (12, 3)], .. }));
    assert!(
        matches!(read(4).event(), Event::Message { topic: b"not/ours", payload, .. } if payload.len() == 3_880)
    );
    assert!(matches!(read(5).event(), Event::Tick { lsn: 6, listened_ms: 2_000, .. }));
    assert!(matches!(read(6).event(), Event::WriteOff(found) if found == story::write_off()));
    assert_eq!((read(7).at_ms, read(7).output), (NOW_MS + 34_000, Some(story::STALLED)));
}

#[test]
fn a_decided_log_of_format_1_is_read_value_by_value() {
    let dir = fixture("decided-v1");
    let found = records(dir.path());
    let today = tempfile::tempdir().unwrap();
    story::write_decided(today.path());
    assert_eq!(found, records(today.path()), "the same decisions are still written as the same bytes");

    let mut buffers: Vec<_> = found.iter().map(|_| decided::Buffers::default()).collect();
    let read: Vec<_> = found
        .iter()
        .zip(&mut buffers)
        .map(|((kind, payload), buffers)| decided::read(*kind, payload, buffers).unwrap())
        .collect();
    let [
        Decided::Samples(even),
        Decided::Samples(uneven),
        Decided::Windows(windows),
        Decided::Refused(refused),
    ] = read.as_slice()
    else {
        panic!("{read:?}")
    };
    assert_eq!((even.iter().len(), uneven.iter().len(), windows.iter().len()), (1, 1, 1));
    let (even, uneven, window) =
        (even.iter().next().unwrap(), uneven.iter().next().unwrap(), windows.iter().next().unwrap());
    assert_eq!((even.source_lsn, even.device, even.boot, even.redrive_of), (1, id("secret-7"), BOOT, None));
    assert_eq!((even.announced, even.rows, even.seqs()), (3, 3, &[0, 1, 2][..]));
    let channels = [StoredChannel::new(0, 0), StoredChannel::new(1, 2)];
    assert_eq!(even.channels(), channels.map(StoredChannel::bits));
    let times = |samples: &decided::Samples<'_>| [0, 1, 2].map(|row| samples.times_ms()[row] - NOW_MS);
    assert_eq!((times(&even), even.quality()), ([0, 10_000, 20_000], &[1, 1, 1][..]));
    assert_eq!(even.column(0), [0, 0, 4]);
    assert_eq!(even.column(1), [100, ABSENT, -140]);

    assert_eq!((uneven.source_lsn, uneven.redrive_of, uneven.seqs()), (2, Some(77), &[3, 4, 5][..]));
    assert_eq!((times(&uneven), uneven.quality()), ([30_000, 31_000, 50_000], &[1, 2, 1][..]));
    assert_eq!(uneven.column(0), [ABSENT, 1, (1 << 53) - 1]);
    assert_eq!(uneven.column(1), [5_725, 1 - (1 << 53), 0]);

    assert_eq!((window.source_lsn, window.device, window.length_ms), (4, id("secret-7"), 900_000));
    assert_eq!((window.start_ms, window.revision, window.expected), (NOW_MS, 2, 90));
    let stats: Vec<_> = window.stats().collect();
    let expected = [channels[1]].into_iter().zip(story::decisions()[2].1.shown.stats.clone());
    assert_eq!(stats, expected.collect::<Vec<_>>());

    assert_eq!((refused.source_lsn, refused.arrival_ms, refused.boot), (5, NOW_MS, BOOT));
    assert_eq!((refused.device, refused.redrive_of), (Some(id("secret-7")), None));
    assert_eq!((refused.reason, refused.topic), ("out_of_range", b"some/topic".as_slice()));
    assert_eq!(refused.payload, story::report(7, &[30_000]));
    assert_eq!(refused.ranges().collect::<Vec<_>>(), [(7, 2, "out_of_range"), (12, 1, "too_old")]);
}

/// What receivers get of the changes in the fixture, word for word.
const ENCODED: [&str; 2] = [
    concat!(
        r#"{"id":"0123456789abcdef","sequence":1,"rule":"ch4_high","rule_version":2,"severity":"critical","#,
        r#""state":"firing","fired":true,"mode":"live","device":"shown-7","agent":"c-1","class":"detector","#,
        r#""zone":"station-tiexi","zone_name":{"zh":"station-tiexi","en":"station-tiexi"},"district":"210106","#,
        r#""district_name":{"zh":"210106","en":"210106"},"operator":"gas","channel":"ch4","value":57.25,"#,
        r#""threshold":50.0,"unit":"%{LEL}","since":"2026-11-01T00:00:00.000Z","#,
        r#""event_time":"2026-11-01T00:00:05.000Z","arrival_time":"2026-11-01T00:00:05.678Z","#,
        r#""title":{"zh":"甲烷高报","en":"Methane, high"},"#,
        r#""text":{"zh":"210106 · station-tiexi：甲烷浓度 57.25 %LEL ≥ 50","#,
        r#""en":"210106 · station-tiexi: methane 57.25 %LEL ≥ 50"}}"#,
    ),
    concat!(
        r#"{"id":"0123456789abcdef","sequence":2,"rule":"ch4_high","rule_version":2,"severity":"critical","#,
        r#""state":"resolved","fired":true,"mode":"live","device":"shown-7","agent":"c-1","class":"detector","#,
        r#""zone":"station-tiexi","zone_name":{"zh":"station-tiexi","en":"station-tiexi"},"district":"210106","#,
        r#""district_name":{"zh":"210106","en":"210106"},"operator":"gas","channel":"ch4","value":39.0,"#,
        r#""threshold":50.0,"unit":"%{LEL}","since":"2026-11-01T00:00:00.000Z","#,
        r#""event_time":"2026-11-01T00:00:05.000Z","arrival_time":"2026-11-01T00:00:05.678Z","#,
        r#""title":{"zh":"甲烷高报","en":"Methane, high"},"#,
        r#""text":{"zh":"210106 · station-tiexi：甲烷浓度 39 %LEL < 40，已恢复","#,
        r#""en":"210106 · station-tiexi: methane 39 %LEL < 40, resolved"}}"#,
    ),
];

#[test]
fn an_alert_log_of_format_1_is_read_change_by_change() {
    let dir = fixture("alerts-v1");
    let found = records(dir.path());
    let today = tempfile::tempdir().unwrap();
    story::write_alerts(today.path());
    assert_eq!(found, records(today.path()), "the same changes are still written as the same bytes");

    let (log, _) = Writer::open(story::log(dir.path())).unwrap();
    let mut feed = Feed::open(log.subscribe(), Lsn::NONE).unwrap();
    for (last, phase, value, encoded) in
        [(false, Phase::Firing, 57.25, ENCODED[0]), (true, Phase::Resolved, 39.0, ENCODED[1])]
    {
        let Step::Entry(entry) = feed.step().unwrap() else { panic!("a change is missing") };
        assert_eq!((entry.source_lsn, entry.last), (2, last));
        assert_eq!((entry.alert.id, entry.alert.phase), (0x0123_4567_89ab_cdef, phase));
        assert_eq!((entry.alert.rule.as_str(), entry.alert.rule_version), ("ch4_high", 2));
        assert_eq!((entry.alert.value, entry.alert.threshold), (Some(value), Some(50.0)));
        assert_eq!(entry.alert.device.as_deref(), Some("shown-7"));
        assert_eq!(std::str::from_utf8(&encode_alert(&entry.alert)).unwrap(), encoded);
    }
    assert!(matches!(feed.step().unwrap(), Step::CaughtUp));
}

fn checkpoint(dir: &Path) -> Checkpoint<'static> {
    let (_, found) = Checkpoints::open(&hunhe_disk::real(), dir).unwrap();
    assert_eq!(found.damaged, Vec::<std::path::PathBuf>::new());
    found.newest.unwrap()
}

/// Positions, counts and the lane of [`story::write_checkpoint`].
fn is_the_storys(checkpoint: Checkpoint<'_>) {
    assert_eq!((checkpoint.journal, checkpoint.decided, checkpoint.alerts), (Lsn(3), Lsn(2), Lsn(2)));
    assert_eq!(checkpoint.rules, 7);
    assert_eq!(checkpoint.confirmed, [("embedded".to_owned(), 2), ("influx".to_owned(), 1)].into());
    let mut lane = Lane::new(story::registry(), Policy::default());
    assert_eq!(lane.restore(checkpoint.snapshot), 0, "every device is known");
    assert_eq!((lane.counters().samples, lane.counters().readings), (4, 4));
    let (totals, _) = lane.totals();
    assert_eq!((totals.sampled, totals.outstanding, totals.unexplained()), (4, 4, 0));
    assert_eq!(lane.open_alerts().count(), 1);
}

#[test]
fn a_checkpoint_of_format_1_is_read_and_still_written_as_the_same_bytes() {
    let dir = fixture("checkpoint-v1");
    is_the_storys(checkpoint(dir.path()));
    let today = tempfile::tempdir().unwrap();
    let (mut files, _) = Checkpoints::open(&hunhe_disk::real(), today.path()).unwrap();
    files.begin(&checkpoint(dir.path())).unwrap().finish().unwrap();
    let bytes = |dir: &Path| fs::read(dir.join("checkpoint-0")).unwrap();
    assert_eq!(bytes(dir.path()), bytes(today.path()));
}

#[test]
fn a_cursor_of_format_1_is_read_and_still_written_as_the_same_bytes() {
    let dir = fixture("cursor-v1");
    let path = dir.path().join("influx.cursor");
    let (_, held) = CursorFile::open(&*hunhe_disk::real(), &path).unwrap();
    assert_eq!(held, Held::Cursor(Cursor { source_lsn: 6, decided_lsn: Lsn(18) }));
    let today = tempfile::tempdir().unwrap();
    story::write_cursor(&today.path().join("influx.cursor"));
    assert_eq!(fs::read(path).unwrap(), fs::read(today.path().join("influx.cursor")).unwrap());
}

#[test]
fn a_store_of_format_1_is_read() {
    let dir = fixture("store-v1");
    // A repository keeps no empty folders.
    for keyspace in fs::read_dir(dir.path().join("keyspaces")).unwrap() {
        fs::create_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
    }
    let store = story::open_store(dir.path()).unwrap();
    let key = store.find_device("shown-7").unwrap();
    let rows = story::rows();
    let series = store.scan(key, 0..i64::MAX, rows.channels).unwrap();
    assert_eq!(series.times_ms, rows.times_ms);
    assert_eq!((series.column(0), series.column(1)), (&rows.values[..3], &rows.values[3..]));
    assert_eq!(series.quality, rows.quality);
    let again = store.write(key, &rows, &mut Vec::new()).unwrap();
    assert_eq!((again.duplicates, again.stored), (3, 0), "boot and sequence numbers are there as well");
    assert_eq!(store.scan_rollups(key, 900, 1, 0..i64::MAX).unwrap(), [story::rollup()]);
    for expected in story::records() {
        let record = store.record(expected.id).unwrap().unwrap();
        assert_eq!(record.body(), b"refused");
        let RecordHead { arrival_ms, device, boot, samples, reason } = record.head;
        let head = (arrival_ms, device, boot, samples, reason.as_str());
        let NewRecord { arrival_ms, device, boot, samples, reason, .. } = expected;
        assert_eq!(head, (arrival_ms, device, boot, samples, reason));
    }
    assert_eq!(store.held_records(None).total.records, 3);
    let discard = Discard {
        number: 1,
        id: RecordId::Message { source_lsn: 40 },
        device: id("secret-7"),
        boot: BOOT,
        samples: 1,
    };
    assert_eq!(store.discards_after(0), [discard]);
    assert_eq!(store.cursor().unwrap().as_deref(), Some(story::STORE_CURSOR));
}

#[test]
fn a_mapping_of_pseudonyms_of_format_1_is_read_and_still_written_as_the_same_bytes() {
    let dir = fixture("pseudonyms-v1");
    let today = tempfile::tempdir().unwrap();
    story::write_pseudonyms(today.path());
    let bytes = |dir: &Path| fs::read(Pseudonyms::file(dir)).unwrap();
    assert_eq!(bytes(dir.path()), bytes(today.path()));
    let mut faults = Vec::new();
    let mut pseudonyms = Pseudonyms::read(dir.path(), &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(pseudonyms.of(id("secret-8"), None).unwrap(), id("p0123456789abcdef"));
    assert_eq!(pseudonyms.of(id("secret-7"), None).unwrap(), id("shown-7"));
}
