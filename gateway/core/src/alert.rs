//! Alerts of one device: ok → pending → firing → resolved, in event time.
//!
//! A condition that is met opens an *episode* of its rule. It is pending until it has held for `hold_s`, then it
//! fires; it is resolved when the condition has been over for `clear_hold_s`. All times are those of the samples.
//!
//! **Two tracks.** Samples that are newer than any before, or fresh, move the *main* track. Older ones (a backlog that
//! arrives behind a live report, a gap filled) move the *late* track, so that old data neither pages as live nor clears
//! what stands. The late track follows ascending samples; where one goes back in time it starts over, and what was open
//! there is resolved.
//!
//! **One sample cannot age the present.** A fresh sample that a newer one overtook still raises, on the main track; it
//! ends nothing. A sample dated ahead of the present raises as well, and does not count as the newest
//! ([`Context::ahead_from_ms`]): the true samples after it stay newer than any before.
//!
//! **Mode.** An episode is live where the sample that fires it is no older than the class's own delay (see
//! [`ClassRules::live_within_ms`]); else it is retrospective, and so is everything on the late track. A retrospective
//! episode of the main track that a live sample does not end fires again, as live, once; and a live one is ended by a live
//! sample alone.
//!
//! Invariants: an episode's id follows from device, rule and the first sample that met the condition, so a replay gives
//! the same ids; a resolve has the id of its raise; each (rule, track) has at most one episode open; a device at rest
//! holds no memory beyond two words.
//! Bounds: as many open episodes as the class has rules, twice.
//!
//! Deliberately absent: acknowledgement, shelving, grouping of levels; conditions over several devices except silence,
//! which is in [`silence`](crate::silence). An episode that late samples tear apart stays apart.

use crate::{
    event::{ABSENT, Accepted, SampleSet},
    registry::{AgentIx, ClassRules, DeviceIx},
    rule::{RuleIx, RuleKey, Silence, Watch},
};
use alloc::{boxed::Box, vec::Vec};
use core::hash::{Hash, Hasher};
use hunhe_proto::id::Id;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A late track without samples for so long, by the gateway's clock, is over; milliseconds.
const LATE_IDLE_MS: u64 = 600_000;

/// Does an alert speak of now?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Its sample was fresh.
    Live,
    /// It was found in old data.
    Retrospective,
}

/// Where an episode stands after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The condition is met, and not yet for long enough.
    Pending,
    /// Raised.
    Firing,
    /// Over.
    Resolved,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A device.
    Device(DeviceIx),
    /// An agent, and so the devices behind it.
    Agent(AgentIx),
}

/// An episode has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The same through all changes of an episode, and in a replay.
    pub id: u64,
    /// Which rule.
    pub rule: RuleIx,
    /// Whom it is about.
    pub subject: Subject,
    /// Where it stands now.
    pub phase: Phase,
    /// Was it ever raised? Tells a resolved alert from a pending one that went away.
    pub fired: bool,
    /// Does it speak of now?
    pub mode: Mode,
    /// Event time of the first sample that met the condition, milliseconds since 1970.
    pub since_ms: i64,
    /// Event time of this change, milliseconds since 1970.
    pub event_ms: i64,
    /// The gateway's clock when it was found, milliseconds since 1970.
    pub arrival_ms: i64,
    /// Wire integer of the rule's channel; the status word; seconds of silence; or the number of silent devices, of new
    /// outboxes, or of samples that were missing.
    pub value: i64,
}

/// An episode that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Episode {
    pub(crate) key: RuleKey,
    pub(crate) phase: Phase,
    pub(crate) mode: Mode,
    pub(crate) since_ms: i64,
    /// The first sample for which it was over; [`ABSENT`] while it is not. Of [`conduct`](crate::conduct): the last time.
    pub(crate) clear_ms: i64,
}

/// A track over samples that came behind newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Late {
    episodes: Vec<Episode>,
    /// The newest sample on it.
    last_ms: i64,
    /// When it moved last, by the gateway's clock.
    arrival_ms: i64,
}

