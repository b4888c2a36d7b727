//! Power cuts at any call, with further cuts in the recoveries that follow, and any one call that fails.
//!
//! The oracle is what the log's user knows: up to which record the log said "durable", and up to which it may forget.
//! `TESTS_POWER_IMAGES` sets how many images are made; a failing one is named by its number, and is the same each time.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};
use hunhe_log::{Error, Lsn, Options, Recovery, Writer};

use super::{Got, kind_of, payload_of, read_from};

/// What the log's user knows.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    appended: u64,
    durable: u64,
    releasable: u64,
}

#[derive(Clone, Debug, Default)]
struct Knowledge(Arc<[AtomicU64; 3]>);

impl Knowledge {
    fn get(&self) -> Known {
        let [appended, durable, releasable] = [0, 1, 2].map(|at: usize| self.0[at].load(Ordering::Relaxed));
        Known { appended, durable, releasable }
    }

    fn set(&self, known: Known) {
        for (at, value) in [known.appended, known.durable, known.releasable].into_iter().enumerate() {
            self.0[at].store(value, Ordering::Relaxed);
        }
    }
}

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

fn open(disk: &SimulatedDisk) -> Result<(Writer, Recovery), Error> {
    Writer::open(Options {
        disk: disk.handle(),
        dir: Path::new("/data/journal").to_owned(),
        segment_bytes: 4_096,
        limit_bytes: 64 << 20,
    })
}

/// One step of a gateway's life with its journal.
fn step(writer: &mut Writer, knowledge: &Knowledge, random: &mut Random) -> Result<(), Error> {
    let mut known = knowledge.get();
    for _ in 0..1 + random.below(6) {
        let lsn = writer.head().0 + 1;
        known.appended = known.appended.max(lsn);
        knowledge.set(known);
        writer.append(kind_of(lsn), &[&payload_of(lsn)]).map_err(|error| match error {
            hunhe_log::AppendError::Log(error) => error,
            other => panic!("{other}"),
        })?;
    }
    if random.below(5) == 0 {
        writer.flush()?;
    } else {
        known.durable = writer.sync()?.0;
        knowledge.set(known);
    }
    if random.below(8) == 0 {
        known.releasable = known.releasable.max(known.durable.saturating_sub(random.below(40)));
        knowledge.set(known);
        writer.release_through(Lsn(known.releasable))?;
    }
    Ok(())
}

/// Everything durable that may not be forgotten is there, byte for byte; nothing is there that was not appended.
fn holds(known: Known, recovery: &Recovery, got: &Got, context: &str) {
    for lsn in known.releasable + 1..=known.durable {
        assert!(
            got.records.binary_search(&lsn).is_ok(),
            "{context}: record {lsn} of {known:?} is gone: {recovery}"
        );
    }
    let last = got.records.last().copied().unwrap_or(0);
    assert!(last <= known.appended, "{context}: record {last} of {known:?} was never appended");
    for &(first, last) in &got.lost {
        let promised = |lsn: &u64| *lsn > known.releasable && *lsn <= known.durable;
        assert!(
            !(first..=last).any(|lsn| promised(&lsn)),
            "{context}: {first} to {last} of {known:?} are lost"
        );
    }
}

fn check(disk: &SimulatedDisk, known: Known, context: &str) {
    let (mut writer, recovery) = open(disk).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    // Numbers that were promised are never given out again, so that nothing acknowledged is overwritten.
    assert!(recovery.head.0 >= known.durable, "{context}: head {} of {known:?}", recovery.head);
    holds(known, &recovery, &read_from(writer.subscribe(), 1), context);
    let before = read_from(writer.subscribe(), 1);
    // It goes on, and what was recovered without ever having been promised counts as durable from then on.
    for _ in 0..3 {
        let lsn = writer.head().0 + 1;
        writer.append(kind_of(lsn), &[&payload_of(lsn)]).unwrap();
    }
    let head = writer.sync().unwrap().0;
    drop(writer);
    disk.power_loss(0);
    let (writer, recovery) = open(disk).unwrap();
    let after = read_from(writer.subscribe(), 1);
    assert_eq!((recovery.head.0, &after.lost), (head, &before.lost), "{context}");
    assert!(
        after.records.iter().copied().eq(before.records.iter().copied().chain(head - 2..=head)),
        "{context}"
    );
}

struct Moment {
    disk: SimulatedDisk,
    known: Known,
}

