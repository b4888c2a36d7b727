//! Group commit: settled means durable, in order, or not at all.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use hunhe_log::{
    AppendError, Bounds, Committer, Ended, Entry, Error, Intake, Lsn, Options, Priority, Refused, Settled,
    Settlement, State, Tail, Writer,
};

use super::{folder, open, options};

#[derive(Debug)]
struct Message {
    id: u32,
    text: Vec<u8>,
}

fn message(id: u32, bytes: usize) -> Message {
    Message { id, text: vec![1; bytes] }
}

impl Entry for Message {
    fn kind(&self) -> u8 {
        1
    }

    fn parts(&self) -> [&[u8]; 4] {
        [&[7], &self.text, &[], &[]]
    }

    fn cost(&self) -> u64 {
        self.text.len() as u64
    }

    fn is_recorded(&self) -> bool {
        !self.text.is_empty()
    }
}

#[derive(Debug)]
enum Told {
    Settled { id: u32, outcome: Result<Lsn, AppendError>, visible: Lsn },
    Commit,
    Full(bool),
    Failed(String),
}

/// Tells everything; commits only when given leave, if a gate is set.
struct Witness {
    told: Sender<Told>,
    tail: Tail,
    gate: Option<Receiver<()>>,
}

impl Settlement<Message> for Witness {
    fn settled(&mut self, batch: &mut Vec<Settled<Message>>) {
        for Settled { item, outcome } in batch.drain(..) {
            self.told.send(Told::Settled { id: item.id, outcome, visible: self.tail.head() }).unwrap();
        }
        self.told.send(Told::Commit).unwrap();
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
    }

    fn full(&mut self, full: bool) {
        self.told.send(Told::Full(full)).unwrap();
    }

    fn failed(&mut self, error: &Error) {
        self.told.send(Told::Failed(error.to_string())).unwrap();
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
    }
}

fn start(
    writer: Writer,
    bounds: Bounds,
    gate: Option<Receiver<()>>,
) -> (Committer, Intake<Message>, Receiver<Told>) {
    let (told, hear) = mpsc::channel();
    let tail = writer.subscribe();
    let (committer, intake) = Committer::start(writer, bounds, Witness { told, tail, gate }).unwrap();
    (committer, intake, hear)
}

fn hear(told: &Receiver<Told>) -> Told {
    told.recv_timeout(Duration::from_secs(60)).expect("the committer says something")
}

