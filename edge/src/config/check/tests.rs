use super::*;
use crate::{config::starter, testing};
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

    fn load(&self, text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<(usize, String, String)>> {
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        load(&self.write(text), &environment, &[])
            .map_err(|faults| faults.into_iter().map(|fault| (fault.line, fault.key, fault.what)).collect())
    }
}

const GOOD: &str = r#"agent = "c-1"
classes = "CLASSES"
state_dir = "state"
[broker]
port = 1884
[[devices]]
id = "g-1"
class = "gas_meter"
driver = "simulated"
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
driver = "simulated"
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
            (11, "devices[1].id"),
            (13, "devices[1].driver"),
            (14, "devices[1].fault")
        ]
    );
    let broken = place.load(&format!("{GOOD}x = = 1\n"), &[]).unwrap_err();
    assert!(broken.iter().any(|(line, key, _)| (*line, key.as_str()) == (10, "syntax")), "{broken:?}");
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
    let config = load(&path, &[], &[("broker.port".into(), "1999".into())]).unwrap();
    assert_eq!(config.broker().unwrap().port, 1999);
    let faults = place.load(&GOOD.replace("port = 1884", "password = \"geheim\""), &[]).unwrap_err();
    assert!(faults[0].2.contains("password_file") && !faults[0].2.contains("geheim"));
}

#[test]
fn the_starter_file_is_a_good_one() {
    let place = Place::new();
    let text = starter("c-1", "CLASSES", "state", "g-1", "gas_meter");
    let config = place.load(&text, &[]).unwrap();
    assert_eq!(config.devices.len(), 1);
    // What `check --show` prints is a configuration, too.
    place.load(&config.show(), &[]).unwrap();
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
    for (name, _) in DEVICE_KEYS {
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
