//! The system calls of a gateway, judged: did an acknowledgement leave before the sync that covers its record returned?
//!
//! The program is started by `strace`, which detaches, so that the process is the gateway itself. The trace is its own
//! evidence: which packet id stood for which message is read from the bytes that came over the socket, when its record
//! was written from the bytes that went to the journal's file, and when it was acknowledged from the bytes sent. A send
//! counts from its entry, a write and a sync from their return.
//!
//! Deliberately absent: any trust in the gateway's own counters or log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use crate::{
    mqtt::{Decoder, Packet},
    process::eventually,
};

/// Begins the payload of a message that is followed; eight digits behind it are its number.
pub const MARK: &[u8] = b"followed-";
const DIGITS: usize = 8;
/// The longest data shown of a call: more than the journal writes at once.
const SHOWN_BYTES: u32 = 4 << 20;
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// A payload that can be followed; no device would send it.
#[must_use]
pub fn payload(number: u64) -> Vec<u8> {
    let mut payload = MARK.to_vec();
    payload.extend_from_slice(format!("{number:0DIGITS$}").as_bytes());
    payload
}

/// The command in front of the gateway's; `injection` is strace's own, such as
/// `fdatasync:error=EIO:when=3`, or empty.
#[must_use]
pub fn wrapper(trace: &Path, injection: &str) -> Vec<String> {
    let mut words: Vec<String> =
        ["strace", "-D", "-f", "--seccomp-bpf", "-ttt", "-yy", "-xx", "-qq"].map(String::from).to_vec();
    words.extend(["-s".into(), SHOWN_BYTES.to_string(), "-o".into(), trace.display().to_string()]);
    words.push("--signal=none".into());
    words.push(
        "--trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,read,readv,recvfrom,recvmsg".into(),
    );
    if !injection.is_empty() {
        words.push(format!("--inject={injection}"));
    }
    words
}

/// What a trace showed.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Messages that came over a socket.
    pub delivered: BTreeSet<u64>,
    /// Messages in the journal behind a sync that returned.
    pub durable: BTreeSet<u64>,
    /// Messages acknowledged.
    pub acknowledged: BTreeSet<u64>,
    /// Messages acknowledged before a sync that covers them had returned.
    pub early: BTreeSet<u64>,
    /// Syncs of the journal that returned 0.
    pub syncs: u64,
    /// Syncs of the journal that failed.
    pub failed_syncs: u64,
}

/// Reads the trace of a process that has ended.
///
/// # Panics
/// There is none.
#[must_use]
pub fn judge(trace: &Path, pid: u32) -> Verdict {
    // The tracer writes on a moment longer than its tracee lives.
    let text = eventually(WRITTEN_WITHIN, "the trace is written", || {
        let text = fs::read_to_string(trace).ok()?;
        // Without -q strace would say how it ended; with it, the file just stops growing.
        let before = text.len();
        std::thread::sleep(Duration::from_millis(300));
        let gone = !Path::new(&format!("/proc/{pid}/task")).exists();
        (gone && fs::metadata(trace).is_ok_and(|now| now.len() == before as u64)).then_some(text)
    });
    judge_text(&text)
}

/// Reads the trace of a process that runs.
#[must_use]
pub fn so_far(trace: &Path) -> Verdict {
    judge_text(&fs::read_to_string(trace).unwrap_or_default())
}

fn judge_text(text: &str) -> Verdict {
    let mut judge = Judge::default();
    text.lines().for_each(|line| judge.line(line));
    judge.verdict
}

#[derive(Debug, Default)]
struct Stream {
    received: Decoder,
    sent: Decoder,
    /// Messages by packet id.
    ids: BTreeMap<u16, Vec<u64>>,
}

/// A call that has begun.
#[derive(Debug)]
struct Begun {
    name: String,
    arguments: String,
    /// Durable when it began.
    syncs: u64,
    /// What a sync covers.
    covers: Vec<u64>,
}

#[derive(Debug, Default)]
struct Judge {
    verdict: Verdict,
    /// Written to a file of the journal and not synced.
    written: BTreeMap<String, Vec<u64>>,
    /// Which sync made a message durable.
    durable_by: BTreeMap<u64, u64>,
    streams: BTreeMap<String, Stream>,
    begun: BTreeMap<String, Begun>,
}

