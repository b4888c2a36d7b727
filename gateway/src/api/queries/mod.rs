//! Answers to the HTTP interface's questions, from the lane's published view, the store and the threads' own counters.
//!
//! Nothing here runs on the lane's thread, and it waits for nothing here: see [`published`](crate::decide::published). What
//! goes over many devices or reads the store runs on blocking threads, a few at a time: within the bounds of `queries.rs`,
//! of `reads.rs`, or one at a time (a backup, the live stream). What is the same for all who ask is made once in [`FRESH`].
//! Devices are named by pseudonym; a household's position is not shown.

mod admission;
mod alerts;
mod backup;
mod devices;
mod directory;
mod filter;
mod intake;
mod ledger;
mod live;
mod metrics;
mod quarantine;
mod reads;
mod series;
mod sinks;
mod status;
mod view;
mod write_offs;

pub use directory::Directory;
pub use view::View;

use crate::{
    alerts::{AlertList, deliver::status::OutputStatus, log::Figures},
    api::{
        ApiError,
        backend::{
            AlertQuery, Answer, Backend, BackupStream, DeviceQuery, LedgerQuery, QuarantineQuery,
            SeriesQuery, WriteOffQuery,
        },
        metrics::Metric,
        types::{
            AlertPage, Class, Device, DevicePage, District, Ledger, QuarantinePage, QuarantineRecord,
            Redriven, Rule, Series, Status, WriteOff, WriteOffOrder, WriteOffPage, Zone,
        },
    },
    backup::Source,
    clock::Clock,
    decide::LaneHandle,
    intake::Acknowledger,
    record::Entering,
    setup::places::Places,
    sinks::status::SinkStatus,
};
use admission::{Fresh, Queries};
use hunhe_gateway_core::registry::Registry;
use hunhe_log::{Intake, Tail};
use hunhe_store::{Store, StoreError};
use reads::Reads;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How long an answer over all devices is given again.
pub const FRESH: Duration = Duration::from_millis(400);

/// What is asked about alerts.
pub struct Alerting {
    /// Alerts as they stand.
    pub list: Arc<AlertList>,
    /// The alert log's figures.
    pub figures: Arc<Figures>,
    /// Where alerts are delivered.
    pub outputs: Vec<Arc<OutputStatus>>,
}

/// The running gateway, as far as it is asked.
pub struct Answers {
    registry: Arc<Registry>,
    view: Arc<View>,
    queries: Queries,
    census: Fresh<view::Census>,
    parts: Fresh<view::Parts>,
    standing: Fresh<status::Standing>,
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
    reads: Reads,
    quarantine_reads: Reads,
    unreadable: Arc<quarantine::Unreadable>,
    writing_off: tokio::sync::Mutex<()>,
    kept_for_backup: Source,
    backing_up: Arc<tokio::sync::Mutex<()>>,
}

impl Answers {
    /// The outputs of alerts.
    #[must_use]
    pub fn outputs(&self) -> &[Arc<OutputStatus>] {
        &self.alerting.outputs
    }

    /// Answers for these parts.
    #[expect(clippy::too_many_arguments, reason = "it is asked about every part there is")]
    pub(crate) fn new(
        view: View,
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
            registry: Arc::clone(&view.registry),
            view: Arc::new(view),
            queries: Queries::default(),
            census: Fresh::default(),
            parts: Fresh::default(),
            standing: Fresh::default(),
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
            reads: series::places(),
            quarantine_reads: quarantine::places(),
            unreadable: Arc::default(),
            writing_off: tokio::sync::Mutex::default(),
            kept_for_backup,
            backing_up: Arc::default(),
        }
    }

    /// All devices, counted within the last [`FRESH`].
    async fn census_now(&self) -> Result<Arc<view::Census>, ApiError> {
        let (view, list) = (Arc::clone(&self.view), Arc::clone(&self.alerting.list));
        let now_ms = self.clock.now_ms();
        self.census.get(self.queries.figures(), move || view.census(now_ms, list.by_district())).await
    }

    /// Work that reads the disk goes where it may block. Nothing bounds it here: for a request see [`Self::read_in`].
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

    /// The ledger's totals as the lane last published them.
    #[must_use]
    pub fn ledger_now(&self) -> Ledger {
        let totals = ledger::totals_of(&self.view.published.overview());
        Ledger { totals, retired: self.retired_now(), by: None, rows: Vec::new(), next: None }
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

    fn write_off(&self, order: WriteOffOrder) -> Answer<'_, WriteOff> {
        Box::pin(self.write_off_now(order))
    }

    fn write_offs(&self, query: WriteOffQuery) -> Answer<'_, WriteOffPage> {
        Box::pin(async move { Ok(self.write_offs_of(query)) })
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
        // Alerts are listed under the lock by which they enter the list: few at a time may.
        Box::pin(async move {
            let list = Arc::clone(&self.alerting.list);
            self.queries.run(move || AlertPage::from(&list.page(&query.into()))).await
        })
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

#[cfg(test)]
mod tests;
