//! What the writer has made visible, shared with its readers: the segments, how far each may be read, and a way to sleep until
//! there is more. Touched once a flush by the writer and once a segment or a wait by a reader, never once a record.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hunhe_disk::Disk;

use super::Lsn;
use super::record::Stamp;

/// A segment as readers may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Lsn,
    /// Readable bytes from the file's start.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Visible {
    /// By first record; the last one is still written to.
    pub(super) spans: Vec<Span>,
    pub(super) head: Lsn,
    pub(super) closed: bool,
}

impl Visible {
    pub(super) fn oldest(&self) -> Lsn {
        self.spans.first().map_or(Lsn::FIRST, |span| span.first)
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) stamp: Stamp,
    visible: Mutex<Visible>,
    more: Condvar,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, stamp: Stamp, spans: Vec<Span>, head: Lsn) -> Self {
        let visible = Mutex::new(Visible { spans, head, closed: false });
        Self { disk, dir, stamp, visible, more: Condvar::new() }
    }

    pub(super) fn visible(&self) -> MutexGuard<'_, Visible> {
        // Every change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is visible and wakes who waits for it.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Visible)) {
        let mut visible = self.visible();
        let before = (visible.head, visible.closed);
        change(&mut visible);
        // Who waits, waits for these alone; to ring is a system call.
        let rings = before != (visible.head, visible.closed);
        drop(visible);
        if rings {
            self.more.notify_all();
        }
    }
}

/// The visible end of a log, for readers in other threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tail {
    pub(super) shared: Arc<Shared>,
}

impl Tail {
    /// The newest record a reader gets.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.shared.visible().head
    }

    /// The oldest record that was not released; one past the head in an empty log.
    #[must_use]
    pub fn oldest(&self) -> Lsn {
        self.shared.visible().oldest()
    }

    /// Readable bytes of all segments on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.visible().spans.iter().map(|span| span.bytes).sum()
    }

    /// Whether the writer is gone, so that nothing will follow the head.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.visible().closed
    }

    /// Sleeps until there are records behind `seen`, the writer is gone, or `timeout` has passed; returns the head.
    #[must_use]
    pub fn wait(&self, seen: Lsn, timeout: Duration) -> Lsn {
        let visible = self.shared.visible();
        let waited = self
            .shared
            .more
            .wait_timeout_while(visible, timeout, |visible| visible.head <= seen && !visible.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.head
    }
}
