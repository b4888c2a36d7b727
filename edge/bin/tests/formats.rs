//! The outbox on disk: what was written once is read for ever, and what a newer agent wrote is refused by name with nothing
//! changed.
#![allow(clippy::unwrap_used, clippy::panic)]

use hunhe_edge::{
    formats::{FormatError, refuse_newer},
    spool::{Entry, Limits, Recovered, Spool, draw_boot},
};
use hunhe_edge_core::outbox::Range;
use hunhe_proto::{
    id::DeviceId,
    reading::{ABSENT, Drop, DropCause},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// As drawn when the fixture was written.
const BOOTS: [u32; 2] = [0x3a53_f478, 0x6d5d_addf];

/// A copy of the fixture, to be opened: what is checked in stays as it is.
fn fixture() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds/fixtures/outbox-v1");
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn open(folder: &Path) -> Vec<Recovered> {
    let entries = [
        Entry::new(DeviceId::new("g-1").unwrap(), 2, [(1, 3), (2, 1), (7, 0)]),
        Entry::new(DeviceId::new("level-2").unwrap(), 1, [(0, 0)]),
    ];
    Spool::open(hunhe_disk::real(), folder, Limits::default(), &entries, draw_boot).unwrap().1
}

fn rows(recovered: &Recovered, start: u64, end: u64) -> Vec<Vec<i64>> {
    recovered.samples.rows(Range { start, end }).map(<[i64]>::to_vec).collect()
}

#[test]
fn an_outbox_of_format_1_is_read_sample_by_sample() {
    let dir = fixture();
    let segments = content(dir.path()).into_keys().filter(|path| path.extension().is_some()).count();
    assert!(segments > 2, "{segments} segments");
    refuse_newer(dir.path()).unwrap();
    let found = open(dir.path());
    let [meter, level] = found.as_slice() else { panic!("two devices") };
    assert_eq!([meter.state.boot, level.state.boot], BOOTS);
    assert_eq!((meter.state.next_seq, level.state.next_seq), (6, 3));
    assert_eq!((meter.state.previous, level.state.previous), (None, None));
    const BEGIN_MS: i64 = 1_793_491_200_000;
    assert_eq!((meter.newest_ms, level.newest_ms), (Some(BEGIN_MS + 300_000), Some(BEGIN_MS + 120_001)));
    let given_up = Drop { seq: 0, count: 2, cause: DropCause::Operator };
    assert_eq!(meter.state.drops.as_slice(), [given_up]);
    assert!(level.state.drops.is_empty());
    let big = (1 << 53) - 1;
    assert_eq!(
        rows(meter, 2, 6),
        [
            [BEGIN_MS + 120_000, 2_000, -2_000, ABSENT],
            [BEGIN_MS + 180_000, 3_000, -3_000, big],
            [BEGIN_MS + 240_000, 4_000, -4_000, ABSENT],
            [BEGIN_MS + 300_000, 5_000, -5_000, big],
        ]
    );
    assert_eq!(
        rows(level, 0, 3),
        [[BEGIN_MS + 1, 7], [BEGIN_MS + 60_001, 1_007], [BEGIN_MS + 120_001, 2_007]]
    );
}

/// Makes a segment's first frame one of format 2, with the checksum that it would have.
fn raise(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let end = 12 + usize::try_from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())).unwrap();
    bytes[3] = b'2';
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..end]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

const RECORDING: &str = r#"
title = { zh = "", en = "" }
licence = "none"
citation = "none"
[[file]]
path = "flow.csv"
class = "dma_flow"
"#;

/// What an agent's program says, and its exit code. One that is not refused ends with its recording.
fn run(state_dir: &Path) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let classes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds/classes");
    let text = format!(
        "agent = \"c-1\"\nclasses = {classes:?}\nstate_dir = {state_dir:?}\n[broker]\nport = 1\n[outbox]\ndrain_s = 1\n\
         [[devices]]\nid = \"dma-1\"\nclass = \"dma_flow\"\ndriver = \"replay\"\nrecording = {:?}\n",
        dir.path()
    );
    let files = [
        ("edge.toml", &*text),
        ("recording.toml", RECORDING),
        ("flow.csv", "time,dma-1:flow\n2021-01-01T00:00:00Z,1.5\n"),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_hunhe-edge"));
    let output = program.args(["run", "--config"]).arg(dir.path().join("edge.toml")).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(words).unwrap())
}

#[test]
fn an_outbox_of_this_format_is_used() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path()), (Some(0), String::new()));
}

#[test]
fn a_newer_segment_anywhere_is_refused_by_name_and_every_byte_stays() {
    let segments: Vec<PathBuf> = {
        let dir = fixture();
        let paths = content(dir.path()).into_keys().filter(|path| path.extension().is_some());
        paths.map(|path| path.file_name().unwrap().into()).collect()
    };
    for name in segments {
        let dir = fixture();
        let path = dir.path().join(&name);
        raise(&path);
        let before = content(dir.path());
        let error = refuse_newer(dir.path()).unwrap_err();
        assert!(
            matches!(&error, FormatError::Newer { path: named, found: 2 } if *named == path),
            "{}: {error}",
            name.display()
        );
        let (code, words) = run(dir.path());
        assert_eq!(code, Some(1), "{words}");
        for part in [
            &*path.display().to_string(),
            "format 2, and this version reads up to 1",
            "written by a newer Hunhe",
            "start that version again",
        ] {
            assert!(words.contains(part), "no {part:?} in {words}");
        }
        assert_eq!(content(dir.path()), before, "{}", name.display());
    }
}

#[test]
fn rot_is_never_taken_for_a_newer_agent() {
    let dir = fixture();
    let (path, whole) = content(dir.path()).into_iter().find(|(path, _)| path.extension().is_some()).unwrap();
    for (at, bit) in (0..12).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut rotten = whole.clone();
        rotten[at] ^= 1 << bit;
        fs::write(&path, rotten).unwrap();
        refuse_newer(dir.path()).unwrap_or_else(|error| panic!("byte {at}, bit {bit}: {error}"));
    }
}
