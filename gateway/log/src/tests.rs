//! What needs the inside of the log: its exact bytes, and files that fail.

use std::io::ErrorKind;
use std::path::Path;

use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};

use super::record::Stamp;
use super::segment::{Header, encode_header, parse_header};
use super::{AppendError, Error, Lsn, Next, Options, Reader, Writer};

/// CRC-32C by its definition, one bit at a time.
fn crc_by_definition(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 },
        )
    })
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc_by_definition(&bytes).to_le_bytes());
    bytes
}

#[test]
fn format_1_is_exactly_the_documented_bytes() {
    let mut header = b"HUNHELOG\x01\0\0\0".to_vec();
    header.extend(0x0123_4567_89AB_CDEF_u64.to_le_bytes());
    header.extend(7_u64.to_le_bytes());
    assert_eq!(encode_header(0x0123_4567_89AB_CDEF, Lsn(7)).to_vec(), with_crc(header));

    let lsn = Lsn(0x0000_0002_0000_0009);
    let mut checked = 0x0123_4567_89AB_CDEF_u64.to_le_bytes().to_vec();
    checked.extend(lsn.0.to_le_bytes());
    checked.extend([5, 0, 0x80, 42]);
    checked.extend(b"hello");
    let mut record = vec![5, 0, 0x80, 42, 9, 0, 0, 0];
    record.extend(crc_by_definition(&checked).to_le_bytes());
    record.extend(b"hello");
    let mut encoded = Vec::new();
    Stamp::of(0x0123_4567_89AB_CDEF).encode(&mut encoded, lsn, 42, true, &[b"he", b"", b"llo"]);
    assert_eq!(encoded, record);
}

#[test]
fn a_newer_header_is_told_from_a_damaged_one() {
    let mut newer = encode_header(1, Lsn(1))[..28].to_vec();
    newer[8] = 2;
    assert_eq!(parse_header(&with_crc(newer)), Header::Newer(2));
    let mut damaged = encode_header(1, Lsn(1));
    damaged[8] = 2;
    assert_eq!(parse_header(&damaged), Header::Damaged);
    assert_eq!(parse_header(&damaged[..20]), Header::Damaged);
}

fn options(disk: &SimulatedDisk, segment_bytes: u64) -> Options {
    Options { disk: disk.handle(), dir: Path::new("/log").to_owned(), segment_bytes, limit_bytes: 1 << 30 }
}

fn open(disk: &SimulatedDisk) -> Writer {
    Writer::open(options(disk, 4096)).unwrap().0
}

fn records_on_disk(disk: &SimulatedDisk) -> u64 {
    let writer = open(disk);
    let mut reader = Reader::open(writer.subscribe(), Lsn::FIRST).unwrap();
    let mut count = 0;
    while let Next::Record(_) = reader.next().unwrap() {
        count += 1;
    }
    count
}

/// The next such call fails, all later ones are carried out.
fn fail_once(disk: &SimulatedDisk, action: Action, kind: ErrorKind) {
    let mut failed = false;
    disk.set_plan(move |call| {
        if failed || call.action != action {
            return Fate::Done;
        }
        failed = true;
        Fate::Fails(kind)
    });
}

#[test]
fn after_a_failed_sync_nothing_is_ever_called_durable_again() {
    let disk = SimulatedDisk::new();
    let mut writer = open(&disk);
    writer.append(1, &[b"durable"]).unwrap();
    assert_eq!(writer.sync().unwrap(), Lsn(1));
    writer.append(1, &[b"swallowed"]).unwrap();
    // The next sync of the file would succeed, without the data.
    fail_once(&disk, Action::Sync, ErrorKind::Other);
    let first = writer.sync().unwrap_err().to_string();
    assert_eq!(writer.sync().unwrap_err().to_string(), first);
    assert_eq!(writer.flush().unwrap_err().to_string(), first);
    assert_eq!(writer.append(1, &[b"more"]).unwrap_err().to_string(), first);
    assert_eq!(writer.release_through(Lsn(1)).unwrap_err().to_string(), first);
    assert_eq!(writer.truncate_after(Lsn(1)).unwrap_err().to_string(), first);
    assert_eq!(writer.skip_to(Lsn(9)).unwrap_err().to_string(), first);
    assert_eq!(writer.failure().unwrap().to_string(), first);
    assert_eq!((writer.durable(), writer.subscribe().head()), (Lsn(1), Lsn(1)));
    drop(writer);
    disk.power_loss(7);
    assert!((1..=2).contains(&records_on_disk(&disk)));
}

#[test]
fn after_a_failed_write_the_log_goes_on_only_when_opened_anew() {
    let disk = SimulatedDisk::new();
    let mut writer = open(&disk);
    writer.append(1, &[b"durable"]).unwrap();
    writer.sync().unwrap();
    writer.append(1, &[b"no room"]).unwrap();
    fail_once(&disk, Action::Write, ErrorKind::StorageFull);
    let error = writer.flush().unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
    assert!(matches!(writer.append(1, &[b"more"]), Err(AppendError::Log(Error::Io { .. }))));
    drop(writer);
    assert_eq!(records_on_disk(&disk), 1);
}

#[test]
fn a_file_that_refuses_writes_is_an_error_at_the_automatic_write_out_too() {
    let disk = SimulatedDisk::new();
    let mut writer = Writer::open(options(&disk, 64 << 20)).unwrap().0;
    disk.set_plan(|call| match call.action {
        Action::Write => Fate::Fails(ErrorKind::PermissionDenied),
        _ => Fate::Done,
    });
    let payload = vec![7; 100 << 10];
    let failed_after = (0..20).find(|_| writer.append(1, &[&payload]).is_err());
    assert!(failed_after.is_some(), "2 MiB fit into a buffer of 1 MiB");
    assert!(writer.sync().is_err());
}