/// The alerts of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    pub(crate) episodes: Vec<Episode>,
    /// The newest sample on the main track, milliseconds since 1970; the device's own newest unless its clock was set back.
    newest_ms: i64,
    late: Option<Box<Late>>,
}

/// How a set of samples came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) device: DeviceIx,
    /// Names the device in ids of episodes.
    pub(crate) id: Id,
    pub(crate) rules: &'a ClassRules,
    pub(crate) arrival_ms: i64,
    /// Samples from here on are live, milliseconds since 1970.
    pub(crate) live_from_ms: i64,
    /// Samples after this are dated ahead of the present, milliseconds since 1970.
    pub(crate) ahead_from_ms: i64,
}

/// The id of an episode.
pub(crate) fn episode_id(subject: Id, key: RuleKey, since_ms: i64, late: bool) -> u64 {
    let mut hasher = SipHasher13::new();
    (subject.as_str(), key.0, since_ms, late).hash(&mut hasher);
    hasher.finish()
}

/// The id of an alert about the gateway itself: about `what`, since `since_ms`.
#[must_use]
pub fn own_id(what: &str, since_ms: i64) -> u64 {
    let mut hasher = SipHasher13::new();
    ("gateway", what, since_ms).hash(&mut hasher);
    hasher.finish()
}

impl Alerts {
    /// Ids of the episodes that are open.
    pub(crate) fn open(&self, subject: Id) -> impl Iterator<Item = u64> {
        let id = move |late| move |e: &Episode| episode_id(subject, e.key, e.since_ms, late);
        let late = self.late.iter().flat_map(|late| &late.episodes);
        self.episodes.iter().map(id(false)).chain(late.map(id(true)))
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let late = self
            .late
            .as_deref()
            .map_or(0, |late| size_of::<Late>() + late.episodes.capacity() * size_of::<Episode>());
        self.episodes.capacity() * size_of::<Episode>() + late
    }

    /// Forgets episodes of rules that no longer exist for the class.
    pub(crate) fn keep_rules(&mut self, mut exists: impl FnMut(RuleKey) -> bool) {
        self.episodes.retain(|episode| exists(episode.key));
        if let Some(late) = &mut self.late {
            late.episodes.retain(|episode| exists(episode.key));
        }
    }

    /// The device's clock was set back, and the report that shows it begins at `first_ms`: what is sampled from there on is
    /// new, though its times have been before.
    pub(crate) fn set_back(&mut self, first_ms: i64) {
        self.newest_ms = self.newest_ms.min(first_ms.saturating_sub(1));
    }

    /// Judges an accepted set. Samples that are neither fresh nor newer than any before are late.
    pub(crate) fn judge(
        &mut self,
        context: &Context<'_>,
        set: &SampleSet,
        accepted: &Accepted,
        out: &mut Vec<Change>,
    ) {
        if context.rules.watches.is_empty() {
            return;
        }
        let times = &accepted.times_ms[set.rows.clone()];
        let before_ms = self.newest_ms;
        let newer = times.partition_point(|&time_ms| time_ms <= before_ms && time_ms < context.live_from_ms);
        let present = times.partition_point(|&time_ms| time_ms <= context.ahead_from_ms);
        if let Some(&last_ms) = times[..present].last() {
            // A clock that is a little fast must not make the next sample of a true one old.
            self.newest_ms = before_ms.max(last_ms.min(context.arrival_ms));
        }
        if newer > 0 {
            self.judge_late(context, set, accepted, newer, out);
        }
        for (column, &number) in accepted.channels[set.channels.clone()].iter().enumerate() {
            let Some(at) = context.rules.position(number) else { continue };
            let values = &accepted.column(set, column)[newer..];
            for watch in context.rules.watches_of(at) {
                let samples =
                    Samples { before_ms, newest_ms: before_ms, times: &times[newer..], values, late: false };
                run(&mut self.episodes, context, watch, samples, out);
            }
        }
    }

