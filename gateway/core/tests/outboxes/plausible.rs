//! Sequence numbers that a device cannot have reached are refused; what it can have sampled is believed.

use super::*;

/// The most that an hourly meter is believed to have sampled since then.
fn believed(elapsed_ms: i64) -> u64 {
    u64::try_from(elapsed_ms / HOUR_MS).unwrap() * 2 + MARGIN
}

#[test]
fn numbers_that_cannot_have_been_sampled_are_refused_whole_and_touch_nothing() {
    let mut lane = watched();
    // A meter up to date: its newest sample is of now.
    let t0 = NOW_MS / HOUR_MS;
    let newest = Sent::new(1, 100).held_from(100).block(t0, 1, &[1000]);
    send(&mut lane, NOW_MS, "gas-0", &newest);
    let before = ledger(&lane);
    let at_ms = NOW_MS + DAY_MS;
    let claim = |change: &dyn Fn(&mut Sent)| {
        let mut sent = Sent::new(1, 101).held_from(101).block(t0 + 1, 1, &[1010]);
        change(&mut sent);
        sent
    };
    let most = 101 + believed(DAY_MS);
    let cases: [(&str, Sent); 5] = [
        ("the report's own end", claim(&|sent| sent.header.seq = SEQ_END - 4096)),
        ("what it has sampled", claim(&|sent| sent.header.next_seq = Some(SEQ_END - 4096))),
        ("just beyond", claim(&|sent| sent.header.next_seq = Some(most + 1))),
        (
            "what it dropped",
            claim(&|sent| {
                sent.drops.push(Drop { seq: 102, count: 5_000_000_000, cause: DropCause::Full });
            }),
        ),
        (
            "the outbox before",
            claim(&|sent| {
                (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(9), Some(5_000_000_000));
            }),
        ),
    ];
    let mut changes = Vec::new();
    for (what, sent) in &cases {
        let decisions = send(&mut lane, at_ms, "gas-0", sent);
        assert_eq!(reason(&decisions), Some("implausible_seq"), "{what}");
        assert!(decisions.accepted.sets.is_empty() && decisions.refused.is_empty(), "{what}");
        assert_eq!(ledger(&lane), before, "{what}");
        changes.extend(decisions.alerts);
    }
    assert_eq!(raised(&changes), [("implausible".to_owned(), Phase::Firing, 1)], "told once");
    assert_eq!(lane.counters().messages_refused["implausible_seq"], 5);
    // The report stays at the edge: no watermark passes it or names it as refused.
    let agent = registry().find_agent(id("agent-gas")).unwrap();
    let mark = lane.watermark(agent);
    assert!(mark.refused.is_empty());
    assert_eq!((mark.devices[0].boots.len(), mark.devices[0].boots[0].through), (1, 101));
    // The next good one passes, and so does one at the bound; an operator may know better.
    let good = send(&mut lane, at_ms, "gas-0", &claim(&|_| {}));
    assert_eq!((reason(&good), accepted_seqs(&good)), (None, vec![101]));
    let mut fresh = watched();
    send(&mut fresh, NOW_MS, "gas-0", &newest);
    assert_eq!(reason(&send(&mut fresh, at_ms, "gas-0", &claim(&|s| s.header.next_seq = Some(most)))), None);
    let redriven = redrive(&mut lane, at_ms, "gas-0", &cases[2].1, &[]);
    assert_eq!(reason(&redriven), None);
}

#[test]
fn what_a_device_can_have_sampled_is_believed() {
    // An agent whose gateway lost everything, and one that was away for a year.
    let mut lane = lane();
    let t0 = NOW_MS / HOUR_MS;
    let long = Sent::new(1, 57_000).held_from(57_000).block(t0, 1, &[1000]);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &long)), None, "hourly since 2020");
    let year = Sent::new(1, 57_001 + 8_760).held_from(57_001).block(t0 + 8_760, 1, &[1010]);
    assert_eq!(reason(&send(&mut lane, NOW_MS + 365 * DAY_MS, "gas-0", &year)), None);
    // One without a history is bounded, too.
    let never = Sent::new(1, 5_000_000_000).block(t0, 1, &[1000]);
    let refused = send(&mut lane, NOW_MS, "gas-1", &never);
    assert_eq!(reason(&refused), Some("implausible_seq"));
    assert_eq!(ledger(&lane).sampled, 57_001 + 8_761);
    // A recording is read faster than the clock goes: what counts is the time of its samples.
    for month in 0..400 {
        let first = month * 3_000;
        let hours: Vec<i64> = (0..3_000).collect();
        let sent = Sent::new(2, first).with(Block {
            t0: START_MS / 1000 + i64::try_from(first).unwrap() * 15,
            step: 15,
            columns: vec![(2, hours, vec![])],
            ..Block::default()
        });
        assert_eq!(reason(&send(&mut lane, NOW_MS, "flow-0", &sent)), None, "month {month}");
    }
    // A gateway whose clock was never set cannot tell: the samples' times are what it refuses.
    assert_eq!(reason(&send(&mut lane, 5_000, "gas-1", &never)), Some("in_future"));
}

