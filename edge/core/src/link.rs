//! The connection of an agent: when to connect, how long to back off, when a sleeping radio may sleep again.
//!
//! ```text
//! Down ─(wanted, time has come)▶ Connecting ─▶ Subscribing ─▶ Settling ─▶ Ready ─(sleeping: all acknowledged)▶ Listening
//!  ▲                                  └────────────┴──(lost)──────┴──────────┴───────────(window over)───────────┘
//! ```
//! While settling it waits a moment for the retained watermark, so that what the gateway has is not sent again.
//!
//! Back-off is full jitter: a random share of a time that doubles up to a bound. The jitter is seeded by the agent's
//! id: after an outage a city comes back spread out, and each agent reproducibly.

use crate::{Now, batch::hash};
use hunhe_proto::id::AgentId;

/// How an agent keeps its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The radio sleeps between reports: connect to publish, listen a moment, disconnect.
    pub sleeping: bool,
    /// Publishes that may be unacknowledged at once, at least 1.
    pub window: u16,
    /// The first back-off's bound in milliseconds.
    pub backoff_ms: u64,
    /// Every back-off's bound in milliseconds.
    pub backoff_ms_max: u64,
    /// The first connection is spread over this many milliseconds.
    pub spread_ms: u64,
    /// How long to wait for a connection and for an acknowledgement of the subscription; twice as long for that of a
    /// publish.
    pub patience_ms: u64,
    /// How long to wait for the retained watermark before sending again what was sent before.
    pub settle_ms: u64,
    /// How long a sleeping radio listens after its last acknowledgement, 2 to 5 seconds.
    pub listen_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sleeping: false,
            window: 64,
            backoff_ms: 500,
            backoff_ms_max: 120_000,
            spread_ms: 0,
            patience_ms: 15_000,
            settle_ms: 2_000,
            listen_ms: 3_000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down { retry_ms: u64 },
    Connecting { until_ms: u64 },
    Subscribing { until_ms: u64 },
    Settling { until_ms: u64 },
    Ready,
    Listening { until_ms: u64 },
}

/// What the shell must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection and, when it stands, subscribe.
    Connect,
    /// Close it in good order.
    Disconnect,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Link {
    policy: Policy,
    agent: AgentId,
    state: State,
    failures: u32,
    draws: u64,
    in_flight: u16,
    /// When the broker last acknowledged something, or was first asked to.
    answered_ms: u64,
}

impl Link {
    /// A link that is down; the first connection is due within the policy's spread.
    #[must_use]
    pub fn new(agent: AgentId, policy: Policy, now: Now) -> Self {
        let state = State::Down { retry_ms: 0 };
        let mut link = Self { policy, agent, state, failures: 0, draws: 0, in_flight: 0, answered_ms: 0 };
        link.state = State::Down { retry_ms: now.steady_ms + link.jitter(policy.spread_ms) };
        link
    }

    /// What to do now. `wanted`: something waits to be sent, or an answer is awaited.
    pub fn poll(&mut self, now: Now, wanted: bool) -> Option<Action> {
        let time = now.steady_ms;
        match self.state {
            State::Down { retry_ms } if time >= retry_ms && (wanted || !self.policy.sleeping) => {
                self.state = State::Connecting { until_ms: time + self.policy.patience_ms };
                Some(Action::Connect)
            }
            State::Connecting { until_ms } | State::Subscribing { until_ms } if time >= until_ms => {
                self.lost(now);
                Some(Action::Disconnect)
            }
            State::Ready | State::Listening { .. }
                if self.in_flight > 0 && time >= self.answered_ms + 2 * self.policy.patience_ms =>
            {
                self.lost(now);
                Some(Action::Disconnect)
            }
            State::Settling { until_ms } if time >= until_ms => {
                self.state = State::Ready;
                None
            }
            State::Ready if self.policy.sleeping && !wanted && self.in_flight == 0 => {
                self.state = State::Listening { until_ms: time + self.policy.listen_ms };
                None
            }
            State::Listening { .. } if wanted => {
                self.state = State::Ready;
                None
            }
            State::Listening { until_ms } if time >= until_ms => {
                self.state = State::Down { retry_ms: time };
                self.in_flight = 0;
                Some(Action::Disconnect)
            }
            _ => None,
        }
    }

    /// The broker accepted the connection.
    pub fn connected(&mut self, now: Now) {
        self.in_flight = 0;
        self.state = State::Subscribing { until_ms: now.steady_ms + self.policy.patience_ms };
    }

    /// The broker granted the subscription. `resuming`: something was sent before and not confirmed.
    pub fn subscribed(&mut self, now: Now, resuming: bool) {
        if matches!(self.state, State::Subscribing { .. }) {
            self.state = if resuming {
                State::Settling { until_ms: now.steady_ms + self.policy.settle_ms }
            } else {
                State::Ready
            };
        }
    }

    /// A watermark came: the connection serves, and there is nothing left to settle.
    pub fn watermark_seen(&mut self) {
        self.failures = 0;
        if matches!(self.state, State::Settling { .. }) {
            self.state = State::Ready;
        }
    }

