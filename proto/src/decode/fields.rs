//! The fields of a protobuf message, one after another, without memory of their own.
//!
//! Invariant: nothing outside the message's bytes is read, and every length is checked before it is used.

use super::DecodeError;
use core::ops::Range;

/// A field's value.
pub(crate) enum Value {
    Varint(u64),
    Fixed64,
    Bytes(Range<usize>),
    Fixed32(u32),
}

impl Value {
    pub(super) fn varint(&self, field: u32) -> Result<u64, DecodeError> {
        if let Self::Varint(value) = self { Ok(*value) } else { Err(DecodeError::WireType(field)) }
    }

    pub(crate) fn uint32(&self, field: u32) -> Result<u32, DecodeError> {
        u32::try_from(self.varint(field)?).map_err(|_| DecodeError::FieldRange(field))
    }

    pub(super) fn sint64(&self, field: u32) -> Result<i64, DecodeError> {
        let value = self.varint(field)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn sint32(&self, field: u32) -> Result<i32, DecodeError> {
        i32::try_from(self.sint64(field)?).map_err(|_| DecodeError::FieldRange(field))
    }

    pub(super) fn fixed32(&self, field: u32) -> Result<u32, DecodeError> {
        if let Self::Fixed32(value) = self { Ok(*value) } else { Err(DecodeError::WireType(field)) }
    }

    pub(super) fn range(&self, field: u32) -> Result<Range<usize>, DecodeError> {
        if let Self::Bytes(range) = self { Ok(range.clone()) } else { Err(DecodeError::WireType(field)) }
    }
}

/// The fields of one message, which lies at `at..end` of the payload. Ranges are the payload's.
pub(crate) struct Fields<'a> {
    /// The payload up to the message's end.
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes: bytes.get(..range.end).unwrap_or(bytes), at: range.start }
    }

    pub(crate) fn inside(&self, value: &Value, field: u32) -> Result<Self, DecodeError> {
        Ok(Self::new(self.bytes, value.range(field)?))
    }

    pub(crate) fn bytes_of(&self, value: &Value, field: u32) -> Result<&'a [u8], DecodeError> {
        self.bytes.get(value.range(field)?).ok_or(DecodeError::Truncated)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value)>, DecodeError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| DecodeError::NotProtobuf)?;
        if key >> 3 == 0 {
            return Err(DecodeError::NotProtobuf);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let range = self.take(4)?;
                let bytes = self.bytes[range].try_into().map_err(|_| DecodeError::Truncated)?;
                Value::Fixed32(u32::from_le_bytes(bytes))
            }
            _ => return Err(DecodeError::NotProtobuf),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, DecodeError> {
        if length > self.bytes.len() - self.at {
            return Err(DecodeError::Truncated);
        }
        let range = self.at..self.at + length;
        self.at = range.end;
        Ok(range)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (index, &byte) in self.bytes[self.at..].iter().enumerate().take(10) {
            if index == 9 && byte > 1 {
                return Err(DecodeError::NotProtobuf);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(if self.bytes.len() - self.at < 10 { DecodeError::Truncated } else { DecodeError::NotProtobuf })
    }

    /// A repeated integer field, packed or not: a reader must take both.
    pub(super) fn numbers(
        &self,
        value: &Value,
        field: u32,
        mut each: impl FnMut(u64) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if let Value::Varint(number) = value {
            return each(*number);
        }
        let mut packed = self.inside(value, field)?;
        while packed.at < packed.bytes.len() {
            each(packed.varint()?)?;
        }
        Ok(())
    }
}
