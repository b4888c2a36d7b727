//! What line protocol costs: nanoseconds of one core per reading (one value), from decided records in memory to lines in memory.
//!
//! Prints one JSON line per shape of report. `cargo run --profile ci -p hunhe-gateway --example influx_encode`

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hunhe_gateway::decided::{self, Decided, Message};
use hunhe_gateway::sinks::influx::line_protocol::{Dialect, Encoder, Style};
use hunhe_gateway_core::event::Rollups;
use hunhe_gateway_core::event::{Decisions, SampleSet};
use hunhe_gateway_core::registry::{DeviceIx, Enrolment, Registry};
use hunhe_log::{Lsn, Next, Options, Reader, Writer};
use hunhe_proto::class::Class;
use hunhe_proto::id::Id;

const DEVICES: u32 = 20_000;
const ROUNDS: u32 = 20;

struct ReportShape {
    name: &'static str,
    rows: usize,
    channels: u16,
}

fn main() -> Result<()> {
    for shape in [
        ReportShape { name: "meter_day_24x2", rows: 24, channels: 2 },
        ReportShape { name: "station_minute_6x8", rows: 6, channels: 8 },
        ReportShape { name: "single_1x1", rows: 1, channels: 1 },
    ] {
        measure(&shape)?;
    }
    Ok(())
}

fn class(channels: u16) -> Result<Class> {
    let mut text = String::from(
        r#"name = "gas_meter"
        version = 1
        title = { zh = "表", en = "meter" }
        time_unit_ms = 60000
        interval = 60
        household = true
        report = { samples = 24, silent_after_s = 200000 }
        "#,
    );
    for number in 1..=channels {
        write!(
            text,
            r#"
            [[channels]]
            number = {number}
            name = "channel_{number}"
            title = {{ zh = "量", en = "channel" }}
            unit = "1"
            kind = "gauge"
            decimals = 3
            min = -1e9
            max = 1e9
            "#
        )?;
    }
    Ok(toml::from_str(&text)?)
}

fn registry(channels: u16) -> Result<Registry> {
    let mut registry = Registry::new(vec![class(channels)?]);
    for n in 0..DEVICES {
        registry.enrol(Enrolment {
            id: Id::new(&format!("g-{n:012x}"))?,
            pseudonym: Id::new(&format!("p-{n:012x}"))?,
            class: "gas_meter".into(),
            agent: Id::new(&format!("c-{}", n / 1000))?,
            operator: Id::new("shenyang-gas")?,
            district: 210_102,
            zone: Id::new(&format!("zone-{}", n / 500))?,
            position: (123.4, 41.8),
        })?;
    }
    Ok(registry)
}

fn decisions(shape: &ReportShape, device: u32) -> Decisions {
    let mut decisions = Decisions::default();
    let accepted = &mut decisions.accepted;
    accepted.sets.push(SampleSet {
        device: DeviceIx(device),
        boot: 1,
        rows: 0..shape.rows,
        channels: 0..usize::from(shape.channels),
        values_from: 0,
    });
    accepted.channels = (1..=shape.channels).collect();
    accepted.times_ms = (0..).take(shape.rows).map(|n: i64| 1_767_225_600_000 + n * 3_600_000).collect();
    accepted.seqs = (0..).take(shape.rows).collect();
    accepted.quality = vec![1; shape.rows];
    let values = usize::from(shape.channels) * shape.rows;
    let first = i64::from(device) * 7919 % 5_000_000;
    accepted.values = (0..).take(values).map(|n: i64| first + n * 137).collect();
    decisions
}

/// Every device's report as decided records, read back from a real log.
fn records(shape: &ReportShape, registry: &Registry) -> Result<Vec<(u8, Vec<u8>)>> {
    let dir = tempfile::tempdir()?;
    let options = Options {
        disk: hunhe_disk::real(),
        dir: dir.path().join("decided"),
        segment_bytes: 64 << 20,
        limit_bytes: 1 << 30,
    };
    let (mut log, _) = Writer::open(options)?;
    let mut written = decided::Encoder::new(Rollups::All);
    for device in 0..DEVICES {
        let message = Message {
            source_lsn: u64::from(device) + 1,
            arrival_ms: 0,
            topic: b"",
            payload: b"",
            redrive_of: None,
        };
        written.encode(registry, message, &decisions(shape, device));
        written.append(&mut log)?;
    }
    log.flush()?;
    let mut reader = Reader::open(log.subscribe(), Lsn::FIRST)?;
    let mut records = Vec::new();
    while let Next::Record(record) = reader.next()? {
        records.push((record.kind, record.payload.to_vec()));
    }
    Ok(records)
}

fn measure(shape: &ReportShape) -> Result<()> {
    let registry = registry(shape.channels)?;
    let records = records(shape, &registry)?;
    let style = Style { dialect: Dialect::Influxdb, provenance: false };
    let mut encoder = Encoder::new(Arc::new(registry), style)?;
    let (mut body, mut buffers) = (Vec::new(), decided::Buffers::default());
    let (mut best_ns, mut lines, mut bytes) = (u128::MAX, 0_u64, 0);
    for _ in 0..ROUNDS {
        (lines, bytes) = (0, 0);
        let start = Instant::now();
        for (kind, payload) in &records {
            let Decided::Samples(sets) = decided::read(*kind, payload, &mut buffers)? else { continue };
            for samples in sets.iter() {
                encoder.samples(&mut body, &samples, |_, _| lines += 1)?;
            }
            // About a batch's bytes, so that the cache behaves as it does there.
            if body.len() > 2 << 20 {
                bytes += black_box(&body).len();
                body.clear();
            }
        }
        best_ns = best_ns.min(start.elapsed().as_nanos());
        bytes += body.len();
        body.clear();
    }
    let readings = lines * u64::from(shape.channels);
    anyhow::ensure!(readings > 0, "nothing was encoded");
    let tenths = best_ns * 10 / u128::from(readings);
    let line_bytes = u64::try_from(bytes).context("bytes fit")? / lines;
    println!(
        "{{\"bench\":\"influx_encode\",\"shape\":\"{}\",\"ns_per_reading\":{}.{},\"readings\":{readings},\"bytes_per_line\":{line_bytes},\"rounds\":{ROUNDS}}}",
        shape.name,
        tenths / 10,
        tenths % 10,
    );
    Ok(())
}
