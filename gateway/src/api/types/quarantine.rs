//! Quarantine as it is listed: what was refused, why, and how to find its bytes again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Instant;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineKind {
    /// A message of which something was refused; it may be judged again.
    Message,
    /// A sample that lost its place to another at the same device and time.
    Conflict,
    /// A line that a database refused.
    DeadLetter,
}

/// How a value broke its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// Below the channel's least possible value, in `limit`.
    Below,
    /// Above the channel's greatest possible value, in `limit`.
    Above,
    /// Between two steps of the instrument, of `limit` each.
    BetweenSteps,
    /// Another sample at this time has `limit`, and stays.
    Differs,
}

/// A refused value.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RefusedValue {
    /// Time of the sample.
    pub time: Instant,
    /// Its sequence number.
    pub seq: u64,
    /// Name of the channel.
    pub channel: String,
    /// The value.
    pub value: f64,
    /// Unit of value and limit.
    pub unit: String,
    /// What it broke.
    pub breach: Breach,
    /// The bound, step or other value that `breach` speaks of.
    pub limit: f64,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QuarantineRecord {
    /// Identifier: `m-…` a message, `c-…` a conflict, `d-…` a dead letter.
    pub id: String,
    /// What it is about.
    pub kind: QuarantineKind,
    /// Arrival at the gateway, or when it was last judged again.
    pub arrival: Instant,
    /// Device by pseudonym; absent when the message names none that is registered.
    pub device: Option<String>,
    /// Reason, from the fixed list of the gateway.
    pub reason: String,
    /// What was found where, in words; of a dead letter the database's.
    pub detail: String,
    /// The first refused values, where the payload can be read.
    pub values: Vec<RefusedValue>,
    /// Topic of the message, cut at 256 characters; text from outside, to be shown and never interpreted.
    pub topic: String,
    /// Length of the payload.
    pub payload_bytes: u64,
    /// CRC-32C of the payload, eight hex digits.
    pub payload_crc32c: String,
    /// Samples refused.
    pub samples: u64,
    /// Sequence number of the first of them.
    pub first_seq: Option<u64>,
    /// Outbox that they came from, eight hex digits.
    pub boot: Option<String>,
    /// The payload in hex digits, where it was asked for: a report, or of a dead letter the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_hex: Option<String>,
}

/// One page of quarantine, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QuarantinePage {
    /// The records. There may be fewer than asked for although more follow: see `next`.
    pub items: Vec<QuarantineRecord>,
    /// Pass as `before` for the next page; absent on the last.
    pub next: Option<String>,
    /// Records that match in all; absent where a device or a time was asked for.
    pub total: Option<u64>,
    /// Records by reason, whatever was asked for.
    pub by_reason: BTreeMap<String, u64>,
}

/// How full the quarantine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuarantineStatus {
    /// Records held.
    pub records: u64,
    /// Records at most.
    pub limit_records: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes at most.
    pub limit_bytes: u64,
    /// Records discarded at a bound since this process began.
    pub discarded: u64,
    /// Records held by reason.
    pub by_reason: BTreeMap<String, u64>,
}

/// A re-drive that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Redriven {
    /// The record.
    pub id: String,
    /// Samples that go through validation again; 0 where the message is read anew.
    pub samples: u64,
}
