//! The sink's own thread: reads the decided log, fills a batch while others are on their way, and settles them in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{
    Options, Report, Reports,
    batch::{Batch, Sealed},
    begin,
    deliver::{self, Database, Delivered},
    watch::SkippedRows,
};
use crate::decided::{self, Decided};
use crate::journal::{Lsn, Next, ReadError, Reader, Tail};
use crate::sinks::{
    cursor::{Cursor, CursorFile, Held},
    line_protocol::{Dialect, Encoder},
    status::{SinkStatus, State},
};

/// Lines encoded before the requests on their way get a turn.
const SLICE_ROWS: usize = 1000;
/// A batch that keeps growing is sent after this long even though more keeps coming.
const LINGER_MAX: Duration = Duration::from_millis(100);
/// The longest sleep without a look at whether to stop.
const NAP: Duration = Duration::from_millis(100);
/// Requests on their way when the sink is asked to stop may take this long to finish.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The time between looks at VictoriaMetrics' counters.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The time between attempts to read a log that cannot be read.
const REOPEN_EVERY: Duration = Duration::from_secs(10);
/// A batch is never cut smaller than this by a database that finds it too large.
const BATCH_ROWS_MIN: usize = 100;

/// How far a turn of filling came.
enum Filled {
    /// A batch is full, and the one being filled has begun with the next cause.
    Full(Batch),
    /// Others' turn.
    Slice,
    /// Nothing more to read.
    CaughtUp,
}

pub(super) struct Sink {
    options: Options,
    encoder: Encoder,
    database: Arc<Database>,
    tail: Tail,
    cursor: CursorFile,
    status: Arc<SinkStatus>,
    reports: Reports,
    stopped: signal::Receiver<bool>,
    batch: Batch,
    /// When the batch got its first record.
    begun: Instant,
    /// Emptied batches, for their memory.
    spare: Vec<Batch>,
    in_flight: VecDeque<JoinHandle<Delivered>>,
    rows_max: usize,
    refused_in_a_row: u32,
    /// A batch was given up, so none behind it may be confirmed.
    given_up: bool,
    skipped: SkippedRows,
    /// When to look at the counters next, where something was written since the last look.
    watch_at: Option<Instant>,
}

impl Sink {
    #[expect(clippy::too_many_arguments, reason = "everything a sink is made of, named once")]
    pub(super) fn new(
        options: Options,
        encoder: Encoder,
        database: Arc<Database>,
        tail: Tail,
        cursor: CursorFile,
        status: Arc<SinkStatus>,
        reports: Reports,
        stopped: signal::Receiver<bool>,
    ) -> Self {
        let rows_max = usize::try_from(options.batch_rows.get()).unwrap_or(usize::MAX);
        Self {
            options,
            encoder,
            database,
            tail,
            cursor,
            status,
            reports,
            stopped,
            batch: Batch::default(),
            begun: Instant::now(),
            spare: Vec::new(),
            in_flight: VecDeque::new(),
            rows_max,
            refused_in_a_row: 0,
            given_up: false,
            skipped: SkippedRows::default(),
            watch_at: None,
        }
    }

    pub(super) async fn run(mut self, held: Held) {
        let from = begin::cursor_of(held, &self.status, &self.options.cursor);
        self.status.moved(from);
        self.watch().await;
        let Some(mut reader) = self.open(from).await else { return self.status.enter(State::Ended, "") };
        while !self.stopping() {
            self.settle_finished().await;
            match self.fill(&mut reader, from.cause) {
                Ok(Filled::Full(batch)) => self.send(batch).await,
                Ok(Filled::Slice) => tokio::task::yield_now().await,
                Ok(Filled::CaughtUp) => {
                    if self.idle(reader.position().previous()).await {
                        break;
                    }
                }
                Err(error) => match self.reopen(&reader, error).await {
                    Some(again) => reader = again,
                    None => break,
                },
            }
            if self.watch_at.is_some_and(|at| at <= Instant::now()) {
                self.watch().await;
            }
        }
        self.end().await;
    }

