//! A class with its versions, every rule resolved to integers.

use crate::rule::{RuleKey, Silence, Watch};
use alloc::vec::Vec;
use hunhe_proto::{
    class::{Channel, Class, Kind},
    reading::TimeAxis,
};

/// How long a fresh report may be on its way, in milliseconds.
const ON_THE_WAY_MS: i64 = 300_000;

/// The windows a class may have: a minute, a quarter, an hour, a day.
const WINDOWS_MS: [i64; 4] = [60_000, 900_000, 3_600_000, 86_400_000];

/// A class with its rules as integers: its newest version, into whose integers those of older versions are converted as
/// soon as a report was judged. So windows, alerts, and all that is behind them know one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRules {
    /// The newest version, as written.
    pub class: Class,
    /// Older versions that devices may still follow, newest first.
    pub older: Vec<Class>,
    /// All versions, newest first.
    pub(super) versions: Vec<VersionRules>,
    /// How its samples lie in time.
    pub axis: TimeAxis,
    /// Time between samples, in milliseconds.
    pub interval_ms: i64,
    /// The least time between two samples, an alarm's included, in milliseconds.
    pub densest_ms: i64,
    /// In the order of the class's file.
    pub channels: Vec<ChannelRules>,
    by_number: ByNumber,
    /// Window lengths in milliseconds that hold at least four intervals, ascending.
    pub windows_ms: Vec<i64>,
    /// Positions in `channels` that get rollups.
    pub rolled_up: Vec<u8>,
    /// A sample no older than this when it arrives speaks of now, in milliseconds: a report's span and dispersal in the
    /// version where that is longest, and five minutes (D) for the way.
    pub live_within_ms: i64,
    /// Rules on channels, in the order of `channels`.
    pub(crate) watches: Vec<Watch>,
    pub(crate) silence: Option<Silence>,
}

/// A channel with its rules as wire integers.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRules {
    /// Wire number.
    pub number: u16,
    /// What the number means.
    pub kind: Kind,
    /// The least possible wire integer.
    pub low: i64,
    /// The greatest possible wire integer.
    pub high: i64,
    /// Steps of the instrument; 1: any.
    pub step: i64,
    /// For a register: the wire integer at which it starts again.
    pub rollover: Option<i64>,
    /// The greatest plausible change per hour, in wire integers.
    pub change_per_h_max: Option<i64>,
    /// For a gauge: wire integers beyond these are doubted; the range itself where nothing says otherwise.
    pub usual: (i64, i64),
    /// Two values of a channel that only some samples carry are no closer than this, in milliseconds.
    pub every_ms: i64,
}

/// One version of a class: how reports that follow it are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRules {
    /// Its number.
    pub version: u32,
    /// In the order of its file.
    channels: Vec<VersionChannel>,
    by_number: ByNumber,
    /// Positions in `channels` that get rollups.
    pub(crate) rolled_up: Vec<u8>,
}

/// A channel of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionChannel {
    /// Its rules in the version's own wire integers.
    pub wire: ChannelRules,
    /// The same rules in the newest version's.
    pub converted: ChannelRules,
    /// What makes its wire integers the newest version's: a power of ten.
    pub factor: i64,
    /// Its position among the newest version's channels.
    pub at: usize,
}

/// Positions by wire number; `u8::MAX` where there is none.
#[derive(Debug, Clone, PartialEq)]
struct ByNumber([u8; 256]);

impl ClassRules {
    /// Of all versions of a class, in any order; `None` of none.
    pub(super) fn new(mut versions: Vec<Class>) -> Option<Self> {
        versions.sort_by_key(|class| core::cmp::Reverse(class.version));
        let of_version = |class: &Class| VersionRules::new(class, versions.first().unwrap_or(class));
        let rules: Vec<VersionRules> = versions.iter().map(of_version).collect();
        let live_within_ms = versions.iter().map(live_within_ms).max()?;
        let densest_ms = versions.iter().map(densest_ms).min()?;
        let mut versions = versions.into_iter();
        let class = versions.next()?;
        let interval_ms = interval_ms(&class);
        Some(Self {
            axis: class.axis(),
            interval_ms,
            densest_ms,
            channels: class.channels.iter().map(|channel| ChannelRules::new(channel, interval_ms)).collect(),
            by_number: ByNumber::new(&class),
            windows_ms: WINDOWS_MS.into_iter().filter(|&window| window >= 4 * interval_ms).collect(),
            rolled_up: rolled_up(&class),
            live_within_ms,
            watches: Vec::new(),
            silence: None,
            older: versions.collect(),
            versions: rules,
            class,
        })
    }

    /// The rules of a version, where it is installed.
    #[must_use]
    pub fn version(&self, version: u32) -> Option<&VersionRules> {
        self.versions.iter().find(|rules| rules.version == version)
    }

    /// The newest version's rules.
    #[must_use]
    pub fn newest(&self) -> &VersionRules {
        // `new` makes none without a version.
        &self.versions[0]
    }

