//! Device classes: what a kind of device measures, as data.
//!
//! A class is a file in `seeds/classes`; nothing about a class is compiled. This module gives the file its types and
//! says what is wrong with one; reading files is the shells' business.

mod channel;

use crate::reading::TimeAxis;
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use channel::is_name;
use serde::{Deserialize, Serialize};

/// The greatest channel number, so that a table by number stays small.
pub const CHANNEL_MAX: u16 = 255;

/// A text in the two languages of its readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

/// A kind of device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The measurement's name in the database: lower-case letters, digits, underscores.
    pub name: String,
    /// From 1, and raised whenever channels change; a device reports the version it follows, and the gateway reads its
    /// integers by that version. See [`Class::faults_beside`] for what a newer version may change.
    pub version: u32,
    /// For people.
    pub title: Text,
    /// One tick of the class's clock in milliseconds: 3,600,000 for a meter that freezes hourly.
    pub time_unit_ms: u32,
    /// Time between samples, in ticks.
    pub interval: u32,
    /// When and how it reports.
    pub report: Reporting,
    /// Is its use a household's? Then its device id is a pseudonym wherever it is shown.
    #[serde(default)]
    pub household: bool,
    /// What it measures; channel 1 is the principal one.
    pub channels: Vec<Channel>,
    /// The faults a simulated device of this class can have, by name.
    #[serde(default)]
    pub faults: BTreeMap<String, Fault>,
    /// When a simulated device of this class works; absent: always.
    #[serde(default)]
    pub work: Option<Work>,
}

/// When a device reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reporting {
    /// Samples in an ordinary report.
    pub samples: u32,
    /// Reports are spread over this many seconds by a hash of the device id; 0: at once.
    #[serde(default)]
    pub dispersal_s: u32,
    /// A radio that sleeps between reports, and so never waits for an answer.
    #[serde(default)]
    pub sleeping: bool,
    /// Silence is news after this many seconds.
    pub silent_after_s: u32,
    /// The most bytes of one report; 0: the protocol's own limit.
    #[serde(default)]
    pub bytes_max: u32,
    /// A sample older than this many seconds is given up unsent; 0: kept until the outbox is full.
    #[serde(default)]
    pub keep_s: u32,
    /// How it reports while an alarm stands; absent: as ever.
    #[serde(default)]
    pub on_alarm: Option<AlarmReporting>,
}

/// How a device reports while an alarm stands: at once, on the alarm topic, until the watermark has passed it as any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmReporting {
    /// Time between samples, in ticks; 0: the ordinary interval.
    #[serde(default)]
    pub interval: u32,
    /// The alarm must have been clear for so many seconds before the ordinary interval returns.
    #[serde(default)]
    pub clear_s: u32,
}

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A measured level at an instant.
    Gauge,
    /// A counter that only rises, and rolls over at its width.
    Register,
    /// Degrees on a circle.
    Angle,
    /// One of few numbered states.
    State,
    /// A word of flags.
    Bits,
    /// Degrees of latitude or longitude, WGS-84.
    Position,
    /// A number that names something, as a meter's serial number.
    Identity,
}

/// One measured quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its number on the wire, unique in the class; 0 is the status word.
    pub number: u16,
    /// The field's name in the database.
    pub name: String,
    /// For people.
    pub title: Text,
    /// UCUM code.
    pub unit: String,
    /// What the number means.
    pub kind: Kind,
    /// The wire integer is the value times 10 to this power.
    #[serde(default)]
    pub decimals: u8,
    /// Steps of the instrument in wire integers: a value between two steps was never measured. 0 or 1: any.
    #[serde(default)]
    pub resolution: u32,
    /// The least physically possible value; below it a value is refused.
    pub min: f64,
    /// The greatest physically possible value; above it a value is refused.
    pub max: f64,
    /// Below this a gauge's value is possible and doubted: it is stored, and its sample is suspect (V05).
    #[serde(default)]
    pub usual_min: Option<f64>,
    /// Above this a gauge's value is possible and doubted.
    #[serde(default)]
    pub usual_max: Option<f64>,
    /// The greatest plausible change per hour of a gauge or register, in `unit`; a faster one is doubted (V07).
    #[serde(default)]
    pub change_per_h_max: Option<f64>,
    /// A change by so much since the last report, in `unit`, is reported at once.
    #[serde(default)]
    pub report_on_change: Option<f64>,
    /// Only samples whose number of intervals since 1970 is divisible by this carry the channel. 0 or 1: all.
    #[serde(default)]
    pub every: u32,
    /// For a register: the value at which it starts again from zero.
    #[serde(default)]
    pub rollover: Option<f64>,
    /// Which gauges deserve rollups: all but states, words and names unless said otherwise.
    #[serde(default)]
    pub rollup: Option<bool>,
    /// Where the range comes from.
    #[serde(default)]
    pub source: String,
    /// How a simulated device produces it.
    #[serde(default)]
    pub simulate: Shape,
}

