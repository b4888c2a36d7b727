//! Every truncation and every flipped bit of a whole log, on a disk in memory.

use std::path::{Path, PathBuf};

use hunhe_disk::simulated::SimulatedDisk;
use hunhe_log::{Finding, Options, Recovery, Writer, inspect};

use super::{Got, read_from, write_through};

/// Three segments of about 64 KiB together.
const RECORDS: u64 = 440;
const SEGMENT_BYTES: u64 = 24_000;
const DIR: &str = "/data/journal";

fn open(disk: &SimulatedDisk) -> (Writer, Recovery) {
    let dir = Path::new(DIR).to_owned();
    let limit_bytes = 64 << 20;
    Writer::open(Options { disk: disk.handle(), dir, segment_bytes: SEGMENT_BYTES, limit_bytes }).unwrap()
}

struct Original {
    disk: SimulatedDisk,
    /// The segments in order, each with its content.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Original {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        write_through(&mut open(&disk).0, RECORDS);
        let is_segment =
            |(path, _): &(PathBuf, _)| path.extension().is_some_and(|extension| extension == "seg");
        let files: Vec<_> = disk.files().into_iter().filter(is_segment).collect();
        assert_eq!(files.len(), 3);
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((60 << 10..72 << 10).contains(&bytes), "{bytes} bytes");
        disk.kill();
        Self { disk, files }
    }

    /// A copy of the whole log, with one file changed.
    fn with(&self, index: usize, change: impl FnOnce(&mut Vec<u8>)) -> SimulatedDisk {
        let disk = self.disk.fork();
        assert!(disk.corrupt(&self.files[index].0, change));
        disk
    }

    /// First and last record of a file.
    fn range(&self, index: usize) -> (u64, u64) {
        let number = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let first = |at: usize| self.files.get(at).map_or(RECORDS + 1, |(path, _)| number(path));
        (first(index), first(index + 1) - 1)
    }

    /// Offsets of the record frames in a file, from the documented format.
    fn frames(&self, index: usize) -> Vec<usize> {
        let bytes = &self.files[index].1;
        let (first, last) = self.range(index);
        let mut at = 32;
        (first..=last)
            .map(|_| {
                let frame = at;
                at += 12 + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
                frame
            })
            .collect()
    }
}

fn reopen(disk: &SimulatedDisk) -> (Recovery, Got) {
    let (writer, recovery) = open(disk);
    let got = read_from(writer.subscribe(), 1);
    (recovery, got)
}

/// Each record is read, reported lost, before the reported beginning, or behind the head.
fn nothing_is_silently_gone(recovery: &Recovery, got: &Got) {
    for lsn in 1..=RECORDS {
        let read = got.records.binary_search(&lsn).is_ok();
        let reported = got.lost.iter().any(|(first, last)| (*first..=*last).contains(&lsn));
        let before = got.oldest.is_some_and(|oldest| lsn < oldest);
        let behind = lsn > recovery.head.0;
        assert_eq!(
            [read, reported, before, behind].into_iter().filter(|is| *is).count(),
            1,
            "record {lsn} of {recovery}: read {read}, reported {reported}, before {before}, behind {behind}"
        );
    }
}

#[test]
fn every_bit_flipped_in_the_first_segment_costs_at_most_its_own_record() {
    every_bit_flipped_costs_at_most_its_own_record_and_is_reported(0);
}

#[test]
fn every_bit_flipped_in_a_middle_segment_costs_at_most_its_own_record() {
    every_bit_flipped_costs_at_most_its_own_record_and_is_reported(1);
}

#[test]
fn every_bit_flipped_in_the_last_segment_costs_at_most_its_own_record() {
    every_bit_flipped_costs_at_most_its_own_record_and_is_reported(2);
}

