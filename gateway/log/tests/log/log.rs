//! Append, read, release, cut back: the log in good health.

use std::thread;
use std::time::{Duration, Instant};

use hunhe_log::{AppendError, Error, Lsn, MAX_PAYLOAD_BYTES, Next, Options, ReadError, Reader, Writer};

use super::{files, folder, kind_of, open, options, payload_of, read_from, write_through};

#[test]
fn what_was_synced_is_read_back_in_order_once_after_every_reopening() {
    let dir = folder();
    for through in [0, 1, 60, 61, 500] {
        let (mut writer, recovery) = open(dir.path());
        assert!(recovery.findings.is_empty(), "{recovery}");
        assert_eq!(recovery.head, writer.head());
        write_through(&mut writer, through);
        assert_eq!(writer.durable(), Lsn(through));
        let got = read_from(writer.subscribe(), 0);
        assert_eq!(got.records, (1..=through).collect::<Vec<_>>());
        assert!(got.lost.is_empty());
    }
    assert!(files(dir.path()).len() > 3);
    assert!(files(dir.path()).iter().all(|(_, bytes)| bytes.len() as u64 <= super::SEGMENT_BYTES));
}

#[test]
fn a_reader_may_start_at_any_record() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    write_through(&mut writer, 150);
    for from in 1..=151 {
        assert_eq!(read_from(writer.subscribe(), from).records, (from..=150).collect::<Vec<_>>());
    }
    assert!(matches!(
        Reader::open(writer.subscribe(), Lsn(152)),
        Err(ReadError::Ahead { head: Lsn(150), .. })
    ));
}

#[test]
fn readers_see_nothing_before_flush_or_sync() {
    let dir = folder();
    let (mut writer, _) = Writer::open(options(dir.path(), 32 << 20)).unwrap();
    let tail = writer.subscribe();
    // More than the buffer, so that part of it has been written out.
    let payload = vec![1; 100_000];
    for _ in 0..30 {
        writer.append(0, &[&payload]).unwrap();
    }
    assert_eq!((tail.head(), writer.head()), (Lsn::NONE, Lsn(30)));
    assert_eq!(writer.flush().unwrap(), Lsn(30));
    assert_eq!((tail.head(), writer.durable()), (Lsn(30), Lsn::NONE));
    assert_eq!(writer.sync().unwrap(), Lsn(30));
}

#[test]
fn records_up_to_the_bound_pass_and_larger_ones_are_refused() {
    let dir = folder();
    let (mut writer, _) = Writer::open(options(dir.path(), 4 << 20)).unwrap();
    let largest = vec![0xAB; MAX_PAYLOAD_BYTES];
    for _ in 0..5 {
        writer.append(9, &[&largest]).unwrap();
    }
    let refused = writer.append(9, &[&largest, b"!"]);
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes: 1_048_577, bound_bytes: 1_048_576 })));
    writer.append(9, &[b"after"]).unwrap();
    writer.sync().unwrap();
    let mut reader = Reader::open(writer.subscribe(), Lsn::FIRST).unwrap();
    for _ in 0..5 {
        let Next::Record(record) = reader.next().unwrap() else { panic!("lost") };
        assert!(record.kind == 9 && record.payload == largest);
    }
    let Next::Record(record) = reader.next().unwrap() else { panic!("lost") };
    assert_eq!(record.payload, b"after");
}

#[test]
fn two_writers_never_share_a_directory() {
    let dir = folder();
    let (writer, _) = open(dir.path());
    assert!(matches!(Writer::open(options(dir.path(), 4096)), Err(Error::Locked { .. })));
    drop(writer);
    open(dir.path());
}

#[test]
fn sizes_that_cannot_work_are_refused_before_anything_is_created() {
    let dir = folder();
    let at = dir.path().join("log");
    for (segment_bytes, limit_bytes) in [(4095, 1 << 30), (8192, 16383), (1 << 31, 1 << 40)] {
        let options = Options { disk: hunhe_disk::real(), dir: at.clone(), segment_bytes, limit_bytes };
        assert!(matches!(Writer::open(options), Err(Error::Options { .. })));
    }
    assert!(!at.exists());
}

