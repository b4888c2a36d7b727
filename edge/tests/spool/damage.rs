//! Every truncation, every flipped bit and every missing file of a small outbox.

use super::{DEVICES, FOLDER, Knowledge, Known, Random, User, open, row_of};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::spool::Recovered;
use hunhe_edge_core::outbox::Range;
use hunhe_proto::reading::DropCause;
use std::path::{Path, PathBuf};

/// Three segments, of which the last is in use, and what is in them.
fn small() -> (SimulatedDisk, Known, Vec<(PathBuf, Vec<u8>)>) {
    let (disk, knowledge, mut random) = (SimulatedDisk::new(), Knowledge::default(), Random::new(9));
    for _ in 0..3 {
        let mut user = User::open(&disk, &knowledge, DEVICES.len(), random.below(1 << 40)).unwrap();
        for round in 0..6 {
            for device in 0..=round % DEVICES.len() {
                user.append(device);
            }
            user.commit().unwrap();
        }
        drop(user);
        disk.kill();
    }
    disk.power_loss(0);
    let mut files = disk.files();
    files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "seg"));
    assert_eq!(files.len(), 3);
    let known = knowledge.lock().clone();
    (disk, known, files)
}

/// What became of the samples of a device that were promised.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fates {
    held: u64,
    declared: u64,
    /// Beyond what the outbox knows it took.
    behind: u64,
    /// Left to the gateway to count: another outbox names the one they were in.
    succeeded: u64,
}

/// Each promised sample is held as it was, declared damaged, behind the head, or in an outbox that is succeeded.
fn fates(known: &Known, found: &[Recovered], context: &str) -> Fates {
    let mut fates = Fates::default();
    for (device, found) in found.iter().enumerate() {
        let (state, boot) = (&found.state, known.boots[&device]);
        let book = &known.books[&(device, boot)];
        assert_eq!(state.through, 0, "{context}");
        if state.boot != boot {
            let greatest = known.boots.values().max().unwrap();
            assert!(state.boot > *greatest && state.next_seq == 0, "{context}: {state:?}");
            let told = state.previous.filter(|(previous, _)| *previous == boot).map_or(0, |(_, next)| next);
            fates.succeeded += told;
            fates.behind += book.durable - told;
            continue;
        }
        assert!(state.next_seq <= book.durable, "{context}: {state:?}");
        fates.behind += book.durable - state.next_seq;
        for seq in 0..state.next_seq {
            let drop = state.drops.iter().find(|drop| (drop.seq..drop.seq + drop.count).contains(&seq));
            if let Some(drop) = drop {
                assert_eq!(drop.cause, DropCause::Damaged, "{context}");
                fates.declared += 1;
            } else {
                let row = found.samples.rows(Range { start: seq, end: seq + 1 }).next();
                let attempt = book.attempts[usize::try_from(seq).unwrap()];
                assert_eq!(row, Some(row_of(device, boot, seq, attempt).as_slice()), "{context}: {seq}");
                fates.held += 1;
            }
        }
    }
    fates
}

fn promised(known: &Known) -> u64 {
    known.books.values().map(|book| book.durable).sum()
}

/// Opens a damaged copy, twice: what it says does not change.
fn open_damaged(disk: &SimulatedDisk, known: &Known, context: &str) -> Fates {
    let mut last = None;
    for seed in 0..2 {
        let (_, found) =
            open(disk, DEVICES.len(), seed).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let fates = fates(known, &found, context);
        assert_eq!(
            fates.held + fates.declared + fates.behind + fates.succeeded,
            promised(known),
            "{context}"
        );
        assert!(last.is_none_or(|last| last == fates), "{context}: it changes its mind");
        disk.power_loss(seed);
        last = Some(fates);
    }
    last.unwrap()
}

#[test]
fn every_flipped_bit_costs_at_most_its_own_commit_and_that_is_declared() {
    let (disk, known, files) = small();
    let mut costly = 0;
    for (path, bytes) in &files {
        for bit in 0..bytes.len() * 8 {
            let context = format!("bit {bit} of {}", path.display());
            let damaged = disk.fork();
            assert!(damaged.corrupt(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)));
            let fates = open_damaged(&damaged, &known, &context);
            // A commit of this history holds three samples at the most.
            assert!(fates.behind == 0 && fates.succeeded == 0 && fates.declared <= 3, "{context}: {fates:?}");
            costly += usize::from(fates.declared > 0);
        }
    }
    assert!(costly > 1_000, "{costly}");
}

#[test]
fn every_truncation_is_declared_or_behind_the_head() {
    let (disk, known, files) = small();
    for (index, (path, bytes)) in files.iter().enumerate() {
        let last = index + 1 == files.len();
        let (mut held, mut succeeded) = (0, false);
        for length in 0..bytes.len() {
            let context = format!("{} cut to {length}", path.display());
            let damaged = disk.fork();
            assert!(damaged.corrupt(path, |bytes| bytes.truncate(length)));
            let fates = open_damaged(&damaged, &known, &context);
            if last {
                // Nothing is declared lost for being behind the head: nobody knows of it.
                assert_eq!(fates.declared, 0, "{context}: {fates:?}");
                succeeded |= fates.succeeded > 0;
                assert!(fates.succeeded == 0 || fates.held == 0, "{context}: {fates:?}");
            } else {
                assert!(fates.behind == 0 && fates.succeeded == 0, "{context}: {fates:?}");
            }
            assert!(fates.held >= held, "{context}: a longer rest holds less");
            held = fates.held;
        }
        assert_eq!(succeeded, last, "the cut of the last one's tables");
    }
}

#[test]
fn a_missing_segment_is_declared_where_a_later_one_knows_of_it() {
    let (disk, known, files) = small();
    for (index, (path, _)) in files.iter().enumerate() {
        let damaged = disk.fork();
        hunhe_disk::Disk::remove(&damaged, path).unwrap();
        hunhe_disk::Disk::sync_dir(&damaged, Path::new(FOLDER)).unwrap();
        let fates = open_damaged(&damaged, &known, "missing");
        let (silent, told) = if index == 2 { (12, 0) } else { (0, 12) };
        assert_eq!((fates.behind, fates.declared, fates.succeeded), (silent, told, 0), "{index}");
    }
}
