//! The program reads every key.

use std::{fs, path::Path};

use crate::setup::config::schema::SECTIONS;

#[path = "../../../../tests/keys/source.rs"]
mod source;

/// Program text, without this folder's own, and without tests, comments and strings.
fn program() -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "config" && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = fs::read_to_string(path).unwrap();
                texts.push(source::without_words(source::without_tests(&text)));
            }
        }
    }
    texts
}

/// Does any of the texts use this path, and not a longer name that ends or begins alike?
fn is_used(texts: &[String], path: &str) -> bool {
    texts.iter().any(|text| source::has_word(text, path))
}

/// A key that changes nothing is a promise that nothing keeps.
#[test]
fn every_key_is_read_by_the_program() {
    let texts = program();
    assert!(texts.len() > 50, "{} files", texts.len());
    let mut unread = Vec::new();
    for section in SECTIONS {
        // What the program calls one of a list.
        let called: &[&str] = match section.name {
            "" => &["config"],
            "influx" => &["influx", "database"],
            name => &[name],
        };
        for key in section.keys {
            // A secret's file is read into the secret, here.
            let name = key.name.strip_suffix("_file").unwrap_or(key.name);
            if !called.iter().any(|section| is_used(&texts, &format!("{section}.{name}"))) {
                unread.push(format!("{}.{}", section.name, key.name));
            }
        }
    }
    assert_eq!(unread, UNREAD, "no line of the program reads them: make them act, or take them away");
    assert!(!is_used(&texts, "broker.inflight_max") && is_used(&texts, "broker.port"), "it tells them apart");
}

/// Keys that the check of the configuration reads, and nothing behind it.
const UNREAD: [&str; 1] = ["http.unprotected"];
