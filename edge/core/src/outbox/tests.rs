use super::*;

fn filled(samples: u64) -> Outbox {
    let mut outbox = Outbox::new(State::new(7, Some((6, 55))));
    outbox.stored(samples);
    outbox
}

fn range(start: u64, end: u64) -> Range {
    Range { start, end }
}

#[test]
fn only_the_watermark_makes_it_forget() {
    let mut outbox = filled(10);
    outbox.sent(range(0, 10), 1, 0);
    assert_eq!(outbox.held(), 10);
    assert_eq!(outbox.watermark(7, 4, [], 1), Watermark::Passed(4));
    assert_eq!(outbox.watermark(7, 2, [range(2, 4)], 2), Watermark::Stale);
    assert_eq!(outbox.watermark(6, 9, [], 2), Watermark::Stale);
    outbox.stored(20);
    assert_eq!(outbox.watermark(7, 11, [], 2), Watermark::Implausible, "ten were told");
    let mut outbox = Outbox::new(State { next_seq: 10, through: 4, ..outbox.state().clone() });
    assert!(outbox.should_settle());
    outbox.stored(12);
    assert_eq!(outbox.watermark(7, 11, [], 2), Watermark::Implausible, "the outbox was rolled back");
    assert_eq!((outbox.held_from(), outbox.held()), (4, 8));
    assert_eq!(outbox.watermark(7, 9, [range(11, 12)], 2), Watermark::Implausible, "of the eleventh, too");
    assert_eq!((outbox.held_from(), outbox.held()), (4, 8));
}

#[test]
fn a_new_outbox_names_the_one_before_until_the_gateway_knows() {
    let mut outbox = filled(3);
    let header = outbox.header(range(0, 3));
    assert_eq!((header.prev_boot, header.prev_next_seq), (Some(6), Some(55)));
    assert_eq!((header.held_from, header.next_seq), (None, None));
    outbox.watermark(7, 0, [], 0);
    assert_eq!(outbox.header(range(1, 2)).prev_boot, None);
    assert_eq!(outbox.header(range(1, 2)).held_from, Some(0));
    assert_eq!(outbox.header(range(1, 2)).next_seq, Some(3));
}

#[test]
fn the_gateway_knows_the_version_when_the_watermark_passes_a_report_that_said_it() {
    let mut outbox = filled(9);
    outbox.watermark(7, 3, [], 0);
    assert!(!outbox.is_version_known(), "what was passed may have been told by another process");
    outbox.sent(range(3, 6), 1, 0);
    outbox.sent(range(6, 9), 2, 0);
    outbox.watermark(7, 5, [], 0);
    assert!(!outbox.is_version_known());
    outbox.watermark(7, 6, [], 0);
    assert!(outbox.is_version_known());
    outbox.rewind(1);
    assert!(!outbox.is_version_known(), "it may be another gateway");
    outbox.watermark(7, 9, [], 0);
    assert!(!outbox.is_version_known());
}

#[test]
fn gaps_are_filled_once_they_cannot_be_on_their_way() {
    let mut outbox = filled(9);
    for start in [0, 3, 6] {
        outbox.sent(range(start, start + 3), 1, 0);
    }
    assert_eq!(outbox.next_report(3, 0), None);
    outbox.watermark(7, 3, [range(3, 6)], 100);
    assert_eq!(outbox.next_report(3, ON_ITS_WAY_MS - 1), None);
    assert_eq!(outbox.next_report(2, ON_ITS_WAY_MS), Some(range(3, 5)));
    outbox.sent(range(3, 5), 2, ON_ITS_WAY_MS);
    assert_eq!(outbox.next_report(2, ON_ITS_WAY_MS), Some(range(5, 6)));
    outbox.sent(range(5, 6), 3, ON_ITS_WAY_MS);
    assert_eq!(outbox.next_report(2, 10 * ON_ITS_WAY_MS), None);
}

#[test]
fn a_refused_payload_becomes_a_drop_and_is_told() {
    let mut outbox = filled(6);
    outbox.sent(range(0, 3), 0xaa, 0);
    outbox.sent(range(3, 6), 0xbb, 0);
    assert!(!outbox.refused(0xcc));
    assert!(outbox.refused(0xaa));
    assert_eq!(outbox.drops(), [Drop { seq: 0, count: 3, cause: DropCause::Refused }]);
    assert_eq!(outbox.held_from(), 3);
    assert_eq!(outbox.next_report(3, 1), Some(range(6, 6)), "an empty report tells the drop");
    outbox.sent(range(6, 6), 0, 1);
    assert_eq!(outbox.next_report(3, 1), None);
    outbox.watermark(7, 6, [], 2);
    assert!(outbox.drops().is_empty() && outbox.is_settled());
}

#[test]
fn at_the_bound_the_oldest_are_declared_lost() {
    let mut outbox = filled(10);
    assert!(outbox.bound(6) && !outbox.bound(6));
    assert_eq!(outbox.drops(), [Drop { seq: 0, count: 4, cause: DropCause::Full }]);
    outbox.stored(12);
    assert!(outbox.bound(6));
    assert_eq!(outbox.drops(), [Drop { seq: 0, count: 6, cause: DropCause::Full }]);
    assert_eq!((outbox.held_from(), outbox.held()), (6, 6));
}

#[test]
fn more_drops_than_fit_are_joined_and_never_forgotten() {
    let mut outbox = filled(100);
    for start in (0..90).step_by(9) {
        outbox.give_up(range(start, start + 2), DropCause::Refused);
    }
    assert_eq!(outbox.drops().len(), DROPS_MAX);
    for start in (0..90).step_by(9) {
        let covers = |drop: &Drop| drop.seq <= start && start + 2 <= drop.seq + drop.count;
        assert!(outbox.drops().iter().any(covers), "{start}");
    }
    assert!(outbox.drops().is_sorted_by(|a, b| a.seq + a.count <= b.seq));
}

#[test]
fn without_progress_everything_is_sent_again() {
    let mut outbox = filled(3);
    outbox.sent(range(0, 3), 1, 5);
    assert!(!outbox.rewind_if_stalled(4 + STALL_MS));
    assert!(outbox.rewind_if_stalled(5 + STALL_MS));
    assert_eq!(outbox.next_report(9, 5 + STALL_MS), Some(range(0, 3)));
}
