//! What the encoder writes, as another parser reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hunhe_gateway::decided::{self, Decided};
use hunhe_gateway::sinks::influx::line_protocol::{Dialect, Encoder, Style, TextError, Unwritable};
use hunhe_gateway_core::event::{ABSENT, Decisions};
use hunhe_gateway_core::registry::Registry;
use hunhe_log::{Lsn, Next, Reader};
use proptest::prelude::*;

use crate::fixture::{self, Log, METER, Row, class, registry, registry_of};
use crate::parser::{Point, point, points};

const INFLUX: Style = Style { dialect: Dialect::Influxdb, provenance: false };
const VICTORIA: Style = Style { dialect: Dialect::Victoriametrics, provenance: false };

/// Writes decisions to a log, reads them back and encodes them.
fn encode(registry: &Arc<Registry>, style: Style, decisions: &[Decisions]) -> Result<Vec<u8>, Unwritable> {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), registry);
    decisions.iter().for_each(|decisions| log.append(decisions));
    let mut reader = Reader::open(log.writer.subscribe(), Lsn::FIRST).unwrap();
    let mut encoder = Encoder::new(Arc::clone(registry), style).unwrap();
    let (mut body, mut buffers) = (Vec::new(), decided::Buffers::default());
    while let Next::Record(record) = reader.next().unwrap() {
        match decided::read(record.kind, record.payload, &mut buffers).unwrap() {
            Decided::Samples(sets) => {
                for samples in sets.iter() {
                    let mut ends = Vec::new();
                    encoder.samples(&mut body, &samples, |row, end| ends.push((row, end)))?;
                    assert!(ends.is_sorted());
                    assert_eq!(ends.last().map_or(body.len(), |(_, end)| *end), body.len());
                }
            }
            Decided::Windows(windows) => {
                windows.iter().try_for_each(|window| encoder.window(&mut body, &window))?;
            }
            Decided::Refused(_) | Decided::Judged { .. } => {}
        }
    }
    Ok(body)
}

