//! The alert log's reading end: one change after the other, and when a source record is complete.
//!
//! What cannot be read is reported and skipped: a damaged record must not hold back the alerts behind it.

use super::{
    Alert,
    log::{
        Kind,
        format::{self, Head},
    },
};
use hunhe_log::{Lsn, Next, ReadError, Reader, Tail};

/// One change, read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its record.
    pub lsn: Lsn,
    /// The journal record behind it.
    pub source_lsn: u64,
    /// Is it the last change of its source record?
    pub last: bool,
    /// The alert after it.
    pub alert: Alert,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// A change.
    Entry(Box<Entry>),
    /// A change that this reader does not want.
    Other {
        /// Its record.
        lsn: Lsn,
        /// The journal record behind it.
        source_lsn: u64,
        /// Is it the last change of its source record?
        last: bool,
    },
    /// Records up to this one cannot be read any more: damaged, or released at the log's limit.
    Lost {
        /// The last of them.
        last: Lsn,
        /// How many.
        records: u64,
    },
    /// Numbers up to this one were given away: nothing is missing.
    Jump {
        /// The last of them.
        last: Lsn,
    },
    /// Nothing more for now.
    CaughtUp,
}

/// Where a reader is.
#[derive(Debug)]
pub struct Feed {
    tail: Tail,
    reader: Reader,
    last: Lsn,
    wanted: Option<Kind>,
}

impl Feed {
    /// Starts behind record `at`, or at the oldest there is.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn open(tail: Tail, at: Lsn) -> Result<Self, ReadError> {
        let from = at.min(tail.head()).next().max(tail.oldest());
        let reader = Reader::open(tail.clone(), from)?;
        Ok(Self { tail, reader, last: from.previous(), wanted: None })
    }

    /// Reads alerts of this kind alone, and passes the others.
    #[must_use]
    pub fn only(self, kind: Kind) -> Self {
        Self { wanted: Some(kind), ..self }
    }

    /// The log.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The last record that was given out, or was lost.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// The next change.
    ///
    /// # Errors
    /// Where the log cannot be read at all.
    pub fn step(&mut self) -> Result<Step, ReadError> {
        let found = match self.reader.next() {
            Ok(Next::CaughtUp) => {
                let last = self.reader.position().previous();
                if last <= self.last {
                    return Ok(Step::CaughtUp);
                }
                self.last = last;
                return Ok(Step::Jump { last });
            }
            Ok(Next::Lost { first, last }) => Err((last, last.0.saturating_sub(first.0) + 1)),
            Ok(Next::Record(record)) => {
                let kind = Kind::from_byte(record.kind);
                let is_wanted = self.wanted.is_none() || self.wanted == kind;
                let step = kind.and_then(|_| parse(record.lsn, record.payload, is_wanted));
                step.map(|step| (record.lsn, step)).ok_or((record.lsn, 1))
            }
            Err(ReadError::Released { oldest, .. }) => {
                self.reader = Reader::open(self.tail.clone(), oldest)?;
                Err((oldest.previous(), oldest.previous().0.saturating_sub(self.last.0)))
            }
            Err(error) => return Err(error),
        };
        Ok(match found {
            Ok((lsn, step)) => {
                self.last = lsn;
                step
            }
            Err((last, records)) => {
                self.last = last;
                Step::Lost { last, records }
            }
        })
    }
}

fn parse(lsn: Lsn, payload: &[u8], is_wanted: bool) -> Option<Step> {
    let (head, alert) = Head::read(payload)?;
    let (source_lsn, last) = (head.source_lsn, head.is_last());
    if !is_wanted {
        return Some(Step::Other { lsn, source_lsn, last });
    }
    let alert = format::read(lsn, alert)?;
    Some(Step::Entry(Box::new(Entry { lsn, source_lsn, last, alert })))
}
