//! Reports: whatever arrives is refused, or it is a report that keeps every invariant, that the generated types read alike,
//! and that survives being written again.

#[path = "../../../proto/tests/model/mod.rs"]
mod model;

use hunhe_fuzz::{Target, run};
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

const AXIS: TimeAxis = TimeAxis { unit_ms: 1, interval: 60 };

#[test]
fn mutated_reports_are_refused_or_sound() {
    let _alone = crate::alone();
    let mut runner = TestRunner::deterministic();
    let made = (0..100).map(|_| model::model().new_tree(&mut runner).unwrap().current().bytes());
    let target = Target {
        words: &[b"\x52", b"\x22", b"\x12", b"\x1a", b"\x10", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
        // The reader under test keeps its arrays; what judges it makes several copies of a report.
        ..crate::target("report", made.collect(), 32 << 20)
    };
    let mut report = Report::default();
    let outcome = run(&target, |bytes| is_sound(bytes, &mut report));
    crate::reached_both_sides(outcome);
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
