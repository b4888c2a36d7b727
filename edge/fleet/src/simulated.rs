//! A modelled device: every channel follows its class's [`Shape`](hunhe_proto::class::Shape), and faults set in and end.
//!
//! Promise: what a device reads depends on its id, the seed, the class, its faults and the time alone, so that a run can be
//! repeated and a fault told apart from the ordinary course. Values are integers on the instrument's steps and within
//! the class's range, unless a fault drives them out of it.
//!
//! While a fault stands that a class alarms for, it is sampled as often as the class then asks; a machine that rests is
//! sampled as rarely as it asks.
//!
//! Deliberately absent: correlation between devices. A city whose meters share the weather is the recordings' job.

mod course;
mod work;

use crate::rounds::Span;
use course::{Moment, advance, course, first_value, mix, on_steps, to_wire, unit};
use hunhe_edge::drivers::{Driver, DriverKind, Site, Taken};
use hunhe_edge_core::sample::{Late, Schedule};
use hunhe_proto::{
    class::{Channel, Class, Fault, Kind},
    column::MAGNITUDE_END,
    id::DeviceId,
    reading::{ABSENT, STATUS_CHANNEL},
};
use std::sync::Arc;
use work::Shift;

const HOUR_MS: i64 = 3_600_000;
/// Shapes speak of local time; the city's is UTC+8 all year.
const LOCAL_MS: i64 = 8 * HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A fault without a time sets in after 6 to 17 samples, so that each device has an ordinary past.
const ONSET_MIN: u64 = 6;
const ONSET_SPREAD: u64 = 12;

/// Models as a driver of an agent's configuration.
pub const SIMULATED: DriverKind = DriverKind { name: "simulated", keys: &["fault"], check, open };

fn check(_: &str, fault: &str, class: &Class) -> Result<(), String> {
    match class.faults.get(fault) {
        Some(Fault::Duplicate | Fault::Disorder) => {
            Err("an agent sends each report once and in order; `hunhe-edge simulate` alone does otherwise"
                .into())
        }
        Some(_) => Ok(()),
        None => {
            let known = class.faults.keys().cloned().collect::<Vec<_>>().join(", ");
            Err(format!("class {} has {known}", class.name))
        }
    }
}

fn open(site: &Site<'_>) -> Box<dyn Driver> {
    let fault = site.settings.get("fault").and_then(|name| site.class.faults.get(name).cloned());
    Box::new(Simulated::new(Arc::clone(site.class), site.device, 0, fault, site.from_ms, site.late))
}

/// One modelled device.
#[derive(Debug)]
pub struct Simulated {
    class: Arc<Class>,
    key: u64,
    schedule: Schedule,
    /// WGS-84 degrees of longitude and latitude, where it is known.
    place: Option<(f64, f64)>,
    strikes: Vec<Strike>,
    /// When it was last read: a register has run since.
    read_ms: i64,
    /// Per channel, the value last read: a register goes on from it.
    last: Box<[i64]>,
    /// Per channel, use that has not yet made a whole step of the register.
    carry: Box<[f64]>,
}

/// A fault, and the time in which it stands.
#[derive(Debug)]
struct Strike {
    fault: Fault,
    span: Span,
    /// The channel it changes, by index.
    channel: Option<usize>,
    /// The device itself alarms for it.
    alarms: bool,
    /// The device was read since it set in.
    seen: bool,
}

impl Strike {
    const fn stands(&self, time_ms: i64) -> bool {
        self.span.stands(time_ms)
    }

    fn stood_h(&self, time_ms: i64) -> f64 {
        hours(time_ms - self.span.around(time_ms).start)
    }
}

impl Simulated {
    /// The model of `device`, sampling from `start_ms` on, with `fault` setting in a few samples later, for good.
    #[must_use]
    pub fn new(
        class: Arc<Class>,
        device: DeviceId,
        seed: u64,
        fault: Option<Fault>,
        start_ms: i64,
        late: Late,
    ) -> Self {
        let key = key_of(device, seed);
        let schedule = Schedule::new(class.interval_ms(), start_ms, late);
        let first =
            |(index, channel): (usize, &Channel)| first_value(channel, mix(key ^ index as u64), false);
        let last = class.channels.iter().enumerate().map(first).collect();
        let carry = vec![0.0; class.channels.len()].into_boxed_slice();
        let read_ms = schedule.next_ms() - class.interval_ms();
        let mut model = Self { class, key, schedule, place: None, strikes: Vec::new(), read_ms, last, carry };
        if let Some(fault) = fault {
            let samples = ONSET_MIN - 1 + mix(key ^ 0xfa) % ONSET_SPREAD;
            let onset_ms = i64::try_from(samples).unwrap_or(0) * model.class.interval_ms();
            model.strike(fault, (model.schedule.next_ms() + onset_ms..i64::MAX).into());
        }
        model.pace(start_ms);
        model
    }

