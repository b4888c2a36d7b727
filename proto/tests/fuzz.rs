//! Mutated reports, for as long as `HUNHE_FUZZ_S` says (default 3 seconds): whatever arrives is refused, or it is a
//! report that keeps every invariant, that the generated types read alike, and that survives being written again.
//!
//! It needs no nightly compiler. The corpus is `seeds/corpus/report` and generated reports. An input that fails is
//! printed in hexadecimal: put it into the corpus as a file, and it is tried first for ever.

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
    decode::decode,
    reading::{Report, TimeAxis},
    v1,
};
use model::{Block, Column, Model, check_invariants, found};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use prost::Message as _;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

const AXIS: TimeAxis = TimeAxis { unit_ms: 1, interval: 60 };
const CORPUS_MAX: usize = 512;

#[test]
fn mutated_reports_are_refused_or_sound() {
    let seconds = std::env::var("HUNHE_FUZZ_S").map_or(3, |text| text.parse().unwrap());
    let mut corpus = corpus();
    let mut report = Report::default();
    for bytes in &corpus {
        judge(bytes, &mut report);
    }
    let (mut executions, mut accepted) = (corpus.len() as u64, 0_u64);
    let mut chance = Chance { state: 0x9e37_79b9_7f4a_7c15 };
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        for _ in 0..1000 {
            let bytes = chance.mutated(&corpus);
            executions += 1;
            if judge(&bytes, &mut report) {
                accepted += 1;
                // What is still a report leads further from where it came than what is none.
                if bytes.len() <= 2000 && chance.below(50) == 0 {
                    if corpus.len() < CORPUS_MAX {
                        corpus.push(bytes);
                    } else {
                        let at = CORPUS_MAX / 2 + chance.below(CORPUS_MAX / 2);
                        corpus[at] = bytes;
                    }
                }
            }
        }
    }
    println!("{executions} executions in {seconds} s, {accepted} of them reports");
    assert!(accepted > 0 && accepted < executions, "mutation must hit both sides");
}

/// True where `bytes` are a report.
fn judge(bytes: &[u8], report: &mut Report) -> bool {
    catch_unwind(AssertUnwindSafe(|| is_sound(bytes, report))).unwrap_or_else(|panic| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("fails on: {hex}");
        resume_unwind(panic)
    })
}

fn is_sound(bytes: &[u8], report: &mut Report) -> bool {
    if decode(bytes, AXIS, report).is_err() {
        return false;
    }
    check_invariants(report);
    let generated = v1::Report::decode(bytes).expect("the generated types read what we read");
    assert_eq!((generated.boot, generated.seq), (report.header.boot, report.header.seq));
    assert_eq!(generated.sent_after_s, report.header.sent_after_s);
    assert_eq!((generated.dropped.len(), generated.blocks.len()), (report.drops.len(), report.blocks.len()));
    for (block, span) in generated.blocks.iter().zip(&report.blocks) {
        assert_eq!(block.t0, report.times_ms[span.samples.start]);
        let columns = block.columns.len() + usize::from(!block.principal.is_empty());
        assert_eq!(columns, span.columns.len());
    }
    let mut again = Report::default();
    decode(&rewritten(report).bytes(), AXIS, &mut again).expect("what we write, we read");
    let normal = |report: &Report| {
        let mut found = found(report);
        for (_, _, quality) in found.blocks.iter_mut().flat_map(|block| &mut block.columns) {
            // All valid, said or unsaid.
            *quality = quality.take().filter(|codes| codes.iter().any(|&code| code != 1));
        }
        found
    };
    assert_eq!(normal(&again), normal(report));
    true
}

fn rewritten(report: &Report) -> Model {
    let blocks = found(report).blocks.into_iter().map(|block| {
        let distance = |pair: &[i64]| u32::try_from(pair[1] - pair[0]).unwrap();
        let columns = block.columns.into_iter();
        Block {
            t0: block.times_ms[0],
            step: 0,
            dt: block.times_ms.windows(2).map(distance).collect(),
            samples: block.times_ms.len(),
            columns: columns
                .map(|(channel, values, quality)| Column {
                    channel,
                    values,
                    quality: quality.unwrap_or_default(),
                })
                .collect(),
        }
    });
    Model { header: report.header, drops: report.drops.clone(), blocks: blocks.collect() }
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds/corpus/report");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut corpus: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(corpus.len() > 5, "the corpus is there");
    let mut runner = TestRunner::deterministic();
    corpus.extend((0..100).map(|_| model::model().new_tree(&mut runner).unwrap().current().bytes()));
    corpus
}

/// A small generator of its own, so that a run can be repeated.
struct Chance {
    state: u64,
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }

    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes, corpus);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        const STRANGE: [u8; 10] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x52, 0x22, 0x12, 0x1a, 0x10];
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = STRANGE[self.below(STRANGE.len())],
            2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(self.below(9) as u8).wrapping_sub(4),
            3 => bytes.insert(at, self.next() as u8),
            4 => bytes.truncate(at),
            5 => {
                let length = self.below(1 + bytes.len() - at).min(40);
                let part = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend(&other[self.below(other.len() + 1)..]);
            }
        }
    }
}
