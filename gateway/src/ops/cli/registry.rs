//! `registry`: what follows from the registry's files, made without a running gateway.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::{AclOptions, RegistryCommand};
use crate::decide::formats;
use crate::setup::registry::{self, acl};

/// Never left on a list: others could let themselves in.
const WRITTEN_BY_OTHERS: u32 = 0o022;

/// Runs the command.
///
/// # Errors
/// Faults of configuration and registry; of the files.
pub fn registry(command: &RegistryCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let RegistryCommand::Acl(options) = command;
    write_acl(options, out)
}

fn write_acl(options: &AclOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = options.configured.load()?.config;
    formats::check(&config.data_dir)?;
    let registry = registry::read(&config)?.registry;
    let more = options.with.as_deref().map(read).transpose()?.unwrap_or_default();
    let write = |out: &mut dyn Write| acl::write_acl(&registry, out).and_then(|()| out.write_all(&more));
    let Some(path) = &options.out else { return Ok(write(out)?) };
    let rights = replace(path, write).with_context(|| format!("cannot write {}", path.display()))?;
    let (devices, agents) = (registry.devices().len(), registry.agents().len());
    if options.json {
        let (mode, remedy) = (format!("{:04o}", rights.mode), rights.remedy(path));
        writeln!(
            out,
            "{}",
            json!({ "file": path, "devices": devices, "agents": agents, "uid": rights.user, "gid": rights.group,
                "mode": mode, "remedy": remedy })
        )?;
        return Ok(());
    }
    writeln!(out, "{}: {devices} devices behind {agents} agents; {rights}", path.display())?;
    if let Some(remedy) = rights.remedy(path) {
        writeln!(out, "{remedy}")?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let lines = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Behind a blank line, so that what went before ends.
    Ok([b"\n".as_slice(), &lines].concat())
}

/// Who may read the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    user: u32,
    group: u32,
    mode: u32,
    is_new: bool,
}

impl Rights {
    /// What to do where the broker may be unable to read the list. Mosquitto then allows everything after a reload, and
    /// does not start again.
    fn remedy(self, path: &Path) -> Option<String> {
        let is_roots = self.user == 0 && (self.mode & 0o040 == 0 || self.group == 0);
        let is_doubtful = self.mode & 0o004 == 0 && (self.is_new || is_roots);
        let path = path.display();
        is_doubtful.then(|| {
            format!(
                "The broker must be able to read it before it is reloaded; else Mosquitto allows everything:\n  \
                 chown mosquitto: {path}; chmod 0600 {path}"
            )
        })
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}, mode {:04o}", self.user, self.group, self.mode)
    }
}

/// The file is the old one or the new one, whole, whenever it is read. Who could read the old one, the broker above all,
/// can read the new one. The ids of households are in it: one that was not there is its owner's alone.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Rights> {
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let before = match fs::metadata(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(before) = &before {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            chown(&new, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(before.mode() & 0o777 & !WRITTEN_BY_OTHERS))?;
    }
    let now = file.metadata()?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&new, path)?;
    let above = std::path::absolute(path)?;
    File::open(above.parent().unwrap_or(&above))?.sync_all()?;
    Ok(Rights { user: now.uid(), group: now.gid(), mode: now.mode() & 0o7777, is_new: before.is_none() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(path: &Path) -> Rights {
        replace(path, |out| out.write_all(b"new")).unwrap()
    }

    #[test]
    fn who_could_read_the_old_list_can_read_the_new_one_and_nobody_else_can_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.acl");
        for (before, after) in
            [(0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o666, 0o644), (0o660, 0o640)]
        {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            let own = fs::metadata(&path).unwrap();
            let rights = replaced(&path);
            let expected = Rights { user: own.uid(), group: own.gid(), mode: after, is_new: false };
            assert_eq!(rights, expected, "{before:o}");
            let now = fs::metadata(&path).unwrap();
            assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (own.uid(), own.gid(), after));
            assert_eq!(fs::read(&path).unwrap(), b"new");
        }
    }

    #[test]
    fn a_list_that_the_broker_may_be_unable_to_read_comes_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.acl");
        let rights = replaced(&path);
        assert!(rights.is_new && rights.mode == 0o600);
        let remedy = rights.remedy(&path).unwrap();
        assert!(
            remedy.contains(&format!("chown mosquitto: {0}; chmod 0600 {0}", path.display())),
            "{remedy}"
        );
        let remedy = |user, group, mode| Rights { user, group, mode, is_new: false }.remedy(&path);
        for (user, group, mode) in [(0, 0, 0o644), (0, 107, 0o640), (104, 107, 0o600)] {
            assert_eq!(remedy(user, group, mode), None, "{user} {group} {mode:o}");
        }
        for (user, group, mode) in [(0, 0, 0o640), (0, 0, 0o600), (0, 107, 0o600)] {
            assert!(remedy(user, group, mode).is_some(), "{user} {group} {mode:o}");
        }
    }
}
