//! Segments missing, doubled, swapped, foreign or newer; batches that a power cut wrote out of order.

use std::fs;
use std::path::{Path, PathBuf};

use hunhe_disk::NewerFormat;
use hunhe_log::{AsideReason, Error, Finding, Gap, Lsn, Writer, inspect};

use super::{Got, files, folder, open, options, read_from, write_through};

const RECORDS: u64 = 130;

/// A log of at least four segments, its files, and the first record of each.
fn log() -> (tempfile::TempDir, Vec<PathBuf>, Vec<u64>) {
    let dir = folder();
    write_through(&mut open(dir.path()).0, RECORDS);
    let paths: Vec<PathBuf> = files(dir.path()).iter().map(|(name, _)| dir.path().join(name)).collect();
    let firsts = files(dir.path()).iter().map(|(name, _)| name[..20].parse().unwrap()).collect();
    assert!(paths.len() >= 4);
    (dir, paths, firsts)
}

fn read_all(dir: &Path) -> Got {
    read_from(open(dir).0.subscribe(), 1)
}

fn all_but(first: u64, last: u64) -> Vec<u64> {
    (1..=RECORDS).filter(|lsn| !(first..=last).contains(lsn)).collect()
}

#[test]
fn a_missing_segment_is_a_reported_range() {
    let (dir, paths, firsts) = log();
    fs::remove_file(&paths[1]).unwrap();
    let (first, last) = (firsts[1], firsts[2] - 1);
    let report = inspect::verify(&hunhe_disk::real(), dir.path()).unwrap();
    assert!(report.to_string().contains(&format!("records {first} to {last}")), "{report}");
    let (writer, recovery) = open(dir.path());
    let [Finding::Lost(Gap { first: Lsn(from), last: Lsn(to), durable: true, .. })] = recovery.findings[..]
    else {
        panic!("{recovery}")
    };
    assert_eq!((from, to), (first, last));
    let got = read_from(writer.subscribe(), 1);
    assert_eq!((got.records, got.lost), (all_but(first, last), vec![(first, last)]));
    // Starting inside the hole reports the rest of it.
    assert_eq!(read_from(writer.subscribe(), first + 1).lost, [(first + 1, last)]);
}

#[test]
fn a_missing_last_segment_is_reported() {
    let (dir, paths, firsts) = log();
    let last = paths.len() - 1;
    fs::remove_file(&paths[last]).unwrap();
    let (writer, recovery) = open(dir.path());
    assert!(matches!(recovery.findings[..], [Finding::NothingFollows { .. }]), "{recovery}");
    assert_eq!(writer.head(), Lsn(firsts[last] - 1));
}

#[test]
fn a_missing_first_segment_is_told_to_whoever_still_wants_it() {
    let (dir, paths, firsts) = log();
    fs::remove_file(&paths[0]).unwrap();
    let got = read_all(dir.path());
    assert_eq!((got.oldest, got.records), (Some(firsts[1]), (firsts[1]..=RECORDS).collect()));
}

#[test]
fn a_doubled_segment_is_read_once() {
    let (dir, paths, _) = log();
    fs::copy(&paths[1], dir.path().join("00000000000000009999.seg")).unwrap();
    fs::copy(&paths[0], dir.path().join("00000000000000000000.seg")).unwrap();
    let (writer, recovery) = open(dir.path());
    let copies = |finding: &Finding| matches!(finding, Finding::Aside { reason: AsideReason::Copy, .. });
    assert_eq!(recovery.findings.iter().filter(|finding| copies(finding)).count(), 2, "{recovery}");
    assert!(!recovery.lost_records());
    assert_eq!(read_from(writer.subscribe(), 1).records, all_but(0, 0));
    assert!(dir.path().join("00000000000000009999.seg.damaged").exists(), "nothing is deleted");
}

#[test]
fn an_empty_segment_doubled_is_used_once() {
    let dir = folder();
    open(dir.path());
    let path = dir.path().join("00000000000000000001.seg");
    fs::copy(&path, dir.path().join("00000000000000000005.seg")).unwrap();
    let (mut writer, recovery) = open(dir.path());
    assert!(
        matches!(recovery.findings[..], [Finding::Aside { reason: AsideReason::Copy, .. }]),
        "{recovery}"
    );
    write_through(&mut writer, 100);
    assert_eq!(read_from(writer.subscribe(), 1).records, (1..=100).collect::<Vec<_>>());
}

