//! The sink against a server that misbehaves as scripted: nothing lost, nothing in between, everything accounted for.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hunhe_gateway::decided::Confirmation;
use hunhe_gateway::sinks::influx::line_protocol::Dialect;
use hunhe_gateway::sinks::influx::{self, DeadLetter, Options, Report};
use hunhe_gateway::sinks::status::{SinkStatus, State};
use hunhe_gateway_core::event::Rollups;
use hunhe_gateway_core::event::{ABSENT, Confirmed};
use hunhe_gateway_core::registry::Registry;

use crate::fixture::{Log, Row, decisions_of, hourly, refusal, registry, window_of};
use crate::server::{Reply, Request, Server, eventually};

pub(crate) const START_MS: i64 = 1_767_225_600_000;

pub(crate) type Seen = Arc<Mutex<Vec<Report>>>;

pub(crate) fn options(dir: &Path, url: &str) -> Options {
    let mut options = Options::new("influx", url, Dialect::Influxdb, dir.join("influx.cursor"));
    "my org".clone_into(&mut options.org);
    "city".clone_into(&mut options.bucket);
    "secret".clone_into(&mut options.token);
    options.of_record = true;
    options
}

pub(crate) fn start(
    options: Options,
    registry: Arc<Registry>,
    log: &Log,
) -> (hunhe_gateway::sinks::Running, Seen) {
    let seen = Seen::default();
    let status: Arc<OnceLock<Arc<SinkStatus>>> = Arc::default();
    let (reports, cursor_of) = (Arc::clone(&seen), Arc::clone(&status));
    let report = Box::new(move |report| {
        if let (Report::Confirmed(confirmed), Some(status)) = (&report, cursor_of.get()) {
            let source_lsn = status.cursor().source_lsn;
            assert!(
                confirmed.iter().all(|of| of.source_lsn > source_lsn),
                "the cursor is ahead of a confirmation"
            );
        }
        reports.lock().unwrap().push(report);
        Ok(())
    });
    let handle = influx::start(options, registry, log.writer.subscribe(), report).unwrap();
    status.set(handle.status()).unwrap();
    (handle, seen)
}

pub(crate) fn finish(handle: hunhe_gateway::sinks::Running, log: &Log) {
    let (status, head) = (handle.status(), log.head());
    eventually("the sink is at the head", || status.cursor().decided_lsn == head);
    assert_eq!(status.snapshot().lag_records, 0);
    handle.stop();
    assert!(handle.join());
    assert_eq!(status.snapshot().state, State::Ended);
}

pub(crate) fn letters(seen: &Seen) -> Vec<DeadLetter> {
    let seen = seen.lock().unwrap();
    seen.iter()
        .filter_map(
            |report| if let Report::DeadLetters(letters) = report { Some(letters.clone()) } else { None },
        )
        .flatten()
        .collect()
}

pub(crate) fn confirmations(seen: &Seen) -> Vec<Confirmation> {
    let seen = seen.lock().unwrap();
    let confirmed = seen
        .iter()
        .filter_map(|report| if let Report::Confirmed(all) = report { Some(all.clone()) } else { None });
    confirmed.flatten().collect()
}

pub(crate) fn totals(seen: &Seen) -> (u64, u64, u64) {
    confirmations(seen).iter().fold((0, 0, 0), |(handled, stored, quarantined), confirmation| {
        let Confirmed { handled: h, stored: s, quarantined: q, .. } = confirmation.confirmed;
        (handled + h, stored + s, quarantined + q)
    })
}

/// 20 messages of 5 samples each by 4 devices.
fn fill(log: &mut Log) {
    for message in 0..20_i64 {
        let device = u32::try_from(message % 4).unwrap();
        let rows = hourly(START_MS, message * 5, 5);
        log.append_rows(device, 7, u64::try_from(message * 5).unwrap(), &rows);
    }
}

pub(crate) fn distinct(lines: &[String]) -> usize {
    lines.iter().collect::<BTreeSet<_>>().len()
}

fn whenever(condition: impl Fn(usize, &Request) -> bool + Send + 'static, reply: Reply) -> Server {
    Server::start(
        move |n, request| if condition(n, request) { reply.clone() } else { Reply::status(204, "") },
    )
}

