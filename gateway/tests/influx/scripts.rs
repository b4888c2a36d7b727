//! A table of ways in which a database fails. After each of them every point is stored, each is confirmed once and in order,
//! and few requests were needed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::num::NonZero;
use std::time::Duration;

use hunhe_gateway::sinks::status::State;

use crate::faults::{START_MS, confirmations, distinct, finish, letters, options, start, totals};
use crate::fixture::{Log, hourly, registry};
use crate::server::{Reply, Request, Server, eventually};

const MESSAGES: i64 = 20;
const ROWS_A_MESSAGE: i64 = 50;
const ROWS: usize = 1000;
/// Batches of 250 lines.
const BATCHES: usize = 4;
const POISON: &str = "volume=1051.375";
const TOO_LATE: Duration = Duration::from_millis(500);

/// What goes wrong, and what it may cost.
struct Fault {
    name: &'static str,
    /// By the request's number.
    script: fn(usize, &Request) -> Reply,
    resets: usize,
    /// Nobody listens until the sink has noticed.
    refused: bool,
    /// Only a restart of the sink, with a server that takes everything, goes on.
    held: bool,
    requests_max: usize,
    /// Points that no request brings in.
    poisoned: usize,
    /// The least time between a request and its repeat.
    patience: Duration,
}

const FAULT: Fault = Fault {
    name: "",
    script: |_, _| Reply::status(204, ""),
    resets: 0,
    refused: false,
    held: false,
    requests_max: BATCHES,
    poisoned: 0,
    patience: Duration::ZERO,
};

fn poisoned(request: &Request) -> bool {
    request.lines.iter().any(|line| line.contains(POISON))
}

/// Halving 250 lines down to one: two requests a halving.
const BISECTED: usize = BATCHES + 2 * 8;

