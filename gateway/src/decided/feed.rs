//! The one reader of the decided log, under every sink: where it begins, what it cannot read, and what is complete.
//!
//! Promises:
//! - A source record (one journal record) may have several decided records. Only a complete source moves a cursor or is
//!   confirmed: otherwise a restart would skip the rest, or count the first twice. The lane makes a source's records visible
//!   all at once, so a source is complete where another follows, or nothing does.
//! - A position that a cursor names is believed only where the record there belongs to the cursor's source or one before;
//!   else reading begins at the oldest record. What the sink knows already it passes by [`Feed::is_known`].
//! - What cannot be read is reported once, with its number, and passed. What cannot be read *now* is an error, and the next
//!   step tries again at the same place.
//!
//! Deliberately absent: waiting for a disk that fails, and cursors' files.

use crate::decided::{self, Decided};
use hunhe_log::{Lsn, Next, ReadError, Reader, Tail, cursor::Cursor};
use std::time::Duration;

/// What comes next.
#[derive(Debug)]
pub enum Step<'a> {
    /// A decided record, and its number.
    Record(Lsn, Decided<'a>),
    /// Nothing more for now. All sources up to [`Feed::complete`] are complete.
    CaughtUp,
    /// Records that are gone. Their samples stay outstanding.
    Lost {
        /// How many.
        records: u64,
        /// Why, for people.
        how: &'static str,
    },
}

const RELEASED: &str = "released before this sink had read them";
const DAMAGED: &str = "damaged on disk";
const UNKNOWN: &str = "of a kind this program does not know";

/// Where a sink is in the decided log.
#[derive(Debug)]
pub struct Feed {
    tail: Tail,
    reader: Reader,
    /// The log is to be opened again, behind `last`.
    is_stale: bool,
    buffers: decided::Buffers,
    /// Sources up to here are known to the sink.
    known: u64,
    current: u64,
    complete: Cursor,
    /// The last record that was given out or is gone.
    last: Lsn,
    /// Records that are gone and not yet reported.
    missing: u64,
}

impl Feed {
    /// Starts at a cursor.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn open(tail: Tail, cursor: Cursor) -> Result<Self, ReadError> {
        let (from, missing) = beginning(&tail, cursor)?;
        let reader = Reader::open(tail.clone(), from)?;
        Ok(Self::at(tail, reader, from, cursor, missing))
    }

    /// Reads once more what stands behind a cursor whose position is known to hold.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn reread(tail: Tail, cursor: Cursor) -> Result<Self, ReadError> {
        let from = cursor.decided_lsn.next().max(tail.oldest());
        let reader = Reader::open(tail.clone(), from)?;
        Ok(Self::at(tail, reader, from, cursor, 0))
    }

    fn at(tail: Tail, reader: Reader, from: Lsn, cursor: Cursor, missing: u64) -> Self {
        let last = from.previous();
        Self {
            tail,
            reader,
            is_stale: false,
            buffers: decided::Buffers::default(),
            known: cursor.source_lsn,
            current: 0,
            complete: Cursor { source_lsn: 0, decided_lsn: last },
            last,
            missing,
        }
    }

    /// Reads no more of samples and windows than their heads, for a sink that wants neither.
    #[must_use]
    pub fn heads_only(mut self) -> Self {
        self.buffers = decided::Buffers::of_heads();
        self
    }

    /// The last source whose records have all been given out, and the last of its records; source 0 before the first.
    #[must_use]
    pub fn complete(&self) -> Cursor {
        self.complete
    }

    /// Does the cursor stand behind that source already?
    #[must_use]
    pub fn is_known(&self, source: u64) -> bool {
        source <= self.known
    }

    /// The source that the cursor stands behind.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }

    /// The last record that was given out or is gone.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// The last decided record there is.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.tail.head()
    }

    /// How many decided records are ahead.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.tail.head().0.saturating_sub(self.last.0)
    }

    /// Sleeps until there is more, at most so long; answers whether there is.
    pub fn wait(&self, at_most: Duration) -> bool {
        self.tail.wait(self.last, at_most) > self.last
    }

    /// Will nothing more be written?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.tail.is_closed()
    }

    /// The next record.
    ///
    /// # Errors
    /// Where the log cannot be read now.
    pub fn step(&mut self) -> Result<Step<'_>, ReadError> {
        if let Some(records) = std::num::NonZero::new(std::mem::take(&mut self.missing)) {
            return Ok(Step::Lost { records: records.get(), how: RELEASED });
        }
        if self.is_stale {
            self.reader = match Reader::open(self.tail.clone(), self.last.next()) {
                Ok(reader) => reader,
                Err(ReadError::Released { oldest, .. }) => return Ok(released(&mut self.last, oldest)),
                Err(error) => return Err(error),
            };
            self.is_stale = false;
        }
        match self.reader.next() {
            Err(ReadError::Released { oldest, .. }) => {
                self.is_stale = true;
                Ok(released(&mut self.last, oldest))
            }
            Err(error) => {
                self.is_stale = true;
                Err(error)
            }
            Ok(Next::CaughtUp) => {
                self.complete =
                    Cursor { source_lsn: self.current.max(self.complete.source_lsn), decided_lsn: self.last };
                Ok(Step::CaughtUp)
            }
            Ok(Next::Lost { first, last }) => {
                self.last = last;
                Ok(Step::Lost { records: last.0.saturating_sub(first.0) + 1, how: DAMAGED })
            }
            Ok(Next::Record(record)) => {
                let lsn = record.lsn;
                let Ok(decided) = decided::read(record.kind, record.payload, &mut self.buffers) else {
                    self.last = lsn;
                    return Ok(Step::Lost { records: 1, how: UNKNOWN });
                };
                let source = decided.source_lsn();
                if source != self.current {
                    let complete = self.current.max(self.complete.source_lsn);
                    self.complete = Cursor { source_lsn: complete, decided_lsn: self.last };
                    self.current = source;
                }
                self.last = lsn;
                Ok(Step::Record(lsn, decided))
            }
        }
    }
}

