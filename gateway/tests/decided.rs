//! What the lane decides takes no more on disk than a few times what a device sent, and comes back as it was decided.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

use std::{collections::BTreeSet, sync::Arc};

use hunhe_fixtures::{enrolment, id, seed_class as class, seed_classes as classes};
use hunhe_gateway::decided::{self, Buffers, Decided, Encoder, HEAD_BYTES_MAX, Message, StoredChannel};
use hunhe_gateway_core::event::Rollups;
use hunhe_gateway_core::{
    event::{Arrival, ChannelStat, Decisions, Event, SampleSet, WindowClosed},
    lane::{Lane, Policy},
    registry::{DeviceIx, Enrolment, Registry},
};
use hunhe_log::{Lsn, Next, Options, Reader, Writer};
use hunhe_proto::{
    class::{Class, Kind},
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    reading::{ABSENT, Header, SAMPLES_MAX},
    topic,
};
use proptest::{collection::vec, prelude::*};

/// 2026-11-01T00:00:00Z.
const NOW_MS: i64 = 1_793_491_200_000;
/// The longest id there is.
const DEVICE: &str = "abcdefghijklmnopqrstuvwxyz012345";

fn registry(class: Class) -> Arc<Registry> {
    let name = class.name.clone();
    let device = id(DEVICE);
    let enrolment = Enrolment { id: device, pseudonym: device, ..enrolment("d", &name, "z") };
    Arc::new(hunhe_fixtures::registry(vec![class], Vec::new(), [enrolment]))
}

/// A lane, and what it writes.
struct Desk {
    registry: Arc<Registry>,
    lane: Lane,
    encoder: Encoder,
    log: Writer,
    reader: Reader,
    source_lsn: u64,
    _dir: tempfile::TempDir,
}

/// Bytes of records, by kind.
#[derive(Debug, Default, Clone, Copy)]
struct Bytes {
    samples: usize,
    windows: usize,
    refused: usize,
    rows: usize,
}

impl Bytes {
    fn all(self) -> usize {
        self.samples + self.windows + self.refused
    }
}

impl Desk {
    fn new(class: Class) -> Self {
        let registry = registry(class);
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            disk: hunhe_disk::real(),
            dir: dir.path().into(),
            segment_bytes: 64 << 20,
            limit_bytes: 1 << 30,
        };
        let (log, _) = Writer::open(options).unwrap();
        let reader = Reader::open(log.subscribe(), Lsn::FIRST).unwrap();
        let lane = Lane::new(
            Arc::clone(&registry),
            Policy { accept_past_ms: 40 * 365 * 86_400_000, ..Policy::default() },
        );
        Self { registry, lane, encoder: Encoder::new(Rollups::All), log, reader, source_lsn: 0, _dir: dir }
    }

    fn write(&mut self, payload: &[u8], decisions: &Decisions) -> Bytes {
        self.source_lsn += 1;
        let topic = topic::up(id(DEVICE));
        let message = Message {
            source_lsn: self.source_lsn,
            arrival_ms: NOW_MS,
            topic: topic.as_bytes(),
            payload,
            redrive_of: None,
        };
        self.encoder.encode(&self.registry, message, decisions);
        self.encoder.append(&mut self.log).unwrap();
        self.log.flush().unwrap();
        let (mut bytes, mut buffers) = (Bytes::default(), Buffers::default());
        while let Next::Record(record) = self.reader.next().unwrap() {
            let length = record.payload.len();
            match decided::read(record.kind, record.payload, &mut buffers).unwrap() {
                Decided::Samples(sets) => {
                    bytes.samples += length;
                    bytes.rows += sets.iter().map(|samples| samples.rows).sum::<usize>();
                }
                Decided::Windows(_) => bytes.windows += length,
                Decided::Refused(_) | Decided::Judged { .. } => bytes.refused += length,
            }
        }
        bytes
    }

    fn take(&mut self, payload: &[u8]) -> Bytes {
        let arrival = Arrival { lsn: self.source_lsn + 1, at_ms: NOW_MS, live: true, alarm: false };
        let topic = topic::up(id(DEVICE));
        let mut decisions = Decisions::default();
        self.lane.handle(Event::Message { arrival, topic: topic.as_bytes(), payload }, &mut decisions);
        self.write(payload, &decisions)
    }
}

