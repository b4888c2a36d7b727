//! Series: read from the store block by block, and cut or averaged while they are read.
//!
//! A read holds one block and at most one answer's points in memory. It ends at the first sample too many, after
//! [`READ_MAX`], or when nobody waits for it any more, whichever comes first.
//!
//! Bounds: as many reads at once as there are processors, [`READS_MAX`] at most; [`WAITING_MAX`] more wait for
//! [`WAIT_MAX`] at most; all others are refused at once (429). Metrics: `hunhe_series_reads`,
//! `hunhe_series_reads_refused_total`, `hunhe_series_reads_ended_total`.

use super::Answers;
use crate::{
    api::{
        ApiError,
        backend::SeriesQuery,
        metrics::{Metric, MetricKind},
        types::{Series, SeriesKind},
    },
    store::{Store, StoreError, Stretch},
};
use hunhe_gateway_core::event::{ABSENT, worse};
use hunhe_proto::{
    class::{Channel, Kind},
    reading::Quality,
};
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads at once, on a machine with as many processors: more would only take them from the rest.
const READS_MAX: usize = 4;
/// Requests that wait for a read to end.
const WAITING_MAX: usize = 16;
/// How long they wait.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// How long a read may take: waiting and reading together stay below two seconds.
const READ_MAX: Duration = Duration::from_millis(1_400);

/// The places for reads, and what became of them.
pub(super) struct Reads {
    running: Arc<Semaphore>,
    running_max: usize,
    waiting: Semaphore,
    refused: AtomicU32,
    ended: Arc<AtomicU32>,
}

impl Default for Reads {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors.min(READS_MAX), WAITING_MAX)
    }
}

impl Reads {
    fn new(running_max: usize, waiting_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max)),
            running_max,
            waiting: Semaphore::new(waiting_max),
            refused: AtomicU32::new(0),
            ended: Arc::default(),
        }
    }

    /// A place, at once or after a short wait.
    async fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(place);
        }
        if let Ok(_waiting) = self.waiting.try_acquire()
            && let Ok(Ok(place)) =
                tokio::time::timeout(WAIT_MAX, Arc::clone(&self.running).acquire_owned()).await
        {
            return Ok(place);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(ApiError::Busy(format!(
            "{} series are being read and others wait: try again in a second",
            self.running_max
        )))
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let running = self.running_max.saturating_sub(self.running.available_permits());
        let count = |count: &AtomicU32| f64::from(count.load(Ordering::Relaxed));
        vec![
            Metric::single(
                "hunhe_series_reads",
                "Series that are being read.",
                MetricKind::Gauge,
                f64::from(u32::try_from(running).unwrap_or(u32::MAX)),
            ),
            Metric::single(
                "hunhe_series_reads_refused_total",
                "Series not read because too many others were.",
                MetricKind::Counter,
                count(&self.refused),
            ),
            Metric::single(
                "hunhe_series_reads_ended_total",
                "Reads of series that ended early: too slow, or nobody waited any more.",
                MetricKind::Counter,
                count(&self.ended),
            ),
        ]
    }
}

/// Ends a read whose request is gone.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// When a read must end, asked after every block.
struct Until {
    deadline: Instant,
    waited_for: Arc<AtomicBool>,
}

impl Until {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || !self.waited_for.load(Ordering::Acquire)
    }
}

/// Why a read ended before the range did.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There are more points than one answer carries.
    Full,
    /// It took too long, or nobody waits.
    Over,
}

impl Answers {
    pub(super) async fn series_of(&self, query: SeriesQuery) -> Result<Series, ApiError> {
        let device = self.find(&query.device)?;
        let rules = self.registry.class_of(device);
        let channel = rules.class.channel(&query.channel).ok_or_else(|| {
            let names: Vec<&str> = rules.class.channels.iter().map(|channel| channel.name.as_str()).collect();
            ApiError::NotFound(format!(
                "class {} has no channel {}: it has {}",
                rules.class.name,
                query.channel.escape_debug(),
                names.join(", ")
            ))
        })?;
        let place = self.reads.place().await?;
        let waiting = Waiting(Arc::new(AtomicBool::new(true)));
        let until = Until { deadline: Instant::now() + READ_MAX, waited_for: Arc::clone(&waiting.0) };
        let (ended, points, channel) =
            (Arc::clone(&self.reads.ended), Points::of(&query, channel), channel.clone());
        let (name, range_ms) = (query.device.clone(), query.from_ms..query.to_ms);
        let read = self
            .read_store(move |store| {
                let read = read(store, &name, range_ms, &channel, points, &until);
                if matches!(read, Ok((_, Some(End::Over)))) {
                    ended.fetch_add(1, Ordering::Relaxed);
                }
                drop(place);
                read.map(|read| (read, channel))
            })
            .await;
        drop(waiting);
        let ((points, end), channel) = read?;
        if end == Some(End::Over) {
            return Err(ApiError::Unavailable(format!(
                "the series was not read within {READ_MAX:?}: ask for a shorter stretch, or try again"
            )));
        }
        Ok(Series {
            device: query.device,
            channel: query.channel,
            unit: channel.unit,
            kind: if query.step_s.is_some() { SeriesKind::Steps } else { SeriesKind::Samples },
            step_s: query.step_s,
            from: query.from_ms,
            to: query.to_ms,
            times: points.times,
            values: points.values,
            quality: points.quality,
        })
    }
}

