//! What is in quarantine, without the records' bodies: who holds how much of it, which record has to go, and what a list shows.
//! Pure: records in, a victim out.
//!
//! **Who has to go.** Each device has a share, and all sources that the registry does not know have one together. At a
//! bound the oldest record without samples of the ledger goes, of the largest share that has any and takes an eighth of the
//! bound or more; and where there is none, the oldest of the largest share. So whoever fills the quarantine discards what is
//! his own, his junk before anybody's samples, and nobody else's small share is touched. A share's size counts bytes and
//! records alike, each against its bound. A record that is being judged again stays.
//!
//! Bounds: [`Limits`]; some 130 bytes of memory a record. Shares are as many as the registry has, or had, devices.

use super::{RecordHead, RecordId, RecordKind};
use hunhe_proto::id::Id;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The bounds of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records at most.
    pub records: usize,
    /// Bytes of keys and records at most.
    pub bytes: u64,
}

/// A record's place in order of arrival.
pub(super) type Place = (i64, RecordId);

/// Records and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub records: u64,
    /// What they take.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    share: u32,
    bytes: u32,
    reason: u16,
    has_samples: bool,
    /// It is being judged again, and its samples are on their way out.
    held: bool,
}

/// Which records a list shows: every filter that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// What they are about.
    pub kind: Option<RecordKind>,
    /// Why they were refused.
    pub reason: Option<String>,
    /// Whose they are.
    pub device: Option<Id>,
    /// Arrived at or after, milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Arrived before, milliseconds since 1970.
    pub to_ms: Option<i64>,
}

/// A stretch of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The records found, each with its arrival.
    pub found: Vec<(i64, RecordId)>,
    /// The last record looked at, where there are more behind it.
    pub next: Option<(i64, RecordId)>,
}

pub(super) struct Index {
    limits: Limits,
    by_arrival: BTreeMap<Place, Entry>,
    /// Whose is it, has it samples, which one.
    by_share: BTreeSet<(u32, bool, Place)>,
    /// How large is the share, whose is it.
    sizes: BTreeSet<(u128, u32)>,
    amounts: HashMap<u32, Amount>,
    shares: HashMap<Option<Id>, u32>,
    reasons: Vec<String>,
    counts: HashMap<(RecordKind, u16), u64>,
    total: Amount,
}

