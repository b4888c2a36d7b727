//! How much a report holds at most, without decoding it: for whoever decides whether it may come in.
//!
//! One pass over the fields' headers. A column's symbols are not read: none is shorter than its parameter and a bit, so that its
//! bytes bound their number. What an honest encoder writes is overestimated by less than twice and three.
//! Deliberately absent: any check that a value or a time is valid.

use crate::{
    column,
    decode::{DecodeError, Fields, Value},
    reading::{SAMPLES_MAX, VALUES_MAX},
};

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
        let mut fields = Fields::new(payload, 0..payload.len());
        let mut size = Self::default();
        while let Some((field, value)) = fields.next()? {
            if field == 10 {
                let (samples, columns) = block(&mut fields.inside(&value, field)?)?;
                size.samples = SAMPLES_MAX.min(size.samples + samples);
                size.values = VALUES_MAX.min(size.values + samples.saturating_mul(columns));
            }
        }
        Ok(size)
    }
}

/// A block's samples at most, and its columns.
fn block(fields: &mut Fields<'_>) -> Result<(usize, usize), DecodeError> {
    let (mut distances, mut columns, mut named) = (0, 0, None);
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
            4 => Some(column::count_at_most(fields.bytes_of(&value, field)?)),
            5 => {
                columns += 1;
                dense_column(&mut fields.inside(&value, field)?)?
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
    Ok((samples.unwrap_or(0).min(SAMPLES_MAX), columns))
}

/// The values of a column without a bitmap, at most.
fn dense_column(fields: &mut Fields<'_>) -> Result<Option<usize>, DecodeError> {
    let (mut values, mut sparse) = (0, false);
    while let Some((field, value)) = fields.next()? {
        match field {
            2 => values = column::count_at_most(fields.bytes_of(&value, field)?),
            3 => sparse = !fields.bytes_of(&value, field)?.is_empty(),
            _ => {}
        }
    }
    Ok((!sparse).then_some(values))
}
