//! A lane's state on disk: two files written in turn, so that one is always whole.
//!
//! ```text
//! magic 8 · format version u32 · sequence u64 · length u64 · CRC-32C u32 of the body and then the 28 bytes before · body (postcard)
//! ```
//! The newer valid one counts. Losing it costs a longer replay from the other; losing both costs the records released
//! from the journal, and start-up says so. Invariant: when a checkpoint is valid, the decided log and the alert log up to its
//! positions are durable.
//!
//! The header keeps this layout in every later format, so that a newer one is refused by name and not taken for damage.

use bytes::Buf;
use hunhe_disk::{Appender, Disk, File, NewerFormat, Open};
use hunhe_gateway_core::view::Snapshot;
use hunhe_log::Lsn;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

const MAGIC: &[u8; 8] = b"HUNHECKP";
/// The newest format this program reads, and the one it writes.
pub const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
/// Nobody gets there by counting, and the next must still be greater.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;

/// Where everything stood between two journal records.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint<'a> {
    /// The last journal record handled.
    pub journal: Lsn,
    /// The last decided record written for it.
    pub decided: Lsn,
    /// The last record of the alert log written for it.
    pub alerts: Lsn,
    /// Stands for the rules and classes by which alerts were made: by others, a replay makes other alerts.
    pub rules: u32,
    /// By sink: the source record up to which its confirmations are counted.
    pub confirmed: BTreeMap<String, u64>,
    /// The lane.
    pub snapshot: Snapshot<'a>,
}

/// A checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk says no.
    #[error("checkpoint {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Written by a newer version.
    #[error(transparent)]
    NewerFormat(#[from] NewerFormat),
    /// The state does not serialise: a defect.
    #[error("checkpoint cannot be encoded")]
    Encode(#[from] postcard::Error),
}

/// The two files.
#[derive(Debug)]
pub struct Checkpoints {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    sequence: u64,
    /// Holds the newest whole checkpoint: the next goes into the other.
    newest: Option<usize>,
}

/// What start-up found.
#[derive(Debug)]
pub struct Found {
    /// The newest whole checkpoint.
    pub newest: Option<Checkpoint<'static>>,
    /// Files that were there and not whole.
    pub damaged: Vec<PathBuf>,
}

impl Checkpoints {
    /// Opens the directory, or creates it, and reads both files.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] and [`CheckpointError::NewerFormat`].
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(Self, Found), CheckpointError> {
        disk.make_dir(dir).map_err(|source| CheckpointError::Io { path: dir.into(), source })?;
        let mut found = Found { newest: None, damaged: Vec::new() };
        let (mut sequence, mut newest) = (0, None);
        for (slot, name) in NAMES.iter().enumerate() {
            let path = dir.join(name);
            let bytes = match disk.read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    // A sector that cannot be read any more: the other file may be whole.
                    tracing::warn!(path = %path.display(), %error, "a checkpoint cannot be read");
                    found.damaged.push(path);
                    continue;
                }
            };
            match parse(&bytes, &path)? {
                Some((number, checkpoint)) if number > sequence => {
                    (sequence, newest) = (number, Some(slot));
                    found.newest = Some(checkpoint);
                }
                Some(_) => {}
                None => found.damaged.push(path),
            }
        }
        if let Some(slot) = newest {
            confirm(&**disk, dir, &dir.join(NAMES[slot]))?;
        }
        Ok((Self { disk: Arc::clone(disk), dir: dir.into(), sequence, newest }, found))
    }

    /// Writes the state on the lane's thread, without a copy of it in memory; [`Unfinished::finish`] makes it valid on
    /// another. The newest whole checkpoint is never touched, however often the other fails.
    ///
    /// # Errors
    /// [`CheckpointError`]; a file cut short is no checkpoint.
    pub fn begin(&mut self, checkpoint: &Checkpoint<'_>) -> Result<Unfinished, CheckpointError> {
        self.sequence += 1;
        let slot = self.newest.map_or(0, |newest| 1 - newest);
        let path = self.dir.join(NAMES[slot]);
        let failed = |source| CheckpointError::Io { path: path.clone(), source };
        let file = self.disk.open(&path, Open::Empty).map_err(failed)?;
        file.write_all_at(&[0; HEADER_BYTES], 0).map_err(failed)?;
        let file = BufWriter::with_capacity(1 << 20, Appender::new(file, HEADER_BYTES as u64));
        let mut body = Summing { file, length: 0, crc32c: 0, error: None };
        if let Err(error) = postcard::to_io(checkpoint, &mut body) {
            return Err(body.error.take().map_or(CheckpointError::Encode(error), failed));
        }
        let Summing { file, length, crc32c, .. } = body;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?.into_file();
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        header[20..28].copy_from_slice(&length.to_le_bytes());
        let crc32c = crc32c::crc32c_append(crc32c, &header[..28]);
        header[28..].copy_from_slice(&crc32c.to_le_bytes());
        Ok(Unfinished {
            disk: Arc::clone(&self.disk),
            file,
            path,
            header,
            written: Written { journal: checkpoint.journal, slot },
        })
    }

    /// A checkpoint has become valid.
    pub fn finished(&mut self, written: &Written) {
        self.newest = Some(written.slot);
    }
}

