//! What the fixtures hold: a detector behind a concentrator that reports twice and raises an alert, seen by each format
//! on disk. Written by `make fixtures`, read by the tests beside this file.
//!
//! After a change here, or of a format, `make fixtures` writes them again: see `gateway/examples/fixtures.rs`.

use std::{fs, path::Path, sync::Arc};

use hunhe_fixtures::detector_registry;
pub(crate) use hunhe_fixtures::id;
use hunhe_gateway::{
    alerts::{AlertLog, describe::Describer},
    decide::checkpoint::{Checkpoint, Checkpoints},
    decided::{Encoder, Message},
    record::{Entering, OutputChange},
    setup::{places::Places, registry::Pseudonyms},
};
use hunhe_gateway_core::{
    device::alert::{Change, Mode, Phase, Subject},
    event::{
        ABSENT, Accepted, Arrival, ChannelStat, Decisions, Event, Reason, Refusal, RefusedRange, Rollups,
        SampleSet, Shown, WindowClosed, WriteOff,
    },
    lane::{Lane, Policy},
    registry::{DeviceIx, Registry},
    rule::RuleIx,
};
use hunhe_log::{
    Entry, Lsn, Options, Writer,
    cursor::{Cursor, CursorFile},
};
use hunhe_proto::{reading::Header, topic};
use hunhe_store::{NewRecord, RecordId, Rollup, Rows, Store};

/// 2026-11-01T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_793_491_200_000;
pub(crate) const BOOT: u32 = 0xfeed_0007;
const SEGMENT_BYTES: u64 = 4096;

pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(detector_registry())
}

/// Methane every ten seconds from `seq` on, in hundredths of a per cent.
pub(crate) fn report(seq: u64, ch4: &[i64]) -> Vec<u8> {
    let t0 = NOW_MS / 1000 - 1000 + 10 * i64::try_from(seq).unwrap();
    hunhe_fixtures::report(
        Header { boot: BOOT, seq, class_version: Some(1), ..Header::default() },
        t0,
        1,
        ch4,
    )
}

/// An output of alerts that has stalled.
pub(crate) const STALLED: OutputChange<'_> =
    OutputChange { name: "duty", since_ms: NOW_MS + 4_000, stalled: true };

/// The journal's records: a report, an alarm, the clock, a redrive, something large that is no report, the clock again, a
/// write-off, an output that has stalled. The large one closes a segment.
pub(crate) fn entering() -> Vec<Entering> {
    let arrival = |alarm| Arrival { lsn: 0, at_ms: NOW_MS, live: true, alarm };
    let up = || topic::up(id("secret-7")).into();
    let noise: Vec<u8> = (0..3_880_u32).map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
    vec![
        Entering::message(arrival(false), up(), report(0, &[100, 120, 140]).into(), None),
        Entering::message(
            arrival(true),
            topic::alarm(id("secret-7")).into(),
            report(3, &[5_725]).into(),
            None,
        ),
        Entering::tick(NOW_MS + 1_000, 1_000),
        Entering::redrive(NOW_MS + 2_000, 5, &[(9, 1), (12, 3)], up(), report(9, &[130]).into()),
        Entering::message(arrival(false), "not/ours".into(), noise.into(), None),
        Entering::tick(NOW_MS + 3_000, 2_000),
        Entering::write_off(&write_off()),
        Entering::output(NOW_MS + 34_000, STALLED),
    ]
}

pub(crate) fn write_off() -> WriteOff<'static> {
    let device = id("secret-7");
    let at_ms = NOW_MS + 4_000;
    WriteOff { lsn: 7, at_ms, device, samples: 12, before: 3, reason: "恢复备份之后", by: "lin" }
}

