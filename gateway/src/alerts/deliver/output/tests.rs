//! A receiver that fails as a script says, and a restart in the middle.

use super::*;
use crate::alerts::log::tests::{Site, change};
use hunhe_gateway_core::device::alert::{Change, Mode, Phase};
use hunhe_log::cursor::Held;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant as Moment,
};

#[derive(Default)]
struct Scripted {
    /// How many attempts panic before anything else happens.
    panics: AtomicUsize,
    /// So long the first attempt takes, and each.
    first_takes: Duration,
    each_takes: Duration,
    attempts: AtomicUsize,
    script: Mutex<VecDeque<Outcome>>,
    /// Keys that were taken, in order.
    taken: Mutex<Vec<String>>,
}

impl Scripted {
    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl Receiver for Arc<Scripted> {
    async fn attempt(&self, notification: Notification) -> Outcome {
        tokio::task::yield_now().await;
        let panics = self.panics.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        assert!(panics.is_err(), "planted");
        if self.attempts.fetch_add(1, Relaxed) == 0 {
            tokio::time::sleep(self.first_takes).await;
        }
        tokio::time::sleep(self.each_takes).await;
        let outcome = self.script.lock().unwrap().pop_front().unwrap_or(Outcome::Taken);
        if outcome == Outcome::Taken {
            self.taken.lock().unwrap().push(notification.key);
        }
        outcome
    }
}

fn source(site: &Site) -> Source {
    Source {
        tail: site.log.subscribe(),
        newest: site.newest.clone(),
        from_source_lsn: 0,
        source_lsn_max: u64::MAX,
        data_dir: site.dir.path().into(),
        encode: |alert| alert.idempotency_key().into(),
    }
}

/// The output of all these tests.
const DUTY: Named<'_> =
    Named { name: "duty", kind: status::Kind::Webhook, limits: Limits::with_in_flight(4) };

fn begin(site: &Site, receiver: &Arc<Scripted>) -> Handle {
    let receiver = Arc::clone(receiver);
    start(&DUTY, source(site), || Ok(receiver)).unwrap()
}

fn await_passed(handle: &Handle, lsn: u64) {
    let begun = Moment::now();
    while handle.status().passed() != Lsn(lsn) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", handle.status().snapshot());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn held(site: &Site) -> Held {
    CursorFile::open(&*hunhe_disk::real(), &site.dir.path().join("webhook-duty.cursor")).unwrap().1
}

#[test]
fn raises_and_ends_arrive_in_their_order_whatever_fails_in_between() {
    let mut site = Site::new();
    let receiver = Arc::new(Scripted::default());
    let later = || Outcome::Later { reason: "not now".into(), retry_after_s: None };
    receiver.script.lock().unwrap().extend([
        later(),
        later(),
        Outcome::Taken,
        later(),
        Outcome::Refused { reason: "400 bad".into() },
        Outcome::Taken,
        later(),
    ]);
    let handle = begin(&site, &receiver);
    for id in 1..=6 {
        site.log.write(id * 10, &[change(id, Phase::Pending), change(id, Phase::Firing)]).unwrap();
        site.log.write(id * 10 + 1, &[change(id, Phase::Resolved)]).unwrap();
    }
    await_passed(&handle, 18);
    let status = handle.status().snapshot();
    assert_eq!((status.delivered, status.failed, status.lag_records), (11, 1, 0));
    let mut by_alert: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in receiver.taken() {
        let (alert, state) = key.split_once('-').unwrap();
        by_alert.entry(alert.into()).or_default().push(state.into());
    }
    let whole = by_alert.values().filter(|states| **states == ["firing-live", "resolved-live"]).count();
    assert_eq!((by_alert.len(), whole), (6, 5), "{by_alert:?}");
    handle.stop();
    assert_eq!(held(&site), Held::Cursor(Cursor { source_lsn: 61, decided_lsn: Lsn(18) }));
}

#[test]
fn a_restart_repeats_what_was_not_taken_and_nothing_that_was() {
    let mut site = Site::new();
    let receiver = Arc::new(Scripted::default());
    let handle = begin(&site, &receiver);
    site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
    await_passed(&handle, 1);
    receiver
        .script
        .lock()
        .unwrap()
        .extend(std::iter::repeat_with(|| Outcome::Held { reason: "302 elsewhere".into() }).take(1));
    site.log.write(2, &[change(2, Phase::Firing), change(3, Phase::Firing)]).unwrap();
    let begun = Moment::now();
    while handle.status().snapshot().state != State::Held {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
    handle.stop();
    let Held::Cursor(cursor) = held(&site) else { panic!("a cursor is there") };
    assert_eq!(cursor.source_lsn, 1, "the source record that is not done is not passed");
    let handle = begin(&site, &receiver);
    await_passed(&handle, 3);
    handle.stop();
    let mut taken = receiver.taken();
    taken.sort();
    taken.dedup();
    let expected: Vec<String> = (1..=3).map(|id| format!("{id:016x}-firing-live")).collect();
    assert_eq!(taken, expected);
    assert_eq!(receiver.taken().iter().filter(|key| **key == expected[0]).count(), 1);
}

#[test]
fn a_new_output_begins_now_and_not_with_history() {
    let mut site = Site::new();
    site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
    let receiver = Arc::new(Scripted::default());
    let later = Source { from_source_lsn: 1, ..source(&site) };
    let handle = {
        let receiver = Arc::clone(&receiver);
        start(&DUTY, later, || Ok(receiver)).unwrap()
    };
    site.log.write(2, &[change(2, Phase::Firing)]).unwrap();
    await_passed(&handle, 2);
    handle.stop();
    assert_eq!(receiver.taken(), ["0000000000000002-firing-live"]);
}

#[test]
fn a_cursor_beyond_what_is_judged_anew_is_set_back() {
    let mut site = Site::new();
    let receiver = Arc::new(Scripted::default());
    let handle = begin(&site, &receiver);
    site.log.write(5, &[change(1, Phase::Firing)]).unwrap();
    await_passed(&handle, 1);
    handle.stop();
    let anew = |source_lsn_max| {
        let receiver = Arc::clone(&receiver);
        let source = Source { source_lsn_max, ..source(&site) };
        start(&DUTY, source, || Ok(receiver)).unwrap()
    };
    anew(5).stop();
    assert_eq!(held(&site), Held::Cursor(Cursor { source_lsn: 5, decided_lsn: Lsn(1) }));
    // By other rules the replay raises something for a message that was passed.
    let handle = anew(2);
    site.log.write(3, &[change(2, Phase::Firing)]).unwrap();
    await_passed(&handle, 2);
    handle.stop();
    assert_eq!(receiver.taken(), [1, 2].map(|id| format!("{id:016x}-firing-live")));
}

#[test]
fn records_that_nobody_can_read_are_passed_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    {
        let disk = hunhe_disk::real();
        let options = crate::alerts::log::options(disk, dir.path().join("alerts"), 8 << 20);
        let (mut log, _) = hunhe_log::Writer::open(options).unwrap();
        for _ in 0..1000 {
            log.append(1, &[b"of another shape"]).unwrap();
        }
        log.sync().unwrap();
    }
    let cursor = dir.path().join("webhook-duty.cursor");
    CursorFile::open(&*hunhe_disk::real(), &cursor).unwrap().0.save(Cursor::default()).unwrap();
    let mut site = Site::open(dir, None);
    let receiver = Arc::new(Scripted::default());
    let handle = begin(&site, &receiver);
    site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
    await_passed(&handle, 1001);
    assert_eq!(receiver.taken().len(), 1);
    handle.stop();
}

/// The first answer takes long, and far more than the window holds comes meanwhile.
fn deliver_behind_a_slow_first(changes: impl Fn(u64) -> Change) {
    const CHANGES: u64 = 600;
    let mut site = Site::roomy();
    let receiver = Arc::new(Scripted { first_takes: Duration::from_millis(1500), ..Scripted::default() });
    let handle = begin(&site, &receiver);
    for id in 1..=CHANGES {
        site.log.write(id, &[changes(id)]).unwrap();
    }
    await_passed(&handle, CHANGES);
    let announced = (1..=CHANGES).filter(|&id| changes(id).phase == Phase::Firing).count();
    assert_eq!(receiver.taken().len(), announced);
    handle.stop();
}

#[test]
fn one_slow_answer_stops_no_output_when_hundreds_alarm_at_once() {
    deliver_behind_a_slow_first(|id| change(id, Phase::Firing));
}

#[test]
fn hundreds_of_pending_changes_behind_one_alert_stop_no_output() {
    deliver_behind_a_slow_first(|id| change(id, if id == 1 { Phase::Firing } else { Phase::Pending }));
}

#[test]
fn a_delivery_that_panics_is_tried_again() {
    let mut site = Site::new();
    let receiver = Arc::new(Scripted { panics: AtomicUsize::new(2), ..Scripted::default() });
    let handle = begin(&site, &receiver);
    site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
    await_passed(&handle, 1);
    assert_eq!(receiver.taken().len(), 1);
    assert_eq!(handle.status().attempts(), 3);
    handle.stop();
}

#[test]
fn an_alert_log_that_cannot_be_read_for_a_while_ends_no_output() {
    let mut site = Site::new();
    site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
    let (there, away) = (site.dir.path().join("alerts"), site.dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    let cursor = site.dir.path().join("webhook-duty.cursor");
    CursorFile::open(&*hunhe_disk::real(), &cursor).unwrap().0.save(Cursor::default()).unwrap();
    let receiver = Arc::new(Scripted::default());
    let handle = begin(&site, &receiver);
    let begun = Moment::now();
    while handle.status().snapshot().state != State::Retrying {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", handle.status().snapshot());
        std::thread::sleep(Duration::from_millis(2));
    }
    let words = handle.status().snapshot().last_error.unwrap();
    assert!(words.starts_with("the alert log cannot be read"), "{words}");
    std::fs::rename(&away, &there).unwrap();
    await_passed(&handle, 1);
    assert_eq!(receiver.taken().len(), 1);
    handle.stop();
}

#[test]
fn an_output_passes_what_a_replay_writes_again_behind_a_cut() {
    let mut site = Site::new();
    let receiver = Arc::new(Scripted::default());
    for id in 1..=3 {
        site.log.write(id, &[change(id, Phase::Firing)]).unwrap();
    }
    let cursor = site.dir.path().join("webhook-duty.cursor");
    let passed = Cursor { source_lsn: 3, decided_lsn: Lsn(3) };
    CursorFile::open(&*hunhe_disk::real(), &cursor).unwrap().0.save(passed).unwrap();
    let Site { dir, log, newest } = site;
    drop((log, newest));
    let mut site = Site::open(dir, Some(Lsn(1)));
    let source = source(&site);
    // Both are written before the output reads, so that its cursor ends where it began.
    let make = || {
        for id in 2..=3 {
            site.log.write(id, &[change(id, Phase::Firing)])?;
        }
        Ok(Arc::clone(&receiver))
    };
    let handle = start(&DUTY, source, make).unwrap();
    await_passed(&handle, 3);
    assert_eq!(receiver.taken().len(), 0, "what was delivered is not delivered again");
    handle.stop();
}

#[test]
fn live_alerts_reach_a_receiver_that_takes_long_before_a_backlog_of_old_ones() {
    let mut site = Site::roomy();
    let old = |id| Change { mode: Mode::Retrospective, ..change(id, Phase::Firing) };
    let backlog: Vec<Change> = (1..=300).map(old).collect();
    let receiver = Arc::new(Scripted { each_takes: Duration::from_millis(5), ..Scripted::default() });
    let handle = begin(&site, &receiver);
    site.log.write(1, &backlog).unwrap();
    site.log
        .write(2, &[change(1_000, Phase::Firing), Change { phase: Phase::Resolved, ..old(300) }])
        .unwrap();
    await_passed(&handle, 302);
    let taken = receiver.taken();
    let at = taken.iter().position(|key| *key == format!("{:016x}-firing-live", 1_000)).unwrap();
    assert!(at <= 20, "{at} old ones came before it");
    assert_eq!(taken.len(), 302);
    handle.stop();
    let after = Cursor { source_lsn: 2, decided_lsn: Lsn(302) };
    assert_eq!(held(&site), Held::Cursor(after));
    let path = site.dir.path().join("webhook-duty.retrospective.cursor");
    assert_eq!(CursorFile::open(&*hunhe_disk::real(), &path).unwrap().1, Held::Cursor(after));
}
