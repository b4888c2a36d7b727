//! What the database has taken and might still lose. Pure: times and looks at the database in, decisions out.
//!
//! VictoriaMetrics answers 204 before the rows are on its disk. A batch that it took is therefore held here until it counts
//! as durable: the *same process* was seen alive at least the durability lag after its 204. Only then are its dead letters
//! and confirmations handed over and does the cursor pass it, so that `stored` means durable and the decided log keeps
//! what may have to be written again. A process that was never seen before means that the one before it died, with what
//! it had in memory: then everything held here is forgotten, and the sink goes back to its cursor and writes it again.
//!
//! A process is told by the second it started in and a counter of rows that rises at least by what it took from here, some
//! seconds later, since what it says of itself may be [`STALE_MS`] old; the latter shows a restart within one second. Several behind one address are each new once, and [`MISCOUNTS_MAX`] times
//! miscounted. Where a database says neither, a connection that was lost since the last look counts as its death, and a
//! restart that lost none goes unnoticed.
//!
//! A look also tells how many rows the database skipped after it had accepted them. Batches that may hold such rows are
//! *suspect*: they have to be read back before they are handed over.
//!
//! Bounds: [`CONFIRMATIONS_MAX`] confirmations, beyond which the sink writes nothing until the oldest are durable; batches
//! taken within [`MARK_MS`] are held as one; [`PROCESSES_MAX`] processes are remembered.

use std::collections::VecDeque;

use super::{DeadLetter, watch::Page};
use crate::decided::Confirmation;
use hunhe_log::cursor::Cursor;

/// Some 25 MiB.
pub(super) const CONFIRMATIONS_MAX: usize = 1 << 18;
/// Batches taken within so many milliseconds become durable together.
const MARK_MS: u64 = 250;
/// Milliseconds after which a row that is not found is not there. VictoriaMetrics shows rows after one to three seconds.
const VISIBLE_MS: u64 = 5_000;
const PROCESSES_MAX: usize = 8;
/// Groups of rows waiting to be due: some four minutes without an answer. The last one takes all that follow.
const GROUPS_MAX: usize = 1_024;
/// What the database says of itself may be so old: VictoriaMetrics answers `/metrics` from a page that it keeps for a second or
/// two.
const STALE_MS: u64 = 3_000;
/// Beyond this a counter that rises too little means that somebody else got the rows.
const MISCOUNTS_MAX: u32 = 8;

/// What a look at the database found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// No answer.
    Silent,
    /// An answer that does not tell one process from another.
    Mute,
    /// A process.
    Process(Page),
}

/// Batches that the database has taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The cursor behind them.
    pub(super) through: Cursor,
    /// What could not be written.
    pub(super) letters: Vec<DeadLetter>,
    /// What became of the samples; empty but at the sink of record.
    pub(super) confirmations: Vec<Confirmation>,
    /// Rows of it may have been skipped.
    pub(super) suspect: bool,
    /// When the database took the first and the last of them.
    taken_ms: (u64, u64),
}

impl Mark {
    pub(super) fn new(
        through: Cursor,
        letters: Vec<DeadLetter>,
        confirmations: Vec<Confirmation>,
        now_ms: u64,
    ) -> Self {
        Self { through, letters, confirmations, suspect: false, taken_ms: (now_ms, now_ms) }
    }
}

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Hand these over, in this order; may be none.
    Durable(Vec<Mark>),
    /// The database may have lost what was held here: go back to the cursor.
    Restarted,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Durability {
    lag_ms: u64,
    held: VecDeque<Mark>,
    confirmations: usize,
    /// The newest last.
    processes: VecDeque<Page>,
    lost_connections: u64,
    doubted: bool,
    /// When the database took how many rows that a look need not have counted yet.
    rows_taken: VecDeque<(u64, u64)>,
    /// Rows that the newest process must have counted beyond `counted_from`.
    rows_due: u64,
    counted_from: Option<u64>,
    miscounts: u32,
    /// When the last look that was answered was begun.
    looked_ms: u64,
    /// What was first sent before this may hold rows that are counted as skipped already.
    suspect_before_ms: u64,
    skipped: u64,
}

impl Durability {
    pub(super) fn new(lag_ms: u64) -> Self {
        Self {
            lag_ms,
            held: VecDeque::new(),
            confirmations: 0,
            processes: VecDeque::new(),
            lost_connections: 0,
            doubted: false,
            rows_taken: VecDeque::new(),
            rows_due: 0,
            counted_from: None,
            miscounts: 0,
            looked_ms: 0,
            suspect_before_ms: 0,
            skipped: 0,
        }
    }

    /// Is nothing waiting to become durable?
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Is so much held that nothing more should be written?
    pub(super) fn is_full(&self) -> bool {
        self.confirmations >= CONFIRMATIONS_MAX
    }

