//! Devices, and what they belong to.

use super::{
    Answers,
    directory::through,
    filter::Wanted,
    ledger::plain_totals,
    view::{Count, View},
};
use crate::{
    alerts::describe::shown_agent,
    api::{
        ApiError,
        backend::DeviceQuery,
        types::{
            Channel, Class, Device, DevicePage, DeviceState, District, Instant, LatestValue, Position, Zone,
        },
    },
    decide::published::Row,
};
use hunhe_gateway_core::{event::ABSENT, registry::DeviceIx};
use hunhe_proto::{class::Kind, fleet::ZoneKind, id::Id};
use std::sync::Arc;

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Register => "register",
        Kind::Angle => "angle",
        Kind::State => "state",
        Kind::Bits => "bits",
        Kind::Position => "position",
        Kind::Identity => "identity",
    }
}

impl Answers {
    pub(super) async fn classes_now(&self) -> Result<Vec<Class>, ApiError> {
        let census = self.census_now().await?;
        let count = |name: &str| {
            let at = self.view.directory.classes.find(name)?;
            census.classes.get(at as usize)
        };
        let mut classes: Vec<Class> = self
            .registry
            .classes()
            .iter()
            .map(|rules| {
                let class = &rules.class;
                let Count { devices, reporting, .. } = count(&class.name).copied().unwrap_or_default();
                Class {
                    name: class.name.clone(),
                    version: class.version,
                    older_versions: rules.older.iter().map(|older| older.version).collect(),
                    title: (&class.title).into(),
                    interval_s: u32::try_from(rules.interval_ms / 1000).unwrap_or(u32::MAX),
                    channels: class
                        .channels
                        .iter()
                        .map(|channel| Channel {
                            id: channel.number.into(),
                            name: channel.name.clone(),
                            title: (&channel.title).into(),
                            unit: channel.unit.clone(),
                            kind: kind_name(channel.kind).into(),
                            min: Some(channel.min),
                            max: Some(channel.max),
                            decimals: channel.decimals,
                            source: channel.source.clone(),
                        })
                        .collect(),
                    devices,
                    reporting,
                }
            })
            .collect();
        classes.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(classes)
    }

    pub(super) async fn districts_now(&self) -> Result<Vec<District>, ApiError> {
        let census = self.census_now().await?;
        let counts = self.view.directory.districts.iter().zip(&census.districts).zip(&census.readings);
        let district = |((code, count), readings): ((&String, &Count), &u64)| District {
            code: code.clone(),
            name: (&self.places.district(code)).into(),
            devices: count.devices,
            reporting: count.reporting,
            silent: count.silent,
            alerts: census.alerts.get(code).copied().unwrap_or_default().into(),
            readings: *readings,
        };
        Ok(counts.map(district).collect())
    }

    pub(super) async fn zones_now(&self) -> Result<Vec<Zone>, ApiError> {
        let census = self.census_now().await?;
        let directory = &self.view.directory;
        let zones = directory.zones.iter().zip(&directory.zone_kinds);
        let counts = zones.zip(&census.zones).zip(&directory.zone_districts);
        let zone = |(((id, kind), count), district): (((&String, &Option<ZoneKind>), &Count), &u32)| Zone {
            id: id.clone(),
            kind: kind.map_or("", ZoneKind::name).into(),
            name: (&self.places.zone(id)).into(),
            district: district.to_string(),
            devices: count.devices,
            reporting: count.reporting,
        };
        Ok(counts.map(zone).collect())
    }

    pub(super) async fn devices_of(&self, query: DeviceQuery) -> Result<DevicePage, ApiError> {
        let (view, now_ms) = (Arc::clone(&self.view), self.clock.now_ms());
        self.queries.run(move || page(&view, &query, now_ms)).await
    }

    pub(super) async fn device_of(&self, id: String) -> Result<Device, ApiError> {
        Ok(describe(&self.view, self.find(&id)?, self.clock.now_ms()))
    }

    pub(super) fn find(&self, id: &str) -> Result<DeviceIx, ApiError> {
        let found = Id::new(id).ok().and_then(|id| self.registry.find_pseudonym(id));
        found.ok_or_else(|| ApiError::NotFound(format!("no device is called {}", id.escape_debug())))
    }
}