#[test]
fn damage_in_a_sealed_segment_is_reported_by_the_reader_that_meets_it() {
    let (dir, paths, firsts) = log();
    let mut bytes = fs::read(&paths[1]).unwrap();
    bytes[32 + 4] ^= 1;
    fs::write(&paths[1], &bytes).unwrap();
    let got = read_all(dir.path());
    assert_eq!((got.records, got.lost), (all_but(firsts[1], firsts[1]), vec![(firsts[1], firsts[1])]));
}

#[test]
fn cutting_back_to_a_lost_record_keeps_the_numbering() {
    let (dir, paths, firsts) = log();
    let mut bytes = fs::read(&paths[1]).unwrap();
    bytes[32 + 4] ^= 1;
    fs::write(&paths[1], &bytes).unwrap();
    let lost = firsts[1];
    let (mut writer, _) = open(dir.path());
    writer.truncate_after(Lsn(lost)).unwrap();
    assert_eq!((writer.head(), writer.durable()), (Lsn(lost), Lsn(lost)));
    write_through(&mut writer, RECORDS);
    drop(writer);
    let got = read_all(dir.path());
    assert_eq!((got.records, got.lost), (all_but(lost, lost), vec![(lost, lost)]));
}

#[test]
fn a_segment_overwritten_by_its_neighbour_is_a_reported_range() {
    let (dir, paths, firsts) = log();
    fs::copy(&paths[0], &paths[1]).unwrap();
    let got = read_all(dir.path());
    assert_eq!(got.records, all_but(firsts[1], firsts[2] - 1));
    assert_eq!(got.lost, [(firsts[1], firsts[2] - 1)]);
}

#[test]
fn swapped_segments_are_put_back_in_order() {
    let (dir, paths, _) = log();
    let between = dir.path().join("between");
    fs::rename(&paths[0], &between).unwrap();
    fs::rename(&paths[2], &paths[0]).unwrap();
    fs::rename(&between, &paths[2]).unwrap();
    let (writer, recovery) = open(dir.path());
    assert_eq!(recovery.findings.len(), 2, "{recovery}");
    assert_eq!(read_from(writer.subscribe(), 1).records, all_but(0, 0));
    drop(writer);
    assert!(inspect::verify(&hunhe_disk::real(), dir.path()).unwrap().sound);
}

#[test]
fn a_segment_of_another_log_is_set_aside_and_goes_with_the_release() {
    let (dir, paths, firsts) = log();
    let (_other_dir, other_paths, _) = log();
    fs::copy(&other_paths[1], &paths[1]).unwrap();
    let (mut writer, recovery) = open(dir.path());
    let foreign = |finding: &Finding| matches!(finding, Finding::Aside { reason: AsideReason::OtherLog, .. });
    assert!(recovery.findings.iter().any(foreign) && recovery.lost_records(), "{recovery}");
    assert_eq!(read_from(writer.subscribe(), 1).records, all_but(firsts[1], firsts[2] - 1));
    let aside = paths[1].with_extension("seg.damaged");
    assert!(aside.exists());
    writer.release_through(Lsn(firsts[3] - 1)).unwrap();
    assert!(!aside.exists());
}

