//! Looks at a log's directory without touching it: which segments belong to the log, what each holds, what is wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hunhe_disk::{Disk, File, Open};

use super::Lsn;
use super::error::Error;
use super::finding::{AsideReason, Finding, Gap};
use super::format;
use super::record::{FRAME_BYTES, FRAME_LEN, Frame, Stamp};
use super::scan::{Scanner, Step};
use super::segment::{self, HEADER_LEN, Header};

/// How much of sealed segments is read; the last one is always read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Header and seal.
    Ends,
    /// Every record.
    Whole,
}

/// A segment that is used.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) first: Lsn,
    pub(super) bytes: u64,
    pub(super) header_damaged: bool,
    pub(super) misnamed: bool,
    pub(super) extent: Extent,
}

/// What a segment holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Extent {
    /// One past the last whole record.
    pub(super) next: Lsn,
    /// Offset behind the last whole record.
    pub(super) records_end: u64,
    /// Offset of the last record that says that all before it was durable; 0 where none does.
    pub(super) proven_end: u64,
    /// Whole records; absent where only the ends were read.
    pub(super) records: Option<u64>,
    sealed: bool,
    /// Bytes behind the last whole record and the seal.
    trailing: u64,
    gaps: Vec<(Lsn, Lsn, u64)>,
    /// The latest record that says that everything before it was durable.
    durable_before: Lsn,
}

/// A log's directory, understood.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) log_id: Option<u64>,
    /// By first record, without overlap.
    pub(super) segments: Vec<Found>,
    pub(super) aside: Vec<(PathBuf, AsideReason)>,
    /// Segments set aside earlier, with their sizes.
    pub(super) set_aside_before: Vec<(PathBuf, u64)>,
    pub(super) findings: Vec<Finding>,
    /// Where a log goes on when the last segment cannot be used.
    pub(super) resume: Lsn,
}

impl Survey {
    pub(super) fn oldest(&self) -> Lsn {
        self.segments.first().map_or(self.resume, |segment| segment.first)
    }

    pub(super) fn head(&self) -> Lsn {
        self.segments.last().map_or(self.resume.previous(), |segment| segment.extent.next.previous())
    }

    /// Reads a directory; an absent one is an empty log. `known_id` is the id noted beside the segments.
    pub(super) fn of(
        disk: &dyn Disk,
        dir: &Path,
        known_id: Option<u64>,
        depth: Depth,
    ) -> Result<Self, Error> {
        let mut survey = Self::default();
        let candidates = survey.list(disk, dir)?;
        survey.log_id = identity(&candidates, known_id);
        let ordered = survey.order(candidates);
        survey.walk(disk, ordered, depth)?;
        survey.findings.extend(
            survey
                .aside
                .iter()
                .map(|(path, reason)| Finding::Aside { segment: name_of(path), reason: *reason }),
        );
        Ok(survey)
    }

    fn list(&mut self, disk: &dyn Disk, dir: &Path) -> Result<Vec<Candidate>, Error> {
        let names = match disk.names(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", dir)(error)),
        };
        let mut candidates = Vec::new();
        for name in names {
            let path = dir.join(name);
            let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { continue };
            if extension != segment::EXTENSION && extension != segment::ASIDE_EXTENSION {
                continue;
            }
            let file = disk.open(&path, Open::Read).map_err(Error::io("open", &path))?;
            let bytes = file.len().map_err(Error::io("read", &path))?;
            if extension == segment::ASIDE_EXTENSION {
                self.set_aside_before.push((path, bytes));
                continue;
            }
            let header = segment::read_header(&*file, &path)?;
            if let Header::Newer(found) = header {
                return Err(format::newer(&path, found));
            }
            candidates.push(Candidate { path, bytes, header });
        }
        self.set_aside_before.sort();
        candidates.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(candidates)
    }

    /// Puts this log's segments in order; a header says more than a name, a name more than nothing.
    fn order(&mut self, candidates: Vec<Candidate>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::with_capacity(candidates.len());
        for Candidate { path, bytes, header } in candidates {
            let by_name = segment::first_by_name(&path).filter(|first| *first != Lsn::NONE);
            let first = match header {
                Header::Good { log_id, first } if Some(log_id) == self.log_id => first,
                Header::Good { .. } => {
                    self.aside.push((path, AsideReason::OtherLog));
                    continue;
                }
                Header::Damaged | Header::Newer(_) => match by_name.filter(|_| self.log_id.is_some()) {
                    Some(first) => first,
                    None => {
                        self.resume = self.resume.max(by_name.unwrap_or(Lsn::FIRST));
                        self.aside.push((path, AsideReason::Unreadable));
                        continue;
                    }
                },
            };
            let header_damaged = header == Header::Damaged;
            let misnamed = segment::path_of(Path::new(""), first).file_name() != path.file_name();
            found.push(Found { path, first, bytes, header_damaged, misnamed, extent: Extent::default() });
        }
        found.sort_by_key(|segment| (segment.first, segment.header_damaged, segment.misnamed));
        found
    }