    /// `fault` stands in that span of event time.
    pub fn strike(&mut self, fault: Fault, span: Span) {
        let channel = affected_channel(&self.class, &fault);
        if matches!(fault, Fault::Rollover { .. })
            && let Some(index) = channel
        {
            self.last[index] = first_value(&self.class.channels[index], 0, true);
        }
        let leaps = matches!(fault, Fault::Step { .. } | Fault::Constant { .. });
        let gauge = channel.is_some_and(|index| self.class.channels[index].kind == Kind::Gauge);
        let alarms = self.class.report.on_alarm.is_some() && gauge && leaps;
        self.strikes.push(Strike { fault, span, channel, alarms, seen: false });
        self.pace(self.schedule.next_ms());
    }

    /// Where the device stands, in WGS-84 degrees: what moves, moves around it.
    pub const fn stand(&mut self, lon: f64, lat: f64) {
        self.place = Some((lon, lat));
    }

    /// Its faults and when each stands, in event time.
    pub fn faults(&self) -> impl Iterator<Item = (&Fault, Span)> {
        self.strikes.iter().map(|strike| (&strike.fault, strike.span))
    }

    /// Sets the schedule for what comes at or after `from_ms`: the next sample as the class asks for at that time, or
    /// where that changes, if this is earlier.
    fn pace(&mut self, from_ms: i64) {
        if self.strikes.is_empty() && self.class.work.is_none() {
            return;
        }
        let (interval_ms, change_ms) = self.interval_at(from_ms);
        self.schedule.turn(from_ms, interval_ms);
        if change_ms < self.schedule.next_ms() {
            let (interval_ms, _) = self.interval_at(change_ms);
            self.schedule.turn(change_ms, interval_ms);
        }
    }

    /// The time between samples at `time_ms`, and when that may change.
    fn interval_at(&self, time_ms: i64) -> (i64, i64) {
        let ordinary_ms = self.class.interval_ms();
        let mut change_ms = i64::MAX;
        let mut interval_ms = ordinary_ms;
        if let Some(work) = &self.class.work {
            let shift = Shift::at(work, self.key, time_ms);
            change_ms = shift.change_ms;
            if !shift.working {
                interval_ms = ordinary_ms.saturating_mul(i64::from(work.rest_every));
            }
        }
        let denser = self.class.report.on_alarm.as_ref().filter(|alarm| alarm.interval > 0);
        if let Some(alarm) = denser {
            let clear_ms = i64::from(alarm.clear_s) * 1000;
            for strike in self.strikes.iter().filter(|strike| strike.alarms) {
                // The round that may not have cleared yet.
                let stood = strike.span.around(time_ms.saturating_sub(clear_ms));
                let until_ms = stood.end.saturating_add(clear_ms);
                if stood.start <= time_ms && time_ms < until_ms {
                    interval_ms = i64::from(self.class.time_unit_ms) * i64::from(alarm.interval);
                    change_ms = change_ms.min(until_ms);
                } else if time_ms < stood.start {
                    change_ms = change_ms.min(stood.start);
                }
            }
        }
        (interval_ms.max(1), change_ms)
    }

