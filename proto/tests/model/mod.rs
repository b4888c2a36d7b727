//! Reports as tests think of them: owned, easy to generate, and turned into every form that a proof compares.

#![allow(dead_code, unreachable_pub, reason = "each test target is a crate of its own and uses its part")]

use hunhe_proto::{
    column,
    encode::{BlockDraft, ColumnDraft, Draft, EncodeError, encode},
    reading::{ABSENT, Drop, DropCause, Header, Report, SAMPLES_MAX, SEQ_END, TimeAxis},
    v1,
};
use proptest::{collection::vec, option, prelude::*};

#[derive(Debug, Clone)]
pub struct Model {
    pub header: Header,
    pub drops: Vec<Drop>,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub t0: i64,
    pub step: u32,
    pub dt: Vec<u32>,
    pub samples: usize,
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub channel: u16,
    pub values: Vec<i64>,
    pub quality: Vec<u8>,
}

/// What a decoder should find, apart from how it lays out its memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub header: Header,
    pub drops: Vec<Drop>,
    pub blocks: Vec<FoundBlock>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FoundBlock {
    pub times_ms: Vec<i64>,
    /// Channel, values, quality codes.
    pub columns: Vec<(u16, Vec<i64>, Option<Vec<u8>>)>,
}

impl Model {
    pub fn bytes(&self) -> Vec<u8> {
        self.try_bytes().unwrap()
    }

    pub fn try_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = vec![0; 1 << 20];
        let length = self.write(&mut out)?;
        out.truncate(length);
        Ok(out)
    }

    pub fn write(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let columns: Vec<Vec<_>> =
            self.blocks.iter().map(|block| block.columns.iter().map(Column::draft).collect()).collect();
        let blocks: Vec<BlockDraft<'_>> = self
            .blocks
            .iter()
            .zip(&columns)
            .map(|(block, columns)| BlockDraft {
                t0: block.t0,
                step: block.step,
                dt: &block.dt,
                samples: u32::try_from(block.samples).unwrap(),
                columns,
            })
            .collect();
        encode(&Draft { header: self.header, drops: &self.drops, blocks: &blocks }, out)
    }

    /// The same report as the generated types have it. Only the columns' bits come from our own code: the golden
    /// strings vouch for those.
    pub fn generated(&self) -> v1::Report {
        let header = self.header;
        v1::Report {
            boot: header.boot,
            seq: header.seq,
            held: header.held_from.map_or(0, |from| header.seq - from),
            next_seq: header.next_seq,
            dropped: self
                .drops
                .iter()
                .map(|drop| v1::Drop { seq: drop.seq, count: drop.count, cause: i32::from(drop.cause as u8) })
                .collect(),
            sent_after_s: header.sent_after_s,
            uptime_ms: header.uptime_ms,
            battery_mv: header.battery_mv,
            signal_dbm: header.signal_dbm,
            blocks: self.blocks.iter().map(Block::generated).collect(),
            prev_boot: header.prev_boot,
            prev_next_seq: header.prev_next_seq,
            class_version: header.class_version,
            tag: Vec::new(),
        }
    }

    pub fn expected(&self, axis: TimeAxis) -> Found {
        let blocks = self.blocks.iter().map(|block| block.expected(axis)).collect();
        Found { header: self.header, drops: self.drops.clone(), blocks }
    }
}

impl Block {
    fn generated(&self) -> v1::Block {
        let told = !self.dt.is_empty() || self.columns.iter().any(|column| !column.values.contains(&ABSENT));
        let principal = self.columns.first().filter(|column| {
            column.channel == 1
                && !column.values.contains(&ABSENT)
                && column.quality.iter().all(|&code| code == 1)
        });
        v1::Block {
            t0: self.t0,
            step: self.step,
            dt: self.dt.clone(),
            principal: principal.map(|column| column.generated().deltas).unwrap_or_default(),
            columns: self.columns[usize::from(principal.is_some())..].iter().map(Column::generated).collect(),
            samples: if told { 0 } else { u32::try_from(self.samples).unwrap() },
        }
    }

