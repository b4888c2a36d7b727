//! The gateway's process without threads and sockets: the real recovery, committer, lane, checkpoints, logs and cursors on a
//! simulated disk; sessions, ticks and the publishing of watermarks as in its shell.

mod sessions;

use crate::{
    broker::{Client, Message, Packet},
    database::Answered,
    fleet::Fleet,
    random::Random,
    sink::{KEEPER, Keeper, RECORDER, Recorder, Refused, Request, SinkError},
};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_gateway::{
    alerts::{AlertLog, describe::Describer},
    decide::{
        CheckpointPolicy, Driver, LaneError, LaneHandle, OF_RECORD, Running, Said, Turn,
        checkpoint::Unfinished,
        published::{Published, Publisher},
        recover::{Layout, Recovered, fingerprint},
    },
    record::{Delivery, Entering},
    setup::{
        config::{DecidedLimits, JournalLimits},
        places::Places,
    },
    watermark::{Outgoing, Taken},
};
use hunhe_gateway_core::{
    event::Rollups,
    lane::{Lane, Policy},
};
use hunhe_log::{
    Bounds, Commits, Error as JournalError, Intake, Lsn, Next, Priority, ReadError, Reader, Settled,
    Settlement, Step, Tail, Unsynced, cursor::CursorFile,
};
use hunhe_proto::topic;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sessions::{CLIENTS, Session, State};

/// What the gateway does to the network.
#[derive(Debug)]
pub enum Act {
    /// Connects.
    Open(Client),
    /// Sends.
    Send(Client, Packet),
    /// Leaves without a word.
    Tear(Client),
}

