//! The sink for databases that speak InfluxDB 2's write API: InfluxDB 2 itself, and VictoriaMetrics.
//!
//! Promises
//! - Every decided sample and window is written, or handed over as a dead letter with the database's own words, before the
//!   cursor passes it. Order of hand-over is that of the log: dead letters of a batch, its confirmations, then its cursor.
//!   Where a dead letter cannot be kept, the cursor waits.
//! - All three follow only once the batch is *durable* at the database: a 204 is a promise that VictoriaMetrics breaks when
//!   it is killed. Until [`Options::durable_after`] has passed and the same process is seen alive, a batch is held in
//!   [`durability`]; when the process has changed, everything behind the cursor is written again.
//! - VictoriaMetrics answers 204 to rows that it skips. Where its counters say so, what may hold such rows is read back,
//!   and what is not there becomes a dead letter ([`readback`]).
//! - Before the first write the database is asked whether it is there and what the configuration says ([`setup`]).
//! - A database that is down, slow, full or misconfigured delays nothing but this sink: the data waits in the decided
//!   log, in memory are at most [`Options::in_flight_max`] + 1 batches, and the confirmations that [`durability`] bounds.
//! - A batch holds whole source records only, and relies on the decided log showing no part of one.
//!
//! After a crash of either side batches are written twice, byte for byte, which the database takes as once; they are
//! confirmed once. What a request means, and how long to wait, is decided in [`crate::retry`].
//!
//! A stop waits for no lag: what is not durable by then is written again after the next start.
//!
//! Deliberately absent: TLS (the database, or a proxy to it, is on this host), compression, and reading back what no
//! counter gives a reason to doubt. Where VictoriaMetrics refuses the export, its 204 is believed, with a warning.

mod batch;
pub mod dead_letters;
mod deliver;
mod durability;
mod handover;
pub mod line_protocol;
mod readback;
mod run;
pub mod setup;
mod watch;

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hunhe_gateway_core::{event::Rollups, registry::Registry};
use hunhe_proto::id::Id;
use tokio::sync::watch as signal;

use super::{Running, Site, status::SinkStatus};
use crate::{
    decided::Confirmation,
    setup::config::{self, InfluxKind},
};
use hunhe_log::Tail;
use hunhe_log::cursor::{CursorError, CursorFile, Held};
use line_protocol::{Dialect, Encoder, Style, TextError};

/// Where and how to write.
#[derive(Clone)]
pub struct Options {
    /// For people, and in metrics.
    pub name: String,
    /// `http://host:port`, without a path.
    pub url: String,
    /// InfluxDB's organisation; VictoriaMetrics ignores it.
    pub org: String,
    /// InfluxDB's bucket; VictoriaMetrics ignores it.
    pub bucket: String,
    /// Sent as `Authorization: Token …`; empty: none is sent. Never printed.
    pub token: String,
    /// How long the bucket keeps samples, where this sink creates it; `None`: for ever.
    pub retention_s: Option<u64>,
    /// Which database that is.
    pub dialect: Dialect,
    /// Add `boot` and `seq` to each sample.
    pub provenance: bool,
    /// Is this the sink of record? Then it confirms, and the ledger's `stored` is what it wrote.
    pub of_record: bool,
    /// The source record up to which the confirmations of whoever is of record are counted already.
    pub confirmed: u64,
    /// The file of this sink's cursor.
    pub cursor: PathBuf,
    /// Its cursor may not stand beyond this source record: what is behind it is decided again, or not counted yet.
    pub cursor_through: u64,
    /// Which windows are written.
    pub rollups: Rollups,
    /// A batch is sent once it has this many lines; it may exceed them by one message's.
    pub batch_rows: NonZero<u32>,
    /// Or this many bytes, likewise.
    pub batch_bytes: NonZero<u32>,
    /// Or when nothing came for this long and no other is on its way.
    pub idle_flush: Duration,
    /// Batches on their way at once.
    pub in_flight_max: NonZero<u8>,
    /// A request without an answer counts as failed after this long.
    pub request_timeout: Duration,
    /// How long after its 204 the database may still lose a row when it is killed; see [`durable_after`].
    pub durable_after: Duration,
}

