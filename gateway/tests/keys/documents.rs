//! `gateway/README.md` and `seeds/README.md` say what holds: every example loads, every key is named, with its default.

use hunhe_gateway::setup::{
    config::{Layers, sample},
    registry,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::source::has_word;

fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn document(name: &str) -> String {
    fs::read_to_string(project(name)).unwrap()
}

/// The fenced blocks of that language.
fn examples(text: &str, language: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let of_language = |block: &str| block.strip_prefix(language)?.strip_prefix('\n').map(str::to_owned);
    blocks.filter_map(of_language).collect()
}

/// What stands between backticks outside fenced blocks.
fn code(text: &str) -> String {
    let prose: String = text.split("\n```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ")
}

/// Each of these keys stands in `seeds/README.md`.
pub(crate) fn name_each(keys: &BTreeSet<String>) {
    let code = code(&document("seeds/README.md"));
    for key in keys {
        let name = key.rsplit('.').next().unwrap().trim_end_matches("[]");
        assert!(has_word(&code, name), "seeds/README.md does not explain {key}");
    }
}

fn devices_of(dir: &Path, text: &str, flags: &[(&str, String)]) -> usize {
    let file = dir.join("gateway.toml");
    fs::write(&file, text).unwrap();
    let flags = flags.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect();
    let layers = Layers { file: Some(file), flags, ..Layers::default() };
    let loaded = layers.load().unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    let enrolled = registry::read(&loaded.config).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    enrolled.registry.devices().len()
}

#[test]
fn every_example_of_the_gateways_readme_loads() {
    let dir = tempfile::tempdir().unwrap();
    let examples = examples(&document("gateway/README.md"), "toml");
    assert_eq!(examples.len(), 3);
    for text in examples {
        let flags = [("seeds_dir", project("seeds").display().to_string())];
        assert!(devices_of(dir.path(), &text, &flags) > 2_000);
    }
}

#[test]
fn every_example_of_the_seeds_readme_loads() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["classes", "rules"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for file in fs::read_dir(project("seeds").join(folder)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(folder).join(file.file_name())).unwrap();
        }
    }
    let readme = document("seeds/README.md");
    let mut written = BTreeSet::new();
    for text in examples(&readme, "toml") {
        let title = text.lines().next().unwrap();
        let name = match title {
            "# class" => "classes/example.toml",
            "# rules" => "rules/example.toml",
            "# fleet" => "fleet.toml",
            // The simulator's tests read it.
            "# scenario" => "scenario.toml",
            _ => panic!("an example begins with what it is, not with {title:?}"),
        };
        fs::write(dir.path().join(name), text).unwrap();
        written.insert(name);
    }
    assert_eq!(written.len(), 4, "{written:?}");
    let list = examples(&readme, "csv").concat();
    fs::write(dir.path().join("list.csv"), &list).unwrap();
    let config = "data_dir = \"data\"\nseeds_dir = \".\"\n[registry]\nfleets = [\"fleet.toml\"]\ndevices = [\"list.csv\"]\n";
    assert_eq!(devices_of(dir.path(), config, &[]), 4 + list.lines().count() - 1);
}

#[test]
fn every_key_of_the_configuration_stands_in_the_gateways_readme_with_its_default() {
    let readme = document("gateway/README.md");
    let (mut section, mut keys) = (String::new(), 0);
    for line in sample().lines() {
        let is_comment = line.starts_with('#');
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') && line.ends_with(']') {
            section = line.trim_matches(['[', ']']).to_string();
        }
        let Some((key, default)) = line.split_once(" = ") else { continue };
        if !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            continue;
        }
        let rows = [format!("| `{key}` | "), format!("| `{section}.{key}` | ")];
        let rest = readme.split("\n### ").find(|part| is_about(part, &section)).unwrap_or_default();
        let row = rest.lines().find_map(|line| rows.iter().find_map(|row| line.strip_prefix(row.as_str())));
        let row = row.unwrap_or_else(|| panic!("gateway/README.md does not explain {section}.{key}"));
        if !is_comment {
            assert!(row.starts_with(&format!("`{default}`")), "{section}.{key} has the default {default}");
        }
        keys += 1;
    }
    assert!(keys > 45, "{keys}");
}

/// Does the part's heading name the section?
fn is_about(part: &str, section: &str) -> bool {
    let heading = part.lines().next().unwrap_or_default();
    if section.is_empty() {
        heading.starts_with("Outside")
    } else {
        heading.contains(&format!("[{section}]"))
    }
}
