//! The line-protocol encoder against a parser of its own, made from InfluxDB's description of the format: whatever names the
//! registry bears and whatever values a device sent, each line is read back as exactly the tags, fields, types and time that
//! it was made from, or the registry is refused.
//!
//! An input is a supply of choices: names, ids, decimals, values, times.

use hunhe_fuzz::{Chance, run};
use hunhe_gateway::{
    decided::{self, Decided, StoredChannel},
    sinks::influx::line_protocol::{Dialect, Encoder, Style, Unwritable},
};
use hunhe_gateway_core::registry::{Enrolment, Registry};
use hunhe_proto::{class::Class, id::Id, reading::ABSENT};
use std::{collections::BTreeMap, sync::Arc};

const CLASS: &str = r#"
name = "x"
version = 1
title = { zh = "表", en = "Meter" }
time_unit_ms = 1000
interval = 60
report = { samples = 24, silent_after_s = 200000 }
"#;

const CHANNEL: &str = r#"
number = 1
name = "x"
title = { zh = "量", en = "Volume" }
unit = "m3"
kind = "gauge"
min = 0.0
max = 1.0
"#;

/// Choices from an input; zeros behind its end.
struct Supply<'a>(&'a [u8]);

impl Supply<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn word(&mut self) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Below 2^53 in magnitude, as the wire allows, or absent; often small, often at an edge.
    fn value(&mut self) -> i64 {
        match self.byte() % 8 {
            0 => ABSENT,
            1 => (1 << 53) - 1,
            2 => 1 - (1 << 53),
            3 | 4 => self.word() >> 11,
            _ => i64::from(self.byte().cast_signed()),
        }
    }

    /// Mostly letters, often what separates, ends or escapes in line protocol.
    fn name(&mut self) -> String {
        const HOSTILE: [&str; 24] = [
            ",", " ", "=", "\\", "\"", "#", "\n", "\r", "\t", "\0", "_", "燃", "é", "\u{202e}", "\u{85}",
            "\u{2028}", "🦀", "'", "{", "}", "\u{7f}", "i", "_15m", "quality",
        ];
        let length = self.byte() % 7;
        (0..length)
            .map(|_| match self.byte() {
                hostile @ 0..64 => HOSTILE[usize::from(hostile) % HOSTILE.len()].to_owned(),
                plain => char::from(b'a' + plain % 26).to_string(),
            })
            .collect()
    }

    fn id(&mut self) -> Id {
        const PLAIN: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz0123456789-";
        let length = 1 + self.byte() % 32;
        let head = PLAIN[usize::from(self.byte()) % 36];
        let tail = (1..length).map(|_| PLAIN[usize::from(self.byte()) % 37]);
        let bytes: Vec<u8> = std::iter::once(head).chain(tail).collect();
        Id::from_bytes(&bytes).unwrap()
    }
}

/// A number as it stands in the text: digits, and how many of them follow the point.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: i128,
    places: u32,
}

impl Decimal {
    /// Is it exactly `wire` × 10^-`decimals`?
    fn is(self, wire: i128, decimals: u8) -> bool {
        let scaled = |digits: i128, by: u32| 10_i128.checked_pow(by)?.checked_mul(digits);
        let (left, right) = (scaled(self.digits, decimals.into()), scaled(wire, self.places));
        left.is_some() && left == right
    }

    #[expect(clippy::cast_precision_loss, reason = "compared within a bound")]
    fn about(self) -> f64 {
        self.digits as f64 / 10_f64.powi(self.places.cast_signed())
    }
}

/// A point of line protocol, fields all of the type float.
#[derive(Debug)]
struct Point {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: BTreeMap<String, Decimal>,
    time: i64,
}

