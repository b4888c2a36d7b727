//! The rules V01 to V06 of one device, and what it costs to remember it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    event::{ABSENT, Decisions, Event},
    lane::{Lane, Policy},
};
use support::*;

const NOW_MS: i64 = START_MS + 30 * DAY_MS;

fn quality(decisions: &Decisions) -> Vec<u8> {
    decisions
        .accepted
        .sets
        .iter()
        .flat_map(|set| decisions.accepted.quality[set.rows.clone()].to_vec())
        .collect()
}

fn doubted(lane: &Lane, rule: &str) -> u64 {
    lane.counters().doubted.get(rule).copied().unwrap_or(0)
}

#[test]
fn v01_a_wrong_clock_makes_live_samples_suspect_and_nothing_else() {
    for (offset_s, live, suspect) in [
        (0, true, false),
        (120, true, false),
        (121, true, true),
        (-121, true, true),
        (-9000, true, true),
        (-9000, false, false),
    ] {
        let mut lane = lane();
        let mut sent = Sent::new(1, 0).block(START_H, 1, &[0, 10]);
        sent.header.sent_after_s = Some(600);
        let at_ms = START_MS + HOUR_MS + 600_000 - offset_s * 1000;
        let mut decisions = Decisions::default();
        let (topic, payload) = (up("gas-0"), sent.versioned("gas-0").bytes());
        let mut arrival = arrival(at_ms);
        arrival.live = live;
        lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
        assert_eq!(quality(&decisions), if suspect { [2, 2] } else { [1, 1] }, "{offset_s} {live}");
        assert_eq!(doubted(&lane, "V01"), if suspect { 2 } else { 0 });
        let state = lane.state(device("gas-0")).unwrap();
        assert_eq!(state.clock_offset_ms, live.then_some(offset_s * 1000));
    }
}

#[test]
fn v03_gaps_are_counted_in_intervals_within_and_between_reports() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 0).block(START_H, 1, &[0, 10]));
    send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 2).block(START_H + 2, 1, &[20]));
    assert_eq!(lane.state(device("gas-0")).unwrap().gaps, 0);
    let block = Block {
        t0: START_H + 5,
        dt: vec![1, 4, 1],
        columns: vec![(1, vec![30, 40, 50, 60], vec![])],
        ..Block::default()
    };
    send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 3).with(block));
    let state = lane.state(device("gas-0")).unwrap();
    assert_eq!((state.gaps, state.longest_gap_ms), (2 + 3, 4 * HOUR_MS));
    assert_eq!((state.last_ms, state.last[0]), (START_MS + 11 * HOUR_MS, 60));
    // What fills the gap later advances nothing.
    send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 7).block(START_H + 3, 1, &[20, 20]));
    let state = lane.state(device("gas-0")).unwrap();
    assert_eq!((state.gaps, state.last[0]), (5, 60));
}

#[test]
fn v04_times_off_the_grid_are_counted() {
    let mut lane = lane();
    let t0 = START_MS / 1000;
    send(&mut lane, NOW_MS, "flow-0", &Sent::new(1, 0).block(t0, 1, &[1, 2, 3]));
    send(&mut lane, NOW_MS, "flow-0", &Sent::new(1, 3).block(t0 + 180 + 3, 1, &[1, 2, 3]));
    assert_eq!(lane.state(device("flow-0")).unwrap().off_grid, 0, "within a twentieth");
    send(&mut lane, NOW_MS, "flow-0", &Sent::new(1, 6).block(t0 + 360 + 4, 1, &[1, 2, 3]));
    let block = Block {
        t0: t0 + 600,
        dt: vec![30, 30, 10],
        columns: vec![(1, vec![1; 4], vec![])],
        ..Block::default()
    };
    send(&mut lane, NOW_MS, "flow-0", &Sent::new(1, 9).with(block));
    assert_eq!(lane.state(device("flow-0")).unwrap().off_grid, 3 + 2);
}

