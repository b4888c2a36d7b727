//! The attackers, one file each: what each does, from its first turn until it is stopped.
//!
//! Each has a pace: a city's machine must bear it beside everything else on two processors, and what it does to the programs, not to
//! the processors, is what is judged. An attacker with an agent's password has that agent for itself. Each has aims: an attack that
//! misses them proves nothing, and breaks the siege.

mod abandoned;
mod alert_changes;
mod backups;
mod big_reports;
mod class_versions;
mod concentrator;
mod deaf_pages;
mod field;
mod flicker;
mod forged_boots;
mod forged_topics;
mod future_samples;
mod greedy_pages;
mod half_requests;
mod junk;
mod late_page;
mod next_seq;
mod quarantine_pages;
mod questions;
mod rebinding;
mod reconnects;
mod retained;
mod series;
mod silent_connections;
mod takeover;
mod undecodable;
mod untaken;
mod webhooks;
mod wrong_shards;

use std::time::Duration;

use crate::now_s;

use super::effects::Aim;
pub(super) use field::Field;

/// All of them, in the order in which they attack alone.
pub(super) const ALL: [Attacker; 27] = [
    questions::ATTACKER,
    abandoned::ATTACKER,
    untaken::ATTACKER,
    series::ATTACKER,
    half_requests::ATTACKER,
    silent_connections::ATTACKER,
    deaf_pages::ATTACKER,
    greedy_pages::ATTACKER,
    backups::ATTACKER,
    rebinding::ATTACKER,
    webhooks::ATTACKER,
    takeover::ATTACKER,
    reconnects::ATTACKER,
    forged_topics::ATTACKER,
    forged_boots::ATTACKER,
    future_samples::ATTACKER,
    big_reports::ATTACKER,
    concentrator::ATTACKER,
    class_versions::ATTACKER,
    junk::ATTACKER,
    quarantine_pages::ATTACKER,
    undecodable::ATTACKER,
    wrong_shards::ATTACKER,
    retained::ATTACKER,
    next_seq::ATTACKER,
    alert_changes::ATTACKER,
    flicker::ATTACKER,
];

/// One kind of attack.
#[derive(Debug)]
pub(super) struct Attacker {
    /// As the figures name it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    /// Attacks until the field is cleared.
    pub(super) attack: fn(&Field<'_>),
    /// What must be so behind it.
    pub(super) aims: &'static [Aim],
    /// Alone it takes at least so long to reach its aims.
    pub(super) lasting: Duration,
    /// Whether the gateway is started again behind it, since that is when it works.
    pub(super) restarts: bool,
}

impl Attacker {
    /// One that works within seconds and needs no restart.
    const QUICK: Self =
        Self { name: "", about: "", attack: |_| {}, aims: &[], lasting: Duration::ZERO, restarts: false };
}

/// As many bytes of noise as wanted, others for each number.
fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..bytes).map(byte).collect()
}

fn index(number: u64, of: usize) -> usize {
    usize::try_from(number).unwrap_or(0) % of.max(1)
}
