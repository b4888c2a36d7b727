//! The names under which households' devices are shown, kept for ever.
//!
//! One file, `pseudonyms.csv` in the data folder, readable by the gateway's user only. A pseudonym is 64 bits from the
//! operating system, so nothing about the device follows from it. Entries are never removed: a device that comes back
//! finds its series. The file is replaced whole, by a rename after a sync, so a crash leaves the old or the new one;
//! a damaged file is reported and never overwritten. Losing it starts new series: it belongs into the backup.
//!
//! Format 1 begins with its columns' names. A later format begins with a line of its own: `# hunhe pseudonyms, format 2`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use hunhe_proto::id::Id;

use super::{FAULTS_PER_FILE_MAX, read_text, rows::rows};
use crate::setup::config::{Fault, Place};
use hunhe_disk::Disk;
use hunhe_disk::{FormatError, NewerFormat, read_if_there};

const HEADER: [&str; 2] = ["device", "pseudonym"];
const FORMAT: u32 = 1;
const TITLE: &str = "# hunhe pseudonyms, format ";

/// The mapping from devices to pseudonyms.
#[derive(Debug, Default)]
pub struct Pseudonyms {
    by_device: HashMap<Id, Id>,
    taken: HashSet<Id>,
    changed: bool,
}

/// A pseudonym that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum PseudonymError {
    /// The device is known by another.
    #[error("device {device} is known by another pseudonym since its registration")]
    Changed {
        /// The device.
        device: Id,
    },
    /// Another device has it.
    #[error("the pseudonym of device {device} belongs to another device")]
    Taken {
        /// The device.
        device: Id,
    },
    /// The operating system gives no random numbers.
    #[error("the system gives no random number")]
    Random(#[source] getrandom::Error),
}

impl Pseudonyms {
    /// The file below a data folder.
    #[must_use]
    pub fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("pseudonyms.csv")
    }

    /// Refuses a mapping of a newer format, and changes nothing.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn refuse_newer(disk: &dyn Disk, data_dir: &Path) -> Result<(), FormatError> {
        let path = Self::file(data_dir);
        let bytes = read_if_there(disk, &path)?.unwrap_or_default();
        let line = bytes.split(|&byte| byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
        let format = line.and_then(|line| line.trim_end().strip_prefix(TITLE)?.parse().ok());
        match format {
            Some(found) if found > FORMAT => Err(NewerFormat { path, found, known: FORMAT }.into()),
            _ => Ok(()),
        }
    }

    /// The kept ones; none where there is no file yet. Damaged lines are added to `faults`.
    pub fn read(data_dir: &Path, faults: &mut Vec<Fault>) -> Self {
        let path = Self::file(data_dir);
        let mut read = Self::default();
        if !path.exists() {
            return read;
        }
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(fault) => {
                faults.push(fault);
                return read;
            }
        };
        let file = path.display().to_string();
        let damaged = |line, what: &str| {
            let place = Place::File { file: file.clone(), line: Some(line) };
            let remedy = "restore the file from a backup: without it households' series start anew";
            Fault::new(place, "", what, remedy)
        };
        let mut rows = rows(&text).peekable();
        // Also an emptied file is damaged: every one that was written has this line.
        if rows.next_if(|(line, row)| *line == 1 && *row == HEADER[..]).is_none() {
            faults.push(damaged(1, "does not begin with `device,pseudonym`"));
            return read;
        }
        let unpaired = rows.filter(|(_, row)| !read.pair(row)).take(FAULTS_PER_FILE_MAX);
        faults
            .extend(unpaired.map(|(line, _)| damaged(line, "is no pair of a device and its own pseudonym")));
        read
    }

    fn pair(&mut self, row: &StringRecord) -> bool {
        let (2, Ok(device), Ok(pseudonym)) = (row.len(), Id::new(&row[0]), Id::new(row.get(1).unwrap_or("")))
        else {
            return false;
        };
        self.by_device.insert(device, pseudonym).is_none() && self.taken.insert(pseudonym)
    }

    /// The pseudonym of a device: the kept one, else the given one, else a new one.
    ///
    /// # Errors
    /// The given one differs from the kept one or is another device's; or no random number is to be had.
    pub fn of(&mut self, device: Id, given: Option<Id>) -> Result<Id, PseudonymError> {
        if let Some(&kept) = self.by_device.get(&device) {
            let same = given.is_none_or(|given| given == kept);
            return if same { Ok(kept) } else { Err(PseudonymError::Changed { device }) };
        }
        let pseudonym = match given {
            Some(given) => given,
            None => self.draw().map_err(PseudonymError::Random)?,
        };
        if !self.taken.insert(pseudonym) {
            return Err(PseudonymError::Taken { device });
        }
        self.by_device.insert(device, pseudonym);
        self.changed = true;
        Ok(pseudonym)
    }

    /// Every device that ever had one.
    pub fn iter(&self) -> impl Iterator<Item = (Id, Id)> {
        self.by_device.iter().map(|(&device, &pseudonym)| (device, pseudonym))
    }

    /// One that no device has.
    fn draw(&self) -> Result<Id, getrandom::Error> {
        loop {
            let pseudonym = Id::new(&format!("p{:016x}", getrandom::u64()?));
            if let Some(pseudonym) = pseudonym.ok().filter(|pseudonym| !self.taken.contains(pseudonym)) {
                return Ok(pseudonym);
            }
        }
    }

    /// Writes the mapping durably if it has changed; makes `data_dir` if need be.
    ///
    /// # Errors
    /// Of the file system; the file on disk is then unchanged.
    pub fn keep(&mut self, data_dir: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        fs::create_dir_all(data_dir)?;
        let path = Self::file(data_dir);
        let new = path.with_extension("csv.new");
        let mut pairs: Vec<_> = self.by_device.iter().collect();
        pairs.sort_unstable();
        let mut options = OpenOptions::new();
        let mut out = BufWriter::new(options.write(true).create(true).truncate(true).mode(0o600).open(&new)?);
        writeln!(out, "{}", HEADER.join(","))?;
        for (device, pseudonym) in pairs {
            writeln!(out, "{device},{pseudonym}")?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(data_dir)?.sync_all()?;
        self.changed = false;
        Ok(())
    }
}