#[test]
fn a_busy_database_gets_the_same_bytes_again_after_as_long_as_it_asked() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let server = Server::start(|n, _| match n {
        0 => Reply::Answer(429, "Retry-After: 1\r\n", "slow down".into()),
        1 => Reply::status(500, "out of memory"),
        2 => Reply::status(503, ""),
        _ => Reply::status(204, ""),
    });
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    eventually("it says that it retries, and why", || {
        let now = status.snapshot();
        now.state == State::Retrying && now.reason.starts_with("429 slow down")
    });
    finish(handle, &log);
    let requests = server.requests();
    assert_eq!(requests[0].target, "/api/v2/write?org=my+org&bucket=city&precision=ms");
    assert_eq!(requests[0].authorization.as_deref(), Some("Token secret"));
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    assert!(requests.iter().take(4).all(|request| request.lines == requests[0].lines));
    assert_eq!((server.stored().len(), distinct(&server.stored())), (100, 100));
    assert_eq!(totals(&seen), (100, 100, 0));
    assert!(letters(&seen).is_empty());
}

#[test]
fn a_wrong_token_keeps_everything_and_shows() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let strict = whenever(|_, _| true, Reply::status(401, r#"{"code":"unauthorized"}"#));
    let (handle, seen) = start(options(dir.path(), &strict.url()), Arc::clone(&registry), &log);
    let status = handle.status();
    eventually("the state shows", || status.snapshot().state == State::Held);
    assert!(status.snapshot().reason.starts_with("401"));
    assert_eq!((status.cursor().source_lsn, status.snapshot().lag_records), (0, 20));
    handle.stop();
    assert!(handle.join());
    assert!(seen.lock().unwrap().is_empty());
    let mended = whenever(|_, _| false, Reply::ThenCut);
    let (handle, seen) = start(options(dir.path(), &mended.url()), registry, &log);
    finish(handle, &log);
    assert_eq!((distinct(&mended.stored()), totals(&seen)), (100, (100, 100, 0)));
}

#[test]
fn what_is_too_large_is_split_and_later_batches_are_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    (0..320).for_each(|_| fill(&mut log));
    let server = whenever(|_, request| request.lines.len() > 1500, Reply::status(413, "too large"));
    let mut options = options(dir.path(), &server.url());
    options.batch_rows = NonZero::new(4000).unwrap();
    let (handle, seen) = start(options, registry, &log);
    finish(handle, &log);
    assert_eq!(server.stored().len(), 32_000);
    assert_eq!(totals(&seen), (32_000, 32_000, 0));
    let refused = server.requests().iter().filter(|request| request.lines.len() > 1500).count();
    assert!((1..16).contains(&refused), "{refused} of 24, were nothing learnt");
}

fn one_bad_line(reply: impl Fn(&Request) -> Reply + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let server = Server::start(move |_, request| {
        if request.lines.iter().any(|line| line.contains("volume=1007.124")) {
            return reply(request);
        }
        Reply::status(204, "")
    });
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    finish(handle, &log);
    let letters = letters(&seen);
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.source_lsn, letter.boot, letter.seq, letter.samples), (11, 7, 52, 1));
    assert_eq!(letter.device.as_str(), "g-2");
    assert!(letter.line.starts_with("gas_meter,device=p-2,") && letter.line.contains("volume=1007.124"));
    assert!(letter.words.contains("type conflict"), "{}", letter.words);
    assert_eq!(distinct(&server.stored()), 99);
    assert_eq!(totals(&seen), (100, 99, 1));
    let of_cause =
        confirmations(&seen).into_iter().find(|confirmation| confirmation.source_lsn == 11).unwrap();
    assert_eq!(of_cause.confirmed, Confirmed { handled: 5, stored: 4, quarantined: 1, displaced: 0 });
    let seen = seen.lock().unwrap();
    let first_confirmation_of_11 = seen.iter().position(
        |report| matches!(report, Report::Confirmed(all) if all.iter().any(|c| c.source_lsn == 11)),
    );
    let letter_at = seen.iter().position(|report| matches!(report, Report::DeadLetters(_)));
    assert!(letter_at < first_confirmation_of_11, "the letter comes before what counts it");
}

