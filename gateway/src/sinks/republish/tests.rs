use super::*;
use crate::decided::{Encoder as Records, Message as Source};
use hunhe_disk::{
    Open,
    simulated::{Action, Fate, SimulatedDisk},
};
use hunhe_gateway_core::{
    event::{Decisions, Reason, Refusal, SampleSet},
    registry::{DeviceIx, Registry},
};
use hunhe_log::{Options, Writer};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Mutex, OnceLock},
    time::Instant,
};

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const WITHIN: Duration = Duration::from_secs(30);

/// The bodies that a broker received, in order.
type Heard = Arc<Mutex<Vec<String>>>;

/// A broker that takes publishes one by one, and acknowledges each after a while, or never: by its number from 0.
fn broker(ack: fn(usize) -> Option<Duration>) -> (Broker, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Heard::default();
    let taken = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let taken = Arc::clone(&taken);
            std::thread::spawn(move || serve(stream.unwrap(), ack, &taken));
        }
    });
    (broker_at(port), heard)
}

fn broker_at(port: u16) -> Broker {
    Broker {
        host: "127.0.0.1".into(),
        port,
        client_id: "tested".into(),
        credentials: None,
        keep_alive_s: 30,
        packet_bytes_max: 1 << 18,
    }
}

/// Ends with the connection.
fn serve(mut stream: TcpStream, ack: fn(usize) -> Option<Duration>, heard: &Heard) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    loop {
        let kind = byte(&mut stream)? >> 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            let part = byte(&mut stream)?;
            length |= usize::from(part & 0x7f) << shift;
            shift += 7;
            if part & 0x80 == 0 {
                break;
            }
        }
        let mut packet = vec![0; length];
        stream.read_exact(&mut packet).ok()?;
        if kind == CONNECT {
            stream.write_all(&[0x20, 2, 0, 0]).ok()?;
        } else if kind == PUBLISH {
            let id_at = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
            let body = String::from_utf8(packet[id_at + 2..].to_vec()).unwrap();
            let number = heard.lock().unwrap().len();
            heard.lock().unwrap().push(body);
            if let Some(after) = ack(number) {
                std::thread::sleep(after);
                stream.write_all(&[0x40, 2, packet[id_at], packet[id_at + 1]]).ok()?;
            }
        }
    }
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut one = [0];
    stream.read_exact(&mut one).ok().map(|()| one[0])
}

/// A decided log in segments of 4 KiB, and the disk under it.
struct Log {
    disk: SimulatedDisk,
    writer: Writer,
    registry: Arc<Registry>,
    records: Records,
    source_lsn: u64,
}

