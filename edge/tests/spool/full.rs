//! A disk that is full when an agent starts, or becomes so.

use super::{Knowledge, Random, User, check, open};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::spool::SpoolError;

fn history(disk: &SimulatedDisk, knowledge: &Knowledge) {
    let mut random = Random::new(3);
    for _ in 0..3 {
        let mut user = User::open(disk, knowledge, 3, random.below(1 << 40)).unwrap();
        for _ in 0..8 {
            user.step(&mut random).unwrap();
        }
        drop(user);
        disk.kill();
    }
}

#[test]
fn a_start_on_a_full_disk_says_what_to_do_and_loses_nothing() {
    let (disk, knowledge) = (SimulatedDisk::new(), Knowledge::default());
    history(&disk, &knowledge);
    let known = knowledge.lock().clone();
    let (mut refused, mut started) = (0, 0);
    for room in 0..600 {
        let full = disk.fork();
        full.set_capacity(full.used_bytes() + room);
        // Often, as a service manager does it.
        for attempt in 0..3 {
            match open(&full, 3, attempt) {
                Ok(_) => started += 1,
                Err(error @ SpoolError::Full { .. }) => {
                    let words = error.to_string();
                    assert!(words.starts_with("/data/outbox/outbox.new: cannot write: the disk is full"));
                    assert!(words.contains("make room on this file system and start the agent again"));
                    refused += 1;
                }
                Err(error) => panic!("room {room}: {error}"),
            }
            full.kill();
        }
        full.power_loss(room);
        full.set_capacity(u64::MAX);
        check(&full, &known, &format!("room {room}"));
    }
    assert!(refused > 100 && started > 100, "{refused} {started}");
}

#[test]
fn a_disk_that_becomes_full_ends_the_agent_and_costs_nothing_that_was_committed() {
    for room in (0..3_000).step_by(7) {
        let (disk, knowledge) = (SimulatedDisk::new(), Knowledge::default());
        history(&disk, &knowledge);
        disk.set_capacity(disk.used_bytes() + room);
        let mut random = Random::new(room);
        let mut ends = 0;
        for _ in 0..3 {
            let Ok(mut user) = User::open(&disk, &knowledge, 3, room) else {
                ends += 1;
                continue;
            };
            for _ in 0..20 {
                if let Err(error) = user.step(&mut random) {
                    assert!(matches!(error, SpoolError::Full { .. }), "{error}");
                    ends += 1;
                    break;
                }
            }
            drop(user);
            disk.kill();
        }
        assert!(ends > 0 || room > 1_000, "room {room}");
        disk.power_loss(room);
        disk.set_capacity(u64::MAX);
        check(&disk, &knowledge.lock().clone(), &format!("room {room}"));
    }
}
