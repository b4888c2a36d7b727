//! What was backed up comes back, to the byte where bytes are kept, and the gateway's own recovery takes it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hunhe_gateway::{
    decide::{
        recover::{Layout, Recovered},
        restored::{JUMP, Note},
    },
    setup::config::{DecidedLimits, JournalLimits},
};
use hunhe_log::{Lsn, inspect};

use super::site::{Site, content, files, open_store};

fn recover(data: &Path) -> Recovered {
    let layout = Layout {
        data_dir: data.into(),
        journal: JournalLimits { segment_bytes: 4 << 10, limit_bytes: 1 << 30 },
        decided: DecidedLimits { segment_bytes: 4 << 10, limit_bytes: 1 << 30 },
        alerts_limit_bytes: 8 << 20,
    };
    Recovered::open(&hunhe_disk::real(), &layout, 7).unwrap()
}

#[test]
fn every_piece_comes_back_and_the_gateway_goes_on_with_it() {
    let site = Site::new();
    let mut open = site.open();
    open.append(150);
    open.fill_store(0, 600);
    open.checkpoint();
    open.move_cursor();
    open.append(150);
    open.journal.release_through(Lsn(90)).unwrap();
    open.decided.release_through(Lsn(40)).unwrap();
    open.checkpoint();
    // Behind the newest checkpoint: in the journal alone.
    open.append(60);
    fs::write(site.data.join("webhook-duty.cursor"), b"as it is").unwrap();
    let before = (content(&open.store), files(&site.data));

    let (backup, manifest, totals) = site.backup(&open.store).unwrap();
    assert_eq!(
        (manifest.journal.last, manifest.checkpoint, manifest.alerts.last),
        (Lsn(360), Lsn(300), Lsn(360))
    );
    assert!(manifest.journal.first > Lsn(1), "released before, and not made up");
    assert_eq!((totals.devices, totals.samples, totals.quarantined), (2, 1_200, 1));
    assert_eq!(files(&site.data), before.1, "nothing of the staging is left, and nothing was touched");

    let data = site.restore(&backup, "new");
    let restored = open_store(&data);
    assert_eq!(content(&restored), before.0);
    drop(restored);
    let note = Note::read(&*hunhe_disk::real(), &data).unwrap().unwrap();
    assert_eq!((note.journal, note.alerts), (Lsn(360 + JUMP), Lsn(360 + JUMP)));
    let mut after = files(&data);
    after.retain(|(path, _)| path != Path::new("restored.json"));
    // Of the two checkpoints the newer is enough.
    let mut expected = before.1;
    expected.retain(|(path, _)| path != Path::new("checkpoint/checkpoint-0"));
    assert_eq!(after, expected);
    let pseudonyms = fs::metadata(data.join("pseudonyms.csv")).unwrap();
    assert_eq!(pseudonyms.permissions().mode() & 0o777, 0o600);

    let registry = files(&site.dir.path().join("new-registry"));
    let names: Vec<&str> = registry.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    let expected =
        ["city/city.toml", "classes/a.toml", "devices/2-list.csv", "devices/list.csv", "rules/leak.toml"];
    assert_eq!(names, expected);
    assert_eq!(registry[2].1, b"device\nd-2\n");

    for _ in 0..2 {
        // As the gateway starts, also a second time before its first checkpoint.
        let recovered = recover(&data);
        assert!(recovered.snapshot.is_some());
        assert_eq!(recovered.from, Lsn(300));
        assert_eq!(recovered.confirmed["main"], 300);
        let heads = (recovered.journal.head(), recovered.decided.head(), recovered.alerts.head());
        assert_eq!(heads, (note.journal, Lsn(300), note.alerts), "numbers are not used twice");
        drop(recovered);
        let report = inspect::verify(&hunhe_disk::real(), &data.join("journal")).unwrap();
        assert!(!report.lost_records, "{report}");
    }
}

#[test]
fn a_restored_folder_is_backed_up_and_restored_once_more() {
    let site = Site::new();
    let mut open = site.open();
    open.append(20);
    open.checkpoint();
    let (backup, ..) = site.backup(&open.store).unwrap();
    drop(open);
    fs::remove_dir_all(&site.data).unwrap();
    let data = site.restore(&backup, "data");
    drop(recover(&data));
    let mut open = site.open();
    open.append(5);
    let (backup, manifest, _) = site.backup(&open.store).unwrap();
    assert_eq!(manifest.journal.last, Lsn(20 + JUMP + 5));
    let again = site.restore(&backup, "again");
    let recovered = recover(&again);
    assert_eq!(recovered.journal.head(), Lsn(20 + 2 * JUMP + 5));
}

#[test]
fn a_folder_without_a_checkpoint_is_backed_up_while_its_journal_is_whole() {
    let site = Site::new();
    let mut open = site.open();
    open.append(150);
    let (backup, manifest, _) = site.backup(&open.store).unwrap();
    assert_eq!(manifest.checkpoint, Lsn::NONE);
    let recovered = recover(&site.restore(&backup, "new"));
    assert!(recovered.snapshot.is_none());
    assert_eq!(recovered.from, Lsn::NONE);
    open.journal.release_through(Lsn(100)).unwrap();
    let words = site.backup(&open.store).unwrap_err().to_string();
    assert!(words.contains("no whole checkpoint"), "{words}");
}

#[test]
fn a_checkpoint_comes_back_as_it_was() {
    let site = Site::new();
    let open = site.open();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds/fixtures/checkpoint-v1/checkpoint-0");
    fs::copy(&fixture, site.data.join("checkpoint/checkpoint-0")).unwrap();
    let (backup, manifest, _) = site.backup(&open.store).unwrap();
    assert!(manifest.checkpoint > Lsn::NONE);
    let data = site.restore(&backup, "new");
    assert_eq!(fs::read(data.join("checkpoint/checkpoint-0")).unwrap(), fs::read(fixture).unwrap());
}