/// Names, under new outboxes, all that is still believed.
fn claim_all(lane: &mut Lane, at_ms: i64) {
    let mut forged = 5_000_000;
    for named in (0..14).rev().map(|bit| 1 << bit) {
        loop {
            forged += 1;
            let sent = Sent::new(forged, named).block(EARLIEST_MS / HOUR_MS, 1, &[10]);
            if reason(&send(lane, at_ms, "gas-0", &sent)).is_some() {
                break;
            }
        }
    }
}

/// The sender chooses the time of what he sends, and may begin as many outboxes as he likes.
#[test]
fn all_that_a_device_names_and_never_brings_is_bounded_whatever_it_begins() {
    let since_2020_h = u64::try_from((NOW_MS - EARLIEST_MS) / HOUR_MS).unwrap();
    let most = 2 * since_2020_h + MARGIN;
    let old_h = EARLIEST_MS / HOUR_MS;
    for way in 0..4 {
        let mut lane = watched();
        let mut refused = 0;
        for turn in 0..300 {
            let boot = if way == 0 { 1 } else { turn };
            let first = if way == 0 { u64::from(turn + 1) * (most - 10) } else { most - 10 };
            let mut sent = match way {
                0 | 1 => Sent::new(boot, first).block(old_h, 1, &[10]),
                // What another outbox is said to have sampled; what was dropped.
                _ => Sent::new(boot, 0).block(old_h, 1, &[10]),
            };
            match way {
                2 => (sent.header.prev_boot, sent.header.prev_next_seq) = (Some(boot + 1000), Some(first)),
                3 => sent.drops.push(Drop { seq: 1, count: first, cause: DropCause::Full }),
                _ => {}
            }
            refused += u32::from(reason(&send(&mut lane, NOW_MS, "gas-0", &sent)) == Some("implausible_seq"));
        }
        let seen = ledger(&lane);
        let open = u64::try_from(seen.unexplained()).unwrap() + seen.declared_lost;
        assert!(open > most / 2 && open <= most, "way {way}: {open} of {most}");
        assert_eq!(refused, 299, "way {way}");
        // The device's own outbox goes on all the same, with a backlog as long as it was away.
        let t0 = NOW_MS / HOUR_MS;
        let own = Sent::new(VICTIM, 0).block(t0, 1, &[10]);
        assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &own)), None, "way {way}");
        let mut backlog = Sent::new(VICTIM, 1).block(t0 + 1, 1, &[20]);
        backlog.header.next_seq = Some(1 + 24 * 64);
        let later_ms = NOW_MS + 64 * DAY_MS;
        claim_all(&mut lane, later_ms);
        assert_eq!(reason(&send(&mut lane, later_ms, "gas-0", &backlog)), None, "way {way}");
        claim_all(&mut lane, later_ms + DAY_MS);
        let next = successor(VICTIM + 1, VICTIM, 1 + 24 * 65);
        assert_eq!(reason(&send(&mut lane, later_ms + DAY_MS, "gas-0", &next)), None, "way {way}");
        let open = ledger(&lane).sampled - lane.counters().samples;
        assert!(open <= most + 4 * 24 * 65, "way {way}: {open} of {most}");
    }
}

#[test]
fn what_is_written_off_makes_room_for_what_a_device_names() {
    let mut lane = watched();
    let most = 2 * u64::try_from((NOW_MS - EARLIEST_MS) / HOUR_MS).unwrap() + MARGIN;
    let far = |boot| Sent::new(boot, most - 10).block(EARLIEST_MS / HOUR_MS, 1, &[10]);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(1))), None);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(2))), Some("implausible_seq"));
    write_off(&mut lane, most - 10);
    assert_eq!(reason(&send(&mut lane, NOW_MS, "gas-0", &far(2))), None);
}

#[test]
fn an_alarms_interval_is_the_densest() {
    let dense = GAS.replace(
        "report = { samples = 24, sleeping = true, silent_after_s = 172800 }",
        "report = { samples = 24, silent_after_s = 172800, on_alarm = { interval = 1 } }",
    );
    let dense = dense.replace("time_unit_ms = 3600000\ninterval = 1", "time_unit_ms = 60000\ninterval = 60");
    let registry = registry_of(&[&dense, FLOW]);
    let class = registry.class_of(registry.find(id("gas-0")).unwrap());
    assert_eq!((class.interval_ms, class.densest_ms), (HOUR_MS, 60_000));
}

#[test]
fn an_arrival_from_a_backlog_is_judged_by_the_same_numbers() {
    let mut lane = watched();
    let topic = up("gas-0");
    let payload = Sent::new(1, SEQ_END - 4096).versioned("gas-0").bytes();
    for live in [true, false] {
        for alarm in [true, false] {
            let arrival = Arrival { lsn: 1, at_ms: NOW_MS, live, alarm };
            let mut decisions = Decisions::default();
            lane.handle(Event::Message { arrival, topic: &topic, payload: &payload }, &mut decisions);
            assert_eq!(reason(&decisions), Some("implausible_seq"));
        }
    }
}
