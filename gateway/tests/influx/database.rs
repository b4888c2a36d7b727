//! The sink against the real VictoriaMetrics: what went in comes out, exactly. Debian's package is `victoria-metrics`.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hunhe_gateway::sinks::influx::line_protocol::Dialect;
use hunhe_gateway::sinks::influx::{self, Options, setup::SetupError};
use hunhe_gateway_core::event::ABSENT;
use hunhe_proto::reading::Quality;

use crate::faults::{confirmations, finish, letters, start, totals};
use crate::fixture::{Log, hourly, registry, window_of};
use crate::server::eventually;
use crate::setup::ask;

const START_MS: i64 = 1_767_225_600_000;

struct Victoria {
    child: Child,
    port: u16,
}

impl Victoria {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        // The port that is free now may be taken when the database wants it: then another.
        let start = || {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            Self::start_at(dir, port, flags)
        };
        (0..10).find_map(|_| start()).expect("VictoriaMetrics starts")
    }

    /// `None`: it ended instead of listening.
    fn start_at(dir: &Path, port: u16, flags: &[&str]) -> Option<Self> {
        let child = Command::new("victoria-metrics")
            .arg(format!("-storageDataPath={}", dir.join("victoria").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install Debian's package victoria-metrics");
        let mut victoria = Self { child, port };
        let mut ended = false;
        eventually("VictoriaMetrics listens or ends", || {
            ended = victoria.child.try_wait().unwrap().is_some();
            ended || victoria.try_get("/health").is_some()
        });
        (!ended).then_some(victoria)
    }

    /// SIGKILL, and the same again.
    fn kill_and_restart(&mut self, dir: &Path, flags: &[&str]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let port = self.port;
        *self = (0..10).find_map(|_| Self::start_at(dir, port, flags)).expect("VictoriaMetrics starts again");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn try_get(&self, target: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("{}{target}", self.url());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        runtime
            .block_on(async { client.get(url).send().await.ok()?.error_for_status().ok()?.text().await.ok() })
    }

    /// All samples stored, by `name{device}`: (time, value) in order of time.
    fn export(&self) -> BTreeMap<String, Vec<(i64, f64)>> {
        self.try_get("/internal/force_flush").unwrap();
        let text = self.try_get("/api/v1/export?match[]=%7Bdevice!=%22%22%7D").unwrap();
        let mut series = BTreeMap::new();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = format!(
                "{}{{{}}}",
                line["metric"]["__name__"].as_str().unwrap(),
                line["metric"]["device"].as_str().unwrap()
            );
            let times = line["timestamps"].as_array().unwrap().iter().map(|time| time.as_i64().unwrap());
            let values = line["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
            let entry: &mut Vec<(i64, f64)> = series.entry(name).or_default();
            entry.extend(times.zip(values));
        }
        series.values_mut().for_each(|points| points.sort_by_key(|(time, _)| *time));
        series
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        // One that was killed before is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(dir: &Path, url: &str) -> Options {
    Options::new("victoria", url, Dialect::Victoriametrics, dir.join("victoria.cursor"))
}

fn write(
    dir: &Path,
    victoria: &Victoria,
    registry: &Arc<hunhe_gateway_core::registry::Registry>,
    log: &Log,
) -> hunhe_gateway::sinks::Running {
    let handle = influx::start(
        options(dir, &victoria.url()),
        Arc::clone(registry),
        log.writer.subscribe(),
        Box::new(|report| panic!("{report:?}")),
    )
    .unwrap();
    let status = handle.status();
    eventually("everything is written", || status.snapshot().lag_records == 0);
    handle
}

#[test]
fn what_was_decided_is_what_victoriametrics_exports() {
    let dir = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(dir.path(), &["-retentionPeriod=10y", "-dedup.minScrapeInterval=1s"]);
    let registry = registry(50);
    let mut log = Log::new(dir.path(), &registry);
    let mut expected: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for message in 0..20 {
        for device in 0..50_u32 {
            let rows = hourly(START_MS + i64::from(device) * 977, message * 24, 24);
            log.append_rows(device, 1, u64::try_from(message * 24).unwrap(), &rows);
            for row in &rows {
                for (channel, (name, scale)) in
                    [("volume", 1000.0), ("pressure", 10.0), ("valve", 1.0)].into_iter().enumerate()
                {
                    if row.values[channel] != ABSENT {
                        let value = f64::from(i32::try_from(row.values[channel]).unwrap()) / scale;
                        expected
                            .entry(format!("gas_meter_{name}{{p-{device}}}"))
                            .or_default()
                            .push((row.time_ms, value));
                    }
                }
                if row.quality != Quality::Valid as u8 {
                    expected
                        .entry(format!("gas_meter_quality{{p-{device}}}"))
                        .or_default()
                        .push((row.time_ms, row.quality.into()));
                }
            }
        }
    }
    let handle = write(dir.path(), &victoria, &registry, &log);
    let status = handle.status();
    handle.stop();
    assert!(handle.join());
    let stored = victoria.export();
    assert_eq!(stored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, points) in &expected {
        assert_eq!(&stored[name], points, "{name}");
    }
    let now = status.snapshot();
    assert_eq!((now.rows_written, now.rows_skipped, now.warning.as_str()), (24_000, 0, ""));
}

#[test]
fn a_revised_window_returns_its_newest_revision_even_where_that_is_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(dir.path(), &["-retentionPeriod=10y", "-dedup.minScrapeInterval=1s"]);
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    for (revision, values) in
        [(0, vec![9000, 9000]), (1, vec![9000, 9000, 9500]), (2, vec![1000, 2000, 2500, 3000])]
    {
        log.append(&window_of(0, 3_600_000, START_MS, revision, &values));
    }
    let handle = write(dir.path(), &victoria, &registry, &log);
    handle.stop();
    assert!(handle.join());
    let stored = victoria.export();
    let value = |field: &str| stored[&format!("gas_meter_1h_{field}{{p-0}}")].clone();
    assert_eq!(value("revision"), [(START_MS + 3, 2.0)]);
    assert_eq!(value("volume_max"), [(START_MS + 3, 3.0)]);
    assert_eq!(value("volume_mean"), [(START_MS + 3, 2.125)]);
    assert_eq!(value("completeness"), [(START_MS + 3, 1.0)]);
}

#[test]
fn rows_that_victoriametrics_takes_and_skips_are_read_back_and_become_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(dir.path(), &["-retentionPeriod=1", "-dedup.minScrapeInterval=1s"]);
    let registry = registry(3);
    let mut log = Log::new(dir.path(), &registry);
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let this_hour = now_ms / 3_600_000 * 3_600_000;
    // The year 2001 is beyond any month's retention; the database answers 204 all the same.
    log.append_rows(0, 1, 0, &hourly(978_307_200_000, 1, 3));
    log.append_rows(1, 1, 0, &hourly(this_hour - 24 * 3_600_000, 0, 24));
    let mut mixed = hourly(this_hour - 10 * 3_600_000, 0, 8);
    mixed[2].time_ms = 978_307_200_000;
    // Far ahead of the database's clock.
    mixed[5].time_ms = this_hour + 30 * 24 * 3_600_000;
    log.append_rows(2, 4, 100, &mixed);
    log.append(&window_of(1, 3_600_000, this_hour - 3_600_000, 0, &[1, 2]));
    log.append(&window_of(1, 3_600_000, 978_307_200_000, 0, &[1, 2]));
    let mut options = options(dir.path(), &victoria.url());
    options.of_record = true;
    options.durable_after = Duration::from_secs(1);
    // Several batches.
    options.batch_rows = NonZero::new(5).unwrap();
    let (handle, seen) = start(options, registry, &log);
    let status = handle.status();
    finish(handle, &log);
    let letters = letters(&seen);
    let found: Vec<_> =
        letters.iter().map(|l| (l.source_lsn, l.device.to_string(), l.boot, l.seq, l.samples)).collect();
    let letter =
        |source_lsn, device: &str, boot, seq, samples| (source_lsn, device.to_owned(), boot, seq, samples);
    assert_eq!(
        found,
        [
            letter(1, "g-0", 1, 0, 1),
            letter(1, "g-0", 1, 1, 1),
            letter(1, "g-0", 1, 2, 1),
            letter(3, "g-2", 4, 102, 1),
            letter(3, "g-2", 4, 105, 1),
            letter(5, "g-1", 0, 0, 0),
        ]
    );
    assert!(
        letters.iter().all(|letter| letter.words.contains("does not hold it") && !letter.line.is_empty())
    );
    assert_eq!(totals(&seen), (35, 30, 5));
    let now = status.snapshot();
    assert!(now.warning.contains("skipped") && now.rows_skipped > 0);
    assert_eq!(now.rows_dead_lettered, 6);
    let volumes = victoria.export();
    let stored: usize =
        (0..3).filter_map(|n| volumes.get(&format!("gas_meter_volume{{p-{n}}}"))).map(Vec::len).sum();
    assert_eq!(stored, 30, "what is confirmed as stored is what is there");
}

#[test]
fn victoriametrics_killed_gets_again_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-retentionPeriod=10y", "-dedup.minScrapeInterval=1s"];
    let mut victoria = Victoria::start(dir.path(), &flags);
    let registry = registry(20);
    let mut log = Log::new(dir.path(), &registry);
    let mut options = options(dir.path(), &victoria.url());
    options.of_record = true;
    let (handle, seen) = start(options, Arc::clone(&registry), &log);
    let status = handle.status();
    for round in 0..3 {
        for device in 0..20 {
            let first = u64::try_from(round * 24).unwrap();
            log.append_rows(device, 1, first, &hourly(START_MS, round * 24, 24));
        }
        eventually("it is written", || status.snapshot().lag_records == 0);
        assert!(seen.lock().unwrap().is_empty(), "nothing of it is durable yet");
        victoria.kill_and_restart(dir.path(), &flags);
        let held = u64::try_from(round + 1).unwrap();
        eventually("the sink goes back", || status.snapshot().rewinds == held);
    }
    finish(handle, &log);
    assert_eq!(totals(&seen), (1440, 1440, 0));
    let sources: Vec<u64> = confirmations(&seen).iter().map(|confirmation| confirmation.source_lsn).collect();
    assert_eq!(sources, (1..=60).collect::<Vec<_>>(), "each once, in order");
    let stored = victoria.export();
    for device in 0..20 {
        let times: Vec<i64> =
            stored[&format!("gas_meter_volume{{p-{device}}}")].iter().map(|(time, _)| *time).collect();
        assert_eq!(times, (0..72).map(|hour| START_MS + hour * 3_600_000).collect::<Vec<_>>(), "p-{device}");
    }
}

#[test]
fn victoriametrics_is_asked_for_its_health_and_is_no_influxdb() {
    let dir = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(dir.path(), &[]);
    let mut options = options(dir.path(), &victoria.url());
    let found = ask(&options).unwrap();
    assert_eq!((found.database.as_str(), found.created_bucket), ("VictoriaMetrics", false));
    options.dialect = Dialect::Influxdb;
    assert!(matches!(ask(&options), Err(SetupError::Other { expected: "InfluxDB 2", .. })));
}
