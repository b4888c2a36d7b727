//! The promises of `hunhe_edge::spool`, from outside: an agent's use of it, and an oracle that knows what it was promised.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise fails loudly here"
)]

mod agents;
mod damage;
mod full;
mod power;
mod removed;
mod set_back;
mod versions;

use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::spool::{Entry, Limits, Recovered, Spool, SpoolError};
use hunhe_edge_core::outbox::{Outbox, Range, State, Watermark};
use hunhe_proto::{
    id::DeviceId,
    reading::{Drop, DropCause},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

const FOLDER: &str = "/data/outbox";
const DEVICES: [&str; 3] = ["a", "b", "c"];
/// Small enough that segments are rolled, and that samples must be given up.
const LIMITS: Limits = Limits { bytes_max: 6_000, segment_bytes: 1_200 };

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// What was promised of one outbox, and what may have happened besides.
#[derive(Clone, Debug, Default)]
struct Book {
    /// By sequence number: which attempt at it was the last.
    attempts: Vec<u32>,
    /// Below it everything is promised to be durable.
    durable: u64,
    /// What was given up, for which causes (the outbox joins drops where there are too many), and whether that is promised to be
    /// durable.
    given_up: BTreeMap<u64, (Vec<DropCause>, bool)>,
    /// The highest watermark it was ever told, the highest in this life, and the highest that is promised to be remembered.
    through: u64,
    through_noted: u64,
    through_durable: u64,
}

impl Book {
    fn owes(&self, seq: u64) -> bool {
        seq >= self.through && !self.given_up.contains_key(&seq)
    }

    fn owes_nothing(&self) -> bool {
        (0..self.durable).all(|seq| !self.owes(seq))
    }
}

/// What the log's user knows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// By device and boot number.
    books: BTreeMap<(usize, u32), Book>,
    /// Which outbox each device has.
    boots: BTreeMap<usize, u32>,
    attempts: u32,
    /// The last device is not always configured.
    was_removed: bool,
}

#[derive(Clone, Debug, Default)]
struct Knowledge(Arc<Mutex<Known>>);

impl Knowledge {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }
}

/// Every sample's content follows from whose it is and which attempt at it, so that a mistaken one shows.
fn row_of(device: usize, boot: u32, seq: u64, attempt: u32) -> Vec<i64> {
    let mix = (u64::from(boot) << 32 | seq).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
    let value = i64::try_from(mix).unwrap() + i64::from(attempt);
    let values = (0..=device).map(|channel| if channel % 2 == 0 { value } else { -value });
    [i64::from(attempt) * 1_000].into_iter().chain(values).collect()
}

fn entries(devices: usize) -> Vec<Entry> {
    let channels = |device| (0..=u16::try_from(device).unwrap()).map(|number| (number, 0));
    let entry = |(device, id): (usize, &&str)| Entry::new(DeviceId::new(id).unwrap(), 1, channels(device));
    DEVICES.iter().take(devices).enumerate().map(entry).collect()
}

fn open(disk: &SimulatedDisk, devices: usize, seed: u64) -> Result<(Spool, Vec<Recovered>), SpoolError> {
    let mut random = Random::new(seed);
    let draw = move || u32::try_from(random.below(1 << 32)).unwrap();
    Spool::open(disk.handle(), Path::new(FOLDER), LIMITS, &entries(devices), draw)
}

/// An agent's use of its outbox.
struct User {
    spool: Spool,
    /// Of the configured devices, then of removed ones.
    outboxes: Vec<Outbox>,
    configured: usize,
    knowledge: Knowledge,
}

impl User {
    /// Opens it, and takes what it says for promised. Nothing is known where the opening fails.
    fn open(
        disk: &SimulatedDisk,
        knowledge: &Knowledge,
        devices: usize,
        seed: u64,
    ) -> Result<Self, SpoolError> {
        if devices < DEVICES.len() {
            // From here on it may be over.
            knowledge.lock().was_removed = true;
        }
        let (spool, found) = open(disk, devices, seed)?;
        let mut known = knowledge.lock();
        check_found(&known, &found, "a start");
        for (device, found) in found.iter().enumerate() {
            known.boots.insert(device, found.state.boot);
            let book = known.books.entry((device, found.state.boot)).or_default();
            // Attempts that did not survive never will.
            book.attempts.truncate(usize::try_from(found.state.next_seq).unwrap());
            book.durable = found.state.next_seq;
            book.through_noted = found.state.through;
            book.through_durable = found.state.through;
            // So is it with what was not told yet.
            book.given_up.retain(|_, (_, durable)| *durable);
            book.note(&found.state);
            book.given_up.values_mut().for_each(|(_, durable)| *durable = true);
        }
        drop(known);
        let outboxes = found.into_iter().map(|found| Outbox::new(found.state)).collect();
        Ok(Self { spool, outboxes, configured: devices, knowledge: knowledge.clone() })
    }

