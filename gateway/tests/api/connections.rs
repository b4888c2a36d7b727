//! Connections, their bounds and their end, by plain sockets that do what clients should not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hunhe_gateway::api::types::Alert;
use hunhe_gateway::api::{ConnectionLimits, HubLimits, Limits, Patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Served, fake};

const DEADLINE: Duration = Duration::from_secs(10);

/// Steps that may take this long, in milliseconds; the others may take minutes.
fn limits(all: usize, head_ms: u64, idle_ms: u64, stalled_ms: u64) -> Limits {
    let patience = Patience {
        head: Duration::from_millis(head_ms),
        idle: Duration::from_millis(idle_ms),
        stalled: Duration::from_millis(stalled_ms),
        ..Patience::default()
    };
    Limits { connections: ConnectionLimits { all, peer: all, patience }, ..Limits::default() }
}

const LONG_MS: u64 = 600_000;

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn sent(address: SocketAddr, text: &str) -> TcpStream {
    let mut socket = connect(address).await;
    socket.write_all(text.as_bytes()).await.unwrap();
    socket
}

/// All that comes until the other side closes.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut bytes));
    // A reset is an end as well.
    let _ = read.await.expect("the connection is closed in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One request on a connection of its own: status line and all.
async fn ask(address: SocketAddr, request: &str) -> String {
    rest(&mut sent(address, request).await).await
}

const STATUS: &str = "GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const LIVE: &str = "GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A figure of `/metrics`, over a connection that keeps none open.
async fn figure(address: SocketAddr, name: &str) -> f64 {
    let text = ask(address, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect(name).trim().parse().unwrap()
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sixteen thousand bytes and some more.
fn long_alert() -> Alert {
    Alert { unit: "x".repeat(16_000), ..fake::alert(1) }
}

#[tokio::test]
async fn a_request_head_that_is_not_whole_in_time_ends_its_connection_however_it_drips() {
    let served = Served::start(limits(512, 400, LONG_MS, LONG_MS), HubLimits::default()).await;
    let mut halves = Vec::new();
    for _ in 0..50 {
        halves.push(sent(served.address, "GET /api/v1/status HTTP/1.1\r\nhost: local").await);
    }
    let begun = Instant::now();
    let mut dripping = sent(served.address, "GET / HTTP/1.1\r\n").await;
    while dripping.write_all(b"a: b\r\n").await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "a byte now and then must not keep a connection");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for half in &mut halves {
        assert_eq!(rest(half).await, "", "closed without an answer");
    }
    assert_eq!(figure(served.address, "hunhe_http_closed_total{why=\"head\"}").await, 51.0);
    assert_eq!(figure(served.address, "hunhe_http_connections").await, 1.0, "none but the one that asks");
}

#[tokio::test]
async fn a_body_that_never_comes_and_a_connection_that_asks_nothing_more_are_closed() {
    let served = Served::start(limits(512, LONG_MS, 300, LONG_MS), HubLimits::default()).await;
    let redrive =
        "POST /api/v1/quarantine/m-7/redrive HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let answer = ask(served.address, redrive).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let mut idle = sent(served.address, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let answer = rest(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(figure(served.address, "hunhe_http_closed_total{why=\"idle\"}").await >= 1.0);
}

#[tokio::test]
async fn any_number_of_silent_connections_keeps_nobody_out_who_asks() {
    let served = Served::start(limits(16, LONG_MS, LONG_MS, LONG_MS), HubLimits::default()).await;
    let mut silent = Vec::new();
    for at in 0..200 {
        silent.push(connect(served.address).await);
        if at % 10 == 0 {
            let answer = ask(served.address, STATUS).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "after {at}: {answer}");
        }
    }
    assert!(figure(served.address, "hunhe_http_connections").await <= 16.0);
    assert!(figure(served.address, "hunhe_http_closed_total{why=\"room\"}").await >= 180.0);
}

