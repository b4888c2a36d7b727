//! A sample that vanishes, so that tests see the ledger find it. A release build has no such code.

use super::Lane;
use crate::{
    event::{Confirmed, Decisions},
    registry::DeviceIx,
};

impl Lane {
    /// See [`Policy::planted_drop`](super::Policy::planted_drop).
    pub(super) fn plant(&mut self, decisions: &mut Decisions, boot: u32, device: DeviceIx, accepted: u64) {
        let samples = self.counters.samples;
        let reached = |nth: u64| samples >= nth && samples - accepted < nth;
        if !self.policy.planted_drop.is_some_and(reached) {
            return;
        }
        decisions.accepted.forget_last_row();
        if let Some(state) = self.devices[device.at()].as_deref_mut() {
            // The sample counts as handed to a sink, which never confirms it.
            state.outboxes.confirmed(boot, Confirmed { handled: 1, ..Confirmed::default() });
        }
    }
}
