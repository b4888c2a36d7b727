//! A database that loses what it had acknowledged: everything is written again, nothing is confirmed twice or too soon.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hunhe_gateway::sinks::influx::line_protocol::Dialect;
use hunhe_gateway::sinks::influx::{self, NotKept, Options, Report};
use hunhe_gateway::sinks::status::State;

use crate::faults::{START_MS, confirmations, distinct, letters, start, totals};
use crate::fixture::{Log, hourly, registry};
use crate::server::{Reply, Request, Server, eventually};

fn options(dir: &Path, url: &str, durable_after: Duration) -> Options {
    let mut options = Options::new("victoria", url, Dialect::Victoriametrics, dir.join("victoria.cursor"));
    options.of_record = true;
    options.durable_after = durable_after;
    options
}

/// 20 messages of 5 samples each by 4 devices.
fn fill(log: &mut Log, round: i64) {
    for message in 0..20_i64 {
        let (device, first) = (u32::try_from(message % 4).unwrap(), round * 100 + message * 5);
        log.append_rows(device, 7, u64::try_from(first).unwrap(), &hourly(START_MS, first, 5));
    }
}

/// A process of a database, as its `/metrics` tells it.
#[derive(Default)]
struct Told {
    started_s: AtomicU64,
    skipped: AtomicU64,
    /// Tells nothing of its process.
    mute: AtomicBool,
    /// Cuts every connection.
    down: AtomicBool,
}

fn database(told: &Arc<Told>, mut write: impl FnMut(&Request) -> Reply + Send + 'static) -> Server {
    let told = Arc::clone(told);
    told.started_s.store(1_000, SeqCst);
    Server::start_with_setup(move |_, request| {
        if told.down.load(SeqCst) {
            // Nothing is stored: the lines are not its own.
            return Reply::Answer(503, "", String::new());
        }
        match request.target.split('?').next().unwrap() {
            "/metrics" if told.mute.load(SeqCst) => Reply::status(404, ""),
            "/metrics" => {
                let (started_s, skipped) = (told.started_s.load(SeqCst), told.skipped.load(SeqCst));
                let text = format!(
                    "process_start_time_seconds {started_s}\nvm_rows_ignored_total{{reason=\"small_timestamp\"}} {skipped}\n"
                );
                Reply::status(200, &text)
            }
            "/health" => Reply::status(200, "OK"),
            _ => write(request),
        }
    })
}

#[test]
fn nothing_is_confirmed_or_released_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log, 0);
    let told = Arc::<Told>::default();
    let server = database(&told, |_| Reply::status(204, ""));
    let long = Duration::from_secs(3600);
    let (handle, seen) = start(options(dir.path(), &server.url(), long), Arc::clone(&registry), &log);
    let status = handle.status();
    eventually("everything is written", || status.snapshot().lag_records == 0);
    let looks = |server: &Server| server.requests().iter().filter(|of| of.target == "/metrics").count();
    eventually("the database was looked at several times", || looks(&server) >= 4);
    let now = status.snapshot();
    assert_eq!((now.cursor.source_lsn, now.unsettled_records, now.state), (0, 20, State::Running));
    assert!(seen.lock().unwrap().is_empty());
    handle.stop();
    assert!(handle.join());
    // The cursor on disk lags as well: the next run writes it again, and confirms it in time.
    let short = Duration::from_millis(300);
    let (handle, seen) = start(options(dir.path(), &server.url(), short), registry, &log);
    let status = handle.status();
    eventually("it is durable", || status.cursor().decided_lsn == log.head());
    assert_eq!((server.stored().len(), distinct(&server.stored())), (200, 100));
    assert_eq!((totals(&seen), status.snapshot().unsettled_records), ((100, 100, 0), 0));
    handle.stop();
    assert!(handle.join());
}

#[test]
fn what_a_killed_database_had_in_memory_is_written_again_and_confirmed_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    let told = Arc::<Told>::default();
    let server = database(&told, |_| Reply::status(204, ""));
    let lag = Duration::from_secs(3);
    let (handle, seen) = start(options(dir.path(), &server.url(), lag), registry, &log);
    let status = handle.status();
    fill(&mut log, 0);
    eventually("the first hundred are durable", || status.cursor().decided_lsn == log.head());
    for kill in 1..=3 {
        fill(&mut log, kill);
        eventually("the next are written", || status.snapshot().lag_records == 0);
        told.down.store(true, SeqCst);
        server.lose();
        told.started_s.fetch_add(7, SeqCst);
        told.down.store(false, SeqCst);
        eventually("it goes back", || status.snapshot().rewinds == u64::try_from(kill).unwrap());
        eventually("it is durable", || status.cursor().decided_lsn == log.head());
        assert_eq!(distinct(&server.stored()), 100, "those that were not durable, and no others");
    }
    assert_eq!(totals(&seen), (400, 400, 0));
    let sources: Vec<u64> = confirmations(&seen).iter().map(|confirmation| confirmation.source_lsn).collect();
    assert_eq!(sources, (1..=80).collect::<Vec<_>>());
    handle.stop();
    assert!(handle.join());
}

