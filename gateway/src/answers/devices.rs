//! Devices, what they belong to, and their series.

use super::{
    Answers, Count, Counts,
    status::{heard, plain_totals},
};
use crate::{
    alerts::describe::{bilingual, shown_agent},
    api::{
        ApiError,
        backend::{DeviceQuery, SeriesQuery},
        types::{
            Channel, Class, Device, DevicePage, DeviceState, District, Instant, LatestValue, Position,
            Series, SeriesKind, Zone,
        },
    },
    decided::StoredChannel,
    store::DeviceKey,
};
use hunhe_gateway_core::{
    event::{ABSENT, worse},
    lane::{DeviceState as State, Lane},
    registry::{DeviceIx, Registry},
};
use hunhe_proto::{class::Kind, id::Id, reading::Quality};
use std::{collections::BTreeSet, sync::Arc};

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
    async fn counts(
        &self,
        key: impl Fn(&Registry, DeviceIx) -> String + Send + 'static,
    ) -> Result<Counts, ApiError> {
        let registry = Arc::clone(&self.registry);
        let now_ms = self.clock.now_ms();
        self.ask(move |lane| {
            let mut counts = Counts::new();
            for device in registry.indices() {
                let count = counts.entry(key(&registry, device)).or_default();
                count.devices += 1;
                if let Some(state) = lane.state(device) {
                    let heard = heard(&registry, device, state.arrival_ms, now_ms);
                    count.reporting += u64::from(heard);
                    count.silent += u64::from(!heard);
                }
            }
            counts
        })
        .await
    }

    pub(super) async fn classes_now(&self) -> Result<Vec<Class>, ApiError> {
        let counts = self.counts(|registry, device| registry.class_of(device).class.name.clone()).await?;
        let mut classes: Vec<Class> = self
            .registry
            .classes()
            .iter()
            .map(|rules| {
                let class = &rules.class;
                let Count { devices, reporting, .. } = counts.get(&class.name).copied().unwrap_or_default();
                Class {
                    name: class.name.clone(),
                    version: class.version,
                    older_versions: rules.older.iter().map(|older| older.version).collect(),
                    title: bilingual(&class.title),
                    interval_s: u32::try_from(rules.interval_ms / 1000).unwrap_or(u32::MAX),
                    channels: class
                        .channels
                        .iter()
                        .map(|channel| Channel {
                            id: channel.number.into(),
                            name: channel.name.clone(),
                            title: bilingual(&channel.title),
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
        let counts = self.counts(|registry, device| registry.device(device).district.to_string()).await?;
        let alerts = self.alerting.book.by_district();
        let district = |(code, Count { devices, reporting, silent }): (String, Count)| District {
            name: self.places.district(&code),
            alerts: alerts.get(&code).copied().unwrap_or_default(),
            readings: code.parse().map_or(0, |code| self.alerting.readings.of(code)),
            code,
            devices,
            reporting,
            silent,
        };
        Ok(counts.into_iter().map(district).collect())
    }

    pub(super) async fn zones_now(&self) -> Result<Vec<Zone>, ApiError> {
        let counts = self.counts(|registry, device| registry.device(device).zone.to_string()).await?;
        let district_of = |zone: &str| {
            let device = self.registry.devices().iter().find(|device| device.zone.as_str() == zone);
            device.map_or_else(String::new, |device| device.district.to_string())
        };
        let zone = |(id, Count { devices, reporting, .. }): (String, Count)| Zone {
            name: self.places.zone(&id),
            kind: self.places.kind(&id).to_owned(),
            district: district_of(&id),
            id,
            devices,
            reporting,
        };
        Ok(counts.into_iter().map(zone).collect())
    }

    pub(super) async fn devices_of(&self, query: DeviceQuery) -> Result<DevicePage, ApiError> {
        let registry = Arc::clone(&self.registry);
        let now_ms = self.clock.now_ms();
        self.ask(move |lane| {
            let mut matching: Vec<(Id, DeviceIx)> = registry
                .indices()
                .filter(|&device| matches(&registry, device, &query))
                .map(|device| (registry.device(device).pseudonym, device))
                .collect();
            matching.sort_unstable();
            let total = matching.len() as u64;
            let from = query
                .after
                .as_ref()
                .map_or(0, |after| matching.partition_point(|(id, _)| id.as_str() <= after.as_str()));
            let page = &matching[from..matching.len().min(from + query.limit)];
            let more = from + page.len() < matching.len();
            let items: Vec<Device> =
                page.iter().map(|&(_, device)| describe(&registry, lane, device, now_ms)).collect();
            let next = items.last().filter(|_| more).map(|device| device.id.clone());
            DevicePage { items, next, total }
        })
        .await
    }

    pub(super) async fn device_of(&self, id: String) -> Result<Device, ApiError> {
        let device = self.find(&id)?;
        let registry = Arc::clone(&self.registry);
        let now_ms = self.clock.now_ms();
        self.ask(move |lane| describe(&registry, lane, device, now_ms)).await
    }

    fn find(&self, id: &str) -> Result<DeviceIx, ApiError> {
        let found = Id::new(id).ok().and_then(|id| self.registry.find_pseudonym(id));
        found.ok_or_else(|| ApiError::NotFound(format!("no device is called {}", id.escape_debug())))
    }

    pub(super) async fn series_of(&self, query: SeriesQuery) -> Result<Series, ApiError> {
        let device = self.find(&query.device)?;
        let rules = self.registry.class_of(device);
        let channel = rules.class.channel(&query.channel).ok_or_else(|| {
            let names: Vec<&str> = rules.class.channels.iter().map(|channel| channel.name.as_str()).collect();
            ApiError::NotFound(format!(
                "class {} has no channel {}: it has {}",
                rules.class.name,
                query.channel.escape_debug(),
                names.join(", ")
            ))
        })?;
        let (name, range) = (query.device.clone(), query.from_ms..query.to_ms);
        // What was stored under an older version of the class may have fewer decimals.
        let stored = (0..=channel.decimals).map(|decimals| StoredChannel::new(channel.number, decimals));
        let stored: Vec<StoredChannel> = stored.rev().collect();
        let asked: Vec<u16> = stored.iter().map(|channel| channel.bits()).collect();
        let found = self
            .read_store(move |store| {
                let Some(key @ DeviceKey(_)) = store.find_device(&name) else { return Ok(None) };
                store.scan(key, range, &asked).map(Some)
            })
            .await?;
        let mut series = Series {
            device: query.device,
            channel: query.channel,
            unit: channel.unit.clone(),
            kind: if query.step_s.is_some() { SeriesKind::Steps } else { SeriesKind::Samples },
            step_s: query.step_s,
            from: query.from_ms,
            to: query.to_ms,
            times: Vec::new(),
            values: Vec::new(),
            quality: Vec::new(),
        };
        let Some(found) = found else { return Ok(series) };
        let value = |row: usize| {
            stored.iter().enumerate().find_map(|(column, stored)| {
                let wire = *found.column(column).get(row).filter(|&&wire| wire != ABSENT)?;
                Some(channel.value(wire.saturating_mul(stored.factor_to(channel.decimals))))
            })
        };
        let points = found.times_ms.iter().zip(&found.quality).enumerate();
        let points = points.map(|(row, (&time, &quality))| (time, value(row), quality));
        match query.step_s {
            None => {
                for (time, value, quality) in points.take(query.limit_points.saturating_add(1)) {
                    series.times.push(time);
                    series.values.push(value);
                    series.quality.push(quality);
                }
            }
            Some(step_s) => {
                let steps = Steps { step_ms: i64::from(step_s) * 1000, mean: channel.kind == Kind::Gauge };
                steps.fill(points, query.limit_points.saturating_add(1), &mut series);
            }
        }
        Ok(series)
    }
}

/// Values by steps of equal length.
struct Steps {
    step_ms: i64,
    mean: bool,
}

impl Steps {
    fn fill(&self, points: impl Iterator<Item = (i64, Option<f64>, u8)>, limit: usize, series: &mut Series) {
        let mut open: Option<(i64, f64, u32, Option<f64>, u8)> = None;
        for (time, value, quality) in points {
            let start = time - time.rem_euclid(self.step_ms);
            if let Some((at, ..)) = open
                && at != start
            {
                self.close(open.take(), series);
                let mut gap = at + self.step_ms;
                while gap < start && series.times.len() < limit {
                    push(series, gap, None, Quality::Missing.code());
                    gap += self.step_ms;
                }
                if series.times.len() >= limit {
                    return;
                }
            }
            let (_, sum, number, last, worst) =
                open.get_or_insert((start, 0.0, 0, None, Quality::Final.code()));
            if let Some(value) = value {
                *sum += value;
                *number += 1;
                *last = Some(value);
            }
            let of = |code| Quality::from_code(code).unwrap_or(Quality::Suspect);
            *worst = worse(of(*worst), of(quality)).code();
        }
        self.close(open, series);
    }

    fn close(&self, open: Option<(i64, f64, u32, Option<f64>, u8)>, series: &mut Series) {
        let Some((start, sum, number, last, worst)) = open else { return };
        let mean = (number > 0).then(|| sum / f64::from(number));
        push(series, start, if self.mean { mean } else { last }, worst);
    }
}

fn push(series: &mut Series, time: i64, value: Option<f64>, quality: u8) {
    series.times.push(time);
    series.values.push(value);
    series.quality.push(quality);
}

fn matches(registry: &Registry, device: DeviceIx, query: &DeviceQuery) -> bool {
    let known = registry.device(device);
    let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
    let text = query.text.as_ref().map(|text| text.to_lowercase());
    is(&query.class, &registry.class_of(device).class.name)
        && is(&query.zone, known.zone.as_str())
        && is(&query.district, &known.district.to_string())
        && text.is_none_or(|text| {
            // What is not shown is not found: else a guess would lead from a device's id to its pseudonym.
            let agent = shown_agent(registry, Some(device), known.agent);
            [known.pseudonym.as_str(), known.zone.as_str(), &agent].iter().any(|id| id.contains(&text))
        })
}

fn describe(registry: &Registry, lane: &Lane, device: DeviceIx, now_ms: i64) -> Device {
    let known = registry.device(device);
    let rules = registry.class_of(device);
    let state = lane.state(device);
    let totals = state.map(|state| state.outboxes.totals()).unwrap_or_default();
    Device {
        id: known.pseudonym.to_string(),
        class: rules.class.name.clone(),
        district: known.district.to_string(),
        zone: Some(known.zone.to_string()),
        operator: known.operator.to_string(),
        agent: shown_agent(registry, Some(device), known.agent),
        position: (!rules.class.household)
            .then_some(Position { latitude: known.position.1, longitude: known.position.0 }),
        last_seen: state.map(|state| Instant(state.arrival_ms)),
        last_event_time: state.filter(|state| state.last_ms != i64::MIN).map(|state| Instant(state.last_ms)),
        state: state.map_or(DeviceState::Never, |state| hearing(registry, device, state, now_ms)),
        interval_s: u32::try_from(rules.interval_ms / 1000).unwrap_or(u32::MAX),
        report_s: u32::try_from(report_ms(&rules.class) / 1000).unwrap_or(u32::MAX),
        clock_offset_s: state
            .and_then(|state| state.clock_offset_ms)
            .map(|ms| f64::from(i32::try_from(ms).unwrap_or(i32::MAX)) / 1000.0),
        latest: state.map(|state| latest(registry, device, state)).unwrap_or_default(),
        ledger: plain_totals(&totals, totals.unexplained() == 0),
    }
}

/// What an ordinary report spans and may be dispersed over.
fn report_ms(class: &hunhe_proto::class::Class) -> i64 {
    class.interval_ms() * i64::from(class.report.samples) + i64::from(class.report.dispersal_s) * 1000
}

fn hearing(registry: &Registry, device: DeviceIx, state: &State, now_ms: i64) -> DeviceState {
    let report_ms = report_ms(&registry.class_of(device).class);
    let age_ms = now_ms - state.arrival_ms;
    if age_ms <= report_ms * 3 / 2 {
        DeviceState::Reporting
    } else if heard(registry, device, state.arrival_ms, now_ms) {
        DeviceState::Late
    } else {
        DeviceState::Silent
    }
}

pub(super) fn latest(registry: &Registry, device: DeviceIx, state: &State) -> Vec<LatestValue> {
    let channels = &registry.class_of(device).class.channels;
    let known: BTreeSet<usize> = (0..channels.len()).filter(|&at| state.last[at] != ABSENT).collect();
    known
        .into_iter()
        .map(|at| LatestValue {
            channel: channels[at].name.clone(),
            name: bilingual(&channels[at].title),
            unit: channels[at].unit.clone(),
            value: Some(channels[at].value(state.last[at])),
            quality: state.last_quality,
            time: Instant(state.last_ms),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_that_is_its_own_agent_is_found_by_its_pseudonym_alone() {
        let registry = crate::alerts::describe::tests::own_agents();
        let found = |text: &str| {
            let query = DeviceQuery { text: Some(text.into()), ..DeviceQuery::default() };
            registry.indices().filter(|&device| matches(&registry, device, &query)).count()
        };
        assert_eq!((found("secret"), found("shown-1"), found("c-1")), (0, 1, 1));
    }
}
