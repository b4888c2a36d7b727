//! What the embedded store costs: CPU time a row, bytes a row, and the time of a series' day, for blocks of 24 and of
//! 512 rows, with and without LZ4 on top of the columns.
//!
//! ```text
//! cargo run --profile ci -p hunhe-gateway --example store_rows [-- MILLION_ROWS]
//! ```
//! 10,000 series: 3,333 devices report a day of 24 hourly samples at a time, with a register, a flow and a pressure;
//! 5 million rows of three values over two months. A checkpoint is made whenever the store asks for one. Reading is
//! measured as CPU time, too, from a store just opened (cold) and once more (warm); the machine's file cache is warm.

use anyhow::{Context as _, Result};
use hunhe_store::{ABSENT, BLOCK_ROWS, DeviceKey, Options, Rows, Store};
use std::{fs, hint::black_box, time::Instant};

const DEVICES: u32 = 3_333;
const DAY_ROWS: usize = 24;
const CHANNELS: [u16; 3] = [1, 2, 3];
const HOUR_MS: i64 = 3_600_000;
/// 2023-01-01.
const START_MS: i64 = 1_672_531_200_000;

fn main() -> Result<()> {
    let millions: u32 = std::env::args().nth(1).map_or(Ok(5), |arg| arg.parse())?;
    let days = millions * 1_000_000 / DEVICES / 24;
    println!("block rows  lz4  µs CPU/row  rows/s (M)  bytes/row  day cold (ms)  day warm (ms)  open (ms)");
    for block_rows in [DAY_ROWS, BLOCK_ROWS] {
        for lz4 in [false, true] {
            measure(days, block_rows, lz4)?;
        }
    }
    Ok(())
}

fn measure(days: u32, block_rows: usize, lz4: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { block_rows, lz4, ..Options::new(dir.path()) };
    let store = Store::open(options.clone())?;
    let (began, cpu_began) = (Instant::now(), cpu_s()?);
    let rows = fill(&store, days)?;
    let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), cpu_s()? - cpu_began);
    store.compact()?;
    let bytes = store.retain(START_MS)?.bytes;
    drop(store);

    let began = Instant::now();
    let store = Store::open(options)?;
    let restart_ms = began.elapsed().as_secs_f64() * 1e3;
    let (cold_ms, warm_ms) = (read_days(&store, days)?, read_days(&store, days)?);
    let rows = f64::from(rows);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes_a_row = bytes as f64 / rows;
    println!(
        "{block_rows:>10}  {lz4:<5}{:>10.3}{:>12.2}{bytes_a_row:>11.2}{cold_ms:>15.3}{warm_ms:>15.3}{restart_ms:>14.1}",
        cpu_s / rows * 1e6,
        rows / wall_s / 1e6,
    );
    Ok(())
}

fn fill(store: &Store, days: u32) -> Result<u32> {
    let devices: Vec<DeviceKey> =
        (0..DEVICES).map(|device| store.device(&format!("meter-{device}"))).collect::<Result<_, _>>()?;
    let mut registers = vec![0_i64; devices.len()];
    let mut random = Random(1);
    let mut conflicts = Vec::new();
    let mut stored = 0;
    let mut batch = Batch::default();
    for day in 0..days {
        for (device, register) in devices.iter().zip(&mut registers) {
            batch.next_day(day, register, &mut random);
            let outcome = store.write(*device, &batch.rows(), &mut conflicts)?;
            stored += outcome.stored;
            if outcome.checkpoint_due {
                store.checkpoint(&day.to_be_bytes())?;
            }
        }
    }
    store.checkpoint(b"end")?;
    Ok(stored)
}

/// CPU time of a device's day, mean of 1,000 devices, in milliseconds.
fn read_days(store: &Store, days: u32) -> Result<f64> {
    let began = thread_ms()?;
    for at in 0..1000 {
        let key = store.find_device(&format!("meter-{}", at * 7919 % DEVICES)).context("device")?;
        let from_ms = START_MS + i64::from(at % days) * 24 * HOUR_MS;
        let series = black_box(store.scan(key, from_ms..from_ms + 24 * HOUR_MS, &CHANNELS)?);
        anyhow::ensure!(series.times_ms.len() == DAY_ROWS, "a day has {} rows", series.times_ms.len());
    }
    Ok((thread_ms()? - began) / 1000.0)
}

#[derive(Default)]
struct Batch {
    times_ms: Vec<i64>,
    seqs: Vec<u64>,
    quality: Vec<u8>,
    values: Vec<i64>,
}

impl Batch {
    fn next_day(&mut self, day: u32, register: &mut i64, random: &mut Random) {
        let first = i64::from(day) * 24;
        self.times_ms.clear();
        self.times_ms.extend((0..24).map(|hour| START_MS + (first + hour) * HOUR_MS));
        self.seqs.clear();
        self.seqs.extend((0..24).map(|hour| u64::from(day) * 24 + hour));
        self.quality.clear();
        self.quality.resize(DAY_ROWS, 1);
        self.values.clear();
        // A third of the hours without use, as households have them; a pressure that now and then is not sampled.
        for _ in 0..DAY_ROWS {
            *register += if random.below(3) == 0 { 0 } else { random.below(12) };
            self.values.push(*register);
        }
        (0..DAY_ROWS).for_each(|_| self.values.push(random.below(40)));
        (0..DAY_ROWS).for_each(|_| self.values.push(2400 + random.below(8)));
        if random.below(20) == 0
            && let Some(last) = self.values.last_mut()
        {
            *last = ABSENT;
        }
    }

    fn rows(&self) -> Rows<'_> {
        Rows {
            boot: 1,
            times_ms: &self.times_ms,
            seqs: &self.seqs,
            quality: &self.quality,
            channels: &CHANNELS,
            values: &self.values,
        }
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end).cast_signed()
    }
}

/// User and system time of this process, all threads, in seconds. Linux only; its ticks are a hundredth of one.
fn cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("stat")?.split(' ').collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// CPU time of the main thread, in milliseconds. Linux only.
fn thread_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/schedstat")?;
    Ok(stat.split(' ').next().context("schedstat")?.parse::<f64>()? / 1e6)
}