/// Reads strictly: nothing is guessed, skipped or repaired.
struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    fn expect(&mut self, wanted: u8) {
        assert!(
            self.take(wanted),
            "{:?} is missing before {:?}",
            char::from(wanted),
            self.rest.escape_ascii()
        );
    }

    /// Up to the first unescaped one of `ends`. A backslash escapes the `special` characters and stands for itself before any
    /// other; where databases differ over that, there must be none.
    fn text(&mut self, ends: &[u8], special: &[u8]) -> String {
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().expect("a name ends before the line does");
            if ends.contains(&byte) {
                break;
            }
            self.rest = &self.rest[1..];
            match byte {
                b'\\' => {
                    let next = self.peek().expect("a backslash ends the input");
                    assert!(special.contains(&next), "a backslash before {:?}", char::from(next));
                    self.rest = &self.rest[1..];
                    bytes.push(next);
                }
                b',' | b' ' | b'\n' | b'"' => panic!("{:?} stands in a name", char::from(byte)),
                _ => bytes.push(byte),
            }
        }
        let text = String::from_utf8(bytes).expect("names are UTF-8");
        assert!(!text.is_empty(), "a name is empty");
        assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
        text
    }

    /// Digits, perhaps with a sign and a point: a float. An integer would end with `i` or `u`, all else is another type.
    fn decimal(&mut self) -> Decimal {
        let negative = self.take(b'-');
        let (mut digits, mut places, mut whole) = (0_i128, 0, 0);
        let mut point = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'0'..=b'9' => {
                    digits = digits * 10 + i128::from(byte - b'0');
                    whole += u32::from(!point);
                    places += u32::from(point);
                }
                b'.' if !point => point = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        assert!(whole > 0 && (places > 0) == point, "no float");
        Decimal { digits: if negative { -digits } else { digits }, places }
    }

    fn line(&mut self) -> Point {
        let measurement = self.text(b", ", b", ");
        assert!(!measurement.starts_with(['_', '#']), "{measurement:?} is the database's own, or a comment");
        let mut tags = Vec::new();
        while self.take(b',') {
            let key = self.text(b"=", b",= ");
            self.expect(b'=');
            assert!(!key.starts_with('_') && key != "time");
            tags.push((key, self.text(b", ", b",= ")));
        }
        self.expect(b' ');
        let mut fields = BTreeMap::new();
        loop {
            let key = self.text(b"=", b",= ");
            assert!(!key.starts_with('_') && key != "time");
            self.expect(b'=');
            let value = self.decimal();
            assert!(fields.insert(key, value).is_none(), "a field stands twice");
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b' ');
        let time = self.decimal();
        assert_eq!(time.places, 0, "a time is an integer");
        self.expect(b'\n');
        Point { measurement, tags, fields, time: time.digits.try_into().unwrap() }
    }
}

fn points(body: &[u8]) -> Vec<Point> {
    let mut parser = Parser { rest: body };
    let mut points = Vec::new();
    while !parser.rest.is_empty() {
        points.push(parser.line());
    }
    points
}

