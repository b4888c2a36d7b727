//! How far a sink has come, kept across restarts.
//!
//! A cursor is written after every confirmed batch, without a sync: losing it costs a repeat of what its destination
//! takes as once anyway, never a loss. It lies in a small file with two checksummed slots, written in turn, so that a
//! write cut short leaves the other one. The newer valid slot wins. Where none is valid the sink starts over from the
//! oldest record, and says so.
//!
//! ```text
//! slot n at byte n × 512:  "HUNHECU" · format u8 · generation u64 · source u64 · decided u64 · CRC-32C u32 of all before
//! ```
//! Little endian. The format's byte is `R` in format 1, and its number in every later one; the place of the checksum and what
//! it covers stay, so that a newer format is refused by its number, not taken for damage. Deliberately absent: a history, and any knowledge of the destination: one file is one sink's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hunhe_disk::{Disk, File, Open};

use crate::Lsn;
use hunhe_disk::NewerFormat;

/// What a cursor's file name ends with.
pub const SUFFIX: &str = ".cursor";

const MAGIC: [u8; 7] = *b"HUNHECU";
const FORMAT: u32 = 1;
const FORMAT_1: u8 = b'R';
const SLOT_BYTES: usize = 36;
const SLOT_STRIDE: u64 = 512;

/// How far a sink has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Cursor {
    /// The journal record up to which all decisions are at the destination; 0: none yet.
    pub source_lsn: u64,
    /// Where in the decided log that was. A stale position at worst only: that log is rebuilt after a crash, the journal is not.
    pub decided_lsn: Lsn,
}

/// What a cursor's file held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The file is new: this sink has never run.
    Nothing,
    /// A cursor.
    Cursor(Cursor),
    /// Something, but no valid cursor: start over from the oldest record.
    Damaged,
}

/// A cursor's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The operating system refuses.
    #[error("cannot {action} cursor {path}: check the directory and its permissions")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error(transparent)]
    NewerFormat(#[from] NewerFormat),
}

impl CursorError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// A cursor's file, open.
#[derive(Debug)]
pub struct CursorFile {
    file: Arc<dyn File>,
    path: PathBuf,
    generation: u64,
}

impl CursorFile {
    /// Opens the file, or creates it, and says what it held.
    ///
    /// # Errors
    /// [`CursorError::NewerFormat`], and [`CursorError::Io`] where the operating system refuses.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Held), CursorError> {
        let file = disk.open(path, Open::Keep).map_err(CursorError::io("open", path))?;
        let empty = file.is_empty().map_err(CursorError::io("read", path))?;
        let slots = [read_slot(&*file, 0, path)?, read_slot(&*file, 1, path)?];
        let newest = slots.into_iter().flatten().max_by_key(|(generation, _)| *generation);
        let held = match newest {
            Some((_, cursor)) => Held::Cursor(cursor),
            None if empty => Held::Nothing,
            None => Held::Damaged,
        };
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, path: path.to_owned(), generation }, held))
    }

    /// [`open`](Self::open) for a sink whose cursor may not stand beyond source record `through`: one that does goes back to it,
    /// durably. What is behind it is written again, which the destination takes as once. For the sink of record that is where
    /// the checkpoint's counts end, so that the ledger hears of it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_through(disk: &dyn Disk, path: &Path, through: u64) -> Result<(Self, Held), CursorError> {
        match Self::open(disk, path)? {
            (mut file, Held::Cursor(cursor)) if cursor.source_lsn > through => {
                let cursor = Cursor { source_lsn: through, decided_lsn: Lsn::NONE };
                file.save_for_good(cursor)?;
                Ok((file, Held::Cursor(cursor)))
            }
            opened => Ok(opened),
        }
    }

    /// Writes a cursor over the older slot. Not synced: see the module.
    ///
    /// # Errors
    /// [`CursorError`] where the operating system refuses; the last one written then stands.
    pub fn save(&mut self, cursor: Cursor) -> Result<(), CursorError> {
        let generation = self.generation.saturating_add(1);
        let mut slot = [0; SLOT_BYTES];
        slot[..7].copy_from_slice(&MAGIC);
        slot[7] = FORMAT_1;
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&cursor.source_lsn.to_le_bytes());
        slot[24..32].copy_from_slice(&cursor.decided_lsn.0.to_le_bytes());
        let checksum = crc32c::crc32c(&slot[..32]);
        slot[32..].copy_from_slice(&checksum.to_le_bytes());
        let written = self.file.write_all_at(&slot, generation % 2 * SLOT_STRIDE);
        written.map_err(CursorError::io("write", &self.path))?;
        self.generation = generation;
        Ok(())
    }

    /// [`save`](Self::save), durable when it returns: for a cursor that goes back.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn save_for_good(&mut self, cursor: Cursor) -> Result<(), CursorError> {
        self.save(cursor)?;
        // The other slot may hold the one that must not come back.
        self.save(cursor)?;
        self.file.sync_data().map_err(CursorError::io("sync", &self.path))
    }
}

/// Refuses a cursor of a newer format, and creates nothing.
///
/// # Errors
/// As [`CursorFile::open`].
pub fn refuse_newer(disk: &dyn Disk, path: &Path) -> Result<(), CursorError> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CursorError::io("open", path)(error)),
    };
    (0..2).try_for_each(|index| read_slot(&*file, index, path).map(drop))
}

