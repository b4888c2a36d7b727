//! Decided records: a sink may walk through whatever can be read, and it is not more than the record's bytes hold.

use hunhe_fuzz::{Target, run};
use hunhe_gateway::decided::{self, Decided};
use hunhe_proto::reading::SAMPLES_MAX;
use std::hint::black_box;

const DEVICE: &[u8] = b"\x03g-1";

fn le<const N: usize>(parts: [u64; N]) -> Vec<u8> {
    parts.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// As the module describes them, without a look at the encoder; the kind first.
fn records() -> Vec<Vec<u8>> {
    let head = |kind: u8| [&[kind][..], &7_u64.to_le_bytes(), DEVICE].concat();
    let samples = |redriven: &[u8], times: &[u8], quality: &[u8]| {
        let counts = [3_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        let values = le([1, 2, 3, 4, 5, 6]);
        let channels: &[u8] = &[2, 0, 0, 1, 0];
        let boot: &[u8] = &9_u32.to_le_bytes();
        [&*head(1), boot, redriven, &counts, &le([40]), channels, times, quality, &values].concat()
    };
    let even: &[u8] = &[&[0][..], &le([1_000, 10])].concat();
    let each: &[u8] = &[&[1][..], &le([1_000, 1_010, 5_000])].concat();
    let again: &[u8] = &[&[1][..], &le([44])].concat();
    let window = {
        let stat = [&[1, 0][..], &4_u32.to_le_bytes(), &(-5_i128).to_le_bytes(), &le([1, 2, 3])].concat();
        let counts = [2_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat();
        [&*head(2), &le([900_000, 1_000]), &counts, &[2], &stat, &stat].concat()
    };
    let refused = {
        let reason: &[u8] = b"\x0cout_of_range";
        let ranges = [&[2, 0][..], &le([3, 2]), reason, &le([9, 1]), reason].concat();
        let boot: &[u8] = &9_u32.to_le_bytes();
        let bodies: &[u8] = b"\x03\0\0\0a/b\x02\0\0\0\xff\x00";
        [&*head(3), &le([1_000]), boot, &[0], reason, &ranges, bodies].concat()
    };
    vec![samples(&[0], even, &[0, 1]), samples(again, each, &[1, 1, 2, 1]), window, refused]
}

#[test]
fn decided_records_are_refused_or_can_be_walked_through() {
    let _alone = crate::alone();
    let made = records();
    for record in &made {
        decided::read(record[0], &record[1..]).expect("each of them is one");
    }
    let target = Target {
        words: &[DEVICE, b"\0", b"\x0cout_of_range", b"\xff\xff\xff\xff"],
        ..crate::target("decided", made, 256 << 10)
    };
    let outcome = run(&target, |bytes| {
        let Some((&kind, payload)) = bytes.split_first() else { return false };
        let Ok(read) = decided::read(kind, payload) else { return false };
        assert_eq!(read.cause().to_le_bytes(), payload[..8]);
        match read {
            Decided::Samples(samples) => {
                assert!(samples.rows <= SAMPLES_MAX, "{} rows in {} bytes", samples.rows, payload.len());
                let channels = samples.channels().len();
                assert!(8 * channels * samples.rows <= payload.len());
                for row in 0..samples.rows {
                    black_box((samples.time_ms(row), samples.quality(row)));
                }
                for channel in 0..channels {
                    let column: Vec<_> = samples.column(channel).collect();
                    assert_eq!(column.len(), samples.rows);
                    assert!((0..samples.rows).all(|row| samples.value(channel, row) == column[row]));
                }
            }
            Decided::Window(window) => assert!(46 * window.stats().count() <= payload.len()),
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
            Decided::Judged { record, .. } => assert!(payload.len() >= 17, "{record}"),
        }
        true
    });
    crate::reached_both_sides(outcome);
}