/// Why a process ended.
#[derive(Debug, thiserror::Error)]
pub enum Death {
    /// Recovery.
    #[error("start: {0:#}")]
    Start(anyhow::Error),
    /// A sink.
    #[error("sink")]
    Sink(#[from] SinkError),
    /// The lane.
    #[error("lane")]
    Lane(#[from] LaneError),
    /// The journal.
    #[error("journal")]
    Journal,
    /// The journal, read.
    #[error("journal, read")]
    Read(#[from] ReadError),
}

/// What the committer's steps settled.
#[derive(Debug, Default)]
struct Outcome {
    acknowledge: Vec<Delivery>,
    /// By record: the checksum of what it holds.
    durable: Vec<(u64, u32)>,
    failed: bool,
}

#[derive(Debug, Clone, Default)]
struct Settle(Arc<Mutex<Outcome>>);

impl Settle {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settlement<Entering> for Settle {
    fn settled(&mut self, batch: &mut Vec<Settled<Entering>>) {
        let mut outcome = self.outcome();
        for settled in batch.drain(..) {
            let Ok(lsn) = settled.outcome else { continue };
            outcome.durable.push((lsn.0, checksum(&settled.item)));
            outcome.acknowledge.extend(settled.item.delivery);
        }
    }

    fn failed(&mut self, _: &JournalError) {
        self.outcome().failed = true;
    }
}

fn checksum(entry: &Entering) -> u32 {
    use hunhe_log::Entry;
    entry.parts().iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part))
}

const ACCEPT_PAST_MS: i64 = 40 * 86_400_000;

/// What is the same in all its lives.
#[derive(Debug, Clone)]
pub struct Nature {
    /// Where everything lies.
    pub layout: Layout,
    /// When checkpoints are due.
    pub policy: CheckpointPolicy,
    /// Time 0.
    pub base: Instant,
    /// Time 0, by its clock.
    pub base_ms: i64,
}

impl Nature {
    /// A small gateway below `/gateway`.
    #[must_use]
    pub fn draw(random: &mut Random, base_ms: i64, interval_s: u64) -> Self {
        let segment_bytes = random.one_of(&[4 << 10, 8 << 10, 16 << 10]);
        Self {
            layout: Layout {
                data_dir: PathBuf::from("/gateway"),
                journal: JournalLimits { segment_bytes, limit_bytes: random.one_of(&[256 << 10, 1 << 20]) },
                decided: DecidedLimits { segment_bytes, limit_bytes: random.one_of(&[64 << 10, 1 << 20]) },
                alerts_limit_bytes: 16 << 20,
            },
            policy: CheckpointPolicy {
                every: Duration::from_secs((interval_s * random.between(5, 50)).min(300)),
                every_journal_bytes: random.one_of(&[4 << 10, 32 << 10]),
            },
            base: Instant::now(),
            base_ms,
        }
    }
}

/// A running gateway.
pub struct Process {
    nature: Nature,
    commits: Commits<Entering, Settle>,
    intake: Intake<Entering>,
    settle: Settle,
    running: Running,
    /// What people see of the lane.
    pub published: Arc<Published>,
    handle: LaneHandle,
    unfinished: Arc<Mutex<Vec<Unfinished>>>,
    outgoing: Outgoing,
    recorder: Recorder,
    keeper: Keeper,
    sessions: [Session; 3],
    random: Random,
    /// Where the recovered journal could be read.
    pub journal: Tail,
    listened_ms: u64,
    ticked_ms: u64,
    /// The journal was told to release records.
    releases: Arc<AtomicBool>,
    /// A sink has confirmed something, and the lane has not heard it yet.
    confirms: bool,
}

impl Process {
    /// Recovers what is on disk and begins.
    ///
    /// # Errors
    /// [`Death`].
    pub fn start(
        nature: &Nature,
        fleet: &Fleet,
        disk: &SimulatedDisk,
        mut random: Random,
        now_ms: u64,
    ) -> Result<Self, Death> {
        let registry = &fleet.registry;
        let policy = Policy { accept_past_ms: ACCEPT_PAST_MS, ..Policy::default() };
        let rules = fingerprint(registry, &policy);
        let handle_of_disk = disk.handle();
        let recovered = Recovered::open(&handle_of_disk, &nature.layout, rules).map_err(Death::Start)?;
        let confirmed = recovered.confirmed.clone();
        let of = |name: &str| confirmed.get(name).copied().unwrap_or(0);
        let cursor = nature.layout.data_dir.join("database.cursor");
        let tail = recovered.decided.subscribe();
        let through = of(OF_RECORD).min(recovered.source_lsn_max);
        let (file, held) = CursorFile::open_through(&*handle_of_disk, Path::new(&cursor), through)
            .map_err(|error| Death::Start(error.into()))?;
        let recorder = Recorder::open((file, held), tail.clone(), registry, of(OF_RECORD))?;
        let keeper = Keeper::open(tail, of(KEEPER))?;
        let mut core = Lane::new(Arc::clone(registry), policy);
        if let Some(snapshot) = recovered.snapshot {
            core.restore(snapshot);
        }
        let alerts_tail = recovered.alerts.subscribe();
        let alerts = AlertLog::new(
            recovered.alerts,
            Describer::new(Arc::clone(registry), Arc::new(Places::default())),
            Arc::default(),
            tokio::sync::watch::channel(Lsn::NONE).0,
            Box::new(move || alerts_tail.head()),
        );
        let journal = recovered.journal.subscribe();
        let settle = Settle::default();
        let (commits, intake) = Commits::new(recovered.journal, Bounds::default(), settle.clone());
        let (handle, said) = LaneHandle::new();
        let unfinished: Arc<Mutex<Vec<Unfinished>>> = Arc::default();
        let outgoing = Outgoing::default();
        let releases: Arc<AtomicBool> = Arc::default();
        let now = nature.base + Duration::from_millis(now_ms);
        let publisher = Publisher::new(&mut core, registry, now);
        let published = publisher.published();
        let driver = Driver {
            lane: core,
            registry: Arc::clone(registry),
            journal: journal.clone(),
            decided: recovered.decided,
            decided_limit_bytes: nature.layout.decided.limit_bytes,
            rollups: Rollups::All,
            alerts,
            withdrawn: recovered.raised,
            publisher,
            checkpoints: recovered.checkpoints,
            policy: nature.policy,
            finish: Box::new({
                let unfinished = Arc::clone(&unfinished);
                move |begun| unfinished.lock().unwrap_or_else(PoisonError::into_inner).push(begun)
            }),
            sync: Box::new({
                let handle = handle.clone();
                move |logs| {
                    let synced = logs.iter().try_for_each(Unsynced::sync);
                    // The lane empties this queue once a turn.
                    let _ = handle.say(Said::Synced(synced.map_err(|error| format!("{error:?}"))));
                }
            }),
            from: recovered.from,
            rules,
            confirmed,
            of_record: RECORDER.to_owned(),
            release: Box::new({
                let (intake, releases) = (intake.clone(), Arc::clone(&releases));
                move |lsn| {
                    releases.store(true, Ordering::Relaxed);
                    intake.release_through(lsn);
                }
            }),
            decided_through: Box::new({
                let intake = intake.clone();
                move |lsn, waiting| intake.decided(lsn, waiting)
            }),
            sinks_done: Box::new({
                let done = [Arc::clone(&recorder.done), Arc::clone(&keeper.done)];
                move || Lsn(done.iter().map(|done| done.load(Ordering::Relaxed)).min().unwrap_or(0))
            }),
            outgoing: outgoing.clone(),
            said,
            handle: handle.clone(),
        };
        let running = driver.start(now)?;
        let sessions = CLIENTS.map(|client| Session::new(client, now_ms, random.below(1_000)));
        Ok(Self {
            nature: nature.clone(),
            commits,
            intake,
            settle,
            running,
            published,
            handle,
            unfinished,
            outgoing,
            recorder,
            keeper,
            sessions,
            random,
            journal,
            listened_ms: 0,
            ticked_ms: now_ms,
            releases,
            confirms: false,
        })
    }

    /// The core.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        self.running.lane()
    }

    /// Journal record → checksum of what it holds, for all that can be read.
    ///
    /// # Errors
    /// [`Death::Read`].
    pub fn journal_content(&self) -> Result<BTreeMap<u64, u32>, Death> {
        let mut reader = Reader::open(self.journal.clone(), self.journal.oldest())?;
        let mut content = BTreeMap::new();
        loop {
            match reader.next()? {
                Next::CaughtUp => return Ok(content),
                Next::Lost { .. } => {}
                Next::Record(record) => {
                    content.insert(record.lsn.0, crc32c::crc32c(record.payload));
                }
            }
        }
    }

    /// Is there something to commit?
    #[must_use]
    pub fn has_entries(&self) -> bool {
        let status = self.intake.status();
        status.urgent_items + status.normal_items > 0
    }

    /// Has the lane released journal records since it was last asked? They go with a commit.
    pub fn take_releases(&self) -> bool {
        self.releases.swap(false, Ordering::Relaxed)
    }

    /// Has a sink confirmed something since it was last asked?
    pub fn take_confirms(&mut self) -> bool {
        std::mem::take(&mut self.confirms)
    }

    /// How far the lane has come.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handle.progress().handled.load(Ordering::Relaxed)
    }