#[test]
fn a_full_log_keeps_everything_and_goes_on_after_a_release() {
    let dir = folder();
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().to_owned(),
        segment_bytes: 4096,
        limit_bytes: 8192,
    };
    let (mut writer, _) = Writer::open(options).unwrap();
    let mut released = 0;
    for _ in 0..20 {
        let full_at = loop {
            let lsn = writer.head().0 + 1;
            match writer.append(kind_of(lsn), &[&payload_of(lsn)]) {
                Ok(_) => assert!(writer.sync().is_ok()),
                Err(AppendError::Full { limit_bytes: 8192 }) => break lsn,
                Err(error) => panic!("{error}"),
            }
        };
        let on_disk: u64 = files(dir.path()).iter().map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(on_disk <= 8192 && on_disk == writer.bytes_on_disk(), "{on_disk}");
        let got = read_from(writer.subscribe(), released + 1);
        assert_eq!(got.records, (released + 1..full_at).collect::<Vec<_>>());
        assert!(writer.release_through(Lsn(full_at - 1)).unwrap() > 0);
        released = writer.oldest().0 - 1;
    }
}

#[test]
fn release_deletes_only_whole_passed_segments_and_names_the_oldest() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    write_through(&mut writer, 130);
    let firsts: Vec<u64> = files(dir.path()).iter().map(|(name, _)| name[..20].parse().unwrap()).collect();
    let mut behind = Reader::open(writer.subscribe(), Lsn::FIRST).unwrap();
    let mut inside = Reader::open(writer.subscribe(), Lsn::FIRST).unwrap();
    assert!(matches!(inside.next().unwrap(), Next::Record(_)));
    assert_eq!(writer.release_through(Lsn(firsts[1] - 2)).unwrap(), 0);
    assert_eq!(writer.release_through(Lsn(firsts[1] - 1)).unwrap(), 1);
    assert_eq!(writer.oldest(), Lsn(firsts[1]));
    assert!(
        matches!(behind.next(), Err(ReadError::Released { wanted: Lsn(1), oldest }) if oldest.0 == firsts[1])
    );
    // Whoever is reading it keeps the whole of it.
    for lsn in 2..=130 {
        assert!(matches!(inside.next().unwrap(), Next::Record(record) if record.lsn == Lsn(lsn)), "{lsn}");
    }
    let mut overtaken = Reader::open(writer.subscribe(), writer.oldest()).unwrap();
    assert!(matches!(overtaken.next().unwrap(), Next::Record(_)));
    writer.release_through(Lsn(u64::MAX)).unwrap();
    let error = loop {
        match overtaken.next() {
            Ok(Next::Record(record)) => assert!(record.lsn < Lsn(firsts[2])),
            Ok(other) => panic!("{other:?} instead of an error"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::Released { wanted, .. } if wanted == Lsn(firsts[2])), "{error}");
    assert_eq!(files(dir.path()).len(), 1, "the active segment stays");
    drop(writer);
    let (mut writer, recovery) = open(dir.path());
    assert_eq!((recovery.head, recovery.findings.len()), (Lsn(130), 0));
    write_through(&mut writer, 131);
}

#[test]
fn cutting_back_leaves_exactly_the_records_up_to_there() {
    for cut in 0..=130 {
        let dir = folder();
        let (mut writer, _) = open(dir.path());
        write_through(&mut writer, 120);
        for lsn in 121..=130 {
            // Another history, part of it not even flushed.
            writer.append(7, &[b"derived", &[lsn]]).unwrap();
        }
        writer.truncate_after(Lsn(cut)).unwrap();
        assert_eq!(
            (writer.head(), writer.durable(), writer.subscribe().head()),
            (Lsn(cut), Lsn(cut), Lsn(cut))
        );
        let on_disk: u64 = files(dir.path()).iter().map(|(_, bytes)| bytes.len() as u64).sum();
        assert_eq!(on_disk, writer.bytes_on_disk());
        writer.truncate_after(Lsn(cut.min(120))).unwrap();
        write_through(&mut writer, 160);
        assert_eq!(read_from(writer.subscribe(), 1).records, (1..=160).collect::<Vec<_>>());
        drop(writer);
        let (writer, recovery) = open(dir.path());
        assert!(recovery.findings.is_empty(), "{recovery}");
        assert_eq!(read_from(writer.subscribe(), 1).records, (1..=160).collect::<Vec<_>>());
    }
}

