//! One sample of one rule: what becomes of the rule's episode, and which of its changes come out.

use super::{Change, Context, Episode, Mode, Phase, Subject, allowance::Allowance, episode_id};
use crate::{
    event::ABSENT,
    registry::{ClassRules, DeviceIx},
    rule::{RuleIx, Watch},
};
use alloc::vec::Vec;
use hunhe_proto::id::Id;

/// One sample, and when the one before it was.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) before_ms: i64,
    pub(super) time_ms: i64,
    pub(super) value: i64,
    pub(super) late: bool,
    /// Fresh, and a newer one came before it.
    pub(super) overtaken: bool,
}

/// One sample of one rule.
pub(super) fn step(
    episode: Option<Episode>,
    watch: &Watch,
    now: Now,
    teller: &mut Teller<'_>,
) -> Option<Episode> {
    let Now { time_ms, value, late, overtaken, .. } = now;
    let context = teller.context;
    let met = watch.test.is_set(value);
    let mode = if !late && time_ms >= context.live_from_ms { Mode::Live } else { Mode::Retrospective };
    let Some(mut episode) = episode else {
        return met.then(|| teller.begin(watch, mode, now));
    };
    match episode.phase {
        // A newer sample has said more.
        _ if overtaken && !met => {}
        Phase::Pending if !met => {
            teller.go_away(watch, &episode, now);
            return None;
        }
        // Nobody knows that it held through a gap, or while the clock was set back.
        Phase::Pending if !overtaken && now.follows_a_gap(episode.since_ms, context.gap_ms(watch)) => {
            teller.go_away(watch, &episode, now);
            episode = teller.begin(watch, mode, now);
        }
        Phase::Pending if time_ms.saturating_sub(episode.since_ms) >= watch.hold_ms => {
            (episode.phase, episode.mode, episode.withheld) = (Phase::Firing, mode, false);
            teller.tell(watch, &episode, Phase::Firing, now);
        }
        Phase::Pending => {}
        // Old data does not clear what stands now, though it be newer than what raised it: a fresh sample must say so.
        _ if episode.mode == Mode::Live && mode == Mode::Retrospective => {}
        _ if watch.test.is_clear(value) => {
            // A clock that was set back begins the time that it must be over anew.
            if episode.clear_ms == ABSENT || episode.clear_ms > time_ms {
                episode.clear_ms = time_ms;
            }
            if time_ms.saturating_sub(episode.clear_ms) >= watch.clear_hold_ms {
                if teller.may(episode.mode) {
                    teller.tell(watch, &episode, Phase::Resolved, now);
                    return None;
                }
                episode.withheld = true;
            }
        }
        _ => {
            if !overtaken {
                episode.clear_ms = ABSENT;
            }
            if met && core::mem::take(&mut episode.withheld) {
                teller.joined += 1;
            }
            if mode == Mode::Live && episode.mode == Mode::Retrospective {
                episode.mode = Mode::Live;
                teller.tell(watch, &episode, Phase::Firing, now);
            }
        }
    }
    Some(episode)
}

/// Tells what changes of one device's episodes, as far as its allowance goes.
pub(super) struct Teller<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) allowance: &'a mut Allowance,
    pub(super) out: &'a mut Vec<Change>,
    /// What is of the device and of this event begins here.
    pub(super) from: usize,
    /// Breaches that joined the one before.
    pub(super) joined: u64,
}

impl Teller<'_> {
    pub(super) fn may(&self, mode: Mode) -> bool {
        self.allowance.has(mode, self.context.arrival_ms)
    }

    pub(super) fn tell(&mut self, watch: &Watch, episode: &Episode, phase: Phase, now: Now) {
        self.allowance.spend(episode.mode, self.context.arrival_ms);
        let Now { time_ms, value, late, .. } = now;
        self.out.push(self.context.change(watch.rule, episode, phase, time_ms, value, late));
    }

    /// An episode begins. One that fires at once is always told.
    pub(super) fn begin(&mut self, watch: &Watch, mode: Mode, now: Now) -> Episode {
        let phase = if watch.hold_ms == 0 { Phase::Firing } else { Phase::Pending };
        let withheld = phase == Phase::Pending && !self.may(mode);
        let (key, since_ms) = (watch.key, now.time_ms);
        let episode = Episode { key, phase, mode, since_ms, clear_ms: ABSENT, withheld };
        if !withheld {
            self.tell(watch, &episode, phase, now);
        }
        episode
    }

    /// A pending episode is over. What nobody saw begin is not told, and what began in this event nobody saw.
    pub(super) fn go_away(&mut self, watch: &Watch, episode: &Episode, now: Now) {
        if episode.withheld {
            return;
        }
        let id = episode_id(self.context.id, episode.key, episode.since_ms, now.late);
        let of_it = |change: &Change| change.id == id && change.phase == Phase::Pending;
        match self.out[self.from..].iter().rposition(of_it) {
            Some(at) => {
                self.out.remove(self.from + at);
                self.allowance.give_back(episode.mode);
            }
            None => self.tell(watch, episode, Phase::Resolved, now),
        }
    }
}

impl Now {
    fn follows_a_gap(self, since_ms: i64, gap_ms: i64) -> bool {
        self.time_ms < since_ms || self.time_ms.saturating_sub(self.before_ms) > gap_ms
    }
}

impl<'a> Context<'a> {
    /// By the gateway's clock alone: no sample is concerned.
    pub(crate) fn at(
        device: DeviceIx,
        id: Id,
        rules: &'a ClassRules,
        (now_ms, listened_ms): (i64, u64),
    ) -> Self {
        Self {
            device,
            id,
            rules,
            arrival_ms: now_ms,
            listened_ms,
            live_from_ms: now_ms,
            ahead_from_ms: now_ms,
        }
    }

    /// A condition is not taken to have held over a longer time without a sample, in milliseconds.
    fn gap_ms(&self, watch: &Watch) -> i64 {
        self.rules.interval_ms.saturating_mul(2).max(watch.hold_ms)
    }

    pub(crate) fn change(
        &self,
        rule: RuleIx,
        episode: &Episode,
        phase: Phase,
        event_ms: i64,
        value: i64,
        late: bool,
    ) -> Change {
        Change {
            id: episode_id(self.id, episode.key, episode.since_ms, late),
            rule,
            subject: Subject::Device(self.device),
            phase,
            fired: episode.phase == Phase::Firing,
            mode: episode.mode,
            since_ms: episode.since_ms,
            event_ms,
            arrival_ms: self.arrival_ms,
            value,
        }
    }
}
