//! An honest outbox and the gateway's shares: what is not taken is asked for and sent again, until everything is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly, its helpers too")]

use std::{collections::BTreeMap, sync::Arc};

use hunhe_edge_core::outbox::{Outbox, Range, State};
use hunhe_fixtures::{enrolment, id, seed_class};
use hunhe_gateway::intake::Shares;
use hunhe_gateway_core::registry::Registry;
use hunhe_proto::{reading::Header, topic};

const BOOT: u32 = 1;
/// A watermark is published no oftener, in milliseconds.
const WATERMARK_MS: u64 = 2_000;
/// Ranges that a watermark names.
const MISSING_MAX: usize = 8;

fn registry() -> Arc<Registry> {
    let device = enrolment("det-0", "gas_station_detector", "det-0");
    Arc::new(hunhe_fixtures::registry(vec![seed_class("gas_station_detector")], Vec::new(), [device]))
}

fn report(samples: u64) -> Vec<u8> {
    let values: Vec<i64> = (0..samples).map(|at| 150 + i64::try_from(at % 7).unwrap()).collect();
    hunhe_fixtures::report(Header { boot: BOOT, ..Header::default() }, 1, 1, &values)
}

/// Which samples the gateway has: disjoint ranges by their starts.
#[derive(Default)]
struct Received(BTreeMap<u64, u64>);

impl Received {
    fn add(&mut self, range: Range) {
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// All below the first is there; then what is missing before the newest.
    fn watermark(&self) -> (u64, Vec<Range>) {
        let mut ends = self.0.iter().map(|(&start, &end)| (start, end)).peekable();
        let through = ends.next_if(|(start, _)| *start == 0).map_or(0, |(_, end)| end);
        let mut missing = Vec::new();
        let mut from = through;
        for (start, end) in ends.take(MISSING_MAX) {
            missing.push(Range { start: from, end: start });
            from = end;
        }
        (through, missing)
    }
}

/// Seconds until everything is there; how many messages were sent.
fn drain(backlog_days: u64, live: bool) -> (u64, u64) {
    let mut shares = Shares::new(registry(), false);
    let topic = topic::up(id("det-0"));
    let held = backlog_days * 8_640;
    let mut outbox = Outbox::new(State { next_seq: held, ..State::new(BOOT, None) });
    let (mut received, mut touched, mut messages, mut reports) =
        (Received::default(), false, 0, BTreeMap::new());
    for second in 0..86_400 {
        let now_ms = second * 1_000;
        // Six samples a minute, while it is sampled at all.
        if live && second % 10 == 0 {
            outbox.stored(held + second / 10);
        }
        outbox.rewind_if_stalled(now_ms);
        while let Some(range) = outbox.next_report(360, now_ms) {
            let payload = reports.entry(range.count()).or_insert_with(|| report(range.count()));
            messages += 1;
            if shares.take(topic.as_bytes(), payload, now_ms * 1_000_000).is_ok() {
                received.add(range);
                touched = true;
            }
            outbox.sent(range, u32::try_from(messages).unwrap(), now_ms);
        }
        if touched && now_ms % WATERMARK_MS == 0 {
            touched = false;
            let (through, missing) = received.watermark();
            outbox.watermark(BOOT, through, missing, now_ms);
        }
        if outbox.held() == 0 && second > 0 {
            return (second, messages);
        }
    }
    panic!("{} samples are still owed after a day", outbox.held());
}

#[test]
fn a_backlog_within_the_burst_comes_in_at_once() {
    let (seconds, messages) = drain(30, true);
    assert!(seconds <= 10 && messages < 800, "{seconds} s, {messages} messages");
}

/// Nothing of the rest is taken at first; each sample is asked for, and the pace is sixteen times that of its sampling.
#[test]
fn a_backlog_beyond_the_burst_comes_in_whole_at_the_pace_of_its_share() {
    let (seconds, messages) = drain(45, true);
    println!("45 days: {seconds} s, {messages} messages");
    assert!((3_000..4 * 3_600).contains(&seconds), "{seconds} s");
}

/// The newest reports were not taken, nothing follows them, and no watermark can name them missing.
#[test]
fn a_backlog_whose_end_was_not_taken_comes_in_without_anything_behind_it() {
    let (seconds, messages) = drain(45, false);
    println!("45 days, then nothing: {seconds} s, {messages} messages");
    assert!(seconds < 6 * 3_600, "{seconds} s");
}
