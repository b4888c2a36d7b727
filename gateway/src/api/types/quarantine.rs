//! Quarantine as it is listed: what was refused, why, and how to find its bytes again; never the bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Instant;

/// One refused message, or the refused part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuarantineRecord {
    /// Identifier, increasing with arrival.
    pub id: u64,
    /// Arrival at the gateway.
    pub arrival: Instant,
    /// Device by pseudonym; absent when the message names none that is registered.
    pub device: Option<String>,
    /// Reason, from the fixed list of the gateway.
    pub reason: String,
    /// What was found where, in words.
    pub detail: String,
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
}

/// One page of quarantine, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuarantinePage {
    /// The records.
    pub items: Vec<QuarantineRecord>,
    /// Pass as `before` for the next page; absent on the last.
    pub next: Option<u64>,
    /// Records that match in all.
    pub total: u64,
    /// Records by reason, whatever `reason` was asked for.
    pub by_reason: BTreeMap<String, u64>,
}

/// A re-drive that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Redriven {
    /// The record.
    pub id: u64,
    /// Samples that go through validation again.
    pub samples: u64,
}
