//! Test support: a store with one device's long history, a sample a second, written as the gateway writes it. A gateway
//! that is started on the folder finds it as its own.
//!
//! `cargo run --example long_series -- DATA_DIR/store DEVICE CHANNEL DECIMALS SAMPLES LAST_MS`
//!
//! The value of a sample is its number modulo 1,000, in wire integers.

use anyhow::{Context as _, Result};
use hunhe_gateway::decided::StoredChannel;
use hunhe_store::{Options, Rows, Store};

const AT_ONCE: u64 = 4_096;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, device, channel, decimals, samples, last_ms] = arguments.as_slice() else {
        anyhow::bail!("usage: long_series DIR DEVICE CHANNEL DECIMALS SAMPLES LAST_MS");
    };
    let channel = StoredChannel::new(channel.parse()?, decimals.parse()?).bits();
    let samples: u64 = samples.parse()?;
    let first_ms = last_ms.parse::<i64>()? - i64::try_from(samples)? * 1_000;
    std::fs::create_dir_all(dir)?;
    let store = Store::open(Options::new(dir))?;
    let key = store.device(device)?;
    for from in (0..samples).step_by(usize::try_from(AT_ONCE)?) {
        let seqs: Vec<u64> = (from..samples.min(from + AT_ONCE)).collect();
        let numbers = seqs.iter().map(|&seq| i64::try_from(seq)).collect::<Result<Vec<_>, _>>()?;
        let rows = Rows {
            boot: 1,
            times_ms: &numbers.iter().map(|number| first_ms + number * 1_000).collect::<Vec<_>>(),
            seqs: &seqs,
            quality: &vec![1; seqs.len()],
            channels: &[channel],
            values: &numbers.iter().map(|number| number % 1_000).collect::<Vec<_>>(),
        };
        let outcome = store.write(key, &rows, &mut Vec::new())?;
        if outcome.checkpoint_due {
            store.checkpoint(&CURSOR)?;
        }
    }
    store.checkpoint(&CURSOR).context("the last checkpoint")
}

/// Nothing was read yet from the decided log.
const CURSOR: [u8; 16] = [0; 16];
