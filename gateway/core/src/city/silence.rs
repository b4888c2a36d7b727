//! Silence: which devices have not reported for too long, each alone or most of what one agent connects.
//!
//! Its clock is [`City::listened_ms`]: it stands still while the gateway cannot receive (asleep, or without a broker), and
//! nobody sets it. A device's alert ends with its next message. Where a rule watches the share of an agent's devices, a
//! cell that goes down is one alert. So each device's own alert is held back for one report period, an hour at most, until
//! the share is known; it is not raised while the agent's stands. The agent's alert ends when all but a quarter of the
//! share have reported again.
//!
//! Invariants: the count of an agent is a [`Partial`], the sum of its devices' conditions; it changes with them, so no
//! event counts them anew. While an agent's alert stands, a device is silent that has not reported since it was raised; else one that has
//! not reported for as long as its class's rule says.
//! Bounds: a byte a device, 12 bytes an agent.
//!
//! Deliberately absent: devices that have never reported. Nothing is known of when they should have.

use crate::{
    city::{City, Standing, partial::Partial},
    device::{
        DeviceState,
        alert::{Change, Episode, Mode, Phase, Subject, episode_id},
    },
    registry::{AgentIx, ClassRules, DeviceIx, Registry},
    rule::{Share, Silence},
};
use alloc::vec::Vec;

/// A device's own silence is not held back for longer, in milliseconds.
const HELD_BACK_MS_MAX: u64 = 3_600_000;

/// Does a device with a silence rule report?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It has never reported, or has no such rule.
    #[default]
    Unwatched,
    Reporting,
    Silent,
}

/// How many devices behind an agent are watched, and how many of them are silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) watched: u32,
    pub(crate) silent: u32,
}

/// The condition of each device, and its sum by agent.
#[derive(Debug)]
pub(crate) struct Conditions {
    devices: Vec<Condition>,
    agents: Vec<Count>,
    /// Agents whose count changed since they were judged; each once.
    changed: Vec<AgentIx>,
    is_changed: Vec<bool>,
}

impl From<Condition> for Count {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Unwatched => Self::default(),
            Condition::Reporting => Self { watched: 1, silent: 0 },
            Condition::Silent => Self { watched: 1, silent: 1 },
        }
    }
}

impl Partial for Count {
    fn merge(&mut self, other: &Self) {
        self.watched += other.watched;
        self.silent += other.silent;
    }

    fn remove(&mut self, other: &Self) {
        self.watched -= other.watched;
        self.silent -= other.silent;
    }
}

impl Conditions {
    pub(crate) fn new(registry: &Registry) -> Self {
        let agents = registry.agents().len();
        Self {
            devices: alloc::vec![Condition::default(); registry.devices().len()],
            agents: alloc::vec![Count::default(); agents],
            changed: Vec::new(),
            is_changed: alloc::vec![false; agents],
        }
    }

    /// The count of an agent.
    pub(crate) fn of(&self, agent: AgentIx) -> Count {
        self.agents[agent.at()]
    }

    /// Notes a device's condition.
    pub(crate) fn note(&mut self, device: DeviceIx, agent: AgentIx, now: Condition) {
        let before = core::mem::replace(&mut self.devices[device.at()], now);
        if before != now {
            self.agents[agent.at()].replace(&before.into(), &now.into());
            self.judge_again(agent);
        }
    }

    /// The agent is among those that [`Self::take_changed`] gives.
    pub(crate) fn judge_again(&mut self, agent: AgentIx) {
        if !core::mem::replace(&mut self.is_changed[agent.at()], true) {
            self.changed.push(agent);
        }
    }

    /// The agents whose count changed since the last call, ascending.
    pub(crate) fn take_changed(&mut self) -> Vec<AgentIx> {
        self.changed.sort_unstable();
        for agent in &self.changed {
            self.is_changed[agent.at()] = false;
        }
        core::mem::take(&mut self.changed)
    }
}

/// A device's condition by the clock of silence.
pub(crate) fn condition(
    state: Option<&DeviceState>,
    silence: Option<Silence>,
    standing: Option<&Standing>,
    listened_ms: u64,
) -> Condition {
    let (Some(state), Some(silence)) = (state, silence) else { return Condition::Unwatched };
    let is_silent = match standing {
        Some(standing) => state.listened_ms < standing.listened_ms,
        None => listened_ms.saturating_sub(state.listened_ms) >= silence.after_ms,
    };
    if is_silent { Condition::Silent } else { Condition::Reporting }
}

/// How long the silence of one device in a cell is held back: one report period, in milliseconds.
pub(crate) fn held_back_ms(rules: &ClassRules) -> u64 {
    let report_ms = rules.interval_ms.saturating_mul(rules.class.report.samples.into());
    report_ms.unsigned_abs().min(HELD_BACK_MS_MAX)
}

/// Raises or ends the alert that most of an agent's devices are silent. Answers whether it stands now, where that changed.
pub(crate) fn judge_agent(
    registry: &Registry,
    (share, agent, count): (&Share, AgentIx, Count),
    city: &mut City,
    now_ms: i64,
    out: &mut Vec<Change>,
) -> Option<bool> {
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
        _ => return None,
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
    Some(phase == Phase::Firing)
}
