//! Device classes from a folder: every `.toml` file is one version of one. Versions stand side by side, so that devices in
//! the field can move from one to the next over weeks; a file's name says nothing.

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
};

use hunhe_proto::class::Class;

use super::locate::Located;
use super::read_text;
use crate::setup::config::{Fault, Place};

/// The faultless classes of a folder, in the order of file names, so that every start numbers them alike; of one name the
/// newest version first.
pub(crate) fn read_folder(dir: &Path, faults: &mut Vec<Fault>) -> Vec<Class> {
    let place = || Place::whole(&dir.display().to_string());
    let files = match files_of(dir) {
        Ok(files) if files.is_empty() => {
            faults.push(Fault::new(place(), "", "holds no class", "put the .toml files of classes there"));
            return Vec::new();
        }
        Ok(files) => files,
        Err(error) => {
            faults.push(Fault::new(
                place(),
                "",
                format!("cannot be read: {error}"),
                "name a readable folder",
            ));
            return Vec::new();
        }
    };
    let mut read: Vec<Read> = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let text = read_text(&path).map_err(|fault| vec![fault]);
        match text.and_then(|text| Ok((read_class(&file, &text)?, text))) {
            Ok((class, text)) => read.push(Read { class, file, text }),
            Err(mut found) => faults.append(&mut found),
        }
    }
    let first_of: Vec<String> = read.iter().map(|read| read.class.name.clone()).collect();
    let place = |name: &String| first_of.iter().position(|first| first == name);
    read.sort_by_key(|read| (place(&read.class.name), Reverse(read.class.version)));
    for versions in read.chunk_by(|left, right| left.class.name == right.class.name) {
        let [newest, older @ ..] = versions else { continue };
        older.iter().for_each(|older| newest.check_beside(older, faults));
    }
    read.into_iter().map(|read| read.class).collect()
}

/// A class, and what it was read from.
struct Read {
    class: Class,
    file: String,
    text: String,
}

impl Read {
    fn check_beside(&self, older: &Self, faults: &mut Vec<Fault>) {
        let found = self.class.faults_beside(&older.class);
        // It was read before, so that it parses.
        let Ok(located) = Located::parse(&self.file, &self.text) else { return };
        faults.extend(found.into_iter().map(|(key, remedy)| {
            let what = format!("does not go beside version {} of {}", older.class.version, self.class.name);
            Fault::new(located.place(&key, "name"), key, what, remedy)
        }));
    }
}

/// One class from the text of its file.
///
/// # Errors
/// Every broken line; or else the first key of a wrong type; or else all that [`Class::faults_found`] names.
pub fn read_class(file: &str, text: &str) -> Result<Class, Vec<Fault>> {
    let located = Located::parse(file, text)?;
    let class: Class = located.read().map_err(|fault| vec![fault])?;
    let found = class
        .faults_found()
        .into_iter()
        .map(|(key, remedy)| Fault::new(located.place(&key, "name"), key, "is not allowed so", remedy));
    let faults: Vec<Fault> = found.collect();
    if faults.is_empty() { Ok(class) } else { Err(faults) }
}

/// The folder's `.toml` files, by name.
pub(crate) fn files_of(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
