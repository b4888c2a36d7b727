//! The embedded store as a sink: samples, windows and quarantine, and by default the ledger's sink of record.
//!
//! Two cursors, because the store's content reaches the disk in large steps and the ledger moves in small ones:
//! - *written*: kept by the store itself, in the same batch as the samples it stands for. After a crash, records behind
//!   it are written again; the store knows those it has.
//! - *confirmed*: kept in the lane's checkpoint. Records behind it are confirmed, again or for the first time; what was
//!   written and not confirmed before a crash is confirmed with the conflicts that the quarantine has of it.
//!
//! Where causes behind the checkpoint are decided anew ([`Options::cause_max`]), *written* goes back to it: the store takes what
//! it has already as once. Both move by complete causes. The decided log is released by *written* alone. An error of the store is never
//! retried on the same handle: the sink stops, says so, and what follows stays in the decided log until a restart.

use crate::{
    clock::Clock,
    decided::{Decided, Refused, RefusedParts, Samples, StoredChannel, Window},
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
    /// The cause up to which its confirmations of refused samples are counted already.
    pub confirmed: u64,
    /// The cause up to which the confirmations of whoever is of record are: another sink may have been before.
    pub confirmed_of_record: u64,
    /// Causes behind this one are decided anew, perhaps otherwise: what was written of them counts for nothing.
    pub cause_max: u64,
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

    /// Has it ended without saying why? One that the store holds up has, and waits for a restart.
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        self.thread.is_finished() && !matches!(self.status.snapshot().state, State::Held | State::Ended)
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
    let mut written = store.cursor()?.and_then(|bytes| read_cursor(&bytes)).unwrap_or_default();
    if written.cause > options.cause_max {
        tracing::warn!(from = options.cause_max, to = written.cause, "decided anew and written again");
        written = Cursor { cause: options.cause_max, hint: Lsn::NONE };
        // At once: another crash must not make it valid again.
        store.checkpoint(&cursor_bytes(written))?;
    }
    let of_record = if options.of_record { options.confirmed_of_record } else { u64::MAX };
    let confirmed = options.confirmed.min(of_record);
    let status = Arc::new(SinkStatus::new(NAME.into(), tail.clone()));
    // What is written and not yet confirmed must be read once more, so it is still needed.
    let known =
        if confirmed < written.cause { Cursor { cause: confirmed, hint: Lsn::NONE } } else { written };
    status.moved(known);
    let feed = Feed::open(tail, known.hint)?;
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
        confirmed,
        retold: 0,
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

fn cursor_bytes(cursor: Cursor) -> Vec<u8> {
    let mut bytes = cursor.cause.to_le_bytes().to_vec();
    bytes.extend_from_slice(&cursor.hint.0.to_le_bytes());
    bytes
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
    /// The cause whose conflicts were told once more.
    retold: u64,
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
/// A report holds no more samples, and each meets one other at most.
const CONFLICTS_MAX: usize = 4096;

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
                Step::Lost { records } => self.lose(records),
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
        match decided {
            Decided::Samples(samples) => {
                let confirm = self.options.of_record && samples.cause > self.options.confirmed_of_record;
                self.take_samples(samples, write, confirm)
            }
            Decided::Window(window) if write && self.options.samples => self.take_window(window).map(|()| 1),
            Decided::Window(_) => Ok(0),
            Decided::Refused(refused) => {
                let confirm = refused.cause > self.options.confirmed;
                self.take_refused(refused, write, confirm).map(|()| 0)
            }
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
                self.quarantine_conflict(samples, &conflict, confirm)?;
            }
        } else if confirm && self.retold != samples.cause {
            self.retold = samples.cause;
            self.tell_conflicts_again(samples.cause)?;
        }
        if confirm {
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
        confirm: bool,
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
        if conflict.was_stored && confirm {
            self.open.push(displaced(samples.cause, samples.device, conflict.boot));
        }
        Ok(())
    }

    /// A cause that was written before a crash: its losers are in quarantine, and are told as displaced, whichever sample of
    /// the two it was. Of those that the quarantine has discarded nothing is known.
    fn tell_conflicts_again(&mut self, cause: u64) -> Result<(), EmbeddedError> {
        let ids = conflict_ids(cause);
        let found = self.store.list_quarantine(ids.start.checked_sub(1), CONFLICTS_MAX)?;
        for (_, record) in found.iter().take_while(|(id, _)| ids.contains(id)) {
            let Ok(refused) = crate::decided::read_refused_record(record) else { continue };
            // Ids of causes far apart may meet.
            if let Some(device) = refused.device.filter(|_| refused.cause == cause) {
                self.open.push(displaced(cause, device, refused.boot));
            }
        }
        Ok(())
    }

    fn lose(&self, records: u64) {
        tracing::error!(records, "decided records cannot be read: they are missing in the embedded store");
        self.status.lost(records);
        self.status.warn(format!("{records} decided records are missing here: damaged on disk"));
    }

    /// The loser as the report it could have come in, so that it can be looked at like any other.
    fn as_report(&self, device: hunhe_proto::id::Id, conflict: &Conflict) -> Vec<u8> {
        let Some(index) = self.registry.find(device) else { return Vec::new() };
        let rules = self.registry.class_of(index);
        let unit_ms = i64::from(rules.axis.unit_ms.max(1));
        let quality = [conflict.quality];
        // As the newest version has them: the sample may have been stored under an older one.
        let values: Vec<(u16, i64)> = conflict
            .values
            .iter()
            .filter_map(|&(bits, value)| {
                let channel = StoredChannel::from_bits(bits);
                let decimals = rules.class.channels[rules.position(channel.number())?].decimals;
                Some((channel.number(), value.saturating_mul(channel.factor_to(decimals))))
            })
            .collect();
        let columns: Vec<ColumnDraft<'_>> = values
            .iter()
            .map(|(channel, value)| ColumnDraft {
                channel: *channel,
                values: std::slice::from_ref(value),
                quality: &quality,
            })
            .collect();
        let block =
            BlockDraft { t0: conflict.time_ms / unit_ms, step: 0, dt: &[], samples: 1, columns: &columns };
        let class_version = Some(rules.class.version);
        let header = Header { boot: conflict.boot, seq: conflict.seq, class_version, ..Header::default() };
        let mut out = vec![0; hunhe_proto::reading::REPORT_BYTES_MAX];
        let written = encode(&Draft { header, drops: &[], blocks: &[block] }, &mut out);
        // One sample of at most 32 channels always fits.
        out.truncate(written.unwrap_or(0));
        out
    }

    fn take_window(&mut self, window: &Window<'_>) -> Result<(), EmbeddedError> {
        let device = self.key(window.device)?;
        for (channel, stat) in window.stats() {
            let rollup = Rollup {
                resolution_s: u32::try_from(window.length_ms / 1000).unwrap_or(u32::MAX),
                start_ms: window.start_ms,
                revision: window.revision,
                channel: channel.bits(),
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
            // One that names no samples, as of a device unknown by now, must not take the place of one that does.
            if write && refused.samples() > 0 {
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
        // What is written once more after a crash discards once more what was counted.
        let Some(discarded) = discarded.filter(|_| self.current > self.options.confirmed) else {
            return Ok(());
        };
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
        self.store.checkpoint(&cursor_bytes(self.written))?;
        // After a crash it is ahead of what is confirmed, and that is still to be read.
        if self.confirmed >= self.written.cause {
            self.status.moved(self.written);
        }
        Ok(())
    }

    fn key(&mut self, device: hunhe_proto::id::Id) -> Result<DeviceKey, EmbeddedError> {
        let Some(index) = self.registry.find(device) else {
            // Of an earlier registry, and still in the decided log.
            return Ok(self.store.device(self.registry.shown_as(device).as_str())?);
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
    conflict_ids(cause).start | u64::from(identity)
}

/// The ids of a cause's conflicts.
fn conflict_ids(cause: u64) -> std::ops::Range<u64> {
    let start = (1 << 52) | ((cause & 0x7_ffff) << 32);
    start..start + (1 << 32)
}

fn displaced(cause: u64, device: hunhe_proto::id::Id, boot: u32) -> Confirmation {
    Confirmation { cause, device, boot, confirmed: Confirmed { displaced: 1, ..Confirmed::default() } }
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
        self.channels.extend(samples.channels().map(StoredChannel::bits));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Options as LogOptions, Writer};

    #[test]
    fn an_end_without_a_word_is_told_from_one_that_the_store_forced() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            disk: hunhe_disk::real(),
            dir: dir.path().to_path_buf(),
            segment_bytes: 1 << 20,
            limit_bytes: 1 << 22,
        };
        let (writer, _) = Writer::open(options).unwrap();
        let status = Arc::new(SinkStatus::new(NAME.into(), writer.subscribe()));
        let thread = std::thread::spawn(|| {});
        let handle = Handle { status: Arc::clone(&status), stop: Arc::default(), thread };
        while !handle.thread.is_finished() {
            std::thread::yield_now();
        }
        status.enter(State::Running, "");
        assert!(handle.has_panicked());
        status.enter(State::Held, "the disk is full");
        assert!(!handle.has_panicked());
    }
}