    /// Is there something for the sinks to do?
    #[must_use]
    pub fn sinks_are_behind(&self) -> bool {
        !self.recorder.is_idle() || !self.keeper.is_idle()
    }

    /// One commit; what became durable is given to `durable`, and its acknowledgements go out.
    ///
    /// # Errors
    /// [`Death::Journal`].
    pub fn commit(&mut self, mut durable: impl FnMut(u64, u32)) -> Result<Vec<Act>, Death> {
        let step = self.commits.step();
        let mut outcome = self.settle.outcome();
        for (lsn, checksum) in outcome.durable.drain(..) {
            durable(lsn, checksum);
        }
        // Settled before a failure, if any: those are durable.
        let current = |delivery: &Delivery| self.sessions[delivery.session].epoch == delivery.epoch;
        let deliveries = outcome.acknowledge.drain(..).filter(current);
        let acts =
            deliveries.map(|delivery| Act::Send(CLIENTS[delivery.session], Packet::PubAck(delivery.packet)));
        let acts = acts.collect();
        if outcome.failed || step == Step::Over { Err(Death::Journal) } else { Ok(acts) }
    }

    /// A turn of the lane; whether there is more, and what watermarks went.
    ///
    /// # Errors
    /// [`Death::Lane`].
    pub fn decide(&mut self, now_ms: u64) -> Result<(Turn, Vec<Act>), Death> {
        let turn = self.running.turn(self.nature.base + Duration::from_millis(now_ms))?;
        Ok((turn, self.publish_watermarks(now_ms)))
    }