/// What the decided log holds of source records 1, 2, 4 and 5, put together by hand so that no decision changes it.
pub(crate) fn decisions() -> Vec<(u64, Decisions)> {
    let device = DeviceIx(0);
    let set = |rows: usize| SampleSet { device, boot: BOOT, rows: 0..rows, channels: 0..2, values_from: 0 };
    let even = Decisions {
        accepted: Accepted {
            sets: vec![set(3)],
            times_ms: vec![NOW_MS, NOW_MS + 10_000, NOW_MS + 20_000],
            seqs: vec![0, 1, 2],
            quality: vec![1, 1, 1],
            channels: vec![0, 1],
            values: vec![0, 0, 4, 100, ABSENT, -140],
        },
        ..Decisions::default()
    };
    let uneven = Decisions {
        accepted: Accepted {
            sets: vec![set(3)],
            times_ms: vec![NOW_MS + 30_000, NOW_MS + 31_000, NOW_MS + 50_000],
            seqs: vec![3, 4, 5],
            quality: vec![1, 2, 1],
            channels: vec![0, 1],
            values: vec![ABSENT, 1, (1 << 53) - 1, 5_725, 1 - (1 << 53), 0],
        },
        ..Decisions::default()
    };
    let window = Decisions {
        shown: Shown {
            windows: vec![WindowClosed {
                device,
                length_ms: 900_000,
                start_ms: NOW_MS,
                revision: 2,
                expected: 90,
                stats_from: 0,
                channels: 1,
            }],
            stats: vec![ChannelStat {
                channel: 1,
                count: 89,
                sum: -(1_i128 << 70),
                min: -140,
                max: 5_725,
                last: 100,
            }],
        },
        redriven: true,
        ..Decisions::default()
    };
    let refused = Decisions {
        refusal: Some(Refusal { device: Some(device), boot: BOOT, reason: Reason::OutOfRange }),
        refused: vec![
            RefusedRange { seq: 7, count: 2, reason: Reason::OutOfRange },
            RefusedRange { seq: 12, count: 1, reason: Reason::TooOld },
        ],
        ..Decisions::default()
    };
    vec![(1, even), (2, uneven), (4, window), (5, refused)]
}

/// A message about its decisions: the window's source record is a redrive.
pub(crate) fn message<'a>(source_lsn: u64, payload: &'a [u8]) -> Message<'a> {
    let redrive_of = (source_lsn == 2).then_some(77);
    Message { source_lsn, arrival_ms: NOW_MS, topic: b"some/topic", payload, redrive_of }
}

pub(crate) fn changes() -> Vec<Change> {
    let change = |phase, value| Change {
        id: 0x0123_4567_89ab_cdef,
        rule: RuleIx(0),
        subject: Subject::Device(DeviceIx(0)),
        phase,
        fired: true,
        mode: Mode::Live,
        since_ms: NOW_MS,
        event_ms: NOW_MS + 5_000,
        arrival_ms: NOW_MS + 5_678,
        value,
    };
    vec![change(Phase::Firing, 5_725), change(Phase::Resolved, 3_900)]
}

/// A lane that has heard the journal's first three records.
pub(crate) fn lane() -> Lane {
    let mut lane = Lane::new(registry(), Policy::default());
    for (lsn, entering) in (1..).zip(entering()).take(3) {
        let bytes = entering.parts().concat();
        let journaled = hunhe_gateway::record::read(lsn, entering.kind(), &bytes).unwrap();
        let event: Event<'_> = journaled.event();
        lane.handle(event, &mut Decisions::default());
    }
    lane
}

pub(crate) fn log(dir: &Path) -> Options {
    Options {
        disk: hunhe_disk::real(),
        dir: dir.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        limit_bytes: 1 << 20,
    }
}

pub(crate) fn write_journal(dir: &Path) {
    let (mut log, _) = Writer::open(log(dir)).unwrap();
    for entering in entering() {
        log.append(entering.kind(), &entering.parts()).unwrap();
        log.sync().unwrap();
    }
}

pub(crate) fn write_decided(dir: &Path) {
    let (mut log, _) = Writer::open(log(dir)).unwrap();
    let mut encoder = Encoder::new(Rollups::All);
    for (source_lsn, decisions) in decisions() {
        encoder.encode(&registry(), message(source_lsn, &report(7, &[30_000])), &decisions);
        encoder.append(&mut log).unwrap();
    }
    log.sync().unwrap();
}

pub(crate) fn write_alerts(dir: &Path) {
    let (writer, _) = Writer::open(log(dir)).unwrap();
    let describer = Describer::new(registry(), Arc::new(Places::default()));
    let (bell, _) = tokio::sync::watch::channel(Lsn::NONE);
    let mut log = AlertLog::new(writer, describer, Arc::default(), bell, Box::new(|| Lsn::NONE));
    log.write(2, &changes()).unwrap();
    log.sync().unwrap();
}