    #[cold]
    fn judge_late(
        &mut self,
        context: &Context<'_>,
        set: &SampleSet,
        accepted: &Accepted,
        end: usize,
        out: &mut Vec<Change>,
    ) {
        let times = &accepted.times_ms[set.rows.clone()][..end];
        let mut late = self.late.take().unwrap_or_else(|| {
            Box::new(Late { episodes: Vec::new(), last_ms: i64::MIN, arrival_ms: context.arrival_ms })
        });
        if times[0] <= late.last_ms {
            end_all(&mut late, context, out);
        }
        for (column, &number) in accepted.channels[set.channels.clone()].iter().enumerate() {
            let Some(at) = context.rules.position(number) else { continue };
            let values = &accepted.column(set, column)[..end];
            for watch in context.rules.watches_of(at) {
                let samples =
                    Samples { before_ms: late.last_ms, newest_ms: i64::MIN, times, values, late: true };
                run(&mut late.episodes, context, watch, samples, out);
            }
        }
        late.last_ms = times[end - 1];
        late.arrival_ms = context.arrival_ms;
        self.late = Some(late);
    }

    /// The device has been heard: it is not silent any more.
    pub(crate) fn heard(&mut self, context: &Context<'_>, out: &mut Vec<Change>) {
        let Some(silence) = context.rules.silence.filter(|_| !self.episodes.is_empty()) else { return };
        if let Some(at) = self.episodes.iter().position(|episode| episode.key == silence.key) {
            let episode = self.episodes.swap_remove(at);
            let seconds = context.arrival_ms.saturating_sub(episode.since_ms) / 1000;
            out.push(context.change(
                silence.rule,
                &episode,
                Phase::Resolved,
                context.arrival_ms,
                seconds,
                false,
            ));
        }
    }

    /// The device has not been heard since `since_ms` by the gateway's clock.
    pub(crate) fn silent(
        &mut self,
        context: &Context<'_>,
        silence: Silence,
        (since_ms, for_ms): (i64, u64),
        out: &mut Vec<Change>,
    ) {
        if self.episodes.iter().any(|episode| episode.key == silence.key) {
            return;
        }
        let (key, phase, mode) = (silence.key, Phase::Firing, Mode::Live);
        let episode = Episode { key, phase, mode, since_ms, clear_ms: ABSENT };
        let seconds = i64::try_from(for_ms / 1000).unwrap_or(i64::MAX);
        out.push(context.change(silence.rule, &episode, phase, context.arrival_ms, seconds, false));
        self.episodes.push(episode);
    }

    /// Time passed: a late track that nothing moves any more is over.
    pub(crate) fn tick(&mut self, context: &Context<'_>, out: &mut Vec<Change>) {
        let idle_ms = |late: &Late| context.arrival_ms.abs_diff(late.arrival_ms);
        if let Some(mut late) = self.late.take_if(|late| idle_ms(late) >= LATE_IDLE_MS) {
            end_all(&mut late, context, out);
        }
    }

    /// Is there anything that [`Self::tick`] could end?
    pub(crate) const fn has_late(&self) -> bool {
        self.late.is_some()
    }
}

fn end_all(late: &mut Late, context: &Context<'_>, out: &mut Vec<Change>) {
    for episode in late.episodes.drain(..) {
        let Some(watch) = context.rules.watches.iter().find(|watch| watch.key == episode.key) else {
            continue;
        };
        out.push(context.change(watch.rule, &episode, Phase::Resolved, late.last_ms, ABSENT, true));
    }
    late.last_ms = i64::MIN;
}

/// Ascending samples of one channel, and the one before them.
#[derive(Clone, Copy)]
struct Samples<'a> {
    before_ms: i64,
    /// The newest of all before: what is not newer was overtaken.
    newest_ms: i64,
    times: &'a [i64],
    values: &'a [i64],
    late: bool,
}

