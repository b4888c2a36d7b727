//! A data folder with a little of everything in it, and what one is compared by.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use hunhe_gateway::{
    alerts,
    backup::{BackupError, Manifest, Source, Totals, give},
    decide::checkpoint::{Checkpoint, Checkpoints},
    setup::config::{Config, Layers},
};
use hunhe_gateway_core::{
    lane::{Lane, Policy},
    registry::Registry,
};
use hunhe_log::{
    Lsn, Options, Writer,
    cursor::{Cursor, CursorFile},
};
use hunhe_store::{NewRecord, RecordFilter, RecordId, Rollup, Rows, Series, Store};

/// 2026-11-01T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_793_491_200_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
const SEGMENT_BYTES: u64 = 4 << 10;

/// A gateway's folders.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) data: PathBuf,
    pub(crate) config: Config,
}

/// What is written to, and must stay open beside a backup.
pub(crate) struct Open {
    pub(crate) journal: Writer,
    pub(crate) decided: Writer,
    pub(crate) alerts: Writer,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) store: Store,
    pub(crate) cursor: CursorFile,
}

pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn log_options(dir: PathBuf) -> Options {
    Options { disk: hunhe_disk::real(), dir, segment_bytes: SEGMENT_BYTES, limit_bytes: 1 << 30 }
}

pub(crate) fn open_store(data: &Path) -> Store {
    Store::open(hunhe_store::Options::new(data.join("store"))).unwrap()
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = folder();
        let data = dir.path().join("data");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("seeds/classes/a.toml", "class = \"a\"\n");
        write("seeds/rules/gas/leak.toml", "below a folder: not read by the gateway\n");
        write("seeds/rules/leak.toml", "rule = 1\n");
        write("seeds/city/city.toml", "districts = []\n");
        write("seeds/list.csv", "device\nd-1\n");
        write("seeds/more/list.csv", "device\nd-2\n");
        let text = format!(
            "data_dir = {data:?}\nseeds_dir = {:?}\n[registry]\ndevices = [\"list.csv\", \"more/list.csv\"]\n",
            dir.path().join("seeds")
        );
        write("gateway.toml", &text);
        let layers = Layers { file: Some(dir.path().join("gateway.toml")), ..Layers::default() };
        let config = layers.load().unwrap().config;
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("pseudonyms.csv"), "device,pseudonym\nd-1,p-1\n").unwrap();
        Self { dir, data, config }
    }

    /// Opens everything, empty the first time.
    pub(crate) fn open(&self) -> Open {
        let log = |name: &str| Writer::open(log_options(self.data.join(name))).unwrap().0;
        let alerts = alerts::log::options(hunhe_disk::real(), self.data.join("alerts"), 8 << 20);
        Open {
            journal: log("journal"),
            decided: log("decided"),
            alerts: Writer::open(alerts).unwrap().0,
            checkpoints: Checkpoints::open(&hunhe_disk::real(), &self.data.join("checkpoint")).unwrap().0,
            store: open_store(&self.data),
            cursor: CursorFile::open(&*hunhe_disk::real(), &self.data.join("main.cursor")).unwrap().0,
        }
    }

    pub(crate) fn source(&self) -> Source {
        Source::of(&self.config)
    }

    /// A backup in memory.
    pub(crate) fn backup(&self, store: &Store) -> Result<(Vec<u8>, Manifest, Totals), BackupError> {
        let mut all = Vec::new();
        let mut take = |bytes: Bytes| {
            all.extend_from_slice(&bytes);
            Ok(())
        };
        let given = give(&self.source(), store, NOW_MS, &mut take);
        let (manifest, totals) = given?;
        Ok((all, manifest, totals))
    }

    /// Restored next to the site; answers the data folder.
    pub(crate) fn restore(&self, backup: &[u8], name: &str) -> PathBuf {
        let from = self.dir.path().join(format!("{name}.backup"));
        fs::write(&from, backup).unwrap();
        let to = self.dir.path().join(name);
        let wanted = super::wanted(&from, &to, Some(&self.dir.path().join(format!("{name}-registry"))));
        hunhe_gateway::backup::restore(&wanted, &mut |_| ()).unwrap();
        to
    }
}

