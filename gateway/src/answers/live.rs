//! The live stream's source: what changed since the last look, twice a second, while somebody listens.

use super::{Answers, quarantine};
use crate::{
    api::{
        live::{FLUSH_INTERVAL, Hub},
        types::Latest,
    },
    decided,
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

    /// Returns the newest id that was announced or was there before.
    async fn announce_refused(&self, hub: &Hub, announced: u64) -> u64 {
        let after = (announced != u64::MAX).then_some(announced);
        let limit = if after.is_some() { RECORDS_AT_ONCE } else { usize::MAX };
        let Ok(records) = self.read_store(move |store| store.list_quarantine(after, limit)).await else {
            return announced;
        };
        let newest = records.last().map_or(if after.is_some() { announced } else { 0 }, |(id, _)| *id);
        if after.is_some() {
            for (id, bytes) in &records {
                if let Ok(refused) = decided::read_refused_record(bytes) {
                    hub.quarantined(&quarantine::describe(&self.registry, *id, &refused));
                }
            }
        }
        newest
    }
}
