//! Integers as decided records hold them: variable in length one by one, as columns where there are many.
//!
//! ```text
//! varint     LEB128 of a u64 · signed: the same, zigzag
//! numbers    code varint, then
//!            0    they are all equal: the one, signed
//!            1    they are as they stand, i64 each
//!            2    some are absent: a bitmap, one bit each, least significant first, then numbers of the others
//!            3    as a column before, where whoever reads knows which
//!            n    a column (`hunhe_proto::column`) of n − 2 bytes
//! ```
//! Their count stands elsewhere, and whoever reads bounds it first: a few bytes may stand for many numbers.

use hunhe_proto::{column, reading::ABSENT};

const EQUAL: u64 = 0;
const PLAIN: u64 = 1;
const SPARSE: u64 = 2;
/// See above; as the byte that it is.
pub(super) const SAME: u8 = 3;

/// At most 255 bytes: ids and reasons are far shorter.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// At least one number.
pub(super) fn put_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    let first = numbers.first().copied().unwrap_or(0);
    if numbers.iter().all(|&number| number == first) {
        put_varint(out, EQUAL);
        return put_signed(out, first);
    }
    let absent = numbers.iter().filter(|&&number| number == ABSENT).count();
    if absent == 0 {
        return put_present(out, numbers);
    }
    put_varint(out, SPARSE);
    for rows in numbers.chunks(8) {
        out.push(rows.iter().rev().fold(0, |bits, &number| bits << 1 | u8::from(number != ABSENT)));
    }
    let present: Vec<i64> = numbers.iter().copied().filter(|&number| number != ABSENT).collect();
    put_numbers(out, &present);
}

fn put_present(out: &mut Vec<u8>, numbers: &[i64]) {
    let code_at = out.len();
    // Nearly every column is shorter than 2^14 bytes.
    out.extend_from_slice(&[0; 2]);
    let from = out.len();
    if column::encode(numbers, out).is_err() {
        out.truncate(code_at);
        put_varint(out, PLAIN);
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        return;
    }
    let code = (out.len() - from + 2) as u64;
    match code {
        0..0x80 => {
            out[code_at] = code.to_le_bytes()[0];
            out.copy_within(from.., from - 1);
            out.pop();
        }
        0x80..0x4000 => {
            out[code_at] = code.to_le_bytes()[0] | 0x80;
            out[code_at + 1] = (code >> 7).to_le_bytes()[0];
        }
        _ => {
            let column = out.split_off(from);
            out.truncate(code_at);
            put_varint(out, code);
            out.extend_from_slice(&column);
        }
    }
}

/// The greatest number that divides both; 0 of two zeros.
pub(super) fn gcd(left: i64, right: i64) -> i64 {
    let (mut left, mut right) = (left.unsigned_abs(), right.unsigned_abs());
    while right > 0 {
        (left, right) = (right, left % right);
    }
    // Only 2^63 does not fit, and no time is that far from another.
    i64::try_from(left).unwrap_or(1)
}

/// What is left of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn redrive(&mut self) -> Option<Option<u64>> {
        if self.u8()? == 0 { Some(None) } else { self.u64().map(Some) }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        core::str::from_utf8(self.take(length.into())?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn varint32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    /// A count from 1 to `most`.
    pub(super) fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|count| (1..=most).contains(count))
    }

    /// Appends so many numbers, a count that the caller has bounded.
    pub(super) fn numbers(&mut self, count: usize, out: &mut Vec<i64>) -> Option<()> {
        let from = out.len();
        let code = self.varint()?;
        if code != SPARSE {
            return self.present(code, count, out);
        }
        let bitmap = self.take(count.div_ceil(8))?;
        let has = |row: usize| bitmap[row / 8] >> (row % 8) & 1 == 1;
        let mut next = (0..count).filter(|&row| has(row)).count();
        let code = self.varint()?;
        self.present(code, next, out)?;
        out.resize(from + count, ABSENT);
        // From the last on, so that none is overwritten unread.
        for row in (0..count).rev() {
            out[from + row] = if has(row) {
                next -= 1;
                out[from + next]
            } else {
                ABSENT
            };
        }
        Some(())
    }

    fn present(&mut self, code: u64, count: usize, out: &mut Vec<i64>) -> Option<()> {
        match code {
            EQUAL => out.resize(out.len() + count, self.signed()?),
            PLAIN => {
                let bytes = self.take(count.checked_mul(8)?)?;
                out.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)));
            }
            SPARSE | 3 => return None,
            code => {
                let bytes = self.take(usize::try_from(code.checked_sub(2)?).ok()?)?;
                column::decode(bytes, out, count).ok().filter(|&decoded| decoded == count)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![8 => -300..300_i64, 2 => Just(ABSENT), 2 => Just(0), 1 => 1 - (1_i64 << 53)..1 << 53]
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            numbers in prop_oneof![
                prop::collection::vec(number(), 1..300),
                prop::collection::vec(any::<i64>(), 1..40),
                (number(), 1..300_usize).prop_map(|(number, count)| vec![number; count]),
            ],
            behind in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = Vec::new();
            put_numbers(&mut bytes, &numbers);
            bytes.extend_from_slice(&behind);
            let (mut fields, mut read) = (Fields(&bytes), vec![7]);
            prop_assert_eq!(fields.numbers(numbers.len(), &mut read), Some(()));
            prop_assert_eq!(&read[1..], &numbers);
            prop_assert_eq!(fields.0, behind);
        }

        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, signed);
            let mut fields = Fields(&bytes);
            prop_assert_eq!((fields.varint(), fields.signed()), (Some(value), Some(signed)));
            prop_assert!(fields.0.is_empty());
        }
    }
}