    fn expected(&self, axis: TimeAxis) -> FoundBlock {
        let step = if self.step == 0 { axis.interval } else { self.step };
        let mut ticks = self.t0;
        let times_ms = (0..self.samples)
            .map(|sample| {
                if sample > 0 {
                    ticks += i64::from(self.dt.get(sample - 1).copied().unwrap_or(step));
                }
                ticks * i64::from(axis.unit_ms)
            })
            .collect();
        let columns = self
            .columns
            .iter()
            .map(|column| {
                let told = column.quality.iter().any(|&code| code != 1);
                (column.channel, column.values.clone(), told.then(|| column.quality.clone()))
            })
            .collect();
        FoundBlock { times_ms, columns }
    }
}

impl Column {
    fn draft(&self) -> ColumnDraft<'_> {
        ColumnDraft { channel: self.channel, values: &self.values, quality: &self.quality }
    }

    fn generated(&self) -> v1::Column {
        let present: Vec<i64> = self.values.iter().copied().filter(|&value| value != ABSENT).collect();
        let mut deltas = Vec::new();
        column::encode(&present, &mut deltas).unwrap();
        let mut bitmap = Vec::new();
        if present.len() < self.values.len() {
            bitmap = vec![0_u8; self.values.len().div_ceil(8)];
            for (sample, _) in self.values.iter().enumerate().filter(|(_, value)| **value != ABSENT) {
                bitmap[sample / 8] |= 1 << (sample % 8);
            }
        }
        let mut runs: Vec<u32> = Vec::new();
        if self.quality.iter().any(|&code| code != 1) {
            for &code in &self.quality {
                match runs.as_mut_slice() {
                    [.., last, run] if *last == u32::from(code) => *run += 1,
                    _ => runs.extend([u32::from(code), 1]),
                }
            }
        }
        v1::Column { channel: u32::from(self.channel), deltas, present: bitmap, quality: runs }
    }
}

/// What `report` holds.
pub fn found(report: &Report) -> Found {
    let block = |block: &hunhe_proto::reading::BlockSpan| FoundBlock {
        times_ms: report.times_ms[block.samples.clone()].to_vec(),
        columns: report.columns[block.columns.clone()]
            .iter()
            .map(|column| {
                let quality = column.quality.clone().map(|range| report.qualities[range].to_vec());
                (column.channel, report.values_of(column).to_vec(), quality)
            })
            .collect(),
    };
    Found {
        header: report.header,
        drops: report.drops.clone(),
        blocks: report.blocks.iter().map(block).collect(),
    }
}

/// Panics where `report` breaks an invariant that [`Report`] promises to whoever judges readings.
pub fn check_invariants(report: &Report) {
    let mut next = 0;
    for block in &report.blocks {
        assert_eq!(block.samples.start, next, "blocks follow each other");
        assert!(!block.samples.is_empty());
        next = block.samples.end;
        let times = &report.times_ms[block.samples.clone()];
        assert!(times.is_sorted_by(|earlier, later| earlier < later), "times increase");
        assert!(times.iter().all(|time| time.unsigned_abs() <= SEQ_END));
        let columns = &report.columns[block.columns.clone()];
        for (at, column) in columns.iter().enumerate() {
            let values = report.values_of(column);
            assert_eq!(values.len(), block.samples.len());
            assert!(values.iter().all(|&value| value == ABSENT || value.unsigned_abs() < 1 << 53));
            assert!(
                columns[..at].iter().all(|other| other.channel != column.channel),
                "channels are distinct"
            );
            if let Some(quality) = column.quality.clone() {
                assert_eq!(quality.len(), block.samples.len());
                assert!(report.qualities[quality].iter().all(|&code| code <= 6));
            }
        }
    }
    assert_eq!(next, report.samples(), "blocks cover all samples");
    assert!(report.samples() <= SAMPLES_MAX);
    assert!(report.end_seq() <= SEQ_END && report.next_seq() <= SEQ_END && report.held_from() <= SEQ_END);
    assert!(report.drops.iter().all(|drop| drop.count > 0 && drop.seq + drop.count <= SEQ_END));
}

