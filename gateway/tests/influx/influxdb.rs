//! The sink against a real InfluxDB, 1.6 (Debian's package `influxdb`): its storage engine is InfluxDB 2's, its write API is
//! not, so a small proxy stands between.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hunhe_gateway::sinks::influx::Options;
use hunhe_gateway::sinks::influx::line_protocol::Dialect;
use hunhe_gateway::sinks::influx::setup::SetupError;
use hunhe_gateway::sinks::status::State;
use hunhe_gateway_core::event::ABSENT;
use serde_json::{Value, json};

use crate::faults::{START_MS, finish, letters, start, totals};
use crate::fixture::{Log, Row, hourly, registry, window_of};
use crate::server::{Request, eventually, read_body, read_head, setup_answer};
use crate::setup::ask;

const DAY_MS: i64 = 86_400_000;
const DATABASE: &str = "city";

struct Influx {
    child: Child,
    port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Influx {
    fn start(dir: &Path) -> Self {
        // A port that is free now may be taken when the database wants it: then another.
        (0..10).find_map(|_| Self::try_start(dir)).expect("InfluxDB starts")
    }

    fn try_start(dir: &Path) -> Option<Self> {
        let (port, own) = (free_port(), free_port());
        let dir = dir.join("influxdb");
        std::fs::create_dir_all(&dir).unwrap();
        let below = |name: &str| dir.join(name);
        let file = below("influxdb.conf");
        let text = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{own}\"\n[meta]\ndir = {:?}\n[data]\ndir = {:?}\n\
             wal-dir = {:?}\n[http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n",
            below("meta"),
            below("data"),
            below("wal")
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("influxd")
            .args(["run", "-config"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install Debian's package influxdb");
        let mut influx = Self { child, port };
        let mut ended = false;
        eventually("InfluxDB listens or ends", || {
            ended = influx.child.try_wait().unwrap().is_some();
            ended || influx.call("GET", "/ping", b"").is_some()
        });
        (!ended).then_some(influx)
    }

    /// An answer's body.
    fn call(&self, method: &str, target: &str, body: &[u8]) -> Option<String> {
        call(self.port, method, target, body)
    }

    fn query(&self, text: &str) -> Value {
        query(self.port, text)
    }

    /// Rows of a measurement's device, by field; nothing where it has none.
    fn rows(&self, measurement: &str, device: &str) -> Vec<BTreeMap<String, f64>> {
        let answer =
            self.query(&format!("SELECT * FROM \"{measurement}\" WHERE device = '{device}' ORDER BY time"));
        let series = &answer["results"][0]["series"][0];
        let Some(columns) = series["columns"].as_array() else { return Vec::new() };
        let rows = series["values"].as_array().unwrap().iter().map(|row| {
            let cells = columns.iter().zip(row.as_array().unwrap());
            cells.filter_map(|(name, cell)| Some((name.as_str()?.to_owned(), cell.as_f64()?))).collect()
        });
        rows.collect()
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        // One that has ended is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call(port: u16, method: &str, target: &str, body: &[u8]) -> Option<String> {
    let answer = forward(port, method, target, body)?;
    let text = String::from_utf8(answer).unwrap();
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

fn query(port: u16, text: &str) -> Value {
    let quoted: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // Answers without a length come in chunks, and whole ones do not.
    let target = format!("/query?db={DATABASE}&epoch=ms&q={quoted}");
    let body = call(port, "POST", &target, b"").unwrap();
    let json = body.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(json).unwrap()
}

fn forward(port: u16, method: &str, target: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: influxdb\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// What InfluxDB 2 answers about health, organisation and bucket, of the databases that this InfluxDB 1 has.
fn answer_setup(port: u16, request: &Request, may_create: bool) -> Option<(u16, String)> {
    let (path, names) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let answer = match path {
        "/api/v2/buckets" if !request.lines.is_empty() => {
            if !may_create {
                return Some((403, "insufficient permissions for write".into()));
            }
            let wanted: Value = serde_json::from_str(&request.lines.concat()).unwrap();
            let (name, every_s) = (&wanted["name"], &wanted["retentionRules"][0]["everySeconds"]);
            query(port, &format!("CREATE DATABASE {name} WITH DURATION {every_s}s"));
            return Some((201, "{}".into()));
        }
        "/api/v2/buckets" => {
            let name = names.split('&').find_map(|part| part.strip_prefix("name="))?;
            let found = query(port, &format!("SHOW RETENTION POLICIES ON \"{name}\""));
            let hours = found["results"][0]["series"][0]["values"][0][1].as_str().map(str::to_owned);
            let every_s =
                hours.map(|text| 3600 * text.split('h').next().unwrap().parse::<i64>().unwrap_or(0));
            let buckets: Vec<Value> = every_s
                .map(|every_s| json!({ "name": name, "retentionRules": [{ "type": "expire", "everySeconds": every_s }] }))
                .into_iter()
                .collect();
            json!({ "buckets": buckets }).to_string()
        }
        path => setup_answer(path)?.to_owned(),
    };
    Some((200, answer))
}

/// Speaks InfluxDB 2's API in front of an InfluxDB 1: `bucket` is its database, organisation and token it has none.
fn proxy(port: u16, may_create: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut request, length) = read_head(&mut reader)?;
                read_body(&mut reader, length, &mut request)?;
                if let Some((code, body)) = answer_setup(port, &request, may_create) {
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    return stream.write_all(answer.as_bytes()).ok();
                }
                let target = match request.target.split_once('?') {
                    Some(("/api/v2/write", query)) => {
                        assert_eq!(request.authorization.as_deref(), Some("Token secret"));
                        let bucket = query.split('&').find_map(|part| part.strip_prefix("bucket="))?;
                        let precision = query.split('&').find_map(|part| part.strip_prefix("precision="))?;
                        format!("/write?db={bucket}&precision={precision}")
                    }
                    _ => "/ping".to_owned(),
                };
                let body = request.lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat());
                let answer = forward(port, "POST", &target, &body.collect::<Vec<u8>>())?;
                stream.write_all(&answer).ok()
            });
        }
    });
    url
}

