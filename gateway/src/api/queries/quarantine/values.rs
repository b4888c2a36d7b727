//! Which values of a record were refused, and by which bound: read from its payload when somebody looks.

use crate::{
    api::types::{Breach, Instant, RefusedValue},
    decided::{Refused, StoredChannel},
};
use hunhe_gateway_core::{
    device::validate::refusal_of,
    event::{ABSENT, Reason},
    registry::{ChannelRules, ClassRules, DeviceIx, Registry},
};
use hunhe_proto::{class::Channel, decode::decode, reading::Report};
use hunhe_store::{BLOCK_ROWS, Store, StoreError};

/// Values that are shown of a record.
const SHOWN_MAX: usize = 8;

/// Where payloads are decoded, and how much was: a payload of 3 kB may hold as many values as one of 60 kB.
#[derive(Debug, Default)]
pub(in crate::api::queries) struct Decoding {
    report: Report,
    /// Times and values of payloads, and values of blocks read from the store.
    pub(super) values: usize,
}

impl Decoding {
    /// Is it a report?
    fn decode(&mut self, payload: &[u8], rules: &ClassRules) -> bool {
        let is_report = decode(payload, rules.axis, &mut self.report).is_ok();
        self.values += self.report.times_ms.len() + self.report.values.len();
        is_report
    }
}

/// The values that the class's bounds refuse, among the refused samples.
pub(super) fn of_message(
    registry: &Registry,
    decoding: &mut Decoding,
    device: DeviceIx,
    refused: &Refused<'_>,
) -> Vec<RefusedValue> {
    let by_value =
        |reason: &str| [Reason::OutOfRange, Reason::Resolution].iter().any(|of| of.name() == reason);
    let ranges = refused.ranges().filter(|(.., reason)| by_value(reason));
    let mut ranges: Vec<(u64, u64)> = ranges.map(|(first, count, _)| (first, count)).collect();
    let rules = registry.class_of(device);
    if ranges.is_empty() || !decoding.decode(refused.payload, rules) {
        return Vec::new();
    }
    let report = &decoding.report;
    ranges.sort_unstable();
    // In the version's own limits, and the newest version's integers.
    let reported = report.header.class_version.and_then(|version| rules.version(version));
    let version = reported.unwrap_or(rules.newest());
    let mut found = Vec::new();
    for (seq, time_ms, number, value) in each_value(report) {
        // Each sample is refused once: of the ranges that begin at or before it the last.
        let at = ranges.partition_point(|&(first, _)| first <= seq);
        let last = ranges[..at].last();
        if last.is_none_or(|&(first, count)| seq - first >= count) {
            continue;
        }
        let Some(judged) = version.channel(number) else { continue };
        let channel = &rules.class.channels[judged.at];
        let value = value.saturating_mul(judged.factor);
        if let Some((breach, limit)) = breach_of(&judged.converted, channel, value) {
            found.push(shown(channel, (seq, time_ms, value), breach, limit));
        }
        if found.len() == SHOWN_MAX {
            break;
        }
    }
    found
}

/// The values in which the loser of two samples differs from the one that stays.
pub(super) fn of_conflict(
    registry: &Registry,
    store: &Store,
    decoding: &mut Decoding,
    device: DeviceIx,
    refused: &Refused<'_>,
) -> Result<Vec<RefusedValue>, StoreError> {
    let rules = registry.class_of(device);
    let key = store.find_device(registry.device(device).pseudonym.as_str());
    let Some(key) = key.filter(|_| decoding.decode(refused.payload, rules)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (seq, time_ms, number, value) in each_value(&decoding.report).take(SHOWN_MAX) {
        let Some(at) = rules.position(number) else { continue };
        let channel = &rules.class.channels[at];
        let stored: Vec<StoredChannel> = StoredChannel::all_of(channel).collect();
        let bits: Vec<u16> = stored.iter().map(|channel| channel.bits()).collect();
        let rows = store.scan(key, time_ms..time_ms.saturating_add(1), &bits)?;
        decoding.values += BLOCK_ROWS * bits.len();
        let kept = stored.iter().enumerate().find_map(|(column, stored)| {
            let kept = *rows.column(column).first().filter(|&&kept| kept != ABSENT)?;
            Some(kept.saturating_mul(stored.factor_to(channel.decimals)))
        });
        if let Some(kept) = kept.filter(|&kept| kept != value) {
            found.push(shown(channel, (seq, time_ms, value), Breach::Differs, channel.value(kept)));
        }
    }
    Ok(found)
}

/// Sequence number, time, channel number and wire integer of each value that is there.
fn each_value(report: &Report) -> impl Iterator<Item = (u64, i64, u16, i64)> {
    report.blocks.iter().flat_map(move |block| {
        block.samples.clone().flat_map(move |row| {
            let columns = report.columns[block.columns.clone()].iter();
            columns.filter_map(move |column| {
                let value = *report.values_of(column).get(row - block.samples.start)?;
                let seq = report.header.seq.saturating_add(row as u64);
                (value != ABSENT).then(|| (seq, report.times_ms[row], column.channel, value))
            })
        })
    })
}

#[expect(clippy::cast_precision_loss, reason = "a step of an instrument is small")]
fn breach_of(rules: &ChannelRules, channel: &Channel, value: i64) -> Option<(Breach, f64)> {
    match refusal_of(rules, value)? {
        Reason::Resolution => Some((Breach::BetweenSteps, rules.step as f64 / channel.scale())),
        _ if value < rules.low => Some((Breach::Below, channel.value(rules.low))),
        _ => Some((Breach::Above, channel.value(rules.high))),
    }
}

fn shown(
    channel: &Channel,
    (seq, time_ms, value): (u64, i64, i64),
    breach: Breach,
    limit: f64,
) -> RefusedValue {
    RefusedValue {
        time: Instant(time_ms),
        seq,
        channel: channel.name.clone(),
        value: channel.value(value),
        unit: channel.unit.clone(),
        breach,
        limit,
    }
}

pub(super) fn in_words(value: &RefusedValue) -> String {
    let RefusedValue { channel, value, unit, breach, limit, .. } = value;
    match breach {
        Breach::Below => format!("{channel} = {value} {unit} < {limit} {unit}"),
        Breach::Above => format!("{channel} = {value} {unit} > {limit} {unit}"),
        Breach::BetweenSteps => format!("{channel} = {value} {unit} is between steps of {limit} {unit}"),
        Breach::Differs => format!("{channel} = {value} {unit}, while {limit} {unit} stays"),
    }
}
