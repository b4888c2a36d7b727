//! What was refused: listed, shown with its payload, sent through again.
//!
//! Bounds of a page, beside its length: [`LOOK_AT`] records looked at, [`READ_BYTES`] of records read, [`READ_VALUES`] decoded
//! of them, and the time of a read ([`reads`](super::reads)); then `next` continues. One record is in memory at
//! a time. Lists are walked in the store's index; counts are kept there.
//! Bounds of requests: [`READS_MAX`] at once, [`WAITING_MAX`] more wait for [`WAIT_MAX`] at most; others are refused at once.
//!
//! Invariants: a record that cannot be read is skipped and counted, and keeps no other from being seen. An order to judge a
//! record again is held and journaled in one step, whether its client still waits or not.

mod unreadable;
mod values;

pub(super) use unreadable::Unreadable;
pub(super) use values::Decoding;

use super::{
    Answers,
    reads::{Named, Reads, Until},
};
use crate::{
    api::{
        ApiError,
        backend::QuarantineQuery,
        metrics::{Metric, MetricKind},
        types::{
            Instant as At, QuarantineKind, QuarantinePage, QuarantineRecord, QuarantineStatus, Redriven,
            Retired,
        },
    },
    decided::{self, Refused},
    record::Entering,
};
use bytes::Bytes;
use hunhe_gateway_core::registry::Registry;
use hunhe_log::Priority;
use hunhe_proto::id::{DeviceId, Id};
use hunhe_store::{Hold, Record, RecordFilter, RecordId, RecordKind, Store, StoreError};
use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

/// Records that a page may look at.
const LOOK_AT: usize = 20_000;
/// Bytes of records that a page may read.
const READ_BYTES: usize = 8 << 20;
/// Values that a page may decode: a dozen reports of the largest kind.
const READ_VALUES: usize = 1 << 20;
/// Requests that are worked on at one time.
const READS_MAX: usize = 2;
/// Requests that wait for one of them to end.
const WAITING_MAX: usize = 16;
/// How long they wait.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How long an order to judge a record again waits for the replay of a start, and how often it looks.
const REPLAY_WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Characters of a topic, or of a database's words, that are shown.
const TEXT_SHOWN: usize = 256;

const READS: Named = Named {
    what: "quarantine records",
    metrics: [
        ("hunhe_quarantine_reads", "Requests that are reading the quarantine."),
        (
            "hunhe_quarantine_reads_refused_total",
            "Requests for quarantine refused because too many others were.",
        ),
        (
            "hunhe_quarantine_reads_ended_total",
            "Reads of the quarantine that ended early: too slow, or nobody waited any more.",
        ),
    ],
};

/// The places for requests.
pub(super) fn places() -> Reads {
    Reads::new(&READS, READS_MAX, WAITING_MAX, WAIT_MAX)
}

impl Answers {
    pub(super) async fn quarantine_of(&self, query: QuarantineQuery) -> Result<QuarantinePage, ApiError> {
        let before = query.before.as_deref().map(read_cursor).transpose()?;
        let device = query.device.as_deref().map(|name| self.device_named(name)).transpose()?;
        let filter = RecordFilter {
            kind: query.kind.map(kind_of),
            reason: query.reason.clone(),
            device,
            from_ms: query.from_ms,
            to_ms: query.to_ms,
        };
        let (registry, unreadable) = (Arc::clone(&self.registry), Arc::clone(&self.unreadable));
        let read = self.read_in(&self.quarantine_reads, move |store, until| {
            let asked = Asked { filter, before, limit: query.limit };
            page(store, &registry, &asked, until, &unreadable)
        });
        read.await
    }

    fn device_named(&self, name: &str) -> Result<DeviceId, ApiError> {
        let found = DeviceId::new(name).ok().and_then(|name| self.registry.find_pseudonym(name));
        found
            .map(|index| self.registry.device(index).id)
            .ok_or_else(|| ApiError::BadRequest(format!("query: no device is named {:?}", shown(name))))
    }

