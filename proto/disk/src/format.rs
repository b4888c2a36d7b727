//! Versions of formats on disk: a file of a newer Hunhe is refused by name, and nothing is changed.
//!
//! Every format on disk has a version, 1 until the first release. A version counts only under a checksum that covers it, so
//! that corruption is never taken for a newer Hunhe. Each format checks its own version; this module has only the errors.

use crate::Disk;
use std::{
    io,
    path::{Path, PathBuf},
};

/// What to do about a newer Hunhe's folder.
pub const NEWER_FORMAT_REMEDY: &str = "start that version again, or restore a backup made before it";

/// A file that a newer Hunhe wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerFormat {
    /// The file.
    pub path: PathBuf,
    /// Its version.
    pub found: u32,
    /// The newest version that this program reads.
    pub known: u32,
}

impl std::fmt::Display for NewerFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, found, known } = self;
        write!(
            f,
            "{} has format {found}, and this version reads up to {known}: it was written by a newer Hunhe, and nothing \
             was changed; {NEWER_FORMAT_REMEDY}",
            path.display()
        )
    }
}

impl std::error::Error for NewerFormat {}

/// Why a file's format cannot be accepted.
#[derive(Debug)]
pub enum FormatError {
    /// A newer Hunhe wrote it.
    NewerFormat(NewerFormat),
    /// It cannot be read.
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NewerFormat(newer) => newer.fmt(f),
            Self::Io { path, .. } => write!(f, "cannot look at {}: check its permissions", path.display()),
        }
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NewerFormat(_) => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

impl From<NewerFormat> for FormatError {
    fn from(newer: NewerFormat) -> Self {
        Self::NewerFormat(newer)
    }
}

/// A whole file, if it is there.
///
/// # Errors
/// [`FormatError::Io`].
pub fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, FormatError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FormatError::Io { path: path.into(), source }),
    }
}
