//! What of one connection is not acknowledged: shared by the session that receives and the journal's thread that acknowledges.

use super::backlog::Ours;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What of a connection is not acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// How many messages each packet id stands for: one, unless the broker uses it again too early.
    packets: Arc<[AtomicU16]>,
    all: Arc<AllHeld>,
}

#[derive(Debug)]
struct AllHeld {
    messages: AtomicU32,
    /// When there were none left, in nanoseconds since `begun`.
    none_at_ns: AtomicU64,
    begun: Instant,
}

impl Held {
    pub(super) fn new(begun: Instant) -> Self {
        let all = AllHeld { messages: AtomicU32::new(0), none_at_ns: AtomicU64::new(0), begun };
        Self { packets: (0..=u16::MAX).map(|_| AtomicU16::new(0)).collect(), all: Arc::new(all) }
    }

    pub(super) fn came(&self, packet: u16) {
        self.all.messages.fetch_add(1, Ordering::Relaxed);
        self.packets[usize::from(packet)].fetch_add(1, Ordering::Relaxed);
    }

    /// A message is durable. Answers whether nothing else waits under its id.
    pub(super) fn is_last(&self, packet: u16) -> bool {
        if self.all.messages.load(Ordering::Relaxed) == 1 {
            let now_ns = u64::try_from(self.all.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.all.none_at_ns.store(now_ns, Ordering::Relaxed);
        }
        // Behind the time: whoever sees none left sees since when.
        self.all.messages.fetch_sub(1, Ordering::Release);
        self.packets[usize::from(packet)].fetch_sub(1, Ordering::Relaxed) == 1
    }

    pub(super) fn ours(&self, held: bool) -> Ours {
        let unacknowledged = self.all.messages.load(Ordering::Acquire);
        let acknowledged_at = Duration::from_nanos(self.all.none_at_ns.load(Ordering::Relaxed));
        Ours { unacknowledged, acknowledged_at, held }
    }
}
