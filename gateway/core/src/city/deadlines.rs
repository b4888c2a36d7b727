//! What devices do by not reporting: silence, windows that stay open, late tracks and conduct that nothing renews.
//!
//! All of it follows one clock, [`City::listened_ms`], and one timing wheel. A message costs no more than a comparison
//! there: it postpones a deadline, and the wheel looks again when the earlier one comes.
//!
//! Promise: after each tick that the gateway listened through, alerts and windows stand as if every device had been
//! looked at. Changes come out in an order that follows from the registry: agents first, then devices, by index.
//! Invariants: no device's next deadline comes before the one that the wheel holds for it; the condition of each device is
//! known as of the last tick or message. A restart makes both anew from the devices' states.
//! Cost: a tick costs the devices that are due, and those that reported since their deadline was set. An agent whose
//! alert begins or ends costs its devices.
//! Bounds: 21 bytes a device: the wheel's, the condition's, and a place in the list of what is due.

use crate::{
    city::{
        City,
        silence::{self, Conditions, condition, held_back_ms},
        wheel::Wheel,
    },
    device::{DeviceState, alert::Context, conduct},
    event::Decisions,
    registry::{ClassRules, DeviceIx, Registry},
};
use alloc::{boxed::Box, vec::Vec};

/// When to look at which device, and what was seen of silence.
#[derive(Debug)]
pub(crate) struct Deadlines {
    wheel: Wheel,
    conditions: Conditions,
    /// Empty between ticks.
    due: Vec<DeviceIx>,
}

impl Deadlines {
    /// Of devices that have not reported.
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            wheel: Wheel::new(registry.devices().len()),
            conditions: Conditions::new(registry),
            due: Vec::new(),
        }
    }

    /// Of devices that were restored. The next tick looks at every agent, and at every device that may be due.
    pub(crate) fn restored(registry: &Registry, devices: &[Option<Box<DeviceState>>], city: &City) -> Self {
        let mut deadlines = Self::new(registry);
        for (device, state) in registry.indices().zip(devices) {
            deadlines.note(registry, device, state.as_deref(), city);
            if state.is_some() {
                deadlines.wheel.no_later_than(device, city.listened_ms);
            }
        }
        for agent in registry.agents_indices() {
            deadlines.conditions.judge_again(agent);
        }
        deadlines
    }

    /// Takes up what a message changed of its device.
    pub(crate) fn note(
        &mut self,
        registry: &Registry,
        device: DeviceIx,
        state: Option<&DeviceState>,
        city: &City,
    ) {
        self.note_condition(registry, device, state, city);
        let Some(state) = state else { return };
        if let Some(due_ms) = next_ms(registry, registry.class_of(device), state, city.listened_ms) {
            self.wheel.no_later_than(device, due_ms);
        }
    }

    fn note_condition(
        &mut self,
        registry: &Registry,
        device: DeviceIx,
        state: Option<&DeviceState>,
        city: &City,
    ) {
        let agent = registry.device(device).agent;
        let silence = registry.class_of(device).silence;
        let now = condition(state, silence, city.silence_of(agent), city.listened_ms);
        self.conditions.note(device, agent, now);
    }

    /// The clock of silence has moved on.
    pub(crate) fn tick(
        &mut self,
        registry: &Registry,
        devices: &mut [Option<Box<DeviceState>>],
        city: &mut City,
        decisions: &mut Decisions,
    ) {
        let mut due = core::mem::take(&mut self.due);
        self.wheel.advance(city.listened_ms, |device| due.push(device));
        for &device in &due {
            self.note_condition(registry, device, devices[device.at()].as_deref(), city);
        }
        self.judge_agents(registry, devices, city, (&mut due, decisions));
        due.sort_unstable();
        due.dedup();
        for device in due.drain(..) {
            let Some(state) = devices[device.at()].as_deref_mut() else { continue };
            self.look(registry, device, state, city, decisions);
            self.note(registry, device, Some(state), city);
        }
        self.due = due;
    }

    /// Judges the agents whose count changed; adds the devices of those whose alert ends to what is due.
    fn judge_agents(
        &mut self,
        registry: &Registry,
        devices: &[Option<Box<DeviceState>>],
        city: &mut City,
        (due, decisions): (&mut Vec<DeviceIx>, &mut Decisions),
    ) {
        let Some(share) = registry.shares.first() else { return };
        for agent in self.conditions.take_changed() {
            let count = self.conditions.of(agent);
            let judged = (share, agent, count);
            let now_ms = city.now_ms;
            let stands = silence::judge_agent(registry, judged, city, now_ms, &mut decisions.alerts);
            let Some(stands) = stands else { continue };
            let members = &registry.agent(agent).devices;
            for &device in members {
                self.note_condition(registry, device, devices[device.at()].as_deref(), city);
            }
            if !stands {
                due.extend(members);
            }
        }
    }

    /// Does what is due for one device. For one that is not due nothing happens.
    fn look(
        &self,
        registry: &Registry,
        device: DeviceIx,
        state: &mut DeviceState,
        city: &City,
        decisions: &mut Decisions,
    ) {
        let rules = registry.class_of(device);
        let agent = registry.device(device).agent;
        let context = Context::at(device, registry.device(device).id, rules, (city.now_ms, city.listened_ms));
        let quiet_ms = city.listened_ms.saturating_sub(state.listened_ms);
        if let Some(silence) = rules.silence
            && city.silence_of(agent).is_none()
        {
            let watched = self.conditions.of(agent).watched;
            let in_a_cell = registry.shares.first().is_some_and(|share| watched >= share.devices_min);
            let held_back_ms = if in_a_cell { held_back_ms(rules) } else { 0 };
            if quiet_ms >= silence.after_ms.saturating_add(held_back_ms) {
                let since_ms = state.arrival_ms;
                state.alerts.silent(&context, silence, (since_ms, quiet_ms), &mut decisions.alerts);
            }
        }
        state.alerts.tick(&context, &mut decisions.alerts);
        conduct::tick(&registry.conducts, &mut state.alerts, &context, &mut decisions.alerts);
        if quiet_ms >= windows_after_ms(rules) {
            state.windows.show_due(rules, device, i64::MAX, &mut decisions.shown);
        }
    }
}

/// Open windows of a device that has been silent for so long are shown, in milliseconds.
fn windows_after_ms(rules: &ClassRules) -> u64 {
    u64::from(rules.class.report.silent_after_s) * 1000
}

/// When to look at a device next, if it does not report, by the clock of silence.
fn next_ms(registry: &Registry, rules: &ClassRules, state: &DeviceState, listened_ms: u64) -> Option<u64> {
    let silence_ms = rules.silence.and_then(|silence| {
        let after_ms = state.listened_ms.saturating_add(silence.after_ms);
        let raised_ms = after_ms.saturating_add(held_back_ms(rules));
        // Each of the two is looked at once.
        [after_ms, raised_ms].into_iter().find(|&due_ms| due_ms > listened_ms)
    });
    let windows_ms =
        state.windows.has_unshown().then(|| state.listened_ms.saturating_add(windows_after_ms(rules)));
    let late_ms = state.alerts.late_over_ms();
    let conduct_ms = conduct::over_ms(&registry.conducts, &state.alerts);
    [silence_ms, windows_ms, late_ms, conduct_ms].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
