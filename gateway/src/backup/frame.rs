//! A backup's bytes: a header, and frames that cannot be cut, changed, left out, doubled or swapped unnoticed. Pure; no I/O.
//!
//! ```text
//! header   "HUNHEBAK" · format version u32 · CRC-32C of the 12 bytes before u32
//! frame    kind u8 · zero, 3 bytes · payload length u32 · CRC-32C u32 · payload
//! ```
//! Little endian. A frame's checksum covers its number (u64, from 0), its first 8 bytes and its payload. The header keeps this
//! layout in every later version, so that a newer format is refused by its number and not as damage.

use super::BackupError;
use bytes::Buf;

const MAGIC: [u8; 8] = *b"HUNHEBAK";
/// The newest format this program reads, and the one it writes.
pub const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = 12;
/// What a frame is filled to.
pub(super) const PAYLOAD_BYTES: usize = 256 << 10;
/// The longest payload: the largest value of the store, and room.
const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the backup is, JSON. The first.
    Begin = 1,
    /// A file's length and name; its bytes follow.
    File = 2,
    /// Bytes of a file.
    Bytes = 3,
    /// The name of a part of the store; its entries follow.
    Space = 4,
    /// Entries of the store.
    Entries = 5,
    /// What has been given in all, JSON. The last.
    End = 6,
    /// Why there is no more, in words. The last.
    Failed = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Begin, Self::File, Self::Bytes, Self::Space, Self::Entries, Self::End, Self::Failed];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The header.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    header_of(VERSION)
}

fn header_of(version: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Frame `number`.
pub(super) fn encode(number: u64, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + payload.len());
    bytes.extend_from_slice(&[kind as u8, 0, 0, 0]);
    // The caller keeps to the bound; a longer one would be refused when it is read.
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    let sum = checksum(number, &bytes, payload);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn checksum(number: u64, head: &[u8], payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, head), payload)
}

/// Kind, payload length and checksum, if all of a frame's head is there.
fn read_head(mut bytes: &[u8]) -> Option<(u8, u32, u32)> {
    let kind = bytes.try_get_u32_le().ok()?.to_le_bytes()[0];
    Some((kind, bytes.try_get_u32_le().ok()?, bytes.try_get_u32_le().ok()?))
}

/// Takes bytes as they come, gives frames. Holds one frame at most and what was pushed last.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    /// Bytes of the backup before `start`.
    at: u64,
    header_read: bool,
    number: u64,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Where it stands.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Are bytes left that are no frame yet?
    pub(super) fn has_rest(&self) -> bool {
        self.start < self.buffer.len() || !self.header_read
    }

    /// The next frame, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<(Kind, &[u8])>, BackupError> {
        if !self.header_read && !self.read_header()? {
            return Ok(None);
        }
        let damaged = BackupError::Damaged { at: self.at };
        let Some((kind, length, expected)) = read_head(&self.buffer[self.start..]) else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > PAYLOAD_BYTES_MAX {
            return Err(damaged);
        }
        let (from, end) = (self.start + FRAME_BYTES, self.start + FRAME_BYTES + length);
        let Some(payload) = self.buffer.get(from..end) else { return Ok(None) };
        if checksum(self.number, &self.buffer[self.start..self.start + 8], payload) != expected {
            return Err(damaged);
        }
        let kind = Kind::of(kind).ok_or(damaged)?;
        self.number += 1;
        self.at += (end - self.start) as u64;
        self.start = end;
        Ok(Some((kind, &self.buffer[from..end])))
    }

    fn read_header(&mut self) -> Result<bool, BackupError> {
        let known = self.buffer.len().min(MAGIC.len());
        if self.buffer[..known] != MAGIC[..known] {
            return Err(BackupError::Foreign);
        }
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
        let found = (&header[8..]).try_get_u32_le().unwrap_or(0);
        if *header != header_of(found) {
            return Err(BackupError::Damaged { at: 0 });
        }
        if found > VERSION {
            return Err(BackupError::Newer { what: "backup", found, known: VERSION });
        }
        self.header_read = true;
        (self.start, self.at) = (HEADER_BYTES, HEADER_BYTES as u64);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_by_its_number_and_a_damaged_number_is_not_one() {
        let mut decoder = Decoder::default();
        decoder.push(&header_of(VERSION + 1));
        let words = decoder.next().unwrap_err().to_string();
        assert!(words.contains("written by a newer Hunhe"), "{words}");
        let mut damaged = header();
        damaged[8] ^= 2;
        let mut decoder = Decoder::default();
        decoder.push(&damaged);
        assert!(matches!(decoder.next(), Err(BackupError::Damaged { at: 0 })));
        let mut decoder = Decoder::default();
        decoder.push(b"PK");
        assert!(matches!(decoder.next(), Err(BackupError::Foreign)));
    }

    #[test]
    fn a_frame_left_out_doubled_or_swapped_is_damage() {
        let frames: Vec<Vec<u8>> = (0..3).map(|number| encode(number, Kind::Bytes, b"the same")).collect();
        for order in [[0, 2, 2], [0, 0, 1], [1, 0, 2], [1, 2, 0]] {
            let mut decoder = Decoder::default();
            decoder.push(&header());
            order.iter().for_each(|&frame| decoder.push(&frames[frame]));
            let outcome = (0..3).try_for_each(|_| decoder.next().map(drop));
            assert!(matches!(outcome, Err(BackupError::Damaged { .. })), "{order:?}");
        }
    }
}
