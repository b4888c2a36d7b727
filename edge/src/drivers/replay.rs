//! A recording: series that somebody measured, in CSV, replayed value by value.
//!
//! A folder holds `recording.toml` (title, licence, citation, and per file its path and class) and CSV files. A header is
//! `time,<device>:<channel>,…`, times are RFC 3339 in UTC and rise, an empty cell is a missing value. A row without
//! any value of a device is a gap of that device: nothing is sampled.
//!
//! Promise: a decimal text becomes the wire's integer exactly. A value with more decimals than its channel carries,
//! and anything else that cannot be kept exactly, is an error that names file, line and column.

use super::{Driver, Taken};
use crate::{classes::Classes, clock::parse_utc};
use hunhe_proto::{class::Class, column::MAGNITUDE_END, id::DeviceId, reading::ABSENT};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A recording that cannot be replayed exactly.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {what}", .file.display())]
pub struct RecordingError {
    /// The file at fault.
    pub file: PathBuf,
    /// Its line, from 1; 0 where it is the file as a whole.
    pub line: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

/// One device's series.
#[derive(Debug)]
pub struct Series {
    /// The device it is replayed as.
    pub device: DeviceId,
    /// Its class.
    pub class: Arc<Class>,
    times_ms: Vec<i64>,
    /// One value per channel of the class for each time, [`ABSENT`] where there is none.
    values: Vec<i64>,
}

impl Series {
    /// The times of its samples, in milliseconds since 1970.
    #[must_use]
    pub fn times_ms(&self) -> &[i64] {
        &self.times_ms
    }

    /// The values of its sample `index`, one per channel of the class.
    #[must_use]
    pub fn row(&self, index: usize) -> &[i64] {
        let width = self.class.channels.len();
        self.values.get(index * width..(index + 1) * width).unwrap_or_default()
    }
}

/// Plays a series; clones of the series share its memory.
#[derive(Debug)]
pub struct Player {
    series: Arc<Series>,
    next: usize,
}

impl Player {
    /// From the first sample at or after `from_ms`.
    #[must_use]
    pub fn new(series: Arc<Series>, from_ms: i64) -> Self {
        let next = series.times_ms.partition_point(|&time| time < from_ms);
        Self { series, next }
    }
}

impl Driver for Player {
    fn resume(&mut self, newest_ms: i64) {
        self.next = self.next.max(self.series.times_ms.partition_point(|&time| time <= newest_ms));
    }

    fn next_ms(&self) -> Option<i64> {
        self.series.times_ms.get(self.next).copied()
    }

    fn take(&mut self, event_ms: i64, row: &mut [i64]) -> Option<Taken> {
        let time_ms = self.next_ms().filter(|&time| time <= event_ms)?;
        row.copy_from_slice(self.series.row(self.next));
        self.next += 1;
        Some(Taken { time_ms, alarm: false })
    }
}

/// Reads the recording in `folder`.
///
/// # Errors
/// The first thing in it that cannot be replayed exactly.
pub fn load(folder: &Path, classes: &Classes) -> Result<Vec<Arc<Series>>, RecordingError> {
    let about = folder.join("recording.toml");
    let error = |what: String| RecordingError { file: about.clone(), line: 0, what };
    let text = std::fs::read_to_string(&about).map_err(|e| error(format!("cannot read: {e}")))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|e| error(e.to_string().trim_end().to_string()))?;
    for key in ["title", "licence", "citation"] {
        if !table.contains_key(key) {
            return Err(error(format!("{key}: is missing; a recording says what it is and whose")));
        }
    }
    let mut series = Vec::new();
    for (path, name) in files(&table).map_err(error)? {
        let class = classes.get(name).ok_or_else(|| error(format!("file: no class is called {name:?}")))?;
        let file = folder.join(path);
        let text = std::fs::read_to_string(&file).map_err(|e| RecordingError {
            file: file.clone(),
            line: 0,
            what: format!("cannot read: {e}"),
        })?;
        let parsed = parse(&text, class).map_err(|(line, what)| RecordingError { file, line, what })?;
        series.extend(parsed.into_iter().map(Arc::new));
    }
    Ok(series)
}

