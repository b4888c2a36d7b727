//! Answers of a gateway whose threads are played by the test, but for the journal's.

use super::{quarantine::tests as records, *};
use crate::{
    api::live::{Hub, HubLimits, Subscription},
    decide::published::{Publisher, tests::report},
    intake::Settler,
    record,
    setup::config::Layers,
};
use hunhe_gateway_core::{
    event::Decisions,
    lane::{Lane, Policy},
};
use hunhe_log::{Bounds, Committer, Lsn, Next, Options as LogOptions, Reader, Writer};
use hunhe_store::{NewRecord, RecordId};
use std::{
    collections::HashSet,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

const WITHIN: Duration = Duration::from_secs(20);

struct Site {
    answers: Arc<Answers>,
    store: Arc<Store>,
    registry: Arc<Registry>,
    lane: Lane,
    publisher: Publisher,
    journal: Tail,
    _committer: Committer,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Arc::new(records::registry());
        let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
        let publisher = Publisher::new(&mut lane, &registry, Instant::now());
        let store = Arc::new(Store::open(hunhe_store::Options::new(dir.path().join("store"))).unwrap());
        let log = LogOptions {
            disk: hunhe_disk::real(),
            dir: dir.path().join("journal"),
            segment_bytes: 1 << 20,
            limit_bytes: 1 << 23,
        };
        let (writer, _) = Writer::open(log).unwrap();
        let (tail, acknowledger) = (writer.subscribe(), Acknowledger::default());
        let settler = Settler {
            acknowledger: acknowledger.clone(),
            wake: Box::new(|| ()),
            fatal: Box::new(|words| panic!("{words}")),
        };
        let (committer, journal) = Committer::start(writer, Bounds::default(), settler).unwrap();
        let alerting = Alerting { list: Arc::default(), figures: Arc::default(), outputs: Vec::new() };
        let view = View::new(Arc::clone(&registry), Directory::of(&registry), publisher.published());
        let layers = Layers {
            flags: vec![
                ("data_dir".into(), dir.path().display().to_string()),
                ("seeds_dir".into(), concat!(env!("CARGO_MANIFEST_DIR"), "/../seeds").into()),
            ],
            ..Layers::default()
        };
        let answers = Answers::new(
            view,
            Arc::default(),
            alerting,
            Clock::system(),
            LaneHandle::new().0,
            journal,
            tail.clone(),
            Arc::clone(&store),
            Vec::new(),
            acknowledger,
            Source::of(&layers.load().unwrap().config),
        );
        Self {
            answers: Arc::new(answers),
            store,
            registry,
            lane,
            publisher,
            journal: tail,
            _committer: committer,
            _dir: dir,
        }
    }

    fn put(&self, source_lsn: u64, body: &[u8]) {
        let new = NewRecord {
            id: RecordId::Message { source_lsn },
            arrival_ms: source_lsn.cast_signed(),
            device: None,
            boot: 0,
            samples: 0,
            reason: "unknown_device",
            body,
        };
        self.store.put_record(&new).unwrap();
    }

    /// The lane takes what the journal holds, and shows it.
    fn decide(&mut self) {
        let mut reader = Reader::open(self.journal.clone(), Lsn::FIRST).unwrap();
        while let Next::Record(journaled) = reader.next().unwrap() {
            let entry = record::read(journaled.lsn.0, journaled.kind, journaled.payload).unwrap();
            self.lane.handle(entry.event(), &mut Decisions::default());
        }
        self.publish();
    }

    fn publish(&mut self) {
        while !self.publisher.publish(&mut self.lane, Instant::now()) {}
    }

    async fn journaled(&self, records: u64) {
        until(|| self.journal.head().0 == records).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come to that");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Begins a request whose client then leaves.
fn begin_and_leave<T>(request: impl Future<Output = T>) {
    let mut request = Box::pin(request);
    let polled = Pin::as_mut(&mut request).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "it was answered at once");
}

#[tokio::test]
async fn beyond_its_places_whatever_asks_for_the_quarantine_is_refused() {
    let site = Site::new();
    site.put(1, &records::body(1));
    site.store.open_redrives();
    let query = || QuarantineQuery { limit: 10, ..records::query() };
    let mut places = Vec::new();
    for _ in 0..2 {
        places.push(site.answers.quarantine_reads.place().await.unwrap());
    }
    let (page, record, redriven) = tokio::join!(
        site.answers.quarantine_of(query()),
        site.answers.record_of("m-1".into(), true),
        site.answers.redrive_of("m-1".into()),
    );
    assert!(matches!(page, Err(ApiError::Busy(_))));
    assert!(matches!(record, Err(ApiError::Busy(_))));
    assert!(matches!(redriven, Err(ApiError::Busy(_))));
    drop(places);
    assert_eq!(site.answers.quarantine_of(query()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_redrive_whose_client_leaves_is_journaled_all_the_same_and_once() {
    let site = Site::new();
    site.put(1, &records::body(1));
    site.store.open_redrives();
    begin_and_leave(site.answers.redrive_of("m-1".into()));
    // Either was never begun, or is in the journal's queue by now: a second request finds out, and makes no second order.
    until(|| site.answers.quarantine_reads.is_idle()).await;
    assert_eq!(site.answers.redrive_of("m-1".into()).await.unwrap().samples, 0);
    site.journaled(1).await;
    assert_eq!(site.answers.redrive_of("m-1".into()).await.unwrap().samples, 0);
    assert_eq!(site.journal.head(), Lsn(1));
}

#[tokio::test]
async fn a_redrive_waits_a_moment_for_the_replay_and_is_then_put_off() {
    let site = Site::new();
    site.put(1, &records::body(1));
    let refused = site.answers.redrive_of("m-1".into()).await;
    assert!(matches!(refused, Err(ApiError::Unavailable(_))), "{refused:?}");
    // The request comes first, and finds them closed.
    let (redriven, ()) =
        tokio::join!(site.answers.redrive_of("m-1".into()), async { site.store.open_redrives() });
    assert!(redriven.is_ok());
    site.journaled(1).await;
}

#[tokio::test]
async fn a_write_off_whose_client_left_and_the_next_for_the_same_samples_count_once() {
    let mut site = Site::new();
    report(&mut site.lane, &site.registry, 10);
    site.publish();
    let order = || WriteOffOrder { device: "p-meter".into(), reason: "restored".into(), by: "lin".into() };
    begin_and_leave(site.answers.write_off_now(order()));
    let answers = Arc::clone(&site.answers);
    let second = tokio::spawn(async move { answers.write_off_now(order()).await });
    site.journaled(2).await;
    site.decide();
    let second = second.await.unwrap();
    let audit = Arc::clone(&site.answers.view.published.overview().audit);
    assert_eq!((audit.count(), audit.listed().next().unwrap().samples), (1, 10));
    // Two orders of one millisecond and the same words are one.
    assert!(second.is_err() || second.unwrap().id == 1);
}

async fn next_of(hub: &Hub, stream: &mut Subscription, name: &str) -> Option<String> {
    let deadline = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < deadline {
        hub.flush();
        let events = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        let events = events.ok().flatten().unwrap_or_default();
        if let Some(event) = events.into_iter().find(|event| event.name == name) {
            return Some(event.data);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_record_that_cannot_be_read_and_after_a_panic_the_live_stream_goes_on() {
    let mut site = Site::new();
    let hub = Hub::new(HubLimits::default(), 0);
    let mut stream = hub.subscribe(None, HashSet::new(), Arc::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let feeding = tokio::spawn({
        let (answers, hub) = (Arc::clone(&site.answers), Arc::clone(&hub));
        async move { answers.publish_live(hub, stopped).await }
    });
    let mut sources = 1..;
    let mut put = |site: &Site, body: Option<&[u8]>| {
        let source_lsn = sources.next().unwrap();
        site.put(source_lsn, body.unwrap_or(&records::body(source_lsn)));
        format!("\"m-{source_lsn}\"")
    };
    // The first look only notes how many there are, so that what comes before it is not announced.
    let deadline = Instant::now() + WITHIN;
    let first = loop {
        assert!(Instant::now() < deadline, "one that cannot be read keeps the others from the stream");
        put(&site, Some(b"no record"));
        put(&site, None);
        if let Some(first) = next_of(&hub, &mut stream, "quarantine").await {
            break first;
        }
    };
    assert!(first.contains("unknown_device"), "{first}");

    site.store.panic_next_read.store(true, Ordering::Release);
    put(&site, None);
    until(|| !site.store.panic_next_read.load(Ordering::Acquire)).await;
    let good = put(&site, None);
    report(&mut site.lane, &site.registry, 0);
    site.publish();
    let (mut announced, mut values) = (String::new(), None);
    while Instant::now() < deadline && !(announced.contains(&good) && values.is_some()) {
        hub.flush();
        let events = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        for event in events.ok().flatten().unwrap_or_default() {
            match event.name {
                "quarantine" => announced += &event.data,
                "samples" => values = Some(event.data),
                _ => {}
            }
        }
    }
    assert!(announced.contains(&good), "{announced}");
    assert!(values.is_some_and(|values| values.contains("p-meter")));
    stop.send_replace(true);
    feeding.await.unwrap();
}