/// How long a database of that kind may lose what it has taken when it is killed.
///
/// VictoriaMetrics gathers rows for up to three seconds in whole seconds of its clock, makes parts in memory of them, and every
/// five seconds writes those to disk that are five seconds old: some 13 s, and the writing. InfluxDB syncs its WAL before
/// it answers.
#[must_use]
pub const fn durable_after(dialect: Dialect) -> Duration {
    match dialect {
        Dialect::Influxdb => Duration::ZERO,
        Dialect::Victoriametrics => Duration::from_secs(20),
    }
}

/// Which windows a database gets, as configured or by its kind.
#[must_use]
pub fn rollups(database: &config::Influx) -> Rollups {
    database.rollups.unwrap_or(match database.kind {
        InfluxKind::Influxdb2 => Rollups::All,
        InfluxKind::Victoriametrics => Rollups::None,
    })
}

impl Options {
    /// The defaults for a database at `url`.
    #[must_use]
    pub fn new(name: &str, url: &str, dialect: Dialect, cursor: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            org: String::new(),
            bucket: String::new(),
            token: String::new(),
            retention_s: None,
            dialect,
            provenance: false,
            of_record: false,
            confirmed: 0,
            cursor,
            cursor_through: u64::MAX,
            rollups: Rollups::All,
            batch_rows: NonZero::new(10_000).unwrap_or(NonZero::<u32>::MIN),
            batch_bytes: NonZero::new(8 << 20).unwrap_or(NonZero::<u32>::MIN),
            idle_flush: Duration::from_millis(2),
            in_flight_max: NonZero::new(2).unwrap_or(NonZero::<u8>::MIN),
            request_timeout: Duration::from_secs(30),
            durable_after: durable_after(dialect),
        }
    }

    /// What a configuration section says.
    #[must_use]
    pub fn of(database: &config::Influx, cursor: PathBuf) -> Self {
        let dialect = match database.kind {
            InfluxKind::Influxdb2 => Dialect::Influxdb,
            InfluxKind::Victoriametrics => Dialect::Victoriametrics,
        };
        let mut options = Self::new(&database.name, &database.url, dialect, cursor);
        options.org.clone_from(&database.org);
        options.bucket.clone_from(&database.bucket);
        options.token = database.token.as_ref().map_or_else(String::new, |token| token.expose().to_owned());
        options.retention_s = database.retention.map(config::Period::as_s);
        options.batch_rows = NonZero::new(database.batch_rows).unwrap_or(options.batch_rows);
        options.request_timeout = Duration::from_secs(database.timeout_s.into());
        options.rollups = rollups(database);
        if let Some(seconds) = database.durable_after_s {
            options.durable_after = Duration::from_secs(seconds.into());
        }
        options
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("dialect", &self.dialect)
            .field("of_record", &self.of_record)
            .finish_non_exhaustive()
    }
}

/// Something that the sink could not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The journal record behind it.
    pub source_lsn: u64,
    /// Whose.
    pub device: Id,
    /// Which outbox; 0 for a window.
    pub boot: u32,
    /// The first of its samples.
    pub seq: u64,
    /// How many samples; 0 for a window.
    pub samples: u32,
    /// The line as written; empty where none could be made.
    pub line: String,
    /// The database's words, or ours where no line could be made.
    pub words: String,
}

/// What the sink hands over, in the order of the log, on its own thread. Blocking there blocks the sink alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// These could not be written: have them on disk before returning. Already counted as quarantined in the confirmation
    /// that follows.
    DeadLetters(Vec<DeadLetter>),
    /// What became of a batch's samples; from the sink of record only.
    Confirmed(Vec<Confirmation>),
}

/// Dead letters cannot be kept; the sink holds its cursor and hands them over again.
#[derive(Debug, thiserror::Error)]
#[error("dead letters cannot be kept: {0}")]
pub struct NotKept(pub String);

/// Takes the sink's reports.
pub type Reports = Box<dyn FnMut(Report) -> Result<(), NotKept> + Send>;

