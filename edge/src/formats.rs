//! What a newer agent wrote is refused by name, before anything in the state folder is touched.
//!
//! Every frame of the outbox begins with `HuS` and its format's digit, then the payload's length; this and the place of the
//! checksum never move, so that a newer format is told from damage. In format 1 the checksum covers the payload alone; in
//! every later one it covers the eight bytes before it, too, and then the payload: a version is believed only under a
//! checksum that covers it, or rot could pass for a newer agent, which only a human could resolve.
//!
//! A folder counts as newer where the first whole frame of a segment is. Nothing else lies in it but a lock.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const MAGIC: [u8; 3] = *b"HuS";
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 12;

/// Why a state folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A newer agent's.
    #[error(
        "{} has format {found}, and this version reads up to {FORMAT}: it was written by a newer Hunhe, and nothing was \
         changed; start that version again, or give this one a state_dir of its own",
        .path.display()
    )]
    Newer {
        /// Which segment.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// The folder cannot be looked at.
    #[error("{}: cannot be read", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks at an outbox and changes nothing; a folder that is missing is fine.
///
/// # Errors
/// [`FormatError`].
pub fn refuse_newer(folder: &Path) -> Result<(), FormatError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FormatError::Io { path, source }
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed(folder))?.path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let bytes = fs::read(&path).map_err(failed(&path))?;
        if let Some(found) = newer_format(&bytes) {
            return Err(FormatError::Newer { path, found });
        }
    }
    Ok(())
}

/// The format of the frame that a segment begins with, where it is a newer one and whole.
fn newer_format(bytes: &[u8]) -> Option<u8> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [m, a, g, digit, l0, l1, l2, l3, sum @ ..] = *header;
    let found = digit.checked_sub(b'0').filter(|&found| found > FORMAT)?;
    let payload = rest.get(..usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?)?;
    let summed = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), payload);
    ([m, a, g] == MAGIC && u32::from_le_bytes(sum) == summed).then_some(found)
}
