//! The gateway as its operator starts it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    broker::GATEWAY as USER,
    command_of, command_under,
    http::Http,
    mqtt::password_of,
    process::{Process, eventually, free_port},
    seeds,
};

const READY: Duration = Duration::from_secs(30);
/// Asked no oftener: an answer goes over all devices.
const POLL: Duration = Duration::from_millis(50);
/// The gateway shows what it knows within so much, and a status is kept for a moment.
const SHOWN_WITHIN: Duration = Duration::from_millis(700);

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
    /// When the process was started.
    begun: Instant,
}

/// The configuration of one gateway; the rest are defaults.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The port of the broker's listener for the gateway.
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
    /// Without a database: the embedded store is the sink of record.
    #[must_use]
    pub fn embedded(broker: u16, registry: impl Into<String>, more: impl Into<String>) -> Self {
        let (registry, more) = (registry.into(), more.into());
        Self { broker, database: None, registry, more, sink_of_record: "embedded" }
    }

    fn to_toml(&self, dir: &Path, port: u16) -> String {
        let Self { broker, database, registry, more, sink_of_record } = self;
        let database = database.map_or_else(String::new, |port| {
            format!(
                "[[influx]]\nname = \"main\"\nkind = \"victoriametrics\"\nurl = \"http://127.0.0.1:{port}\"\n"
            )
        });
        format!(
            "data_dir = {:?}\nseeds_dir = {:?}\nsink_of_record = {sink_of_record:?}\n\n[broker]\nport = {broker}\nusername = {USER:?}\n\
             password_file = {:?}\n\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\n\n[registry]\n{registry}\n{database}\n{more}\n",
            dir.join("data"),
            seeds(""),
            dir.join("broker.password"),
        )
    }
}

impl Gateway {
    /// Starts one with its files below `dir`, and waits until it is ready.
    #[must_use]
    pub fn start(dir: &Path, setup: &Setup, environment: &[(&str, &str)]) -> Self {
        Self::start_under(dir, setup, environment, &[])
    }

    /// The same by a program that ends up as the gateway itself: a shell that sets limits, a tracer that detaches.
    #[must_use]
    pub fn start_under(dir: &Path, setup: &Setup, environment: &[(&str, &str)], wrapper: &[String]) -> Self {
        let mut gateway = Self::launch(dir, setup, environment, wrapper);
        gateway.await_ready();
        gateway
    }

    /// Starts one and does not wait: it may not get ready.
    #[must_use]
    pub fn launch(dir: &Path, setup: &Setup, environment: &[(&str, &str)], wrapper: &[String]) -> Self {
        let dir = dir.join("gateway");
        fs::create_dir_all(&dir).expect("folder");
        let port = free_port();
        fs::write(dir.join("broker.password"), password_of(USER)).expect("a password");
        fs::write(dir.join("gateway.toml"), setup.to_toml(&dir, port)).expect("configuration");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let process = spawn(&dir, &environment, wrapper);
        Self {
            port,
            process,
            ready_after: Duration::ZERO,
            http: Http::to(port),
            dir,
            environment,
            begun: Instant::now(),
        }
    }

    /// SIGKILL, and started again; answers the time from its start until it is ready.
    pub fn kill_and_restart(&mut self) -> Duration {
        self.process.kill();
        self.relaunch(&[]);
        self.await_ready();
        self.ready_after
    }

    /// Started again after its end, by `wrapper` if it is not empty; it may not get ready.
    pub fn relaunch(&mut self, wrapper: &[String]) {
        self.begun = Instant::now();
        self.process = spawn(&self.dir, &self.environment, wrapper);
    }

    /// Its configuration's file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.dir.join("gateway.toml")
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("gateway.log")).unwrap_or_default()
    }

    /// The ledger's totals.
    #[must_use]
    pub fn ledger(&self) -> Value {
        self.http.json("/api/v1/ledger")["totals"].clone()
    }

    /// A sink's status.
    #[must_use]
    pub fn sink(&self, name: &str) -> Value {
        self.named("sinks", name)
    }

    /// The status of an output of alerts.
    #[must_use]
    pub fn output(&self, name: &str) -> Value {
        self.named("outputs", name)
    }

    /// # Panics
    /// There is none of that name.
    fn named(&self, list: &str, name: &str) -> Value {
        let status = self.http.json("/api/v1/status");
        let all = status[list].as_array().expect("a list");
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {status}")).clone()
    }

    /// Waits until every one of the samples has left `outstanding` and every sink has done what there was to do.
    ///
    /// # Panics
    /// It takes longer.
    pub fn await_settled(&self, samples: u64, within: Duration) -> Value {
        let mut last = Value::Null;
        // What is shown may be a tenth of a second older than the positions beside it.
        let mut seen: Option<(Instant, Value)> = None;
        let begun = Instant::now();
        while begun.elapsed() < within {
            last = self.http.json("/api/v1/status");
            let ledger = &last["ledger"];
            let count = |name: &str| ledger[name].as_u64().unwrap_or(0);
            let settled = sinks_idle(&last) && lanes_idle(&last) && count("outstanding") == 0;
            match &seen {
                Some((since, same)) if settled && same == ledger => {
                    if since.elapsed() >= SHOWN_WITHIN && count("sampled") >= samples {
                        return ledger.clone();
                    }
                }
                _ => seen = settled.then(|| (Instant::now(), ledger.clone())),
            }
            std::thread::sleep(POLL);
        }
        panic!("{samples} samples expected within {within:?}, the status is {last}");
    }

    /// `hunhe-gateway ledger --json`: its exit code and totals.
    ///
    /// # Panics
    /// It says no JSON.
    #[must_use]
    pub fn ledger_command(&self) -> (Option<i32>, Value) {
        let output = command_of("hunhe-gateway")
            .args(["ledger", "--json", "--url"])
            .arg(format!("http://127.0.0.1:{}", self.port))
            .output()
            .expect("the command runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code(), answer["totals"].clone())
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// It ends instead, or it takes too long.
    pub fn await_ready(&mut self) {
        let (http, process) = (&self.http, &mut self.process);
        eventually(READY, "the gateway is ready", || {
            assert!(process.ended().is_none(), "the gateway ended instead of getting ready");
            http.is_ok("/readyz").then_some(())
        });
        self.ready_after = self.begun.elapsed();
    }
}

/// Whether every sink has come to the end of what was decided. The embedded store's position moves only where it saves
/// itself, so its lag in time is asked.
#[must_use]
pub fn sinks_idle(status: &Value) -> bool {
    let sinks = status["sinks"].as_array().expect("sinks");
    sinks
        .iter()
        .all(|sink| if sink["name"] == "embedded" { sink["lag_s"] == 0.0 } else { sink["lag_records"] == 0 })
}

/// Has every lane decided what the journal holds? A tick of the clock may always be on its way.
fn lanes_idle(status: &Value) -> bool {
    let lanes = status["lanes"].as_array().expect("lanes");
    lanes.iter().all(|lane| lane["queued_records"].as_u64().is_some_and(|queued| queued <= 1))
}

fn spawn(dir: &Path, environment: &[(String, String)], wrapper: &[String]) -> Process {
    let mut command = command_under("hunhe-gateway", wrapper);
    command.arg("run").arg("--config").arg(dir.join("gateway.toml"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::spawn("hunhe-gateway", command, &dir.join("gateway.log"), None)
}
