//! What clients of page and API can do to the rest: too many connections, too large questions, other hosts' names, an open
//! port, and failures by the thousand. On the real programs; connections and streams in detail are in
//! `gateway/tests/api/connections.rs`.
#![expect(clippy::expect_used, reason = "a broken promise fails loudly here")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    panic::AssertUnwindSafe,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    detectors::{self, CH4, Detector, HIGH, LOW},
    gateway::{Gateway, Setup},
    now_ms,
    process::{eventually, free_port},
    procfs, program,
    publisher::Publisher,
    report, seeds,
    webhook::Webhook,
};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
/// Promised for the largest question, answered or refused.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Promised for each request.
const REQUEST_MIB: f64 = 16.0;

/// Of `seeds/classes/gas_station_detector.toml`.
const CH4_DECIMALS: u8 = 2;

fn setup(dir: &Path, broker: u16, detectors: usize, more: &str) -> Setup {
    Setup::embedded(broker, detectors::registry(dir, detectors), format!("[checkpoint]\nevery_s = 1\n{more}"))
}

/// A program that starts another with so many files to open.
fn with_files(files: u32) -> Vec<String> {
    ["/bin/sh", "-c", &format!("ulimit -n {files} && exec \"$@\""), "sh"].map(str::to_owned).to_vec()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How long the first byte of an answer takes.
fn first_byte(port: u16, path: &str) -> Duration {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    socket.read_exact(&mut [0]).expect("a byte");
    begun.elapsed()
}

/// Status and body of one request on a connection of its own, and how long it took.
fn ask(port: u16, path: &str) -> (u16, String, Duration) {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket.set_read_timeout(Some(WITHIN)).expect("a time-out");
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned());
    (status, body, begun.elapsed())
}

fn figure(port: u16, name: &str) -> Option<f64> {
    let (_, text, _) = ask(port, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Connections in all (`http.connections_max`), of which one address may have half.
const CONNECTIONS: f64 = 512.0;
/// Open at once in the test: more than the gateway may have, so that what it has not closed is here.
const HELD: usize = 1_024;

/// A connection from one of eight addresses of this machine, so that none of them reaches the bound of one peer.
fn connect_from(runtime: &tokio::runtime::Runtime, peer: u8, port: u16) -> Option<TcpStream> {
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 2 + peer % 8], 0))).expect("an address of this machine");
        let connecting = socket.connect(SocketAddr::from(([127, 0, 0, 1], port)));
        let socket =
            tokio::time::timeout(Duration::from_secs(1), connecting).await.ok()?.ok()?.into_std().ok()?;
        socket.set_nonblocking(false).ok()?;
        Some(socket)
    })
}

/// Opens connections that say half of something, or nothing, until it is over; how many, and how many could not be opened.
fn be_silent_until(over: &AtomicBool, port: u16, opened: &AtomicU64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut silent = VecDeque::new();
    let mut failed = 0;
    for at in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let peer = u8::try_from(at % 8).expect("of eight");
        let Some(mut socket) = connect_from(&runtime, peer, port) else {
            failed += 1;
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        if at % 2 == 0 {
            // The gateway may have closed it already.
            let _ = socket.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: lo");
        }
        silent.push_back(socket);
        if silent.len() > HELD {
            silent.pop_front();
        }
        if opened.fetch_add(1, Ordering::Relaxed) > 2 * HELD as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    failed
}

/// Names of the journal's files; one is never given twice.
fn segments(dir: &Path) -> BTreeSet<OsString> {
    let files = fs::read_dir(dir.join("gateway/data/journal")).expect("a journal");
    files.flatten().map(|file| file.file_name()).collect()
}

#[test]
fn with_few_files_silent_connections_stop_neither_alarms_nor_checkpoints_nor_questions() {
    const DETECTORS: usize = 20;
    const ROUNDS: i64 = 10;
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let more = webhook.to_toml("duty", 2) + "\n[journal]\nsegment_bytes = 1_048_576\n";
    let setup = setup(dir.path(), broker.gateway_port, DETECTORS, &more);
    let mut gateway = Gateway::start_under(dir.path(), &setup, &[], &with_files(1_024));
    let (pid, port) = (gateway.process.id(), gateway.port);
    let files_before = open_files(pid);
    let (over, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = std::thread::scope(|scope| {
        let silent = scope.spawn(|| be_silent_until(&over, port, &opened));
        eventually(WITHIN, "two thousand are there", || {
            (opened.load(Ordering::Relaxed) >= 2_000).then_some(())
        });
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            alarms_beside(dir.path(), &gateway, &broker, &webhook, DETECTORS, ROUNDS)
        }));
        over.store(true, Ordering::Relaxed);
        let failed = silent.join().expect("the silent ones");
        let seen = outcome.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
        json!({"failed": failed, "opened": opened.load(Ordering::Relaxed), "seen": seen})
    });
    let lowest = seen["seen"]["connections_min"].as_f64().expect("a figure");
    assert!((0.9 * CONNECTIONS..=CONNECTIONS).contains(&lowest), "the bound of all was not reached: {seen}");
    let files = seen["seen"]["files_max"].as_u64().expect("a figure");
    assert!(files < 1_024 - 200, "{files} files are open, {files_before} before");
    eventually(WITHIN, "what stayed silent is closed in time", || {
        (figure(gateway.port, "hunhe_http_connections")? <= 1.0).then_some(())
    });
    assert!(gateway.process.ended().is_none(), "the gateway goes on");
    report::write("faults", Some("http_connections"), &seen);
}

