use super::*;
use crate::{config::starter, drivers::Gone, testing};
use std::{fs, path::PathBuf};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("classes")).unwrap();
        fs::write(folder.path().join("classes/gas_meter.toml"), testing::GAS_METER).unwrap();
        Self { folder }
    }

    fn write(&self, text: &str) -> PathBuf {
        let classes = self.folder.path().join("classes").display().to_string();
        let path = self.folder.path().join("edge.toml");
        fs::write(&path, text.replace("CLASSES", &classes)).unwrap();
        path
    }

    fn load(&self, text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Found>> {
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        load(&self.write(text), &environment, &[], &[]).map_err(found)
    }

    fn load_with_probe(&self, text: &str) -> Result<Config, Vec<Found>> {
        load(&self.write(text), &[], &[], &[PROBE]).map_err(found)
    }
}

/// Line, key, and what is wrong.
type Found = (usize, String, String);

fn found(faults: Vec<Fault>) -> Vec<Found> {
    faults.into_iter().map(|fault| (fault.line, fault.key, fault.what)).collect()
}

/// A driver as a program brings it.
const PROBE: DriverKind = DriverKind {
    name: "probe",
    keys: &["wire"],
    check: |key, value, class| match value {
        "red" => Ok(()),
        _ => Err(format!("{key} {value} does not fit {}", class.name)),
    },
    open: |_| Box::new(Gone),
};

const GOOD: &str = r#"agent = "c-1"
classes = "CLASSES"
state_dir = "state"
[broker]
port = 1884
[[devices]]
id = "g-1"
class = "gas_meter"
driver = "replay"
recording = "recording"
"#;

#[test]
fn five_faults_are_five_lines() {
    let text = r#"agent = "C 1"
classes = "CLASSES"
[broker]
prot = 1883
keep_alive_s = 2
[clock]
from = "yesterday"
[[devices]]
id = "g-1"
class = "gas_metre"
driver = "replay"
recording = "recording"
"#;
    let mut faults = Place::new().load(text, &[]).unwrap_err();
    // state_dir is missing, which has no line.
    let (_, key, what) = faults.remove(0);
    assert_eq!(key, "state_dir");
    assert!(what.contains("the folder of the outbox"));
    let found: Vec<_> = faults.iter().map(|(line, key, _)| (*line, key.as_str())).collect();
    assert_eq!(
        found,
        [
            (1, "agent"),
            (4, "broker.prot"),
            (5, "broker.keep_alive_s"),
            (7, "clock.from"),
            (10, "devices[0].class")
        ]
    );
    for ((_, _, what), right) in faults.iter().zip([
        "lower-case",
        "did you mean broker.port?",
        "an integer from 5 to 3600",
        "2021-01-01T00:00:00Z",
        "known are gas_meter",
    ]) {
        assert!(what.contains(right), "{what}");
    }
}

#[test]
fn faults_of_devices_syntax_and_environment_are_found_too() {
    let place = Place::new();
    let twice = format!(
        "{GOOD}[[devices]]\nid = \"g-1\"\nclass = \"gas_meter\"\ndriver = \"replay\"\nfault = \"rust\"\n"
    );
    let faults =
        place.load(&twice, &[("HUNHE_EDGE_BROKER__PORT", "high"), ("HUNHE_EDGE_BORKER", "1")]).unwrap_err();
    let found: Vec<_> = faults.iter().map(|(line, key, _)| (*line, key.as_str())).collect();
    assert_eq!(
        found,
        [
            (0, "broker.port"),
            (0, "borker"),
            (12, "devices[1].id"),
            (14, "devices[1].driver"),
            (15, "devices[1].fault")
        ]
    );
    let broken = place.load(&format!("{GOOD}x = = 1\n"), &[]).unwrap_err();
    assert!(broken.iter().any(|(line, key, _)| (*line, key.as_str()) == (11, "syntax")), "{broken:?}");
    assert!(place.load("", &[]).unwrap_err().iter().any(|(_, key, _)| key == "devices"));
}

#[test]
fn layers_override_each_other_and_secrets_are_masked() {
    let place = Place::new();
    let secret = ("HUNHE_EDGE_BROKER__PASSWORD", "geheim");
    let config = place.load(GOOD, &[("HUNHE_EDGE_BROKER__HOST", "broker.example"), secret]).unwrap();
    let broker = config.broker().unwrap();
    assert_eq!((broker.host.as_str(), broker.port, broker.keep_alive_s), ("broker.example", 1884, 30));
    assert!(config.show().contains("password = \"***\""));
    assert!(!config.show().contains("geheim") && !format!("{config:?}").contains("geheim"));
    let path = place.write(GOOD);
    let config = load(&path, &[], &[("broker.port".into(), "1999".into())], &[]).unwrap();
    assert_eq!(config.broker().unwrap().port, 1999);
    let faults = place.load(&GOOD.replace("port = 1884", "password = \"geheim\""), &[]).unwrap_err();
    assert!(faults[0].2.contains("password_file") && !faults[0].2.contains("geheim"));
}

