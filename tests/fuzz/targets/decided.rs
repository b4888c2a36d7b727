//! Decided records: a sink may walk through whatever can be read, and no record holds more than a report may.

use hunhe_fuzz::{Target, run};
use hunhe_gateway::decided::{self, Buffers, Decided};
use hunhe_proto::reading::{SAMPLES_MAX, VALUES_MAX};
use std::hint::black_box;

const DEVICE: &[u8] = b"\x03g-1";
/// The registry's order, and an index.
const PLACE: &[u8] = b"\x01\x02\x03\x04\x05\x06\x07\x08\x02\0\0\0";
/// A report's samples, or its windows of four lengths, and room for vectors that grow by doubling.
const ALLOCATED_MAX: usize = 8 << 20;

fn le<const N: usize>(parts: [u64; N]) -> Vec<u8> {
    parts.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// As the module describes them, without a look at the encoder; the kind first.
fn records() -> Vec<Vec<u8>> {
    let head = |kind: u8| [&[kind][..], &7_u64.to_le_bytes(), DEVICE].concat();
    let samples = |redriven: &[u8], set: &[&[u8]]| {
        let boot: &[u8] = &9_u32.to_le_bytes();
        [&*head(1), PLACE, boot, redriven, &set.concat()].concat()
    };
    // Three rows, all of them announced; two channels.
    let even: &[&[u8]] =
        &[&[3, 3, 1 | 2 | 4, 2, 0, 1], &[80], &[0xd0, 0x0f, 20], &[1], &[0, 6], &[5, 0x40, 7, 0x9f]];
    // Sequence numbers, times and qualities one by one; a value is absent.
    let rows: &[&[u8]] =
        &[&[3, 3, 0, 1, 5], &[80, 1], &le([0, 0, 4]), &[20, 2, 1], &le([0, 1, 9]), &[1], &le([1, 2, 1])];
    let sparse: &[&[u8]] = &[&[2, 0b101, 1], &le([70, 71])];
    let again: &[u8] = &[&[1][..], &le([44])].concat();
    let window = {
        let stat: &[u8] = &[0, 8, 0, 2, 0, 0, 0, 4, 0, 0, 0];
        let wide: &[&[u8]] = &[&[0, 8, 0, 2, 0, 0, 0, 4, 1], &(-5_i128).to_le_bytes(), &7_i128.to_le_bytes()];
        let group: &[u8] = &[2, 0xc0, 0xa9, 0x07, 4, 2, 0, 1, 80, 0xc0, 0xa9, 0x07, 0, 0, 0, 0];
        [&*head(2), PLACE, group, stat, &wide.concat()].concat()
    };
    let refused = {
        let reason: &[u8] = b"\x0cout_of_range";
        let ranges: &[&[u8]] = &[&[1], reason, &[3, 0, 3, 2, 0, 0x41, 0, 0xff, 0xff, 3, 1, 0]];
        let boot: &[u8] = &9_u32.to_le_bytes();
        let bodies: &[u8] = b"\x03\0\0\0a/b\x02\0\0\0\xff\x00";
        [&*head(3), &le([1_000]), boot, &[0, 1], reason, &ranges.concat(), bodies].concat()
    };
    let uneven = [rows, sparse].concat();
    vec![samples(&[0], even), samples(again, &[even, &uneven].concat()), window, refused]
}

fn walk(read: Decided<'_>) {
    match read {
        Decided::Samples(sets) => {
            let (mut rows, mut values) = (0, 0);
            for samples in sets.iter() {
                rows += samples.rows;
                values += samples.values().len();
                assert_eq!(samples.values().len(), samples.rows * samples.channels().len());
                let lengths = [samples.times_ms().len(), samples.seqs().len(), samples.quality().len()];
                assert_eq!(lengths, [samples.rows; 3]);
                for channel in 0..samples.channels().len() {
                    let column = samples.column(channel);
                    assert!((0..samples.rows).all(|row| samples.value(channel, row) == column[row]));
                }
            }
            assert!(rows <= SAMPLES_MAX && values <= VALUES_MAX, "{rows} rows, {values} values");
        }
        Decided::Windows(windows) => {
            let stats: usize = windows.iter().map(|window| black_box(window.stats()).count()).sum();
            assert!(windows.iter().len() <= 16_384 && stats <= 16_384, "{stats} channels");
        }
        Decided::Refused(refused) => {
            let ranges: Vec<_> = refused.ranges().collect();
            assert!(refused.samples() >= ranges.iter().map(|range| range.1).max().unwrap_or(0));
            let record = refused.to_record();
            let again = decided::read_refused_record(&record).expect("what is kept is read again");
            assert_eq!(again.ranges().collect::<Vec<_>>(), ranges);
            assert_eq!(
                (again.device, again.boot, again.reason),
                (refused.device, refused.boot, refused.reason)
            );
            assert_eq!((again.topic, again.payload), (refused.topic, refused.payload));
            assert_eq!(again.announced, refused.announced);
        }
        Decided::Judged { record, .. } => {
            black_box(record);
        }
    }
}

#[test]
fn decided_records_are_refused_or_can_be_walked_through() {
    let _alone = crate::alone();
    let made = records();
    for record in &made {
        decided::read(record[0], &record[1..], &mut Buffers::default()).expect("each of them is one");
    }
    let target = Target {
        words: &[DEVICE, b"\0", b"\x0cout_of_range", b"\xff\xff\xff\xff"],
        ..crate::target("decided", made, ALLOCATED_MAX)
    };
    let outcome = run(&target, |bytes| {
        let Some((&kind, payload)) = bytes.split_first() else { return false };
        let mut buffers = Buffers::default();
        let Ok(read) = decided::read(kind, payload, &mut buffers) else { return false };
        assert_eq!(read.source_lsn().to_le_bytes(), payload[..8]);
        walk(read);
        true
    });
    crate::reached_both_sides(outcome);
}
