//! Where decisions go. Every sink reads the decided log in its own thread, at its own pace, with its own cursor, so that one
//! being down delays neither another nor the intake.
//!
//! A sink is a folder here, a section of the configuration, and a line in [`SINKS`]. It reads through
//! [`Feed`](crate::decided::feed::Feed), says what it is doing through [`SinkStatus`], and runs as a [`Sink`].
//!
//! A cursor is a source record: the journal record up to which all decisions are at the destination. After a crash a sink
//! begins at its cursor again and may write a last batch twice; each destination takes that as once (same series, same time).
//! The sink of record also reports what it wrote, by device and outbox, to the ledger: see
//! [`Confirmations`].
//!
//! Bounds: each sink's own. Deliberately absent: anything that one sink knows of another.

pub mod embedded;
pub mod influx;
pub mod republish;
pub mod status;

use crate::{clock::Clock, decided::Confirmations, mqtt::Broker, setup::config::Config};
use hunhe_gateway_core::registry::Registry;
use hunhe_log::{
    Tail,
    cursor::{Cursor, Held},
};
use hunhe_store::Store;
use status::{SinkStatus, State};
use std::{collections::BTreeMap, io, path::Path, sync::Arc, thread::JoinHandle};
use tokio::sync::watch;

/// Starts the sinks of one kind.
type Register = fn(&Site<'_>) -> anyhow::Result<Vec<Running>>;

/// The kinds of sinks. Each makes as many as the configuration asks for.
const SINKS: [Register; 3] = [embedded::register, influx::register, republish::register];

/// Starts every sink that the configuration asks for.
///
/// # Errors
/// What no waiting mends. A destination that is down is no error: see the sink's status.
pub fn start_all(site: &Site<'_>) -> anyhow::Result<Vec<Running>> {
    let mut running = Vec::new();
    for register in SINKS {
        running.extend(register(site)?);
    }
    Ok(running)
}

/// What sinks are made of.
pub struct Site<'a> {
    /// What the operator wants.
    pub config: &'a Config,
    /// Who may report what.
    pub registry: &'a Arc<Registry>,
    /// The embedded store, which has the quarantine as well.
    pub store: &'a Arc<Store>,
    /// The decided log.
    pub decided: Tail,
    /// The way to the ledger.
    pub ledger: Arc<dyn Confirmations>,
    /// What the ledger has counted.
    pub counted: Counted,
    /// The last journal record before this start.
    pub replay_to: u64,
    /// The broker.
    pub broker: &'a Broker,
    /// The clock of arrivals.
    pub clock: Clock,
}

/// What was counted before this start, as journal records.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Confirmations of stored samples up to here are in the ledger, whichever sink made them.
    pub of_record: u64,
    /// Confirmations of each sink up to here are.
    pub by_sink: BTreeMap<String, u64>,
    /// The last discard of the quarantine that is.
    pub discarded: u64,
    /// Source records behind this one are decided again, perhaps otherwise.
    pub source_lsn_max: u64,
}

impl Counted {
    /// The source record that a sink's cursor may not stand beyond.
    #[must_use]
    pub fn through(&self, is_of_record: bool) -> u64 {
        if is_of_record { self.of_record.min(self.source_lsn_max) } else { self.source_lsn_max }
    }
}

/// A destination and what writes to it.
pub trait Sink: Send + 'static {
    /// What it says of itself.
    fn status(&self) -> Arc<SinkStatus>;

    /// Follows the decided log until `stop` is set or its other end is gone.
    fn run(self, stop: watch::Receiver<bool>);
}

