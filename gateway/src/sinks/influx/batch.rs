//! Lines on their way to the database, and where each came from.

use axum::body::Bytes;
use hunhe_gateway_core::{
    event::{Confirmed, Rollups},
    registry::DeviceIx,
};
use hunhe_proto::id::Id;

use super::DeadLetter;
use crate::decided::{SampleSets, Samples, Window, Windows};
use crate::{
    decided::Confirmation,
    retry::RefusedLine,
    sinks::influx::line_protocol::{Encoder, Unwritable},
};
use hunhe_log::Lsn;
use hunhe_log::cursor::Cursor;

/// A decided record of the batch.
#[derive(Debug, Clone, Copy)]
struct Origin {
    source_lsn: u64,
    device: Id,
    index: Option<DeviceIx>,
    boot: u32,
    /// Samples announced; a window has none.
    announced: u32,
    is_window: bool,
    /// Samples written as lines.
    written: u32,
    /// Samples of which no line could be made.
    unwritable: u32,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    end: usize,
    origin: u32,
    /// Which sample; 0 of a window.
    seq: u64,
}

/// A batch being filled.
#[derive(Debug, Default)]
pub(super) struct Batch {
    body: Vec<u8>,
    lines: Vec<Line>,
    origins: Vec<Origin>,
    unwritable: Vec<DeadLetter>,
    /// The last record read; its decisions and all before are here or need no line.
    through: Cursor,
}

impl Batch {
    pub(super) fn through(&self) -> Cursor {
        self.through
    }

    pub(super) fn rows(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Has no record been passed since the last batch?
    pub(super) fn is_untouched(&self) -> bool {
        self.through == Cursor::default()
    }

    /// Notes that a record was read, whatever came of it.
    pub(super) fn pass(&mut self, source_lsn: u64, lsn: Lsn) {
        self.through = Cursor { source_lsn: self.through.source_lsn.max(source_lsn), decided_lsn: lsn };
    }

    pub(super) fn add_samples(&mut self, encoder: &mut Encoder, sets: &SampleSets<'_>) {
        sets.iter().for_each(|samples| self.add_set(encoder, &samples));
    }

    fn add_set(&mut self, encoder: &mut Encoder, samples: &Samples<'_>) {
        let origin = number(self.origins.len());
        let first = self.lines.len();
        let (lines, seqs) = (&mut self.lines, samples.seqs());
        let written = encoder.samples(&mut self.body, samples, |row, end| {
            lines.push(Line { end, origin, seq: seqs.get(row).copied().unwrap_or(0) });
        });
        let count = number(self.lines.len() - first);
        let unwritable = number(samples.rows) - count;
        self.origins.push(Origin {
            source_lsn: samples.source_lsn,
            device: samples.device,
            index: encoder.index_of(samples),
            boot: samples.boot,
            announced: samples.announced,
            is_window: false,
            written: count,
            unwritable,
        });
        if unwritable > 0 {
            let written_seqs: Vec<u64> = self.lines[first..].iter().map(|line| line.seq).collect();
            let why = written.err().unwrap_or(Unwritable::NoValue);
            self.bury_rows(samples, &written_seqs, why);
        }
    }

    pub(super) fn add_windows(&mut self, encoder: &Encoder, rollups: Rollups, windows: &Windows<'_>) {
        let written = windows.iter().filter(|window| rollups.has(window.length_ms));
        written.for_each(|window| self.add_window(encoder, &window));
    }

    fn add_window(&mut self, encoder: &Encoder, window: &Window<'_>) {
        let origin = number(self.origins.len());
        self.origins.push(Origin {
            source_lsn: window.source_lsn,
            device: window.device,
            index: None,
            boot: 0,
            announced: 0,
            is_window: true,
            written: 0,
            unwritable: 0,
        });
        match encoder.window(&mut self.body, window) {
            Ok(()) => self.lines.push(Line { end: self.body.len(), origin, seq: 0 }),
            Err(why) => self.unwritable.push(DeadLetter {
                source_lsn: window.source_lsn,
                device: window.device,
                boot: 0,
                seq: 0,
                samples: 0,
                line: String::new(),
                words: why.to_string(),
            }),
        }
    }

    /// Dead letters for the samples not among `written`, one for each run of sequence numbers. Both ascend.
    fn bury_rows(&mut self, samples: &Samples<'_>, written: &[u64], why: Unwritable) {
        let mut written = written.iter().peekable();
        let lost: Vec<u64> =
            samples.seqs().iter().copied().filter(|seq| written.next_if_eq(&seq).is_none()).collect();
        for run in lost.chunk_by(|seq, next| seq + 1 == *next) {
            self.unwritable.push(DeadLetter {
                source_lsn: samples.source_lsn,
                device: samples.device,
                boot: samples.boot,
                seq: run[0],
                samples: number(run.len()),
                line: String::new(),
                words: why.to_string(),
            });
        }
    }

    pub(super) fn seal(self) -> Sealed {
        let Self { body, lines, origins, unwritable, through } = self;
        Sealed { body: body.into(), lines, origins, unwritable, through }
    }
}

/// A full batch. Its bytes never change again: a repeat is the same.
#[derive(Debug)]
pub(super) struct Sealed {
    body: Bytes,
    lines: Vec<Line>,
    origins: Vec<Origin>,
    unwritable: Vec<DeadLetter>,
    pub(super) through: Cursor,
}

impl Sealed {
    pub(super) fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The bytes of some of the lines, shared.
    pub(super) fn body(&self, lines: &std::ops::Range<usize>) -> Bytes {
        self.body.slice(self.start_of(lines.start)..self.start_of(lines.end))
    }

