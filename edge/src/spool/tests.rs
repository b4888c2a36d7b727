use super::*;
use hunhe_disk::{Disk, Open, simulated::SimulatedDisk};
use hunhe_edge_core::outbox::{Outbox, Watermark};
use hunhe_proto::reading::{ABSENT, Drop};
use std::fs;

fn entries() -> Vec<Entry> {
    ["a", "b"].map(entry).to_vec()
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

/// Where the whole frames of a segment end.
fn frame_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    while let Some(payload) = record::frame_payload(&bytes[ends.last().copied().unwrap_or(0)..]) {
        ends.push(ends.last().unwrap_or(&0) + record::HEADER_BYTES + payload.len());
    }
    ends
}

/// A disk that holds these files in `/outbox`.
fn planted(files: &[(&str, &[u8])]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.make_dir(Path::new("/outbox")).unwrap();
    for (name, bytes) in files {
        let file = disk.open(&Path::new("/outbox").join(name), Open::New).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir(Path::new("/outbox")).unwrap();
    disk
}

fn open_on(disk: &SimulatedDisk) -> (Spool, Vec<Recovered>) {
    Spool::open(disk.handle(), Path::new("/outbox"), Limits::default(), &entries(), draw_boot).unwrap()
}

/// The names and bytes of all segments.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    segments(folder).iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// A power cut may keep any prefix of what was written.
#[test]
fn a_log_cut_at_any_byte_keeps_every_commit_before_the_cut() {
    let origin = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(origin.path());
    for seq in 0..6 {
        spool.append(0, seq, 60_000 * seq.cast_signed(), &[7, -(seq.cast_signed())]);
        spool.append(1, seq, 60_000, &[ABSENT, 3]);
        spool.commit(&[0, 0]).unwrap();
    }
    drop(spool);
    let (name, bytes) = contents(origin.path()).remove(0);
    let ends = frame_ends(&bytes);
    assert_eq!(
        (ends.len(), ends.last()),
        (2 + 6 * 2, Some(&bytes.len())),
        "two tables, then commits with tallies"
    );
    for cut in 0..=bytes.len() {
        let disk = planted(&[(&name, &bytes[..cut])]);
        let (mut spool, found) = open_on(&disk);
        let commits = ends.iter().skip(2).step_by(2).filter(|end| **end <= cut).count() as u64;
        assert_eq!((found[0].state.next_seq, found[1].state.next_seq), (commits, commits), "cut at {cut}");
        assert_eq!(commits > 0, found[0].state.boot == first[0].state.boot, "cut at {cut}");
        assert_eq!(rows(&found[0]).len() as u64, commits);
        assert!(found.iter().all(|device| device.state.drops.is_empty()));
        spool.append(0, commits, 1, &[1, 1]);
        spool.commit(&[0, 0]).unwrap();
        drop(spool);
        assert_eq!(open_on(&disk).1[0].state.next_seq, commits + 1, "cut at {cut}");
    }
}

/// Whatever byte rots: a commit's own bytes cost its samples, which are declared damaged, and no other byte costs any. It
/// is so in a segment that others follow, and in the last.
#[test]
fn a_damaged_frame_is_declared_and_costs_nothing_else() {
    for later in [true, false] {
        let origin = tempfile::tempdir().unwrap();
        let (mut spool, first) = open(origin.path());
        for seq in 0..4 {
            spool.append(0, seq, seq.cast_signed(), &[100 + seq.cast_signed(), 5]);
            spool.commit(&[0, 0]).unwrap();
        }
        drop(spool);
        if later {
            drop(open(origin.path()));
        }
        let mut files = contents(origin.path());
        let bytes = files[0].1.clone();
        let ends = frame_ends(&bytes);
        for at in 0..bytes.len() {
            files[0].1[at] ^= 0x10;
            let files_now: Vec<_> =
                files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            let disk = planted(&files_now);
            files[0].1[at] ^= 0x10;
            let frame = ends.partition_point(|end| *end <= at);
            let hit = (frame >= 2 && frame % 2 == 0).then(|| (frame as u64 - 2) / 2);
            let (_spool, found) = open_on(&disk);
            let state = &found[0].state;
            assert_eq!((state.boot, state.next_seq), (first[0].state.boot, 4), "byte {at}");
            let damaged: Vec<u64> =
                state.drops.iter().flat_map(|drop| drop.seq..drop.seq + drop.count).collect();
            assert_eq!(damaged, Vec::from_iter(hit), "byte {at}");
            assert!(state.drops.iter().all(|drop| drop.cause == DropCause::Damaged));
            let outbox = Outbox::new(state.clone());
            for seq in (0..4).filter(|seq| !damaged.contains(seq)) {
                assert!(outbox.held_from() <= seq);
                let row = found[0].samples.rows(Range { start: seq, end: seq + 1 }).next().unwrap().to_vec();
                assert_eq!(row, [seq.cast_signed(), 100 + seq.cast_signed(), 5], "byte {at}");
            }
        }
    }
}

/// One table without an `all`, commits without tallies.
#[test]
fn a_log_of_the_older_version_is_read() {
    let mut bytes = vec![0; record::HEADER_BYTES];
    for (id, boot) in [("a", 7), ("b", 9)] {
        record::write_device(&mut bytes, &entry(id), &State::new(boot, None), None);
    }
    record::close_frame(&mut bytes, 0);
    for seq in 0..3 {
        let start = bytes.len();
        bytes.resize(start + record::HEADER_BYTES, 0);
        record::write_sample(&mut bytes, 0, seq, 4, &[1, 2]);
        record::write_sample(&mut bytes, 1, seq, 5, &[10, 20]);
        record::close_frame(&mut bytes, start);
    }
    let disk = planted(&[("outbox-0000000004.seg", &bytes)]);
    for _ in 0..2 {
        let (_, found) = open_on(&disk);
        assert_eq!((found[0].state.boot, found[1].state.boot), (7, 9));
        assert_eq!(rows(&found[1]), vec![vec![5, 10, 20]; 3]);
        disk.power_loss(0);
    }
}

fn entry(id: &str) -> Entry {
    Entry::new(DeviceId::new(id).unwrap(), 1, [(1, 0), (2, 0)])
}

fn open_for(folder: &Path, devices: &[&str]) -> (Spool, Vec<Recovered>) {
    let entries: Vec<_> = devices.iter().map(|id| entry(id)).collect();
    Spool::open(hunhe_disk::real(), folder, Limits::default(), &entries, draw_boot).unwrap()
}

#[test]
fn what_a_removed_device_owed_is_declared_until_the_watermark_has_passed_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(folder.path());
    for seq in 0..3 {
        spool.append(1, seq, 1, &[1, 2]);
        spool.commit(&[0, 0]).unwrap();
    }
    drop(spool);
    // However often it starts without it, and also when the segment with its samples has gone.
    for _ in 0..3 {
        let (_, found) = open_for(folder.path(), &["a"]);
        let [_, gone] = &found[..] else { panic!("{found:?}") };
        assert_eq!((gone.device, gone.state.boot), (entry("b").device, first[1].state.boot));
        let drop = Drop { seq: 0, count: 3, cause: DropCause::Operator };
        assert_eq!((gone.state.drops.as_slice(), gone.state.next_seq), ([drop].as_slice(), 3));
    }
    // It comes back, and goes on where it was.
    let (mut spool, found) = open(folder.path());
    assert_eq!((found[1].state.boot, found[1].state.next_seq), (first[1].state.boot, 3));
    assert_eq!(found[1].state.drops.len(), 1);
    spool.append(1, 3, 1, &[5, 6]);
    spool.commit(&[0, 3]).unwrap();
    drop(spool);
    // It goes again; what the watermark passed is over, and so is its number.
    let (mut spool, found) = open_for(folder.path(), &["a"]);
    let mut outbox = Outbox::new(found[1].state.clone());
    assert_eq!(outbox.watermark(found[1].state.boot, 4, [], 0), Watermark::Passed(4));
    spool.note(1, outbox.state());
    spool.commit(&[0, 4]).unwrap();
    drop(spool);
    assert_eq!(open_for(folder.path(), &["a"]).1.len(), 1);
    let (_, found) = open(folder.path());
    assert!(found[1].state.boot > first[1].state.boot && found[1].state.next_seq == 0);
}