/// Rounds of alarms, each delivered and each with a question, beside what else is going on; the journal opens segments and
/// checkpoints are written meanwhile.
fn alarms_beside(
    dir: &Path,
    gateway: &Gateway,
    broker: &Mosquitto,
    webhook: &Webhook,
    detectors: usize,
    rounds: i64,
) -> Value {
    let checkpoints = figure(gateway.port, "hunhe_checkpoints_total").expect("a figure, beside them all");
    let mut publisher = Publisher::connect(broker.port, "detectors", 64).expect("a connection");
    let mut all: Vec<Detector> = (0..detectors).map(|at| Detector::new(at, 7)).collect();
    let begin_s = now_ms() / 1_000 - 240;
    let mut slowest = Duration::ZERO;
    let mut expected = 0;
    let before = segments(dir);
    let mut after = BTreeSet::new();
    let (mut connections_min, mut files_max) = (f64::INFINITY, 0);
    for round in 0..rounds {
        for (value, later_s) in [(HIGH, 0), (LOW, 10)] {
            let sent = Instant::now();
            for detector in &mut all {
                let at_s = begin_s + 20 * round + later_s;
                detector.publish(&mut publisher, at_s, &[value]).expect("published");
            }
            publisher.settle().expect("the broker has it");
            expected += detectors;
            eventually(WITHIN, "the webhook has them", || (webhook.taken().len() >= expected).then_some(()));
            slowest = slowest.max(sent.elapsed());
            let (status, body, took) = ask(gateway.port, "/api/v1/status");
            assert_eq!(status, 200, "an honest question beside them: {body}");
            assert!(took < ANSWER_MAX, "{took:?}");
            let connections = figure(gateway.port, "hunhe_http_connections").expect("a figure");
            connections_min = connections_min.min(connections);
            files_max = files_max.max(open_files(gateway.process.id()));
        }
        // More than a segment's bytes, of nobody.
        for _ in 0..20 {
            publisher.publish(b"hunhe/v1/00/nobody/up", &[0xff; 60_000]).expect("published");
        }
        publisher.settle().expect("the broker has it");
        after.extend(segments(dir));
    }
    eventually(WITHIN, "checkpoints are written", || {
        (figure(gateway.port, "hunhe_checkpoints_total")? > checkpoints).then_some(())
    });
    assert!(slowest < Duration::from_secs(2), "an alarm took {slowest:?}");
    let opened = after.difference(&before).count();
    assert!(opened >= 2, "the journal opened {opened} segments");
    let delivered: BTreeSet<String> = webhook.taken().into_iter().map(|letter| letter.key).collect();
    let lost = expected.saturating_sub(delivered.len());
    assert_eq!(lost, 0, "of {expected} changes of alerts");
    json!({"connections_min": connections_min, "files_max": files_max, "alarm_ms_max": slowest.as_millis(),
        "lost": lost, "segments_opened": opened})
}

