//! Device classes from a folder of TOML files.

use hunhe_proto::class::Class;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Classes by name: of each the newest version that is there, which is the one that this agent's devices follow.
pub type Classes = BTreeMap<String, Arc<Class>>;

/// A folder of classes that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ClassErrors(pub Vec<String>);

/// Reads every `*.toml` of `folder`.
///
/// # Errors
/// All that is wrong with any of the files, one line each.
pub fn load(folder: &Path) -> Result<Classes, ClassErrors> {
    let mut classes = Classes::new();
    let mut faults = Vec::new();
    let mut paths: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => return Err(ClassErrors(vec![format!("{}: cannot read: {error}", folder.display())])),
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    for path in paths {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                faults.push(format!("{}: cannot read: {error}", path.display()));
                continue;
            }
        };
        match toml::from_str::<Class>(&text) {
            Ok(class) => {
                for (key, what) in class.faults_found() {
                    faults.push(format!("{}: {key}: {what}", path.display()));
                }
                match classes.get(&class.name) {
                    Some(other) if other.version == class.version => faults.push(format!(
                        "{}: version: another file has version {} of {}; give each version its own number",
                        path.display(),
                        class.version,
                        class.name
                    )),
                    Some(other) if other.version > class.version => {}
                    _ => {
                        classes.insert(class.name.clone(), Arc::new(class));
                    }
                }
            }
            Err(error) => faults.push(format!("{}: {}", path.display(), error.to_string().trim_end())),
        }
    }
    if classes.is_empty() && faults.is_empty() {
        faults.push(format!("{}: holds no class; expected *.toml files", folder.display()));
    }
    if faults.is_empty() { Ok(classes) } else { Err(ClassErrors(faults)) }
}