    fn start_of(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|before| self.lines.get(before)).map_or(0, |line| line.end)
    }

    /// What was not written, and what became of the samples.
    pub(super) fn settle(&mut self, refused: &[RefusedLine]) -> (Vec<DeadLetter>, Vec<Confirmation>) {
        let mut letters = std::mem::take(&mut self.unwritable);
        let mut refused_of = vec![0_u32; self.origins.len()];
        for refusal in refused {
            let Some(line) = self.lines.get(refusal.line) else { continue };
            let at = line.origin as usize;
            let Some(origin) = self.origins.get(at) else { continue };
            refused_of[at] += 1;
            let text = self.body(&(refusal.line..refusal.line + 1));
            letters.push(DeadLetter {
                source_lsn: origin.source_lsn,
                device: origin.device,
                boot: origin.boot,
                seq: line.seq,
                samples: u32::from(!origin.is_window),
                line: String::from_utf8_lossy(&text).trim_end().to_owned(),
                words: refusal.words.clone(),
            });
        }
        let samples = self.origins.iter().zip(&refused_of).filter(|(origin, _)| !origin.is_window);
        let confirmations = samples.map(|(origin, &refused)| Confirmation {
            source_lsn: origin.source_lsn,
            device: origin.device,
            index: origin.index,
            boot: origin.boot,
            confirmed: Confirmed {
                handled: origin.announced.into(),
                stored: (origin.written - refused).into(),
                quarantined: (origin.unwritable + refused).into(),
                displaced: 0,
            },
        });
        let confirmations = confirmations.collect();
        letters.sort_by_key(|letter| letter.source_lsn);
        (letters, confirmations)
    }

    /// An empty batch in the same memory, where nobody else holds the bytes any more.
    pub(super) fn recycle(self) -> Batch {
        let Self { body, mut lines, mut origins, mut unwritable, .. } = self;
        let mut body = if body.is_unique() { Vec::from(body) } else { Vec::new() };
        body.clear();
        lines.clear();
        origins.clear();
        unwritable.clear();
        Batch { body, lines, origins, unwritable, through: Cursor::default() }
    }
}

/// Lines and rows of a batch are bounded far below 2^32.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
