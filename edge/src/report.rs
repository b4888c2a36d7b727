//! Stored samples to the bytes of a report, at the moment it is sent, in buffers that are reused.

use crate::samples::Samples;
use hunhe_edge_core::outbox::Range;
use hunhe_proto::{
    class::Class,
    encode::{BlockDraft, ColumnDraft, Draft, EncodeError, encode},
    reading::{ABSENT, BLOCKS_MAX, Drop, Header, REPORT_BYTES_MAX},
};

/// Encodes reports; keeps its memory.
#[derive(Debug, Default)]
pub struct Writer {
    times: Vec<i64>,
    columns: Vec<i64>,
    dt: Vec<u32>,
    out: Vec<u8>,
}

/// One block's place among the report's samples.
struct Span {
    start: usize,
    end: usize,
    step: u32,
    irregular: bool,
}

impl Writer {
    /// Encodes as many samples of `range` as fit the class's report, at least one, and returns how many, with the
    /// payload. `header_of` gives the counters for the range that is sent.
    ///
    /// # Errors
    /// [`EncodeError`] where not even one sample fits, or a value reaches 2^53.
    pub fn encode(
        &mut self,
        class: &Class,
        samples: &Samples,
        range: Range,
        drops: &[Drop],
        header_of: impl Fn(Range) -> Header,
    ) -> Result<(Range, &[u8]), EncodeError> {
        let bytes_max = match class.report.bytes_max as usize {
            0 => REPORT_BYTES_MAX,
            bytes => bytes.min(REPORT_BYTES_MAX),
        };
        self.out.resize(REPORT_BYTES_MAX, 0);
        let mut range = range;
        loop {
            let header = header_of(range);
            match self.write(class, samples, range, drops, header, bytes_max) {
                Err(EncodeError::BufferFull) if range.count() > 1 => {
                    range.end = range.start + range.count() / 2;
                }
                Ok(len) => return Ok((range, self.out.get(..len).unwrap_or_default())),
                Err(error) => return Err(error),
            }
        }
    }

    fn write(
        &mut self,
        class: &Class,
        samples: &Samples,
        range: Range,
        drops: &[Drop],
        header: Header,
        bytes_max: usize,
    ) -> Result<usize, EncodeError> {
        self.gather(class, samples, range);
        let spans = self.spans(class);
        if spans.len() > BLOCKS_MAX {
            return Err(EncodeError::BufferFull);
        }
        let (count, unit_ms) = (self.times.len(), i64::from(class.time_unit_ms.max(1)));
        let mut columns = Vec::with_capacity(spans.len() * class.channels.len());
        let mut ends = Vec::with_capacity(spans.len());
        for span in &spans {
            for (index, channel) in class.channels.iter().enumerate() {
                let values = &self.columns[index * count..][span.start..span.end];
                if values.iter().any(|&value| value != ABSENT) {
                    columns.push(ColumnDraft { channel: channel.number, values, quality: &[] });
                }
            }
            ends.push(columns.len());
        }
        let mut first_column = 0;
        let blocks: Vec<BlockDraft<'_>> = spans
            .iter()
            .zip(ends)
            .map(|(span, end)| BlockDraft {
                t0: self.times[span.start].div_euclid(unit_ms),
                step: if span.irregular { 0 } else { span.step },
                dt: if span.irregular { &self.dt[span.start + 1..span.end] } else { &[] },
                samples: u32::try_from(span.end - span.start).unwrap_or(u32::MAX),
                columns: &columns[core::mem::replace(&mut first_column, end)..end],
            })
            .collect();
        encode(&Draft { header, drops, blocks: &blocks }, &mut self.out[..bytes_max])
    }

    /// Times, and one dense array per channel.
    fn gather(&mut self, class: &Class, samples: &Samples, range: Range) {
        self.times.clear();
        self.columns.clear();
        let rows = samples.rows(range);
        self.times.extend(rows.clone().filter_map(|row| row.first().copied()));
        for index in 1..=class.channels.len() {
            self.columns.extend(rows.clone().map(|row| row.get(index).copied().unwrap_or(ABSENT)));
        }
    }

    /// A new block where the clock stepped back; within a block one step where all are alike, else each its own.
    fn spans(&mut self, class: &Class) -> Vec<Span> {
        let unit_ms = i64::from(class.time_unit_ms.max(1));
        self.dt.clear();
        self.dt.push(0);
        let mut spans: Vec<Span> = Vec::with_capacity(1);
        for index in 0..self.times.len() {
            let ticks = index.checked_sub(1).and_then(|before| {
                let ticks = self.times[index].div_euclid(unit_ms) - self.times[before].div_euclid(unit_ms);
                u32::try_from(ticks).ok().filter(|&ticks| ticks > 0)
            });
            if index > 0 {
                self.dt.push(ticks.unwrap_or(0));
            }
            match (spans.last_mut(), ticks) {
                (Some(span), Some(ticks)) => {
                    if span.end - span.start == 1 {
                        span.step = ticks;
                    }
                    span.irregular |= span.step != ticks;
                    span.end = index + 1;
                }
                _ => spans.push(Span { start: index, end: index + 1, step: 0, irregular: false }),
            }
        }
        for span in &mut spans {
            if span.step == class.interval {
                span.step = 0;
            }
        }
        spans
    }
}
