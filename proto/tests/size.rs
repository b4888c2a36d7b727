//! A day of 24 hourly gas registers fits a sleeping radio: median at most 48 bytes of payload, 95th percentile at
//! most 72, without health fields and tag. On days shaped on 45 real meters, and on modelled ones that always run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test may fail loudly, and its numbers are its own"
)]

use hunhe_proto::{
    decode::decode,
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    reading::{Header, Report, TimeAxis},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

const MEDIAN_MAX: usize = 48;
const P95_MAX: usize = 72;
const AXIS: TimeAxis = TimeAxis { unit_ms: 3_600_000, interval: 1 };
/// Of natural gas as delivered in the recording's network, roughly: it scales the litres of a day.
const KWH_PER_M3: f64 = 10.55;
/// 2024-01-01T00:00:00Z in hours.
const YEAR_START_H: i64 = 473_352;
const LIFE_H: f64 = 10.0 * 8766.0;
const DISPERSAL_S: f64 = 7200.0;

/// Repeatable numbers in [0, 1).
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// What a meter-day is known by.
struct Day {
    total: f64,
    quartiles: [f64; 3],
    hours: usize,
}

/// Hourly uses with the day's total and, by linear interpolation, its quartiles. Between the quartiles they are
/// drawn evenly, above the last as an exponential tail. None where no such hours exist.
fn hours_of(day: &Day, chance: &mut Chance) -> Option<Vec<f64>> {
    let mut sorted = vec![f64::NAN; day.hours];
    for (quarter, value) in (1..).zip(day.quartiles) {
        let position = f64::from(quarter) * 0.25 * (day.hours - 1) as f64;
        sorted[position.floor() as usize] = value;
        sorted[position.ceil() as usize] = value;
    }
    let top = sorted.iter().rposition(|value| !value.is_nan())?;
    let (mut floor, mut slack, mut least) = (0.0, Vec::new(), 0.0);
    for at in 0..=top {
        if sorted[at].is_nan() {
            let ceiling = *sorted[at..].iter().find(|value| !value.is_nan())?;
            slack.push((at, (ceiling - floor) * chance.unit()));
            sorted[at] = floor;
        } else {
            floor = sorted[at];
        }
        least += sorted[at];
    }
    let tail: Vec<f64> = sorted[top + 1..].iter().map(|_| chance.exponential()).collect();
    least += floor * tail.len() as f64;
    let spare = day.total - least;
    if spare < -0.01 {
        return None;
    }
    // The inner hours take what they drew, or their share of what there is; the tail takes the rest.
    let drawn: f64 = slack.iter().map(|(_, extra)| extra).sum();
    let share = if drawn > 0.0 { (spare.max(0.0) / drawn).min(1.0) } else { 0.0 };
    for (at, extra) in &slack {
        sorted[*at] += extra * share;
    }
    let rest = (spare - drawn * share).max(0.0) / tail.iter().sum::<f64>();
    for (at, weight) in tail.iter().enumerate() {
        sorted[top + 1 + at] = floor + weight * rest;
    }
    for at in (1..sorted.len()).rev() {
        sorted.swap(at, (chance.unit() * (at + 1) as f64) as usize);
    }
    Some(sorted)
}

/// The payload's bytes for registers that rise by `uses_m3` from a meter of random age.
fn payload(uses_m3: &[f64], mean_m3_per_h: f64, chance: &mut Chance, outbox_h: u64) -> usize {
    let age_h = (chance.unit() * LIFE_H).floor();
    let mut register_l = age_h * mean_m3_per_h * 1000.0;
    let registers: Vec<i64> = uses_m3
        .iter()
        .map(|use_m3| {
            register_l += use_m3 * 1000.0;
            register_l as i64
        })
        .collect();
    let seq = age_h as u64;
    let header = Header {
        boot: (chance.unit() * f64::from(u32::MAX)) as u32,
        seq,
        held_from: (outbox_h > 0).then(|| seq.saturating_sub(outbox_h)),
        sent_after_s: Some((chance.unit() * DISPERSAL_S) as i32),
        ..Header::default()
    };
    let column = [ColumnDraft { channel: 1, values: &registers, quality: &[] }];
    let samples = u32::try_from(registers.len()).unwrap();
    let t0 = YEAR_START_H + (chance.unit() * 366.0) as i64 * 24;
    let block = [BlockDraft { t0, step: 0, dt: &[], samples, columns: &column }];
    let mut out = [0; 512];
    let length = encode(&Draft { header, drops: &[], blocks: &block }, &mut out).unwrap();
    let mut report = Report::default();
    decode(&out[..length], AXIS, &mut report).unwrap();
    assert_eq!((report.values, report.header), (registers, header));
    length
}

/// Median and 95th percentile, after printing the distribution.
fn distribution(title: &str, mut sizes: Vec<usize>) -> (usize, usize) {
    sizes.sort_unstable();
    let at = |share: f64| sizes[((sizes.len() - 1) as f64 * share).round() as usize];
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    println!(
        "{title}: {} days; bytes least {} p5 {} p25 {} median {} p75 {} p95 {} p99 {} greatest {}; mean {mean:.1}, {:.2} a reading",
        sizes.len(),
        sizes[0],
        at(0.05),
        at(0.25),
        at(0.5),
        at(0.75),
        at(0.95),
        at(0.99),
        sizes[sizes.len() - 1],
        mean / 24.0,
    );
    (at(0.5), at(0.95))
}

fn recordings() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(env::var_os("TESTS_RECORDINGS").unwrap_or_else(|| "../shared/data".into()))
}

