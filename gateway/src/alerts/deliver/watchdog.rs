//! The thread that watches the outputs. It shares nothing with them but their counters, so it sees an output whose own
//! thread has ended or hangs. It publishes what [`Stalls`] finds in the output's status, journals it and logs it.
//!
//! Each look costs a few atomic loads an output; there is one each [`LOOK`].

use super::{
    stall::{Look, Stalls, Turn},
    status::OutputStatus,
};
use crate::{
    alerts::own::StalledOutputs,
    clock::Clock,
    record::{Entering, OutputChange},
};
use hunhe_log::{Intake, Priority};
use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// What the watchdog looks at, and where it reports.
pub struct Options {
    /// See [`Stalls`].
    pub limit: Duration,
    /// The outputs.
    pub outputs: Vec<Arc<OutputStatus>>,
    /// Open alerts about them in the alert log.
    pub recorded: Arc<StalledOutputs>,
    /// Where a change becomes durable, and then an alert.
    pub journal: Intake<Entering>,
    /// The calendar.
    pub clock: Clock,
}

/// The running watchdog.
#[derive(Debug)]
pub struct Handle {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Stops it.
    pub fn stop(self) {
        drop(self.stop);
        // A panic there has been logged.
        let _ = self.thread.join();
    }

    /// Whether its thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts it.
///
/// # Errors
/// Where no thread is to be had.
pub fn start(options: Options) -> std::io::Result<Handle> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("alerts-watch".into()).spawn(move || {
        let begun = Instant::now();
        let mut watch = Watch::new(options);
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            watch.look(begun.elapsed());
        }
    })?;
    Ok(Handle { stop, thread })
}

struct Watch {
    options: Options,
    stalls: Stalls,
}

impl Watch {
    fn new(options: Options) -> Self {
        let names = options.outputs.iter().map(|output| output.name().to_owned());
        let stalls = Stalls::new(millis(options.limit), 0, options.clock.now_ms(), names);
        Self { options, stalls }
    }

    fn look(&mut self, now: Duration) {
        let Options { outputs, recorded, clock, .. } = &self.options;
        let look =
            |output: &Arc<OutputStatus>| Look { progress: output.progress(), is_behind: output.is_behind() };
        let looks: Vec<Look> = outputs.iter().map(look).collect();
        let turns = self.stalls.look(millis(now), clock.now_ms(), &looks, &recorded.now());
        for (output, since_ms) in outputs.iter().zip(self.stalls.stalled()) {
            output.stall(since_ms);
        }
        for turn in &turns {
            self.record(turn);
        }
    }

    fn record(&self, turn: &Turn) {
        let Turn { name, since_ms, stalled } = turn;
        if *stalled {
            let failure = self.options.outputs.iter().find(|output| output.name() == name);
            let last_error = failure.and_then(|output| output.snapshot().last_error).unwrap_or_default();
            tracing::error!(output = name, last_error, "alerts wait for this output, and none is delivered");
        } else {
            tracing::info!(output = name, "this output is stalled no longer");
        }
        let change = OutputChange { name, since_ms: *since_ms, stalled: *stalled };
        let record = Entering::output(self.options.clock.now_ms(), change);
        if self.options.journal.try_push(Priority::Urgent, record).is_err() {
            tracing::warn!(output = name, "the journal has no room for an output's change: tried again");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
