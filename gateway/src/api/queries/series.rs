//! Series: read from the store block by block, and cut or averaged while they are read.
//!
//! A read holds one block and at most one answer's points in memory. It ends at the first sample too many, or in the middle
//! as [`reads`](super::reads) has it.
//!
//! Bounds: as many reads at once as there are processors, [`READS_MAX`] at most; [`WAITING_MAX`] more wait for
//! [`WAIT_MAX`] at most; all others are refused at once (429). Metrics: `hunhe_series_reads`,
//! `hunhe_series_reads_refused_total`, `hunhe_series_reads_ended_total`.

use super::{
    Answers,
    reads::{Named, READ_MAX, Reads, Until},
};
use crate::{
    api::{
        ApiError,
        backend::SeriesQuery,
        types::{Series, SeriesKind},
    },
    decided::StoredChannel,
};
use hunhe_gateway_core::event::{ABSENT, worse};
use hunhe_proto::{
    class::{Channel, Kind},
    reading::Quality,
};
use hunhe_store::{Store, StoreError, Stretch};
use std::{
    ops::{ControlFlow, Range},
    time::{Duration, Instant},
};

/// Reads at once, on a machine with as many processors: more would only take them from the rest.
const READS_MAX: usize = 4;
/// Requests that wait for a read to end.
const WAITING_MAX: usize = 16;
/// How long they wait.
const WAIT_MAX: Duration = Duration::from_millis(400);
const READS: Named = Named {
    what: "series",
    metrics: [
        ("hunhe_series_reads", "Series that are being read."),
        ("hunhe_series_reads_refused_total", "Series not read because too many others were."),
        (
            "hunhe_series_reads_ended_total",
            "Reads of series that ended early: too slow, or nobody waited any more.",
        ),
    ],
};

