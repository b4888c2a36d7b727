//! What the list shows after which changes.

use super::*;
use crate::alerts::alert::tests::bare;

fn change(id: u64, sequence: u64, phase: Phase, mode: Mode) -> Arc<Alert> {
    Arc::new(Alert {
        id,
        sequence,
        severity: if id.is_multiple_of(2) { Severity::Major } else { Severity::Critical },
        phase,
        fired: phase != Phase::Pending,
        mode,
        district: Some(if id < 10 { "210106" } else { "210112" }.into()),
        ..bare()
    })
}

fn sequences(list: &AlertList, phases: Phases) -> Vec<u64> {
    let filter = Filter { phases, limit: 100, ..Filter::default() };
    list.page(&filter).alerts.iter().map(|alert| alert.sequence).collect()
}

#[test]
fn an_alert_is_listed_once_with_its_newest_change() {
    let list = AlertList::default();
    list.note(change(1, 1, Phase::Pending, Mode::Live));
    list.note(change(2, 2, Phase::Firing, Mode::Retrospective));
    list.note(change(1, 3, Phase::Firing, Mode::Live));
    assert_eq!(sequences(&list, Phases::Open), [3, 2]);
    assert_eq!(list.firing().live.critical, 1);
    assert_eq!((list.firing().live.major, list.firing().retrospective), (0, 1));
    assert_eq!(list.by_district()["210106"].critical, 1);
    list.note(change(2, 4, Phase::Firing, Mode::Live));
    assert_eq!((list.firing().live.major, list.firing().retrospective), (1, 0), "it now speaks of now");
    list.note(change(1, 5, Phase::Resolved, Mode::Live));
    assert_eq!(sequences(&list, Phases::All), [5, 4]);
    assert_eq!(sequences(&list, Phases::Resolved), [5]);
    // The same change again, as a replay brings it.
    list.note(change(1, 5, Phase::Resolved, Mode::Live));
    assert_eq!(sequences(&list, Phases::All), [5, 4]);
}

#[test]
fn a_pending_alert_that_goes_away_leaves_nothing() {
    let list = AlertList::default();
    list.note(change(1, 1, Phase::Pending, Mode::Live));
    let gone = Alert { fired: false, ..Alert::clone(&change(1, 2, Phase::Resolved, Mode::Live)) };
    list.note(Arc::new(gone));
    assert_eq!(sequences(&list, Phases::All), [0; 0]);
    assert!(list.lock().sequence_of.is_empty());
}

#[test]
fn beyond_its_bounds_the_oldest_is_forgotten_and_comes_back_with_its_next_change() {
    let list = AlertList::new(Bounds { open: 3, resolved: 2 });
    for id in 1..=5 {
        list.note(change(id, id, Phase::Firing, Mode::Live));
    }
    assert_eq!((sequences(&list, Phases::Open), list.forgotten()), (vec![5, 4, 3], 2));
    assert_eq!((list.firing().live.critical, list.firing().live.major), (3, 2), "all that stand are counted");
    assert_eq!((list.by_district()["210106"].critical, list.by_district()["210106"].major), (3, 2));
    for id in 1..=5 {
        list.note(change(id, 5 + id, Phase::Resolved, Mode::Live));
    }
    assert_eq!(sequences(&list, Phases::All), [10, 9]);
    assert_eq!(list.firing(), Firing::default());
    assert!(list.lock().unlisted.is_empty());
    assert_eq!(list.lock().sequence_of.len(), 2, "nothing is kept of what is forgotten");
}

#[test]
fn pages_join_to_the_whole_whatever_shelf_an_alert_lies_on() {
    let list = AlertList::default();
    for id in 1..=20 {
        let phase = if id % 3 == 0 { Phase::Resolved } else { Phase::Firing };
        list.note(change(id, id, phase, Mode::Live));
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = list.page(&Filter { before, limit: 7, ..Filter::default() });
        seen.extend(page.alerts.iter().map(|alert| alert.sequence));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=20).rev().collect::<Vec<_>>());
    let south = Filter { district: Some("210112".into()), limit: 100, ..Filter::default() };
    assert_eq!(list.page(&south).alerts.len(), 11);
}