#[tokio::test]
async fn where_every_connection_is_being_answered_a_further_one_is_closed_at_once_and_counted() {
    let served = Served::start(limits(2, LONG_MS, LONG_MS, LONG_MS), HubLimits::default()).await;
    let mut streams = [sent(served.address, LIVE).await, sent(served.address, LIVE).await];
    for stream in &mut streams {
        stream.read_u8().await.unwrap();
    }
    assert_eq!(ask(served.address, STATUS).await, "");
    drop(streams);
    eventually("a place is free again", async || ask(served.address, STATUS).await.contains("200 OK")).await;
    assert!(figure(served.address, "hunhe_http_refused_total{bound=\"peer\"}").await >= 1.0);
}

/// A stream that was begun.
async fn listening(address: SocketAddr) -> TcpStream {
    let mut stream = sent(address, LIVE).await;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(std::str::from_utf8(&head).unwrap(), "HTTP/1.1 200");
    stream
}

/// It returns only when the stream is closed.
fn read_on(mut stream: TcpStream) -> tokio::task::JoinHandle<std::io::Result<u64>> {
    tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await })
}

#[tokio::test]
async fn clients_that_never_read_lose_their_places_and_one_that_reads_keeps_its_own() {
    let hub_limits = HubLimits::default();
    let served = Served::start(limits(512, LONG_MS, LONG_MS, 500), hub_limits).await;
    let mut deaf = Vec::new();
    for _ in 1..hub_limits.clients {
        deaf.push(listening(served.address).await);
    }
    let reading = read_on(listening(served.address).await);
    let hub = std::sync::Arc::clone(&served.hub);
    let alert = long_alert();
    let publisher = tokio::spawn(async move {
        // A megabyte is enough to know them.
        for _ in 0..64 {
            hub.alert(&alert);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    eventually("every client that never reads is gone", async || {
        figure(served.address, "hunhe_http_closed_total{why=\"stalled\"}").await >= 63.0
    })
    .await;
    let begun = Instant::now();
    eventually("some stalls' time has passed", async || begun.elapsed() > Duration::from_secs(2)).await;
    assert!(!reading.is_finished(), "whoever reads keeps the place");
    assert_eq!(figure(served.address, "hunhe_live_clients").await, 1.0);
    reading.abort();
    publisher.await.unwrap();
}

#[tokio::test]
async fn where_every_stream_is_taken_the_first_one_is_closed_for_the_next_even_if_nobody_reads_it() {
    let hub_limits = HubLimits::default();
    let served = Served::start(limits(512, LONG_MS, LONG_MS, LONG_MS), hub_limits).await;
    let mut deaf = Vec::new();
    for _ in 0..hub_limits.clients {
        deaf.push(listening(served.address).await);
    }
    // More than the kernel holds, so that each is stuck in the middle of an answer.
    for _ in 0..64 {
        served.hub.alert(&long_alert());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let page = read_on(listening(served.address).await);
    eventually("the first one's connection is closed", async || {
        figure(served.address, "hunhe_http_closed_total{why=\"room\"}").await >= 1.0
    })
    .await;
    rest(&mut deaf[0]).await;
    assert_eq!(figure(served.address, "hunhe_live_gave_way_total").await, 1.0);
    assert_eq!(figure(served.address, "hunhe_live_clients").await, 64.0);
    assert!(!page.is_finished());
    page.abort();
}

#[tokio::test]
async fn beside_eighty_clients_that_want_every_stream_a_page_always_gets_one_and_the_alerts_in_time() {
    const GREEDY: usize = 80;
    let served = Served::start(limits(512, LONG_MS, LONG_MS, LONG_MS), HubLimits::default()).await;
    let address = served.address;
    let mut greedy = tokio::task::JoinSet::new();
    for _ in 0..GREEDY {
        greedy.spawn(async move {
            loop {
                let mut stream = sent(address, LIVE).await;
                // Until it gives way; and at once again.
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        });
    }
    eventually("they take each other's", async || figure(address, "hunhe_live_gave_way_total").await > 100.0)
        .await;
    for _ in 0..20 {
        let begun = Instant::now();
        drop(listening(address).await);
        let asked = "GET /api/v1/alerts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = ask(address, asked).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A place that was given away holds no connection.
    let open = figure(address, "hunhe_http_connections").await;
    assert!(open <= 2.0 * GREEDY as f64, "{open}");
    greedy.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_its_connection_and_weighs_nothing_after() {
    let served = Served::start(limits(512, LONG_MS, LONG_MS, 300), HubLimits::default()).await;
    let series = "GET /api/v1/devices/gas-leak-0000/series?channel=ch4&from=2025-01-01&to=2026-01-01&step=1800 \
                  HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut deaf = Vec::new();
    for _ in 0..10 {
        // Several answers, since the kernel takes one for the client.
        deaf.push(sent(served.address, &series.repeat(8)).await);
    }
    eventually("they are closed", async || {
        figure(served.address, "hunhe_http_closed_total{why=\"stalled\"}").await >= 10.0
    })
    .await;
    // The one answer that is being given is this figure's own.
    assert!(figure(served.address, "hunhe_http_answer_bytes").await < 1.0);
}

#[tokio::test]
async fn beside_large_answers_that_nobody_takes_small_ones_and_health_are_answered_and_the_longest_stuck_goes()
 {
    let served = Served::start(limits(512, LONG_MS, LONG_MS, LONG_MS), HubLimits::default()).await;
    let address = served.address;
    let close = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    // The largest series there is; several on a connection, since the kernel takes the first for the client.
    let series = "GET /api/v1/devices/gas-leak-0000/series?channel=ch4&from=2025-01-01&to=2026-01-01&step=1800 \
                  HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut deaf = Vec::new();
    while figure(address, "hunhe_http_answers_refused_total").await < 1.0 {
        assert!(deaf.len() < 400, "there is always room for another large answer");
        for _ in 0..20 {
            deaf.push(sent(address, &series.repeat(3)).await);
        }
    }
    assert!(figure(address, "hunhe_http_answer_bytes").await > 30e6);
    for path in
        ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/alerts", "/api/v1/devices?limit=1"]
    {
        let answer = ask(address, &close(path)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    // A large one is refused until those who take nothing for a second have made room for it.
    let large = series.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    eventually("a large answer has room", async || ask(address, &large).await.starts_with("HTTP/1.1 200"))
        .await;
    assert!(figure(address, "hunhe_http_closed_total{why=\"room\"}").await >= 1.0);
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_on_every_path_and_the_key_is_named() {
    let served = Served::plain().await;
    let paths = [
        "/",
        "/api/openapi.json",
        "/api/v1/status",
        "/api/v1/ledger",
        "/api/v1/devices?limit=1",
        "/api/v1/alerts",
        "/api/v1/quarantine",
        "/api/v1/live",
        "/api/v1/backup",
        "/metrics",
        "/healthz",
        "/readyz",
        "/nowhere",
    ];
    let request = |line: &str, host: &str| format!("{line}\r\n{host}connection: close\r\n\r\n");
    for path in paths {
        for (line, host) in [
            (format!("GET {path} HTTP/1.1"), "host: rebound.example\r\n"),
            (format!("GET {path} HTTP/1.1"), "host: rebound.example:8080\r\n"),
            (format!("GET {path} HTTP/1.0"), ""),
            (format!("GET http://rebound.example{path} HTTP/1.1"), "host: localhost\r\n"),
        ] {
            let answer = ask(served.address, &request(&line, host)).await;
            assert!(
                answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.0 421"),
                "{line}: {answer}"
            );
            assert!(answer.contains("http.hosts"), "{line}: {answer}");
            assert!(!answer.contains("rebound"), "what the caller wrote is not repeated: {answer}");
        }
    }
    let redrive = request("POST /api/v1/quarantine/m-7/redrive HTTP/1.1", "host: rebound.example\r\n");
    assert!(ask(served.address, &redrive).await.starts_with("HTTP/1.1 421"));
    let known = ask(served.address, &request("GET /api/v1/status HTTP/1.1", "host: LOCALHOST:1\r\n")).await;
    assert!(known.starts_with("HTTP/1.1 200"), "{known}");
    assert!(figure(served.address, "hunhe_http_misdirected_total").await >= 52.0);
    assert_eq!(served.backend.now_ms.load(std::sync::atomic::Ordering::Relaxed), fake::NOW_MS);
}
