//! The sink's own thread: reads the decided log, fills a batch while others are on their way, settles them in order, looks at
//! the database now and then, and goes back where that may have lost something. Handing over is in
//! `handover`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{
    Options, Reports,
    batch::{Batch, Sealed},
    deliver::{self, Database, Delivered},
    durability::{Durability, Found, Look, Mark},
    setup,
};
use crate::{
    decided::{
        Confirmation, Decided,
        feed::{Feed, Step},
    },
    sinks::{
        influx::line_protocol::{Dialect, Encoder},
        is_stopping,
        status::{SinkStatus, State},
    },
};
use hunhe_log::cursor::{Cursor, CursorFile, Held};
use hunhe_log::{ReadError, Tail};

/// Lines encoded before the requests on their way get a turn.
const SLICE_ROWS: usize = 1000;
/// Records read before they do: not every record makes lines.
const SLICE_RECORDS: usize = 1024;
/// A batch that keeps growing is sent after this long even though more keeps coming.
const LINGER_MAX: Duration = Duration::from_millis(100);
/// The longest sleep without a look at whether to stop.
const NAP: Duration = Duration::from_millis(100);
/// Requests on their way when the sink is asked to stop may take this long to finish.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The time between looks at the database while something may still be lost there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time between attempts at what only a disk keeps from being done.
pub(super) const REOPEN_EVERY: Duration = Duration::from_secs(10);
/// A batch is never cut smaller than this by a database that finds it too large.
const BATCH_ROWS_MIN: usize = 100;

/// How far a turn of filling came.
enum Filled {
    /// A batch is full, and the one being filled has begun with the next source record.
    Full(Batch),
    /// Others' turn.
    Slice,
    /// Nothing more to read.
    CaughtUp,
}

/// A look, when it was begun, and how many connections were lost by its end.
struct Looked {
    look: Look,
    asked: Instant,
    lost_connections: u64,
}

