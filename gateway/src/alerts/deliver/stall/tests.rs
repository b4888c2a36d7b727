//! Two outputs in virtual time, with an alert log that records what is asked for, at once or not at all.

use super::*;

const LIMIT_MS: u64 = 30_000;
/// Between two looks.
const EVERY_MS: u64 = 250;
const CALENDAR_MS: i64 = 1_767_323_040_000;

struct Scene {
    stalls: Stalls,
    now_ms: u64,
    recorded: BTreeMap<String, i64>,
    /// Whether the journal has room.
    room: bool,
    asked: usize,
}

impl Scene {
    fn new() -> Self {
        let names = ["duty".to_owned(), "mqtt".to_owned()];
        let stalls = Stalls::new(LIMIT_MS, 0, CALENDAR_MS, names);
        Self { stalls, now_ms: 0, recorded: BTreeMap::new(), room: true, asked: 0 }
    }

    /// Looks at both outputs for some time, each a pair of progress and whether it is behind.
    fn pass(&mut self, for_ms: u64, duty: (u64, bool), mqtt: (u64, bool)) -> Vec<(u64, Turn)> {
        let looks = [duty, mqtt].map(|(progress, is_behind)| Look { progress, is_behind });
        let mut turns = Vec::new();
        for _ in 0..for_ms / EVERY_MS {
            self.now_ms += EVERY_MS;
            let calendar_ms = CALENDAR_MS + i64::try_from(self.now_ms).unwrap();
            for turn in self.stalls.look(self.now_ms, calendar_ms, &looks, &self.recorded) {
                self.asked += 1;
                if self.room && turn.stalled {
                    self.recorded.insert(turn.name.clone(), turn.since_ms);
                } else if self.room {
                    self.recorded.remove(&turn.name);
                }
                turns.push((self.now_ms, turn));
            }
        }
        turns
    }

    fn stalled(&self) -> Vec<Option<i64>> {
        self.stalls.stalled().map(|since| since.map(|ms| ms - CALENDAR_MS)).collect()
    }
}

fn turn(at_ms: u64, since_ms: i64, stalled: bool) -> (u64, Turn) {
    (at_ms, Turn { name: "duty".into(), since_ms: CALENDAR_MS + since_ms, stalled })
}

#[test]
fn an_output_that_delivers_nothing_for_thirty_seconds_is_stalled_until_it_moves() {
    let mut scene = Scene::new();
    assert_eq!(scene.pass(60_000, (5, false), (5, false)), [], "nothing to deliver is no stall");
    assert_eq!(scene.pass(29_750, (5, true), (6, true)), [], "not yet");
    assert_eq!(scene.pass(10_000, (5, true), (7, true)), [turn(90_000, 60_000, true)]);
    assert_eq!(scene.stalled(), [Some(60_000), None]);
    assert_eq!(scene.pass(250, (6, true), (8, true)), [turn(100_000, 60_000, false)], "it moves again");
    assert_eq!(scene.stalled(), [None, None]);
    assert_eq!(scene.pass(30_000, (6, true), (8, false)), [turn(130_000, 100_000, true)], "and stands again");
    assert_eq!(scene.pass(250, (6, false), (8, false)), [turn(130_250, 100_000, false)], "nothing is left");
}

#[test]
fn an_output_that_is_slow_and_moves_is_never_stalled() {
    let mut scene = Scene::new();
    for progress in 0..20 {
        assert_eq!(scene.pass(29_750, (progress, true), (0, false)), [], "{progress}");
    }
}

#[test]
fn a_record_for_which_the_journal_has_no_room_is_asked_for_again_and_no_oftener_than_each_ten_seconds() {
    let mut scene = Scene::new();
    scene.room = false;
    let turns = scene.pass(65_000, (0, true), (0, false));
    assert_eq!(turns.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [30_000, 40_000, 50_000, 60_000]);
    scene.room = true;
    assert_eq!(scene.pass(10_000, (0, true), (0, false)).len(), 1);
    assert_eq!(scene.pass(60_000, (0, true), (0, false)), [], "it stands in the log");
    assert_eq!(scene.asked, 5);
}

#[test]
fn a_restart_neither_ends_nor_repeats_a_stall_and_what_is_configured_no_more_is_ended() {
    let mut scene = Scene::new();
    assert_eq!(scene.pass(1_000, (7, true), (0, false)), []);
    // The replay finds it a moment after the start.
    scene.recorded = BTreeMap::from([("duty".into(), CALENDAR_MS - 9_000), ("gone".into(), CALENDAR_MS)]);
    let gone = Turn { name: "gone".into(), since_ms: CALENDAR_MS, stalled: false };
    assert_eq!(scene.pass(60_000, (7, true), (0, false)), [(1_250, gone)]);
    assert_eq!(scene.stalled(), [Some(-9_000), None], "since when it was recorded");
    assert_eq!(scene.pass(250, (8, true), (0, false)), [turn(61_250, -9_000, false)]);
}
