//! The thread that follows the alert log into the book and the live stream. It ends with the log.

use super::{
    book::Book,
    feed::{Feed, Step},
};
use crate::{
    api::Hub,
    journal::{Lsn, ReadError, Tail},
};
use std::{sync::Arc, thread::JoinHandle, time::Duration};

/// The longest sleep without a look at whether the log has ended.
const NAP: Duration = Duration::from_millis(500);

/// Starts it. What is in the log already is read before it returns, and is not announced: it is history.
///
/// # Errors
/// Where the log cannot be read, or no thread is to be had.
pub(crate) fn follow(tail: Tail, book: Arc<Book>, hub: Arc<Hub>) -> anyhow::Result<JoinHandle<()>> {
    let mut feed = Feed::open(tail, Lsn::NONE)?;
    take(&mut feed, &book, None)?;
    let thread = move || {
        loop {
            if let Err(error) = take(&mut feed, &book, Some(&hub)) {
                tracing::error!(%error, "the alert log cannot be followed: page and lists show no newer alerts");
                return;
            }
            let seen = feed.last();
            if feed.tail().wait(seen, NAP) <= seen && feed.tail().is_closed() {
                return;
            }
        }
    };
    Ok(std::thread::Builder::new().name("alerts".into()).spawn(thread)?)
}

fn take(feed: &mut Feed, book: &Book, hub: Option<&Hub>) -> Result<(), ReadError> {
    loop {
        match feed.step()? {
            Step::CaughtUp => return Ok(()),
            Step::Lost { records, .. } => {
                tracing::error!(records, "records of the alert log cannot be read");
            }
            Step::Entry(entry) => {
                let json = entry.json;
                book.note(entry.alert);
                if let (Some(hub), Ok(json)) = (hub, std::str::from_utf8(&json)) {
                    hub.alert(json);
                }
            }
        }
    }
}