    /// One step of an agent's life with its outbox.
    fn step(&mut self, random: &mut Random) -> Result<(), SpoolError> {
        for _ in 0..1 + random.below(4) {
            self.append(usize::try_from(random.below(self.configured as u64)).unwrap());
        }
        if random.below(6) == 0 {
            return Ok(());
        }
        self.commit()?;
        for device in 0..self.outboxes.len() {
            let outbox = &mut self.outboxes[device];
            let (through, next_seq) = (outbox.state().through, outbox.state().next_seq);
            match random.below(6) {
                0 => {
                    let through = through + random.below(next_seq - through + 1);
                    // Nobody knows of a sample that no report has told.
                    outbox.sent(Range { start: next_seq, end: next_seq }, 0, 0);
                    let said = outbox.watermark(outbox.state().boot, through, [], 0);
                    assert!(matches!(said, Watermark::Passed(_)));
                    self.note(device);
                }
                1 if outbox.drops().len() < 5 && next_seq > through => {
                    let start = through + random.below(next_seq - through);
                    outbox.give_up(Range { start, end: start + 1 + random.below(3) }, DropCause::Refused);
                    self.note(device);
                }
                _ => {}
            }
        }
        for (device, range) in self.spool.excess() {
            self.outboxes[device].give_up(range, DropCause::Full);
            self.note(device);
        }
        self.commit()
    }

    fn append(&mut self, device: usize) {
        let mut known = self.knowledge.lock();
        known.attempts += 1;
        let (attempt, boot) = (known.attempts, self.outboxes[device].state().boot);
        let book = known.books.entry((device, boot)).or_default();
        let seq = book.attempts.len() as u64;
        book.attempts.push(attempt);
        drop(known);
        let row = row_of(device, boot, seq, attempt);
        self.spool.append(device, seq, row[0], &row[1..]);
    }

    fn note(&mut self, device: usize) {
        let state = self.outboxes[device].state();
        self.spool.note(device, state);
        self.knowledge.lock().books.entry((device, state.boot)).or_default().note(state);
    }

    fn commit(&mut self) -> Result<(), SpoolError> {
        let held_from: Vec<_> = self.outboxes.iter().map(Outbox::held_from).collect();
        self.spool.commit(&held_from)?;
        let mut known = self.knowledge.lock();
        for (device, outbox) in self.outboxes.iter_mut().enumerate() {
            let book = known.books.entry((device, outbox.state().boot)).or_default();
            book.durable = book.attempts.len() as u64;
            book.promise();
            outbox.stored(book.durable);
        }
        Ok(())
    }
}

impl Book {
    fn note(&mut self, state: &State) {
        self.through = self.through.max(state.through);
        self.through_noted = state.through;
        for Drop { seq, count, cause } in &state.drops {
            for seq in *seq..seq + count {
                let (causes, _) = self.given_up.entry(seq).or_default();
                if !causes.contains(cause) {
                    causes.push(*cause);
                }
            }
        }
    }

    fn promise(&mut self) {
        self.through_durable = self.through_noted;
        self.given_up.values_mut().for_each(|(_, durable)| *durable = true);
    }
}

/// Everything that was promised is there as it was, passed, or declared lost; nothing is there that was never taken.
fn check_found(known: &Known, found: &[Recovered], context: &str) {
    for (device, found) in found.iter().enumerate() {
        let state = &found.state;
        let context = format!("{context}: device {device} {state:?}");
        let boot = known.boots.get(&device).copied();
        if boot != Some(state.boot) {
            let book = boot.map(|boot| &known.books[&(device, boot)]);
            let over = book.is_some_and(|book| book.owes_nothing() && known.was_removed);
            let unused = book.is_none_or(|book| book.durable == 0);
            assert!(unused || (over && device == 2), "{context}: {boot:x?} is gone");
            let greatest = known.books.keys().map(|(_, boot)| *boot).max();
            assert!(Some(state.boot) > greatest, "{context}: used before: {greatest:x?}");
            assert!(state.next_seq == 0 && found.samples.next_seq() == 0, "{context}: invented");
            continue;
        }
        check_state(known, device, found, &context);
    }
}

