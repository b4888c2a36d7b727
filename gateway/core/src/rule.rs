//! Alert rules as data: what is wrong, how badly, and when it is over.
//!
//! A rule is a table in a file of `seeds/rules`; nothing about a rule is compiled. This module gives the table its
//! types, says what is wrong with one, and turns it into wire integers per class, once.
//!
//! Deliberately absent: a language of expressions. A condition that needs two devices or a history is code with a name
//! and a proof, not text in a file.

use crate::{
    device::dedup::{FOLDED_BOOTS_MAX, OUTBOXES_MAX},
    registry::ClassRules,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use hunhe_proto::{
    class::{Channel, Class, Kind, Text},
    reading::STATUS_CHANNEL,
};
use serde::{Deserialize, Serialize};

/// How badly something is wrong, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Somebody must act today.
    Major,
    /// Somebody must act now.
    Critical,
}

impl Severity {
    /// All of them, ascending.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Major, Self::Critical];

    /// As in rule files, topics and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Lower-case letters, digits, underscores; unique. An alert that stands is known by it across restarts.
    pub id: String,
    /// Raised with every change.
    pub version: u32,
    /// The class whose devices it watches; absent where the condition is about an agent, or about how any device reports.
    #[serde(default)]
    pub class: Option<String>,
    /// How badly something is wrong.
    pub severity: Severity,
    /// For people.
    pub title: Text,
    /// Where the threshold comes from, with its revision.
    pub source: String,
    /// The condition.
    pub when: When,
    /// Seconds of event time that the condition must hold before the alert fires.
    #[serde(default)]
    pub hold_s: u32,
    /// Seconds of event time that the condition must be over before the alert resolves.
    #[serde(default)]
    pub clear_hold_s: u32,
}

/// A condition. Levels are in the channel's unit; set and clear levels differ, so that noise does not ring twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum When {
    /// The value is high.
    AtLeast {
        /// Channel name.
        channel: String,
        /// Set from here upwards.
        at_least: f64,
        /// Over below this.
        clear_below: f64,
    },
    /// The value is low.
    AtMost {
        /// Channel name.
        channel: String,
        /// Set from here downwards.
        at_most: f64,
        /// Over above this.
        clear_above: f64,
    },
    /// Any of these bits of the status word.
    Bits {
        /// The bits.
        bits: u32,
    },
    /// Nothing arrives from the device.
    Silent {
        /// For so many seconds by the gateway's clock.
        silent_s: u32,
    },
    /// Most of the devices behind one agent are silent, each by its class's silence rule. They are then one alert, and
    /// their own silence is not announced; it is over when a quarter of the share is left.
    SilentShare {
        /// Of the devices behind the agent that have reported and have a silence rule; above 0, at most 1.
        silent_share: f64,
        /// Agents with fewer such devices are not judged.
        devices_min: u32,
    },
    /// A device reports from outboxes that nobody had heard of: it starts anew again and again, or somebody poses as it.
    NewOutboxes {
        /// So many within an hour; at most as many as are remembered.
        new_outboxes_per_h: u32,
    },
    /// An outbox of a device gave way to another while the edge still held samples of it.
    FoldedMissing {
        /// So many samples at least.
        folded_missing: u64,
    },
    /// Messages of a device are refused whole.
    Refused {
        /// For this reason, one of [`WATCHED_REFUSALS`].
        refused: String,
    },
}

/// Refusals of whole messages that a rule can watch: the device is known and its message a report.
pub const WATCHED_REFUSALS: [&str; 5] =
    ["dedup_window", "implausible_seq", "unknown_class_version", "class_version_unknown", "wrong_class"];

impl When {
    /// Is it about how any device reports, and not about what it measures?
    #[must_use]
    pub const fn is_conduct(&self) -> bool {
        matches!(self, Self::NewOutboxes { .. } | Self::FoldedMissing { .. } | Self::Refused { .. })
    }
}

/// A rule of this registry, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIx(pub u32);

impl RuleIx {
    /// As an array index.
    #[must_use]
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// What a rule is known by in a checkpoint: positions change with the files, this does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleKey(pub u32);

impl Rule {
    /// See [`RuleKey`]. Two rules whose ids share a key are a fault that [`faults_of`] names.
    #[must_use]
    pub fn key(&self) -> RuleKey {
        RuleKey(crc32c::crc32c(self.id.as_bytes()))
    }

