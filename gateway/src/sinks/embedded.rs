//! The embedded store as a sink: samples, windows and quarantine, and by default the ledger's sink of record.
//!
//! Two cursors, because the store's content reaches the disk in large steps and the ledger moves in small ones:
//! - *written*: kept by the store itself, in the same batch as the samples it stands for. After a crash, records behind
//!   it are written again; the store knows those it has.
//! - *confirmed*: kept in the lane's checkpoint. Records behind it are confirmed, again or for the first time; what was
//!   written and not confirmed before a crash is confirmed with the conflicts that the quarantine has of it.
//!
//! Where source records behind the checkpoint are decided anew ([`Options::source_lsn_max`]), *written* goes back to it: the store takes what
//! it has already as once. Both move by complete source records. The decided log is released by *written* alone. An error of the
//! store is never retried on the same handle: the sink stops as held, says why, and what follows stays in the decided log
//! until a restart. A decided log that cannot be read is read again, at growing intervals, and the sink is held until then.
//!
//! The quarantine is in `refused`. Discards are reported to the ledger after the checkpoint that made them durable, by
//! number ([`Discard`](hunhe_store::Discard)), so that each is counted once. Records can be judged again from when all
//! that was journaled before the start is in the store. What is old goes once in
//! [`Options::retain_every`], by a clock that does not jump (`steady`).

mod refused;
mod steady;

use crate::{
    clock::Clock,
    decided::{
        Confirmation, Confirmations, Decided, Samples, Window,
        feed::{Feed, Step},
    },
    retry::Backoff,
    sinks::{
        Running, Site, is_stopping,
        status::{SinkStatus, State},
    },
};
use hunhe_gateway_core::{
    event::Confirmed,
    registry::{Place, Registry},
};
use hunhe_log::{Lsn, ReadError, Tail, cursor::Cursor};
use hunhe_store::{Conflict, DeviceKey, Rollup, Rows, Store, StoreError};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The name in configuration, status and checkpoints.
pub const NAME: &str = "embedded";
/// How often the store's memory goes to disk.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// How often what is old goes from the store.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

/// How the sink works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Store samples and windows; without, quarantine alone.
    pub samples: bool,
    /// Its confirmations are the ledger's.
    pub of_record: bool,
    /// The source record up to which its confirmations of refused samples are counted already.
    pub confirmed: u64,
    /// The source record up to which the confirmations of whoever is of record are: another sink may have been before.
    pub confirmed_of_record: u64,
    /// Source records behind this one are decided anew, perhaps otherwise: what was written of them counts for nothing.
    pub source_lsn_max: u64,
    /// The last journal record before this start.
    pub replay_to: u64,
    /// The last discard of the quarantine that the ledger has counted.
    pub discarded: u64,
    /// How often the store's memory goes to disk.
    pub checkpoint_every: Duration,
    /// How often what is old goes.
    pub retain_every: Duration,
    /// How long a quarantine record is kept, in milliseconds.
    pub quarantine_age_ms: i64,
    /// For retention.
    pub clock: Clock,
}

