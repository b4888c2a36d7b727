//! Every interleaving of a small model of both queues, restarts included, and drawn ones with the real limits.

use super::*;
use crate::alerts::deliver::{Notification, Outcome};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};

/// What a change in the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Pending,
    OldRaise,
    OldEnd,
    Raise,
    End,
}

use Kind::{End, OldEnd, OldRaise, Pending, Raise};

impl Kind {
    fn queue(self) -> Option<Queue> {
        match self {
            Pending => None,
            OldRaise | OldEnd => Some(Queue::Retrospective),
            Raise | End => Some(Queue::Live),
        }
    }
}

type Change = (u8, Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scene {
    limits: Limits,
    queues: Queues,
    log: Vec<Change>,
    now_ms: u64,
    written: usize,
    /// How far each queue has read.
    read: [usize; 2],
    unseen: bool,
    under_way: Vec<(Queue, Lsn)>,
    completed: BTreeSet<Lsn>,
    /// Answers that fail an attempt; restarts.
    failures: u8,
    restarts: u8,
    saved: [Cursor; 2],
    waits: Option<Option<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Step,
    Write,
    Notice,
    Answer(usize, bool),
    Pass,
    Restart,
}

impl Scene {
    fn new(limits: Limits, log: &[Change], failures: u8, restarts: u8) -> Self {
        Self {
            limits,
            queues: Queues::new(limits, [Cursor::default(); 2]),
            log: log.to_vec(),
            now_ms: 0,
            written: 0,
            read: [0; 2],
            unseen: false,
            under_way: Vec::new(),
            completed: BTreeSet::new(),
            failures,
            restarts,
            saved: [Cursor::default(); 2],
            waits: None,
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        if let Some(until) = self.waits {
            moves.extend(self.unseen.then_some(Move::Notice));
            moves.extend(until.map(|_| Move::Pass));
            moves.extend((0..self.under_way.len()).map(|at| Move::Answer(at, true)));
            if self.failures > 0 {
                moves.extend((0..self.under_way.len()).map(|at| Move::Answer(at, false)));
            }
        } else {
            moves.push(Move::Step);
        }
        moves.extend((self.written < self.log.len()).then_some(Move::Write));
        moves.extend((self.restarts > 0).then_some(Move::Restart));
        moves
    }

    fn make(&mut self, chosen: Move) {
        match chosen {
            Move::Step => self.step(),
            Move::Write => {
                self.written += 1;
                self.unseen = true;
            }
            Move::Notice => {
                (self.unseen, self.waits) = (false, None);
                self.queues.handle_both(self.now_ms, &Event::Grown);
            }
            Move::Answer(at, taken) => self.answer(at, taken),
            Move::Pass => self.now_ms = self.waits.take().flatten().expect("a deadline"),
            Move::Restart => {
                self.restarts -= 1;
                self.under_way.clear();
                self.queues = Queues::new(self.limits, self.saved);
                self.read = Queues::begins(self.saved).map(|lsn| usize::try_from(lsn.0).unwrap());
                (self.unseen, self.waits) = (true, None);
            }
        }
    }

    fn answer(&mut self, at: usize, taken: bool) {
        let (queue, lsn) = self.under_way.remove(at);
        let outcome = if taken {
            self.completed.insert(lsn);
            Outcome::Taken
        } else {
            self.failures -= 1;
            Outcome::Later { reason: String::new(), retry_after_s: None }
        };
        self.waits = None;
        let alert = self.change(lsn).0.into();
        self.queues.finished(self.now_ms, queue, alert, Event::Finished { lsn, outcome, random: 0 });
    }

    fn step(&mut self) {
        match self.queues.next(self.now_ms) {
            Action::For(queue, Task::Read) => {
                let found = self.read_log(queue);
                self.queues.handle(self.now_ms, queue, Event::Read(found));
            }
            Action::For(queue, Task::Attempt { lsn, notification }) => {
                self.attempt(queue, lsn, &notification)
            }
            Action::For(queue, Task::Save(cursor)) => {
                let mut passed = (1..=cursor.decided_lsn.0)
                    .map(Lsn)
                    .filter(|lsn| self.change(*lsn).1.queue() == Some(queue));
                assert!(
                    passed.all(|lsn| self.completed.contains(&lsn) || self.is_superseded(lsn)),
                    "{queue:?} {cursor:?} passes what nobody has"
                );
                self.saved[queue.at()] = cursor;
            }
            Action::Wait { until_ms } => {
                self.waits = Some(until_ms);
                self.check_that_nothing_live_waits_for_what_is_old();
            }
            Action::Done => panic!("the log goes on"),
        }
    }

    fn attempt(&mut self, queue: Queue, lsn: Lsn, notification: &Notification) {
        let (alert, kind) = self.change(lsn);
        assert_eq!((notification.alert, Some(queue)), (alert.into(), kind.queue()));
        let mut others = self.under_way.iter().map(|(_, other)| *other);
        assert!(others.all(|other| self.change(other).0 != alert), "two of one alert are under way");
        if !self.completed.contains(&lsn) {
            let mut later = self.completed.iter().filter(|other| **other > lsn);
            assert!(
                later.all(|other| self.change(*other).0 != alert),
                "{lsn} comes behind a later one: {self:?}"
            );
        }
        let mut before = (1..lsn.0).map(Lsn).filter(|before| self.change(*before).0 == alert);
        assert!(
            before.all(|before| {
                let needs_no_answer = self.change(before).1 == Pending || self.is_superseded(before);
                needs_no_answer || self.completed.contains(&before)
            }),
            "{lsn} overtakes its alert: {self:?}"
        );
        self.under_way.push((queue, lsn));
    }

    fn read_log(&mut self, queue: Queue) -> Found {
        let read = &mut self.read[queue.at()];
        let Some(&(alert, kind)) = self.log[..self.written].get(*read) else { return Found::End };
        *read += 1;
        let lsn = Lsn(*read as u64);
        let notification = kind.queue().map(|of| Notification {
            live: of == Queue::Live,
            raises: matches!(kind, Raise | OldRaise),
            ..Notification::of(alert.into(), &(alert % 3).to_string())
        });
        Found::Change { lsn, source_lsn: lsn.0, last: true, notification }
    }

    fn change(&self, lsn: Lsn) -> Change {
        self.log[usize::try_from(lsn.0).unwrap() - 1]
    }

    /// An old notification of an alert that goes live later.
    fn is_superseded(&self, lsn: Lsn) -> bool {
        let (alert, kind) = self.change(lsn);
        let later = &self.log[usize::try_from(lsn.0).unwrap()..self.written];
        kind.queue() == Some(Queue::Retrospective) && later.contains(&(alert, Raise))
    }

    /// The promise.
    fn check_that_nothing_live_waits_for_what_is_old(&self) {
        let live_under_way = self.under_way.iter().filter(|(queue, _)| *queue == Queue::Live).count();
        let full = live_under_way >= self.limits.0[0].in_flight;
        let is_probe = live_under_way > 0 && self.queues.queues[0].health() != Health::well();
        let deadline = self.waits.flatten().is_some();
        if full || is_probe || deadline || self.unseen {
            return;
        }
        let alerts_under_way: Vec<u8> = self.under_way.iter().map(|(_, lsn)| self.change(*lsn).0).collect();
        for lsn in (1..=self.written as u64).map(Lsn) {
            let (alert, kind) = self.change(lsn);
            let waits = kind.queue() == Some(Queue::Live) && !self.completed.contains(&lsn);
            assert!(!waits || alerts_under_way.contains(&alert), "{lsn} waits: {self:?}");
        }
    }

    fn all_is_done(&self) -> bool {
        let mut announced = (1..=self.log.len() as u64).map(Lsn).filter(|lsn| self.change(*lsn).1 != Pending);
        announced.all(|lsn| self.completed.contains(&lsn) || self.is_superseded(lsn))
    }

    /// Lets everything go well from here on.
    fn check_that_it_ends_well(mut self) {
        for _ in 0..100 * (self.log.len() + 10) {
            let chosen = match self.waits {
                None => Move::Step,
                Some(_) if self.unseen => Move::Notice,
                Some(_) if !self.under_way.is_empty() => Move::Answer(0, true),
                Some(Some(_)) => Move::Pass,
                Some(None) if self.written < self.log.len() => Move::Write,
                Some(None) => break,
            };
            self.make(chosen);
        }
        assert!(self.all_is_done(), "alerts wait for ever: {self:?}");
        let head = Lsn(self.log.len() as u64);
        assert_eq!(self.saved.map(|cursor| cursor.decided_lsn), [head; 2], "{self:?}");
        let Queues { went_live, in_order, .. } = &self.queues;
        assert!(went_live.is_empty() && in_order.is_empty(), "what was passed is remembered: {self:?}");
        assert_eq!(self.queues.health(), Health::well());
    }
}

const SMALL: Limits = Limits([Bounds { in_flight: 1, slots: 4 }, Bounds { in_flight: 1, slots: 2 }]);

#[test]
fn live_alerts_wait_for_no_old_ones_and_each_alert_keeps_its_order_in_every_interleaving() {
    let logs: [&[Change]; 6] = [
        &[(1, OldRaise), (1, OldEnd), (2, OldRaise), (3, Raise)],
        &[(1, OldRaise), (1, Raise), (1, End), (2, Raise)],
        &[(1, OldRaise), (2, OldRaise), (1, Raise), (2, Raise)],
        &[(1, Pending), (2, OldRaise), (2, Pending), (2, Raise)],
        &[(1, Raise), (2, OldRaise), (1, End), (2, OldEnd)],
        &[(1, OldRaise), (2, OldRaise), (2, Raise)],
    ];
    let mut states = 0;
    for log in logs {
        let begin = Scene::new(SMALL, log, 1, 1);
        let mut seen = HashSet::from([begin.clone()]);
        let mut open = vec![begin];
        while let Some(scene) = open.pop() {
            scene.clone().check_that_it_ends_well();
            for chosen in scene.moves() {
                let mut next = scene.clone();
                next.make(chosen);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        states += seen.len();
    }
    println!("states: {states}");
    assert!(states > 5_000, "the model is too small to say anything: {states}");
}

#[test]
fn a_backlog_of_old_alerts_that_nobody_answers_delays_no_live_one() {
    let mut log: Vec<Change> = (0..200).map(|alert| (alert, OldRaise)).collect();
    log.extend([(201, Raise), (202, Raise)]);
    let mut scene = Scene::new(Limits::with_in_flight(4), &log, 0, 0);
    (0..log.len()).for_each(|_| scene.make(Move::Write));
    while scene.waits.is_none() {
        scene.make(Move::Step);
    }
    let live: Vec<u64> =
        scene.under_way.iter().filter(|(queue, _)| *queue == Queue::Live).map(|(_, lsn)| lsn.0).collect();
    assert_eq!(live, [201, 202]);
}

#[test]
fn what_is_remembered_of_alerts_that_went_live_is_bounded() {
    let mut queues = Queues::new(Limits::with_in_flight(4), [Cursor::default(); 2]);
    for lsn in 1..=WENT_LIVE_MAX as u64 + 10 {
        queues.goes_live(Lsn(lsn), lsn);
    }
    assert_eq!((queues.went_live.len(), queues.in_order.len()), (WENT_LIVE_MAX, WENT_LIVE_MAX));
    assert!(!queues.went_live.contains_key(&10) && queues.went_live.contains_key(&11));
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Pending), Just(OldRaise), Just(OldEnd), Just(Raise), Just(End)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn both_queues_with_their_real_limits_deliver_everything_whatever_happens_before(
        kinds in proptest::collection::vec((0_u8..40, kind()), 0..400),
        chosen in proptest::collection::vec(any::<u16>(), 0..2_000),
    ) {
        // As rules make them: an alert ends as what it was raised as last, and never goes back to old data.
        let mut last = [Pending; 40];
        let log: Vec<Change> = kinds
            .into_iter()
            .map(|(alert, kind)| {
                let last = &mut last[usize::from(alert)];
                let fits = matches!(
                    (*last, kind),
                    (Pending, OldRaise | Raise) | (OldRaise, OldEnd | Raise) | (Raise, End)
                );
                if fits {
                    *last = kind;
                }
                (alert, if fits { kind } else { Pending })
            })
            .collect();
        let mut scene = Scene::new(Limits::with_in_flight(4), &log, 20, 3);
        for chosen in chosen {
            let moves = scene.moves();
            let Some(&chosen) = moves.get(usize::from(chosen) % moves.len().max(1)) else { break };
            scene.make(chosen);
        }
        scene.check_that_it_ends_well();
    }
}
