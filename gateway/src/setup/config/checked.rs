//! The checked configuration: rules about several keys, paths, and secrets read from their files.
//!
//! Only reads. A rule about several keys reports nothing where one of them has a fault already.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::MQTT_OUTPUT;
use super::fault::Fault;
use super::period::Period;
use super::raw::Raw;
use super::schema::Config;
use super::secret::Secret;

/// The most bytes of a file that holds a secret.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Completes `config` and adds its faults to `raw.faults`.
pub(crate) fn complete(config: &mut Config, raw: &mut Raw) {
    let seeds = config.seeds_dir.clone();
    let registry = &mut config.registry;
    let paths = registry
        .fleets
        .iter_mut()
        .chain(&mut registry.devices)
        .chain([&mut registry.classes, &mut registry.rules]);
    paths.for_each(|path| *path = seeds.join(&path));
    let mut checks = Checks::new(raw);
    checks.sinks(config);
    checks.outputs(config);
    checks.limits(config);
    checks.http(config);
    checks.paths(config);
    checks.secrets(config);
}

struct Checks<'a> {
    raw: &'a mut Raw,
    reported: BTreeSet<String>,
}

impl<'a> Checks<'a> {
    fn new(raw: &'a mut Raw) -> Self {
        let reported = raw.faults.iter().map(|fault| fault.key.clone()).collect();
        Self { raw, reported }
    }

    /// Reports the first of `keys`, at the place of the first that was written.
    fn fault(&mut self, keys: &[&str], what: impl Into<String>, remedy: impl Into<String>) {
        if keys.iter().any(|key| self.reported.contains(*key)) {
            return;
        }
        let written = keys.iter().find(|key| self.raw.places.contains_key(**key));
        let key = written.or(keys.first()).copied().unwrap_or_default();
        let place = self.raw.place(key);
        self.reported.insert(key.into());
        self.raw.faults.push(Fault::new(place, key, what, remedy));
    }

    fn sinks(&mut self, config: &Config) {
        let names: Vec<&str> = config.influx.iter().map(|influx| influx.name.as_str()).collect();
        self.own_names("influx", &names, &["embedded", "republish"], "sink");
        if !config.embedded.enabled && names.is_empty() {
            let remedy = "set it to true, or name a database with [[influx]]";
            self.fault(&["embedded.enabled"], "leaves no sink at all", remedy);
            return;
        }
        let record = config.sink_of_record.as_str();
        if record == "embedded" && !config.embedded.enabled {
            let remedy = format!("enable it, or write one of \"{}\"", names.join("\", \""));
            self.fault(
                &["sink_of_record", "embedded.enabled"],
                "names the store that is switched off",
                remedy,
            );
        } else if record != "embedded" && !names.contains(&record) {
            let known: Vec<&str> = ["embedded"].into_iter().chain(names).collect();
            let remedy = format!("write one of \"{}\"", known.join("\", \""));
            self.fault(&["sink_of_record"], format!("no sink is named \"{record}\""), remedy);
        }
    }

    fn outputs(&mut self, config: &Config) {
        let names: Vec<&str> = config.webhook.iter().map(|webhook| webhook.name.as_str()).collect();
        self.own_names("webhook", &names, &[MQTT_OUTPUT], "output");
    }

    /// Each table of a listed section has its own name, and not the one that is ours.
    fn own_names(&mut self, section: &str, names: &[&str], ours: &[&str], noun: &str) {
        for (index, name) in names.iter().enumerate() {
            if ours.contains(name) || names[..index].contains(name) {
                let key = format!("{section}[{index}].name");
                let table = format!("{section}[{index}]");
                let what = format!("\"{name}\" is taken by another {noun}");
                let written = self.raw.places.contains_key(&key);
                let remedy = format!("give each {noun} its own name");
                self.fault(&[if written { &key } else { &table }], what, remedy);
            }
        }
    }

    fn limits(&mut self, config: &Config) {
        let least = Period::days(5).as_s() + config.validate.accept_past.as_s();
        if config.embedded.enabled && config.embedded.retention.as_s() < least {
            let what = format!(
                "{} is shorter than accept_past ({}) and 5 days: a late sample would not find its window's others",
                config.embedded.retention, config.validate.accept_past
            );
            let remedy = format!("write at least \"{}d\", or shorten accept_past", least.div_ceil(86_400));
            self.fault(&["embedded.retention", "validate.accept_past"], what, remedy);
        }
        let logs = [
            ("journal", config.journal.segment_bytes, config.journal.limit_bytes),
            ("decided", config.decided.segment_bytes, config.decided.limit_bytes),
        ];
        for (section, segment, limit) in logs {
            if limit / 4 < segment {
                let what = format!("{limit} is less than four segments: none could be released in time");
                let remedy = format!("write at least {}", segment.saturating_mul(4));
                let keys = [format!("{section}.limit_bytes"), format!("{section}.segment_bytes")];
                self.fault(&[&keys[0], &keys[1]], what, remedy);
            }
        }
        let every = config.checkpoint.every_journal_bytes;
        if every > config.journal.limit_bytes / 2 {
            let what =
                format!("{every} is more than half the journal: it would be full before it is released");
            let remedy = format!("write at most {}", config.journal.limit_bytes / 2);
            self.fault(&["checkpoint.every_journal_bytes", "journal.limit_bytes"], what, remedy);
        }
    }