/// A simulated channel's course.
///
/// value = base + spread·(a draw of the device's own, -1 to 1) + daily·(hour of day, peaks at `peak_h`) +
/// seasonal·(day of year, peaks in mid January) + wave·(peaks every `wave_h`) + noise, all in the channel's unit, clamped
/// to its range. For a register the value is the use per hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// The mean.
    pub base: f64,
    /// Half the swing of a day.
    pub daily: f64,
    /// The hour of the day's peak, local time.
    pub peak_h: f64,
    /// Half the swing of a year; negative where summer is the peak.
    pub seasonal: f64,
    /// Standard deviation of the noise.
    pub noise: f64,
    /// The share of intervals with any value but zero; 0 means always.
    pub active: f64,
    /// Half the range over which the means of devices differ.
    pub spread: f64,
    /// Half the swing of a wave with a period of its own, which each device begins somewhere else.
    pub wave: f64,
    /// That wave's period in hours.
    pub wave_h: f64,
    /// The value while the device does not work (see [`Work`]); absent: the same course.
    pub rest: Option<f64>,
    /// The channel follows a machine over its field, around where the device stands, or else around the mean above.
    pub track: Option<Track>,
}

/// What a channel tells of a machine that goes up and down the lanes of its field while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Track {
    /// Degrees of latitude.
    North,
    /// Degrees of longitude.
    East,
    /// Degrees clockwise from north.
    Heading,
}

/// When simulated devices of a class work: by day, in season, and not each of them every day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The share of the devices that works on a day in season.
    pub share: f64,
    /// Work begins at this hour, local time.
    pub from_h: f64,
    /// Work ends at this hour, local time.
    pub to_h: f64,
    /// First and last day of each season as month × 100 + day; none: all year.
    #[serde(default)]
    pub seasons: Vec<(u16, u16)>,
    /// A resting device is sampled at every so many intervals.
    pub rest_every: u32,
}

/// What a simulated fault does to one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "effect", rename_all = "snake_case")]
pub enum Fault {
    /// Repeats its last value.
    Stuck {
        /// Channel name.
        channel: String,
    },
    /// Shows one value whatever happens.
    Constant {
        /// Channel name.
        channel: String,
        /// In the channel's unit.
        value: f64,
    },
    /// Moves away by so much an hour.
    Drift {
        /// Channel name.
        channel: String,
        /// In the channel's unit.
        per_h: f64,
    },
    /// Leaps by so much at once, as a leak does.
    Step {
        /// Channel name.
        channel: String,
        /// In the channel's unit.
        by: f64,
    },
    /// The register falls to zero and another serial number appears.
    Swap {
        /// The register's name.
        channel: String,
    },
    /// Stands just below its rollover.
    Rollover {
        /// The register's name.
        channel: String,
    },
    /// Runs backwards.
    Reverse {
        /// The register's name.
        channel: String,
    },
    /// Sets bits of the status word.
    Status {
        /// The bits, as `domain` numbers them.
        bits: u32,
    },
    /// The device's clock is off.
    Clock {
        /// Seconds fast; negative: slow.
        offset_s: i64,
    },
    /// Sends nothing.
    Silent,
    /// Sends each report twice.
    Duplicate,
    /// Sends reports in another order than it took them.
    Disorder,
}

impl Class {
    /// How its samples lie in time.
    #[must_use]
    pub fn axis(&self) -> TimeAxis {
        TimeAxis { unit_ms: self.time_unit_ms, interval: self.interval }
    }

    /// Milliseconds between samples.
    #[must_use]
    pub fn interval_ms(&self) -> i64 {
        i64::from(self.time_unit_ms) * i64::from(self.interval)
    }

