//! What the registry's files promise.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use hunhe_gateway_core::registry::ZoneIx;
use hunhe_proto::fleet::ZoneKind;
use hunhe_proto::id::Id;

use super::{Pseudonyms, RegistryBuilder, load, read, read_class};
use crate::setup::config::{Config, Fault, Layers, Place};
use crate::setup::places::Places;

const METER: &str = r#"name = "gas_meter"
version = 1
title = { zh = "燃气表", en = "gas meter" }
time_unit_ms = 3_600_000
interval = 1
household = true
report = { samples = 24, silent_after_s = 200_000 }

[[channels]]
number = 1
name = "volume"
title = { zh = "体积", en = "volume" }
unit = "m3"
kind = "register"
decimals = 2
min = 0
max = 100_000
"#;

fn plain() -> String {
    METER.replace("gas_meter", "flow_meter").replace("household = true\n", "")
}

fn group(class: &str, prefix: &str, count: u32, household: bool) -> String {
    format!(
        "[[groups]]\nclass = \"{class}\"\ncount = {count}\nprefix = \"{prefix}\"\nhousehold = {household}\n\
         operator = \"gas\"\nper_agent = 1000\nplaces = [{{ district = 210102, zone = \"z-1\", lon = 123.4, lat = 41.8 }}]\n"
    )
}

/// Seeds and data in a folder of their own.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(site.path("seeds/classes")).unwrap();
        fs::create_dir_all(site.path("seeds/rules")).unwrap();
        site.write("seeds/classes/gas_meter.toml", METER);
        site.write("seeds/classes/flow_meter.toml", &plain());
        site.write("seeds/fleet.toml", &format!("seed = 7\n{}", group("gas_meter", "g", 3, true)));
        site.write("seeds/list.csv", "device,class,operator,district,zone,agent,lon,lat,pseudonym\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn config(&self) -> Config {
        let text = "data_dir = \"data\"\nseeds_dir = \"seeds\"\n[registry]\n\
                    fleets = [\"fleet.toml\"]\ndevices = [\"list.csv\"]\n";
        self.write("gateway.toml", text);
        let layers = Layers { file: Some(self.path("gateway.toml")), ..Layers::default() };
        layers.load().unwrap().config
    }

    /// (file name, line, key) of each fault.
    fn spots(&self) -> Vec<(String, usize, String)> {
        let faults = read(&self.config()).unwrap_err();
        let spot = |fault: &Fault| match &fault.place {
            Place::File { file, line } => {
                (file.rsplit('/').next().unwrap().to_owned(), line.unwrap_or(0), fault.key.clone())
            }
            other => panic!("{other}"),
        };
        faults.list().iter().map(spot).collect()
    }
}

fn spot(file: &str, line: usize, key: &str) -> (String, usize, String) {
    (file.into(), line, key.into())
}

#[test]
fn versions_of_a_class_stand_side_by_side_in_any_files_and_devices_follow_the_newest_by_default() {
    let site = Site::new();
    let newer = METER.replace("version = 1", "version = 2").replace("decimals = 2", "decimals = 3");
    site.write("seeds/classes/a_newer_meter.toml", &newer);
    let registry = load(&site.config()).unwrap();
    let rules = registry.class_of(registry.find_pseudonym(registry.devices()[0].pseudonym).unwrap());
    assert_eq!((rules.class.version, rules.older.len()), (2, 1));
    assert!(rules.version(1).is_some() && rules.version(2).is_some() && rules.version(3).is_none());
}

#[test]
fn what_keeps_versions_from_standing_side_by_side_is_told_where_the_newer_one_says_it() {
    let site = Site::new();
    let newer = METER.replace("version = 1", "version = 2").replace("unit = \"m3\"", "unit = \"L\"");
    site.write("seeds/classes/newer.toml", &newer.replace("decimals = 2", "decimals = 1"));
    let spots =
        [spot("newer.toml", 13, "channels.volume.unit"), spot("newer.toml", 15, "channels.volume.decimals")];
    assert_eq!(site.spots(), spots);
    site.write("seeds/classes/newer.toml", METER);
    assert_eq!(site.spots(), [spot("gas_meter.toml", 2, "version")], "one version twice");
}

#[test]
fn an_agent_with_a_name_of_the_gateways_own_is_told_beside_all_other_faults() {
    let site = Site::new();
    let list = "device,class,operator,district,zone,agent,lon,lat,pseudonym\n\
                dma-1,flow_meter,water,210103,dma-a,hunhe-gateway-up,123.5,41.7,\n\
                gateway,flow_meter,water,210103,dma-a,,123.5,41.7,\n\
                dma-3,no_such_class,water,210103,dma-a,c-1,123.5,41.7,\n";
    site.write("seeds/list.csv", list);
    let faults = read(&site.config()).unwrap_err().to_string();
    for named in ["hunhe-gateway-up bears", "gateway bears", "no_such_class"] {
        assert!(faults.contains(named), "{named}: {faults}");
    }
    site.write("seeds/list.csv", &list.replace("gateway", "box").replace("no_such_class", "flow_meter"));
    read(&site.config()).unwrap();
}

