//! Every interleaving of a small model, and drawn ones with the real bounds. The model is a log that grows, a receiver
//! that answers attempts in any order and in any way, and a clock.

use super::*;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};

/// A change in the log: whose, and whether outputs announce it.
type Change = (u8, bool);

/// What the model may still do, and what it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scene {
    delivery: Delivery,
    log: Vec<Change>,
    now_ms: u64,
    /// Changes that are in the log by now.
    written: usize,
    /// Changes that were read.
    read: usize,
    /// The log has grown or ended, and the output has not seen it.
    unseen: bool,
    ended: bool,
    /// Attempts under way.
    under_way: Vec<Lsn>,
    /// Records whose notification was taken or refused for good, in that order.
    completed: Vec<Lsn>,
    /// Answers that fail an attempt, reads that fail.
    failures: u8,
    unreadable: u8,
    saved: Cursor,
    /// What the last question was answered with, where that was to wait.
    waits: Option<Option<u64>>,
    done: bool,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// The output carries out what the delivery decides.
    Step,
    /// The log grows by a change.
    Write,
    /// Its writer ends.
    End,
    /// The output sees that the log has grown or ended.
    Notice,
    /// An attempt ends, the nth of those under way.
    Answer(usize, Reply),
    /// Time passes to the deadline.
    Pass,
    /// The log cannot be read once, when it is read next.
    Spoil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Taken,
    Refused,
    Later,
    Held,
}

