//! What was found on disk that is not as it was written, as data and in words.

use std::fmt;

use serde::Serialize;

use super::Lsn;

/// Records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The segment in which, or before which, they are missing.
    pub segment: String,
    /// The first lost record.
    pub first: Lsn,
    /// The last lost record.
    pub last: Lsn,
    /// Damaged bytes in their place; 0 where a whole file or its end is missing.
    pub bytes: u64,
    /// Whether they are known to have been durable, hence perhaps acknowledged. Otherwise they may be the remains of a
    /// batch that a power cut interrupted.
    pub durable: bool,
}

/// Why a segment is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AsideReason {
    /// It carries another log's id.
    OtherLog,
    /// The records in it are in another segment.
    Copy,
    /// Neither header nor any record can be read.
    Unreadable,
}

/// One thing that is not as it was written. Files are named without their directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Finding {
    /// Records are lost; what lies before and behind is read.
    Lost(Gap),
    /// The log's end is not a whole record.
    Torn {
        /// The last segment.
        segment: String,
        /// The last whole record before.
        after: Lsn,
        /// Bytes that are trimmed.
        bytes: u64,
    },
    /// A segment's end mark is missing or damaged; lost records, if any, are a finding of their own.
    SealDamaged {
        /// The segment.
        segment: String,
        /// Bytes behind its last record.
        bytes: u64,
    },
    /// The last segment was closed, and the one that followed is not there: a crash before it was created, or it was removed.
    NothingFollows {
        /// The last segment.
        segment: String,
        /// Its last record.
        after: Lsn,
    },
    /// A segment's header is damaged; its records are checked without it.
    HeaderDamaged {
        /// The segment.
        segment: String,
    },
    /// A segment carries the name of another.
    Misnamed {
        /// Its name.
        segment: String,
        /// The record it begins with.
        first: Lsn,
    },
    /// A segment is not used; it is kept under another name until the log has been released beyond it.
    Aside {
        /// Its name.
        segment: String,
        /// Why.
        reason: AsideReason,
    },
}

impl Finding {
    /// Whether records that may have been acknowledged are missing.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Aside { reason: AsideReason::Unreadable, .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(gap) => gap.fmt(f),
            Self::Torn { segment, after, bytes } => {
                write!(
                    f,
                    "{segment}: {bytes} bytes behind record {after} are not a whole record, as after a crash"
                )
            }
            Self::SealDamaged { segment, bytes } => {
                write!(f, "{segment}: its end mark is missing or damaged ({bytes} bytes stand in its place)")
            }
            Self::NothingFollows { segment, after } => write!(
                f,
                "{segment}: was closed after record {after} and no segment follows: a crash before that one was created, \
                 or it was removed"
            ),
            Self::HeaderDamaged { segment } => {
                write!(f, "{segment}: its header is damaged, its records are read without it")
            }
            Self::Misnamed { segment, first } => {
                write!(f, "{segment}: begins with record {first}, so this is not its name")
            }
            Self::Aside { segment, reason } => match reason {
                AsideReason::OtherLog => write!(f, "{segment}: belongs to another log and is not used"),
                AsideReason::Copy => {
                    write!(f, "{segment}: holds records that another segment holds, and is not used")
                }
                AsideReason::Unreadable => {
                    write!(f, "{segment}: neither its header nor any record can be read")
                }
            },
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, first, last, bytes, durable } = self;
        let count = last.0.saturating_sub(first.0).saturating_add(1);
        write!(f, "{segment}: records {first} to {last} ({count}) are lost")?;
        if *bytes > 0 {
            write!(f, " in {bytes} damaged bytes")?;
        }
        f.write_str(if *durable {
            "; they had been made durable"
        } else {
            "; they may never have been made durable"
        })
    }
}

/// What opening a log found and did. The findings have been dealt with: tails trimmed, headers and names mended, unusable
/// segments set aside; lost records stay lost and are reported again by readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The oldest record, or the first to come in an empty log.
    pub oldest: Lsn,
    /// The newest record, durable.
    pub head: Lsn,
    /// Segments in use.
    pub segments: usize,
    /// Everything that was not as written, in the order of the log.
    pub findings: Vec<Finding>,
}

impl Recovery {
    /// Whether records that may have been acknowledged are missing.
    #[must_use]
    pub fn lost_records(&self) -> bool {
        self.findings.iter().any(Finding::is_loss)
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records {} to {} in {} segments", self.oldest, self.head, self.segments)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}