/// The sink cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The store fails.
    #[error("the embedded store fails")]
    Store(#[from] StoreError),
    /// The decided log fails.
    #[error("the decided log cannot be read")]
    Feed(#[from] ReadError),
    /// No thread to be had.
    #[error("no thread for the embedded store's sink")]
    Thread(#[from] std::io::Error),
}

/// The embedded store as configured; its quarantine works in any case.
pub(super) fn register(site: &Site<'_>) -> anyhow::Result<Vec<Running>> {
    let counted = &site.counted;
    let options = Options {
        samples: site.config.embedded.enabled,
        of_record: site.config.sink_of_record == NAME,
        confirmed: counted.by_sink.get(NAME).copied().unwrap_or(0),
        confirmed_of_record: counted.of_record,
        source_lsn_max: counted.source_lsn_max,
        replay_to: site.replay_to,
        discarded: counted.discarded,
        checkpoint_every: CHECKPOINT_EVERY,
        retain_every: RETAIN_EVERY,
        quarantine_age_ms: site.config.quarantine.limit_age.as_ms(),
        clock: site.clock,
    };
    let (store, registry) = (Arc::clone(site.store), Arc::clone(site.registry));
    let running = start(options, store, registry, site.decided.clone(), Arc::clone(&site.ledger))?;
    Ok(vec![running])
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
    ledger: Arc<dyn Confirmations>,
) -> Result<Running, EmbeddedError> {
    let mut written = store.cursor()?.and_then(|bytes| read_cursor(&bytes)).unwrap_or_default();
    if written.source_lsn > options.source_lsn_max {
        tracing::warn!(
            from = options.source_lsn_max,
            to = written.source_lsn,
            "decided anew and written again"
        );
        written = Cursor { source_lsn: options.source_lsn_max, decided_lsn: Lsn::NONE };
        store.forget_discards_behind(options.source_lsn_max);
        // At once: another crash must not make it valid again.
        store.checkpoint(&cursor_bytes(written))?;
    }
    store.continue_discards(options.discarded);
    let of_record = if options.of_record { options.confirmed_of_record } else { u64::MAX };
    let confirmed = options.confirmed.min(of_record);
    let status = Arc::new(SinkStatus::new(NAME.into(), tail.clone()));
    // What is written and not yet confirmed must be read once more, so it is still needed.
    let known = if confirmed < written.source_lsn {
        Cursor { source_lsn: confirmed, decided_lsn: Lsn::NONE }
    } else {
        written
    };
    status.moved(known);
    let sink = Sink {
        options,
        store,
        keys: vec![None; registry.devices().len()],
        registry,
        ledger,
        status,
        written,
        confirmed,
        retold: 0,
        reported: options.discarded,
        replay_end: None,
        current: 0,
        open: Vec::new(),
        done: Vec::new(),
        redriven: None,
        conflicts: Vec::new(),
        checkpoint_due: false,
    };
    Ok(Running::start(Following { sink, decided: tail, known })?)
}

fn cursor_bytes(cursor: Cursor) -> Vec<u8> {
    let mut bytes = cursor.source_lsn.to_le_bytes().to_vec();
    bytes.extend_from_slice(&cursor.decided_lsn.0.to_le_bytes());
    bytes
}

fn read_cursor(bytes: &[u8]) -> Option<Cursor> {
    let (source_lsn, decided_lsn) = bytes.split_first_chunk::<8>()?;
    Some(Cursor {
        source_lsn: u64::from_le_bytes(*source_lsn),
        decided_lsn: Lsn(u64::from_le_bytes(decided_lsn.try_into().ok()?)),
    })
}

/// A set as the store takes it.
fn rows_of<'a>(samples: &Samples<'a>) -> Rows<'a> {
    Rows {
        boot: samples.boot,
        times_ms: samples.times_ms(),
        seqs: samples.seqs(),
        quality: samples.quality(),
        channels: samples.channels(),
        values: samples.values(),
    }
}

struct Sink {
    options: Options,
    store: Arc<Store>,
    registry: Arc<Registry>,
    ledger: Arc<dyn Confirmations>,
    status: Arc<SinkStatus>,
    written: Cursor,
    confirmed: u64,
    /// The source record whose conflicts were told once more.
    retold: u64,
    /// The last discard that was reported to the ledger.
    reported: u64,
    /// The last decided record of the journal as it was at the start, once the lane has come so far.
    replay_end: Option<Lsn>,
    /// By the device's place in the registry.
    keys: Vec<Option<DeviceKey>>,
    /// The source record being read.
    current: u64,
    /// Its confirmations.
    open: Vec<Confirmation>,
    /// Confirmations of complete source records, not yet said.
    done: Vec<Confirmation>,
    /// A refused message being judged again, and whether some of it was refused once more.
    redriven: Option<(u64, bool)>,
    conflicts: Vec<Conflict>,
    checkpoint_due: bool,
}

/// Records between two looks at the clock.
const RECORDS_PER_TURN: usize = 4096;
/// The longest sleep without a look at whether to stop.
const NAP: Duration = Duration::from_millis(100);
/// Discards wait no longer than this for a checkpoint, and with it for the ledger.
const DISCARDS_WAIT: Duration = Duration::from_secs(5);

