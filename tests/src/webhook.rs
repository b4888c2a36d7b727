//! A receiver of alerts over HTTP that keeps what it got and answers as a script says: an independent judge of what a
//! gateway delivered.
//!
//! Plain sockets and a thread a connection, HTTP/1.1 with keep-alive. Deliberately absent: anything that a receiver of
//! JSON by POST does not need.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

/// A connection that says nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With this status and `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// Not at all, and the connection stays open.
    Hang,
    /// Not at all, and the connection is cut.
    Cut,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// When it was read.
    pub at: Instant,
    /// Its `Idempotency-Key`.
    pub key: String,
    /// Its `Authorization`.
    pub authorization: Option<String>,
    /// Its body.
    pub body: Value,
    /// How it was answered.
    pub answer: Answer,
}

impl Received {
    /// Whether the sender was told that it was taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self.answer, Answer::Status(200..=299))
    }
}

#[derive(Debug, Default)]
struct State {
    received: Mutex<Vec<Received>>,
    script: Mutex<VecDeque<Answer>>,
    /// Nobody listens.
    down: AtomicBool,
    /// Milliseconds until an answer.
    slow_ms: AtomicU64,
    /// Every so many requests, one is answered with 503; 0: none.
    failing: AtomicU64,
    /// Nothing is answered, and connections stay open.
    hanging: AtomicBool,
    /// Requests that were taken.
    taken: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Where no script says otherwise.
    usual: Mutex<Option<Answer>>,
    ended: AtomicBool,
    /// What is kept; without it everything.
    keeps: Option<fn(&Value) -> bool>,
}

/// A receiver; it ends when dropped.
#[derive(Debug)]
pub struct Webhook {
    /// Its port on loopback, the same after [`Self::set_down`].
    pub port: u16,
    state: Arc<State>,
}

impl Webhook {
    /// Starts one that takes everything.
    #[must_use]
    pub fn start() -> Self {
        Self::with(State::default())
    }

    /// Starts one that takes everything and keeps some of it: what comes may be more than memory holds.
    #[must_use]
    pub fn start_keeping(keeps: fn(&Value) -> bool) -> Self {
        Self::with(State { keeps: Some(keeps), ..State::default() })
    }

    fn with(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(state);
        let listening = Arc::clone(&state);
        std::thread::spawn(move || listen(listener, port, &listening));
        Self { port, state }
    }

    /// As a table of the gateway's configuration.
    #[must_use]
    pub fn to_toml(&self, name: &str, timeout_s: u32) -> String {
        let port = self.port;
        format!(
            "[[webhook]]\nname = {name:?}\nurl = \"http://127.0.0.1:{port}/alerts\"\ntimeout_s = {timeout_s}\n"
        )
    }

    /// The next answers; behind them everything is taken.
    pub fn script(&self, answers: &[Answer]) {
        lock(&self.state.script).extend(answers);
    }

    /// Answers so wherever no script says otherwise; `None`: takes everything.
    pub fn set_usual(&self, answer: Option<Answer>) {
        *lock(&self.state.usual) = answer;
    }

    /// Takes so long for each answer.
    pub fn set_slow(&self, milliseconds: u64) {
        self.state.slow_ms.store(milliseconds, Ordering::SeqCst);
    }

    /// Answers one request of so many with 503.
    pub fn set_failing(&self, one_of: u64) {
        self.state.failing.store(one_of, Ordering::SeqCst);
    }

    /// Answers nothing, and keeps connections open; or answers again.
    pub fn set_hanging(&self, hanging: bool) {
        self.state.hanging.store(hanging, Ordering::SeqCst);
    }

    /// Refuses connections, and cuts those that are open; or listens again.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Everything that came, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// How many were taken, without a copy of them.
    #[must_use]
    pub fn taken_count(&self) -> usize {
        self.state.taken.load(Ordering::SeqCst)
    }

    /// Requests so far, however they were answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// What was taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(Received::is_taken).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: TcpListener, port: u16, state: &Arc<State>) {
    let mut listener = Some(listener);
    while !state.ended.load(Ordering::SeqCst) {
        if state.down.load(Ordering::SeqCst) {
            listener = None;
            std::thread::sleep(POLL);
            continue;
        }
        let socket = listener.get_or_insert_with(|| {
            TcpListener::bind(("127.0.0.1", port)).expect("the receiver's own port is free again")
        });
        socket.set_nonblocking(true).expect("a socket can be polled");
        match socket.accept() {
            Ok((connection, _)) => {
                let state = Arc::clone(state);
                std::thread::spawn(move || converse(connection, &state));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

fn converse(connection: TcpStream, state: &State) {
    let ready = connection.set_nonblocking(false).is_ok()
        && connection.set_nodelay(true).is_ok()
        && connection.set_read_timeout(Some(IDLE)).is_ok();
    let Ok(mut out) = connection.try_clone() else { return };
    let mut lines = BufReader::new(connection);
    while ready && let Some((headers, body)) = request(&mut lines) {
        if state.down.load(Ordering::SeqCst) {
            return;
        }
        let number = state.requests.fetch_add(1, Ordering::SeqCst);
        let failing = state.failing.load(Ordering::SeqCst);
        let usual = if failing > 0 && number.is_multiple_of(failing) { 503 } else { 200 };
        let usual = if state.hanging.load(Ordering::SeqCst) { Answer::Hang } else { Answer::Status(usual) };
        let usual = (*lock(&state.usual)).unwrap_or(usual);
        let answer = lock(&state.script).pop_front().unwrap_or(usual);
        let body =
            serde_json::from_slice(&body).unwrap_or_else(|error| Value::String(format!("not JSON: {error}")));
        let header = |name: &str| headers.get(name).cloned();
        let received = Received {
            at: Instant::now(),
            key: header("idempotency-key").unwrap_or_default(),
            authorization: header("authorization"),
            body,
            answer,
        };
        state.taken.fetch_add(usize::from(received.is_taken()), Ordering::SeqCst);
        if state.keeps.is_none_or(|keeps| keeps(&received.body)) {
            lock(&state.received).push(received);
        }
        std::thread::sleep(Duration::from_millis(state.slow_ms.load(Ordering::SeqCst)));
        let head = match answer {
            Answer::Status(code) => format!("HTTP/1.1 {code} So\r\n"),
            Answer::RetryAfter(code, seconds) => {
                format!("HTTP/1.1 {code} So\r\nretry-after: {seconds}\r\n")
            }
            Answer::Hang => {
                // Until the sender gives up.
                let _ = lines.read(&mut [0]);
                return;
            }
            Answer::Cut => return,
        };
        if write!(out, "{head}content-length: 2\r\n\r\nso").is_err() {
            return;
        }
    }
}

/// Headers, names in small letters, and body; nothing at the end of the connection.
fn request(lines: &mut impl BufRead) -> Option<(BTreeMap<String, String>, Vec<u8>)> {
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    if lines.read_line(&mut line).ok()? == 0 {
        return None;
    }
    loop {
        line.clear();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    Some((headers, body))
}
