//! Everything that can happen to a lane, and everything it can decide.
//!
//! A message is one event and its decisions one batch, so that purity costs nothing per reading. [`Decisions`] is
//! flat and reused; the shell writes it to the decided log and clears it before the next event.

use crate::{device::alert::Change, registry::DeviceIx};
use alloc::vec::Vec;
use core::ops::Range;
use hunhe_proto::{decode::DecodeError, id::DeviceId, reading::Quality, topic::TopicError};

pub use hunhe_proto::reading::ABSENT;

/// How a message came in. All of it is journaled, so that a replay decides alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The journal record that brought it.
    pub lsn: u64,
    /// The gateway's clock at arrival, milliseconds since 1970.
    pub at_ms: i64,
    /// Delivered as it was sent, and not from a backlog: only then does its age speak of the device's clock.
    pub live: bool,
    /// Came on the alarm topic.
    pub alarm: bool,
}

/// Something happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A broker delivered something.
    Message {
        /// How.
        arrival: Arrival,
        /// As delivered, unchecked.
        topic: &'a [u8],
        /// As delivered, unchecked.
        payload: &'a [u8],
    },
    /// An operator asks for quarantined samples to be judged again, past deduplication.
    Redrive {
        /// How the request came.
        arrival: Arrival,
        /// Of the quarantined message.
        topic: &'a [u8],
        /// Of the quarantined message.
        payload: &'a [u8],
        /// The refused samples as (first, count).
        refused: &'a [(u64, u64)],
    },
    /// An operator declares unexplained samples lost.
    WriteOff(WriteOff<'a>),
    /// Time passed.
    Tick {
        /// The journal record that says so.
        lsn: u64,
        /// The gateway's clock, milliseconds since 1970.
        now_ms: i64,
        /// For how long since the tick before the gateway has been able to hear, by a clock that is never set, milliseconds:
        /// while it was away, stopped or without a broker, silence says nothing.
        listened_ms: u32,
    },
}

/// An operator's word that samples which nobody can explain are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOff<'a> {
    /// The journal record that says so.
    pub lsn: u64,
    /// The gateway's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Whose.
    pub device: DeviceId,
    /// How many: what was unexplained when it was asked for.
    pub samples: u64,
    /// How many write-offs there were then. If there are more by now, it counts for nothing: one of them may have been for the
    /// same samples.
    pub before: u64,
    /// Why.
    pub reason: &'a str,
    /// Who.
    pub by: &'a str,
}

/// Why samples, or a whole message, were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The topic is none of the contract's.
    Topic(TopicError),
    /// No such device is registered.
    UnknownDevice,
    /// The payload is no report.
    Undecodable(DecodeError),
    /// The report follows another version of its class than its outbox did before: one outbox has one.
    WrongClass,
    /// The report says no class version, and neither did one before it of its outbox: its integers have no scale.
    ClassVersionUnknown,
    /// The report follows a version of its class that is not installed.
    UnknownClassVersion,
    /// More outboxes or gaps than are remembered.
    DedupWindow,
    /// It names sequence numbers that the device cannot have reached.
    ImplausibleSeq,
    /// Sampled before what `accept_past` allows.
    TooOld,
    /// Sampled before what the sink of record keeps: it would be dropped soon after it was stored.
    OlderThanRetention,
    /// Sampled more than a quarter of an hour ahead of arrival.
    InFuture,
    /// The sample has no value of a known channel.
    NoKnownChannel,
    /// A value is physically impossible for its class.
    OutOfRange,
    /// A value lies between two steps of the instrument.
    Resolution,
}

impl Reason {
    /// A stable name for counters, lists and lines of the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic(TopicError::Shape) => "bad_topic",
            Self::Topic(TopicError::Id) => "bad_id",
            Self::Topic(TopicError::Shard) => "wrong_shard",
            Self::UnknownDevice => "unknown_device",
            Self::Undecodable(error) => error.reason(),
            Self::WrongClass => "wrong_class",
            Self::ClassVersionUnknown => "class_version_unknown",
            Self::UnknownClassVersion => "unknown_class_version",
            Self::DedupWindow => "dedup_window",
            Self::ImplausibleSeq => "implausible_seq",
            Self::TooOld => "too_old",
            Self::OlderThanRetention => "older_than_retention",
            Self::InFuture => "in_future",
            Self::NoKnownChannel => "no_known_channel",
            Self::OutOfRange => "out_of_range",
            Self::Resolution => "resolution",
        }
    }
}

/// Accepted samples of one device and outbox, as columns of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleSet {
    /// Whose.
    pub device: DeviceIx,
    /// Which outbox.
    pub boot: u32,
    /// Which of the rows.
    pub rows: Range<usize>,
    /// Which of the channels.
    pub channels: Range<usize>,
    /// Where the values begin: channel after channel, one per row, [`ABSENT`] where there is none.
    pub values_from: usize,
}

/// Samples refused for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedRange {
    /// First sample.
    pub seq: u64,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: Reason,
}