    fn read(&mut self, time_ms: i64, row: &mut [i64]) {
        let elapsed_h = hours((time_ms - self.read_ms).max(0));
        self.read_ms = time_ms;
        let instant = time_ms.div_euclid(self.class.interval_ms());
        let shift = self.class.work.as_ref().map(|work| Shift::at(work, self.key, time_ms));
        let moment = Moment { time_ms, key: self.key, place: self.place, shift };
        for (index, channel) in self.class.channels.iter().enumerate() {
            let (Some(last), Some(carry), Some(slot)) =
                (self.last.get_mut(index), self.carry.get_mut(index), row.get_mut(index))
            else {
                continue;
            };
            let carried = channel.every < 2 || instant.rem_euclid(i64::from(channel.every)) == 0;
            // A register runs on between the samples that carry it; what else nobody sees need not be drawn.
            if !carried && !matches!(channel.kind, Kind::Register | Kind::Identity) {
                *slot = ABSENT;
                continue;
            }
            let level = course(&channel.simulate, index, &moment);
            let mut strikes = self.strikes.iter().filter(|strike| strike.stands(time_ms));
            *last = match channel.kind {
                Kind::Register => {
                    let here = strikes.filter(|strike| strike.channel == Some(index));
                    register(channel, level, here, time_ms, *last, carry, elapsed_h)
                }
                Kind::Identity => {
                    let swapped = strikes.any(|s| !s.seen && matches!(s.fault, Fault::Swap { .. }));
                    *last + i64::from(swapped)
                }
                _ => {
                    let here = strikes.filter(|strike| strike.channel == Some(index));
                    level_under(channel, level, here, time_ms, *last)
                }
            };
            let on_wire = last.unsigned_abs() < MAGNITUDE_END.unsigned_abs();
            *slot = if carried && on_wire { *last } else { ABSENT };
        }
    }
}

impl Driver for Simulated {
    fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken> {
        loop {
            let time_ms = self.schedule.take_due(event_ms)?;
            if self.strikes.is_empty() && self.class.work.is_none() {
                self.read(time_ms, row);
                return Some(Taken { time_ms, alarm: false });
            }
            self.pace(time_ms + 1);
            let stands = |strike: &&Strike| strike.stands(time_ms);
            if self.strikes.iter().filter(stands).any(|strike| matches!(strike.fault, Fault::Silent)) {
                continue;
            }
            self.read(time_ms, row);
            let mut alarm = false;
            let mut offset_ms = 0;
            for strike in &mut self.strikes {
                let stands = strike.stands(time_ms);
                alarm |= stands && strike.alarms && !strike.seen;
                strike.seen = stands;
                if let (true, Fault::Clock { offset_s }) = (stands, &strike.fault) {
                    let unit_ms = i64::from(self.class.time_unit_ms);
                    offset_ms = (offset_s * 1000).div_euclid(unit_ms) * unit_ms;
                }
            }
            return Some(Taken { time_ms: time_ms + offset_ms, alarm });
        }
    }

    /// A model that began at the same instant as before comes to the same values again.
    fn resume(&mut self, newest_ms: i64) {
        let mut row = vec![0; self.class.channels.len()];
        while self.schedule.next_ms() <= newest_ms && self.take(newest_ms, &mut row).is_some() {}
    }

    fn next_ms(&self) -> Option<i64> {
        Some(self.schedule.next_ms())
    }
}

/// A register's next value, whatever stands against it.
fn register<'a>(
    channel: &Channel,
    level: f64,
    strikes: impl Iterator<Item = &'a Strike>,
    time_ms: i64,
    last: i64,
    carry: &mut f64,
    elapsed_h: f64,
) -> i64 {
    let mut per_h = level.max(0.0);
    let mut sign = 1.0;
    for strike in strikes {
        match strike.fault {
            Fault::Stuck { .. } => return last,
            Fault::Constant { value, .. } => return to_wire(value * channel.scale()),
            Fault::Swap { .. } if !strike.seen => return 0,
            Fault::Step { by, .. } => per_h += by,
            Fault::Drift { per_h: more, .. } => per_h += more * strike.stood_h(time_ms),
            Fault::Reverse { .. } => sign = -1.0,
            _ => {}
        }
    }
    advance(channel, last, carry, sign * per_h.max(0.0) * elapsed_h)
}

/// What any other channel shows.
fn level_under<'a>(
    channel: &Channel,
    level: f64,
    strikes: impl Iterator<Item = &'a Strike>,
    time_ms: i64,
    last: i64,
) -> i64 {
    let mut level = level;
    let mut bits = 0;
    for strike in strikes {
        match strike.fault {
            Fault::Stuck { .. } => return last,
            Fault::Constant { value, .. } => return to_wire(value * channel.scale()),
            Fault::Drift { per_h, .. } => level += per_h * strike.stood_h(time_ms),
            Fault::Step { by, .. } => level += by,
            Fault::Status { bits: more } => bits |= i64::from(more),
            _ => {}
        }
    }
    on_steps(channel, level) | bits
}

/// The class's channel that a fault changes.
fn affected_channel(class: &Class, fault: &Fault) -> Option<usize> {
    let is_affected = |channel: &Channel| match fault {
        Fault::Status { .. } => channel.number == STATUS_CHANNEL,
        _ => fault.channel() == Some(channel.name.as_str()),
    };
    class.channels.iter().position(is_affected)
}

