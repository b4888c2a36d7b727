//! A data folder made of a backup.
//!
//! The backup is read twice: to its end before anything is written, and once more into a folder beside the one that is wanted. That
//! is synced, file by file and folder by folder, and gets its name last, so that a cut at any moment leaves no data folder or all
//! of it. What a restore that was cut left beside it, the next one removes.
//!
//! It goes only into a folder that is missing or empty: two gateways' pasts do not mix.

use super::{BackupError, Contents, Item, Manifest, Totals, contents::Place};
use crate::decide::restored::{self, Note};
use hunhe_log::Lsn;
use hunhe_store::Filling;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const CHUNK_BYTES: usize = 256 << 10;

/// What to restore, and to where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The backup.
    pub from: PathBuf,
    /// The data folder: missing or empty.
    pub data_dir: PathBuf,
    /// Where the registry's files go: missing or empty. Without, they are left out.
    pub registry_to: Option<PathBuf>,
    /// The time.
    pub now_ms: i64,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Is the backup still only read?
    pub checking: bool,
    /// What is being read.
    pub part: &'static str,
    /// Bytes of the backup so far.
    pub bytes: u64,
    /// Its length.
    pub of: u64,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup is.
    pub manifest: Manifest,
    /// What it holds.
    pub totals: Totals,
    /// Files of the registry that were left out.
    pub registry_left_out: u64,
}

/// It cannot be restored. Nothing has been written but where that is said.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target is in use.
    #[error(
        "{dir} is not empty: restore into a folder that is empty or missing, or stop the gateway that uses it and move it away"
    )]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The backup cannot be used.
    #[error("{from} cannot be restored")]
    Backup {
        /// The backup.
        from: PathBuf,
        /// Why.
        source: BackupError,
    },
    /// The disk says no; the target is as it was.
    #[error("cannot {action} {path}")]
    Io {
        /// What.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be written; the target is as it was.
    #[error("the embedded store cannot be made")]
    Store(#[source] hunhe_store::StoreError),
    /// Thousands of restores in a row.
    #[error("this backup's journal has no numbers left to give away: start with an empty folder")]
    NumbersUsedUp,
}

impl RestoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// What ends a pass early.
enum Ended {
    Backup(BackupError),
    Own(RestoreError),
}

impl From<BackupError> for Ended {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<RestoreError> for Ended {
    fn from(error: RestoreError) -> Self {
        Self::Own(error)
    }
}

/// Restores.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(wanted: &Wanted, watch: &mut dyn FnMut(Progress)) -> Result<Restored, RestoreError> {
    let data = Target::of(&wanted.data_dir)?;
    let registry = wanted.registry_to.as_deref().map(Target::of).transpose()?;
    let (manifest, _) = pass(wanted, true, watch, |_| Ok(()))?;
    let given_away = |log: Lsn| {
        let end = log.0.checked_add(restored::JUMP).filter(|end| *end < restored::END);
        end.map(Lsn).ok_or(RestoreError::NumbersUsedUp)
    };
    let note = Note {
        backup_ms: manifest.created_ms,
        restored_ms: wanted.now_ms,
        journal: given_away(manifest.journal.last)?,
        alerts: given_away(manifest.alerts.last)?,
    };

    data.begin()?;
    if let Some(registry) = &registry {
        registry.begin()?;
    }
    let mut making =
        Making { data: &data, registry: registry.as_ref(), file: None, store: None, registry_left_out: 0 };
    let (manifest, totals) = pass(wanted, false, watch, |item| making.take(item))?;
    let Making { store, registry_left_out, .. } = making;
    if let Some(store) = store {
        store.finish().map_err(RestoreError::Store)?;
    }
    let path = data.part.join(restored::FILE);
    // Numbers always serialise.
    let text = serde_json::to_vec(&note).unwrap_or_default();
    fs::write(&path, text).map_err(RestoreError::io("write", &path))?;
    if let Some(registry) = &registry {
        registry.finish()?;
    }
    data.finish()?;
    Ok(Restored { manifest, totals, registry_left_out })
}

/// Reads the whole backup once.
fn pass(
    wanted: &Wanted,
    checking: bool,
    watch: &mut dyn FnMut(Progress),
    mut take: impl FnMut(Item<'_>) -> Result<(), RestoreError>,
) -> Result<(Manifest, Totals), RestoreError> {
    let from = &wanted.from;
    let unusable = |source| RestoreError::Backup { from: from.clone(), source };
    let mut file = File::open(from).map_err(RestoreError::io("open", from))?;
    let of = file.metadata().map_err(RestoreError::io("read", from))?.len();
    let (mut contents, mut bytes) = (Contents::default(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => return contents.finish().map_err(unusable),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(RestoreError::io("read", from)(error)),
        };
        contents.push(&chunk[..read], |item| take(item).map_err(Ended::Own)).map_err(
            |ended| match ended {
                Ended::Backup(error) => unusable(error),
                Ended::Own(error) => error,
            },
        )?;
        bytes += read as u64;
        watch(Progress { checking, part: contents.part(), bytes, of });
    }
}

struct Making<'a> {
    data: &'a Target,
    registry: Option<&'a Target>,
    file: Option<(PathBuf, File)>,
    store: Option<Filling>,
    registry_left_out: u64,
}

impl Making<'_> {
    fn take(&mut self, item: Item<'_>) -> Result<(), RestoreError> {
        match item {
            Item::Begin(_) => Ok(()),
            Item::File(place, _) => {
                let path = match (&place, self.registry) {
                    (Place::Data(below), _) => self.data.part.join(below),
                    (Place::Registry(below), Some(registry)) => registry.part.join(below),
                    (Place::Registry(_), None) => {
                        self.registry_left_out += 1;
                        self.file = None;
                        return Ok(());
                    }
                };
                let above = path.parent().unwrap_or(&path);
                fs::create_dir_all(above).map_err(RestoreError::io("make", above))?;
                // Pseudonyms tell who lives where.
                let private = path.ends_with("pseudonyms.csv");
                let mut options = fs::OpenOptions::new();
                options.write(true).create_new(true).mode(if private { 0o600 } else { 0o666 });
                let file = options.open(&path).map_err(RestoreError::io("create", &path))?;
                self.file = Some((path, file));
                Ok(())
            }
            Item::Bytes(bytes) => match &mut self.file {
                Some((path, file)) => file.write_all(bytes).map_err(RestoreError::io("write", path)),
                None => Ok(()),
            },
            Item::Space(name) => self.store()?.space(name).map_err(RestoreError::Store),
            Item::Entry(key, value) => self.store()?.entry(key, value).map_err(RestoreError::Store),
            Item::End(_) => Ok(()),
        }
    }

    fn store(&mut self) -> Result<&mut Filling, RestoreError> {
        self.file = None;
        Ok(match &mut self.store {
            Some(store) => store,
            none => {
                let dir = self.data.part.join("store");
                none.insert(Filling::begin(&dir).map_err(RestoreError::Store)?)
            }
        })
    }
}

