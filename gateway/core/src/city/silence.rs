//! Silence: who has not been heard for too long by the gateway's clock, alone or as most of what one agent connects.
//!
//! It is told by a clock of its own, which stands still while the gateway cannot hear (asleep, or without a broker) and
//! which nobody sets: see [`City::listened_ms`]. A device's alert ends with its next message. Where a rule watches the share of an agent's devices, a cell
//! that goes down is one alert: each device's own is held back for one report period, an hour at most, so that the
//! share is known first, and is not raised while the agent's stands. The agent's ends when all but a quarter of the share have been
//! heard again.
//!
//! Deliberately absent: devices that have never reported. Nothing is known of when they should have.

use crate::{
    city::{City, Standing},
    device::{
        DeviceState,
        alert::{Change, Context, Episode, Mode, Phase, Subject, episode_id},
    },
    registry::{AgentIx, DeviceIx, Registry},
    rule::{Share, Silence},
};
use alloc::{boxed::Box, vec::Vec};

/// A device's own silence is not held back for longer, in milliseconds.
const HELD_BACK_MS_MAX: u64 = 3_600_000;

/// How many devices behind an agent are watched, and how many of them are silent.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    watched: u32,
    silent: u32,
}

/// A device past its silence rule.
struct Quiet {
    device: DeviceIx,
    silence: Silence,
    for_ms: u64,
}

/// Looks at every device once.
pub(crate) fn sweep(
    registry: &Registry,
    devices: &mut [Option<Box<DeviceState>>],
    city: &mut City,
    now_ms: i64,
    out: &mut Vec<Change>,
) {
    let share = registry.shares.first();
    let mut counts = alloc::vec![Count::default(); registry.agents().len()];
    let mut quiet = Vec::new();
    for ((ix, device), state) in registry.indices().zip(registry.devices()).zip(devices.iter()) {
        let (Some(state), Some(silence)) = (state.as_deref(), registry.class(device.class).silence) else {
            continue;
        };
        let for_ms = city.listened_ms.saturating_sub(state.listened_ms);
        let count = &mut counts[device.agent.at()];
        count.watched += 1;
        let silent = match city.silence_of(device.agent) {
            Some(standing) => state.listened_ms <= standing.listened_ms,
            None => for_ms >= silence.after_ms,
        };
        count.silent += u32::from(silent);
        if for_ms >= silence.after_ms {
            quiet.push(Quiet { device: ix, silence, for_ms });
        }
    }
    if let Some(share) = share {
        judge_agents(registry, share, &counts, city, now_ms, out);
    }
    for Quiet { device, silence, for_ms } in quiet {
        let agent = registry.device(device).agent;
        let rules = registry.class_of(device);
        let in_a_cell = share.is_some_and(|share| counts[agent.at()].watched >= share.devices_min);
        let report_ms = rules.interval_ms.saturating_mul(rules.class.report.samples.into()).unsigned_abs();
        let held_back_ms = if in_a_cell { report_ms.min(HELD_BACK_MS_MAX) } else { 0 };
        if city.silence_of(agent).is_some() || for_ms < silence.after_ms.saturating_add(held_back_ms) {
            continue;
        }
        if let Some(state) = devices[device.at()].as_deref_mut() {
            let id = registry.device(device).id;
            let context = Context::at(device, id, rules, now_ms);
            let since_ms = state.arrival_ms;
            state.alerts.silent(&context, silence, (since_ms, for_ms), out);
        }
    }
}

fn judge_agents(
    registry: &Registry,
    share: &Share,
    counts: &[Count],
    city: &mut City,
    now_ms: i64,
    out: &mut Vec<Change>,
) {
    for (agent, count) in (0..).map(AgentIx).zip(counts) {
        let standing = city.silence_of(agent).copied();
        let (watched, silent) = (f64::from(count.watched), f64::from(count.silent));
        let (episode, phase) = match standing {
            None if count.watched >= share.devices_min && silent >= share.share * watched => {
                let episode = Episode::raised(share.key, now_ms);
                city.set_silence(agent, Some(Standing { episode, listened_ms: city.listened_ms }));
                (episode, Phase::Firing)
            }
            Some(Standing { episode, .. }) if silent < share.share / 4.0 * watched || count.watched == 0 => {
                city.set_silence(agent, None);
                (episode, Phase::Resolved)
            }
            _ => continue,
        };
        out.push(Change {
            id: episode_id(registry.agent(agent).id, episode.key, episode.since_ms, false),
            rule: share.rule,
            subject: Subject::Agent(agent),
            phase,
            fired: true,
            mode: Mode::Live,
            since_ms: episode.since_ms,
            event_ms: now_ms,
            arrival_ms: now_ms,
            value: count.silent.into(),
        });
    }
}
