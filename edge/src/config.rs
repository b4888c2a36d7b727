//! What an agent is: built-in defaults, a TOML file, `HUNHE_EDGE_` environment variables, flags; the later wins.
//!
//! Promise: every fault is reported, together, each with its file and line, its key, what is wrong and what would be
//! right, before any port opens or file changes. A key nobody knows is a fault. Secrets come from a file or the
//! environment and are never printed.
//!
//! One table, [`KEYS`], says which keys there are: it drives the checks, the defaults and the starter file.

mod check;
mod setup;

use crate::{drivers::DriverKind, mqtt::Broker};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Environment variables begin with this; `__` stands for the dot: `HUNHE_EDGE_BROKER__PORT`.
pub const ENV_PREFIX: &str = "HUNHE_EDGE";

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// An id.
    Id,
    /// Any text but the empty one.
    Text,
    /// Yes or no.
    Switch,
    /// An integer from … to.
    Integer(i64, i64),
    /// A number above 0.
    Positive,
    /// A UTC time.
    Time,
    /// A secret: never in the file.
    Secret,
}

/// A key of the file, without the devices'.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As TOML; empty: no default.
    pub(crate) default: &'static str,
    pub(crate) required: bool,
    pub(crate) about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, required: false, about }
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, default: "", required: true, about }
}

pub(crate) const KEYS: &[Key] = &[
    required("agent", Kind::Id, "the agent's id, as the registry names it"),
    required("classes", Kind::Text, "the folder of device classes"),
    required("state_dir", Kind::Text, "the folder of the outbox"),
    key("broker.host", Kind::Text, "\"127.0.0.1\"", "the MQTT broker"),
    key("broker.port", Kind::Integer(1, 65_535), "1883", "its TCP port"),
    key("broker.username", Kind::Text, "", "as whom, where the broker asks"),
    key("broker.password_file", Kind::Text, "", "a file that holds the password"),
    key("broker.password", Kind::Secret, "", "the password itself: only as HUNHE_EDGE_BROKER__PASSWORD"),
    key("broker.keep_alive_s", Kind::Integer(5, 3_600), "30", "seconds between signs of life"),
    key("link.sleeping", Kind::Switch, "false", "the radio sleeps between reports"),
    key("link.window", Kind::Integer(1, 4_096), "64", "publishes without acknowledgement"),
    key(
        "link.backoff_ms_max",
        Kind::Integer(1_000, 3_600_000),
        "120000",
        "the longest pause between attempts",
    ),
    key("link.spread_ms", Kind::Integer(0, 3_600_000), "0", "the first connection comes within this time"),
    key("outbox.bytes_max", Kind::Integer(1 << 20, 1 << 40), "268435456", "the outbox on disk"),
    key("outbox.samples_max", Kind::Integer(48, 10_000_000), "100000", "samples held per device"),
    key("outbox.drain_s", Kind::Integer(0, 600), "5", "wait at the end for the gateway's word"),
    key("clock.speed", Kind::Positive, "1.0", "event seconds per real second, for replays"),
    key("clock.from", Kind::Time, "", "event time at the start, for replays"),
];

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or `environment`.
    pub file: String,
    /// The line, from 1; 0 where there is none.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, what } = self;
        if *line == 0 {
            write!(f, "{file}: {key}: {what}")
        } else {
            write!(f, "{file}:{line}: {key}: {what}")
        }
    }
}

/// All faults of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{} faults in the configuration\n{}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

/// A checked configuration.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's id.
    pub agent: hunhe_proto::id::AgentId,
    /// The folder of device classes.
    pub classes: PathBuf,
    /// The folder of the outbox.
    pub state_dir: PathBuf,
    broker: BrokerSection,
    /// How the connection is kept.
    pub link: LinkSection,
    /// What the outbox may take.
    pub outbox: OutboxSection,
    /// Event time.
    pub clock: ClockSection,
    /// The devices.
    #[serde(default)]
    pub devices: Vec<DeviceSection>,
}

#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerSection {
    host: String,
    port: u16,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password: Option<String>,
    keep_alive_s: u16,
}

impl fmt::Debug for BrokerSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// See [`KEYS`].
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is described by its key")]
pub struct LinkSection {
    pub sleeping: bool,
    pub window: u16,
    pub backoff_ms_max: u64,
    pub spread_ms: u64,
}

/// See [`KEYS`].
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is described by its key")]
pub struct OutboxSection {
    pub bytes_max: u64,
    pub samples_max: u64,
    pub drain_s: u64,
}

/// See [`KEYS`].
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is described by its key")]
pub struct ClockSection {
    pub speed: f64,
    pub from: Option<String>,
}

/// One device.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct DeviceSection {
    /// Its id.
    pub id: hunhe_proto::id::DeviceId,
    /// Its class's name.
    pub class: String,
    /// `replay`, or the name of a [`DriverKind`].
    pub driver: String,
    /// For `replay`: the recording's folder.
    pub recording: Option<PathBuf>,
    /// The keys of another driver.
    #[serde(flatten)]
    pub settings: BTreeMap<String, String>,
}

