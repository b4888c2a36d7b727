//! The agent's outbox with one damaged segment: each sample comes back as it was taken or is declared lost, nothing is
//! invented, and the outbox goes on.
//!
//! Damage only: nobody but the agent writes there. Whole frames that were not written to a segment, as where one stands in
//! another's place, are not judged.

use hunhe_disk::simulated::SimulatedDisk;
use hunhe_edge::spool::{Entry, Limits, Recovered, Spool, draw_boot};
use hunhe_edge_core::outbox::Range;
use hunhe_fuzz::{Target, run};
use hunhe_proto::{id::Id, reading::ABSENT};
use std::path::{Path, PathBuf};

const FOLDER: &str = "/outbox";
const SAMPLES: u64 = 40;

fn entries() -> Vec<Entry> {
    ["g-1", "g-2"].map(|name| Entry::new(Id::new(name).unwrap(), 1, [(1, 0), (2, 0), (7, 0)])).to_vec()
}

fn values(device: usize, seq: u64) -> [i64; 3] {
    let value = seq as i64 * 1_000 + device as i64;
    [value, -value, if seq.is_multiple_of(3) { ABSENT } else { 1 << 40 }]
}

fn open(disk: &SimulatedDisk) -> (Spool, Vec<Recovered>) {
    let limits = Limits { bytes_max: 1 << 20, segment_bytes: 700 };
    Spool::open(disk.handle(), Path::new(FOLDER), limits, &entries(), draw_boot).unwrap()
}

fn segments(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = disk.files();
    files.retain(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    files.sort();
    files
}

/// The whole frames of a segment.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(12) {
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        match rest.get(..word(4) as usize) {
            Some(payload) if header.starts_with(b"HuS1") && crc32c::crc32c(payload) == word(8) => {
                frames.push(payload);
                bytes = &rest[payload.len()..];
            }
            _ => bytes = &bytes[1..],
        }
    }
    frames
}

/// Has a segment no whole frames but those of the other one, in their order?
fn is_a_part(bytes: &[u8], of: &[u8]) -> bool {
    let whole = frames(of);
    let mut whole = whole.iter();
    frames(bytes).iter().all(|frame| whole.any(|known| known == frame))
}

#[test]
fn a_damaged_segment_gives_samples_as_taken_or_declares_them_lost() {
    let _alone = crate::alone();
    let disk = SimulatedDisk::new();
    let (mut spool, _) = open(&disk);
    for seq in 0..SAMPLES {
        for device in 0..2 {
            spool.append(device, seq, 1_000 + seq as i64, &values(device, seq));
        }
        spool.commit(&[0, 0]).unwrap();
    }
    drop(spool);
    disk.power_loss(0);
    let whole = segments(&disk);
    assert!(whole.len() > 2, "{}", whole.len());
    let made = (0_u8..).zip(&whole).map(|(at, (_, bytes))| [&[at], bytes.as_slice()].concat()).collect();
    let target = Target { words: &[b"HuS1", b"\0\0\0\0"], ..crate::target("outbox", made, 24 << 20) };
    let outcome = run(&target, |input| {
        let Some((which, bytes)) = input.split_first() else { return false };
        let which = usize::from(*which) % whole.len();
        if !is_a_part(bytes, &whole[which].1) {
            return false;
        }
        let disk = disk.fork();
        assert!(disk.corrupt(&whole[which].0, |there| bytes.clone_into(there)));
        let (mut spool, recovered) = open(&disk);
        let mut missing = 0;
        for (device, found) in recovered.iter().enumerate() {
            let next = found.state.next_seq;
            assert!(next <= SAMPLES, "a sample that nobody took");
            let lost = |seq: u64| {
                found.state.through > seq
                    || found.state.drops.iter().any(|drop| (drop.seq..drop.seq + drop.count).contains(&seq))
            };
            let (first, end) = (found.samples.first_seq(), found.samples.next_seq());
            for seq in 0..next {
                let kept = (first..end).contains(&seq);
                if lost(seq) {
                    missing += 1;
                    continue;
                }
                assert!(kept, "sample {seq} of {device} is neither there nor declared lost");
                let row = found.samples.rows(Range { start: seq, end: seq + 1 }).next().unwrap();
                // A row begins with its time.
                assert_eq!(row[row.len() - 3..], values(device, seq), "sample {seq} of {device}");
            }
            missing += SAMPLES - next;
        }
        let next: Vec<u64> = recovered.iter().map(|found| found.state.next_seq).collect();
        spool.append(0, next[0], 9_000, &[1, 2, 3]);
        spool.commit(&[0, 0]).unwrap();
        drop(spool);
        let (_, again) = open(&disk);
        assert_eq!(again[0].state.next_seq, next[0] + 1);
        assert_eq!(again[0].newest_ms, Some(9_000));
        missing == 0
    });
    crate::reached_both_sides(outcome);
}