impl Index {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_arrival: BTreeMap::new(),
            by_share: BTreeSet::new(),
            sizes: BTreeSet::new(),
            amounts: HashMap::new(),
            shares: HashMap::new(),
            reasons: Vec::new(),
            counts: HashMap::new(),
            total: Amount::default(),
        }
    }

    pub(super) fn total(&self) -> Amount {
        self.total
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn insert(&mut self, id: RecordId, head: &RecordHead, bytes: usize) {
        let next = u32::try_from(self.shares.len()).unwrap_or(u32::MAX);
        let share = *self.shares.entry(head.device).or_insert(next);
        let entry = Entry {
            share,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            reason: self.reason_number(&head.reason),
            has_samples: head.samples > 0,
            held: false,
        };
        let place = (head.arrival_ms, id);
        self.remove(place);
        self.by_arrival.insert(place, entry);
        self.by_share.insert((share, entry.has_samples, place));
        self.change(entry, |amount| {
            amount.records += 1;
            amount.bytes += u64::from(entry.bytes);
        });
        *self.counts.entry((id.kind(), entry.reason)).or_default() += 1;
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let Some(entry) = self.by_arrival.remove(&place) else { return false };
        self.by_share.remove(&(entry.share, entry.has_samples, place));
        self.change(entry, |amount| {
            amount.records -= 1;
            amount.bytes -= u64::from(entry.bytes);
        });
        if let Some(count) = self.counts.get_mut(&(place.1.kind(), entry.reason)) {
            *count -= 1;
        }
        true
    }

    fn change(&mut self, entry: Entry, change: impl Fn(&mut Amount)) {
        change(&mut self.total);
        let limits = self.limits;
        let amount = self.amounts.entry(entry.share).or_default();
        let before = size_of_share(limits, *amount);
        change(amount);
        let after = *amount;
        self.sizes.remove(&(before, entry.share));
        if after.records > 0 {
            self.sizes.insert((size_of_share(limits, after), entry.share));
        } else {
            self.amounts.remove(&entry.share);
        }
    }

    fn reason_number(&mut self, reason: &str) -> u16 {
        let at = self.reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
            self.reasons.push(reason.to_owned());
            self.reasons.len() - 1
        });
        // Reasons come from a fixed list.
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Whether the record was there and not held yet.
    pub(super) fn hold(&mut self, place: Place) -> bool {
        self.by_arrival.get_mut(&place).is_some_and(|entry| !std::mem::replace(&mut entry.held, true))
    }

    pub(super) fn release(&mut self, place: Place) {
        if let Some(entry) = self.by_arrival.get_mut(&place) {
            entry.held = false;
        }
    }

    /// The record that has to go, while a bound is exceeded.
    pub(super) fn victim(&self) -> Option<Place> {
        let limit = u64::try_from(self.limits.records).unwrap_or(u64::MAX);
        if self.total.records <= limit && self.total.bytes <= self.limits.bytes {
            return None;
        }
        let large = large_share(self.limits);
        let mut shares = self.sizes.iter().rev();
        let large = shares.clone().take_while(|&&(size, _)| size >= large);
        let junk = large.map(|&(_, share)| share).find_map(|share| self.first_to_go(share, false));
        junk.or_else(|| shares.find_map(|&(_, share)| self.first_to_go(share, true)))
    }

    /// Of a share: the oldest record without samples of the ledger, else the oldest with some where those are meant, too.
    fn first_to_go(&self, share: u32, with_samples: bool) -> Option<Place> {
        let (first, last) = ((i64::MIN, FIRST), (i64::MAX, LAST));
        let of_share = (share, false, first)..=(share, with_samples, last);
        let mut places = self.by_share.range(of_share).map(|&(.., place)| place);
        places.find(|place| self.by_arrival.get(place).is_some_and(|entry| !entry.held))
    }

    /// The oldest record that arrived before, unless it is being judged again.
    pub(super) fn older_than(&self, before_ms: i64) -> Option<Place> {
        let mut old = self.by_arrival.range(..(before_ms, FIRST));
        old.find(|(_, entry)| !entry.held).map(|(&place, _)| place)
    }

    /// Walks from the newest record, or from behind `after`, and looks at no more than `look_at` records.
    pub(super) fn walk(
        &self,
        filter: &RecordFilter,
        after: Option<Place>,
        limit: usize,
        look_at: usize,
    ) -> Walk {
        let mut walk = Walk::default();
        let first = (filter.from_ms.unwrap_or(i64::MIN), FIRST);
        let newest = filter.to_ms.map(|to_ms| (to_ms, FIRST));
        let end = match (newest, after) {
            (Some(newest), Some(after)) => Some(newest.min(after)),
            (newest, after) => newest.or(after),
        };
        if end.is_some_and(|end| end <= first) {
            return walk;
        }
        let wanted = Wanted::of(self, filter);
        let mut looked_at = 0;
        let mut records = match end {
            Some(end) => self.by_arrival.range(first..end),
            None => self.by_arrival.range(first..),
        };
        let mut last = None;
        while let Some((&place, entry)) = records.next_back() {
            if walk.found.len() == limit || looked_at == look_at {
                walk.next = last;
                return walk;
            }
            looked_at += 1;
            last = Some(place);
            if wanted.matches(place.1, entry) {
                walk.found.push(place);
            }
        }
        walk
    }

    /// How many records there are by reason, or of one kind.
    pub(super) fn by_reason(&self, kind: Option<RecordKind>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (&(of_kind, reason), &count) in &self.counts {
            if count > 0 && kind.is_none_or(|kind| kind == of_kind) {
                let name = self.reasons.get(usize::from(reason)).cloned().unwrap_or_default();
                *counts.entry(name).or_default() += count;
            }
        }
        counts
    }
}

/// The least and the greatest id.
const FIRST: RecordId = RecordId::Message { source_lsn: 0 };
const LAST: RecordId = RecordId::DeadLetter { source_lsn: u64::MAX, hash: u64::MAX };

/// Bytes and records, each against its bound.
fn size_of_share(limits: Limits, amount: Amount) -> u128 {
    let records = u128::try_from(limits.records).unwrap_or(u128::MAX);
    u128::from(amount.bytes) * records + u128::from(amount.records) * u128::from(limits.bytes)
}

/// The size of a share that takes an eighth of either bound.
fn large_share(limits: Limits) -> u128 {
    size_of_share(limits, Amount { records: 0, bytes: limits.bytes }) / 8
}

/// A filter in the index's own numbers.
struct Wanted {
    kind: Option<RecordKind>,
    /// The inner `None`: nobody has it.
    reason: Option<Option<u16>>,
    share: Option<Option<u32>>,
}

impl Wanted {
    fn of(index: &Index, filter: &RecordFilter) -> Self {
        let number = |reason: &String| {
            let at = index.reasons.iter().position(|known| known == reason);
            at.and_then(|at| u16::try_from(at).ok())
        };
        Self {
            kind: filter.kind,
            reason: filter.reason.as_ref().map(number),
            share: filter.device.map(|device| index.shares.get(&Some(device)).copied()),
        }
    }

    fn matches(&self, id: RecordId, entry: &Entry) -> bool {
        self.kind.is_none_or(|kind| kind == id.kind())
            && self.reason.is_none_or(|reason| reason == Some(entry.reason))
            && self.share.is_none_or(|share| share == Some(entry.share))
    }
}

#[cfg(test)]
mod tests;
