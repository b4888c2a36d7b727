//! Decided records as line protocol: one line a sample, one line a window.
//!
//! ```text
//! gas_meter,device=g-1f,district=210102,operator=gas,zone=dma-7 volume=1234.567,pressure=2.1 1767225600000
//! gas_meter_1h,device=… volume_mean=…,volume_min=…,…,expected=4,completeness=1,revision=0 1767225600000
//! ```
//! Promises
//! - Text comes from the registry alone, escaped once when the encoder is made, its tags sorted; what no escape can carry is
//!   an error then, not a broken line later. Nothing a device sent is text here: its values are integers.
//! - A device appears under its pseudonym.
//! - Every field is a 64-bit float to the database, written as the exact decimal of the wire integer. Absent values are left out.
//! - Times are milliseconds. A window's line bears its start; on VictoriaMetrics its start + 1 + min(revision, 998) ms, since
//!   that database keeps both of two points at one time, and of the points in a second the last.
//!
//! Per line it allocates nothing. Deliberately absent: batching, and any knowledge of HTTP.

use std::sync::Arc;

use hunhe_gateway_core::registry::{ClassIx, ClassRules, DeviceIx, Place, Registry};
use hunhe_proto::{
    id::Id,
    reading::{ABSENT, Quality},
};

use crate::decided::{Samples, StoredChannel, Window, decimal};

/// Whose line protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// InfluxDB 2: a point written again replaces the one before.
    Influxdb,
    /// VictoriaMetrics with `-dedup.minScrapeInterval=1s`.
    Victoriametrics,
}

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whose line protocol.
    pub dialect: Dialect,
    /// Add `boot` and `seq` to each sample; each costs the database as much as a reading.
    pub provenance: bool,
}

/// A class that cannot be written as line protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("class {class:?}: {part} {text:?} {what}")]
pub struct TextError {
    /// The class.
    pub class: String,
    /// Which of its names.
    pub part: &'static str,
    /// The name.
    pub text: String,
    /// What is wrong, and what would be right.
    pub what: &'static str,
}

/// A record of which no line can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The device left the registry since.
    #[error("device is not registered any more: register it and re-drive")]
    UnknownDevice,
    /// There is no name for windows of that length.
    #[error("there is no measurement for windows of {0} ms")]
    WindowLength(i64),
    /// All that the sample has are channels its class does not know.
    #[error("sample has no value of a channel that its class has")]
    NoValue,
}

/// Window lengths in milliseconds, and what they add to the measurement's name.
const ROLLUPS: [(i64, &str); 4] =
    [(60_000, "_1m"), (900_000, "_15m"), (3_600_000, "_1h"), (86_400_000, "_1d")];
/// The last millisecond of a second that a revision may take.
const REVISION_MS_MAX: u32 = 998;

/// A class's names as written.
#[derive(Debug)]
struct ClassText {
    measurement_bytes: usize,
    /// In the order of [`ROLLUPS`].
    rollups: [Box<[u8]>; 4],
    /// In the order of the class's channels.
    fields: Vec<FieldText>,
}

#[derive(Debug)]
struct FieldText {
    /// `name=`
    key: Box<[u8]>,
    /// `name_mean=`, and so on.
    rollups: Box<[Box<[u8]>; 6]>,
}

/// Makes lines of decided records. One per sink: it keeps scratch space.
#[derive(Debug)]
pub struct Encoder {
    registry: Arc<Registry>,
    style: Style,
    classes: Vec<ClassText>,
    /// Every device's `measurement,tags` and a space, one after another.
    series: Vec<u8>,
    /// Where each device's ends.
    series_ends: Vec<usize>,
    /// Each device's class, without all else that the registry knows of it.
    class_of: Vec<ClassIx>,
    /// Of the record at hand: (position in the class, column of the record, decimals there).
    columns: Vec<(usize, usize, u8)>,
}

impl Encoder {
    /// Resolves all text of a registry.
    ///
    /// # Errors
    /// [`TextError`] where a class bears a name that line protocol cannot.
    pub fn new(registry: Arc<Registry>, style: Style) -> Result<Self, TextError> {
        let classes = registry.classes();
        let texts =
            classes.iter().map(|rules| ClassText::new(rules, style)).collect::<Result<Vec<_>, _>>()?;
        check_distinct(classes)?;
        let mut series = Vec::new();
        let mut series_ends = Vec::with_capacity(registry.devices().len());
        for device in registry.devices() {
            let class = &classes[device.class.at()].class;
            put_escaped(&mut series, &class.name, false);
            for (key, value) in [
                ("device", device.pseudonym.as_str()),
                ("district", &device.district.to_string()),
                ("operator", device.operator.as_str()),
                ("zone", registry.zone(device.zone).id.as_str()),
            ] {
                series.push(b',');
                series.extend_from_slice(key.as_bytes());
                series.push(b'=');
                put_escaped(&mut series, value, true);
            }
            series.push(b' ');
            series_ends.push(series.len());
        }
        let class_of = registry.devices().iter().map(|device| device.class).collect();
        Ok(Self { registry, style, classes: texts, series, series_ends, class_of, columns: Vec::new() })
    }