#[test]
fn with_too_few_files_the_gateway_does_not_start_and_says_what_to_raise() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = setup(dir.path(), free_port(), 1, "");
    let mut gateway = Gateway::launch(dir.path(), &setup, &[], &with_files(300));
    assert!(!gateway.process.wait(WITHIN).success());
    assert!(gateway.log().contains("LimitNOFILE"), "{}", gateway.log());
}

/// Samples of one device, a sample a second, up to now.
fn long_series(dir: &Path, device: &str, samples: u64) -> i64 {
    let last_ms = now_ms() / 1_000 * 1_000;
    let status = Command::new(program("examples/long_series"))
        .arg(dir.join("gateway/data/store"))
        .args([device, &CH4.to_string(), &CH4_DECIMALS.to_string()])
        .args([samples.to_string(), last_ms.to_string()])
        .status();
    assert!(status.expect("it runs").success());
    last_ms
}

/// The most memory since the call before, in MiB.
fn peak_since(pid: u32, what: impl FnOnce()) -> f64 {
    // Linux forgets the peak.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak can be reset");
    let before = procfs::rss_mib(pid);
    what();
    procfs::peak_rss_mib(pid) - before
}

#[test]
fn a_hundred_questions_for_two_million_samples_are_answered_or_refused_in_time_and_in_little_memory() {
    const SAMPLES: u64 = 2_000_000;
    const AT_ONCE: usize = 100;
    let dir = tempfile::tempdir().expect("a folder");
    let last_ms = long_series(dir.path(), &detectors::id(0), SAMPLES);
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port, 1, ""), &[]);
    let pid = gateway.process.id();
    let path = format!("/api/v1/devices/{}/series?channel=ch4", detectors::id(0));

    // Alone, for what is right and for what the first question costs once.
    let from_ms = last_ms - 3_600_000;
    let (status, hour, _) = ask(gateway.port, &format!("{path}&from={from_ms}&to={last_ms}"));
    let hour: Value = serde_json::from_str(&hour).expect("JSON");
    assert_eq!((status, hour["times"].as_array().map(Vec::len)), (200, Some(3_600)));
    let from_ms = last_ms / 86_400_000 * 86_400_000 - 86_400_000;
    let (status, day, _) =
        ask(gateway.port, &format!("{path}&from={from_ms}&to={}&step=1h", from_ms + 86_400_000));
    let day: Value = serde_json::from_str(&day).expect("JSON");
    assert_eq!((status, day["times"].as_array().map(Vec::len)), (200, Some(24)));
    let means = day["values"].as_array().expect("values");
    // Each hour's 3,600 samples count from 0 to 999 and on: about 4.995 %LEL in the mean.
    assert!(means.iter().all(|mean| mean.as_f64().is_some_and(|mean| (4.5..5.5).contains(&mean))), "{day}");

    let whole = format!("{path}&from=2000-01-01&to={last_ms}");
    let questions = [whole.clone(), format!("{whole}&step=1d"), format!("{whole}&step=60")];
    let mut figures = BTreeMap::new();
    for (name, question) in ["samples", "days", "minutes"].into_iter().zip(&questions) {
        let mut answers = Vec::new();
        let grown = peak_since(pid, || {
            answers = std::thread::scope(|scope| {
                let asked: Vec<_> =
                    (0..AT_ONCE).map(|_| scope.spawn(|| ask(gateway.port, question))).collect();
                asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
            });
        });
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for (status, ..) in &answers {
            *counts.entry(*status).or_default() += 1;
        }
        let slowest = answers.iter().map(|(.., took)| *took).max().expect("answers");
        println!("{name}: {counts:?}, {slowest:?} at most, {grown:.1} MiB more");
        assert!(counts.keys().all(|status| [200, 400, 429, 503].contains(status)), "{counts:?}");
        assert!(slowest < ANSWER_MAX, "{name}: {slowest:?}");
        // At most four are read at once.
        assert!(grown < 4.0 * REQUEST_MIB, "{name}: {grown} MiB");
        figures.insert(
            name,
            json!({"slowest_ms": slowest.as_millis(), "grown_mib": grown, "answers": format!("{counts:?}")}),
        );
    }
    let (status, body, _) = ask(gateway.port, &whole);
    assert!(status == 400 && body.contains("step=") && body.contains("20000 points"), "{status} {body}");
    report::write("faults", Some("http_series"), &json!({"at_once": AT_ONCE, "by_question": figures}));
}

