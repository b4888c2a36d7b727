//! Comparison of what is stored with what the recording's files say.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    database::{Points, VictoriaMetrics},
    gateway::Gateway,
    recording::Recording,
};

/// Longest stretch of a series asked at once, in milliseconds: below the interface's bound on points.
const STRETCH_MS: i64 = 400 * 86_400_000;
/// Names that end so, before the statistic, are rollups: they stand beside what was measured.
const ROLLUPS: [&str; 4] = ["_1m_", "_15m_", "_1h_", "_1d_"];

/// How a store differs from the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Values of the file that are not stored.
    pub lost: u64,
    /// Values stored twice.
    pub doubled: u64,
    /// Values stored that the file does not have, or has otherwise.
    pub invented: u64,
}

impl Difference {
    /// Adds what a series differs by.
    fn add(&mut self, name: &str, expected: &Points, found: &Points) {
        let mut wanted = expected.iter().peekable();
        let mut last = None;
        let before = *self;
        for point in found {
            while wanted.next_if(|wanted| wanted.0 < point.0).is_some() {
                self.lost += 1;
            }
            if wanted.next_if(|wanted| *wanted == point).is_some() {
                last = Some(point);
            } else if last.is_some_and(|last| last.0 == point.0) {
                self.doubled += 1;
            } else {
                self.invented += 1;
            }
        }
        self.lost += wanted.count() as u64;
        if *self != before {
            println!("{name}: {} expected, {} found, {self:?} so far", expected.len(), found.len());
        }
    }
}

/// VictoriaMetrics against the file. With `raw` a value written twice counts as doubled although the database would
/// answer it once.
#[must_use]
pub fn in_database(database: &VictoriaMetrics, recording: &Recording, raw: bool) -> Difference {
    let mut found = database.export("(dma_flow|weather_station)_.*", raw);
    found.retain(|(name, _), _| !ROLLUPS.iter().any(|rollup| name.contains(rollup)));
    let mut difference = Difference::default();
    for ((device, channel), expected) in &recording.values {
        let class = class_of(recording, device);
        let name = format!("{class}_{channel}");
        let points = found.remove(&(name.clone(), device.clone())).unwrap_or_default();
        difference.add(&format!("{name} of {device}"), expected, &points);
    }
    for ((name, device), points) in found {
        println!("nobody measured {name} of {device}: {:?} …", points.first());
        difference.invented += points.len() as u64;
    }
    difference
}

/// The embedded store, by the gateway's HTTP interface, against the file.
#[must_use]
pub fn in_gateway(gateway: &Gateway, recording: &Recording) -> Difference {
    let mut channels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let classes = gateway.http.json("/api/v1/classes");
    let mut difference = Difference::default();
    for (device, class) in &recording.devices {
        let channels = channels.entry(class).or_insert_with(|| channels_of(&classes, class));
        for channel in channels.iter() {
            let found = series(gateway, device, channel, recording.extent_ms);
            let expected = recording.values.get(&(device.clone(), channel.clone()));
            difference.add(&format!("{channel} of {device}"), expected.unwrap_or(&Vec::new()), &found);
        }
    }
    difference
}

fn class_of<'a>(recording: &'a Recording, device: &str) -> &'a str {
    let found = recording.devices.iter().find(|(known, _)| known == device);
    found.map(|(_, class)| class.as_str()).expect("a device of the recording")
}

fn channels_of(classes: &Value, class: &str) -> Vec<String> {
    let classes = classes["items"].as_array().or_else(|| classes.as_array()).expect("classes");
    let class = classes.iter().find(|known| known["name"] == class).expect("the class");
    let channels = class["channels"].as_array().expect("channels");
    channels.iter().map(|channel| channel["name"].as_str().expect("a name").to_owned()).collect()
}

fn series(gateway: &Gateway, device: &str, channel: &str, extent_ms: (i64, i64)) -> Points {
    let mut points = Points::new();
    // A margin on both sides, for what should not be there.
    let (mut from, end) = (extent_ms.0 - STRETCH_MS, extent_ms.1 + STRETCH_MS);
    while from < end {
        let to = from + STRETCH_MS;
        let path = format!("/api/v1/devices/{device}/series?channel={channel}&from={from}&to={to}");
        let answer = gateway.http.json(&path);
        let (times, values) = (answer["times"].as_array(), answer["values"].as_array());
        let pairs = times.expect("times").iter().zip(values.expect("values"));
        // A null is a gap.
        points.extend(pairs.filter_map(|(time, value)| Some((time.as_i64()?, value.as_f64()?))));
        from = to;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let file: Points = vec![(1, 1.0), (2, 2.0), (3, 3.0)];
        let against = |found: &[(i64, f64)]| {
            let mut difference = Difference::default();
            difference.add("x", &file, &found.to_vec());
            (difference.lost, difference.doubled, difference.invented)
        };
        assert_eq!(against(&file), (0, 0, 0));
        assert_eq!(against(&[(1, 1.0), (3, 3.0)]), (1, 0, 0));
        assert_eq!(against(&[(1, 1.0), (2, 2.0), (2, 2.0), (3, 3.0)]), (0, 1, 0));
        assert_eq!(against(&[(1, 1.0), (2, 2.0), (3, 3.0), (4, 3.0)]), (0, 0, 1));
        assert_eq!(against(&[(1, 1.0), (2, 2.5), (3, 3.0)]), (1, 0, 1));
        assert_eq!(against(&[(0, 0.0)]), (3, 0, 1));
    }
}
