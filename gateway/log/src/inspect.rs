//! Looks at a log from outside: `journal verify`, `stat` and `repair`. The first two only read, also beside a running writer,
//! whose latest records they may then miss.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hunhe_disk::Disk;
use serde::Serialize;

use super::error::Error;
use super::finding::Finding;
use super::recover::{Claim, peek};
use super::segment::FORMAT_VERSION;
use super::survey::{Depth, Survey, name_of};
use super::{Gap, Lsn};

/// What a log's directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The directory.
    pub dir: String,
    /// What was done: `verify`, `stat` or `repair`.
    pub action: Action,
    /// Format version this program writes.
    pub format: u8,
    /// The log's id in hexadecimal; absent in an empty directory.
    pub log_id: Option<String>,
    /// Whether a writer has it open.
    pub in_use: bool,
    /// The oldest record; one past the head in an empty log.
    pub oldest: Lsn,
    /// The newest record.
    pub head: Lsn,
    /// Readable records; absent after `stat`, which does not read them.
    pub records: Option<u64>,
    /// Bytes of all segments in use.
    pub bytes: u64,
    /// Segments in use, in order.
    pub segments: Vec<SegmentReport>,
    /// Segments set aside earlier; they go when the log has been released beyond them.
    pub set_aside: Vec<String>,
    /// What is not as it was written.
    pub findings: Vec<Finding>,
    /// No findings.
    pub sound: bool,
    /// Records that may have been acknowledged are missing.
    pub lost_records: bool,
}

/// How a report came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Every record was read.
    Verify,
    /// Every record was read; what can be mended was.
    Repair,
    /// Headers, seals and the last segment were read.
    Stat,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// File name.
    pub name: String,
    /// First record.
    pub first: Lsn,
    /// Last record; one before the first in an empty segment.
    pub last: Lsn,
    /// File size.
    pub bytes: u64,
}

/// Reads every record and changes nothing.
///
/// # Errors
/// [`Error::Io`], [`Error::NewerFormat`].
pub fn verify(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Report, Error> {
    look(&**disk, dir, Action::Verify)
}

/// Reads headers, seals and the last segment, and changes nothing.
///
/// # Errors
/// [`Error::Io`], [`Error::NewerFormat`].
pub fn stat(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Report, Error> {
    look(&**disk, dir, Action::Stat)
}

/// Reads every record and does what [`super::Writer::open`] does: trims the end, mends headers and names, sets unusable segments
/// aside. The findings are those before. Lost records stay lost.
///
/// # Errors
/// [`Error::Locked`] while a writer has the log, [`Error::Io`], [`Error::NewerFormat`].
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Report, Error> {
    let before = look(&**disk, dir, Action::Repair)?;
    let is_a_log = before.log_id.is_some() || !before.findings.is_empty();
    if is_a_log {
        Claim::of(disk, dir)?.mend(Depth::Whole)?;
    }
    let after = look(&**disk, dir, Action::Repair)?;
    Ok(Report { findings: before.findings, sound: before.sound, lost_records: before.lost_records, ..after })
}

fn look(disk: &dyn Disk, dir: &Path, action: Action) -> Result<Report, Error> {
    let depth = if action == Action::Stat { Depth::Ends } else { Depth::Whole };
    let (known_id, in_use) = peek(disk, dir)?;
    let survey = Survey::of(disk, dir, known_id, depth)?;
    let segments: Vec<SegmentReport> = survey
        .segments
        .iter()
        .map(|segment| SegmentReport {
            name: name_of(&segment.path),
            first: segment.first,
            last: segment.extent.next.previous(),
            bytes: segment.bytes,
        })
        .collect();
    let records = survey.segments.iter().map(|segment| segment.extent.records).sum::<Option<u64>>();
    Ok(Report {
        dir: dir.display().to_string(),
        action,
        format: FORMAT_VERSION,
        log_id: survey.log_id.map(|id| format!("{id:016x}")),
        in_use,
        oldest: survey.oldest(),
        head: survey.head(),
        records: records.filter(|_| action != Action::Stat),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        segments,
        set_aside: survey.set_aside_before.iter().map(|(path, _)| name_of(path)).collect(),
        sound: survey.findings.is_empty(),
        lost_records: survey.findings.iter().any(Finding::is_loss),
        findings: survey.findings,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, oldest, head, bytes, .. } = self;
        let state = if self.in_use { ", being written" } else { "" };
        writeln!(
            f,
            "{dir}: records {oldest} to {head} in {} segments, {bytes} bytes{state}",
            self.segments.len()
        )?;
        if let Some(records) = self.records {
            writeln!(f, "{records} records read, each with the right checksum")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for name in &self.set_aside {
            writeln!(f, "{name}: set aside; it goes when the log has been released beyond it")?;
        }
        f.write_str(self.advice())
    }
}

impl Report {
    fn advice(&self) -> &'static str {
        let lost_for_good = |finding: &Finding| matches!(finding, Finding::Lost(Gap { .. }));
        match self.action {
            _ if self.findings.is_empty() => "sound",
            Action::Repair if self.lost_records => {
                "mended; the lost records stay lost, and readers report them"
            }
            Action::Repair => "mended; no record is lost",
            _ if self.in_use => "a writer has it open: what is missing at the end may just be on its way",
            _ if self.findings.iter().all(lost_for_good) => {
                "nothing left to mend; readers go on behind the lost records"
            }
            _ => "the next start mends this, as repair would; nothing needs to be deleted by hand",
        }
    }
}