impl Config {
    /// Reads and checks `file` with the environment over it, and `flags` (key, TOML value) over both. `kinds` are the
    /// program's own drivers.
    ///
    /// # Errors
    /// Every fault found.
    pub fn load(
        file: &Path,
        environment: &[(String, String)],
        flags: &[(String, String)],
        kinds: &[DriverKind],
    ) -> Result<Self, Faults> {
        check::load(file, environment, flags, kinds).map_err(Faults)
    }

    /// Where to publish, with the password from its file or the environment.
    ///
    /// # Errors
    /// What keeps the password file from being read.
    pub fn broker(&self) -> Result<Broker, std::io::Error> {
        let section = &self.broker;
        let password = match (&section.password, &section.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => {
                Some(std::fs::read_to_string(file)?.trim_end_matches(['\r', '\n']).to_string())
            }
            (None, None) => None,
        };
        Ok(Broker {
            host: section.host.clone(),
            port: section.port,
            credentials: section.username.clone().map(|name| (name, password.unwrap_or_default())),
            keep_alive_s: section.keep_alive_s,
        })
    }

    /// How long to wait at the end for the watermark.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_secs(self.outbox.drain_s)
    }

    /// The configuration as it stands, as TOML, secrets masked.
    #[must_use]
    pub fn show(&self) -> String {
        let Self { agent, classes, state_dir, broker, link, outbox, clock, devices } = self;
        let text = |path: &Path| toml::Value::from(path.display().to_string());
        let mut out = format!(
            "agent = \"{agent}\"\nclasses = {}\nstate_dir = {}\n\n[broker]\nhost = {}\nport = {}\n\
             keep_alive_s = {}\n",
            text(classes),
            text(state_dir),
            toml::Value::from(broker.host.as_str()),
            broker.port,
            broker.keep_alive_s
        );
        if let Some(username) = &broker.username {
            out += &format!("username = {}\n", toml::Value::from(username.as_str()));
        }
        if let Some(file) = &broker.password_file {
            out += &format!("password_file = {}\n", text(file));
        }
        if broker.password.is_some() {
            out += "password = \"***\"\n";
        }
        out += &format!(
            "\n[link]\nsleeping = {}\nwindow = {}\nbackoff_ms_max = {}\nspread_ms = {}\n\n[outbox]\nbytes_max = {}\n\
             samples_max = {}\ndrain_s = {}\n\n[clock]\nspeed = {:?}\n",
            link.sleeping,
            link.window,
            link.backoff_ms_max,
            link.spread_ms,
            outbox.bytes_max,
            outbox.samples_max,
            outbox.drain_s,
            clock.speed
        );
        if let Some(from) = &clock.from {
            out += &format!("from = \"{from}\"\n");
        }
        for device in devices {
            let DeviceSection { id, class, driver, recording, settings } = device;
            out += &format!("\n[[devices]]\nid = \"{id}\"\nclass = \"{class}\"\ndriver = \"{driver}\"\n");
            if let Some(recording) = recording {
                out += &format!("recording = {}\n", text(recording));
            }
            for (key, value) in settings {
                out += &format!("{key} = {}\n", toml::Value::from(value.as_str()));
            }
        }
        out
    }
}

/// A file to start from, every key named with its meaning and default; its device has the program's own driver, or
/// replays.
#[must_use]
pub fn starter(
    agent: &str,
    classes: &str,
    state_dir: &str,
    (device, class): (&str, &str),
    kinds: &[DriverKind],
) -> String {
    let mut out =
        String::from("# An edge agent of Hunhe. Keys that stand commented out show their defaults.\n");
    let mut section = "";
    for key in KEYS.iter().filter(|key| key.kind != Kind::Secret) {
        let (table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        // Keys outside a table must stand before the first one.
        if table.is_empty() {
            let value = match name {
                "agent" => format!("\"{agent}\""),
                "classes" => format!("\"{classes}\""),
                "state_dir" => format!("\"{state_dir}\""),
                _ => key.default.to_string(),
            };
            out += &format!("{name} = {value} # {}\n", key.about);
        }
    }
    for key in KEYS.iter().filter(|key| key.kind != Kind::Secret) {
        let Some((table, name)) = key.name.split_once('.') else { continue };
        if section != table {
            out += &format!("\n[{table}]\n");
            section = table;
        }
        out += &format!(
            "# {name} = {} # {}\n",
            if key.default.is_empty() { "…" } else { key.default },
            key.about
        );
    }
    out += &format!("\n[[devices]]\nid = \"{device}\"\nclass = \"{class}\"\n");
    out += &match kinds.first() {
        Some(kind) => format!("driver = \"{}\"\n", kind.name),
        None => String::from("driver = \"replay\"\nrecording = \"recording\" # the recording's folder\n"),
    };
    out
}

/// A configuration that is good and cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The classes changed since they were checked.
    #[error(transparent)]
    Classes(#[from] crate::classes::ClassErrors),
    /// A recording cannot be replayed.
    #[error(transparent)]
    Recording(#[from] crate::drivers::replay::RecordingError),
    /// A recording has no such device.
    #[error("{}: no series of device {device} of class {class}", .folder.display())]
    Series {
        /// The recording.
        folder: PathBuf,
        /// The device.
        device: hunhe_proto::id::DeviceId,
        /// Its class.
        class: String,
    },
    /// The password file.
    #[error("broker.password_file: cannot read")]
    Password(#[from] std::io::Error),
}