/// `[[file]]` with `path`, a plain file name, and `class`.
fn files(table: &toml::Table) -> Result<Vec<(&str, &str)>, String> {
    let files = table
        .get("file")
        .and_then(toml::Value::as_array)
        .ok_or("file: is missing; name each CSV as [[file]]")?;
    files
        .iter()
        .map(|file| {
            let (path, class) = (file.get("path"), file.get("class"));
            match (path.and_then(toml::Value::as_str), class.and_then(toml::Value::as_str)) {
                (Some(path), Some(class)) if !path.contains(['/', '\\']) => Ok((path, class)),
                _ => Err("file: needs path, a file name in the same folder, and class".to_string()),
            }
        })
        .collect()
}

/// Parses one class's CSV text; the error is (line, what).
pub(crate) fn parse(text: &str, class: &Arc<Class>) -> Result<Vec<Series>, (usize, String)> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end_matches('\r')));
    let (_, header) = lines.next().ok_or((1, "is empty; expected a header".to_string()))?;
    let mut names = header.split(',');
    if names.next() != Some("time") {
        return Err((1, "the first column must be `time`".into()));
    }
    let mut series: Vec<Series> = Vec::new();
    let columns: Vec<(usize, usize)> = names
        .map(|name| place(name, class, &mut series))
        .collect::<Result<_, _>>()
        .map_err(|what| (1, what))?;
    let width = class.channels.len();
    let mut rows = vec![ABSENT; series.len() * width];
    let mut last_ms = i64::MIN;
    for (line, text) in lines.filter(|(_, text)| !text.is_empty()) {
        let mut cells = text.split(',');
        let time = cells.next().unwrap_or_default();
        let unit_ms = i64::from(class.time_unit_ms);
        let time_ms = parse_utc(time).filter(|ms| ms % unit_ms == 0).ok_or_else(|| {
            (line, format!("time {time:?} is no UTC time on the class's clock of {unit_ms} ms"))
        })?;
        if time_ms <= last_ms {
            return Err((line, format!("time {time:?} does not follow the one above")));
        }
        last_ms = time_ms;
        rows.fill(ABSENT);
        for &(device, channel) in &columns {
            let cell = cells.next().ok_or((line, "has fewer cells than the header".to_string()))?;
            if !cell.is_empty() {
                let spec = &class.channels[channel];
                rows[device * width + channel] = decimal(cell, spec.decimals).map_err(|what| {
                    (line, format!("column {}:{}: {what}", series[device].device, spec.name))
                })?;
            }
        }
        if cells.next().is_some() {
            return Err((line, "has more cells than the header".into()));
        }
        for (series, row) in series.iter_mut().zip(rows.chunks(width)) {
            if row.iter().any(|&value| value != ABSENT) {
                series.times_ms.push(time_ms);
                series.values.extend_from_slice(row);
            }
        }
    }
    Ok(series)
}

/// The series and channel of a header cell; a new device starts a series.
fn place(name: &str, class: &Arc<Class>, series: &mut Vec<Series>) -> Result<(usize, usize), String> {
    let (device, channel) =
        name.split_once(':').ok_or_else(|| format!("column {name:?} must be <device>:<channel>"))?;
    let device = DeviceId::new(device).map_err(|error| format!("column {name:?}: {error}"))?;
    let channel = class
        .channels
        .iter()
        .position(|known| known.name == channel)
        .ok_or_else(|| format!("column {name:?}: class {} has no such channel", class.name))?;
    let index = series.iter().position(|known| known.device == device).unwrap_or_else(|| {
        series.push(Series { device, class: Arc::clone(class), times_ms: Vec::new(), values: Vec::new() });
        series.len() - 1
    });
    Ok((index, channel))
}

