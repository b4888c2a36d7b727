//! What a page shows, and what it may cost.

use super::{
    super::reads::tests::{over, while_waited_for},
    *,
};
use crate::{
    api::types::{Breach, Instant},
    decided::{RefusedParts, StoredChannel},
};
use hunhe_fixtures::{Block, Sent, enrolment, id, seed_class};
use hunhe_proto::reading::Header;
use hunhe_store::{Limits, NewRecord, Options};

const HOUR: i64 = 490_896;

/// A gas meter, of a household, and a detector.
pub(in crate::api::queries) fn registry() -> Registry {
    let classes = ["gas_meter", "gas_station_detector"];
    let devices = ["meter", "detector"].into_iter().zip(classes);
    let devices = devices.map(|(name, class)| enrolment(name, class, "agent"));
    hunhe_fixtures::registry(classes.map(seed_class).into(), Vec::new(), devices)
}

fn report(seq: u64, t0: i64, channel: u16, values: &[i64]) -> Vec<u8> {
    hunhe_fixtures::report(Header { boot: 7, seq, ..Header::default() }, t0, channel, values)
}

/// All of the newest records.
pub(in crate::api::queries) fn query() -> QuarantineQuery {
    QuarantineQuery {
        before: None,
        kind: None,
        reason: None,
        device: None,
        from_ms: None,
        to_ms: None,
        limit: 1000,
    }
}

/// The body of a message of nobody known.
pub(in crate::api::queries) fn body(source_lsn: u64) -> Vec<u8> {
    let parts = RefusedParts {
        source_lsn,
        device: None,
        arrival_ms: 0,
        boot: 0,
        redrive_of: None,
        announced: false,
        reason: "unknown_device",
        topic: b"t",
        payload: b"x",
    };
    parts.to_record([].into_iter())
}

struct Site {
    store: Store,
    registry: Registry,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Limits { records: 1000, bytes: 64 << 20 };
        let store = Store::open(Options { quarantine, ..Options::new(dir.path()) }).unwrap();
        Self { store, registry: registry(), _dir: dir }
    }

    fn put(
        &self,
        record: RecordId,
        device: Option<&str>,
        reason: &'static str,
        (topic, payload): (&str, &[u8]),
    ) {
        let device = device.map(id);
        let samples = u32::from(device.is_some());
        let parts = RefusedParts {
            source_lsn: record.source_lsn(),
            device,
            arrival_ms: 1_000 + record.source_lsn().cast_signed(),
            boot: 7,
            redrive_of: None,
            announced: true,
            reason,
            topic: topic.as_bytes(),
            payload,
        };
        let ranges = [(9, 2, reason)];
        let body = parts.to_record(ranges[..usize::from(device.is_some())].iter().copied());
        let arrival_ms = parts.arrival_ms;
        let new = NewRecord { id: record, arrival_ms, device, boot: 7, samples, reason, body: &body };
        self.store.put_record(&new).unwrap();
    }

    fn page(&self, filter: &RecordFilter, before: Option<&str>, limit: usize) -> QuarantinePage {
        let before = before.map(|before| read_cursor(before).unwrap());
        let asked = Asked { filter: filter.clone(), before, limit };
        self.page_until(&asked, &while_waited_for().0)
    }

    fn page_until(&self, asked: &Asked, until: &Until) -> QuarantinePage {
        page(&self.store, &self.registry, asked, until, &Unreadable::default()).unwrap()
    }
}

#[test]
fn a_record_shows_the_channel_its_value_and_the_limit_it_broke() {
    let site = Site::new();
    let rules = site.registry.class_of(site.registry.find(id("detector")).unwrap());
    let ch4 = rules.class.channels.iter().find(|channel| channel.name == "ch4").unwrap();
    let wire = |value: f64| format!("{:.0}", value * ch4.scale()).parse::<i64>().unwrap();
    let unit_ms = i64::from(rules.class.time_unit_ms);
    let t0 = HOUR * 3_600_000 / unit_ms;
    let payload = report(9, t0, ch4.number, &[wire(180.0), wire(-30.0)]);
    site.put(RecordId::Message { source_lsn: 1 }, Some("detector"), "out_of_range", ("t", &payload));
    let found = &site.page(&RecordFilter::default(), None, 10).items[0];
    assert_eq!((found.id.as_str(), found.kind), ("m-1", QuarantineKind::Message));
    assert_eq!(found.device.as_deref(), Some("p-detector"));
    let values: Vec<_> =
        found.values.iter().map(|value| (value.seq, value.value, value.breach, value.limit)).collect();
    assert_eq!(values, [(9, 180.0, Breach::Above, ch4.max), (10, -30.0, Breach::Below, ch4.min)]);
    assert_eq!(found.values[0].time, Instant(HOUR * 3_600_000));
    let words = format!("ch4 = 180 {unit} > {max} {unit}", unit = ch4.unit, max = ch4.max);
    assert!(found.detail.contains(&words), "{}", found.detail);
}

