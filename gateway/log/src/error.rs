//! What can go wrong, each with culprit and remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Lsn;
use hunhe_disk::NewerFormat;

/// A log that cannot be opened, or cannot go on. Cloneable, because a failed writer repeats its first error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused; after this a writer stays failed.
    #[error("cannot {action} {path}: check the disk behind it, then restart")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another writer holds the directory.
    #[error("log {dir} is being written by another process: stop that one first")]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A newer program wrote this log.
    #[error(transparent)]
    NewerFormat(#[from] NewerFormat),
    /// Sizes that cannot work.
    #[error(
        "log {dir}: segments of {segment_bytes} bytes under a limit of {limit_bytes} cannot work: \
         choose segments of 4 KiB to 1 GiB and a limit of at least two segments"
    )]
    Options {
        /// The log's directory.
        dir: PathBuf,
        /// As configured.
        segment_bytes: u64,
        /// As configured.
        limit_bytes: u64,
    },
    /// [`super::Writer::truncate_after`] or [`super::Writer::skip_to`] outside the log.
    #[error("record {wanted} is outside the log, which holds {oldest} to {head}: take a position inside it")]
    Outside {
        /// The position asked for.
        wanted: Lsn,
        /// The oldest record still there.
        oldest: Lsn,
        /// The newest record.
        head: Lsn,
    },
    /// The log cannot be cut back under a reader.
    #[error("log {dir} has readers: cut it back before subscribing to it")]
    HasReaders {
        /// The log's directory.
        dir: PathBuf,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// Why a record was not appended. Only [`AppendError::Log`] is final.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// No room under the limit until a segment is released.
    #[error(
        "log is full at its limit of {limit_bytes} bytes: release what every reader has passed, or raise the limit"
    )]
    Full {
        /// The configured limit.
        limit_bytes: u64,
    },
    /// This record can never be appended.
    #[error("record of {bytes} bytes exceeds the bound of {bound_bytes}: refuse it at the entrance")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// The largest payload this log takes.
        bound_bytes: usize,
    },
    /// The log failed and stays failed.
    #[error(transparent)]
    Log(#[from] Error),
}

/// Why a reader cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The record is gone because the writer was told that nobody needs it.
    #[error(
        "record {wanted} was released, the oldest is {oldest}: start there and account for what lies between"
    )]
    Released {
        /// The record asked for.
        wanted: Lsn,
        /// The oldest one still there.
        oldest: Lsn,
    },
    /// The record is further ahead than the log is: the position comes from another log, or this log lost its end.
    #[error("record {wanted} is ahead of the log, which ends at {head}: the position is not of this log")]
    Ahead {
        /// The record asked for.
        wanted: Lsn,
        /// The newest visible record.
        head: Lsn,
    },
    /// The operating system refused.
    #[error(transparent)]
    Log(#[from] Error),
}
