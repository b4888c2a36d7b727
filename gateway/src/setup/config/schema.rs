//! Every key: its type, its bounds, its default and its explanation, each said once.
//!
//! The same lines make the structs that the program reads, the table that written values are checked against, and
//! the commented sample in `deploy`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::keys::{Key, Kind, Unwritten};
use super::period::Period;
use super::secret::Secret;

macro_rules! section {
    (
        $(#[doc = $about:literal])* $name:ident = $table:ident {
            $( $(#[doc = $doc:literal])* $key:ident: $type:ty, $kind:expr, $unwritten:expr; )*
        } $( with { $( $(#[$meta:meta])* $section:ident: $section_type:ty; )* } )?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $key: $type, )*
            $( $( $(#[$meta])* pub $section: $section_type, )* )?
        }
        const $table: Section = Section {
            name: "",
            list: false,
            about: concat!($($about, "\n"),*),
            keys: &[ $( Key {
                name: stringify!($key),
                kind: $kind,
                unwritten: $unwritten,
                doc: concat!($($doc, "\n"),*),
            } ),* ],
        };
    };
}

/// Keys that belong together.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its table's name; empty for keys outside any table.
    pub(crate) name: &'static str,
    /// May it stand several times?
    pub(crate) list: bool,
    /// For people.
    pub(crate) about: &'static str,
    /// Its keys, in order.
    pub(crate) keys: &'static [Key],
}

impl Section {
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// All sections, in the order of the sample.
pub(crate) static SECTIONS: &[Section] = &[
    TOP,
    REGISTRY.named("registry"),
    BROKER.named("broker"),
    JOURNAL.named("journal"),
    DECIDED.named("decided"),
    CHECKPOINT.named("checkpoint"),
    VALIDATE.named("validate"),
    EMBEDDED.named("embedded"),
    Section { list: true, ..INFLUX.named("influx") },
    QUARANTINE.named("quarantine"),
    ALERTS.named("alerts"),
    Section { list: true, ..WEBHOOK.named("webhook") },
    HTTP.named("http"),
    LOG.named("log"),
];

/// What `http.unprotected` must say.
const UNPROTECTED: &str = "anyone who reaches this port may read and change everything";

const SEGMENT_BYTES: Kind = Kind::Whole(1 << 20, 1 << 30);
const LIMIT_BYTES: Kind = Kind::Whole(8 << 20, 1 << 50);

section! {
    /// The gateway's configuration, checked.
    Config = TOP {
        /// Where the gateway keeps its journal, stores and checkpoints. One gateway a folder.
        data_dir: PathBuf, Kind::Path, Unwritten::Is("\"/var/lib/hunhe\"");
        /// Device classes and fleets; the paths of `[registry]` start here.
        seeds_dir: PathBuf, Kind::Path, Unwritten::Is("\"/usr/share/hunhe/seeds\"");
        /// The sink whose confirmations the ledger counts as stored: "embedded" or the name of an `[[influx]]`.
        sink_of_record: String, Kind::Name, Unwritten::Is("\"embedded\"");
    } with {
        /// Who may report what.
        registry: Registration;
        /// The MQTT broker.
        broker: Broker;
        /// The journal of all messages.
        journal: JournalLimits;
        /// The log of decisions.
        decided: DecidedLimits;
        /// When state is saved.
        checkpoint: Checkpointing;
        /// Which samples are taken.
        validate: Validation;
        /// The embedded store.
        embedded: Embedded;
        /// External databases.
        #[serde(default)]
        influx: Vec<Influx>;
        /// What was refused.
        quarantine: QuarantineLimits;
        /// Where alerts are kept, and whether the broker gets them.
        alerts: Alerts;
        /// Who else gets them.
        #[serde(default)]
        webhook: Vec<Webhook>;
        /// Page and API.
        http: Http;
        /// What the gateway says.
        log: Log;
    }
}

section! {
    /// Who may report what. Devices come from fleets, from CSV files, or from both.
    Registration = REGISTRY {
        /// Folder with one TOML file for each device class.
        classes: PathBuf, Kind::SeedPath, Unwritten::Is("\"classes\"");
        /// Folder with the alert rules, TOML files; an empty one where no alert is wanted.
        rules: PathBuf, Kind::SeedPath, Unwritten::Is("\"rules\"");
        /// Fleet descriptions (TOML) to expand.
        fleets: Vec<PathBuf>, Kind::SeedPaths, Unwritten::Is("[]");
        /// Device lists (CSV: device,class,serial,operator,district,zone,agent,lon,lat,pseudonym).
        devices: Vec<PathBuf>, Kind::SeedPaths, Unwritten::Is("[]");
    }
}

section! {
    /// The MQTT broker (3.1.1), over plain TCP: keep it on this host, or let a tunnel carry it. How many messages are on their
    /// way to the gateway at once is the broker's choice, max_inflight_messages: at its stock 20 and 10 ms a commit, 2,000
    /// messages a second is the ceiling.
    Broker = BROKER {
        /// Host name or IP address.
        host: String, Kind::Text, Unwritten::Is("\"127.0.0.1\"");
        /// TCP port of the broker's listener for the gateway; agents have another one.
        port: u16, Kind::Whole(1, 65_535), Unwritten::Is("1884");
        /// Prefix of the sessions `-up`, `-alarm`, `-out` and `-alerts`; unique at the broker.
        client_id: String, Kind::Name, Unwritten::Is("\"hunhe-gateway\"");
        /// User at the broker; without it the gateway logs in anonymously.
        username: Option<String>, Kind::Text, Unwritten::Absent("\"gateway\"");
        /// The user's password: only from HUNHE_BROKER_PASSWORD, never written here.
        password: Option<Secret>, Kind::Secret, Unwritten::Absent("");
        /// File that holds the password and nothing else.
        password_file: Option<PathBuf>, Kind::Path, Unwritten::Absent("\"/etc/hunhe/broker.password\"");
        /// Silence after which a connection is probed, in seconds.
        keep_alive_s: u16, Kind::Whole(5, 3_600), Unwritten::Is("30");
        /// The longest MQTT packet in bytes. Above the broker's own limit, else one long message would break the
        /// connection again and again; a report has at most 64 KiB, and a journal record 1 MiB.
        packet_bytes_max: u32, Kind::Whole(131_072, 1_000_000), Unwritten::Is("262144");
    }
}

section! {
    /// The journal of all messages, the truth from which everything else is rebuilt.
    JournalLimits = JOURNAL {
        /// Bytes of one file.
        segment_bytes: u64, SEGMENT_BYTES, Unwritten::Is("67108864");
        /// Bytes in all. At the limit nothing more is acknowledged and the broker holds what follows, until every
        /// sink has caught up and a checkpoint releases a file.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("8589934592");
    }
}

section! {
    /// The log of what was decided, which every sink reads at its own pace.
    DecidedLimits = DECIDED {
        /// Bytes of one file.
        segment_bytes: u64, SEGMENT_BYTES, Unwritten::Is("67108864");
        /// Bytes in all. At the limit decisions wait for the slowest sink, and the journal grows instead.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("8589934592");
    }
}

section! {
    /// When state is saved, whichever comes first. More often: a faster restart; more seldom: less writing.
    Checkpointing = CHECKPOINT {
        /// Seconds between checkpoints.
        every_s: u32, Kind::Whole(1, 86_400), Unwritten::Is("60");
        /// Journal bytes between checkpoints.
        every_journal_bytes: u64, Kind::Whole(1 << 20, 1 << 40), Unwritten::Is("268435456");
    }
}

section! {
    /// Which samples are taken.
    Validation = VALIDATE {
        /// How much older than its arrival a sample may be although it is from before 2020; younger samples are
        /// taken at any age that the sink of record keeps. Raise it to replay old recordings.
        accept_past: Period, Kind::Period(0, 73_000), Unwritten::Is("\"40d\"");
    }
}

section! {
    /// The embedded store: recent history for the page and the API, whatever other database is used.
    Embedded = EMBEDDED {
        /// Off only where an `[[influx]]` is the sink of record.
        enabled: bool, Kind::Switch, Unwritten::Is("true");
        /// How long history is kept: at least accept_past and 5 days, because a sample that is taken late must find
        /// its window's other samples here for five more days of revisions. Whole months go, so some of it stays longer.
        /// As the sink of record, older samples are refused.
        retention: Period, Kind::Period(1, 73_000), Unwritten::Is("\"45d\"");
        /// Bytes on disk; the oldest history goes first.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("21474836480");
    }
}

section! {
    /// An external database; there may be several, each with its own pace. Environment variables name the database:
    /// HUNHE_INFLUX_MAIN_URL for the one named "main"; with only one, HUNHE_INFLUX_URL does as well.
    Influx = INFLUX {
        /// Its name in logs, metrics and sink_of_record.
        name: String, Kind::Name, Unwritten::Is("\"influx\"");
        /// "influxdb2" or "victoriametrics": they differ in how a revised window replaces the one before.
        kind: InfluxKind, Kind::OneOf(&["influxdb2", "victoriametrics"]), Unwritten::Is("\"influxdb2\"");
        /// Its address. Plain HTTP: keep it on this host, or let a local proxy end TLS.
        url: String, Kind::Url, Unwritten::Refused("\"http://127.0.0.1:8086\"");
        /// Organisation; VictoriaMetrics ignores it.
        org: String, Kind::Text, Unwritten::Is("\"hunhe\"");
        /// Bucket, created with `retention` where it is missing; VictoriaMetrics ignores it.
        bucket: String, Kind::Text, Unwritten::Is("\"hunhe\"");
        /// The access token: only from HUNHE_INFLUX_TOKEN, never written here.
        token: Option<Secret>, Kind::Secret, Unwritten::Absent("");
        /// File that holds the access token and nothing else.
        token_file: Option<PathBuf>, Kind::Path, Unwritten::Absent("\"/etc/hunhe/influx.token\"");
        /// How long the database keeps samples: its bucket's retention, or VictoriaMetrics' -retentionPeriod. As the sink
        /// of record, older samples are refused instead of being written and dropped there. Without this, none are.
        retention: Option<Period>, Kind::Period(1, 73_000), Unwritten::Absent("\"365d\"");
        /// Lines of one request.
        batch_rows: u32, Kind::Whole(1, 100_000), Unwritten::Is("5000");
        /// Seconds after which a request without an answer is repeated.
        timeout_s: u32, Kind::Whole(1, 600), Unwritten::Is("10");
        /// Seconds for which the database may lose what it has taken when it is killed. So much of what was written
        /// last is written again after its restart; as the sink of record it confirms samples so much later.
        /// Without this, 20 for VictoriaMetrics (which writes to disk every 5 s) and 0 for InfluxDB (which syncs).
        durable_after_s: Option<u32>, Kind::Whole(0, 3_600), Unwritten::Absent("20");
    }
}

section! {
    /// What was refused, kept with its payload to be looked at and sent through again.
    QuarantineLimits = QUARANTINE {
        /// Records kept. Beyond either limit the oldest record of the device with the largest share is discarded, records
        /// without samples first; the ledger counts discarded samples as declared lost. Some 130 bytes of memory each.
        limit_records: u64, Kind::Whole(1, 1_000_000), Unwritten::Is("100000");
        /// Bytes kept, payloads included.
        limit_bytes: u64, Kind::Whole(1 << 20, 1 << 40), Unwritten::Is("268435456");
        /// How long a record is kept since it arrived, or was judged last.
        limit_age: Period, Kind::Period(1, 73_000), Unwritten::Is("\"90d\"");
    }
}

section! {
    /// Alerts. The page always has them; what else gets them is chosen here and with `[[webhook]]`.
    Alerts = ALERTS {
        /// Publish them on hunhe/v1/alerts/{operator}/{severity}, QoS 1, from a session `-alerts`.
        mqtt: bool, Kind::Switch, Unwritten::Is("true");
        /// Bytes of the alert log, some 700 each alert's change. At the limit the oldest are gone, also for an output
        /// that could not be reached all the while.
        log_limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("67108864");
        /// Seconds after which an output that delivers nothing, although alerts wait for it, is an alert of its own.
        stalled_after_s: u32, Kind::Whole(1, 3_600), Unwritten::Is("30");
        /// Address that gets a POST each ten seconds while the gateway works, for a service that raises the alarm when
        /// they stop. Plain HTTP: keep it on this host, or let a local proxy do TLS. The broker gets the same on
        /// hunhe/v1/gateway/heartbeat.
        heartbeat_url: Option<String>, Kind::Url, Unwritten::Absent("\"http://127.0.0.1:9096/heartbeat\"");
    }
}

section! {
    /// A receiver of alerts over HTTP, each with its own pace: one POST with the alert as JSON, and Idempotency-Key. The
    /// variable HUNHE_WEBHOOK_DUTY_URL sets the address of the one named "duty"; with only one, HUNHE_WEBHOOK_URL does.
    Webhook = WEBHOOK {
        /// Its name in logs, metrics and status.
        name: String, Kind::Name, Unwritten::Is("\"webhook\"");
        /// Its address. Plain HTTP: keep it on this host, or let a local proxy end TLS.
        url: String, Kind::Url, Unwritten::Refused("\"http://127.0.0.1:9095/alerts\"");
        /// The bearer token: only from HUNHE_WEBHOOK_TOKEN, never written here.
        token: Option<Secret>, Kind::Secret, Unwritten::Absent("");
        /// File that holds the bearer token and nothing else.
        token_file: Option<PathBuf>, Kind::Path, Unwritten::Absent("\"/etc/hunhe/webhook.token\"");
        /// Seconds after which a request without an answer is repeated.
        timeout_s: u32, Kind::Whole(1, 600), Unwritten::Is("10");
    }
}

section! {
    /// The page and the API. There is no log-in and no TLS here: a proxy in front does both.
    Http = HTTP {
        /// Address to listen on: of loopback, since there is no log-in. Another one needs `unprotected`.
        listen: SocketAddr, Kind::Address, Unwritten::Is("\"127.0.0.1:8080\"");
        /// Confirms in words that `listen` may be an address that others reach, the backup with all data included.
        unprotected: Option<String>, Kind::OneOf(&[UNPROTECTED]),
            Unwritten::Absent("\"anyone who reaches this port may read and change everything\"");
        /// Host names and addresses under which requests are answered, beside those of loopback and `listen`: the
        /// names of the proxy in front. Requests for other hosts are refused with 421.
        hosts: Vec<String>, Kind::Hosts, Unwritten::Is("[]");
        /// Connections at once. Beyond it the one that has been silent for longest is closed, or the new one. There
        /// are fewer where the process may open too few files.
        connections_max: u32, Kind::Whole(16, 10_000), Unwritten::Is("512");
        /// Connections at once from one address (IPv6: from one /64). All behind a proxy are one address.
        connections_per_peer_max: u32, Kind::Whole(8, 10_000), Unwritten::Is("256");
        /// Live streams at once; for a further one the one that was opened first is closed.
        sse_clients_max: u32, Kind::Whole(1, 10_000), Unwritten::Is("64");
    }
}

section! {
    /// What the gateway says on standard error.
    Log = LOG {
        /// A level, or directives by module such as "info,hunhe_gateway=debug".
        level: String, Kind::Filter, Unwritten::Is("\"info\"");
        /// "text" for people, "json" for collectors.
        format: LogFormat, Kind::OneOf(&["text", "json"]), Unwritten::Is("\"text\"");
    }
}

/// A kind of external database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InfluxKind {
    /// InfluxDB 2: a rewritten point replaces the one before.
    Influxdb2,
    /// VictoriaMetrics: both stay, so revisions get timestamps of their own.
    Victoriametrics,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
