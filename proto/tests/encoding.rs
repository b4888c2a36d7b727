//! The wire is the schema's protobuf, proved three ways: any report comes back from our own reader; the generated
//! types write and read the same bytes; and byte strings written by hand say what the bits mean.

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
    decode::{DecodeError, decode},
    encode::EncodeError,
    reading::{ABSENT, Drop, DropCause, Header, Report, TimeAxis},
    size::Size,
    v1,
};
use model::{Block, Column, Model, check_invariants, found};
use proptest::prelude::*;
use prost::Message as _;

const HOURLY: TimeAxis = TimeAxis { unit_ms: 3_600_000, interval: 1 };

fn decoded(bytes: &[u8], axis: TimeAxis) -> Result<Report, DecodeError> {
    let mut report = Report::default();
    decode(bytes, axis, &mut report)?;
    check_invariants(&report);
    Ok(report)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_report_comes_back(model in model::model(), axis in model::axis()) {
        let report = decoded(&model.bytes(), axis).unwrap();
        prop_assert_eq!(found(&report), model.expected(axis));
    }

    #[test]
    fn the_generated_types_read_and_write_the_same_bytes(model in model::model()) {
        let bytes = model.bytes();
        let generated = model.generated();
        prop_assert_eq!(&v1::Report::decode(bytes.as_slice()).unwrap(), &generated);
        prop_assert_eq!(generated.encode_to_vec(), bytes);
    }

    /// Whatever order, packing and additions another protobuf library may choose.
    #[test]
    fn any_writing_of_the_same_message_reads_the_same(
        model in model::model(),
        axis in model::axis(),
        seed in any::<u64>(),
    ) {
        let bytes = Scramble { state: seed | 1 }.report(&model.generated());
        prop_assert_eq!(&v1::Report::decode(bytes.as_slice()).unwrap(), &model.generated());
        let report = decoded(&bytes, axis).unwrap();
        prop_assert_eq!(found(&report), model.expected(axis));
    }

    #[test]
    fn a_reused_report_holds_nothing_of_the_one_before(
        first in model::model(),
        second in model::model(),
        axis in model::axis(),
    ) {
        let mut reused = decoded(&first.bytes(), axis).unwrap();
        decode(&second.bytes(), axis, &mut reused).unwrap();
        prop_assert_eq!(reused, decoded(&second.bytes(), axis).unwrap());
    }

    #[test]
    fn a_buffer_too_small_is_an_error_and_never_a_shorter_report(model in model::model(), cut in any::<prop::sample::Index>()) {
        let bytes = model.bytes();
        prop_assume!(!bytes.is_empty());
        let mut short = vec![0; cut.index(bytes.len())];
        prop_assert_eq!(model.write(&mut short), Err(EncodeError::BufferFull));
        let mut exact = vec![0; bytes.len()];
        prop_assert_eq!(model.write(&mut exact), Ok(bytes.len()));
        prop_assert_eq!(exact, bytes);
    }

    #[test]
    fn no_report_holds_more_than_its_size_says(model in model::model(), noise in prop::collection::vec(any::<u8>(), 0..400), axis in model::axis()) {
        for bytes in [model.bytes(), noise] {
            if let Ok(report) = decoded(&bytes, axis) {
                let size = Size::at_most(&bytes).unwrap();
                prop_assert!(report.samples() <= size.samples, "{} of {size:?}", report.samples());
                prop_assert!(report.values.len() <= size.values, "{} of {size:?}", report.values.len());
            }
        }
    }

    #[test]
    fn a_fault_behind_them_makes_the_size_of_what_is_decoded_before_it_no_smaller(
        model in model::model(),
        cut in any::<prop::sample::Index>(),
        noise in any::<u8>(),
        axis in model::axis(),
    ) {
        let whole = model.bytes();
        let mut spoiled = vec![[&whole[..], &[0xff]].concat()];
        if !whole.is_empty() {
            let at = cut.index(whole.len());
            spoiled.push(whole[..at].to_vec());
            spoiled.push([&whole[..at], &[noise], &whole[at + 1..]].concat());
        }
        for bytes in spoiled {
            let mut report = Report::default();
            let _ = decode(&bytes, axis, &mut report);
            let (size, _) = Size::read(&bytes);
            let most = (4 * size.values).max(size.samples);
            prop_assert!(report.times_ms.len() <= most, "{} of {size:?}", report.times_ms.len());
            prop_assert!(report.values.len() <= most, "{} of {size:?}", report.values.len());
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), axis in model::axis()) {
        let _ = decoded(&bytes, axis);
    }
}