    /// The connection is gone, or never came about: back off.
    pub fn lost(&mut self, now: Now) {
        let bound = self.policy.backoff_ms.checked_shl(self.failures.min(32)).unwrap_or(u64::MAX);
        let wait_ms = self.jitter(bound.min(self.policy.backoff_ms_max));
        self.failures = self.failures.saturating_add(1);
        self.in_flight = 0;
        self.state = State::Down { retry_ms: now.steady_ms + wait_ms };
    }

    /// May something be published?
    #[must_use]
    pub fn can_send(&self) -> bool {
        matches!(self.state, State::Ready | State::Listening { .. }) && self.in_flight < self.policy.window
    }

    /// Does the radio sleep between reports, so that it must be wanted to connect?
    #[must_use]
    pub const fn is_sleeping(&self) -> bool {
        self.policy.sleeping
    }

    /// Does a connection stand?
    #[must_use]
    pub const fn is_up(&self) -> bool {
        !matches!(self.state, State::Down { .. } | State::Connecting { .. })
    }

    /// A publish went.
    pub fn sent(&mut self, now: Now) {
        if self.in_flight == 0 {
            self.answered_ms = now.steady_ms;
        }
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A publish was acknowledged by the broker, which proves nothing about the gateway.
    pub fn acked(&mut self, now: Now) {
        self.answered_ms = now.steady_ms;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failures = 0;
    }

    /// Publishes without acknowledgement.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.in_flight
    }

    fn jitter(&mut self, bound_ms: u64) -> u64 {
        self.draws += 1;
        if bound_ms == 0 { 0 } else { hash(self.agent, self.draws) % bound_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady_ms: u64) -> Now {
        Now { steady_ms, event_ms: 0 }
    }

    fn link(name: &str, sleeping: bool) -> Link {
        Link::new(AgentId::new(name).unwrap(), Policy { sleeping, window: 2, ..Policy::default() }, at(0))
    }

    fn up(link: &mut Link, time: u64) {
        assert_eq!(link.poll(at(time), true), Some(Action::Connect));
        link.connected(at(time));
        link.subscribed(at(time), false);
    }

    #[test]
    fn the_window_bounds_what_is_unacknowledged() {
        let mut link = link("a", false);
        assert!(!link.can_send());
        up(&mut link, 0);
        link.sent(at(0));
        assert!(link.can_send());
        link.sent(at(0));
        assert!(!link.can_send());
        link.acked(at(0));
        assert!(link.can_send());
    }

    #[test]
    fn back_off_is_jittered_bounded_and_differs_between_agents() {
        let waits = |name: &str| -> [u64; 12] {
            let mut link = link(name, false);
            core::array::from_fn(|_| {
                link.lost(at(0));
                let State::Down { retry_ms } = link.state else { panic!("{:?}", link.state) };
                retry_ms
            })
        };
        let (first, second) = (waits("a-1"), waits("a-2"));
        assert_ne!(first, second);
        assert_eq!(first, waits("a-1"));
        for (index, wait) in first.into_iter().enumerate() {
            assert!(wait < (500 << index).min(120_000), "{index}: {wait}");
        }
        assert!(first.iter().any(|&wait| wait > 10_000));
    }

    #[test]
    fn it_waits_for_the_retained_watermark_only_where_it_resumes() {
        let mut link = link("a", false);
        link.poll(at(0), true);
        link.connected(at(0));
        link.subscribed(at(0), true);
        assert!(!link.can_send());
        link.watermark_seen();
        assert!(link.can_send());
        link.lost(at(0));
        link.poll(at(1_000_000), true);
        link.connected(at(1_000_000));
        link.subscribed(at(1_000_000), true);
        link.poll(at(1_001_999), true);
        assert!(!link.can_send());
        link.poll(at(1_002_000), true);
        assert!(link.can_send());
    }

    #[test]
    fn a_sleeping_radio_publishes_listens_and_sleeps() {
        let mut link = link("g", true);
        assert_eq!(link.poll(at(0), false), None, "nothing to say: stay asleep");
        up(&mut link, 5);
        link.sent(at(59_000));
        assert_eq!(link.poll(at(10), false), None);
        assert_eq!(link.poll(at(60_000), false), None, "not before the acknowledgement");
        link.acked(at(60_000));
        assert_eq!(link.poll(at(60_000), false), None);
        assert_eq!(link.poll(at(62_999), false), None);
        assert_eq!(link.poll(at(63_000), false), Some(Action::Disconnect));
        assert!(!link.is_up());
    }

    #[test]
    fn a_broker_that_never_answers_is_given_up() {
        let mut link = link("a", false);
        assert_eq!(link.poll(at(0), true), Some(Action::Connect));
        assert_eq!(link.poll(at(14_999), true), None);
        assert_eq!(link.poll(at(15_000), true), Some(Action::Disconnect));
        let mut link = self::link("b", false);
        up(&mut link, 0);
        link.sent(at(1_000));
        assert_eq!(link.poll(at(30_999), true), None);
        assert_eq!(link.poll(at(31_000), true), Some(Action::Disconnect));
    }
}