#[test]
fn windows_that_no_sink_takes_are_not_written() {
    const DAY_MS: i64 = 86_400_000;
    for rollups in [Rollups::None, Rollups::Daily, Rollups::All] {
        let mut desk = Desk::new(class("gas_station_detector"));
        desk.encoder = Encoder::new(rollups);
        // Two days, a minute apart.
        let minutes: Vec<i64> = (0..2_880).collect();
        desk.take(&report(DETECTOR_VERSION, 0, (NOW_MS - 2 * DAY_MS) / 1000, 60, &[(1, minutes)]));
        let mut reader = Reader::open(desk.log.subscribe(), Lsn::FIRST).unwrap();
        let (mut lengths_ms, mut samples, mut buffers) = (BTreeSet::new(), 0, Buffers::default());
        while let Next::Record(record) = reader.next().unwrap() {
            match decided::read(record.kind, record.payload, &mut buffers).unwrap() {
                Decided::Windows(windows) => lengths_ms.extend(windows.iter().map(|window| window.length_ms)),
                Decided::Samples(sets) => samples += sets.iter().map(|set| set.rows).sum::<usize>(),
                Decided::Refused(_) | Decided::Judged { .. } => panic!("nothing is refused"),
            }
        }
        assert_eq!((samples, lengths_ms.contains(&DAY_MS)), (2_880, rollups != Rollups::None));
        assert_eq!(lengths_ms.iter().any(|length_ms| *length_ms != DAY_MS), rollups == Rollups::All);
    }
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 31)
}

fn report(class_version: u32, seq: u64, t0: i64, step: u32, columns: &[(u16, Vec<i64>)]) -> Vec<u8> {
    let drafts: Vec<ColumnDraft<'_>> = columns
        .iter()
        .map(|(channel, values)| ColumnDraft { channel: *channel, values, quality: &[] })
        .collect();
    let samples = columns[0].1.len();
    let blocks =
        [BlockDraft { t0, step, dt: &[], samples: u32::try_from(samples).unwrap(), columns: &drafts }];
    let header = Header { boot: 7, seq, class_version: Some(class_version), ..Header::default() };
    let mut out = vec![0; 1 << 20];
    let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut out).unwrap();
    out.truncate(length);
    out
}

/// Every channel of a class, a few steps of its instrument from one sample to the next.
fn columns(class: &Class, samples: usize, seed: &mut u64) -> Vec<(u16, Vec<i64>)> {
    let column = |channel: &hunhe_proto::class::Channel| {
        let scale = channel.scale();
        #[expect(clippy::cast_possible_truncation, reason = "within a class's bounds")]
        let (low, high) = ((channel.min * scale) as i64, (channel.max * scale) as i64);
        let step = i64::from(channel.resolution.max(1));
        let mut value = low + (high - low) / 4 / step * step;
        let values = (0..samples).map(|_| {
            let moved = i64::try_from(random(seed) % 9).unwrap();
            value += match channel.kind {
                Kind::Register => moved * step,
                Kind::Gauge => (moved - 4) * step,
                _ => 0,
            };
            value = value.clamp(low, high);
            value
        });
        (channel.number, values.collect())
    };
    let (first, others): (Vec<_>, Vec<_>) =
        class.channels.iter().partition(|channel| channel.number == hunhe_proto::reading::PRINCIPAL_CHANNEL);
    first.into_iter().chain(others).map(column).collect()
}