#[test]
fn one_bad_line_is_found_and_all_others_are_stored() {
    one_bad_line(|_| Reply::status(400, r#"{"message":"field type conflict"}"#));
}

#[test]
fn a_partial_write_is_searched_for_its_bad_line() {
    one_bad_line(|_| Reply::status(422, "partial write: field type conflict: dropped=1"));
    one_bad_line(|_| Reply::status(500, "partial write: field type conflict: dropped=1"));
}

#[test]
fn a_connection_cut_after_its_answer_or_before_it_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    let server = Server::start(|n, _| match n % 3 {
        0 => Reply::ThenCut,
        1 => Reply::CutUnanswered,
        _ => Reply::status(204, ""),
    });
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    for _ in 0..4 {
        fill(&mut log);
        eventually("written", || status.cursor().decided_lsn == log.head());
    }
    finish(handle, &log);
    assert_eq!(totals(&seen), (400, 400, 0));
    // The four rounds write the same samples: each was stored in every round.
    let stored = server.stored();
    assert!(stored.iter().all(|line| stored.iter().filter(|other| *other == line).count() >= 4));
    assert_eq!(distinct(&stored), 100);
    let requests = server.requests();
    let cut = requests.iter().zip(&requests[1..]).skip(1).step_by(3);
    assert!(cut.into_iter().all(|(cut, again)| cut.lines == again.lines), "a repeat is the same bytes");
}

#[test]
fn the_cursor_never_passes_a_batch_that_is_still_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let server = Server::start(move |_, request| {
        let first = request.lines[0].ends_with(&format!(" {START_MS}"));
        if first && !gate.load(Ordering::SeqCst) { Reply::status(503, "") } else { Reply::status(204, "") }
    });
    let mut options = options(dir.path(), &server.url());
    options.batch_rows = NonZero::new(10).unwrap();
    let (handle, seen) = start(options, registry, &log);
    let status = handle.status();
    eventually("the second batch is stored", || !server.stored().is_empty());
    eventually("the first was tried twice", || server.requests().len() >= 3);
    assert_eq!(status.cursor().source_lsn, 0);
    assert!(seen.lock().unwrap().is_empty());
    assert!(server.requests().len() - server.stored().len() / 10 >= 1);
    open.store(true, Ordering::SeqCst);
    finish(handle, &log);
    let sources: Vec<u64> = confirmations(&seen).iter().map(|confirmation| confirmation.source_lsn).collect();
    assert_eq!(sources, (1..=20).collect::<Vec<_>>());
    assert_eq!(distinct(&server.stored()), 100);
}

#[test]
fn a_batch_given_up_at_a_stop_keeps_the_cursor_before_it_whatever_came_behind() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let first_line = format!(" {START_MS}");
    let stuck = whenever(move |_, request| request.lines[0].ends_with(&first_line), Reply::status(503, ""));
    let mut narrow = options(dir.path(), &stuck.url());
    narrow.batch_rows = NonZero::new(10).unwrap();
    let (handle, seen) = start(narrow, Arc::clone(&registry), &log);
    let status = handle.status();
    eventually("the second batch is stored", || !stuck.stored().is_empty());
    eventually("the first waits", || status.snapshot().state == State::Retrying);
    handle.stop();
    assert!(handle.join());
    assert_eq!(status.cursor().source_lsn, 0);
    assert!(seen.lock().unwrap().is_empty());
    let mended = whenever(|_, _| false, Reply::ThenCut);
    let (handle, seen) = start(options(dir.path(), &mended.url()), registry, &log);
    finish(handle, &log);
    assert_eq!((distinct(&mended.stored()), totals(&seen)), (100, (100, 100, 0)));
}

#[test]
fn a_batch_holds_whole_causes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    for message in 0..20 {
        let mut decisions = decisions_of(0, 1, 0, &hourly(START_MS, message * 5, 5));
        decisions.shown = window_of(0, 3_600_000, START_MS, 0, &[1]).shown;
        log.append(&decisions);
    }
    let server = whenever(|_, _| false, Reply::ThenCut);
    let mut options = options(dir.path(), &server.url());
    options.batch_rows = NonZero::new(3).unwrap();
    let (handle, _) = start(options, registry, &log);
    finish(handle, &log);
    let requests = server.requests();
    assert!(
        requests.iter().all(|request| request.lines.len() == 6),
        "five samples and a window a source record"
    );
}

#[test]
fn a_restart_goes_on_at_the_cursor_and_a_damaged_cursor_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    let server = whenever(|_, _| false, Reply::ThenCut);
    for round in 1..=3 {
        fill(&mut log);
        // Nothing of this is for this sink, but the cursor passes it.
        log.append(&refusal());
        let (handle, seen) = start(options(dir.path(), &server.url()), Arc::clone(&registry), &log);
        finish(handle, &log);
        assert_eq!((server.stored().len(), totals(&seen).0), (100 * round, 100));
    }
    std::fs::write(dir.path().join("influx.cursor"), [7; 600]).unwrap();
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    finish(handle, &log);
    assert_eq!(totals(&seen).0, 300);
    assert!(status.snapshot().warning.contains("cursor was damaged"));
}

