//! Sinks without threads: one that writes to the simulated database and is the sink of record, and one that keeps what was
//! refused. Both are made of the gateway's own pieces (feed, encoder, delivery, cursor); only the waiting is the simulator's.

use hunhe_gateway::{
    decided::{
        Confirmation, Decided, Samples,
        feed::{Feed, Step},
    },
    retry::{Answer, Delivery, Step as Next},
    sinks::influx::line_protocol::{Dialect, Encoder, Style, TextError},
};
use hunhe_gateway_core::{event::Confirmed, registry::Registry};
use hunhe_log::{
    Tail,
    cursor::{Cursor, CursorError, CursorFile, Held},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::database::Answered;

/// A sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Its cursor.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The decided log.
    #[error(transparent)]
    Feed(#[from] hunhe_log::ReadError),
    /// A class's name.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// A request to the database.
#[derive(Debug)]
pub struct Request {
    /// Line protocol.
    pub body: Vec<u8>,
    /// How many lines.
    pub lines: usize,
}

/// The sink of record.
pub struct Recorder {
    feed: Feed,
    encoder: Encoder,
    cursor: CursorFile,
    /// What the cursor says.
    at: Cursor,
    /// Confirmations up to this source record are counted already.
    confirmed: u64,
    /// The decided log may be released up to here.
    pub done: Arc<AtomicU64>,
    batch: Batch,
    delivery: Option<Delivery>,
    waits: bool,
}

#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    ends: Vec<usize>,
    confirmations: Vec<Confirmation>,
    through: Cursor,
}

impl Batch {
    fn add(&mut self, encoder: &mut Encoder, samples: &Samples<'_>) {
        let before = self.ends.len();
        let made = encoder.samples(&mut self.body, samples, |_, end| self.ends.push(end));
        let written = (self.ends.len() - before) as u64;
        debug_assert!(made.is_ok());
        self.confirmations.push(Confirmation {
            source_lsn: samples.source_lsn,
            device: samples.device,
            index: encoder.index_of(samples),
            boot: samples.boot,
            confirmed: Confirmed {
                handled: samples.announced.into(),
                stored: written,
                quarantined: samples.rows as u64 - written,
                displaced: 0,
            },
        });
    }
}

impl Recorder {
    /// Goes on at its cursor.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn open(
        (cursor, held): (CursorFile, Held),
        tail: Tail,
        registry: &Arc<Registry>,
        confirmed: u64,
    ) -> Result<Self, SinkError> {
        let at = match held {
            Held::Cursor(cursor) => cursor,
            Held::Nothing | Held::Damaged => Cursor::default(),
        };
        let style = Style { dialect: Dialect::Influxdb, provenance: true };
        Ok(Self {
            // The decided position is of a log that may have been made anew: what is known is skipped by its source record.
            feed: Feed::open(tail, Cursor::default())?,
            encoder: Encoder::new(Arc::clone(registry), style)?,
            cursor,
            at,
            confirmed,
            done: Arc::new(AtomicU64::new(at.decided_lsn.0)),
            batch: Batch::default(),
            delivery: None,
            waits: false,
        })
    }

    /// The next request, where there is one to be sent now.
    ///
    /// # Errors
    /// [`SinkError::Feed`].
    pub fn request(&mut self) -> Result<Option<Request>, SinkError> {
        if self.waits {
            return Ok(None);
        }
        if self.delivery.is_none() {
            self.fill()?;
            if self.batch.through == Cursor::default() {
                return Ok(None);
            }
            self.delivery = Some(Delivery::new(self.batch.ends.len(), 0));
        }
        let Some(lines) = self.delivery.as_ref().and_then(Delivery::lines) else { return Ok(None) };
        let start = |line: usize| line.checked_sub(1).map_or(0, |before| self.batch.ends[before]);
        let body = self.batch.body[start(lines.start)..start(lines.end)].to_vec();
        self.waits = true;
        Ok(Some(Request { body, lines: lines.len() }))
    }

    /// Takes an answer; says how many milliseconds to wait before the next request.
    pub fn answered(&mut self, answered: Answered, random: u64) -> u64 {
        let answer = match answered {
            Answered::Status(code, retry_after_s) => Answer::Status { code, retry_after_s, body: "" },
            Answered::Nothing => Answer::None("no answer"),
        };
        match self.delivery.as_mut().map(|delivery| delivery.answered(&answer, random)) {
            Some(Next::Wait { wait_ms, .. }) => wait_ms,
            _ => 0,
        }
    }

    /// The wait is over.
    pub fn resume(&mut self) {
        self.waits = false;
    }

    /// What a finished batch confirms; its cursor is saved.
    ///
    /// # Errors
    /// [`SinkError::Cursor`].
    pub fn settle(&mut self) -> Result<Option<(u64, Vec<Confirmation>)>, SinkError> {
        if self.delivery.as_ref().is_none_or(|delivery| delivery.lines().is_some()) {
            return Ok(None);
        }
        self.delivery = None;
        let mut batch = std::mem::take(&mut self.batch);
        batch.confirmations.retain(|row| row.source_lsn > self.confirmed);
        self.at = Cursor {
            source_lsn: batch.through.source_lsn.max(self.at.source_lsn),
            decided_lsn: batch.through.decided_lsn,
        };
        self.cursor.save(self.at)?;
        self.done.store(self.at.decided_lsn.0, Ordering::Relaxed);
        Ok(batch
            .confirmations
            .iter()
            .map(|row| row.source_lsn)
            .max()
            .map(|source_lsn| (source_lsn, batch.confirmations)))
    }

    /// Is everything that was decided in the database?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.delivery.is_none() && self.feed.behind() == 0
    }

    /// All there is: the lane shows whole source records, so a batch holds no part of one.
    fn fill(&mut self) -> Result<(), SinkError> {
        loop {
            match self.feed.step()? {
                Step::CaughtUp => return Ok(()),
                Step::Lost { .. } => {}
                Step::Record(lsn, decided) => {
                    let current = decided.source_lsn();
                    self.batch.through =
                        Cursor { source_lsn: self.at.source_lsn.max(current), decided_lsn: lsn };
                    if current <= self.at.source_lsn {
                        continue;
                    }
                    match decided {
                        Decided::Samples(sets) => {
                            sets.iter().for_each(|samples| self.batch.add(&mut self.encoder, &samples));
                        }
                        Decided::Windows(windows) => {
                            for window in windows.iter() {
                                if self.encoder.window(&mut self.batch.body, &window).is_ok() {
                                    self.batch.ends.push(self.batch.body.len());
                                }
                            }
                        }
                        Decided::Refused(_) | Decided::Judged { .. } => {}
                    }
                }
            }
        }
    }
}