    fn publish_watermarks(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        let now = self.nature.base + Duration::from_millis(now_ms);
        let out = &mut self.sessions[2];
        while out.state == State::Ready
            && out.in_flight.len() < 64
            && let Some(Taken { ticket, agent, durable }) = self.outgoing.take(now)
        {
            out.last_packet = if out.last_packet == 1_000 { 1 } else { out.last_packet + 1 };
            let message = Message {
                topic: topic::durable(agent).into(),
                payload: durable.as_slice().into(),
                retain: true,
            };
            let packet = out.last_packet;
            out.in_flight.push((packet, ticket));
            acts.push(Act::Send(Client::Out, Packet::Publish { packet, again: false, message }));
        }
        acts
    }

    /// Checkpoints that were begun and whose end is due some time.
    pub fn take_unfinished(&mut self) -> Vec<Unfinished> {
        std::mem::take(&mut self.unfinished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends one.
    pub fn finish_checkpoint(&mut self, unfinished: Unfinished) {
        let outcome = unfinished.finish().map_err(|error| format!("{error:?}"));
        // The receiver is this process's own lane.
        let _ = self.handle.say(Said::Checkpointed(outcome));
    }

    /// Lets the sinks work: what was refused goes to `kept`; answers what to ask the database.
    ///
    /// # Errors
    /// [`Death::Sink`].
    pub fn feed_sinks(&mut self, kept: &mut Refused) -> Result<Option<Request>, Death> {
        if let Some((source_lsn, rows)) = self.keeper.turn(kept)? {
            self.confirms = true;
            let _ = self.handle.say(Said::Confirmed { sink: KEEPER.into(), source_lsn, rows });
        }
        if let Some((source_lsn, rows)) = self.recorder.settle()? {
            self.confirms = true;
            let _ = self.handle.say(Said::Confirmed { sink: RECORDER.into(), source_lsn, rows });
        }
        Ok(self.recorder.request()?)
    }

    /// The database answered; how long to wait, in milliseconds.
    pub fn answered(&mut self, answered: Answered) -> u64 {
        let random = self.random.draw();
        self.recorder.answered(answered, random)
    }

    /// The wait is over.
    pub fn resume_recorder(&mut self) {
        self.recorder.resume();
    }

    /// Time goes into the journal.
    pub fn tick(&mut self, now_ms: u64) {
        let passed = now_ms - self.ticked_ms;
        self.ticked_ms = now_ms;
        if self.sessions[..2].iter().all(|session| session.state == State::Ready) {
            self.listened_ms += passed;
        }
        let at_ms = self.nature.base_ms + i64::try_from(now_ms).unwrap_or(0);
        let tick = Entering::tick(at_ms, u32::try_from(self.listened_ms).unwrap_or(u32::MAX));
        if self.intake.try_push(Priority::Normal, tick).is_ok() {
            self.listened_ms = 0;
        }
    }

    /// Is everything that was received decided and at the sinks?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.handled() == self.journal.head().0 && !self.sinks_are_behind()
    }
}

#[cfg(test)]
mod tests;
