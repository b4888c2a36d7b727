//! A page that comes when every place of the live stream may be taken: it must see the next alarm all the same.
//!
//! It does what the page does: it opens the live stream, comes back behind its last event where that ends, and while it has none, or
//! events in between are gone, it asks for the list of alerts each second.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    Field,
    field::{get, status_of},
};

/// What is counted where an alarm is seen in time.
pub(super) const IN_TIME: &str = "late page in time";
/// What is counted where one is not.
pub(super) const MISSED: &str = "late page missed";
/// From one fresh page to the next.
const EVERY: Duration = Duration::from_secs(2);
/// A page without a stream asks so often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A page without a stream asks each second, so it may be later than promised by an answer's time.
const GRACE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);
/// An event that says that others are gone.
const RESET: &[u8] = b"event: reset";
const LIST: &str = "/api/v1/alerts?severity=critical&mode=live&limit=200";
/// What is kept of a stream: an event is shorter.
const KEPT_BYTES: usize = 256 * 1024;

/// Opens one page after the other until the field is cleared.
pub(super) fn watch(field: &Field<'_>) {
    while !field.is_over() {
        match sees_the_next_alarm(field) {
            Some(true) => field.note(IN_TIME),
            Some(false) => field.note(MISSED),
            None => {}
        }
        field.wait(EVERY);
    }
}

/// `None` where it is over before there is an answer.
fn sees_the_next_alarm(field: &Field<'_>) -> Option<bool> {
    let mut page = Page { stream: None, text: Vec::new(), from: 0, asked: None };
    page.look(field);
    let opened = Instant::now();
    loop {
        page.look(field);
        if field.is_over() {
            return None;
        }
        let raised = field.alarms.raised();
        let next = raised.iter().filter(|(_, at)| **at > opened).min_by_key(|(_, at)| **at);
        if let Some((device, at)) = next {
            let late = at.elapsed();
            if page.shows(device) {
                return Some(late <= field.slowest + GRACE);
            }
            if late > field.slowest + GRACE {
                return Some(false);
            }
        }
        std::thread::sleep(LOOK);
    }
}

struct Page {
    stream: Option<TcpStream>,
    /// The last that was read.
    text: Vec<u8>,
    /// Where in it the present stream begins, or goes on behind a gap.
    from: usize,
    /// When the stream or the list was asked for.
    asked: Option<Instant>,
}

impl Page {
    fn look(&mut self, field: &Field<'_>) {
        if let Some(stream) = &mut self.stream {
            let mut buffer = [0; 64 * 1024];
            match stream.read(&mut buffer) {
                Ok(0) => self.stream = None,
                Ok(length) => {
                    self.text.extend_from_slice(&buffer[..length]);
                    if self.text[self.from..].windows(RESET.len()).any(|window| window == RESET) {
                        self.from = self.text.len();
                        self.text.extend(listed(field));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.stream = None,
            }
            let beyond = self.text.len().saturating_sub(KEPT_BYTES);
            self.text.drain(..beyond);
            self.from = self.from.saturating_sub(beyond);
        }
        if self.stream.is_some() || self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        let again = self.asked.replace(Instant::now()).is_some();
        let last_id = self.last_id();
        self.stream = open(field, last_id);
        if self.stream.is_none() {
            field.note("late page without a stream");
        }
        if self.stream.is_none() || again && last_id.is_none() {
            self.text.extend(listed(field));
        }
        self.from = self.text.len();
    }

    /// The last event of a stream.
    fn last_id(&self) -> Option<u64> {
        let text = String::from_utf8_lossy(&self.text);
        // The last line may have come in part.
        let (whole, _) = text.rsplit_once('\n')?;
        whole.lines().rev().find_map(|line| line.strip_prefix("id: ")?.trim().parse().ok())
    }

    fn shows(&self, device: &str) -> bool {
        let field = format!("\"device\":\"{device}\"");
        self.text.windows(field.len()).any(|window| window == field.as_bytes())
    }
}

/// The stream, where there is a place.
fn open(field: &Field<'_>, last_id: Option<u64>) -> Option<TcpStream> {
    let mut socket = field.knock_honestly()?;
    let behind = last_id.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
    let request = format!("GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\n{behind}\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    let mut begin = [0; 12];
    socket.read_exact(&mut begin).ok()?;
    socket.set_nonblocking(true).ok()?;
    (status_of(&begin) == Some("200")).then_some(socket)
}

fn listed(field: &Field<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(mut socket) = field.knock_honestly()
        && socket.write_all(get(LIST, "127.0.0.1").as_bytes()).is_ok()
    {
        // What came before an error counts.
        let _ = socket.read_to_end(&mut text);
    }
    text
}
