//! The recording's files, read here once more and in another way than the agent reads them: split at commas, each cell
//! as a 64-bit float. What the databases hold is compared with this.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use crate::{database::Points, seeds};

/// A recording as its files have it.
#[derive(Debug, Default)]
pub struct Recording {
    /// (device, class), in order of the files.
    pub devices: Vec<(String, String)>,
    /// The values by (device, channel), in order of time.
    pub values: BTreeMap<(String, String), Points>,
    /// Rows of a device with at least one value: what an agent samples.
    pub samples: u64,
    /// First and last time with a row, in milliseconds since 1970.
    pub extent_ms: (i64, i64),
}

/// The folder of the ten district metered areas.
#[must_use]
pub fn folder() -> PathBuf {
    seeds("recordings/dma")
}

impl Recording {
    /// Both files.
    #[must_use]
    pub fn read() -> Self {
        let mut recording = Self { extent_ms: (i64::MAX, i64::MIN), ..Self::default() };
        for class in ["dma_flow", "weather_station"] {
            recording.add(&folder().join(format!("{class}.csv")), class);
        }
        recording
    }

    /// Forgets all but the first devices, so that a replay is short.
    pub fn keep_devices(&mut self, count: usize) {
        self.devices.truncate(count);
        let devices: BTreeSet<&str> = self.devices.iter().map(|(device, _)| device.as_str()).collect();
        self.values.retain(|(device, _), _| devices.contains(device.as_str()));
        let rows: BTreeSet<(&str, i64)> = (self.values.iter())
            .flat_map(|((device, _), points)| points.iter().map(|(time, _)| (device.as_str(), *time)))
            .collect();
        self.samples = rows.len() as u64;
    }

    /// How many values there are.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }

    /// A device list for the gateway: every device behind `agent`.
    #[must_use]
    pub fn device_list(&self, agent: &str) -> String {
        let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
        for (device, class) in &self.devices {
            writeln!(text, "{device},{class},water,210102,dma-1,{agent},123.4,41.8").expect("text grows");
        }
        text
    }

    fn add(&mut self, path: &Path, class: &str) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut lines = text.lines();
        let header: Vec<(String, String)> = lines
            .next()
            .expect("a header")
            .split(',')
            .skip(1)
            .map(|name| {
                name.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("device:channel")
            })
            .collect();
        for (device, _) in &header {
            if self.devices.last().is_none_or(|(last, _)| last != device) {
                self.devices.push((device.clone(), class.to_owned()));
            }
        }
        for line in lines {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!(cells.len(), header.len() + 1, "{line}");
            let time_ms = time_ms(cells[0]);
            self.extent_ms = (self.extent_ms.0.min(time_ms), self.extent_ms.1.max(time_ms));
            let mut sampled = None;
            for (cell, key) in cells[1..].iter().zip(&header).filter(|(cell, _)| !cell.is_empty()) {
                let value: f64 = cell.parse().unwrap_or_else(|_| panic!("{cell:?} in {line}"));
                self.values.entry(key.clone()).or_default().push((time_ms, value));
                // Columns of one device stand side by side.
                if sampled != Some(&key.0) {
                    sampled = Some(&key.0);
                    self.samples += 1;
                }
            }
        }
    }
}

/// `2021-01-01T00:00:00Z` in milliseconds since 1970.
///
/// # Panics
/// The text is of another form.
#[must_use]
pub fn time_ms(text: &str) -> i64 {
    let part = |from: usize, to: usize| -> i64 {
        text.get(from..to).and_then(|part| part.parse().ok()).unwrap_or_else(|| panic!("time {text:?}"))
    };
    assert!(text.len() == 20 && text.ends_with('Z'), "time {text:?}");
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    // Days since 1970 by counting whole years and months.
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let years: i64 = (1970..year).map(|year| 365 + i64::from(leap(year))).sum();
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: i64 = (1..month).zip(lengths).map(|(_, days)| days).sum();
    let days = years + months + day - 1;
    (((days * 24 + part(11, 13)) * 60 + part(14, 16)) * 60 + part(17, 19)) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_holds_what_its_description_says() {
        let recording = Recording::read();
        let of = |class: &str| -> usize {
            let devices = recording.devices.iter().filter(|(_, of)| of == class);
            devices
                .flat_map(|(device, _)| recording.values.iter().filter(move |((of, _), _)| of == device))
                .map(|(_, points)| points.len())
                .sum()
        };
        assert_eq!((of("dma_flow"), of("weather_station")), (186_619, 77_886));
        assert_eq!(recording.devices.len(), 11);
        assert_eq!(recording.extent_ms, (1_609_455_600_000, 1_680_296_400_000));
    }
}