fn read(
    store: &Store,
    device: &str,
    range_ms: std::ops::Range<i64>,
    channel: &Channel,
    mut points: Points,
    until: &Until,
) -> Result<(Points, Option<End>), StoreError> {
    // Registered, and never stored anything.
    let Some(key) = store.find_device(device) else { return Ok((points, None)) };
    let number = channel.number;
    let visited = store.visit(key, range_ms, &[number], |stretch| {
        if until.is_over(Instant::now()) {
            return ControlFlow::Break(End::Over);
        }
        points.take(&stretch, stretch.column(number), |wire| channel.value(wire))
    })?;
    points.finish();
    Ok((points, visited.break_value()))
}

/// The points of an answer while they are gathered, at most one more than it carries.
struct Points {
    times: Vec<i64>,
    values: Vec<Option<f64>>,
    quality: Vec<u8>,
    limit: usize,
    steps: Option<Steps>,
}

/// Values by steps of equal length.
struct Steps {
    step_ms: i64,
    mean: bool,
    open: Option<Step>,
}

struct Step {
    start_ms: i64,
    sum: f64,
    number: u32,
    last: Option<f64>,
    worst: Quality,
}

impl Points {
    fn of(query: &SeriesQuery, channel: &Channel) -> Self {
        let steps = query.step_s.map(|step_s| Steps {
            step_ms: i64::from(step_s) * 1000,
            mean: channel.kind == Kind::Gauge,
            open: None,
        });
        let limit = query.limit_points.saturating_add(1);
        Self { times: Vec::new(), values: Vec::new(), quality: Vec::new(), limit, steps }
    }

    /// Takes samples of one block; breaks where there is no room for more.
    fn take(
        &mut self,
        stretch: &Stretch<'_>,
        column: Option<&[i64]>,
        value: impl Fn(i64) -> f64,
    ) -> ControlFlow<End> {
        for (row, (&time_ms, &quality)) in stretch.times_ms.iter().zip(stretch.quality).enumerate() {
            let wire = column.and_then(|column| column.get(row)).copied().unwrap_or(ABSENT);
            self.sample(time_ms, (wire != ABSENT).then(|| value(wire)), quality);
            if self.times.len() >= self.limit {
                return ControlFlow::Break(End::Full);
            }
        }
        ControlFlow::Continue(())
    }

    fn sample(&mut self, time_ms: i64, value: Option<f64>, quality: u8) {
        let Some(steps) = &mut self.steps else { return self.push(time_ms, value, quality) };
        let start_ms = time_ms - time_ms.rem_euclid(steps.step_ms);
        if steps.open.as_ref().is_some_and(|open| open.start_ms != start_ms) {
            self.close(Some(start_ms));
        }
        let Some(steps) = &mut self.steps else { return };
        let open = steps.open.get_or_insert(Step {
            start_ms,
            sum: 0.0,
            number: 0,
            last: None,
            worst: Quality::Final,
        });
        if let Some(value) = value {
            open.sum += value;
            open.number += 1;
            open.last = Some(value);
        }
        open.worst = worse(open.worst, Quality::from_code(quality).unwrap_or(Quality::Suspect));
    }

    /// Ends the open step, and fills the gap up to `next_ms`.
    fn close(&mut self, next_ms: Option<i64>) {
        let Some(steps) = &mut self.steps else { return };
        let (step_ms, mean) = (steps.step_ms, steps.mean);
        let Some(Step { start_ms, sum, number, last, worst }) = steps.open.take() else { return };
        let mean_value = (number > 0).then(|| sum / f64::from(number));
        self.push(start_ms, if mean { mean_value } else { last }, worst.code());
        let mut gap_ms = start_ms + step_ms;
        while next_ms.is_some_and(|next_ms| gap_ms < next_ms) && self.times.len() < self.limit {
            self.push(gap_ms, None, Quality::Missing.code());
            gap_ms += step_ms;
        }
    }

    /// All samples are in.
    fn finish(&mut self) {
        self.close(None);
    }

    fn push(&mut self, time_ms: i64, value: Option<f64>, quality: u8) {
        if self.times.len() < self.limit {
            self.times.push(time_ms);
            self.values.push(value);
            self.quality.push(quality);
        }
    }
}
