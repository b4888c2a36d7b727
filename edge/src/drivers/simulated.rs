//! A modelled device: every channel follows its class's [`Shape`], and one fault may set in.
//!
//! Promise: what a device reads depends on its id, the seed, the class and the time alone, so that a run can be
//! repeated and a fault told apart from the ordinary course. Values are integers on the instrument's steps and within
//! the class's range, unless a fault drives them out of it.
//!
//! Deliberately absent: correlation between devices. A city whose meters share the weather is the recordings' job.

use super::Taken;
use hunhe_edge_core::sample::{Late, Schedule};
use hunhe_proto::{
    class::{Channel, Class, Fault, Kind, Shape},
    column::MAGNITUDE_END,
    id::DeviceId,
    reading::{ABSENT, STATUS_CHANNEL},
};
use std::{f64::consts::TAU, sync::Arc};

const HOUR_MS: i64 = 3_600_000;
/// Shapes speak of local time; the city's is UTC+8 all year.
const LOCAL_MS: i64 = 8 * HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Faults set in after 6 to 17 samples, so that each device has an ordinary past.
const ONSET_MIN: u64 = 6;
const ONSET_SPREAD: u64 = 12;

/// One modelled device.
#[derive(Debug)]
pub struct Simulated {
    class: Arc<Class>,
    key: u64,
    schedule: Schedule,
    fault: Option<Fault>,
    /// The fault's channel, by index.
    affected: Option<usize>,
    onset: u64,
    onset_ms: i64,
    taken: u64,
    /// Per channel, the value last read: a register goes on from it.
    last: Box<[i64]>,
    /// Per channel, use that has not yet made a whole step of the register.
    carry: Box<[f64]>,
}

impl Simulated {
    /// The model of `device`, sampling from `start_ms` on, with `fault` setting in a few samples later.
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
        let affected = fault.as_ref().and_then(|fault| affected_channel(&class, fault));
        let near_end = matches!(fault, Some(Fault::Rollover { .. }));
        let first = |(index, channel): (usize, &Channel)| {
            first_value(channel, mix(key ^ index as u64), near_end && affected == Some(index))
        };
        let last = class.channels.iter().enumerate().map(first).collect();
        let carry = vec![0.0; class.channels.len()].into_boxed_slice();
        let schedule = Schedule::new(class.interval_ms(), start_ms, late);
        let onset = ONSET_MIN + mix(key ^ 0xfa) % ONSET_SPREAD;
        Self { class, key, schedule, fault, affected, onset, onset_ms: 0, taken: 0, last, carry }
    }

    pub(super) const fn next_ms(&self) -> i64 {
        self.schedule.next_ms()
    }

    /// A model that began at the same instant as before comes to the same values again.
    pub(crate) fn resume(&mut self, newest_ms: i64) {
        let mut row = vec![0; self.class.channels.len()];
        while self.next_ms() <= newest_ms && self.take(newest_ms, &mut row).is_some() {}
    }

    pub(super) const fn duplicates(&self) -> bool {
        matches!(self.fault, Some(Fault::Duplicate))
    }

    pub(super) const fn disorders(&self) -> bool {
        matches!(self.fault, Some(Fault::Disorder))
    }

    pub(super) fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken> {
        loop {
            let time_ms = self.schedule.take_due(event_ms)?;
            self.taken += 1;
            if self.taken == self.onset {
                self.onset_ms = time_ms;
            }
            let faulty = self.taken >= self.onset;
            if faulty && matches!(self.fault, Some(Fault::Silent)) {
                continue;
            }
            self.read(time_ms, faulty, row);
            let alarm = self.taken == self.onset && self.alarms();
            let unit_ms = i64::from(self.class.time_unit_ms);
            let offset_ms = match self.fault {
                Some(Fault::Clock { offset_s }) if faulty => (offset_s * 1000).div_euclid(unit_ms) * unit_ms,
                _ => 0,
            };
            return Some(Taken { time_ms: time_ms + offset_ms, alarm });
        }
    }

    /// A leap of a gauge is what a class that alarms by itself alarms for.
    fn alarms(&self) -> bool {
        let gauge = self.affected.and_then(|index| self.class.channels.get(index));
        self.class.report.on_alarm.is_some()
            && gauge.is_some_and(|channel| channel.kind == Kind::Gauge)
            && matches!(self.fault, Some(Fault::Step { .. }))
    }

    fn read(&mut self, time_ms: i64, faulty: bool, row: &mut [i64]) {
        let onset = self.taken == self.onset;
        let since_onset_h = hours(time_ms - self.onset_ms);
        let interval_h = hours(self.class.interval_ms());
        let instant = time_ms.div_euclid(self.class.interval_ms());
        for (index, channel) in self.class.channels.iter().enumerate() {
            let (Some(last), Some(carry), Some(slot)) =
                (self.last.get_mut(index), self.carry.get_mut(index), row.get_mut(index))
            else {
                continue;
            };
            let fault = self.fault.as_ref().filter(|_| faulty && self.affected == Some(index));
            let noise = mix(self.key ^ mix(time_ms.cast_unsigned() ^ (index as u64) << 56));
            let level = course(&channel.simulate, time_ms, noise);
            *last = match (channel.kind, fault) {
                (_, Some(Fault::Stuck { .. })) => *last,
                (_, Some(&Fault::Constant { value, .. })) => to_wire(value * channel.scale()),
                (Kind::Register, Some(Fault::Swap { .. })) if onset => 0,
                (Kind::Register, fault) => {
                    let level = match fault {
                        Some(&Fault::Step { by, .. }) => level.max(0.0) + by,
                        Some(&Fault::Drift { per_h, .. }) => level.max(0.0) + per_h * since_onset_h,
                        _ => level,
                    };
                    let sign = if matches!(fault, Some(Fault::Reverse { .. })) { -1.0 } else { 1.0 };
                    advance(channel, *last, carry, sign * level.max(0.0) * interval_h)
                }
                (Kind::Identity, _) => {
                    *last + i64::from(onset && matches!(self.fault, Some(Fault::Swap { .. })))
                }
                (_, Some(&Fault::Drift { per_h, .. })) => on_steps(channel, level + per_h * since_onset_h),
                (_, Some(&Fault::Step { by, .. })) => on_steps(channel, level + by),
                (_, Some(&Fault::Status { bits })) => i64::from(bits),
                _ => on_steps(channel, level),
            };
            let carried = channel.every < 2 || instant.rem_euclid(i64::from(channel.every)) == 0;
            let on_wire = last.unsigned_abs() < MAGNITUDE_END.unsigned_abs();
            *slot = if carried && on_wire { *last } else { ABSENT };
        }
    }
}