#[test]
fn devices_of_fleets_and_lists_are_registered() {
    let site = Site::new();
    site.write(
        "seeds/list.csv",
        "device,class,operator,district,zone,agent,lon,lat,pseudonym\n\
         dma-1,flow_meter,water,210103,dma-a,,123.5,41.7,\n\
         dma-2,flow_meter,water,210103,dma-a,c-1,123.5,41.7,shown\n",
    );
    let registry = load(&site.config()).unwrap();
    assert_eq!(registry.devices().len(), 5);
    let first = registry.device(registry.find(Id::new("dma-1").unwrap()).unwrap());
    assert_eq!((first.pseudonym, first.position, first.district), (first.id, (123.5, 41.7), 210_103));
    assert_eq!(registry.agent(first.agent).id, first.id);
    assert!(registry.find_pseudonym(Id::new("shown").unwrap()).is_some());
    for device in &registry.devices()[..3] {
        assert_ne!(device.pseudonym, device.id);
        assert!(device.pseudonym.as_str().starts_with('p') && device.pseudonym.as_str().len() == 17);
    }
}

#[test]
fn the_city_says_what_a_zone_is() {
    let site = Site::new();
    fs::create_dir_all(site.path("seeds/city")).unwrap();
    let zone = |kind: &str| {
        format!(
            "[[zones]]\nid = \"z-1\"\nkind = \"{kind}\"\ndistrict = 210102\ntitle = {{ zh = \"一区\", en = \"Zone 1\" }}\n\
             [[zones]]\nid = \"empty\"\nkind = \"farm\"\ndistrict = 210102\ntitle = {{ zh = \"农场\", en = \"Farm\" }}\n"
        )
    };
    let list = "device,class,operator,district,zone,agent,lon,lat,pseudonym\n\
                dma-1,flow_meter,water,210103,dma-a,,123.5,41.7,\n";
    site.write("seeds/list.csv", list);
    site.write("seeds/city/city.toml", &zone("gas_pressure"));
    let registry = load(&site.config()).unwrap();
    let known: Vec<_> = registry.zones().iter().map(|zone| (zone.id.to_string(), zone.kind)).collect();
    assert_eq!(known, [("z-1".into(), Some(ZoneKind::GasPressure)), ("dma-a".into(), None)]);
    let listed = registry.device(registry.find(Id::new("dma-1").unwrap()).unwrap());
    assert_eq!(registry.zone(listed.zone).id.as_str(), "dma-a");
    assert_eq!(registry.device(registry.indices().next().unwrap()).zone, ZoneIx(0));
    let places = Places::read(&site.config());
    assert_eq!((places.zone("z-1").en, places.zone("dma-a").en), ("Zone 1".into(), "dma-a".into()));
    site.write("seeds/city/city.toml", &zone("pressure"));
    let faults = read(&site.config()).unwrap_err();
    assert!(faults.to_string().contains("city.toml:3"), "{faults}");
}

#[test]
fn all_faults_of_all_files_are_reported_together() {
    let site = Site::new();
    site.write(
        "seeds/classes/a.toml",
        &METER.replace("min = 0", "min = 200_000").replace("samples = 24", "samples = 0"),
    );
    site.write("seeds/classes/b.toml", &METER.replace("interval = 1", "interval = \"1\""));
    site.write("seeds/classes/c.toml", "name = \n");
    let groups = group("steam_meter", "s", 5, false) + &group("gas_meter", "h", 2, false);
    site.write("seeds/fleet.toml", &format!("seed = 7\n{groups}{}", group("flow_meter", "UP", 1, false)));
    site.write(
        "seeds/list.csv",
        "device,class,operator,district,zone,agent,lon,lat\n\
         d-1,flow_meter,w,210103,z,,123.5,41.7\n\
         D-2,flow_meter,w,210103,z,,123.5,41.7\n\
         d-3,flow_meter,w,north,z,,123.5,41.7\n\
         d-4,flow_meter,w,210103,z,,123.5,410.7\n\
         d-1,flow_meter,w,210103,z,,123.5,41.7\n\
         d-5,flow_meter\n",
    );
    assert_eq!(
        site.spots(),
        [
            spot("a.toml", 7, "report.samples"),
            spot("a.toml", 16, "channels.volume.min"),
            spot("b.toml", 5, ""),
            spot("c.toml", 1, ""),
            spot("fleet.toml", 3, "groups.s.class"),
            spot("fleet.toml", 14, "groups.h.household"),
            spot("fleet.toml", 21, "groups.UP.prefix"),
            spot("list.csv", 3, "device"),
            spot("list.csv", 4, "district"),
            spot("list.csv", 5, "lat"),
            spot("list.csv", 6, "device"),
            spot("list.csv", 7, ""),
        ]
    );
}

