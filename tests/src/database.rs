//! The real VictoriaMetrics, and what it holds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use crate::{
    http::{Http, quoted},
    process::{Process, eventually, free_port},
};

const READY: Duration = Duration::from_secs(20);

/// A series' points: (milliseconds since 1970, value), in order of time.
pub type Points = Vec<(i64, f64)>;

/// A database.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// Its port on loopback.
    pub port: u16,
    /// The process.
    pub process: Process,
    http: Http,
    dir: PathBuf,
}

impl VictoriaMetrics {
    /// Starts an empty one with its data below `dir`.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let dir = dir.join("victoria-metrics");
        fs::create_dir_all(&dir).expect("folder");
        let port = free_port();
        let process = spawn(&dir, port);
        let database = Self { port, process, http: Http::to(port), dir };
        database.await_ready();
        database
    }

    /// SIGTERM, as an operator stops it; [`Self::restart`] brings it back.
    pub fn stop(&mut self) {
        let _ = self.process.terminate(Duration::from_secs(30));
    }

    /// SIGKILL: it loses what it said 204 to in its last seconds. [`Self::restart`] brings it back.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir, self.port);
        self.await_ready();
    }

    /// Every series whose name matches `pattern`, by (name, device). With `raw`, points written twice appear twice.
    ///
    /// # Panics
    /// It does not answer, or not as its manual says.
    #[must_use]
    pub fn export(&self, pattern: &str, raw: bool) -> BTreeMap<(String, String), Points> {
        // What came in a moment ago becomes visible by this.
        self.http.text("/internal/force_flush");
        let selector = quoted(&format!("{{__name__=~\"{pattern}\"}}"));
        let reduce = if raw { "&reduce_mem_usage=1" } else { "" };
        let path = format!("/api/v1/export?match[]={selector}&start=0&end=4102444800{reduce}");
        let mut series: BTreeMap<_, Points> = BTreeMap::new();
        for line in self.http.text(&path).lines() {
            let block: Value = serde_json::from_str(line).expect("a line is JSON");
            let label = |name: &str| block["metric"][name].as_str().unwrap_or_default().to_owned();
            let points = series.entry((label("__name__"), label("device"))).or_default();
            let times = block["timestamps"].as_array().expect("times");
            let values = block["values"].as_array().expect("values");
            assert_eq!(times.len(), values.len(), "{line}");
            points.extend(
                times
                    .iter()
                    .zip(values)
                    .map(|(time, value)| (time.as_i64().expect("a time"), value.as_f64().expect("a value"))),
            );
        }
        for points in series.values_mut() {
            points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        }
        series
    }

    /// Rows taken in so far.
    #[must_use]
    pub fn rows_inserted(&self) -> u64 {
        let Some((200, text)) = self.http.ask(Method::GET, "/metrics") else { return 0 };
        let line = text.lines().find(|line| line.starts_with("vm_rows_inserted_total{type=\"influx\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    fn await_ready(&self) {
        eventually(READY, "VictoriaMetrics is ready", || self.http.is_ok("/health").then_some(()));
    }
}

fn spawn(dir: &Path, port: u16) -> Process {
    let mut command = Command::new("/usr/bin/victoria-metrics");
    command
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg(format!("-storageDataPath={}", dir.join("data").display()))
        .args(["-retentionPeriod=10y", "-dedup.minScrapeInterval=1s", "-search.disableCache"])
        .args(["-search.maxUniqueTimeseries=5000000", "-memory.allowedBytes=2GiB"]);
    Process::spawn("victoria-metrics", command, &dir.join("victoria-metrics.log"), None)
}
