//! The frame around a record: how it is written, and how a frame differs from damage. Pure; no I/O.

use super::Lsn;

/// Bytes before each payload.
pub(super) const FRAME_BYTES: usize = 12;
/// The same, for offsets in a file.
pub(super) const FRAME_LEN: u64 = 12;
/// The largest payload of a record, 1 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// The log's own kind: a jump. Its payload is the last of the numbers that are given away on purpose.
pub const JUMP: u8 = u8::MAX;

const LEN_MASK: u32 = (1 << 22) - 1;
const SEAL: u32 = 1 << 22;
const SYNCED: u32 = 1 << 23;

/// The checksum's start for one log: the CRC of its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(u32);

impl Stamp {
    pub(super) fn of(log_id: u64) -> Self {
        Self(crc32c::crc32c(&log_id.to_le_bytes()))
    }

    fn start(self, lsn: Lsn, word: u32) -> u32 {
        let mut head = [0; 12];
        head[..8].copy_from_slice(&lsn.0.to_le_bytes());
        head[8..].copy_from_slice(&word.to_le_bytes());
        crc32c::crc32c_append(self.0, &head)
    }

    /// Appends a record to `buffer`. The caller has checked the payload against [`MAX_PAYLOAD_BYTES`].
    pub(super) fn encode(self, buffer: &mut Vec<u8>, lsn: Lsn, kind: u8, synced: bool, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(len <= MAX_PAYLOAD_BYTES, "checked by the caller");
        let flags = if synced { SYNCED } else { 0 };
        let word = u32::try_from(len).unwrap_or(LEN_MASK) & LEN_MASK | flags | u32::from(kind) << 24;
        let mut crc = self.start(lsn, word);
        let frame = buffer.len();
        buffer.extend_from_slice(&word.to_le_bytes());
        buffer.extend_from_slice(&low_half(lsn).to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        for part in parts {
            crc = crc32c::crc32c_append(crc, part);
            buffer.extend_from_slice(part);
        }
        buffer[frame + 8..frame + 12].copy_from_slice(&crc.to_le_bytes());
    }

    /// The seal of a segment, `next` being the first record of the one that follows.
    pub(super) fn encode_seal(self, next: Lsn) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..4].copy_from_slice(&SEAL.to_le_bytes());
        bytes[4..8].copy_from_slice(&low_half(next).to_le_bytes());
        bytes[8..].copy_from_slice(&self.start(next, SEAL).to_le_bytes());
        bytes
    }
}

/// A frame as read, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    word: u32,
    lsn_low: u32,
    crc: u32,
}

impl Frame {
    pub(super) fn parse(bytes: [u8; FRAME_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            word: u32::from_le_bytes([a, b, c, d]),
            lsn_low: u32::from_le_bytes([e, f, g, h]),
            crc: u32::from_le_bytes([i, j, k, l]),
        }
    }

    /// Payload length, if a record can be that long.
    pub(super) fn payload_len(self) -> Option<usize> {
        let len = usize::try_from(self.word & LEN_MASK).ok()?;
        (len <= MAX_PAYLOAD_BYTES).then_some(len)
    }

    pub(super) fn kind(self) -> u8 {
        self.word.to_le_bytes()[3]
    }

    pub(super) fn is_seal(self) -> bool {
        self.word & SEAL != 0
    }

    pub(super) fn is_synced(self) -> bool {
        self.word & SYNCED != 0
    }

    /// How far ahead of `expected` this frame claims to be.
    pub(super) fn ahead_of(self, expected: Lsn) -> u32 {
        self.lsn_low.wrapping_sub(low_half(expected))
    }

    /// Whether this frame with this payload is record `lsn` of the log.
    pub(super) fn proves(self, stamp: Stamp, lsn: Lsn, payload: &[u8]) -> bool {
        self.crc == crc32c::crc32c_append(stamp.start(lsn, self.word), payload)
    }
}

/// The last number that is taken when record `lsn` is: its own, but for a jump.
pub(super) fn last_taken(lsn: Lsn, kind: u8, payload: &[u8]) -> Lsn {
    let target = payload.try_into().map_or(lsn, |bytes| Lsn(u64::from_le_bytes(bytes)));
    if kind == JUMP { target.max(lsn) } else { lsn }
}

fn low_half(lsn: Lsn) -> u32 {
    let [a, b, c, d, ..] = lsn.0.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
