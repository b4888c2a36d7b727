//! Silence: of a device by the clock of silence, and of most of what one agent connects.

use super::*;

#[test]
fn silence_is_told_once_and_ends_with_the_next_message() {
    let mut lane = lane(vec![silent()]);
    report(&mut lane, "flow-0", 0, 0, &[50], 0);
    let at = |minute: i64| START_MS + minute * MINUTE_MS;
    assert!(tick(&mut lane, at(119)).alerts.is_empty());
    let silent = tick(&mut lane, at(120)).alerts;
    assert_eq!((silent.len(), silent[0].phase, silent[0].value), (1, Phase::Firing, 7200));
    assert!(tick(&mut lane, at(240)).alerts.is_empty());
    // An old report, too, says that the device lives.
    let heard = report(&mut lane, "flow-0", 1, 1, &[50], 300);
    assert_eq!((heard.len(), heard[0].phase, heard[0].id), (1, Phase::Resolved, silent[0].id));
}

/// A tick at that minute, and for how many minutes the gateway could hear since the tick before.
fn tick_of(lane: &mut Lane, minute: i64, listened: u32) -> Vec<Change> {
    let mut decisions = Decisions::default();
    let now_ms = START_MS + minute * MINUTE_MS;
    lane.handle(Event::Tick { lsn: 2, now_ms, listened_ms: listened * 60_000 }, &mut decisions);
    decisions.alerts
}

#[test]
fn a_device_that_comes_back_to_the_registry_is_not_silent_for_having_been_away() {
    let mut lane = lane(vec![silent()]);
    report(&mut lane, "flow-0", 0, 0, &[50], 0);
    let mut without = Lane::new(registry(vec![silent()], 0), Policy::default());
    assert_eq!(without.restore(lane.snapshot()), 1);
    assert!(tick_of(&mut without, 900, 900).is_empty());
    let mut back = self::lane(vec![silent()]);
    assert_eq!(back.restore(without.snapshot()), 0);
    assert!(tick_of(&mut back, 901, 1).is_empty());
    assert!(tick_of(&mut back, 1_019, 118).is_empty());
    assert_eq!(tick_of(&mut back, 1_020, 1).len(), 1, "two hours after its return");
}

#[test]
fn what_the_gateway_slept_through_is_nobodys_silence_and_is_not_forgotten_either() {
    let mut lane = lane(vec![silent()]);
    report(&mut lane, "flow-0", 0, 0, &[50], 0);
    assert!(tick_of(&mut lane, 100, 100).is_empty());
    assert!(tick_of(&mut lane, 700, 0).is_empty(), "deaf for ten hours");
    assert!(tick_of(&mut lane, 719, 19).is_empty());
    let told = tick_of(&mut lane, 720, 1);
    assert_eq!((told.len(), told[0].value), (1, 7200), "what was heard before and after adds up");
}

#[test]
fn a_clock_that_is_set_makes_nobody_silent_and_hides_nobodys_silence() {
    let mut lane = lane(vec![silent()]);
    report(&mut lane, "flow-0", 0, 0, &[50], 0);
    assert!(tick_of(&mut lane, 24 * 60, 1).is_empty(), "a day ahead");
    report(&mut lane, "flow-0", 1, 1, &[50], 24 * 60);
    assert!(tick_of(&mut lane, 3, 1).is_empty(), "and back");
    assert!(tick_of(&mut lane, 120, 117).is_empty());
    assert_eq!(tick_of(&mut lane, 123, 3).len(), 1);
}

#[test]
fn a_redrive_is_not_the_device_speaking() {
    let mut lane = lane(vec![silent()]);
    let sent = Sent::new(1, 0).block(START_MS / 1000, 2, &[5000]);
    send(&mut lane, START_MS, "flow-0", &sent);
    assert_eq!(tick_of(&mut lane, 120, 120).len(), 1);
    let at_ms = START_MS + 130 * MINUTE_MS;
    for refused in [&[][..], &[(0, 1)][..]] {
        assert!(redrive(&mut lane, at_ms, "flow-0", &sent, refused).alerts.is_empty());
    }
    assert_eq!(lane.open_alerts().count(), 1);
}

#[test]
fn a_cell_that_goes_down_is_one_alert() {
    let share = rule("cell_silent", When::SilentShare { silent_share: 0.8, devices_min: 5 }, 0, 0);
    let mut lane = Lane::new(registry(vec![silent(), share], 10), Policy::default());
    let name = |number: i64| format!("flow-{number}");
    // The last one goes on; the others fall silent one after the other.
    let mut said = Vec::new();
    for minute in 0..200 {
        if minute < 10 {
            report(&mut lane, &name(minute), 0, minute, &[50], 0);
        } else if minute % 10 == 0 {
            report(&mut lane, &name(9), u64::try_from(minute).unwrap(), minute, &[50], 0);
        }
        said.extend(tick(&mut lane, START_MS + minute * MINUTE_MS).alerts);
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(matches!(said[0].subject, Subject::Agent(_)) && said[0].value == 8);
    // A device that is still silent when the cell is back is told alone.
    let mut back = Vec::new();
    for number in 0..8 {
        back.extend(report(&mut lane, &name(number), 1, 200, &[50], 0));
    }
    assert!(back.is_empty(), "their silence was never told: {back:?}");
    let after = tick(&mut lane, START_MS + 201 * MINUTE_MS).alerts;
    let phases: Vec<_> = after.iter().map(|c| (c.phase, matches!(c.subject, Subject::Agent(_)))).collect();
    assert_eq!(phases, [(Phase::Resolved, true), (Phase::Firing, false)]);
}
