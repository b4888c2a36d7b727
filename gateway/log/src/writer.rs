//! Appends records. One buffer, positional writes, and no second chance after an I/O error.

use std::path::PathBuf;
use std::sync::Arc;

use hunhe_disk::{File, Open};

use super::error::{AppendError, Error};
use super::finding::Recovery;
use super::format;
use super::record::{FRAME_BYTES, FRAME_LEN, JUMP, MAX_PAYLOAD_BYTES, Stamp};
use super::recover::{Claim, Mended};
use super::scan::{Scanner, Step};
use super::segment::{self, HEADER_BYTES, HEADER_LEN};
use super::survey::Depth;
use super::tail::{Shared, Span, Tail};
use super::{Lsn, Options};

/// The buffer is written out, invisibly to readers, once it holds this much: it is bounded by this and one record.
const BUFFER_BYTES: usize = 1 << 20;

/// A segment whose newest records are written and not synced.
#[derive(Debug)]
pub struct Unsynced {
    file: Arc<dyn File>,
    path: PathBuf,
}

impl Unsynced {
    /// Syncs it beside the writer. Nothing counts as durable for it; [`Writer::sync`] then finds less to do.
    ///
    /// # Errors
    /// As [`Writer::sync`]: final for the log, and whoever hears of it must end the writer.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// The only writer of a log. Dropping it discards what was not flushed: nothing of that was promised.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    log_id: u64,
    stamp: Stamp,
    shared: Arc<Shared>,
    active: Arc<dyn File>,
    active_first: Lsn,
    /// Bytes of the active segment in the file; the buffer follows them.
    active_bytes: u64,
    sealed_bytes: u64,
    buffer: Vec<u8>,
    next: Lsn,
    durable: Lsn,
    aside: Vec<PathBuf>,
    failure: Option<Error>,
    _claim: Claim,
}

impl Writer {
    /// Opens a log for writing, or creates it, and says what recovery found. Everything recovered is durable and visible.
    ///
    /// # Errors
    /// [`Error::Locked`] while another writer has it, [`Error::NewerFormat`], [`Error::Options`], [`Error::Io`]. Damage is no
    /// error: see [`Recovery`].
    pub fn open(options: Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        format::refuse_newer_segments(&*options.disk, &options.dir)?;
        let claim = Claim::of(&options.disk, &options.dir)?;
        let Mended { log_id, segments, aside, resume, recovery } = claim.mend(Depth::Ends)?;
        let mut spans: Vec<Span> =
            segments.iter().map(|segment| Span { first: segment.first, bytes: segment.bytes }).collect();
        let (active, next) = match segments.last() {
            Some(last) => {
                let opened = options.disk.open(&last.path, Open::Write);
                (opened.map_err(Error::io("open", &last.path))?, last.extent.next)
            }
            None => {
                spans.push(Span { first: resume, bytes: HEADER_LEN });
                (segment::create(&*options.disk, &options.dir, log_id, resume)?, resume)
            }
        };
        let active_span = spans.last().copied().unwrap_or(Span { first: resume, bytes: HEADER_LEN });
        let total: u64 = spans.iter().map(|span| span.bytes).sum();
        let stamp = Stamp::of(log_id);
        let durable = next.previous();
        let writer = Self {
            shared: Arc::new(Shared::new(
                Arc::clone(&options.disk),
                options.dir.clone(),
                stamp,
                spans,
                durable,
            )),
            log_id,
            stamp,
            active,
            active_first: active_span.first,
            active_bytes: active_span.bytes,
            sealed_bytes: total - active_span.bytes,
            buffer: Vec::with_capacity(BUFFER_BYTES + FRAME_BYTES + FRAME_BYTES),
            next,
            durable,
            aside,
            failure: None,
            _claim: claim,
            options,
        };
        Ok((writer, recovery))
    }

