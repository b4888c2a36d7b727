//! Load with an outbox: thousands of meters that send a sample a message and forget it only when the gateway's durable
//! watermark has passed it. What a broker acknowledges and loses is sent again; what the watermark has passed never is,
//! so that a watermark that came too early shows as a loss.
//!
//! One thread and one connection. Its record, sequence numbers by meter, is the judge of what must be stored.
//! Deliberately absent: a disk; this process is the one that is not killed.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts from seconds and rates"
)]

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hunhe_proto::v1;
use prost::Message;

use crate::{
    meters::{BOOT, Meters},
    mqtt::{self, Decoder, Packet, Publish},
    process::eventually,
    wire::{gas_meter_id, up_topic},
};

/// Publishes that the broker has not acknowledged.
const WINDOW: usize = 2_000;
/// Samples sent and not yet durable; at the bound the meters wait.
const OUTSTANDING_MAX: u64 = 60_000;
/// Without progress for so long, a meter sends again what is not durable.
const STALLED: Duration = Duration::from_secs(8);
const TURN: Duration = Duration::from_millis(2);

/// What it has done so far.
#[derive(Debug, Default)]
struct Progress {
    produced: AtomicU64,
    durable: AtomicU64,
    sent: AtomicU64,
    connections: AtomicU64,
    closing: AtomicBool,
    ended: AtomicBool,
}

/// A running load; it ends when dropped.
#[derive(Debug)]
pub struct OutboxLoad {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Vec<u64>>>,
}

/// What it did in all.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Samples of each meter.
    pub by_meter: Vec<u64>,
    /// Samples of all.
    pub samples: u64,
    /// Messages sent, the repeated ones included.
    pub sent: u64,
    /// Connections made.
    pub connections: u64,
}

impl OutboxLoad {
    /// Starts one at so many messages a second.
    #[must_use]
    pub fn start(port: u16, meters: Meters, messages_per_s: u64) -> Self {
        let progress = Arc::<Progress>::default();
        let of_thread = Arc::clone(&progress);
        let thread =
            std::thread::spawn(move || Outbox::new(meters, of_thread).run(port, messages_per_s as f64));
        Self { progress, thread: Some(thread) }
    }

    /// Samples made so far.
    #[must_use]
    pub fn produced(&self) -> u64 {
        self.progress.produced.load(Ordering::Relaxed)
    }

    /// Samples that the gateway said are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.progress.durable.load(Ordering::Relaxed)
    }

    /// Makes no more samples and waits until all are durable.
    ///
    /// # Panics
    /// It takes longer.
    pub fn finish(mut self, within: Duration) -> Totals {
        self.progress.closing.store(true, Ordering::Relaxed);
        eventually(within, "every sample of the load is durable", || {
            (self.durable() == self.produced()).then_some(())
        });
        self.progress.ended.store(true, Ordering::Relaxed);
        let by_meter = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Totals {
            samples: by_meter.iter().sum(),
            by_meter,
            sent: self.progress.sent.load(Ordering::Relaxed),
            connections: self.progress.connections.load(Ordering::Relaxed),
        }
    }
}

