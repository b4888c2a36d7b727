//! The files in `seeds` mean what their readers take them to mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test may fail loudly, and its numbers are its own"
)]

use hunhe_proto::{
    class::{Class, Fault, Kind},
    fleet::{City, Fleet},
    id::DeviceId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn classes() -> BTreeMap<String, Class> {
    let files = fs::read_dir(seeds().join("classes")).unwrap();
    files.map(|file| read::<Class>(&file.unwrap().path())).map(|class| (class.name.clone(), class)).collect()
}

fn demo() -> (City, Fleet) {
    (read(&seeds().join("city/city.toml")), read(&seeds().join("city/demo.toml")))
}

#[test]
fn every_class_is_faultless_and_named_like_its_file() {
    for file in fs::read_dir(seeds().join("classes")).unwrap() {
        let path = file.unwrap().path();
        let class: Class = read(&path);
        assert_eq!(class.faults_found(), [], "{}", path.display());
        assert_eq!(path.file_stem().unwrap(), class.name.as_str());
        assert!(!class.title.zh.is_empty() && !class.title.en.is_empty());
        for channel in &class.channels {
            assert!(!channel.source.is_empty(), "{}: {} names no source", class.name, channel.name);
            assert!(!channel.title.zh.is_empty() && !channel.title.en.is_empty());
        }
        assert_eq!(class.channels.iter().filter(|channel| channel.number == 1).count(), 1, "{}", class.name);
        assert!(
            class.channel("status").is_some_and(|channel| channel.number == 0 && channel.kind == Kind::Bits)
        );
        let text = toml::to_string(&class).unwrap();
        assert_eq!(toml::from_str::<Class>(&text).unwrap(), class, "written and read again");
    }
}

#[test]
fn a_class_with_faults_is_told_all_of_them() {
    let mut class = classes().remove("gas_meter").unwrap();
    class.name = "Gas".into();
    class.interval = 0;
    class.report.silent_after_s = 0;
    class.channels[1].number = 256;
    class.channels[2].usual_max = Some(1e6);
    class.channels[3].name = "pressure_q".into();
    class.faults.insert("odd".into(), Fault::Stuck { channel: "nothing".into() });
    let keys: BTreeSet<String> = class.faults_found().into_iter().map(|(key, _)| key).collect();
    for key in [
        "name",
        "interval",
        "report.silent_after_s",
        "channels.register.number",
        "channels.flow.usual_min",
        "channels.pressure_q.name",
        "faults.odd.channel",
    ] {
        assert!(keys.contains(key), "{key} is missing from {keys:?}");
    }
}

#[test]
fn the_demo_fleet_stands_in_its_city() {
    let (city, fleet) = demo();
    assert_eq!(city.faults_found(&fleet), []);
    assert_eq!(city.districts.len(), 13);
    let classes = classes();
    let members = fleet.expand().unwrap();
    let ids: BTreeSet<DeviceId> = members.iter().map(|member| member.id).collect();
    assert_eq!(ids.len(), members.len(), "ids are unique");
    for member in &members {
        let class = &classes[&member.group.class];
        assert_eq!(class.household, member.group.household, "{}", member.id);
        // The city's bounding box.
        assert!((122.422..123.814).contains(&member.place.lon) && (41.2..43.043).contains(&member.place.lat));
    }
    let districts: BTreeSet<u32> = members.iter().map(|member| member.place.district).collect();
    assert_eq!(districts.len(), 13);
}

/// Counts of the source document stay as it has them; the rest may be argued about.
#[test]
fn the_full_fleet_stands_in_its_city_and_has_the_sources_numbers() {
    let city: City = read(&seeds().join("city/city.toml"));
    let fleet: Fleet = read(&seeds().join("city/full.toml"));
    assert_eq!(city.faults_found(&fleet), []);
    for zone in &city.zones {
        let written = toml::Value::try_from(zone.kind).unwrap();
        assert_eq!(written.as_str(), Some(zone.kind.name()), "a kind has one name everywhere");
    }
    let members = fleet.expand().unwrap();
    let classes = classes();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut agents: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for member in &members {
        assert!(classes.contains_key(&member.group.class), "{}", member.group.class);
        *counts.entry(&member.group.class).or_default() += 1;
        agents.entry(member.agent).or_default().insert(&member.place.zone);
    }
    assert_eq!((counts["gas_meter"], counts["tillage_monitor"]), (170_000, 3_375));
    assert!((238_000..239_000).contains(&members.len()), "{}", members.len());
    assert_eq!(members.iter().map(|member| member.id).collect::<BTreeSet<_>>().len(), members.len());
    assert!(agents.values().all(|zones| zones.len() == 1), "what shares a connection stands together");
    assert!(classes.keys().all(|name| counts.contains_key(name.as_str())), "every class is in the fleet");
}

/// Every district of the map is one of the city's, and all of them are there.
#[test]
fn the_map_has_the_citys_districts() {
    let (city, _) = demo();
    let text = fs::read_to_string(seeds().join("city/districts.geojson")).unwrap();
    for district in &city.districts {
        let id = format!("\"id\":\"{}\"", district.code);
        assert_eq!(text.matches(&id).count(), 1, "{id}");
    }
    assert_eq!(text.matches("\"type\":\"Feature\"").count(), city.districts.len());
}

#[test]
fn a_place_out_of_its_city_is_told() {
    let (mut city, mut fleet) = demo();
    fleet.groups[0].places[0].district = 210_181;
    fleet.groups[0].places[1].zone = "dma-99".into();
    fleet.groups[1].operator = "nobody".into();
    city.zones[3].district = 110_000;
    let keys: Vec<String> = city.faults_found(&fleet).into_iter().map(|(key, _)| key).collect();
    let expected = [
        "zones.dma-4.district",
        "groups.dma.places.dma-1",
        "groups.dma.places.dma-99",
        "groups.dma.places.dma-4",
        "groups.weather.operator",
    ];
    assert_eq!(keys, expected);
}

/// Every cell of a recording is a value that its class can carry exactly and finds possible.
#[test]
fn the_recording_fits_its_classes_and_the_demo_fleet() {
    let classes = classes();
    let (_, fleet) = demo();
    let members = fleet.expand().unwrap();
    for name in ["dma_flow", "weather_station"] {
        let class = &classes[name];
        let text = fs::read_to_string(seeds().join(format!("recordings/dma/{name}.csv"))).unwrap();
        let mut lines = text.lines();
        let columns: Vec<_> = lines.next().unwrap().split(',').skip(1).collect();
        let channels: Vec<_> = columns
            .iter()
            .map(|column| {
                let (device, channel) = column.split_once(':').unwrap();
                let id = DeviceId::new(device).unwrap();
                assert!(members.iter().any(|m| m.id == id && m.group.class == name), "{device}");
                class.channel(channel).unwrap()
            })
            .collect();
        let mut rows = 0;
        for line in lines {
            rows += 1;
            let cells: Vec<_> = line.split(',').skip(1).collect();
            assert_eq!(cells.len(), channels.len(), "{line}");
            for (cell, channel) in cells.iter().zip(&channels).filter(|(cell, _)| !cell.is_empty()) {
                let places = cell.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                assert!(
                    places <= usize::from(channel.decimals),
                    "{cell} has more places than {}",
                    channel.name
                );
                let value: f64 = cell.parse().unwrap();
                assert!((channel.min..=channel.max).contains(&value), "{cell} of {}", channel.name);
            }
        }
        assert_eq!(rows, 19_679);
    }
}
