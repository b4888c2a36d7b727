//! Places for what reads the store for a request: a few at once, on blocking threads, each until its time is over or nobody
//! waits for it any more, whichever comes first. Whoever reads asks [`Until`] after each piece of bounded size.
//!
//! Bounds: `running_max` reads at once; `waiting_max` more wait for `wait` at most; all others are refused at once (429). A
//! read lasts [`READ_MAX`] and one piece.

use super::Answers;
use crate::api::{
    ApiError,
    metrics::{Metric, MetricKind},
};
use hunhe_store::{Store, StoreError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a read may take: waiting and reading together stay below two seconds.
pub(super) const READ_MAX: Duration = Duration::from_millis(1_400);

/// What is read, in words and in metrics.
#[derive(Debug)]
pub(super) struct Named {
    /// "… are being read".
    pub(super) what: &'static str,
    /// Name and help of: running, refused, ended early.
    pub(super) metrics: [(&'static str, &'static str); 3],
}

/// The places for reads, and what became of them.
#[derive(Debug)]
pub(super) struct Reads {
    named: &'static Named,
    running: Arc<Semaphore>,
    running_max: usize,
    waiting: Semaphore,
    wait: Duration,
    refused: AtomicU32,
    ended: Arc<AtomicU32>,
}

impl Reads {
    pub(super) fn new(named: &'static Named, running_max: usize, waiting_max: usize, wait: Duration) -> Self {
        Self {
            named,
            running: Arc::new(Semaphore::new(running_max)),
            running_max,
            waiting: Semaphore::new(waiting_max),
            wait,
            refused: AtomicU32::new(0),
            ended: Arc::default(),
        }
    }

    /// A place, at once or after a short wait.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(place);
        }
        if let Ok(_waiting) = self.waiting.try_acquire()
            && let Ok(Ok(place)) =
                tokio::time::timeout(self.wait, Arc::clone(&self.running).acquire_owned()).await
        {
            return Ok(place);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(ApiError::Busy(format!(
            "{} {} are being read and others wait: try again in a second",
            self.running_max, self.named.what
        )))
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.running.available_permits() == self.running_max
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let running = self.running_max.saturating_sub(self.running.available_permits());
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let values = [running, self.refused.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed)];
        let kinds = [MetricKind::Gauge, MetricKind::Counter, MetricKind::Counter];
        let named = self.named.metrics.iter().zip(kinds).zip(values);
        named.map(|((&(name, help), kind), value)| Metric::single(name, help, kind, value.into())).collect()
    }
}

/// Ends a read whose request is gone.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// When a read must end.
#[derive(Debug)]
pub(super) struct Until {
    deadline: Instant,
    waited_for: Arc<AtomicBool>,
    ended: Arc<AtomicU32>,
}

impl Until {
    fn within(time: Duration, ended: &Arc<AtomicU32>) -> (Self, Waiting) {
        let waiting = Waiting(Arc::new(AtomicBool::new(true)));
        let waited_for = Arc::clone(&waiting.0);
        (Self { deadline: Instant::now() + time, waited_for, ended: Arc::clone(ended) }, waiting)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || self.is_abandoned()
    }

    /// Does nobody wait any more?
    pub(super) fn is_abandoned(&self) -> bool {
        !self.waited_for.load(Ordering::Acquire)
    }

    /// Counts a read that ended before it was done.
    pub(super) fn note_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Answers {
    /// Reads the store in one of these places. Nothing begins for a request that has gone by then.
    pub(super) async fn read_in<T: Send + 'static>(
        &self,
        reads: &Reads,
        read: impl FnOnce(&Store, &Until) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = reads.place().await?;
        let (until, waiting) = Until::within(READ_MAX, &reads.ended);
        let read = self.read_store(move |store| {
            // Held until the end, also where nobody waits any more: it is the work that is bounded.
            let _place = place;
            if until.is_abandoned() {
                until.note_ended();
                return Ok(None);
            }
            read(store, &until).map(Some)
        });
        let read = read.await;
        drop(waiting);
        // Without an answer only where nobody is here to take it.
        read?.ok_or(ApiError::Internal)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A read that may take long, and how to say that nobody waits for it any more.
    pub(crate) fn while_waited_for() -> (Until, impl FnOnce()) {
        let (until, waiting) = Until::within(Duration::from_secs(600), &Arc::default());
        (until, move || drop(waiting))
    }

    /// A read whose time is over.
    pub(crate) fn over() -> Until {
        let (until, waiting) = Until::within(Duration::ZERO, &Arc::default());
        // It is waited for until the test ends.
        std::mem::forget(waiting);
        until
    }

    static THINGS: Named =
        Named { what: "things", metrics: [("reads", "now"), ("refused", "refused"), ("ended", "ended")] };

    #[tokio::test]
    async fn so_many_are_read_so_many_wait_a_moment_and_the_rest_is_refused_at_once() {
        let reads = Arc::new(Reads::new(&THINGS, 2, 1, Duration::from_secs(600)));
        let (first, second) = (reads.place().await.unwrap(), reads.place().await.unwrap());
        let waiting = tokio::spawn({
            let reads = Arc::clone(&reads);
            async move { reads.place().await }
        });
        tokio::task::yield_now().await;
        let at_once = tokio::time::timeout(Duration::from_secs(60), reads.place()).await;
        assert!(matches!(at_once, Ok(Err(ApiError::Busy(_)))), "it does not wait");
        drop(first);
        let third = waiting.await.unwrap().unwrap();
        drop((second, third));
        assert!(reads.place().await.is_ok());

        let reads = Reads::new(&THINGS, 1, 1, Duration::from_millis(20));
        let held = reads.place().await.unwrap();
        assert!(matches!(reads.place().await, Err(ApiError::Busy(_))), "it waits a moment, not for ever");
        drop(held);
    }

    #[test]
    fn a_read_ends_when_its_time_is_over_or_nobody_waits() {
        let (until, leave) = while_waited_for();
        assert!(!until.is_over(Instant::now()) && !until.is_abandoned());
        leave();
        assert!(until.is_over(Instant::now()) && until.is_abandoned());
        assert!(over().is_over(Instant::now()) && !over().is_abandoned());
    }
}
