//! Takes a log's directory for writing, and makes what the survey found fit to go on with: names and headers mended,
//! unusable segments set aside, the end trimmed to a whole record. Every step may be cut short by a crash and repeated.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Lsn;
use super::error::Error;
use super::finding::Recovery;
use super::segment::{self, HEADER_LEN};
use super::survey::{Depth, Found, Survey};

const LOCK: &str = "log.lock";
/// An inspection holds the lock for an instant to see whether a writer does; that must not stop one from starting.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A directory held for writing.
#[derive(Debug)]
pub(super) struct Claim {
    dir: PathBuf,
    lock: File,
}

/// A log ready to be appended to: its last segment ends with a whole record or is empty.
pub(super) struct Mended {
    pub(super) log_id: u64,
    pub(super) segments: Vec<Found>,
    /// All segments set aside, now and before.
    pub(super) aside: Vec<PathBuf>,
    /// First record of the segment to create, where none can be continued.
    pub(super) resume: Lsn,
    pub(super) recovery: Recovery,
}

impl Claim {
    /// Locks a directory, creating it if needed. The lock falls with the process, however that ends.
    pub(super) fn of(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        for _ in 0..LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), lock }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
        Err(Error::Locked { dir: dir.to_owned() })
    }

    /// Surveys and mends. Afterwards everything reported as held is durable.
    pub(super) fn mend(&self, depth: Depth) -> Result<Mended, Error> {
        let mut survey = Survey::of(&self.dir, self.noted_id()?, depth)?;
        let log_id = survey.log_id.unwrap_or_else(fresh_id);
        self.note_id(log_id)?;
        let recovery = Recovery {
            oldest: survey.oldest(),
            head: survey.head(),
            segments: survey.segments.len(),
            findings: std::mem::take(&mut survey.findings),
        };
        let mut aside: Vec<PathBuf> = survey.set_aside_before.drain(..).map(|(path, _)| path).collect();
        for (path, _) in &survey.aside {
            aside.push(set_aside(path)?);
        }
        self.rename_misnamed(&mut survey.segments)?;
        for segment in survey.segments.iter().filter(|segment| segment.header_damaged) {
            rewrite_header(segment, log_id)?;
        }
        if let Some(last) = survey.segments.last_mut() {
            trim(last)?;
        }
        segment::sync_dir(&self.dir)?;
        Ok(Mended { log_id, segments: survey.segments, aside, resume: survey.resume, recovery })
    }

    fn noted_id(&self) -> Result<Option<u64>, Error> {
        read_id(&self.lock).map_err(Error::io("read", &self.dir.join(LOCK)))
    }

    fn note_id(&self, log_id: u64) -> Result<(), Error> {
        if self.noted_id()? == Some(log_id) {
            return Ok(());
        }
        let text = format!("{log_id:016x}\n");
        self.lock
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.lock.sync_all())
            .map_err(Error::io("write", &self.dir.join(LOCK)))
    }

    /// Two rounds, because two segments may carry each other's names; the names between are found again after a crash.
    fn rename_misnamed(&self, segments: &mut [Found]) -> Result<(), Error> {
        for segment in segments.iter_mut().filter(|segment| segment.misnamed) {
            let between = free_name(&segment.path, &format!("moving.{}", segment::EXTENSION));
            std::fs::rename(&segment.path, &between).map_err(Error::io("rename", &segment.path))?;
            segment.path = between;
        }
        for segment in segments.iter_mut().filter(|segment| segment.misnamed) {
            let proper = segment::path_of(&self.dir, segment.first);
            std::fs::rename(&segment.path, &proper).map_err(Error::io("rename", &segment.path))?;
            (segment.path, segment.misnamed) = (proper, false);
        }
        Ok(())
    }
}

/// The log's id as noted beside its segments, for readers that do not hold the directory, and whether a writer does.
pub(super) fn peek(dir: &Path) -> Result<(Option<u64>, bool), Error> {
    let path = dir.join(LOCK);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, false)),
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    let in_use = matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
    Ok((read_id(&lock).map_err(Error::io("read", &path))?, in_use))
}

fn read_id(mut lock: &File) -> io::Result<Option<u64>> {
    let mut text = Vec::new();
    io::Seek::rewind(&mut lock)?;
    lock.take(16).read_to_end(&mut text)?;
    Ok(std::str::from_utf8(&text)
        .ok()
        .filter(|text| text.len() == 16)
        .and_then(|text| u64::from_str_radix(text, 16).ok()))
}

/// An id that no other log has, from the randomness the process got at start.
fn fresh_id() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}

fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let to = free_name(path, segment::ASIDE_EXTENSION);
    std::fs::rename(path, &to).map_err(Error::io("rename", path))?;
    Ok(to)
}

fn free_name(path: &Path, extension: &str) -> PathBuf {
    let with = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.push(format!(".{extension}"));
        PathBuf::from(name)
    };
    (0..u32::MAX).map(with).find(|name| !name.exists()).unwrap_or_else(|| with(u32::MAX))
}

fn rewrite_header(segment: &Found, log_id: u64) -> Result<(), Error> {
    let file =
        OpenOptions::new().write(true).open(&segment.path).map_err(Error::io("open", &segment.path))?;
    file.write_all_at(&segment::encode_header(log_id, segment.first), 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", &segment.path))
}

/// Cuts behind the last whole record. The sync also makes durable what so far only the page cache held, and makes sure that
/// nothing cut off can come back behind records appended later.
fn trim(segment: &mut Found) -> Result<(), Error> {
    let file =
        OpenOptions::new().write(true).open(&segment.path).map_err(Error::io("open", &segment.path))?;
    let bytes = segment.extent.records_end.max(HEADER_LEN);
    file.set_len(bytes).and_then(|()| file.sync_all()).map_err(Error::io("trim", &segment.path))?;
    (segment.bytes, segment.extent.records_end) = (bytes, bytes);
    Ok(())
}