/// The files.
pub(crate) const NAMES: [&str; 2] = ["checkpoint-0", "checkpoint-1"];

/// Writes a valid checkpoint's header again and syncs it. It may be in the page cache alone, after a sync that failed or a kill
/// before it; the next checkpoint takes the other file, so this one must be there after a power cut. Its body was synced
/// before it had a header.
fn confirm(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<(), CheckpointError> {
    let anew = || {
        let file = disk.open(path, Open::Write)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        disk.sync_dir(dir)
    };
    anew().map_err(|source| CheckpointError::Io { path: path.into(), source })
}

/// A checkpoint whose header is still to be written.
#[derive(Debug)]
pub struct Unfinished {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    path: PathBuf,
    header: [u8; HEADER_BYTES],
    written: Written,
}

/// A valid checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// The last journal record it covers.
    pub journal: Lsn,
    slot: usize,
}

impl Unfinished {
    /// Makes it valid: the body is durable before the header names it, and the header when this returns.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn finish(self) -> Result<Written, CheckpointError> {
        let finish = || {
            self.file.sync_data()?;
            self.file.write_all_at(&self.header, 0)?;
            self.file.sync_data()?;
            self.path.parent().map_or(Ok(()), |dir| self.disk.sync_dir(dir))
        };
        finish().map_err(|source| CheckpointError::Io { path: self.path.clone(), source })?;
        Ok(self.written)
    }
}

/// Counts and sums what goes through.
struct Summing {
    file: BufWriter<Appender>,
    length: u64,
    crc32c: u32,
    /// The file's error, which the serialiser hides.
    error: Option<io::Error>,
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(bytes) {
            let kind = error.kind();
            self.error = Some(error);
            return Err(kind.into());
        }
        self.length += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Option<(u64, Checkpoint<'static>)>, CheckpointError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let Some(header) = Header::of(header) else { return Ok(None) };
    if header.length != body.len() as u64 || header.crc32c != header.sum(crc32c::crc32c(body)) {
        return Ok(None);
    }
    let checkpoint = match header.version {
        VERSION => postcard::from_bytes(body).ok(),
        0 => None,
        _ => return Err(NewerFormat { path: path.into(), found: header.version, known: VERSION }.into()),
    };
    Ok(checkpoint.map(|checkpoint| (header.sequence, checkpoint)))
}

struct Header {
    version: u32,
    sequence: u64,
    length: u64,
    crc32c: u32,
    summed: [u8; 28],
}

impl Header {
    /// `None`: not finished, or damaged.
    fn of(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut fields = &bytes[MAGIC.len()..];
        let version = fields.try_get_u32_le().ok()?;
        let (sequence, length) = (fields.try_get_u64_le().ok()?, fields.try_get_u64_le().ok()?);
        let crc32c = fields.try_get_u32_le().ok()?;
        let mut summed = [0; 28];
        summed.copy_from_slice(&bytes[..28]);
        let valid = &bytes[..8] == MAGIC && sequence <= SEQUENCE_MAX;
        valid.then_some(Self { version, sequence, length, crc32c, summed })
    }