    /// All that is wrong with this rule, each as (key, what is wrong and what would be right).
    #[must_use]
    pub fn faults_found(&self, classes: &[Class]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut fault = |key: &str, what: &str| found.push((key.to_string(), what.to_string()));
        let name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if !(1..=40).contains(&self.id.len()) || !self.id.bytes().all(name) {
            fault("id", "must be 1 to 40 lower-case letters, digits and underscores");
        }
        if self.source.is_empty() {
            fault("source", "must name where the threshold comes from, if only our own default");
        }
        let class = self.class.as_ref().map(|name| classes.iter().find(|class| class.name == *name));
        match (&self.when, class) {
            (When::SilentShare { .. }, Some(_)) => fault("class", "must be left out: it is about an agent"),
            (When::SilentShare { .. }, None) => {}
            (when, Some(_)) if when.is_conduct() => {
                fault("class", "must be left out: it watches how any device reports");
            }
            (when, None) if when.is_conduct() => self.conduct_faults(&mut fault),
            (_, None) => fault("class", "must name the class that is watched"),
            (_, Some(None)) => fault("class", "must be the name of a class"),
            (when, Some(Some(class))) => when.faults_in(class, &mut fault),
        }
        if let When::SilentShare { silent_share, devices_min } = self.when
            && !(silent_share > 0.0 && silent_share <= 1.0 && devices_min > 0)
        {
            fault("when", "silent_share must be above 0 and at most 1, devices_min at least 1");
        }
        if let When::Silent { silent_s: 0 } = self.when {
            fault("when", "silent_s must be at least 1");
        }
        found
    }

    fn conduct_faults(&self, fault: &mut impl FnMut(&str, &str)) {
        if self.hold_s != 0 {
            fault("hold_s", "must be left out: what is watched is over at once");
        }
        if self.clear_hold_s == 0 {
            fault("clear_hold_s", "must be at least 1: the time without another after which it is over");
        }
        let most = OUTBOXES_MAX + FOLDED_BOOTS_MAX;
        match &self.when {
            When::NewOutboxes { new_outboxes_per_h: n } if !(1..=most).contains(&(*n as usize)) => {
                fault("when.new_outboxes_per_h", "must be 1 to 36");
            }
            When::FoldedMissing { folded_missing: 0 } => {
                fault("when.folded_missing", "must be at least 1");
            }
            When::Refused { refused } if !WATCHED_REFUSALS.contains(&refused.as_str()) => {
                fault("when.refused", &format!("must be one of {}", WATCHED_REFUSALS.join(", ")));
            }
            _ => {}
        }
    }
}

impl When {
    fn faults_in(&self, class: &Class, fault: &mut impl FnMut(&str, &str)) {
        let channel = match self {
            Self::AtLeast { channel, at_least, clear_below } => {
                let lowest = class.channel(channel).map_or(f64::MIN, |channel| channel.min);
                if !(*clear_below <= *at_least && *clear_below > lowest) {
                    fault(
                        "when.clear_below",
                        "must be at most at_least, and above the channel's min: else it never clears",
                    );
                }
                class.channel(channel)
            }
            Self::AtMost { channel, at_most, clear_above } => {
                let highest = class.channel(channel).map_or(f64::MAX, |channel| channel.max);
                if !(*clear_above >= *at_most && *clear_above < highest) {
                    fault(
                        "when.clear_above",
                        "must be at least at_most, and below the channel's max: else it never clears",
                    );
                }
                class.channel(channel)
            }
            Self::Bits { bits } => {
                if *bits == 0 {
                    fault("when.bits", "must name at least one bit");
                }
                if class.channels.iter().all(|channel| channel.number != STATUS_CHANNEL) {
                    fault("when.bits", "needs a class with a status word, channel 0");
                }
                return;
            }
            _ => return,
        };
        match channel {
            None => fault("when.channel", "must be the name of a channel of the class"),
            Some(channel) => self.faults_on(channel, fault),
        }
    }

    fn faults_on(&self, channel: &Channel, fault: &mut impl FnMut(&str, &str)) {
        if !matches!(channel.kind, Kind::Gauge | Kind::Angle | Kind::State) {
            fault("when.channel", "must be a gauge, an angle or a state: a register's level says nothing");
        }
        let reachable = match *self {
            Self::AtLeast { at_least, .. } => at_least <= channel.max,
            Self::AtMost { at_most, .. } => at_most >= channel.min,
            _ => true,
        };
        if !reachable {
            fault("when", "must lie within the channel's range: values beyond it are refused");
        }
    }
}

/// All that is wrong with a set of rules, each as (position of the rule, key, what is wrong and what would be right).
#[must_use]
pub fn faults_of(rules: &[Rule], classes: &[Class]) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        found.extend(rule.faults_found(classes).into_iter().map(|(key, what)| (at, key, what)));
        if let Some(other) = rules[..at].iter().find(|other| other.key() == rule.key()) {
            found.push((at, "id".to_string(), format!("must differ from {}'s", other.id)));
        }
        let silence = |rule: &Rule| matches!(rule.when, When::Silent { .. });
        if silence(rule) && rules[..at].iter().any(|other| silence(other) && other.class == rule.class) {
            found.push((at, "when".to_string(), "a class has one silence rule".to_string()));
        }
        let share = |rule: &Rule| matches!(rule.when, When::SilentShare { .. });
        if share(rule) && rules[..at].iter().any(share) {
            found.push((at, "when".to_string(), "there is one rule of silent_share".to_string()));
        }
    }
    found
}