    fn stopping(&self) -> bool {
        // A handle that was dropped stops its sink, too.
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// Opens the log at the cursor, retrying while it cannot be read; `None`: stopped.
    async fn open(&mut self, from: Cursor) -> Option<Reader> {
        loop {
            match begin::open_at(&self.tail, from) {
                Ok((reader, missing)) => {
                    self.lose(missing, "released before this sink had read them");
                    return Some(reader);
                }
                Err(error) => self.unreadable(&error).await?,
            }
        }
    }

    async fn reopen(&mut self, reader: &Reader, error: ReadError) -> Option<Reader> {
        let wanted = reader.position();
        let mut error = error;
        loop {
            let from = match error {
                ReadError::Released { oldest, .. } => oldest.max(wanted),
                _ => {
                    self.unreadable(&error).await?;
                    wanted
                }
            };
            match Reader::open(self.tail.clone(), from) {
                Ok(reader) => {
                    self.lose(from.0 - wanted.0, "released before this sink had read them");
                    return Some(reader);
                }
                Err(again) => error = again,
            }
        }
    }

    async fn unreadable(&mut self, error: &ReadError) -> Option<()> {
        tracing::error!(sink = self.status.name(), %error, "the decided log cannot be read; trying again");
        self.status.enter(State::Held, &error.to_string());
        tokio::select! {
            () = tokio::time::sleep(REOPEN_EVERY) => Some(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    fn lose(&self, records: u64, how: &'static str) {
        if records > 0 {
            tracing::error!(
                sink = self.status.name(),
                records,
                how,
                "decided records are missing at this sink"
            );
            self.status.warn(format!("{records} decided records are missing here: {how}"));
            self.status.lost(records);
        }
    }

    /// Reads and encodes until something is to be done.
    fn fill(&mut self, reader: &mut Reader, skip_through: u64) -> Result<Filled, ReadError> {
        let until = self.batch.rows() + SLICE_ROWS;
        while self.batch.rows() < until {
            let record = match reader.next()? {
                Next::Record(record) => record,
                Next::CaughtUp => return Ok(Filled::CaughtUp),
                Next::Lost { first, last } => {
                    self.lose(last.0 - first.0 + 1, "damaged on disk");
                    let cause = self.batch.through().cause;
                    self.batch.pass(cause, last);
                    continue;
                }
            };
            let decided = match decided::read(record.kind, record.payload) {
                Ok(decided) => decided,
                Err(error) => {
                    tracing::error!(sink = self.status.name(), lsn = record.lsn.0, %error, "skipping it");
                    self.lose(1, "of a kind this program does not know");
                    let cause = self.batch.through().cause;
                    self.batch.pass(cause, record.lsn);
                    continue;
                }
            };
            let cause = decided.cause();
            let full = self.is_full() && cause != self.batch.through().cause;
            let sealed = full.then(|| {
                let next = self.spare.pop().unwrap_or_default();
                std::mem::replace(&mut self.batch, next)
            });
            if self.batch.is_untouched() {
                self.begun = Instant::now();
            }
            self.batch.pass(cause.max(skip_through), record.lsn);
            if cause > skip_through {
                match decided {
                    Decided::Samples(samples) => self.batch.add_samples(&mut self.encoder, &samples),
                    Decided::Window(window) => self.batch.add_window(&self.encoder, &window),
                    // Quarantine's.
                    Decided::Refused(_) => {}
                }
            }
            if let Some(sealed) = sealed {
                return Ok(Filled::Full(sealed));
            }
        }
        Ok(Filled::Slice)
    }

    fn is_full(&self) -> bool {
        let bytes_max = usize::try_from(self.options.batch_bytes.get()).unwrap_or(usize::MAX);
        self.batch.rows() >= self.rows_max || self.batch.bytes() >= bytes_max
    }

    /// With nothing to read: sends what has waited long enough, or sleeps. Returns whether the log has ended.
    async fn idle(&mut self, seen: Lsn) -> bool {
        if !self.in_flight.is_empty() {
            // While one is on its way the next may grow: under load that makes few requests, without any timer.
            let waiting = self.in_flight.front_mut();
            if let Some(front) = waiting {
                tokio::select! {
                    delivered = front => {
                        self.in_flight.pop_front();
                        self.settle(delivered);
                    }
                    () = tokio::time::sleep(self.options.idle_flush) => {}
                }
            }
            return false;
        }
        if !self.batch.is_untouched() {
            let more = self.tail.wait(seen, self.options.idle_flush) > seen;
            if !more || self.begun.elapsed() >= LINGER_MAX {
                let next = self.spare.pop().unwrap_or_default();
                let batch = std::mem::replace(&mut self.batch, next);
                self.send(batch).await;
            }
            return false;
        }
        self.status.caught_up();
        let more = self.tail.wait(seen, NAP) > seen;
        // Connections get a turn, so that one the database closed meanwhile is not used again.
        tokio::task::yield_now().await;
        !more && self.tail.is_closed()
    }

    async fn send(&mut self, batch: Batch) {
        while self.in_flight.len() >= usize::from(self.options.in_flight_max.get()) && !self.stopping() {
            self.settle_front().await;
        }
        let delivery = deliver::deliver(
            Arc::clone(&self.database),
            batch.seal(),
            self.refused_in_a_row,
            Arc::clone(&self.status),
            self.stopped.clone(),
        );
        self.in_flight.push_back(tokio::spawn(delivery));
        // The request begins before the next batch is filled.
        tokio::task::yield_now().await;
    }

    async fn settle_finished(&mut self) {
        while self.in_flight.front().is_some_and(JoinHandle::is_finished) {
            self.settle_front().await;
        }
    }

    async fn settle_front(&mut self) {
        if let Some(front) = self.in_flight.front_mut() {
            let delivered = front.await;
            self.in_flight.pop_front();
            self.settle(delivered);
        }
    }

    /// Dead letters, confirmations, cursor: in this order, and batch after batch.
    fn settle(&mut self, delivered: Result<Delivered, tokio::task::JoinError>) {
        let Delivered { mut batch, refused, refused_in_a_row, too_large, given_up } = match delivered {
            Ok(delivered) => delivered,
            // Nothing behind a lost batch may be confirmed; after a restart it comes again.
            Err(error) => {
                self.status.enter(State::Ended, "a delivery panicked: restart the gateway");
                std::panic::resume_unwind(Box::new(error.to_string()))
            }
        };
        self.given_up |= given_up;
        if self.given_up {
            return;
        }
        let (letters, confirmations) = batch.settle(&refused);
        let dead = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        for letter in letters {
            (self.reports)(Report::DeadLetter(letter));
        }
        if self.options.of_record && !confirmations.is_empty() {
            (self.reports)(Report::Confirmed(confirmations));
        }
        self.advance(batch.through);
        let written = batch.rows() - refused.len();
        self.refused_in_a_row = refused_in_a_row;
        if batch.rows() > 0 {
            self.status.wrote(u64::try_from(written).unwrap_or(u64::MAX));
            self.status.batch_done(dead);
            self.watch_at.get_or_insert_with(|| Instant::now() + WATCH_EVERY);
        }
        if too_large {
            self.rows_max = (batch.rows() / 2).clamp(BATCH_ROWS_MIN.min(self.rows_max), self.rows_max);
        }
        self.keep_spare(batch);
    }

    fn keep_spare(&mut self, batch: Sealed) {
        if self.spare.len() < usize::from(self.options.in_flight_max.get()) {
            self.spare.push(batch.recycle());
        }
    }

    fn advance(&mut self, through: Cursor) {
        // A batch without a readable record has no cause of its own.
        let cursor = Cursor { cause: through.cause.max(self.status.cursor().cause), hint: through.hint };
        if let Err(error) = self.cursor.save(cursor) {
            tracing::warn!(sink = self.status.name(), %error, "a restart will repeat what was written since");
            self.status.warn(error.to_string());
        }
        self.status.moved(cursor);
    }

    /// Looks at VictoriaMetrics' counters of skipped rows.
    async fn watch(&mut self) {
        self.watch_at = None;
        if self.options.dialect != Dialect::Victoriametrics {
            return;
        }
        let Some(metrics) = self.database.metrics().await else { return };
        let rows = self.skipped.since_last(&metrics);
        if rows > 0 {
            let total = self.status.skipped(rows);
            tracing::error!(
                sink = self.status.name(),
                rows,
                "the database skipped rows that it had accepted"
            );
            self.status.warn(format!(
                "the database skipped {total} rows that it had accepted, from here or from another writer: \
                 see its log, its retention and its clock"
            ));
        }
    }

    /// Lets requests on their way finish, and settles what did.
    async fn end(mut self) {
        let deadline = Instant::now() + STOP_WITHIN;
        while let Some(mut front) = self.in_flight.pop_front() {
            let Ok(delivered) = tokio::time::timeout_at(deadline, &mut front).await else {
                front.abort();
                break;
            };
            self.settle(delivered);
        }
        self.status.enter(State::Ended, "");
    }
}