/// A sample that was refused, by device, boot and sequence number.
pub type Refused = BTreeMap<(String, u32, u64), String>;

/// The quarantine's sink. What it keeps is durable at once; what it confirmed is what a checkpoint says.
pub struct Keeper {
    feed: Feed,
    confirmed: u64,
    /// The decided log may be released up to here.
    pub done: Arc<AtomicU64>,
}

/// Its name in checkpoints.
pub const KEEPER: &str = "quarantine";
/// The other's.
pub const RECORDER: &str = "database";

impl Keeper {
    /// Reads from the oldest record; confirms what is behind `confirmed`.
    ///
    /// # Errors
    /// [`SinkError::Feed`].
    pub fn open(tail: Tail, confirmed: u64) -> Result<Self, SinkError> {
        Ok(Self { feed: Feed::open(tail, Cursor::default())?, confirmed, done: Arc::new(AtomicU64::new(0)) })
    }

    /// Keeps all there is; says what that confirms.
    ///
    /// # Errors
    /// [`SinkError::Feed`].
    pub fn turn(&mut self, kept: &mut Refused) -> Result<Option<(u64, Vec<Confirmation>)>, SinkError> {
        let mut rows = Vec::new();
        loop {
            match self.feed.step()? {
                Step::CaughtUp => break,
                Step::Lost { .. } => {}
                Step::Record(_, Decided::Refused(refused)) => {
                    let Some(device) = refused.device else { continue };
                    let mut samples = 0;
                    for (first, count, reason) in refused.ranges() {
                        samples += count;
                        for seq in first..first + count {
                            kept.insert((device.as_str().to_owned(), refused.boot, seq), reason.to_owned());
                        }
                    }
                    if refused.source_lsn > self.confirmed && samples > 0 {
                        let (source_lsn, boot) = (refused.source_lsn, refused.boot);
                        let confirmed =
                            Confirmed { handled: samples, quarantined: samples, ..Confirmed::default() };
                        rows.push(Confirmation { source_lsn, device, index: None, boot, confirmed });
                    }
                }
                Step::Record(..) => {}
            }
        }
        self.done.store(self.feed.complete().decided_lsn.0, Ordering::Relaxed);
        let source_lsn = rows.iter().map(|row| row.source_lsn).max();
        self.confirmed = self.confirmed.max(source_lsn.unwrap_or(0));
        Ok(source_lsn.map(|source_lsn| (source_lsn, rows)))
    }

    /// Has it seen everything?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.feed.behind() == 0
    }
}
