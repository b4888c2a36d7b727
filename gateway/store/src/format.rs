//! The version of everything that this store writes, in a file beside fjall's, where it can be read without opening the
//! database: fjall replays, truncates and compacts when it is opened, and a newer program's store is not to be touched.
//!
//! ```text
//! format   "hunhe store 1 " · CRC-32C of the text before the last blank, eight hexadecimal digits · newline
//! ```
//! Who raises the version writes this file durably before anything else. It is made where it is missing or rotten, once
//! the database itself has said its format.

use hunhe_disk::{Disk, Open};
use hunhe_disk::{FormatError, NewerFormat, read_if_there};
use std::{io, path::Path};

/// The version of everything that this store writes.
pub const FORMAT: u32 = 1;
/// The file's name in the store's folder.
pub const MARKER: &str = "format";

const TITLE: &str = "hunhe store ";

fn text_of(format: u32) -> String {
    let said = format!("{TITLE}{format}");
    format!("{said} {:08x}\n", crc32c::crc32c(said.as_bytes()))
}

/// `None` where there is no whole marker.
fn marked(disk: &dyn Disk, dir: &Path) -> Result<Option<u32>, FormatError> {
    let bytes = read_if_there(disk, &dir.join(MARKER))?;
    let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let number = text.strip_prefix(TITLE).and_then(|rest| rest.split(' ').next()?.parse().ok());
    Ok(number.filter(|&number| text == text_of(number)))
}

/// Refuses a store of a newer format, and changes nothing.
///
/// # Errors
/// [`FormatError`].
pub fn refuse_newer(disk: &dyn Disk, dir: &Path) -> Result<(), FormatError> {
    match marked(disk, dir)? {
        Some(found) if found > FORMAT => {
            Err(NewerFormat { path: dir.join(MARKER), found, known: FORMAT }.into())
        }
        _ => Ok(()),
    }
}

/// Says this format, durably.
pub(super) fn mark(disk: &dyn Disk, dir: &Path) -> Result<(), FormatError> {
    if marked(disk, dir)? == Some(FORMAT) {
        return Ok(());
    }
    let path = dir.join(MARKER);
    let write = || -> io::Result<()> {
        let file = disk.open(&path, Open::Empty)?;
        file.write_all_at(text_of(FORMAT).as_bytes(), 0)?;
        file.sync_data()?;
        disk.sync_dir(dir)
    };
    write().map_err(|source| FormatError::Io { path: path.clone(), source })
}
