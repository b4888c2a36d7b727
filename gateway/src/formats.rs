//! What a newer Hunhe wrote is refused by name, before anything in the data folder is touched.
//!
//! Promises:
//! - every format on disk has a version, 1 until the first release; a newer one is refused with the file, both versions and
//!   the remedy;
//! - a refused start leaves the folder as it was, byte for byte: no trim, no rename, no replay;
//! - a version is believed only under a checksum that covers it (in `pseudonyms.csv`: spelt out), so that rot is never taken
//!   for a newer Hunhe, which only a human could resolve, nor a newer Hunhe for rot.
//!
//! [`refuse_newer`] looks at all of a folder at once, since a start changes the first piece before it opens the last. Each
//! piece refuses by itself as well.
//!
//! | piece | its version |
//! |---|---|
//! | `journal`, `decided`, `alerts` | in each segment's header; it counts for the frames and for what the records of all three logs hold |
//! | `checkpoint-0`, `checkpoint-1` | in the header |
//! | `*.cursor` | the last byte of each slot's magic |
//! | `store` | in its file `format`, readable without fjall, whose opening already writes; and in the keyspace `meta` |
//! | `pseudonyms.csv` | in a first line of its own, which format 1 does not have: see [`enrol::Pseudonyms`] |

use crate::{
    checkpoint::{self, CheckpointError},
    enrol,
    journal::{self, refuse_newer_segments},
    sinks::cursor::{self, CursorError},
    store,
};
use hunhe_disk::Disk;
use std::{
    io,
    path::{Path, PathBuf},
};

/// What to do about a newer Hunhe's folder.
pub(crate) const REMEDY: &str = "start that version again, or restore a backup made before it";

/// A file that a newer Hunhe wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} has format {found}, and this version reads up to {known}: it was written by a newer Hunhe, and nothing was \
     changed; {REMEDY}"
)]
pub struct Newer {
    /// The file.
    pub path: PathBuf,
    /// Its version.
    pub found: u32,
    /// The newest this program reads.
    pub known: u32,
}

/// Why a data folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A newer Hunhe's.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// A log cannot be looked at, or is a newer Hunhe's.
    #[error(transparent)]
    Log(#[from] journal::Error),
    /// Checkpoints cannot be looked at, or are a newer Hunhe's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A cursor cannot be looked at, or is a newer Hunhe's.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The folder cannot be looked at.
    #[error("cannot look at {path}: check its permissions")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FormatError {
    /// The newer Hunhe's file, where it is one.
    #[must_use]
    pub fn newer(&self) -> Option<&Newer> {
        match self {
            Self::Newer(newer)
            | Self::Log(journal::Error::NewerFormat(newer))
            | Self::Checkpoint(CheckpointError::Newer(newer))
            | Self::Cursor(CursorError::Newer(newer)) => Some(newer),
            _ => None,
        }
    }
}

/// Looks at all that lies in a data folder, and changes nothing. A folder that is missing, in whole or in part, is fine.
///
/// # Errors
/// [`FormatError`]: the first piece of a newer Hunhe, or what the disk refuses.
pub fn refuse_newer(disk: &dyn Disk, data_dir: &Path) -> Result<(), FormatError> {
    let names = match disk.names(data_dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(FormatError::Io { path: data_dir.into(), source }),
    };
    for log in ["journal", "decided", "alerts"] {
        refuse_newer_segments(disk, &data_dir.join(log))?;
    }
    checkpoint::refuse_newer(disk, &data_dir.join("checkpoint"))?;
    for cursor in names.iter().filter(|name| name.ends_with(cursor::SUFFIX)) {
        cursor::refuse_newer(disk, &data_dir.join(cursor))?;
    }
    store::refuse_newer(disk, &data_dir.join("store"))?;
    enrol::Pseudonyms::refuse_newer(disk, data_dir)
}

/// A whole file, if it is there.
pub(crate) fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, FormatError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FormatError::Io { path: path.into(), source }),
    }
}
