//! What goes wrong, and when: drawn from the seed before anything runs, so that a history can be read in advance.

use crate::{
    broker::{Client, Remembers},
    database::Mood,
    random::Random,
};

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The operating system keeps what was written.
    Kill,
    /// The disk keeps what was synced, and whatever else it likes.
    Power,
    /// The power goes in the middle of things, after so many further calls of the disk.
    PowerWithin(u64),
    /// So many calls later one fails, once.
    Fails(u64),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The gateway ends, and is back after so many milliseconds; it may be cut off again while it recovers.
    Gateway {
        /// How.
        end: End,
        /// When it is back.
        back_ms: u64,
        /// Calls of the disk into its recovery after which the power goes again.
        again: Option<u64>,
    },
    /// An agent ends likewise.
    Edge {
        /// Which.
        agent: usize,
        /// How.
        end: End,
        /// When it is back.
        back_ms: u64,
        /// Calls of the disk into its recovery after which the power goes again.
        again: Option<u64>,
        /// Its last device is not configured in the life that follows, where it is not the only one.
        without: bool,
    },
    /// The broker dies.
    Broker {
        /// What it remembers.
        remembers: Remembers,
        /// When it is back.
        back_ms: u64,
    },
    /// A session is gone.
    Forgets(Client),
    /// A connection breaks.
    Cut(Client),
    /// Nobody of these reaches the broker, for so long.
    Partition {
        /// An agent, or else the gateway.
        agent: Option<usize>,
        /// How long.
        for_ms: u64,
    },
    /// The database is not well.
    Database {
        /// How it is.
        mood: Mood,
        /// How long.
        for_ms: u64,
    },
    /// A commit takes so long, for so long.
    SlowDisk {
        /// Milliseconds of a commit.
        commit_ms: u64,
        /// How long.
        for_ms: u64,
    },
    /// The gateway's disk has no room for more than so many further bytes, for so long.
    GatewayFull {
        /// How many.
        bytes: u64,
        /// How long.
        for_ms: u64,
    },
    /// An agent's disk likewise.
    EdgeFull {
        /// Whose.
        agent: usize,
        /// How many.
        bytes: u64,
        /// How long.
        for_ms: u64,
    },
    /// A device clock is set.
    Clock {
        /// Whose.
        agent: usize,
        /// By how much.
        by_ms: i64,
        /// And how much it gains from now on.
        drift_ppm: i64,
        /// How long until it is set right.
        for_ms: u64,
    },
    /// The broker bends the rules.
    Manners {
        /// 0: hides repeats, 1: doubles, 2: refuses subscriptions, 3: acknowledges nothing.
        kind: u8,
        /// How long.
        for_ms: u64,
    },
    /// Something that was sent before comes once more.
    Echo,
}

/// Kinds, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as what they are")]
pub enum Kind {
    GatewayKilled,
    GatewayPower,
    GatewayDiskFails,
    EdgeKilled,
    EdgePower,
    EdgeDiskFails,
    EdgeFull,
    BrokerCrash,
    SessionLost,
    Cut,
    Partition,
    Database,
    SlowDisk,
    Full,
    Clock,
    Manners,
    Echo,
}

impl Fault {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gateway { end: End::Kill, .. } => Kind::GatewayKilled,
            Self::Gateway { end: End::Fails(_), .. } => Kind::GatewayDiskFails,
            Self::Gateway { .. } => Kind::GatewayPower,
            Self::Edge { end: End::Kill, .. } => Kind::EdgeKilled,
            Self::Edge { end: End::Fails(_), .. } => Kind::EdgeDiskFails,
            Self::Edge { .. } => Kind::EdgePower,
            Self::EdgeFull { .. } => Kind::EdgeFull,
            Self::Broker { .. } => Kind::BrokerCrash,
            Self::Forgets(_) => Kind::SessionLost,
            Self::Cut(_) => Kind::Cut,
            Self::Partition { .. } => Kind::Partition,
            Self::Database { .. } => Kind::Database,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::GatewayFull { .. } => Kind::Full,
            Self::Clock { .. } => Kind::Clock,
            Self::Manners { .. } => Kind::Manners,
            Self::Echo => Kind::Echo,
        }
    }

    /// Does a process end by it?
    #[must_use]
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Gateway { .. } | Self::Edge { .. } | Self::Broker { .. })
    }
}

/// Crashes of every history.
pub const CRASHES_MIN: u64 = 5;
/// Kinds of fault of every history.
pub const KINDS_MIN: usize = 3;