#[test]
fn a_list_of_nothing_but_faults_stops_at_its_bound() {
    let site = Site::new();
    let lines = "?\n".repeat(5_000);
    site.write("seeds/list.csv", &format!("device,class,operator,district,zone,agent,lon,lat\n{lines}"));
    assert_eq!(site.spots().len(), super::FAULTS_PER_FILE_MAX + 1);
}

#[test]
fn a_registry_without_devices_is_a_fault() {
    let class = read_class("m.toml", METER).unwrap();
    let faults = RegistryBuilder::new(vec![class], Pseudonyms::default()).finish().unwrap_err();
    assert_eq!(faults.list()[0].key, "registry");
}

#[test]
fn reading_changes_nothing_and_loading_keeps_the_pseudonyms() {
    let site = Site::new();
    let config = site.config();
    read(&config).unwrap();
    assert!(!site.path("data").exists());
    let names = |registry: &hunhe_gateway_core::registry::Registry| -> HashMap<Id, Id> {
        registry.devices().iter().map(|device| (device.id, device.pseudonym)).collect()
    };
    let first = names(&load(&config).unwrap());
    let text = fs::read_to_string(site.path("data/pseudonyms.csv")).unwrap();
    assert_eq!(text.lines().count(), 4);

    // More devices come: the known ones keep their names.
    site.write("seeds/fleet.toml", &format!("seed = 7\n{}", group("gas_meter", "g", 4, true)));
    let second = names(&load(&config).unwrap());
    assert!(first.iter().all(|(device, name)| second[device] == *name));
    assert_eq!(second.len(), 4);

    // All go, and come back.
    site.write("seeds/fleet.toml", &format!("seed = 7\n{}", group("flow_meter", "f", 1, false)));
    let without = load(&config).unwrap();
    assert!(
        second.iter().all(|(&device, &name)| without.shown_as(device) == name),
        "what is on its way still"
    );
    site.write("seeds/fleet.toml", &format!("seed = 7\n{}", group("gas_meter", "g", 4, true)));
    assert_eq!(names(&load(&config).unwrap()), second);
}

#[test]
fn a_list_cannot_rename_a_household_nor_take_anothers_name() {
    let site = Site::new();
    let header = "device,class,operator,district,zone,agent,lon,lat,pseudonym\n";
    let row = |id: &str, name: &str| format!("{id},gas_meter,gas,210103,z,,123.5,41.7,{name}\n");
    site.write("seeds/list.csv", &format!("{header}{}", row("h-1", "blue")));
    load(&site.config()).unwrap();
    site.write("seeds/list.csv", &format!("{header}{}{}", row("h-1", "red"), row("h-2", "blue")));
    assert_eq!(site.spots(), [spot("list.csv", 2, "device"), spot("list.csv", 3, "device")]);
    site.write("seeds/list.csv", &format!("{header}{}", row("h-1", "")));
    let registry = load(&site.config()).unwrap();
    assert!(registry.find_pseudonym(Id::new("blue").unwrap()).is_some());
}

#[test]
fn a_damaged_mapping_is_reported_and_left_alone() {
    let site = Site::new();
    fs::create_dir(site.path("data")).unwrap();
    let damaged = "device,pseudonym\ng-1,p1\ng-2\ng-3,p1\n";
    site.write("data/pseudonyms.csv", damaged);
    assert!(load(&site.config()).is_err());
    assert_eq!(site.spots(), [spot("pseudonyms.csv", 3, ""), spot("pseudonyms.csv", 4, "")]);
    assert_eq!(fs::read_to_string(site.path("data/pseudonyms.csv")).unwrap(), damaged);
}

#[test]
fn a_mapping_begins_with_its_columns_names_and_an_emptied_one_is_damaged() {
    for damaged in ["", "\n", "\ndevice,pseudonym\ng-1,p1\n", "g-1,p1\n"] {
        let site = Site::new();
        fs::create_dir(site.path("data")).unwrap();
        site.write("data/pseudonyms.csv", damaged);
        assert_eq!(site.spots(), [spot("pseudonyms.csv", 1, "")], "{damaged:?}");
    }
}

/// A figure, not a promise with a clock: the campaign `bench` holds the bound. Shown with `--nocapture`.
#[test]
fn the_full_city_is_registered_whole() {
    let site = Site::new();
    let groups = group("gas_meter", "g", 170_000, true) + &group("flow_meter", "w", 68_000, false);
    site.write("seeds/fleet.toml", &format!("seed = 7\n{groups}"));
    let config = site.config();
    for round in ["first", "again"] {
        let began = Instant::now();
        let registry = load(&config).unwrap();
        println!("registry_load_s ({round}): {:.3}", began.elapsed().as_secs_f64());
        assert_eq!(registry.devices().len(), 238_000);
        assert_eq!(registry.agents().len(), 238);
    }
}
