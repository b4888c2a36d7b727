//! The bookkeeping of one device's outbox: which samples it still owes.
//!
//! Promises:
//! - a sample is forgotten only when the durable watermark has passed it, or when a [`Drop`] declares it lost;
//! - a watermark that falls, or that passes what no report announced, changes nothing;
//! - what was sent and not passed is sent again after a reconnect, after ten minutes without progress, and where the
//!   watermark names it missing;
//! - [`Outbox::header`] tells the truth of the moment it is asked.
//!
//! Bounds: [`DROPS_MAX`] drops (beyond it the two oldest become one, with what lies between them), [`SENT_MAX`]
//! remembered payloads (beyond it the newest are not remembered: their refusal is learnt after a resend), and
//! [`GAPS_MAX`] ranges to fill (the watermark repeats the rest).
//!
//! Deliberately absent: the samples themselves. The shell stores them under their sequence numbers and may release
//! all below [`Outbox::held_from`].

use heapless::Vec;
use hunhe_proto::reading::{Drop, DropCause, Header};

/// Drops remembered at once.
pub const DROPS_MAX: usize = 8;
/// Payloads remembered by their checksum.
pub const SENT_MAX: usize = 8;
/// Ranges to fill, as many as a watermark names.
pub const GAPS_MAX: usize = 8;
/// Without progress of the watermark for this long, everything sent is sent again.
pub const STALL_MS: u64 = 600_000;
/// What was sent less than this ago may still be on its way, and fills no gap again.
pub const ON_ITS_WAY_MS: u64 = 10_000;

/// Sequence numbers `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Range {
    /// How many.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What must survive a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Identity of the outbox.
    pub boot: u32,
    /// The outbox before it and how far that had sampled; where that was rolled back, how far its reports announced.
    pub previous: Option<(u32, u64)>,
    /// Every sample below is passed by the watermark. It may be stale: then more is sent again.
    pub through: u64,
    /// One past the newest sample.
    pub next_seq: u64,
    /// What was given up and not yet passed.
    pub drops: Vec<Drop, DROPS_MAX>,
}

impl State {
    /// A new outbox.
    #[must_use]
    pub const fn new(boot: u32, previous: Option<(u32, u64)>) -> Self {
        Self { boot, previous, through: 0, next_seq: 0, drops: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    range: Range,
    crc: u32,
    at_ms: u64,
}

/// What a watermark did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// It passed so many samples, possibly none.
    Passed(u64),
    /// It is older than one seen before, or of another outbox.
    Stale,
    /// It passes or misses samples that no report announced: this outbox was rolled back, and its numbers stand for
    /// other samples as well, or the gateway errs. Another outbox must succeed it.
    Implausible,
}

/// One device's outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    state: State,
    /// Everything from here on is yet to be sent (again).
    cursor: u64,
    /// One past the newest sample ever sent.
    sent_to: u64,
    /// One past the newest sample that any report announced.
    reported_to: u64,
    /// It had samples when this process took it over, and no watermark has named it since: it may have been rolled back.
    unheard: bool,
    sent: Vec<Sent, SENT_MAX>,
    gaps: Vec<Range, GAPS_MAX>,
    progress_ms: u64,
    /// The gateway has named this outbox, so it knows of its predecessor.
    known: bool,
    /// One past the first report since the last rewind: all since then said the class version.
    version_reported_to: Option<u64>,
    /// The watermark has passed that, so the gateway knows the version of this outbox.
    version_known: bool,
    drops_unreported: bool,
}

impl Outbox {
    /// An outbox as it was stored. Whether its samples were sent before is not known, so they count as sent.
    #[must_use]
    pub fn new(state: State) -> Self {
        let mut outbox = Self {
            cursor: state.through,
            sent_to: state.next_seq,
            reported_to: state.next_seq,
            unheard: state.next_seq > 0,
            sent: Vec::new(),
            gaps: Vec::new(),
            progress_ms: 0,
            known: state.through > 0,
            version_reported_to: None,
            version_known: false,
            drops_unreported: !state.drops.is_empty(),
            state,
        };
        outbox.forget_passed();
        outbox
    }

