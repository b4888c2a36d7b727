//! Which values of a record were refused, and by which bound: read from its payload when somebody looks.

use crate::{
    api::types::{Breach, Instant, RefusedValue},
    decided::{Refused, StoredChannel},
    store::{Store, StoreError},
};
use hunhe_gateway_core::{
    event::{ABSENT, Reason},
    registry::{ChannelRules, DeviceIx, Registry},
    validate::refusal_of,
};
use hunhe_proto::{class::Channel, decode::decode, reading::Report};

/// Values that are shown of a record.
const SHOWN_MAX: usize = 8;

/// The values that the class's bounds refuse, among the refused samples.
pub(super) fn of_message(registry: &Registry, device: DeviceIx, refused: &Refused<'_>) -> Vec<RefusedValue> {
    let by_value =
        |reason: &str| [Reason::OutOfRange, Reason::Resolution].iter().any(|of| of.name() == reason);
    let ranges: Vec<_> = refused.ranges().filter(|(.., reason)| by_value(reason)).collect();
    let rules = registry.class_of(device);
    let mut report = Report::default();
    if ranges.is_empty() || decode(refused.payload, rules.axis, &mut report).is_err() {
        return Vec::new();
    }
    // In the version's own limits, and the newest version's integers.
    let said = report.header.class_version.and_then(|version| rules.version(version));
    let version = said.unwrap_or(rules.newest());
    let mut found = Vec::new();
    for (seq, time_ms, number, value) in each_value(&report) {
        let Some(judged) = version.channel(number) else { continue };
        let is_refused = ranges.iter().any(|&(first, count, _)| seq >= first && seq - first < count);
        if !is_refused {
            continue;
        }
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
    device: DeviceIx,
    refused: &Refused<'_>,
) -> Result<Vec<RefusedValue>, StoreError> {
    let rules = registry.class_of(device);
    let mut report = Report::default();
    let key = store.find_device(registry.device(device).pseudonym.as_str());
    let (Some(key), Ok(())) = (key, decode(refused.payload, rules.axis, &mut report)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (seq, time_ms, number, value) in each_value(&report).take(SHOWN_MAX) {
        let Some(at) = rules.position(number) else { continue };
        let channel = &rules.class.channels[at];
        let stored: Vec<StoredChannel> = StoredChannel::all_of(channel).collect();
        let bits: Vec<u16> = stored.iter().map(|channel| channel.bits()).collect();
        let rows = store.scan(key, time_ms..time_ms.saturating_add(1), &bits)?;
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
