//! Every key: its type, its bounds, its default and its explanation, each said once.
//!
//! The same lines make the structs that the program reads, the table that written values are checked against, and
//! the commented sample in `deploy`.

use std::net::SocketAddr;
use std::path::PathBuf;

use hunhe_gateway_core::event::Rollups;
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
    REPUBLISH.named("republish"),
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
        /// Folder of journal, logs, store and checkpoints. One gateway a folder.
        data_dir: PathBuf, Kind::Path, Unwritten::Is("\"/var/lib/hunhe\"");
        /// Folder of classes, rules and fleets; the paths of `[registry]` start here.
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
        /// Which samples are accepted.
        validate: Validation;
        /// The embedded store.
        embedded: Embedded;
        /// External databases.
        #[serde(default)]
        influx: Vec<Influx>;
        /// Validated samples on MQTT.
        republish: Republish;
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
        /// Device lists (CSV: device,class,operator,district,zone,agent,lon,lat,pseudonym).
        devices: Vec<PathBuf>, Kind::SeedPaths, Unwritten::Is("[]");
    }
}

section! {
    /// The MQTT broker (3.1.1), over plain TCP: keep it on this host, or tunnel the connection. The broker's
    /// max_inflight_messages bounds throughput: at the stock 20 and 10 ms a commit, 2,000 messages a second.
    Broker = BROKER {
        /// Host name or IP address.
        host: String, Kind::Text, Unwritten::Is("\"127.0.0.1\"");
        /// TCP port of the broker's listener for the gateway; agents have another one.
        port: u16, Kind::Whole(1, 65_535), Unwritten::Is("1884");
        /// Prefix of the sessions `-up`, `-alarm`, `-out`, `-alerts` and `-clean`; unique at the broker.
        client_id: String, Kind::Name, Unwritten::Is("\"hunhe-gateway\"");
        /// User at the broker; without it the gateway connects anonymously.
        username: Option<String>, Kind::Text, Unwritten::Absent("\"gateway\"");
        /// The user's password: only from HUNHE_BROKER_PASSWORD, never written here.
        password: Option<Secret>, Kind::Secret, Unwritten::Absent("");
        /// File that holds the password and nothing else.
        password_file: Option<PathBuf>, Kind::Path, Unwritten::Absent("\"/etc/hunhe/broker.password\"");
        /// Silence after which a connection is probed, in seconds.
        keep_alive_s: u16, Kind::Whole(5, 3_600), Unwritten::Is("30");
        /// The longest MQTT packet in bytes. Keep it above the broker's own limit: a longer packet ends the connection.
        /// A report has at most 64 KiB, a journal record 1 MiB.
        packet_bytes_max: u32, Kind::Whole(131_072, 1_000_000), Unwritten::Is("262144");
    }
}

section! {
    /// The journal of all messages. Everything else is rebuilt from it.
    JournalLimits = JOURNAL {
        /// Bytes of one file.
        segment_bytes: u64, SEGMENT_BYTES, Unwritten::Is("67108864");
        /// Bytes in all. At the limit acknowledgements stop and the broker keeps what follows, until every sink has
        /// caught up and a checkpoint releases a file.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("8589934592");
    }
}

section! {
    /// The log of decisions. Every sink reads it at its own pace.
    DecidedLimits = DECIDED {
        /// Bytes of one file.
        segment_bytes: u64, SEGMENT_BYTES, Unwritten::Is("67108864");
        /// Bytes in all. At the limit decisions wait for the slowest sink, and the journal grows instead.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("8589934592");
    }
}

section! {
    /// When the gateway saves its state, whichever comes first. More often means a faster restart and more writing.
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
        /// A sample from before 2020 may be this much older than its arrival. Raise it to replay old recordings.
        /// Samples since 2020 are accepted at any age that the sink of record keeps.
        accept_past: Period, Kind::Period(0, 73_000), Unwritten::Is("\"40d\"");
    }
}

section! {
    /// The embedded store: recent history for the page and the API, beside any other database.
    Embedded = EMBEDDED {
        /// Off only where an `[[influx]]` is the sink of record.
        enabled: bool, Kind::Switch, Unwritten::Is("true");
        /// How long history stays: at least accept_past and 5 days. A late sample finds its window's other samples
        /// here and revises the window. Whole months go, so some samples stay longer. As the sink of record, the store
        /// refuses older samples.
        retention: Period, Kind::Period(1, 73_000), Unwritten::Is("\"45d\"");
        /// Bytes on disk; the oldest history goes first.
        limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("21474836480");
    }
}

section! {
    /// Validated samples on MQTT, for Node-RED and other systems of the city: one message for each sample on
    /// hunhe/v1/clean/{operator}/{class}/{device}, {"t":ms,"q":quality,"v":{channel:value}}, QoS 1.
    Republish = REPUBLISH {
        /// Publish them, from a session `-clean`. The broker must allow the gateway's user to write there.
        enabled: bool, Kind::Switch, Unwritten::Is("false");
    }
}

