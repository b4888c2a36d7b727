//! Reads one segment record by record, believes nothing without its checksum, and finds the next whole record behind damage.
//! The reader, the recovery and the inspection all read through this.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use hunhe_disk::File;

use super::Lsn;
use super::record::{self, FRAME_BYTES, FRAME_LEN, Frame, Stamp};

/// One read from the file; a longer record makes the buffer grow to it, once.
const CHUNK_BYTES: usize = 256 << 10;

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Record {
        lsn: Lsn,
        kind: u8,
        synced: bool,
        payload: Range<usize>,
    },
    /// Records `first..=last` cannot be read; the next step goes on behind them.
    Lost {
        first: Lsn,
        last: Lsn,
        bytes: u64,
    },
    /// The segment was closed in order.
    Seal,
    /// No whole record up to the limit; `trailing` bytes are not part of one.
    End {
        trailing: u64,
    },
}

#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn File>,
    stamp: Stamp,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset in the file of `buffer[start]`.
    at: u64,
    limit: u64,
    next: Lsn,
}

impl Scanner {
    /// Reads from offset `at`, where record `next` is expected, up to offset `limit`.
    pub(super) fn new(file: Arc<dyn File>, stamp: Stamp, at: u64, limit: u64, next: Lsn) -> Self {
        let wanted = usize::try_from(limit.saturating_sub(at)).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        Self { file, stamp, buffer: vec![0; wanted.max(FRAME_BYTES)], start: 0, end: 0, at, limit, next }
    }

    /// The number of the next record.
    pub(super) fn expected(&self) -> Lsn {
        self.next
    }

    /// Offset behind the last step.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// Offset up to which this scan may read.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Lets the scan go on to a later offset.
    pub(super) fn extend(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
        if self.limit - self.at >= CHUNK_BYTES as u64 && self.buffer.len() < CHUNK_BYTES {
            self.buffer.resize(CHUNK_BYTES, 0);
        }
    }

    /// Gives up on what lies before the limit, where record `next` will stand.
    pub(super) fn skip_to_limit(&mut self, next: Lsn) {
        self.reset(self.limit);
        self.next = next;
    }

    pub(super) fn payload(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.at >= self.limit {
            return Ok(Step::End { trailing: 0 });
        }
        let Some((frame, lsn)) = self.whole_frame(|ahead| ahead == 0)? else { return self.resync() };
        if frame.is_seal() {
            self.consume(FRAME_BYTES);
            return Ok(Step::Seal);
        }
        let len = frame.payload_len().unwrap_or(0);
        let payload = self.start + FRAME_BYTES..self.start + FRAME_BYTES + len;
        self.next = record::last_taken(lsn, frame.kind(), &self.buffer[payload.clone()]).next();
        self.consume(FRAME_BYTES + len);
        Ok(Step::Record { lsn, kind: frame.kind(), synced: frame.is_synced(), payload })
    }

    /// The frame here, if it and its payload are a record (or a seal) whose distance from the expected one is `plausible`.
    fn whole_frame(&mut self, plausible: impl Fn(u32) -> bool) -> io::Result<Option<(Frame, Lsn)>> {
        if !self.fill(FRAME_BYTES)? {
            return Ok(None);
        }
        let mut bytes = [0; FRAME_BYTES];
        bytes.copy_from_slice(&self.buffer[self.start..self.start + FRAME_BYTES]);
        let frame = Frame::parse(bytes);
        let ahead = frame.ahead_of(self.next);
        let Some(len) = frame.payload_len().filter(|_| plausible(ahead)) else { return Ok(None) };
        if !self.fill(FRAME_BYTES + len)? {
            return Ok(None);
        }
        let lsn = Lsn(self.next.0.saturating_add(u64::from(ahead)));
        let payload = &self.buffer[self.start + FRAME_BYTES..self.start + FRAME_BYTES + len];
        Ok(frame.proves(self.stamp, lsn, payload).then_some((frame, lsn)))
    }

    /// Looks byte by byte for the next whole record. A device cannot plant one in a payload without knowing the log's id.
    fn resync(&mut self) -> io::Result<Step> {
        let (from, first) = (self.at, self.next);
        while self.limit - self.at >= FRAME_LEN {
            // The bytes skipped held at most this many records; a tight bound keeps the checksums tried few.
            let most_lost = (self.at - from) / FRAME_LEN;
            if let Some((_, lsn)) = self.whole_frame(|ahead| ahead != 0 && u64::from(ahead) <= most_lost)? {
                self.next = lsn;
                return Ok(Step::Lost { first, last: lsn.previous(), bytes: self.at - from });
            }
            self.consume(1);
        }
        self.reset(from);
        Ok(Step::End { trailing: self.limit - from })
    }

    fn consume(&mut self, bytes: usize) {
        let bytes_held = bytes.min(self.end - self.start);
        self.start += bytes_held;
        self.at += bytes as u64;
    }

    fn reset(&mut self, at: u64) {
        (self.start, self.end, self.at) = (0, 0, at);
    }

    /// Makes `need` bytes available at `start`; false if the limit or the file ends before.
    fn fill(&mut self, need: usize) -> io::Result<bool> {
        if self.end - self.start >= need {
            return Ok(true);
        }
        if self.limit.saturating_sub(self.at) < need as u64 {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < need {
            self.buffer.resize(need, 0);
        }
        while self.end < need {
            let from = self.at + self.end as u64;
            let room =
                usize::try_from(self.limit - from).unwrap_or(usize::MAX).min(self.buffer.len() - self.end);
            match self.file.read_at(&mut self.buffer[self.end..self.end + room], from) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
