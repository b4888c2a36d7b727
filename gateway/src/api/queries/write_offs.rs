//! Unexplained samples that an operator declares lost, and the audit trail of that.
//!
//! Two orders for the same samples would count them twice, and the second count would hide later losses. So an order carries
//! the number of write-offs that it knew of, and the lane refuses it if there were others since. One order is under way at a
//! time as long as its client waits, so that few are refused for that. The count of samples goes into the journal with the
//! order, since a replay receives confirmations of sinks at other moments. It is the unexplained count of the published view,
//! which is at most a tenth of a second old.

use super::Answers;
use crate::{
    api::{
        ApiError,
        backend::WriteOffQuery,
        types::{Instant, WriteOff, WriteOffOrder, WriteOffPage},
    },
    record::Entering,
};
use hunhe_gateway_core::{city::audit::Entry, event, registry::Registry};
use hunhe_log::{Priority, Refused as Unqueued};
use hunhe_proto::id::Id;
use std::{sync::Arc, time::Duration};

/// Characters of a reason, and of a name.
const REASON_MAX: usize = 200;
const BY_MAX: usize = 64;
/// How often the published view is looked at for an order's end, and for how long in all.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const WITHIN: Duration = Duration::from_secs(8);

impl Answers {
    pub(super) async fn write_off_now(&self, order: WriteOffOrder) -> Result<WriteOff, ApiError> {
        check("reason", &order.reason, REASON_MAX)?;
        check("by", &order.by, BY_MAX)?;
        let known = Id::new(&order.device).ok().and_then(|name| self.registry.find_pseudonym(name));
        let Some(device) = known else {
            return Err(ApiError::NotFound(format!("no device {}", plain(&order.device))));
        };
        let _one_at_a_time = self.writing_off.lock().await;
        // In this order: the lane publishes ledgers first, so this one knows of every write-off that is counted here.
        let before = self.view.published.overview().audit.count();
        let ledger = self.view.published.ledger(device).unwrap_or_default();
        let samples = u64::try_from(ledger.totals.unexplained()).unwrap_or(0);
        if samples == 0 {
            return Err(ApiError::Conflict("nothing of it is unexplained: see the ledger by device".into()));
        }
        let word = event::WriteOff {
            lsn: 0,
            at_ms: self.clock.now_ms(),
            device: self.registry.device(device).id,
            samples,
            before,
            reason: &order.reason,
            by: &order.by,
        };
        match self.journal.try_push(Priority::Normal, Entering::write_off(&word)) {
            Ok(()) => self.handled_write_off(&word).await,
            Err(Unqueued::Busy(_) | Unqueued::Ended(_)) => {
                Err(ApiError::Unavailable("the journal takes nothing now: try again later".into()))
            }
        }
    }

    async fn handled_write_off(&self, word: &event::WriteOff<'_>) -> Result<WriteOff, ApiError> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < WITHIN {
            let audit = Arc::clone(&self.view.published.overview().audit);
            if let Some(later) = audit.count().checked_sub(word.before + 1) {
                let first = audit.listed().nth(usize::try_from(later).unwrap_or(usize::MAX));
                let own = first.filter(|entry| is_of(entry, word));
                return own.map(|entry| shown(&self.registry, entry)).ok_or_else(|| {
                    ApiError::Conflict(
                        "another write-off was on its way, and nothing was written off for this order: look at the \
                         ledger by device, and ask again"
                            .into(),
                    )
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(ApiError::Unavailable(
            "the order is journaled and not handled yet: look for it among the write-offs before another"
                .into(),
        ))
    }

    pub(super) fn write_offs_of(&self, query: WriteOffQuery) -> WriteOffPage {
        let audit = Arc::clone(&self.view.published.overview().audit);
        let matching = audit.listed().filter(|entry| query.before.is_none_or(|before| entry.lsn < before));
        let mut items: Vec<WriteOff> =
            matching.take(query.limit.saturating_add(1)).map(|entry| shown(&self.registry, entry)).collect();
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = items.last().filter(|_| more).map(|write_off| write_off.id);
        WriteOffPage { items, next, total: audit.count() }
    }
}

/// Is it what that order came to?
fn is_of(entry: &Entry, word: &event::WriteOff<'_>) -> bool {
    (entry.at_ms, entry.device, entry.samples) == (word.at_ms, word.device, word.samples)
        && (entry.reason.as_str(), entry.by.as_str()) == (word.reason, word.by)
}

fn shown(registry: &Registry, entry: &Entry) -> WriteOff {
    WriteOff {
        id: entry.lsn,
        at: Instant(entry.at_ms),
        device: registry.shown_as(entry.device).to_string(),
        samples: entry.samples,
        reason: entry.reason.clone(),
        by: entry.by.clone(),
    }
}

/// A text that is kept for people.
fn check(key: &str, text: &str, most: usize) -> Result<(), ApiError> {
    let length = text.chars().count();
    if (1..=most).contains(&length) && !text.trim().is_empty() && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("body: `{key}` is 1 to {most} characters on one line")))
}

fn plain(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
