//! One state of a running gateway's data folder, held still by links and copies.
//!
//! In this order, and why:
//! 1. links to all segments, newest first: nothing that the next steps stand for can be released any more;
//! 2. a copy of the newest whole checkpoint, which therefore needs no segment before those;
//! 3. copies of the cursors, before the store is looked at: a dead letter is in the store before its sink's cursor passes it;
//! 4. a snapshot of the store;
//! 5. links to the segments that are new since, so that the journal reaches as far as checkpoint, cursors and store.
//!
//! Releases go from the oldest on. So if the newest segment of step 1 is still there when those of step 5 have been linked, every
//! one in between is. If it is not, all is done again.

use super::{BackupError, Manifest, Records, contents::place_of};
use crate::{
    decide::checkpoint::{self, Copied},
    setup::{config::Config, registry::Pseudonyms},
};
use hunhe_log::inspect;
use hunhe_store::{Dump, Store};
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const FOLDER: &str = "backup.staging";
const LOGS: [&str; 3] = ["journal", "decided", "alerts"];
const LOCK: &str = "log.lock";
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What a backup is made of, beside the store.
#[derive(Debug, Clone)]
pub struct Source {
    data_dir: PathBuf,
    /// Folders and files of the registry by their kind.
    registry: Vec<(&'static str, PathBuf)>,
}

impl Source {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let files = &config.registry;
        let registry = [("classes", files.classes.clone()), ("rules", files.rules.clone())]
            .into_iter()
            .chain(files.fleets.iter().map(|path| ("fleets", path.clone())))
            .chain(files.devices.iter().map(|path| ("devices", path.clone())))
            .chain([("city", config.seeds_dir.join("city/city.toml"))])
            .collect();
        Self { data_dir: config.data_dir.clone(), registry }
    }

    /// The registry's files, each with the name it gets in a backup. Two of one name are told apart by a number.
    fn registry_files(&self) -> Vec<(String, PathBuf)> {
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for (kind, path) in &self.registry {
            let mut paths = match fs::read_dir(path) {
                Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
                Err(_) => vec![path.clone()],
            };
            paths.retain(|path| path.is_file());
            paths.sort();
            if paths.is_empty() {
                tracing::warn!(path = %path.display(), "of the registry, and not there: not in this backup");
            }
            for path in paths {
                let Some(file) = path.file_name().and_then(OsStr::to_str) else { continue };
                let name = (1..)
                    .map(|number| match number {
                        1 => format!("registry/{kind}/{file}"),
                        _ => format!("registry/{kind}/{number}-{file}"),
                    })
                    .find(|name| files.iter().all(|(taken, _)| taken != name));
                files.extend(name.filter(|name| place_of(name).is_some()).map(|name| (name, path)));
            }
        }
        files
    }
}

/// A file to be given.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// It may grow meanwhile.
    pub(super) bytes: u64,
}

/// A state held still. Dropping it lets go.
pub(super) struct Stage {
    pub(super) manifest: Manifest,
    pub(super) files: Vec<Staged>,
    pub(super) store: Dump,
    _folder: Folder,
}

/// Removes what a backup that was cut short left behind.
///
/// # Errors
/// What the file system says.
pub fn clear(data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "left behind by a backup; the next one, or the next start, removes it");
        }
    }
}

/// Holds the state of this moment.
pub(super) fn stage(source: &Source, store: &Store, created_ms: i64) -> Result<Stage, BackupError> {
    clear(&source.data_dir).map_err(BackupError::io("clear", &source.data_dir.join(FOLDER)))?;
    for _ in 0..TRIES {
        if let Some(stage) = try_to(source, store, created_ms)? {
            return Ok(stage);
        }
        std::thread::sleep(PAUSE);
    }
    Err(BackupError::TooFast)
}