fn options(dir: &Path, influx: &Influx) -> Options {
    options_of(dir, proxy(influx.port, true))
}

fn options_of(dir: &Path, url: String) -> Options {
    let mut options = Options::new("influx", &url, Dialect::Influxdb, dir.join("influx.cursor"));
    "my org".clone_into(&mut options.org);
    DATABASE.clone_into(&mut options.bucket);
    "secret".clone_into(&mut options.token);
    options.of_record = true;
    options
}

#[test]
fn what_was_decided_is_what_influxdb_holds() {
    let dir = tempfile::tempdir().unwrap();
    let influx = Influx::start(dir.path());
    influx.query(&format!("CREATE DATABASE {DATABASE}"));
    let registry = registry(10);
    let mut log = Log::new(dir.path(), &registry);
    // Twice the same: a repeat replaces.
    for message in [0_i64, 1, 2, 1] {
        for device in 0..10 {
            log.append_rows(device, 1, 24 * message.unsigned_abs(), &hourly(START_MS, 24 * message, 24));
        }
    }
    let (handle, seen) = start(options(dir.path(), &influx), registry, &log);
    finish(handle, &log);
    assert_eq!((totals(&seen), letters(&seen).len()), ((960, 960, 0), 0));
    let expected: Vec<BTreeMap<String, f64>> = hourly(START_MS, 0, 72)
        .iter()
        .map(|row| {
            let of = |value: i64| f64::from(i32::try_from(value).unwrap());
            let values = [("volume", 1000.0), ("pressure", 10.0), ("valve", 1.0)];
            let values = values.into_iter().zip(row.values).filter(|(_, value)| *value != ABSENT);
            let mut row_of: BTreeMap<String, f64> =
                values.map(|((name, scale), value)| (name.to_owned(), of(value) / scale)).collect();
            let time = START_MS + (row.time_ms - START_MS);
            row_of.insert("time".into(), time as f64);
            row_of.insert("district".into(), 210_102.0);
            if row.quality != 1 {
                row_of.insert("quality".into(), row.quality.into());
            }
            row_of
        })
        .collect();
    for device in 0..10 {
        let mut rows = influx.rows("gas_meter", &format!("p-{device}"));
        // A tag, and so a text.
        rows.iter_mut().for_each(|row| assert_eq!(row.insert("district".into(), 210_102.0), None));
        assert_eq!(rows, expected, "p-{device}");
    }
}

#[test]
fn a_revised_window_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let influx = Influx::start(dir.path());
    influx.query(&format!("CREATE DATABASE {DATABASE}"));
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    for (revision, values) in
        [(0, vec![9000, 9000]), (1, vec![9000, 9000, 9500]), (2, vec![1000, 2000, 2500, 3000])]
    {
        log.append(&window_of(0, 3_600_000, START_MS, revision, &values));
    }
    let (handle, _) = start(options(dir.path(), &influx), registry, &log);
    finish(handle, &log);
    let rows = influx.rows("gas_meter_1h", "p-0");
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let value = |field: &str| row[field];
    assert_eq!((value("revision"), value("volume_max"), value("volume_mean")), (2.0, 3.0, 2.125));
    assert_eq!(value("completeness"), 1.0);
}