    /// What must survive a power cut.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What was given up and not yet passed, in order of sequence.
    #[must_use]
    pub fn drops(&self) -> &[Drop] {
        &self.state.drops
    }

    /// Does the gateway know which class version this outbox follows? A report that does not say it is of use only then.
    #[must_use]
    pub const fn is_version_known(&self) -> bool {
        self.version_known
    }

    /// Is this sample still owed?
    #[must_use]
    pub fn owes(&self, seq: u64) -> bool {
        self.held_in(Range { start: seq, end: seq + 1 }) > 0
    }

    /// Oldest sample still owed; one past the newest where none is.
    #[must_use]
    pub fn held_from(&self) -> u64 {
        self.held_run(self.state.through, self.state.next_seq).map_or(self.state.next_seq, |run| run.start)
    }

    /// One past the newest sample that any report announced.
    #[must_use]
    pub const fn reported_to(&self) -> u64 {
        self.reported_to
    }

    /// Should a new connection wait for the retained watermark? What was sent need not be sent again, and a rolled-back
    /// outbox must not report numbers that stand for other samples.
    #[must_use]
    pub fn should_settle(&self) -> bool {
        self.unheard || self.is_unconfirmed()
    }

    /// How many samples before `seq` are still owed.
    #[must_use]
    pub fn held_before(&self, seq: u64) -> u64 {
        self.held_in(Range { start: 0, end: seq.min(self.state.next_seq) })
    }

