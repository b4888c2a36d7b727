//! Tells a newer program's log before anything in its directory is touched, the lock among it.

use std::io;
use std::path::Path;

use hunhe_disk::{Disk, Open};

use super::error::Error;
use super::segment::{self, FORMAT_VERSION, Header};
use hunhe_disk::NewerFormat;

/// Refuses a log of which a segment has a newer format. Reads headers alone; an absent directory is fine.
///
/// # Errors
/// [`Error::NewerFormat`], [`Error::Io`].
pub fn refuse_newer_segments(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let names = match disk.names(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    for name in names {
        let path = dir.join(name);
        if path.extension().is_none_or(|extension| extension != segment::EXTENSION) {
            continue;
        }
        let file = disk.open(&path, Open::Read).map_err(Error::io("open", &path))?;
        if let Header::Newer(found) = segment::read_header(&*file, &path)? {
            return Err(newer(&path, found));
        }
    }
    Ok(())
}

pub(super) fn newer(path: &Path, found: u8) -> Error {
    NewerFormat { path: path.into(), found: found.into(), known: FORMAT_VERSION.into() }.into()
}
