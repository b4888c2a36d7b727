//! Cursor files: never a cursor that nobody wrote, and whatever lies there, the next one written is read.

use hunhe_disk::{Disk as _, Open, simulated::SimulatedDisk};
use hunhe_fuzz::{Target, run};
use hunhe_log::{
    Lsn,
    cursor::{Cursor, CursorError, CursorFile, Held, refuse_newer},
};
use std::path::Path;

fn at(source_lsn: u64) -> Cursor {
    Cursor { source_lsn, decided_lsn: Lsn(3 * source_lsn) }
}

/// Sums both slots anew.
fn mend(bytes: &mut [u8]) {
    for slot in [0, 512] {
        if let Some(slot) = bytes.get_mut(slot..slot + 36) {
            let sum = crc32c::crc32c(&slot[..32]);
            slot[32..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

#[test]
fn cursor_files_hold_what_was_written_or_are_damaged() {
    let _alone = crate::alone();
    let path = Path::new("/data/influx.cursor");
    let blank = SimulatedDisk::new();
    blank.handle().make_dir(Path::new("/data")).unwrap();
    let file_of = |sources: u64| {
        let disk = blank.fork();
        let (mut file, _) = CursorFile::open(&disk, path).unwrap();
        (1..=sources).for_each(|source_lsn| file.save(at(source_lsn)).unwrap());
        disk.read(path).unwrap()
    };
    let target = Target {
        words: &[b"HUNHECUR", b"HUNHECU\x02"],
        mend: &mend,
        ..crate::target("cursor", vec![Vec::new(), file_of(1), file_of(2), file_of(5)], 64 << 10)
    };
    let outcome = run(&target, |bytes| {
        let disk = blank.fork();
        let file = disk.open(path, Open::New).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let refused = refuse_newer(&disk, path).is_err();
        match CursorFile::open(&disk, path) {
            Err(CursorError::NewerFormat(_)) => {
                assert!(refused);
                assert_eq!(disk.read(path).unwrap(), bytes, "a newer one is left as it is");
                false
            }
            Err(error) => panic!("{error}"),
            Ok((mut file, held)) => {
                assert!(!refused);
                match held {
                    Held::Nothing => assert!(bytes.is_empty()),
                    Held::Damaged => assert!(!bytes.is_empty()),
                    Held::Cursor(cursor) => {
                        // Where the two words stand, under a checksum.
                        let words =
                            [cursor.source_lsn.to_le_bytes(), cursor.decided_lsn.0.to_le_bytes()].concat();
                        // Behind the end are zeros.
                        let long = [bytes, &[0; 548]].concat();
                        let stands = |at: usize| long[at + 16..at + 32] == words;
                        assert!(stands(0) || stands(512));
                    }
                }
                let generations = [0, 512].map(|at| bytes.get(at + 8..at + 16) == Some(&[0xff; 8]));
                file.save(at(77)).unwrap();
                let again = CursorFile::open(&disk, path).unwrap().1;
                // A count that has come to its end cannot rise; no file gets there by being written.
                assert!(again == Held::Cursor(at(77)) || generations.contains(&true), "{again:?}");
                matches!(held, Held::Cursor(_))
            }
        }
    });
    crate::reached_both_sides(outcome);
}
