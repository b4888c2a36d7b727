//! The live stream's source: what changed since the last look, twice a second, while somebody listens.

use super::{Answers, View, quarantine};
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
        let published = &self.view.published;
        let mut since = published.number();
        let mut announced = u64::MAX;
        let mut every = tokio::time::interval(FLUSH_INTERVAL);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            if !hub.awake() {
                since = published.number();
                announced = u64::MAX;
                continue;
            }
            // What is published meanwhile is noted once more by the next look.
            let before = std::mem::replace(&mut since, published.number());
            hub.note(self.changed_since(before).await);
            announced = self.announce_refused(&hub, announced).await;
        }
    }

    async fn changed_since(&self, publication: u64) -> Vec<Latest> {
        let view = Arc::clone(&self.view);
        // Only a panic leaves it without an answer, and that is in the log.
        tokio::task::spawn_blocking(move || changed(&view, publication)).await.unwrap_or_default()
    }

    /// Announces the records that came behind the `since`-th, the newest where there are too many; `u64::MAX`: none.
    /// Returns how many came by now: what cannot be read now is not tried again, or nothing behind it would be announced.
    async fn announce_refused(&self, hub: &Hub, since: u64) -> u64 {
        let new = self.read_store(move |store| Ok(store.records_since(since, RECORDS_AT_ONCE))).await;
        let Ok((ids, came)) = new else { return since };
        let (registry, unreadable) = (Arc::clone(&self.registry), Arc::clone(&self.unreadable));
        let read = self.read_store(move |store| {
            let mut decoding = quarantine::Decoding::default();
            let mut records = Vec::new();
            for id in ids {
                match quarantine::read_described(store, &registry, &mut decoding, id) {
                    Ok(Some((record, _))) => records.push(record),
                    // One that is gone by now was not worth a word.
                    Ok(None) => {}
                    Err(error) => unreadable.note(id, &error),
                }
            }
            Ok(records)
        });
        // Only a panic leaves it without an answer, and that is in the log.
        let records = read.await.unwrap_or_default();
        records.iter().for_each(|record| hub.quarantined(record));
        came
    }
}

/// The newest values of devices that have reported since that publication.
fn changed(view: &View, publication: u64) -> Vec<Latest> {
    let mut changed = Vec::new();
    for device in view.published.reported_since(publication).take(DEVICES_AT_ONCE) {
        let Some(row) = view.published.row(device).filter(|row| row.last_ms != i64::MIN) else { continue };
        let channels = &view.registry.class_of(device).class.channels;
        let name: Arc<str> = view.registry.device(device).pseudonym.as_str().into();
        for (channel, &wire) in channels.iter().zip(&row.last).filter(|(_, wire)| **wire != ABSENT) {
            changed.push(Latest {
                device: Arc::clone(&name),
                channel: channel.name.as_str().into(),
                time: row.last_ms,
                value: Some(channel.value(wire)),
                quality: row.last_quality,
            });
        }
    }
    changed
}