#[test]
fn a_record_of_samples_takes_no_more_than_twice_its_report_and_a_head() {
    for class in classes() {
        let (mut desk, mut seed) = (Desk::new(class.clone()), 1);
        let unit_ms = i64::from(class.time_unit_ms);
        let mut seq = 0;
        for samples in [1, usize::try_from(class.report.samples).unwrap(), 24, 200] {
            let t0 = NOW_MS / unit_ms - 1000 * i64::from(class.interval) + i64::try_from(seq).unwrap();
            let payload = report(class.version, seq, t0, 0, &columns(&class, samples, &mut seed));
            let bytes = desk.take(&payload);
            assert!(bytes.rows > 0, "{}: {samples} samples, none accepted", class.name);
            assert!(
                bytes.samples <= 2 * payload.len() + HEAD_BYTES_MAX,
                "{}: {samples} samples, {} bytes of {}",
                class.name,
                bytes.samples,
                payload.len()
            );
            seq += samples as u64;
        }
    }
}

/// Of `seeds/classes/gas_station_detector.toml`.
const DETECTOR_VERSION: u32 = 3;

/// Readings as fast as they fit: 4,096 samples in 2.6 kB, each some seconds, a minute or an hour after the one before, so that up
/// to thousands of windows close. The second is how the class samples.
#[test]
fn a_stream_of_the_largest_reports_takes_no_more_than_two_and_a_half_times_its_bytes() {
    for (step, factor) in [(1, 2.5), (10, 2.5), (60, 2.75), (3_600, 2.75)] {
        let (mut desk, mut seed) = (Desk::new(class("gas_station_detector")), 3);
        let (mut sent, mut written, mut rows) = (0, 0, 0);
        let reports = 12;
        let span_s = i64::from(step) * SAMPLES_MAX as i64;
        for number in 0..reports {
            let values =
                (0..SAMPLES_MAX).map(|_| 150 + i64::try_from(random(&mut seed) % 13).unwrap()).collect();
            let t0 = NOW_MS / 1000 - (reports - number) * span_s;
            let payload = report(
                DETECTOR_VERSION,
                (number * SAMPLES_MAX as i64).unsigned_abs(),
                t0,
                step,
                &[(1, values)],
            );
            let bytes = desk.take(&payload);
            sent += payload.len();
            written += bytes.all();
            rows += bytes.rows;
        }
        assert_eq!(rows as i64, reports * SAMPLES_MAX as i64, "step {step} s");
        let ratio = written as f64 / sent as f64;
        println!("step {step:>4} s: {sent} bytes sent, {written} decided, {ratio:.2}");
        assert!(ratio <= factor, "step {step} s: {ratio:.2} times");
    }
}

/// The worst that could be found: good and bad samples by turns, so that each stands for itself.
#[test]
fn a_report_of_good_and_bad_samples_by_turns_takes_a_few_times_its_bytes() {
    let (mut desk, mut seed) = (Desk::new(class("gas_station_detector")), 5);
    for (seq, bad) in [(0, ABSENT), (SAMPLES_MAX as u64, 60_000)] {
        let values =
            (0..SAMPLES_MAX).map(|_| if random(&mut seed).is_multiple_of(2) { bad } else { 150 }).collect();
        let payload = report(DETECTOR_VERSION, seq, NOW_MS / 1000 - 50_000, 0, &[(1, values)]);
        let bytes = desk.take(&payload);
        let ratio = bytes.all() as f64 / payload.len() as f64;
        println!("{} bytes sent, {bytes:?}, {ratio:.2}", payload.len());
        assert!(bytes.rows > 1_000 && bytes.refused > payload.len());
        assert!(ratio <= 6.0, "{ratio:.2} times");
    }
}

