//! The simulated disk against what it promises, and the real one against the same where both can be asked.
#![expect(clippy::unwrap_used, reason = "a broken promise fails loudly here")]

use hunhe_disk::{
    Disk, Lock, Open, real,
    simulated::{Action, BLOCK_BYTES, Fate, SimulatedDisk},
};
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A disk, and a directory of its own.
type Site = (Arc<dyn Disk>, PathBuf);

fn disks() -> (tempfile::TempDir, [Site; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("a/b");
    (dir, [(real(), here), (SimulatedDisk::new().handle(), "/a/b".into())])
}

#[test]
fn both_disks_answer_alike() {
    let (_kept, disks) = disks();
    for (disk, dir) in disks {
        let of = |name: &str| dir.join(name);
        assert_eq!(
            disk.open(&of("x"), Open::Keep).unwrap_err().kind(),
            ErrorKind::NotFound,
            "no directory yet"
        );
        disk.make_dir(&dir).unwrap();
        disk.make_dir(&dir).unwrap();
        assert_eq!(disk.open(&of("x"), Open::Read).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.open(&of("x"), Open::Write).unwrap_err().kind(), ErrorKind::NotFound);
        let file = disk.open(&of("x"), Open::New).unwrap();
        assert_eq!(disk.open(&of("x"), Open::New).unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_all_at(b"hello", 3).unwrap();
        assert_eq!(disk.read(&of("x")).unwrap(), b"\0\0\0hello");
        file.set_len(5).unwrap();
        file.set_len(7).unwrap();
        assert_eq!(disk.read(&of("x")).unwrap(), b"\0\0\0he\0\0");
        let mut four = [0; 4];
        assert_eq!(file.read_at(&mut four, 5).unwrap(), 2);
        assert_eq!(file.read_exact_at(&mut four, 5).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(&mut four, 99).unwrap(), 0);
        file.sync_data().unwrap();
        let reader = disk.open(&of("x"), Open::Read).unwrap();
        assert!(reader.write_at(b"no", 0).is_err());
        assert!(file.try_lock(Lock::Exclusive).unwrap() && !reader.try_lock(Lock::Shared).unwrap());
        drop(file);
        assert!(reader.try_lock(Lock::Shared).unwrap());
        disk.open(&of("y"), Open::Keep).unwrap().write_all_at(b"kept", 0).unwrap();
        assert_eq!(disk.open(&of("y"), Open::Keep).unwrap().len().unwrap(), 4);
        assert!(disk.open(&of("y"), Open::Empty).unwrap().is_empty().unwrap());
        disk.rename(&of("x"), &of("y")).unwrap();
        assert_eq!(disk.names(&dir).unwrap(), ["y"]);
        assert_eq!(disk.names(dir.parent().unwrap()).unwrap(), ["b"]);
        assert_eq!(reader.len().unwrap(), 7, "an open file outlives its name");
        disk.sync_dir(&dir).unwrap();
        disk.remove(&of("y")).unwrap();
        assert_eq!(disk.remove(&of("y")).unwrap_err().kind(), ErrorKind::NotFound);
        disk.open(&of("z"), Open::New).unwrap();
        disk.remove_dir(&dir).unwrap();
        disk.remove_dir(&dir).unwrap();
        assert_eq!(disk.names(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

fn simulated() -> (SimulatedDisk, PathBuf) {
    let disk = SimulatedDisk::new();
    disk.make_dir(Path::new("/d")).unwrap();
    (disk, "/d/f".into())
}

#[test]
fn what_was_synced_with_its_name_survives_every_power_cut() {
    for seed in 0..200 {
        let (disk, path) = simulated();
        let file = disk.open(&path, Open::New).unwrap();
        file.write_all_at(&[1; 3 * BLOCK_BYTES], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[2; 3 * BLOCK_BYTES], 3 * BLOCK_BYTES as u64).unwrap();
        disk.power_loss(seed);
        let left = disk.read(&path).unwrap();
        assert!(left.len() >= 3 * BLOCK_BYTES && left[..3 * BLOCK_BYTES] == [1; 3 * BLOCK_BYTES]);
        assert!(file.read_at(&mut [0], 0).is_err(), "handles end");
    }
}

#[test]
fn of_what_was_not_synced_every_part_may_survive_and_any_other_be_lost() {
    let (mut images, mut names) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..3_000 {
        let (disk, path) = simulated();
        let file = disk.open(&path, Open::New).unwrap();
        file.write_all_at(&[1; 3 * BLOCK_BYTES], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[2; 3 * BLOCK_BYTES], 0).unwrap();
        for name in ["a", "b"] {
            disk.open(&Path::new("/d").join(name), Open::New).unwrap();
        }
        disk.power_loss(seed);
        let left = disk.read(&path).unwrap();
        images.insert(
            left.chunks(BLOCK_BYTES).map(|block| (block[0], block[BLOCK_BYTES - 1])).collect::<Vec<_>>(),
        );
        names.insert(disk.names(Path::new("/d")).unwrap());
    }
    // Each block old, new, or torn with its new part first.
    assert_eq!(images.len(), 27);
    assert_eq!(names.len(), 4);
}

#[test]
fn a_kill_keeps_what_was_written_and_ends_locks() {
    let (disk, path) = simulated();
    let file = disk.open(&path, Open::New).unwrap();
    file.write_all_at(b"written", 0).unwrap();
    assert!(file.try_lock(Lock::Exclusive).unwrap());
    disk.kill();
    assert_eq!(disk.read(&path).unwrap(), b"written");
    assert!(file.write_at(b"x", 0).is_err());
    assert!(disk.open(&path, Open::Keep).unwrap().try_lock(Lock::Exclusive).unwrap());
}

#[test]
fn a_sync_after_a_failed_one_succeeds_without_the_data() {
    let lost = (0..100).filter(|_| {
        let (disk, path) = simulated();
        let file = disk.open(&path, Open::New).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[1; 8 * BLOCK_BYTES], 0).unwrap();
        let mut failed = false;
        disk.set_plan(move |call| {
            let fails = call.action == Action::Sync && !std::mem::replace(&mut failed, true);
            if fails { Fate::Fails(ErrorKind::Other) } else { Fate::Done }
        });
        assert!(file.sync_data().is_err());
        assert_eq!(disk.read(&path).unwrap(), [1; 8 * BLOCK_BYTES], "as if nothing had happened");
        file.sync_data().unwrap();
        disk.power_loss(1);
        disk.read(&path).unwrap() != [1; 8 * BLOCK_BYTES]
    });
    assert_eq!(lost.count(), 100);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, path) = simulated();
    let file = disk.open(&path, Open::New).unwrap();
    disk.set_capacity(1_000);
    assert_eq!(file.write_at(&[1; 1_500], 0).unwrap(), 1_000);
    assert_eq!(file.write_at(&[1; 500], 1_000).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(&[2; 1_000], 0).unwrap();
    assert_eq!(file.set_len(1_001).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.set_capacity(2_000);
    file.write_all_at(&[1; 500], 1_000).unwrap();
    assert_eq!(disk.used_bytes(), 1_500);
}

#[test]
fn a_fork_goes_its_own_way() {
    let (disk, path) = simulated();
    let file = disk.open(&path, Open::New).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    let fork = disk.fork();
    file.write_all_at(b"two", 0).unwrap();
    assert_eq!((fork.read(&path).unwrap(), disk.read(&path).unwrap()), (b"one".to_vec(), b"two".to_vec()));
    assert!(fork.corrupt(&path, |bytes| bytes[0] ^= 1) && !fork.corrupt(Path::new("/d/none"), |_| ()));
    assert_eq!(disk.read(&path).unwrap(), b"two");
}
