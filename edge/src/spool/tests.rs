use super::*;
use hunhe_edge_core::outbox::{Outbox, Watermark};
use hunhe_proto::reading::{ABSENT, Drop};
use std::fs;

fn entries() -> Vec<Entry> {
    ["a", "b"].map(|id| Entry { device: DeviceId::new(id).unwrap(), channels: vec![1, 2] }).to_vec()
}

fn open(folder: &Path) -> (Spool, Vec<Recovered>) {
    Spool::open(hunhe_disk::real(), folder, Limits::default(), &entries(), draw_boot).unwrap()
}

fn rows(recovered: &Recovered) -> Vec<Vec<i64>> {
    let all = Range { start: 0, end: u64::MAX };
    recovered.samples.rows(all).map(<[i64]>::to_vec).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn boot_and_sequence_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(folder.path());
    assert_ne!(first[0].state.boot, first[1].state.boot);
    for seq in 0..5 {
        spool.append(0, seq, 1000 + seq.cast_signed(), &[seq.cast_signed() - 2, ABSENT]);
    }
    spool.commit(&[0, 0]).unwrap();
    drop(spool);
    for _ in 0..2 {
        let (_spool, again) = open(folder.path());
        assert_eq!(again[0].state.boot, first[0].state.boot);
        assert_eq!((again[0].state.next_seq, again[1].state.next_seq), (5, 0));
        assert_eq!(rows(&again[0])[4], [1004, 2, ABSENT]);
        assert!(again[0].state.drops.is_empty());
    }
}

#[test]
fn one_folder_serves_one_agent() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = Spool::open(hunhe_disk::real(), folder.path(), Limits::default(), &entries(), draw_boot);
    assert!(matches!(second, Err(SpoolError::Locked(_))));
}

/// A power cut may keep any prefix of what was written.
#[test]
fn a_log_cut_at_any_byte_keeps_every_commit_before_the_cut() {
    let origin = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(origin.path());
    let mut commits = vec![(fs::metadata(&segments(origin.path())[0]).unwrap().len(), 0)];
    for seq in 0..6 {
        spool.append(0, seq, 60_000 * seq.cast_signed(), &[7, -(seq.cast_signed())]);
        spool.append(1, seq, 60_000, &[ABSENT, 3]);
        spool.commit(&[0, 0]).unwrap();
        commits.push((spool.bytes(), seq + 1));
    }
    drop(spool);
    let path = segments(origin.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for cut in 0..=bytes.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(path.file_name().unwrap()), &bytes[..cut]).unwrap();
        let (mut spool, found) = open(folder.path());
        let whole = commits.iter().rev().find(|(end, _)| *end <= cut as u64);
        let expected = whole.map_or(0, |&(_, next)| next);
        assert_eq!((found[0].state.next_seq, found[1].state.next_seq), (expected, expected), "cut at {cut}");
        assert_eq!(whole.is_some(), found[0].state.boot == first[0].state.boot, "cut at {cut}");
        assert_eq!(rows(&found[0]).len() as u64, expected);
        assert!(found.iter().all(|device| device.state.drops.is_empty()));
        spool.append(0, expected, 1, &[1, 1]);
        spool.commit(&[0, 0]).unwrap();
        drop(spool);
        assert_eq!(open(folder.path()).1[0].state.next_seq, expected + 1, "cut at {cut}");
    }
}