impl Log {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let options = Options {
            disk: disk.handle(),
            dir: Path::new("/decided").into(),
            segment_bytes: 4 << 10,
            limit_bytes: 1 << 30,
        };
        let (writer, _) = Writer::open(options).unwrap();
        Self {
            disk,
            writer,
            registry: Arc::new(hunhe_fixtures::detector_registry()),
            records: Records::new(hunhe_gateway_core::event::Rollups::None),
            source_lsn: 0,
        }
    }

    fn append(&mut self, decisions: &Decisions) {
        self.source_lsn += 1;
        let source = Source {
            source_lsn: self.source_lsn,
            arrival_ms: 5,
            topic: b"t",
            payload: b"p",
            redrive_of: None,
        };
        self.records.encode(&self.registry, source, decisions);
        self.records.append(&mut self.writer).unwrap();
        self.writer.flush().unwrap();
    }

    fn append_samples(&mut self, count: u64) {
        for seq in 0..count {
            let mut decisions = Decisions::default();
            let accepted = &mut decisions.accepted;
            accepted.sets.push(SampleSet {
                device: DeviceIx(0),
                boot: 1,
                rows: 0..1,
                channels: 0..1,
                values_from: 0,
            });
            accepted.channels = vec![0];
            accepted.times_ms = vec![1_000 * i64::try_from(seq).unwrap()];
            accepted.seqs = vec![seq];
            accepted.quality = vec![1];
            accepted.values = vec![4];
            self.append(&decisions);
        }
    }

    fn start(&self, broker: Broker, patience: Patience) -> Running {
        let cursor = Path::new("/republish.cursor");
        let (cursor_file, held) = CursorFile::open(&*self.disk.handle(), cursor).unwrap();
        let tail = self.writer.subscribe();
        let republish = Republish {
            encoder: Encoder::new(Arc::clone(&self.registry)),
            broker,
            status: Arc::new(SinkStatus::new(NAME.into(), tail.clone())),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            decided: tail,
            cursor: cursor.into(),
            cursor_file,
            held,
            patience,
        };
        Running::start(republish).unwrap()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WITHIN, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_read_that_fails_once_in_the_middle_of_a_batch_loses_no_sample() {
    let mut log = Log::new();
    log.append_samples(300);
    let mut once = log.disk.files().get(2).map(|(segment, _)| segment.clone());
    log.disk.set_plan(move |call| {
        let fails = call.action == Action::Read && once.as_deref() == Some(call.path);
        if fails {
            once = None;
            return Fate::Fails(std::io::ErrorKind::Other);
        }
        Fate::Done
    });
    let (broker, heard) = broker(|_| Some(Duration::ZERO));
    let running = log.start(broker, PATIENCE);
    let status = running.status();
    eventually("the failure shows", || status.snapshot().state == State::Held);
    eventually("the sink is at the head", || status.cursor().source_lsn == 300);
    let all: BTreeSet<String> = heard.lock().unwrap().iter().cloned().collect();
    assert_eq!(all.len(), 300, "a sample of its own time each");
    assert_eq!(status.snapshot().state, State::Running, "what was mended is not held");
    running.end();
}

#[test]
fn a_stop_does_not_wait_for_the_end_of_a_log_of_refusals() {
    let mut log = Log::new();
    let refusal = Refusal { device: None, boot: 0, reason: Reason::UnknownDevice };
    let refused = Decisions { refusal: Some(refusal), ..Decisions::default() };
    (0..5_000).for_each(|_| log.append(&refused));
    let running: Arc<OnceLock<Running>> = Arc::default();
    let (stopped, mut segments) = (Arc::clone(&running), 0);
    log.disk.set_plan(move |call| {
        segments += u32::from(call.action == Action::Open(Open::Read) && call.path.starts_with("/decided"));
        if segments == 2 {
            stopped.wait().stop();
        }
        Fate::Done
    });
    let (broker, _) = broker(|_| Some(Duration::ZERO));
    let status = running.get_or_init(|| log.start(broker, PATIENCE)).status();
    eventually("it ends", || status.snapshot().state == State::Ended);
    assert!(status.cursor().source_lsn < 2_500, "{:?}", status.cursor());
}

const SHORT: Patience =
    Patience { connection: Duration::from_millis(200), acknowledgement: Duration::from_millis(500) };

#[test]
fn a_broker_that_is_slow_over_a_batch_gets_each_sample_once() {
    let mut log = Log::new();
    log.append_samples(30);
    // The batch takes longer than an acknowledgement may; each acknowledgement takes a thirtieth of that.
    let (broker, heard) = broker(|_| Some(Duration::from_millis(80)));
    let running = log.start(broker, Patience { acknowledgement: Duration::from_millis(2_300), ..SHORT });
    let status = running.status();
    eventually("the sink is at the head", || status.cursor().source_lsn == 30);
    assert_eq!(heard.lock().unwrap().len(), 30);
    assert_eq!(status.snapshot().retries, 0);
    running.end();
}

#[test]
fn a_batch_is_repeated_from_the_first_message_that_lacks_an_acknowledgement() {
    let mut log = Log::new();
    log.append_samples(30);
    let (broker, heard) = broker(|number| (number != 10).then_some(Duration::ZERO));
    let running = log.start(broker, SHORT);
    let status = running.status();
    eventually("the sink is at the head", || status.cursor().source_lsn == 30);
    assert_eq!(status.snapshot().retries, 1);
    let heard = heard.lock().unwrap();
    assert_eq!(heard[10..30], heard[30..]);
    running.end();
}

#[test]
fn a_broker_that_never_acknowledges_a_whole_window_is_left_and_found_anew() {
    let mut log = Log::new();
    log.append_samples(400);
    let (broker, heard) = broker(|number| (number >= 300).then_some(Duration::ZERO));
    let running = log.start(broker, SHORT);
    let status = running.status();
    eventually("the sink is at the head", || status.cursor().source_lsn == 400);
    let samples: BTreeSet<String> = heard.lock().unwrap().iter().cloned().collect();
    assert_eq!((samples.len(), status.snapshot().retries), (400, 2));
    running.end();
}

#[test]
fn a_broker_that_is_away_is_told_from_one_that_does_not_acknowledge() {
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (silent, _) = broker(|_| None);
    for (broker, reason) in [(broker_at(away), publish::NOT_CONNECTED), (silent, publish::TOO_LATE)] {
        let mut log = Log::new();
        log.append_samples(1);
        let running = log.start(broker, SHORT);
        let status = running.status();
        eventually("it shows", || status.snapshot().state == State::Retrying);
        assert_eq!((&*status.snapshot().reason, status.cursor().source_lsn), (reason, 0));
        running.end();
    }
}
