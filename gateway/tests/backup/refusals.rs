//! What cannot be restored is refused by name, with the target as it was.

use std::{fs, path::Path};

use hunhe_gateway::backup::{BackupError, Contents, RestoreError, restore};

use super::{
    site::{Site, files},
    wanted,
};

fn small_backup() -> (Site, Vec<u8>) {
    let site = Site::new();
    let mut open = site.open();
    open.append(3);
    open.fill_store(0, 3);
    open.checkpoint();
    let (backup, ..) = site.backup(&open.store).unwrap();
    drop(open);
    (site, backup)
}

fn refused(site: &Site, backup: &[u8]) -> BackupError {
    let (from, to) = (site.dir.path().join("file"), site.dir.path().join("TARGET"));
    fs::write(&from, backup).unwrap();
    let Err(RestoreError::Backup { source, .. }) = restore(&wanted(&from, &to, None), &mut |_| ()) else {
        panic!("restored, or refused for another reason");
    };
    let names: Vec<_> =
        fs::read_dir(site.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("TARGET")), "{names:?}");
    source
}

#[test]
fn each_truncation_and_each_bit_that_is_flipped_is_refused_before_anything_is_written() {
    let (site, backup) = small_backup();
    assert!(backup.len() < 40_000, "{}", backup.len());
    for length in 0..backup.len() {
        match refused(&site, &backup[..length]) {
            BackupError::Truncated { .. } => {}
            other => panic!("{length} bytes: {other}"),
        }
    }
    let mut flipped = backup.clone();
    for at in 0..backup.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            let mut contents = Contents::default();
            let taken = contents.push::<BackupError>(&flipped, |_| Ok(()));
            let outcome = taken.and_then(|()| contents.finish());
            // A length that grew asks for more than there is.
            let error = outcome.err().unwrap_or_else(|| panic!("byte {at}, bit {bit} was taken"));
            assert!(
                matches!(error, BackupError::Damaged { .. } | BackupError::Truncated { .. })
                    || at < 8 && matches!(error, BackupError::Foreign),
                "byte {at}, bit {bit}: {error}"
            );
            if (at + bit) % 61 == 0 {
                refused(&site, &flipped);
            }
            flipped[at] ^= 1 << bit;
        }
    }
    // Something behind the end, a second backup for one.
    refused(&site, &[backup.clone(), backup.clone()].concat());
    let mut longer = backup.clone();
    longer.push(0);
    refused(&site, &longer);
    assert!(matches!(refused(&site, b"\x1f\x8b a zip"), BackupError::Foreign));
}

#[test]
fn only_an_empty_folder_is_filled() {
    let (site, backup) = small_backup();
    let (from, to) = (site.dir.path().join("file"), site.dir.path().join("target"));
    fs::write(&from, &backup).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(to.join("of somebody"), "x").unwrap();
    let error = restore(&wanted(&from, &to, None), &mut |_| ()).unwrap_err();
    assert!(matches!(&error, RestoreError::NotEmpty { dir } if *dir == to), "{error}");
    assert_eq!(files(&to).len(), 1);
    fs::remove_file(to.join("of somebody")).unwrap();

    let registry = site.dir.path().join("list");
    fs::create_dir(&registry).unwrap();
    fs::write(registry.join("x"), "x").unwrap();
    let error = restore(&wanted(&from, &to, Some(&registry)), &mut |_| ()).unwrap_err();
    assert!(matches!(&error, RestoreError::NotEmpty { dir } if *dir == registry), "{error}");

    // What a restore that was cut has left is in nobody's way.
    let left = site.dir.path().join(".target.restoring");
    fs::create_dir_all(left.join("journal")).unwrap();
    fs::write(left.join("journal/00000000000000000001.seg"), "half").unwrap();
    let restored = restore(&wanted(&from, &to, None), &mut |_| ()).unwrap();
    assert!(restored.registry_left_out > 0);
    assert!(!left.exists() && to.join("store").is_dir());
    assert_ne!(fs::read(to.join("journal/00000000000000000001.seg")).unwrap(), b"half");
}

#[test]
fn a_gateway_that_gave_up_says_why_and_its_backup_is_none() {
    let site = Site::new();
    let mut open = site.open();
    open.append(150);
    open.journal.release_through(open.journal.head()).unwrap();
    let mut given = Vec::new();
    let mut take = |bytes: bytes::Bytes| {
        given.extend_from_slice(&bytes);
        Ok(())
    };
    hunhe_gateway::backup::give(&site.source(), &open.store, 0, &mut take).unwrap_err();
    match refused(&site, &given) {
        BackupError::Failed { words } => assert!(words.contains("no whole checkpoint"), "{words}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_reader_that_leaves_leaves_nothing_behind() {
    let site = Site::new();
    let mut open = site.open();
    open.append(300);
    for pieces in 0..12 {
        let mut left = pieces;
        let mut take = |_| match left {
            0 => Err(std::io::ErrorKind::BrokenPipe.into()),
            _ => {
                left -= 1;
                Ok(())
            }
        };
        let error = hunhe_gateway::backup::give(&site.source(), &open.store, 0, &mut take).unwrap_err();
        assert!(matches!(error, BackupError::Left(_)), "{error}");
        assert!(!site.data.join("backup.staging").exists());
    }
    let left = site.data.join("backup.staging/journal");
    fs::create_dir_all(&left).unwrap();
    hunhe_gateway::backup::clear(&site.data).unwrap();
    assert!(!Path::new(&left).exists());
}
