//! Every limit of the contract holds at its last allowed step, is refused one beyond, and is enforced before memory
//! is taken: hostile bytes never make the reader allocate more than [`ALLOCATED_MAX`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test may fail loudly, and its numbers are its own"
)]

mod model;

use hunhe_proto::{
    column::{self, ColumnError},
    decode::{DecodeError, decode},
    reading::{
        ABSENT, BLOCKS_MAX, COLUMNS_MAX, DROPS_MAX, REPORT_BYTES_MAX, Report, SAMPLES_MAX, SEQ_END, TimeAxis,
        VALUES_MAX,
    },
};
use model::check_invariants;
use proptest::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one report may make a fresh reader allocate: the final sizes of its arrays (512 KiB of values, 32 KiB of
/// times, 64 KiB of qualities, some 400 KiB of column spans), up to twice that because they grow by doubling.
const ALLOCATED_MAX: usize = 2 * 1024 * 1024;

const AXIS: TimeAxis = TimeAxis { unit_ms: 1000, interval: 60 };

/// Decodes into a fresh report. The allocator counts for all threads, so that other tests can only raise a count: the
/// least of a few is the reader's own, or still too much.
fn outcome(bytes: &[u8]) -> Result<Report, DecodeError> {
    let mut least = usize::MAX;
    for _ in 0..1000 {
        let mut report = Report::default();
        let region = Region::new(ALLOCATOR);
        let result = decode(bytes, AXIS, &mut report);
        // Growth counts as well as first allocations.
        least = least.min(region.change().bytes_allocated);
        if least <= ALLOCATED_MAX {
            result?;
            check_invariants(&report);
            return Ok(report);
        }
    }
    panic!("{} bytes made the reader allocate {least}", bytes.len());
}

fn error(bytes: &[u8]) -> Option<DecodeError> {
    outcome(bytes).err()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn nested(field: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [varint(field << 3 | 2), varint(body.len() as u64), body].concat()
}

fn deltas(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    column::encode(values, &mut out).unwrap();
    out
}

fn channel(channel: u64, values: &[i64]) -> Vec<u8> {
    nested(5, &[&number(1, channel), &nested(2, &[&deltas(values)])])
}

fn block(parts: &[&[u8]]) -> Vec<u8> {
    nested(10, parts)
}

#[test]
fn a_report_has_at_most_64_kib() {
    let filled = |bytes: usize| {
        let field = nested(100, &[&vec![0; bytes - 5]]);
        assert_eq!(field.len(), bytes - 5 + varint(100 << 3 | 2).len() + varint(bytes as u64 - 5).len());
        field
    };
    let full = filled(REPORT_BYTES_MAX);
    assert_eq!(full.len(), REPORT_BYTES_MAX);
    assert_eq!(error(&full), None);
    assert_eq!(error(&[&full[..], &[0]].concat()), Some(DecodeError::Oversize));
}

#[test]
fn a_report_has_at_most_4096_samples() {
    let column = |count: usize| block(&[&channel(1, &vec![7; count])]);
    assert_eq!(outcome(&column(SAMPLES_MAX)).unwrap().samples(), SAMPLES_MAX);
    assert_eq!(error(&column(SAMPLES_MAX + 1)), Some(DecodeError::TooManySamples));
    let two = [column(SAMPLES_MAX - 1), column(1)].concat();
    assert_eq!(outcome(&two).unwrap().samples(), SAMPLES_MAX);
    assert_eq!(error(&[two, column(1)].concat()), Some(DecodeError::TooManySamples));

    let principal = |count: usize| block(&[&nested(4, &[&deltas(&vec![7; count])])]);
    assert_eq!(outcome(&principal(SAMPLES_MAX)).unwrap().samples(), SAMPLES_MAX);
    assert_eq!(error(&principal(SAMPLES_MAX + 1)), Some(DecodeError::TooManySamples));

    let irregular = |count: usize| block(&[&nested(3, &[&vec![1; count - 1]])]);
    assert_eq!(outcome(&irregular(SAMPLES_MAX)).unwrap().samples(), SAMPLES_MAX);
    assert_eq!(error(&irregular(SAMPLES_MAX + 1)), Some(DecodeError::TooManySamples));
    let unpacked = block(&[&number(3, 1).repeat(SAMPLES_MAX)]);
    assert_eq!(error(&unpacked), Some(DecodeError::TooManySamples));

    let said = |count: u64| block(&[&number(6, count)]);
    assert_eq!(outcome(&said(SAMPLES_MAX as u64)).unwrap().samples(), SAMPLES_MAX);
    assert_eq!(error(&said(SAMPLES_MAX as u64 + 1)), Some(DecodeError::TooManySamples));
    assert_eq!(error(&said(u64::from(u32::MAX))), Some(DecodeError::TooManySamples));
    assert_eq!(error(&said(1 << 32)), Some(DecodeError::FieldRange(6)));
    assert_eq!(error(&said(0)), Some(DecodeError::EmptyBlock));
}

#[test]
fn a_block_has_at_most_64_columns() {
    let columns = |count: u64| block(&[&(0..count).flat_map(|at| channel(at, &[1])).collect::<Vec<_>>()]);
    assert_eq!(outcome(&columns(COLUMNS_MAX as u64)).unwrap().columns.len(), COLUMNS_MAX);
    assert_eq!(error(&columns(COLUMNS_MAX as u64 + 1)), Some(DecodeError::TooManyColumns));
    let principal = nested(4, &[&deltas(&[1])]);
    let others = |count: u64| (2..2 + count).flat_map(|at| channel(at, &[1])).collect::<Vec<_>>();
    assert_eq!(error(&block(&[&principal, &others(63)])), None);
    assert_eq!(error(&block(&[&principal, &others(64)])), Some(DecodeError::TooManyColumns));
    assert_eq!(error(&block(&[&others(64), &principal])), Some(DecodeError::TooManyColumns));
}

#[test]
fn a_report_has_at_most_65536_values_whether_dense_or_sparse() {
    let columns = VALUES_MAX / SAMPLES_MAX;
    assert!(columns <= COLUMNS_MAX);
    let mut sparse = vec![9; SAMPLES_MAX];
    sparse[0] = ABSENT;
    let bitmap = [&[0xfe][..], &vec![0xff; SAMPLES_MAX / 8 - 1]].concat();
    let with_bitmap =
        |at: u64| nested(5, &[&number(1, at), &nested(2, &[&deltas(&sparse[1..])]), &nested(3, &[&bitmap])]);
    let dense = |at: u64| channel(at, &vec![9; SAMPLES_MAX]);
    for sparse_columns in [0, 1, columns - 1] {
        let body: Vec<u8> = (0..columns as u64)
            .flat_map(|at| if at < sparse_columns as u64 { with_bitmap(at) } else { dense(at) })
            .collect();
        let report = outcome(&block(&[&body])).unwrap();
        assert_eq!(report.values.len(), VALUES_MAX, "{sparse_columns} columns with a bitmap");
        assert!(report.columns[..sparse_columns].iter().all(|column| report.values_of(column) == sparse));
        for beyond in [channel(60, &vec![1; SAMPLES_MAX]), with_bitmap(61)] {
            assert_eq!(error(&block(&[&body, &beyond])), Some(DecodeError::TooManyValues));
        }
    }
    // All sparse: then the block itself says how many samples it has.
    let body: Vec<u8> = (0..columns as u64).flat_map(with_bitmap).collect();
    let all = block(&[&body, &number(6, SAMPLES_MAX as u64)]);
    assert_eq!(outcome(&all).unwrap().values.len(), VALUES_MAX);
}

#[test]
fn a_report_has_at_most_256_blocks_and_64_drops() {
    let one = block(&[&channel(1, &[1])]);
    assert_eq!(outcome(&one.repeat(BLOCKS_MAX)).unwrap().blocks.len(), BLOCKS_MAX);
    assert_eq!(error(&one.repeat(BLOCKS_MAX + 1)), Some(DecodeError::TooManyBlocks));
    let drop = nested(5, &[&number(1, 3), &number(2, 1)]);
    assert_eq!(outcome(&drop.repeat(DROPS_MAX)).unwrap().drops.len(), DROPS_MAX);
    assert_eq!(error(&drop.repeat(DROPS_MAX + 1)), Some(DecodeError::TooManyDrops));
}

#[test]
fn values_stay_below_two_to_the_53() {
    let edge = (1_i64 << 53) - 1;
    let report = outcome(&block(&[&channel(1, &[edge, -edge, edge])])).unwrap();
    assert_eq!(report.values, [edge, -edge, edge]);
    let refused = |bytes: &[u8]| {
        let column = nested(5, &[&nested(2, &[bytes])]);
        assert_eq!(error(&block(&[&column])), Some(DecodeError::Column(ColumnError::ValueOutOfRange)));
    };
    // First values 2^53 and -2^53, then 2^53 - 1 and one more.
    refused(&[0x00, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
    refused(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
    refused(&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0b1011_1111]);
    // The largest delta that the escape can hold.
    refused(&[&[0x00, 0x00][..], &[0xff; 9], &[0b1110_0000]].concat());
}

#[test]
fn sequence_numbers_and_drops_stay_below_two_to_the_53() {
    let last = SEQ_END - SAMPLES_MAX as u64;
    assert_eq!(error(&number(3, 1)), Some(DecodeError::SeqRange), "held from before the first sample");
    for field in [2, 4, 12] {
        assert_eq!(error(&number(field, last)), None, "field {field}");
        for beyond in [last + 1, SEQ_END, u64::MAX] {
            assert_eq!(error(&number(field, beyond)), Some(DecodeError::SeqRange), "field {field}");
        }
    }
    let drop = |seq, count| nested(5, &[&number(1, seq), &number(2, count)]);
    assert_eq!(error(&drop(0, SEQ_END)), None);
    for (seq, count) in [(1, SEQ_END), (5, 0), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
        assert_eq!(error(&drop(seq, count)), Some(DecodeError::SeqRange));
    }
}

#[test]
fn times_stay_within_two_to_the_53_ms_and_increase() {
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)) as u64;
    let edge_s = SEQ_END as i64 / 1000;
    let at = |t0: i64, more: &[u8]| block(&[&number(1, zigzag(t0)), &channel(1, &[1, 1]), more]);
    assert_eq!(error(&at(edge_s - 60, &[])), None);
    assert_eq!(error(&at(-edge_s, &[])), None);
    for (t0, more) in [
        (edge_s - 59, vec![]),
        (-edge_s - 1, vec![]),
        (i64::MAX, vec![]),
        (i64::MIN, vec![]),
        (edge_s - 60, number(2, 61)),
        (edge_s - 60, nested(3, &[&varint(61)])),
    ] {
        assert_eq!(error(&at(t0, &more)), Some(DecodeError::TimeRange), "{t0}");
    }
    assert_eq!(error(&at(0, &nested(3, &[&[0]]))), Some(DecodeError::TimeOrder));
    // The longest step over the most samples, in the slowest clock there could be.
    let slow = TimeAxis { unit_ms: u32::MAX, interval: u32::MAX };
    let long = block(&[&number(6, SAMPLES_MAX as u64)]);
    assert_eq!(decode(&long, slow, &mut Report::default()), Err(DecodeError::TimeRange));
    let leaps = block(&[&nested(3, &[&varint(u64::from(u32::MAX)).repeat(SAMPLES_MAX - 1)])]);
    assert_eq!(decode(&leaps, slow, &mut Report::default()), Err(DecodeError::TimeRange));
    let narrow = block(&[&nested(3, &[&varint(1 << 32)])]);
    assert_eq!(error(&narrow), Some(DecodeError::FieldRange(3)));
}

/// A float, NaN among them, has another wire type: no field of ours takes one.
#[test]
fn floats_are_refused_wherever_an_integer_belongs() {
    let doubles = [f64::NAN, f64::INFINITY, 1.5, -0.0];
    for field in (2..=13).chain([15]) {
        for value in doubles {
            let double = [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat();
            let refused = Some(DecodeError::WireType(u32::try_from(field).unwrap()));
            assert_eq!(error(&double), refused);
            if field != 11 {
                let float = [varint(field << 3 | 5), (value as f32).to_le_bytes().to_vec()].concat();
                assert_eq!(error(&float), refused);
            }
        }
    }
    let double = |field: u64| [varint(field << 3 | 1), f64::NAN.to_le_bytes().to_vec()].concat();
    for field in 1..=6 {
        assert_eq!(error(&block(&[&double(field)])), Some(DecodeError::WireType(field as u32)));
    }
    for field in 1..=4 {
        let column = nested(5, &[&double(field)]);
        assert_eq!(error(&block(&[&column])), Some(DecodeError::WireType(field as u32)));
    }
    for field in 1..=3 {
        assert_eq!(error(&nested(5, &[&double(field)])), Some(DecodeError::WireType(field as u32)));
    }
    assert_eq!(error(&number(1, 7)), Some(DecodeError::WireType(1)), "boot is fixed");
    assert_eq!(error(&number(10, 7)), Some(DecodeError::WireType(10)));
    // Packed doubles in place of a column: bytes, so it is the column's own rules that decide. Never a panic, and
    // never more values than bytes have bits.
    let packed: Vec<u8> = (0..24).flat_map(|_| f64::NAN.to_le_bytes()).collect();
    if let Ok(report) = outcome(&block(&[&nested(5, &[&nested(2, &[&packed])])])) {
        assert!(report.values.len() <= packed.len() * 8);
    }
}

#[test]
fn numbers_of_too_many_bits_are_refused() {
    let overlong = |last: u8| [&[0x10][..], &[0xff; 9], &[last]].concat();
    assert_eq!(error(&overlong(0x01)), Some(DecodeError::SeqRange));
    assert_eq!(error(&overlong(0x02)), Some(DecodeError::NotProtobuf));
    assert_eq!(error(&[&[0x10][..], &[0x80; 10], &[0x00]].concat()), Some(DecodeError::NotProtobuf));
    assert_eq!(error(&[0x10, 0x80]), Some(DecodeError::Truncated));
    assert_eq!(error(&[0x10]), Some(DecodeError::Truncated));
    assert_eq!(error(&[0x00, 0x00]), Some(DecodeError::NotProtobuf), "field 0");
    assert_eq!(error(&[0xff; 11]), Some(DecodeError::NotProtobuf));
    for group in [3, 4, 6, 7] {
        assert_eq!(error(&[0x50 | group, 0x00]), Some(DecodeError::NotProtobuf));
    }
    for (field, bytes) in [(6, number(6, 1 << 33)), (8, number(8, 1 << 32)), (13, number(13, u64::MAX))] {
        assert_eq!(error(&bytes), Some(DecodeError::FieldRange(field)));
    }
    assert_eq!(error(&block(&[&channel(1 << 16, &[1])])), Some(DecodeError::FieldRange(1)));
}

#[test]
fn a_length_beyond_the_end_takes_no_memory() {
    for length in [6, 1 << 20, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
        let claim = [varint(10 << 3 | 2), varint(length), vec![0; 5]].concat();
        assert_eq!(error(&claim), Some(DecodeError::Truncated));
    }
    // A nested message may not reach beyond the one around it.
    let inner = [varint(4 << 3 | 2), varint(9), vec![0; 3]].concat();
    assert_eq!(error(&[block(&[&inner]), vec![0; 20]].concat()), Some(DecodeError::Truncated));
}

/// The reader does not recurse: what lies deeper than the schema is a field like another, or skipped bytes.
#[test]
fn deep_nesting_is_only_bytes() {
    for field in [10, 4, 5, 100] {
        let mut deep = Vec::new();
        while deep.len() < 60_000 {
            deep = nested(field, &[&deep]);
        }
        let _ = outcome(&deep);
    }
    let groups = [0x53; 60_000];
    assert_eq!(error(&groups), Some(DecodeError::NotProtobuf));
}

#[test]
fn a_bitmap_fits_its_block_to_the_bit() {
    let with = |bitmap: &[u8], values: &[i64]| {
        let column = nested(5, &[&nested(2, &[&deltas(values)]), &nested(3, &[bitmap])]);
        block(&[&column, &channel(2, &[1; 9])])
    };
    assert_eq!(outcome(&with(&[0b1, 0b1], &[5, 6])).unwrap().columns.len(), 2);
    for (bitmap, values) in [
        (&[0b1_u8][..], &[5_i64][..]),      // too short
        (&[0b1, 0b1, 0], &[5, 6]),          // too long
        (&[0b1, 0b11], &[5, 6, 7]),         // a bit beyond the last sample
        (&[0b1, 0b1], &[5]),                // more bits than values
        (&[0b1, 0b1], &[5, 6, 7]),          // more values than bits
        (&[0, 0], &[5]),                    // a value for nobody
        (&vec![0xff; 60_000][..], &[5, 6]), // huge
    ] {
        assert_eq!(error(&with(bitmap, values)), Some(DecodeError::Length), "{values:?}");
    }
    let alone = block(&[&nested(5, &[&nested(3, &[&[0xff]])])]);
    assert_eq!(error(&alone), Some(DecodeError::EmptyBlock), "a bitmap does not tell the number of samples");
}

#[test]
fn runs_of_quality_are_no_bomb() {
    let with = |runs: &[u64]| {
        let packed: Vec<u8> = runs.iter().flat_map(|&number| varint(number)).collect();
        block(&[&nested(5, &[&nested(2, &[&deltas(&[1; 9])]), &nested(4, &[&packed])])])
    };
    let report = outcome(&with(&[2, 4, 1, 5])).unwrap();
    assert_eq!(report.qualities, [2, 2, 2, 2, 1, 1, 1, 1, 1]);
    for runs in [
        &[2_u64, 8][..],
        &[2, 10],
        &[2, 9, 1],
        &[2, 0, 2, 9],
        &[2, VALUES_MAX as u64],
        &[2, VALUES_MAX as u64 + 1],
        &[2, u64::MAX],
        &[2, 1 << 32],
        &[2, VALUES_MAX as u64, 2, VALUES_MAX as u64],
    ] {
        assert_eq!(error(&with(runs)), Some(DecodeError::Length), "{runs:?}");
    }
    for code in [7, 255, 256, u64::MAX] {
        assert_eq!(error(&with(&[code, 9])), Some(DecodeError::Quality));
    }
    let bombs: Vec<u8> = [2, VALUES_MAX as u64].iter().flat_map(|&number| varint(number)).collect();
    let column = nested(5, &[&nested(4, &[&bombs.repeat(10_000)])]);
    assert_eq!(error(&block(&[&column])), Some(DecodeError::Length));
}

#[test]
fn blocks_agree_with_themselves() {
    let principal = nested(4, &[&deltas(&[1])]);
    let cases: [(&[&[u8]], DecodeError); 10] = [
        (&[&principal, &principal], DecodeError::DuplicateChannel),
        (&[&principal, &channel(1, &[1])], DecodeError::DuplicateChannel),
        (&[&principal, &channel(2, &[1, 2])], DecodeError::Length),
        (&[&nested(4, &[])], DecodeError::EmptyBlock),
        (&[&channel(1, &[1]), &channel(1, &[1])], DecodeError::DuplicateChannel),
        (&[&channel(1, &[1]), &channel(2, &[1, 2])], DecodeError::Length),
        (&[&channel(1, &[1, 2]), &nested(3, &[&[1, 1]])], DecodeError::Length),
        (&[&channel(1, &[1, 2]), &number(6, 3)], DecodeError::Length),
        (&[], DecodeError::EmptyBlock),
        (&[&channel(1, &[])], DecodeError::EmptyBlock),
    ];
    for (parts, refusal) in cases {
        assert_eq!(error(&block(parts)), Some(refusal));
    }
}

/// The densest bytes there are: a bit a value, two bytes a column.
#[test]
fn the_most_that_64_kib_can_claim_stays_within_the_bound() {
    let mut dense = vec![0x00, 0x00];
    dense.resize(60_000, 0x00);
    let _ = outcome(&block(&[&nested(5, &[&nested(2, &[&dense])])]));
    let column = nested(5, &[&nested(2, &[&vec![0; 600]])]);
    let _ = outcome(&block(&[&column.repeat(COLUMNS_MAX)]));
    let _ = outcome(&block(&[&[0x2a, 0x00].repeat(30_000)]));
    let _ = outcome(&[0x52, 0x00].repeat(30_000));
    let _ = outcome(&[0x2a, 0x00].repeat(30_000));
    let _ = outcome(&block(&[&nested(3, &[&vec![1; 60_000]])]));
    let tiny: Vec<u8> = (0..COLUMNS_MAX as u64).flat_map(|at| channel(at, &[1])).collect();
    let many = block(&[&tiny]).repeat(REPORT_BYTES_MAX / (block(&[&tiny]).len()));
    assert!(outcome(&many).unwrap().columns.len() > 5000);
}

/// The promise that a message costs no allocation, once the reader has seen one as large.
#[test]
fn decoding_into_a_used_report_allocates_nothing() {
    let bytes = block(&[&channel(1, &[5; 24]), &channel(2, &[6; 24])]);
    let mut report = Report::default();
    decode(&bytes, AXIS, &mut report).unwrap();
    // The other tests of this file run in other threads when not run by a process each: the least of many counts.
    let least = (0..200)
        .map(|_| {
            let region = Region::new(ALLOCATOR);
            decode(&bytes, AXIS, &mut report).unwrap();
            let taken = region.change();
            taken.allocations + taken.reallocations
        })
        .min();
    assert_eq!(least, Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_bytes_never_take_more_than_the_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        times in 1..40_usize,
    ) {
        let _ = outcome(&bytes.repeat(times));
        let _ = outcome(&block(&[&nested(5, &[&nested(2, &[&bytes.repeat(times.min(30))])])]));
    }
}
