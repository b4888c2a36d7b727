//! Backups taken one after the other while everything is written to and released as fast as it goes.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use hunhe_gateway::{backup::give, decide::checkpoint::Checkpoints};
use hunhe_log::{
    Lsn,
    cursor::{CursorFile, Held},
    inspect,
};

use super::site::{Open, Site, cause_of, open_store};

const BACKUPS: usize = 40;
const LULL: Duration = Duration::from_millis(30);

/// One step of a gateway's life: records, the store, a sink's cursor, a checkpoint, a release through the one before.
fn step(open: &mut Open, older: &mut (Lsn, Lsn)) {
    open.append(60);
    open.move_cursor();
    open.append(60);
    let covered = (open.journal.head(), open.decided.head());
    open.checkpoint();
    open.journal.release_through(older.0).unwrap();
    open.decided.release_through(older.1).unwrap();
    *older = covered;
}

#[test]
fn what_is_taken_beside_a_busy_gateway_fits_together() {
    let site = Site::new();
    let mut open = site.open();
    let store = std::mem::replace(&mut open.store, open_store(site.dir.path()));
    let store = std::sync::Arc::new(store);
    let (stop, shared) = (AtomicBool::new(false), std::sync::Arc::clone(&store));
    let (give_out, taken) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            // The store is the backup's as well, and stands where the journal stood.
            let mut older = (Lsn::NONE, Lsn::NONE);
            for number in 1_u64.. {
                shared.checkpoint(&open.journal.head().0.to_le_bytes()).unwrap();
                step(&mut open, &mut older);
                // In bursts: within one, segments come and go faster than they can be linked.
                if number.is_multiple_of(25) {
                    thread::sleep(LULL);
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        while site.data.join("journal/00000000000000000001.seg").exists() {
            thread::yield_now();
        }
        for _ in 0..BACKUPS {
            let mut all = Vec::new();
            let mut take = |bytes: Bytes| {
                all.extend_from_slice(&bytes);
                Ok(())
            };
            let given = give(&site.source(), &store, 0, &mut take);
            give_out.send(given.map(|(manifest, _)| (manifest, all))).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(give_out);
    for (number, given) in taken.into_iter().enumerate() {
        let (manifest, backup) = given.unwrap();
        let data = site.restore(&backup, &format!("new-{number}"));
        let disk = hunhe_disk::real();
        let log = |name: &str| {
            let report = inspect::verify(&disk, &data.join(name)).unwrap();
            assert!(!report.lost_records, "{name} of backup {number}: {report}");
            report
        };
        let (journal, decided, alerts) = (log("journal"), log("decided"), log("alerts"));
        assert!(journal.head >= manifest.journal.last);
        assert!(journal.oldest > Lsn(1), "releases go on beside");
        let found = Checkpoints::open(&disk, &data.join("checkpoint")).unwrap().1;
        assert!(found.damaged.is_empty());
        if let Some(checkpoint) = found.newest {
            assert_eq!(checkpoint.journal, manifest.checkpoint);
            assert!(journal.oldest <= checkpoint.journal.next(), "{journal}: {}", checkpoint.journal);
            assert!(journal.head >= checkpoint.journal);
            assert!(decided.head >= checkpoint.decided && alerts.head >= checkpoint.alerts);
        }
        let written = cause_of(open_store(&data).cursor().unwrap());
        assert!(
            written <= journal.head,
            "the store stands at {written}, the journal ends at {}",
            journal.head
        );
        if let Held::Cursor(cursor) = CursorFile::open(&*disk, &data.join("main.cursor")).unwrap().1 {
            assert!(cursor.source_lsn <= journal.head.0, "{cursor:?}: {}", journal.head);
        }
    }
}
