//! Takes a log's directory for writing, and makes what the survey found fit to go on with: names and headers mended,
//! unusable segments set aside, the end trimmed to a whole record. Every step may be cut short by a crash and repeated.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hunhe_disk::{Disk, File, Lock, Open};

use super::Lsn;
use super::error::Error;
use super::finding::Recovery;
use super::segment::{self, HEADER_LEN};
use super::survey::{Depth, Found, Survey};

const LOCK: &str = "log.lock";
/// An inspection holds the lock for an instant to see whether a writer does; that must not stop one from starting.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Read and written at once.
const REWRITE_BYTES: usize = 256 << 10;

/// A directory held for writing.
#[derive(Debug)]
pub(super) struct Claim {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Arc<dyn File>,
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
    pub(super) fn of(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        disk.make_dir(dir).map_err(Error::io("create", dir))?;
        let path = dir.join(LOCK);
        let lock = disk.open(&path, Open::Keep).map_err(Error::io("open", &path))?;
        for _ in 0..LOCK_TRIES {
            if lock.try_lock(Lock::Exclusive).map_err(Error::io("lock", &path))? {
                return Ok(Self { disk: Arc::clone(disk), dir: dir.to_owned(), lock });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(Error::Locked { dir: dir.to_owned() })
    }

    /// Surveys and mends. Afterwards everything reported as held is durable.
    pub(super) fn mend(&self, depth: Depth) -> Result<Mended, Error> {
        let mut survey = Survey::of(&*self.disk, &self.dir, self.noted_id()?, depth)?;
        let log_id = match survey.log_id {
            Some(log_id) => log_id,
            None => fresh_id().map_err(Error::io("draw an id for", &self.dir))?,
        };
        self.note_id(log_id)?;
        let recovery = Recovery {
            oldest: survey.oldest(),
            head: survey.head(),
            segments: survey.segments.len(),
            findings: std::mem::take(&mut survey.findings),
        };
        let mut aside: Vec<PathBuf> = survey.set_aside_before.drain(..).map(|(path, _)| path).collect();
        for (path, _) in &survey.aside {
            aside.push(set_aside(&*self.disk, path)?);
        }
        self.rename_misnamed(&mut survey.segments)?;
        for segment in survey.segments.iter().filter(|segment| segment.header_damaged) {
            rewrite_header(&*self.disk, segment, log_id)?;
        }
        if let Some(last) = survey.segments.last_mut() {
            trim(&*self.disk, last)?;
        }
        segment::sync_dir(&*self.disk, &self.dir)?;
        Ok(Mended { log_id, segments: survey.segments, aside, resume: survey.resume, recovery })
    }

    fn noted_id(&self) -> Result<Option<u64>, Error> {
        read_id(&*self.lock).map_err(Error::io("read", &self.dir.join(LOCK)))
    }

    fn note_id(&self, log_id: u64) -> Result<(), Error> {
        if self.noted_id()? == Some(log_id) {
            return Ok(());
        }
        let text = format!("{log_id:016x}\n");
        self.lock
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.lock.sync_data())
            .map_err(Error::io("write", &self.dir.join(LOCK)))
    }

    /// Two rounds, because two segments may carry each other's names; the names between are found again after a crash.
    fn rename_misnamed(&self, segments: &mut [Found]) -> Result<(), Error> {
        for segment in segments.iter_mut().filter(|segment| segment.misnamed) {
            let between = free_name(&*self.disk, &segment.path, &format!("moving.{}", segment::EXTENSION))?;
            self.disk.rename(&segment.path, &between).map_err(Error::io("rename", &segment.path))?;
            segment.path = between;
        }
        for segment in segments.iter_mut().filter(|segment| segment.misnamed) {
            let proper = segment::path_of(&self.dir, segment.first);
            self.disk.rename(&segment.path, &proper).map_err(Error::io("rename", &segment.path))?;
            (segment.path, segment.misnamed) = (proper, false);
        }
        Ok(())
    }
}

/// The log's id as noted beside its segments, for readers that do not hold the directory, and whether a writer does.
pub(super) fn peek(disk: &dyn Disk, dir: &Path) -> Result<(Option<u64>, bool), Error> {
    let path = dir.join(LOCK);
    let lock = match disk.open(&path, Open::Read) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, false)),
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    let in_use = !lock.try_lock(Lock::Shared).map_err(Error::io("lock", &path))?;
    Ok((read_id(&*lock).map_err(Error::io("read", &path))?, in_use))
}

fn read_id(lock: &dyn File) -> io::Result<Option<u64>> {
    let mut text = [0; 16];
    match lock.read_exact_at(&mut text, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(std::str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text, 16).ok()))
}

/// An id that no other log has.
fn fresh_id() -> io::Result<u64> {
    Ok(getrandom::u64()?)
}

fn set_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, Error> {
    let to = free_name(disk, path, segment::ASIDE_EXTENSION)?;
    disk.rename(path, &to).map_err(Error::io("rename", path))?;
    Ok(to)
}

fn free_name(disk: &dyn Disk, path: &Path, extension: &str) -> Result<PathBuf, Error> {
    let dir = path.parent().unwrap_or(path);
    let taken = disk.names(dir).map_err(Error::io("list", dir))?;
    let free = |name: &PathBuf| {
        !taken.iter().any(|taken| name.file_name().is_some_and(|name| name == taken.as_str()))
    };
    let with = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.push(format!(".{extension}"));
        PathBuf::from(name)
    };
    Ok((0..u32::MAX).map(with).find(free).unwrap_or_else(|| with(u32::MAX)))
}

fn rewrite_header(disk: &dyn Disk, segment: &Found, log_id: u64) -> Result<(), Error> {
    let file = disk.open(&segment.path, Open::Write).map_err(Error::io("open", &segment.path))?;
    file.write_all_at(&segment::encode_header(log_id, segment.first), 0)
        .and_then(|()| file.sync_data())
        .map_err(Error::io("write", &segment.path))
}

/// Cuts behind the last whole record, so that nothing cut off can come back behind records appended later, and makes durable
/// what so far only the page cache may hold. That is written again first: after a sync that failed, the operating system takes
/// pages for written that never were, and a second sync would pass over them.
fn trim(disk: &dyn Disk, segment: &mut Found) -> Result<(), Error> {
    let file = disk.open(&segment.path, Open::Write).map_err(Error::io("open", &segment.path))?;
    let end = segment.extent.records_end.max(HEADER_LEN);
    file.set_len(end)
        .and_then(|()| rewrite(&*file, segment.extent.proven_end, end))
        .and_then(|()| file.sync_data())
        .map_err(Error::io("trim", &segment.path))?;
    (segment.bytes, segment.extent.records_end) = (end, end);
    Ok(())
}

fn rewrite(file: &dyn File, from: u64, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; REWRITE_BYTES];
    let mut at = from;
    while at < end {
        let bytes = usize::try_from(end - at).unwrap_or(REWRITE_BYTES).min(REWRITE_BYTES);
        file.read_exact_at(&mut chunk[..bytes], at)?;
        file.write_all_at(&chunk[..bytes], at)?;
        at += bytes as u64;
    }
    Ok(())
}