    /// Appends one record, its payload the concatenation of `parts`, and returns its number. It is neither visible nor durable
    /// yet. May write out a full buffer or start a new segment (which syncs the old one).
    ///
    /// # Errors
    /// [`AppendError::Full`] at the limit and [`AppendError::TooLarge`] leave the log as it was; [`AppendError::Log`] is final.
    pub fn append(&mut self, kind: u8, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        self.reserve(1, parts.iter().map(|part| part.len()).sum())?;
        let lsn = self.next;
        let synced = self.durable.next() == lsn;
        self.stamp.encode(&mut self.buffer, lsn, kind, synced, parts);
        self.next = lsn.next();
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(lsn)
    }

    /// Makes room for `records` appends of `payload_bytes` in all, so that they share a segment and none of them can find the
    /// log full: with one [`flush`](Self::flush) behind them, readers see all of them or none.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn reserve(&mut self, records: usize, payload_bytes: usize) -> Result<(), AppendError> {
        self.check()?;
        let bound_bytes = if records > 1 { self.segment_room_bytes() } else { self.payload_bound_bytes() };
        let frames_bytes = FRAME_BYTES * records.saturating_sub(1);
        if payload_bytes + frames_bytes > bound_bytes {
            return Err(AppendError::TooLarge { bytes: payload_bytes, bound_bytes });
        }
        // Room for the seal is kept from the start, so that closing a segment never exceeds a bound.
        let needed = FRAME_LEN * (records as u64 + 1) + payload_bytes as u64;
        let rolls = self.active_end() > HEADER_LEN && self.active_end() + needed > self.options.segment_bytes;
        let extra = if rolls { FRAME_LEN + HEADER_LEN } else { 0 };
        if self.bytes_on_disk() + extra + needed > self.options.limit_bytes {
            return Err(AppendError::Full { limit_bytes: self.options.limit_bytes });
        }
        if rolls {
            self.roll(self.next)?;
        }
        Ok(())
    }

    /// Hands everything appended to the operating system and makes it visible to readers; returns the head. It survives the
    /// process, not the machine.
    ///
    /// # Errors
    /// Any I/O error is final.
    pub fn flush(&mut self) -> Result<Lsn, Error> {
        self.check()?;
        self.write_out()?;
        self.publish();
        Ok(self.head())
    }

    /// Makes everything appended durable, then visible; returns the durable head. Only now may it be acknowledged.
    ///
    /// # Errors
    /// Any I/O error is final: a second fsync could succeed without the data being on disk.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.check()?;
        self.write_out()?;
        if self.durable < self.head() {
            let synced = self.active.sync_data();
            synced.map_err(|error| self.fail("sync", error))?;
            self.durable = self.head();
        }
        self.publish();
        Ok(self.durable)
    }

    /// Whether something of the active segment is not durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.durable < self.head() && self.active_bytes > HEADER_LEN
    }

    /// What of the active segment is not durable, if anything is.
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced> {
        self.is_dirty().then(|| Unsynced { file: Arc::clone(&self.active), path: self.active_path() })
    }

    /// The last record appended.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.next.previous()
    }

    /// The last durable record.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The oldest record still there; one past the head in an empty log.
    #[must_use]
    pub fn oldest(&self) -> Lsn {
        self.shared.visible().oldest()
    }

    /// Bytes of all segments with what is buffered. Segments set aside are not counted.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.sealed_bytes + self.active_end()
    }

    /// The largest payload this log takes.
    #[must_use]
    pub fn payload_bound_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES.min(self.segment_room_bytes())
    }

    /// The most that records of one [`reserve`](Self::reserve) may have together, the frames between them included.
    #[must_use]
    pub fn segment_room_bytes(&self) -> usize {
        let in_segment = usize::try_from(self.options.segment_bytes).unwrap_or(usize::MAX);
        in_segment.saturating_sub(HEADER_BYTES + FRAME_BYTES + FRAME_BYTES)
    }

    /// The error that ended this writer, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// A view for readers in other threads.
    #[must_use]
    pub fn subscribe(&self) -> Tail {
        Tail { shared: Arc::clone(&self.shared) }
    }

    /// Deletes, oldest first, the segments whose records are all at or before `lsn`; never the active one. Returns how many.
    ///
    /// # Errors
    /// Any I/O error is final.
    pub fn release_through(&mut self, lsn: Lsn) -> Result<usize, Error> {
        self.check()?;
        let mut released = 0;
        while let Some(span) = self.oldest_if_through(lsn) {
            self.release(span)?;
            released += 1;
        }
        self.forget_aside()?;
        Ok(released)
    }

    /// Deletes the oldest segment whatever it holds, for a log that would rather forget than stop; never the active one.
    /// Answers whether there was one.
    ///
    /// # Errors
    /// Any I/O error is final.
    pub fn release_oldest(&mut self) -> Result<bool, Error> {
        self.check()?;
        let Some(span) = self.oldest_if_through(self.head()) else { return Ok(false) };
        self.release(span)?;
        self.forget_aside()?;
        Ok(true)
    }

    fn release(&mut self, span: Span) -> Result<(), Error> {
        // Out of sight first: a reader must not find a name whose file is going.
        self.shared.publish(|visible| {
            visible.spans.remove(0);
        });
        self.sealed_bytes -= span.bytes;
        let path = segment::path_of(&self.options.dir, span.first);
        segment::remove(&*self.options.disk, &self.options.dir, &path).map_err(|error| self.keep(error))
    }

    /// Cuts the log back so that `lsn` is its last record, durably. For a log that is rebuilt from there on.
    ///
    /// # Errors
    /// [`Error::Outside`] if `lsn` is beyond the head or released, [`Error::HasReaders`] while a [`Tail`] exists; both leave the
    /// log as it was. Any I/O error is final.
    pub fn truncate_after(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.check()?;
        if Arc::strong_count(&self.shared) > 1 {
            return Err(Error::HasReaders { dir: self.options.dir.clone() });
        }
        let oldest = self.oldest();
        if lsn > self.head() || lsn.next() < oldest {
            return Err(Error::Outside { wanted: lsn, oldest, head: self.head() });
        }
        if lsn == self.head() {
            return self.sync().map(drop);
        }
        // What is still buffered is cut, too, but the scan below reads files.
        self.write_out()?;
        self.drop_segments_behind(lsn)?;
        self.cut_active(lsn)
    }

    /// Continues numbering behind `lsn`, which something else (a checkpoint) knows to have been used. Readers report the
    /// numbers skipped as lost. Durable when it returns; nothing happens if the log is already there.
    ///
    /// # Errors
    /// Any I/O error is final.
    pub fn skip_to(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.check()?;
        if lsn <= self.head() {
            return Ok(());
        }
        self.roll(lsn.next())?;
        self.next = lsn.next();
        self.durable = lsn;
        self.publish();
        Ok(())
    }

    /// Gives the numbers up to `lsn` away, since something outside may know them from another life of this log. Unlike after
    /// [`skip_to`](Self::skip_to) nothing counts as lost. Durable when it returns; nothing happens if the log is already there.
    /// It takes its 64 bytes past the limits, so that a full log can be started with. A segment begins behind it, so that what
    /// follows can be read though it rots; where the power goes just between, what follows shares its segment.
    ///
    /// # Errors
    /// Any I/O error is final.
    pub fn jump_to(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.check()?;
        if lsn > self.head() {
            let synced = self.durable.next() == self.next;
            self.stamp.encode(&mut self.buffer, self.next, JUMP, synced, &[&lsn.0.to_le_bytes()]);
            self.next = lsn.next();
            self.roll(self.next)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn active_end(&self) -> u64 {
        self.active_bytes + self.buffer.len() as u64
    }

    fn active_path(&self) -> PathBuf {
        segment::path_of(&self.options.dir, self.active_first)
    }

    fn fail(&mut self, action: &'static str, error: std::io::Error) -> Error {
        let path = self.active_path();
        self.keep(Error::io(action, &path)(error))
    }

    /// The first failure is the one that every later call repeats.
    fn keep(&mut self, error: Error) -> Error {
        self.failure.get_or_insert(error).clone()
    }

    fn write_out(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.active.write_all_at(&self.buffer, self.active_bytes);
        written.map_err(|error| self.fail("write", error))?;
        self.active_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn publish(&self) {
        let (head, bytes) = (self.head(), self.active_bytes);
        self.shared.publish(|visible| {
            visible.head = head;
            if let Some(span) = visible.spans.last_mut() {
                span.bytes = bytes;
            }
        });
    }

    /// Closes the active segment, durably, and starts the next one with record `first`.
    fn roll(&mut self, first: Lsn) -> Result<(), Error> {
        self.buffer.extend_from_slice(&self.stamp.encode_seal(self.next));
        self.write_out()?;
        let synced = self.active.sync_data();
        synced.map_err(|error| self.fail("sync", error))?;
        self.durable = self.head();
        let created = segment::create(&*self.options.disk, &self.options.dir, self.log_id, first);
        self.active = created.map_err(|error| self.keep(error))?;
        self.publish();
        self.sealed_bytes += self.active_bytes;
        (self.active_first, self.active_bytes) = (first, HEADER_LEN);
        self.shared.publish(|visible| visible.spans.push(Span { first, bytes: HEADER_LEN }));
        Ok(())
    }

    fn oldest_if_through(&self, lsn: Lsn) -> Option<Span> {
        match self.shared.visible().spans.as_slice() {
            [oldest, following, ..] if following.first.previous() <= lsn => Some(*oldest),
            _ => None,
        }
    }

    /// Segments set aside go when the log has been released beyond them, so that they never pile up.
    fn forget_aside(&mut self) -> Result<(), Error> {
        let oldest = self.oldest();
        let passed = |path: &PathBuf| segment::first_by_name(path).is_none_or(|first| first < oldest);
        while let Some(index) = self.aside.iter().position(passed) {
            let path = self.aside.swap_remove(index);
            segment::remove(&*self.options.disk, &self.options.dir, &path)
                .map_err(|error| self.keep(error))?;
        }
        Ok(())
    }

    /// Newest first, each durably: a crash in between leaves a shorter log, not one with a hole.
    fn drop_segments_behind(&mut self, lsn: Lsn) -> Result<(), Error> {
        loop {
            let (span, before) = match self.shared.visible().spans.as_slice() {
                [.., before, span] if span.first > lsn.next() => (*span, *before),
                _ => return Ok(()),
            };
            let path = segment::path_of(&self.options.dir, span.first);
            segment::remove(&*self.options.disk, &self.options.dir, &path)
                .map_err(|error| self.keep(error))?;
            self.shared.publish(|visible| {
                visible.spans.pop();
            });
            let path = segment::path_of(&self.options.dir, before.first);
            let opened = self.options.disk.open(&path, Open::Write);
            self.active = opened.map_err(Error::io("open", &path)).map_err(|error| self.keep(error))?;
            self.sealed_bytes -= before.bytes;
            (self.active_first, self.active_bytes) = (before.first, before.bytes);
        }
    }

    fn cut_active(&mut self, lsn: Lsn) -> Result<(), Error> {
        let found = self.end_of(lsn);
        let (last, end) = found.map_err(|error| self.fail("read", error))?;
        let cut = self.active.set_len(end).and_then(|()| self.active.sync_data());
        cut.map_err(|error| self.fail("trim", error))?;
        self.active_bytes = end;
        self.next = last.next();
        self.durable = last;
        self.publish();
        // Where `lsn` itself is lost to damage, numbering still goes on behind it.
        self.skip_to(lsn)
    }

    /// The last readable record at or before `lsn` in the active segment, and the offset behind it.
    fn end_of(&self, lsn: Lsn) -> std::io::Result<(Lsn, u64)> {
        let file = Arc::clone(&self.active);
        let mut scanner = Scanner::new(file, self.stamp, HEADER_LEN, self.active_bytes, self.active_first);
        let mut end = (self.active_first.previous(), HEADER_LEN);
        while end.0 < lsn {
            match scanner.step()? {
                Step::Record { .. } if scanner.expected() <= lsn.next() => {
                    end = (scanner.expected().previous(), scanner.offset());
                }
                Step::Lost { .. } => {}
                Step::Record { .. } | Step::Seal | Step::End { .. } => break,
            }
        }
        Ok(end)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.publish(|visible| visible.closed = true);
    }
}
