//! Ticks of the clock in the journal, so that a replay sees time pass as the lane did.

use crate::{clock::Clock, intake::Acknowledger, record::Entering};
use hunhe_log::{Intake, Priority};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two ticks, and what makes the gateway doubt that it was awake.
const TICK: Duration = Duration::from_secs(1);
const OVERSLEPT: Duration = Duration::from_secs(5);

/// Journals a tick each second. How long the gateway listened is measured by a monotonic clock.
pub(super) async fn run(
    journal: Intake<Entering>,
    sessions: Acknowledger,
    clock: Clock,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(TICK);
    let mut before = Instant::now();
    let mut listened = Duration::ZERO;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let passed = before.elapsed();
        before = Instant::now();
        tell(&mut listened, passed, sessions.all_ready(), |listened| {
            let tick = Entering::tick(clock.now_ms(), clock.event_ms(listened));
            journal.try_push(Priority::Normal, tick).is_ok()
        });
    }
}

/// What a tick that finds no room had to say, the next one says.
fn tell(listened: &mut Duration, passed: Duration, ready: bool, has_room: impl FnOnce(Duration) -> bool) {
    if passed < OVERSLEPT && ready {
        *listened += passed;
    }
    if has_room(*listened) {
        *listened = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_and_what_was_not_outlasts_a_tick_without_room() {
        let (mut listened, mut told) = (Duration::ZERO, Vec::new());
        for (passed_s, ready, room) in
            [(1, true, false), (1, false, false), (9, true, false), (1, true, true), (1, false, true)]
        {
            tell(&mut listened, Duration::from_secs(passed_s), ready, |listened| {
                told.extend(room.then_some(listened.as_secs()));
                room
            });
        }
        assert_eq!(told, [2, 0], "neither the second that was not ready nor the nine overslept");
    }
}
