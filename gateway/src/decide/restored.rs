//! The note that a restore leaves in the data folder: numbers up to these may have been used after the backup was taken.
//!
//! It stays there for good, since a start repeats the jump until a checkpoint stands behind it, and costs nothing later. A
//! backup does not hold it: a restore writes its own.

use hunhe_disk::Disk;
use hunhe_log::Lsn;
use serde::{Deserialize, Serialize};
use std::{io, path::Path};

/// Its file.
pub const FILE: &str = "restored.json";
/// So many numbers are given away: more than a gateway uses in a year and a half at 20,000 messages a second, and 4,095 restores
/// in a row stay below the end.
pub const JUMP: u64 = 1 << 40;
/// No record of the journal has this number.
pub const END: u64 = 1 << 52;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When the backup was taken, milliseconds since 1970.
    pub backup_ms: i64,
    /// When it was restored.
    pub restored_ms: i64,
    /// Of the journal.
    pub journal: Lsn,
    /// Of the alert log.
    pub alerts: Lsn,
}

impl Note {
    /// The note in a data folder, if there is one. One that cannot be read is reported and passed: numbers may then be used twice
    /// where no start came before.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn read(disk: &dyn Disk, data_dir: &Path) -> io::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&bytes) {
            Ok(note) => Ok(Some(note)),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the note of a restore cannot be read");
                Ok(None)
            }
        }
    }
}
