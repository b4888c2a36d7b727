//! Bad input is data: each kind is refused with its own reason, counted, and harms nothing that comes after.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod support;

use hunhe_gateway_core::lane::{Lane, Policy};
use hunhe_proto::reading::{Drop, DropCause, Header, SEQ_END};
use proptest::prelude::*;
use support::*;

const NOW_MS: i64 = START_MS + DAY_MS;

fn good(seq: u64) -> Sent {
    Sent::new(7, seq).block(START_H, 1, &[1000, 1010, 1020])
}

/// By the clock of the class as it is here its time is out of range; it says that it follows another version.
fn by_another_clock() -> Vec<u8> {
    let mut sent = Sent::new(7, 0).block(i64::MAX / 4, 1, &[1000]);
    sent.header.class_version = Some(GAS_VERSION + 1);
    sent.bytes()
}

/// Refused samples as (first, count, reason).
type Ranges = Vec<(u64, u64, &'static str)>;

/// Sends it, then a good report, which must be accepted whole; returns reasons of message and samples.
fn refused(topic: &[u8], payload: &[u8]) -> (Option<&'static str>, Ranges, Lane) {
    let mut lane = lane();
    let decisions = message(&mut lane, NOW_MS, topic, payload);
    assert!(decisions.accepted.sets.is_empty());
    let samples =
        decisions.refused.iter().map(|range| (range.seq, range.count, range.reason.name())).collect();
    let reason = decisions.refusal.map(|refusal| refusal.reason.name());
    let after = send(&mut lane, NOW_MS, "gas-0", &good(100).held_from(100));
    assert_eq!(accepted_seqs(&after), [100, 101, 102], "the next good message passes");
    assert!(after.refusal.is_none());
    (reason, samples, lane)
}

#[test]
fn each_bad_message_is_refused_whole_with_its_own_reason() {
    let fine = good(0).versioned("gas-0").bytes();
    let says = |class_version| {
        let sent = good(0);
        Sent { header: Header { class_version, ..sent.header }, ..sent }.bytes()
    };
    // Fields by hand, where no encoder would write them: a float column, a value of 2^53, a drop of nothing.
    let float = [0x52, 0x09, 0x2a, 0x07, 0x15, 0, 0, 0x80, 0x3f, 0x08, 0x01];
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("bad_topic", b"hunhe/v2/00/gas-0/up".to_vec(), fine.clone()),
        ("bad_topic", b"hunhe/v1/agents/agent-gas/up".to_vec(), fine.clone()),
        ("bad_topic", b"\xff\xfe".to_vec(), fine.clone()),
        ("bad_id", b"hunhe/v1/00/Gas_0/up".to_vec(), fine.clone()),
        ("bad_id", b"hunhe/v1/00/<script>/up".to_vec(), fine.clone()),
        (
            "wrong_shard",
            {
                let mut topic = up("gas-0");
                topic[9] = if topic[9] == b'0' { b'1' } else { b'0' };
                topic
            },
            fine.clone(),
        ),
        ("unknown_device", up("gas-9"), fine.clone()),
        ("unknown_device", b"hunhe/v1/agents/nobody/state".to_vec(), vec![]),
        ("oversize", up("gas-0"), vec![0; 64 * 1024 + 1]),
        ("truncated", up("gas-0"), fine[..fine.len() - 1].to_vec()),
        ("not_protobuf", up("gas-0"), vec![0x07]),
        ("not_protobuf", up("gas-0"), vec![0xff; 20]),
        ("not_an_integer", up("gas-0"), float.to_vec()),
        (
            "bad_seq",
            up("gas-0"),
            Sent { header: Header { boot: 1, seq: SEQ_END, ..Header::default() }, ..Sent::default() }.bytes(),
        ),
        ("not_protobuf", b"hunhe/v1/agents/agent-gas/state".to_vec(), vec![0x0f, 1]),
        ("class_version_unknown", up("gas-0"), says(None)),
        ("unknown_class_version", up("gas-0"), says(Some(GAS_VERSION + 1))),
        ("unknown_class_version", up("gas-0"), says(Some(0))),
        ("unknown_class_version", up("gas-0"), by_another_clock()),
    ];
    for (index, (reason, topic, payload)) in cases.into_iter().enumerate() {
        let (seen, samples, lane) = refused(&topic, &payload);
        assert_eq!(seen, Some(reason), "case {index}");
        assert_eq!(samples, [], "case {index}");
        let counted: Vec<_> =
            lane.counters().messages_refused.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(counted, [(reason, 1)], "case {index}");
        assert_eq!((lane.counters().messages, lane.counters().samples), (2, 3), "case {index}");
        // Seqs below 100 were never reported as held: that is the only thing the ledger lacks.
        let (ledger, _) = lane.ledger(|_| true);
        assert_eq!((ledger.sampled, ledger.outstanding, ledger.unexplained()), (103, 3, 100), "case {index}");
    }
}

