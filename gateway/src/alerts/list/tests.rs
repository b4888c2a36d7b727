//! What the list shows after which changes.

use super::*;
use crate::api::types::{AlertSeverity, Bilingual, Instant};

fn change(id: u64, sequence: u64, state: AlertState, mode: AlertMode) -> Alert {
    let text = Bilingual { zh: "一".into(), en: "one".into() };
    Alert {
        id: format!("{id:016x}"),
        sequence,
        rule: "r".into(),
        rule_version: 1,
        severity: if id.is_multiple_of(2) { AlertSeverity::Major } else { AlertSeverity::Critical },
        state,
        fired: state != AlertState::Pending,
        mode,
        device: Some("d".into()),
        agent: "a".into(),
        output: None,
        class: None,
        zone: None,
        zone_name: None,
        district: Some(if id < 10 { "210106" } else { "210112" }.into()),
        district_name: None,
        operator: "gas".into(),
        channel: None,
        value: None,
        threshold: None,
        unit: String::new(),
        since: Instant(0),
        event_time: Instant(0),
        arrival_time: Instant(0),
        title: text.clone(),
        text,
    }
}

fn sequences(list: &AlertList, state: AlertStateQuery) -> Vec<u64> {
    let query = AlertQuery { state, limit: 100, ..AlertQuery::default() };
    list.page(&query).items.iter().map(|alert| alert.sequence).collect()
}

#[test]
fn an_alert_is_listed_once_with_its_newest_change() {
    let list = AlertList::default();
    list.note(change(1, 1, AlertState::Pending, AlertMode::Live));
    list.note(change(2, 2, AlertState::Firing, AlertMode::Retrospective));
    list.note(change(1, 3, AlertState::Firing, AlertMode::Live));
    assert_eq!(sequences(&list, AlertStateQuery::Open), [3, 2]);
    assert_eq!(list.firing().live.critical, 1);
    assert_eq!((list.firing().live.major, list.firing().retrospective), (0, 1));
    assert_eq!(list.by_district()["210106"].critical, 1);
    list.note(change(2, 4, AlertState::Firing, AlertMode::Live));
    assert_eq!((list.firing().live.major, list.firing().retrospective), (1, 0), "it now speaks of now");
    list.note(change(1, 5, AlertState::Resolved, AlertMode::Live));
    assert_eq!(sequences(&list, AlertStateQuery::All), [5, 4]);
    assert_eq!(sequences(&list, AlertStateQuery::Resolved), [5]);
    // The same change again, as a replay brings it.
    list.note(change(1, 5, AlertState::Resolved, AlertMode::Live));
    assert_eq!(sequences(&list, AlertStateQuery::All), [5, 4]);
}

#[test]
fn a_pending_alert_that_goes_away_leaves_nothing() {
    let list = AlertList::default();
    list.note(change(1, 1, AlertState::Pending, AlertMode::Live));
    list.note(Alert { fired: false, ..change(1, 2, AlertState::Resolved, AlertMode::Live) });
    assert_eq!(sequences(&list, AlertStateQuery::All), [0; 0]);
    assert!(list.lock().sequence_of.is_empty());
}

#[test]
fn beyond_its_bounds_the_oldest_is_forgotten_and_comes_back_with_its_next_change() {
    let list = AlertList::new(Bounds { open: 3, resolved: 2 });
    for id in 1..=5 {
        list.note(change(id, id, AlertState::Firing, AlertMode::Live));
    }
    assert_eq!((sequences(&list, AlertStateQuery::Open), list.forgotten()), (vec![5, 4, 3], 2));
    assert_eq!((list.firing().live.critical, list.firing().live.major), (3, 2), "all that stand are counted");
    assert_eq!((list.by_district()["210106"].critical, list.by_district()["210106"].major), (3, 2));
    for id in 1..=5 {
        list.note(change(id, 5 + id, AlertState::Resolved, AlertMode::Live));
    }
    assert_eq!(sequences(&list, AlertStateQuery::All), [10, 9]);
    assert_eq!(list.firing(), FiringCounts::default());
    assert!(list.lock().unlisted.is_empty());
    assert_eq!(list.lock().sequence_of.len(), 2, "nothing is kept of what is forgotten");
}

#[test]
fn pages_join_to_the_whole_whatever_shelf_an_alert_lies_on() {
    let list = AlertList::default();
    for id in 1..=20 {
        let state = if id % 3 == 0 { AlertState::Resolved } else { AlertState::Firing };
        list.note(change(id, id, state, AlertMode::Live));
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = list.page(&AlertQuery { before, limit: 7, ..AlertQuery::default() });
        seen.extend(page.items.iter().map(|alert| alert.sequence));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=20).rev().collect::<Vec<_>>());
    let south = AlertQuery { district: Some("210112".into()), limit: 100, ..AlertQuery::default() };
    assert_eq!(list.page(&south).items.len(), 11);
}
