//! A server that answers as scripted, and remembers what it stored.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) at: Instant,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, further headers, body.
    Answer(u16, &'static str, String),
    /// Answer 204 and cut the connection.
    ThenCut,
    /// Cut the connection without an answer, having stored the lines.
    CutUnanswered,
}

impl Reply {
    pub(crate) fn status(code: u16, body: &str) -> Self {
        Self::Answer(code, "", body.to_owned())
    }
}

type Script = Box<dyn FnMut(usize, &Request) -> Reply + Send>;

/// The server; it ends with the process.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stored: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `script` gets the number of the request, from 0, and the request.
    pub(crate) fn start(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, requests: Arc::default(), stored: Arc::default() };
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, script) = (accepting.clone(), Arc::clone(&script));
                std::thread::spawn(move || server.serve(stream.unwrap(), &script));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Lines stored, in order, repeats included.
    pub(crate) fn stored(&self) -> Vec<String> {
        self.stored.lock().unwrap().clone()
    }

    fn serve(&self, stream: TcpStream, script: &Mutex<Script>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(request) = read_request(&mut reader) {
            let reply = {
                let mut requests = self.requests.lock().unwrap();
                let reply = (script.lock().unwrap())(requests.len(), &request);
                requests.push(request.clone());
                reply
            };
            let (code, headers, body) = match &reply {
                Reply::Answer(code, headers, body) => (*code, *headers, body.as_str()),
                Reply::ThenCut | Reply::CutUnanswered => (204, "", ""),
            };
            if code == 204 {
                self.stored.lock().unwrap().extend(request.lines);
            }
            if matches!(reply, Reply::CutUnanswered) {
                return;
            }
            let length =
                if code == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let answer = format!("HTTP/1.1 {code} X\r\n{headers}{length}\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() || matches!(reply, Reply::ThenCut) {
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let target = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((key, value)) = header.trim_end().split_once(": ") else { break };
        match key.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let lines = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    Some(Request { target, authorization, lines, at: Instant::now() })
}

/// Waits for a condition, and fails with its description if it does not come true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