/// Whatever byte rots, each sample is there as it was, or declared damaged.
#[test]
fn a_damaged_frame_is_declared_and_costs_nothing_else() {
    let origin = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(origin.path());
    for seq in 0..4 {
        spool.append(0, seq, seq.cast_signed(), &[100 + seq.cast_signed(), 5]);
        spool.commit(&[0, 0]).unwrap();
    }
    drop(spool);
    // A later segment knows how far the damaged one went.
    drop(open(origin.path()));
    let paths = segments(origin.path());
    let bytes = fs::read(&paths[0]).unwrap();
    for at in 0..bytes.len() {
        let folder = tempfile::tempdir().unwrap();
        for path in &paths {
            fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x10;
        fs::write(folder.path().join(paths[0].file_name().unwrap()), rotten).unwrap();
        let (_spool, found) = open(folder.path());
        let state = &found[0].state;
        assert_eq!((state.boot, state.next_seq), (first[0].state.boot, 4), "byte {at}");
        let damaged: Vec<u64> = state.drops.iter().flat_map(|drop| drop.seq..drop.seq + drop.count).collect();
        assert!(!damaged.is_empty() && state.drops.iter().all(|drop| drop.cause == DropCause::Damaged));
        let outbox = Outbox::new(state.clone());
        for seq in 0..4_u64 {
            if damaged.contains(&seq) {
                continue;
            }
            assert!(outbox.held_from() <= seq);
            let row = found[0].samples.rows(Range { start: seq, end: seq + 1 }).next().unwrap().to_vec();
            assert_eq!(row, [seq.cast_signed(), 100 + seq.cast_signed(), 5], "byte {at}");
        }
    }
}

#[test]
fn segments_go_when_all_in_them_is_passed_and_the_bound_declares_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes_max: 4_000, segment_bytes: 1_000 };
    let (mut spool, found) =
        Spool::open(hunhe_disk::real(), folder.path(), limits, &entries(), draw_boot).unwrap();
    let mut outboxes: Vec<_> = found.into_iter().map(|device| Outbox::new(device.state)).collect();
    let mut seq = 0;
    let mut append = |spool: &mut Spool, outboxes: &mut [Outbox]| {
        for (device, outbox) in outboxes.iter_mut().enumerate() {
            spool.append(device, seq, 1_000_000 * seq.cast_signed(), &[1 << 40, 1 << 41]);
            outbox.stored(seq + 1);
        }
        let held: Vec<_> = outboxes.iter().map(Outbox::held_from).collect();
        spool.commit(&held).unwrap();
        seq += 1;
    };
    while spool.excess().is_empty() {
        append(&mut spool, &mut outboxes);
    }
    assert!((4_000..6_000).contains(&spool.bytes()), "{}", spool.bytes());
    for (device, range) in spool.excess() {
        outboxes[device].give_up(range, DropCause::Full);
        spool.note(device, outboxes[device].state());
    }
    append(&mut spool, &mut outboxes);
    assert!(spool.excess().is_empty() && spool.bytes() <= 4_000);
    let next_seq = outboxes[0].state().next_seq;
    let dropped: Vec<Drop> = outboxes[0].drops().to_vec();
    drop(spool);
    let (mut spool, found) =
        Spool::open(hunhe_disk::real(), folder.path(), limits, &entries(), draw_boot).unwrap();
    assert_eq!(found[0].state.drops.as_slice(), dropped.as_slice());
    for (device, outbox) in outboxes.iter_mut().enumerate() {
        let passed = outbox.watermark(found[device].state.boot, next_seq, [], 0);
        assert!(matches!(passed, Watermark::Passed(1..)));
        spool.note(device, outbox.state());
    }
    spool.commit(&[next_seq, next_seq]).unwrap();
    assert_eq!(segments(folder.path()).len(), 1);
    drop(spool);
    let (_spool, found) =
        Spool::open(hunhe_disk::real(), folder.path(), limits, &entries(), draw_boot).unwrap();
    assert_eq!((found[0].state.through, found[0].state.next_seq), (next_seq, next_seq));
    assert_eq!(found[0].newest_ms, Some(1_000_000 * (next_seq.cast_signed() - 1)));
    assert!(found[0].state.drops.is_empty() && rows(&found[0]).is_empty());
}

#[test]
fn a_class_that_changed_keeps_the_values_by_channel() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.append(0, 0, 5, &[10, 20]);
    spool.commit(&[0, 0]).unwrap();
    drop(spool);
    let changed = [Entry { device: DeviceId::new("a").unwrap(), channels: vec![2, 3, 1] }];
    let (_spool, found) =
        Spool::open(hunhe_disk::real(), folder.path(), Limits::default(), &changed, draw_boot).unwrap();
    assert_eq!(rows(&found[0]), [[5, 20, ABSENT, 10]]);
}