fn key_of(device: DeviceId, seed: u64) -> u64 {
    device.as_str().bytes().fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)))
}

/// Does the device have the fault called `name`, where a share of all devices has it?
#[must_use]
pub fn is_struck(device: DeviceId, seed: u64, name: &str, share: f64) -> bool {
    let key = name.bytes().fold(key_of(device, seed), |key, byte| mix(key ^ u64::from(byte)));
    unit(key) < share
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of any year are below 2^53")]
fn hours(ms: i64) -> f64 {
    ms as f64 / HOUR_MS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn series(fault: Option<&str>, count: u32, name: &str) -> (Arc<Class>, Vec<(i64, Vec<i64>)>) {
        let class = testing::gas_meter();
        let fault = fault.map(|name| class.faults[name].clone());
        let device = DeviceId::new(name).unwrap();
        let mut model = Simulated::new(Arc::clone(&class), device, 7, fault, 0, Late::CatchUp);
        let mut row = vec![0; class.channels.len()];
        let mut rows = Vec::new();
        while rows.len() < count as usize {
            match model.take(i64::from(count) * 2 * HOUR_MS, &mut row) {
                Some(taken) => rows.push((taken.time_ms, row.clone())),
                None => break,
            }
        }
        (class, rows)
    }

    #[test]
    fn shapes_stay_within_the_class_and_repeat() {
        let (class, rows) = series(None, 5_000, "g-1");
        assert_eq!(rows, series(None, 5_000, "g-1").1);
        assert_ne!(rows, series(None, 5_000, "g-2").1);
        for (index, channel) in class.channels.iter().enumerate() {
            for (time, row) in &rows {
                let value = channel.value(row[index]);
                assert!((channel.min..=channel.max).contains(&value), "{} {value} at {time}", channel.name);
                assert_eq!(row[index] % i64::from(channel.resolution.max(1)), 0);
            }
        }
        assert!(rows.windows(2).all(|pair| pair[1].1[0] >= pair[0].1[0]), "a register only rises");
        assert!(rows.windows(2).any(|pair| pair[1].1[1] != pair[0].1[1]), "a gauge moves");
        let used = rows.windows(2).filter(|pair| pair[1].1[0] > pair[0].1[0]).count();
        assert!((0.2..0.4).contains(&(used as f64 / 5000.0)), "active share 0.3, got {used} of 5000");
    }

    #[test]
    fn a_configuration_names_a_fault_of_the_device_and_none_of_sending() {
        let mut class = testing::gas_meter().as_ref().clone();
        class.faults.insert("twice".into(), Fault::Duplicate);
        assert_eq!(check("fault", "stuck", &class), Ok(()));
        assert!(check("fault", "twice", &class).is_err_and(|what| what.contains("each report once")));
        assert!(check("fault", "rust", &class).is_err_and(|what| what.contains("has fast_clock, reverse")));
        let readme = include_str!("../../README.md");
        for key in SIMULATED.keys {
            assert!(readme.contains(&format!("| `{key}` |")), "no row of {key} in edge/README.md");
        }
    }

    #[test]
    fn each_fault_shows() {
        let of = |name: &str| series(Some(name), 60, "g-1").1;
        let register = |rows: &[(i64, Vec<i64>)]| rows.iter().map(|(_, row)| row[0]).collect::<Vec<_>>();
        assert!(register(&of("stuck"))[20..].windows(2).all(|pair| pair[0] == pair[1]));
        assert!(register(&of("reverse")).windows(2).any(|pair| pair[1] < pair[0]));
        assert!(register(&of("rollover")).windows(2).any(|pair| pair[1] < pair[0] / 2));
        let swapped = of("swap");
        let serials: std::collections::BTreeSet<_> = swapped.iter().map(|(_, row)| row[3]).collect();
        assert_eq!(serials.len(), 2);
        assert!(register(&swapped).contains(&0));
        assert!(of("silent").len() < 18);
        assert!(of("tamper").iter().any(|(_, row)| row[2] == 8));
        assert!(of("fast_clock").iter().zip(0_i64..).any(|((time, _), hour)| *time != hour * HOUR_MS));
    }

    #[test]
    fn a_share_of_the_devices_is_struck() {
        let struck =
            (0..10_000).filter(|i| is_struck(DeviceId::new(&format!("d-{i}")).unwrap(), 1, "stuck", 0.1));
        assert!((900..1100).contains(&struck.count()));
    }
}