/// A page of the devices that match.
fn page(view: &View, query: &DeviceQuery, now_ms: i64) -> DevicePage {
    let Wanted { devices, filter } = Wanted::by(view, query);
    let (before, behind) = devices.split_at(through(&view.registry, devices, query.after.as_deref()));
    let (mut chosen, total): (Vec<DeviceIx>, usize) = match filter {
        None => (behind.iter().take(query.limit + 1).copied().collect(), devices.len()),
        Some(filter) => {
            let matches = |device: &&DeviceIx| filter.matches(view, **device);
            let mut matching = behind.iter().filter(matches).copied();
            let chosen: Vec<DeviceIx> = matching.by_ref().take(query.limit + 1).collect();
            let others = matching.count() + before.iter().filter(matches).count();
            let total = chosen.len() + others;
            (chosen, total)
        }
    };
    let more = chosen.len() > query.limit;
    chosen.truncate(query.limit);
    let items: Vec<Device> = chosen.into_iter().map(|device| describe(view, device, now_ms)).collect();
    let next = items.last().filter(|_| more).map(|device| device.id.clone());
    DevicePage { items, next, total: total as u64 }
}

fn describe(view: &View, device: DeviceIx, now_ms: i64) -> Device {
    let registry = &view.registry;
    let known = registry.device(device);
    let rules = registry.class_of(device);
    let row = view.published.row(device);
    let ledger = row.as_ref().map(|row| row.ledger).unwrap_or_default();
    Device {
        id: known.pseudonym.to_string(),
        class: rules.class.name.clone(),
        district: known.district.to_string(),
        zone: Some(registry.zone(known.zone).id.to_string()),
        operator: known.operator.to_string(),
        agent: shown_agent(registry, Some(device), known.agent),
        position: (!rules.class.household)
            .then_some(Position { latitude: known.position.1, longitude: known.position.0 }),
        last_seen: row.as_ref().map(|row| Instant(row.arrival_ms)),
        last_event_time: row.as_ref().filter(|row| row.last_ms != i64::MIN).map(|row| Instant(row.last_ms)),
        state: row.as_ref().map_or(DeviceState::Never, |row| state_at(view, device, row.arrival_ms, now_ms)),
        interval_s: u32::try_from(rules.interval_ms / 1000).unwrap_or(u32::MAX),
        report_s: u32::try_from(report_ms(&rules.class) / 1000).unwrap_or(u32::MAX),
        clock_offset_s: row
            .as_ref()
            .and_then(|row| row.clock_offset_ms)
            .map(|ms| f64::from(i32::try_from(ms).unwrap_or(i32::MAX)) / 1000.0),
        latest: row.as_ref().map(|row| latest(view, device, row)).unwrap_or_default(),
        ledger: plain_totals(&ledger, ledger.totals.unexplained() == 0),
    }
}

/// What an ordinary report spans and may be dispersed over.
fn report_ms(class: &hunhe_proto::class::Class) -> i64 {
    class.interval_ms() * i64::from(class.report.samples) + i64::from(class.report.dispersal_s) * 1000
}

fn state_at(view: &View, device: DeviceIx, arrival_ms: i64, now_ms: i64) -> DeviceState {
    let report_ms = report_ms(&view.registry.class_of(device).class);
    if now_ms - arrival_ms <= report_ms * 3 / 2 {
        DeviceState::Reporting
    } else if view.is_reporting(device, arrival_ms, now_ms) {
        DeviceState::Late
    } else {
        DeviceState::Silent
    }
}

fn latest(view: &View, device: DeviceIx, row: &Row) -> Vec<LatestValue> {
    let channels = view.registry.class_of(device).class.channels.iter().zip(&row.last);
    channels
        .filter(|&(_, &wire)| wire != ABSENT)
        .map(|(channel, &wire)| LatestValue {
            channel: channel.name.clone(),
            name: (&channel.title).into(),
            unit: channel.unit.clone(),
            value: Some(channel.value(wire)),
            quality: row.last_quality,
            time: Instant(row.last_ms),
        })
        .collect()
}

#[cfg(test)]
#[path = "devices/tests.rs"]
mod tests;