/// What the largest questions are about.
struct Asked {
    device: String,
    /// Of a refused message as large as a report may be.
    record: String,
    /// Of the device's history, a sample a second.
    samples: u64,
    last_ms: i64,
}

/// The largest question of each documented path that is read; streams and changes are proven elsewhere.
fn largest(path: &str, about: &Asked) -> Option<String> {
    let Asked { device, record, samples, last_ms } = about;
    let asked = match path {
        "/api/v1/live" | "/api/v1/quarantine/{id}/redrive" | "/api/v1/ledger/write-off" => return None,
        "/api/v1/quarantine/{id}" => format!("/api/v1/quarantine/{record}?payload=true"),
        "/api/v1/ledger" => "/api/v1/ledger?by=device&limit=1000".to_owned(),
        "/api/v1/devices" => "/api/v1/devices?limit=1000&text=det".to_owned(),
        "/api/v1/alerts" | "/api/v1/quarantine" | "/api/v1/ledger/write-offs" => {
            format!("{path}?limit=1000")
        }
        "/api/v1/devices/{id}/series" => {
            let from_ms = last_ms - i64::try_from(samples * 1_000).expect("few");
            let step_s = samples.div_ceil(POINTS - 1);
            format!("/api/v1/devices/{device}/series?channel=ch4&from={from_ms}&to={last_ms}&step={step_s}")
        }
        path => path.replace("{id}", device),
    };
    Some(asked)
}

/// The most that an answer carries.
const POINTS: u64 = 20_000;

/// Detectors of the whole city that hold an alert each, a quarantine of large messages, and write-offs; which record is one
/// of the largest.
fn fill(gateway: &Gateway, broker: u16, detectors: usize) -> String {
    const REFUSED: usize = 1_000;
    const REFUSED_LARGE: usize = 16;
    const WRITTEN_OFF: usize = 50;
    const MISSING: u64 = 100;
    let mut publisher = Publisher::connect(broker, "detectors", 64).expect("a connection");
    let begin_s = now_ms() / 1_000 - 60;
    for number in 1..=detectors {
        let mut detector = Detector::new(number, 7);
        if number <= WRITTEN_OFF {
            detector.skip(MISSING);
        }
        detector.publish(&mut publisher, begin_s, &[HIGH, HIGH]).expect("published");
    }
    let mut refuse = |numbers: std::ops::Range<usize>, bytes: usize| {
        for number in numbers {
            let topic = format!("hunhe/v1/00/nobody-{number}/up");
            publisher.publish(topic.as_bytes(), &vec![0xff; bytes]).expect("published");
        }
        publisher.settle().expect("the broker has them");
    };
    refuse(0..REFUSED_LARGE, 64_000);
    let refused = eventually(WITHIN, "the quarantine has them", || {
        let page = gateway.http.json("/api/v1/quarantine?kind=message&limit=1");
        (page["total"].as_u64()? >= REFUSED_LARGE as u64).then_some(page)
    });
    refuse(REFUSED_LARGE..REFUSED, 500);
    eventually(WITHIN, "the quarantine has a page of them", || {
        let page = gateway.http.json("/api/v1/quarantine?limit=1000");
        (page["items"].as_array()?.len() >= REFUSED).then_some(())
    });
    eventually(WITHIN, "the alerts are there, and the ledger says what is missing", || {
        let alerts = gateway.http.json("/api/v1/alerts?state=open&limit=1000")["items"].as_array()?.len();
        let missing = gateway.ledger()["unexplained"].as_u64()?;
        (alerts >= detectors && missing == WRITTEN_OFF as u64 * MISSING).then_some(())
    });
    for number in 1..=WRITTEN_OFF {
        let order = ["--device", &detectors::id(number), "--reason", "for a test", "--by", "lin", "--url"];
        let output = command_of("hunhe-gateway")
            .args(["ledger", "write-off"])
            .args(order)
            .arg(format!("http://127.0.0.1:{}", gateway.port))
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }
    refused["items"][0]["id"].as_str().expect("a record").to_owned()
}