    /// The channel of that name.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// All that is wrong with this class, each as (key, what is wrong and what would be right).
    #[must_use]
    pub fn faults_found(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut fault = |key: String, what: &str| found.push((key, what.to_string()));
        if !is_name(&self.name) {
            fault(
                "name".into(),
                "must be lower-case letters, digits and underscores, starting with a letter",
            );
        }
        if self.version == 0 {
            fault("version".into(), "must be at least 1");
        }
        if self.time_unit_ms == 0 || self.interval == 0 {
            fault("interval".into(), "time_unit_ms and interval must be at least 1");
        }
        if !(1..=1024).contains(&self.report.samples) {
            fault("report.samples".into(), "must be 1 to 1024");
        }
        if self.report.silent_after_s == 0 {
            fault("report.silent_after_s".into(), "must be at least 1");
        }
        if !(1..=32).contains(&self.channels.len()) {
            fault("channels".into(), "a class has 1 to 32 channels");
        }
        for (index, channel) in self.channels.iter().enumerate() {
            let mut at = |key: &str, what: &str| fault(format!("channels.{}.{key}", channel.name), what);
            if self.channels[..index].iter().any(|c| c.name == channel.name || c.number == channel.number) {
                at("number", "name and number must be unique in the class");
            }
            channel.faults_found(&mut at);
        }
        for channel in &self.channels {
            let shape = &channel.simulate;
            if shape.wave != 0.0 && shape.wave_h <= 0.0 {
                fault(format!("channels.{}.simulate", channel.name), "a wave needs wave_h above 0");
            }
            if (shape.rest.is_some() || shape.track.is_some()) && self.work.is_none() {
                fault(format!("channels.{}.simulate", channel.name), "rest and track need a table [work]");
            }
        }
        if let Some(work) = &self.work {
            if !(0.0 <= work.from_h && work.from_h < work.to_h && work.to_h <= 24.0) {
                fault("work.from_h".into(), "must be 0 to 24, and below to_h");
            }
            if !(0.0..=1.0).contains(&work.share) || work.rest_every == 0 {
                fault("work.share".into(), "must be 0 to 1, and rest_every at least 1");
            }
            if work.seasons.iter().any(|(first, last)| first > last) {
                fault(
                    "work.seasons".into(),
                    "the first day must not come after the last; split a season at new year",
                );
            }
        }
        for (name, effect) in &self.faults {
            if effect.channel().is_some_and(|channel| self.channel(channel).is_none()) {
                fault(format!("faults.{name}.channel"), "must be the name of a channel of this class");
            }
        }
        found
    }
}

impl Class {
    /// What keeps this version from standing beside an `older` one of the same name, each as (key, what is wrong and what
    /// would be right).
    ///
    /// Behind the gateway's judgement there is one scale: an older version's integers become the newest's, which must be
    /// exact, and no channel may be lost or change its meaning on the way. So a newer version keeps the clock and all
    /// channels; it may add channels and decimals, and change ranges.
    #[must_use]
    pub fn faults_beside(&self, older: &Self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut fault = |key: String, what: &str| {
            found.push((key, format!("{what}, as in version {}, or the class another name", older.version)));
        };
        if self.version == older.version {
            fault("version".into(), "must differ: give each version its own number");
        }
        if self.axis() != older.axis() {
            fault("interval".into(), "must keep time_unit_ms and interval");
        }
        if self.household != older.household {
            fault("household".into(), "must stay");
        }
        for before in &older.channels {
            let at = |key: &str| format!("channels.{}.{key}", before.name);
            let Some(channel) = self.channel(&before.name) else {
                fault(at("name"), "must stay: a newer version keeps every channel");
                continue;
            };
            if channel.number != before.number {
                fault(at("number"), "must stay the channel's number");
            }
            if channel.unit != before.unit || channel.kind != before.kind {
                fault(
                    at("unit"),
                    "must keep unit and kind: give a channel that means something else a new name",
                );
            }
            let counts = matches!(channel.kind, Kind::State | Kind::Bits | Kind::Identity);
            if channel.decimals < before.decimals || (counts && channel.decimals != before.decimals) {
                fault(
                    at("decimals"),
                    "must be at least what they were, and the same where the integer is a code",
                );
            }
            let bound = 9_007_199_254_740_992.0 / channel.scale();
            if !(before.min.abs() < bound && before.max.abs() < bound) {
                fault(at("decimals"), "must leave the older version's range below 2^53");
            }
        }
        found
    }
}

impl Fault {
    /// The name of the channel that it changes, if it changes one.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::Stuck { channel }
            | Self::Constant { channel, .. }
            | Self::Drift { channel, .. }
            | Self::Step { channel, .. }
            | Self::Swap { channel }
            | Self::Rollover { channel }
            | Self::Reverse { channel } => Some(channel),
            Self::Status { .. } | Self::Clock { .. } | Self::Silent | Self::Duplicate | Self::Disorder => {
                None
            }
        }
    }
}

impl Channel {
    /// 10 to the power of `decimals`: wire integer = value × scale.
    #[must_use]
    pub fn scale(&self) -> f64 {
        const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
        POWERS[usize::from(self.decimals.min(9))]
    }

    /// The value of a wire integer, in `unit`: correctly rounded, since both operands are exact.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "wire integers are below 2^53")]
    pub fn value(&self, wire: i64) -> f64 {
        wire as f64 / self.scale()
    }

    /// Does this channel get rollups?
    #[must_use]
    pub fn has_rollups(&self) -> bool {
        self.rollup.unwrap_or(matches!(self.kind, Kind::Gauge | Kind::Register))
    }
}
