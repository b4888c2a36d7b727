//! Which of the lines that the database took are not there. Pure: lines in, questions out, answers in, missing lines out.
//!
//! A line is there if at least one of its fields has a point in the line's second: within one second VictoriaMetrics keeps
//! the last point alone (`-dedup.minScrapeInterval=1s`), so that a point may stand for the one it replaced.
//!
//! Questions name at most [`DEVICES_MAX`] devices and a span of time without a gap of more than [`GAP_MS`] between the
//! lines' times; an answer is taken line by line, whatever its length, and only what was asked for is kept.

use std::collections::HashMap;

/// Devices a question.
const DEVICES_MAX: usize = 50;
/// Longer gaps begin another question.
const GAP_MS: i64 = 6 * 3_600_000;

/// A line as the database should hold it.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    device: String,
    time_ms: i64,
    /// Names of its series.
    names: Vec<String>,
}

/// All points of these devices in this time, the ends included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) devices: Vec<String>,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// A search for lines.
#[derive(Debug)]
pub(super) struct Search {
    wanted: Vec<Wanted>,
    /// By device, then second.
    places: HashMap<String, HashMap<i64, Vec<usize>>>,
    found: Vec<bool>,
}

impl Search {
    /// For lines of ours. One that is none is never found.
    pub(super) fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let wanted: Vec<Wanted> = lines.map(|line| parse(line).unwrap_or_else(nowhere)).collect();
        let mut places: HashMap<String, HashMap<i64, Vec<usize>>> = HashMap::new();
        for (at, want) in wanted.iter().enumerate() {
            let seconds = places.entry(want.device.clone()).or_default();
            seconds.entry(second_of(want.time_ms)).or_default().push(at);
        }
        let found = vec![false; wanted.len()];
        Self { wanted, places, found }
    }

    /// What to ask.
    pub(super) fn questions(&self) -> Vec<Question> {
        let mut devices: Vec<&String> = self.places.keys().filter(|device| !device.is_empty()).collect();
        devices.sort();
        let mut questions = Vec::new();
        for devices in devices.chunks(DEVICES_MAX) {
            let seconds = devices.iter().filter_map(|device| self.places.get(*device));
            let mut ends_ms: Vec<i64> =
                seconds.flat_map(|seconds| seconds.keys().map(|second| second * 1000)).collect();
            ends_ms.sort_unstable();
            for run in ends_ms.chunk_by(|before, after| after - before <= GAP_MS) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                questions.push(Question {
                    devices: devices.iter().map(|device| (*device).clone()).collect(),
                    from_ms: first - 999,
                    to_ms: *last,
                });
            }
        }
        questions
    }

    /// Takes a point of an answer: `device,milliseconds,name`.
    pub(super) fn note(&mut self, point: &str) {
        let mut parts = point.splitn(3, ',');
        let (Some(device), Some(time), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return;
        };
        let Ok(time_ms) = time.parse() else { return };
        let at = self.places.get(device).and_then(|seconds| seconds.get(&second_of(time_ms)));
        for &at in at.into_iter().flatten() {
            if self.wanted[at].names.iter().any(|known| known == name) {
                self.found[at] = true;
            }
        }
    }

    /// The lines that no answer held, counted from 0.
    pub(super) fn missing(&self) -> Vec<usize> {
        (0..self.found.len()).filter(|&at| !self.found[at]).collect()
    }
}

/// The second whose last point stands for all in it: points up to a full second belong to it.
fn second_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(1000) + i64::from(time_ms.rem_euclid(1000) > 0)
}

fn nowhere() -> Wanted {
    Wanted { device: String::new(), time_ms: 0, names: Vec::new() }
}

/// Reads a line that [`crate::sinks::influx::line_protocol`] wrote.
fn parse(line: &str) -> Option<Wanted> {
    let mut parts = split(line.trim_end(), ' ');
    let (series, fields, time) = (parts.next()?, parts.next()?, parts.next()?);
    let mut series = split(series, ',');
    let measurement = unescaped(series.next()?);
    let device = series.find_map(|tag| tag.strip_prefix("device=").map(unescaped))?;
    let names = split(fields, ',').filter_map(|field| {
        let (key, _) = field.rsplit_once('=')?;
        Some(format!("{measurement}_{}", unescaped(key)))
    });
    Some(Wanted { device, time_ms: time.parse().ok()?, names: names.collect() })
}

/// Parts between separators that no backslash escapes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let is_end = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    })
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "gas_meter,device=p-1,operator=gas,zone=a\\ b volume=1.5,pressure=2 1000\n",
        "gas_meter,device=p-2,operator=gas volume=1.5 1000\n",
        "gas_meter_1h,device=p-1,operator=gas volume_max=3,revision=1 2002\n",
        "water\\ meter,device=p-1 total\\,all=1 90000000\n",
    ];

    fn search() -> Search {
        Search::new(LINES.into_iter())
    }

    #[test]
    fn a_line_is_there_where_one_of_its_fields_is() {
        let mut search = search();
        assert_eq!(search.missing(), [0, 1, 2, 3]);
        search.note("p-1,1000,gas_meter_pressure");
        assert_eq!(search.missing(), [1, 2, 3]);
        search.note("p-2,1000,gas_meter_pressure");
        search.note("p-3,1000,gas_meter_volume");
        search.note("p-2,1001,gas_meter_volume");
        search.note("p-2,0,gas_meter_volume");
        assert_eq!(search.missing(), [1, 2, 3], "another field, device, and the seconds beside");
        search.note("p-1,90000000,water meter_total,all");
        search.note("p-2,1,gas_meter_volume");
        assert_eq!(search.missing(), [2], "another point of its second stands for it");
        for not_a_point in ["", "p-1", "p-1,x,gas_meter_1h_revision"] {
            search.note(not_a_point);
        }
        search.note("p-1,2900,gas_meter_1h_revision");
        assert!(search.missing().is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_missing() {
        let mut search = Search::new(["nonsense", LINES[0]].into_iter());
        assert_eq!(search.questions().len(), 1);
        search.note(",0,");
        search.note("p-1,1000,gas_meter_volume");
        assert_eq!(search.missing(), [0]);
    }

    #[test]
    fn questions_cover_every_second_asked_for_and_no_long_gap() {
        let questions = search().questions();
        let devices = vec!["p-1".to_owned(), "p-2".to_owned()];
        assert_eq!(
            questions,
            [
                Question { devices: devices.clone(), from_ms: 1, to_ms: 3000 },
                Question { devices, from_ms: 89_999_001, to_ms: 90_000_000 },
            ]
        );
        let many: Vec<String> = (0..120).map(|n| format!("m,device=d-{n} v=1 {}\n", n * 1000)).collect();
        let questions = Search::new(many.iter().map(String::as_str)).questions();
        assert_eq!(questions.iter().map(|question| question.devices.len()).collect::<Vec<_>>(), [50, 50, 20]);
    }
}
