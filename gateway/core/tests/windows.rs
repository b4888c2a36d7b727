//! A window is a function of the set of its samples, never of the order in which they came.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::{
    device::aggregate::{KEPT, window_start},
    event::{ABSENT, ChannelStat, Decisions},
    lane::Lane,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

const QUARTER_MS: i64 = 900_000;
const KEPT_QUARTERS: i64 = 3;
const _: () = assert!(KEPT == 3);

type Content = (u32, Vec<ChannelStat>);

/// What a reader of the database sees: each window as last shown. Checks that revisions count up from 0.
#[derive(Debug, Default)]
struct Database {
    windows: BTreeMap<(i64, i64), (u32, Content)>,
}

impl Database {
    fn take(&mut self, decisions: &Decisions) {
        for window in &decisions.shown.windows {
            let stats = &decisions.shown.stats[window.stats_from..window.stats_from + window.channels];
            let key = (window.length_ms, window.start_ms);
            let revision = self.windows.get(&key).map_or(0, |(revision, _)| revision + 1);
            assert_eq!(window.revision, revision, "{key:?}");
            self.windows.insert(key, (revision, (window.expected, stats.to_vec())));
        }
    }

    fn content(&self) -> BTreeMap<(i64, i64), Content> {
        self.windows.iter().map(|(key, (_, content))| (*key, content.clone())).collect()
    }
}

/// One report a sample, so that order is all that differs.
fn play(samples: &[(u64, i64, i64, i64)], order: &[usize]) -> (Database, Lane) {
    let (mut lane, mut database) = (lane(), Database::default());
    let now_ms = START_MS + 2 * DAY_MS;
    for &index in order {
        let (seq, t0_s, flow, pressure) = samples[index];
        let columns = vec![(1, vec![flow], vec![]), (2, vec![pressure], vec![])];
        let sent = Sent::new(1, seq).held_from(0).with(Block { t0: t0_s, columns, ..Block::default() });
        database.take(&send(&mut lane, now_ms, "flow-0", &sent));
    }
    database.take(&tick(&mut lane, now_ms + DAY_MS));
    (database, lane)
}

/// Straight from the definition.
fn expected(samples: &[(u64, i64, i64, i64)]) -> BTreeMap<(i64, i64), Content> {
    let mut windows: BTreeMap<(i64, i64), Content> = BTreeMap::new();
    for length_ms in [QUARTER_MS, HOUR_MS, DAY_MS] {
        let mut by_start: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for sample in samples {
            let city_ms = sample.1 * 1000 + 8 * HOUR_MS;
            by_start.entry(city_ms - city_ms.rem_euclid(length_ms) - 8 * HOUR_MS).or_default().push(*sample);
        }
        for (start, mut inside) in by_start {
            inside.sort_by_key(|&(seq, t0_s, _, _)| (t0_s, seq));
            let stat = |channel: u16, values: Vec<i64>| {
                let sum = values.iter().copied().map(i128::from).sum();
                let (min, max) = (*values.iter().min()?, *values.iter().max()?);
                let count = u32::try_from(values.len()).unwrap();
                Some(ChannelStat { channel, count, sum, min, max, last: *values.last()? })
            };
            let column = |pick: fn(&(u64, i64, i64, i64)) -> i64| {
                inside.iter().map(pick).filter(|&value| value != ABSENT).collect::<Vec<_>>()
            };
            let stats = [stat(1, column(|s| s.2)), stat(2, column(|s| s.3))].into_iter().flatten().collect();
            let expected = u32::try_from(length_ms / 60_000).unwrap();
            windows.insert((length_ms, start), (expected, stats));
        }
    }
    windows
}