/// A sink cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not a URL this sink can use.
    #[error("sink {name}: url must be http://host:port, since TLS ends at a proxy on this host")]
    Url {
        /// The sink.
        name: String,
    },
    /// The token cannot be sent in a header.
    #[error(
        "sink {name}: token has characters that no header can carry: check the secret's file for line ends"
    )]
    Token {
        /// The sink.
        name: String,
    },
    /// Its cursor's file.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// A class's name.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No thread, or no HTTP client.
    #[error("sink {name}: cannot {action}: check the limits of this process")]
    System {
        /// The sink.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The databases that the configuration names.
pub(super) fn register(site: &Site<'_>) -> anyhow::Result<Vec<Running>> {
    let start_one = |database: &config::Influx| {
        let options = options_of(database, site);
        let reports = reports_of(&options, site);
        let registry = Arc::clone(site.registry);
        Ok(start(options, registry, site.decided.clone(), reports)?)
    };
    site.config.influx.iter().map(start_one).collect()
}

fn options_of(database: &config::Influx, site: &Site<'_>) -> Options {
    let cursor = site.config.data_dir.join(format!("{}.cursor", database.name));
    let mut options = Options::of(database, cursor);
    options.of_record = site.config.sink_of_record == database.name;
    options.confirmed = site.counted.of_record;
    options.cursor_through = site.counted.through(options.of_record);
    options
}

/// Confirmations go to the ledger, dead letters into the quarantine.
fn reports_of(options: &Options, site: &Site<'_>) -> Reports {
    let (store, ledger, clock) = (Arc::clone(site.store), Arc::clone(&site.ledger), site.clock);
    let (sink, of_record): (Arc<str>, bool) = (options.name.as_str().into(), options.of_record);
    Box::new(move |report| match report {
        Report::Confirmed(rows) => {
            // A batch of windows alone confirms nothing, and must not take the confirmed position back.
            if let Some(source_lsn) = rows.iter().map(|row| row.source_lsn).max() {
                ledger.confirmed(&sink, source_lsn, rows);
            }
            Ok(())
        }
        Report::DeadLetters(letters) => {
            dead_letters::keep(&store, &sink, of_record, &letters, clock.now_ms())
                .map_err(|error| NotKept(format!("{:#}", anyhow::Error::from(error))))
        }
    })
}

/// Starts the sink on its own thread, at its cursor in the decided log behind `tail`.
///
/// # Errors
/// [`StartError`] for what no waiting mends. A database that is down is no error: see its status.
pub fn start(
    options: Options,
    registry: Arc<Registry>,
    tail: Tail,
    reports: Reports,
) -> Result<Running, StartError> {
    let system = |action| {
        let name = options.name.clone();
        move |source: Box<dyn std::error::Error + Send + Sync>| StartError::System { name, action, source }
    };
    let style = Style { dialect: options.dialect, provenance: options.provenance };
    let encoder = Encoder::new(registry, style)?;
    let database = Arc::new(deliver::Database::new(&options)?);
    let (cursor, held) =
        CursorFile::open_through(&*hunhe_disk::real(), &options.cursor, options.cursor_through)?;
    let status = Arc::new(SinkStatus::new(options.name.clone(), tail.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| system("make a runtime")(error.into()))?;
    let no_thread = system("start a thread");
    let writing = Writing { options, encoder, database, tail, cursor, held, status, reports, runtime };
    Running::start(writing).map_err(|error| no_thread(error.into()))
}

/// All that the thread works with.
struct Writing {
    options: Options,
    encoder: Encoder,
    database: Arc<deliver::Database>,
    tail: Tail,
    cursor: CursorFile,
    held: Held,
    status: Arc<SinkStatus>,
    reports: Reports,
    runtime: tokio::runtime::Runtime,
}

impl super::Sink for Writing {
    fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(&self.status)
    }

    fn run(self, stop: signal::Receiver<bool>) {
        let Self { options, encoder, database, tail, cursor, held, status, reports, runtime } = self;
        let sink = run::Sink::new(options, encoder, database, tail, cursor, status, reports, stop);
        runtime.block_on(sink.run(held));
    }
}
