//! What it costs a lane to publish, beside what it costs it to decide: a city of gas meters that report once a day each.
//!
//! `publication [DEVICES [DAYS]]`: the last line of the output is JSON. A publication follows each 500 messages, as with 5,000 a
//! second, and each sample is confirmed a publication later, so that each device is published twice a report: the most it can
//! cost. Time is this thread's CPU time, as Linux accounts it. The lane's thread also reads the journal and writes the decided
//! log, which is not in the figures: the share of all it does is less.

use hunhe_gateway::decide::published::Publisher;
use hunhe_gateway_core::{
    event::{Arrival, Confirmed, Decisions, Event},
    lane::{Lane, Policy},
    registry::{DeviceIx, Enrolment, Registry},
};
use hunhe_proto::{
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    id::Id,
    reading::Header,
    topic,
};
use std::{error::Error, fs, sync::Arc, time::Instant};

const HOURS: usize = 24;
/// 2026-08-01T00:00:00+08:00, in hours since 1970.
const START_H: i64 = 1_785_513_600 / 3600;
const MESSAGES_A_PUBLICATION: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let devices: u32 = arguments.next().map_or(Ok(170_000), |text| text.parse())?;
    let days: i64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let registry = city(devices)?;
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    let mut publisher = Publisher::new(&mut lane, &registry, Instant::now());
    let (mut deciding, mut publishing) = (0, 0);
    for day in 0..days {
        let messages: Vec<Vec<u8>> =
            registry.indices().map(|device| report(&registry, device, day)).collect::<Result<_, _>>()?;
        let mut unconfirmed: Vec<DeviceIx> = Vec::new();
        let all: Vec<DeviceIx> = registry.indices().collect();
        for chunk in all.chunks(MESSAGES_A_PUBLICATION) {
            let begun = cpu_ns()?;
            decide(&mut lane, &registry, &messages, chunk, day);
            for device in unconfirmed.drain(..) {
                let rows = HOURS as u64;
                let confirmed = Confirmed { handled: rows, stored: rows, quarantined: 0, displaced: 0 };
                lane.confirmed(device, device.0 + 1, confirmed);
            }
            unconfirmed.extend_from_slice(chunk);
            let decided = cpu_ns()?;
            publisher.publish(&mut lane, Instant::now());
            // The first day allocates the city's state.
            if day > 0 {
                deciding += decided - begun;
                publishing += cpu_ns()? - decided;
            }
        }
    }
    let messages = u64::from(devices) * u64::try_from(days - 1)?;
    let each = |ns: u64| ns / messages.max(1);
    println!(
        "{{\"decide_ns_per_message\":{},\"publish_ns_per_message\":{},\"devices\":{devices}}}",
        each(deciding),
        each(publishing)
    );
    Ok(())
}

fn decide(lane: &mut Lane, registry: &Registry, messages: &[Vec<u8>], devices: &[DeviceIx], day: i64) {
    let mut decisions = Decisions::default();
    for &device in devices {
        let arrival =
            Arrival { lsn: 1, at_ms: (START_H + 24 * (day + 1)) * 3_600_000, live: true, alarm: false };
        let topic = topic::up(registry.device(device).id);
        decisions.clear();
        let event = Event::Message { arrival, topic: topic.as_bytes(), payload: &messages[device.at()] };
        lane.handle(event, &mut decisions);
    }
}

fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let accounted = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(accounted.split_whitespace().next().unwrap_or_default().parse()?)
}

fn city(devices: u32) -> Result<Arc<Registry>, Box<dyn Error>> {
    let class = toml::from_str(include_str!("../../seeds/classes/gas_meter.toml"))?;
    let mut registry = Registry::new(vec![class]);
    for number in 0..devices {
        registry.enrol(Enrolment {
            id: Id::new(&format!("g{:08x}", number.wrapping_mul(0x9e37_79b9)))?,
            pseudonym: Id::new(&format!("p{number}"))?,
            class: "gas_meter".into(),
            agent: Id::new(&format!("concentrator-{}", number / 1000))?,
            operator: Id::new("gas")?,
            district: 210_102,
            zone: Id::new("zone")?,
            position: (123.4, 41.8),
        })?;
    }
    Ok(Arc::new(registry))
}

/// The hours of that day.
fn report(registry: &Registry, device: DeviceIx, day: i64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut values = [0; HOURS];
    let mut volume = 10_000_000 + day * 24 * 70;
    for (hour, value) in (0_i64..).zip(&mut values) {
        volume += (i64::from(device.0) + hour * 7) % 11 * 10;
        *value = volume;
    }
    let columns = [ColumnDraft { channel: 1, values: &values, quality: &[] }];
    let samples = u32::try_from(HOURS)?;
    let blocks = [BlockDraft { t0: START_H + 24 * day, step: 0, dt: &[], samples, columns: &columns }];
    let seq = day.unsigned_abs() * HOURS as u64;
    let class_version = Some(registry.class_of(device).class.version);
    let header =
        Header { boot: device.0 + 1, seq, class_version, sent_after_s: Some(3600), ..Header::default() };
    let mut out = vec![0; 480];
    let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut out)?;
    out.truncate(length);
    Ok(out)
}
