//! A data folder of which one piece is a newer Hunhe's: refused by name by whoever opens it, and left as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hunhe_disk::{FormatError, NewerFormat};
use hunhe_gateway::{
    decide::{
        checkpoint::{CheckpointError, Checkpoints},
        formats::{FolderError, refuse_newer},
        recover::{Layout, Recovered},
    },
    setup::config::{DecidedLimits, JournalLimits},
};
use hunhe_log::{
    Writer,
    cursor::{CursorError, CursorFile},
    inspect,
};
use hunhe_store::StoreError;

use crate::{content, copy, story};

/// A piece that a newer Hunhe wrote: which file, how it is changed, and what is found and known.
struct Piece {
    file: &'static str,
    change: fn(&mut Vec<u8>),
    versions: (u32, u32),
}

const FIRST_SEGMENT: &str = "00000000000000000001.seg";

/// Each with the checksum that a newer Hunhe would write, since the place of a version and of its checksum never move.
fn pieces() -> Vec<(PathBuf, Piece)> {
    fn segment(bytes: &mut [u8]) {
        bytes[8] = 2;
        let sum = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    }
    let pieces = [
        Piece { file: "journal/00000000000000000001.seg", change: |bytes| segment(bytes), versions: (2, 1) },
        Piece { file: "journal/00000000000000000005.seg", change: |bytes| segment(bytes), versions: (2, 1) },
        Piece { file: "decided/00000000000000000001.seg", change: |bytes| segment(bytes), versions: (2, 1) },
        Piece { file: "alerts/00000000000000000001.seg", change: |bytes| segment(bytes), versions: (2, 1) },
        Piece {
            file: "checkpoint/checkpoint-0",
            change: |bytes| {
                bytes[8] = 2;
                let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[32..]), &bytes[..28]);
                bytes[28..32].copy_from_slice(&sum.to_le_bytes());
            },
            versions: (2, 1),
        },
        Piece {
            file: "influx.cursor",
            change: |bytes| {
                bytes[7] = 2;
                let sum = crc32c::crc32c(&bytes[..32]);
                bytes[32..36].copy_from_slice(&sum.to_le_bytes());
            },
            versions: (2, 1),
        },
        Piece {
            file: "store/format",
            change: |bytes| {
                *bytes = format!("hunhe store 2 {:08x}\n", crc32c::crc32c(b"hunhe store 2")).into_bytes();
            },
            versions: (2, 1),
        },
        Piece {
            file: "pseudonyms.csv",
            change: |bytes| {
                *bytes = [b"# hunhe pseudonyms, format 2\n", bytes.as_slice()].concat();
            },
            versions: (2, 1),
        },
    ];
    pieces.into_iter().map(|piece| (PathBuf::from(piece.file), piece)).collect()
}

/// A folder of today, and the same with one piece of tomorrow.
fn folders() -> (tempfile::TempDir, impl Iterator<Item = (tempfile::TempDir, PathBuf, Piece)>) {
    let today = tempfile::tempdir().unwrap();
    story::write_data_dir(today.path());
    let template = tempfile::tempdir().unwrap();
    copy(today.path(), template.path());
    let newer = pieces().into_iter().map(move |(file, piece)| {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let mut bytes = fs::read(dir.path().join(&file)).unwrap();
        (piece.change)(&mut bytes);
        fs::write(dir.path().join(&file), bytes).unwrap();
        (dir, file, piece)
    });
    (today, newer)
}

fn layout(data_dir: &Path) -> Layout {
    Layout {
        data_dir: data_dir.to_owned(),
        journal: JournalLimits { segment_bytes: 4096, limit_bytes: 1 << 20 },
        decided: DecidedLimits { segment_bytes: 4096, limit_bytes: 1 << 20 },
        alerts_limit_bytes: 8 << 20,
    }
}

