//! What sinks and agents are told and tell between events. No decision depends on it.

use super::{DeviceState, Lane, ledger_of};
use crate::{
    device::ledger::Totals,
    event::Confirmed,
    registry::{AgentIx, DeviceIx},
};
use alloc::vec::Vec;
use hunhe_proto::id::DeviceId;

impl Lane {
    /// Notes what a sink did with a device's decided samples.
    pub fn confirmed(&mut self, device: DeviceIx, boot: u32, confirmed: Confirmed) {
        self.ledger_totals.note(device.0, || ledger_of(&self.devices, device.0));
        if let Some(state) = self.devices.get_mut(device.at()).and_then(Option::as_deref_mut) {
            state.outboxes.confirmed(boot, confirmed);
        }
    }

    /// [`Self::confirmed`] by the device's id: since it was decided it may have left the registry.
    pub fn confirmed_of(&mut self, id: DeviceId, boot: u32, confirmed: Confirmed) {
        if let Some(device) = self.registry.find(id) {
            self.confirmed(device, boot, confirmed);
        } else if let Some(state) = self.removed.get_mut(&id) {
            state.outboxes.confirmed(boot, confirmed);
        }
    }

    /// [`Self::discarded`] by the device's id.
    pub fn discarded_of(&mut self, id: DeviceId, boot: u32, samples: u64) {
        if let Some(device) = self.registry.find(id) {
            self.discarded(device, boot, samples);
        } else if let Some(state) = self.removed.get_mut(&id) {
            state.outboxes.discarded(boot, samples);
        }
    }

    /// Notes that quarantined samples were discarded, by an operator or at the quarantine's bound.
    pub fn discarded(&mut self, device: DeviceIx, boot: u32, samples: u64) {
        self.ledger_totals.note(device.0, || ledger_of(&self.devices, device.0));
        if let Some(state) = self.devices.get_mut(device.at()).and_then(Option::as_deref_mut) {
            state.outboxes.discarded(boot, samples);
        }
    }

    /// Adds what changed to the ledger over all devices, and shows `each` every device that changed since the last call:
    /// a message, a sink's confirmation, a discard or a restored checkpoint was about it. No answer changes.
    pub fn balance(&mut self, mut each: impl FnMut(DeviceIx, &DeviceState, &Totals)) {
        let devices = &self.devices;
        self.ledger_totals.balance(|device| {
            let totals = ledger_of(devices, device);
            if let Some(state) = devices.get(device as usize).and_then(Option::as_deref) {
                each(DeviceIx(device), state, &totals);
            }
            totals
        });
    }

    /// The agent is to be told its watermark again.
    pub fn touch_agent(&mut self, agent: AgentIx) {
        self.city.touch(agent);
    }

    /// The agents whose watermark may have moved since they were last taken: those that are due, and those that nothing was
    /// received of since the last call. The others stay.
    pub fn take_touched_agents(&mut self, due: impl Fn(AgentIx) -> bool) -> Vec<AgentIx> {
        self.city.take_touched(due)
    }
}