/// A folder that is to be there whole or not at all.
struct Target {
    dir: PathBuf,
    part: PathBuf,
}

impl Target {
    fn of(dir: &Path) -> Result<Self, RestoreError> {
        let dir = std::path::absolute(dir).map_err(RestoreError::io("find", dir))?;
        match fs::read_dir(&dir) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(RestoreError::NotEmpty { dir });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RestoreError::io("list", &dir)(error)),
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let part = dir.with_file_name(format!(".{name}.restoring"));
        Ok(Self { dir, part })
    }

    fn begin(&self) -> Result<(), RestoreError> {
        match fs::remove_dir_all(&self.part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RestoreError::io("remove", &self.part)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&self.part).map_err(RestoreError::io("make", &self.part))
    }

    /// Durable, and under its name. Where an empty folder was, its owner and mode stay.
    fn finish(&self) -> Result<(), RestoreError> {
        let before = fs::metadata(&self.dir).ok();
        sync_tree(&self.part, before.as_ref())?;
        if let Some(before) = before {
            fs::set_permissions(&self.part, before.permissions())
                .map_err(RestoreError::io("set the mode of", &self.part))?;
        }
        fs::rename(&self.part, &self.dir)
            .map_err(RestoreError::io("give its name (it must not be a mount point) to", &self.dir))?;
        let above = self.dir.parent().unwrap_or(&self.dir);
        sync(above)?;
        // The folders above may be new as well.
        above.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()).try_for_each(sync)
    }
}

fn sync_tree(dir: &Path, owner: Option<&fs::Metadata>) -> Result<(), RestoreError> {
    for entry in fs::read_dir(dir).map_err(RestoreError::io("list", dir))? {
        let path = entry.map_err(RestoreError::io("list", dir))?.path();
        if path.is_dir() {
            sync_tree(&path, owner)?;
        } else {
            give_to(&path, owner)?;
            sync(&path)?;
        }
    }
    give_to(dir, owner)?;
    sync(dir)
}

fn give_to(path: &Path, owner: Option<&fs::Metadata>) -> Result<(), RestoreError> {
    let Some(owner) = owner else { return Ok(()) };
    let own = fs::metadata(path).map_err(RestoreError::io("read", path))?;
    if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))
        .map_err(RestoreError::io("set the owner of", path))
}

fn sync(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(RestoreError::io("sync", path))
}