/// Writes a message as no canonical writer would: fields shuffled, numbers unpacked or packed in pieces, numbers
/// with needless bytes, and fields that no schema has yet in between.
struct Scramble {
    state: u64,
}

impl Scramble {
    fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % end
    }

    fn varint(&mut self, mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        if out.len() < 9 && self.below(8) == 0 {
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
        }
        out
    }

    fn field(&mut self, number: u64, wire_type: u64, body: &[u8]) -> Vec<u8> {
        let mut out = self.varint(number << 3 | wire_type);
        if wire_type == 2 {
            out.extend(self.varint(body.len() as u64));
        }
        out.extend(body);
        out
    }

    fn number(&mut self, number: u64, value: Option<u64>) -> Vec<u8> {
        let Some(value) = value else { return Vec::new() };
        let body = self.varint(value);
        self.field(number, 0, &body)
    }

    /// Pieces in this order, each a packed part or a single number.
    fn numbers(&mut self, number: u64, values: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = values;
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(1 + self.below(rest.len() as u64) as usize);
            if part.len() == 1 && self.below(2) == 0 {
                out.extend(self.number(number, Some(part[0].into())));
            } else {
                let body: Vec<u8> = part.iter().flat_map(|&value| self.varint(value.into())).collect();
                out.extend(self.field(number, 2, &body));
            }
            rest = tail;
        }
        out
    }

    fn unknown(&mut self) -> Vec<u8> {
        let number = 100 + self.below(1 << 20);
        match self.below(4) {
            0 => self.number(number, Some(u64::MAX)),
            1 => self.field(number, 1, &[0xff; 8]),
            2 => self.field(number, 2, &[0xaa; 37]),
            _ => self.field(number, 5, &[1, 2, 3, 4]),
        }
    }

    /// Shuffles groups of fields; what repeats stays in one group and so in order.
    fn shuffled(&mut self, mut fields: Vec<Vec<u8>>) -> Vec<u8> {
        for _ in 0..self.below(3) {
            fields.push(self.unknown());
        }
        for at in (1..fields.len()).rev() {
            fields.swap(at, self.below(at as u64 + 1) as usize);
        }
        fields.concat()
    }

    fn report(&mut self, report: &v1::Report) -> Vec<u8> {
        let drops: Vec<_> = report.dropped.iter().map(|drop| self.drop(drop)).collect();
        let blocks: Vec<_> = report.blocks.iter().map(|block| self.block(block)).collect();
        let fields = vec![
            self.field(1, 5, &report.boot.to_le_bytes()),
            self.number(2, Some(report.seq)),
            self.number(3, Some(report.held)),
            self.number(4, report.next_seq),
            drops.iter().flat_map(|body| self.field(5, 2, body)).collect(),
            self.number(6, report.sent_after_s.map(|value| zigzag(value.into()))),
            self.number(7, report.uptime_ms),
            self.number(8, report.battery_mv.map(u64::from)),
            self.number(9, report.signal_dbm.map(|value| zigzag(value.into()))),
            blocks.iter().flat_map(|body| self.field(10, 2, body)).collect(),
            report.prev_boot.map(|boot| self.field(11, 5, &boot.to_le_bytes())).unwrap_or_default(),
            self.number(12, report.prev_next_seq),
            self.number(13, report.class_version.map(u64::from)),
        ];
        self.shuffled(fields)
    }

    fn drop(&mut self, drop: &v1::Drop) -> Vec<u8> {
        let cause = u64::try_from(drop.cause).unwrap();
        let fields = vec![
            self.number(1, Some(drop.seq)),
            self.number(2, Some(drop.count)),
            self.number(3, Some(cause)),
        ];
        self.shuffled(fields)
    }

    fn block(&mut self, block: &v1::Block) -> Vec<u8> {
        let columns: Vec<_> = block.columns.iter().map(|column| self.column(column)).collect();
        let samples = (block.samples > 0).then_some(u64::from(block.samples));
        let fields = vec![
            self.number(1, Some(zigzag(block.t0))),
            self.number(2, Some(block.step.into())),
            self.numbers(3, &block.dt),
            columns.iter().flat_map(|body| self.field(5, 2, body)).collect(),
            self.number(6, samples),
        ];
        let mut out = self.shuffled(fields);
        // Our reader lists columns as they come, and the principal one comes first.
        if !block.principal.is_empty() {
            out.splice(0..0, self.field(4, 2, &block.principal));
        }
        out
    }

    fn column(&mut self, column: &v1::Column) -> Vec<u8> {
        let fields = vec![
            self.number(1, Some(column.channel.into())),
            self.field(2, 2, &column.deltas),
            self.field(3, 2, &column.present),
            self.numbers(4, &column.quality),
        ];
        self.shuffled(fields)
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Four hours of a gas meter: what nearly every report of a city looks like.
#[test]
fn golden_gas_report() {
    let model = Model {
        header: Header { boot: 0x0102_0304, seq: 300, sent_after_s: Some(90), ..Header::default() },
        drops: vec![],
        blocks: vec![Block {
            t0: 500_000,
            step: 0,
            dt: vec![],
            samples: 4,
            columns: vec![Column { channel: 1, values: vec![300, 300, 301, 301], quality: vec![1; 4] }],
        }],
    };
    let golden = [
        &[0x0d, 0x04, 0x03, 0x02, 0x01][..], // 1 boot, little-endian
        &[0x10, 0xac, 0x02],                 // 2 seq = 300
        &[0x30, 0xb4, 0x01],                 // 6 sent_after_s = 90, zigzag 180
        &[0x52, 0x0a],                       // 10 block of 10 bytes
        &[0x08, 0xc0, 0x84, 0x3d],           // .. 1 t0 = 500,000 hours, zigzag 1,000,000
        &[0x22, 0x04],                       // .. 4 deltas of channel 1, 4 bytes
        &[0x00, 0xac, 0x02],                 // .... k = 0, rising; first value 300
        &[0b0100_1111],                      // .... 0, 10, 0 are the deltas 0, 1, 0; ones to the end
    ]
    .concat();
    assert_eq!(model.bytes(), golden);
    let report = decoded(&golden, HOURLY).unwrap();
    assert_eq!(found(&report), model.expected(HOURLY));
    assert_eq!(report.times_ms[3], 500_003 * 3_600_000);
    assert_eq!(report.end_seq(), 304);
}

/// Every field there is.
#[test]
fn golden_full_report() {
    let model = Model {
        header: Header {
            boot: 1,
            seq: 5,
            held_from: Some(2),
            next_seq: Some(8),
            sent_after_s: Some(-1),
            uptime_ms: Some(128),
            battery_mv: Some(3600),
            signal_dbm: Some(-110),
            prev_boot: Some(0xdead_beef),
            prev_next_seq: Some(0),
            class_version: Some(3),
        },
        drops: vec![Drop { seq: 3, count: 2, cause: DropCause::Full }],
        blocks: vec![
            Block {
                t0: 10,
                step: 0,
                dt: vec![1, 300],
                samples: 3,
                columns: vec![Column { channel: 0, values: vec![0, ABSENT, 2], quality: vec![] }],
            },
            Block {
                t0: -1,
                step: 15,
                dt: vec![],
                samples: 2,
                columns: vec![
                    Column { channel: 2, values: vec![ABSENT, -5], quality: vec![5, 2] },
                    Column { channel: 300, values: vec![ABSENT; 2], quality: vec![] },
                ],
            },
            Block {
                t0: 0,
                step: 0,
                dt: vec![],
                samples: 1,
                columns: vec![
                    Column { channel: 1, values: vec![7], quality: vec![] },
                    Column { channel: 3, values: vec![-128], quality: vec![] },
                ],
            },
        ],
    };
    let golden = [
        &[0x0d, 0x01, 0x00, 0x00, 0x00][..],               // 1 boot
        &[0x10, 0x05],                                     // 2 seq
        &[0x18, 0x03],                                     // 3 held = 3: held from 2
        &[0x20, 0x08],                                     // 4 next_seq
        &[0x2a, 0x06, 0x08, 0x03, 0x10, 0x02, 0x18, 0x01], // 5 drop: seq 3, count 2, cause full
        &[0x30, 0x01],                                     // 6 sent_after_s = -1
        &[0x38, 0x80, 0x01],                               // 7 uptime_ms = 128
        &[0x40, 0x90, 0x1c],                               // 8 battery_mv = 3600
        &[0x48, 0xdb, 0x01],                               // 9 signal_dbm = -110, zigzag 219
        &[0x52, 0x11],                                     // 10 block of 17 bytes
        &[0x08, 0x14],                                     // .. 1 t0 = 10
        &[0x1a, 0x03, 0x01, 0xac, 0x02],                   // .. 3 dt = 1, 300, packed
        &[0x2a, 0x08],                                     // .. 5 column of 8 bytes, channel 0 unsaid
        &[0x12, 0x03, 0x01, 0x00, 0b1001_1111],            // .... 2 k = 1; first 0; delta 2 is 10 0; ones
        &[0x1a, 0x01, 0b101],                              // .... 3 present: samples 0 and 2
        &[0x52, 0x1f],                                     // 10 block of 31 bytes
        &[0x08, 0x01],                                     // .. 1 t0 = -1
        &[0x10, 0x0f],                                     // .. 2 step = 15
        &[0x2a, 0x0f],                                     // .. 5 column of 15 bytes
        &[0x08, 0x02],                                     // .... 1 channel 2
        &[0x12, 0x02, 0x80, 0x05],                         // .... 2 first -5
        &[0x1a, 0x01, 0b10],                               // .... 3 present: sample 1
        &[0x22, 0x04, 0x05, 0x01, 0x02, 0x01],             // .... 4 quality: missing once, suspect once
        &[0x2a, 0x06],                                     // .. 5 column of 6 bytes
        &[0x08, 0xac, 0x02],                               // .... 1 channel 300
        &[0x1a, 0x01, 0x00],                               // .... 3 present: none
        &[0x30, 0x02],                                     // .. 6 samples: nothing else tells
        &[0x52, 0x0d],                                     // 10 block of 13 bytes
        &[0x22, 0x02, 0x00, 0x07],                         // .. 4 deltas of channel 1: first 7
        &[0x2a, 0x07],                                     // .. 5 column of 7 bytes
        &[0x08, 0x03],                                     // .... 1 channel 3
        &[0x12, 0x03, 0x80, 0x80, 0x01],                   // .... 2 first -128
        &[0x5d, 0xef, 0xbe, 0xad, 0xde],                   // 11 prev_boot
        &[0x60, 0x00],                                     // 12 prev_next_seq = 0, said
        &[0x68, 0x03],                                     // 13 class_version
    ]
    .concat();
    assert_eq!(model.bytes(), golden);
    let axis = TimeAxis { unit_ms: 60_000, interval: 5 };
    assert_eq!(found(&decoded(&golden, axis).unwrap()), model.expected(axis));
    assert_eq!(v1::Report::decode(golden.as_slice()).unwrap(), model.generated());
}

#[test]
fn an_empty_payload_is_an_empty_report() {
    let report = decoded(&[], HOURLY).unwrap();
    assert_eq!((report.samples(), report.header), (0, Header::default()));
}

/// What a report carries is still held, so nothing is held from beyond it; and nothing from before the beginning.
#[test]
fn held_from_lies_between_zero_and_the_report() {
    let model = |held_from| Model {
        header: Header { seq: 9, held_from, ..Header::default() },
        drops: vec![],
        blocks: vec![],
    };
    assert_eq!(decoded(&model(Some(0)).bytes(), HOURLY).unwrap().held_from(), 0);
    for unsaid in [None, Some(9), Some(10)] {
        assert_eq!(model(unsaid).bytes(), [0x10, 0x09]);
    }
    assert_eq!(decoded(&[0x18, 0x09, 0x10, 0x09], HOURLY).unwrap().held_from(), 0);
    assert_eq!(decoded(&[0x10, 0x09, 0x18, 0x0a], HOURLY).err(), Some(DecodeError::SeqRange));
}

#[test]
fn the_tag_is_found_and_nothing_may_follow_it() {
    let tagged = [0x10, 0x05, 0x7a, 0x02, 0xaa, 0xbb];
    assert_eq!(decoded(&tagged, HOURLY).unwrap().tag_at, Some(2));
    for more in [&[0x10, 0x06][..], &[0x7a, 0x00], &[0xa0, 0x06, 0x01]] {
        assert_eq!(decoded(&[&tagged, more].concat(), HOURLY).err(), Some(DecodeError::AfterTag));
    }
}

#[test]
fn a_draft_that_no_reader_would_take_is_not_written() {
    let block = |samples, dt: &[u32], values: &[i64], quality: &[u8]| Model {
        header: Header::default(),
        drops: vec![],
        blocks: vec![Block {
            t0: 0,
            step: 0,
            dt: dt.to_vec(),
            samples,
            columns: vec![Column { channel: 1, values: values.to_vec(), quality: quality.to_vec() }],
        }],
    };
    assert_eq!(block(2, &[], &[1, 2], &[1, 1]).try_bytes().err(), None);
    for (draft, error) in [
        (block(0, &[], &[], &[]), EncodeError::Length),
        (block(2, &[], &[1], &[]), EncodeError::Length),
        (block(2, &[1, 1], &[1, 2], &[]), EncodeError::Length),
        (block(2, &[], &[1, 2], &[1]), EncodeError::Length),
        (block(2, &[], &[1, 2], &[7, 7]), EncodeError::Quality),
        (block(1, &[], &[1 << 53], &[]), EncodeError::ValueOutOfRange),
        (block(1, &[], &[i64::MAX], &[]), EncodeError::ValueOutOfRange),
    ] {
        assert_eq!(draft.try_bytes(), Err(error));
    }
}