fn faults() -> Vec<Fault> {
    vec![
        Fault { name: "no fault", ..FAULT },
        Fault {
            name: "429 with Retry-After",
            script: |n, _| match n {
                0 | 1 => Reply::Answer(429, "Retry-After: 1\r\n", "slow down".into()),
                _ => Reply::status(204, ""),
            },
            requests_max: BATCHES + 2,
            patience: Duration::from_secs(1),
            ..FAULT
        },
        Fault {
            name: "500, 503, 408",
            script: |n, _| match n {
                0 => Reply::status(500, "out of memory"),
                1 => Reply::status(503, ""),
                2 => Reply::status(408, ""),
                _ => Reply::status(204, ""),
            },
            requests_max: BATCHES + 3,
            ..FAULT
        },
        Fault {
            name: "401",
            script: |_, _| Reply::status(401, r#"{"code":"unauthorized"}"#),
            held: true,
            // One each of those on their way at once.
            requests_max: 2,
            ..FAULT
        },
        Fault {
            name: "413",
            script: |_, request| {
                if request.lines.len() > 100 {
                    Reply::status(413, "too large")
                } else {
                    Reply::status(204, "")
                }
            },
            // 250 lines need 7 requests, the third batch and those behind it are smaller.
            requests_max: BATCHES * 7,
            ..FAULT
        },
        Fault {
            name: "400 for a bad line",
            script: |_, request| {
                if poisoned(request) { Reply::status(400, "type conflict") } else { Reply::status(204, "") }
            },
            requests_max: BISECTED,
            poisoned: 1,
            ..FAULT
        },
        Fault {
            name: "422 with the good lines stored",
            script: |_, request| {
                if poisoned(request) {
                    Reply::Partial(422, POISON, "partial write: type conflict: dropped=1")
                } else {
                    Reply::status(204, "")
                }
            },
            requests_max: BISECTED,
            poisoned: 1,
            ..FAULT
        },
        Fault {
            name: "500 that speaks of a partial write",
            script: |_, request| {
                if poisoned(request) {
                    Reply::Partial(500, POISON, "partial write: points beyond retention policy dropped=1")
                } else {
                    Reply::status(204, "")
                }
            },
            requests_max: BISECTED,
            poisoned: 1,
            ..FAULT
        },
        Fault {
            name: "204 and the connection cut",
            script: |_, _| Reply::ThenCut,
            // A request may go out on a connection that is about to be cut.
            requests_max: 2 * BATCHES,
            ..FAULT
        },
        Fault {
            name: "written, and the connection cut before the answer",
            script: |n, _| if n < 3 { Reply::CutUnanswered } else { Reply::status(204, "") },
            requests_max: BATCHES + 3,
            ..FAULT
        },
        Fault {
            name: "written, and no answer in time",
            script: |n, _| if n < 2 { Reply::Silence(2 * TOO_LATE) } else { Reply::status(204, "") },
            requests_max: BATCHES + 2,
            ..FAULT
        },
        Fault { name: "reset while the body is on its way", resets: 3, requests_max: BATCHES + 3, ..FAULT },
        Fault { name: "connection refused", refused: true, ..FAULT },
    ]
}

fn survive(fault: &Fault) {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(4);
    let mut log = Log::new(dir.path(), &registry);
    for message in 0..MESSAGES {
        let (device, first) = (u32::try_from(message % 4).unwrap(), message * ROWS_A_MESSAGE);
        log.append_rows(device, 7, u64::try_from(first).unwrap(), &hourly(START_MS, first, ROWS_A_MESSAGE));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = options(dir.path(), &format!("http://{address}"));
    options.batch_rows = NonZero::new(250).unwrap();
    options.request_timeout = TOO_LATE;
    let script = fault.script;
    let listener = if fault.refused {
        drop(listener);
        None
    } else {
        Some(listener)
    };
    let mut server = listener.map(|listener| Server::start_at(listener, fault.resets, script));
    let (mut handle, mut seen) = start(options.clone(), registry.clone(), &log);
    let status = handle.status();
    if fault.refused {
        eventually("it is refused", || status.snapshot().state == State::Retrying);
        server = Some(Server::start_at(TcpListener::bind(address).unwrap(), 0, script));
    }
    let mut server = server.unwrap();
    let mut requests = 0;
    if fault.held {
        eventually("it is held", || status.snapshot().state == State::Held);
        eventually("both wait", || server.requests().len() >= 2);
        handle.stop();
        assert!(handle.join());
        assert_eq!((status.cursor().source_lsn, seen.lock().unwrap().len()), (0, 0), "{}", fault.name);
        requests = server.requests().len();
        assert!(requests <= fault.requests_max, "{}: {requests} requests while held", fault.name);
        server = Server::start(FAULT.script);
        options.url = server.url();
        (handle, seen) = start(options, registry, &log);
        requests = 0;
    }
    finish(handle, &log);
    requests += server.requests().len();
    let bound = if fault.held { BATCHES } else { fault.requests_max };
    assert!((BATCHES..=bound).contains(&requests), "{}: {requests} requests", fault.name);
    assert_eq!(distinct(&server.stored()), ROWS - fault.poisoned, "{}", fault.name);
    assert!(
        server.stored().iter().all(|line| !line.contains(POISON) || fault.poisoned == 0),
        "{}",
        fault.name
    );
    let (stored, quarantined) = ((ROWS - fault.poisoned) as u64, fault.poisoned as u64);
    assert_eq!(totals(&seen), (ROWS as u64, stored, quarantined), "{}", fault.name);
    assert_eq!(letters(&seen).len(), fault.poisoned, "{}", fault.name);
    let sources: Vec<u64> = confirmations(&seen).iter().map(|confirmation| confirmation.source_lsn).collect();
    assert_eq!(sources, (1..=20).collect::<Vec<_>>(), "{}: once each, in order", fault.name);
    let mut last: BTreeMap<Vec<String>, _> = BTreeMap::new();
    for request in server.requests() {
        if let Some(before) = last.insert(request.lines, request.at) {
            assert!(request.at - before >= fault.patience, "{}: repeated too soon", fault.name);
        }
    }
}

#[test]
fn every_fault_of_the_table_leaves_every_point_stored_once_and_confirmed_once() {
    for fault in faults() {
        survive(&fault);
    }
}

#[test]
fn one_poison_point_in_five_thousand_costs_at_most_thirty_requests_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(100);
    let mut log = Log::new(dir.path(), &registry);
    for device in 0..100 {
        log.append_rows(device, 7, 0, &hourly(START_MS + i64::from(device), 0, 50));
    }
    let server = Server::start(|_, request| {
        let bad = |line: &String| line.contains("device=p-61,") && line.contains("volume=1004.521");
        if request.lines.iter().any(bad) {
            Reply::status(400, "type conflict")
        } else {
            Reply::status(204, "")
        }
    });
    let mut options = options(dir.path(), &server.url());
    options.batch_rows = NonZero::new(5000).unwrap();
    let (handle, seen) = start(options, registry, &log);
    finish(handle, &log);
    let requests = server.requests();
    assert_eq!(requests[0].lines.len(), 5000, "all in one");
    assert!(requests.len() <= 30, "{} requests", requests.len());
    assert_eq!((server.stored().len(), distinct(&server.stored())), (4999, 4999));
    assert_eq!(totals(&seen), (5000, 4999, 1));
    let letters = letters(&seen);
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.device.as_str(), letter.seq), ("g-61", 33));
}