section! {
    /// An external database; several are possible, each with its own pace. Environment variables name the database:
    /// HUNHE_INFLUX_MAIN_URL for the one named "main". With a single database HUNHE_INFLUX_URL works, too.
    Influx = INFLUX {
        /// Its name in logs, metrics and sink_of_record.
        name: String, Kind::Name, Unwritten::Is("\"influx\"");
        /// "influxdb2" or "victoriametrics": they differ in how a revised window replaces the previous one.
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
        /// The database's own retention: of its bucket, or VictoriaMetrics' -retentionPeriod. If it is the sink of record,
        /// the gateway refuses older samples. Without this key it refuses none.
        retention: Option<Period>, Kind::Period(1, 73_000), Unwritten::Absent("\"365d\"");
        /// Lines of one request.
        batch_rows: u32, Kind::Whole(1, 100_000), Unwritten::Is("5000");
        /// Seconds after which a request without an answer is repeated.
        timeout_s: u32, Kind::Whole(1, 600), Unwritten::Is("10");
        /// Seconds of writes that the database may lose when it is killed. The sink writes them again after a restart.
        /// As the sink of record it confirms samples this much later. Without this key: 20 for VictoriaMetrics, which
        /// writes to disk every 5 s, and 0 for InfluxDB, which syncs.
        durable_after_s: Option<u32>, Kind::Whole(0, 3_600), Unwritten::Absent("20");
        /// Which windows are written: "none", "daily", or "all" (a minute, a quarter of an hour, an hour, a day). Without
        /// this, "all" for InfluxDB and "none" for VictoriaMetrics: there each of a window's nine fields is a series with an
        /// index entry a day, so that a window costs what some hundred samples cost, and its queries aggregate samples:
        /// `avg_over_time(gas_station_detector_ch4[15m])`. The embedded store has all windows in any case.
        rollups: Option<Rollups>, Kind::OneOf(&["none", "daily", "all"]), Unwritten::Absent("\"all\"");
    }
}

section! {
    /// Quarantine: refused data with their payload, to examine and to redrive.
    QuarantineLimits = QUARANTINE {
        /// Records kept. At either limit the device with the largest share loses its oldest record, records without
        /// samples first. The ledger counts discarded samples as declared lost. A record takes 130 bytes of memory.
        limit_records: u64, Kind::Whole(1, 1_000_000), Unwritten::Is("100000");
        /// Bytes kept, payloads included.
        limit_bytes: u64, Kind::Whole(1 << 20, 1 << 40), Unwritten::Is("268435456");
        /// How long a record stays since its arrival or its last redrive.
        limit_age: Period, Kind::Period(1, 73_000), Unwritten::Is("\"90d\"");
    }
}

section! {
    /// Alerts. The page always shows them; this section and `[[webhook]]` name further outputs.
    Alerts = ALERTS {
        /// Publish them on hunhe/v1/alerts/{operator}/{severity}, QoS 1, from a session `-alerts`.
        mqtt: bool, Kind::Switch, Unwritten::Is("true");
        /// Bytes of the alert log, about 420 a change. At the limit the oldest changes go, delivered or not.
        log_limit_bytes: u64, LIMIT_BYTES, Unwritten::Is("67108864");
        /// Seconds after which an output that delivers nothing, although alerts wait for it, is an alert of its own.
        stalled_after_s: u32, Kind::Whole(1, 3_600), Unwritten::Is("30");
        /// Address that receives a POST each ten seconds while the gateway works, for a service that raises an alarm when
        /// they stop. Plain HTTP: keep it on this host, or let a local proxy do TLS. The broker receives the same on
        /// hunhe/v1/gateway/heartbeat.
        heartbeat_url: Option<String>, Kind::Url, Unwritten::Absent("\"http://127.0.0.1:9096/heartbeat\"");
    }
}

section! {
    /// A receiver of alerts over HTTP, each with its own pace: one POST with the alert as JSON, and Idempotency-Key. The
    /// variable HUNHE_WEBHOOK_DUTY_URL sets the address of the one named "duty"; for a single one HUNHE_WEBHOOK_URL works.
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
    /// The page and the API, without log-in and TLS: a proxy in front does both.
    Http = HTTP {
        /// Address to listen on: of loopback, since there is no log-in. Another one needs `unprotected`.
        listen: SocketAddr, Kind::Address, Unwritten::Is("\"127.0.0.1:8080\"");
        /// Confirms in words that others may reach `listen`, the backup with all data included.
        unprotected: Option<String>, Kind::OneOf(&[UNPROTECTED]),
            Unwritten::Absent("\"anyone who reaches this port may read and change everything\"");
        /// Host names and addresses under which requests are answered, beside those of loopback and `listen`: the
        /// names of the proxy in front. Requests for other hosts are refused with 421.
        hosts: Vec<String>, Kind::Hosts, Unwritten::Is("[]");
        /// Connections at once. Beyond it the connection idle for longest closes, or the new one. A low limit of open
        /// files means fewer connections.
        connections_max: u32, Kind::Whole(16, 10_000), Unwritten::Is("512");
        /// Connections at once from one address (IPv6: from one /64). All behind a proxy are one address.
        connections_per_peer_max: u32, Kind::Whole(8, 10_000), Unwritten::Is("256");
        /// Live streams at once; a further one closes the one opened first.
        sse_clients_max: u32, Kind::Whole(1, 10_000), Unwritten::Is("64");
    }
}

section! {
    /// Log lines on standard error.
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