    /// How many samples are still owed.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held_in(Range { start: self.state.through, end: self.state.next_seq })
    }

    /// How many samples wait to be sent (again).
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.held_in(Range { start: self.cursor, end: self.state.next_seq })
    }

    /// Is something to be sent that was sent before, or a drop that no report has declared?
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.drops_unreported || (self.cursor < self.sent_to && self.waiting() > 0)
    }

    /// Was something sent that the watermark has not passed?
    #[must_use]
    pub fn is_unconfirmed(&self) -> bool {
        self.sent_to > self.state.through && (self.held() > 0 || !self.state.drops.is_empty())
    }

    /// Is nothing owed: every sample passed, every drop passed?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.state.through >= self.state.next_seq
    }

    /// The sample `next_seq - 1` is durable in the shell's storage, and all before it.
    pub fn stored(&mut self, next_seq: u64) {
        self.state.next_seq = self.state.next_seq.max(next_seq);
    }

    /// The next samples to send, at most `count_max`: first what the gateway misses, then what waits. An empty range
    /// asks for a report without samples, which declares the drops.
    #[must_use]
    pub fn next_report(&self, count_max: u32, now_ms: u64) -> Option<Range> {
        let limit =
            |run: Range| Range { start: run.start, end: run.end.min(run.start + u64::from(count_max)) };
        if let Some(gap) = self.due_gap(now_ms) {
            return Some(limit(gap));
        }
        if let Some(run) = self.held_run(self.cursor, self.state.next_seq) {
            return Some(limit(run));
        }
        let end = self.state.next_seq;
        self.drops_unreported.then_some(Range { start: end, end })
    }

    /// Is there a gap to fill now?
    #[must_use]
    pub fn has_due_gap(&self, now_ms: u64) -> bool {
        self.due_gap(now_ms).is_some()
    }

    /// The counters of a report of `range`, as of now; what the schema lets one leave out is left out.
    #[must_use]
    pub fn header(&self, range: Range) -> Header {
        let (held_from, next_seq) = (self.held_from(), self.state.next_seq);
        let previous = self.state.previous.filter(|_| !self.known);
        Header {
            boot: self.state.boot,
            seq: range.start,
            held_from: (held_from != range.start).then_some(held_from),
            next_seq: (next_seq != range.end).then_some(next_seq),
            prev_boot: previous.map(|(boot, _)| boot),
            prev_next_seq: previous.map(|(_, next)| next),
            ..Header::default()
        }
    }

    /// A report of `range` went, with this CRC-32C over its payload.
    pub fn sent(&mut self, range: Range, crc: u32, now_ms: u64) {
        if !self.is_unconfirmed() {
            self.progress_ms = now_ms;
        }
        self.drops_unreported = false;
        self.version_reported_to.get_or_insert(range.end);
        self.fill_gaps(range);
        if range.start >= self.cursor {
            self.cursor = self.cursor.max(range.end);
        }
        self.sent_to = self.sent_to.max(range.end);
        // Its header said so.
        self.reported_to = self.reported_to.max(self.state.next_seq);
        self.remember(Sent { range, crc, at_ms: now_ms });
    }

    /// The gateway's word: all below `through` is durable, `missing` was held and never came.
    pub fn watermark(
        &mut self,
        boot: u32,
        through: u64,
        missing: impl IntoIterator<Item = Range>,
        now_ms: u64,
    ) -> Watermark {
        if boot != self.state.boot || through < self.state.through {
            return Watermark::Stale;
        }
        self.unheard = false;
        // What was not sent since the last rewind comes by itself.
        let sendable = Range { start: through, end: self.cursor.max(through) };
        // Not compared with what was sampled: a rolled-back outbox fills up while it has no connection.
        let mut known_to = through;
        let mut gaps = Vec::new();
        for gap in missing {
            known_to = known_to.max(gap.end);
            let gap = Range { start: gap.start.max(sendable.start), end: gap.end.min(sendable.end) };
            if gap.count() > 0 && gaps.push(gap).is_err() {
                break;
            }
        }
        if known_to > self.reported_to {
            return Watermark::Implausible;
        }
        self.known = true;
        let passed = through - self.state.through;
        if passed > 0 {
            self.progress_ms = now_ms;
            self.state.through = through;
            self.forget_passed();
        }
        self.version_known |= self.version_reported_to.is_some_and(|told| told <= through);
        self.gaps = gaps;
        Watermark::Passed(passed)
    }

    /// The gateway cannot read the payload of this checksum: its samples are given up, so that it does not come back
    /// for ever. Returns whether it was one of ours.
    pub fn refused(&mut self, crc: u32) -> bool {
        let Some(index) = self.sent.iter().position(|sent| sent.crc == crc) else { return false };
        let range = self.sent.swap_remove(index).range;
        self.give_up(range, DropCause::Refused);
        true
    }

    /// Declares the oldest samples lost until at most `held_max` are owed.
    pub fn bound(&mut self, held_max: u64) -> bool {
        let mut excess = self.held().saturating_sub(held_max);
        let declared = excess > 0;
        while excess > 0 {
            let Some(run) = self.held_run(self.state.through, self.state.next_seq) else { break };
            let end = run.end.min(run.start + excess);
            self.give_up(Range { start: run.start, end }, DropCause::Full);
            excess = self.held().saturating_sub(held_max);
        }
        declared
    }

    /// Declares the samples of `range` that are still owed lost.
    pub fn give_up(&mut self, range: Range, cause: DropCause) {
        let mut from = range.start.max(self.state.through);
        while let Some(run) = self.held_run(from, range.end.min(self.state.next_seq)) {
            self.declare(Drop { seq: run.start, count: run.count(), cause });
            self.drops_unreported = true;
            from = run.end;
        }
    }

    /// Sends everything not passed again: the connection is new. The gateway may be new, too, so reports say the version again.
    pub fn rewind(&mut self, now_ms: u64) {
        (self.version_reported_to, self.version_known) = (None, false);
        self.cursor = self.state.through;
        self.gaps.clear();
        self.drops_unreported = !self.state.drops.is_empty();
        self.progress_ms = now_ms;
    }

    /// Rewinds where the watermark has not moved for [`STALL_MS`] although something was sent.
    pub fn rewind_if_stalled(&mut self, now_ms: u64) -> bool {
        let stalled = self.is_unconfirmed() && now_ms.saturating_sub(self.progress_ms) >= STALL_MS;
        if stalled {
            self.rewind(now_ms);
        }
        stalled
    }

    fn forget_passed(&mut self) {
        let through = self.state.through;
        self.cursor = self.cursor.max(through);
        self.sent.retain(|sent| sent.range.end > through);
        for drop in &mut self.state.drops {
            let end = drop.seq + drop.count;
            drop.seq = drop.seq.max(through);
            drop.count = end.saturating_sub(drop.seq);
        }
        self.state.drops.retain(|drop| drop.count > 0);
    }

    /// The first run of owed samples within `[from, end)`.
    fn held_run(&self, from: u64, end: u64) -> Option<Range> {
        let mut start = from.max(self.state.through);
        for drop in &self.state.drops {
            if drop.seq > start {
                return (start < end).then(|| Range { start, end: end.min(drop.seq) });
            }
            start = start.max(drop.seq + drop.count);
        }
        (start < end).then_some(Range { start, end })
    }

    fn held_in(&self, range: Range) -> u64 {
        let start = range.start.max(self.state.through);
        if start >= range.end {
            return 0;
        }
        let dropped = |drop: &Drop| {
            let (from, to) = (drop.seq.max(start), (drop.seq + drop.count).min(range.end));
            to.saturating_sub(from)
        };
        range.end.saturating_sub(start) - self.state.drops.iter().map(dropped).sum::<u64>()
    }

    fn due_gap(&self, now_ms: u64) -> Option<Range> {
        self.gaps.iter().find_map(|gap| {
            let run = self.held_run(gap.start, gap.end)?;
            let recent =
                |sent: &Sent| sent.range.overlaps(run) && now_ms.saturating_sub(sent.at_ms) < ON_ITS_WAY_MS;
            (!self.sent.iter().any(recent)).then_some(run)
        })
    }

    /// Gaps are filled from the front.
    fn fill_gaps(&mut self, range: Range) {
        for gap in &mut self.gaps {
            if range.start <= gap.start && gap.start < range.end {
                gap.start = range.end.min(gap.end);
            } else if gap.overlaps(range) {
                // A drop in front of the run that was sent.
                gap.start = range.end.min(gap.end);
            }
        }
        self.gaps.retain(|gap| gap.count() > 0);
    }

    fn remember(&mut self, sent: Sent) {
        if sent.range.count() == 0 {
            return;
        }
        if let Err(sent) = self.sent.push(sent) {
            let newest = self.sent.iter_mut().max_by_key(|sent| sent.range.start);
            if let Some(newest) = newest.filter(|newest| newest.range.start > sent.range.start) {
                *newest = sent;
            }
        }
    }

    /// Inserts a drop of owed samples in order, and joins it with a neighbour of the same cause.
    fn declare(&mut self, drop: Drop) {
        let drops = &mut self.state.drops;
        let at = drops.iter().position(|other| other.seq > drop.seq).unwrap_or(drops.len());
        if let Some(before) = at.checked_sub(1).and_then(|index| drops.get_mut(index))
            && before.cause == drop.cause
            && before.seq + before.count == drop.seq
        {
            before.count += drop.count;
        } else if let Some(after) = drops.get_mut(at)
            && after.cause == drop.cause
            && drop.seq + drop.count == after.seq
        {
            after.seq = drop.seq;
            after.count += drop.count;
        } else if let Err(drop) = drops.insert(at, drop) {
            self.join_oldest_drops();
            self.give_up(Range { start: drop.seq, end: drop.seq + drop.count }, drop.cause);
        }
    }

    /// Makes room for one more drop.
    fn join_oldest_drops(&mut self) {
        let drops = &mut self.state.drops;
        if let [first, second, ..] = drops.as_mut_slice() {
            second.count += second.seq - first.seq;
            second.seq = first.seq;
            second.cause = if first.cause == second.cause { first.cause } else { DropCause::Full };
            drops.remove(0);
        }
    }
}

#[cfg(test)]
mod tests;
