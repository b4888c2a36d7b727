//! A copy of all that a gateway keeps, taken while it runs, and a data folder made of it again.
//!
//! ```text
//! stage     links and copies below the data folder: one state that a crash could have left
//! give      that state as one stream of checked frames (frame)  ─▶ GET /api/v1/backup ─▶ hunhe-gateway backup
//! contents  the stream's grammar: whoever takes a stream takes it through this
//! restore   a stream checked to its end, then made a data folder  ◀─ hunhe-gateway restore
//! restored  the note that a restore leaves: which numbers were used after the backup
//! ```
//! Promises:
//! - **A backup is a state that a crash could have left**, so a start after a restore is a start after a crash. Logs cover what the
//!   checkpoint, the sinks' cursors and the store stand for: links to segments are taken first and once more last, cursors are
//!   copied before the store is looked at, and where a segment came and went in between all is taken again.
//! - Nothing stops meanwhile, and releases go on: links keep the segments, a snapshot keeps the store's content.
//! - A backup cut short, damaged, or of a newer version is refused by name before anything is written.
//! - A restore cut short leaves no data folder; one that is there is whole.
//! - **What came after the backup stays visible.** A restored gateway knows nothing of it, and nothing hides that: as soon as an
//!   agent reports, what it sampled after the backup and no longer holds is `unexplained`. Numbers of the journal and of the
//!   alert log that may have been used after the backup are not used again.
//!
//! Bounds: one backup at a time; eight frames of 256 KiB wait for a reader; one that takes nothing for [`PATIENCE`] is left.
//! Segments that are released meanwhile take room until the backup ends.
//!
//! Deliberately not in it: the configuration file and secrets, segments set aside as damaged, encryption.

mod contents;
mod frame;
mod give;
pub mod restore;
mod stage;

use hunhe_log::Lsn;
use serde::{Deserialize, Serialize};
use std::{io, path::PathBuf, time::Duration};

pub use contents::{Contents, Item};
pub use frame::VERSION;
pub use give::{Giving, give};
pub use restore::{RestoreError, restore};
pub use stage::{Source, clear};

/// A reader that takes nothing for so long is left.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Records of a log, first to last; the last is one before the first where it is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The oldest.
    pub first: Lsn,
    /// The newest.
    pub last: Lsn,
}

/// Versions of what is in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    /// Checkpoints.
    pub checkpoint: u32,
    /// The three logs.
    pub log: u32,
    /// The embedded store.
    pub store: u32,
}

impl Formats {
    /// What this program reads and writes.
    #[must_use]
    pub fn known() -> Self {
        Self {
            checkpoint: crate::decide::checkpoint::VERSION,
            log: hunhe_log::FORMAT_VERSION.into(),
            store: hunhe_store::FORMAT,
        }
    }

    fn check(self) -> Result<(), BackupError> {
        let known = Self::known();
        for (what, found, known) in [
            ("checkpoint", self.checkpoint, known.checkpoint),
            ("log", self.log, known.log),
            ("store", self.store, known.store),
        ] {
            if found > known {
                return Err(BackupError::Newer { what, found, known });
            }
        }
        Ok(())
    }
}

/// What a backup begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The gateway's version.
    pub version: String,
    /// By its clock, milliseconds since 1970.
    pub created_ms: i64,
    /// Of what is in it.
    pub formats: Formats,
    /// The journal.
    pub journal: Records,
    /// The journal record that the checkpoint stands for; 0 where there was none yet.
    pub checkpoint: Lsn,
    /// The alert log.
    pub alerts: Records,
    /// How long it will be, about.
    pub about_bytes: u64,
}

/// What a backup ends with: all that it holds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Bytes in files.
    pub file_bytes: u64,
    /// Entries of the store.
    pub entries: u64,
    /// Devices that the store has heard of.
    pub devices: u64,
    /// Samples in the store. More may lie in the journal, on their way there.
    pub samples: u64,
    /// Records in quarantine.
    pub quarantined: u64,
}

/// A backup cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No backup at all.
    #[error("this is no backup of Hunhe: name a file that `hunhe-gateway backup` wrote")]
    Foreign,
    /// Written by a later program.
    #[error(
        "written by a newer Hunhe: {what} format {found}, this one reads up to {known}; restore with the newer one"
    )]
    Newer {
        /// Of what.
        what: &'static str,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Not as it was written.
    #[error("the backup is damaged at byte {at}: use another one")]
    Damaged {
        /// Where the damaged frame begins.
        at: u64,
    },
    /// It ends too early.
    #[error("the backup ends at byte {at} before it is complete: it was cut short; use another one")]
    Truncated {
        /// Its length, about.
        at: u64,
    },
    /// The gateway gave up.
    #[error("the gateway could not finish this backup: {words}")]
    Failed {
        /// Why.
        words: String,
    },
    /// Whole, and not what this program writes.
    #[error("the backup holds what no backup holds ({what}): use one that `hunhe-gateway backup` wrote")]
    Malformed {
        /// What.
        what: String,
    },
    /// Segments and checkpoints came and went too fast.
    #[error(
        "the logs moved on faster than they could be linked: raise journal.segment_bytes or checkpoint.every_s"
    )]
    TooFast,
    /// Both files were being written, or are damaged.
    #[error("no whole checkpoint could be read, and the journal does not reach back to its beginning")]
    NoCheckpoint,
    /// The disk says no.
    #[error("cannot {action} {path}")]
    Io {
        /// What.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody takes it any more.
    #[error("whoever asked for the backup takes no more of it")]
    Left(#[source] io::Error),
    /// A log.
    #[error(transparent)]
    Log(#[from] hunhe_log::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] hunhe_store::StoreError),
}

impl BackupError {
    fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
