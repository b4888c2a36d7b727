//! One channel's values as a Rice-coded column: the form they have on the wire and in the embedded store.
//!
//! ```text
//! header   1 byte   bits 0–5: Rice parameter k; bit 6: deltas are zigzag; bit 7: the first value is negative
//! first    LEB128   magnitude of the first value
//! deltas   bits     most significant first; each delta as q = d >> k ones, a zero, and the low k bits of d,
//!                   or, where q ≥ 20, as 20 ones and the 55 bits of d
//! padding           ones up to the next byte
//! ```
//! A column ends where fewer than eight bits are left and all of them are ones: no code is that short without a
//! zero, so no count is stored. An empty column has no bytes.
//!
//! Why Rice: the hourly use of a household is close to geometric, where a Rice code is within a few percent of the
//! best possible. Varint deltas cost a whole byte for an hour without use, this costs one bit.
//!
//! Invariants: `decode(encode(v)) == v` for every |v| < 2^53; decoding never yields more than `limit` values, never
//! allocates beyond them, and accepts nothing but what some encoder could have written, up to the choice of k.

use alloc::vec::Vec;

/// Every value on the wire is smaller than this in magnitude, so that a 64-bit float holds it exactly.
pub const MAGNITUDE_END: i64 = 1 << 53;

const ESCAPE_ONES: u32 = 20;
const RAW_BITS: u32 = 55;
const K_MAX: u32 = 54;
const ZIGZAG: u8 = 1 << 6;
const NEGATIVE: u8 = 1 << 7;
const K_MASK: u8 = 0x3f;

/// Why bytes are not a column, or values cannot become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// The bytes end inside a value.
    #[error("column ends inside a value")]
    Truncated,
    /// The header names a Rice parameter that no encoder uses.
    #[error("column header is not valid")]
    Header,
    /// A value reaches 2^53 in magnitude.
    #[error("column value reaches 2^53")]
    ValueOutOfRange,
    /// More values than the caller allows.
    #[error("column holds more values than allowed")]
    TooManyValues,
    /// The output buffer is too small.
    #[error("column does not fit the buffer")]
    BufferFull,
}

/// An upper bound in bytes for the encoding of `count` values.
#[must_use]
pub const fn encoded_len_max(count: usize) -> usize {
    // Header and first value, then at most 20 + 55 bits a delta.
    10 + (count * 75).div_ceil(8)
}

/// Appends the encoding of `values` to `out`.
///
/// # Errors
/// [`ColumnError::ValueOutOfRange`]; `out` is then unchanged.
pub fn encode(values: &[i64], out: &mut Vec<u8>) -> Result<(), ColumnError> {
    let start = out.len();
    out.resize(start + encoded_len_max(values.len()), 0);
    let written = encode_into(values.iter().copied(), &mut out[start..]);
    out.truncate(start + written.unwrap_or(0));
    written.map(drop)
}

/// Writes the encoding of `values` to the front of `out` and returns its length in bytes.
///
/// # Errors
/// [`ColumnError::ValueOutOfRange`] and [`ColumnError::BufferFull`].
pub fn encode_into(
    mut values: impl Iterator<Item = i64> + Clone,
    out: &mut [u8],
) -> Result<usize, ColumnError> {
    if values.clone().any(|value| value.unsigned_abs() >= MAGNITUDE_END.unsigned_abs()) {
        return Err(ColumnError::ValueOutOfRange);
    }
    let Some(first) = values.next() else { return Ok(0) };
    let zigzag = deltas(first, values.clone()).any(|delta| delta < 0);
    let symbols = deltas(first, values).map(move |delta| symbol(delta, zigzag));
    let k = best_k(symbols.clone());

    let mut bits = BitWriter { out, len: 0, pending: 0, held: 0 };
    let sign = if first < 0 { NEGATIVE } else { 0 };
    let mode = if zigzag { ZIGZAG } else { 0 };
    // k is at most 54.
    bits.byte(k.to_le_bytes()[0] | sign | mode)?;
    let mut magnitude = first.unsigned_abs();
    while magnitude >= 0x80 {
        bits.byte(magnitude.to_le_bytes()[0] | 0x80)?;
        magnitude >>= 7;
    }
    bits.byte(magnitude.to_le_bytes()[0])?;
    for value in symbols {
        let quotient = value >> k;
        if quotient >= u64::from(ESCAPE_ONES) {
            bits.put((1 << ESCAPE_ONES) - 1, ESCAPE_ONES)?;
            bits.put(value, RAW_BITS)?;
        } else {
            let ones = quotient.to_le_bytes()[0];
            bits.put((1_u64 << (ones + 1)) - 2, u32::from(ones) + 1)?;
            bits.put(value & low_bits(k), k)?;
        }
    }
    bits.finish()
}

