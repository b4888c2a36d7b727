//! `registry`: what follows from the registry's files, made without a running gateway.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::{AclOptions, RegistryCommand};
use crate::enrol::{self, acl};

/// Does what was asked.
///
/// # Errors
/// Faults of configuration and registry; of the files.
pub fn registry(command: &RegistryCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let RegistryCommand::Acl(options) = command;
    write_acl(options, out)
}

fn write_acl(options: &AclOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = options.configured.load()?.config;
    let registry = enrol::read(&config)?.registry;
    acl::check_names(&registry, &config.broker)?;
    let more = options.with.as_deref().map(read).transpose()?.unwrap_or_default();
    let write = |out: &mut dyn Write| acl::write_acl(&registry, out).and_then(|()| out.write_all(&more));
    let Some(path) = &options.out else { return Ok(write(out)?) };
    replace(path, write).with_context(|| format!("cannot write {}", path.display()))?;
    let (devices, agents) = (registry.devices().len(), registry.agents().len());
    if options.json {
        writeln!(out, "{}", json!({ "file": path, "devices": devices, "agents": agents }))?;
    } else {
        writeln!(out, "{}: {devices} devices behind {agents} agents", path.display())?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let lines = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Behind a blank line, so that what went before ends.
    Ok([b"\n".as_slice(), &lines].concat())
}

/// The file is the old one or the new one, whole, whenever it is read. The ids of households are in it: nobody but its owner
/// reads it, and its owner, the broker, stays.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    if let Ok(before) = fs::metadata(path) {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            chown(&new, Some(before.uid()), Some(before.gid()))?;
        }
    }
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&new, path)?;
    let above = std::path::absolute(path)?;
    File::open(above.parent().unwrap_or(&above))?.sync_all()
}