fn try_to(source: &Source, store: &Store, created_ms: i64) -> Result<Option<Stage>, BackupError> {
    let data = &source.data_dir;
    let dir = data.join(FOLDER);
    let folder = Folder(dir.clone());
    for below in LOGS.iter().chain(&["checkpoint"]) {
        let below = dir.join(below);
        fs::create_dir_all(&below).map_err(BackupError::io("make", &below))?;
    }
    let mut newest = Vec::new();
    for log in LOGS {
        let Some(mut linked) = link(&data.join(log), &dir.join(log))? else { return Ok(None) };
        newest.push(linked.pop());
    }
    let copied = copy_checkpoint(data, &dir)?;
    copy_small_files(data, &dir)?;
    let dump = store.dump()?;
    for (log, newest) in LOGS.into_iter().zip(newest) {
        let Some(now) = link(&data.join(log), &dir.join(log))? else { return Ok(None) };
        if newest.is_some_and(|newest| !now.contains(&newest)) {
            return Ok(None);
        }
        copy_if_there(&data.join(log).join(LOCK), &dir.join(log).join(LOCK))?;
    }
    // What is named is there: the newest segments go on growing until their lengths are taken.
    let (journal, alerts) = (records_of(&dir.join("journal"))?, records_of(&dir.join("alerts"))?);
    let files = files_of(source, &dir)?;
    if copied.is_none() && journal.first.0 > 1 {
        return Err(BackupError::NoCheckpoint);
    }
    let about_bytes = files.iter().map(|file| file.bytes).sum::<u64>() + dump.about_bytes();
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").into(),
        created_ms,
        formats: super::Formats::known(),
        journal,
        checkpoint: copied.map(|copied| copied.journal).unwrap_or_default(),
        alerts,
        about_bytes,
    };
    Ok(Some(Stage { manifest, files, store: dump, _folder: folder }))
}

/// Links all segments of a log that are not linked yet. Answers those that are now, without one missing between them, oldest first;
/// `None`: all that were listed have been released since.
fn link(from: &Path, to: &Path) -> Result<Option<Vec<String>>, BackupError> {
    let Some(newest) = segments(from)?.pop() else { return Ok(Some(Vec::new())) };
    // A listing may pass over what is created while it is made, and show what was created later still.
    let mut names = segments(from)?;
    names.retain(|name| *name <= newest);
    for at in (0..names.len()).rev() {
        let name = &names[at];
        match fs::hard_link(from.join(name), to.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Released since it was listed, and so are all before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                names.drain(..=at);
                break;
            }
            Err(error) => return Err(BackupError::io("link", &from.join(name))(error)),
        }
    }
    Ok(Some(names).filter(|names| !names.is_empty()))
}

/// The names of a log's segments, oldest first.
fn segments(dir: &Path) -> Result<Vec<String>, BackupError> {
    let mut names: Vec<String> = match fs::read_dir(dir) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".seg"))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(BackupError::io("list", dir)(error)),
    };
    names.sort();
    Ok(names)
}

/// Tries again where both files were being written.
fn copy_checkpoint(data: &Path, dir: &Path) -> Result<Option<Copied>, BackupError> {
    let (from, to) = (data.join("checkpoint"), dir.join("checkpoint"));
    let disk = hunhe_disk::real();
    for attempt in 0..TRIES {
        let copied = checkpoint::copy_newest(&*disk, &from, &to)
            .map_err(|error| BackupError::io("copy the checkpoint of", &from)(io::Error::other(error)))?;
        let none = checkpoint::NAMES.iter().all(|name| !from.join(name).exists());
        if copied.is_some() || none || attempt + 1 == TRIES {
            return Ok(copied);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

fn copy_small_files(data: &Path, dir: &Path) -> Result<(), BackupError> {
    let list = fs::read_dir(data).map_err(BackupError::io("list", data))?;
    for entry in list {
        let name = entry.map_err(BackupError::io("list", data))?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(".cursor")) {
            copy_if_there(&data.join(&name), &dir.join(&name))?;
        }
    }
    let pseudonyms = Pseudonyms::file(data);
    copy_if_there(&pseudonyms, &Pseudonyms::file(dir))
}

fn copy_if_there(from: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::copy(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io("copy", from)(error)),
        _ => Ok(()),
    }
}

/// Everything in the staging folder, and the registry's files.
fn files_of(source: &Source, dir: &Path) -> Result<Vec<Staged>, BackupError> {
    let mut named = Vec::new();
    for below in ["checkpoint", "", "journal", "decided", "alerts"] {
        let folder = dir.join(below);
        let list = fs::read_dir(&folder).map_err(BackupError::io("list", &folder))?;
        let before = named.len();
        for entry in list {
            let path = entry.map_err(BackupError::io("list", &folder))?.path();
            let Some(file) = path.file_name().and_then(OsStr::to_str).filter(|_| path.is_file()) else {
                continue;
            };
            let name = if below.is_empty() { file.to_owned() } else { format!("{below}/{file}") };
            named.push((name, path));
        }
        named[before..].sort();
    }
    named.extend(source.registry_files());
    let mut files = Vec::with_capacity(named.len());
    for (name, path) in named {
        let bytes = fs::metadata(&path).map_err(BackupError::io("read", &path))?.len();
        files.push(Staged { name, path, bytes });
    }
    Ok(files)
}

fn records_of(dir: &Path) -> Result<Records, BackupError> {
    let report = inspect::stat(&hunhe_disk::real(), dir)?;
    Ok(Records { first: report.oldest, last: report.head })
}
