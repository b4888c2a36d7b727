//! A client of the gateway's live stream, and one of the broker: what reached them, and when.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::mqtt;

/// What came, with its time.
pub type Events = Arc<Mutex<Vec<(Instant, Value)>>>;

/// A copy of what came so far.
#[must_use]
pub fn so_far(events: &Events) -> Vec<(Instant, Value)> {
    events.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps something that came now.
pub fn keep(events: &Events, value: Value) {
    events.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), value));
}

/// Keeps the `alert` events of a gateway's live stream, from now on; ends with the gateway.
///
/// # Panics
/// The gateway does not answer.
#[must_use]
pub fn alerts_of(port: u16) -> Events {
    let events = Events::default();
    let kept = Arc::clone(&events);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let request = reqwest::Client::new().get(format!("http://127.0.0.1:{port}/api/v1/live"));
    let mut response = runtime.block_on(request.send()).expect("the live stream answers");
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut text = String::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                text.push_str(&String::from_utf8_lossy(&chunk));
                while let Some(end) = text.find("\n\n") {
                    let event: String = text.drain(..end + 2).collect();
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    if event.lines().any(|line| line == "event: alert")
                        && let Some(alert) = data.and_then(|data| serde_json::from_str(data).ok())
                    {
                        keep(&kept, alert);
                    }
                }
            }
        });
    });
    events
}

/// What the page reads where the stream goes on behind a gap.
const LIST: &str = "/api/v1/alerts?severity=critical&limit=1000";

/// Follows a gateway's live stream from behind `last_id`, which it moves on, until the stream ends, as the page does; counts a
/// stream that was begun.
pub async fn follow(port: u16, last_id: &mut String, mut each: impl FnMut(Value), begun: &AtomicU64) {
    let (client, base) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}"));
    let mut request = client.get(format!("{base}/api/v1/live"));
    if !last_id.is_empty() {
        request = request.header("last-event-id", last_id.as_str());
    }
    let Ok(mut response) = request.send().await else { return };
    if !response.status().is_success() {
        return;
    }
    begun.fetch_add(1, Ordering::Relaxed);
    let mut text = String::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let line = |key: &str| event.lines().find_map(|line| line.strip_prefix(key));
            if let Some(id) = line("id: ") {
                id.clone_into(last_id);
            }
            match (line("event: "), line("data: ")) {
                (Some("alert"), Some(data)) => serde_json::from_str(data).into_iter().for_each(&mut each),
                (Some("reset"), _) => {
                    listed(&client, &format!("{base}{LIST}")).await.into_iter().for_each(&mut each)
                }
                _ => {}
            }
        }
    }
}

async fn listed(client: &reqwest::Client, url: &str) -> Vec<Value> {
    let Ok(answer) = client.get(url).send().await else { return Vec::new() };
    let page: Value = answer.json().await.unwrap_or_default();
    page["items"].as_array().cloned().unwrap_or_default()
}

/// Keeps what is published on `filter`, as JSON; ends with the broker.
///
/// # Panics
/// The broker refuses.
#[must_use]
pub fn published(port: u16, client_id: &str, filter: &str) -> Events {
    published_if(port, client_id, filter, |_| true)
}

/// The same of those that `wanted` wants: all may be more than memory holds.
///
/// # Panics
/// The broker refuses.
#[must_use]
pub fn published_if(port: u16, client_id: &str, filter: &str, wanted: fn(&Value) -> bool) -> Events {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    socket.set_read_timeout(Some(Duration::from_secs(600))).expect("a timeout");
    for request in [mqtt::connect(client_id, true), mqtt::subscribe(1, filter)] {
        socket.write_all(&request).expect("the broker reads");
        let (answer, body) = packet(&mut socket).expect("the broker answers");
        assert!(matches!((answer, body.last()), (0x20, Some(0)) | (0x90, Some(1))), "{answer:#x} {body:?}");
    }
    let events = Events::default();
    let kept = Arc::clone(&events);
    std::thread::spawn(move || {
        while let Some((kind, body)) = packet(&mut socket) {
            if kind & 0xf0 != 0x30 {
                continue;
            }
            let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let qos = kind >> 1 & 3;
            let payload = if qos > 0 { topic_end + 2 } else { topic_end };
            if qos > 0 && socket.write_all(&[0x40, 2, body[topic_end], body[topic_end + 1]]).is_err() {
                return;
            }
            if let Ok(mut alert) = serde_json::from_slice::<Value>(&body[payload..]) {
                alert["topic"] = String::from_utf8_lossy(&body[2..topic_end]).into();
                if wanted(&alert) {
                    keep(&kept, alert);
                }
            }
        }
    });
    events
}

fn packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    socket.read_exact(&mut byte).ok()?;
    let kind = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        socket.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    Some((kind, body))
}
