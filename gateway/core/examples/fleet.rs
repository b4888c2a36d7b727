//! What the whole city costs in memory: a lane in which every device of a described fleet has reported for four days.
//!
//! `fleet [FLEET]`: the last line of the output is JSON. Each device sends one report a day with all of its class's channels,
//! so that it holds as many windows of each length as the lane keeps.

use hunhe_gateway_core::{
    event::{Arrival, Confirmed, Decisions, Event},
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
};
use hunhe_proto::{
    class::{Channel, Class},
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    fleet::Fleet,
    id::Id,
    reading::Header,
    topic,
};
use std::{collections::BTreeMap, error::Error, fs, path::Path, sync::Arc};

/// 2026-08-01T00:00:00+08:00, in milliseconds since 1970.
const START_MS: i64 = 1_785_513_600_000;
const DAY_MS: i64 = 86_400_000;
const DAYS: i64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds");
    let file = std::env::args().nth(1).map_or_else(|| seeds.join("city/full.toml"), Into::into);
    let fleet: Fleet = toml::from_str(&fs::read_to_string(file)?)?;
    let registry = Arc::new(registry(&seeds.join("classes"), &fleet)?);
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    for day in 0..DAYS {
        report(&mut lane, &registry, day)?;
    }
    let mut by_class: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (device, state) in lane.states() {
        let (devices, bytes) = by_class.entry(&registry.class_of(device).class.name).or_default();
        (*devices, *bytes) = (*devices + 1, *bytes + state.bytes());
    }
    let (devices, bytes) =
        by_class.values().fold((0, 0), |(devices, bytes), (more, further)| (devices + more, bytes + further));
    for (class, (devices, bytes)) in &by_class {
        println!("{class}: {devices} devices, {} bytes each", bytes / devices.max(&1));
    }
    println!("{{\"devices\":{devices},\"state_bytes_per_device\":{}}}", bytes / devices.max(1));
    Ok(())
}

fn registry(classes: &Path, fleet: &Fleet) -> Result<Registry, Box<dyn Error>> {
    let mut read = Vec::new();
    for file in fs::read_dir(classes)? {
        read.push(toml::from_str::<Class>(&fs::read_to_string(file?.path())?)?);
    }
    let mut registry = Registry::new(read);
    for member in fleet.expand()? {
        registry.enrol(Enrolment {
            id: member.id,
            pseudonym: member.id,
            class: member.group.class.clone(),
            agent: member.agent,
            operator: Id::new(&member.group.operator)?,
            district: member.place.district,
            zone: Id::new(&member.place.zone)?,
            position: (member.place.lon, member.place.lat),
        })?;
    }
    Ok(registry)
}

/// One report of every device on that day, and the sink's word for it.
fn report(lane: &mut Lane, registry: &Registry, day: i64) -> Result<(), Box<dyn Error>> {
    let mut decisions = Decisions::default();
    let mut out = vec![0; 64 * 1024];
    for device in registry.indices() {
        let class = &registry.class_of(device).class;
        let samples = class.report.samples;
        #[expect(clippy::cast_possible_truncation, reason = "a class's bounds times scale stay below 2^53")]
        let level = |channel: &Channel| {
            // The middle of its range, on the instrument's steps.
            let step = i64::from(channel.resolution.max(1));
            ((channel.min + channel.max) / 2.0 * channel.scale()).round() as i64 / step * step
        };
        let values: Vec<Vec<i64>> =
            class.channels.iter().map(|channel| vec![level(channel); samples as usize]).collect();
        let columns: Vec<_> = class
            .channels
            .iter()
            .zip(&values)
            .map(|(channel, values)| ColumnDraft { channel: channel.number, values, quality: &[] })
            .collect();
        let t0 = (START_MS + day * DAY_MS) / i64::from(class.time_unit_ms);
        let blocks = [BlockDraft { t0, step: 0, dt: &[], samples, columns: &columns }];
        let seq = day.unsigned_abs() * u64::from(samples);
        let class_version = Some(class.version);
        let header = Header { boot: 7, seq, class_version, ..Header::default() };
        let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut out)?;
        let topic = topic::up(registry.device(device).id);
        let at_ms = START_MS + (day + 2) * DAY_MS;
        let arrival = Arrival { lsn: 1, at_ms, live: false, alarm: false };
        decisions.clear();
        lane.handle(
            Event::Message { arrival, topic: topic.as_bytes(), payload: &out[..length] },
            &mut decisions,
        );
        if let Some(refusal) = decisions.refusal {
            return Err(format!("{topic}: {}", refusal.reason.name()).into());
        }
        let handled = u64::from(samples);
        let confirmed = Confirmed { handled, stored: handled, quarantined: 0, displaced: 0 };
        lane.confirmed(device, header.boot, confirmed);
    }
    Ok(())
}
