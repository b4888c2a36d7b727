//! A record's bytes: a head that accounts need, then the body, which is its owner's alone.
//!
//! ```text
//! arrival ms i64 · samples u32 · boot u32 · device: length u8, id · reason: length u8, text · body
//! ```
//! Big endian.

use super::{super::StoreError, RecordId};
use fjall::Slice;
use hunhe_proto::id::Id;

/// A record to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Which one; it takes the place of the one with the same id.
    pub id: RecordId,
    /// When it came, milliseconds since 1970.
    pub arrival_ms: i64,
    /// Whose it is; absent: of a source that the registry does not know.
    pub device: Option<Id>,
    /// The outbox of its samples.
    pub boot: u32,
    /// Samples that the ledger counts as quarantined because of it.
    pub samples: u32,
    /// Why, from a fixed list.
    pub reason: &'a str,
    /// What its owner reads.
    pub body: &'a [u8],
}

/// What stands before a record's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHead {
    /// When it came, milliseconds since 1970.
    pub arrival_ms: i64,
    /// Whose it is.
    pub device: Option<Id>,
    /// The outbox of its samples.
    pub boot: u32,
    /// Samples that the ledger counts as quarantined because of it.
    pub samples: u32,
    /// Why.
    pub reason: String,
}

/// A kept record. The body is shared with the database's cache, not copied.
#[derive(Debug, Clone)]
pub struct Record {
    /// What stands before the body.
    pub head: RecordHead,
    bytes: Slice,
    body_at: usize,
}

impl Record {
    /// What its owner reads.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at..).unwrap_or_default()
    }

    pub(super) fn read(bytes: Slice) -> Result<Self, StoreError> {
        let (head, body) = read_head(&bytes).ok_or(StoreError::Corrupt { what: "quarantine record" })?;
        let body_at = bytes.len() - body;
        Ok(Self { head, bytes, body_at })
    }
}

impl NewRecord<'_> {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let device = self.device.as_ref().map_or("", Id::as_str);
        let mut out = Vec::with_capacity(32 + device.len() + self.reason.len() + self.body.len());
        out.extend_from_slice(&self.arrival_ms.to_be_bytes());
        out.extend_from_slice(&self.samples.to_be_bytes());
        out.extend_from_slice(&self.boot.to_be_bytes());
        for text in [device, self.reason] {
            // Ids and reasons are far shorter.
            let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
            out.push(length);
            out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
        }
        out.extend_from_slice(self.body);
        out
    }

    pub(super) fn head(&self) -> RecordHead {
        RecordHead {
            arrival_ms: self.arrival_ms,
            device: self.device,
            boot: self.boot,
            samples: self.samples,
            reason: self.reason.to_owned(),
        }
    }
}

/// The head, and how long the body behind it is.
pub(super) fn read_head(bytes: &[u8]) -> Option<(RecordHead, usize)> {
    let (arrival_ms, rest) = bytes.split_first_chunk::<8>()?;
    let (samples, rest) = rest.split_first_chunk::<4>()?;
    let (boot, rest) = rest.split_first_chunk::<4>()?;
    let text = |bytes: &[u8]| core::str::from_utf8(bytes).ok().map(str::to_owned);
    let (&length, rest) = rest.split_first()?;
    let (device, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first()?;
    let (reason, rest) = rest.split_at_checked(length.into())?;
    let device = if device.is_empty() { None } else { Some(Id::from_bytes(device).ok()?) };
    let head = RecordHead {
        arrival_ms: i64::from_be_bytes(*arrival_ms),
        device,
        boot: u32::from_be_bytes(*boot),
        samples: u32::from_be_bytes(*samples),
        reason: text(reason)?,
    };
    Some((head, rest.len()))
}