    /// The database took a batch of so many rows, the first attempt at which was made at `sent_ms`.
    pub(super) fn taken(&mut self, mut mark: Mark, rows: u64, sent_ms: u64) {
        let (now_ms, many) = (mark.taken_ms.1, self.rows_taken.len() >= GROUPS_MAX);
        match self.rows_taken.back_mut() {
            Some((_, count)) if many => *count += rows,
            Some((taken_ms, count)) if now_ms.saturating_sub(*taken_ms) < MARK_MS => *count += rows,
            _ => self.rows_taken.push_back((now_ms, rows)),
        }
        if let Some((taken_ms, _)) = self.rows_taken.back_mut().filter(|_| many) {
            *taken_ms = now_ms;
        }
        mark.suspect |= sent_ms < self.suspect_before_ms;
        self.confirmations += mark.confirmations.len();
        match self.held.back_mut() {
            Some(last) if mark.taken_ms.1.saturating_sub(last.taken_ms.0) < MARK_MS => {
                last.through = mark.through;
                last.letters.append(&mut mark.letters);
                last.confirmations.append(&mut mark.confirmations);
                last.suspect |= mark.suspect;
                last.taken_ms.1 = mark.taken_ms.1;
            }
            _ => self.held.push_back(mark),
        }
    }

    /// Marks that could not be handed over come back, oldest first.
    pub(super) fn put_back(&mut self, marks: Vec<Mark>) {
        self.confirmations += marks.iter().map(|mark| mark.confirmations.len()).sum::<usize>();
        marks.into_iter().rev().for_each(|mark| self.held.push_front(mark));
    }

    /// Takes a look that was begun at `asked_ms` and is answered by now; `lost_connections`: how many were lost so far.
    pub(super) fn looked(&mut self, look: &Look, lost_connections: u64, asked_ms: u64, now_ms: u64) -> Found {
        self.doubted |= lost_connections > self.lost_connections;
        self.lost_connections = lost_connections;
        let restarted = match look {
            Look::Silent => {
                self.doubted = true;
                return Found::Durable(Vec::new());
            }
            // A process that told itself apart before is gone, too.
            Look::Mute => self.doubted | !std::mem::take(&mut self.processes).is_empty(),
            Look::Process(page) => !self.recognise(page, asked_ms, now_ms),
        };
        self.looked_ms = asked_ms;
        self.doubted = false;
        if restarted && !self.held.is_empty() {
            self.held.clear();
            self.confirmations = 0;
            return Found::Restarted;
        }
        Found::Durable(self.release(asked_ms))
    }

    /// Rows skipped since this was last asked.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Whether this process was seen before; what it skipped since makes suspects.
    fn recognise(&mut self, page: &Page, asked_ms: u64, now_ms: u64) -> bool {
        // A group is due with its first row's time, so that none is expected too early it must lie back once more.
        let is_due = |(taken_ms, _): &mut (u64, u64)| *taken_ms + MARK_MS + STALE_MS < asked_ms;
        while let Some((_, rows)) = self.rows_taken.pop_front_if(is_due) {
            self.rows_due += rows;
        }
        let newest = self.processes.back().map(|newest| newest.started_ms);
        let known = self.processes.iter().position(|known| known.started_ms == page.started_ms);
        let before = known.and_then(|at| self.processes.remove(at));
        self.processes.push_back(*page);
        if self.processes.len() > PROCESSES_MAX {
            self.processes.pop_front();
        }
        // Started in the same second, and yet it counts from zero again.
        let Some(before) = before.filter(|before| before.rows_inserted <= page.rows_inserted) else {
            self.count_from(page);
            return false;
        };
        if newest != Some(page.started_ms) {
            self.count_from(page);
        }
        let counted = self.counted_from.zip(page.rows_inserted).map(|(from, now)| now.saturating_sub(from));
        if counted.is_some_and(|counted| counted < self.rows_due) && self.miscounts < MISCOUNTS_MAX {
            self.miscounts += 1;
            self.count_from(page);
            return false;
        }
        let skipped = page.rows_skipped.saturating_sub(before.rows_skipped);
        if skipped > 0 {
            self.skipped += skipped;
            // A batch that was taken before what the last look told had been counted by then.
            let since_ms = self.looked_ms.saturating_sub(STALE_MS);
            let suspects = self.held.iter_mut().rev().take_while(|mark| mark.taken_ms.1 >= since_ms);
            suspects.for_each(|mark| mark.suspect = true);
            self.suspect_before_ms = now_ms + 1;
        }
        true
    }

    fn count_from(&mut self, page: &Page) {
        self.counted_from = page.rows_inserted;
        self.rows_due = 0;
        self.rows_taken.clear();
    }

    fn release(&mut self, asked_ms: u64) -> Vec<Mark> {
        let lag_ms = self.lag_ms;
        let is_due = |mark: &Mark| {
            let wait_ms = if mark.suspect { lag_ms.max(VISIBLE_MS) } else { lag_ms };
            // Strictly: a batch taken in the millisecond of the look may have come after it.
            mark.taken_ms.1 + wait_ms < asked_ms
        };
        let due = self.held.iter().take_while(|mark| is_due(mark)).count();
        let marks: Vec<Mark> = self.held.drain(..due).collect();
        self.confirmations -= marks.iter().map(|mark| mark.confirmations.len()).sum::<usize>();
        marks
    }
}

#[cfg(test)]
#[path = "durability/tests.rs"]
mod tests;
