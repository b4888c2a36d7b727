//! What nobody can explain, declared lost by an operator, and the audit trail of that.
//!
//! One order is under way at a time, until the lane has handled it: two for the same samples would leave the second one's
//! count behind, and it would hide later losses. The count goes into the journal with the order, since a replay hears what
//! sinks say at other moments.

use super::Answers;
use crate::{
    api::{
        ApiError,
        backend::WriteOffQuery,
        types::{Instant, WriteOff, WriteOffOrder, WriteOffPage},
    },
    journal::{Priority, Refused as Unqueued},
    record::Entering,
};
use hunhe_gateway_core::{audit::Entry, event, lane::Lane, registry::Registry};
use hunhe_proto::id::Id;
use std::{sync::Arc, time::Duration};

/// Characters of a reason, and of a name.
const REASON_MAX: usize = 200;
const BY_MAX: usize = 64;
/// How often the lane is asked whether it has handled an order, and for how long in all.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const WITHIN: Duration = Duration::from_secs(8);

impl Answers {
    pub(super) async fn write_off_now(&self, order: WriteOffOrder) -> Result<WriteOff, ApiError> {
        let boot = order.boot.as_deref().map(read_boot).transpose()?;
        check("reason", &order.reason, REASON_MAX)?;
        check("by", &order.by, BY_MAX)?;
        let known = Id::new(&order.device).ok().and_then(|name| self.registry.find_pseudonym(name));
        let Some(device) = known else {
            return Err(ApiError::NotFound(format!("no device {}", plain(&order.device))));
        };
        let _one_at_a_time = self.writing_off.lock().await;
        let unexplained = move |lane: &Lane| {
            let samples = lane.state(device).map_or(0, |state| state.outboxes.unexplained(boot));
            (samples, lane.audit().count())
        };
        let (samples, before) = self.ask(unexplained).await?;
        if samples == 0 {
            return Err(ApiError::Conflict("nothing of it is unexplained: see the ledger by device".into()));
        }
        let entering = Entering::write_off(&event::WriteOff {
            lsn: 0,
            at_ms: self.clock.now_ms(),
            device: self.registry.device(device).id,
            boot,
            samples,
            reason: &order.reason,
            by: &order.by,
        });
        match self.journal.try_push(Priority::Normal, entering) {
            Ok(()) => self.handled_write_off(before).await,
            Err(Unqueued::Busy(_) | Unqueued::Ended(_)) => {
                Err(ApiError::Unavailable("the journal takes nothing now: try again later".into()))
            }
        }
    }

    async fn handled_write_off(&self, before: u64) -> Result<WriteOff, ApiError> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < WITHIN {
            let registry = Arc::clone(&self.registry);
            let newest = move |lane: &Lane| {
                let newest = lane.audit().listed().next().filter(|_| lane.audit().count() > before);
                newest.map(|entry| shown(&registry, entry))
            };
            if let Some(write_off) = self.ask(newest).await? {
                return Ok(write_off);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(ApiError::Unavailable(
            "the order is journaled and not handled yet: look for it among the write-offs before another"
                .into(),
        ))
    }

    pub(super) async fn write_offs_of(&self, query: WriteOffQuery) -> Result<WriteOffPage, ApiError> {
        let registry = Arc::clone(&self.registry);
        self.ask(move |lane| {
            let matching =
                lane.audit().listed().filter(|entry| query.before.is_none_or(|before| entry.lsn < before));
            let mut items: Vec<WriteOff> =
                matching.take(query.limit.saturating_add(1)).map(|entry| shown(&registry, entry)).collect();
            let more = items.len() > query.limit;
            items.truncate(query.limit);
            let next = items.last().filter(|_| more).map(|write_off| write_off.id);
            WriteOffPage { items, next, total: lane.audit().count() }
        })
        .await
    }
}

fn shown(registry: &Registry, entry: &Entry) -> WriteOff {
    WriteOff {
        id: entry.lsn,
        at: Instant(entry.at_ms),
        device: registry.shown_as(entry.device).to_string(),
        boot: entry.boot.map(|boot| format!("{boot:08x}")),
        samples: entry.samples,
        reason: entry.reason.clone(),
        by: entry.by.clone(),
    }
}

fn read_boot(text: &str) -> Result<u32, ApiError> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| ApiError::BadRequest("body: `boot` is eight hex digits, as 1234abcd".into()))
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