    /// Writes a line for each sample and calls `line` with its row and the end of its line in `out`. A row of which nothing
    /// can be written ([`Unwritable::NoValue`]) is left out.
    ///
    /// # Errors
    /// [`Unwritable::UnknownDevice`]; nothing is written then.
    pub fn samples(
        &mut self,
        out: &mut Vec<u8>,
        samples: &Samples<'_>,
        mut line: impl FnMut(usize, usize),
    ) -> Result<(), Unwritable> {
        let (device, class) = self.find(samples.place, samples.device)?;
        let rules = self.registry.class(class);
        self.columns.clear();
        let known = samples.channels().iter().map(|&bits| StoredChannel::from_bits(bits)).enumerate();
        self.columns.extend(known.filter_map(|(column, channel)| {
            Some((rules.position(channel.number())?, column, channel.decimals()))
        }));
        let (series, text) = (self.series_of(device), &self.classes[class.at()]);
        for row in 0..samples.rows {
            let start = out.len();
            out.extend_from_slice(series);
            let fields = out.len();
            for &(position, column, decimals) in &self.columns {
                let wire = samples.value(column, row);
                if wire == ABSENT {
                    continue;
                }
                let field = &text.fields[position];
                out.extend_from_slice(&field.key);
                decimal::put(out, wire, decimals);
                out.push(b',');
            }
            if out.len() == fields {
                out.truncate(start);
                continue;
            }
            put_sample_tail(out, samples, row, self.style.provenance);
            line(row, out.len());
        }
        Ok(())
    }

    /// Writes a window's line.
    ///
    /// # Errors
    /// [`Unwritable`]; nothing is written then.
    pub fn window(&self, out: &mut Vec<u8>, window: &Window<'_>) -> Result<(), Unwritable> {
        let (device, class) = self.find(window.place, window.device)?;
        let (rules, text) = (self.registry.class(class), &self.classes[class.at()]);
        let length = ROLLUPS.iter().position(|(length_ms, _)| *length_ms == window.length_ms);
        let length = length.ok_or(Unwritable::WindowLength(window.length_ms))?;
        out.extend_from_slice(&text.rollups[length]);
        out.extend_from_slice(&self.series_of(device)[text.measurement_bytes..]);
        let mut most = 0;
        for (channel, stat) in window.stats() {
            most = most.max(stat.count);
            let Some(position) = rules.position(channel.number()) else { continue };
            if stat.count == 0 {
                continue;
            }
            let field = &text.fields[position];
            let [mean, min, max, last, sum, count] = &*field.rollups;
            let decimals = channel.decimals();
            put_field(out, mean, |out| decimal::put_quotient(out, stat.sum, stat.count, decimals));
            put_field(out, min, |out| decimal::put(out, stat.min, decimals));
            put_field(out, max, |out| decimal::put(out, stat.max, decimals));
            put_field(out, last, |out| decimal::put(out, stat.last, decimals));
            put_field(out, sum, |out| decimal::put_wide(out, stat.sum, decimals));
            put_field(out, count, |out| decimal::put(out, stat.count.into(), 0));
        }
        put_field(out, b"expected=", |out| decimal::put(out, window.expected.into(), 0));
        if window.expected > 0 {
            // The best of its channels: a channel that only some samples have does not make a window incomplete. A device
            // that samples more often while an alarm stands is complete, not more than that.
            put_field(out, b"completeness=", |out| {
                decimal::put_quotient(out, most.min(window.expected).into(), window.expected, 0);
            });
        }
        out.extend_from_slice(b"revision=");
        decimal::put(out, window.revision.into(), 0);
        out.push(b' ');
        decimal::put(out, self.window_time_ms(window), 0);
        out.push(b'\n');
        Ok(())
    }

    fn window_time_ms(&self, window: &Window<'_>) -> i64 {
        match self.style.dialect {
            Dialect::Influxdb => window.start_ms,
            Dialect::Victoriametrics => window.start_ms + 1 + i64::from(window.revision.min(REVISION_MS_MAX)),
        }
    }

