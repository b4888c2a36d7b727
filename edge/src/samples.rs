//! One device's held samples in memory: rows of integers by sequence number, contiguous, released from the front.

use hunhe_edge_core::outbox::Range;

/// Rows `[time in milliseconds, value, value, …]`.
#[derive(Debug, Clone)]
pub struct Samples {
    width: usize,
    first_seq: u64,
    /// Released values at the front of `rows`, reclaimed when they are the larger half.
    released: usize,
    rows: Vec<i64>,
}

impl Samples {
    /// No samples yet; the first will have `first_seq`.
    #[must_use]
    pub const fn new(channels: usize, first_seq: u64) -> Self {
        Self { width: channels + 1, first_seq, released: 0, rows: Vec::new() }
    }

    /// Appends a sample and returns its sequence number. `values` has one value per channel.
    pub fn push(&mut self, time_ms: i64, values: &[i64]) -> u64 {
        debug_assert_eq!(values.len() + 1, self.width);
        let seq = self.next_seq();
        self.rows.push(time_ms);
        self.rows.extend_from_slice(values);
        seq
    }

    /// Values of a row, the time not counted.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.width - 1
    }

    /// The oldest sample here.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// One past the newest sample here.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.first_seq + ((self.rows.len() - self.released) / self.width) as u64
    }

    /// All numbers here.
    #[must_use]
    pub fn range(&self) -> Range {
        Range { start: self.first_seq, end: self.next_seq() }
    }

    /// The rows of `range`, as far as they are here.
    pub fn rows(&self, range: Range) -> impl ExactSizeIterator<Item = &[i64]> + Clone {
        let place = |seq: u64| {
            let offset = seq.clamp(self.first_seq, self.next_seq()) - self.first_seq;
            self.released + usize::try_from(offset).unwrap_or(usize::MAX) * self.width
        };
        self.rows[place(range.start)..place(range.end.max(range.start))].chunks_exact(self.width)
    }

    /// Forgets all below `seq`.
    pub fn release_below(&mut self, seq: u64) {
        let seq = seq.clamp(self.first_seq, self.next_seq());
        self.released += usize::try_from(seq - self.first_seq).unwrap_or(usize::MAX) * self.width;
        self.first_seq = seq;
        if self.released * 2 >= self.rows.len() {
            self.rows.drain(..self.released);
            self.released = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_whatever_is_released() {
        let mut samples = Samples::new(2, 5);
        for index in 0..100 {
            assert_eq!(samples.push(index, &[index * 2, -index]), 5 + index.unsigned_abs());
            if index % 7 == 0 {
                samples.release_below(2 + index.unsigned_abs());
            }
        }
        let rows: Vec<_> = samples.rows(Range { start: 103, end: 200 }).collect();
        assert_eq!(rows, [[98, 196, -98], [99, 198, -99]]);
        samples.release_below(1000);
        assert_eq!((samples.first_seq(), samples.next_seq()), (105, 105));
    }
}
