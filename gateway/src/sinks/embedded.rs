//! The embedded store as a sink: samples, windows and quarantine, and by default the ledger's sink of record.
//!
//! Two cursors, because the store's content reaches the disk in large steps and the ledger moves in small ones:
//! - *written*: kept by the store itself, in the same batch as the samples it stands for. After a crash, records behind
//!   it are written again; the store knows those it has.
//! - *confirmed*: kept in the lane's checkpoint. Records behind it are confirmed, again or for the first time.
//!
//! Both move by complete causes. The decided log is released by *written* alone. An error of the store is never
//! retried on the same handle: the sink stops, says so, and what follows stays in the decided log until a restart.

use crate::{
    clock::Clock,
    decided::{Decided, Refused, RefusedParts, Samples, Window},
    journal::{Lsn, ReadError, Tail},
    lane::{LaneHandle, Said},
    sinks::{
        Confirmation,
        cursor::Cursor,
        feed::{Feed, FeedError, Step},
        status::{SinkStatus, State},
    },
    store::{Conflict, DeviceKey, Rollup, Rows, Store, StoreError},
};
use hunhe_gateway_core::{event::Confirmed, registry::Registry};
use hunhe_proto::{
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    reading::Header,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The name in configuration, status and checkpoints.
pub const NAME: &str = "embedded";
/// Why the loser of two samples at one time is in quarantine.
pub const CONFLICT: &str = "conflict";

/// How the sink works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Store samples and windows; without, quarantine alone.
    pub samples: bool,
    /// Its confirmations are the ledger's.
    pub of_record: bool,
    /// The cause up to which its confirmations are counted already.
    pub confirmed: u64,
    /// How often the store's memory goes to disk.
    pub checkpoint_every: Duration,
    /// For retention.
    pub clock: Clock,
}

/// A running sink.
#[derive(Debug)]
pub struct Handle {
    /// What it says of itself.
    pub status: Arc<SinkStatus>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Ends it, with all that is in the decided log by now in the store and on disk.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there has been reported by the panic hook; there is nothing to add.
        let _ = self.thread.join();
    }
}