#[test]
fn where_a_database_does_not_tell_its_process_a_lost_connection_makes_it_write_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    let told = Arc::<Told>::default();
    told.mute.store(true, SeqCst);
    let cut = Arc::new(AtomicBool::new(false));
    let server = database(&told, {
        let cut = Arc::clone(&cut);
        move |_| if cut.swap(false, SeqCst) { Reply::CutUnanswered } else { Reply::status(204, "") }
    });
    let (handle, seen) = start(options(dir.path(), &server.url(), Duration::from_secs(4)), registry, &log);
    let status = handle.status();
    fill(&mut log, 0);
    eventually("written", || status.snapshot().lag_records == 0);
    server.lose();
    cut.store(true, SeqCst);
    fill(&mut log, 1);
    eventually("it is durable", || status.cursor().decided_lsn == log.head());
    assert_eq!((status.snapshot().rewinds, distinct(&server.stored())), (1, 200));
    assert_eq!(totals(&seen), (200, 200, 0));
    handle.stop();
    assert!(handle.join());
}

#[test]
fn skipped_rows_count_as_stored_with_a_warning_where_nothing_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    let told = Arc::<Told>::default();
    let skips = Arc::clone(&told);
    let server = database(&told, move |request| {
        if request.target.starts_with("/api/v1/export") {
            return Reply::status(401, "no export for you");
        }
        skips.skipped.fetch_add(1, SeqCst);
        Reply::status(204, "")
    });
    let (handle, seen) = start(options(dir.path(), &server.url(), Duration::from_secs(1)), registry, &log);
    let status = handle.status();
    fill(&mut log, 0);
    eventually("handed over", || status.cursor().decided_lsn == log.head());
    let now = status.snapshot();
    assert!(now.rows_skipped > 0);
    assert!(
        now.warning.contains("no export for you") && now.warning.contains("count as stored"),
        "{}",
        now.warning
    );
    assert_eq!((totals(&seen), letters(&seen).len()), ((100, 100, 0), 0));
    handle.stop();
    assert!(handle.join());
}

#[test]
fn the_cursor_waits_until_dead_letters_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log, 0);
    let server = Server::start(|_, request| {
        let bad = request.lines.iter().any(|line| line.contains("volume=1007.124"));
        Reply::status(if bad { 400 } else { 204 }, "")
    });
    let mut options =
        Options::new("influx", &server.url(), Dialect::Influxdb, dir.path().join("influx.cursor"));
    options.of_record = true;
    // Once the disk takes nothing; what is handed over then comes again.
    let (full, offered) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let (disk, seen) = (Arc::clone(&full), Arc::clone(&offered));
    let reports = Box::new(move |report: Report| {
        let refused = matches!(report, Report::DeadLetters(_)) && disk.load(SeqCst);
        seen.lock().unwrap().push(report);
        if refused { Err(NotKept("no space left on device".into())) } else { Ok(()) }
    });
    let handle = influx::start(options, registry, log.writer.subscribe(), reports).unwrap();
    let status = handle.status();
    eventually("the sink is held", || status.snapshot().state == State::Held);
    assert!(status.snapshot().reason.contains("no space left"));
    let begun = Instant::now();
    eventually("some time passes", || begun.elapsed() > Duration::from_millis(500));
    assert_eq!((status.cursor().source_lsn, status.snapshot().rows_dead_lettered), (0, 0));
    assert!(offered.lock().unwrap().iter().all(|report| matches!(report, Report::DeadLetters(_))));
    full.store(false, SeqCst);
    eventually("the cursor goes on", || status.cursor().decided_lsn == log.head());
    assert_eq!(status.snapshot().state, State::Running, "what was mended is not held");
    let offered = offered.lock().unwrap().clone();
    let [Report::DeadLetters(first), .., Report::DeadLetters(kept), Report::Confirmed(confirmed)] =
        offered.as_slice()
    else {
        panic!("{offered:?}")
    };
    assert_eq!((kept.len(), confirmed.len(), status.snapshot().rows_dead_lettered), (1, 20, 1));
    assert_eq!(first, kept, "handed over again, and only then confirmed");
    handle.stop();
    assert!(handle.join());
}
