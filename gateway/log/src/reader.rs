//! Reads records in order, beside the writer. Each thread its own reader and buffer; a record is borrowed from it.

use std::io;
use std::ops::Range;

use hunhe_disk::Open;

use super::Lsn;
use super::error::{Error, ReadError};
use super::record::JUMP;
use super::scan::{Scanner, Step};
use super::segment::{self, HEADER_LEN};
use super::tail::Tail;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// Its kind, as appended.
    pub kind: u8,
    /// Its payload, checked against its checksum.
    pub payload: &'a [u8],
}

/// What a reader meets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record.
    Record(Record<'a>),
    /// Records that cannot be read, first to last; reading goes on behind them. Whoever accounts for records must count these.
    Lost {
        /// The first one.
        first: Lsn,
        /// The last one.
        last: Lsn,
    },
    /// Nothing more is visible yet: see [`Tail::wait`].
    CaughtUp,
}

/// Reads from a given record on.
#[derive(Debug)]
pub struct Reader {
    tail: Tail,
    scanner: Option<Scanner>,
    /// First record of the segment being read.
    segment: Lsn,
    /// The record wanted next.
    next: Lsn,
}

enum Found {
    Record { lsn: Lsn, kind: u8, payload: Range<usize> },
    Lost { first: Lsn, last: Lsn },
    CaughtUp,
}

impl Reader {
    /// Starts at record `from` ([`Lsn::NONE`] means the first). That one may be the next to come, not one further ahead.
    ///
    /// # Errors
    /// [`ReadError::Released`], [`ReadError::Ahead`].
    pub fn open(tail: Tail, from: Lsn) -> Result<Self, ReadError> {
        let from = from.max(Lsn::FIRST);
        let (oldest, head) = {
            let visible = tail.shared.visible();
            (visible.oldest(), visible.head)
        };
        if from < oldest {
            return Err(ReadError::Released { wanted: from, oldest });
        }
        if from > head.next() {
            return Err(ReadError::Ahead { wanted: from, head });
        }
        Ok(Self { tail, scanner: None, segment: Lsn::NONE, next: from })
    }

    /// The record wanted next.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.next
    }

    /// The next record, or why there is none. Named like the iterator's method that it would be, could iterators lend.
    ///
    /// # Errors
    /// [`ReadError::Released`] if the writer released what was wanted next, [`ReadError::Log`] if it cannot be read.
    #[expect(clippy::should_implement_trait, reason = "records are borrowed from the reader")]
    pub fn next(&mut self) -> Result<Next<'_>, ReadError> {
        match self.find()? {
            Found::CaughtUp => Ok(Next::CaughtUp),
            Found::Lost { first, last } => Ok(Next::Lost { first, last }),
            Found::Record { lsn, kind, payload } => {
                let payload = self.scanner.as_ref().map_or(&[][..], |scanner| scanner.payload(payload));
                Ok(Next::Record(Record { lsn, kind, payload }))
            }
        }
    }

    fn find(&mut self) -> Result<Found, ReadError> {
        loop {
            let Some(scanner) = &mut self.scanner else {
                if let Some(found) = self.enter()? {
                    return Ok(found);
                }
                continue;
            };
            let step = scanner.step().map_err(|error| {
                Error::io("read", &segment::path_of(&self.tail.shared.dir, self.segment))(error)
            })?;
            match step {
                Step::Record { kind: JUMP, .. } => self.next = self.next.max(scanner.expected()),
                Step::Record { lsn, .. } if lsn < self.next => {}
                Step::Record { lsn, kind, payload, .. } => {
                    self.next = lsn.next();
                    return Ok(Found::Record { lsn, kind, payload });
                }
                Step::Lost { last, .. } if last < self.next => {}
                Step::Lost { last, .. } => return Ok(self.lose_through(last)),
                Step::Seal => {}
                Step::End { .. } => {
                    if let Some(found) = self.leave()? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Opens the segment that holds the next record.
    fn enter(&mut self) -> Result<Option<Found>, ReadError> {
        let shared = &self.tail.shared;
        let span = {
            let visible = shared.visible();
            let behind = visible.spans.partition_point(|span| span.first <= self.next);
            match behind.checked_sub(1).and_then(|index| visible.spans.get(index)) {
                Some(span) => *span,
                None => return Err(ReadError::Released { wanted: self.next, oldest: visible.oldest() }),
            }
        };
        let path = segment::path_of(&shared.dir, span.first);
        let file = match shared.disk.open(&path, Open::Read) {
            Ok(file) => file,
            // Released between the look and the opening: the next look says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.tail.oldest() > span.first => {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("open", &path)(error).into()),
        };
        self.scanner = Some(Scanner::new(file, shared.stamp, HEADER_LEN, span.bytes, span.first));
        self.segment = span.first;
        Ok(None)
    }

    /// At the end of what could be read of a segment: is there more of it, a next one, or nothing yet?
    fn leave(&mut self) -> Result<Option<Found>, ReadError> {
        let Some(scanner) = &mut self.scanner else { return Ok(None) };
        let (own, following, head) = {
            let visible = self.tail.shared.visible();
            let behind = visible.spans.partition_point(|span| span.first <= self.segment);
            let own = behind.checked_sub(1).and_then(|index| visible.spans.get(index)).copied();
            let own = own.filter(|span| span.first == self.segment);
            (own, visible.spans.get(behind).copied(), visible.head)
        };
        // A segment released while it was being read stays readable through the open file, all of it.
        let bytes = match own {
            Some(span) => span.bytes,
            None => {
                let path = segment::path_of(&self.tail.shared.dir, self.segment);
                scanner.file().len().map_err(Error::io("read", &path))?
            }
        };
        if scanner.limit() < bytes {
            scanner.extend(bytes);
            return Ok(None);
        }
        let Some(following) = following else {
            if self.next > head {
                return Ok(Some(Found::CaughtUp));
            }
            scanner.skip_to_limit(head.next());
            return Ok(Some(self.lose_through(head)));
        };
        if self.next >= following.first {
            self.scanner = None;
            return Ok(None);
        }
        if own.is_none() {
            return Err(ReadError::Released { wanted: self.next, oldest: following.first });
        }
        self.scanner = None;
        Ok(Some(self.lose_through(following.first.previous())))
    }

    fn lose_through(&mut self, last: Lsn) -> Found {
        let first = self.next;
        self.next = last.next();
        Found::Lost { first, last }
    }
}
