//! The arithmetic of shapes: values by time, and onto the instrument's steps.

use super::{DAY_MS, LOCAL_MS, hours, work::Shift};
use hunhe_proto::class::{Channel, Kind, Shape, Track};
use std::f64::consts::TAU;

/// Metres of a degree of latitude.
const DEGREE_M: f64 = 111_320.0;
/// Devices at one place stand up to this many degrees beside it: a kilometre.
const BESIDE_DEG: f64 = 0.01;

/// What a course depends on beside the shape.
pub(super) struct Moment {
    pub(super) time_ms: i64,
    pub(super) key: u64,
    pub(super) place: Option<(f64, f64)>,
    pub(super) shift: Option<Shift>,
}

/// The value of the shape of channel `index`, in its unit, before it is cut to the range.
pub(super) fn course(shape: &Shape, index: usize, moment: &Moment) -> f64 {
    let time_ms = moment.time_ms;
    if let (Some(rest), Some(shift)) = (shape.rest, &moment.shift)
        && !shift.working
    {
        return rest;
    }
    let noise = mix(moment.key ^ mix(time_ms.cast_unsigned() ^ (index as u64) << 56));
    if shape.active > 0.0 && unit(mix(noise ^ 0xac)) >= shape.active {
        return 0.0;
    }
    let mut value = shape.base;
    if shape.spread != 0.0 {
        value += shape.spread * own(moment.key, index);
    }
    if let Some(track) = shape.track {
        return along(track, value, index, moment);
    }
    if shape.daily != 0.0 {
        let hour = hours((time_ms + LOCAL_MS).rem_euclid(DAY_MS));
        value += shape.daily * (TAU * (hour - shape.peak_h) / 24.0).cos();
    }
    if shape.seasonal != 0.0 {
        // Mid January of 1970, and of every year to within a day.
        let days = hours(time_ms) / 24.0 - 14.5;
        value += shape.seasonal * (TAU * days / 365.2425).cos();
    }
    if shape.wave != 0.0 && shape.wave_h > 0.0 {
        value += shape.wave * (TAU * (hours(time_ms) / shape.wave_h + own(moment.key, index))).cos();
    }
    if shape.noise != 0.0 {
        value += shape.noise * gauss(noise);
    }
    value
}

/// A device's own draw for a channel, in [-1, 1).
fn own(key: u64, index: usize) -> f64 {
    2.0 * unit(mix(key ^ 0x0517 ^ (index as u64) << 48)) - 1.0
}

/// A machine on its field: at 2 m/s up and down lanes of 400 m, each 3 m beside the one before.
fn along(track: Track, mean: f64, index: usize, moment: &Moment) -> f64 {
    const SPEED_M_S: f64 = 2.0;
    const LANE_M: f64 = 400.0;
    const SWATH_M: f64 = 3.0;
    let worked_s = moment.shift.as_ref().map_or(0.0, |shift| shift.worked_s);
    let path_m = SPEED_M_S * worked_s;
    let lane = (path_m / LANE_M).floor();
    let returns = lane % 2.0 == 1.0;
    let beside = BESIDE_DEG * own(moment.key, index);
    match track {
        Track::North => {
            let done_m = path_m - lane * LANE_M;
            let north_m = if returns { LANE_M - done_m } else { done_m };
            moment.place.map_or(mean, |(_, lat)| lat + beside) + north_m / DEGREE_M
        }
        Track::East => {
            // A degree of longitude at the city's latitude of 42 degrees.
            let degree_m = DEGREE_M * 0.743;
            moment.place.map_or(mean, |(lon, _)| lon + beside) + lane * SWATH_M / degree_m
        }
        Track::Heading => f64::from(u8::from(returns)) * 180.0,
    }
}

/// Cut to the class's range and onto the instrument's steps.
pub(super) fn on_steps(channel: &Channel, value: f64) -> i64 {
    let step = f64::from(channel.resolution.max(1));
    let (low, high) = (channel.min * channel.scale(), channel.max * channel.scale());
    let wire = (value * channel.scale()).clamp(low, high);
    to_wire(((wire / step).round() * step).clamp((low / step).ceil() * step, (high / step).floor() * step))
}

/// A register after `used` more, in its unit; it rolls over at its width, also downwards.
pub(super) fn advance(channel: &Channel, last: i64, carry: &mut f64, used: f64) -> i64 {
    let step = i64::from(channel.resolution.max(1));
    *carry += used * channel.scale();
    let whole = to_wire(*carry) / step * step;
    *carry -= from_wire(whole);
    let width = channel.rollover.map(|end| to_wire(end * channel.scale())).filter(|&width| width > 0);
    width.map_or(last + whole, |width| (last + whole).rem_euclid(width))
}

/// Where a channel stands when the model begins.
pub(super) fn first_value(channel: &Channel, key: u64, near_end: bool) -> i64 {
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

/// A bijection that scatters (the finaliser of a 64-bit xor-shift-multiply hash).
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Uniform in [0, 1).
pub(super) fn unit(bits: u64) -> f64 {
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
pub(super) fn to_wire(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "wire integers stay below 2^53")]
const fn from_wire(value: i64) -> f64 {
    value as f64
}
