//! How much a report holds at most, without decoding it: for whoever decides whether it may come in.
//!
//! One pass over the fields' headers. A column's symbols are not read: none is shorter than its parameter and a bit, so that its
//! bytes bound their number. What an honest encoder writes is overestimated by less than twice and three. What is decoded
//! and then refused with its report, for columns of unequal length or a fault further back, counts as a quarter: [`Size::read`].
//! Deliberately absent: any check that a value or a time is valid.

use crate::{
    column,
    decode::{DecodeError, Fields, Value},
    reading::{SAMPLES_MAX, VALUES_MAX},
};

/// A value that is decoded costs so much less than one that is judged as well.
const DECODED_A_VALUE: usize = 4;

/// What a report can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Samples, at most [`SAMPLES_MAX`].
    pub samples: usize,
    /// Values, absent ones included, at most [`VALUES_MAX`].
    pub values: usize,
}

impl Size {
    /// Bounds what a report holds: [`crate::decode::decode`] gives no more, or refuses it.
    ///
    /// # Errors
    /// Where its outermost fields are no report's.
    pub fn at_most(payload: &[u8]) -> Result<Self, DecodeError> {
        match Self::read(payload) {
            (size, None) => Ok(size),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// The same, and where the payload is no report what stands before its fault. [`crate::decode::decode`] reads no more than four
    /// times as many values before it refuses a report.
    #[must_use]
    pub fn read(payload: &[u8]) -> (Self, Option<DecodeError>) {
        let mut size = Self::default();
        let outcome = size.add_fields(&mut Fields::new(payload, 0..payload.len()));
        (size, outcome.err())
    }

    fn add_fields(&mut self, fields: &mut Fields<'_>) -> Result<(), DecodeError> {
        while let Some((field, value)) = fields.next()? {
            if field == 10 {
                let bytes = fields.bytes_of(&value, field)?;
                match block(&mut fields.inside(&value, field)?) {
                    Ok(Block { samples, columns, decoded }) => {
                        let judged = samples.saturating_mul(columns);
                        self.add(samples, judged.max(decoded.div_ceil(DECODED_A_VALUE)));
                    }
                    Err(fault) => {
                        // Before its fault there may be anything: a value takes a bit at least.
                        let decoded = bytes.len().saturating_mul(8);
                        self.add(decoded.min(SAMPLES_MAX), decoded.div_ceil(DECODED_A_VALUE));
                        return Err(fault);
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, samples: usize, values: usize) {
        self.samples = SAMPLES_MAX.min(self.samples + samples);
        self.values = VALUES_MAX.min(self.values.saturating_add(values));
    }
}

/// What a block has at most.
struct Block {
    samples: usize,
    columns: usize,
    /// The values of all columns, each by its own length.
    decoded: usize,
}

fn block(fields: &mut Fields<'_>) -> Result<Block, DecodeError> {
    let (mut distances, mut columns, mut decoded, mut named) = (0, 0, 0_usize, None);
    let mut dense: Option<usize> = None;
    while let Some((field, value)) = fields.next()? {
        let column = match field {
            3 => {
                distances += match &value {
                    Value::Varint(_) => 1,
                    packed => fields.bytes_of(packed, field)?.iter().filter(|byte| **byte < 0x80).count(),
                };
                None
            }
            4 => {
                let values = column::count_at_most(fields.bytes_of(&value, field)?);
                decoded += values.min(SAMPLES_MAX);
                Some(values)
            }
            5 => {
                columns += 1;
                let (values, sparse) = column_values(&mut fields.inside(&value, field)?)?;
                decoded += values.min(SAMPLES_MAX);
                (!sparse).then_some(values)
            }
            6 => {
                named = Some(value.uint32(field)? as usize);
                None
            }
            _ => None,
        };
        columns += usize::from(field == 4);
        // All of them are equally long.
        dense = column.into_iter().chain(dense).min();
    }
    let samples = if distances > 0 { Some(distances + 1) } else { dense.or(named) };
    Ok(Block { samples: samples.unwrap_or(0).min(SAMPLES_MAX), columns, decoded })
}

/// The values of a column, at most, and whether it has a bitmap.
fn column_values(fields: &mut Fields<'_>) -> Result<(usize, bool), DecodeError> {
    let (mut values, mut sparse) = (0, false);
    while let Some((field, value)) = fields.next()? {
        match field {
            2 => values = column::count_at_most(fields.bytes_of(&value, field)?),
            3 => sparse = !fields.bytes_of(&value, field)?.is_empty(),
            _ => {}
        }
    }
    Ok((values, sparse))
}