pub(crate) fn write_checkpoint(dir: &Path) {
    let lane = lane();
    let (mut files, _) = Checkpoints::open(&hunhe_disk::real(), dir).unwrap();
    let checkpoint = Checkpoint {
        journal: Lsn(3),
        decided: Lsn(2),
        alerts: Lsn(2),
        rules: 7,
        confirmed: [("embedded".to_owned(), 2), ("influx".to_owned(), 1)].into(),
        snapshot: lane.snapshot(),
    };
    files.begin(&checkpoint).unwrap().finish().unwrap();
}

/// Two slots, of which the second was written last.
pub(crate) fn write_cursor(path: &Path) {
    let (mut file, _) = CursorFile::open(&*hunhe_disk::real(), path).unwrap();
    for source_lsn in [4, 5, 6] {
        file.save(Cursor { source_lsn, decided_lsn: Lsn(3 * source_lsn) }).unwrap();
    }
}

pub(crate) const STORE_CURSOR: &[u8] = b"sixteen bytes...";

pub(crate) fn rows() -> Rows<'static> {
    Rows {
        boot: BOOT,
        times_ms: &[NOW_MS, NOW_MS + 10_000, NOW_MS + 21_000],
        seqs: &[0, 1, 7],
        quality: &[1, 2, 1],
        channels: &[0, 1],
        values: &[0, 1, 4, 100, ABSENT, -140],
    }
}

pub(crate) fn rollup() -> Rollup {
    Rollup {
        resolution_s: 900,
        start_ms: NOW_MS,
        revision: 2,
        channel: 1,
        count: 89,
        expected: 90,
        sum: -(1 << 70),
        min: -140,
        max: 5_725,
        last: 100,
    }
}

pub(crate) fn open_store(dir: &Path) -> Result<Store, hunhe_store::StoreError> {
    Store::open(hunhe_store::Options { retention_days: 100_000, ..hunhe_store::Options::new(dir) })
}

/// One record of each kind.
pub(crate) fn records() -> [NewRecord<'static>; 3] {
    let message = NewRecord {
        id: RecordId::Message { source_lsn: 44 },
        arrival_ms: NOW_MS,
        device: None,
        boot: 0,
        samples: 0,
        reason: "truncated",
        body: b"refused",
    };
    let conflict = NewRecord {
        id: RecordId::Conflict { source_lsn: 45, boot: BOOT, seq: 9 },
        device: Some(id("secret-7")),
        boot: BOOT,
        samples: 1,
        reason: "conflict",
        ..message
    };
    let letter = NewRecord {
        id: RecordId::DeadLetter { source_lsn: 46, hash: 0x1234_5678_9abc_def0 },
        arrival_ms: NOW_MS + 1,
        reason: "refused_by_database",
        ..conflict
    };
    [message, conflict, letter]
}

pub(crate) fn write_store(dir: &Path) {
    let store = open_store(dir).unwrap();
    let key = store.device("shown-7").unwrap();
    store.write(key, &rows(), &mut Vec::new()).unwrap();
    store.put_rollup(key, &rollup()).unwrap();
    for record in records() {
        store.put_record(&record).unwrap();
    }
    // One that is too old by now.
    let old = NewRecord { id: RecordId::Message { source_lsn: 40 }, arrival_ms: NOW_MS - 9, ..records()[1] };
    store.put_record(&old).unwrap();
    assert_eq!(store.expire_records(NOW_MS).unwrap(), (1, false));
    store.checkpoint(STORE_CURSOR).unwrap();
}

pub(crate) fn write_pseudonyms(data_dir: &Path) {
    let mut pseudonyms = Pseudonyms::default();
    pseudonyms.of(id("secret-7"), Some(id("shown-7"))).unwrap();
    pseudonyms.of(id("secret-8"), Some(id("p0123456789abcdef"))).unwrap();
    pseudonyms.keep(data_dir).unwrap();
}

/// A data folder with all of it, fit to be started on.
pub(crate) fn write_data_dir(data_dir: &Path) {
    fs::create_dir_all(data_dir).unwrap();
    write_journal(&data_dir.join("journal"));
    write_decided(&data_dir.join("decided"));
    write_alerts(&data_dir.join("alerts"));
    write_checkpoint(&data_dir.join("checkpoint"));
    write_cursor(&data_dir.join("influx.cursor"));
    write_store(&data_dir.join("store"));
    write_pseudonyms(data_dir);
}