/// The class's channel that a fault changes.
fn affected_channel(class: &Class, fault: &Fault) -> Option<usize> {
    let is_affected = |channel: &Channel| match fault {
        Fault::Status { .. } => channel.number == STATUS_CHANNEL,
        _ => fault.channel() == Some(channel.name.as_str()),
    };
    class.channels.iter().position(is_affected)
}

/// The value of a channel's shape, in its unit, before noise is cut to the range.
fn course(shape: &Shape, time_ms: i64, noise: u64) -> f64 {
    if shape.active > 0.0 && unit(mix(noise ^ 0xac)) >= shape.active {
        return 0.0;
    }
    let mut value = shape.base;
    if shape.daily != 0.0 {
        let hour = hours((time_ms + LOCAL_MS).rem_euclid(DAY_MS));
        value += shape.daily * (TAU * (hour - shape.peak_h) / 24.0).cos();
    }
    if shape.seasonal != 0.0 {
        // Mid January of 1970, and of every year to within a day.
        let days = hours(time_ms) / 24.0 - 14.5;
        value += shape.seasonal * (TAU * days / 365.2425).cos();
    }
    if shape.noise != 0.0 {
        value += shape.noise * gauss(noise);
    }
    value
}

/// Cut to the class's range and onto the instrument's steps.
fn on_steps(channel: &Channel, value: f64) -> i64 {
    let step = f64::from(channel.resolution.max(1));
    let (low, high) = (channel.min * channel.scale(), channel.max * channel.scale());
    let wire = (value * channel.scale()).clamp(low, high);
    to_wire(((wire / step).round() * step).clamp((low / step).ceil() * step, (high / step).floor() * step))
}

/// A register after `used` more, in its unit; it rolls over at its width, also downwards.
fn advance(channel: &Channel, last: i64, carry: &mut f64, used: f64) -> i64 {
    let step = i64::from(channel.resolution.max(1));
    *carry += used * channel.scale();
    let whole = to_wire(*carry) / step * step;
    *carry -= from_wire(whole);
    let width = channel.rollover.map(|end| to_wire(end * channel.scale())).filter(|&width| width > 0);
    width.map_or(last + whole, |width| (last + whole).rem_euclid(width))
}

/// Where a channel stands when the model begins.
fn first_value(channel: &Channel, key: u64, near_end: bool) -> i64 {
    let (low, high) = (to_wire(channel.min * channel.scale()), to_wire(channel.max * channel.scale()));
    let step = i64::from(channel.resolution.max(1));
    match channel.kind {
        Kind::Register => {
            let width = channel.rollover.map_or(high, |end| to_wire(end * channel.scale())).max(2);
            // Ten hours of mean use before the end, or anywhere in the lower half.
            let ahead = to_wire(channel.simulate.base.max(0.0) * channel.scale() * 10.0).max(step);
            let value = if near_end { width - ahead } else { to_wire(unit(key) * from_wire(width / 2)) };
            value.max(0) / step * step
        }
        Kind::Identity => low.max(1) + to_wire(unit(key) * from_wire((high - low.max(1)).max(0) / 2)),
        _ => low,
    }
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

/// A bijection that scatters (the finaliser of a 64-bit xor-shift-multiply hash).
const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Uniform in [0, 1).
fn unit(bits: u64) -> f64 {
    const SCALE: f64 = 1.0 / 4_294_967_296.0;
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) * SCALE
}

/// Nearly normal: the sum of twelve uniforms, here of 16 bits each, less its mean.
fn gauss(bits: u64) -> f64 {
    let sum = |bits: u64| -> f64 { bits.to_le_bytes().into_iter().map(f64::from).sum() };
    // Sixteen bytes have the mean 2,040 and the standard deviation 295.6.
    (sum(bits) + sum(mix(bits)) - 2040.0) / 295.6
}

#[expect(clippy::cast_possible_truncation, reason = "channel ranges stay below 2^53, and the cast saturates")]
fn to_wire(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "wire integers stay below 2^53")]
const fn from_wire(value: i64) -> f64 {
    value as f64
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