impl Judge {
    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let Some((_time, call)) = rest.trim_start().split_once(' ') else { return };
        if let Some(resumed) = call.strip_prefix("<... ") {
            let Some(mut begun) = self.begun.remove(thread) else { return };
            if let Some((_, rest)) = resumed.split_once(" resumed>") {
                begun.arguments.push_str(rest);
                self.returned(&begun);
            }
            return;
        }
        let Some((name, arguments)) = call.split_once('(') else { return };
        if let Some(unfinished) = arguments.strip_suffix(" <unfinished ...>") {
            let begun = self.begin(name, unfinished);
            self.begun.insert(thread.to_owned(), begun);
        } else {
            let begun = self.begin(name, arguments);
            self.returned(&begun);
        }
    }

    fn begin(&mut self, name: &str, arguments: &str) -> Begun {
        let covers = if matches!(name, "fdatasync" | "fsync") {
            self.written.remove(descriptor(arguments)).unwrap_or_default()
        } else {
            Vec::new()
        };
        Begun { name: name.to_owned(), arguments: arguments.to_owned(), syncs: self.verdict.syncs, covers }
    }

    fn returned(&mut self, call: &Begun) {
        let Some((_, answer)) = call.arguments.rsplit_once(" = ") else { return };
        let answer: i64 = answer.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        let file = descriptor(&call.arguments);
        let is_journal = is_of_journal(file);
        match call.name.as_str() {
            "fdatasync" | "fsync" if is_journal => {
                if answer == 0 {
                    self.verdict.syncs += 1;
                    for &number in &call.covers {
                        self.durable_by.entry(number).or_insert(self.verdict.syncs);
                        self.verdict.durable.insert(number);
                    }
                } else {
                    self.verdict.failed_syncs += 1;
                }
            }
            "pwrite64" | "write" | "writev" if is_journal && answer > 0 => {
                let mut bytes = strings(&call.arguments);
                bytes.truncate(usize::try_from(answer).unwrap_or(0));
                self.written.entry(file.to_owned()).or_default().extend(marks(&bytes));
            }
            "read" | "readv" | "recvfrom" | "recvmsg" if answer > 0 => {
                let mut bytes = strings(&call.arguments);
                bytes.truncate(usize::try_from(answer).unwrap_or(0));
                self.received(file, &bytes);
            }
            "write" | "writev" | "sendto" | "sendmsg" if answer > 0 => {
                let mut bytes = strings(&call.arguments);
                bytes.truncate(usize::try_from(answer).unwrap_or(0));
                self.sent(file, &bytes, call.syncs);
            }
            _ => {}
        }
    }

    fn received(&mut self, socket: &str, bytes: &[u8]) {
        let stream = self.streams.entry(socket.to_owned()).or_default();
        stream.received.feed(bytes);
        while let Some(packet) = stream.received.next_packet() {
            let Packet::Publish(publish) = packet else { continue };
            for number in marks(&publish.payload) {
                stream.ids.entry(publish.id).or_default().push(number);
                self.verdict.delivered.insert(number);
            }
        }
    }

    fn sent(&mut self, socket: &str, bytes: &[u8], syncs: u64) {
        let Some(stream) = self.streams.get_mut(socket) else { return };
        stream.sent.feed(bytes);
        while let Some(packet) = stream.sent.next_packet() {
            let Packet::PubAck(id) = packet else { continue };
            for number in stream.ids.remove(&id).unwrap_or_default() {
                self.verdict.acknowledged.insert(number);
                if self.durable_by.get(&number).is_none_or(|&by| by > syncs) {
                    self.verdict.early.insert(number);
                }
            }
        }
    }
}

/// `12<path>` with the path as it stands there.
fn descriptor(arguments: &str) -> &str {
    arguments.split([',', ')']).next().unwrap_or_default()
}

fn is_of_journal(descriptor: &str) -> bool {
    let path = descriptor.split_once('<').map_or("", |(_, path)| path);
    let path = String::from_utf8_lossy(&unescaped(path)).into_owned();
    path.contains("/data/journal/")
}

/// All data between quotes, one after another.
fn strings(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len() / 4), 0);
    while at < bytes.len() {
        let hex = bytes.get(at..at + 4).filter(|hex| hex.starts_with(b"\\x"));
        let value = hex
            .and_then(|hex| std::str::from_utf8(&hex[2..]).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// The numbers of all messages whose payload lies in `bytes`.
fn marks(bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        rest = &rest[at + MARK.len()..];
        let digits = rest.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Publish, push_publish, with_id};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn delivery(id: u16, number: u64) -> String {
        let mut bytes = Vec::new();
        let publish =
            Publish { dup: false, qos: 1, retain: false, topic: "t".into(), id, payload: payload(number) };
        push_publish(&mut bytes, &publish);
        format!("7 1.0 recvfrom(9<TCP:[a->b]>, \"{}\", 4096, 0, NULL, NULL) = {}\n", hex(&bytes), bytes.len())
    }

    fn write(number: u64) -> String {
        let path = hex(b"/x/data/journal/1.seg");
        let bytes = payload(number);
        format!("8 1.0 pwrite64(5<{path}>, \"{}\", {}, 0) = {}\n", hex(&bytes), bytes.len(), bytes.len())
    }

    fn sync(answer: &str) -> String {
        format!("8 1.0 fdatasync(5<{}>) = {answer}\n", hex(b"/x/data/journal/1.seg"))
    }

    fn acknowledgement(id: u16) -> String {
        format!("7 1.0 sendto(9<TCP:[a->b]>, \"{}\", 4, 0, NULL, 0) = 4\n", hex(&with_id(0x40, id)))
    }

    #[test]
    fn an_acknowledgement_behind_its_sync_is_in_order() {
        let verdict = judge_text(&(delivery(3, 1) + &write(1) + &sync("0") + &acknowledgement(3)));
        assert_eq!((verdict.early.len(), verdict.acknowledged.len(), verdict.syncs), (0, 1, 1));
    }

    #[test]
    fn an_acknowledgement_before_its_sync_or_after_a_failed_one_is_seen() {
        let failed = sync("-1 EIO (Input/output error) (INJECTED)");
        for between in [String::new(), write(1), write(1) + &failed, write(1) + &failed + &sync("0")] {
            let verdict = judge_text(&(delivery(3, 1) + &between + &acknowledgement(3)));
            assert_eq!(verdict.early, BTreeSet::from([1]), "{between}");
        }
    }

    #[test]
    fn an_acknowledgement_sent_while_its_sync_is_under_way_is_seen() {
        let path = hex(b"/x/data/journal/1.seg");
        let begun = format!("8 1.0 fdatasync(5<{path}> <unfinished ...>\n");
        let ended = "8 1.0 <... fdatasync resumed>) = 0\n";
        let verdict = judge_text(&(delivery(3, 1) + &write(1) + &begun + &acknowledgement(3) + ended));
        assert_eq!(verdict.early, BTreeSet::from([1]));
        let verdict = judge_text(&(delivery(3, 1) + &write(1) + &begun + ended + &acknowledgement(3)));
        assert!(verdict.early.is_empty());
    }
}
