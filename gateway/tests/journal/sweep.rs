//! Every truncation and every flipped bit of a whole log.

use std::path::Path;

use hunhe_gateway::journal::{Finding, Recovery, inspect};

use super::{Got, files, folder, open, read_from, write_through};

/// Three segments of about 16 KiB together.
const RECORDS: u64 = 110;

struct Original {
    files: Vec<(String, Vec<u8>)>,
    dir: tempfile::TempDir,
}

impl Original {
    fn new() -> Self {
        let dir = folder();
        write_through(&mut open(dir.path()).0, RECORDS);
        let files = files(dir.path());
        assert_eq!(files.len(), 3);
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((14 << 10..18 << 10).contains(&bytes), "{bytes} bytes");
        Self { files, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts the whole log back, except that file `index` holds `damaged`.
    fn plant(&self, index: usize, damaged: &[u8]) {
        for entry in std::fs::read_dir(self.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (at, (name, bytes)) in self.files.iter().enumerate() {
            std::fs::write(self.path().join(name), if at == index { damaged } else { bytes }).unwrap();
        }
    }

    /// First and last record of a file.
    fn range(&self, index: usize) -> (u64, u64) {
        let first =
            |at: usize| self.files.get(at).map_or(RECORDS + 1, |(name, _)| name[..20].parse().unwrap());
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

fn reopen(dir: &Path) -> (Recovery, Got) {
    let (writer, recovery) = open(dir);
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
    original.plant(index, whole);
    let mut bytes = whole.clone();
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        std::fs::write(original.path().join(&original.files[index].0), &bytes).unwrap();
        bytes[at] ^= 1 << (bit % 8);
        // Only a record's own bytes can cost it; header and seal cost none.
        let frame = frames.partition_point(|frame| *frame <= at).checked_sub(1).filter(|_| at < records_end);
        let recovery = flipped_bit(&original, index, bit, frame.map(|frame| first + frame as u64));
        if recovery.findings.iter().any(|finding| !matches!(finding, Finding::Lost(_))) {
            original.plant(index, whole);
        }
    }
}

fn flipped_bit(original: &Original, index: usize, bit: usize, hit: Option<u64>) -> Recovery {
    let report = inspect::verify(&hunhe_disk::real(), original.path()).unwrap();
    assert!(!report.sound, "bit {bit} of file {index} went unnoticed");
    let (recovery, got) = reopen(original.path());
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
    recovery
}

#[test]
fn every_truncation_leaves_the_whole_records_before_it_and_all_other_segments() {
    let original = Original::new();
    for index in 0..3 {
        let (frames, (first, last)) = (original.frames(index), original.range(index));
        let whole = &original.files[index].1;
        for len in 0..whole.len() {
            original.plant(index, &whole[..len]);
            let report = inspect::verify(&hunhe_disk::real(), original.path()).unwrap();
            let (recovery, got) = reopen(original.path());
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
        let mut bytes = whole.clone();
        bytes[from..].fill(0);
        original.plant(2, &bytes);
        let (mut writer, recovery) = open(original.path());
        write_through(&mut writer, recovery.head.0 + 20);
        let through = writer.head().0;
        drop(writer);
        let (_, got) = reopen(original.path());
        assert_eq!(got.records, (1..=through).collect::<Vec<_>>(), "zeroed from {from}");
    }
}