#[test]
fn the_starter_file_is_a_good_one() {
    let place = Place::new();
    let text = |kinds| starter("c-1", "CLASSES", "state", ("g-1", "gas_meter"), kinds);
    let config = place.load(&text(&[]), &[]).unwrap();
    assert_eq!(config.devices.len(), 1);
    // What `check --show` prints is a configuration, too.
    place.load(&config.show(), &[]).unwrap();
    assert_eq!(place.load_with_probe(&text(&[PROBE])).unwrap().devices[0].driver, "probe");
}

#[test]
fn a_driver_that_the_program_does_not_have_is_refused_with_what_to_do() {
    let place = Place::new();
    let refused = |driver: &str| {
        let text = GOOD.replace("\"replay\"\nrecording = \"recording\"", &format!("{driver:?}"));
        let [(line, key, what)] = place.load(&text, &[]).unwrap_err().try_into().unwrap();
        assert_eq!((line, key.as_str()), (9, "devices[0].driver"));
        what
    };
    let simulated = refused("simulated");
    for part in ["\"simulated\"", "which has \"replay\"", "built with its feature `simulate`"] {
        assert!(simulated.contains(part), "no {part:?} in {simulated}");
    }
    assert_eq!(refused("modbus"), "\"modbus\" is no driver of this program, which has \"replay\"");
}

#[test]
fn a_driver_that_the_program_brings_has_its_own_keys() {
    let place = Place::new();
    let with = |own: &str| {
        let text = GOOD.replace("\"replay\"\nrecording = \"recording\"", &format!("\"probe\"\n{own}"));
        place.load_with_probe(&text)
    };
    let config = with("wire = \"red\"").unwrap();
    assert_eq!(config.devices[0].settings["wire"], "red");
    assert_eq!(place.load_with_probe(&config.show()).unwrap().devices[0].settings["wire"], "red");
    for (own, key, what) in [
        ("wire = \"green\"", "devices[0].wire", "wire green does not fit gas_meter"),
        ("wire = 7", "devices[0].wire", "must be a text in quotes"),
        (
            "recording = \"r\"",
            "devices[0].recording",
            "is not known; a device with this driver has id, class, driver, wire",
        ),
    ] {
        assert_eq!(with(own).unwrap_err(), [(10, key.to_string(), what.to_string())]);
    }
}

/// A key that changes nothing is a promise that nothing keeps.
#[test]
fn every_key_is_read_by_the_program() {
    let source = |path: &str| {
        fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap()
    };
    let keys = source("config.rs");
    // What only shows or checks it does not count.
    let broker =
        keys.split("pub fn broker").nth(1).and_then(|rest| rest.split("pub fn show").next()).unwrap();
    let text = format!("{broker}{}", source("config/setup.rs"));
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_used =
        |path: &str| text.match_indices(path).any(|(at, _)| !text[at + path.len()..].starts_with(word));
    let is_read = |name: &str| match name.strip_prefix("broker.") {
        Some(key) => is_used(&format!("section.{key}")),
        None => is_used(&format!("self.{name}")),
    };
    let unread: Vec<_> = KEYS.iter().map(|key| key.name).filter(|name| !is_read(name)).collect();
    assert_eq!(unread, [""; 0], "no line of the program reads them: make them act, or take them away");
    assert!(!is_read("broker.pass"), "it tells them apart");
}

/// The README has a row for each key, with its default, and its example loads.
#[test]
fn the_readme_says_every_key_with_its_default() {
    let readme = include_str!("../../../README.md");
    for crate::config::Key { name, default, required, .. } in KEYS {
        let default = match (required, *default) {
            (true, _) => "required".to_owned(),
            (false, "") => "–".to_owned(),
            (false, default) => format!("`{default}`"),
        };
        let row = format!("| `{name}` | {default} |");
        assert!(readme.contains(&row), "no row {row:?} in edge/README.md");
    }
    for name in DEVICE_KEYS.iter().chain(&[RECORDING]) {
        assert!(readme.contains(&format!("| `{name}` |")), "no row of {name} in edge/README.md");
    }
    let example = readme.split("```toml\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    let table: toml::Table = example.parse().unwrap();
    for (key, value) in &table {
        let is_known = |known: &str| KEYS.iter().any(|key| key.name == known);
        match value {
            toml::Value::Table(section) => {
                section.keys().for_each(|name| assert!(is_known(&format!("{key}.{name}")), "{key}.{name}"));
            }
            _ => assert!(key == "devices" || is_known(key), "{key}"),
        }
    }
}