#[test]
fn the_largest_question_of_every_documented_path_is_answered_in_time_and_in_little_memory() {
    const DETECTORS: usize = 400;
    const SAMPLES: u64 = 500_000;
    let dir = tempfile::tempdir().expect("a folder");
    // The first of the city's.
    let device = detectors::id(1);
    let last_ms = long_series(dir.path(), &device, SAMPLES);
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let mut city = setup(dir.path(), broker.gateway_port, 1, "");
    city.registry =
        format!("rules = {:?}\nfleets = [{:?}]", dir.path().join("rules"), seeds("city/full.toml"));
    let gateway = Gateway::start(dir.path(), &city, &[]);
    let record = fill(&gateway, broker.port, DETECTORS);
    let about = Asked { device, record, samples: SAMPLES, last_ms };

    let document = gateway.http.json("/api/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let (mut asked, mut figures) = (0, BTreeMap::new());
    for path in paths.keys() {
        let Some(question) = largest(path, &about) else { continue };
        let mut answer = (0, String::new(), Duration::ZERO);
        let grown = peak_since(gateway.process.id(), || answer = ask(gateway.port, &question));
        let (status, body, mut took) = answer;
        if path == "/api/v1/backup" {
            // As long as there is much to back up; it must begin in time.
            took = first_byte(gateway.port, &question);
        }
        println!("{question}: {status}, {} bytes, {took:?}, {grown:.1} MiB more", body.len());
        assert_eq!(status, 200, "{question}: {}", body.chars().take(500).collect::<String>());
        assert!(took < ANSWER_MAX, "{question}: {took:?}");
        assert!(grown < REQUEST_MIB, "{question}: {grown} MiB");
        figures.insert(path, json!({"bytes": body.len(), "ms": took.as_millis(), "grown_mib": grown}));
        asked += 1;
        match path.as_str() {
            "/api/v1/quarantine/{id}" => assert!(body.len() >= 64_000, "{} bytes", body.len()),
            "/api/v1/ledger/write-offs" => assert!(body.contains("for a test"), "{body}"),
            "/api/v1/devices/{id}/series" => {
                let series: Value = serde_json::from_str(&body).expect("JSON");
                let points = series["times"].as_array().map_or(0, Vec::len);
                assert!(points as u64 > POINTS * 9 / 10, "{points} points");
            }
            _ => {}
        }
    }
    assert!(asked >= 15, "{asked} paths were asked of {}", paths.len());
    report::write("faults", Some("http_largest"), &json!(figures));
}

#[test]
fn thousands_of_failures_are_one_line_in_the_log_and_hold_no_text_of_a_caller() {
    let dir = tempfile::tempdir().expect("a folder");
    // Nobody answers there, so the gateway is not ready.
    let gateway = Gateway::launch(dir.path(), &setup(dir.path(), free_port(), 1, ""), &[], &[]);
    eventually(WITHIN, "the gateway listens", || gateway.http.is_ok("/healthz").then_some(()));
    for _ in 0..1_000 {
        let (status, body, _) = ask(gateway.port, "/readyz?not-to-be-logged");
        assert_eq!(status, 503, "{body}");
    }
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("not answered")).collect();
    assert_eq!(lines.len(), 1, "{:?}", lines.last());
    assert!(lines[0].contains("/readyz") && !log.contains("not-to-be-logged"), "{lines:?}");
    let failed = figure(gateway.port, "hunhe_http_failed_total").expect("the metric");
    assert!(failed >= 1_000.0, "{failed}");
}

#[test]
fn an_address_beyond_loopback_is_refused_before_anything_opens_and_the_remedy_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("gateway.toml");
    let (data, port) = (dir.path().join("data"), free_port());
    fs::write(
        &file,
        format!("data_dir = {data:?}\nseeds_dir = {:?}\n[http]\nlisten = \"0.0.0.0:{port}\"\n", seeds("")),
    )
    .expect("a file");
    for command in ["run", "check"] {
        let output =
            command_of("hunhe-gateway").arg(command).arg("--config").arg(&file).output().expect("it runs");
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("gateway.toml:4: http.listen") && said.contains("http.unprotected"), "{said}");
    }
    assert!(!data.exists(), "nothing was made");
}