#[test]
fn undecodable_columns_are_told_apart() {
    let column = |deltas: &[u8]| {
        let mut column = vec![0x12, u8::try_from(deltas.len()).unwrap()];
        column.extend_from_slice(deltas);
        let mut block = vec![0x2a, u8::try_from(column.len()).unwrap()];
        block.extend_from_slice(&column);
        let mut report = vec![0x52, u8::try_from(block.len()).unwrap()];
        report.extend_from_slice(&block);
        report
    };
    let reasons: std::collections::BTreeSet<_> = (0..=255_u8)
        .flat_map(|byte| {
            [
                vec![byte],
                vec![byte, 0xff],
                vec![byte; 9],
                vec![0xff, byte, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ]
        })
        .filter_map(|deltas| {
            let mut lane = lane();
            let decisions = message(&mut lane, NOW_MS, &up("gas-0"), &column(&deltas));
            decisions.refusal.filter(|_| decisions.refused.is_empty()).map(|refusal| refusal.reason.name())
        })
        .collect();
    assert!(reasons.contains("bad_column"), "{reasons:?}");
    assert!(reasons.contains("value_overflow"), "{reasons:?}");
}

#[test]
fn each_bad_sample_is_refused_with_its_own_reason_and_its_message_with_the_first() {
    let now_h = NOW_MS / HOUR_MS;
    let cases: Vec<(Sent, Ranges)> = vec![
        (Sent::new(7, 0).block(START_H, 200, &[1, 2]), vec![(0, 2, "no_known_channel")]),
        (Sent::new(7, 0).block(START_H, 60_000, &[1, 2]), vec![(0, 2, "no_known_channel")]),
        (Sent::new(7, 5).block(0, 1, &[1000, 1010]), vec![(5, 2, "too_old")]),
        (Sent::new(7, 5).block(-400_000, 1, &[1000]), vec![(5, 1, "too_old")]),
        (Sent::new(7, 0).block(now_h + 1, 1, &[1000]), vec![(0, 1, "in_future")]),
        (Sent::new(7, 0).block(START_H, 1, &[-10, 100_000_000]), vec![(0, 2, "out_of_range")]),
        (Sent::new(7, 0).block(START_H, 1, &[1001, 1002]), vec![(0, 2, "resolution")]),
        (
            Sent::new(7, 0).block(START_H, 1, &[1001, -10, -20, 1002]),
            vec![(0, 1, "resolution"), (1, 2, "out_of_range"), (3, 1, "resolution")],
        ),
        (
            Sent::new(7, 0).block(0, 1, &[10]).block(now_h + 1, 1, &[10]).block(START_H, 200, &[10]),
            vec![(0, 1, "too_old"), (1, 1, "in_future"), (2, 1, "no_known_channel")],
        ),
    ];
    for (sent, expected) in cases {
        let (reason, samples, lane) = refused(&up("gas-0"), &sent.versioned("gas-0").bytes());
        assert_eq!(samples, expected);
        assert_eq!(reason, Some(expected[0].2));
        let mut by_reason = std::collections::BTreeMap::new();
        expected.iter().for_each(|range| *by_reason.entry(range.2.to_string()).or_insert(0) += range.1);
        assert_eq!(lane.counters().samples_refused, by_reason);
        assert!(lane.counters().messages_refused.is_empty());
        let refused: u64 = expected.iter().map(|range| range.1).sum();
        let (ledger, _) = lane.ledger(|_| true);
        assert_eq!(ledger.outstanding, refused + 3, "refused samples wait for the quarantine's word");
    }
}

#[test]
fn a_sample_that_the_sink_of_record_would_not_keep_is_refused_and_taken_once_it_would() {
    let retention_ms = 45 * DAY_MS;
    let policy = Policy { retention_ms, ..Policy::default() };
    let mut lane = Lane::new(registry(), policy);
    // Three samples an hour apart, the second of them as old as is still kept.
    let at_ms = START_MS + HOUR_MS + retention_ms;
    let sent = good(0);
    let decisions = send(&mut lane, at_ms, "gas-0", &sent);
    assert_eq!(accepted_seqs(&decisions), [1, 2]);
    let refused: Vec<_> = decisions.refused.iter().map(|r| (r.seq, r.count, r.reason.name())).collect();
    assert_eq!(refused, [(0, 1, "older_than_retention")]);
    assert_eq!(lane.counters().samples_refused, [("older_than_retention".to_owned(), 1)].into());
    // Far older ones: all of them, whatever `accept_past` says.
    let decisions = send(&mut lane, at_ms + 365 * DAY_MS, "gas-1", &good(0));
    assert_eq!((accepted_seqs(&decisions), decisions.refused.len()), (vec![], 1));
    // The retention was raised.
    let mut raised = Lane::new(registry(), Policy { retention_ms: 400 * DAY_MS, ..policy });
    send(&mut raised, at_ms, "gas-0", &good(10));
    let again = redrive(&mut raised, at_ms, "gas-0", &sent, &[(0, 1)]);
    assert_eq!(accepted_seqs(&again), [0]);
}

#[test]
fn a_sample_without_any_value_is_not_accepted() {
    const NONE: i64 = hunhe_gateway_core::event::ABSENT;
    let mut lane = lane();
    let block = Block {
        t0: START_H,
        columns: vec![(1, vec![10, NONE, NONE, 15], vec![]), (2, vec![NONE, NONE, 200, 9999], vec![])],
        ..Block::default()
    };
    let decisions = send(&mut lane, NOW_MS, "gas-0", &Sent::new(1, 0).with(block));
    assert_eq!(accepted_seqs(&decisions), [0, 2]);
    let refused: Vec<_> = decisions.refused.iter().map(|r| (r.seq, r.count, r.reason.name())).collect();
    assert_eq!(refused, [(1, 1, "no_known_channel"), (3, 1, "resolution")]);
    assert_eq!((lane.counters().readings, lane.counters().values_refused), (2, 0));
}

#[test]
fn refused_payloads_are_named_to_the_agent_oldest_forgotten_first() {
    let mut lane = lane();
    for byte in 0..20 {
        message(&mut lane, NOW_MS, &up("gas-0"), &[0x07, byte]);
        message(&mut lane, NOW_MS, &up("gas-0"), &[0x07, byte]);
    }
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let expected: Vec<u32> = (4..20).map(|byte| crc32c::crc32c(&[0x07, byte])).collect();
    assert_eq!(lane.watermark(agent).refused, expected);
    assert_eq!(lane.take_touched_agents(|_| true), [agent]);
    assert_eq!(lane.take_touched_agents(|_| true), []);
}

#[test]
fn an_agent_that_is_not_due_is_taken_once_it_has_stopped_sending() {
    let mut lane = lane();
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    for byte in 0..3 {
        message(&mut lane, NOW_MS, &up("gas-0"), &[0x07, byte]);
        assert_eq!(lane.take_touched_agents(|_| false), [], "it sends");
    }
    assert_eq!(lane.take_touched_agents(|_| false), [agent]);
    assert_eq!(lane.take_touched_agents(|_| true), [], "it was taken");
    message(&mut lane, NOW_MS, &up("gas-0"), &[0x07, 9]);
    assert_eq!(lane.take_touched_agents(|_| true), [agent], "it is due");
}

fn times() -> impl Strategy<Value = i64> {
    let edge = 1_i64 << 53;
    prop_oneof![
        Just(0),
        Just(-1),
        Just(i64::MAX),
        Just(i64::MIN),
        Just(i64::MAX / 2),
        Just(START_H),
        Just(START_MS),
        (0..100_i64).prop_map(move |near| edge - near),
        (0..100_i64).prop_map(move |near| near - edge),
        any::<i64>()
    ]
}

fn seqs() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_u64, (0..9000_u64).prop_map(|near| SEQ_END - near), any::<u64>().prop_map(|n| n >> 11)]
}

