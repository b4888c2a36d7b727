//! The thread that reads the alert log into the list, and announces each change. It ends with the log.
//!
//! A log that cannot be read is opened again each [`AGAIN`], behind the last change that was read. Until that works the
//! gateway is not ready, and the failures are counted. A panic over one change skips that change.

use super::{
    Alert,
    feed::{Entry, Feed, Step},
    list::AlertList,
    log::Figures,
};
use crate::retry::Repeats;
use hunhe_gateway_core::device::alert::Phase;
use hunhe_log::{Lsn, ReadError, Tail};
use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The longest sleep without a look at whether the log has ended.
const NAP: Duration = Duration::from_millis(500);
/// Between two attempts to read a log that cannot be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Gets each change that comes after the start, once it is in the list.
pub(crate) type Announce = Box<dyn FnMut(&Alert) + Send>;

/// Alerts by their ids.
pub type ById = BTreeMap<u64, Alert>;

/// Starts it. What is in the log already is read before it returns, and is not announced: it is history. Answers the open
/// alerts in the log that are not `known` to the lane.
///
/// # Errors
/// Where the log cannot be read, or no thread is to be had.
pub(crate) fn follow(
    tail: Tail,
    list: Arc<AlertList>,
    announce: Announce,
    known: &HashSet<u64>,
    figures: Arc<Figures>,
) -> anyhow::Result<(JoinHandle<()>, ById)> {
    let mut feed = Feed::open(tail.clone(), Lsn::NONE)?;
    let mut unknown = ById::new();
    take(&mut feed, |entry| {
        // Not taken from the list: that has its bounds.
        let id = entry.alert.id;
        if entry.alert.phase == Phase::Resolved {
            unknown.remove(&id);
        } else if !known.contains(&id) {
            unknown.insert(id, entry.alert.clone());
        }
        list.note(Arc::new(entry.alert));
    })?;
    let mut follower = Follower {
        tail,
        at: feed.last(),
        feed: Some(feed),
        list,
        announce,
        figures,
        logged: Repeats::default(),
    };
    let thread = move || {
        let begun = Instant::now();
        while follower.follow(begun.elapsed()) {}
    };
    Ok((std::thread::Builder::new().name("alerts".into()).spawn(thread)?, unknown))
}

struct Follower {
    tail: Tail,
    /// The last record that was taken.
    at: Lsn,
    feed: Option<Feed>,
    list: Arc<AlertList>,
    announce: Announce,
    figures: Arc<Figures>,
    logged: Repeats,
}

impl Follower {
    /// Takes what is there and waits for more; answers whether there can be more.
    fn follow(&mut self, now: Duration) -> bool {
        let failed = match catch_unwind(AssertUnwindSafe(|| self.take())) {
            Ok(Ok(())) => {
                self.figures.unfollowed.store(false, Relaxed);
                return self.tail.wait(self.at, NAP) > self.at || !self.tail.is_closed();
            }
            Ok(Err(error)) => error.to_string(),
            // Its message is in the log already.
            Err(_) => "a change made the follower panic: it is passed".to_owned(),
        };
        self.feed = None;
        self.figures.follower_failures.fetch_add(1, Relaxed);
        self.figures.unfollowed.store(true, Relaxed);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if let Some(repeats) = self.logged.due(now_ms) {
            tracing::error!(
                error = failed,
                repeats,
                "the alert log cannot be followed: page and lists show no newer alerts; trying again"
            );
        }
        std::thread::sleep(AGAIN);
        !self.tail.is_closed()
    }

    fn take(&mut self) -> Result<(), ReadError> {
        let Self { tail, at, feed, list, announce, .. } = self;
        let feed = match feed {
            Some(feed) => feed,
            None => feed.insert(Feed::open(tail.clone(), *at)?),
        };
        let taken = take(feed, |entry| {
            *at = entry.lsn;
            let alert = Arc::new(entry.alert);
            list.note(Arc::clone(&alert));
            announce(&alert);
        });
        *at = feed.last().max(*at);
        taken
    }
}

