//! A database that speaks InfluxDB 2's write API, and refuses every batch that holds one line: the first it ever saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
struct State {
    poison: Option<String>,
    /// What a point holds, by its series and time.
    stored: BTreeMap<String, BTreeSet<String>>,
    requests: u64,
}

/// The database; it ends with the process.
#[derive(Debug, Clone)]
pub struct Poisoned {
    /// Its port on loopback.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Poisoned {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let database = Self { port, state: Arc::default() };
        let listening = database.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let database = listening.clone();
                std::thread::spawn(move || database.converse(connection));
            }
        });
        database
    }

    /// The line that it refuses.
    #[must_use]
    pub fn poison(&self) -> Option<String> {
        self.state().poison.clone()
    }

    /// Points of a measurement that it stored, each a series at a time.
    #[must_use]
    pub fn stored(&self, measurement: &str) -> usize {
        let of = |point: &&String| point.split(',').next() == Some(measurement);
        self.state().stored.keys().filter(of).count()
    }

    /// Points that it stored more than once with different fields: a repeat of the same line replaces itself.
    #[must_use]
    pub fn doubled(&self) -> usize {
        self.state().stored.values().map(|fields| fields.len() - 1).sum()
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, connection: TcpStream) -> Option<()> {
        let mut out = connection.try_clone().ok()?;
        let mut reader = BufReader::new(connection);
        loop {
            let (mut line, mut length, mut asks) = (String::new(), 0, false);
            loop {
                line.clear();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                asks |= line.starts_with("GET ");
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let text = String::from_utf8(body).ok()?;
            let answer = if asks {
                // It lets through writes alone, as a proxy may.
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()
            } else if self.takes(&text) {
                "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
            } else {
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 19\r\n\r\nfield type conflict".to_owned()
            };
            out.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn takes(&self, text: &str) -> bool {
        let mut state = self.state();
        state.requests += 1;
        if state.poison.is_none() {
            state.poison = text.lines().next().map(str::to_owned);
        }
        let good = text.lines().all(|line| Some(line) != state.poison.as_deref());
        if good {
            for line in text.lines() {
                let (point, fields) = point_of(line);
                state.stored.entry(point).or_default().insert(fields);
            }
        }
        good
    }
}

/// A line's series with its time, and its fields. No tag or field of these tests holds a space.
fn point_of(line: &str) -> (String, String) {
    let mut parts = line.splitn(3, ' ').map(str::to_owned);
    let (series, fields) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    (format!("{series} {}", parts.next().unwrap_or_default()), fields)
}
