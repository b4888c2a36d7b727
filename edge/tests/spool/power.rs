//! Power cuts at any call, with further cuts in the recoveries that follow, and any one call that fails.
//!
//! `TESTS_POWER_IMAGES` sets how many images are made; a failing one is named by its number, and is the same each time.

use super::{DEVICES, Knowledge, Known, Random, User, check, open};
use hunhe_disk::simulated::{Action, Fate, SimulatedDisk};
use hunhe_edge::spool::SpoolError;
use std::{
    io::ErrorKind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

struct Moment {
    disk: SimulatedDisk,
    known: Known,
}

/// How many devices this start is configured with.
fn devices(random: &mut Random) -> usize {
    DEVICES.len() - usize::from(random.below(4) == 0)
}

/// The disk before each call of a history of at least a thousand calls that change it.
fn history(seed: u64) -> Vec<Moment> {
    let (disk, knowledge, mut random) = (SimulatedDisk::new(), Knowledge::default(), Random::new(seed));
    let moments = Arc::new(Mutex::new(Vec::new()));
    disk.set_plan({
        let (disk, knowledge, moments) = (disk.clone(), knowledge.clone(), Arc::clone(&moments));
        move |call| {
            if call.action.changes() {
                let known = knowledge.lock().clone();
                moments.lock().unwrap().push(Moment { disk: disk.fork(), known });
            }
            Fate::Done
        }
    });
    while moments.lock().unwrap().len() < 1_000 {
        let devices = devices(&mut random);
        let mut user = User::open(&disk, &knowledge, devices, random.below(1 << 40)).unwrap();
        for _ in 0..random.below(30) {
            user.step(&mut random).unwrap();
        }
        drop(user);
        disk.kill();
    }
    disk.clear_plan();
    std::mem::take(&mut *moments.lock().unwrap())
}

fn images() -> u64 {
    std::env::var("TESTS_POWER_IMAGES").map_or(10_000, |images| images.parse().expect("a number of images"))
}

/// Images whose number leaves `rest` when divided by 2: two tests share the work.
fn survive_images(rest: u64) {
    const IMAGES_PER_HISTORY: u64 = 1_000;
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
            // In a recovery the power goes, or a call fails and the process ends.
            let power = random.below(3) > 0;
            let mut left = random.below(40);
            disk.set_plan(move |_| {
                let struck = left == 0;
                left = if struck && !power { u64::MAX } else { left.saturating_sub(1) };
                match (struck, power) {
                    (false, _) => Fate::Done,
                    (true, true) => Fate::Torn,
                    (true, false) => Fate::Fails(ErrorKind::Other),
                }
            });
            drop(open(&disk, DEVICES.len(), image + cut));
            disk.clear_plan();
            if power {
                disk.power_loss(image.wrapping_add(cut << 40));
            } else {
                disk.kill();
            }
        }
        check(&disk, &moment.known, &format!("image {image}"));
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
        let devices = devices(&mut random);
        let Ok(mut user) = User::open(&disk, &knowledge, devices, random.below(1 << 40)) else {
            disk.kill();
            continue;
        };
        for _ in 0..12 {
            if user.step(&mut random).is_err() {
                // However often it is asked, it never calls anything durable again.
                for _ in 0..3 {
                    user.append(0);
                    assert!(matches!(user.commit(), Err(SpoolError::Failed(_))), "{context}");
                }
                break;
            }
        }
        drop(user);
        if cut {
            disk.power_loss(number);
        } else {
            disk.kill();
        }
    }
    disk.clear_plan();
    check(&disk, &knowledge.lock().clone(), &context);
    reached.load(Ordering::Relaxed) > 0
}

#[test]
fn whichever_call_fails_nothing_is_durable_after_it_and_a_restart_loses_nothing() {
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
        assert!(runs > 150, "{runs} runs with {fate:?}");
    }
}