#[test]
fn points_that_influxdb_refuses_are_found_in_its_partial_writes() {
    let dir = tempfile::tempdir().unwrap();
    let influx = Influx::start(dir.path());
    influx.query(&format!("CREATE DATABASE {DATABASE} WITH DURATION 5200w SHARD DURATION 7d"));
    let registry = registry(3);
    let mut log = Log::new(dir.path(), &registry);
    // Someone wrote the valve as a text, in one week: there, and nowhere else, InfluxDB refuses numbers for it.
    let line = format!("gas_meter,device=other valve=\"open\" {}", START_MS + 10 * DAY_MS);
    influx.call("POST", &format!("/write?db={DATABASE}&precision=ms"), line.as_bytes()).unwrap();
    let week = |time_ms: i64| (time_ms / DAY_MS + 3) / 7;
    let bad_week = week(START_MS + 10 * DAY_MS);
    let row = |n: i64| Row {
        time_ms: START_MS + n * DAY_MS,
        quality: 1,
        values: [n, 5, if n % 2 == 0 { ABSENT } else { 1 }],
    };
    let rows: Vec<Row> = (0..28).map(row).collect();
    let refused: Vec<u64> = (0..28)
        .filter(|&n| week(rows[n].time_ms) == bad_week && rows[n].values[2] != ABSENT)
        .map(|n| n as u64)
        .collect();
    assert!((3..=4).contains(&refused.len()));
    for device in 0..3 {
        log.append_rows(device, 1, 0, &rows);
    }
    // And one is older than anything InfluxDB is to keep.
    log.append_rows(0, 1, 28, &[Row { time_ms: -52 * 100 * 7 * DAY_MS, quality: 1, values: [1, 1, ABSENT] }]);
    let (handle, seen) = start(options(dir.path(), &influx), registry, &log);
    finish(handle, &log);
    let letters = letters(&seen);
    for device in ["g-0", "g-1", "g-2"] {
        let of: Vec<u64> =
            letters.iter().filter(|l| l.device.as_str() == device && l.seq < 28).map(|l| l.seq).collect();
        assert_eq!(of, refused, "{device}");
    }
    let last = letters.last().unwrap();
    assert!(last.seq == 28 && last.words.contains("retention"), "{}", last.words);
    let dead = 3 * refused.len() as u64 + 1;
    assert_eq!(totals(&seen), (85, 85 - dead, dead));
    for device in 0..3 {
        assert_eq!(influx.rows("gas_meter", &format!("p-{device}")).len(), 28 - refused.len());
    }
}

const RETENTION_S: u64 = 3650 * 86_400;

#[test]
fn a_missing_bucket_is_created_with_the_configured_retention_before_the_first_write() {
    let dir = tempfile::tempdir().unwrap();
    let influx = Influx::start(dir.path());
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    log.append_rows(0, 1, 0, &hourly(START_MS, 0, 24));
    let mut options = options(dir.path(), &influx);
    options.retention_s = Some(RETENTION_S);
    let (handle, seen) = start(options.clone(), registry, &log);
    finish(handle, &log);
    assert_eq!((totals(&seen), influx.rows("gas_meter", "p-0").len()), ((24, 24, 0), 24));
    let policies = influx.query(&format!("SHOW RETENTION POLICIES ON {DATABASE}"));
    assert_eq!(policies["results"][0]["series"][0]["values"][0][1], "87600h0m0s", "{policies}");

    let found = ask(&options).unwrap();
    assert_eq!((found.created_bucket, found.warnings.len()), (false, 0), "it is there now");
    options.retention_s = Some(RETENTION_S + 1);
    let warnings = ask(&options).unwrap().warnings;
    assert!(warnings[0].contains(&RETENTION_S.to_string()), "{warnings:?}");
}

#[test]
fn a_token_that_may_not_create_the_bucket_holds_the_sink_until_somebody_runs_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let influx = Influx::start(dir.path());
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    log.append_rows(0, 1, 0, &hourly(START_MS, 0, 24));
    let mut options = options_of(dir.path(), proxy(influx.port, false));
    options.retention_s = Some(RETENTION_S);
    let command = format!(
        "influx bucket create --host {} --org 'my org' --name {DATABASE} --retention {RETENTION_S}s",
        options.url
    );
    let error = ask(&options).unwrap_err();
    assert!(matches!(error, SetupError::Bucket { .. }) && error.to_string().contains(&command), "{error}");
    let (handle, seen) = start(options, registry, &log);
    let status = handle.status();
    eventually("the sink is held", || status.snapshot().state == State::Held);
    assert!(status.snapshot().reason.contains(&command));
    assert_eq!((status.cursor().source_lsn, seen.lock().unwrap().len()), (0, 0), "everything is kept");
    influx.query(&format!("CREATE DATABASE {DATABASE}"));
    finish(handle, &log);
    assert_eq!((totals(&seen), influx.rows("gas_meter", "p-0").len()), ((24, 24, 0), 24));
}
