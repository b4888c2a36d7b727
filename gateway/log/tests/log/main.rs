//! The promises of `hunhe_log`, from outside.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise fails loudly here"
)]

mod commit;
mod damage;
mod log;
mod power;
mod sweep;

use std::path::Path;

use hunhe_log::{Lsn, Next, Options, ReadError, Reader, Recovery, Tail, Writer};

/// A folder in memory where there is one: the sweeps sync tens of thousands of times.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn options(dir: &Path, segment_bytes: u64) -> Options {
    Options { disk: hunhe_disk::real(), dir: dir.to_owned(), segment_bytes, limit_bytes: 64 << 20 }
}

fn open(dir: &Path) -> (Writer, Recovery) {
    Writer::open(options(dir, SEGMENT_BYTES)).unwrap()
}

const SEGMENT_BYTES: u64 = 6_000;

/// Every record's content follows from its number, so that a record under a wrong number shows. Lengths from 0 to 299.
fn payload_of(lsn: u64) -> Vec<u8> {
    let mut state = lsn.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let len = usize::try_from(state >> 40).unwrap() % 300 * usize::from(!lsn.is_multiple_of(7));
    let eight = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(eight).take(len).collect()
}

fn kind_of(lsn: u64) -> u8 {
    lsn.to_le_bytes()[0] % 5
}

/// Appends records up to number `through`, in two parts each, synced every 5.
fn write_through(writer: &mut Writer, through: u64) {
    while writer.head().0 < through {
        let lsn = writer.head().0 + 1;
        let payload = payload_of(lsn);
        let (a, b) = payload.split_at(payload.len() / 3);
        assert_eq!(writer.append(kind_of(lsn), &[a, b]).unwrap(), Lsn(lsn));
        if lsn.is_multiple_of(5) {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
}

/// What a reader got: numbers of whole, right records in order, and the ranges it reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    records: Vec<u64>,
    lost: Vec<(u64, u64)>,
    /// Set if the log no longer begins with the record asked for.
    oldest: Option<u64>,
}

fn read_from(tail: Tail, from: u64) -> Got {
    let mut got = Got::default();
    let mut reader = match Reader::open(tail.clone(), Lsn(from)) {
        Err(ReadError::Released { oldest, .. }) => {
            got.oldest = Some(oldest.0);
            Reader::open(tail, oldest).unwrap()
        }
        other => other.unwrap(),
    };
    loop {
        match reader.next().unwrap() {
            Next::Record(record) => {
                let lsn = record.lsn.0;
                assert!(got.records.last().is_none_or(|last| *last < lsn), "{lsn} read out of order");
                assert_eq!(
                    (record.kind, record.payload),
                    (kind_of(lsn), payload_of(lsn).as_slice()),
                    "record {lsn}"
                );
                got.records.push(lsn);
            }
            Next::Lost { first, last } => got.lost.push((first.0, last.0)),
            Next::CaughtUp => return got,
        }
    }
}

/// The segment files in order, name and content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "seg"))
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}