impl Scene {
    fn new(bounds: Bounds, log: Vec<Change>, failures: u8) -> Self {
        Self {
            delivery: Delivery::new(bounds, Cursor::default()),
            log,
            now_ms: 0,
            written: 0,
            read: 0,
            unseen: false,
            ended: false,
            under_way: Vec::new(),
            completed: Vec::new(),
            failures,
            unreadable: 0,
            saved: Cursor::default(),
            waits: None,
            done: false,
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        if self.done {
            return moves;
        }
        if self.waits.is_none() {
            moves.push(Move::Step);
        } else {
            if self.unseen {
                moves.push(Move::Notice);
            }
            if self.waits.is_some_and(|until| until.is_some()) {
                moves.push(Move::Pass);
            }
            for at in 0..self.under_way.len() {
                moves.extend([Reply::Taken, Reply::Refused].map(|reply| Move::Answer(at, reply)));
                if self.failures > 0 {
                    moves.extend([Reply::Later, Reply::Held].map(|reply| Move::Answer(at, reply)));
                }
            }
        }
        if self.written < self.log.len() {
            moves.push(Move::Write);
        } else if !self.ended {
            moves.push(Move::End);
        }
        if self.failures > 0 && self.unreadable == 0 {
            moves.push(Move::Spoil);
        }
        moves
    }

    fn make(&mut self, chosen: Move) {
        match chosen {
            Move::Step => self.step(),
            Move::Write => {
                self.written += 1;
                self.unseen = true;
            }
            Move::End => {
                self.ended = true;
                self.unseen = true;
            }
            Move::Notice => {
                self.unseen = false;
                self.report(if self.ended { Event::LogEnded } else { Event::Grown });
            }
            Move::Answer(at, reply) => self.answer(at, reply),
            Move::Pass => {
                let until = self.waits.take().flatten().expect("a deadline");
                assert!(until > self.now_ms, "a deadline that has passed is a loop without rest");
                self.now_ms = until;
            }
            Move::Spoil => {
                self.failures -= 1;
                self.unreadable += 1;
            }
        }
    }

    fn report(&mut self, event: Event) {
        self.waits = None;
        self.delivery.handle(self.now_ms, event);
    }

    fn answer(&mut self, at: usize, reply: Reply) {
        let lsn = self.under_way.remove(at);
        let reason = String::new();
        let outcome = match reply {
            Reply::Taken => Outcome::Taken,
            Reply::Refused => Outcome::Refused { reason },
            Reply::Later => Outcome::Later { reason, retry_after_s: None },
            Reply::Held => Outcome::Held { reason },
        };
        if matches!(reply, Reply::Taken | Reply::Refused) {
            self.completed.push(lsn);
        } else {
            self.failures -= 1;
        }
        self.report(Event::Finished { lsn, outcome, random: 0 });
    }

    fn step(&mut self) {
        match self.delivery.next(self.now_ms, |_| false) {
            Action::Do(Task::Read) => {
                // As the output does: marked as seen before the read. The end of the log stays unseen until then.
                self.unseen &= self.ended;
                let found = self.read_log();
                self.delivery.handle(self.now_ms, Event::Read(found));
            }
            Action::Do(Task::Attempt { lsn, notification }) => {
                assert!(!self.under_way.contains(&lsn) && !self.completed.contains(&lsn), "{lsn} goes twice");
                let alert = |lsn: &Lsn| u64::from(self.change(*lsn).0);
                assert!(
                    self.under_way.iter().all(|other| alert(other) != notification.alert),
                    "two of one alert are under way"
                );
                let before = (1..lsn.0).map(Lsn).filter(|before| self.change(*before).1);
                let mut of_the_same = before.filter(|before| alert(before) == notification.alert);
                assert!(
                    of_the_same.all(|before| self.completed.contains(&before)),
                    "{lsn} overtakes its alert"
                );
                self.under_way.push(lsn);
            }
            Action::Do(Task::Save(cursor)) => {
                let mut passed = (1..=cursor.decided_lsn.0).map(Lsn).filter(|lsn| self.change(*lsn).1);
                assert!(passed.all(|lsn| self.completed.contains(&lsn)), "{cursor:?} passes what nobody has");
                self.saved = cursor;
            }
            Action::Wait { until_ms } => {
                self.waits = Some(until_ms);
                self.check_that_something_ends_the_wait();
            }
            Action::Done => {
                assert!(self.ended && self.read == self.log.len(), "done with the log unread");
                self.done = true;
            }
        }
    }

    fn read_log(&mut self) -> Found {
        if self.unreadable > 0 {
            self.unreadable -= 1;
            return Found::Failed { reason: String::new() };
        }
        let Some(&(alert, announced)) = self.log[..self.written].get(self.read) else { return Found::End };
        self.read += 1;
        let lsn = Lsn(self.read as u64);
        let notification = announced.then(|| Notification::of(alert.into(), &(alert % 3).to_string()));
        Found::Change { lsn, source_lsn: lsn.0, last: true, notification }
    }

    fn change(&self, lsn: Lsn) -> Change {
        self.log[usize::try_from(lsn.0).unwrap() - 1]
    }

    /// The promise. A log that will grow does not count unless it is read to its end.
    fn check_that_something_ends_the_wait(&self) {
        let all_delivered = self.delivery.window.is_empty() && (self.read == self.written || self.unseen);
        let deadline = self.waits.flatten().is_some();
        assert!(
            !self.under_way.is_empty() || deadline || self.unseen || all_delivered,
            "nothing is under way, no deadline is set, nothing is unseen, and alerts wait: {self:?}"
        );
    }

    fn all_is_completed(&self) -> bool {
        let mut announced = (1..=self.log.len() as u64).map(Lsn).filter(|lsn| self.change(*lsn).1);
        announced.all(|lsn| self.completed.contains(&lsn))
    }

    /// Lets everything go well from here on; answers whether everything is delivered and the output ends.
    fn ends_well(mut self) -> bool {
        for _ in 0..100 * (self.log.len() + 10) {
            if self.done {
                let head = Lsn(self.log.len() as u64);
                return self.all_is_completed() && (head == Lsn::NONE || self.saved.decided_lsn == head);
            }
            let chosen = match self.waits {
                None => Move::Step,
                Some(_) if self.unseen => Move::Notice,
                Some(_) if !self.under_way.is_empty() => Move::Answer(0, Reply::Taken),
                Some(Some(_)) => Move::Pass,
                Some(None) if self.written < self.log.len() => Move::Write,
                Some(None) if !self.ended => Move::End,
                Some(None) => return false,
            };
            self.make(chosen);
        }
        false
    }
}

/// Visits every state that can be reached and checks each; answers how many there are.
fn explore(begin: Scene, check: fn(Scene)) -> usize {
    let mut seen = HashSet::from([begin.clone()]);
    let mut open = VecDeque::from([begin]);
    while let Some(scene) = open.pop_front() {
        check(scene.clone());
        for chosen in scene.moves() {
            let mut next = scene.clone();
            next.make(chosen);
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    seen.len()
}

/// As webhooks have.
const REAL: Bounds = Bounds { in_flight: 16, slots: 256 };
const SMALL: Bounds = Bounds { in_flight: 2, slots: 3 };

#[test]
fn an_output_makes_progress_in_every_interleaving_of_answers_writes_and_deadlines() {
    // Alerts of two devices with pending changes between and behind them: more than the window holds.
    let (raised, pending) = ((1, true), (9, false));
    let logs: [&[Change]; 4] = [
        &[raised, pending, pending, pending, (2, true)],
        &[raised, (2, true), (3, true), (1, true)],
        &[raised, raised, raised, pending],
        &[pending, pending, raised, pending, pending],
    ];
    let check = |scene: Scene| assert!(scene.clone().ends_well(), "alerts wait for ever: {scene:?}");
    let states: Vec<usize> =
        logs.iter().map(|log| explore(Scene::new(SMALL, log.to_vec(), 2), check)).collect();
    println!("states: {states:?}");
    assert!(states.iter().sum::<usize>() > 5_000, "the model is too small to say anything: {states:?}");
}

#[test]
fn an_output_that_is_stopped_does_nothing_more_whatever_is_under_way() {
    let begin = Scene::new(SMALL, vec![(1, true), (9, false), (2, true)], 1);
    let states = explore(begin, |mut scene| {
        scene.delivery.handle(scene.now_ms, Event::Stop);
        assert_eq!(scene.delivery.next(scene.now_ms, |_| false), Action::Done);
    });
    assert!(states > 100, "{states}");
}

#[test]
fn notifications_that_fail_together_are_one_failure_and_the_receiver_is_tried_again_soon() {
    let log: Vec<Change> = (0..8).map(|alert| (alert, true)).collect();
    let mut scene = Scene::new(REAL, log, 8);
    (0..8).for_each(|_| scene.make(Move::Write));
    while scene.waits.is_none() {
        scene.make(Move::Step);
    }
    assert_eq!(scene.under_way.len(), 8);
    let mut first = None;
    for _ in 0..8 {
        scene.make(Move::Answer(0, Reply::Held));
        scene.make(Move::Step);
        let until = scene.waits.flatten();
        assert_eq!(until, *first.get_or_insert(until), "the others make it no longer");
    }
    assert!(first.flatten().is_some());
    assert!(scene.ends_well());
}

#[test]
fn a_log_that_cannot_be_read_is_tried_again_and_shown() {
    let mut scene = Scene::new(SMALL, vec![(1, true)], 1);
    scene.make(Move::Write);
    scene.make(Move::Spoil);
    scene.make(Move::Step);
    scene.make(Move::Step);
    assert_eq!(scene.waits, Some(Some(READ_AGAIN_MS)));
    assert_eq!(scene.delivery.health().state, State::Retrying);
    scene.make(Move::Pass);
    scene.make(Move::Step);
    assert_eq!(scene.delivery.health().state, State::Running);
    assert!(scene.ends_well());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_output_with_its_real_bounds_delivers_everything_whatever_happens_before(
        log in proptest::collection::vec((0_u8..40, proptest::bool::weighted(0.3)), 0..700),
        chosen in proptest::collection::vec(any::<u16>(), 0..2_000),
        one_answer_takes_long in any::<bool>(),
    ) {
        let mut scene = Scene::new(REAL, log, 20);
        let mut slow = None;
        for chosen in chosen {
            slow = slow.or_else(|| scene.under_way.first().copied()).filter(|_| one_answer_takes_long);
            let mut moves = scene.moves();
            moves.retain(|chosen| !matches!(chosen, Move::Answer(at, _) if Some(scene.under_way[*at]) == slow));
            let Some(&chosen) = moves.get(usize::from(chosen) % moves.len().max(1)) else { break };
            scene.make(chosen);
        }
        prop_assert!(scene.ends_well());
    }
}
