use super::*;
use hunhe_gateway_core::event::Confirmed;
use hunhe_log::Lsn;
use hunhe_proto::id::Id;

const LAG_MS: u64 = 20_000;
const NONE: [u64; 0] = [];

fn page(started_s: u64, rows_inserted: u64, rows_skipped: u64) -> Look {
    Look::Process(Page { started_ms: started_s * 1000, rows_inserted: Some(rows_inserted), rows_skipped })
}

fn mark(source_lsn: u64, now_ms: u64) -> Mark {
    let confirmation = Confirmation {
        source_lsn,
        device: Id::new("g-1").unwrap(),
        index: None,
        boot: 1,
        confirmed: Confirmed { handled: 1, stored: 1, ..Confirmed::default() },
    };
    Mark::new(Cursor { source_lsn, decided_lsn: Lsn(source_lsn) }, Vec::new(), vec![confirmation], now_ms)
}

fn sources(found: &Found) -> Vec<u64> {
    match found {
        Found::Durable(marks) => marks.iter().map(|mark| mark.through.source_lsn).collect(),
        Found::Restarted => panic!("restarted"),
    }
}

/// A database that was seen once, and took batches 1, 2, … at these times.
fn seen_and_taken(at_ms: &[u64]) -> Durability {
    let mut durability = Durability::new(LAG_MS);
    assert_eq!(durability.looked(&page(7, 0, 0), 0, 0, 1), Found::Durable(Vec::new()));
    for (source_lsn, &now_ms) in (1..).zip(at_ms) {
        durability.taken(mark(source_lsn, now_ms), 1, now_ms - 5);
    }
    durability
}

#[test]
fn a_batch_is_durable_once_the_process_that_took_it_was_seen_alive_the_lag_later() {
    let mut durability = seen_and_taken(&[1_000, 2_000]);
    assert_eq!(
        sources(&durability.looked(&page(7, 9, 0), 0, 21_000, 60_000)),
        NONE,
        "asked too early, answered late"
    );
    assert_eq!(sources(&durability.looked(&page(7, 9, 0), 0, 21_001, 21_002)), [1]);
    assert_eq!(sources(&durability.looked(&page(7, 9, 0), 0, 22_001, 22_002)), [2]);
    assert!(durability.is_empty());
}

#[test]
fn no_time_makes_a_batch_durable_without_a_look() {
    let mut durability = seen_and_taken(&[1_000]);
    for at_ms in [50_000, 90_000] {
        assert_eq!(sources(&durability.looked(&Look::Silent, 0, at_ms, at_ms)), NONE);
    }
    assert_eq!(
        sources(&durability.looked(&page(7, 9, 0), 3, 99_000, 99_000)),
        [1],
        "it only was out of reach"
    );
}

#[test]
fn a_process_not_seen_before_means_that_everything_held_is_written_again() {
    let mut durability = seen_and_taken(&[1_000, 30_000]);
    assert_eq!(durability.looked(&page(31, 0, 0), 0, 60_000, 60_001), Found::Restarted);
    assert!(durability.is_empty());
    durability.taken(mark(1, 61_000), 1, 60_500);
    assert_eq!(sources(&durability.looked(&page(31, 2, 0), 0, 81_001, 81_002)), [1]);
}

#[test]
fn a_process_of_the_same_second_that_counts_from_zero_again_is_another() {
    let mut durability = seen_and_taken(&[1_000]);
    assert_eq!(sources(&durability.looked(&page(7, 9, 0), 0, 1_500, 1_501)), NONE);
    assert_eq!(durability.looked(&page(7, 2, 0), 0, 60_000, 60_001), Found::Restarted);
}

#[test]
fn a_process_that_has_not_counted_what_it_took_is_another_though_it_began_in_the_same_second() {
    let mut durability = seen_and_taken(&[300, 400]);
    assert_eq!(sources(&durability.looked(&page(7, 0, 0), 0, 500, 501)), NONE, "the page may be old");
    assert_eq!(sources(&durability.looked(&page(7, 2, 0), 0, 4_000, 4_001)), NONE);
    durability.taken(mark(3, 4_600), 1, 4_550);
    // As long as the page may be older than that, it need not be counted.
    assert_eq!(sources(&durability.looked(&page(7, 2, 0), 0, 7_500, 7_501)), NONE);
    assert_eq!(durability.looked(&page(7, 2, 0), 0, 8_000, 8_001), Found::Restarted, "3 is not counted");
    // Rows that somebody else behind the same address got must not hold everything up for ever.
    let rewinds = (2..30).filter(|n| {
        durability.taken(mark(3, n * 10_000), 1, n * 10_000);
        durability.looked(&page(7, 2, 0), 0, n * 10_000 + 5_000, n * 10_000 + 5_001) == Found::Restarted
    });
    assert_eq!(rewinds.count(), 7);
    assert_eq!(
        sources(&durability.looked(&page(7, 2, 0), 0, 900_000, 900_001)),
        [3, 3],
        "two were still held"
    );
}

#[test]
fn a_restart_while_nothing_is_held_costs_nothing() {
    let mut durability = seen_and_taken(&[]);
    assert_eq!(durability.looked(&page(31, 0, 0), 5, 10, 11), Found::Durable(Vec::new()));
    durability.taken(mark(1, 1_000), 1, 500);
    assert_eq!(sources(&durability.looked(&page(31, 1, 0), 5, 21_001, 21_001)), [1]);
}