/// The sink cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The store fails.
    #[error("the embedded store fails")]
    Store(#[from] StoreError),
    /// The decided log fails.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The decided log cannot be opened.
    #[error("the decided log cannot be read")]
    Open(#[from] ReadError),
    /// No thread to be had.
    #[error("no thread for the embedded store's sink")]
    Thread(#[from] std::io::Error),
}

/// Starts the sink.
///
/// # Errors
/// [`EmbeddedError`].
pub fn start(
    options: Options,
    store: Arc<Store>,
    registry: Arc<Registry>,
    tail: Tail,
    lane: LaneHandle,
) -> Result<Handle, EmbeddedError> {
    let written = store.cursor()?.and_then(|bytes| read_cursor(&bytes)).unwrap_or_default();
    let status = Arc::new(SinkStatus::new(NAME.into(), tail.clone()));
    status.moved(written);
    // What is written and not yet confirmed must be read once more, from the oldest record there is.
    let from = if options.confirmed < written.cause { Lsn::NONE } else { written.hint };
    let feed = Feed::open(tail, from)?;
    let stop = Arc::new(AtomicBool::new(false));
    let sink = Sink {
        options,
        store,
        keys: vec![None; registry.devices().len()],
        registry,
        lane,
        status: Arc::clone(&status),
        stop: Arc::clone(&stop),
        written,
        confirmed: options.confirmed,
        current: 0,
        open: Vec::new(),
        done: Vec::new(),
        redriven: None,
        conflicts: Vec::new(),
        columns: Columns::default(),
        checkpoint_due: false,
    };
    let thread = std::thread::Builder::new().name("embedded".into()).spawn(move || sink.run(feed))?;
    Ok(Handle { status, stop, thread })
}

fn read_cursor(bytes: &[u8]) -> Option<Cursor> {
    let (cause, hint) = bytes.split_first_chunk::<8>()?;
    Some(Cursor { cause: u64::from_le_bytes(*cause), hint: Lsn(u64::from_le_bytes(hint.try_into().ok()?)) })
}

/// A record's arrays, as the store takes them.
#[derive(Debug, Default)]
struct Columns {
    times_ms: Vec<i64>,
    seqs: Vec<u64>,
    quality: Vec<u8>,
    channels: Vec<u16>,
    values: Vec<i64>,
}

struct Sink {
    options: Options,
    store: Arc<Store>,
    registry: Arc<Registry>,
    lane: LaneHandle,
    status: Arc<SinkStatus>,
    stop: Arc<AtomicBool>,
    written: Cursor,
    confirmed: u64,
    /// By the device's place in the registry.
    keys: Vec<Option<DeviceKey>>,
    /// The cause being read.
    current: u64,
    /// Its confirmations.
    open: Vec<Confirmation>,
    /// Confirmations of complete causes, not yet said.
    done: Vec<Confirmation>,
    /// A quarantine record being judged again, and whether some of it was refused once more.
    redriven: Option<(u64, bool)>,
    conflicts: Vec<Conflict>,
    columns: Columns,
    checkpoint_due: bool,
}

/// Records between two looks at the clock.
const RECORDS_PER_TURN: usize = 4096;

impl Sink {
    fn run(mut self, mut feed: Feed) {
        if let Err(error) = self.follow(&mut feed) {
            let words = format!("{:#}", anyhow::Error::from(error));
            tracing::error!(
                error = words,
                "the embedded store's sink has stopped: decisions wait in the decided log"
            );
            self.status.enter(State::Held, &words);
            return;
        }
        self.status.enter(State::Ended, "");
    }

    fn follow(&mut self, feed: &mut Feed) -> Result<(), EmbeddedError> {
        self.status.enter(State::Running, "");
        let mut checkpoint_at = Instant::now();
        let mut retain_at = Instant::now();
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            let caught_up = self.turn(feed)?;
            if checkpoint_at.elapsed() >= self.options.checkpoint_every || self.checkpoint_due {
                checkpoint_at = Instant::now();
                self.checkpoint(feed)?;
            }
            if retain_at.elapsed() >= Duration::from_secs(3600) {
                retain_at = Instant::now();
                self.store.retain(self.options.clock.now_ms())?;
            }
            if caught_up && stopping {
                return self.checkpoint(feed);
            }
            if caught_up {
                feed.wait(Duration::from_millis(100));
            }
        }
    }

    fn turn(&mut self, feed: &mut Feed) -> Result<bool, EmbeddedError> {
        let mut caught_up = false;
        let mut rows = 0;
        for _ in 0..RECORDS_PER_TURN {
            // A full quarantine may take as much in one turn as the store holds in memory.
            if self.checkpoint_due {
                break;
            }
            match feed.step()? {
                Step::CaughtUp => {
                    caught_up = true;
                    break;
                }
                Step::Lost => {}
                Step::Record(_, decided) => {
                    if decided.cause() != self.current {
                        self.end_cause()?;
                        self.current = decided.cause();
                    }
                    rows += self.take(&decided)?;
                }
            }
        }
        if caught_up && feed.complete() >= self.current {
            self.end_cause()?;
        }
        if rows > 0 {
            self.status.wrote(rows);
            self.status.batch_done();
        }
        if caught_up {
            self.status.caught_up();
        }
        self.confirm(feed.complete());
        Ok(caught_up)
    }

    /// Returns how many rows were new to the store.
    fn take(&mut self, decided: &Decided<'_>) -> Result<u64, EmbeddedError> {
        let write = decided.cause() > self.written.cause;
        let confirm = decided.cause() > self.confirmed;
        match decided {
            Decided::Samples(samples) => self.take_samples(samples, write, confirm),
            Decided::Window(window) if write && self.options.samples => self.take_window(window).map(|()| 1),
            Decided::Window(_) => Ok(0),
            Decided::Refused(refused) => self.take_refused(refused, write, confirm).map(|()| 0),
        }
    }

    fn take_samples(
        &mut self,
        samples: &Samples<'_>,
        write: bool,
        confirm: bool,
    ) -> Result<u64, EmbeddedError> {
        if let Some(record) = samples.redrive_of {
            self.redriven.get_or_insert((record, false));
        }
        if !self.options.samples {
            return Ok(0);
        }
        let mut lost_here = 0;
        if write {
            let device = self.key(samples.device)?;
            self.columns.fill(samples);
            self.conflicts.clear();
            let outcome = self.store.write(device, &self.columns.rows(samples.boot), &mut self.conflicts)?;
            self.checkpoint_due |= outcome.checkpoint_due;
            for conflict in std::mem::take(&mut self.conflicts) {
                lost_here += u64::from(!conflict.was_stored);
                self.quarantine_conflict(samples, &conflict)?;
            }
        }
        if confirm && self.options.of_record {
            let rows = samples.rows as u64;
            self.open.push(Confirmation {
                cause: samples.cause,
                device: samples.device,
                boot: samples.boot,
                confirmed: Confirmed {
                    handled: samples.announced.into(),
                    stored: rows - lost_here,
                    quarantined: lost_here,
                    displaced: 0,
                },
            });
        }
        Ok(if write { samples.rows as u64 } else { 0 })
    }

    /// The loser of two samples at one time stays in the store's own list, and moves in the ledger.
    fn quarantine_conflict(
        &mut self,
        samples: &Samples<'_>,
        conflict: &Conflict,
    ) -> Result<(), EmbeddedError> {
        let report = self.as_report(samples.device, conflict);
        let ranges = [(conflict.seq, 1, CONFLICT)];
        let record = RefusedParts {
            cause: samples.cause,
            device: Some(samples.device),
            arrival_ms: self.options.clock.now_ms(),
            boot: conflict.boot,
            redrive_of: None,
            reason: CONFLICT,
            topic: hunhe_proto::topic::up(samples.device).as_bytes(),
            payload: &report,
        }
        .to_record(ranges.into_iter());
        let id = conflict_id(samples.cause, conflict);
        self.put_quarantine(id, &record)?;
        if conflict.was_stored && self.options.of_record {
            let confirmed = Confirmed { displaced: 1, ..Confirmed::default() };
            let (cause, device) = (samples.cause, samples.device);
            self.open.push(Confirmation { cause, device, boot: conflict.boot, confirmed });
        }
        Ok(())
    }

    /// The loser as the report it could have come in, so that it can be looked at like any other.
    fn as_report(&self, device: hunhe_proto::id::Id, conflict: &Conflict) -> Vec<u8> {
        let Some(index) = self.registry.find(device) else { return Vec::new() };
        let unit_ms = i64::from(self.registry.class_of(index).axis.unit_ms.max(1));
        let quality = [conflict.quality];
        let columns: Vec<ColumnDraft<'_>> = conflict
            .values
            .iter()
            .map(|(channel, value)| ColumnDraft {
                channel: *channel,
                values: std::slice::from_ref(value),
                quality: &quality,
            })
            .collect();
        let block =
            BlockDraft { t0: conflict.time_ms / unit_ms, step: 0, dt: &[], samples: 1, columns: &columns };
        let header = Header { boot: conflict.boot, seq: conflict.seq, ..Header::default() };
        let mut out = vec![0; hunhe_proto::reading::REPORT_BYTES_MAX];
        let written = encode(&Draft { header, drops: &[], blocks: &[block] }, &mut out);
        // One sample of at most 32 channels always fits.
        out.truncate(written.unwrap_or(0));
        out
    }

    fn take_window(&mut self, window: &Window<'_>) -> Result<(), EmbeddedError> {
        let device = self.key(window.device)?;
        for stat in window.stats() {
            let rollup = Rollup {
                resolution_s: u32::try_from(window.length_ms / 1000).unwrap_or(u32::MAX),
                start_ms: window.start_ms,
                revision: window.revision,
                channel: stat.channel,
                count: stat.count,
                expected: window.expected,
                sum: stat.sum,
                min: stat.min,
                max: stat.max,
                last: stat.last,
            };
            self.store.put_rollup(device, &rollup)?;
        }
        Ok(())
    }

    fn take_refused(
        &mut self,
        refused: &Refused<'_>,
        write: bool,
        confirm: bool,
    ) -> Result<(), EmbeddedError> {
        let record = refused.to_record();
        if let Some(id) = refused.redrive_of {
            self.redriven = Some((id, true));
            if write {
                self.put_quarantine(id, &record)?;
            }
            return Ok(());
        }
        if write {
            self.put_quarantine(refused.cause, &record)?;
        }
        let samples = refused.samples();
        if let Some(device) = refused.device.filter(|_| confirm && samples > 0) {
            let confirmed = Confirmed { handled: samples, quarantined: samples, ..Confirmed::default() };
            self.open.push(Confirmation { cause: refused.cause, device, boot: refused.boot, confirmed });
        }
        Ok(())
    }

    /// At the quarantine's bound the oldest record goes, and its samples are declared lost.
    fn put_quarantine(&mut self, id: u64, record: &[u8]) -> Result<(), EmbeddedError> {
        let discarded = self.store.put_quarantine(id, record)?;
        self.checkpoint_due |= self.store.is_checkpoint_due();
        let Some(discarded) = discarded else { return Ok(()) };
        if let Some(said) = discarded_samples(&discarded.bytes) {
            // The lane ends first only when all of us end.
            let _ = self.lane.say(Said::Discarded(said));
        }
        Ok(())
    }

    fn end_cause(&mut self) -> Result<(), EmbeddedError> {
        self.done.append(&mut self.open);
        if let Some((record, refused_again)) = self.redriven.take()
            && !refused_again
        {
            self.store.remove_quarantine(record)?;
        }
        Ok(())
    }

    fn confirm(&mut self, complete: u64) {
        if complete <= self.confirmed {
            return;
        }
        self.confirmed = complete;
        let rows = std::mem::take(&mut self.done);
        let _ = self.lane.say(Said::Confirmed { sink: NAME.into(), cause: complete, rows });
    }

    fn checkpoint(&mut self, feed: &Feed) -> Result<(), EmbeddedError> {
        self.checkpoint_due = false;
        if feed.complete() > self.written.cause {
            self.written = Cursor { cause: feed.complete(), hint: feed.complete_at() };
        }
        let mut bytes = self.written.cause.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.written.hint.0.to_le_bytes());
        self.store.checkpoint(&bytes)?;
        self.status.moved(self.written);
        Ok(())
    }

    fn key(&mut self, device: hunhe_proto::id::Id) -> Result<DeviceKey, EmbeddedError> {
        let Some(index) = self.registry.find(device) else {
            // Of an earlier registry, and still in the decided log.
            return Ok(self.store.device(device.as_str())?);
        };
        if let Some(key) = self.keys[index.at()] {
            return Ok(key);
        }
        let key = self.store.device(self.registry.device(index).pseudonym.as_str())?;
        self.keys[index.at()] = Some(key);
        Ok(key)
    }
}