/// Appends the decoded values to `out` and returns their number, at most `limit`.
///
/// # Errors
/// Where `bytes` is no column; `out` may then be longer, by no more than `limit`.
pub fn decode(bytes: &[u8], out: &mut Vec<i64>, limit: usize) -> Result<usize, ColumnError> {
    let Some((&header, rest)) = bytes.split_first() else { return Ok(0) };
    if limit == 0 {
        return Err(ColumnError::TooManyValues);
    }
    let k = u32::from(header & K_MASK);
    if k > K_MAX {
        return Err(ColumnError::Header);
    }
    let most = limit.min(count_at_most(bytes));
    let (magnitude, used) = leb128(rest)?;
    let bytes = &rest[used..];
    let (short, end) = (padded(bytes), bytes.len() * 8);
    let bytes = if bytes.len() < WORD { &short } else { bytes };
    let mut bits = BitReader { bytes, position: 0, end, window: 0, valid: 0 };
    // As much room as there can be values, or are allowed.
    let start = out.len();
    out.resize(start + most, 0);
    let slots = &mut out[start..];
    let mut value = if header & NEGATIVE == 0 { magnitude } else { -magnitude };
    slots[0] = value;
    let mut count = 1;
    while let Some(symbol) = bits.symbol(k)? {
        let slot = slots.get_mut(count).ok_or(ColumnError::TooManyValues)?;
        let delta = if header & ZIGZAG == 0 { symbol.cast_signed() } else { unzigzag(symbol) };
        // A symbol stays below 2^59 and a value below 2^53, so the sum cannot overflow.
        value += delta;
        if value.unsigned_abs() >= MAGNITUDE_END.unsigned_abs() {
            return Err(ColumnError::ValueOutOfRange);
        }
        *slot = value;
        count += 1;
    }
    out.truncate(start + count);
    Ok(count)
}

/// An upper bound for the number of values in a column, from its header, its length and its ends.
#[must_use]
pub fn count_at_most(bytes: &[u8]) -> usize {
    let Some((header, rest)) = bytes.split_first() else { return 0 };
    let first = rest.iter().position(|&byte| byte < 0x80).map_or(rest.len(), |at| at + 1);
    let symbols = &rest[first..];
    let k = usize::from(header & K_MASK);
    // A symbol of one bit is a zero: behind the last of them all is padding.
    let padding = symbols.last().filter(|_| k == 0).map_or(0, |last| last.trailing_ones().min(7) as usize);
    // No symbol is shorter than k + 1 bits.
    1 + (symbols.len() * 8 - padding) / (k + 1)
}

fn deltas(first: i64, rest: impl Iterator<Item = i64> + Clone) -> impl Iterator<Item = i64> + Clone {
    rest.scan(first, |last, value| {
        let delta = value - *last;
        *last = value;
        Some(delta)
    })
}

fn symbol(delta: i64, zigzag: bool) -> u64 {
    if zigzag { ((delta << 1) ^ (delta >> 63)).cast_unsigned() } else { delta.unsigned_abs() }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

const fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

/// Starts at the mean, where a Rice code is best for geometric values, and walks down while that pays: an outlier
/// (a meter swap, a rollover) lifts the mean far above what suits the rest.
fn best_k(symbols: impl Iterator<Item = u64> + Clone) -> u32 {
    let (count, sum) =
        symbols.clone().fold((0_u64, 0_u128), |(n, sum), value| (n + 1, sum + u128::from(value)));
    if count == 0 {
        return 0;
    }
    let cost = |k: u32| -> u64 { symbols.clone().map(|value| code_bits(value, k)).sum() };
    let mut k = (sum / u128::from(count)).checked_ilog2().unwrap_or(0).min(K_MAX);
    let mut bits = cost(k);
    while k > 0 {
        let fewer = cost(k - 1);
        if fewer >= bits {
            break;
        }
        (k, bits) = (k - 1, fewer);
    }
    k
}

fn code_bits(value: u64, k: u32) -> u64 {
    let quotient = value >> k;
    if quotient >= u64::from(ESCAPE_ONES) {
        u64::from(ESCAPE_ONES + RAW_BITS)
    } else {
        quotient + 1 + u64::from(k)
    }
}

fn leb128(bytes: &[u8]) -> Result<(i64, usize), ColumnError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let signed = i64::try_from(value).map_err(|_| ColumnError::ValueOutOfRange)?;
            if signed >= MAGNITUDE_END {
                return Err(ColumnError::ValueOutOfRange);
            }
            return Ok((signed, index + 1));
        }
    }
    Err(if bytes.len() < 8 { ColumnError::Truncated } else { ColumnError::ValueOutOfRange })
}