/// The sink and its place in the decided log, which its own thread opens: a disk that cannot read it holds up no start.
struct Following {
    sink: Sink,
    decided: Tail,
    known: Cursor,
}

impl super::Sink for Following {
    fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(&self.sink.status)
    }

    fn run(mut self, stop: watch::Receiver<bool>) {
        let status = self.status();
        let Some(feed) = self.open(&stop) else { return status.enter(State::Ended, "") };
        let mut feed = if self.sink.options.samples { feed } else { feed.heads_only() };
        if let Err(error) = self.sink.follow(&mut feed, &stop) {
            let words = format!("{:#}", anyhow::Error::from(error));
            tracing::error!(
                error = words,
                "the embedded store's sink has stopped: decisions wait in the decided log"
            );
            status.enter(State::Held, &words);
            return;
        }
        status.enter(State::Ended, "");
    }
}

impl Following {
    /// Opens the decided log, as often as needed; `None`: asked to stop. One attempt is made in any case, since a stop is
    /// for after the log's end.
    fn open(&self, stop: &watch::Receiver<bool>) -> Option<Feed> {
        let mut backoff = Backoff::default();
        loop {
            match Feed::open(self.decided.clone(), self.known) {
                Ok(feed) => return Some(feed),
                Err(_) if is_stopping(stop) => return None,
                Err(error) => self.sink.hold(&error, &mut backoff, stop),
            }
        }
    }
}

impl Sink {
    /// Waits before the decided log is read again, but not beyond a request to stop.
    fn hold(&self, error: &ReadError, backoff: &mut Backoff, stop: &watch::Receiver<bool>) {
        tracing::error!(sink = NAME, %error, "the decided log cannot be read; trying again");
        self.status.enter(State::Held, &error.to_string());
        let until = Instant::now() + Duration::from_millis(backoff.next_held_ms());
        while !is_stopping(stop) && Instant::now() < until {
            std::thread::sleep(NAP);
        }
    }

    fn follow(&mut self, feed: &mut Feed, stop: &watch::Receiver<bool>) -> Result<(), EmbeddedError> {
        self.status.enter(State::Running, "");
        let mut unreadable = None;
        let mut checkpoint_at = Instant::now();
        let mut retain_at = Instant::now();
        let mut steady = steady::Steady::default();
        loop {
            let stopping = is_stopping(stop);
            let caught_up = match self.turn(feed) {
                Err(EmbeddedError::Feed(_)) if stopping => return self.checkpoint(feed),
                Err(EmbeddedError::Feed(error)) => {
                    self.hold(&error, unreadable.get_or_insert_with(Backoff::default), stop);
                    continue;
                }
                turned => turned?,
            };
            if unreadable.take().is_some() {
                self.status.enter(State::Running, "");
            }
            let discards_due = checkpoint_at.elapsed() >= DISCARDS_WAIT && self.store.is_discard_waiting();
            if checkpoint_at.elapsed() >= self.options.checkpoint_every || self.checkpoint_due || discards_due
            {
                checkpoint_at = Instant::now();
                self.checkpoint(feed)?;
            }
            if retain_at.elapsed() >= self.options.retain_every {
                let passed_ms = self.options.clock.event_ms(retain_at.elapsed());
                retain_at = Instant::now();
                self.retain(feed, steady.look(self.options.clock.now_ms(), passed_ms.into()))?;
            }
            if caught_up && stopping {
                return self.checkpoint(feed);
            }
            if caught_up {
                feed.wait(NAP);
            }
        }
    }