/// Rows of a set: seconds since the one before, sequence numbers skipped, quality, values.
fn rows(channels: usize) -> impl Strategy<Value = Vec<(i64, u64, u8, Vec<i64>)>> {
    let value =
        prop_oneof![3 => 0..5_i64, 2 => Just(ABSENT), 2 => -900..900_i64, 1 => 1 - (1_i64 << 53)..1 << 53];
    let step = prop_oneof![4 => Just(60_000), 1 => 1..5_000_000_i64];
    let skipped = prop_oneof![6 => Just(0_u64), 1 => 1..1_u64 << 40];
    vec((step, skipped, prop_oneof![5 => Just(1_u8), 1 => 0..7_u8], vec(value, channels)), 1..40)
}

/// Channels of a set, its rows, and how far its clock was set before it.
type Set = (usize, Vec<(i64, u64, u8, Vec<i64>)>, i64);

fn sets() -> impl Strategy<Value = Vec<Set>> {
    let set = (1..4_usize).prop_flat_map(|channels| {
        (Just(channels), rows(channels), prop_oneof![3 => Just(0_i64), 1 => -9_000_000..9_000_000_i64])
    });
    vec(set, 1..6)
}

fn decisions_of(sets: &[Set]) -> Decisions {
    let mut decisions = Decisions::default();
    let accepted = &mut decisions.accepted;
    let (mut time_ms, mut seq) = (NOW_MS, 900);
    for (channels, rows, set_ms) in sets {
        let (first, channels_from, values_from) =
            (accepted.times_ms.len(), accepted.channels.len(), accepted.values.len());
        time_ms += set_ms;
        for (step_ms, skipped, quality, _) in rows {
            time_ms += step_ms;
            seq += 1 + skipped;
            accepted.times_ms.push(time_ms);
            accepted.seqs.push(seq);
            accepted.quality.push(*quality);
        }
        accepted.channels.extend((1..).map(|number| number * 3).take(*channels));
        for channel in 0..*channels {
            accepted.values.extend(rows.iter().map(|(.., values)| values[channel]));
        }
        accepted.sets.push(SampleSet {
            device: DeviceIx(0),
            boot: 7,
            rows: first..accepted.times_ms.len(),
            channels: channels_from..accepted.channels.len(),
            values_from,
        });
    }
    decisions
}

/// Channel, row's sequence number, time, quality, value, one by one.
type Cell = (u16, u64, i64, u8, i64);

fn cells_of(decisions: &Decisions) -> Vec<Cell> {
    let accepted = &decisions.accepted;
    let mut cells = Vec::new();
    for set in &accepted.sets {
        for (column, channel) in accepted.channels[set.channels.clone()].iter().enumerate() {
            for (row, value) in set.rows.clone().zip(accepted.column(set, column)) {
                cells.push((
                    *channel,
                    accepted.seqs[row],
                    accepted.times_ms[row],
                    accepted.quality[row],
                    *value,
                ));
            }
        }
    }
    cells.sort_unstable();
    cells
}

fn stat() -> impl Strategy<Value = ChannelStat> {
    let value = || prop_oneof![4 => -500..500_i64, 1 => 1 - (1_i64 << 53)..1 << 53];
    let sum = prop_oneof![2 => Just(None), 1 => any::<i64>().prop_map(Some)];
    (1..900_u32, value(), value(), value(), sum).prop_map(|(count, one, other, last, sum)| {
        let (min, max) = (one.min(other).min(last), one.max(other).max(last));
        let likely = i128::from(min) + i128::from(max) + (i128::from(count) - 2) * i128::from(last);
        ChannelStat { channel: 0, count, sum: likely + i128::from(sum.unwrap_or(0)) * 9, min, max, last }
    })
}

fn windows() -> impl Strategy<Value = Vec<(i64, i64, u32, Vec<ChannelStat>)>> {
    let length = prop_oneof![Just(60_000_i64), Just(900_000), Just(3_600_000)];
    vec((length, 0..9_000_i64, prop_oneof![3 => Just(0), 1 => any::<u32>()], vec(stat(), 1..4)), 1..60)
}

