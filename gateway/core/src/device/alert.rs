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
//! **Which changes come out.** Every raise. A pending episode that begins and ends within one message does not: nobody could
//! have seen it. A device has an [`allowance`] of changes. Beyond it no pending episode comes out, and an episode that fires
//! stays open until the allowance has room for its end. A breach meanwhile joins the open episode and is counted. So no raise
//! of another device waits behind thousands of changes of this one.
//!
//! Invariants: an episode's id follows from device, rule and the first sample that met the condition, so a replay gives
//! the same ids; a resolve has the id of its raise; each (rule, track) has at most one episode open; a device at rest
//! holds nothing on the heap.
//! Bounds: as many open episodes as the class has rules, twice. Changes told: the [`allowance`], and three for each rule and
//! track.
//!
//! Deliberately absent: acknowledgement, shelving, grouping of levels; conditions over several devices except silence,
//! which is in [`silence`](crate::city::silence). An episode that late samples tear apart stays apart.

pub mod allowance;
mod reached;
mod step;

use crate::{
    event::{ABSENT, Accepted, SampleSet},
    registry::{AgentIx, ClassRules, DeviceIx},
    rule::{RuleIx, RuleKey, Silence, Watch},
};
use alloc::{boxed::Box, vec::Vec};
use allowance::Allowance;
use core::{
    hash::{Hash, Hasher},
    ops::Range,
};
use hunhe_proto::id::Id;
use reached::Reached;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use step::{Now, Teller, step};

/// A late track that takes no sample while the gateway listens for so long is over; milliseconds.
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
    /// The first sample for which it was over; [`ABSENT`] while it is not. Of [`conduct`](crate::device::conduct): when the
    /// device did it last, by the city's clock of silence.
    pub(crate) clear_ms: i64,
    /// Not told for want of allowance: of a pending episode its beginning, of one that fires its end.
    pub(crate) withheld: bool,
}

impl Episode {
    /// Raised at once, live, by the gateway's clock.
    pub(crate) const fn raised(key: RuleKey, since_ms: i64) -> Self {
        Self { key, phase: Phase::Firing, mode: Mode::Live, since_ms, clear_ms: ABSENT, withheld: false }
    }
}

/// A track over samples that came behind newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Late {
    episodes: Vec<Episode>,
    /// The newest sample on it.
    last_ms: i64,
    /// When it moved last, by the city's clock of silence, in milliseconds.
    listened_ms: u64,
}

/// The alerts of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    pub(crate) episodes: Vec<Episode>,
    reached: Reached,
    allowance: Allowance,
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
    /// The city's clock of silence, in milliseconds.
    pub(crate) listened_ms: u64,
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
        self.reached.set_back(first_ms);
    }

    /// Judges an accepted set. Samples that are neither fresh nor newer than any before are late. Answers how many breaches
    /// joined the one before, since its end could not be told.
    pub(crate) fn judge(
        &mut self,
        context: &Context<'_>,
        set: &SampleSet,
        accepted: &Accepted,
        out: &mut Vec<Change>,
    ) -> u64 {
        if context.rules.watches.is_empty() {
            return 0;
        }
        let times = &accepted.times_ms[set.rows.clone()];
        let before = self.reached;
        self.reached.note(context, times);
        let late =
            times.partition_point(|&time_ms| time_ms <= before.newest_ms && time_ms < context.live_from_ms);
        let mut teller = Teller { context, allowance: &mut self.allowance, out, from: 0, joined: 0 };
        if late > 0 {
            judge_late(&mut self.late, &mut teller, set, accepted, late);
        }
        if let Some(&first_ms) = times.get(late) {
            let track = Track { before_ms: before.before(first_ms), reached: Some(before) };
            run_all(&mut self.episodes, &mut teller, track, (set, late..times.len()), accepted);
        }
        teller.joined
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
        let episode = Episode::raised(silence.key, since_ms);
        let seconds = i64::try_from(for_ms / 1000).unwrap_or(i64::MAX);
        out.push(context.change(silence.rule, &episode, Phase::Firing, context.arrival_ms, seconds, false));
        self.episodes.push(episode);
    }

    /// Time passed: a late track that nothing moves any more is over.
    pub(crate) fn tick(&mut self, context: &Context<'_>, out: &mut Vec<Change>) {
        if let Some(mut late) = self.late.take_if(|late| late.over_ms() <= context.listened_ms) {
            let from = out.len();
            let mut teller = Teller { context, allowance: &mut self.allowance, out, from, joined: 0 };
            end_all(&mut late, &mut teller, true);
        }
    }

    /// When [`Self::tick`] ends a late track that nothing moves, by the city's clock of silence.
    pub(crate) fn late_over_ms(&self) -> Option<u64> {
        self.late.as_deref().map(Late::over_ms)
    }
}