/// Moves one rule's episode along ascending samples of one channel.
fn run(
    episodes: &mut Vec<Episode>,
    context: &Context<'_>,
    watch: &Watch,
    samples: Samples<'_>,
    out: &mut Vec<Change>,
) {
    let open = episodes.iter().position(|episode| episode.key == watch.key);
    // Nearly always nothing is open and no value meets the condition, and this is quick to say.
    if open.is_none() && !samples.values.iter().any(|&value| watch.test.is_set(value)) {
        return;
    }
    let mut episode = open.map(|at| episodes.swap_remove(at));
    let mut before_ms = samples.before_ms;
    for (&time_ms, &value) in samples.times.iter().zip(samples.values) {
        if value != ABSENT {
            let overtaken = time_ms <= samples.newest_ms;
            let now = Now { before_ms, time_ms, value, late: samples.late, overtaken };
            episode = step(episode, context, watch, now, out);
        }
        before_ms = time_ms;
    }
    if let Some(episode) = episode {
        episodes.push(episode);
    }
}

/// One sample, and when the one before it was.
#[derive(Clone, Copy)]
struct Now {
    before_ms: i64,
    time_ms: i64,
    value: i64,
    late: bool,
    /// Fresh, and a newer one came before it.
    overtaken: bool,
}

/// One sample of one rule.
fn step(
    episode: Option<Episode>,
    context: &Context<'_>,
    watch: &Watch,
    now: Now,
    out: &mut Vec<Change>,
) -> Option<Episode> {
    let Now { time_ms, value, late, overtaken, .. } = now;
    let met = watch.test.is_set(value);
    let mode = if !late && time_ms >= context.live_from_ms { Mode::Live } else { Mode::Retrospective };
    let mut say = |episode: &Episode, phase| {
        out.push(context.change(watch.rule, episode, phase, time_ms, value, late));
    };
    let begun = || {
        let phase = if watch.hold_ms == 0 { Phase::Firing } else { Phase::Pending };
        Episode { key: watch.key, phase, mode, since_ms: time_ms, clear_ms: ABSENT }
    };
    let Some(mut episode) = episode else {
        let episode = met.then(begun)?;
        say(&episode, episode.phase);
        return Some(episode);
    };
    match episode.phase {
        // A newer sample has said more.
        _ if overtaken && !met => {}
        Phase::Pending if !met => {
            say(&episode, Phase::Resolved);
            return None;
        }
        // Nobody knows that it held through a gap, or while the clock was set back.
        Phase::Pending if !overtaken && now.follows_a_gap(episode.since_ms, context.gap_ms(watch)) => {
            say(&episode, Phase::Resolved);
            episode = begun();
            say(&episode, episode.phase);
        }
        Phase::Pending if time_ms.saturating_sub(episode.since_ms) >= watch.hold_ms => {
            (episode.phase, episode.mode) = (Phase::Firing, mode);
            say(&episode, Phase::Firing);
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
                say(&episode, Phase::Resolved);
                return None;
            }
        }
        _ => {
            if !overtaken {
                episode.clear_ms = ABSENT;
            }
            if mode == Mode::Live && episode.mode == Mode::Retrospective {
                episode.mode = Mode::Live;
                say(&episode, Phase::Firing);
            }
        }
    }
    Some(episode)
}

impl Now {
    fn follows_a_gap(self, since_ms: i64, gap_ms: i64) -> bool {
        self.time_ms < since_ms || self.time_ms.saturating_sub(self.before_ms) > gap_ms
    }
}

impl<'a> Context<'a> {
    /// By the gateway's clock alone: no sample is concerned.
    pub(crate) fn at(device: DeviceIx, id: Id, rules: &'a ClassRules, now_ms: i64) -> Self {
        Self { device, id, rules, arrival_ms: now_ms, live_from_ms: now_ms, ahead_from_ms: now_ms }
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