    /// The device of those samples, if it is registered.
    #[must_use]
    pub fn index_of(&self, samples: &Samples<'_>) -> Option<DeviceIx> {
        self.registry.find_at(samples.place, samples.device)
    }

    fn find(&self, place: Place, id: Id) -> Result<(DeviceIx, ClassIx), Unwritable> {
        let device = self.registry.find_at(place, id).ok_or(Unwritable::UnknownDevice)?;
        Ok((device, self.class_of[device.at()]))
    }

    fn series_of(&self, device: DeviceIx) -> &[u8] {
        let start = device.at().checked_sub(1).map_or(0, |before| self.series_ends[before]);
        &self.series[start..self.series_ends[device.at()]]
    }
}

/// Quality and provenance, then the time in place of the last comma.
#[inline]
fn put_sample_tail(out: &mut Vec<u8>, samples: &Samples<'_>, row: usize, provenance: bool) {
    let quality = samples.quality()[row];
    if quality != Quality::Valid as u8 {
        put_field(out, b"quality=", |out| decimal::put(out, quality.into(), 0));
    }
    if provenance {
        put_field(out, b"boot=", |out| decimal::put(out, samples.boot.into(), 0));
        let seq = i128::from(samples.seqs()[row]);
        put_field(out, b"seq=", |out| decimal::put_wide(out, seq, 0));
    }
    if let Some(comma) = out.last_mut() {
        *comma = b' ';
    }
    decimal::put(out, samples.times_ms()[row], 0);
    out.push(b'\n');
}

#[inline]
fn put_field(out: &mut Vec<u8>, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(key);
    value(out);
    out.push(b',');
}

impl ClassText {
    fn new(rules: &ClassRules, style: Style) -> Result<Self, TextError> {
        let class = &rules.class;
        let error = |part, text: &str, what| TextError {
            class: class.name.clone(),
            part,
            text: text.to_owned(),
            what,
        };
        check(&class.name).map_err(|what| error("name", &class.name, what))?;
        let mut fields = Vec::with_capacity(class.channels.len());
        for (index, channel) in class.channels.iter().enumerate() {
            let name = &channel.name;
            if class.channels[..index].iter().any(|before| before.name == *name) {
                return Err(error("channel", name, "is the name of two channels: choose another"));
            }
            check(name).map_err(|what| error("channel", name, what))?;
            let taken =
                name == "quality" || name == "time" || style.provenance && (name == "boot" || name == "seq");
            if taken {
                return Err(error(
                    "channel",
                    name,
                    "is the name of a field that every class has: choose another",
                ));
            }
            let key = |suffix: &str| {
                let mut key = Vec::new();
                put_escaped(&mut key, name, true);
                key.extend_from_slice(suffix.as_bytes());
                key.push(b'=');
                key.into_boxed_slice()
            };
            let rollups = ["_mean", "_min", "_max", "_last", "_sum", "_count"].map(key);
            fields.push(FieldText { key: key(""), rollups: Box::new(rollups) });
        }
        let mut measurement = Vec::new();
        put_escaped(&mut measurement, &class.name, false);
        let rollups = ROLLUPS.map(|(_, suffix)| [measurement.as_slice(), suffix.as_bytes()].concat().into());
        Ok(Self { measurement_bytes: measurement.len(), rollups, fields })
    }
}

/// A class named like another's rollups would share their series.
fn check_distinct(classes: &[ClassRules]) -> Result<(), TextError> {
    for class in classes.iter().map(|rules| &rules.class.name) {
        let owner = ROLLUPS.iter().find_map(|(_, suffix)| class.strip_suffix(suffix));
        if owner.is_some_and(|owner| classes.iter().any(|rules| rules.class.name == owner)) {
            let what = "is the name of another class's rollups: choose another";
            return Err(TextError { class: class.clone(), part: "name", text: class.clone(), what });
        }
    }
    Ok(())
}

/// What escaping cannot make safe everywhere.
fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty: name it");
    }
    if name.starts_with('_') {
        return Err("begins with `_`, which databases keep for themselves: begin with a letter");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character, which would end the line: use letters, digits and underscores");
    }
    if name.contains(['\\', '"', '#']) {
        return Err(
            "has a backslash, quote or hash sign, which databases read differently: use letters, digits and underscores",
        );
    }
    Ok(())
}

/// Escapes what separates; in a measurement `=` separates nothing, and an escape there would be part of its name.
fn put_escaped(out: &mut Vec<u8>, text: &str, equals: bool) {
    for &byte in text.as_bytes() {
        if byte == b',' || byte == b' ' || equals && byte == b'=' {
            out.push(b'\\');
        }
        out.push(byte);
    }
}
