//! Where answers over many devices are made: on blocking threads, a few at once.
//!
//! Invariants: a query whose client goes before it begins never begins; one that has begun runs to its end. An answer that
//! all share ([`Fresh`]) is made by one thread at a time, and at most once in [`FRESH`], however many clients ask or have gone.
//!
//! Bounds: [`RUNNING`] queries run and [`WAITING`] more wait. A further one is refused at once, and one that has waited for
//! [`PATIENCE`] then (429, `hunhe_queries_refused_total`). Shared answers run beside them, one of each kind.
//! `hunhe_queries_started_total` counts both.

use super::FRESH;
use crate::api::ApiError;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

/// Queries that run at one time: the lane, the journal and the sinks want the processors more.
const RUNNING: usize = 2;
/// Queries that wait for one of them to end.
const WAITING: usize = 30;
/// How long one waits.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the queries came to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Began on a blocking thread.
    pub(super) started: AtomicU64,
    /// Refused since too many waited, or too long.
    pub(super) refused: AtomicU64,
}

/// A bound on queries.
#[derive(Debug)]
pub(super) struct Queries {
    admitted: Semaphore,
    running: Arc<Semaphore>,
    figures: Arc<Figures>,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            admitted: Semaphore::new(RUNNING + WAITING),
            running: Arc::new(Semaphore::new(RUNNING)),
            figures: Arc::default(),
        }
    }
}

impl Queries {
    /// Their figures.
    pub(super) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Runs `query` where it may take long. Dropped before it has begun, it never begins.
    ///
    /// # Errors
    /// [`ApiError::Busy`] where too many wait, or others take too long.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let refuse = || {
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
            ApiError::Busy("too many queries at once: try again in a second".into())
        };
        let _admitted = self.admitted.try_acquire().map_err(|_| refuse())?;
        let running = timeout(PATIENCE, Arc::clone(&self.running).acquire_owned()).await;
        // It is never closed.
        let running = running.map_err(|_| refuse())?.map_err(|_| ApiError::Internal)?;
        let (answer, answered) = oneshot::channel();
        let figures = Arc::clone(&self.figures);
        tokio::task::spawn_blocking(move || {
            // Held until the end, also where nobody waits any more: it is the work that is bounded.
            let _running = running;
            if !answer.is_closed() {
                figures.started.fetch_add(1, Ordering::Relaxed);
                // Nobody may be waiting by now.
                let _ = answer.send(query());
            }
        });
        answered.await.map_err(|_| ApiError::Internal)
    }
}

/// An answer that is the same for all who ask within [`FRESH`].
#[derive(Debug)]
pub(super) struct Fresh<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    state: Mutex<State<T>>,
    /// Rings when an answer has been made, or could not be.
    bell: watch::Sender<()>,
}

#[derive(Debug)]
struct State<T> {
    newest: Option<(Instant, Arc<T>)>,
    /// How many have been made.
    made: u64,
    running: bool,
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        let state = Mutex::new(State { newest: None, made: 0, running: false });
        Self { inner: Arc::new(Inner { state, bell: watch::Sender::new(()) }) }
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    /// The newest answer, or the next one, made by `make` unless it is being made already.
    ///
    /// # Errors
    /// [`ApiError::Internal`] where it could not be made.
    pub(super) async fn get(
        &self,
        figures: &Arc<Figures>,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>, ApiError> {
        // Before the state is looked at: what is made in between rings.
        let mut bell = self.inner.bell.subscribe();
        let made_before = {
            let mut state = self.inner.lock();
            if let Some((at, answer)) = &state.newest
                && at.elapsed() < FRESH
            {
                return Ok(Arc::clone(answer));
            }
            if !std::mem::replace(&mut state.running, true) {
                let (made, figures) = (Making(Arc::clone(&self.inner)), Arc::clone(figures));
                tokio::task::spawn_blocking(move || {
                    figures.started.fetch_add(1, Ordering::Relaxed);
                    let answer = Arc::new(make());
                    made.0.lock().make(answer);
                });
            }
            state.made
        };
        loop {
            bell.changed().await.map_err(|_| ApiError::Internal)?;
            let state = self.inner.lock();
            match &state.newest {
                Some((_, answer)) if state.made > made_before => return Ok(Arc::clone(answer)),
                // It rang for an earlier one that could not be made.
                _ if state.running => {}
                _ => return Err(ApiError::Internal),
            }
        }
    }
}

impl<T> State<T> {
    fn make(&mut self, answer: Arc<T>) {
        self.newest = Some((Instant::now(), answer));
        self.made += 1;
    }
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the making of an answer, also by a panic.
struct Making<T>(Arc<Inner<T>>);

impl<T> Drop for Making<T> {
    fn drop(&mut self) {
        self.0.lock().running = false;
        self.0.bell.send_replace(());
    }
}

#[cfg(test)]
mod tests;