fn read_slot(file: &dyn File, index: u64, path: &Path) -> Result<Option<(u64, Cursor)>, CursorError> {
    // Behind the file's end are zeros, as they will be once the other slot is written: what is no slot now is none then.
    let mut slot = [0; SLOT_BYTES];
    let mut done = 0;
    while done < SLOT_BYTES {
        match file.read_at(&mut slot[done..], index * SLOT_STRIDE + done as u64) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CursorError::io("read", path)(error)),
        }
    }
    parse(&slot)
        .map_err(|found| NewerFormat { path: path.to_owned(), found: found.into(), known: FORMAT }.into())
}

/// A whole slot; `Err` with its format where that is a newer one.
fn parse(slot: &[u8; SLOT_BYTES]) -> Result<Option<(u64, Cursor)>, u8> {
    let (fields, checksum) = slot.split_at(32);
    let (words, _) = fields.as_chunks::<8>();
    let [magic, generation, source_lsn, decided_lsn] = words else { return Ok(None) };
    if magic[..7] != MAGIC || checksum != crc32c::crc32c(fields).to_le_bytes() {
        return Ok(None);
    }
    if magic[7] != FORMAT_1 {
        return Err(magic[7]);
    }
    let cursor = Cursor {
        source_lsn: u64::from_le_bytes(*source_lsn),
        decided_lsn: Lsn(u64::from_le_bytes(*decided_lsn)),
    };
    Ok(Some((u64::from_le_bytes(*generation), cursor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source_lsn: u64) -> Cursor {
        Cursor { source_lsn, decided_lsn: Lsn(source_lsn * 3) }
    }

    fn held(path: &Path) -> Held {
        CursorFile::open(&*hunhe_disk::real(), path).unwrap().1
    }

    #[test]
    fn the_last_cursor_written_is_the_one_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("influx.cursor");
        let (mut file, first) = CursorFile::open(&*hunhe_disk::real(), &path).unwrap();
        assert_eq!(first, Held::Nothing);
        for source_lsn in 1..=5 {
            file.save(at(source_lsn)).unwrap();
            assert_eq!(held(&path), Held::Cursor(at(source_lsn)));
        }
        // A new process goes on where the last one stopped, in the older slot.
        let (mut file, _) = CursorFile::open(&*hunhe_disk::real(), &path).unwrap();
        file.save(at(6)).unwrap();
        assert_eq!(held(&path), Held::Cursor(at(6)));
    }

    #[test]
    fn a_write_cut_short_at_any_byte_leaves_the_cursor_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("influx.cursor");
        let (mut file, _) = CursorFile::open(&*hunhe_disk::real(), &path).unwrap();
        file.save(at(1)).unwrap();
        file.save(at(2)).unwrap();
        let before = std::fs::read(&path).unwrap();
        file.save(at(3)).unwrap();
        let after = std::fs::read(&path).unwrap();
        let changed: Vec<usize> = (0..before.len()).filter(|&i| before[i] != after[i]).collect();
        for cut in 0..changed.len() {
            let mut torn = before.clone();
            changed[..cut].iter().for_each(|&i| torn[i] = after[i]);
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(held(&path), Held::Cursor(at(2)), "cut after {cut} bytes");
        }
    }

    #[test]
    fn damage_to_both_slots_is_told_from_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("influx.cursor");
        let (mut file, _) = CursorFile::open(&*hunhe_disk::real(), &path).unwrap();
        file.save(at(1)).unwrap();
        file.save(at(2)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(held(&path), Held::Cursor(at(1)), "generation 2 lies in slot 0");
        bytes[512 + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(held(&path), Held::Damaged);
    }

    #[test]
    fn no_cursor_stands_beyond_what_the_checkpoint_counted() {
        let disk = hunhe_disk::simulated::SimulatedDisk::new();
        let path = Path::new("/x.cursor");
        disk.handle().make_dir(Path::new("/")).unwrap();
        let held = || CursorFile::open(&disk, path).unwrap();
        CursorFile::open_through(&disk, path, 5).unwrap();
        assert_eq!(held().1, Held::Nothing, "a new sink is new");
        for source_lsn in [3, 5] {
            held().0.save(Cursor { source_lsn, decided_lsn: Lsn(9) }).unwrap();
            CursorFile::open_through(&disk, path, 5).unwrap();
            assert_eq!(held().1, Held::Cursor(Cursor { source_lsn, decided_lsn: Lsn(9) }));
        }
        held().0.save(Cursor { source_lsn: 7, decided_lsn: Lsn(9) }).unwrap();
        CursorFile::open_through(&disk, path, 5).unwrap();
        disk.handle().sync_dir(Path::new("/")).unwrap();
        held().0.save(Cursor { source_lsn: 7, decided_lsn: Lsn(9) }).unwrap();
        CursorFile::open_through(&disk, path, 5).unwrap();
        disk.power_loss(1);
        assert_eq!(held().1, Held::Cursor(Cursor { source_lsn: 5, decided_lsn: Lsn::NONE }), "for good");
    }
}