impl Drop for OutboxLoad {
    fn drop(&mut self) {
        self.progress.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Outbox {
    meters: Meters,
    progress: Arc<Progress>,
    topics: Vec<String>,
    /// By meter: one past the newest sample, the oldest not durable, the next to send, when that last changed.
    next: Vec<u64>,
    durable: Vec<u64>,
    cursor: Vec<u64>,
    moved: Vec<Instant>,
    /// Asked for by the gateway: meter and sequence number.
    wanted: VecDeque<(usize, u64)>,
    /// Meters with something to send.
    due: VecDeque<usize>,
    turn: usize,
    packet_id: u16,
}

impl Outbox {
    fn new(meters: Meters, progress: Arc<Progress>) -> Self {
        let count = usize::try_from(meters.count).unwrap_or(0);
        Self {
            topics: (0..meters.count).map(|meter| up_topic(&gas_meter_id(meter))).collect(),
            meters,
            progress,
            next: vec![0; count],
            durable: vec![0; count],
            cursor: vec![0; count],
            moved: vec![Instant::now(); count],
            wanted: VecDeque::new(),
            due: VecDeque::new(),
            turn: 0,
            packet_id: 0,
        }
    }

    fn run(mut self, port: u16, per_s: f64) -> Vec<u64> {
        let begun = Instant::now();
        while !self.progress.ended.load(Ordering::Relaxed) {
            // A connection that broke is made anew, as an agent's.
            let _ = self.connected(port, begun, per_s);
            self.produce(begun, per_s);
            std::thread::sleep(Duration::from_millis(50));
        }
        self.next
    }

    fn connected(&mut self, port: u16, begun: Instant, per_s: f64) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(Duration::from_secs(20)))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(&mqtt::connect("outbox-load", true))?;
        socket.write_all(&mqtt::subscribe(1, "hunhe/v1/agents/+/durable"))?;
        self.progress.connections.fetch_add(1, Ordering::Relaxed);
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 64 * 1024]);
        let length = socket.read(&mut buffer)?;
        decoder.feed(&buffer[..length]);
        socket.set_read_timeout(Some(TURN))?;
        self.rewind(|_| true);
        let (mut unanswered, mut out) = (0_usize, Vec::new());
        let mut answered = Instant::now();
        while !self.progress.ended.load(Ordering::Relaxed) {
            self.produce(begun, per_s);
            self.rewind(|moved| moved.elapsed() > STALLED);
            while unanswered < WINDOW
                && let Some((meter, seq)) = self.next_send()
            {
                self.push(meter, seq, &mut out);
                unanswered += 1;
            }
            socket.write_all(&out)?;
            out.clear();
            match socket.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => decoder.feed(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            while let Some(packet) = decoder.next_packet() {
                match packet {
                    Packet::PubAck(_) => {
                        unanswered = unanswered.saturating_sub(1);
                        answered = Instant::now();
                    }
                    Packet::Publish(publish) => {
                        out.extend(mqtt::with_id(0x40, publish.id));
                        self.hear(&publish.payload);
                    }
                    _ => {}
                }
            }
            if unanswered == 0 {
                answered = Instant::now();
            }
            // A broker that is stopped says nothing; one that was killed closes.
            if answered.elapsed() > Duration::from_secs(15) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn produce(&mut self, begun: Instant, per_s: f64) {
        if self.progress.closing.load(Ordering::Relaxed) {
            return;
        }
        let produced = self.progress.produced.load(Ordering::Relaxed);
        let outstanding = produced - self.progress.durable.load(Ordering::Relaxed);
        let target = (begun.elapsed().as_secs_f64() * per_s) as u64;
        // A turn's share at most: what could not be made in time is not made up for at once.
        let share = (per_s / 20.0) as u64;
        let count = target
            .saturating_sub(produced)
            .min(OUTSTANDING_MAX.saturating_sub(outstanding))
            .min(share.max(1));
        for _ in 0..count {
            let meter = self.turn;
            self.turn = (self.turn + 1) % self.next.len();
            if self.durable[meter] == self.next[meter] {
                self.moved[meter] = Instant::now();
            }
            self.next[meter] += 1;
            self.due.push_back(meter);
        }
        self.progress.produced.fetch_add(count, Ordering::Relaxed);
    }

    /// Meters that wait in vain send again from the oldest sample that is not durable.
    fn rewind(&mut self, whether: impl Fn(Instant) -> bool) {
        for meter in 0..self.next.len() {
            if self.durable[meter] < self.cursor[meter] && whether(self.moved[meter]) {
                self.due.extend((self.durable[meter]..self.cursor[meter]).map(|_| meter));
                self.cursor[meter] = self.durable[meter];
                self.moved[meter] = Instant::now();
            }
        }
    }

    fn next_send(&mut self) -> Option<(usize, u64)> {
        while let Some((meter, seq)) = self.wanted.pop_front() {
            if seq >= self.durable[meter] && seq < self.cursor[meter] {
                return Some((meter, seq));
            }
        }
        while let Some(meter) = self.due.pop_front() {
            let seq = self.cursor[meter];
            if seq < self.next[meter] {
                self.cursor[meter] += 1;
                return Some((meter, seq));
            }
        }
        None
    }

    fn push(&mut self, meter: usize, seq: u64, out: &mut Vec<u8>) {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let publish = Publish {
            dup: false,
            qos: 1,
            retain: false,
            topic: self.topics[meter].clone(),
            id: self.packet_id,
            payload: self.meters.sample(seq, Some(self.durable[meter])),
        };
        mqtt::push_publish(out, &publish);
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn hear(&mut self, payload: &[u8]) {
        let Ok(durable) = v1::Durable::decode(payload) else { return };
        for device in &durable.devices {
            let meter = device.device.strip_prefix("load-").and_then(|number| number.parse::<usize>().ok());
            let Some(meter) = meter.filter(|&meter| meter < self.next.len()) else { continue };
            for boot in device.boots.iter().filter(|boot| boot.boot == BOOT) {
                if boot.through < self.durable[meter] {
                    continue;
                }
                let passed = boot.through.min(self.next[meter]) - self.durable[meter];
                if passed > 0 {
                    self.moved[meter] = Instant::now();
                    self.durable[meter] += passed;
                    self.cursor[meter] = self.cursor[meter].max(self.durable[meter]);
                    self.progress.durable.fetch_add(passed, Ordering::Relaxed);
                }
                // Once a stall: what is missing may be on its way.
                if self.moved[meter].elapsed() > STALLED / 2 {
                    for gap in &boot.missing {
                        self.wanted.extend((gap.start..gap.start + gap.count).map(|seq| (meter, seq)));
                    }
                }
            }
        }
    }
}