fn check_state(known: &Known, device: usize, found: &Recovered, context: &str) {
    let state = &found.state;
    let book = &known.books[&(device, state.boot)];
    assert!(state.next_seq >= book.durable, "{context}: {} were promised", book.durable);
    assert!(state.next_seq <= book.attempts.len() as u64, "{context}: more than were taken");
    assert!(state.through >= book.through_durable && state.through <= book.through, "{context}: {book:?}");
    let dropped = |seq: u64| state.drops.iter().find(|drop| (drop.seq..drop.seq + drop.count).contains(&seq));
    for seq in state.through..state.next_seq {
        let given_up = book.given_up.get(&seq);
        match dropped(seq) {
            Some(drop) => {
                let torn = seq >= book.durable && drop.cause == DropCause::Damaged;
                // Of a removed device that comes back, what it owed is lost by that; where that made too many drops, some
                // were joined with others.
                let removed = known.was_removed
                    && device == 2
                    && matches!(drop.cause, DropCause::Operator | DropCause::Full);
                let declared = given_up.is_some_and(|(causes, _)| causes.contains(&drop.cause));
                assert!(torn || removed || declared, "{context}: {seq} is declared lost, {given_up:?}");
            }
            None => {
                let durable = given_up.is_some_and(|(_, durable)| *durable);
                assert!(!durable, "{context}: {seq} was declared lost, and is no longer");
                let row = found.samples.rows(Range { start: seq, end: seq + 1 }).next();
                let attempt = book.attempts[usize::try_from(seq).unwrap()];
                let taken = row_of(device, state.boot, seq, attempt);
                assert_eq!(row, Some(taken.as_slice()), "{context}: {seq} is not as it was");
            }
        }
    }
}

/// The same by a look at the disk, after which it must go on, and without the last device as well.
fn check(disk: &SimulatedDisk, known: &Known, context: &str) {
    let (mut spool, found) = open(disk, 3, 1).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    check_found(known, &found, context);
    let next_seqs: Vec<u64> = found.iter().map(|found| found.state.next_seq).collect();
    for (device, found) in found.iter().enumerate() {
        let row = row_of(device, found.state.boot, found.state.next_seq, 1);
        spool.append(device, found.state.next_seq, row[0], &row[1..]);
    }
    let held_from: Vec<_> = found.iter().map(|found| Outbox::new(found.state.clone()).held_from()).collect();
    spool.commit(&held_from).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    drop(spool);
    disk.power_loss(0);
    let (spool, again) = open(disk, 3, 2).unwrap();
    for ((device, before), after) in found.iter().enumerate().zip(&again) {
        let mut expected = before.state.clone();
        expected.next_seq += 1;
        assert_eq!(after.state, expected, "{context}");
        let all = Range { start: 0, end: u64::MAX };
        let row = row_of(device, before.state.boot, before.state.next_seq, 1);
        let rows = before.samples.rows(all).chain([row.as_slice()]);
        // Rows of samples that were declared lost behind the last one held are not kept.
        let held = |row: &&[i64]| {
            !(row[0] == 0 && row[1..].iter().all(|value| *value == hunhe_proto::reading::ABSENT))
        };
        assert!(rows.filter(held).eq(after.samples.rows(all).filter(held)), "{context}");
    }
    drop(spool);
    // Without a device: what it owed is declared, of what it owed before nothing is missing.
    let (_, without) = open(disk, 2, 3).unwrap();
    let [_, _, gone] = &without[..] else { panic!("{context}: {without:?}") };
    let outbox = Outbox::new(gone.state.clone());
    assert_eq!((gone.state.boot, gone.state.next_seq), (found[2].state.boot, next_seqs[2] + 1), "{context}");
    assert_eq!((outbox.held(), gone.state.through), (0, found[2].state.through), "{context}");
}
