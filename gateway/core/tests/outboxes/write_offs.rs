//! Write-offs: each counts once, and leaves again where a sample arrives after all.

use super::*;

#[test]
fn two_write_offs_that_knew_nothing_of_each_other_count_once() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    // The second was asked for while the first was on its way, and so for the same ten.
    write_off_behind(&mut lane, 10, 0);
    write_off_behind(&mut lane, 10, 0);
    assert_eq!((lane.audit().count(), lane.audit().listed().count()), (1, 1));
    // Five more are missing: nothing that was written off before hides them.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 18..19));
    assert_eq!((ledger(&lane).written_off, ledger(&lane).unexplained()), (10, 5));
    write_off_behind(&mut lane, 5, 1);
    assert_eq!((ledger(&lane).written_off, lane.audit().count()), (15, 2));
    // A damaged journal lost the third and the fourth: what follows them counts.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 20..21));
    write_off_behind(&mut lane, 1, 4);
    assert_eq!((ledger(&lane).written_off, lane.audit().count()), (16, 5));
}

#[test]
fn what_is_written_off_is_declared_lost_and_leaves_again_where_it_comes_after_all() {
    let mut lane = lane();
    let unexplained = |lane: &Lane| ledger(lane).unexplained();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    assert_eq!((unexplained(&lane), lane.totals().1), (10, false));
    write_off(&mut lane, 10);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.declared_lost, seen.unexplained()), (10, 10, 0));
    assert_eq!(lane.totals(), (seen, true));
    // Four of them come after all.
    assert_eq!(accepted_seqs(&send(&mut lane, NOW_MS, "gas-0", &samples(1, 2..6).held_from(0))).len(), 4);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.outstanding, seen.unexplained()), (6, 7, 0));
    // One is declared lost by the edge.
    let mut drop = samples(1, 13..14);
    drop.drops.push(Drop { seq: 0, count: 1, cause: DropCause::Damaged });
    send(&mut lane, NOW_MS, "gas-0", &drop);
    let seen = ledger(&lane);
    assert_eq!((seen.written_off, seen.declared_lost, seen.unexplained()), (5, 6, 0));
    // What nobody can explain from now on is not hidden by what was written off before.
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 20..21));
    assert_eq!((ledger(&lane).written_off, ledger(&lane).unexplained()), (5, 6));
    // The audit trail stays, over a restart too.
    let bytes = postcard::to_allocvec(&lane.snapshot()).unwrap();
    let mut restored = self::lane();
    restored.restore(postcard::from_bytes::<Snapshot<'_>>(&bytes).unwrap());
    assert_eq!(ledger(&restored), ledger(&lane));
    let kept: Vec<_> = restored.audit().listed().map(|e| (e.lsn, e.samples, e.reason.as_str())).collect();
    assert_eq!((kept, restored.audit().count()), (vec![(77, 10, "restored")], 1));
}

#[test]
fn the_audit_trail_lists_the_last_ten_thousand() {
    let mut lane = lane();
    send(&mut lane, NOW_MS, "gas-0", &samples(1, 10..13));
    for samples in 0..10_005 {
        write_off(&mut lane, samples);
    }
    let listed: Vec<u64> = lane.audit().listed().map(|entry| entry.samples).collect();
    assert_eq!((listed.len(), listed[0], listed[9_999]), (10_000, 10_004, 5));
    assert_eq!(lane.audit().count(), 10_005);
}
