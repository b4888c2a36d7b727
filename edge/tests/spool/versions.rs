//! A device whose class gets another version: another outbox succeeds the one before, with what that still owed, in the
//! integers of the new version.

use super::{
    FOLDER, LIMITS,
    agents::{self, Wire},
};
use hunhe_disk::simulated::{Fate, SimulatedDisk};
use hunhe_edge::{
    run::agent::Agent,
    spool::{Entry, Recovered, Spool, SpoolError},
};
use hunhe_edge_core::outbox::{Outbox, Range};
use hunhe_proto::{
    id::DeviceId,
    reading::{ABSENT, Drop, DropCause},
};
use std::{io::ErrorKind, path::Path};

/// Channel 1 has two decimals, channel 2 none; version 2 has one more decimal of channel 1, another order, and channel 3.
fn entry(version: u32) -> Entry {
    let id = DeviceId::new("g-1").unwrap();
    match version {
        1 => Entry::new(id, 1, [(1, 2), (2, 0)]),
        _ => Entry::new(id, version, [(2, 0), (3, 0), (1, 3)]),
    }
}

fn open(disk: &SimulatedDisk, version: u32) -> Result<(Spool, Recovered), SpoolError> {
    let mut boots = 40..;
    let draw = move || boots.next().unwrap();
    let (spool, mut found) = Spool::open(disk.handle(), Path::new(FOLDER), LIMITS, &[entry(version)], draw)?;
    Ok((spool, found.remove(0)))
}

fn rows(found: &Recovered) -> Vec<Vec<i64>> {
    found.samples.rows(found.samples.range()).map(<[i64]>::to_vec).collect()
}

/// Six samples under version 1, of which the watermark passed two and one was given up.
fn before() -> (SimulatedDisk, u32) {
    let disk = SimulatedDisk::new();
    let (mut spool, found) = open(&disk, 1).unwrap();
    for seq in 0..6 {
        let value = i64::try_from(seq).unwrap();
        spool.append(0, seq, 1_000 * value, &[100 + value, if seq == 4 { ABSENT } else { -value }]);
        spool.commit(&[0]).unwrap();
    }
    let mut outbox = Outbox::new(found.state.clone());
    outbox.stored(6);
    outbox.sent(Range { start: 0, end: 6 }, 1, 0);
    outbox.watermark(found.state.boot, 2, [], 0);
    outbox.give_up(Range { start: 2, end: 3 }, DropCause::Expired);
    spool.note(0, outbox.state());
    spool.commit(&[2]).unwrap();
    (disk, found.state.boot)
}

/// What is owed, in the integers of version 2.
fn owed() -> Vec<Vec<i64>> {
    vec![vec![3_000, -3, ABSENT, 1_030], vec![4_000, ABSENT, ABSENT, 1_040], vec![5_000, -5, ABSENT, 1_050]]
}

fn is_the_successor(found: &Recovered, before: u32) {
    let state = &found.state;
    assert_eq!((state.previous, found.class_version), (Some((before, 2)), 2), "it waits for no more there");
    assert_eq!(state.drops.as_slice(), [Drop { seq: 0, count: 1, cause: DropCause::Expired }]);
    assert_eq!((state.through, state.next_seq, found.samples.first_seq()), (0, 4, 1));
    assert_eq!(rows(found), owed());
    assert_eq!(found.newest_ms, Some(5_000));
}

#[test]
fn another_version_begins_another_outbox_with_all_that_the_one_before_owed_in_its_integers() {
    let (disk, first) = before();
    let (spool, found) = open(&disk, 1).unwrap();
    assert_eq!((found.state.boot, rows(&found).len()), (first, 3), "the same version goes on");
    drop(spool);
    disk.power_loss(0);
    let (spool, found) = open(&disk, 2).unwrap();
    is_the_successor(&found, first);
    let second = found.state.boot;
    assert_ne!(second, first);
    drop(spool);
    disk.power_loss(1);
    let (mut spool, found) = open(&disk, 2).unwrap();
    assert_eq!(found.state.boot, second, "and that one goes on");
    is_the_successor(&found, first);
    spool.append(0, 4, 6_000, &[-6, 7, 1_060]);
    spool.commit(&[1]).unwrap();
    drop(spool);
    disk.power_loss(2);
    let (_, found) = open(&disk, 3).unwrap();
    assert_eq!((found.state.previous, rows(&found).len()), (Some((second, 0)), 4), "a third takes over both");
}

/// At every call of the disk: the old outbox as it was, or the new one whole.
#[test]
fn a_cut_at_any_call_while_versions_change_loses_nothing() {
    let (disk, first) = before();
    for call in 1.. {
        let disk = disk.fork();
        let mut left = call;
        disk.set_plan(move |_| {
            left -= 1_i32;
            match left {
                1.. => Fate::Done,
                0 => Fate::Torn,
                _ => Fate::Fails(ErrorKind::Other),
            }
        });
        let outcome = open(&disk, 2).map(drop);
        disk.clear_plan();
        disk.power_loss(call.unsigned_abs().into());
        let (spool, found) = open(&disk, 2).unwrap();
        is_the_successor(&found, first);
        drop(spool);
        if outcome.is_ok() {
            assert!(call > 5, "{call} calls");
            return;
        }
    }
}

/// A report without the version is of use only where one before it arrived.
#[test]
fn each_report_says_the_version_until_the_watermark_has_passed_one_that_did() {
    let disk = SimulatedDisk::new();
    let mut agent = agents::agent(&disk, &["a"]);
    agents::run(&mut agent, 0..14);
    let boot = agent.devices()[0].outbox().state().boot;
    let said = |agent: &Agent<Wire>, from: usize| -> Vec<Option<u32>> {
        agents::reports(agent, "a").iter().skip(from).map(|report| report.header.class_version).collect()
    };
    let before = said(&agent, 0);
    assert!(before.len() > 2 && before.iter().all(|version| *version == Some(1)), "{before:?}");
    agents::tell(&mut agent, "a", boot, 4);
    agents::run(&mut agent, 14..28);
    let after = said(&agent, before.len());
    assert!(after.len() > 2 && after.iter().all(Option::is_none), "{after:?}");
}