#[test]
fn days_of_real_meters_fit() {
    let path = recordings().join("gas_fluvius/gas_daily_45meters_2024.csv");
    let Ok(text) = fs::read_to_string(&path) else {
        println!("NOT PROVED: {} is absent; name its folder in TESTS_RECORDINGS", path.display());
        return;
    };
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 16_470);
    let number = |cell: &str| cell.parse::<f64>().unwrap();
    let mut chance = Chance(2024);
    let (mut sizes, mut holding, mut impossible) = (Vec::new(), Vec::new(), 0);
    for meter in rows.chunk_by(|left, right| left[0] == right[0]) {
        let mean =
            meter.iter().map(|row| number(row[3])).sum::<f64>() / meter.len() as f64 / 24.0 / KWH_PER_M3;
        for row in meter {
            let day = Day {
                total: number(row[3]),
                quartiles: [number(row[6]), number(row[5]), number(row[7])],
                // Days without use name no hours.
                hours: row[8].parse().unwrap_or(24),
            };
            let Some(mut uses) = hours_of(&day, &mut chance) else {
                impossible += 1;
                continue;
            };
            assert!((uses.iter().sum::<f64>() - day.total).abs() < 0.02, "{row:?}");
            uses.iter_mut().for_each(|kwh| *kwh /= KWH_PER_M3);
            sizes.push(payload(&uses, mean, &mut chance, 0));
            holding.push(payload(&uses, mean, &mut chance, 24));
        }
    }
    assert_eq!(impossible, 0, "days whose quartiles contradict their total");
    let (median, p95) = distribution("real meters' days", sizes);
    assert!(median <= MEDIAN_MAX && p95 <= P95_MAX, "median {median}, p95 {p95}");
    // A sleeping radio learns only at the next connection that its last report is durable.
    let (median, p95) = distribution("the same with the day before still held", holding);
    assert!(median <= MEDIAN_MAX && p95 <= P95_MAX, "still holding: median {median}, p95 {p95}");
}

/// Zero in half of the hours, an exponential use in the others, six times as much in winter as in summer.
#[test]
fn days_of_modelled_meters_fit() {
    let mut chance = Chance(7);
    let sizes = (0..20_000)
        .map(|day| {
            let season = 0.14 + 0.11 * (f64::from(day % 366) / 366.0 * std::f64::consts::TAU).cos();
            let household = 0.3 + 1.4 * chance.unit();
            let mut hour =
                || if chance.unit() < 0.5 { 0.0 } else { season * household * chance.exponential() };
            let uses: Vec<f64> = (0..24).map(|_| hour()).collect();
            payload(&uses, 0.1, &mut chance, 0)
        })
        .collect();
    let (median, p95) = distribution("modelled days", sizes);
    assert!(median <= MEDIAN_MAX && p95 <= P95_MAX, "median {median}, p95 {p95}");
}