/// Is a sink to end?
#[must_use]
pub fn is_stopping(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// A running sink. Dropping it stops the sink without waiting for its end.
#[derive(Debug)]
pub struct Running {
    status: Arc<SinkStatus>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Runs a sink on a thread of its own.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(sink: impl Sink) -> io::Result<Self> {
        let status = sink.status();
        let (stop, stopped) = watch::channel(false);
        let name = format!("sink-{}", status.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _report = PanicReport(sink.status());
            sink.run(stopped);
        })?;
        Ok(Self { status, stop, thread })
    }

    /// State and counters.
    #[must_use]
    pub fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(&self.status)
    }

    /// Asks it to end soon. What is not confirmed by then is written after the next start.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end: after [`Self::stop`], or once it has written a log whose writer is gone. Answers whether it ended
    /// in order, that is, without a panic.
    #[must_use]
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }

    /// Asks it to end, and waits.
    pub fn end(self) {
        self.stop();
        // A panic there has been reported by the panic hook; there is nothing to add.
        let _ = self.join();
    }

    /// Has it ended although nobody asked it to? A sink that ends as [`State::Held`] says why, and waits for a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished() && !*self.stop.borrow() && self.status.snapshot().state != State::Held
    }
}

/// Enters [`State::Ended`] where a sink's thread panics, whatever state the sink was in.
struct PanicReport(Arc<SinkStatus>);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.enter(State::Ended, "its thread panicked: restart the gateway");
        }
    }
}

/// The cursor to go on from; reports where there is none.
fn begin(held: Held, status: &SinkStatus, path: &Path) -> Cursor {
    let name = status.name();
    match held {
        Held::Cursor(cursor) => cursor,
        Held::Nothing => {
            tracing::info!(sink = name, "sink is new: it begins with the oldest decided record");
            Cursor::default()
        }
        Held::Damaged => {
            let path = path.display();
            tracing::error!(sink = name, %path, "cursor is damaged: starting over from the oldest decided record");
            status.warn("cursor was damaged: started over from the oldest decided record".into());
            Cursor::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hunhe_log::{Options, Writer};

    struct Ends(Arc<SinkStatus>, Option<State>);

    struct Panics(Arc<SinkStatus>);

    impl Sink for Panics {
        fn status(&self) -> Arc<SinkStatus> {
            Arc::clone(&self.0)
        }

        fn run(self, _: watch::Receiver<bool>) {
            self.0.enter(State::Held, "the database refuses the token");
            panic!("as planned");
        }
    }

    impl Sink for Ends {
        fn status(&self) -> Arc<SinkStatus> {
            Arc::clone(&self.0)
        }

        fn run(self, mut stop: watch::Receiver<bool>) {
            match self.1 {
                Some(State::Ended) => {
                    while !is_stopping(&stop) {
                        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                        let _ = runtime.block_on(stop.changed());
                    }
                }
                Some(state) => self.0.enter(state, "the disk is full"),
                None => {}
            }
        }
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_told_from_one_that_the_destination_forced() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            disk: hunhe_disk::real(),
            dir: dir.path().to_path_buf(),
            segment_bytes: 1 << 20,
            limit_bytes: 1 << 22,
        };
        let (writer, _) = Writer::open(options).unwrap();
        let started = |state| {
            let status = Arc::new(SinkStatus::new("tested".into(), writer.subscribe()));
            Running::start(Ends(status, state)).unwrap()
        };
        let finished = |running: &Running| {
            while !running.thread.is_finished() {
                std::thread::yield_now();
            }
        };
        let silent = started(None);
        finished(&silent);
        assert!(silent.has_failed());
        let held = started(Some(State::Held));
        finished(&held);
        assert!(!held.has_failed());
        let status = Arc::new(SinkStatus::new("tested".into(), writer.subscribe()));
        let panics = Running::start(Panics(Arc::clone(&status))).unwrap();
        finished(&panics);
        assert!(panics.has_failed(), "also while its destination held it up");
        assert_eq!(status.snapshot().state, State::Ended);
        let asked = started(Some(State::Ended));
        assert!(!asked.has_failed());
        asked.stop();
        finished(&asked);
        assert!(!asked.has_failed() && asked.join());
    }
}