/// Passes the records before the oldest one.
fn released(last: &mut Lsn, oldest: Lsn) -> Step<'static> {
    let records = oldest.0.saturating_sub(last.next().0);
    *last = oldest.previous();
    Step::Lost { records, how: RELEASED }
}

/// Where to begin, and how many records should have been there before and are not.
fn beginning(tail: &Tail, cursor: Cursor) -> Result<(Lsn, u64), ReadError> {
    if cursor.decided_lsn > Lsn::NONE && position_holds(tail, cursor)? {
        return Ok((cursor.decided_lsn, 0));
    }
    let oldest = tail.oldest();
    let missing = if cursor.decided_lsn == Lsn::NONE {
        0
    } else {
        oldest.0.saturating_sub(cursor.decided_lsn.next().0)
    };
    Ok((oldest, missing))
}

fn position_holds(tail: &Tail, cursor: Cursor) -> Result<bool, ReadError> {
    let mut reader = match Reader::open(tail.clone(), cursor.decided_lsn) {
        Ok(reader) => reader,
        Err(ReadError::Released { .. } | ReadError::Ahead { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Next::Record(record) = reader.next()? else { return Ok(false) };
    let mut buffers = decided::Buffers::default();
    let decided = decided::read(record.kind, record.payload, &mut buffers);
    Ok(decided.is_ok_and(|decided| decided.source_lsn() <= cursor.source_lsn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decided::{Encoder, Message};
    use hunhe_disk::{
        Open,
        simulated::{Action, Fate, SimulatedDisk},
    };
    use hunhe_gateway_core::{
        event::{Decisions, Reason, Refusal},
        registry::Registry,
    };
    use hunhe_log::{Options, Writer};
    use std::path::Path;

    /// A log of refusals, one a source record.
    fn refusals(disk: &SimulatedDisk, count: u64) -> Writer {
        let options = Options {
            disk: disk.handle(),
            dir: Path::new("/decided").into(),
            segment_bytes: 4 << 10,
            limit_bytes: 1 << 30,
        };
        let (mut log, _) = Writer::open(options).unwrap();
        let registry = Registry::new(Vec::new());
        let mut encoder = Encoder::new(hunhe_gateway_core::event::Rollups::None);
        let refusal = Refusal { device: None, boot: 0, reason: Reason::UnknownDevice };
        for source_lsn in 1..=count {
            let message = Message { source_lsn, arrival_ms: 5, topic: b"t", payload: b"p", redrive_of: None };
            let decisions = Decisions { refusal: Some(refusal), ..Decisions::default() };
            encoder.encode(&registry, message, &decisions);
            encoder.append(&mut log).unwrap();
        }
        log.flush().unwrap();
        log
    }

    #[test]
    fn records_released_while_the_disk_failed_are_lost_once_and_reading_goes_on_behind_them() {
        let disk = SimulatedDisk::new();
        let mut log = refusals(&disk, 300);
        let mut feed = Feed::open(log.subscribe(), Cursor::default()).unwrap();
        let Step::Record(..) = feed.step().unwrap() else { panic!("the first record") };
        disk.set_plan(|call| {
            let fails = call.action == Action::Open(Open::Read);
            if fails { Fate::Fails(std::io::ErrorKind::Other) } else { Fate::Done }
        });
        while feed.step().is_ok() {}
        let last = feed.last();
        disk.clear_plan();
        log.release_through(Lsn(200)).unwrap();
        let oldest = feed.tail.oldest();
        let Step::Lost { records, how } = feed.step().unwrap() else { panic!("what is gone") };
        assert_eq!((records, how), (oldest.0 - last.next().0, RELEASED));
        let Step::Record(lsn, _) = feed.step().unwrap() else { panic!("what is left") };
        assert_eq!(lsn, oldest);
    }
}
