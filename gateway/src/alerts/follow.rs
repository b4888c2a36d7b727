//! The thread that follows the alert log into the book and the live stream. It ends with the log.

use super::{
    book::Book,
    feed::{Entry, Feed, Step},
};
use crate::{
    api::{
        Hub,
        types::{Alert, AlertState},
    },
    journal::{Lsn, ReadError, Tail},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

/// The longest sleep without a look at whether the log has ended.
const NAP: Duration = Duration::from_millis(500);

/// Alerts by their ids.
pub type ById = BTreeMap<u64, Alert>;

/// Starts it. What is in the log already is read before it returns, and is not announced: it is history. Answers what
/// stands there and is not `known` to the lane.
///
/// # Errors
/// Where the log cannot be read, or no thread is to be had.
pub(crate) fn follow(
    tail: Tail,
    book: Arc<Book>,
    hub: Arc<Hub>,
    known: &HashSet<u64>,
) -> anyhow::Result<(JoinHandle<()>, ById)> {
    let mut feed = Feed::open(tail, Lsn::NONE)?;
    let mut unknown = ById::new();
    take(&mut feed, |entry| {
        // Not asked of the book: that has its bounds.
        match entry.alert.number() {
            Some(id) if entry.alert.state == AlertState::Resolved => drop(unknown.remove(&id)),
            Some(id) if !known.contains(&id) => drop(unknown.insert(id, entry.alert.clone())),
            _ => {}
        }
        book.note(entry.alert);
    })?;
    let thread = move || {
        loop {
            let taken = take(&mut feed, |entry| {
                book.note(entry.alert);
                if let Ok(json) = std::str::from_utf8(&entry.json) {
                    hub.alert(json);
                }
            });
            if let Err(error) = taken {
                tracing::error!(%error, "the alert log cannot be followed: page and lists show no newer alerts");
                return;
            }
            let seen = feed.last();
            if feed.tail().wait(seen, NAP) <= seen && feed.tail().is_closed() {
                return;
            }
        }
    };
    Ok((std::thread::Builder::new().name("alerts".into()).spawn(thread)?, unknown))
}

/// All that was raised behind record `at`, over since or not: outputs may have delivered the raise and not its end.
///
/// # Errors
/// Where the log cannot be read.
pub(crate) fn raised_behind(tail: Tail, at: Lsn) -> Result<ById, ReadError> {
    let mut raised = ById::new();
    take(&mut Feed::open(tail, at)?, |entry| {
        if let Some(id) = entry.alert.number().filter(|_| entry.alert.state == AlertState::Firing) {
            raised.insert(id, entry.alert);
        }
    })?;
    Ok(raised)
}

fn take(feed: &mut Feed, mut heard: impl FnMut(Entry)) -> Result<(), ReadError> {
    loop {
        match feed.step()? {
            Step::CaughtUp => return Ok(()),
            Step::Jump { .. } => {}
            Step::Lost { records, .. } => {
                tracing::error!(records, "records of the alert log cannot be read");
            }
            Step::Entry(entry) => heard(*entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alerts::{
            book::Bounds,
            log::tests::{Site, change},
        },
        api::live::HubLimits,
    };
    use hunhe_gateway_core::alert::Phase;

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
        let book = Arc::new(Book::new(Bounds { open: 1, resolved: 1 }));
        let hub = Hub::new(HubLimits::default(), 0);
        let tail = site.log.subscribe();
        let (thread, unknown) = follow(tail, Arc::clone(&book), hub, &HashSet::from([2])).unwrap();
        assert_eq!(ids(&unknown), [3, 4, 5]);
        assert_eq!(book.firing().live.critical, 4);
        site.log.withdraw(7, 1_767_323_050_000, unknown).unwrap();
        drop(site.log);
        thread.join().unwrap();
        assert_eq!(book.firing().live.critical, 1);
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
