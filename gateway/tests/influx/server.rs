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
    /// Store the lines, and answer only after so long.
    Silence(Duration),
    /// Store the lines but those that hold this text, and answer with that status and body.
    Partial(u16, &'static str, &'static str),
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
    /// So many requests more are reset while their body is on its way.
    resets: Arc<Mutex<usize>>,
    /// Does the script answer what a sink asks before its first write, too?
    scripts_setup: bool,
}

impl Server {
    /// `script` gets the number of the request, from 0, and the request.
    pub(crate) fn start(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), 0, script)
    }

    /// The same with a script that answers what a sink asks before its first write, too.
    pub(crate) fn start_with_setup(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        Self::serve_at(TcpListener::bind("127.0.0.1:0").unwrap(), 0, true, script)
    }

    /// The same on a port already held, which resets the first `resets` requests.
    pub(crate) fn start_at(
        listener: TcpListener,
        resets: usize,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        Self::serve_at(listener, resets, false, script)
    }

    fn serve_at(
        listener: TcpListener,
        resets: usize,
        scripts_setup: bool,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (requests, stored) = (Arc::default(), Arc::default());
        let resets = Arc::new(Mutex::new(resets));
        let server = Self { address, requests, stored, resets, scripts_setup };
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

    /// Forgets what it stored, as one that is killed does with what it had in memory.
    pub(crate) fn lose(&self) {
        self.stored.lock().unwrap().clear();
    }

    fn serve(&self, stream: TcpStream, script: &Mutex<Script>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some((mut request, length)) = read_head(&mut reader) {
            if let Some(body) = setup_answer(&request.target).filter(|_| !self.scripts_setup) {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
            {
                let mut resets = self.resets.lock().unwrap();
                if *resets > 0 {
                    *resets -= 1;
                    self.requests.lock().unwrap().push(request);
                    // Closed with bytes unread, a connection is reset.
                    reader.read_exact(&mut vec![0; length / 10]).unwrap();
                    return;
                }
            }
            let Some(()) = read_body(&mut reader, length, &mut request) else { return };
            let reply = {
                let mut requests = self.requests.lock().unwrap();
                let reply = (script.lock().unwrap())(requests.len(), &request);
                requests.push(request.clone());
                reply
            };
            let (code, headers, body) = match &reply {
                Reply::Answer(code, headers, body) => (*code, *headers, body.as_str()),
                Reply::Partial(code, _, body) => (*code, "", *body),
                Reply::ThenCut | Reply::CutUnanswered | Reply::Silence(_) => (204, "", ""),
            };
            let bad = if let Reply::Partial(_, bad, _) = &reply { Some(*bad) } else { None };
            if code == 204 || bad.is_some() {
                let good = request.lines.into_iter().filter(|line| bad.is_none_or(|bad| !line.contains(bad)));
                self.stored.lock().unwrap().extend(good);
            }
            match reply {
                Reply::CutUnanswered => return,
                Reply::Silence(time) => std::thread::sleep(time),
                _ => {}
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

/// What an InfluxDB 2 answers to the questions before the first write, where all is well.
pub(crate) fn setup_answer(target: &str) -> Option<&'static str> {
    Some(match target.split('?').next()? {
        "/ready" => "{}",
        "/health" => r#"{"name":"influxdb","status":"pass","version":"2.7.11"}"#,
        "/api/v2/orgs" => r#"{"orgs":[{"id":"0000111100001111","name":"my org"}]}"#,
        "/api/v2/buckets" => r#"{"buckets":[{"id":"2222333322223333","name":"city","retentionRules":[]}]}"#,
        _ => return None,
    })
}

/// The request without its lines, and how many bytes these have.
pub(crate) fn read_head(reader: &mut BufReader<TcpStream>) -> Option<(Request, usize)> {
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
    Some((Request { target, authorization, lines: Vec::new(), at: Instant::now() }, length))
}

pub(crate) fn read_body(
    reader: &mut BufReader<TcpStream>,
    length: usize,
    request: &mut Request,
) -> Option<()> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.lines = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    Some(())
}

/// Waits for a condition, and fails with its description if it does not come true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