#[test]
fn v05_a_sample_that_loses_one_value_is_kept_and_suspect() {
    let mut lane = lane();
    let columns = vec![(1, vec![0, 10, 20], vec![]), (2, vec![200, 701, ABSENT], vec![])];
    let decisions = send(
        &mut lane,
        NOW_MS,
        "gas-0",
        &Sent::new(1, 0).with(Block { t0: START_H, columns, ..Block::default() }),
    );
    assert_eq!((accepted_seqs(&decisions), quality(&decisions)), (vec![0, 1, 2], vec![1, 2, 1]));
    let set = &decisions.accepted.sets[0];
    assert_eq!(decisions.accepted.column(set, 1), [200, ABSENT, ABSENT]);
    assert!(decisions.refused.is_empty() && decisions.refusal.is_none());
    assert_eq!(
        (lane.counters().values_refused, lane.counters().readings, lane.counters().samples),
        (1, 4, 3)
    );
}

#[test]
fn v06_a_register_may_roll_over_and_be_swapped_but_not_run_backwards() {
    // Register, serial number, then what the next three samples make of it: 1 valid, 2 suspect.
    type Case = (&'static str, [i64; 3], [i64; 3], [u8; 3]);
    let cases: [Case; 6] = [
        ("forward", [99_990_010, 99_990_010, 99_997_220], [5, 5, 5], [1, 1, 1]),
        ("rollover", [99_997_200, 1000, 2000], [5, 5, 5], [1, 1, 1]),
        ("swap", [99_990_010, 0, 10], [5, 6, 6], [1, 1, 1]),
        ("reverse", [50_000_000, 50_007_000, 49_000_000], [5, 5, 5], [2, 1, 2]),
        ("a fall after a rise", [99_990_010, 99_990_090, 99_990_050], [5, 5, 5], [1, 1, 2]),
        ("one swap explains one fall", [20, 10, 0], [6, 6, 6], [1, 2, 2]),
    ];
    for (name, volume, serial, expected) in cases {
        for split in [false, true] {
            let mut lane = lane();
            let first = vec![(1, vec![99_990_000], vec![]), (3, vec![5], vec![])];
            send(
                &mut lane,
                NOW_MS,
                "gas-0",
                &Sent::new(1, 0).with(Block { t0: START_H, columns: first, ..Block::default() }),
            );
            let block = |rows: std::ops::Range<usize>| Block {
                t0: START_H + 1 + i64::try_from(rows.start).unwrap(),
                columns: vec![(1, volume[rows.clone()].to_vec(), vec![]), (3, serial[rows].to_vec(), vec![])],
                ..Block::default()
            };
            // The same in one block and in three: the verdict follows the samples.
            let sent = if split {
                Sent::new(1, 1).with(block(0..1)).with(block(1..2)).with(block(2..3))
            } else {
                Sent::new(1, 1).with(block(0..3))
            };
            let decisions = send(&mut lane, NOW_MS, "gas-0", &sent);
            assert_eq!(quality(&decisions), expected, "{name}, split {split}");
            let suspect = expected.iter().filter(|&&code| code == 2).count() as u64;
            assert_eq!(doubted(&lane, "V06"), suspect, "{name}");
        }
    }
}

#[test]
fn v06_older_samples_are_not_judged_and_judge_nothing() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 10).held_from(0).block(START_H + 10, 1, &[1000, 1010]));
    let late = send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 0).block(START_H, 1, &[500, 490]));
    assert_eq!(quality(&late), [1, 1]);
    let next =
        send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 12).held_from(0).block(START_H + 12, 1, &[1000]));
    assert_eq!(quality(&next), [2]);
}

/// A level in millimetres: usual from 0 to 500, by 6 a minute at most.
const LEVEL: &str = r#"
name = "dma_flow"
version = 1
title = { zh = "液位", en = "Level" }
time_unit_ms = 1000
interval = 60
report = { samples = 15, silent_after_s = 3600 }

[[channels]]
number = 2
name = "pressure"
title = { zh = "液位", en = "Level" }
unit = "mm"
kind = "gauge"
min = -100
max = 2000
usual_min = 0
usual_max = 500
change_per_h_max = 360
"#;

fn level_lane() -> Lane {
    Lane::new(registry_of(&[LEVEL, GAS]), Policy::default())
}

fn levels(lane: &mut Lane, seq: u64, values: &[i64]) -> Decisions {
    let t0 = START_MS / 1000 + 60 * i64::try_from(seq).unwrap();
    send(lane, NOW_MS, "flow-0", &Sent::new(1, seq).block(t0, 2, values))
}

