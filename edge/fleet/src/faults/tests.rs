use super::*;
use std::{
    convert::Infallible,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

/// Takes everything, and names and acknowledges it when it is asked.
#[derive(Default)]
struct Wire {
    open: bool,
    published: Vec<String>,
    notes: VecDeque<Note>,
}

impl Port for Wire {
    type Error = Infallible;

    fn open(&mut self, _: i64) -> Result<(), Infallible> {
        self.open = true;
        self.notes.extend([Note::Connected, Note::Subscribed]);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn take(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    fn publish(&mut self, _: String, payload: &[u8], _: bool) -> Result<(), PublishError> {
        self.published.push(String::from_utf8(payload.to_vec()).unwrap());
        let packet = u16::try_from(self.published.len()).unwrap();
        self.notes.extend([Note::Sent(packet), Note::Acked(packet)]);
        Ok(())
    }

    fn close(&mut self) {
        self.tear();
    }

    fn tear(&mut self) {
        self.open = false;
        self.notes.clear();
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

/// A port whose time the test sets.
struct Bench {
    port: Faulty<Wire>,
    event_ms: Arc<AtomicI64>,
    draining: Arc<AtomicBool>,
}

impl Bench {
    fn new(faults: Faults) -> Self {
        let (event_ms, draining) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (time, drains) = (Arc::clone(&event_ms), Arc::clone(&draining));
        let now = move || Moment { event_ms: time.load(Relaxed), draining: drains.load(Relaxed) };
        Self { port: Faulty::new(Wire::default(), faults, now), event_ms, draining }
    }

    fn at(&mut self, event_ms: i64) -> &mut Faulty<Wire> {
        self.event_ms.store(event_ms, Relaxed);
        &mut self.port
    }

    fn heard(&mut self) -> Vec<Note> {
        std::iter::from_fn(|| self.port.take()).collect()
    }

    fn send(&mut self, name: &str, payload: &str) {
        self.port.publish(topic::up(device(name)), payload.as_bytes(), false).unwrap();
    }
}

fn only(span: Range<i64>) -> Vec<Span> {
    vec![span.into()]
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

#[test]
fn an_outage_breaks_the_connection_and_lets_the_next_one_stand_when_it_ends() {
    let mut bench = Bench::new(Faults { offline_ms: only(100..200), ..Faults::default() });
    bench.at(0).open(0).unwrap();
    assert_eq!(bench.heard(), [Note::Connected, Note::Subscribed]);
    bench.at(100);
    assert!(matches!(bench.heard().as_slice(), [Note::Lost(_)]));
    assert!(!bench.port.is_open());
    bench.port.open(7).unwrap();
    assert!(bench.port.is_open() && !bench.port.inner.open && bench.heard().is_empty());
    bench.at(200);
    assert_eq!(bench.heard(), [Note::Connected, Note::Subscribed]);
    bench.at(150);
    bench.draining.store(true, Relaxed);
    assert!(bench.heard().is_empty() && bench.port.is_open(), "what is held leaves at the end");
}

#[test]
fn a_copy_goes_along_and_the_agent_does_not_know() {
    let mut bench = Bench::new(Faults {
        duplicate_ms: BTreeMap::from([(device("a"), only(10..20))]),
        ..Faults::default()
    });
    for (time, name) in [(0, "a"), (10, "a"), (10, "b"), (20, "a")] {
        bench.at(time);
        bench.send(name, &format!("{name}{time}"));
    }
    assert_eq!(bench.port.inner.published, ["a0", "a10", "a10", "b10", "a20"]);
    let named: Vec<_> = bench.heard();
    let of = |packet| [Note::Sent(packet), Note::Acked(packet)];
    assert_eq!(named, [1, 2, 4, 5].map(of).as_flattened());
    assert!(bench.port.copies.is_empty());
}

#[test]
fn two_reports_that_wait_at_once_go_in_another_order_and_one_alone_goes_as_it_is() {
    let disorder_ms = BTreeMap::from([(device("a"), only(0..100))]);
    let mut bench = Bench::new(Faults { disorder_ms, ..Faults::default() });
    for (name, payload) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("a", "a3")] {
        bench.send(name, payload);
    }
    assert_eq!(bench.port.inner.published, ["b1", "a2", "a1", "b2"]);
    assert_eq!(bench.heard().len(), 10);
    assert_eq!(bench.port.inner.published.last().unwrap(), "a3", "at the latest when the agent hears");
    bench.at(100);
    bench.send("a", "a4");
    assert_eq!(bench.port.inner.published.last().unwrap(), "a4", "only while it stands");
}

#[test]
fn what_is_held_back_goes_with_its_connection() {
    let disorder_ms = BTreeMap::from([(device("a"), only(0..100))]);
    let mut bench = Bench::new(Faults { disorder_ms, ..Faults::default() });
    bench.send("a", "a1");
    bench.port.tear();
    assert!(bench.heard().is_empty() && bench.port.inner.published.is_empty());
}
