//! The gateway at this moment, and whether it is ready.

use super::{Answers, ledger::totals_of, quarantine, sinks};
use crate::{
    alerts::list::Firing,
    api::{
        ApiError,
        types::{Instant as At, JournalStatus, LaneStatus, QuarantineStatus, Status},
    },
};
use hunhe_gateway_core::lane::Counters;
use hunhe_log::State as JournalState;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

/// Readings a second over the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    const OVER_S: f64 = 5.0;

    fn note(&mut self, now: Instant, readings: u64) -> f64 {
        self.seen.push_back((now, readings));
        while self.seen.len() > 2
            && self.seen.front().is_some_and(|(at, _)| (now - *at).as_secs_f64() > Self::OVER_S)
        {
            self.seen.pop_front();
        }
        let Some(&(since, before)) = self.seen.front() else { return 0.0 };
        let seconds = (now - since).as_secs_f64();
        if seconds < 0.1 { 0.0 } else { count(readings.saturating_sub(before)) / seconds }
    }
}

/// What quarantine and alerts came to, within the last [`FRESH`](super::FRESH).
#[derive(Debug)]
pub(super) struct Standing {
    quarantine: QuarantineStatus,
    pub(super) firing: Firing,
    /// Open alerts that the list had no room for, over time.
    pub(super) forgotten: u64,
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

impl Answers {
    pub(super) async fn status_kept(&self) -> Result<Status, ApiError> {
        let mut kept = self.kept.lock().await;
        if let Some((at, status)) = &*kept
            && at.elapsed() < super::FRESH
        {
            return Ok(status.clone());
        }
        let status = self.status_now().await?;
        *kept = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// What stands behind locks that are held for longer than a worker of the interface may wait: looked at elsewhere.
    pub(super) async fn standing_now(&self) -> Result<Arc<Standing>, ApiError> {
        let (store, list) = (Arc::clone(&self.store), Arc::clone(&self.alerting.list));
        let look = move || Standing {
            quarantine: quarantine::status_of(&store),
            firing: list.firing(),
            forgotten: list.forgotten(),
        };
        self.standing.get(self.queries.figures(), look).await
    }

    async fn status_now(&self) -> Result<Status, ApiError> {
        let now_ms = self.clock.now_ms();
        let census = self.census_now().await?;
        let standing = self.standing_now().await?;
        let seen = self.view.published.overview();
        let counters = &seen.counters;
        let progress = self.lane.progress();
        let handled = progress.handled.load(Ordering::Relaxed);
        let head = self.journal_tail.head().0;
        let readings_per_s =
            self.rate.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now(), counters.readings);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: At(self.started_ms),
            uptime_s: u64::try_from(now_ms.saturating_sub(self.started_ms)).unwrap_or(0) / 1000,
            now: At(now_ms),
            readings_per_s,
            samples_total: counters.samples,
            messages_total: counters.messages,
            devices_known: self.registry.devices().len() as u64,
            devices_online: seen.devices_online,
            devices_reporting: census.all.reporting,
            lanes: vec![LaneStatus {
                lane: 0,
                devices: self.registry.devices().len() as u64,
                queued_records: head.saturating_sub(handled),
                applied: handled,
            }],
            journal: JournalStatus { bytes: self.journal_tail.bytes(), head: head + 1, durable: head },
            sinks: self.sinks.iter().map(|sink| sinks::shown(&sink.snapshot())).collect(),
            ledger: totals_of(&seen),
            quarantined_by_reason: refused_of(counters),
            quarantine: standing.quarantine.clone(),
            retired: self.retired_now(),
            alerts: standing.firing.into(),
            outputs: self.outputs_now(),
            over_share: self.over_share_now(),
        })
    }

    pub(super) fn ready_now(&self) -> Result<(), ApiError> {
        let missing = |what: &str| Err(ApiError::Unavailable(what.into()));
        if self.journal.status().state != JournalState::Running {
            return missing("the journal takes nothing: it is at its limit or has failed, see the log");
        }
        if self.alerting.figures.unfollowed.load(Ordering::Relaxed) {
            return missing("the alert log cannot be read: page and lists show no newer alerts, see the log");
        }
        if !self.sessions.all_ready() {
            return missing("not connected to the broker, or not subscribed yet");
        }
        Ok(())
    }
}

/// What was refused, by reason: whole messages and samples.
fn refused_of(counters: &Counters) -> BTreeMap<String, u64> {
    let mut refused = counters.messages_refused.clone();
    for (reason, number) in &counters.samples_refused {
        *refused.entry(reason.clone()).or_default() += number;
    }
    refused
}
