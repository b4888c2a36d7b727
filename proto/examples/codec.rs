//! What the wire costs: nanoseconds per reading to write and to read a gas meter's day of 24 registers.
//!
//! Prints one JSON line. Each figure is the least of many rounds: what disturbs a round only ever adds.

use hunhe_proto::{
    decode::decode,
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    reading::{Header, Report, TimeAxis},
};
use std::{error::Error, hint::black_box, time::Instant};

const READINGS: usize = 24;
const METERS: u64 = 1000;
const ROUNDS: usize = 200;
const AXIS: TimeAxis = TimeAxis { unit_ms: 3_600_000, interval: 1 };

/// A meter's registers in litres: no use in half of the hours, up to 255 litres in the others.
fn registers(meter: u64) -> [i64; READINGS] {
    let mut state = meter.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut register = i64::from(u32::try_from(meter * 7919 % 9_000_000).unwrap_or(0));
    [(); READINGS].map(|()| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [odd, litres, ..] = state.to_le_bytes();
        register += if odd % 2 == 0 { 0 } else { i64::from(litres) };
        register
    })
}

fn write(meter: u64, values: &[i64], out: &mut [u8]) -> Result<usize, Box<dyn Error>> {
    let columns = [ColumnDraft { channel: 1, values, quality: &[] }];
    let samples = u32::try_from(values.len())?;
    let blocks = [BlockDraft { t0: 473_352, step: 0, dt: &[], samples, columns: &columns }];
    let header = Header { boot: 0x1234_5678, seq: meter * 24, sent_after_s: Some(3600), ..Header::default() };
    Ok(encode(&Draft { header, drops: &[], blocks: &blocks }, out)?)
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a round are far below 2^53")]
fn least_ns_per_reading(
    mut round: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut least = u128::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round()?;
        least = least.min(start.elapsed().as_nanos());
    }
    Ok(least as f64 / (METERS as f64 * READINGS as f64))
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a thousand reports are far below 2^53")]
fn main() -> Result<(), Box<dyn Error>> {
    let days: Vec<_> = (0..METERS).map(registers).collect();
    let mut out = [0; 512];
    let mut payloads = Vec::new();
    for (meter, values) in (0..).zip(&days) {
        let length = write(meter, values, &mut out)?;
        payloads.push(out[..length].to_vec());
    }
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    let encode_ns = least_ns_per_reading(|| {
        (0..).zip(&days).try_for_each(|(meter, values)| {
            black_box(write(meter, black_box(values), &mut out)?);
            Ok(())
        })
    })?;
    let mut report = Report::default();
    let decode_ns = least_ns_per_reading(|| {
        for payload in &payloads {
            decode(black_box(payload), AXIS, &mut report)?;
            black_box(&report);
        }
        Ok(())
    })?;
    println!(
        "{{\"codec_encode_ns_per_reading\":{encode_ns:.2},\"codec_decode_ns_per_reading\":{decode_ns:.2},\"codec_bytes_per_reading\":{:.2}}}",
        bytes as f64 / (METERS as f64 * READINGS as f64),
    );
    Ok(())
}