/// A message of which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Whose, where it is known.
    pub device: Option<DeviceIx>,
    /// Which outbox; 0 where it is not known.
    pub boot: u32,
    /// Why, for the message as a whole; for samples see [`Decisions::refused`].
    pub reason: Reason,
}

/// Which windows somebody takes, from few to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rollups {
    /// Samples alone.
    None,
    /// Those of a day.
    Daily,
    /// Those of every length.
    All,
}

impl Rollups {
    const DAY_MS: i64 = 86_400_000;

    /// Are windows of so many milliseconds among them?
    #[must_use]
    pub fn has(self, length_ms: i64) -> bool {
        match self {
            Self::None => false,
            Self::Daily => length_ms == Self::DAY_MS,
            Self::All => true,
        }
    }
}

/// A window as far as its samples are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowClosed {
    /// Whose.
    pub device: DeviceIx,
    /// Length in milliseconds.
    pub length_ms: i64,
    /// Start, milliseconds since 1970.
    pub start_ms: i64,
    /// 0 at first, one more with each correction by late samples.
    pub revision: u32,
    /// Samples there should be.
    pub expected: u32,
    /// Where its channels' statistics begin in [`Shown::stats`].
    pub stats_from: usize,
    /// How many channels.
    pub channels: usize,
}

/// What a window knows of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStat {
    /// Wire number.
    pub channel: u16,
    /// Values in the window.
    pub count: u32,
    /// Their sum in wire integers.
    pub sum: i128,
    /// The least wire integer.
    pub min: i64,
    /// The greatest wire integer.
    pub max: i64,
    /// The value with the greatest (time, seq, boot).
    pub last: i64,
}

/// Accepted samples as columns.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    /// One per device, outbox and unbroken run of sequence numbers.
    pub sets: Vec<SampleSet>,
    /// Each row's time, milliseconds since 1970.
    pub times_ms: Vec<i64>,
    /// Each row's sequence number.
    pub seqs: Vec<u64>,
    /// Each row's quality code, the worst of its channels.
    pub quality: Vec<u8>,
    /// Wire numbers of the sets' channels.
    pub channels: Vec<u16>,
    /// Wire integers of all sets.
    pub values: Vec<i64>,
}

impl Accepted {
    /// The column of a set's channel, counted from 0.
    #[must_use]
    pub fn column(&self, set: &SampleSet, channel: usize) -> &[i64] {
        let from = set.values_from + channel * set.rows.len();
        &self.values[from..from + set.rows.len()]
    }

    /// Takes the last row of the last set away, for tests of the ledger.
    #[cfg(feature = "planted")]
    pub(crate) fn forget_last_row(&mut self) {
        let Some(set) = self.sets.last_mut() else { return };
        for column in (0..set.channels.len()).rev() {
            self.values.remove(set.values_from + (column + 1) * set.rows.len() - 1);
        }
        self.times_ms.pop();
        self.seqs.pop();
        self.quality.pop();
        set.rows.end -= 1;
        if set.rows.is_empty() {
            self.sets.pop();
        }
    }

    fn clear(&mut self) {
        self.sets.clear();
        self.times_ms.clear();
        self.seqs.clear();
        self.quality.clear();
        self.channels.clear();
        self.values.clear();
    }
}

/// Windows closed or corrected.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The windows.
    pub windows: Vec<WindowClosed>,
    /// Their channels.
    pub stats: Vec<ChannelStat>,
}

/// What a lane decided on one event.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    /// Accepted samples.
    pub accepted: Accepted,
    /// Were they in quarantine before?
    pub redriven: bool,
    /// At most one per message.
    pub refusal: Option<Refusal>,
    /// Which of its samples were refused; empty where the message could not be read at all.
    pub refused: Vec<RefusedRange>,
    /// Windows closed or corrected.
    pub shown: Shown,
    /// Alerts that changed.
    pub alerts: Vec<Change>,
}

impl Decisions {
    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.accepted.clear();
        self.redriven = false;
        self.refusal = None;
        self.refused.clear();
        self.shown.windows.clear();
        self.shown.stats.clear();
        self.alerts.clear();
    }

    /// Nothing to write down?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accepted.sets.is_empty()
            && self.refusal.is_none()
            && self.shown.windows.is_empty()
            && self.alerts.is_empty()
    }
}

/// What a sink did with decided samples of one device and outbox: the ledger's only source of `stored` and `quarantined`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Samples that the lane announced and the sink is done with.
    pub handled: u64,
    /// Of these, written to the database.
    pub stored: u64,
    /// Of these, kept in quarantine.
    pub quarantined: u64,
    /// Confirmed as stored before, and now in quarantine: they lost their time to a better sample.
    pub displaced: u64,
}

/// The worse of two qualities: what a sample with two such channels deserves.
#[must_use]
pub fn worse(left: Quality, right: Quality) -> Quality {
    const fn rank(quality: Quality) -> u8 {
        match quality {
            Quality::Final => 0,
            Quality::Valid => 1,
            Quality::Raw => 2,
            Quality::Edited => 3,
            Quality::Estimated => 4,
            Quality::Suspect => 5,
            Quality::Missing => 6,
        }
    }
    if rank(left) >= rank(right) { left } else { right }
}