/// A device without anything owed leaves nothing behind, though older segments still name it and its samples.
#[test]
fn a_settled_device_that_is_removed_is_over_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(folder.path());
    spool.append(0, 0, 1, &[1, 2]);
    spool.append(1, 0, 1, &[1, 2]);
    spool.commit(&[0, 0]).unwrap();
    drop(spool);
    let (mut spool, found) = open(folder.path());
    let mut outbox = Outbox::new(found[1].state.clone());
    outbox.watermark(first[1].state.boot, 1, [], 0);
    spool.note(1, outbox.state());
    spool.commit(&[0, 1]).unwrap();
    drop(spool);
    for _ in 0..2 {
        let (_, found) = open_for(folder.path(), &["a"]);
        assert_eq!((found.len(), rows(&found[0])), (1, vec![vec![1, 1, 2]]));
    }
}

#[test]
fn no_damage_brings_a_boot_number_back() {
    for damage in [0, 1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let open = |devices: &[&str]| {
            let entries: Vec<_> = devices.iter().map(|id| entry(id)).collect();
            // The worst that a draw can be.
            Spool::open(hunhe_disk::real(), folder.path(), Limits::default(), &entries, || 7 << 16).unwrap()
        };
        let (mut spool, first) = open(&["a"]);
        spool.append(0, 0, 1, &[1, 2]);
        spool.commit(&[0]).unwrap();
        drop(spool);
        let (mut spool, second) = open(&["a", "b"]);
        assert!(second[1].state.boot > first[0].state.boot);
        spool.append(0, 1, 1, &[1, 2]);
        spool.commit(&[0, 0]).unwrap();
        drop(spool);
        for path in segments(folder.path()) {
            let bytes = fs::read(&path).unwrap();
            match damage {
                // Both tables, the whole file, and the file itself.
                0 => fs::write(path, [vec![0; frame_ends(&bytes)[1]], bytes].concat()).unwrap(),
                1 => fs::write(path, vec![0; bytes.len()]).unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        let (_, third) = open(&["a", "b", "c"]);
        let lowest = third.iter().map(|found| found.state.boot).min().unwrap();
        if damage == 0 {
            assert_eq!(third[0].state.boot, first[0].state.boot, "a shifted segment is still read");
            assert!(third[2].state.boot > second[1].state.boot);
        } else {
            assert!(lowest > second[1].state.boot, "{third:?}");
        }
    }
}

/// Segments before the last one are readable, the last one's tables are not: how far it came nobody knows.
#[test]
fn an_outbox_whose_end_is_unknown_gives_way_to_one_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, first) = open(folder.path());
    spool.append(0, 0, 1, &[1, 2]);
    spool.commit(&[0, 0]).unwrap();
    drop(spool);
    let (mut spool, _) = open(folder.path());
    spool.append(0, 1, 1, &[1, 2]);
    spool.commit(&[0, 0]).unwrap();
    drop(spool);
    let path = segments(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let tables = frame_ends(&bytes)[1];
    bytes[..tables].fill(0);
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let (_, found) = open(folder.path());
        assert!(found[0].state.boot > first[0].state.boot);
        assert_eq!(found[0].state.previous, Some((first[0].state.boot, 1)));
        assert_eq!((found[0].state.next_seq, rows(&found[0]).len()), (0, 0));
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
        outbox.sent(Range { start: next_seq, end: next_seq }, 0, 0);
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
    let changed = [Entry::new(DeviceId::new("a").unwrap(), 1, [(2, 0), (3, 0), (1, 0)])];
    let (_spool, found) =
        Spool::open(hunhe_disk::real(), folder.path(), Limits::default(), &changed, draw_boot).unwrap();
    assert_eq!(rows(&found[0]), [[5, 20, ABSENT, 10]]);
}