    /// Is there such a rule for the class's devices?
    pub(crate) fn has_rule(&self, key: RuleKey) -> bool {
        self.watches.iter().any(|watch| watch.key == key)
            || self.silence.is_some_and(|silence| silence.key == key)
    }

    /// The rules on the channel at that position in `channels`.
    pub(crate) fn watches_of(&self, at: usize) -> &[Watch] {
        let from = self.watches.partition_point(|watch| watch.at < at);
        let length = self.watches[from..].iter().take_while(|watch| watch.at == at).count();
        &self.watches[from..from + length]
    }

    /// The position in `channels` of a wire number.
    #[must_use]
    pub fn position(&self, number: u16) -> Option<usize> {
        self.by_number.position(number)
    }
}

/// The bounds only keep arithmetic safe: no class comes near.
fn interval_ms(class: &Class) -> i64 {
    class.interval_ms().clamp(1, 1 << 53)
}

/// The least time between two samples, an alarm's included.
fn densest_ms(class: &Class) -> i64 {
    let on_alarm = class.report.on_alarm.as_ref().map_or(0, |alarm| i64::from(alarm.interval));
    let on_alarm_ms = on_alarm.saturating_mul(class.time_unit_ms.into());
    if on_alarm_ms > 0 { on_alarm_ms.min(interval_ms(class)) } else { interval_ms(class) }
}

fn live_within_ms(class: &Class) -> i64 {
    interval_ms(class)
        .saturating_mul(class.report.samples.into())
        .saturating_add(i64::from(class.report.dispersal_s) * 1000)
        .saturating_add(ON_THE_WAY_MS)
}

fn rolled_up(class: &Class) -> Vec<u8> {
    (0_u8..).zip(&class.channels).filter(|(_, c)| c.has_rollups()).map(|(at, _)| at).collect()
}

impl ByNumber {
    fn new(class: &Class) -> Self {
        let mut by_number = [u8::MAX; 256];
        for (position, channel) in (0_u8..).zip(&class.channels) {
            if let Some(slot) = by_number.get_mut(usize::from(channel.number)) {
                *slot = position;
            }
        }
        Self(by_number)
    }

    fn position(&self, number: u16) -> Option<usize> {
        let at = *self.0.get(usize::from(number))?;
        (at != u8::MAX).then_some(usize::from(at))
    }
}

impl VersionRules {
    fn new(class: &Class, newest: &Class) -> Self {
        let interval_ms = interval_ms(class);
        let channel = |channel: &Channel| {
            let found = newest.channels.iter().position(|other| other.name == channel.name);
            // Classes that stand side by side have it, with at least as many decimals.
            let at = found.unwrap_or(usize::MAX);
            let decimals = newest.channels.get(at).map_or(channel.decimals, |newest| newest.decimals);
            let factor = 10_i64.pow(u32::from(decimals.saturating_sub(channel.decimals).min(9)));
            let wire = ChannelRules::new(channel, interval_ms);
            VersionChannel { converted: wire.converted(factor), wire, factor, at }
        };
        Self {
            version: class.version,
            channels: class.channels.iter().map(channel).collect(),
            by_number: ByNumber::new(class),
            rolled_up: rolled_up(class),
        }
    }

    /// Its channels, in the order of its file.
    #[must_use]
    pub fn channels(&self) -> &[VersionChannel] {
        &self.channels
    }

    /// The channel of a wire number, which is the same in all versions.
    #[must_use]
    pub fn channel(&self, number: u16) -> Option<&VersionChannel> {
        self.channels.get(self.by_number.position(number)?)
    }
}

impl ChannelRules {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a class's bounds times scale were checked to stay below 2^53"
    )]
    fn new(channel: &Channel, interval_ms: i64) -> Self {
        let scale = channel.scale();
        let wire = |value: f64| libm::round(value * scale) as i64;
        let low = |value: f64| libm::ceil(value * scale - 1e-6) as i64;
        let high = |value: f64| libm::floor(value * scale + 1e-6) as i64;
        Self {
            number: channel.number,
            kind: channel.kind,
            low: low(channel.min),
            high: high(channel.max),
            step: i64::from(channel.resolution.max(1)),
            rollover: channel.rollover.map(wire),
            change_per_h_max: channel.change_per_h_max.map(wire),
            usual: (
                low(channel.usual_min.unwrap_or(channel.min)),
                high(channel.usual_max.unwrap_or(channel.max)),
            ),
            every_ms: if channel.every > 1 { interval_ms.saturating_mul(channel.every.into()) } else { 0 },
        }
    }

    /// The same rules for integers that are `factor` times as large.
    fn converted(&self, factor: i64) -> Self {
        let by = |wire: i64| wire.saturating_mul(factor);
        Self {
            low: by(self.low),
            high: by(self.high),
            step: by(self.step),
            rollover: self.rollover.map(by),
            change_per_h_max: self.change_per_h_max.map(by),
            usual: (by(self.usual.0), by(self.usual.1)),
            ..self.clone()
        }
    }
}