#[test]
fn a_start_on_a_folder_with_one_newer_piece_is_refused_by_name_and_leaves_every_byte() {
    let disk = hunhe_disk::real();
    let (today, newer) = folders();
    let mut refused = 0;
    for (dir, file, piece) in newer {
        let path = dir.path().join(&file);
        let (found, known) = piece.versions;
        let before = content(dir.path());
        let error = Recovered::open(&disk, &layout(dir.path()), 7).unwrap_err();
        assert_eq!(
            error.downcast_ref::<FolderError>().and_then(FolderError::newer),
            Some(&NewerFormat { path: path.clone(), found, known }),
            "{error:#}"
        );
        let words = format!("{error:#}");
        for part in [&*path.display().to_string(), "written by a newer Hunhe", "start that version again"] {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(content(dir.path()), before, "{}", file.display());
        refused += 1;
    }
    assert_eq!(refused, 8);
    // The folder itself was none of the reasons.
    let recovered = Recovered::open(&disk, &layout(today.path()), 7).unwrap();
    assert_eq!(recovered.from, hunhe_log::Lsn(3));
    assert!(recovered.snapshot.is_some());
}

/// A piece lies alone in a folder that is otherwise empty, as after a copy that left out locks and the rest.
#[test]
fn a_newer_piece_alone_is_refused_too_and_nothing_is_made_beside_it() {
    let (_today, newer) = folders();
    for (dir, file, _) in newer {
        let alone = tempfile::tempdir().unwrap();
        fs::create_dir_all(alone.path().join(&file).parent().unwrap()).unwrap();
        fs::copy(dir.path().join(&file), alone.path().join(&file)).unwrap();
        let before = content(alone.path());
        let error = Recovered::open(&hunhe_disk::real(), &layout(alone.path()), 7).unwrap_err();
        assert!(error.downcast_ref::<FolderError>().unwrap().newer().is_some(), "{error:#}");
        assert_eq!(content(alone.path()), before, "{}", file.display());
    }
}

#[test]
fn the_program_ends_with_words_and_leaves_every_byte() {
    let run = |data_dir: &Path, command: &str| {
        let config = tempfile::NamedTempFile::new().unwrap();
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
        let fleet = seeds.join("city/demo.toml");
        let text = format!(
            "data_dir = {data_dir:?}\nseeds_dir = {seeds:?}\n[registry]\nfleets = [{fleet:?}]\n[http]\nlisten = \"127.0.0.1:0\"\n[broker]\nport = 1\n"
        );
        fs::write(config.path(), text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_hunhe-gateway"));
        program.arg(command).arg("--config").arg(config.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = program.spawn().unwrap();
        // One that is not refused runs for ever.
        let end = Instant::now() + Duration::from_secs(60);
        while process.try_wait().unwrap().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let output = process.wait_with_output().unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(words).unwrap())
    };
    let (today, newer) = folders();
    for (dir, file, piece) in newer {
        let before = content(dir.path());
        for command in ["run", "check"] {
            let (code, words) = run(dir.path(), command);
            assert_eq!(code, Some(2), "{command}: {words}");
            let (found, known) = piece.versions;
            for part in [
                &*dir.path().join(&file).display().to_string(),
                &format!("format {found}, and this version reads up to {known}"),
                "written by a newer Hunhe",
                "restore a backup",
            ] {
                assert!(words.contains(part), "{command}: no {part:?} in {words}");
            }
            assert_eq!(content(dir.path()), before, "{command} {}", file.display());
        }
    }
    let (code, words) = run(today.path(), "check");
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn each_piece_refuses_by_itself_and_leaves_its_bytes() {
    let disk = hunhe_disk::real();
    let (_today, newer) = folders();
    for (dir, file, _) in newer {
        let before = content(dir.path());
        let path = dir.path().join(&file);
        let folder = path.parent().unwrap();
        match file.to_str().unwrap() {
            segment if segment.ends_with(".seg") => {
                let error = Writer::open(story::log(folder)).unwrap_err();
                assert!(
                    matches!(error, hunhe_log::Error::NewerFormat(NewerFormat { found: 2, .. })),
                    "{error}"
                );
                for look in [inspect::verify, inspect::stat, inspect::repair] {
                    let error = look(&disk, folder).unwrap_err();
                    assert!(matches!(error, hunhe_log::Error::NewerFormat(_)), "{error}");
                }
            }
            "checkpoint/checkpoint-0" => {
                let error = Checkpoints::open(&disk, folder).unwrap_err();
                assert!(
                    matches!(error, CheckpointError::NewerFormat(NewerFormat { found: 2, .. })),
                    "{error}"
                );
            }
            "influx.cursor" => {
                let error = CursorFile::open(&*disk, &path).unwrap_err();
                assert!(matches!(error, CursorError::NewerFormat(NewerFormat { found: 2, .. })), "{error}");
                assert!(matches!(
                    CursorFile::open_through(&*disk, &path, 9),
                    Err(CursorError::NewerFormat(_))
                ));
            }
            "store/format" => {
                let Err(error) = story::open_store(folder) else { panic!("a newer store was opened") };
                assert!(matches!(error, StoreError::Format(FormatError::NewerFormat(_))), "{error}");
            }
            "pseudonyms.csv" => {
                let mut faults = Vec::new();
                hunhe_gateway::setup::registry::Pseudonyms::read(folder, &mut faults);
                assert!(!faults.is_empty(), "its first line is no pair");
            }
            other => panic!("{other} has no case"),
        }
        assert_eq!(content(dir.path()), before, "{}", file.display());
    }
}

/// Any bit of a header that carries a version may rot: then the piece is damaged, which the gateway copes with, and not a
/// newer Hunhe's, which it would wait for a human to resolve.
#[test]
fn rot_is_never_taken_for_a_newer_hunhe() {
    let (today, _) = folders();
    let disk = hunhe_disk::simulated::SimulatedDisk::new();
    let handle: Arc<dyn hunhe_disk::Disk> = disk.handle();
    let places = [
        (format!("journal/{FIRST_SEGMENT}"), 0..32),
        (format!("decided/{FIRST_SEGMENT}"), 0..32),
        (format!("alerts/{FIRST_SEGMENT}"), 0..32),
        ("checkpoint/checkpoint-0".into(), 0..32),
        ("influx.cursor".into(), 0..36),
        ("influx.cursor".into(), 512..548),
        ("store/format".into(), 0..23),
    ];
    for (file, bytes) in places {
        let whole = fs::read(today.path().join(&file)).unwrap();
        let path = Path::new("/data").join(&file);
        handle.make_dir(path.parent().unwrap()).unwrap();
        let on_disk = handle.open(&path, hunhe_disk::Open::Empty).unwrap();
        on_disk.write_all_at(&whole, 0).unwrap();
        drop(on_disk);
        refuse_newer(&*handle, Path::new("/data")).unwrap();
        for (at, bit) in bytes.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            assert!(disk.corrupt(&path, |content| content[at] ^= 1 << bit));
            if let Err(error) = refuse_newer(&*handle, Path::new("/data")) {
                panic!("{file}, byte {at}, bit {bit}: {error}");
            }
            assert!(disk.corrupt(&path, |content| content[at] ^= 1 << bit));
        }
    }
}

#[test]
fn a_store_whose_mark_is_gone_or_rotten_opens_and_is_marked_again() {
    let dir = tempfile::tempdir().unwrap();
    story::write_store(dir.path());
    let mark = dir.path().join("format");
    let whole = fs::read(&mark).unwrap();
    for rotten in [None, Some(&b"hunhe store 3 "[..]), Some(b""), Some(&whole[..whole.len() - 1])] {
        match rotten {
            None => fs::remove_file(&mark).unwrap(),
            Some(bytes) => fs::write(&mark, bytes).unwrap(),
        }
        let store = story::open_store(dir.path()).unwrap();
        assert!(store.find_device("shown-7").is_some());
        assert_eq!(fs::read(&mark).unwrap(), whole);
    }
}