pub fn axis() -> impl Strategy<Value = TimeAxis> {
    let unit_ms = prop_oneof![Just(1_u32), Just(1000), Just(60_000), Just(3_600_000)];
    (unit_ms, 1..100_u32).prop_map(|(unit_ms, interval)| TimeAxis { unit_ms, interval })
}

/// Any report that the contract allows, in sizes that a test can go through by the thousand.
pub fn model() -> impl Strategy<Value = Model> {
    (header(), vec(a_drop(), 0..4), vec(block(), 0..4)).prop_map(|(header, drops, blocks)| Model {
        header,
        drops,
        blocks,
    })
}

fn header() -> impl Strategy<Value = Header> {
    let seq = || prop_oneof![0..200_u64, 0..=SEQ_END - SAMPLES_MAX as u64];
    let sequence = (any::<u32>(), seq(), option::of(seq()), option::of(seq()));
    let health = (
        option::of(any::<i32>()),
        option::of(any::<u64>()),
        option::of(any::<u32>()),
        option::of(any::<i32>()),
    );
    let rest = (option::of(any::<u32>()), option::of(seq()), option::of(any::<u32>()));
    (sequence, health, rest).prop_map(|(sequence, health, rest)| {
        let (boot, seq, held_from, next_seq) = sequence;
        let held_from = held_from.filter(|&from| from < seq);
        let (sent_after_s, uptime_ms, battery_mv, signal_dbm) = health;
        let (prev_boot, prev_next_seq, class_version) = rest;
        Header {
            boot,
            seq,
            held_from,
            next_seq,
            sent_after_s,
            uptime_ms,
            battery_mv,
            signal_dbm,
            prev_boot,
            prev_next_seq,
            class_version,
        }
    })
}

fn a_drop() -> impl Strategy<Value = Drop> {
    (0..SEQ_END / 2, 1..SEQ_END / 2, 0..6_u64).prop_map(|(seq, count, cause)| Drop {
        seq,
        count,
        cause: DropCause::from_code(cause),
    })
}

fn block() -> impl Strategy<Value = Block> {
    let shape = (
        -1_000_000_000..1_000_000_000_i64,
        prop_oneof![Just(0_u32), 1..100_000_u32],
        any::<bool>(),
        prop_oneof![Just(1_usize), 1..60_usize],
        0..5_usize,
    );
    shape.prop_flat_map(|(t0, step, irregular, samples, columns)| {
        let distances = if irregular { samples - 1 } else { 0 };
        let channels = prop::sample::subsequence(vec![0_u16, 1, 2, 3, 15, 16, 200, u16::MAX], columns);
        let columns = channels.prop_shuffle().prop_flat_map(move |channels| {
            channels.into_iter().map(|channel| column(channel, samples)).collect::<Vec<_>>()
        });
        (vec(1..10_000_u32, distances), columns).prop_map(move |(dt, columns)| Block {
            t0,
            step,
            dt,
            samples,
            columns,
        })
    })
}

fn column(channel: u16, samples: usize) -> impl Strategy<Value = Column> {
    let edge = (1_i64 << 53) - 1;
    let value = prop_oneof![4 => -50..50_i64, 4 => 0..100_000_i64, 1 => -edge..=edge, 1 => Just(edge)];
    let sparse = prop_oneof![8 => value.clone().boxed(), 2 => Just(ABSENT).boxed()];
    let values = prop_oneof![vec(value, samples), vec(sparse, samples), Just(vec![ABSENT; samples])];
    let code = prop_oneof![3 => Just(1_u8), 1 => 0..7_u8];
    let quality = prop_oneof![Just(Vec::new()), vec(code, samples)];
    (values, quality).prop_map(move |(values, quality)| Column { channel, values, quality })
}