impl Late {
    const fn over_ms(&self) -> u64 {
        self.listened_ms.saturating_add(LATE_IDLE_MS)
    }
}

#[cold]
fn judge_late(
    late: &mut Option<Box<Late>>,
    teller: &mut Teller<'_>,
    set: &SampleSet,
    accepted: &Accepted,
    end: usize,
) {
    let listened_ms = teller.context.listened_ms;
    let times = &accepted.times_ms[set.rows.clone()][..end];
    let late =
        late.get_or_insert_with(|| Box::new(Late { episodes: Vec::new(), last_ms: i64::MIN, listened_ms }));
    if times[0] <= late.last_ms {
        end_all(late, teller, false);
    }
    let track = Track { before_ms: late.last_ms, reached: None };
    run_all(&mut late.episodes, teller, track, (set, 0..end), accepted);
    late.last_ms = times[end - 1];
    late.listened_ms = listened_ms;
}

/// Ends what is open on a late track; unless it must end, only where that can be told.
fn end_all(late: &mut Late, teller: &mut Teller<'_>, must: bool) {
    let last_ms = core::mem::replace(&mut late.last_ms, i64::MIN);
    late.episodes.retain_mut(|episode| {
        let Some(watch) = teller.context.rules.watches.iter().find(|watch| watch.key == episode.key) else {
            return false;
        };
        let now = Now { before_ms: i64::MIN, time_ms: last_ms, value: ABSENT, late: true, overtaken: false };
        if episode.phase == Phase::Pending {
            teller.go_away(watch, episode, now);
            return false;
        }
        let stays = !must && !teller.may(episode.mode);
        if stays {
            episode.withheld = true;
        } else {
            teller.tell(watch, episode, Phase::Resolved, now);
        }
        stays
    });
}

/// Which samples a track had before.
#[derive(Clone, Copy)]
struct Track {
    before_ms: i64,
    /// Of the main track: what is as new was overtaken.
    reached: Option<Reached>,
}

/// Moves the episodes of all rules along rows of a set.
fn run_all(
    episodes: &mut Vec<Episode>,
    teller: &mut Teller<'_>,
    track: Track,
    (set, rows): (&SampleSet, Range<usize>),
    accepted: &Accepted,
) {
    let rules = teller.context.rules;
    let times = &accepted.times_ms[set.rows.clone()][rows.clone()];
    for (column, &number) in accepted.channels[set.channels.clone()].iter().enumerate() {
        let Some(at) = rules.position(number) else { continue };
        let values = &accepted.column(set, column)[rows.clone()];
        for watch in rules.watches_of(at) {
            run(episodes, teller, watch, track, times.iter().copied().zip(values.iter().copied()));
        }
    }
}

/// Moves one rule's episode along ascending samples of one channel, each with its time.
fn run(
    episodes: &mut Vec<Episode>,
    teller: &mut Teller<'_>,
    watch: &Watch,
    track: Track,
    samples: impl Iterator<Item = (i64, i64)> + Clone,
) {
    let open = episodes.iter().position(|episode| episode.key == watch.key);
    // Nearly always nothing is open and no value meets the condition, and this is quick to say.
    if open.is_none() && !samples.clone().any(|(_, value)| watch.test.is_set(value)) {
        return;
    }
    let mut episode = open.map(|at| episodes.swap_remove(at));
    let mut before_ms = track.before_ms;
    for (time_ms, value) in samples {
        if value != ABSENT {
            let overtaken = track.reached.is_some_and(|before| before.overtakes(teller.context, time_ms));
            let now = Now { before_ms, time_ms, value, late: track.reached.is_none(), overtaken };
            episode = step(episode, watch, now, teller);
        }
        before_ms = time_ms;
    }
    if let Some(episode) = episode {
        episodes.push(episode);
    }
}