/// The disk before each call of a history of at least a thousand calls.
fn history(seed: u64) -> Vec<Moment> {
    let (disk, knowledge, mut random) = (SimulatedDisk::new(), Knowledge::default(), Random::new(seed));
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    disk.set_plan({
        let (disk, knowledge, moments) = (disk.clone(), knowledge.clone(), Arc::clone(&moments));
        move |call| {
            if call.action.changes() {
                moments.lock().unwrap().push(Moment { disk: disk.fork(), known: knowledge.get() });
            }
            Fate::Done
        }
    });
    while moments.lock().unwrap().len() < 1_000 {
        let (mut writer, _) = open(&disk).unwrap();
        for _ in 0..40 {
            step(&mut writer, &knowledge, &mut random).unwrap();
        }
        // A process that ends leaves what it flushed; what it only buffered is gone with it.
        drop(writer);
        disk.kill();
    }
    disk.clear_plan();
    std::mem::take(&mut *moments.lock().unwrap())
}

fn images() -> u64 {
    std::env::var("TESTS_POWER_IMAGES").map_or(20_000, |images| images.parse().expect("a number of images"))
}

/// Images whose number leaves `rest` when divided by 2: two tests share the work.
fn survive_images(rest: u64) {
    const IMAGES_PER_HISTORY: u64 = 2_000;
    let mut moments = Vec::new();
    for image in 0..images() {
        if image % IMAGES_PER_HISTORY == 0 {
            moments = history(image / IMAGES_PER_HISTORY);
        }
        if image % 2 != rest {
            continue;
        }
        let mut random = Random::new(image + 1);
        let moment = &moments[usize::try_from(random.below(moments.len() as u64)).unwrap()];
        let disk = moment.disk.fork();
        disk.power_loss(image);
        let depth = image % 4;
        for cut in 0..depth {
            let mut left = random.below(25);
            disk.set_plan(move |_| {
                let off = left == 0;
                left = left.saturating_sub(1);
                if off { Fate::Torn } else { Fate::Done }
            });
            drop(open(&disk));
            disk.clear_plan();
            disk.power_loss(image.wrapping_add(cut << 40));
        }
        check(&disk, moment.known, &format!("image {image}"));
    }
}

#[test]
fn power_cuts_at_any_call_and_in_recovery_lose_nothing_even_images() {
    survive_images(0);
}

#[test]
fn power_cuts_at_any_call_and_in_recovery_lose_nothing_odd_images() {
    survive_images(1);
}

/// Runs a history whose call `number` meets `fate`, in all its parts. Returns whether the history got that far.
fn run_with_one_fault(number: u64, fate: Fate, cut: bool) -> bool {
    let context = format!("call {number} {fate:?}, power cut: {cut}");
    let (disk, knowledge, mut random) = (SimulatedDisk::new(), Knowledge::default(), Random::new(5));
    let reached = Arc::new(AtomicU64::new(0));
    disk.set_plan({
        let reached = Arc::clone(&reached);
        move |call| {
            // The operating system's syncs are not interrupted: the standard library asks again.
            let interrupts = fate == Fate::Fails(ErrorKind::Interrupted);
            let exempt = interrupts && !matches!(call.action, Action::Read | Action::Write);
            if call.number < number || reached.load(Ordering::Relaxed) > 0 || exempt {
                return Fate::Done;
            }
            reached.store(call.number, Ordering::Relaxed);
            fate
        }
    });
    for _ in 0..4 {
        let Ok((mut writer, _)) = open(&disk) else {
            disk.kill();
            continue;
        };
        for _ in 0..12 {
            if step(&mut writer, &knowledge, &mut random).is_err() {
                // However often it is asked, it never calls anything durable again.
                let durable = writer.durable();
                for _ in 0..3 {
                    let lsn = writer.head().0 + 1;
                    assert!(writer.append(kind_of(lsn), &[&payload_of(lsn)]).is_err(), "{context}");
                    assert!(writer.sync().is_err() && writer.durable() == durable, "{context}");
                }
                break;
            }
        }
        drop(writer);
        if cut {
            disk.power_loss(number);
        } else {
            disk.kill();
        }
    }
    disk.clear_plan();
    let known = knowledge.get();
    check(&disk, known, &context);
    reached.load(Ordering::Relaxed) > 0
}

#[test]
fn whichever_call_fails_nothing_is_acknowledged_after_it_and_a_restart_loses_nothing() {
    let fates = [
        Fate::Fails(ErrorKind::Other),
        Fate::Fails(ErrorKind::StorageFull),
        Fate::Fails(ErrorKind::Interrupted),
        Fate::Short,
        Fate::Torn,
    ];
    for fate in fates {
        let mut runs = 0;
        for number in 1.. {
            let reached = [false, true].map(|cut| run_with_one_fault(number, fate, cut));
            if reached == [false, false] {
                break;
            }
            runs += 1;
        }
        assert!(runs > 200, "{runs} runs with {fate:?}");
    }
}
