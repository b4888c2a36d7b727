//! The file system as far as our logs need it, so that everything that promises durability can be run on a disk that
//! loses power, tears writes, runs full and fails.
//!
//! Promises, of every implementation:
//! - What [`File::sync_data`] covered survives a power cut, if the file's name does; the name does after
//!   [`Disk::sync_dir`] of its directory. Of all else any part may survive, in units of 512 bytes or torn within one.
//! - [`Disk::make_dir`] and [`Disk::remove_dir`] are durable when they return.
//! - A lock falls with its file's last handle, however the process ends.
//!
//! What it deliberately is not: a general file system (no times, permissions, links, seek or buffers), and no retry
//! beyond `EINTR`: a failed sync is the caller's, who must take it as final.

mod format;
mod real;
pub mod simulated;

pub use format::{FormatError, NEWER_FORMAT_REMEDY, NewerFormat, read_if_there};

use std::{fmt, io, path::Path, sync::Arc};

/// The operating system's file system.
#[must_use]
pub fn real() -> Arc<dyn Disk> {
    Arc::new(real::Real)
}

/// How a file is opened. All but [`Open::Read`] read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Open {
    /// To be read; it must exist.
    Read,
    /// It must exist.
    Write,
    /// It must not exist.
    New,
    /// It is created, or emptied.
    Empty,
    /// It is created if missing, and keeps what it holds.
    Keep,
}

/// A lock's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lock {
    /// Beside other shared ones.
    Shared,
    /// Alone.
    Exclusive,
}

/// Names and directories.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory with all above it, durably; one that exists is fine.
    ///
    /// # Errors
    /// What the file system says.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a directory and the files in it, durably; one that is missing is fine. It must hold no directories.
    ///
    /// # Errors
    /// What the file system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file.
    ///
    /// # Errors
    /// What the file system says: [`io::ErrorKind::NotFound`], [`io::ErrorKind::AlreadyExists`] among it.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;

    /// The names of the files and directories in a directory, sorted. A name that is not UTF-8 is not ours, and left out.
    ///
    /// # Errors
    /// What the file system says.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames a file within its directory, over what had the new name. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Durable after [`Disk::sync_dir`]. Open handles stay usable.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the file system says. Final: a second sync may succeed without having written anything.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// As [`Disk::open`] and [`File::read_at`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// An open file. All offsets are from its start.
pub trait File: fmt::Debug + Send + Sync {
    /// Reads some bytes; 0 at the end.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes some of the bytes, at least one.
    ///
    /// # Errors
    /// What the file system says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Cuts or extends the file, with zeros.
    ///
    /// # Errors
    /// What the file system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn len(&self) -> io::Result<u64>;

    /// Is it empty?
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes content and length durable.
    ///
    /// # Errors
    /// What the file system says. Final: a second sync may succeed without having written anything.
    fn sync_data(&self) -> io::Result<()>;

    /// Locks the file until this handle is dropped; `false` where another handle's lock is in the way.
    ///
    /// # Errors
    /// What the file system says.
    fn try_lock(&self, kind: Lock) -> io::Result<bool>;

    /// Fills `into`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file is shorter; what the file system says.
    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// What the file system says; some may have been written then.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes a file in order, for encoders that want [`io::Write`]. It buffers nothing.
#[derive(Debug)]
pub struct Appender {
    file: Arc<dyn File>,
    at: u64,
}

impl Appender {
    /// Writes from offset `at` on.
    #[must_use]
    pub fn new(file: Arc<dyn File>, at: u64) -> Self {
        Self { file, at }
    }

    /// The file.
    #[must_use]
    pub fn into_file(self) -> Arc<dyn File> {
        self.file
    }
}

impl io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