/// The ids of one commit, checking that each was durable and visible when it was settled.
fn one_commit(told: &Receiver<Told>) -> Vec<(u32, Result<u64, ()>)> {
    let mut ids = Vec::new();
    loop {
        match hear(told) {
            Told::Settled { id, outcome, visible } => {
                let outcome = outcome.map_err(drop);
                assert!(
                    outcome.is_err() || outcome.is_ok_and(|lsn| lsn <= visible),
                    "{id} settled before it was synced"
                );
                ids.push((id, outcome.map(|lsn| lsn.0)));
            }
            Told::Commit => return ids,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn urgent_entries_overtake_a_backlog_and_each_lane_keeps_its_order() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let (committer, intake, told) = start(open(dir.path()).0, Bounds::default(), Some(gate));
    intake.try_push(Priority::Normal, message(0, 10)).unwrap();
    assert_eq!(one_commit(&told), [(0, Ok(1))]);
    // The thread now waits in its callback, as it would on a slow disk, while these arrive.
    for id in 1..=5 {
        intake.try_push(Priority::Normal, message(id, 10)).unwrap();
    }
    intake.try_push(Priority::Urgent, message(100, 10)).unwrap();
    intake.try_push(Priority::Urgent, message(101, 10)).unwrap();
    assert_eq!((intake.status().urgent_items, intake.status().normal_items), (2, 5));
    go.send(()).unwrap();
    let expected = [(100, Ok(2)), (101, Ok(3)), (1, Ok(4)), (2, Ok(5)), (3, Ok(6)), (4, Ok(7)), (5, Ok(8))];
    assert_eq!(one_commit(&told), expected);
    drop(go);
    intake.close();
    assert_eq!(committer.join().unwrap().durable(), Lsn(8));
}

#[test]
fn entries_handed_over_together_keep_their_order_and_what_has_no_room_stays_with_the_caller() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let bounds = Bounds { lane_items: 4, ..Bounds::default() };
    let (committer, intake, told) = start(open(dir.path()).0, bounds, Some(gate));
    intake.try_push(Priority::Normal, message(0, 1)).unwrap();
    one_commit(&told);
    let mut items: VecDeque<Message> = (1..=6).map(|id| message(id, 1)).collect();
    intake.push_all(Priority::Normal, &mut items).unwrap();
    let left = |items: &VecDeque<Message>| items.iter().map(|message| message.id).collect::<Vec<_>>();
    assert_eq!(left(&items), [5, 6]);
    intake.push_all(Priority::Normal, &mut items).unwrap();
    assert_eq!(left(&items), [5, 6], "there is still no room");
    go.send(()).unwrap();
    assert_eq!(one_commit(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    intake.push_all(Priority::Normal, &mut items).unwrap();
    assert!(items.is_empty());
    go.send(()).unwrap();
    assert_eq!(one_commit(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [5, 6]);
    drop(go);
    intake.close();
    items.push_back(message(7, 1));
    assert_eq!((intake.push_all(Priority::Normal, &mut items), left(&items)), (Err(Ended), vec![7]));
    committer.join().unwrap();
}

#[test]
fn a_commit_is_bounded_and_so_is_each_lane() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let bounds =
        Bounds { lane_items: 6, lane_bytes: 500, batch_items: 4, batch_bytes: 1 << 20, lag_cost: 1_000 };
    let (committer, intake, told) = start(open(dir.path()).0, bounds, Some(gate));
    intake.try_push(Priority::Normal, message(0, 1)).unwrap();
    one_commit(&told);
    for id in 1..=6 {
        intake.try_push(Priority::Normal, message(id, 1)).unwrap();
    }
    assert!(matches!(
        intake.try_push(Priority::Normal, message(7, 1)),
        Err(Refused::Busy(Message { id: 7, .. }))
    ));
    // A lane with room for its bytes takes even a larger one when empty, but no second.
    intake.try_push(Priority::Urgent, message(8, 900)).unwrap();
    assert!(matches!(
        intake.try_push(Priority::Urgent, message(9, 1)),
        Err(Refused::Busy(Message { id: 9, .. }))
    ));
    go.send(()).unwrap();
    assert_eq!(one_commit(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [8, 1, 2, 3]);
    go.send(()).unwrap();
    assert_eq!(one_commit(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 5, 6]);
    drop(go);
    intake.close();
    committer.join().unwrap();
}

#[test]
fn ordinary_entries_wait_while_the_lane_is_behind_and_urgent_ones_do_not() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let bounds = Bounds { lag_cost: 1_000, ..Bounds::default() };
    let (committer, intake, told) = start(open(dir.path()).0, bounds, Some(gate));
    intake.try_push(Priority::Normal, message(0, 1)).unwrap();
    assert_eq!(one_commit(&told), [(0, Ok(1))]);
    for id in 1..=4 {
        intake.try_push(Priority::Normal, message(id, 600)).unwrap();
    }
    go.send(()).unwrap();
    assert_eq!(one_commit(&told), [(1, Ok(2)), (2, Ok(3))], "no more than the bound, but for one entry");
    let status = intake.status();
    assert_eq!((status.held, status.normal_items, status.undecided_cost), (true, 2, 1_201));
    assert!(intake.holds_back(Priority::Normal) && !intake.holds_back(Priority::Urgent));
    intake.try_push(Priority::Urgent, message(100, 10)).unwrap();
    go.send(()).unwrap();
    assert_eq!(one_commit(&told), [(100, Ok(4))]);
    // The lane has decided the first three records.
    intake.decided(Lsn(3), false);
    go.send(()).unwrap();
    assert_eq!(one_commit(&told), [(3, Ok(5)), (4, Ok(6))]);
    assert!(intake.holds_back(Priority::Normal), "both were more than the bound");
    intake.try_push(Priority::Normal, message(5, 600)).unwrap();
    intake.close();
    go.send(()).unwrap();
    assert_eq!(one_commit(&told), [(5, Ok(7))], "at the end nothing is held");
    drop(go);
    committer.join().unwrap();
}

#[test]
fn an_entry_too_large_is_settled_in_its_turn_as_refused() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let (committer, intake, told) = start(open(dir.path()).0, Bounds::default(), Some(gate));
    intake.try_push(Priority::Normal, message(0, 1)).unwrap();
    one_commit(&told);
    for (id, bytes) in [(1, 10), (2, 100_000), (3, 10)] {
        intake.try_push(Priority::Normal, message(id, bytes)).unwrap();
    }
    drop(go);
    assert_eq!(one_commit(&told), [(1, Ok(2)), (2, Err(())), (3, Ok(3))]);
    intake.close();
    committer.join().unwrap();
}

#[test]
fn an_entry_without_a_record_is_settled_in_its_turn_and_takes_no_number() {
    let dir = folder();
    let (go, gate) = mpsc::channel();
    let (committer, intake, told) = start(open(dir.path()).0, Bounds::default(), Some(gate));
    intake.try_push(Priority::Normal, message(0, 1)).unwrap();
    one_commit(&told);
    for (id, bytes) in [(1, 10), (2, 0), (3, 10)] {
        intake.try_push(Priority::Normal, message(id, bytes)).unwrap();
    }
    drop(go);
    assert_eq!(one_commit(&told), [(1, Ok(2)), (2, Ok(0)), (3, Ok(3))]);
    intake.close();
    assert_eq!(committer.join().unwrap().durable(), Lsn(3));
}

#[test]
fn a_full_log_acknowledges_nothing_until_a_release_and_loses_nothing() {
    const MESSAGES: u32 = 100;
    let dir = folder();
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().to_owned(),
        segment_bytes: 4096,
        limit_bytes: 8192,
    };
    let (committer, intake, told) = start(Writer::open(options).unwrap().0, Bounds::default(), None);
    for id in 0..MESSAGES {
        intake.try_push(Priority::Normal, message(id, 500)).unwrap();
    }
    let mut settled = Vec::new();
    let mut stops = 0;
    while settled.len() <= MESSAGES as usize {
        match hear(&told) {
            Told::Settled { id, outcome, visible } => {
                assert!(outcome.unwrap() <= visible);
                settled.push(id);
            }
            // Only the first stop is waited for; then every commit is released at once.
            Told::Full(true) if stops == 0 => {
                stops = 1;
                assert_eq!(settled.len(), 15, "as many as fit into 8 KiB");
                assert_eq!(intake.status().state, State::Full);
                intake.try_push(Priority::Urgent, message(MESSAGES, 500)).unwrap();
                assert!(told.try_recv().is_err(), "an urgent entry finds no room either");
                intake.release_through(Lsn(settled.len() as u64));
            }
            Told::Commit if stops > 0 => intake.release_through(Lsn(settled.len() as u64)),
            Told::Commit | Told::Full(_) => {}
            Told::Failed(error) => panic!("{error}"),
        }
    }
    let normal: Vec<u32> = settled.iter().copied().filter(|id| *id < MESSAGES).collect();
    assert!(normal.is_sorted() && settled.iter().position(|id| *id == MESSAGES) == Some(15), "{settled:?}");
    intake.release_through(Lsn(settled.len() as u64));
    intake.close();
    assert_eq!(committer.join().unwrap().head(), Lsn(u64::from(MESSAGES) + 1));
}

#[test]
fn after_an_io_error_nothing_is_settled_and_pushers_are_told() {
    let dir = folder();
    let at = dir.path().join("log");
    let (go, gate) = mpsc::channel();
    let (committer, intake, told) =
        start(Writer::open(options(&at, 4096)).unwrap().0, Bounds::default(), Some(gate));
    intake.try_push(Priority::Normal, message(0, 3000)).unwrap();
    one_commit(&told);
    go.send(()).unwrap();
    // The next segment cannot be created any more.
    std::fs::remove_dir_all(&at).unwrap();
    intake.try_push(Priority::Normal, message(1, 3000)).unwrap();
    match hear(&told) {
        Told::Failed(error) => assert!(error.contains("cannot create"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(intake.status().state, State::Running, "a pusher was refused before the reason was told");
    drop(go);
    let writer = committer.join().unwrap();
    assert_eq!(intake.status().state, State::Failed);
    assert!(matches!(intake.try_push(Priority::Urgent, message(2, 1)), Err(Refused::Ended(_))));
    assert_eq!(writer.durable(), Lsn(1));
    assert!(writer.failure().is_some());
}

#[test]
fn closing_commits_what_is_queued() {
    let dir = folder();
    let (committer, intake, _told) =
        start(Writer::open(options(dir.path(), 1 << 20)).unwrap().0, Bounds::default(), None);
    for id in 0..1000 {
        intake.try_push(Priority::Normal, message(id, 50)).unwrap();
    }
    intake.close();
    assert!(matches!(intake.try_push(Priority::Normal, message(0, 1)), Err(Refused::Ended(_))));
    assert_eq!(committer.join().unwrap().durable(), Lsn(1000));
    assert_eq!(intake.status().state, State::Ended);
}
