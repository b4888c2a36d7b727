//! What one connection does, and until when it must do the next thing. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// How long each step of a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a request (for the first one: from the connection's begin) to the end of its head.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without a byte that the client takes, while there are some for it.
    pub stalled: Duration,
    /// From the end of a request's head until its answer is taken; streams are exempt once they have begun.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stalled: Duration::from_secs(30),
            answer: Duration::from_secs(60),
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Head,
    Idle,
    Stalled,
    Answer,
}

impl Late {
    pub(super) const ALL: [Self; 4] = [Self::Head, Self::Idle, Self::Stalled, Self::Answer];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Answer => "answer",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The head of a request is on its way.
    Head,
    /// A request is answered.
    Answering,
    /// An answer without an end is given.
    Streaming,
    /// Between two requests.
    Idle,
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Conduct {
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// Since when the client has taken nothing.
    stalled: Option<Instant>,
    /// Bound of a stall where the answer has its own.
    patient: Option<Duration>,
}

impl Conduct {
    /// A connection that was just accepted.
    pub(super) fn begun(now: Instant) -> Self {
        Self { phase: Phase::Head, since: now, stalled: None, patient: None }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }

    /// Bytes came in.
    pub(super) fn received(&mut self, now: Instant) {
        if self.phase == Phase::Idle {
            self.enter(Phase::Head, now);
        }
    }

    /// The head of a request is there.
    pub(super) fn asked(&mut self, now: Instant) {
        self.patient = None;
        self.enter(Phase::Answering, now);
    }

    /// Its answer has no known end; `patient` is its own bound of a stall.
    pub(super) fn streams(&mut self, now: Instant, patient: Option<Duration>) {
        self.patient = patient;
        self.enter(Phase::Streaming, now);
    }

    /// The answer has been handed over, or the request given up.
    pub(super) fn answered(&mut self, now: Instant) {
        self.enter(Phase::Idle, now);
    }

    /// The client took bytes.
    pub(super) fn took(&mut self) {
        self.stalled = None;
    }

    /// There are bytes for the client, and it takes none.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.stalled.get_or_insert(now);
    }

    /// When the connection is to be closed unless something happens before.
    pub(super) fn deadline(&self, patience: &Patience) -> Option<(Instant, Late)> {
        let phase = match self.phase {
            Phase::Head => Some((self.since + patience.head, Late::Head)),
            Phase::Answering => Some((self.since + patience.answer, Late::Answer)),
            Phase::Idle => Some((self.since + patience.idle, Late::Idle)),
            Phase::Streaming => None,
        };
        let stalled =
            self.stalled.map(|since| (since + self.patient.unwrap_or(patience.stalled), Late::Stalled));
        [phase, stalled].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Since when the client takes nothing of an answer with an end.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stalled.filter(|_| self.phase == Phase::Answering)
    }

    /// Since when nobody would miss the connection: it waits for a request that is not there.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Head | Phase::Idle).then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        stalled: Duration::from_secs(30),
        answer: Duration::from_secs(60),
    };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, second: u64) -> Instant {
            self.0 + Duration::from_secs(second)
        }

        fn due(&self, conduct: &Conduct) -> Option<(u64, Late)> {
            conduct.deadline(&PATIENCE).map(|(at, why)| ((at - self.0).as_secs(), why))
        }
    }

    #[test]
    fn a_head_must_be_whole_in_time_however_its_bytes_drip() {
        let clock = Clock(Instant::now());
        let mut conduct = Conduct::begun(clock.at(0));
        for second in 1..10 {
            conduct.received(clock.at(second));
        }
        assert_eq!(clock.due(&conduct), Some((10, Late::Head)));
        conduct.asked(clock.at(9));
        conduct.answered(clock.at(11));
        assert_eq!(clock.due(&conduct), Some((71, Late::Idle)));
        conduct.received(clock.at(70));
        conduct.received(clock.at(79));
        assert_eq!(clock.due(&conduct), Some((80, Late::Head)), "the next head has a time of its own");
    }

    #[test]
    fn a_stream_lasts_as_long_as_its_client_takes_something_every_thirty_seconds() {
        let clock = Clock(Instant::now());
        let mut conduct = Conduct::begun(clock.at(0));
        conduct.asked(clock.at(1));
        assert_eq!(clock.due(&conduct), Some((61, Late::Answer)));
        conduct.streams(clock.at(2), None);
        assert_eq!(clock.due(&conduct), None, "nothing to take is nobody's fault");
        for second in (10..1_000).step_by(29) {
            conduct.blocked(clock.at(second));
            conduct.blocked(clock.at(second + 20));
            assert_eq!(clock.due(&conduct), Some((second + 30, Late::Stalled)));
            conduct.took();
            assert_eq!(clock.due(&conduct), None);
        }
        conduct.blocked(clock.at(2_000));
        conduct.blocked(clock.at(2_029));
        assert_eq!(clock.due(&conduct), Some((2_030, Late::Stalled)));
    }

    #[test]
    fn an_answer_with_an_end_must_be_taken_whole_in_time_and_one_may_have_more_patience() {
        let clock = Clock(Instant::now());
        let mut conduct = Conduct::begun(clock.at(0));
        conduct.asked(clock.at(1));
        conduct.blocked(clock.at(40));
        conduct.took();
        conduct.blocked(clock.at(50));
        assert_eq!(clock.due(&conduct), Some((61, Late::Answer)));
        conduct.answered(clock.at(52));
        assert_eq!(clock.due(&conduct), Some((80, Late::Stalled)), "its last bytes are not taken yet");
        conduct.took();
        conduct.asked(clock.at(60));
        conduct.streams(clock.at(60), Some(Duration::from_secs(90)));
        conduct.blocked(clock.at(60));
        assert_eq!(clock.due(&conduct), Some((150, Late::Stalled)));
        conduct.asked(clock.at(70));
        assert_eq!(clock.due(&conduct), Some((90, Late::Stalled)), "the next answer has the usual patience");
    }

    #[test]
    fn only_a_connection_without_a_request_is_silent() {
        let clock = Clock(Instant::now());
        let mut conduct = Conduct::begun(clock.at(0));
        conduct.received(clock.at(3));
        assert_eq!(conduct.silent_since(), Some(clock.at(0)));
        conduct.asked(clock.at(4));
        assert_eq!(conduct.silent_since(), None);
        conduct.streams(clock.at(5), None);
        assert_eq!(conduct.silent_since(), None);
        conduct.answered(clock.at(6));
        assert_eq!(conduct.silent_since(), Some(clock.at(6)));
    }

    #[test]
    fn an_answer_is_stuck_from_the_first_moment_that_nothing_is_taken_and_a_stream_never_is() {
        let clock = Clock(Instant::now());
        let mut conduct = Conduct::begun(clock.at(0));
        conduct.asked(clock.at(1));
        assert_eq!(conduct.stuck_since(), None);
        conduct.blocked(clock.at(2));
        conduct.blocked(clock.at(3));
        assert_eq!(conduct.stuck_since(), Some(clock.at(2)));
        conduct.took();
        assert_eq!(conduct.stuck_since(), None);
        conduct.blocked(clock.at(4));
        conduct.streams(clock.at(5), None);
        assert_eq!(conduct.stuck_since(), None);
    }
}
