//! The registry's files (classes, rules, device lists, fleets): a registry, or faults that name a line which the file has.
//!
//! The first byte of an input says which kind of file the rest is.

use hunhe_fuzz::{Target, run};
use hunhe_gateway::setup::{
    config::{Fault, Place},
    registry::{Pseudonyms, RegistryBuilder, read_class, read_rules},
};
use hunhe_gateway_core::registry::DEVICES_MAX;
use hunhe_proto::class::Class;
use std::fs;

const LIST: &str = "device,class,operator,district,zone,agent,lon,lat,pseudonym\n\
                    g-1,gas_meter,gas,210102,z-1,c-1,123.4,41.8,p-1\ng-2,gas_meter,gas,210102,z-1,c-1,123.4,41.8,\n";
const FLEET: &str = "seed = 7\n[[groups]]\nclass = \"gas_meter\"\ncount = 5\nprefix = \"g\"\noperator = \"gas\"\n\
                     per_agent = 2\nhousehold = true\nplaces = [{ district = 210102, zone = \"z-1\", lon = 123.4, lat = 41.8 }]\n\
                     [[groups]]\nclass = \"gas_station_detector\"\ncount = 3\nprefix = \"d\"\noperator = \"gas\"\n\
                     per_agent = 1\nplaces = [{ district = 210103, zone = \"z-2\", lon = 123.5, lat = 41.9 }]\n";

fn read(name: &str) -> String {
    fs::read_to_string(crate::seeds(name)).unwrap()
}

/// Is it a fleet of many devices that a registry would hold? Those are not judged here.
fn is_city(fleet: &str) -> bool {
    let Ok(fleet) = fleet.parse::<toml::Table>() else { return false };
    let groups = fleet.get("groups").and_then(toml::Value::as_array).into_iter().flatten();
    let counts = groups.filter_map(|group| group.get("count")?.as_integer());
    let devices = counts.filter(|count| *count > 0).fold(0, i64::saturating_add);
    (100_000..=DEVICES_MAX as i64).contains(&devices)
}

fn lines_are_there(faults: &[Fault], text: &str) {
    assert!(!faults.is_empty());
    for fault in faults {
        if let Place::File { line: Some(line), .. } = fault.place {
            assert!((1..=1 + text.matches('\n').count()).contains(&line), "{fault}");
        }
        assert!(!fault.what.is_empty(), "{fault}");
    }
}

#[test]
fn files_of_the_registry_are_read_or_have_faults_by_line() {
    let _alone = crate::alone();
    let class_files =
        ["classes/gas_meter.toml", "classes/gas_station_detector.toml", "classes/weather_station.toml"];
    let classes: Vec<Class> = class_files.iter().map(|file| toml::from_str(&read(file)).unwrap()).collect();
    // Two rules are enough, and a file of them is read with the classes that it names.
    let rules: String = read("rules/gas.toml").split_inclusive("[[rules]]").take(4).collect();
    let rules = rules.trim_end_matches("[[rules]]").to_owned();
    let of = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut made: Vec<_> = class_files.iter().map(|file| of(0, &read(file))).collect();
    made.extend([of(1, &rules), of(2, LIST), of(3, FLEET)]);
    let target = Target {
        words: &[
            b"\n",
            b",",
            b"\"",
            b"[[channels]]\n",
            b"[[rules]]\n",
            b"[[groups]]\n",
            b" = ",
            b"4294967295",
            b"-1",
            b"nan",
            b"inf",
            b"1e308",
            b"count = 4000000000\n",
            b"household = true\n",
            b"{ ",
            b" }",
            b"gas_meter",
            b"0",
            b"decimals = 255\n",
        ],
        // A fleet of a few bytes may be a city, which takes what its devices take; see `is_city`. No other number may ask for much.
        ..crate::target("registry", made, 256 << 20)
    };
    let outcome = run(&target, |input| {
        let Some((kind, bytes)) = input.split_first() else { return false };
        let text = String::from_utf8_lossy(bytes);
        if kind % 4 == 3 && is_city(&text) {
            return false;
        }
        let faults = match kind % 4 {
            0 => read_class("c.toml", &text).err(),
            1 => read_rules("r.toml", &text, &[], &classes).err(),
            list_or_fleet => {
                let mut builder = RegistryBuilder::new(classes.clone(), Pseudonyms::default());
                if list_or_fleet == 2 {
                    builder.devices("d.csv", &text)
                } else {
                    builder.fleet("f.toml", &text)
                }
                builder.finish().err().map(|faults| faults.list().to_vec())
            }
        };
        if let Some(faults) = &faults {
            lines_are_there(faults, &text);
        }
        faults.is_none()
    });
    crate::reached_both_sides(outcome);
}