    fn walk(&mut self, disk: &dyn Disk, ordered: Vec<Found>, depth: Depth) -> Result<(), Error> {
        let Some(stamp) = self.log_id.map(Stamp::of) else {
            self.resume = self.resume.max(Lsn::FIRST);
            return Ok(());
        };
        let count = ordered.len();
        let mut expected: Option<Lsn> = None;
        for (index, mut segment) in ordered.into_iter().enumerate() {
            let same_first = self.segments.last().is_some_and(|before| before.first == segment.first);
            if same_first || expected.is_some_and(|expected| segment.first < expected) {
                self.aside.push((segment.path, AsideReason::Copy));
                continue;
            }
            let last = index + 1 == count;
            segment.extent = examine(disk, &segment, stamp, if last { Depth::Whole } else { depth })?;
            let nothing_in_it = segment.extent.next == segment.first;
            // A header without a record is what a crash during creation leaves, unless more was written than a header.
            if segment.header_damaged && nothing_in_it && !(last && segment.bytes <= HEADER_LEN) {
                self.resume = self.resume.max(segment.first);
                self.aside.push((segment.path, AsideReason::Unreadable));
                continue;
            }
            self.note(&segment, expected, last);
            expected = Some(segment.extent.next);
            self.segments.push(segment);
        }
        self.settle_end();
        self.resume = self.resume.max(expected.unwrap_or(Lsn::FIRST));
        Ok(())
    }

    fn note(&mut self, segment: &Found, expected: Option<Lsn>, last: bool) {
        let name = name_of(&segment.path);
        if segment.misnamed {
            self.findings.push(Finding::Misnamed { segment: name.clone(), first: segment.first });
        }
        if segment.header_damaged {
            self.findings.push(Finding::HeaderDamaged { segment: name.clone() });
        }
        let extent = &segment.extent;
        if let Some(first) = expected.filter(|expected| *expected < segment.first) {
            let last = segment.first.previous();
            self.findings.push(Finding::Lost(Gap {
                segment: name.clone(),
                first,
                last,
                bytes: 0,
                durable: true,
            }));
        }
        for &(first, end, bytes) in &extent.gaps {
            let durable = !last || extent.sealed || extent.durable_before > end;
            self.findings.push(Finding::Lost(Gap {
                segment: name.clone(),
                first,
                last: end,
                bytes,
                durable,
            }));
        }
        if !last && !extent.sealed {
            self.findings.push(Finding::SealDamaged { segment: name, bytes: extent.trailing });
        }
    }

    /// The end of the last segment in use is the log's end; whatever stands behind its last whole record is trimmed.
    fn settle_end(&mut self) {
        let Some(segment) = self.segments.last() else { return };
        let (name, bytes) = (name_of(&segment.path), segment.extent.trailing);
        self.findings
            .retain(|finding| !matches!(finding, Finding::SealDamaged { segment, .. } if *segment == name));
        let after = segment.extent.next.previous();
        if segment.extent.sealed {
            self.findings.push(Finding::NothingFollows { segment: name.clone(), after });
        }
        if bytes > 0 {
            self.findings.push(Finding::Torn { segment: name, after, bytes });
        }
    }
}

struct Candidate {
    path: PathBuf,
    bytes: u64,
    header: Header,
}

/// The id that most headers carry; the noted one decides a tie, and stands in where no header can be read.
fn identity(candidates: &[Candidate], known_id: Option<u64>) -> Option<u64> {
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for candidate in candidates {
        if let Header::Good { log_id, .. } = candidate.header {
            *votes.entry(log_id).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(id, count)| (*count, Some(*id) == known_id)).map(|(id, _)| id).or(known_id)
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn examine(disk: &dyn Disk, segment: &Found, stamp: Stamp, depth: Depth) -> Result<Extent, Error> {
    let file = disk.open(&segment.path, Open::Read).map_err(Error::io("open", &segment.path))?;
    let read = Error::io("read", &segment.path);
    // Where only a name says which record is the first, a seal far ahead proves nothing about what is between.
    if depth == Depth::Ends
        && !segment.header_damaged
        && let Some(extent) = by_seal(&*file, segment, stamp)
    {
        return Ok(extent);
    }
    scan_whole(file, segment, stamp).map_err(read)
}

/// A valid seal at the end tells what a segment holds.
fn by_seal(file: &dyn File, segment: &Found, stamp: Stamp) -> Option<Extent> {
    let records_end = segment.bytes.checked_sub(FRAME_LEN).filter(|end| *end >= HEADER_LEN)?;
    let mut bytes = [0; FRAME_BYTES];
    file.read_exact_at(&mut bytes, records_end).ok()?;
    let frame = Frame::parse(bytes);
    let next = Lsn(segment.first.0.checked_add(u64::from(frame.ahead_of(segment.first)))?);
    (frame.is_seal() && frame.proves(stamp, next, &[])).then(|| Extent {
        next,
        records_end,
        sealed: true,
        ..Extent::default()
    })
}

fn scan_whole(file: Arc<dyn File>, segment: &Found, stamp: Stamp) -> io::Result<Extent> {
    let mut extent =
        Extent { next: segment.first, records_end: HEADER_LEN.min(segment.bytes), ..Extent::default() };
    let mut scanner = Scanner::new(file, stamp, HEADER_LEN, segment.bytes, segment.first);
    let mut records = 0;
    loop {
        match scanner.step()? {
            Step::Record { lsn, synced, payload, .. } => {
                records += 1;
                (extent.next, extent.records_end, extent.sealed) =
                    (scanner.expected(), scanner.offset(), false);
                if synced {
                    extent.durable_before = lsn;
                    extent.proven_end = scanner.offset() - FRAME_LEN - payload.len() as u64;
                }
            }
            Step::Lost { first, last, bytes } => {
                extent.gaps.push((first, last, bytes));
                // What lies behind counts as held from here on, also if only a seal does.
                (extent.next, extent.records_end) = (last.next(), scanner.offset());
            }
            Step::Seal => extent.sealed = true,
            Step::End { trailing } => {
                // A header cut short is no trailing data of its own.
                extent.trailing = if segment.bytes < HEADER_LEN { segment.bytes } else { trailing };
                extent.records = Some(records);
                return Ok(extent);
            }
        }
    }
}