/// Faults with the times at which they strike, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long things go wrong.
    pub duration_ms: u64,
    /// Seconds between two samples of the fastest devices.
    pub interval_s: u64,
    /// What strikes when.
    pub faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// Draws one for so many agents: at least [`CRASHES_MIN`] crashes, and [`KINDS_MIN`] kinds of fault. A crash that is drawn for
    /// a process that is already down, or for more calls of its disk than follow, does not come about: the history makes up
    /// for it with [`Plan::further`].
    #[must_use]
    pub fn draw(random: &mut Random, interval_s: u64, agents: usize) -> Self {
        let duration_ms = interval_s * 1000 * random.between(80, 250);
        let mut faults: Vec<(u64, Fault)> = Vec::new();
        let at = |random: &mut Random| random.between(duration_ms / 50, duration_ms);
        for _ in 0..random.between(CRASHES_MIN, 10) {
            faults.push((at(random), crash(random, duration_ms, agents)));
        }
        for _ in 0..random.between(3, 10) {
            faults.push((at(random), trouble(random, duration_ms, agents)));
        }
        while kinds(&faults) < KINDS_MIN {
            faults.push((at(random), trouble(random, duration_ms, agents)));
        }
        faults.sort_by_key(|(at_ms, _)| *at_ms);
        Self { duration_ms, interval_s, faults }
    }

    /// The `number`th fault that strikes when the others are over, where too few came about.
    #[must_use]
    pub fn further(number: usize, agents: usize) -> Fault {
        let agent = number / 3 % agents.max(1);
        match number % 3 {
            0 => Fault::Edge { agent, end: End::Power, back_ms: 500, again: None, without: false },
            1 => Fault::Gateway { end: End::Power, back_ms: 500, again: None },
            _ => Fault::Broker { remembers: Remembers::All, back_ms: 500 },
        }
    }
}

fn kinds(faults: &[(u64, Fault)]) -> usize {
    faults.iter().map(|(_, fault)| fault.kind()).collect::<std::collections::BTreeSet<_>>().len()
}

fn index(random: &mut Random, agents: usize) -> usize {
    usize::try_from(random.below(agents as u64)).unwrap_or(0)
}

fn end(random: &mut Random) -> End {
    match random.below(6) {
        0 => End::Kill,
        1 => End::Power,
        2..=4 => End::PowerWithin(random.between(1, 80)),
        _ => End::Fails(random.between(1, 80)),
    }
}

fn crash(random: &mut Random, duration_ms: u64, agents: usize) -> Fault {
    let back_ms = random.between(100, (duration_ms / 10).clamp(2_000, 600_000));
    match random.below(10) {
        0..=4 => {
            let again = random.one_in(3).then(|| random.between(1, 120));
            Fault::Gateway { end: end(random), back_ms, again }
        }
        5..=7 => {
            let again = random.one_in(3).then(|| random.between(1, 40));
            let (agent, end, without) = (index(random, agents), end(random), random.one_in(4));
            Fault::Edge { agent, end, back_ms, again, without }
        }
        _ => {
            let remembers = random.one_of(&[Remembers::All, Remembers::Saved, Remembers::Nothing]);
            Fault::Broker { remembers, back_ms }
        }
    }
}

fn trouble(random: &mut Random, duration_ms: u64, agents: usize) -> Fault {
    let for_ms = random.between(duration_ms / 100, duration_ms / 5);
    let agent = index(random, agents);
    let client = match random.below(4) {
        0 => Client::Up,
        1 => Client::Alarm,
        2 => Client::Out,
        _ => Client::Agent(agent),
    };
    match random.below(13) {
        0 => Fault::Forgets(client),
        1 => Fault::Cut(client),
        2 => Fault::Partition { agent: random.one_in(2).then_some(agent), for_ms },
        3..=5 => {
            let narrow = usize::try_from(random.between(1, 20)).unwrap_or(1);
            let moods = [Mood::Away, Mood::Mute, Mood::Broken, Mood::Busy, Mood::Narrow(narrow)];
            Fault::Database { mood: random.one_of(&moods), for_ms }
        }
        6 => Fault::SlowDisk { commit_ms: random.between(100, 5_000), for_ms },
        7 => {
            let bytes = random.below(32 << 10);
            Fault::GatewayFull { bytes, for_ms }
        }
        8..=9 => {
            const DAY_MS: i64 = 86_400_000;
            // 30 days late, a leap, a step back, 1970.
            let by_ms = random.one_of(&[-30 * DAY_MS, 1_000, -3_600_000, 3_600_000, -20_000 * DAY_MS]);
            Fault::Clock { agent, by_ms, drift_ppm: random.one_of(&[0, 50, -200, 5_000]), for_ms }
        }
        10 => Fault::EdgeFull { agent, bytes: random.below(4 << 10), for_ms },
        11 => Fault::Manners { kind: u8::try_from(random.below(4)).unwrap_or(0), for_ms },
        _ => Fault::Echo,
    }
}
