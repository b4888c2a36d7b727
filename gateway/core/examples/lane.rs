//! What a lane costs: decode and decide, in one thread, for a city of gas meters that report once a day.
//!
//! `lane [DEVICES [DAYS [shuffled]]]`: the last line of the output is JSON. Reports are made beforehand, a day at a time, and
//! lie one behind the other as in a journal; shuffled, they come in another order than devices are registered.
//! Time is this thread's CPU time, as Linux accounts it.

use hunhe_gateway_core::{
    event::{Arrival, Confirmed, Decisions, Event},
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
};
use hunhe_proto::{
    class::{Channel, Class, Kind, Reporting, Shape, Text},
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    id::Id,
    reading::Header,
    topic,
};
use std::{error::Error, fs, ops::Range, sync::Arc};

const HOURS: usize = 24;
/// 2026-08-01T00:00:00+08:00, in hours since 1970.
const START_H: i64 = 1_785_513_600 / 3600;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let devices: u32 = arguments.next().map_or(Ok(170_000), |text| text.parse())?;
    let days: i64 = arguments.next().map_or(Ok(6), |text| text.parse())?;
    let shuffled = arguments.next().is_some_and(|word| word == "shuffled");
    let (registry, topics) = city(devices)?;
    let mut order: Vec<u32> = (0..devices).collect();
    if shuffled {
        shuffle(&mut order);
    }
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    let mut decisions = Decisions::default();
    let mut best_ns = f64::INFINITY;
    for day in 0..days {
        let (bytes, messages) = day_of_reports(&order, &topics, day)?;
        let begun = cpu_ns()?;
        let mut samples = 0_u64;
        for (lsn, (topic, payload)) in (0..).zip(&messages) {
            let at_ms = (START_H + 24 * (day + 1)) * 3_600_000;
            let arrival = Arrival { lsn, at_ms, live: true, alarm: false };
            let (topic, payload) = (&bytes[topic.clone()], &bytes[payload.clone()]);
            decisions.clear();
            lane.handle(Event::Message { arrival, topic, payload }, &mut decisions);
            for set in &decisions.accepted.sets {
                let rows = set.rows.len() as u64;
                samples += rows;
                lane.confirmed(
                    set.device,
                    set.boot,
                    Confirmed { handled: rows, stored: rows, quarantined: 0, displaced: 0 },
                );
            }
        }
        let spent = cpu_ns()? - begun;
        if samples != u64::from(devices) * HOURS as u64 {
            return Err(format!("{samples} samples accepted").into());
        }
        let ns = spent as f64 / samples as f64;
        println!("day {day}: {ns:.1} ns per reading, decode, decide and confirm");
        // The first day allocates the city's state.
        best_ns = if day == 0 { best_ns } else { best_ns.min(ns) };
    }
    let (ledger, reporting) = lane.ledger(|_| true);
    let bytes: usize = lane.states().map(|(_, state)| state.bytes()).sum();
    println!(
        "{{\"lane_ns_per_reading\":{best_ns:.1},\"device_state_bytes\":{},\"devices\":{reporting},\"shuffled\":{shuffled},\
         \"stored\":{},\"unexplained\":{}}}",
        bytes / devices.max(1) as usize,
        ledger.stored,
        ledger.unexplained(),
    );
    Ok(())
}

fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let accounted = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(accounted.split_whitespace().next().unwrap_or_default().parse()?)
}

type City = (Arc<Registry>, Vec<Vec<u8>>);

fn city(devices: u32) -> Result<City, Box<dyn Error>> {
    let mut registry = Registry::new(vec![gas_meter()]);
    let mut topics = Vec::new();
    for number in 0..devices {
        let id = Id::new(&format!("g{:08x}", number.wrapping_mul(0x9e37_79b9)))?;
        registry.enrol(Enrolment {
            id,
            pseudonym: Id::new(&format!("p{number}"))?,
            class: "gas_meter".into(),
            agent: Id::new(&format!("concentrator-{}", number / 1000))?,
            operator: Id::new("gas")?,
            district: 210_102,
            zone: Id::new("zone")?,
            position: (123.4, 41.8),
        })?;
        topics.push(topic::up(id).into_bytes());
    }
    Ok((Arc::new(registry), topics))
}

fn gas_meter() -> Class {
    let text = |zh: &str, en: &str| Text { zh: zh.into(), en: en.into() };
    Class {
        name: "gas_meter".into(),
        version: 1,
        title: text("燃气表", "Gas meter"),
        time_unit_ms: 3_600_000,
        interval: 1,
        report: Reporting {
            samples: 24,
            dispersal_s: 0,
            sleeping: true,
            silent_after_s: 172_800,
            bytes_max: 480,
            keep_s: 0,
            on_alarm: None,
        },
        household: true,
        channels: vec![Channel {
            number: 1,
            name: "volume".into(),
            title: text("累计量", "Volume"),
            unit: "m3".into(),
            kind: Kind::Register,
            decimals: 3,
            resolution: 10,
            min: 0.0,
            max: 99_999.999,
            usual_min: None,
            usual_max: None,
            report_on_change: None,
            every: 0,
            change_per_h_max: Some(7.2),
            rollover: Some(100_000.0),
            rollup: None,
            source: String::new(),
            simulate: Shape::default(),
        }],
        faults: Default::default(),
        work: None,
    }
}

/// Bytes, and where in them each message's topic and payload lie.
type Messages = (Vec<u8>, Vec<(Range<usize>, Range<usize>)>);

/// One report a meter, of the hours of that day.
fn day_of_reports(order: &[u32], topics: &[Vec<u8>], day: i64) -> Result<Messages, Box<dyn Error>> {
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    let mut out = [0; 480];
    for &number in order {
        let mut seed = u64::from(number) << 20 | day.unsigned_abs();
        let mut volume = i64::from(number) * 10 + day * 24 * 400;
        let mut values = [0; HOURS];
        for value in &mut values {
            let use_l = random(&mut seed) % 4 * (random(&mut seed) % 10);
            volume += i64::try_from(use_l)? * 10;
            *value = volume;
        }
        let columns = [ColumnDraft { channel: 1, values: &values, quality: &[] }];
        let samples = u32::try_from(HOURS)?;
        let blocks = [BlockDraft { t0: START_H + 24 * day, step: 0, dt: &[], samples, columns: &columns }];
        let seq = day.unsigned_abs() * HOURS as u64;
        let sent_after_s = Some(3600);
        let class_version = Some(1);
        let header = Header { boot: number + 1, seq, sent_after_s, class_version, ..Header::default() };
        let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut out)?;
        let from = bytes.len();
        bytes.extend_from_slice(&topics[number as usize]);
        let topic = from..bytes.len();
        bytes.extend_from_slice(&out[..length]);
        messages.push((topic.clone(), topic.end..bytes.len()));
    }
    Ok((bytes, messages))
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn shuffle(order: &mut [u32]) {
    let mut seed = 1;
    for last in (1..order.len()).rev() {
        let at = random(&mut seed) % (last as u64 + 1);
        order.swap(last, usize::try_from(at).unwrap_or(last));
    }
}
