//! Decoded samples of one device: ascending in time, one per instant, one column per channel.
//!
//! Which of two samples at one instant stays is decided here and nowhere else, by a total order over (quality, seq,
//! boot, values), so that the content is a function of the set of samples offered and not of their order.

use super::{ABSENT, Conflict, Rows, WriteOutcome};
use std::{cmp::Ordering, ops::Range};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) times_ms: Vec<i64>,
    pub(super) seqs: Vec<u64>,
    pub(super) boots: Vec<u32>,
    pub(super) quality: Vec<u8>,
    /// Ascending; parallel to `columns`.
    pub(super) channels: Vec<u16>,
    pub(super) columns: Vec<Vec<i64>>,
}

/// Places a quality code: the less, the better. Agrees with the order by which a sample's quality is the worst of its
/// channels'; unknown codes come last, each in a place of its own.
pub(super) const fn rank(quality: u8) -> u16 {
    match quality {
        6 => 0,
        1 => 1,
        0 => 2,
        4 => 3,
        3 => 4,
        2 => 5,
        5 => 6,
        // Widening; `From` is not const.
        unknown => unknown as u16,
    }
}

/// Memory that a table takes beside its rows, about: a fleet of meters has a table each with a few rows in it.
pub(super) const TABLE_BYTES: usize = 512;

/// Memory that rows with this many channels take.
pub(super) const fn bytes_of(rows: usize, channels: usize) -> usize {
    rows * (8 + 8 + 4 + 1 + 8 * channels)
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.times_ms.len()
    }

    pub(super) fn bytes(&self) -> usize {
        bytes_of(self.len(), self.channels.len())
    }

    pub(super) fn first_ms(&self) -> Option<i64> {
        self.times_ms.first().copied()
    }

    pub(super) fn last_ms(&self) -> Option<i64> {
        self.times_ms.last().copied()
    }

    /// The column of a channel, made where it is missing.
    fn column(&mut self, channel: u16) -> usize {
        match self.channels.binary_search(&channel) {
            Ok(at) => at,
            Err(at) => {
                self.channels.insert(at, channel);
                self.columns.insert(at, vec![ABSENT; self.len()]);
                at
            }
        }
    }

    /// Adds rows that are ascending and later than all here.
    pub(super) fn append_rows(&mut self, rows: &Rows<'_>, range: Range<usize>) {
        let same_channels = self.channels == rows.channels;
        if !same_channels {
            for &channel in rows.channels {
                self.column(channel);
            }
        }
        self.times_ms.extend_from_slice(&rows.times_ms[range.clone()]);
        self.seqs.extend_from_slice(&rows.seqs[range.clone()]);
        self.quality.extend_from_slice(&rows.quality[range.clone()]);
        self.boots.resize(self.times_ms.len(), rows.boot);
        for (index, &channel) in rows.channels.iter().enumerate() {
            let at = if same_channels { index } else { self.column(channel) };
            self.columns[at].extend_from_slice(&rows.column(index)[range.clone()]);
        }
        self.fill_absent();
    }

    /// Adds a table that is later than this one.
    pub(super) fn append(&mut self, later: &Self) {
        for &channel in &later.channels {
            self.column(channel);
        }
        self.times_ms.extend_from_slice(&later.times_ms);
        self.seqs.extend_from_slice(&later.seqs);
        self.boots.extend_from_slice(&later.boots);
        self.quality.extend_from_slice(&later.quality);
        for (&channel, column) in later.channels.iter().zip(&later.columns) {
            let at = self.column(channel);
            self.columns[at].extend_from_slice(column);
        }
        self.fill_absent();
    }

    fn fill_absent(&mut self) {
        let rows = self.times_ms.len();
        for column in &mut self.columns {
            column.resize(rows, ABSENT);
        }
    }

    /// Cuts into as few parts of at most `rows_max` rows as will do, about equal in size.
    pub(super) fn into_parts(mut self, rows_max: usize) -> Vec<Self> {
        let parts = self.len().div_ceil(rows_max).max(1);
        let size = self.len().div_ceil(parts);
        let mut out = Vec::with_capacity(parts);
        while self.len() > size {
            let rest = self.split_off(size);
            out.push(std::mem::replace(&mut self, rest));
        }
        out.push(self);
        out
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            times_ms: self.times_ms.split_off(at),
            seqs: self.seqs.split_off(at),
            boots: self.boots.split_off(at),
            quality: self.quality.split_off(at),
            channels: self.channels.clone(),
            columns: self.columns.iter_mut().map(|column| column.split_off(at)).collect(),
        }
    }

    /// Offers one row, wherever it belongs in time.
    pub(super) fn offer(
        &mut self,
        rows: &Rows<'_>,
        row: usize,
        outcome: &mut WriteOutcome,
        conflicts: &mut Vec<Conflict>,
    ) {
        for &channel in rows.channels {
            self.column(channel);
        }
        let mut offered = Sample {
            time_ms: rows.times_ms[row],
            boot: rows.boot,
            seq: rows.seqs[row],
            quality: rows.quality[row],
            values: vec![ABSENT; self.columns.len()],
        };
        for (index, &channel) in rows.channels.iter().enumerate() {
            let at = self.column(channel);
            offered.values[at] = rows.column(index)[row];
        }
        let at = self.times_ms.partition_point(|&time_ms| time_ms < offered.time_ms);
        if self.times_ms.get(at) == Some(&offered.time_ms) {
            self.settle(at, offered, outcome, conflicts);
        } else {
            self.insert(at, &offered);
            outcome.stored += 1;
        }
    }

    fn settle(
        &mut self,
        at: usize,
        offered: Sample,
        outcome: &mut WriteOutcome,
        conflicts: &mut Vec<Conflict>,
    ) {
        let held = self.sample(at);
        let offered_wins = offered.order(&held) == Ordering::Less;
        let (same_sample, same_values) =
            ((offered.boot, offered.seq) == (held.boot, held.seq), offered.values == held.values);
        if offered_wins {
            self.replace(at, &offered);
        }
        if same_values {
            if same_sample {
                outcome.duplicates += 1;
            } else {
                outcome.same_value += 1;
            }
            return;
        }
        outcome.conflicts += 1;
        if offered_wins {
            outcome.stored += 1;
        }
        let (winner, loser) = if offered_wins { (offered, held) } else { (held, offered) };
        conflicts.push(Conflict {
            time_ms: loser.time_ms,
            boot: loser.boot,
            seq: loser.seq,
            quality: loser.quality,
            was_stored: offered_wins,
            winner_boot: winner.boot,
            winner_seq: winner.seq,
            values: (self.channels.iter().copied().zip(loser.values))
                .filter(|&(_, value)| value != ABSENT)
                .collect(),
        });
    }

    fn sample(&self, at: usize) -> Sample {
        Sample {
            time_ms: self.times_ms[at],
            boot: self.boots[at],
            seq: self.seqs[at],
            quality: self.quality[at],
            values: self.columns.iter().map(|column| column[at]).collect(),
        }
    }

    fn insert(&mut self, at: usize, sample: &Sample) {
        self.times_ms.insert(at, sample.time_ms);
        self.seqs.insert(at, sample.seq);
        self.boots.insert(at, sample.boot);
        self.quality.insert(at, sample.quality);
        for (column, &value) in self.columns.iter_mut().zip(&sample.values) {
            column.insert(at, value);
        }
    }

    fn replace(&mut self, at: usize, sample: &Sample) {
        self.seqs[at] = sample.seq;
        self.boots[at] = sample.boot;
        self.quality[at] = sample.quality;
        for (column, &value) in self.columns.iter_mut().zip(&sample.values) {
            column[at] = value;
        }
    }
}

