//! The alert log's writing end, on the lane's thread. What its records hold is in [`mod@format`].
//!
//! Bound: `limit_bytes`. There the oldest segment is released although it is also the list's history, and although an
//! output may not have delivered it: an output that is down for long must not stop alerts for the others.

pub(super) mod format;

use super::{Alert, ById, describe::Describer, own::StalledOutputs};
use crate::record::OutputChange;
use format::Head;
use hunhe_disk::Disk;
use hunhe_gateway_core::device::alert::{Change, Phase};
use hunhe_log::{AppendError, Error, Lsn, Options, Tail, Unsynced, Writer};
use hunhe_proto::class::Text;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::watch;

pub use format::Kind;

/// Segments that the limit is divided into: what goes at once at the bound.
const SEGMENTS: u64 = 16;

/// How an alert log is laid out on disk.
#[must_use]
pub fn options(disk: Arc<dyn Disk>, dir: PathBuf, limit_bytes: u64) -> Options {
    Options { disk, dir, segment_bytes: (limit_bytes / SEGMENTS).clamp(1 << 19, 64 << 20), limit_bytes }
}

/// Figures of the log, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// Changes released before every output had passed them, or that could not be written at all.
    pub dropped: AtomicU64,
    /// How often the follower could not read the log, and opened it again.
    pub follower_failures: AtomicU64,
    /// Whether it cannot read it now.
    pub unfollowed: AtomicBool,
}

/// The log.
pub struct AlertLog {
    log: Writer,
    describer: Describer,
    figures: Arc<Figures>,
    newest: watch::Sender<Lsn>,
    /// The record that every output has passed.
    done: Box<dyn Fn() -> Lsn + Send>,
    stalled: Arc<StalledOutputs>,
    /// Room for one record.
    bytes: Vec<u8>,
}

impl AlertLog {
    /// Takes an opened log, cut to where the lane begins. `newest` gets the newest record.
    #[must_use]
    pub fn new(
        log: Writer,
        describer: Describer,
        figures: Arc<Figures>,
        newest: watch::Sender<Lsn>,
        done: Box<dyn Fn() -> Lsn + Send>,
    ) -> Self {
        figures.bytes.store(log.bytes_on_disk(), Relaxed);
        Self { log, describer, figures, newest, done, stalled: Arc::default(), bytes: Vec::new() }
    }

    /// Writes all changes of one source record, and lets readers see them.
    ///
    /// # Errors
    /// Where the disk refuses: final.
    pub fn write(&mut self, source_lsn: u64, changes: &[Change]) -> Result<(), Error> {
        let describer = self.describer.clone();
        self.write_all(source_lsn, changes.iter().map(|change| describer.describe(change)))
    }

    /// Writes the alert that follows from an output's change; answers the id of one that ended.
    ///
    /// # Errors
    /// Where the disk refuses: final.
    pub fn write_output(
        &mut self,
        source_lsn: u64,
        at_ms: i64,
        change: OutputChange<'_>,
    ) -> Result<Option<u64>, Error> {
        let Some(alert) = self.stalled.take(change, at_ms) else { return Ok(None) };
        let ended = (alert.phase == Phase::Resolved).then_some(alert.id);
        self.write_all(source_lsn, std::iter::once(alert))?;
        Ok(ended)
    }

    /// Outputs with an open alert.
    #[must_use]
    pub fn stalled_outputs(&self) -> &Arc<StalledOutputs> {
        &self.stalled
    }

    fn write_all(
        &mut self,
        source_lsn: u64,
        alerts: impl ExactSizeIterator<Item = Alert>,
    ) -> Result<(), Error> {
        let parts = u32::try_from(alerts.len()).unwrap_or(u32::MAX);
        for (part, alert) in (0..parts).zip(alerts) {
            let mut out = std::mem::take(&mut self.bytes);
            out.clear();
            match format::write(&alert, out) {
                Ok(bytes) => self.bytes = bytes,
                Err(error) => {
                    // Memory takes everything.
                    tracing::error!(%error, alert = alert.id, "an alert cannot be written");
                    self.figures.dropped.fetch_add(1, Relaxed);
                    continue;
                }
            }
            self.append(Kind::of(&alert), Head { source_lsn, part, parts })?;
        }
        let head = self.log.flush()?;
        self.figures.bytes.store(self.log.bytes_on_disk(), Relaxed);
        self.newest.send_replace(head);
        Ok(())
    }

    /// Ends alerts whose rule, class or device was taken away, under a source record that has no changes of its own.
    ///
    /// # Errors
    /// Where the disk refuses: final.
    pub fn withdraw(&mut self, source_lsn: u64, at_ms: i64, alerts: ById) -> Result<(), Error> {
        self.write_all(source_lsn, alerts.into_values().map(|alert| withdrawn(alert, at_ms)))
    }

    fn append(&mut self, kind: Kind, head: Head) -> Result<(), Error> {
        let head = head.bytes();
        loop {
            match self.log.append(kind as u8, &[&head, &self.bytes]) {
                Ok(_) => return Ok(()),
                Err(AppendError::Log(error)) => return Err(error),
                Err(AppendError::Full { .. }) if self.make_room()? => {}
                Err(refused) => {
                    tracing::error!(%refused, "an alert cannot be written");
                    self.figures.dropped.fetch_add(1, Relaxed);
                    return Ok(());
                }
            }
        }
    }

    /// Releases the oldest segment; answers whether there was one.
    fn make_room(&mut self) -> Result<bool, Error> {
        let oldest = self.log.oldest();
        let released = self.log.release_oldest()?;
        let through = self.log.oldest().previous();
        let undelivered = through.0.saturating_sub((self.done)().max(oldest.previous()).0);
        if undelivered > 0 {
            self.figures.dropped.fetch_add(undelivered, Relaxed);
            tracing::error!(
                undelivered,
                "the alert log is at its limit: its oldest alerts are gone before every output had them"
            );
        }
        Ok(released)
    }

    /// Makes all of it durable; answers the last record.
    ///
    /// # Errors
    /// Final.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.log.sync()
    }

    /// Whether something is to be synced.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.log.is_dirty()
    }

    /// What is to be synced, elsewhere.
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced> {
        self.log.unsynced()
    }

    /// For readers.
    #[must_use]
    pub fn subscribe(&self) -> Tail {
        self.log.subscribe()
    }
}

/// Its end, with the reason in its text.
fn withdrawn(alert: Alert, at_ms: i64) -> Alert {
    let Alert { title, .. } = &alert;
    let text = Text {
        zh: format!("{}：规则或设备已撤销，告警关闭", title.zh),
        en: format!("{}: closed, its rule or device was taken away", title.en),
    };
    Alert { phase: Phase::Resolved, value: None, event_ms: at_ms, arrival_ms: at_ms, text, ..alert }
}

#[cfg(test)]
#[path = "log/tests.rs"]
pub(crate) mod tests;
