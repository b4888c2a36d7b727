//! A segment file: its name, its header, its creation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hunhe_disk::{Disk, File, Open};

use super::Lsn;
use super::error::Error;

/// The newest format this program reads, and the one it writes.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 32;
/// The same, for offsets in a file.
pub(super) const HEADER_LEN: u64 = 32;
/// What a segment's name ends with.
pub(super) const EXTENSION: &str = "seg";
/// What is appended to the name of a segment that was set aside.
pub(super) const ASIDE_EXTENSION: &str = "damaged";

const MAGIC: [u8; 8] = *b"HUNHELOG";

/// A segment's header as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Good { log_id: u64, first: Lsn },
    Newer(u8),
    Damaged,
}

pub(super) fn encode_header(log_id: u64, first: Lsn) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8] = FORMAT_VERSION;
    bytes[12..20].copy_from_slice(&log_id.to_le_bytes());
    bytes[20..28].copy_from_slice(&first.0.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn parse_header(bytes: &[u8]) -> Header {
    let Some((fields, crc)) = bytes.get(..HEADER_BYTES).and_then(|header| header.split_last_chunk::<4>())
    else {
        return Header::Damaged;
    };
    if fields[..8] != MAGIC || crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
        return Header::Damaged;
    }
    if fields[8] > FORMAT_VERSION {
        return Header::Newer(fields[8]);
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&fields[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let (log_id, first) = (number(12), Lsn(number(20)));
    // Zero cannot be a first record: nothing this program wrote says so.
    if first == Lsn::NONE { Header::Damaged } else { Header::Good { log_id, first } }
}

pub(super) fn read_header(file: &dyn File, path: &Path) -> Result<Header, Error> {
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(parse_header(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Header::Damaged),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

pub(super) fn path_of(dir: &Path, first: Lsn) -> PathBuf {
    dir.join(format!("{:020}.{EXTENSION}", first.0))
}

/// The first record according to a segment's name, also of one set aside.
pub(super) fn first_by_name(path: &Path) -> Option<Lsn> {
    let digits = path.file_name()?.to_str()?.get(..20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok().map(Lsn))?
}

/// Creates a segment and makes header and name durable, so that nothing in it can be promised before it exists.
pub(super) fn create(disk: &dyn Disk, dir: &Path, log_id: u64, first: Lsn) -> Result<Arc<dyn File>, Error> {
    let path = path_of(dir, first);
    let file = disk.open(&path, Open::New).map_err(Error::io("create", &path))?;
    file.write_all_at(&encode_header(log_id, first), 0).map_err(Error::io("write", &path))?;
    file.sync_data().map_err(Error::io("sync", &path))?;
    sync_dir(disk, dir)?;
    Ok(file)
}

pub(super) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    disk.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Removes a file that may already be gone, durably: segments must vanish in the order in which they are removed, or a
/// crash would leave a hole that looks like a loss.
pub(super) fn remove(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<(), Error> {
    match disk.remove(path) {
        Ok(()) => sync_dir(disk, dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}
