//! A small city, and a decided log to write its decisions into.

use std::path::Path;
use std::sync::Arc;

use hunhe_disk::Disk;
use hunhe_fixtures::enrolment;
pub(crate) use hunhe_fixtures::{class, id};
use hunhe_gateway::decided::{Encoder, Message};
use hunhe_gateway_core::event::Rollups;
use hunhe_gateway_core::event::{ABSENT, ChannelStat, Decisions, Reason, Refusal, SampleSet, WindowClosed};
use hunhe_gateway_core::registry::{DeviceIx, Enrolment, Registry};
use hunhe_log::{Lsn, Options, Writer};
use hunhe_proto::class::Class;

pub(crate) const METER: &str = r#"
name = "gas_meter"
version = 1
title = { zh = "燃气表", en = "Gas meter" }
time_unit_ms = 3600000
interval = 1
household = true
[report]
samples = 24
silent_after_s = 200000
[[channels]]
number = 1
name = "volume"
title = { zh = "量", en = "Volume" }
unit = "m3"
kind = "register"
decimals = 3
min = 0.0
max = 999999.0
[[channels]]
number = 2
name = "pressure"
title = { zh = "压", en = "Pressure" }
unit = "kPa"
kind = "gauge"
decimals = 1
min = -100.0
max = 100.0
[[channels]]
number = 3
name = "valve"
title = { zh = "阀", en = "Valve" }
unit = "1"
kind = "state"
min = 0.0
max = 3.0
"#;

/// Devices `g-0`, `g-1`, … with the pseudonyms `p-0`, `p-1`, ….
pub(crate) fn registry_of(class: Class, devices: u32) -> Registry {
    let name = class.name.clone();
    let devices = (0..devices).map(|n| Enrolment {
        pseudonym: id(&format!("p-{n}")),
        operator: id("gas"),
        zone: id("dma-7"),
        ..enrolment(&format!("g-{n}"), &name, "agent")
    });
    hunhe_fixtures::registry(vec![class], Vec::new(), devices)
}

pub(crate) fn registry(devices: u32) -> Arc<Registry> {
    Arc::new(registry_of(class(METER), devices))
}

/// One row: time, quality, values of channels 1 to 3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) time_ms: i64,
    pub(crate) quality: u8,
    pub(crate) values: [i64; 3],
}

/// A decided log and its writer.
pub(crate) struct Log {
    pub(crate) writer: Writer,
    registry: Arc<Registry>,
    encoder: Encoder,
    pub(crate) source_lsn: u64,
}

impl Log {
    pub(crate) fn new(dir: &Path, registry: &Arc<Registry>) -> Self {
        Self::on(hunhe_disk::real(), &dir.join("decided"), 1 << 20, registry)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64, registry: &Arc<Registry>) -> Self {
        let options = Options { disk, dir: dir.into(), segment_bytes, limit_bytes: 1 << 30 };
        let (writer, _) = Writer::open(options).unwrap();
        Self { writer, registry: Arc::clone(registry), encoder: Encoder::new(Rollups::All), source_lsn: 0 }
    }

    /// Appends one message's decisions under the next source record.
    pub(crate) fn append(&mut self, decisions: &Decisions) {
        self.append_of(None, decisions);
    }

    /// The same of a quarantine record that was judged again.
    pub(crate) fn append_of(&mut self, redrive_of: Option<u64>, decisions: &Decisions) {
        self.source_lsn += 1;
        let message = Message {
            source_lsn: self.source_lsn,
            arrival_ms: 5,
            topic: b"topic",
            payload: b"payload",
            redrive_of,
        };
        self.encoder.encode(&self.registry, message, decisions);
        self.encoder.append(&mut self.writer).unwrap();
        self.writer.flush().unwrap();
    }

    pub(crate) fn append_rows(&mut self, device: u32, boot: u32, first_seq: u64, rows: &[Row]) {
        self.append(&decisions_of(device, boot, first_seq, rows));
    }

    pub(crate) fn head(&self) -> Lsn {
        self.writer.head()
    }
}

pub(crate) fn decisions_of(device: u32, boot: u32, first_seq: u64, rows: &[Row]) -> Decisions {
    let mut decisions = Decisions::default();
    let accepted = &mut decisions.accepted;
    accepted.sets.push(SampleSet {
        device: DeviceIx(device),
        boot,
        rows: 0..rows.len(),
        channels: 0..3,
        values_from: 0,
    });
    accepted.channels = vec![1, 2, 3];
    accepted.times_ms = rows.iter().map(|row| row.time_ms).collect();
    accepted.seqs = (first_seq..).take(rows.len()).collect();
    accepted.quality = rows.iter().map(|row| row.quality).collect();
    accepted.values = (0..3).flat_map(|channel| rows.iter().map(move |row| row.values[channel])).collect();
    decisions
}

pub(crate) fn window_of(
    device: u32,
    length_ms: i64,
    start_ms: i64,
    revision: u32,
    values: &[i64],
) -> Decisions {
    let mut decisions = Decisions::default();
    decisions.shown.windows.push(WindowClosed {
        device: DeviceIx(device),
        length_ms,
        start_ms,
        revision,
        expected: 4,
        stats_from: 0,
        channels: 1,
    });
    decisions.shown.stats.push(ChannelStat {
        channel: 1,
        count: u32::try_from(values.len()).unwrap(),
        sum: values.iter().map(|&value| i128::from(value)).sum(),
        min: values.iter().copied().min().unwrap(),
        max: values.iter().copied().max().unwrap(),
        last: *values.last().unwrap(),
    });
    decisions
}

pub(crate) fn refusal() -> Decisions {
    let refusal = Refusal { device: None, boot: 0, reason: Reason::UnknownDevice };
    Decisions { refusal: Some(refusal), ..Decisions::default() }
}

/// Hourly rows with a rising register, a wavering pressure, and a valve that is sometimes absent.
pub(crate) fn hourly(start_ms: i64, from: i64, count: i64) -> Vec<Row> {
    (from..from + count)
        .map(|n| Row {
            time_ms: start_ms + n * 3_600_000,
            quality: if n % 7 == 3 { 2 } else { 1 },
            values: [1_000_000 + n * 137, n % 41 - 20, if n % 5 == 0 { ABSENT } else { n % 3 }],
        })
        .collect()
}