/// All that was raised behind record `at`, whether or not it has ended since: outputs may have delivered the raise and not
/// its end.
///
/// # Errors
/// Where the log cannot be read.
pub(crate) fn raised_behind(tail: Tail, at: Lsn) -> Result<ById, ReadError> {
    let mut raised = ById::new();
    take(&mut Feed::open(tail, at)?, |entry| {
        if entry.alert.phase == Phase::Firing {
            raised.insert(entry.alert.id, entry.alert);
        }
    })?;
    Ok(raised)
}

fn take(feed: &mut Feed, mut each: impl FnMut(Entry)) -> Result<(), ReadError> {
    loop {
        match feed.step()? {
            Step::CaughtUp => return Ok(()),
            Step::Jump { .. } | Step::Other { .. } => {}
            Step::Lost { records, .. } => {
                tracing::error!(records, "records of the alert log cannot be read");
            }
            Step::Entry(entry) => each(*entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{
        list::Bounds,
        log::tests::{Site, change},
    };
    use hunhe_gateway_core::device::alert::Phase;

    fn ids(alerts: &ById) -> Vec<u64> {
        alerts.keys().copied().collect()
    }

    #[test]
    fn what_stands_and_the_lane_does_not_know_is_found_whatever_the_book_has_room_for() {
        let mut site = Site::new();
        for id in 1..=5 {
            site.log.write(id, &[change(id, Phase::Firing)]).unwrap();
        }
        site.log.write(6, &[change(1, Phase::Resolved)]).unwrap();
        let list = Arc::new(AlertList::new(Bounds { open: 1, resolved: 1 }));
        let tail = site.log.subscribe();
        let figures = Arc::default();
        let (thread, unknown) =
            follow(tail, Arc::clone(&list), Box::new(|_| {}), &HashSet::from([2]), figures).unwrap();
        assert_eq!(ids(&unknown), [3, 4, 5]);
        assert_eq!(list.firing().live.critical, 4);
        site.log.withdraw(7, 1_767_323_050_000, unknown).unwrap();
        drop(site.log);
        thread.join().unwrap();
        assert_eq!(list.firing().live.critical, 1);
    }

    #[test]
    fn a_log_that_cannot_be_read_for_a_while_is_followed_again_and_the_figures_say_so() {
        let mut site = Site::new();
        site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
        let list = Arc::new(AlertList::default());
        let figures = Arc::<Figures>::default();
        let mut follower = Follower {
            tail: site.log.subscribe(),
            at: Lsn::NONE,
            feed: None,
            list: Arc::clone(&list),
            announce: Box::new(|_| {}),
            figures: Arc::clone(&figures),
            logged: Repeats::default(),
        };
        let (there, away) = (site.dir.path().join("alerts"), site.dir.path().join("away"));
        std::fs::rename(&there, &away).unwrap();
        assert!(follower.follow(Duration::ZERO), "it goes on");
        assert!(figures.unfollowed.load(Relaxed));
        assert_eq!((figures.follower_failures.load(Relaxed), list.firing().live.critical), (1, 0));
        std::fs::rename(&away, &there).unwrap();
        assert!(follower.follow(Duration::ZERO));
        assert!(!figures.unfollowed.load(Relaxed));
        assert_eq!(list.firing().live.critical, 1);
        drop(site.log);
        assert!(!follower.follow(Duration::ZERO), "it ends with the log");
    }

    #[test]
    fn a_raise_behind_the_checkpoint_is_found_though_it_is_over() {
        let mut site = Site::new();
        site.log.write(1, &[change(1, Phase::Firing)]).unwrap();
        site.log.write(2, &[change(1, Phase::Resolved), change(2, Phase::Firing)]).unwrap();
        site.log.write(3, &[change(2, Phase::Resolved), change(3, Phase::Pending)]).unwrap();
        assert_eq!(ids(&raised_behind(site.log.subscribe(), Lsn(1)).unwrap()), [2]);
    }
}
