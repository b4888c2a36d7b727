//! A newer Hunhe's data folder is refused by name, before anything in it is touched.
//!
//! Promises:
//! - every format on disk has a version, 1 until the first release; a newer one is refused with the file, both versions and
//!   the remedy;
//! - a refused start leaves the folder as it was, byte for byte: no trim, no rename, no replay;
//! - a version is believed only under a checksum that covers it (in `pseudonyms.csv`: spelt out), so that rot is never taken
//!   for a newer Hunhe, which only a human could resolve, nor a newer Hunhe for rot.
//!
//! [`refuse_newer`] looks at all of a folder at once, since a start changes the first piece before it opens the last. Each
//! piece refuses by itself as well. [`check`] says the same as faults of the configuration, before the registry is read.
//!
//! | piece | its version |
//! |---|---|
//! | `journal`, `decided`, `alerts` | in each segment's header; it counts for the frames and for what the records of all three logs hold |
//! | `checkpoint-0`, `checkpoint-1` | in the header |
//! | `*.cursor` | the last byte of each slot's magic |
//! | `store` | in its file `format`, readable without fjall, whose opening already writes; and in the keyspace `meta` |
//! | `pseudonyms.csv` | in a first line of its own, which format 1 does not have: see [`registry::Pseudonyms`] |

use crate::{
    decide::checkpoint::{self, CheckpointError},
    setup::{
        config::{Fault, Faults, Place},
        registry,
    },
};
use hunhe_disk::{Disk, FormatError, NEWER_FORMAT_REMEDY, NewerFormat};
use hunhe_log::{
    cursor::{self, CursorError},
    refuse_newer_segments,
};
use std::{io, path::Path};

/// Why a data folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file has a newer format, or cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A log cannot be looked at, or is a newer Hunhe's.
    #[error(transparent)]
    Log(#[from] hunhe_log::Error),
    /// Checkpoints cannot be looked at, or are a newer Hunhe's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A cursor cannot be looked at, or is a newer Hunhe's.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

impl FolderError {
    /// The newer Hunhe's file, where it is one.
    #[must_use]
    pub fn newer(&self) -> Option<&NewerFormat> {
        match self {
            Self::Format(FormatError::NewerFormat(newer))
            | Self::Log(hunhe_log::Error::NewerFormat(newer))
            | Self::Checkpoint(CheckpointError::NewerFormat(newer))
            | Self::Cursor(CursorError::NewerFormat(newer)) => Some(newer),
            _ => None,
        }
    }
}

/// Looks at all that lies in a data folder, and changes nothing. A folder that is missing, in whole or in part, is fine.
///
/// # Errors
/// [`FolderError`]: the first piece of a newer Hunhe, or what the disk refuses.
pub fn refuse_newer(disk: &dyn Disk, data_dir: &Path) -> Result<(), FolderError> {
    let names = match disk.names(data_dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(FormatError::Io { path: data_dir.into(), source }.into()),
    };
    for log in ["journal", "decided", "alerts"] {
        refuse_newer_segments(disk, &data_dir.join(log))?;
    }
    checkpoint::refuse_newer(disk, &data_dir.join("checkpoint"))?;
    for cursor in names.iter().filter(|name| name.ends_with(cursor::SUFFIX)) {
        cursor::refuse_newer(disk, &data_dir.join(cursor))?;
    }
    hunhe_store::refuse_newer(disk, &data_dir.join("store"))?;
    registry::Pseudonyms::refuse_newer(disk, data_dir)?;
    Ok(())
}

/// As [`refuse_newer`], in the words of a faulty configuration.
///
/// # Errors
/// Why the folder cannot be used.
pub fn check(data_dir: &Path) -> Result<(), Faults> {
    refuse_newer(&*hunhe_disk::real(), data_dir)
        .map_err(|refused| Faults::of(vec![fault_of(refused, data_dir)]))
}

fn fault_of(refused: FolderError, data_dir: &Path) -> Fault {
    let place = |path: &Path| Place::whole(&path.display().to_string());
    match refused.newer() {
        Some(NewerFormat { path, found, known }) => {
            let what = format!(
                "has format {found}, and this version reads up to {known}: it was written by a newer Hunhe"
            );
            Fault::new(place(path), "", what, NEWER_FORMAT_REMEDY)
        }
        None => {
            let what = format!("{:#}", anyhow::Error::from(refused));
            Fault::new(place(data_dir), "data_dir", what, "let the gateway's user read and write it")
        }
    }
}