    pub(super) async fn record_of(&self, id: String, payload: bool) -> Result<QuarantineRecord, ApiError> {
        let id = read_id(&id)?;
        let registry = Arc::clone(&self.registry);
        let described = self.read_in(&self.quarantine_reads, move |store, _| {
            let Some(record) = store.record(id)? else { return Ok(None) };
            let mut described = describe(&registry, store, &mut Decoding::default(), id, &record)?;
            if payload && let Ok(refused) = decided::read_refused_record(record.body()) {
                described.payload_hex = Some(hex(refused.payload));
            }
            Ok(Some(described))
        });
        described.await?.ok_or_else(|| gone(id))
    }

    pub(super) async fn redrive_of(&self, id: String) -> Result<Redriven, ApiError> {
        let id = read_id(&id)?;
        refuse_redrive(id)?;
        self.replay_over().await?;
        let (now_ms, journal) = (self.clock.now_ms(), self.journal.clone());
        let ordered = self.read_in(&self.quarantine_reads, move |store, _| {
            judge_again(store, id, now_ms, |entering| journal.try_push(Priority::Normal, entering).is_ok())
        });
        match ordered.await? {
            Ordered::Yes { samples } => Ok(Redriven { id: id.to_string(), samples }),
            Ordered::Gone => Err(gone(id)),
            Ordered::Replaying => Err(replaying()),
            Ordered::Refused => {
                Err(ApiError::Unavailable("the journal takes nothing now: try again later".into()))
            }
        }
    }

