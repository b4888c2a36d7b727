//! What was refused: listed, exported, sent through again.

use super::Answers;
use crate::{
    api::{
        ApiError,
        backend::QuarantineQuery,
        types::{Instant, QuarantinePage, QuarantineRecord, Redriven},
    },
    decided::{self, Refused},
    journal::{Priority, Refused as Unqueued},
    record::Entering,
};
use bytes::Bytes;
use hunhe_gateway_core::registry::Registry;
use hunhe_proto::id::Id;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

/// Records read from the store at once.
const READ_AT_ONCE: usize = 1000;
/// Characters of a topic that are shown.
const TOPIC_SHOWN: usize = 256;

impl Answers {
    pub(super) async fn quarantine_of(&self, query: QuarantineQuery) -> Result<QuarantinePage, ApiError> {
        let registry = Arc::clone(&self.registry);
        self.read_store(move |store| {
            let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
            let mut matching = std::collections::VecDeque::new();
            let mut total = 0;
            let mut after = None;
            loop {
                let records = store.list_quarantine(after, READ_AT_ONCE)?;
                let Some((last, _)) = records.last() else { break };
                after = Some(*last);
                for (id, bytes) in &records {
                    let Ok(refused) = decided::read_refused_record(bytes) else { continue };
                    *by_reason.entry(refused.reason.to_owned()).or_default() += 1;
                    if query.reason.as_ref().is_some_and(|reason| reason != refused.reason) {
                        continue;
                    }
                    total += 1;
                    if query.before.is_none_or(|before| *id < before) {
                        matching.push_back(describe(&registry, *id, &refused));
                        // Only the newest are wanted, and they come last.
                        if matching.len() > query.limit + 1 {
                            matching.pop_front();
                        }
                    }
                }
            }
            let more = matching.len() > query.limit;
            if more {
                matching.pop_front();
            }
            let items: Vec<QuarantineRecord> = matching.into_iter().rev().collect();
            let next = items.last().filter(|_| more).map(|record| record.id);
            Ok(QuarantinePage { items, next, total, by_reason })
        })
        .await
    }

    pub(super) async fn redrive_of(&self, id: u64) -> Result<Redriven, ApiError> {
        let record = self.read_store(move |store| store.get_quarantine(id)).await?;
        let gone = || {
            self.redriving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            ApiError::NotFound(format!("no quarantine record {id}"))
        };
        let record = record.ok_or_else(gone)?;
        let refused = decided::read_refused_record(&record).map_err(|_| ApiError::Internal)?;
        let ranges: Vec<(u64, u64)> = refused.ranges().map(|(first, count, _)| (first, count)).collect();
        let samples = refused.samples();
        if ranges.is_empty() || refused.device.is_none() {
            return Err(ApiError::Conflict(
                "the message could not be read, so there are no samples to judge again: export it and look at its payload"
                    .into(),
            ));
        }
        // Its samples would be counted twice if a second request overtook the first one's end.
        if !self.redriving.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Ok(Redriven { id, samples });
        }
        let entering = Entering::redrive(
            self.clock.now_ms(),
            id,
            &ranges,
            Bytes::copy_from_slice(refused.topic),
            Bytes::copy_from_slice(refused.payload),
        );
        match self.journal.try_push(Priority::Normal, entering) {
            Ok(()) => Ok(Redriven { id, samples }),
            Err(Unqueued::Busy(_) | Unqueued::Ended(_)) => {
                self.redriving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                Err(ApiError::Unavailable("the journal takes nothing now: try again later".into()))
            }
        }
    }
}

/// Whether a topic names a household's device, registered or not any more, whatever else is wrong with the topic.
fn names_household(registry: &Registry, topic: &[u8]) -> bool {
    let ids = topic.split(|&byte| byte == b'/').filter_map(|level| Id::from_bytes(level).ok());
    ids.into_iter().any(|id| {
        let index = registry.find(id);
        index.map_or(registry.shown_as(id) != id, |index| registry.class_of(index).class.household)
    })
}

pub(super) fn describe(registry: &Registry, id: u64, refused: &Refused<'_>) -> QuarantineRecord {
    let device =
        refused.device.and_then(|id| registry.find(id)).map(|index| registry.device(index).pseudonym);
    let household = names_household(registry, refused.topic);
    let first = refused.ranges().next();
    let detail: Vec<String> = refused
        .ranges()
        .take(8)
        .map(|(first, count, reason)| format!("{count} from {first}: {reason}"))
        .collect();
    QuarantineRecord {
        id,
        arrival: Instant(refused.arrival_ms),
        device: device.map(|id| id.to_string()),
        reason: refused.reason.to_owned(),
        detail: detail.join("; "),
        // A household's topic carries its device id.
        topic: if household {
            String::new()
        } else {
            String::from_utf8_lossy(refused.topic).chars().take(TOPIC_SHOWN).collect()
        },
        payload_bytes: refused.payload.len() as u64,
        payload_crc32c: format!("{:08x}", crc32c::crc32c(refused.payload)),
        samples: refused.samples(),
        first_seq: first.map(|(seq, ..)| seq),
        boot: (refused.boot != 0).then(|| format!("{:08x}", refused.boot)),
    }
}