/// Length, start, revision, channels.
type Shown = (i64, i64, u32, Vec<(u16, u32, i128, i64, i64, i64)>);

fn shown_of(length_ms: i64, start_ms: i64, revision: u32, stats: impl Iterator<Item = ChannelStat>) -> Shown {
    let stats = stats.map(|stat| (stat.channel, stat.count, stat.sum, stat.min, stat.max, stat.last));
    (length_ms, start_ms, revision, stats.collect())
}

proptest! {
    #[test]
    fn accepted_samples_come_back_as_they_were_decided(sets in sets()) {
        let mut desk = Desk::new(class("gas_meter"));
        let decisions = decisions_of(&sets);
        let message = Message { source_lsn: 1, arrival_ms: 0, topic: b"", payload: b"", redrive_of: Some(5) };
        desk.encoder.encode(&desk.registry, message, &decisions);
        desk.encoder.append(&mut desk.log).unwrap();
        desk.log.flush().unwrap();
        let (mut cells, mut announced, mut buffers) = (Vec::new(), 0, Buffers::default());
        while let Next::Record(record) = desk.reader.next().unwrap() {
            let Decided::Samples(sets) = decided::read(record.kind, record.payload, &mut buffers).unwrap() else {
                panic!("samples alone were decided")
            };
            for samples in sets.iter() {
                prop_assert_eq!((samples.source_lsn, samples.boot, samples.redrive_of), (1, 7, Some(5)));
                prop_assert!(samples.seqs().is_sorted_by(|seq, next| seq < next));
                announced += u64::from(samples.announced);
                for (column, channel) in samples.channels().iter().enumerate() {
                    for row in 0..samples.rows {
                        let (seq, time_ms) = (samples.seqs()[row], samples.times_ms()[row]);
                        cells.push((StoredChannel::from_bits(*channel).number(), seq, time_ms, samples.quality()[row], samples.value(column, row)));
                    }
                }
            }
        }
        cells.sort_unstable();
        prop_assert_eq!(cells, cells_of(&decisions));
        prop_assert_eq!(announced, decisions.accepted.seqs.len() as u64);
    }

    #[test]
    fn windows_come_back_as_they_were_shown(windows in windows()) {
        let mut desk = Desk::new(class("gas_meter"));
        let mut decisions = Decisions::default();
        let mut expected = Vec::new();
        for (length_ms, at, revision, stats) in windows {
            let stats: Vec<_> =
                (1..).zip(stats).map(|(channel, stat)| ChannelStat { channel, ..stat }).collect();
            let start_ms = NOW_MS + at * length_ms;
            decisions.shown.windows.push(WindowClosed {
                device: DeviceIx(0),
                length_ms,
                start_ms,
                revision,
                expected: u32::try_from(length_ms / 10_000).unwrap(),
                stats_from: decisions.shown.stats.len(),
                channels: stats.len(),
            });
            expected.push(shown_of(length_ms, start_ms, revision, stats.iter().copied()));
            decisions.shown.stats.extend(stats);
        }
        let message = Message { source_lsn: 1, arrival_ms: 0, topic: b"", payload: b"", redrive_of: None };
        desk.encoder.encode(&desk.registry, message, &decisions);
        desk.encoder.append(&mut desk.log).unwrap();
        desk.log.flush().unwrap();
        let (mut found, mut buffers) = (Vec::new(), Buffers::default());
        while let Next::Record(record) = desk.reader.next().unwrap() {
            let Decided::Windows(windows) = decided::read(record.kind, record.payload, &mut buffers).unwrap() else {
                panic!("windows alone were decided")
            };
            for window in windows.iter() {
                prop_assert_eq!(i64::from(window.expected), window.length_ms / 10_000);
                found.push(shown_of(window.length_ms, window.start_ms, window.revision, window.stats().map(|(_, stat)| stat)));
            }
        }
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
