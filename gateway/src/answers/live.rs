//! The live stream's source: what changed since the last look, twice a second, while somebody listens.

use super::{Answers, quarantine};
use crate::{
    api::{
        ApiError,
        live::{FLUSH_INTERVAL, Hub},
        types::Latest,
    },
    clock::Clock,
    decided,
};
use hunhe_gateway_core::event::ABSENT;
use std::{future::Future, sync::Arc};
use tokio::sync::watch;

/// Devices looked at for one flush; others have their turn with their next message.
const DEVICES_AT_ONCE: usize = 5000;
/// Quarantine records announced in one flush.
const RECORDS_AT_ONCE: usize = 50;

/// Feeds the hub until `stopped`. A look that gets no answer is counted, and the next one covers its time as well.
async fn publish<C, A>(
    hub: &Hub,
    clock: Clock,
    mut stopped: watch::Receiver<bool>,
    changed_since: impl Fn(i64) -> C,
    announce_behind: impl Fn(u64) -> A,
) where
    C: Future<Output = Result<Vec<Latest>, ApiError>>,
    A: Future<Output = u64>,
{
    let mut since_ms = clock.now_ms();
    let mut announced = u64::MAX;
    let mut every = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let now_ms = clock.now_ms();
        if !hub.awake() {
            (since_ms, announced) = (now_ms, u64::MAX);
            continue;
        }
        match changed_since(since_ms).await {
            Ok(changed) => {
                since_ms = now_ms;
                hub.note(changed);
            }
            Err(_) => hub.missed_look(),
        }
        announced = announce_behind(announced).await;
    }
}

impl Answers {
    /// Feeds the hub until `stopped`.
    pub(crate) async fn publish_live(&self, hub: Arc<Hub>, stopped: watch::Receiver<bool>) {
        let changed = |from_ms| self.changed_since(from_ms);
        let announce = |announced| self.announce_refused(&hub, announced);
        publish(&hub, self.clock, stopped, changed, announce).await;
    }

    async fn changed_since(&self, from_ms: i64) -> Result<Vec<Latest>, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{live::HubLimits, metrics};
    use std::{collections::HashSet, sync::Mutex};

    #[tokio::test]
    async fn a_look_that_the_lane_has_no_time_for_is_counted_and_the_next_one_covers_its_time() {
        let hub = Hub::new(HubLimits::default(), 0);
        let mut client = hub.subscribe(None, HashSet::new()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let looks = Mutex::new(Vec::new());
        let changed = async |from_ms| {
            let mut looks = looks.lock().unwrap();
            looks.push(from_ms);
            if looks.len() < 3 {
                return Err(ApiError::Unavailable("too much waits".into()));
            }
            let device: Arc<str> = "d".into();
            Ok(vec![Latest { channel: Arc::clone(&device), device, time: 1, value: Some(1.0), quality: 1 }])
        };
        let publishing = publish(&hub, Clock::system(), stopped, changed, async |announced| announced);
        let reading = async {
            loop {
                hub.flush();
                let next = tokio::time::timeout(FLUSH_INTERVAL, client.next()).await;
                let events = next.ok().flatten().unwrap_or_default();
                if events.iter().any(|event| event.name == "samples") {
                    stop.send_replace(true);
                    return;
                }
            }
        };
        let both = async { tokio::join!(publishing, reading) };
        tokio::time::timeout(20 * FLUSH_INTERVAL, both).await.expect("the values come all the same");
        let looks = looks.into_inner().unwrap();
        assert_eq!(looks[0], looks[2], "no change is left out: {looks:?}");
        let text = metrics::render(&hub.metrics());
        assert!(text.contains("hunhe_live_looks_missed_total 2\n"), "{text}");
    }
}
