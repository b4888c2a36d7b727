//! A sink's view of the decided log: records in order, and when a cause is complete.
//!
//! A cause (one journal record) may have several decided records. Only a complete cause may move a cursor or be confirmed:
//! else a restart would skip the rest, or count the first twice. The lane makes a cause's records visible all at
//! once, so a cause is complete where another follows, or nothing does.

use crate::decided::{self, Decided};
use hunhe_log::{Lsn, Next, ReadError, Reader, Tail};
use std::time::Duration;

/// What comes next.
#[derive(Debug)]
pub enum Step<'a> {
    /// A decided record, and its number.
    Record(Lsn, Decided<'a>),
    /// Nothing more for now. All causes up to [`Feed::complete`] are complete.
    CaughtUp,
    /// Records that cannot be read, by damage or of a shape that this program does not know. Their samples stay outstanding.
    Lost {
        /// How many.
        records: u64,
    },
}

/// Where a sink is in the decided log.
#[derive(Debug)]
pub struct Feed {
    reader: Reader,
    buffers: decided::Buffers,
    tail: Tail,
    current: u64,
    complete: u64,
    last: Lsn,
    complete_at: Lsn,
}

impl Feed {
    /// Starts behind decided record `at`, or at the oldest there is: what the sink knows already it skips by cause.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn open(tail: Tail, at: Lsn) -> Result<Self, ReadError> {
        let from = at.min(tail.head()).next().max(tail.oldest());
        let reader = Reader::open(tail.clone(), from)?;
        let last = from.previous();
        Ok(Self {
            reader,
            buffers: decided::Buffers::default(),
            tail,
            current: 0,
            complete: 0,
            last,
            complete_at: last,
        })
    }

    /// The last cause whose records have all been given out; 0 before the first.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// The last decided record of a complete cause.
    #[must_use]
    pub fn complete_at(&self) -> Lsn {
        self.complete_at
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

    /// Sleeps until there is more, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let _ = self.tail.wait(self.last, at_most);
    }

    /// The next record.
    ///
    /// # Errors
    /// Where the log cannot be read, or holds what this version does not write.
    pub fn step(&mut self) -> Result<Step<'_>, FeedError> {
        match self.reader.next()? {
            Next::CaughtUp => {
                (self.complete, self.complete_at) = (self.current.max(self.complete), self.last);
                Ok(Step::CaughtUp)
            }
            Next::Lost { first, last } => {
                self.last = last;
                Ok(Step::Lost { records: last.0.saturating_sub(first.0) + 1 })
            }
            Next::Record(record) => {
                let Ok(decided) = decided::read(record.kind, record.payload, &mut self.buffers) else {
                    self.last = record.lsn;
                    return Ok(Step::Lost { records: 1 });
                };
                let cause = decided.cause();
                if cause != self.current {
                    (self.complete, self.complete_at) = (self.current.max(self.complete), self.last);
                    self.current = cause;
                }
                self.last = record.lsn;
                Ok(Step::Record(record.lsn, decided))
            }
        }
    }
}

/// The decided log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It cannot be read.
    #[error("the decided log cannot be read")]
    Read(#[from] ReadError),
}
