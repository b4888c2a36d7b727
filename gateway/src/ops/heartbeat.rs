//! A dead man's switch: each [`EVERY`] the gateway says that it works, and how it is. A receiver that misses a few of them
//! knows that alerts may no longer come, whatever the reason.
//!
//! It goes to the broker (`hunhe/v1/gateway/heartbeat`, QoS 0, not retained, on the session of alerts) and, where
//! `alerts.heartbeat_url` is set, by POST to a web address. A heartbeat that finds its way blocked is dropped: a late one
//! would be a lie.
//!
//! Bounds: one heartbeat waits, the newest. The ledger is asked for with [`PATIENCE`]; where it gives no answer the
//! heartbeat says so with `null`.

use crate::{
    alerts::deliver::status::{OutputStatus, Snapshot, State},
    api::{backend::Backend, types::Instant as At},
    clock::Clock,
    decide::LaneHandle,
    retry::{Repeats, http::words_of},
};
use bytes::Bytes;
use hunhe_log::Tail;
use serde::Serialize;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Between two heartbeats.
pub const EVERY: Duration = Duration::from_secs(10);
/// A question, or a POST, that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// The gateway's clock.
    pub time: At,
    /// Its version.
    pub version: &'static str,
    /// Whether the ledger closes; `null` where the gateway cannot say in time.
    pub ledger_closed: Option<bool>,
    /// Outputs of alerts that are stalled.
    pub stalled_outputs: Vec<String>,
    /// Outputs of alerts that have ended.
    pub stopped_outputs: Vec<String>,
    /// Journal records that are not decided yet.
    pub lane_lag_records: u64,
}

/// What a heartbeat is made of.
pub struct Source {
    /// For the ledger.
    pub backend: Arc<dyn Backend>,
    /// The outputs of alerts.
    pub outputs: Vec<Arc<OutputStatus>>,
    /// How far the lane is.
    pub lane: LaneHandle,
    /// The journal.
    pub journal: Tail,
    /// The calendar.
    pub clock: Clock,
}

impl Source {
    async fn heartbeat(&self) -> Heartbeat {
        let status = tokio::time::timeout(PATIENCE, self.backend.status()).await;
        let outputs: Vec<Snapshot> = self.outputs.iter().map(|output| output.snapshot()).collect();
        let names = |which: fn(&Snapshot) -> bool| {
            outputs.iter().filter(|output| which(output)).map(|output| output.name.clone()).collect()
        };
        let handled = self.lane.progress().handled.load(Ordering::Relaxed);
        Heartbeat {
            time: At(self.clock.now_ms()),
            version: env!("CARGO_PKG_VERSION"),
            ledger_closed: status.ok().and_then(Result::ok).map(|status| status.ledger.closed),
            stalled_outputs: names(|output| output.stalled_since_ms.is_some()),
            stopped_outputs: names(|output| {
                output.stalled_since_ms.is_none() && output.state == State::Stopped
            }),
            lane_lag_records: self.journal.head().0.saturating_sub(handled),
        }
    }
}

/// Makes heartbeats until `stopped`.
pub async fn run(source: Source, beats: watch::Sender<Bytes>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        // Names and numbers always serialise.
        if let Ok(json) = serde_json::to_vec(&source.heartbeat().await) {
            beats.send_replace(json.into());
        }
    }
}

/// Posts them to `url` until `stopped`.
///
/// # Errors
/// Where the machine refuses a client.
pub async fn post(
    url: String,
    mut beats: watch::Receiver<Bytes>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let client =
        reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
    let (begun, mut failed) = (Instant::now(), Repeats::default());
    loop {
        tokio::select! {
            beat = beats.changed() => if beat.is_err() { return Ok(()) },
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let body = beats.borrow_and_update().clone();
        let request = client.post(&url).header("content-type", "application/json").body(body);
        let words = match request.send().await {
            Ok(answer) if answer.status().is_success() => continue,
            Ok(answer) => answer.status().to_string(),
            Err(error) => words_of(&error),
        };
        let now_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(repeats) = failed.due(now_ms) {
            tracing::warn!(words, repeats, "a heartbeat was not taken at alerts.heartbeat_url");
        }
    }
}