prop_compose! {
    /// Samples within as many quarters of an hour as are kept, some at one time, with values up to the type's end.
    fn samples()(list in prop::collection::vec(
        (0..KEPT_QUARTERS * 900, prop_oneof![Just(900_000_000_000_000), Just(-900_000_000_000_000), -500..500_i64],
            prop_oneof![2 => 0..12_000_i64, 1 => Just(ABSENT)]), 1..60),
    ) -> Vec<(u64, i64, i64, i64)> {
        list.into_iter().zip(0_u64..).map(|((after_s, flow, pressure), seq)| (seq, START_MS / 1000 + after_s, flow, pressure)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_order_of_the_same_samples_shows_the_same_windows(
        (samples, order) in samples().prop_flat_map(|list| {
            let order: Vec<usize> = (0..list.len()).collect();
            (Just(list), Just(order).prop_shuffle())
        }),
    ) {
        let straight: Vec<usize> = (0..samples.len()).collect();
        let wanted = expected(&samples);
        for order in [straight, order] {
            let (database, lane) = play(&samples, &order);
            prop_assert_eq!(&database.content(), &wanted);
            prop_assert_eq!(lane.counters().late_for_window, 0);
        }
    }

    #[test]
    fn a_window_starts_where_the_city_says(time_ms in -(1_i64 << 53)..(1 << 53), which in 0..3_usize) {
        let length_ms = [QUARTER_MS, HOUR_MS, DAY_MS][which];
        let start = window_start(time_ms, length_ms);
        prop_assert!(start <= time_ms && time_ms < start + length_ms);
        prop_assert_eq!((start + 8 * HOUR_MS).rem_euclid(length_ms), 0);
    }
}

fn quarter(number: i64, values: &[i64]) -> Sent {
    let seq = u64::try_from(number).unwrap() * 15;
    Sent::new(1, seq).held_from(0).block((START_MS + number * QUARTER_MS) / 1000, 1, values)
}

#[test]
fn a_complete_window_is_shown_at_once_and_an_incomplete_one_when_time_has_passed_it() {
    let now_ms = START_MS + DAY_MS;
    let (mut lane, mut database) = (lane(), Database::default());
    assert!(tick(&mut lane, now_ms).is_empty());
    database.take(&send(&mut lane, now_ms, "flow-0", &quarter(0, &[1; 15])));
    assert_eq!(database.windows[&(QUARTER_MS, START_MS)].1.1[0].count, 15);
    database.take(&send(&mut lane, now_ms, "flow-0", &quarter(1, &[1; 14])));
    assert_eq!(database.windows.len(), 1);
    database.take(&send(&mut lane, now_ms, "flow-0", &quarter(2, &[1; 1])));
    assert_eq!(database.windows.len(), 2);
    // Silence shows the rest, once.
    database.take(&tick(&mut lane, now_ms + 1_800_000));
    assert_eq!(database.windows.len(), 2, "not silent yet");
    database.take(&tick(&mut lane, now_ms + 3_700_000));
    assert_eq!(database.windows.len(), 5, "the third quarter, the hour and the day");
    assert!(tick(&mut lane, now_ms + 7_300_000).is_empty());
    // The missing sample comes: a revision, under the same start.
    let late = Sent::new(1, 29).held_from(0).block((START_MS + 29 * 60_000) / 1000, 1, &[9]);
    let decisions = send(&mut lane, now_ms, "flow-0", &late);
    database.take(&decisions);
    let (revision, (_, stats)) = &database.windows[&(QUARTER_MS, START_MS + QUARTER_MS)];
    assert_eq!((*revision, stats[0].count, stats[0].max, stats[0].last), (1, 15, 9, 9));
}

#[test]
fn what_is_too_late_for_the_kept_windows_is_counted_and_changes_none() {
    let now_ms = START_MS + DAY_MS;
    let (mut lane, mut database) = (lane(), Database::default());
    for number in 0..KEPT_QUARTERS + 2 {
        database.take(&send(&mut lane, now_ms, "flow-0", &quarter(number, &[1; 7])));
    }
    let before = database.content();
    let late = Sent::new(1, 7).held_from(0).block((START_MS + 7 * 60_000) / 1000, 1, &[9, 9]);
    let decisions = send(&mut lane, now_ms, "flow-0", &late);
    database.take(&decisions);
    assert_eq!(accepted_seqs(&decisions), [7, 8], "it stays in the raw series");
    assert_eq!(lane.counters().late_for_window, 2);
    let quarters = |content: BTreeMap<(i64, i64), Content>| {
        content.into_iter().filter(|((length_ms, _), _)| *length_ms == QUARTER_MS).collect::<Vec<_>>()
    };
    assert_eq!(quarters(database.content()), quarters(before));
    assert_eq!(database.windows[&(HOUR_MS, START_MS)].1.1[0].max, 9, "the hour is still kept");
}

#[test]
fn a_report_that_spans_more_windows_than_are_kept_shows_each() {
    let now_ms = START_MS + DAY_MS;
    let (mut lane, mut database) = (lane(), Database::default());
    database.take(&send(&mut lane, now_ms, "flow-0", &quarter(0, &[2; 15 * 10 + 1])));
    let quarters = database.windows.iter().filter(|((length_ms, _), _)| *length_ms == QUARTER_MS);
    assert_eq!(quarters.filter(|(_, (_, (_, stats)))| stats[0].count == 15).count(), 10);
}

#[test]
fn samples_dated_ahead_take_no_window_of_the_present_and_show_none_early() {
    let played = |ahead: &[i64]| {
        let (mut lane, mut database) = (lane(), Database::default());
        for minute in 0..60_i64 {
            let (now_ms, seq) = (START_MS + minute * 60_000, u64::try_from(minute).unwrap());
            if minute == 1 {
                for (seq, minutes) in (0..).zip(ahead) {
                    let t0 = (now_ms + minutes * 60_000) / 1000;
                    let decisions = send(&mut lane, now_ms, "flow-0", &Sent::new(9, seq).block(t0, 1, &[7]));
                    assert_eq!(accepted_seqs(&decisions), [seq], "it is kept");
                    database.take(&decisions);
                }
            }
            let sent = Sent::new(1, seq).block(now_ms / 1000, 1, &[minute]);
            database.take(&send(&mut lane, now_ms, "flow-0", &sent));
        }
        let quarters = database.content().into_iter().filter(|((length_ms, _), _)| *length_ms == QUARTER_MS);
        quarters.collect::<Vec<_>>()
    };
    let plain = played(&[]);
    assert_eq!(plain.len(), 4);
    assert_eq!(played(&[14]), plain, "one in the next quarter of an hour");
}

#[test]
fn the_windows_of_a_clock_that_is_known_to_be_fast_are_its_own() {
    use hunhe_gateway_core::event::{Arrival, Event};
    let (mut lane, mut database) = (lane(), Database::default());
    for minute in 0..60_i64 {
        let at_ms = START_MS + minute * 60_000;
        let mut sent =
            Sent::new(1, u64::try_from(minute).unwrap()).block(at_ms / 1000 + 14 * 60, 1, &[minute]);
        sent.header.sent_after_s = Some(0);
        let (topic, payload) = (up("flow-0"), sent.versioned("flow-0").bytes());
        let arrival = Arrival { lsn: 1, at_ms, live: true, alarm: false };
        let mut decisions = Decisions::default();
        lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
        database.take(&decisions);
    }
    let whole =
        |(key, (_, (_, stats))): (&(i64, i64), &(u32, Content))| key.0 == QUARTER_MS && stats[0].count == 15;
    assert_eq!(database.windows.iter().filter(|window| whole(*window)).count(), 3);
}
