//! Checkpoints: of two files one of which is damaged, the whole one is taken; what is summed anew decodes to something that can
//! be written again, or counts as damaged.

use hunhe_disk::{Disk as _, Open, simulated::SimulatedDisk};
use hunhe_fuzz::{Target, run};
use hunhe_gateway::decide::checkpoint::{CheckpointError, Checkpoints};
use hunhe_log::Lsn;
use std::path::Path;

const DIR: &str = "/data/checkpoint";

fn mend(bytes: &mut [u8]) {
    let Some((header, body)) = bytes.split_first_chunk_mut::<32>() else { return };
    header[20..28].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let body = crc32c::crc32c(body);
    let sum = crc32c::crc32c_append(body, &header[..28]);
    header[28..].copy_from_slice(&sum.to_le_bytes());
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(crate::seeds("fixtures").join(name)).unwrap()
}

#[test]
fn a_damaged_checkpoint_leaves_the_other_one() {
    let _alone = crate::alone();
    // Sequence number 1; the mutated ones begin with greater ones.
    let whole = fixture("checkpoint-v1/checkpoint-0");
    let disk = SimulatedDisk::new();
    disk.handle().make_dir(Path::new(DIR)).unwrap();
    let write = |disk: &SimulatedDisk, name: &str, bytes: &[u8]| {
        disk.open(&Path::new(DIR).join(name), Open::Empty).unwrap().write_all_at(bytes, 0).unwrap();
    };
    write(&disk, "checkpoint-1", &whole);
    let later = |mut bytes: Vec<u8>| {
        bytes[12] = bytes[12].max(2);
        mend(&mut bytes);
        bytes
    };
    let made = vec![later(whole.clone())];
    let sums: Vec<_> = made.clone();
    let target = Target {
        words: &[b"HUNHECKP", b"\x01\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
        mend: &mend,
        ..crate::target("checkpoint", made, 64 << 20)
    };
    let outcome = run(&target, |bytes| {
        let disk = disk.fork();
        write(&disk, "checkpoint-0", bytes);
        let mut summed = bytes.to_vec();
        mend(&mut summed);
        let forged = summed == bytes && !sums.iter().any(|known| known == bytes);
        let before = disk.files();
        let (mut files, found) = match Checkpoints::open(&disk.handle(), Path::new(DIR)) {
            Ok(opened) => opened,
            Err(CheckpointError::NewerFormat(newer)) => {
                assert!(forged && newer.found > 1, "{newer}");
                assert_eq!(disk.files(), before, "a newer one is left as it is");
                return false;
            }
            Err(error) => panic!("{error}"),
        };
        let newest = found.newest.expect("one of them is whole");
        let damaged = !found.damaged.is_empty();
        assert!(!damaged || newest.journal == Lsn(3), "the whole one is taken");
        assert!(damaged || forged || sums.iter().any(|known| known == bytes), "damage is seen");
        // The next goes where no newest whole one lies, and is the one read.
        let written = files.begin(&newest).unwrap().finish().unwrap();
        files.finished(&written);
        let (_, again) = Checkpoints::open(&disk.handle(), Path::new(DIR)).unwrap();
        assert_eq!(again.newest.unwrap().journal, newest.journal);
        !damaged
    });
    crate::reached_both_sides(outcome);
}
