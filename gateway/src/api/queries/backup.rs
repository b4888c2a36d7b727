//! A backup, taken on a thread that may block, and handed on as fast as it is taken off.

use super::Answers;
use crate::{
    api::{ApiError, backend::BackupStream},
    backup::{self, BackupError, PATIENCE},
};
use bytes::Bytes;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{self, Sender, error::TrySendError};

/// Frames that wait for the reader.
const WAITING: usize = 8;
/// Between two looks at whether there is room again.
const NAP: Duration = Duration::from_millis(2);

impl Answers {
    pub(super) fn backup_now(&self) -> Result<BackupStream, ApiError> {
        let Ok(only) = Arc::clone(&self.backing_up).try_lock_owned() else {
            return Err(ApiError::Conflict("a backup is being taken: try again when it is done".into()));
        };
        let (give, stream) = mpsc::channel(WAITING);
        let (source, store) = (self.kept_for_backup.clone(), Arc::clone(&self.store));
        let created_ms = self.clock.now_ms();
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let given = backup::give(&source, &store, created_ms, &mut |bytes| hand_on(&give, bytes));
            // Before the stream ends: a client that sees its end may ask for the next.
            drop(only);
            match given {
                Ok((manifest, totals)) => tracing::info!(
                    journal = %manifest.journal.last,
                    samples = totals.samples,
                    seconds = begun.elapsed().as_secs(),
                    "a backup was given"
                ),
                Err(error @ BackupError::Left(_)) => tracing::warn!(error = ?error, "a backup was left"),
                Err(error) => tracing::error!(error = ?error, "a backup could not be taken"),
            }
        });
        Ok(stream)
    }
}

/// Waits for room, without a timer of the runtime: that may be ending.
fn hand_on(give: &Sender<Bytes>, bytes: Bytes) -> io::Result<()> {
    let since = Instant::now();
    let mut bytes = bytes;
    loop {
        match give.try_send(bytes) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(_)) if since.elapsed() > PATIENCE => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(TrySendError::Full(back)) => bytes = back,
        }
        std::thread::sleep(NAP);
    }
}