    /// The checksum of a file whose body has that one.
    fn sum(&self, of_body: u32) -> u32 {
        crc32c::crc32c_append(of_body, &self.summed)
    }
}

/// A copy that was made of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Its file's name.
    pub name: &'static str,
    /// The last journal record it covers.
    pub journal: Lsn,
}

/// Copies the newest whole checkpoint, beside a lane that may be writing the next; the copy's bytes are checked, so that a file
/// that is written over meanwhile is none. `None`: there is no whole one at this moment.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn copy_newest(disk: &dyn Disk, dir: &Path, to: &Path) -> Result<Option<Copied>, CheckpointError> {
    let mut slots = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        let failed = |source| CheckpointError::Io { path: path.clone(), source };
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read.map_err(failed)?,
        }
        let header = Header::of(&bytes).filter(|header| header.version <= VERSION);
        slots.extend(header.map(|header| (header.sequence, name, file, bytes, header)));
    }
    slots.sort_by_key(|(sequence, ..)| std::cmp::Reverse(*sequence));
    for (_, name, file, bytes, header) in slots {
        let path = to.join(name);
        let failed = |source| CheckpointError::Io { path: path.clone(), source };
        if let Some(journal) = copy(disk, &*file, &bytes, &header, &path).map_err(failed)? {
            return Ok(Some(Copied { name, journal }));
        }
        disk.remove(&path).map_err(failed)?;
    }
    Ok(None)
}

/// Returns the journal record that the copy covers, if it is whole.
fn copy(
    disk: &dyn Disk,
    from: &dyn File,
    bytes: &[u8; HEADER_BYTES],
    header: &Header,
    path: &Path,
) -> io::Result<Option<Lsn>> {
    const CHUNK: usize = 1 << 20;
    let to = disk.open(path, Open::Empty)?;
    to.write_all_at(bytes, 0)?;
    let (mut sum, mut at, mut journal) = (0, HEADER_BYTES as u64, None);
    let end = at.saturating_add(header.length);
    let mut chunk = vec![0; CHUNK];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        match from.read_exact_at(&mut chunk[..wanted], at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if journal.is_none() {
            // The body begins with it.
            journal = postcard::take_from_bytes::<Lsn>(&chunk[..wanted]).ok().map(|(journal, _)| journal);
        }
        sum = crc32c::crc32c_append(sum, &chunk[..wanted]);
        to.write_all_at(&chunk[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(journal.filter(|_| header.sum(sum) == header.crc32c))
}

/// Refuses a folder that holds a checkpoint of a newer format, and changes nothing.
///
/// # Errors
/// [`CheckpointError::Io`] and [`CheckpointError::NewerFormat`].
pub fn refuse_newer(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    for name in NAMES {
        let path = dir.join(name);
        let newer = (|| {
            let file = disk.open(&path, Open::Read)?;
            let mut header = [0; 12];
            file.read_exact_at(&mut header, 0)?;
            let version = (&header[MAGIC.len()..]).try_get_u32_le().unwrap_or(0);
            // Only what may be newer is read whole: a city's checkpoint is large.
            if version > VERSION { disk.read(&path).map(Some) } else { Ok(None) }
        })();
        match newer {
            Ok(Some(bytes)) => drop(parse(&bytes, &path)?),
            Ok(None) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
            Err(source) => return Err(CheckpointError::Io { path, source }),
        }
    }
    Ok(())
}
