//! A journal with one damaged segment: what is read back is what was written, what is not is reported, and the log goes on.

use hunhe_disk::{Open, simulated::SimulatedDisk};
use hunhe_fuzz::{Target, run};
use hunhe_log::{Error, JUMP, Lsn, Next, Options, Reader, Writer, inspect, refuse_newer_segments};
use std::{collections::BTreeSet, path::Path};

const DIR: &str = "/data/journal";
const RECORDS: u64 = 60;

fn options(disk: &SimulatedDisk) -> Options {
    Options { disk: disk.handle(), dir: DIR.into(), segment_bytes: 4096, limit_bytes: 1 << 20 }
}

fn payload_of(lsn: u64) -> Vec<u8> {
    (0..lsn * 37 % 251).map(|at| (lsn * 131 + at * at) as u8).collect()
}

/// The log, its segments' paths, and their bytes.
fn log() -> (SimulatedDisk, Vec<std::path::PathBuf>, Vec<Vec<u8>>) {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = Writer::open(options(&disk)).unwrap();
    for lsn in 1..=RECORDS {
        writer.append(lsn as u8 % 5, &[&payload_of(lsn)]).unwrap();
        if lsn % 4 == 0 {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
    drop(writer);
    let segments =
        disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    let (paths, bytes): (Vec<_>, Vec<_>) = segments.unzip();
    assert_eq!(paths.len(), 3);
    (disk, paths, bytes)
}

/// Sums the header anew, and every frame as far as their lengths lead.
fn mend(input: &mut [u8]) {
    let Some((_, bytes)) = input.split_first_mut() else { return };
    let Some((header, mut frames)) = bytes.split_at_mut_checked(32) else { return };
    let sum = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&sum.to_le_bytes());
    let stamp = crc32c::crc32c(&header[12..20]);
    let first = u64::from_le_bytes(header[20..28].try_into().unwrap());
    let mut lsn = first;
    while let Some((frame, rest)) = frames.split_at_mut_checked(12) {
        let word = u32::from_le_bytes(frame[..4].try_into().unwrap());
        let Some((payload, rest)) = rest.split_at_mut_checked((word & 0x3f_ffff) as usize) else { return };
        frame[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        let sum = crc32c::crc32c_append(stamp, &lsn.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &frame[..4]), payload);
        frame[8..].copy_from_slice(&sum.to_le_bytes());
        frames = rest;
        lsn = lsn.wrapping_add(1);
    }
}

fn has_jump(bytes: &[u8]) -> bool {
    let mut frames = bytes.get(32..).unwrap_or_default();
    while let Some((frame, rest)) = frames.split_at_checked(12) {
        let word = u32::from_le_bytes(frame[..4].try_into().unwrap());
        if frame[3] == JUMP {
            return true;
        }
        frames = rest.get((word & 0x3f_ffff) as usize..).unwrap_or_default();
    }
    false
}

fn was_written(lsn: Lsn, kind: u8, payload: &[u8]) -> bool {
    (1..=RECORDS).contains(&lsn.0) && kind == lsn.0 as u8 % 5 && payload == payload_of(lsn.0)
}

/// What a look finds; nothing where the segment is of a newer format, which this version leaves alone.
fn verify(disk: &SimulatedDisk, segment: &[u8]) -> Option<inspect::Report> {
    let before = disk.files();
    let found = inspect::verify(&disk.handle(), Path::new(DIR));
    if let Err(Error::NewerFormat(newer)) = &found {
        assert!(newer.found > 1 && segment[8] > 1, "{newer}");
        assert!(refuse_newer_segments(disk, Path::new(DIR)).is_err());
        assert!(matches!(Writer::open(options(disk)), Err(Error::NewerFormat(_))));
    }
    assert_eq!(disk.files(), before, "a look changes nothing");
    match found {
        Err(Error::NewerFormat(_)) => None,
        found => Some(found.unwrap()),
    }
}

/// The numbers of all records, how many gaps were reported, and whether anything came that was never written.
fn read_all(reader: &mut Reader) -> (BTreeSet<Lsn>, u64, bool) {
    let (mut read, mut lost, mut foreign) = (BTreeSet::new(), 0, false);
    loop {
        match reader.next().unwrap() {
            Next::Record(record) => {
                foreign |= !was_written(record.lsn, record.kind, record.payload);
                assert!(read.insert(record.lsn), "{} twice", record.lsn);
            }
            Next::Lost { first, last } => {
                assert!(first <= last);
                lost += 1;
            }
            Next::CaughtUp => return (read, lost, foreign),
        }
    }
}

#[test]
fn a_damaged_segment_gives_what_was_written_or_is_reported_and_the_log_goes_on() {
    let _alone = crate::alone();
    let (whole, paths, segments) = log();
    // Which segment, then its bytes.
    let made = (0_u8..).zip(&segments).map(|(at, bytes)| [&[at], bytes.as_slice()].concat());
    let allocated_max = 24 << 20;
    let plain = Target { words: &[b"HUNHELOG"], ..crate::target("journal", made.collect(), allocated_max) };
    let target = Target { mend: &mend, ..plain };
    let outcome = run(&target, |input| {
        let Some((which, bytes)) = input.split_first() else { return false };
        let disk = whole.fork();
        let path = &paths[usize::from(*which) % paths.len()];
        let file = disk.handle().open(path, Open::Empty).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        drop(file);
        // A mutation that sums its frames anew may write what it likes.
        let mut summed = input.to_vec();
        mend(&mut summed);
        let forged = summed == input;
        let Some(report) = verify(&disk, bytes) else { return false };
        let (mut writer, recovery) = Writer::open(options(&disk)).unwrap();
        let mut reader = Reader::open(writer.subscribe(), writer.oldest()).unwrap();
        let (read, lost, foreign) = read_all(&mut reader);
        assert!(forged || !foreign, "a record that nobody wrote");
        let all = (1..=RECORDS).all(|lsn| read.contains(&Lsn(lsn)));
        // A log cut exactly behind a record is a shorter log: whoever knows of more (a checkpoint) says so.
        let shorter = recovery.head < Lsn(RECORDS);
        // A jump gives numbers away, as a restore does; only one that was summed anew can stand here.
        let given_away = forged && has_jump(bytes);
        assert!(
            all || shorter || given_away || lost > 0 || !recovery.findings.is_empty(),
            "records vanish in silence"
        );
        assert!(all || shorter || given_away || !report.sound, "verify calls it sound");
        // Nobody gets to the end of all numbers by counting.
        if forged && recovery.head > Lsn(u64::MAX >> 1) {
            return false;
        }
        let lsn = writer.append(9, &[b"on"]).unwrap();
        assert!(lsn > recovery.head && writer.sync().unwrap() == lsn);
        drop(writer);
        let (again, after) = Writer::open(options(&disk)).unwrap();
        assert_eq!(again.head(), lsn, "{after}");
        all && !foreign
    });
    crate::reached_both_sides(outcome);
}
