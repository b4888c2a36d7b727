//! Station gas detectors that say what a test wants said, and the one rule that watches them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hunhe_proto::{id::Id, reading::Header, topic};

use crate::{
    publisher::Publisher,
    wire::{report, up_topic},
};

/// The rule's id.
pub const RULE: &str = "test_ch4";

/// Methane at or above 25 %LEL, over below 20: at once, so that each raise and each end is the test's own doing.
pub const RULES: &str = r#"
[[rules]]
id = "test_ch4"
version = 1
class = "gas_station_detector"
severity = "critical"
title = { zh = "甲烷高报", en = "Methane, high" }
source = "D: for tests"
when = { channel = "ch4", at_least = 25.0, clear_below = 20.0 }
"#;

/// In wire integers, 0.01 %LEL: over the threshold, and below its end.
pub const HIGH: i64 = 5_725;
/// Below the threshold's end.
pub const LOW: i64 = 150;
/// The channel.
pub const CH4: u16 = 1;
/// The version of the class that they follow: of `seeds/classes/gas_station_detector.toml`.
pub const CLASS_VERSION: u32 = 3;

/// The id of a detector, from 0.
#[must_use]
pub fn id(number: usize) -> String {
    format!("det-{number}")
}

/// A device list of detectors, each its own agent.
#[must_use]
pub fn list(detectors: usize) -> String {
    let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
    for number in 0..detectors {
        let id = id(number);
        text += &format!("{id},gas_station_detector,gas,210102,station-heping,{id},123.4,41.8\n");
    }
    text
}

/// Writes the rule's file below `dir`; answers its folder.
///
/// # Panics
/// It cannot be written.
#[must_use]
pub fn write_rules(dir: &Path) -> PathBuf {
    let rules = dir.join("rules");
    fs::create_dir_all(&rules).expect("a folder");
    fs::write(rules.join("test.toml"), RULES).expect("rules");
    rules
}

/// The same with a list of detectors; answers both as keys of `[registry]`.
///
/// # Panics
/// They cannot be written.
#[must_use]
pub fn registry(dir: &Path, detectors: usize) -> String {
    let (rules, devices) = (write_rules(dir), dir.join("devices.csv"));
    fs::write(&devices, list(detectors)).expect("a list");
    format!("rules = {rules:?}\ndevices = [{devices:?}]")
}

/// One detector's outbox.
#[derive(Debug, Clone)]
pub struct Detector {
    /// Its id.
    pub id: String,
    topic: String,
    boot: u32,
    seq: u64,
}

impl Detector {
    /// With nothing sent.
    #[must_use]
    pub fn new(number: usize, boot: u32) -> Self {
        let id = id(number);
        Self { topic: up_topic(&id), id, boot, seq: 0 }
    }

    /// The same on the alarm session.
    ///
    /// # Panics
    /// Never: the id is valid.
    #[must_use]
    pub fn alarming(number: usize, boot: u32) -> Self {
        let device = Self::new(number, boot);
        Self { topic: topic::alarm(Id::new(&device.id).expect("an id")), ..device }
    }

    /// Leaves out so many samples, which nobody will ever explain.
    pub fn skip(&mut self, samples: u64) {
        self.seq += samples;
    }

    /// Publishes values ten seconds apart, the first at `from_s` since 1970.
    ///
    /// # Errors
    /// The broker ended the connection.
    pub fn publish(&mut self, publisher: &mut Publisher, from_s: i64, values: &[i64]) -> std::io::Result<()> {
        let class_version = Some(CLASS_VERSION);
        let header = Header { boot: self.boot, seq: self.seq, class_version, ..Header::default() };
        self.seq += values.len() as u64;
        publisher.publish(self.topic.as_bytes(), &report(header, from_s, CH4, values))
    }
}

/// `2026-01-02T03:04:05.000Z`, as the gateway writes it.
#[must_use]
pub fn instant(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date of a day count (Howard Hinnant's algorithm), years 1970 and later.
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z - era * 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000Z", rest / 3_600, rest / 60 % 60, rest % 60)
}