fn every_bit_flipped_costs_at_most_its_own_record_and_is_reported(index: usize) {
    let original = Original::new();
    let whole = &original.files[index].1;
    let (frames, (first, _)) = (original.frames(index), original.range(index));
    let records_end = whole.len() - if index < 2 { 12 } else { 0 };
    for bit in 0..whole.len() * 8 {
        let at = bit / 8;
        let disk = original.with(index, |bytes| bytes[at] ^= 1 << (bit % 8));
        // Only a record's own bytes can cost it; header and seal cost none.
        let frame = frames.partition_point(|frame| *frame <= at).checked_sub(1).filter(|_| at < records_end);
        flipped_bit(&disk, index, bit, frame.map(|frame| first + frame as u64));
    }
}

fn flipped_bit(disk: &SimulatedDisk, index: usize, bit: usize, hit: Option<u64>) {
    let report = inspect::verify(&disk.handle(), Path::new(DIR)).unwrap();
    assert!(!report.sound, "bit {bit} of file {index} went unnoticed");
    let (recovery, got) = reopen(disk);
    nothing_is_silently_gone(&recovery, &got);
    let intact: Vec<u64> = (1..=RECORDS).filter(|lsn| Some(*lsn) != hit).collect();
    assert_eq!(got.records, intact, "bit {bit} of file {index}: {recovery}");
    match hit {
        Some(RECORDS) => assert!(matches!(recovery.findings[..], [Finding::Torn { .. }]), "{recovery}"),
        Some(lsn) => {
            assert_eq!(got.lost, [(lsn, lsn)], "bit {bit} of file {index}");
            assert!(report.lost_records, "{report}");
            // Opening reads the last segment whole, of the others the ends.
            assert_eq!(recovery.lost_records(), index == 2, "{recovery}");
        }
        None => assert!(!recovery.lost_records() && !report.lost_records, "{recovery}"),
    }
}

#[test]
fn every_truncation_leaves_the_whole_records_before_it_and_all_other_segments() {
    let original = Original::new();
    for index in 0..3 {
        let (frames, (first, last)) = (original.frames(index), original.range(index));
        let whole = &original.files[index].1;
        for len in 0..whole.len() {
            let disk = original.with(index, |bytes| bytes.truncate(len));
            let report = inspect::verify(&disk.handle(), Path::new(DIR)).unwrap();
            let (recovery, got) = reopen(&disk);
            nothing_is_silently_gone(&recovery, &got);
            let ends = frames.iter().skip(1).copied().chain([whole.len() - if index < 2 { 12 } else { 0 }]);
            let kept = ends.filter(|end| *end <= len).count() as u64;
            let intact: Vec<u64> = (1..=RECORDS).filter(|lsn| *lsn < first + kept || *lsn > last).collect();
            assert_eq!(got.records, intact, "file {index} cut to {len}: {recovery}");
            // A log cut exactly between two records at its end is what a crash before the last append leaves.
            let at_boundary = index == 2 && (frames.contains(&len) || len == 32);
            assert_eq!(report.sound, at_boundary, "file {index} cut to {len}: {report}");
            if index < 2 && first + kept <= last {
                assert!(
                    recovery.lost_records() && report.lost_records,
                    "file {index} cut to {len}: {recovery}"
                );
            }
        }
    }
}

#[test]
fn a_zeroed_tail_is_trimmed_and_the_log_goes_on() {
    let original = Original::new();
    let whole = &original.files[2].1;
    for from in (0..whole.len()).step_by(97) {
        let disk = original.with(2, |bytes| bytes[from..].fill(0));
        let (mut writer, recovery) = open(&disk);
        let segments =
            disk.files().into_iter().filter(|(path, _)| path.extension() == original.files[2].0.extension());
        let on_disk: usize = segments.map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(writer.bytes_on_disk(), on_disk as u64, "zeroed from {from}: the zeros are gone");
        write_through(&mut writer, recovery.head.0 + 20);
        let through = writer.head().0;
        drop(writer);
        let (_, got) = reopen(&disk);
        assert_eq!(got.records, (1..=through).collect::<Vec<_>>(), "zeroed from {from}");
    }
}
