use super::*;
use hunhe_gateway_core::{
    event::{Arrival, Decisions, Event},
    lane::Policy,
};
use hunhe_proto::{reading::Header, topic};
use std::sync::atomic::AtomicBool;

/// 2026-08-01T00:00:00+08:00, in hours since 1970.
const START_H: i64 = 1_785_513_600 / 3600;

/// The hour's register of the first device, `seq` litres: its message's arrival and its number of values grow alike.
pub(crate) fn report(lane: &mut Lane, registry: &Registry, seq: u64) {
    let hours = i64::try_from(seq).unwrap();
    let class_version = Some(registry.class_of(DeviceIx(0)).class.version);
    let header = Header { boot: 1, seq, class_version, ..Header::default() };
    let payload = hunhe_fixtures::report(header, START_H + hours, 1, &[10 * hours]);
    let topic = topic::up(registry.device(DeviceIx(0)).id);
    let at_ms = (START_H + hours) * 3_600_000;
    let arrival = Arrival { lsn: seq + 1, at_ms, live: true, alarm: false };
    let event = Event::Message { arrival, topic: topic.as_bytes(), payload: &payload };
    let mut decisions = Decisions::default();
    lane.handle(event, &mut decisions);
    assert_eq!(decisions.accepted.times_ms.len(), 1, "{decisions:?}");
}

/// The households of `own_agents`, and their lane.
pub(crate) fn city() -> (Arc<Registry>, Lane) {
    let registry = Arc::new(crate::alerts::describe::tests::own_agents());
    let lane = Lane::new(Arc::clone(&registry), Policy::default());
    (registry, lane)
}

#[test]
fn a_reader_never_sees_a_row_of_two_instants() {
    let (registry, mut lane) = city();
    let mut publisher = Publisher::new(&mut lane, &registry, Instant::now());
    let published = publisher.published();
    let done = AtomicBool::new(false);
    let volume = registry.class_of(DeviceIx(0)).position(1).unwrap();
    let seen = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut rows, mut newest) = (0_u64, 0);
                    while !done.load(Ordering::Relaxed) {
                        let Some(row) = published.row(DeviceIx(0)) else { continue };
                        let samples = row.ledger.totals.sampled;
                        let hour = START_H + i64::try_from(samples).unwrap() - 1;
                        assert_eq!(row.ledger.totals.outstanding, samples);
                        assert_eq!(row.ledger.readings, samples);
                        assert_eq!(row.arrival_ms, hour * 3_600_000);
                        assert_eq!(row.last_ms, row.arrival_ms);
                        assert_eq!(row.last[volume], 10 * (hour - START_H));
                        assert!(samples >= newest, "a row goes back");
                        newest = samples;
                        rows += 1;
                    }
                    rows
                })
            })
            .collect();
        for seq in 0..20_000 {
            report(&mut lane, &registry, seq);
            publisher.publish(&mut lane, Instant::now());
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(seen > 100, "the readers saw {seen} rows");
    assert_eq!(published.row(DeviceIx(0)), lane.state(DeviceIx(0)).map(Row::of));
}

#[test]
fn the_lane_waits_for_no_reader_and_publishes_with_its_next_turn() {
    let (registry, mut lane) = city();
    let now = Instant::now();
    let mut publisher = Publisher::new(&mut lane, &registry, now);
    let published = publisher.published();
    report(&mut lane, &registry, 0);
    let later = now + EVERY;
    {
        let _reader = published.overview.lock().unwrap();
        assert!(!publisher.publish(&mut lane, later), "it does not claim that readers see it");
    }
    assert_eq!(published.overview().counters.samples, 0);
    assert!(publisher.is_due(later), "it tries again");
    assert!(publisher.publish(&mut lane, later));
    assert_eq!((published.overview().counters.samples, published.age(later)), (1, Duration::ZERO));
    assert!(!publisher.is_due(later));
}

#[test]
fn what_reported_since_a_publication_is_named_and_what_was_only_confirmed_is_not() {
    let (registry, mut lane) = city();
    let mut publisher = Publisher::new(&mut lane, &registry, Instant::now());
    let published = publisher.published();
    let before = published.number();
    report(&mut lane, &registry, 0);
    publisher.publish(&mut lane, Instant::now());
    assert_eq!(published.reported_since(before).collect::<Vec<_>>(), [DeviceIx(0)]);
    let before = published.number();
    let confirmed =
        hunhe_gateway_core::event::Confirmed { handled: 1, stored: 1, quarantined: 0, displaced: 0 };
    lane.confirmed(DeviceIx(0), 1, confirmed);
    publisher.publish(&mut lane, Instant::now());
    assert_eq!(published.ledger(DeviceIx(0)).unwrap().totals.stored, 1);
    assert_eq!(published.reported_since(before).count(), 0);
    assert_eq!(published.row(DeviceIx(1)), None, "it never reported");
}