#[test]
fn a_conflict_shows_both_values_and_a_dead_letter_the_database_s_words() {
    let site = Site::new();
    let key = site.store.device("p-meter").unwrap();
    let time_ms = HOUR * 3_600_000;
    let rules = site.registry.class_of(site.registry.find(id("meter")).unwrap());
    let decimals = rules.class.channels[rules.position(1).unwrap()].decimals;
    let rows = hunhe_store::Rows {
        boot: 7,
        times_ms: &[time_ms],
        seqs: &[1],
        quality: &[1],
        channels: &[StoredChannel::new(1, decimals).bits()],
        values: &[1_000],
    };
    site.store.write(key, &rows, &mut Vec::new()).unwrap();
    let lost = report(9, HOUR, 1, &[2_000]);
    let conflict = RecordId::Conflict { source_lsn: 1, boot: 7, seq: 9 };
    site.put(conflict, Some("meter"), "conflict", ("hunhe/v1/00/meter/up", &lost));
    let letter = RecordId::DeadLetter { source_lsn: 1, hash: 3 };
    let words = "main: field type conflict\u{1b}[2J";
    site.put(letter, Some("meter"), "refused_by_database", (words, b"gas_meter,device=p-meter register=1"));
    let page = site.page(&RecordFilter::default(), None, 10);
    let [letter, conflict] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!(
        (letter.id.as_str(), letter.detail.as_str()),
        ("d-1-0000000000000003", "main: field type conflict\u{fffd}[2J")
    );
    assert_eq!((letter.topic.as_str(), conflict.topic.as_str()), ("", ""), "a household's id is in neither");
    let value = &conflict.values[0];
    let rules = site.registry.class_of(site.registry.find(id("meter")).unwrap());
    let scale = rules.class.channels[rules.position(1).unwrap()].scale();
    assert_eq!((value.value, value.breach, value.limit), (2_000.0 / scale, Breach::Differs, 1_000.0 / scale));
    for item in [letter, conflict] {
        assert!(
            matches!(refuse_redrive(item.id.parse().unwrap()), Err(ApiError::Conflict(_))),
            "{}",
            item.id
        );
        assert_eq!(item.payload_hex, None);
    }
}