struct Sample {
    time_ms: i64,
    boot: u32,
    seq: u64,
    quality: u8,
    /// One per column of the table it is compared in.
    values: Vec<i64>,
}

impl Sample {
    /// The lesser stays. Values decide only between two versions of one sample; the fuller one is preferred.
    fn order(&self, other: &Self) -> Ordering {
        (rank(self.quality), self.seq, self.boot)
            .cmp(&(rank(other.quality), other.seq, other.boot))
            .then_with(|| other.values.cmp(&self.values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hunhe_gateway_core::event::worse;
    use hunhe_proto::reading::Quality;

    #[test]
    fn the_rank_agrees_with_the_worst_of_qualities() {
        for (left, right) in (0..7).flat_map(|left| (0..7).map(move |right| (left, right))) {
            let (a, b) = (Quality::from_code(left).unwrap(), Quality::from_code(right).unwrap());
            assert_eq!(worse(a, b) == a, rank(left) >= rank(right), "{a:?} {b:?}");
        }
        let ranks: std::collections::BTreeSet<u16> = (0..=255).map(rank).collect();
        assert_eq!(ranks.len(), 256);
    }

    #[test]
    fn parts_are_about_equal_and_lose_nothing() {
        let table = Table {
            times_ms: (0..1025).collect(),
            seqs: (0..1025).collect(),
            boots: vec![1; 1025],
            quality: vec![1; 1025],
            channels: vec![3],
            columns: vec![(0..1025).collect()],
        };
        let parts = table.clone().into_parts(512);
        assert_eq!(parts.iter().map(Table::len).collect::<Vec<_>>(), [342, 342, 341]);
        let mut joined = Table::default();
        parts.iter().for_each(|part| joined.append(part));
        assert_eq!(joined, table);
    }
}
