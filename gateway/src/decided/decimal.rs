//! Decimal text of scaled integers: exact, shortest, by integer arithmetic alone.
//!
//! A database parses the text into the 64-bit float nearest to it, which is the value's own best float; formatting a
//! float here would only add a rounding and cost more.

/// All digits of a 64-bit integer, in pairs; also at least one digit before the most decimals, which are 15.
const ROOM: usize = 20;
/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [*b"00"; 100];
    let mut number = 1;
    while number < pairs.len() {
        let [tens, ones] = pairs[number - 1];
        pairs[number] = if ones == b'9' { [tens + 1, b'0'] } else { [tens, ones + 1] };
        number += 1;
    }
    pairs
};

/// Writes `wire` × 10^-`decimals` without superfluous zeros; at most 15 decimals.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, wire: i64, decimals: u8) {
    let mut text = [b'0'; ROOM];
    let mut at = ROOM;
    let mut rest = wire.unsigned_abs();
    loop {
        at -= 2;
        // Below a hundred, so its lowest byte is all of it.
        let [pair, ..] = (rest % 100).to_le_bytes();
        text[at..at + 2].copy_from_slice(&PAIRS[usize::from(pair)]);
        rest /= 100;
        if rest == 0 {
            break;
        }
    }
    if text[at] == b'0' && at < ROOM - 1 {
        at += 1;
    }
    if wire < 0 {
        out.push(b'-');
    }
    let point = ROOM - usize::from(decimals);
    out.extend_from_slice(&text[at.min(point - 1)..point]);
    let zeros = text[point..].iter().rev().take_while(|&&digit| digit == b'0').count();
    if point < ROOM - zeros {
        out.push(b'.');
        out.extend_from_slice(&text[point..ROOM - zeros]);
    }
}

/// The same for sums, which may not fit 64 bits.
pub(crate) fn put_wide(out: &mut Vec<u8>, wire: i128, decimals: u8) {
    if let Ok(wire) = i64::try_from(wire) {
        return put(out, wire, decimals);
    }
    let mut rest = wire.unsigned_abs();
    let mut decimals = decimals;
    while decimals > 0 && rest.is_multiple_of(10) {
        rest /= 10;
        decimals -= 1;
    }
    let text = rest.to_string();
    if wire < 0 {
        out.push(b'-');
    }
    // Beyond 64 bits there are more digits than decimals.
    let (whole, fraction) = text.split_at(text.len().saturating_sub(decimals.into()));
    out.extend_from_slice(whole.as_bytes());
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

/// Decimals of a quotient beyond those of its terms.
pub(crate) const QUOTIENT_DECIMALS: u8 = 6;

/// Writes `sum` ÷ `count` × 10^-`decimals`, rounded half away from zero at [`QUOTIENT_DECIMALS`] more decimals.
/// `sum` is that of at most 2^32 values below 2^53, so that scaling it cannot overflow.
pub(crate) fn put_quotient(out: &mut Vec<u8>, sum: i128, count: u32, decimals: u8) {
    let count = i128::from(count.max(1));
    let scaled = sum.saturating_mul(10_i128.pow(QUOTIENT_DECIMALS.into()));
    let (whole, rest) = (scaled / count, scaled % count);
    let rounded = if rest.abs() * 2 >= count { whole + rest.signum() } else { whole };
    put_wide(out, rounded, decimals + QUOTIENT_DECIMALS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_are_exact_and_shortest() {
        let cases: [(i64, u8, &str); 14] = [
            (0, 0, "0"),
            (0, 9, "0"),
            (5, 1, "0.5"),
            (-5, 1, "-0.5"),
            (-5, 3, "-0.005"),
            (100, 2, "1"),
            (1200, 3, "1.2"),
            (1001, 3, "1.001"),
            (12_345, 0, "12345"),
            (-90, 0, "-90"),
            (1_234_181_000, 7, "123.4181"),
            (i64::MAX, 0, "9223372036854775807"),
            (i64::MIN, 9, "-9223372036.854775808"),
            ((1 << 53) - 1, 9, "9007199.254740991"),
        ];
        for (wire, decimals, expected) in cases {
            assert_eq!(text(|out| put(out, wire, decimals)), expected);
            assert_eq!(text(|out| put_wide(out, wire.into(), decimals)), expected);
        }
        assert_eq!(text(|out| put_wide(out, i128::from(i64::MAX) * 100, 3)), "922337203685477580.7");
        assert_eq!(text(|out| put_wide(out, -(1_i128 << 80), 0)), "-1208925819614629174706176");
    }

    #[test]
    fn quotients_round_half_away_from_zero() {
        assert_eq!(text(|out| put_quotient(out, 10, 4, 0)), "2.5");
        assert_eq!(text(|out| put_quotient(out, 1, 3, 1)), "0.0333333");
        assert_eq!(text(|out| put_quotient(out, 2, 3, 1)), "0.0666667");
        assert_eq!(text(|out| put_quotient(out, -2, 3, 1)), "-0.0666667");
        assert_eq!(text(|out| put_quotient(out, 0, 7, 9)), "0");
        let most = i128::from(u32::MAX) * ((1 << 53) - 1);
        assert_eq!(text(|out| put_quotient(out, most, u32::MAX, 0)), "9007199254740991");
    }

    proptest! {
        #[test]
        fn every_wire_value_reads_back_as_the_nearest_float(wire in -(1_i64 << 53)..(1_i64 << 53), decimals in 0_u8..=9) {
            let written = text(|out| put(out, wire, decimals));
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let nearest = wire as f64 / 10_f64.powi(decimals.into());
            prop_assert_eq!(written.parse::<f64>().unwrap(), nearest);
            prop_assert!(!written.contains('.') || !written.ends_with(['0', '.']));
            // Exact: the digits are those of the integer.
            let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
            let padded = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
            prop_assert_eq!(padded.parse::<i64>().unwrap(), wire);
        }
    }
}