/// Conflicts share the quarantine with refused messages: above every journal record's number, below the dead letters' ids.
fn conflict_id(cause: u64, conflict: &Conflict) -> u64 {
    let identity = crc32c::crc32c_append(conflict.boot, &conflict.seq.to_le_bytes());
    (1 << 52) | ((cause & 0x7_ffff) << 32) | u64::from(identity)
}

/// What a discarded record's samples were, for the ledger.
pub(crate) fn discarded_samples(record: &[u8]) -> Option<Confirmation> {
    let refused = crate::decided::read_refused_record(record).ok()?;
    let quarantined = refused.samples();
    let confirmed = Confirmed { quarantined, ..Confirmed::default() };
    Some(Confirmation { cause: refused.cause, device: refused.device?, boot: refused.boot, confirmed })
}

impl Columns {
    fn fill(&mut self, samples: &Samples<'_>) {
        self.times_ms.clear();
        self.times_ms.extend((0..samples.rows).map(|row| samples.time_ms(row)));
        self.seqs.clear();
        self.seqs.extend((samples.first_seq..).take(samples.rows));
        self.quality.clear();
        self.quality.extend((0..samples.rows).map(|row| samples.quality(row)));
        self.channels.clear();
        self.channels.extend(samples.channels());
        self.values.clear();
        (0..self.channels.len()).for_each(|channel| self.values.extend(samples.column(channel)));
    }

    fn rows(&self, boot: u32) -> Rows<'_> {
        Rows {
            boot,
            times_ms: &self.times_ms,
            seqs: &self.seqs,
            quality: &self.quality,
            channels: &self.channels,
            values: &self.values,
        }
    }
}