prop_compose! {
    fn extreme()(
        boots in prop::array::uniform2(0..6_u32),
        numbers in prop::array::uniform4(seqs()),
        given in prop::array::uniform5(any::<bool>()),
        count in seqs(),
        after in prop_oneof![Just(i32::MIN), Just(i32::MAX), -1000..1000],
        t0s in prop::collection::vec((times(), prop_oneof![Just(0), Just(u32::MAX), 0..9_u32],
            prop::collection::vec(prop_oneof![0..2000_i64, Just((1 << 53) - 1), Just(1 - (1 << 53))], 1..5)), 0..4),
        dt in any::<bool>(),
    ) -> Sent {
        let header = Header {
            boot: boots[0],
            seq: numbers[0],
            held_from: given[0].then_some(numbers[1]),
            next_seq: given[1].then_some(numbers[2]),
            prev_boot: given[2].then_some(boots[1]),
            prev_next_seq: given[3].then_some(numbers[3]),
            sent_after_s: given[4].then_some(after),
            ..Header::default()
        };
        let drops = (count > 0).then_some(Drop { seq: numbers[3], count, cause: DropCause::Full }).into_iter().collect();
        let blocks = t0s.into_iter().map(|(t0, step, values)| {
            let dt = if dt { vec![step.max(1); values.len() - 1] } else { vec![] };
            Block { t0, step, dt, columns: vec![(1, values, vec![])] }
        }).collect();
        Sent { header, drops, blocks }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_and_no_numbers_make_it_panic(
        junk in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..200), 0..3_usize), 0..12),
        reports in prop::collection::vec((extreme(), times(), any::<bool>(), 0..4_usize), 1..12),
        past in times(),
    ) {
        let names = ["gas-0", "gas-1", "flow-0", "flow-1"];
        let policy = Policy::new(past, past);
        let mut lane = Lane::new(registry(), policy);
        for (topic, payload, known) in junk {
            let topic = [topic, up("gas-0"), b"hunhe/v1/agents/agent-gas/state".to_vec()][known].clone();
            message(&mut lane, START_MS, &topic, &payload);
        }
        for (sent, at_ms, live, name) in reports {
            let mut decisions = hunhe_gateway_core::event::Decisions::default();
            let sent = sent.versioned(names[name]);
            let (topic, payload) = (up(names[name]), sent.bytes());
            let mut arrival = arrival(at_ms);
            arrival.live = live;
            lane.handle(hunhe_gateway_core::event::Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
            let refused = [(0, u64::MAX), (u64::MAX, u64::MAX), (3, 4)];
            redrive(&mut lane, at_ms, names[name], &sent, &refused);
            tick(&mut lane, at_ms);
            let _ = lane.ledger(|_| true).0.unexplained();
            for agent in lane.take_touched_agents(|_| true) {
                let _ = lane.watermark(agent);
            }
        }
    }

    #[test]
    fn a_damaged_report_never_panics_nor_stops_the_next(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut lane = lane();
        let mut payload = good(3).versioned("gas-0").bytes();
        let place = at.index(payload.len());
        payload[place] = byte;
        payload.truncate(cut.index(payload.len()) + 1);
        message(&mut lane, NOW_MS, &up("gas-0"), &payload);
        let after = send(&mut lane, NOW_MS, "gas-1", &good(0));
        prop_assert_eq!(accepted_seqs(&after), [0, 1, 2]);
    }
}
