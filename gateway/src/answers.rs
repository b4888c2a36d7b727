//! Answers to the HTTP interface's questions, from the lane, the store and the threads' own counters.
//!
//! Questions to the lane are answered on its thread, between two records, so that a ledger is one instant's. Answers
//! over all devices are kept for [`FRESH`]: a hundred open pages cost the lane no more than one.
//! Devices are named by pseudonym; a household's position is not shown.

mod alerts;
mod backup;
mod devices;
mod live;
mod quarantine;
mod sinks;
mod status;

use crate::{
    alerts::{Book, log::Figures},
    api::{
        ApiError,
        backend::{
            AlertQuery, Answer, Backend, BackupStream, DeviceQuery, LedgerQuery, QuarantineQuery, SeriesQuery,
        },
        metrics::Metric,
        types::{
            AlertPage, Class, Device, DevicePage, District, Ledger, QuarantinePage, QuarantineRecord,
            Redriven, Rule, Series, Status, Zone,
        },
    },
    backup::Source,
    clock::Clock,
    intake::Acknowledger,
    journal::{Intake, Tail},
    lane::{DistrictReadings, LaneEnded, LaneHandle},
    notify::status::OutputStatus,
    places::Places,
    record::Entering,
    sinks::status::SinkStatus,
    store::{Store, StoreError},
};
use hunhe_gateway_core::{lane::Lane, registry::Registry};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How long an answer over all devices is given again.
pub const FRESH: Duration = Duration::from_millis(400);

/// What is asked about alerts.
pub struct Alerting {
    /// Alerts as they stand.
    pub book: Arc<Book>,
    /// The alert log's figures.
    pub figures: Arc<Figures>,
    /// Where alerts are delivered.
    pub outputs: Vec<Arc<OutputStatus>>,
    /// Values accepted, by district.
    pub readings: Arc<DistrictReadings>,
}

/// The running gateway, as far as it is asked.
pub struct Answers {
    registry: Arc<Registry>,
    places: Arc<Places>,
    alerting: Alerting,
    clock: Clock,
    started_ms: i64,
    lane: LaneHandle,
    journal: Intake<Entering>,
    journal_tail: Tail,
    store: Arc<Store>,
    sinks: Vec<Arc<SinkStatus>>,
    sessions: Acknowledger,
    kept: tokio::sync::Mutex<Option<(Instant, Status)>>,
    rate: Mutex<status::Rate>,
    kept_for_backup: Source,
    backing_up: Arc<tokio::sync::Mutex<()>>,
}

impl Answers {
    /// Answers for these parts.
    #[expect(clippy::too_many_arguments, reason = "it is asked about every part there is")]
    pub(crate) fn new(
        registry: Arc<Registry>,
        places: Arc<Places>,
        alerting: Alerting,
        clock: Clock,
        lane: LaneHandle,
        journal: Intake<Entering>,
        journal_tail: Tail,
        store: Arc<Store>,
        sinks: Vec<Arc<SinkStatus>>,
        sessions: Acknowledger,
        kept_for_backup: Source,
    ) -> Self {
        Self {
            registry,
            places,
            alerting,
            clock,
            started_ms: clock.now_ms(),
            lane,
            journal,
            journal_tail,
            store,
            sinks,
            sessions,
            kept: tokio::sync::Mutex::default(),
            rate: Mutex::default(),
            kept_for_backup,
            backing_up: Arc::default(),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Lane) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.lane.ask(question).await.map_err(|LaneEnded| {
            ApiError::Unavailable("the lane does not answer: see readyz and the log".into())
        })
    }

    /// Work that reads the disk goes where it may block.
    async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || read(&store)).await;
        match read {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::error!(error = ?error, "the embedded store cannot be read");
                Err(ApiError::Internal)
            }
            Err(error) => {
                tracing::error!(%error, "reading the embedded store ended badly");
                Err(ApiError::Internal)
            }
        }
    }

    /// The ledger's totals now, past any kept answer.
    ///
    /// # Errors
    /// Where the lane has ended.
    pub async fn ledger_now(&self) -> Result<Ledger, ApiError> {
        self.ledger_of(LedgerQuery { by: None, after: None, limit: 0 }).await
    }
}

impl Backend for Answers {
    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn status(&self) -> Answer<'_, Status> {
        Box::pin(self.status_kept())
    }

    fn ledger(&self, query: LedgerQuery) -> Answer<'_, Ledger> {
        Box::pin(self.ledger_of(query))
    }

    fn classes(&self) -> Answer<'_, Vec<Class>> {
        Box::pin(self.classes_now())
    }

    fn districts(&self) -> Answer<'_, Vec<District>> {
        Box::pin(self.districts_now())
    }

    fn zones(&self) -> Answer<'_, Vec<Zone>> {
        Box::pin(self.zones_now())
    }

    fn devices(&self, query: DeviceQuery) -> Answer<'_, DevicePage> {
        Box::pin(self.devices_of(query))
    }

    fn device(&self, id: String) -> Answer<'_, Device> {
        Box::pin(self.device_of(id))
    }

    fn series(&self, query: SeriesQuery) -> Answer<'_, Series> {
        Box::pin(self.series_of(query))
    }

    fn quarantine(&self, query: QuarantineQuery) -> Answer<'_, QuarantinePage> {
        Box::pin(self.quarantine_of(query))
    }

    fn quarantined(&self, id: String, payload: bool) -> Answer<'_, QuarantineRecord> {
        Box::pin(self.record_of(id, payload))
    }

    fn redrive(&self, id: String) -> Answer<'_, Redriven> {
        Box::pin(self.redrive_of(id))
    }

    fn alerts(&self, query: AlertQuery) -> Answer<'_, AlertPage> {
        Box::pin(async move { Ok(self.alerting.book.page(&query)) })
    }

    fn rules(&self) -> Answer<'_, Vec<Rule>> {
        Box::pin(async { Ok(self.rules_as_written()) })
    }

    fn backup(&self) -> Answer<'_, BackupStream> {
        Box::pin(async { self.backup_now() })
    }

    fn metrics(&self) -> Answer<'_, Vec<Metric>> {
        Box::pin(self.metrics_now())
    }

    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(async { self.ready_now() })
    }
}

/// Devices by some key of theirs.
type Counts = BTreeMap<String, Count>;

/// Devices that share a key.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    devices: u64,
    reporting: u64,
    /// Heard once, and silent now.
    silent: u64,
}