#[test]
fn a_batch_taken_before_the_first_look_is_not_trusted() {
    let mut durability = Durability::new(LAG_MS);
    durability.taken(mark(1, 1_000), 1, 500);
    assert_eq!(durability.looked(&page(7, 9, 0), 0, 60_000, 60_001), Found::Restarted);
}

#[test]
fn several_processes_behind_one_address_are_each_new_once() {
    let mut durability = seen_and_taken(&[1_000]);
    assert_eq!(durability.looked(&page(8, 3, 0), 0, 2_000, 2_001), Found::Restarted);
    durability.taken(mark(1, 3_000), 1, 2_500);
    assert_eq!(sources(&durability.looked(&page(7, 9, 0), 0, 10_000, 10_001)), NONE);
    assert_eq!(sources(&durability.looked(&page(8, 9, 0), 0, 23_001, 23_002)), [1]);
}

#[test]
fn where_processes_cannot_be_told_apart_a_lost_connection_counts_as_a_restart() {
    let mut durability = Durability::new(LAG_MS);
    durability.looked(&Look::Mute, 0, 0, 1);
    durability.taken(mark(1, 1_000), 1, 500);
    assert_eq!(durability.looked(&Look::Mute, 1, 30_000, 30_001), Found::Restarted);
    durability.taken(mark(1, 31_000), 1, 30_500);
    assert_eq!(sources(&durability.looked(&Look::Mute, 1, 51_001, 51_002)), [1]);
    durability.taken(mark(2, 52_000), 1, 51_500);
    assert_eq!(sources(&durability.looked(&Look::Silent, 1, 53_000, 53_001)), NONE);
    assert_eq!(
        durability.looked(&Look::Mute, 1, 90_000, 90_001),
        Found::Restarted,
        "a look lost its connection"
    );
}

#[test]
fn a_database_that_stops_telling_its_process_was_restarted_once() {
    let mut durability = seen_and_taken(&[1_000]);
    assert_eq!(durability.looked(&Look::Mute, 0, 60_000, 60_001), Found::Restarted);
    durability.taken(mark(1, 61_000), 1, 60_500);
    assert_eq!(sources(&durability.looked(&Look::Mute, 0, 81_001, 81_002)), [1]);
    durability.taken(mark(2, 82_000), 1, 81_500);
    assert_eq!(durability.looked(&page(7, 0, 0), 0, 120_000, 120_001), Found::Restarted);
}

#[test]
fn suspects_are_the_batches_that_the_last_look_may_not_have_counted() {
    let mut durability = seen_and_taken(&[1_000, 2_000]);
    durability.looked(&page(7, 2, 0), 0, 5_500, 5_600);
    durability.taken(mark(3, 5_550), 1, 5_400);
    durability.taken(mark(4, 6_000), 1, 5_900);
    durability.looked(&page(7, 4, 6), 0, 10_500, 10_600);
    durability.taken(mark(5, 10_900), 1, 10_550);
    durability.taken(mark(6, 11_300), 1, 10_700);
    durability.looked(&page(7, 6, 6), 0, 15_500, 15_600);
    let Found::Durable(marks) = durability.looked(&page(7, 6, 6), 0, 90_000, 90_000) else { panic!() };
    let suspects: Vec<_> =
        marks.iter().filter(|mark| mark.suspect).map(|mark| mark.through.source_lsn).collect();
    assert_eq!(suspects, [3, 4, 5], "1 and 2 were counted before, 6 was sent after");
    assert_eq!((durability.take_skipped(), durability.take_skipped()), (6, 0));
}

#[test]
fn a_suspect_waits_until_its_rows_can_be_seen_and_those_behind_it_wait_with_it() {
    let mut durability = Durability::new(0);
    durability.looked(&page(7, 0, 0), 0, 0, 1);
    durability.taken(mark(1, 1_000), 1, 900);
    durability.looked(&page(7, 1, 1), 0, 1_000, 1_500);
    durability.taken(mark(2, 2_000), 1, 1_900);
    assert_eq!(sources(&durability.looked(&page(7, 2, 1), 0, 6_000, 6_001)), NONE);
    assert_eq!(sources(&durability.looked(&page(7, 2, 1), 0, 6_001, 6_002)), [1, 2]);
}

#[test]
fn batches_taken_close_together_are_held_as_one_and_what_is_held_is_bounded() {
    let mut durability = seen_and_taken(&[1_000, 1_100, 1_249, 1_250]);
    assert_eq!(durability.held.len(), 2);
    let Found::Durable(marks) = durability.looked(&page(7, 9, 0), 0, 90_000, 90_000) else { panic!() };
    assert_eq!(marks[0].confirmations.len(), 3);
    durability.put_back(marks);
    assert_eq!((durability.confirmations, durability.is_full()), (4, false));
    let mut many = mark(5, 91_000);
    many.confirmations = vec![many.confirmations[0]; CONFIRMATIONS_MAX];
    durability.taken(many, 1, 90_500);
    assert!(durability.is_full());
    assert_eq!(durability.looked(&page(8, 0, 0), 0, 92_000, 92_000), Found::Restarted);
    assert!(!durability.is_full());
}