struct BitWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    /// Bits not yet written, right-aligned; fewer than eight between calls.
    pending: u64,
    held: u32,
}

impl BitWriter<'_> {
    fn byte(&mut self, byte: u8) -> Result<(), ColumnError> {
        *self.out.get_mut(self.len).ok_or(ColumnError::BufferFull)? = byte;
        self.len += 1;
        Ok(())
    }

    /// `count` is at most 55, so that it fits beside the seven bits that may be pending.
    fn put(&mut self, value: u64, count: u32) -> Result<(), ColumnError> {
        self.pending = (self.pending << count) | value;
        self.held += count;
        while self.held >= 8 {
            self.held -= 8;
            self.byte((self.pending >> self.held).to_le_bytes()[0])?;
        }
        self.pending &= low_bits(self.held);
        Ok(())
    }

    fn finish(mut self) -> Result<usize, ColumnError> {
        if self.held > 0 {
            let room = 8 - self.held;
            self.put(low_bits(room), room)?;
        }
        Ok(self.len)
    }
}

const WORD: usize = 8;

/// The start of `bytes`, with ones behind it.
fn padded(bytes: &[u8]) -> [u8; WORD] {
    let mut word = [0xff; WORD];
    for (slot, &byte) in word.iter_mut().zip(bytes) {
        *slot = byte;
    }
    word
}

/// Handed over as a copy where symbols are long, so that it stays in registers elsewhere.
#[derive(Clone, Copy)]
struct BitReader<'a> {
    /// At least a word.
    bytes: &'a [u8],
    /// In bits, as `end`; behind that stand ones.
    position: usize,
    end: usize,
    /// The bits from `position` on, left-aligned, of which `valid` have been loaded; zeros behind them.
    window: u64,
    valid: u32,
}