#[test]
fn v05_a_gauge_beyond_its_usual_range_is_stored_and_suspect() {
    let mut lane = level_lane();
    let decisions = levels(&mut lane, 0, &[-1, 0, 6, 1, -5]);
    assert_eq!((accepted_seqs(&decisions), quality(&decisions)), (vec![0, 1, 2, 3, 4], vec![2, 1, 1, 1, 2]));
    assert_eq!((doubted(&lane, "V05"), doubted(&lane, "V07")), (2, 0));
    let decisions = levels(&mut level_lane(), 0, &[500, 501]);
    assert_eq!(quality(&decisions), [1, 2]);
}

#[test]
fn v07_a_gauge_that_changes_faster_than_plausible_is_stored_and_suspect() {
    for split in [false, true] {
        let mut lane = level_lane();
        let values = [100, 107, 115, 108, 100];
        let mut seen = Vec::new();
        for (seq, part) in (0..).zip(values.chunks(if split { 1 } else { values.len() })) {
            seen.extend(quality(&levels(&mut lane, seq, part)));
        }
        assert_eq!(seen, [1, 1, 2, 1, 2], "six and a step of one a minute; split {split}");
        // Two minutes later.
        assert_eq!(quality(&levels(&mut lane, 6, &[113])), [1]);
        assert_eq!((doubted(&lane, "V07"), doubted(&lane, "V05")), (2, 0));
    }
}

#[test]
fn v07_a_register_that_rises_faster_than_plausible_is_stored_and_suspect() {
    let mut lane = lane();
    let sent = Sent::new(1, 0).block(START_H, 1, &[0, 7_210, 14_430, 14_430]);
    assert_eq!(quality(&send(&mut lane, NOW_MS, "gas-0", &sent)), [1, 1, 2, 1]);
    assert_eq!((doubted(&lane, "V07"), doubted(&lane, "V06")), (1, 0));
}

#[test]
fn a_suspect_sample_still_raises_an_alarm() {
    let mut lane = level_lane();
    let rise = levels(&mut lane, 0, &[0, 900, 900]);
    assert_eq!(quality(&rise), [1, 2, 2], "a leap, and beyond the usual range");
    // Met from the first doubted sample on, and raised when it has held for a minute.
    let phases: Vec<_> = rise.alerts.iter().map(|change| (change.phase, change.value)).collect();
    use hunhe_gateway_core::device::alert::Phase::{Firing, Pending};
    assert_eq!(phases, [(Pending, 900), (Firing, 900)]);
}

#[test]
fn the_worst_of_a_samples_channels_is_its_quality_and_no_device_makes_itself_final() {
    let mut lane = lane();
    let columns = vec![(1, vec![0, 10, 20, 30], vec![1, 3, 6, 0]), (2, vec![1, 2, 3, 4], vec![1, 2, 6, 1])];
    let decisions = send(
        &mut lane,
        NOW_MS,
        "gas-0",
        &Sent::new(1, 0).with(Block { t0: START_H, columns, ..Block::default() }),
    );
    assert_eq!(quality(&decisions), [1, 2, 1, 0]);
}

#[test]
fn a_gas_meter_of_a_year_stays_below_1200_bytes() {
    let mut lane = lane();
    for day in 0..365_i64 {
        let values: Vec<i64> = (0..24).map(|hour| (day * 24 + hour) * 10).collect();
        let columns = vec![(1, values, vec![]), (2, vec![150; 24], vec![]), (3, vec![7; 24], vec![])];
        let seq = u64::try_from(day).unwrap() * 24;
        let sent = Sent::new(1, seq).with(Block { t0: START_H + day * 24, columns, ..Block::default() });
        let decisions = send(&mut lane, START_MS + (day + 1) * DAY_MS, "gas-0", &sent);
        assert_eq!(decisions.accepted.times_ms.len(), 24);
    }
    let bytes = lane.state(device("gas-0")).unwrap().bytes();
    assert!(bytes <= 1200, "{bytes} bytes");
    let fallen = lane.counters().late_for_window;
    assert_eq!((fallen, doubted(&lane, "V06")), (0, 0));
}
