//! A lane's state on disk: two files written in turn, so that one is always whole.
//!
//! ```text
//! magic 8 · format version u32 · sequence u64 · length u64 · CRC-32C u32 of the body and then the 28 bytes before · body (postcard)
//! ```
//! The newer valid one is taken. Losing it costs a longer replay from the other; losing both costs what was released
//! from the journal, and start-up says so. Invariant: when a checkpoint is valid, the decided log and the alert log up to its
//! positions are durable.
//!
//! The header keeps this layout in every later format, so that a newer one is refused by name and not taken for damage.
//! Former ones are read: format 2 summed the body alone, format 1 had no alerts either.

use crate::{formats::Newer, journal::Lsn};
use hunhe_disk::{Appender, Disk, File, Open};
use hunhe_gateway_core::{former::SnapshotV1, view::Snapshot};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

const MAGIC: &[u8; 8] = b"HUNHECKP";
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 32;
/// Nobody gets there by counting: a format that does not sum its header may say so, and the next must still be greater.
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
    /// By sink: the cause up to which its confirmations are counted.
    pub confirmed: BTreeMap<String, u64>,
    /// The lane.
    pub snapshot: Snapshot<'a>,
}

/// The same in format 1. There was no alert log then: it begins behind this.
#[derive(Debug, Deserialize)]
struct CheckpointV1 {
    journal: Lsn,
    decided: Lsn,
    confirmed: BTreeMap<String, u64>,
    snapshot: SnapshotV1,
}

impl From<CheckpointV1> for Checkpoint<'static> {
    fn from(former: CheckpointV1) -> Self {
        let CheckpointV1 { journal, decided, confirmed, snapshot } = former;
        Self { journal, decided, alerts: Lsn::NONE, rules: 0, confirmed, snapshot: snapshot.into() }
    }
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
    Newer(#[from] Newer),
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
    /// Opens the directory, creating it, and reads what is there.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] and [`CheckpointError::Newer`].
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

const NAMES: [&str; 2] = ["checkpoint-0", "checkpoint-1"];

/// Writes a valid checkpoint's header anew and syncs it. It may be in the page cache alone, after a sync that failed or a kill
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
    /// What the file said: the serialiser only tells that something was said.
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
    let word = |from: usize| header[from..from + 8].try_into().map_or(0, u64::from_le_bytes);
    let half = |from: usize| header[from..from + 4].try_into().map_or(0, u32::from_le_bytes);
    let version = half(8);
    let of_body = crc32c::crc32c(body);
    let sum = if version < 3 { of_body } else { crc32c::crc32c_append(of_body, &header[..28]) };
    if &header[..8] != MAGIC || word(20) != body.len() as u64 || half(28) != sum || word(12) > SEQUENCE_MAX {
        return Ok(None);
    }
    let checkpoint = match version {
        1 => postcard::from_bytes::<CheckpointV1>(body).ok().map(Checkpoint::from),
        2 | VERSION => postcard::from_bytes(body).ok(),
        0 => None,
        _ => return Err(Newer { path: path.into(), found: version, known: VERSION }.into()),
    };
    Ok(checkpoint.map(|checkpoint| (word(12), checkpoint)))
}

/// Refuses a folder that holds a checkpoint of a newer format, and changes nothing.
///
/// # Errors
/// [`CheckpointError::Io`] and [`CheckpointError::Newer`].
pub fn refuse_newer(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    for name in NAMES {
        let path = dir.join(name);
        let newer = (|| {
            let file = disk.open(&path, Open::Read)?;
            let mut header = [0; 12];
            file.read_exact_at(&mut header, 0)?;
            let [.., a, b, c, d] = header;
            // Only what may be newer is read whole: a city's checkpoint is large.
            if u32::from_le_bytes([a, b, c, d]) > VERSION { disk.read(&path).map(Some) } else { Ok(None) }
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