    fn turn(&mut self, feed: &mut Feed) -> Result<bool, EmbeddedError> {
        let mut read = Ok(false);
        let mut rows = 0;
        for _ in 0..RECORDS_PER_TURN {
            // A full quarantine may take as much in one turn as the store holds in memory.
            if self.checkpoint_due {
                break;
            }
            match feed.step() {
                Ok(Step::CaughtUp) => {
                    read = Ok(true);
                    break;
                }
                // What was read before is taken; the next turn tries at the same place.
                Err(error) => {
                    read = Err(error);
                    break;
                }
                Ok(Step::Lost { records, how }) => self.status.lose(records, how),
                Ok(Step::Record(_, decided)) => {
                    if decided.source_lsn() != self.current {
                        self.end_source()?;
                        self.current = decided.source_lsn();
                    }
                    rows += self.take(&decided)?;
                }
            }
        }
        let caught_up = matches!(read, Ok(true));
        if caught_up && feed.complete().source_lsn >= self.current {
            self.end_source()?;
        }
        if rows > 0 {
            self.status.wrote(rows);
            self.status.batch_done();
        }
        if caught_up {
            self.status.caught_up();
        }
        self.open_redrives(feed);
        self.confirm(feed.complete().source_lsn);
        Ok(read?)
    }

    /// Returns how many rows were new to the store.
    fn take(&mut self, decided: &Decided<'_>) -> Result<u64, EmbeddedError> {
        let write = decided.source_lsn() > self.written.source_lsn;
        match decided {
            Decided::Samples(samples) => {
                if let Some(record) = samples.redrive_of {
                    self.redriven.get_or_insert((record, false));
                }
                let confirm = self.options.of_record && samples.source_lsn > self.options.confirmed_of_record;
                samples.iter().map(|samples| self.take_samples(&samples, write, confirm)).sum()
            }
            Decided::Windows(windows) if write => {
                windows.iter().map(|window| self.take_window(&window).map(|()| 1)).sum()
            }
            Decided::Windows(_) => Ok(0),
            Decided::Refused(refused) => {
                let confirm = refused.source_lsn > self.options.confirmed;
                self.take_refused(refused, write, confirm).map(|()| 0)
            }
            Decided::Judged { record, .. } => {
                self.redriven = Some((*record, false));
                Ok(0)
            }
        }
    }

    fn take_samples(
        &mut self,
        samples: &Samples<'_>,
        write: bool,
        confirm: bool,
    ) -> Result<u64, EmbeddedError> {
        let mut lost_here = 0;
        if write {
            let device = self.key(samples.place, samples.device)?;
            self.conflicts.clear();
            let outcome = self.store.write(device, &rows_of(samples), &mut self.conflicts)?;
            self.checkpoint_due |= outcome.checkpoint_due;
            for conflict in std::mem::take(&mut self.conflicts) {
                lost_here += u64::from(!conflict.was_stored);
                self.quarantine_conflict(samples, &conflict, confirm)?;
            }
        } else if confirm && self.retold != samples.source_lsn {
            self.retold = samples.source_lsn;
            self.tell_conflicts_again(samples.source_lsn)?;
        }
        if confirm {
            let rows = samples.rows as u64;
            self.open.push(Confirmation {
                source_lsn: samples.source_lsn,
                device: samples.device,
                index: self.registry.find_at(samples.place, samples.device),
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

    fn take_window(&mut self, window: &Window<'_>) -> Result<(), EmbeddedError> {
        let device = self.key(window.place, window.device)?;
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

    fn end_source(&mut self) -> Result<(), EmbeddedError> {
        self.done.append(&mut self.open);
        self.end_redrive()
    }

    fn confirm(&mut self, complete: u64) {
        if complete <= self.confirmed {
            return;
        }
        self.confirmed = complete;
        let rows = std::mem::take(&mut self.done);
        self.ledger.confirmed(&NAME.into(), complete, rows);
    }

    fn checkpoint(&mut self, feed: &Feed) -> Result<(), EmbeddedError> {
        self.checkpoint_due = false;
        if feed.complete().source_lsn > self.written.source_lsn {
            self.written = feed.complete();
        }
        self.store.checkpoint(&cursor_bytes(self.written))?;
        self.report_discards();
        // After a crash it is ahead of what is confirmed, and that is still to be read.
        if self.confirmed >= self.written.source_lsn {
            self.status.moved(self.written);
        }
        Ok(())
    }

    fn key(&mut self, place: Place, device: hunhe_proto::id::Id) -> Result<DeviceKey, EmbeddedError> {
        let Some(index) = self.registry.find_at(place, device) else {
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
