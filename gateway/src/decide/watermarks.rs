//! The lane's part of a watermark: which agents are due, and what is published to each.
//!
//! Invariant: an agent that is not due stays noted, also in a checkpoint. Bound: one device's part and one
//! agent's message are in memory. Deliberately absent: the way to the broker ([`watermark`]).

use super::Work;
use crate::watermark;
use hunhe_proto::v1::Durable;
use prost::Message as _;

/// An agent's watermark in the making, kept for its memory.
#[derive(Default)]
pub(super) struct Watermark {
    part: Durable,
    bytes: Vec<u8>,
}

impl Work {
    pub(super) fn send_watermarks(&mut self) {
        let (driver, Watermark { part, bytes }) = (&mut self.driver, &mut self.watermark);
        let (round, stopping) = (self.turns.watermark_round, self.turns.stopping);
        self.turns.watermark_round += 1;
        let devices = |agent| driver.registry.agent(agent).devices.len();
        let due = |agent| stopping || watermark::is_due(round, agent, devices(agent));
        for agent in driver.lane.take_touched_agents(due) {
            bytes.clear();
            driver.lane.watermark_in_parts(agent, part, |part| {
                // A vector always has room.
                let _ = part.encode(bytes);
            });
            driver.outgoing.put(driver.registry.agent(agent).id, bytes.clone());
        }
    }
}