#[test]
fn cutting_back_is_refused_outside_the_log_and_under_readers() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    write_through(&mut writer, 130);
    assert!(matches!(writer.truncate_after(Lsn(131)), Err(Error::Outside { head: Lsn(130), .. })));
    let tail = writer.subscribe();
    assert!(matches!(writer.truncate_after(Lsn(100)), Err(Error::HasReaders { .. })));
    drop(tail);
    writer.release_through(Lsn(100)).unwrap();
    let oldest = writer.oldest();
    assert!(oldest > Lsn(2));
    assert!(matches!(writer.truncate_after(Lsn(oldest.0 - 2)), Err(Error::Outside { .. })));
    writer.truncate_after(oldest.previous()).unwrap();
    assert_eq!(writer.head(), oldest.previous());
}

#[test]
fn numbers_known_to_be_used_are_skipped_for_good() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    write_through(&mut writer, 10);
    writer.skip_to(Lsn(5)).unwrap();
    writer.skip_to(Lsn(20)).unwrap();
    assert_eq!((writer.head(), writer.durable()), (Lsn(20), Lsn(20)));
    drop(writer);
    let (mut writer, recovery) = open(dir.path());
    assert_eq!(recovery.head, Lsn(20));
    write_through(&mut writer, 25);
    let got = read_from(writer.subscribe(), 1);
    assert_eq!(got.records, (1..=10).chain(21..=25).collect::<Vec<_>>());
    assert_eq!(got.lost, [(11, 20)]);
}

#[test]
fn readers_beside_the_writer_get_every_record_through_rolls_and_releases() {
    const RECORDS: u64 = 40_000;
    let dir = folder();
    let (mut writer, _) = Writer::open(options(dir.path(), 64 << 10)).unwrap();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let tail = writer.subscribe();
            thread::spawn(move || {
                let mut reader = Reader::open(tail.clone(), Lsn::FIRST).unwrap();
                let mut seen = 0;
                let deadline = Instant::now() + Duration::from_secs(120);
                while seen < RECORDS {
                    match reader.next().unwrap() {
                        Next::Record(record) => {
                            seen += 1;
                            assert_eq!(record.lsn, Lsn(seen));
                            assert_eq!(record.payload, payload_of(seen));
                        }
                        Next::Lost { first, last } => panic!("{first} to {last} lost"),
                        Next::CaughtUp => {
                            assert!(Instant::now() < deadline, "stuck at {seen}");
                            let _ = tail.wait(Lsn(seen), Duration::from_secs(10));
                        }
                    }
                }
            })
        })
        .collect();
    for lsn in 1..=RECORDS {
        writer.append(kind_of(lsn), &[&payload_of(lsn)]).unwrap();
        if lsn % 37 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.sync().unwrap();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(files(dir.path()).len() > 50);
}

#[test]
fn waiting_ends_with_more_records_or_with_the_writer() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    let tail = writer.subscribe();
    let waiter = thread::spawn(move || {
        let long = Duration::from_secs(60);
        let head = tail.wait(Lsn::NONE, long);
        (head, tail.wait(head, long), tail.is_closed())
    });
    writer.append(0, &[b"x"]).unwrap();
    writer.sync().unwrap();
    let tail = writer.subscribe();
    assert_eq!(tail.wait(Lsn(1), Duration::ZERO), Lsn(1));
    drop(writer);
    assert_eq!(waiter.join().unwrap(), (Lsn(1), Lsn(1), true));
}

