//! A lane's state on disk: two files written in turn, so that one is always whole.
//!
//! ```text
//! magic 8 · format version u32 · sequence u64 · length u64 · CRC-32C of the body u32 · body (postcard)
//! ```
//! The newer valid one is taken. Losing it costs a longer replay from the other; losing both costs what was released
//! from the journal, and start-up says so. A format newer than ours is refused by name, the one before ours is read:
//! format 1 had no alerts. Invariant: when a checkpoint is
//! valid, the decided log and the alert log up to its positions are durable.

use crate::journal::Lsn;
use hunhe_gateway_core::{former::SnapshotV1, view::Snapshot};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"HUNHECKP";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 32;

/// Where everything stood between two journal records.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint<'a> {
    /// The last journal record handled.
    pub journal: Lsn,
    /// The last decided record written for it.
    pub decided: Lsn,
    /// The last record of the alert log written for it.
    pub alerts: Lsn,
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
        Self { journal, decided, alerts: Lsn::NONE, confirmed, snapshot: snapshot.into() }
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
    #[error(
        "checkpoint {path} has format {found}, this version reads up to {VERSION}: run the newer version"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The state does not serialise: a defect.
    #[error("checkpoint cannot be encoded")]
    Encode(#[from] postcard::Error),
}

/// The two files.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    sequence: u64,
    last_bytes: usize,
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
    pub fn open(dir: &Path) -> Result<(Self, Found), CheckpointError> {
        fs::create_dir_all(dir).map_err(|source| CheckpointError::Io { path: dir.into(), source })?;
        let mut found = Found { newest: None, damaged: Vec::new() };
        let mut sequence = 0;
        for name in NAMES {
            let path = dir.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(CheckpointError::Io { path, source }),
            };
            match parse(&bytes, &path)? {
                Some((number, checkpoint)) if number > sequence => {
                    sequence = number;
                    found.newest = Some(checkpoint);
                }
                Some(_) => {}
                None => found.damaged.push(path),
            }
        }
        Ok((Self { dir: dir.into(), sequence, last_bytes: 0 }, found))
    }

    /// The bytes of the next checkpoint: taken on the lane's thread, written on another.
    ///
    /// # Errors
    /// [`CheckpointError::Encode`].
    pub fn encode(&mut self, checkpoint: &Checkpoint<'_>) -> Result<Encoded, CheckpointError> {
        // The next is about as long as the last: growing by doubling would take twice the memory for a moment.
        let mut bytes = Vec::with_capacity(self.last_bytes + self.last_bytes / 8 + HEADER_BYTES);
        bytes.resize(HEADER_BYTES, 0);
        bytes = postcard::to_extend(checkpoint, bytes)?;
        self.last_bytes = bytes.len();
        self.sequence += 1;
        let body = &bytes[HEADER_BYTES..];
        let (length, crc) = (body.len() as u64, crc32c::crc32c(body));
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[20..28].copy_from_slice(&length.to_le_bytes());
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        let name = if self.sequence.is_multiple_of(2) { NAMES[0] } else { NAMES[1] };
        Ok(Encoded { path: self.dir.join(name), bytes, journal: checkpoint.journal })
    }
}

const NAMES: [&str; 2] = ["checkpoint-0", "checkpoint-1"];

/// A checkpoint ready to be written.
#[derive(Debug)]
pub struct Encoded {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The last journal record it covers.
    pub journal: Lsn,
}

impl Encoded {
    /// Writes and syncs it.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; the other file is untouched.
    pub fn write(&self) -> Result<(), CheckpointError> {
        let write = || {
            let mut file = File::create(&self.path)?;
            file.write_all(&self.bytes)?;
            file.sync_all()?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|source| CheckpointError::Io { path: self.path.clone(), source })
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Option<(u64, Checkpoint<'static>)>, CheckpointError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let word = |from: usize| header[from..from + 8].try_into().map_or(0, u64::from_le_bytes);
    let half = |from: usize| header[from..from + 4].try_into().map_or(0, u32::from_le_bytes);
    if &header[..8] != MAGIC {
        return Ok(None);
    }
    if half(8) > VERSION {
        return Err(CheckpointError::Newer { path: path.into(), found: half(8) });
    }
    if word(20) != body.len() as u64 || half(28) != crc32c::crc32c(body) {
        return Ok(None);
    }
    let checkpoint = match half(8) {
        1 => postcard::from_bytes::<CheckpointV1>(body).ok().map(Checkpoint::from),
        VERSION => postcard::from_bytes(body).ok(),
        _ => None,
    };
    Ok(checkpoint.map(|checkpoint| (word(12), checkpoint)))
}