impl Open {
    pub(crate) fn append(&mut self, records: u64) {
        for _ in 0..records {
            let payload = [u8::try_from(self.journal.head().0 % 251).unwrap(); 100];
            self.journal.append(2, &[&payload]).unwrap();
            self.decided.append(1, &[&payload[..50]]).unwrap();
            // It would rather forget than stop.
            while self.alerts.append(1, &[&payload]).is_err() {
                assert!(self.alerts.release_oldest().unwrap());
            }
        }
        self.journal.sync().unwrap();
        self.decided.flush().unwrap();
        self.alerts.flush().unwrap();
    }

    /// A checkpoint for all that is in the logs.
    pub(crate) fn checkpoint(&mut self) {
        let (decided, alerts) = (self.decided.sync().unwrap(), self.alerts.sync().unwrap());
        let lane = Lane::new(Arc::new(Registry::new(Vec::new())), Policy::default());
        let journal = self.journal.head();
        let confirmed = [("main".to_owned(), journal.0)].into();
        let checkpoint =
            Checkpoint { journal, decided, alerts, rules: 7, confirmed, snapshot: lane.snapshot() };
        let written = self.checkpoints.begin(&checkpoint).unwrap().finish().unwrap();
        self.checkpoints.finished(&written);
    }

    /// Hourly samples of two devices, a window and a refusal; the store then stands where the journal does.
    pub(crate) fn fill_store(&mut self, from_hour: i64, hours: i64) {
        for name in ["p-1", "p-2"] {
            let device = self.store.device(name).unwrap();
            let times_ms: Vec<i64> =
                (from_hour..from_hour + hours).map(|hour| NOW_MS + hour * HOUR_MS).collect();
            let seqs: Vec<u64> = (from_hour..from_hour + hours).map(|hour| hour.cast_unsigned()).collect();
            let rows = Rows {
                boot: 5,
                times_ms: &times_ms,
                seqs: &seqs,
                quality: &vec![1; times_ms.len()],
                channels: &[1],
                values: &seqs.iter().map(|seq| 1_000 + seq.cast_signed()).collect::<Vec<_>>(),
            };
            self.store.write(device, &rows, &mut Vec::new()).unwrap();
            let rollup = Rollup {
                resolution_s: 3_600,
                start_ms: times_ms[0],
                revision: 0,
                channel: 1,
                count: 1,
                expected: 1,
                sum: 3,
                min: 3,
                max: 3,
                last: 3,
            };
            self.store.put_rollup(device, &rollup).unwrap();
        }
        self.store
            .put_record(&NewRecord {
                id: RecordId::Message { source_lsn: self.journal.head().0 },
                arrival_ms: NOW_MS,
                device: None,
                boot: 0,
                samples: 0,
                reason: "truncated",
                body: b"refused",
            })
            .unwrap();
        self.store_checkpoint();
    }

    pub(crate) fn store_checkpoint(&self) {
        self.store.checkpoint(&self.journal.head().0.to_le_bytes()).unwrap();
    }

    pub(crate) fn move_cursor(&mut self) {
        self.cursor
            .save(Cursor { source_lsn: self.journal.head().0, decided_lsn: self.decided.head() })
            .unwrap();
    }
}

/// All that a store shows.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    series: Vec<Series>,
    rollups: Vec<Rollup>,
    quarantine: Vec<(RecordId, Vec<u8>)>,
    cursor: Option<Vec<u8>>,
}

pub(crate) fn content(store: &Store) -> Content {
    let devices: Vec<_> = ["p-1", "p-2"].iter().filter_map(|name| store.find_device(name)).collect();
    let rollups = |&device| store.scan_rollups(device, 3_600, 1, 0..i64::MAX).unwrap();
    Content {
        series: devices.iter().map(|&device| store.scan(device, 0..i64::MAX, &[1]).unwrap()).collect(),
        rollups: devices.iter().flat_map(rollups).collect(),
        quarantine: store
            .walk_records(&RecordFilter::default(), None, 1_000, 1_000)
            .found
            .into_iter()
            .map(|(_, id)| (id, store.record(id).unwrap().unwrap().body().to_vec()))
            .collect(),
        cursor: store.cursor().unwrap(),
    }
}

/// Files below a folder with their content, the store's left out.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("store") {
                    walk(&path, root, found);
                }
            } else {
                found.push((path.strip_prefix(root).unwrap().into(), fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

pub(crate) fn cause_of(bytes: Option<Vec<u8>>) -> Lsn {
    bytes.map_or(Lsn::NONE, |bytes| Lsn(u64::from_le_bytes(bytes.try_into().unwrap())))
}