#[test]
fn a_page_of_the_largest_records_ends_early_and_the_next_goes_on_where_it_ended() {
    let site = Site::new();
    let payload = vec![0xff; 60_000];
    for source_lsn in 1..=400 {
        site.put(RecordId::Message { source_lsn }, None, "unknown_device", ("t", &payload));
    }
    site.store.checkpoint(&[]).unwrap();
    let (mut seen, mut before) = (Vec::new(), None::<String>);
    let mut pages = 0;
    loop {
        let page = site.page(&RecordFilter::default(), before.as_deref(), 1000);
        assert_eq!(page.total, Some(400));
        assert!(page.items.len() * payload.len() <= READ_BYTES + payload.len(), "{}", page.items.len());
        seen.extend(page.items.into_iter().map(|item| item.id));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert!(seen.into_iter().eq((1..=400).rev().map(|source_lsn| format!("m-{source_lsn}"))));
    assert!(pages > 1, "one page held {} MB", 400 * payload.len() / 1_000_000);
}

#[test]
fn pages_are_filtered_and_counts_are_given_where_they_are_kept() {
    let site = Site::new();
    for source_lsn in 1..=9 {
        let device = ["meter", "detector"].get(usize::try_from(source_lsn % 3).unwrap()).copied();
        let reason = if device.is_some() { "too_old" } else { "unknown_device" };
        site.put(RecordId::Message { source_lsn }, device, reason, ("t", b"x"));
    }
    let by = |filter: RecordFilter| {
        let page = site.page(&filter, None, 10);
        let ids: Vec<u64> =
            page.items.iter().map(|item| item.id.parse::<RecordId>().unwrap().source_lsn()).collect();
        (ids, page.total)
    };
    let reason = Some("too_old".to_owned());
    let filter = RecordFilter { reason, ..RecordFilter::default() };
    assert_eq!(by(filter.clone()), (vec![9, 7, 6, 4, 3, 1], Some(6)));
    assert_eq!(by(RecordFilter { device: Some(id("meter")), ..filter }), (vec![9, 6, 3], None));
    let (from_ms, to_ms) = (Some(1_002), Some(1_004));
    assert_eq!(by(RecordFilter { from_ms, to_ms, ..RecordFilter::default() }), (vec![3, 2], None));
    let nobody = RecordFilter { reason: Some("no such reason".into()), ..RecordFilter::default() };
    assert_eq!(by(nobody), (vec![], Some(0)));
}

fn all() -> Asked {
    Asked { filter: RecordFilter::default(), before: None, limit: 1000 }
}

/// A few kB that hold as many values as a report may.
fn report_of_many_values() -> Vec<u8> {
    let columns = (1..=16).map(|channel| (channel, vec![5; 4096], vec![])).collect();
    let block = Block { t0: HOUR * 3_600, step: 1, columns, ..Block::default() };
    Sent::new(7, 9).with(block).bytes()
}

#[test]
fn a_page_ends_behind_so_many_values_however_few_bytes_they_came_in() {
    let site = Site::new();
    let payload = report_of_many_values();
    assert!(payload.len() < 10_000, "{}", payload.len());
    for source_lsn in 1..=60 {
        site.put(RecordId::Message { source_lsn }, Some("detector"), "out_of_range", ("t", &payload));
    }
    let page = site.page(&RecordFilter::default(), None, 1000);
    let most = READ_VALUES / 65_536 + 1;
    assert!(page.items.len() <= most && page.next.is_some(), "{} records", page.items.len());
}

#[test]
fn a_page_ends_behind_a_record_when_its_time_is_over_or_nobody_waits() {
    let site = Site::new();
    for source_lsn in 1..=100 {
        site.put(RecordId::Message { source_lsn }, None, "unknown_device", ("t", b"x"));
    }
    let (left, leave) = while_waited_for();
    leave();
    for until in [over(), left] {
        let page = site.page_until(&all(), &until);
        assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("1100.m-100")));
    }
}

#[test]
fn a_record_that_cannot_be_read_is_counted_and_keeps_no_other_from_the_page() {
    let site = Site::new();
    for source_lsn in [1, 3] {
        site.put(RecordId::Message { source_lsn }, None, "unknown_device", ("t", b"x"));
    }
    let id = RecordId::Message { source_lsn: 2 };
    let reason = "unknown_device";
    let new =
        NewRecord { id, arrival_ms: 1_002, device: None, boot: 0, samples: 0, reason, body: b"no record" };
    site.store.put_record(&new).unwrap();
    let unreadable = Unreadable::default();
    let page = page(&site.store, &site.registry, &all(), &while_waited_for().0, &unreadable).unwrap();
    assert_eq!(page.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["m-3", "m-1"]);
    assert!(format!("{:?}", unreadable.metric().figures).contains("1.0"), "{:?}", unreadable.metric());
}

#[test]
fn a_record_whose_order_the_journal_refuses_is_held_no_longer() {
    let site = Site::new();
    let id = RecordId::Message { source_lsn: 1 };
    site.put(id, Some("meter"), "too_old", ("t", b"x"));
    let again = |taken| judge_again(&site.store, id, 0, |_| taken).unwrap();
    assert_eq!(again(true), Ordered::Replaying);
    site.store.open_redrives();
    assert_eq!(again(false), Ordered::Refused);
    assert_eq!(again(true), Ordered::Yes { samples: 2 });
    assert_eq!(again(false), Ordered::Yes { samples: 2 }, "the journal has its order: it is asked no more");
    let gone = judge_again(&site.store, RecordId::Message { source_lsn: 2 }, 0, |_| true).unwrap();
    assert_eq!(gone, Ordered::Gone);
}
