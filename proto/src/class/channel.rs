//! Faults of one channel of a class.

use super::{CHANNEL_MAX, Channel, Kind};

impl Channel {
    /// All faults of the channel by itself. A key without an effect is a fault as well.
    pub(super) fn faults_found(&self, fault: &mut impl FnMut(&str, &str)) {
        if !is_name(&self.name) || self.name == "quality" || self.name.ends_with("_q") {
            fault("name", "must be a lower-case name, and not `quality` nor end in `_q`");
        }
        if self.number > CHANNEL_MAX {
            fault("number", "must be 0 to 255");
        }
        if self.min.partial_cmp(&self.max) != Some(core::cmp::Ordering::Less) {
            fault("min", "must be below max");
        }
        if self.decimals > 9 {
            fault("decimals", "must be 0 to 9");
        }
        let bound = 9_007_199_254_740_992.0 / self.scale();
        if !(self.min.abs() < bound && self.max.abs() < bound) {
            fault("max", "times 10^decimals must stay below 2^53");
        }
        if self.rollover.is_some() && self.kind != Kind::Register {
            fault("rollover", "only a register rolls over");
        }
        let usual = [self.usual_min, self.usual_max];
        if usual.into_iter().flatten().any(|bound| !(self.min..=self.max).contains(&bound)) {
            fault("usual_min", "usual_min and usual_max must lie within min and max");
        }
        if usual.into_iter().flatten().next().is_some() && self.kind != Kind::Gauge {
            fault("usual_min", "usual_min and usual_max are judged for gauges only");
        }
        if self.change_per_h_max.is_some() && !matches!(self.kind, Kind::Gauge | Kind::Register) {
            fault("change_per_h_max", "is judged for gauges and registers only");
        }
        if self.change_per_h_max.is_some_and(|change| !(change > 0.0 && change < bound)) {
            fault("change_per_h_max", "must be above 0, and below 2^53 times 10^decimals");
        }
    }
}

pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
