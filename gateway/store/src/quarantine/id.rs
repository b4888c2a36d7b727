//! What a record of the quarantine is about, and its identity: as a key on disk, and as text for people.
//!
//! The three kinds have keys of their own, so that none of them can take another's place:
//!
//! | kind | text | key |
//! |---|---|---|
//! | refused message | `m-SOURCE` | 1, source record |
//! | conflict | `c-SOURCE-BOOT-SEQ` | 2, source record, the loser's boot and sequence number |
//! | dead letter | `d-SOURCE-HASH` | 3, source record, a hash of sink, device and line |
//!
//! The source record is the number of the journal record behind it.

use super::super::StoreError;
use std::{fmt, str::FromStr};

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A message of which something was refused.
    Message,
    /// A sample that lost its place to another at the same device and time.
    Conflict,
    /// A line that a database refused.
    DeadLetter,
}

/// Which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordId {
    /// A refused message.
    Message {
        /// The journal record that brought it.
        source_lsn: u64,
    },
    /// A sample that lost its place to another.
    Conflict {
        /// The journal record that brought the later of the two.
        source_lsn: u64,
        /// The loser's outbox.
        boot: u32,
        /// The loser's sequence number.
        seq: u64,
    },
    /// A line that a database refused.
    DeadLetter {
        /// The journal record behind the line.
        source_lsn: u64,
        /// Of sink, device and line.
        hash: u64,
    },
}

/// A text is no record's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record id is m-CAUSE, c-CAUSE-BOOT-SEQ or d-CAUSE-HASH, as a list shows it")]
pub struct RecordIdError;

const MESSAGE: u8 = 1;
const CONFLICT: u8 = 2;
const DEAD_LETTER: u8 = 3;

impl RecordId {
    /// What the record is about.
    #[must_use]
    pub fn kind(self) -> RecordKind {
        match self {
            Self::Message { .. } => RecordKind::Message,
            Self::Conflict { .. } => RecordKind::Conflict,
            Self::DeadLetter { .. } => RecordKind::DeadLetter,
        }
    }

    /// The journal record behind it.
    #[must_use]
    pub fn source_lsn(self) -> u64 {
        match self {
            Self::Message { source_lsn }
            | Self::Conflict { source_lsn, .. }
            | Self::DeadLetter { source_lsn, .. } => source_lsn,
        }
    }

    pub(in super::super) fn key(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(21);
        let mut put = |bytes: &[u8]| key.extend_from_slice(bytes);
        match self {
            Self::Message { source_lsn } => {
                put(&[MESSAGE]);
                put(&source_lsn.to_be_bytes());
            }
            Self::Conflict { source_lsn, boot, seq } => {
                put(&[CONFLICT]);
                put(&source_lsn.to_be_bytes());
                put(&boot.to_be_bytes());
                put(&seq.to_be_bytes());
            }
            Self::DeadLetter { source_lsn, hash } => {
                put(&[DEAD_LETTER]);
                put(&source_lsn.to_be_bytes());
                put(&hash.to_be_bytes());
            }
        }
        key
    }

    pub(in super::super) fn from_key(key: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (&tag, rest) = key.split_first()?;
            let (source_lsn, rest) = rest.split_first_chunk::<8>()?;
            let source_lsn = u64::from_be_bytes(*source_lsn);
            match (tag, rest.len()) {
                (MESSAGE, 0) => Some(Self::Message { source_lsn }),
                (CONFLICT, 12) => {
                    let (boot, seq) = rest.split_first_chunk::<4>()?;
                    let seq = u64::from_be_bytes(seq.try_into().ok()?);
                    Some(Self::Conflict { source_lsn, boot: u32::from_be_bytes(*boot), seq })
                }
                (DEAD_LETTER, 8) => {
                    Some(Self::DeadLetter { source_lsn, hash: u64::from_be_bytes(rest.try_into().ok()?) })
                }
                _ => None,
            }
        };
        read().ok_or(StoreError::Corrupt { what: "quarantine key" })
    }

    /// The ids that a source record's conflicts have.
    pub(in super::super) fn conflicts_of(source_lsn: u64) -> std::ops::RangeInclusive<Self> {
        Self::Conflict { source_lsn, boot: 0, seq: 0 }..=Self::Conflict {
            source_lsn,
            boot: u32::MAX,
            seq: u64::MAX,
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { source_lsn } => write!(f, "m-{source_lsn}"),
            Self::Conflict { source_lsn, boot, seq } => write!(f, "c-{source_lsn}-{boot:08x}-{seq}"),
            Self::DeadLetter { source_lsn, hash } => write!(f, "d-{source_lsn}-{hash:016x}"),
        }
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        let mut parts = text.split('-');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(RecordIdError);
        let decimal = |text: &str| text.parse::<u64>().map_err(|_| RecordIdError);
        let kind = part()?;
        let source_lsn = decimal(part()?)?;
        let id = match kind {
            "m" => Self::Message { source_lsn },
            "c" => {
                let boot = u32::from_str_radix(part()?, 16).map_err(|_| RecordIdError)?;
                Self::Conflict { source_lsn, boot, seq: decimal(part()?)? }
            }
            "d" => {
                let hash = u64::from_str_radix(part()?, 16).map_err(|_| RecordIdError)?;
                Self::DeadLetter { source_lsn, hash }
            }
            _ => return Err(RecordIdError),
        };
        // One text an id: no sign, no leading zeros, nothing behind it.
        if id.to_string() == text { Ok(id) } else { Err(RecordIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_as_text_and_as_a_key_and_no_other_text_names_it() {
        let ids = [
            (RecordId::Message { source_lsn: 7 }, "m-7"),
            (RecordId::Conflict { source_lsn: 7, boot: 0x2a, seq: 9 }, "c-7-0000002a-9"),
            (
                RecordId::DeadLetter { source_lsn: u64::MAX, hash: 1 },
                "d-18446744073709551615-0000000000000001",
            ),
        ];
        for (id, text) in ids {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(RecordId::from_key(&id.key()).unwrap(), id);
        }
        for text in ["", "m", "m-", "m-x", "m-07", "m-+7", "m-7-", "x-7", "7", "c-7-2a-9", "d-7-1", "m-7\n"] {
            assert_eq!(text.parse::<RecordId>(), Err(RecordIdError), "{text:?}");
        }
        for key in [&[][..], &[1], &[4, 0, 0, 0, 0, 0, 0, 0, 1], &[1; 10]] {
            assert!(RecordId::from_key(key).is_err(), "{key:?}");
        }
    }
}