/// A decimal text as an integer scaled by 10^`decimals`, exactly.
///
/// # Errors
/// What is wrong with it: no number, more decimals than the channel carries, or beyond 2^53.
pub fn decimal(text: &str, decimals: u8) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || (digits.contains('.') && fraction.is_empty())
    {
        return Err(format!("{text:?} is no decimal number"));
    }
    // Zeros at the end say how it was printed, not what was measured.
    let fraction = fraction.trim_end_matches('0');
    let decimals = usize::from(decimals);
    if fraction.len() > decimals {
        return Err(format!("{text:?} has more decimals than the {decimals} that the channel carries"));
    }
    let mut value: i64 = 0;
    for digit in
        whole.bytes().chain(fraction.bytes()).chain(core::iter::repeat_n(b'0', decimals - fraction.len()))
    {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .filter(|&value| value < MAGNITUDE_END)
            .ok_or_else(|| format!("{text:?} reaches 2^53 in the channel's smallest unit"))?;
    }
    Ok(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::dma_flow;
    use proptest::prelude::*;

    #[test]
    fn decimals_become_integers_exactly_or_are_refused() {
        for (text, decimals, value) in [
            ("3.5625", 4, 35_625),
            ("0.0", 0, 0),
            ("79.0", 1, 790),
            ("-0.07", 2, -7),
            ("7", 3, 7_000),
            ("9007199254740.991", 3, MAGNITUDE_END - 1),
            // No 64-bit float times 10 gives this: 1.15 * 100 is 114.99999999999999.
            ("1.15", 2, 115),
        ] {
            assert_eq!(decimal(text, decimals), Ok(value), "{text}");
        }
        for (text, why) in [
            ("3.56251", "more decimals"),
            ("", "no decimal"),
            ("-", "no decimal"),
            ("1e5", "no decimal"),
            ("NaN", "no decimal"),
            ("1.", "no decimal"),
            (".5", "no decimal"),
            ("+1", "no decimal"),
            ("900719925474.0992", "2^53"),
            ("99999999999999999999999", "2^53"),
        ] {
            assert!(decimal(text, 4).is_err_and(|error| error.contains(why)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_scaled_integer_comes_back_from_its_text(value in 1 - MAGNITUDE_END..MAGNITUDE_END, decimals in 0..=9_u8) {
            let scale = 10_i64.pow(u32::from(decimals));
            let (whole, part) = (value.unsigned_abs() / scale.unsigned_abs(), value.unsigned_abs() % scale.unsigned_abs());
            let sign = if value < 0 { "-" } else { "" };
            let text = if decimals == 0 { format!("{sign}{whole}") } else {
                format!("{sign}{whole}.{part:0width$}", width = usize::from(decimals))
            };
            prop_assert_eq!(decimal(&text, decimals), Ok(value));
        }
    }

    #[test]
    fn empty_cells_are_gaps_and_no_samples() {
        let text = "time,dma-1:flow,dma-2:flow\n\
                    2020-12-31T23:00:00Z,,3.7\n\
                    2021-01-01T00:00:00Z,,\n\
                    2021-01-01T01:00:00Z,1.25,2.5\n";
        let series = parse(text, &dma_flow()).unwrap();
        let played = |index: usize| -> Vec<_> {
            let series: &Series = &series[index];
            series.times_ms().iter().zip(0..).map(|(&time, row)| (time, series.row(row).to_vec())).collect()
        };
        assert_eq!(played(0), [(1_609_462_800_000, vec![12_500])]);
        assert_eq!(played(1), [(1_609_455_600_000, vec![37_000]), (1_609_462_800_000, vec![25_000])]);
    }

    #[test]
    fn a_fault_names_line_and_column() {
        let parse = |text: &str| parse(text, &dma_flow()).err().unwrap();
        let head = "time,dma-1:flow\n";
        let row = |cells: &str| format!("{head}2020-12-31T23:00:00Z,{cells}\n");
        assert_eq!(
            parse(&row("3.70001")),
            (
                2,
                "column dma-1:flow: \"3.70001\" has more decimals than the 4 that the channel carries".into()
            )
        );
        assert!(parse(&row("1,2")).1.contains("more cells"));
        assert!(parse(&format!("{head}2020-12-31T23:00:00Z\n")).1.contains("fewer cells"));
        assert!(parse(&format!("{head}2020-12-31T23:00:30Z,1\n")).1.contains("on the class's clock"));
        assert!(parse(&format!("{}2020-12-31T23:00:00Z,1\n", row("1"))).1.contains("does not follow"));
        assert!(parse("time,dma-1:pressure\n").1.contains("no such channel"));
        assert!(parse("time,DMA 1:flow\n").1.contains("lower-case"));
    }
}