fn fields(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[test]
fn a_sample_is_one_line_of_its_pseudonym_with_sorted_tags_and_exact_values() {
    let rows = [
        Row { time_ms: 1_767_225_600_000, quality: 1, values: [1_234_567, -5, 2] },
        Row { time_ms: 1_767_229_200_000, quality: 2, values: [1_234_600, ABSENT, 0] },
    ];
    let body = encode(&registry(2), INFLUX, &[fixture::decisions_of(1, 9, 40, &rows)]).unwrap();
    let text = String::from_utf8(body).unwrap();
    assert_eq!(
        text,
        "gas_meter,device=p-1,district=210102,operator=gas,zone=dma-7 volume=1234.567,pressure=-0.5,valve=2 1767225600000\n\
         gas_meter,device=p-1,district=210102,operator=gas,zone=dma-7 volume=1234.6,valve=0,quality=2 1767229200000\n"
    );
    assert!(!text.contains("g-1"), "a household's device id must not be shown");
    assert!(point(text.lines().next().unwrap()).unwrap().tag_order.is_sorted());
}

#[test]
fn provenance_adds_boot_and_seq() {
    let style = Style { provenance: true, ..INFLUX };
    let rows = fixture::hourly(0, 1, 3);
    let read =
        points(&encode(&registry(1), style, &[fixture::decisions_of(0, u32::MAX, 1 << 52, &rows)]).unwrap());
    let expected: Vec<_> = (0..3).map(|n| (f64::from(u32::MAX), 2_f64.powi(52) + f64::from(n))).collect();
    assert_eq!(read.iter().map(|p| (p.fields["boot"], p.fields["seq"])).collect::<Vec<_>>(), expected);
}

#[test]
fn a_window_has_its_statistics_and_on_victoriametrics_a_millisecond_a_revision() {
    let start_ms = 1_767_225_600_000;
    let window = |revision| fixture::window_of(0, 3_600_000, start_ms, revision, &[1000, 2000, 2500]);
    let read = points(&encode(&registry(1), INFLUX, &[window(3)]).unwrap());
    let expected = fields(&[
        ("volume_mean", 1.833_333_333),
        ("volume_min", 1.0),
        ("volume_max", 2.5),
        ("volume_last", 2.5),
        ("volume_sum", 5.5),
        ("volume_count", 3.0),
        ("expected", 4.0),
        ("completeness", 0.75),
        ("revision", 3.0),
    ]);
    assert_eq!((read[0].measurement.as_str(), &read[0].fields), ("gas_meter_1h", &expected));
    assert_eq!(read[0].tags["device"], "p-0");
    assert_eq!(read[0].time_ms, start_ms);
    let dense = fixture::window_of(0, 3_600_000, start_ms, 0, &[1; 9]);
    let dense = points(&encode(&registry(1), INFLUX, &[dense]).unwrap());
    assert_eq!((dense[0].fields["volume_count"], dense[0].fields["completeness"]), (9.0, 1.0));
    for (revision, offset) in [(0, 1), (1, 2), (998, 999), (999, 999), (u32::MAX, 999)] {
        let read = points(&encode(&registry(1), VICTORIA, &[window(revision)]).unwrap());
        assert_eq!(read[0].time_ms - start_ms, offset);
    }
    for (length_ms, name) in
        [(60_000, "gas_meter_1m"), (900_000, "gas_meter_15m"), (86_400_000, "gas_meter_1d")]
    {
        let window = fixture::window_of(0, length_ms, 0, 0, &[1]);
        assert_eq!(points(&encode(&registry(1), INFLUX, &[window]).unwrap())[0].measurement, name);
    }
    let odd = encode(&registry(1), INFLUX, &[fixture::window_of(0, 7, 0, 0, &[1])]);
    assert_eq!(odd, Err(Unwritable::WindowLength(7)));
}

#[test]
fn hostile_names_in_the_registry_are_refused_or_escaped_and_never_break_a_line() {
    let samples = || fixture::decisions_of(0, 1, 0, &fixture::hourly(0, 1, 2));
    for hostile in ["a,b", "a b", "a=b", "a, =b", "燃气", "a'b", ",", "=", " "] {
        for part in ["class", "channel"] {
            let mut class = class(METER);
            let name = if part == "class" { &mut class.name } else { &mut class.channels[0].name };
            hostile.clone_into(name);
            let registry = Arc::new(registry_of(class, 1));
            let window = fixture::window_of(0, 900_000, 0, 0, &[1]);
            let read = points(&encode(&registry, INFLUX, &[samples(), window]).unwrap());
            assert_eq!(read.len(), 3);
            let named = |point: &Point| match part {
                "class" => point.measurement == hostile || point.measurement == format!("{hostile}_15m"),
                _ => {
                    point.fields.contains_key(hostile)
                        || point.fields.contains_key(&format!("{hostile}_mean"))
                }
            };
            assert!(read.iter().all(named), "{part} {hostile:?}: {read:?}");
            assert!(read.iter().all(|point| point.tags.len() == 4));
        }
    }
    for hostile in ["", "a\nb", "a\r", "a\\", "_a", "a\0", "#a", "a\"b", "quality\n", "\u{85}"] {
        for part in ["class", "channel"] {
            let mut class = class(METER);
            let name = if part == "class" { &mut class.name } else { &mut class.channels[0].name };
            hostile.clone_into(name);
            let made = Encoder::new(Arc::new(registry_of(class, 1)), INFLUX);
            assert!(matches!(made, Err(TextError { .. })), "{part} {hostile:?}");
        }
    }
    for (reserved, provenance) in [("quality", false), ("time", false), ("seq", true), ("boot", true)] {
        let mut class = class(METER);
        reserved.clone_into(&mut class.channels[0].name);
        let style = Style { provenance, ..INFLUX };
        assert!(Encoder::new(Arc::new(registry_of(class, 1)), style).is_err());
    }
    let mut rollup = class(METER);
    rollup.name.push_str("_15m");
    assert!(Encoder::new(Arc::new(Registry::new(vec![class(METER), rollup])), INFLUX).is_err());
}

#[test]
fn a_device_that_left_the_registry_and_a_sample_without_values_make_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), &registry(2));
    log.append_rows(1, 1, 0, &fixture::hourly(0, 1, 1));
    log.append_rows(0, 1, 0, &[Row { time_ms: 0, quality: 3, values: [ABSENT; 3] }]);
    let mut reader = Reader::open(log.writer.subscribe(), Lsn::FIRST).unwrap();
    let mut encoder = Encoder::new(registry(1), INFLUX).unwrap();
    let mut body = Vec::new();
    let mut results = Vec::new();
    while let Next::Record(record) = reader.next().unwrap() {
        let mut buffers = decided::Buffers::default();
        let read = decided::read(record.kind, record.payload, &mut buffers).unwrap();
        let Decided::Samples(sets) = read else { panic!() };
        for samples in sets.iter() {
            results.push(encoder.samples(&mut body, &samples, |_, _| panic!("no line")));
        }
    }
    assert_eq!(results, [Err(Unwritable::UnknownDevice), Ok(())]);
    assert!(body.is_empty());
}

proptest! {
    #[test]
    fn every_sample_reads_back_as_it_was_decided(
        decimals in [0_u8..=9, 0_u8..=9, 0_u8..=9],
        rows in proptest::collection::vec(
            (-1_i64 << 42..1_i64 << 42, 0_u8..=6, proptest::array::uniform3(prop_oneof![
                8 => -(1_i64 << 53) + 1..1_i64 << 53,
                4 => -2000_i64..2000,
                1 => Just(ABSENT),
            ])),
            1..40,
        ),
    ) {
        let mut class = class(METER);
        class.channels.iter_mut().zip(decimals).for_each(|(channel, decimals)| channel.decimals = decimals);
        let registry = Arc::new(registry_of(class, 1));
        let rows: Vec<Row> = rows.into_iter().map(|(time_ms, quality, values)| Row { time_ms, quality, values }).collect();
        let wanted: Vec<&Row> = rows.iter().filter(|row| row.values != [ABSENT; 3]).collect();
        let body = encode(&registry, INFLUX, &[fixture::decisions_of(0, 1, 0, &rows)]).unwrap();
        let read = if body.is_empty() { Vec::new() } else { points(&body) };
        prop_assert_eq!(read.len(), wanted.len());
        for (point, row) in read.iter().zip(wanted) {
            prop_assert_eq!(point.time_ms, row.time_ms);
            let mut expected = BTreeMap::new();
            for (at, name) in ["volume", "pressure", "valve"].into_iter().enumerate() {
                if row.values[at] != ABSENT {
                    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                    let value = row.values[at] as f64 / 10_f64.powi(decimals[at].into());
                    expected.insert(name.to_owned(), value);
                }
            }
            if row.quality != 1 {
                expected.insert("quality".to_owned(), row.quality.into());
            }
            prop_assert_eq!(&point.fields, &expected);
        }
    }
}