pub(super) struct Sink {
    pub(super) options: Options,
    pub(super) encoder: Encoder,
    pub(super) database: Arc<Database>,
    pub(super) tail: Tail,
    pub(super) cursor: CursorFile,
    pub(super) status: Arc<SinkStatus>,
    pub(super) reports: Reports,
    pub(super) stopped: signal::Receiver<bool>,
    /// Where the cursor is: everything behind it is written again after a restart of either side.
    pub(super) durable: Cursor,
    batch: Batch,
    /// When the batch got its first record.
    begun: Instant,
    /// Emptied batches, for their memory.
    spare: Vec<Batch>,
    in_flight: VecDeque<JoinHandle<Delivered>>,
    pub(super) rows_max: usize,
    refused_in_a_row: u32,
    /// A batch was given up, so none behind it may be confirmed.
    pub(super) given_up: bool,
    /// Does the database tell anything by being looked at?
    looks: bool,
    pub(super) durability: Durability,
    look: Option<JoinHandle<Looked>>,
    look_at: Instant,
    /// Times for `durability` count from here.
    epoch: Instant,
    /// The database may have lost what it had taken.
    restarted: bool,
    /// The last read of the decided log failed.
    log_failed: bool,
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
        let looks = options.dialect == Dialect::Victoriametrics || !options.durable_after.is_zero();
        let lag_ms = u64::try_from(options.durable_after.as_millis()).unwrap_or(u64::MAX);
        let now = Instant::now();
        Self {
            options,
            encoder,
            database,
            tail,
            cursor,
            status,
            reports,
            stopped,
            durable: Cursor::default(),
            batch: Batch::default(),
            begun: now,
            spare: Vec::new(),
            in_flight: VecDeque::new(),
            rows_max,
            refused_in_a_row: 0,
            given_up: false,
            looks,
            durability: Durability::new(lag_ms),
            look: None,
            look_at: now,
            epoch: now,
            restarted: false,
            log_failed: false,
        }
    }

    pub(super) async fn run(mut self, held: Held) {
        self.durable = crate::sinks::begin(held, &self.status, &self.options.cursor);
        self.status.moved(self.durable);
        if !setup::prepare(&self.options, &self.status, &mut self.stopped).await {
            return self.status.enter(State::Ended, "");
        }
        if self.looks {
            // Before anything is written, so that what the database takes is known to be this process's.
            self.begin_look();
            self.settle_look().await;
        }
        let Some(mut feed) = self.open(self.durable).await else {
            return self.status.enter(State::Ended, "");
        };
        while !self.stopping() {
            self.settle_finished().await;
            if self.look.as_ref().is_some_and(JoinHandle::is_finished) {
                self.settle_look().await;
            }
            if self.restarted {
                self.forget();
                let Some(again) = self.open(self.durable).await else { break };
                feed = again;
            }
            if !self.durability.is_empty() && self.look.is_none() && self.look_at <= Instant::now() {
                self.begin_look();
            }
            if self.durability.is_full() {
                self.nap().await;
                continue;
            }
            let filled = self.fill(&mut feed);
            if filled.is_ok() {
                self.is_readable_again();
            }
            match filled {
                Ok(Filled::Full(batch)) => self.send(batch).await,
                Ok(Filled::Slice) => tokio::task::yield_now().await,
                Ok(Filled::CaughtUp) => {
                    if self.idle(&feed).await {
                        break;
                    }
                }
                Err(error) => {
                    if self.unreadable(&error).await.is_none() {
                        break;
                    }
                }
            }
        }
        self.end().await;
    }

    pub(super) fn stopping(&self) -> bool {
        is_stopping(&self.stopped)
    }

    /// Opens the log at the cursor, retrying while it cannot be read; `None`: stopped.
    async fn open(&mut self, from: Cursor) -> Option<Feed> {
        loop {
            match Feed::open(self.tail.clone(), from) {
                Ok(feed) => {
                    self.is_readable_again();
                    return Some(feed);
                }
                Err(error) => self.unreadable(&error).await?,
            }
        }
    }

    async fn unreadable(&mut self, error: &ReadError) -> Option<()> {
        tracing::error!(sink = self.status.name(), %error, "the decided log cannot be read; trying again");
        self.status.enter(State::Held, &error.to_string());
        self.log_failed = true;
        tokio::select! {
            () = tokio::time::sleep(REOPEN_EVERY) => Some(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    /// Leaves the state that a failed read entered; a request on its way enters one of its own.
    fn is_readable_again(&mut self) {
        if std::mem::take(&mut self.log_failed) && self.in_flight.is_empty() {
            self.status.enter(State::Running, "");
        }
    }

    /// Reads and encodes until something is to be done.
    fn fill(&mut self, feed: &mut Feed) -> Result<Filled, ReadError> {
        let until = self.batch.rows() + SLICE_ROWS;
        for _ in 0..SLICE_RECORDS {
            if self.batch.rows() >= until {
                break;
            }
            let known = feed.known();
            let (lsn, decided) = match feed.step()? {
                Step::Record(lsn, decided) => (lsn, decided),
                Step::CaughtUp => return Ok(Filled::CaughtUp),
                Step::Lost { records, how } => {
                    self.status.lose(records, how);
                    let last = feed.last();
                    self.batch.pass(self.batch.through().source_lsn, last);
                    continue;
                }
            };
            let source_lsn = decided.source_lsn();
            let full = self.is_full() && source_lsn != self.batch.through().source_lsn;
            let sealed = full.then(|| {
                let next = self.spare.pop().unwrap_or_default();
                std::mem::replace(&mut self.batch, next)
            });
            if self.batch.is_untouched() {
                self.begun = Instant::now();
            }
            self.batch.pass(source_lsn.max(known), lsn);
            if source_lsn > known {
                match decided {
                    Decided::Samples(sets) => self.batch.add_samples(&mut self.encoder, &sets),
                    Decided::Windows(windows) => {
                        self.batch.add_windows(&self.encoder, self.options.rollups, &windows)
                    }
                    // Quarantine's.
                    Decided::Refused(_) | Decided::Judged { .. } => {}
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
    async fn idle(&mut self, feed: &Feed) -> bool {
        if !self.in_flight.is_empty() {
            // While one is on its way the next may grow: under load that makes few requests, without any timer.
            self.nap().await;
            return false;
        }
        if !self.batch.is_untouched() {
            let more = feed.wait(self.options.idle_flush);
            if !more || self.begun.elapsed() >= LINGER_MAX {
                let next = self.spare.pop().unwrap_or_default();
                let batch = std::mem::replace(&mut self.batch, next);
                self.send(batch).await;
            }
            return false;
        }
        self.status.caught_up();
        if self.look.is_some() {
            // Its answer needs this thread.
            self.nap().await;
            return false;
        }
        let more = feed.wait(NAP);
        // Connections get a turn, so that one the database closed meanwhile is not used again.
        tokio::task::yield_now().await;
        !more && feed.is_closed()
    }

    /// Lets requests and looks get on for a moment, or until the next of them is answered.
    async fn nap(&mut self) {
        let nap = tokio::time::sleep(self.options.idle_flush);
        match (self.in_flight.front_mut(), self.look.as_mut()) {
            (Some(front), _) => {
                tokio::select! {
                    delivered = front => {
                        self.in_flight.pop_front();
                        self.settle(delivered).await;
                    }
                    () = nap => {}
                }
            }
            (None, Some(look)) => {
                tokio::select! {
                    looked = look => {
                        self.look = None;
                        self.take_look(looked).await;
                    }
                    () = nap => {}
                }
            }
            (None, None) => tokio::time::sleep(NAP).await,
        }
    }

    fn begin_look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        let database = Arc::clone(&self.database);
        self.look = Some(tokio::spawn(async move {
            let asked = Instant::now();
            let look = database.look().await;
            Looked { look, asked, lost_connections: database.lost_connections() }
        }));
    }

    async fn settle_look(&mut self) {
        if let Some(look) = self.look.take() {
            self.take_look(look.await).await;
        }
    }

    async fn take_look(&mut self, looked: Result<Looked, tokio::task::JoinError>) {
        // One that panicked has told nothing; the next is due soon.
        let Ok(Looked { look, asked, lost_connections }) = looked else { return };
        let (asked_ms, now_ms) = (self.ms_of(asked), self.ms_of(Instant::now()));
        let found = self.durability.looked(&look, lost_connections, asked_ms, now_ms);
        let skipped = self.durability.take_skipped();
        if skipped > 0 {
            let total = self.status.skipped(skipped);
            tracing::error!(
                sink = self.status.name(),
                rows = skipped,
                "the database skipped rows that it had accepted: what was written lately is read back"
            );
            self.status.warn(format!(
                "the database skipped {total} rows that it had accepted, from here or from another writer: \
                 see its log, its retention and its clock"
            ));
        }
        match found {
            Found::Durable(marks) => self.hand_over(marks).await,
            Found::Restarted => self.restarted = true,
        }
    }

    /// Forgets everything behind the cursor, so that it is written again.
    fn forget(&mut self) {
        tracing::warn!(
            sink = self.status.name(),
            from = self.durable.source_lsn,
            "the database was restarted: what it may have had in memory alone is written again"
        );
        self.restarted = false;
        self.in_flight.drain(..).for_each(|delivery| delivery.abort());
        self.batch = Batch::default();
        self.status.rewound();
        self.status.enter(State::Running, "");
    }

    fn ms_of(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    async fn send(&mut self, batch: Batch) {
        while self.in_flight.len() >= usize::from(self.options.in_flight_max.get()) && !self.stopping() {
            self.settle_front().await;
        }
        if self.stopping() {
            return;
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
            self.settle(delivered).await;
        }
    }

    /// Takes the outcome of the oldest batch: to be handed over at once, or once it is durable.
    async fn settle(&mut self, delivered: Result<Delivered, tokio::task::JoinError>) {
        let Delivered { mut batch, refused, refused_in_a_row, too_large, sent, given_up } = match delivered {
            Ok(delivered) => delivered,
            // Nothing behind a lost batch may be confirmed; after a restart it comes again.
            Err(error) => std::panic::resume_unwind(Box::new(error.to_string())),
        };
        self.given_up |= given_up;
        if self.given_up {
            return;
        }
        let (letters, mut confirmations) = batch.settle(&refused);
        self.keep_owed(&mut confirmations);
        self.refused_in_a_row = refused_in_a_row;
        self.status.has_written(batch.through.decided_lsn);
        let written = u64::try_from(batch.rows() - refused.len()).unwrap_or(u64::MAX);
        if batch.rows() > 0 {
            self.status.wrote(written);
            self.status.batch_done();
        }
        if too_large {
            self.rows_max = (batch.rows() / 2).clamp(BATCH_ROWS_MIN.min(self.rows_max), self.rows_max);
        }
        let mark = Mark::new(batch.through, letters, confirmations, self.ms_of(Instant::now()));
        self.keep_spare(batch);
        if self.looks {
            let sent_ms = self.ms_of(sent);
            self.durability.taken(mark, written, sent_ms);
        } else {
            self.hand_over(vec![mark]).await;
        }
    }

    /// Leaves those that the ledger waits for.
    pub(super) fn keep_owed(&self, confirmations: &mut Vec<Confirmation>) {
        let (of_record, confirmed) = (self.options.of_record, self.options.confirmed);
        confirmations.retain(|row| of_record && row.source_lsn > confirmed);
    }

    fn keep_spare(&mut self, batch: Sealed) {
        if self.spare.len() < usize::from(self.options.in_flight_max.get()) {
            self.spare.push(batch.recycle());
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
            self.settle(delivered).await;
        }
        self.status.enter(State::Ended, "");
    }
}
