//! Where in the decided log a sink begins.

use std::path::Path;

use crate::decided;
use crate::sinks::status::SinkStatus;
use hunhe_log::cursor::{Cursor, Held};
use hunhe_log::{Lsn, Next, ReadError, Reader, Tail};

/// The cursor to go on from; says so where there is none.
pub(super) fn cursor_of(held: Held, status: &SinkStatus, path: &Path) -> Cursor {
    let name = status.name();
    match held {
        Held::Cursor(cursor) => cursor,
        Held::Nothing => {
            tracing::info!(sink = name, "sink is new: it begins with the oldest decided record");
            Cursor::default()
        }
        Held::Damaged => {
            let path = path.display();
            tracing::error!(sink = name, %path, "cursor is damaged: starting over from the oldest decided record");
            status.warn("cursor was damaged: started over from the oldest decided record".into());
            Cursor::default()
        }
    }
}

/// Opens the log where the cursor says, and returns how many records it should have had before that and has not.
///
/// The hint is believed only if the record there belongs to the cursor's cause or one before; else the search begins at the
/// oldest record, where everything up to the cursor's cause is skipped.
pub(super) fn open_at(tail: &Tail, cursor: Cursor) -> Result<(Reader, u64), ReadError> {
    if cursor.hint > Lsn::NONE && hint_holds(tail, cursor)? {
        return Ok((Reader::open(tail.clone(), cursor.hint)?, 0));
    }
    let oldest = tail.oldest();
    let reader = Reader::open(tail.clone(), oldest)?;
    let missing = if cursor.hint == Lsn::NONE { 0 } else { oldest.0.saturating_sub(cursor.hint.next().0) };
    Ok((reader, missing))
}

fn hint_holds(tail: &Tail, cursor: Cursor) -> Result<bool, ReadError> {
    let mut reader = match Reader::open(tail.clone(), cursor.hint) {
        Ok(reader) => reader,
        Err(ReadError::Released { .. } | ReadError::Ahead { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Next::Record(record) = reader.next()? else { return Ok(false) };
    let mut buffers = decided::Buffers::default();
    let decided = decided::read(record.kind, record.payload, &mut buffers);
    Ok(decided.is_ok_and(|decided| decided.cause() <= cursor.cause))
}