#[test]
fn a_hint_that_no_longer_holds_is_not_believed() {
    use hunhe_log::Lsn;
    use hunhe_log::cursor::{Cursor, CursorFile};
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let server = whenever(|_, _| false, Reply::ThenCut);
    // The log was rebuilt differently: at the decided position lies a later source record, or nothing.
    for (round, decided_lsn) in [(1, 15), (2, 4000)] {
        let (mut file, _) =
            CursorFile::open(&*hunhe_disk::real(), &dir.path().join("influx.cursor")).unwrap();
        file.save(Cursor { source_lsn: 12, decided_lsn: Lsn(decided_lsn) }).unwrap();
        let (handle, seen) = start(options(dir.path(), &server.url()), Arc::clone(&registry), &log);
        finish(handle, &log);
        assert_eq!((totals(&seen).0, server.stored().len()), (40, 40 * round));
    }
}

#[test]
fn what_makes_no_line_is_a_dead_letter_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), &registry(2));
    log.append_rows(1, 3, 50, &hourly(START_MS, 0, 4));
    let mut rows = hourly(START_MS, 0, 6);
    rows[2].values = [ABSENT; 3];
    rows[3] = Row { values: [ABSENT; 3], ..rows[3] };
    log.append_rows(0, 3, 10, &rows);
    let server = whenever(|_, _| false, Reply::ThenCut);
    // Device 1 left the registry.
    let (handle, seen) = start(options(dir.path(), &server.url()), registry(1), &log);
    finish(handle, &log);
    let ranges: Vec<_> =
        letters(&seen).iter().map(|letter| (letter.source_lsn, letter.seq, letter.samples)).collect();
    assert_eq!(ranges, [(1, 50, 4), (2, 12, 2)]);
    assert_eq!(totals(&seen), (10, 4, 6));
    assert_eq!(server.stored().len(), 4);
}

#[test]
fn a_database_that_is_away_delays_nothing_and_gets_everything_later() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let (handle, seen) = start(options(dir.path(), &nobody), Arc::clone(&registry), &log);
    let status = handle.status();
    eventually("it retries", || status.snapshot().state == State::Retrying);
    assert!(status.snapshot().reason.contains("does not answer"), "{}", status.snapshot().reason);
    handle.stop();
    assert!(handle.join() && seen.lock().unwrap().is_empty());
    let server = whenever(|_, _| false, Reply::ThenCut);
    let (handle, _) = start(options(dir.path(), &server.url()), registry, &log);
    finish(handle, &log);
    assert_eq!(distinct(&server.stored()), 100);
}

#[test]
fn a_sink_ends_by_itself_when_its_log_has() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    fill(&mut log);
    let server = whenever(|_, _| false, Reply::ThenCut);
    let (handle, _) = start(options(dir.path(), &server.url()), registry, &log);
    drop(log);
    assert!(handle.join());
    assert_eq!(server.stored().len(), 100);
}

#[test]
fn an_unusable_url_or_token_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(1);
    let log = Log::new(dir.path(), &registry);
    let begin = |change: fn(&mut Options)| {
        let mut options = options(dir.path(), "http://127.0.0.1:1");
        change(&mut options);
        influx::start(options, Arc::clone(&registry), log.writer.subscribe(), Box::new(|_| Ok(()))).map(drop)
    };
    assert!(begin(|options| options.url = "https://db:8086".into()).is_err());
    assert!(begin(|options| options.url = "db:8086".into()).is_err());
    assert!(begin(|options| options.url = "http://db:8086/path".into()).is_err());
    let error = begin(|options| options.token = "line\nend".into()).unwrap_err().to_string();
    assert!(error.contains("token") && !error.contains("end\""), "{error}");
    assert!(!format!("{:?}", options(dir.path(), "http://x")).contains("secret"));
}

#[test]
fn only_the_windows_that_rollups_names_are_written() {
    for (rollups, lengths) in
        [(Rollups::None, &[][..]), (Rollups::Daily, &["_1d"]), (Rollups::All, &["_1h", "_1d"])]
    {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(1);
        let mut log = Log::new(dir.path(), &registry);
        log.append_rows(0, 1, 0, &hourly(START_MS, 0, 1));
        log.append(&window_of(0, 3_600_000, START_MS, 0, &[1]));
        log.append(&window_of(0, 86_400_000, START_MS, 0, &[1]));
        let server = whenever(|_, _| false, Reply::ThenCut);
        let options = Options { rollups, ..options(dir.path(), &server.url()) };
        let (handle, _) = start(options, registry, &log);
        finish(handle, &log);
        let lines = server.stored();
        let (samples, windows): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| line.starts_with("gas_meter,"));
        assert_eq!(samples.len(), 1, "{lines:?}");
        let found: Vec<&str> = windows.iter().map(|line| &line["gas_meter".len()..][..3]).collect();
        assert_eq!(found, lengths, "{lines:?}");
    }
}