/// The places for reads of series.
pub(super) fn places() -> Reads {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Reads::new(&READS, processors.min(READS_MAX), WAITING_MAX, WAIT_MAX)
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
        let points = Points::of(&query, channel);
        let scale = channel.clone();
        let stored: Vec<StoredChannel> = StoredChannel::all_of(channel).collect();
        let (name, range_ms) = (query.device.clone(), query.from_ms..query.to_ms);
        let read = self
            .read_in(&self.reads, move |store, until| {
                let read = read(store, &name, range_ms, &stored, |wire| scale.value(wire), points, until);
                if matches!(read, Ok((_, Some(End::Over)))) {
                    until.note_ended();
                }
                read
            })
            .await;
        let (points, end) = read?;
        if end == Some(End::Over) {
            return Err(ApiError::Unavailable(format!(
                "the series was not read within {READ_MAX:?}: ask for a shorter stretch, or try again"
            )));
        }
        Ok(Series {
            device: query.device,
            channel: query.channel,
            unit: channel.unit.clone(),
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
    range_ms: Range<i64>,
    stored: &[StoredChannel],
    value: impl Fn(i64) -> f64,
    mut points: Points,
    until: &Until,
) -> Result<(Points, Option<End>), StoreError> {
    // Registered, and never stored anything.
    let Some(key) = store.find_device(device) else { return Ok((points, None)) };
    let bits: Vec<u16> = stored.iter().map(|channel| channel.bits()).collect();
    let decimals = stored.iter().map(|channel| channel.decimals()).max().unwrap_or(0);
    let visited = store.visit(key, range_ms, &bits, |stretch| {
        if until.is_over(Instant::now()) {
            return ControlFlow::Break(End::Over);
        }
        let columns = stored
            .iter()
            .filter_map(|channel| Some((stretch.column(channel.bits())?, channel.factor_to(decimals))));
        let columns: Vec<(&[i64], i64)> = columns.collect();
        points.take(&stretch, &columns, &value)
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
        Self::new(query.limit_points.saturating_add(1), steps)
    }

    fn new(limit: usize, steps: Option<Steps>) -> Self {
        Self { times: Vec::new(), values: Vec::new(), quality: Vec::new(), limit, steps }
    }

    /// Takes samples of one block, each from the column that has it, times that column's factor; breaks where there is no
    /// room for more.
    fn take(
        &mut self,
        stretch: &Stretch<'_>,
        columns: &[(&[i64], i64)],
        value: impl Fn(i64) -> f64,
    ) -> ControlFlow<End> {
        for (row, (&time_ms, &quality)) in stretch.times_ms.iter().zip(stretch.quality).enumerate() {
            let wire = columns.iter().find_map(|(column, factor)| {
                let wire = *column.get(row).filter(|&&wire| wire != ABSENT)?;
                Some(wire.saturating_mul(*factor))
            });
            self.sample(time_ms, wire.map(&value), quality);
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

#[cfg(test)]
mod tests {
    use super::{
        super::reads::tests::{over, while_waited_for},
        *,
    };
    use hunhe_store::{Options, Rows};
    use std::collections::BTreeMap;

    const BASE_MS: i64 = 1_674_172_800_000;

    /// A device with this many samples, one a second but for a gap now and then; the second half is not yet on disk.
    fn store(samples: i64) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options { block_rows: 64, ..Options::new(dir.path()) }).unwrap();
        let key = store.device("d").unwrap();
        for half in [0..samples / 2, samples / 2..samples] {
            let seqs: Vec<u64> = half.clone().map(|at| u64::try_from(at).unwrap()).collect();
            let rows = Rows {
                boot: 1,
                times_ms: &half.clone().map(time_of).collect::<Vec<_>>(),
                seqs: &seqs,
                quality: &vec![1; seqs.len()],
                channels: &[7],
                values: &half.collect::<Vec<_>>(),
            };
            store.write(key, &rows, &mut Vec::new()).unwrap();
            if seqs.first() == Some(&0) {
                store.checkpoint(&[]).unwrap();
            }
        }
        (dir, store)
    }

    fn time_of(at: i64) -> i64 {
        BASE_MS + at * 1_000 + at / 50 * 77_777
    }

    fn float(wire: i64) -> f64 {
        f64::from(i32::try_from(wire).unwrap())
    }

    fn all(store: &Store, points: Points, until: &Until) -> (Points, Option<End>) {
        read(store, "d", 0..i64::MAX, &[StoredChannel::new(7, 0)], float, points, until).unwrap()
    }

    #[test]
    fn samples_are_read_no_further_than_the_first_too_many() {
        let (_dir, store) = store(1_000);
        let (points, end) = all(&store, Points::new(101, None), &while_waited_for().0);
        assert_eq!((points.times.len(), end), (101, Some(End::Full)));
        let (points, end) = all(&store, Points::new(1_001, None), &while_waited_for().0);
        assert_eq!((points.times.len(), end), (1_000, None));
        assert_eq!(points.values[999], Some(999.0));
    }

    #[test]
    fn steps_made_while_reading_are_those_of_all_samples_together() {
        let (_dir, store) = store(2_000);
        for (step_ms, mean) in [(1_000, true), (60_000, true), (60_000, false), (3_600_000, true)] {
            let steps = Steps { step_ms, mean, open: None };
            let (points, end) = all(&store, Points::new(usize::MAX, Some(steps)), &while_waited_for().0);
            assert_eq!(end, None);
            let mut expected: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for at in 0..2_000 {
                expected.entry(time_of(at).div_euclid(step_ms) * step_ms).or_default().push(at);
            }
            let (first, last) = (*expected.keys().next().unwrap(), *expected.keys().last().unwrap());
            let starts: Vec<i64> =
                (0..).map(|at| first + at * step_ms).take_while(|start| *start <= last).collect();
            assert_eq!(points.times, starts);
            for ((start, value), quality) in points.times.iter().zip(&points.values).zip(&points.quality) {
                let of_step = expected.get(start);
                let wanted = of_step.map(|samples| match (mean, samples.as_slice()) {
                    (true, samples) => {
                        float(samples.iter().sum()) / float(i64::try_from(samples.len()).unwrap())
                    }
                    (false, samples) => float(samples[samples.len() - 1]),
                });
                assert_eq!((*value, *quality), (wanted, if of_step.is_some() { 1 } else { 5 }), "{start}");
            }
        }
    }

    #[test]
    fn a_long_gap_makes_no_more_steps_than_an_answer_carries() {
        let (_dir, store) = store(100);
        let steps = Steps { step_ms: 1, mean: true, open: None };
        let (points, end) = all(&store, Points::new(501, Some(steps)), &while_waited_for().0);
        assert_eq!((points.times.len(), end), (501, Some(End::Full)));
    }

    #[test]
    fn a_read_ends_when_its_time_is_over_and_when_nobody_waits_for_it() {
        let (_dir, store) = store(1_000);
        let (left, leave) = while_waited_for();
        leave();
        for until in [over(), left] {
            let (points, end) = all(&store, Points::new(usize::MAX, None), &until);
            assert_eq!((points.times.len(), end), (0, Some(End::Over)));
        }
    }
}