#[test]
fn a_single_segment_survives_the_loss_of_its_header() {
    let dir = folder();
    write_through(&mut open(dir.path()).0, 12);
    let path = dir.path().join("00000000000000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..32].fill(0xFF);
    fs::write(&path, &bytes).unwrap();
    let (writer, recovery) = open(dir.path());
    assert!(matches!(recovery.findings[..], [Finding::HeaderDamaged { .. }]), "{recovery}");
    assert_eq!(read_from(writer.subscribe(), 1).records, (1..=12).collect::<Vec<_>>());
    drop(writer);
    assert!(inspect::verify(&hunhe_disk::real(), dir.path()).unwrap().sound, "the header was written anew");
}

#[test]
fn an_unreadable_log_is_set_aside_and_numbering_goes_on() {
    let (dir, paths, firsts) = log();
    for path in &paths {
        fs::write(path, vec![0xA5; 5_000]).unwrap();
    }
    let (mut writer, recovery) = open(dir.path());
    assert!(recovery.lost_records(), "{recovery}");
    assert!(
        writer.head().next() >= Lsn(*firsts.last().unwrap()),
        "no number of a lost segment is used again"
    );
    let lsn = writer.append(0, &[b"on"]).unwrap();
    assert_eq!(writer.sync().unwrap(), lsn);
}

#[test]
fn a_newer_format_is_refused_by_its_number_and_left_alone() {
    let (dir, paths, _) = log();
    let mut bytes = fs::read(&paths[2]).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&paths[2], &bytes).unwrap();
    let before = files(dir.path());
    let error = Writer::open(options(dir.path(), 4096)).unwrap_err();
    assert!(matches!(error, Error::NewerFormat(NewerFormat { found: 9, known: 1, .. })), "{error}");
    assert!(matches!(inspect::verify(&hunhe_disk::real(), dir.path()), Err(Error::NewerFormat(_))));
    assert!(matches!(inspect::repair(&hunhe_disk::real(), dir.path()), Err(Error::NewerFormat(_))));
    assert_eq!(files(dir.path()), before);
}

/// A power cut may persist the end of a batch and not its beginning.
#[test]
fn a_hole_in_the_last_batch_is_told_from_one_in_durable_records() {
    let dir = folder();
    let (mut writer, _) = Writer::open(options(dir.path(), 1 << 20)).unwrap();
    write_through(&mut writer, 20);
    let batch_start = usize::try_from(writer.bytes_on_disk()).unwrap();
    for lsn in 21..=40 {
        writer.append(super::kind_of(lsn), &[&super::payload_of(lsn)]).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    let path = dir.path().join("00000000000000000001.seg");
    let whole = fs::read(&path).unwrap();
    for (at, durable) in [(batch_start - 30, true), (batch_start + 600, false)] {
        let mut bytes = whole.clone();
        bytes[at..at + 12].fill(0);
        fs::write(&path, &bytes).unwrap();
        let report = inspect::verify(&hunhe_disk::real(), dir.path()).unwrap();
        let [Finding::Lost(gap)] = &report.findings[..] else { panic!("{report}") };
        assert_eq!(gap.durable, durable, "{report}");
        assert_eq!(report.head, Lsn(40), "what can be read is kept");
    }
}

#[test]
fn inspection_reports_in_words_and_as_data_and_repair_mends() {
    let (dir, paths, _) = log();
    let last = paths.last().unwrap();
    let mut bytes = fs::read(last).unwrap();
    bytes.extend([0xEE; 33]);
    fs::write(last, &bytes).unwrap();
    let before = files(dir.path());
    for report in [
        inspect::verify(&hunhe_disk::real(), dir.path()).unwrap(),
        inspect::stat(&hunhe_disk::real(), dir.path()).unwrap(),
    ] {
        assert!(matches!(report.findings[..], [Finding::Torn { bytes: 33, .. }]), "{report}");
        assert!(report.to_string().contains("33 bytes behind record 130"), "{report}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][0]["what"], "torn");
        assert_eq!((json["head"].as_u64(), json["sound"].as_bool()), (Some(130), Some(false)));
    }
    assert_eq!(files(dir.path()), before, "looking changes nothing");
    let report = inspect::repair(&hunhe_disk::real(), dir.path()).unwrap();
    assert!(report.to_string().contains("mended"), "{report}");
    assert!(inspect::verify(&hunhe_disk::real(), dir.path()).unwrap().sound);
    let writer = open(dir.path()).0;
    assert!(inspect::verify(&hunhe_disk::real(), dir.path()).unwrap().in_use);
    assert!(matches!(inspect::repair(&hunhe_disk::real(), dir.path()), Err(Error::Locked { .. })));
    drop(writer);
    let nowhere = dir.path().join("nowhere");
    assert!(inspect::repair(&hunhe_disk::real(), &nowhere).unwrap().sound && !nowhere.exists());
}