    /// Waits a moment for the end of a start's replay.
    async fn replay_over(&self) -> Result<(), ApiError> {
        let begun = Instant::now();
        while !self.store.are_redrives_open() {
            if begun.elapsed() >= REPLAY_WAIT {
                return Err(replaying());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) fn retired_now(&self) -> Retired {
        let retired = self.store.retired();
        Retired { expired: retired.expired, oversize: retired.oversize }
    }

    pub(super) fn quarantine_metrics(&self, held: &QuarantineStatus, retired: Retired) -> Vec<Metric> {
        let mut metrics = metrics(held, retired);
        metrics.push(self.unreadable.metric());
        metrics.extend(self.quarantine_reads.metrics());
        metrics
    }
}

/// What the quarantine holds; waits for a writer.
pub(super) fn status_of(store: &Store) -> QuarantineStatus {
    let held = store.held_records(None);
    QuarantineStatus {
        records: held.total.records,
        limit_records: held.limits.records as u64,
        bytes: held.total.bytes,
        limit_bytes: held.limits.bytes,
        discarded: held.discarded,
        by_reason: held.by_reason,
    }
}

/// Only a message can be judged again.
fn refuse_redrive(id: RecordId) -> Result<(), ApiError> {
    let words = match id.kind() {
        RecordKind::Message => return Ok(()),
        RecordKind::Conflict => {
            "a conflict cannot be judged again: another sample has this device and time, and is the better one; \
             `values` shows both"
        }
        RecordKind::DeadLetter => {
            "a dead letter cannot be judged again, since the gateway found nothing wrong with it: mend what the \
             database refused (see `detail`), then write the line to the database yourself; \
             `hunhe-gateway quarantine export --kind dead_letter --payload` has it"
        }
    };
    Err(ApiError::Conflict(words.into()))
}

fn gone(id: RecordId) -> ApiError {
    ApiError::NotFound(format!("no quarantine record {id}"))
}

fn read_id(text: &str) -> Result<RecordId, ApiError> {
    text.parse().map_err(|error| ApiError::BadRequest(format!("path: {error}")))
}

/// A page's `next`: arrival and id of its last record.
fn read_cursor(text: &str) -> Result<(i64, RecordId), ApiError> {
    let parts = text.split_once('.');
    let read = parts.and_then(|(arrival_ms, id)| Some((arrival_ms.parse().ok()?, id.parse().ok()?)));
    read.ok_or_else(|| ApiError::BadRequest("query: `before` is not the `next` of a page".into()))
}

fn replaying() -> ApiError {
    let words = "what was journaled before the start is still being decided, and this record may be part of it: try again in \
                 a minute";
    ApiError::Unavailable(words.into())
}

/// What became of an order to judge a record again.
#[derive(Debug, PartialEq, Eq)]
enum Ordered {
    /// It is in the journal's queue, now or from before.
    Yes {
        samples: u64,
    },
    Gone,
    Replaying,
    /// The journal takes nothing.
    Refused,
}

/// Holds a record and has its order journaled, in one step that no client's leaving can cut in two. Held first: at a bound
/// its samples would be counted as lost although they come again.
fn judge_again(
    store: &Store,
    id: RecordId,
    now_ms: i64,
    journal: impl FnOnce(Entering) -> bool,
) -> Result<Ordered, StoreError> {
    let Some(record) = store.record(id)? else { return Ok(Ordered::Gone) };
    let refused = read_body(&record)?;
    let ordered = Ordered::Yes { samples: refused.samples() };
    match store.hold_record(id)? {
        Hold::Gone => return Ok(Ordered::Gone),
        Hold::Replaying => return Ok(Ordered::Replaying),
        Hold::Running => return Ok(ordered),
        Hold::Begun => {}
    }
    let ranges: Vec<(u64, u64)> = refused.ranges().map(|(first, count, _)| (first, count)).collect();
    let entering = Entering::redrive(
        now_ms,
        id.source_lsn(),
        &ranges,
        Bytes::copy_from_slice(refused.topic),
        Bytes::copy_from_slice(refused.payload),
    );
    if journal(entering) {
        return Ok(ordered);
    }
    store.release_record(id)?;
    Ok(Ordered::Refused)
}

fn read_body(record: &Record) -> Result<Refused<'_>, StoreError> {
    decided::read_refused_record(record.body()).map_err(|_| StoreError::Corrupt { what: "quarantine record" })
}

/// Which page.
struct Asked {
    filter: RecordFilter,
    before: Option<(i64, RecordId)>,
    limit: usize,
}

fn page(
    store: &Store,
    registry: &Registry,
    asked: &Asked,
    until: &Until,
    unreadable: &Unreadable,
) -> Result<QuarantinePage, StoreError> {
    let filter = &asked.filter;
    let walk = store.walk_records(filter, asked.before, asked.limit, LOOK_AT);
    let mut items = Vec::new();
    let mut next = walk.next;
    let (mut bytes, mut decoding) = (0, Decoding::default());
    for (at, &place) in walk.found.iter().enumerate() {
        match read_described(store, registry, &mut decoding, place.1) {
            Ok(Some((described, record_bytes))) => {
                items.push(described);
                bytes += record_bytes;
            }
            // Gone since the walk: it would not be listed a moment later.
            Ok(None) => {}
            Err(error) => unreadable.note(place.1, &error),
        }
        let is_over = until.is_over(Instant::now());
        let is_full = bytes >= READ_BYTES || decoding.values >= READ_VALUES;
        if (is_full || is_over) && at + 1 < walk.found.len() {
            if is_over {
                until.note_ended();
            }
            next = Some(place);
            break;
        }
    }
    let by_reason = store.held_records(None).by_reason;
    let counted = filter.device.is_none() && filter.from_ms.is_none() && filter.to_ms.is_none();
    let total = counted.then(|| {
        let of_kind = store.held_records(filter.kind).by_reason;
        match &filter.reason {
            Some(reason) => of_kind.get(reason).copied().unwrap_or(0),
            None => of_kind.values().sum(),
        }
    });
    let next = next.map(|(arrival_ms, id)| format!("{arrival_ms}.{id}"));
    Ok(QuarantinePage { items, next, total, by_reason })
}

fn kind_of(kind: QuarantineKind) -> RecordKind {
    match kind {
        QuarantineKind::Message => RecordKind::Message,
        QuarantineKind::Conflict => RecordKind::Conflict,
        QuarantineKind::DeadLetter => RecordKind::DeadLetter,
    }
}

fn shown_kind(kind: RecordKind) -> QuarantineKind {
    match kind {
        RecordKind::Message => QuarantineKind::Message,
        RecordKind::Conflict => QuarantineKind::Conflict,
        RecordKind::DeadLetter => QuarantineKind::DeadLetter,
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

/// A record as it is listed, and its bytes, if it is still there.
pub(super) fn read_described(
    store: &Store,
    registry: &Registry,
    decoding: &mut Decoding,
    id: RecordId,
) -> Result<Option<(QuarantineRecord, usize)>, StoreError> {
    let Some(record) = store.record(id)? else { return Ok(None) };
    Ok(Some((describe(registry, store, decoding, id, &record)?, record.body().len())))
}

/// A record as it is listed, without its payload.
fn describe(
    registry: &Registry,
    store: &Store,
    decoding: &mut Decoding,
    id: RecordId,
    record: &Record,
) -> Result<QuarantineRecord, StoreError> {
    let refused = read_body(record)?;
    let index = refused.device.and_then(|device| registry.find(device));
    let values = match (id.kind(), index) {
        (RecordKind::Message, Some(device)) => values::of_message(registry, decoding, device, &refused),
        (RecordKind::Conflict, Some(device)) => {
            values::of_conflict(registry, store, decoding, device, &refused)?
        }
        _ => Vec::new(),
    };
    let is_household = names_household(registry, refused.topic);
    // A household's topic carries its device id; a database's answer is no topic.
    let has_topic = id.kind() == RecordKind::Message && !is_household;
    Ok(QuarantineRecord {
        id: id.to_string(),
        kind: shown_kind(id.kind()),
        arrival: At(record.head.arrival_ms),
        device: index.map(|index| registry.device(index).pseudonym.to_string()),
        reason: refused.reason.to_owned(),
        detail: detail_of(id, &refused, &values),
        topic: if has_topic { shown(&String::from_utf8_lossy(refused.topic)) } else { String::new() },
        payload_bytes: refused.payload.len() as u64,
        payload_crc32c: format!("{:08x}", crc32c::crc32c(refused.payload)),
        samples: refused.samples(),
        first_seq: refused.ranges().next().map(|(seq, ..)| seq),
        boot: (refused.boot != 0).then(|| format!("{:08x}", refused.boot)),
        payload_hex: None,
        values,
    })
}

/// In words: of a message the refused samples and the first refused values, of a dead letter the database's answer.
fn detail_of(id: RecordId, refused: &Refused<'_>, values: &[crate::api::types::RefusedValue]) -> String {
    if id.kind() == RecordKind::DeadLetter {
        return shown(&String::from_utf8_lossy(refused.topic));
    }
    let ranges =
        refused.ranges().take(8).map(|(first, count, reason)| format!("{count} from {first}: {reason}"));
    let values = values.iter().take(3).map(values::in_words);
    ranges.chain(values).collect::<Vec<_>>().join("; ")
}

/// Text from outside, cut, and without what could steer a terminal.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(TEXT_SHOWN).map(plain).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn metrics(held: &QuarantineStatus, retired: Retired) -> Vec<Metric> {
    let gauge =
        |name, help, value| Metric::single(name, help, MetricKind::Gauge, super::status::count(value));
    let counter =
        |name, help, value| Metric::single(name, help, MetricKind::Counter, super::status::count(value));
    vec![
        gauge("hunhe_quarantine_records", "Records in quarantine.", held.records),
        gauge("hunhe_quarantine_limit_records", "Records that the quarantine may hold.", held.limit_records),
        gauge("hunhe_quarantine_bytes", "Bytes of the records in quarantine.", held.bytes),
        gauge("hunhe_quarantine_limit_bytes", "Bytes that the quarantine may hold.", held.limit_bytes),
        counter(
            "hunhe_quarantine_discarded_total",
            "Records discarded at a bound of the quarantine, since this process began.",
            held.discarded,
        ),
        counter(
            "hunhe_history_expired_samples_total",
            "Stored samples that the embedded store dropped as older than embedded.retention.",
            retired.expired,
        ),
        counter(
            "hunhe_history_oversize_samples_total",
            "Stored samples that the embedded store dropped at embedded.limit_bytes.",
            retired.oversize,
        ),
    ]
}

#[cfg(test)]
pub(super) mod tests;
