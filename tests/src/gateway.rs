//! The gateway as its operator starts it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    http::Http,
    process::{Process, eventually, free_port},
    program, seeds,
};

const READY: Duration = Duration::from_secs(30);

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its port on loopback.
    pub port: u16,
    /// The process.
    pub process: Process,
    /// From the start of the process to the first 200 of `/readyz`.
    pub ready_after: Duration,
    /// Its HTTP interface.
    pub http: Http,
    dir: PathBuf,
    environment: Vec<(String, String)>,
}

/// The configuration of one gateway; the rest are defaults.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The broker's port.
    pub broker: u16,
    /// The database's port.
    pub database: Option<u16>,
    /// Device lists or fleets, as keys of `[registry]`.
    pub registry: String,
    /// Further lines of the file, tables.
    pub more: String,
    /// `embedded`, or `main` for the database.
    pub sink_of_record: &'static str,
}

impl Setup {
    fn to_toml(&self, dir: &Path, port: u16) -> String {
        let Self { broker, database, registry, more, sink_of_record } = self;
        let database = database.map_or_else(String::new, |port| {
            format!(
                "[[influx]]\nname = \"main\"\nkind = \"victoriametrics\"\nurl = \"http://127.0.0.1:{port}\"\n"
            )
        });
        format!(
            "data_dir = {:?}\nseeds_dir = {:?}\nsink_of_record = {sink_of_record:?}\n\n[broker]\nport = {broker}\n\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\n\n[registry]\n{registry}\n{database}\n{more}\n",
            dir.join("data"),
            seeds(""),
        )
    }
}

impl Gateway {
    /// Starts one with its files below `dir`, and waits until it is ready.
    #[must_use]
    pub fn start(dir: &Path, setup: &Setup, environment: &[(&str, &str)]) -> Self {
        let dir = dir.join("gateway");
        fs::create_dir_all(&dir).expect("folder");
        let port = free_port();
        fs::write(dir.join("gateway.toml"), setup.to_toml(&dir, port)).expect("configuration");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let begun = Instant::now();
        let process = spawn(&dir, &environment);
        let mut gateway =
            Self { port, process, ready_after: Duration::ZERO, http: Http::to(port), dir, environment };
        gateway.await_ready(begun);
        gateway
    }

    /// SIGKILL, and started again; answers the time from its start until it is ready.
    pub fn kill_and_restart(&mut self) -> Duration {
        self.process.kill();
        let begun = Instant::now();
        self.process = spawn(&self.dir, &self.environment);
        self.await_ready(begun);
        self.ready_after
    }

    /// The ledger's totals.
    #[must_use]
    pub fn ledger(&self) -> Value {
        self.http.json("/api/v1/ledger")["totals"].clone()
    }

    /// A sink's status.
    ///
    /// # Panics
    /// There is no such sink.
    #[must_use]
    pub fn sink(&self, name: &str) -> Value {
        let status = self.http.json("/api/v1/status");
        let sinks = status["sinks"].as_array().expect("sinks");
        sinks
            .iter()
            .find(|sink| sink["name"] == name)
            .unwrap_or_else(|| panic!("no sink {name}: {status}"))
            .clone()
    }

    /// Waits until every one of the samples has left `outstanding` and every sink has confirmed everything.
    ///
    /// # Panics
    /// It takes longer.
    pub fn await_settled(&self, samples: u64, within: Duration) -> Value {
        let mut last = Value::Null;
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(within, "the ledger settles", || {
                let status = self.http.json("/api/v1/status");
                let idle = status["sinks"].as_array()?.iter().all(|sink| sink["lag_records"] == 0);
                last = status["ledger"].clone();
                let count = |name: &str| last[name].as_u64().unwrap_or(0);
                (idle && count("sampled") >= samples && count("outstanding") == 0).then_some(())
            });
        }));
        assert!(settled.is_ok(), "{samples} samples expected, the ledger stands at {last}");
        last
    }

    /// `hunhe-gateway ledger --json`: its exit code and totals.
    ///
    /// # Panics
    /// It says no JSON.
    #[must_use]
    pub fn ledger_command(&self) -> (Option<i32>, Value) {
        let output = Command::new(program("hunhe-gateway"))
            .args(["ledger", "--json", "--url"])
            .arg(format!("http://127.0.0.1:{}", self.port))
            .output()
            .expect("the command runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code(), answer["totals"].clone())
    }

    fn await_ready(&mut self, begun: Instant) {
        let (http, process) = (&self.http, &mut self.process);
        eventually(READY, "the gateway is ready", || {
            assert!(process.ended().is_none(), "the gateway ended instead of getting ready");
            http.is_ok("/readyz").then_some(())
        });
        self.ready_after = begun.elapsed();
    }
}

fn spawn(dir: &Path, environment: &[(String, String)]) -> Process {
    let mut command = Command::new(program("hunhe-gateway"));
    command.arg("run").arg("--config").arg(dir.join("gateway.toml"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::spawn("hunhe-gateway", command, &dir.join("gateway.log"), None)
}
