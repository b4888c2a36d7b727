//! What devices did: the summary of a run, and the oracle that a test compares the gateway's ledger with.

use hunhe_edge_core::{agent::Device, outbox::State};
use hunhe_proto::{id::DeviceId, reading::Drop};
use std::sync::atomic::AtomicU64;

/// Counters of a run as it goes, over all agents.
#[derive(Debug, Default)]
pub struct Progress {
    /// Samples taken.
    pub sampled: AtomicU64,
    /// Reports published, each time counted.
    pub published: AtomicU64,
    /// Reports that the broker acknowledged.
    pub acked: AtomicU64,
    /// Payload bytes published.
    pub bytes: AtomicU64,
    /// Connections that came to stand.
    pub connected: AtomicU64,
}

/// What one device did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeviceStats {
    /// Which.
    pub device: DeviceId,
    /// Identity of its outbox.
    pub boot: u32,
    /// One past its newest sample.
    pub next_seq: u64,
    /// The watermark: all below is durable or given up.
    pub through: u64,
    /// Samples taken in this run.
    pub sampled: u64,
    /// Reports published, each time counted.
    pub published: u64,
    /// Reports that the broker acknowledged.
    pub acked: u64,
    /// Samples given up.
    pub declared_lost: u64,
    /// Every range that was ever given up, joined, in order.
    pub dropped: Vec<Drop>,
}

impl DeviceStats {
    pub(crate) fn new(device: DeviceId, state: &State) -> Self {
        let mut stats = Self {
            device,
            boot: state.boot,
            next_seq: state.next_seq,
            through: state.through,
            sampled: 0,
            published: 0,
            acked: 0,
            declared_lost: 0,
            dropped: Vec::new(),
        };
        stats.note_drops(&state.drops);
        stats
    }

    /// Another outbox succeeded this one.
    pub(crate) fn succeed(&mut self, state: &State) {
        let Self { sampled, published, acked, .. } = *self;
        *self = Self { sampled, published, acked, ..Self::new(self.device, state) };
    }

    /// Joins what is given up now with what was before: the outbox forgets a drop when the watermark passed it.
    pub(crate) fn note_drops(&mut self, drops: &[Drop]) {
        for drop in drops {
            let mut joined = *drop;
            self.dropped.retain(|known| {
                let (start, end) = (known.seq, known.seq + known.count);
                let apart = end < joined.seq || joined.seq + joined.count < start;
                let touching = end == joined.seq || joined.seq + joined.count == start;
                if apart || (touching && known.cause != joined.cause) {
                    return true;
                }
                let last = end.max(joined.seq + joined.count);
                joined.seq = start.min(joined.seq);
                joined.count = last - joined.seq;
                false
            });
            self.dropped.push(joined);
        }
        self.dropped.sort_unstable_by_key(|drop| drop.seq);
    }

    pub(crate) fn close(mut self, device: &Device) -> Self {
        let state = device.outbox().state();
        self.note_drops(&state.drops);
        (self.next_seq, self.through) = (state.next_seq, state.through);
        self.declared_lost = self.dropped.iter().map(|drop| drop.count).sum();
        self
    }
}