#[test]
fn numbers_given_away_are_neither_used_nor_lost() {
    for jump in [1, 1 << 40] {
        let dir = folder();
        let (mut writer, _) = open(dir.path());
        write_through(&mut writer, 90);
        let behind = Lsn(90 + jump);
        writer.jump_to(behind).unwrap();
        writer.jump_to(Lsn(5)).unwrap();
        assert_eq!((writer.head(), writer.durable()), (behind, behind));
        let tail = writer.subscribe();
        for from in [1, 90, 91, behind.0 + 1] {
            let got = read_from(tail.clone(), from);
            assert_eq!((got.records, got.lost), ((from..=90).collect(), Vec::new()), "from {from}");
        }
        // Before and behind the jump's own segment is sealed, and after a reopening.
        for more in [10, 200, 300] {
            drop(tail.clone());
            write_through(&mut writer, behind.0 + more);
            drop(writer);
            let (reopened, recovery) = open(dir.path());
            assert!(recovery.findings.is_empty(), "{recovery}");
            writer = reopened;
            let got = read_from(writer.subscribe(), 1);
            let expected: Vec<u64> = (1..=90).chain(behind.0 + 1..=behind.0 + more).collect();
            assert_eq!((got.records, got.lost), (expected, Vec::new()));
            let report = hunhe_log::inspect::verify(&hunhe_disk::real(), dir.path()).unwrap();
            assert!(report.sound && report.records == Some(91 + more), "{report}");
        }
        drop(writer);
        // A derived log is cut on either side of the jump.
        for cut in [behind.0 + 20, behind.0, 80] {
            let (mut writer, _) = open(dir.path());
            writer.truncate_after(Lsn(cut)).unwrap();
            assert_eq!(writer.head(), Lsn(cut));
            writer.jump_to(behind).unwrap();
            write_through(&mut writer, behind.0 + 20);
            drop(writer);
            let (writer, _) = open(dir.path());
            let got = read_from(writer.subscribe(), 1);
            let expected: Vec<u64> = (1..=90.min(cut)).chain(behind.0 + 1..=behind.0 + 20).collect();
            assert_eq!((got.records, got.lost), (expected, Vec::new()), "cut after {cut}");
        }
    }
}

#[test]
fn a_jump_that_rots_costs_nothing_behind_it() {
    let dir = folder();
    let (mut writer, _) = open(dir.path());
    write_through(&mut writer, 10);
    let jump_at = usize::try_from(writer.bytes_on_disk()).unwrap();
    let behind = 1 << 40;
    writer.jump_to(Lsn(behind)).unwrap();
    write_through(&mut writer, behind + 5);
    drop(writer);
    let path = dir.path().join(&files(dir.path())[0].0);
    let whole = std::fs::read(&path).unwrap();
    for bit in jump_at * 8..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let (writer, recovery) = open(dir.path());
        assert_eq!(writer.head(), Lsn(behind + 5), "bit {bit}: {recovery}");
        let got = read_from(writer.subscribe(), 1);
        assert_eq!(got.records, (1..=10).chain(behind + 1..=behind + 5).collect::<Vec<u64>>(), "bit {bit}");
        let report = hunhe_log::inspect::verify(&hunhe_disk::real(), dir.path()).unwrap();
        assert!(!report.sound, "bit {bit} is seen: {report}");
    }
}

#[test]
fn a_full_log_still_jumps() {
    let dir = folder();
    let limited =
        Options { limit_bytes: 2 * super::SEGMENT_BYTES, ..options(dir.path(), super::SEGMENT_BYTES) };
    let (mut writer, _) = Writer::open(limited.clone()).unwrap();
    while writer.append(0, &[&[7; 50]]).is_ok() {}
    let head = writer.head();
    writer.jump_to(Lsn(1 << 40)).unwrap();
    drop(writer);
    let (mut writer, recovery) = Writer::open(limited).unwrap();
    assert_eq!((writer.head(), recovery.findings), (Lsn(1 << 40), Vec::new()));
    writer.release_through(head).unwrap();
    assert_eq!(writer.append(0, &[b"x"]).unwrap(), Lsn((1 << 40) + 1));
}
