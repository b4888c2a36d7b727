//! Device classes from a folder: every `.toml` file is one.

use std::path::{Path, PathBuf};

use hunhe_proto::class::Class;

use super::locate::Located;
use super::read_text;
use crate::config::{Fault, Place};

/// The faultless classes of a folder, in the order of file names, so that every start numbers them alike.
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
    let mut classes: Vec<Class> = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match read_text(&path).map_err(|fault| vec![fault]).and_then(|text| read_class(&file, &text)) {
            Ok(class) if classes.iter().any(|other| other.name == class.name) => {
                let what = format!("another file has a class of the name {}", class.name);
                faults.push(Fault::new(Place::whole(&file), "name", what, "give each class its own name"));
            }
            Ok(class) => classes.push(class),
            Err(mut found) => faults.append(&mut found),
        }
    }
    classes
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