    /// There is no log-in: everybody who reaches the port may do everything.
    fn http(&mut self, config: &Config) {
        let listen = config.http.listen;
        if listen.ip().to_canonical().is_loopback() || config.http.unprotected.is_some() {
            return;
        }
        let what = format!("{listen} is not an address of loopback, and there is no log-in");
        let remedy = format!(
            "listen on \"127.0.0.1:{}\" behind a proxy that asks who it is; where nobody else reaches the port, \
             say so with http.unprotected",
            listen.port()
        );
        self.fault(&["http.listen"], what, remedy);
    }

    fn paths(&mut self, config: &Config) {
        self.readable(&["seeds_dir"], &config.seeds_dir, Expected::Folder);
        if config.seeds_dir.is_dir() {
            for (key, path) in
                [("registry.classes", &config.registry.classes), ("registry.rules", &config.registry.rules)]
            {
                self.readable(&[key, "seeds_dir"], path, Expected::Folder);
            }
            for (key, paths) in
                [("registry.fleets", &config.registry.fleets), ("registry.devices", &config.registry.devices)]
            {
                self.all_readable(key, paths);
            }
        }
        if let Err(error) = can_become_folder(&config.data_dir) {
            let what = format!("{} cannot be used: {error}", config.data_dir.display());
            self.fault(&["data_dir"], what, "name a folder, or one that can be made in a writable folder");
        }
    }

    /// Each path that is not, on its own: so the key may be reported several times.
    fn all_readable(&mut self, key: &str, paths: &[PathBuf]) {
        let reported = self.reported.clone();
        for path in paths {
            self.readable(&[key, "seeds_dir"], path, Expected::File);
            self.reported.clone_from(&reported);
        }
    }

    fn readable(&mut self, keys: &[&str], path: &Path, expected: Expected) {
        let (found, noun) = match expected {
            Expected::Folder => (fs::read_dir(path).map(|_| ()), "folder"),
            Expected::File => (open_file(path).map(|_| ()), "file"),
        };
        if let Err(error) = found {
            let what = format!("{} cannot be read: {error}", path.display());
            self.fault(keys, what, format!("name a readable {noun}"));
        }
    }

    fn secrets(&mut self, config: &mut Config) {
        let broker = &mut config.broker;
        self.secret("broker.password", &mut broker.password, broker.password_file.as_ref());
        if broker.password.is_some() && broker.username.is_none() {
            let keys = ["broker.password_file", "broker.password", "broker.username"];
            self.fault(
                &keys,
                "a password without a user is forbidden by MQTT",
                "write broker.username as well",
            );
        }
        for (index, influx) in config.influx.iter_mut().enumerate() {
            let key = format!("influx[{index}].token");
            self.secret(&key, &mut influx.token, influx.token_file.as_ref());
        }
        for (index, webhook) in config.webhook.iter_mut().enumerate() {
            let key = format!("webhook[{index}].token");
            self.secret(&key, &mut webhook.token, webhook.token_file.as_ref());
        }
    }

    /// The environment is stronger than the file.
    fn secret(&mut self, key: &str, secret: &mut Option<Secret>, file: Option<&PathBuf>) {
        let (None, Some(path)) = (&secret, file) else { return };
        match read_secret(path) {
            Ok(text) => *secret = Some(Secret::new(text)),
            Err(error) => {
                let what = format!("{} holds no secret: {error}", path.display());
                let remedy = "name a readable file with the secret on its only line";
                self.fault(&[&format!("{key}_file")], what, remedy);
            }
        }
    }
}

enum Expected {
    File,
    Folder,
}

fn open_file(path: &Path) -> io::Result<fs::File> {
    let file = fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_file(path)?.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() || line.contains('\n') || text.len() as u64 > SECRET_BYTES_MAX {
        return Err(io::Error::other("it is empty, too long or has several lines"));
    }
    Ok(line.into())
}

/// Looks without touching: the folder, or the nearest existing one above it.
fn can_become_folder(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    for above in absolute.ancestors() {
        match fs::metadata(above) {
            Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(found) if found.permissions().readonly() => return Err(io::ErrorKind::PermissionDenied.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
