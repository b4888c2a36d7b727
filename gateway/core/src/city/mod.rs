//! What crosses devices: agents and what is published to them, silence, the ledger over all devices.
//!
//! Bounds: one entry per registered agent; at most [`Lane`](crate::lane::Lane)'s bound of refused payloads each,
//! oldest forgotten first (the edge then sends that report again, and it is refused again).

pub mod audit;
pub(crate) mod deadlines;
mod partial;
pub(crate) mod silence;
pub(crate) mod totals;
mod wheel;

use crate::{
    device::alert::Episode,
    event::Reason,
    registry::{AgentIx, Registry},
};
use alloc::{collections::VecDeque, vec::Vec};
use hunhe_proto::{decode::DecodeError, id::AgentId, v1::AgentState};
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// What crosses devices.
#[derive(Debug, Clone, Default)]
pub struct City {
    /// The gateway's clock at the last tick, milliseconds since 1970.
    pub now_ms: i64,
    /// The clock of silence: for how long the gateway has been able to receive, in milliseconds. It is monotonic, and
    /// stands still while the gateway receives nothing.
    pub listened_ms: u64,
    agents: Vec<Agent>,
    touched: Vec<AgentIx>,
    /// Devices behind agents that say they are connected.
    devices_online: usize,
}

/// What a restart needs, by agent id: a watermark names the refused payloads, and no journal record is read for it again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub(crate) now_ms: i64,
    pub(crate) listened_ms: u64,
    pub(crate) agents: Vec<(AgentId, Agent)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) online: Option<bool>,
    pub(crate) since_ms: i64,
    pub(crate) touched: bool,
    /// It was not touched since agents were last taken.
    #[serde(skip)]
    pub(crate) is_quiet: bool,
    pub(crate) refused: VecDeque<u32>,
    /// Most of its devices are silent.
    pub(crate) silence: Option<Standing>,
}

/// An agent's silence that stands, and the clock of silence when it was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) episode: Episode,
    pub(crate) listened_ms: u64,
}

impl City {
    /// A city that has heard of nobody.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let agents = alloc::vec![Agent::default(); registry.agents().len()];
        Self { now_ms: 0, listened_ms: 0, agents, touched: Vec::new(), devices_online: 0 }
    }

    /// Takes an agent's state or last will.
    ///
    /// # Errors
    /// Where the payload is no state.
    pub fn agent_state(&mut self, registry: &Registry, agent: AgentIx, payload: &[u8]) -> Result<(), Reason> {
        let state = AgentState::decode(payload).map_err(|_| Reason::Undecodable(DecodeError::NotProtobuf))?;
        let devices = registry.agent(agent).devices.len();
        let known = &mut self.agents[agent.at()];
        let before = known.online.replace(state.online) == Some(true);
        match (before, state.online) {
            (false, true) => self.devices_online += devices,
            (true, false) => self.devices_online -= devices,
            _ => {}
        }
        known.since_ms = state.since_ms;
        Ok(())
    }

    /// Is the agent connected, as far as it said, and since when (milliseconds since 1970)?
    #[must_use]
    pub fn online(&self, agent: AgentIx) -> Option<(bool, i64)> {
        let agent = self.agents.get(agent.at())?;
        Some((agent.online?, agent.since_ms))
    }

    /// How many agents say they are connected.
    #[must_use]
    pub fn agents_online(&self) -> usize {
        self.agents.iter().filter(|agent| agent.online == Some(true)).count()
    }

    /// How many devices are behind agents that say they are connected.
    #[must_use]
    pub fn devices_online(&self) -> usize {
        self.devices_online
    }

    /// The alert that says that most of the agent's devices are silent, where it stands.
    pub(crate) fn silence_of(&self, agent: AgentIx) -> Option<&Standing> {
        self.agents[agent.at()].silence.as_ref()
    }

    pub(crate) fn set_silence(&mut self, agent: AgentIx, silence: Option<Standing>) {
        self.agents[agent.at()].silence = silence;
    }

    /// The agent's watermark may have moved.
    pub fn touch(&mut self, agent: AgentIx) {
        let known = &mut self.agents[agent.at()];
        known.is_quiet = false;
        if !core::mem::replace(&mut known.touched, true) {
            self.touched.push(agent);
        }
    }

    /// The agents touched since they were last taken, ascending: those that are due, and those that were not touched since
    /// the last call. The others stay.
    pub fn take_touched(&mut self, due: impl Fn(AgentIx) -> bool) -> Vec<AgentIx> {
        self.touched.sort_unstable();
        let touched = core::mem::take(&mut self.touched);
        let is_due = |agent: &AgentIx| due(*agent) || self.agents[agent.at()].is_quiet;
        let (taken, later): (Vec<_>, Vec<_>) = touched.into_iter().partition(is_due);
        for agent in &taken {
            self.agents[agent.at()].touched = false;
        }
        for agent in &later {
            self.agents[agent.at()].is_quiet = true;
        }
        self.touched = later;
        taken
    }

    /// Remembers a payload that no resend will make readable.
    pub fn refuse(&mut self, agent: AgentIx, payload_crc32c: u32, most: usize) {
        let refused = &mut self.agents[agent.at()].refused;
        if refused.contains(&payload_crc32c) {
            return;
        }
        if refused.len() == most {
            refused.pop_front();
        }
        refused.push_back(payload_crc32c);
    }

    /// CRC-32C of the payloads that the agent should give up.
    pub fn refused(&self, agent: AgentIx) -> impl Iterator<Item = u32> {
        self.agents[agent.at()].refused.iter().copied()
    }

    pub(crate) fn notes(&self, registry: &Registry) -> Notes {
        let known = registry.agents().iter().zip(&self.agents);
        let told = known.filter(|(_, agent)| **agent != Agent::default());
        Notes {
            now_ms: self.now_ms,
            listened_ms: self.listened_ms,
            agents: told.map(|(known, agent)| (known.id, agent.clone())).collect(),
        }
    }

    /// Takes up notes; agents that are no longer registered are left out.
    pub(crate) fn restore(&mut self, notes: Notes, registry: &Registry) {
        *self = Self::new(registry);
        (self.now_ms, self.listened_ms) = (notes.now_ms, notes.listened_ms);
        for (id, mut agent) in notes.agents {
            let Some(at) = registry.find_agent(id) else { continue };
            if agent.touched {
                self.touched.push(at);
            }
            let exists =
                |standing: &Standing| registry.shares.iter().any(|share| share.key == standing.episode.key);
            agent.silence = agent.silence.filter(exists);
            if agent.online == Some(true) {
                self.devices_online += registry.agent(at).devices.len();
            }
            self.agents[at.at()] = agent;
        }
    }
}