impl BitReader<'_> {
    /// Loads the window: 57 bits or more.
    #[inline]
    fn load(&mut self) {
        let base = (self.position / 8).min(self.bytes.len() - WORD);
        let word = match self.bytes.get(base..base + WORD) {
            Some(&[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => u64::MAX,
        };
        // 64 at the end, less than 8 before the last word.
        let shift = u32::try_from(self.position - base * 8).unwrap_or(64);
        let ones = !u64::MAX.checked_shl(shift).unwrap_or(0);
        self.window = word.checked_shl(shift).unwrap_or(0);
        let padded = base + WORD == self.bytes.len();
        if padded {
            self.window |= ones;
        }
        // One bit fewer than there may be, so that no shift reaches the word's width.
        self.valid = if padded { 63 } else { (64 - shift).min(63) };
    }

    fn skip(&mut self, bits: u32) -> Result<(), ColumnError> {
        self.position += bits as usize;
        if self.position > self.end {
            return Err(ColumnError::Truncated);
        }
        self.window <<= bits;
        self.valid -= bits;
        Ok(())
    }

    /// Fewer than 57 bits, whatever is loaded.
    fn take(&mut self, count: u32) -> Result<u64, ColumnError> {
        self.load();
        let value = top_bits(self.window, count);
        self.skip(count)?;
        Ok(value)
    }

    /// The next symbol, below 2^59, or none where only padding is left.
    #[inline]
    fn symbol(&mut self, k: u32) -> Result<Option<u64>, ColumnError> {
        let mut ones = self.window.leading_ones();
        if ones >= ESCAPE_ONES || ones + 1 + k > self.valid {
            self.load();
            ones = self.window.leading_ones();
            if ones >= ESCAPE_ONES || ones + 1 + k > self.valid {
                let (symbol, next) = self.long_symbol(k)?;
                *self = next;
                return Ok(symbol);
            }
        }
        let symbol = u64::from(ones) << k | top_bits(self.window << (ones + 1), k);
        self.skip(ones + 1 + k)?;
        Ok(Some(symbol))
    }

    /// A symbol longer than a loaded window, an escape, or the end.
    #[inline(never)]
    fn long_symbol(mut self, k: u32) -> Result<(Option<u64>, Self), ColumnError> {
        let ones = self.window.leading_ones();
        if ones < ESCAPE_ONES {
            self.skip(ones + 1)?;
            let low = self.take(k)?;
            return Ok((Some(u64::from(ones) << k | low), self));
        }
        if self.window == u64::MAX && self.end - self.position < 8 {
            return Ok((None, self));
        }
        self.skip(ESCAPE_ONES)?;
        Ok((Some(self.take(RAW_BITS)?), self))
    }
}

/// The first `count` bits, fewer than 64, as a number.
const fn top_bits(window: u64, count: u32) -> u64 {
    window >> 1 >> (63 - count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    fn encoded(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out).unwrap();
        out
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<i64>, ColumnError> {
        let mut out = Vec::new();
        decode(bytes, &mut out, 1 << 16)?;
        Ok(out)
    }

    /// Worked out by hand from the format above.
    #[test]
    fn golden_columns() {
        assert_eq!(encoded(&[]), []);
        assert_eq!(encoded(&[5]), [0x00, 5]);
        assert_eq!(encoded(&[-5]), [0x80, 5]);
        // deltas 0, 1, 0: 0 10 0, then 1111
        assert_eq!(encoded(&[300, 300, 301, 301]), [0x00, 0xac, 0x02, 0b0100_1111]);
        // deltas 40, 40 with k = 5: 10 01000, 10 01000, then 11
        assert_eq!(encoded(&[0, 40, 80]), [0x05, 0, 0b1001_0001, 0b0010_0011]);
        // delta -1 is zigzag 1: 10, then 111111
        assert_eq!(encoded(&[7, 6]), [0x40, 7, 0b1011_1111]);
    }

    #[test]
    fn truncation_is_never_silent_beyond_the_last_byte() {
        let values: Vec<i64> = (0..200).map(|i| i * i * 37 - 900).collect();
        let bytes = encoded(&values);
        for cut in 0..bytes.len() {
            if let Ok(prefix) = decoded(&bytes[..cut]) {
                assert!(prefix.len() < values.len());
                assert_eq!(prefix, values[..prefix.len()]);
            }
        }
    }

    #[test]
    fn the_limit_bounds_what_is_decoded() {
        let bytes = encoded(&[1; 1000]);
        let mut out = Vec::new();
        assert_eq!(decode(&bytes, &mut out, 999), Err(ColumnError::TooManyValues));
        assert!(out.len() <= 999);
        assert_eq!(decode(&bytes, &mut vec![], 1000), Ok(1000));
    }

    #[test]
    fn values_from_two_to_the_53_on_are_refused() {
        for value in [MAGNITUDE_END, -MAGNITUDE_END, i64::MIN, i64::MAX] {
            assert_eq!(encode(&[value], &mut vec![]), Err(ColumnError::ValueOutOfRange));
        }
        let edge = [MAGNITUDE_END - 1, 1 - MAGNITUDE_END, MAGNITUDE_END - 1];
        assert_eq!(decoded(&encoded(&edge)), Ok(edge.to_vec()));
    }

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            -64..64_i64,
            0..100_000_i64,
            (0..53_u32, any::<bool>()).prop_map(|(shift, negative)| {
                let value = (1_i64 << shift) - 1;
                if negative { -value } else { value }
            }),
            1 - MAGNITUDE_END..MAGNITUDE_END,
        ]
    }

    proptest! {
        #[test]
        fn any_column_comes_back(values in prop::collection::vec(value(), 0..300)) {
            let bytes = encoded(&values);
            prop_assert!(bytes.len() <= encoded_len_max(values.len()));
            prop_assert_eq!(decoded(&bytes), Ok(values));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(values) = decoded(&bytes) {
                prop_assert_eq!(decoded(&encoded(&values)), Ok(values));
            }
        }
    }
}