/// A channel as a record has it.
fn compact(channel: StoredChannel) -> u64 {
    u64::from(channel.number()) << 4 | u64::from(channel.decimals())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Numbers as they stand.
fn plain(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    varint(out, 1);
    numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn head(kind_cause: u64, device: Id) -> Vec<u8> {
    let mut out = kind_cause.to_le_bytes().to_vec();
    out.push(device.as_str().len() as u8);
    out.extend_from_slice(device.as_str().as_bytes());
    // A place in another registry: the id decides.
    out.extend_from_slice(&[0; 12]);
    out
}

/// What is fed, and what must come of it.
struct Case {
    class: Class,
    enrolment: Enrolment,
    style: Style,
    boot: u32,
    first_seq: u64,
    times: Vec<i64>,
    quality: Vec<u8>,
    /// Channel after channel.
    values: Vec<Vec<i64>>,
    length_ms: i64,
    revision: u32,
    expected: u32,
    /// Count, sum, min, max, last.
    stats: Vec<(u32, i128, [i64; 3])>,
}

impl Case {
    fn of(input: &[u8]) -> Self {
        let mut supply = Supply(input);
        let mut class: Class = toml::from_str(&format!("{CLASS}[[channels]]{CHANNEL}")).unwrap();
        let channel = class.channels[0].clone();
        class.name = supply.name();
        let count = 1 + usize::from(supply.byte() % 4);
        class.channels = (1..=count as u16)
            .map(|number| {
                let (name, decimals) = (supply.name(), supply.byte() % 10);
                hunhe_proto::class::Channel { number, name, decimals, ..channel.clone() }
            })
            .collect();
        let enrolment = Enrolment {
            id: supply.id(),
            pseudonym: supply.id(),
            class: class.name.clone(),
            agent: supply.id(),
            operator: supply.id(),
            district: u32::from(supply.byte()) * 1_000,
            zone: supply.id(),
            position: (123.4, 41.8),
        };
        let dialect = if supply.byte() % 2 == 0 { Dialect::Influxdb } else { Dialect::Victoriametrics };
        let style = Style { dialect, provenance: supply.byte() % 2 == 0 };
        let rows = 1 + usize::from(supply.byte() % 5);
        let column = |supply: &mut Supply<'_>| (0..rows).map(|_| supply.value()).collect();
        let mean = |supply: &mut Supply<'_>| {
            let count = u32::from(supply.byte());
            (
                count,
                i128::from(supply.word()) * i128::from(supply.byte()),
                std::array::from_fn(|_| supply.value().max(-(1 << 53))),
            )
        };
        Self {
            class,
            enrolment,
            style,
            boot: supply.word() as u32,
            first_seq: supply.word() as u64 >> 11,
            times: (0..rows).map(|_| supply.word() >> 11).collect(),
            quality: (0..rows).map(|_| supply.byte() % 7).collect(),
            values: (0..count).map(|_| column(&mut supply)).collect(),
            length_ms: [60_000, 900_000, 3_600_000, 86_400_000, 7][usize::from(supply.byte()) % 5],
            revision: supply.word() as u32,
            expected: supply.byte().into(),
            stats: (0..count).map(|_| mean(&mut supply)).collect(),
        }
    }

    fn channels(&self) -> impl Iterator<Item = StoredChannel> {
        self.class.channels.iter().map(|channel| StoredChannel::new(channel.number, channel.decimals))
    }

    fn samples(&self) -> Vec<u8> {
        let mut out = head(1, self.enrolment.id);
        out.extend_from_slice(&self.boot.to_le_bytes());
        out.push(0);
        let rows = self.times.len() as u64;
        // Consecutive sequence numbers, no more.
        [rows, rows, 1, self.values.len() as u64].into_iter().for_each(|number| varint(&mut out, number));
        self.channels().for_each(|channel| varint(&mut out, compact(channel)));
        signed(&mut out, self.first_seq.cast_signed());
        [0, 1].into_iter().for_each(|number| signed(&mut out, number));
        plain(&mut out, self.times.iter().copied());
        plain(&mut out, self.quality.iter().map(|&code| code.into()));
        self.values.iter().for_each(|column| plain(&mut out, column.iter().copied()));
        out
    }

    fn window(&self) -> Vec<u8> {
        let mut out = head(1, self.enrolment.id);
        varint(&mut out, 1);
        signed(&mut out, self.length_ms);
        varint(&mut out, self.expected.into());
        varint(&mut out, self.stats.len() as u64);
        self.channels().for_each(|channel| varint(&mut out, compact(channel)));
        [self.times[0], 1].into_iter().for_each(|number| signed(&mut out, number));
        [0, self.revision.into()].into_iter().for_each(|number| plain(&mut out, [number].into_iter()));
        for (count, sum, [min, max, last]) in &self.stats {
            let columns = [(*count).into(), *last, last.wrapping_sub(*min), max.wrapping_sub(*last)];
            columns.into_iter().for_each(|number| plain(&mut out, [number].into_iter()));
            let likely = i128::from(*min) + i128::from(*max) + (i128::from(*count) - 2) * i128::from(*last);
            out.push(1);
            out.extend_from_slice(&(sum - likely).to_le_bytes());
        }
        out
    }

    fn has_the_tags(&self, point: &Point) {
        let Enrolment { pseudonym, district, operator, zone, .. } = &self.enrolment;
        let wanted = [
            ("device", pseudonym.to_string()),
            ("district", district.to_string()),
            ("operator", operator.to_string()),
            ("zone", zone.to_string()),
        ];
        assert_eq!(point.tags, wanted.map(|(key, value)| (key.to_owned(), value)));
    }

    fn is_the_sample(&self, point: &Point, row: usize) {
        assert_eq!((point.measurement.as_str(), point.time), (self.class.name.as_str(), self.times[row]));
        self.has_the_tags(point);
        let mut fields = 0;
        let mut has = |name: &str, wire: i128, decimals: u8| {
            let found = point.fields.get(name).unwrap_or_else(|| panic!("no field {name:?}"));
            assert!(found.is(wire, decimals), "{name:?}: {found:?} is not {wire} by {decimals}");
            fields += 1;
        };
        for (channel, column) in self.class.channels.iter().zip(&self.values) {
            if column[row] != ABSENT {
                has(&channel.name, column[row].into(), channel.decimals);
            }
        }
        if self.quality[row] != 1 {
            has("quality", self.quality[row].into(), 0);
        }
        if self.style.provenance {
            has("boot", self.boot.into(), 0);
            has("seq", i128::from(self.first_seq) + row as i128, 0);
        }
        assert_eq!(point.fields.len(), fields, "{point:?}");
    }

    fn is_the_window(&self, point: &Point) {
        let suffix = match self.length_ms {
            60_000 => "_1m",
            900_000 => "_15m",
            3_600_000 => "_1h",
            _ => "_1d",
        };
        assert_eq!(point.measurement, format!("{}{suffix}", self.class.name));
        self.has_the_tags(point);
        let offset = match self.style.dialect {
            Dialect::Influxdb => 0,
            Dialect::Victoriametrics => 1 + i64::from(self.revision.min(998)),
        };
        assert_eq!(point.time, self.times[0] + offset);
        let mut fields = 1 + usize::from(self.expected > 0) + 1;
        let of = |name: String| {
            *point.fields.get(&name).unwrap_or_else(|| panic!("no field {name:?} in {point:?}"))
        };
        assert!(
            of("expected".into()).is(self.expected.into(), 0)
                && of("revision".into()).is(self.revision.into(), 0)
        );
        for (channel, (count, sum, [min, max, last])) in self.class.channels.iter().zip(&self.stats) {
            if *count == 0 {
                continue;
            }
            fields += 6;
            let (name, decimals) = (&channel.name, channel.decimals);
            assert!(of(format!("{name}_min")).is((*min).into(), decimals));
            assert!(of(format!("{name}_max")).is((*max).into(), decimals));
            assert!(of(format!("{name}_last")).is((*last).into(), decimals));
            assert!(of(format!("{name}_sum")).is(*sum, decimals));
            assert!(of(format!("{name}_count")).is((*count).into(), 0));
            #[expect(clippy::cast_precision_loss, reason = "compared within a bound")]
            let mean = *sum as f64 / f64::from(*count) / 10_f64.powi(decimals.into());
            let found = of(format!("{name}_mean")).about();
            assert!((found - mean).abs() <= 1e-6 + mean.abs() * 1e-9, "{found} is not {mean}");
        }
        assert_eq!(point.fields.len(), fields, "{point:?}");
    }
}

fn judge(input: &[u8]) -> bool {
    let case = Case::of(input);
    let mut registry = Registry::new(vec![case.class.clone()]);
    registry.enrol(case.enrolment.clone()).unwrap();
    let Ok(mut encoder) = Encoder::new(Arc::new(registry), case.style) else { return false };
    let (record, mut body, mut rows) = (case.samples(), Vec::new(), Vec::new());
    let mut buffers = decided::Buffers::default();
    let Ok(Decided::Samples(sets)) = decided::read(1, &record, &mut buffers) else {
        panic!("the record is one")
    };
    for samples in sets.iter() {
        encoder.samples(&mut body, &samples, |row, _| rows.push(row)).unwrap();
    }
    let read = points(&body);
    assert_eq!(read.len(), rows.len());
    let with_value = |row: &usize| case.values.iter().any(|column| column[*row] != ABSENT);
    assert_eq!(rows, (0..case.times.len()).filter(with_value).collect::<Vec<_>>());
    read.iter().zip(rows).for_each(|(point, row)| case.is_the_sample(point, row));

    let (record, mut body) = (case.window(), Vec::new());
    let read = decided::read(2, &record, &mut buffers);
    let Ok(Decided::Windows(windows)) = read else { panic!("the record is one") };
    let Some(window) = windows.iter().next() else { panic!("the window is there") };
    match encoder.window(&mut body, &window) {
        Ok(()) => {
            let read = points(&body);
            let [point] = read.as_slice() else { panic!("{} lines", read.len()) };
            case.is_the_window(point);
        }
        Err(Unwritable::WindowLength(7)) => assert!(body.is_empty() && case.length_ms == 7),
        Err(error) => panic!("{error}"),
    }
    true
}

#[test]
fn every_line_reads_back_as_what_it_was_made_of() {
    let _alone = crate::alone();
    let mut chance = Chance::new(7);
    let made = (0..60).map(|_| (0..400).map(|_| chance.bits().to_le_bytes()[5]).collect());
    let outcome = run(&crate::target("line_protocol", made.collect(), 1 << 20), judge);
    crate::reached_both_sides(outcome);
}