/// A condition on one channel as wire integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    AtLeast { set: i64, clear_below: i64 },
    AtMost { set: i64, clear_above: i64 },
    Bits(i64),
}

impl Test {
    /// Is the condition met? A value that is not there meets none.
    pub(crate) const fn is_set(self, value: i64) -> bool {
        match self {
            Self::AtLeast { set, .. } => value >= set,
            Self::AtMost { set, .. } => value <= set && value != hunhe_proto::reading::ABSENT,
            Self::Bits(bits) => value & bits != 0 && value != hunhe_proto::reading::ABSENT,
        }
    }

    /// Is it over? Between set and clear it is neither. The value is there.
    pub(crate) const fn is_clear(self, value: i64) -> bool {
        match self {
            Self::AtLeast { clear_below, .. } => value < clear_below,
            Self::AtMost { clear_above, .. } => value > clear_above,
            Self::Bits(bits) => value & bits == 0,
        }
    }
}

/// A rule on one channel of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) rule: RuleIx,
    pub(crate) key: RuleKey,
    /// The channel's position in the class.
    pub(crate) at: usize,
    pub(crate) test: Test,
    pub(crate) hold_ms: i64,
    pub(crate) clear_hold_ms: i64,
}

/// A class's silence rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) rule: RuleIx,
    pub(crate) key: RuleKey,
    pub(crate) after_ms: u64,
}

/// A rule on the share of an agent's devices that are silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    pub(crate) rule: RuleIx,
    pub(crate) key: RuleKey,
    pub(crate) share: f64,
    pub(crate) devices_min: u32,
}

impl Watch {
    /// The rule on that class's channel; `None` where it watches something else, or no channel of the class.
    pub(crate) fn of(rule: &Rule, ix: RuleIx, rules: &ClassRules) -> Option<Self> {
        if rule.class.as_deref() != Some(rules.class.name.as_str()) {
            return None;
        }
        let at_of = |name: &str| rules.class.channels.iter().position(|channel| channel.name == name);
        let wire = |at: usize, value: f64| to_wire(value * rules.class.channels[at].scale());
        let (at, test) = match &rule.when {
            When::AtLeast { channel, at_least, clear_below } => {
                let at = at_of(channel)?;
                (at, Test::AtLeast { set: wire(at, *at_least), clear_below: wire(at, *clear_below) })
            }
            When::AtMost { channel, at_most, clear_above } => {
                let at = at_of(channel)?;
                (at, Test::AtMost { set: wire(at, *at_most), clear_above: wire(at, *clear_above) })
            }
            When::Bits { bits } => (rules.position(STATUS_CHANNEL)?, Test::Bits(i64::from(*bits))),
            _ => return None,
        };
        let (hold_ms, clear_hold_ms) = (i64::from(rule.hold_s) * 1000, i64::from(rule.clear_hold_s) * 1000);
        Some(Self { rule: ix, key: rule.key(), at, test, hold_ms, clear_hold_ms })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "levels lie within a channel's range, below 2^53")]
fn to_wire(value: f64) -> i64 {
    libm::round(value) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_set_clear_or_neither() {
        let high = Test::AtLeast { set: 25, clear_below: 20 };
        assert_eq!([19, 20, 24, 25].map(|v| high.is_set(v)), [false, false, false, true]);
        assert_eq!([19, 20, 24, 25].map(|v| high.is_clear(v)), [true, false, false, false]);
        let low = Test::AtMost { set: 10, clear_above: 12 };
        assert_eq!([10, 11, 12, 13].map(|v| low.is_set(v)), [true, false, false, false]);
        assert_eq!([10, 11, 12, 13].map(|v| low.is_clear(v)), [false, false, false, true]);
        let bits = Test::Bits(0b1010);
        assert_eq!([0b0101, 0b0010].map(|v| bits.is_set(v)), [false, true]);
        for test in [high, low, bits] {
            assert!(!test.is_set(hunhe_proto::reading::ABSENT));
        }
    }
}
