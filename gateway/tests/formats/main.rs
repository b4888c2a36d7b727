//! What lies on disk: what was written once is read for ever (or says that it is not), and what a newer Hunhe wrote is refused
//! by name with nothing changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly, its helpers too"
)]

mod fixtures;
mod refusals;
mod story;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every file and folder below a folder, with its content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    fn add(dir: &Path, below: &Path, content: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let (path, name) = entry.map(|entry| (entry.path(), below.join(entry.file_name()))).unwrap();
            if path.is_dir() {
                content.insert(name.clone(), None);
                add(&path, &name, content);
            } else {
                content.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    add(dir, Path::new(""), &mut found);
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in content(from) {
        match bytes {
            Some(bytes) => fs::write(to.join(name), bytes).unwrap(),
            None => fs::create_dir_all(to.join(name)).unwrap(),
        }
    }
}

/// A copy of a fixture, to be opened: what is checked in stays as it is.
fn fixture(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds/fixtures").join(name), dir.path());
    dir
}
