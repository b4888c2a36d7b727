//! The live stream's source: what changed since the last look, twice a second, while somebody listens.

use super::{Answers, quarantine};
use crate::api::{
    live::{FLUSH_INTERVAL, Hub},
    types::Latest,
};
use hunhe_gateway_core::event::ABSENT;
use std::sync::Arc;
use tokio::sync::watch;

/// Devices looked at for one flush; others have their turn with their next message.
const DEVICES_AT_ONCE: usize = 5000;
/// Quarantine records announced in one flush.
const RECORDS_AT_ONCE: usize = 50;

impl Answers {
    /// Feeds the hub until `stopped`.
    pub(crate) async fn publish_live(&self, hub: Arc<Hub>, mut stopped: watch::Receiver<bool>) {
        let mut since_ms = self.clock.now_ms();
        let mut announced = u64::MAX;
        let mut every = tokio::time::interval(FLUSH_INTERVAL);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            if !hub.awake() {
                since_ms = self.clock.now_ms();
                announced = u64::MAX;
                continue;
            }
            let from_ms = std::mem::replace(&mut since_ms, self.clock.now_ms());
            let Ok(changed) = self.changed_since(from_ms).await else { return };
            hub.note(changed);
            announced = self.announce_refused(&hub, announced).await;
        }
    }

    async fn changed_since(&self, from_ms: i64) -> Result<Vec<Latest>, crate::api::ApiError> {
        let registry = Arc::clone(&self.registry);
        self.ask(move |lane| {
            let mut changed = Vec::new();
            let recent =
                lane.states().filter(|(_, state)| state.arrival_ms >= from_ms && state.last_ms != i64::MIN);
            for (device, state) in recent.take(DEVICES_AT_ONCE) {
                let channels = &registry.class_of(device).class.channels;
                let name: Arc<str> = registry.device(device).pseudonym.as_str().into();
                for (channel, &wire) in channels.iter().zip(&state.last).filter(|(_, wire)| **wire != ABSENT)
                {
                    changed.push(Latest {
                        device: Arc::clone(&name),
                        channel: channel.name.as_str().into(),
                        time: state.last_ms,
                        value: Some(channel.value(wire)),
                        quality: state.last_quality,
                    });
                }
            }
            changed
        })
        .await
    }

    /// Announces the records that came behind the `since`-th, the newest where there are too many; `u64::MAX`: none.
    /// Returns how many came by now.
    async fn announce_refused(&self, hub: &Hub, since: u64) -> u64 {
        let registry = Arc::clone(&self.registry);
        let read = self.read_store(move |store| {
            let (ids, came) = store.records_since(since, RECORDS_AT_ONCE);
            let mut records = Vec::new();
            for id in ids {
                // One that is gone by now was not worth a word.
                if let Some(record) = store.record(id)? {
                    records.push(quarantine::describe(&registry, store, id, &record)?);
                }
            }
            Ok((records, came))
        });
        let Ok((records, came)) = read.await else { return since };
        records.iter().for_each(|record| hub.quarantined(record));
        came
    }
}
