//! Alerts to the broker: `hunhe/v1/alerts/{operator}/{severity}`, QoS 1, not retained. An alert counts as delivered when
//! the broker's PUBACK has come, on the connection that it was sent on.
//!
//! A session of its own, `…-alerts`: on `…-out` an alert would wait behind thousands of watermarks, and a lost connection
//! there would have to be told apart from one here. It is a clean session, since what is not acknowledged is sent again
//! from the log.
//!
//! The session carries the gateway's heartbeats as well, QoS 0: one that finds no connection or no room is dropped.
//!
//! Invariant: topics are made of the registry's operator ids and four words. Deliberately absent: a retained state of
//! alerts, which a late subscriber gets from the API.

use super::{
    Handle, Letter, Outcome, Receiver, Source,
    courier::{self, Named},
    queues::Limits,
};
use crate::{
    api::types::OutputKind,
    mqtt::{self, Broker, PublishingSession},
    setup::config::MQTT_OUTPUT,
};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, PublishOptions, QoS};
use std::time::Duration;
use tokio::sync::watch;

/// Where heartbeats are published.
pub const HEARTBEAT_TOPIC: &str = "hunhe/v1/gateway/heartbeat";
/// A connection, or an acknowledgement, that takes longer counts as failed.
const WITHIN: Duration = Duration::from_secs(10);
/// Live alerts under way: one connection carries them in order, and a busy broker takes long to acknowledge each.
const IN_FLIGHT: usize = 64;
/// Publishes queued for a connection: those under way, retrospective ones and heartbeats.
const QUEUED: usize = IN_FLIGHT + 16;

/// Starts the output.
///
/// # Errors
/// Where the machine refuses.
pub fn start(broker: Broker, source: Source, beats: watch::Receiver<Bytes>) -> anyhow::Result<Handle> {
    let named =
        Named { name: MQTT_OUTPUT, kind: OutputKind::Mqtt, limits: Limits::with_in_flight(IN_FLIGHT) };
    courier::start(&named, source, || {
        let (current, connected) = watch::channel(None);
        tokio::spawn(connect(broker, current));
        tokio::spawn(beat(beats, connected.clone()));
        Ok(Session { connected })
    })
}

struct Session {
    connected: watch::Receiver<Option<AsyncClient>>,
}

impl Receiver for Session {
    async fn attempt(&self, letter: Letter) -> Outcome {
        let later = |words: &str| Outcome::Later { words: words.into(), retry_after_s: None };
        let mut connected = self.connected.clone();
        let Ok(found) = tokio::time::timeout(WITHIN, connected.wait_for(Option::is_some)).await else {
            return later("not connected to the broker");
        };
        let Some(client) = found.ok().and_then(|found| found.clone()) else {
            return later("the connection to the broker has ended");
        };
        let topic = format!("hunhe/v1/alerts/{}/{}", letter.operator, letter.severity);
        let publish = async {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice = client.publish_tracked(topic, letter.body, options).await.ok()?;
            notice.wait_async().await.ok()
        };
        match tokio::time::timeout(WITHIN, publish).await {
            Ok(Some(_)) => Outcome::Taken,
            Ok(None) => later("the connection to the broker was lost before it acknowledged"),
            Err(_) => later("the broker did not acknowledge in time"),
        }
    }
}

/// Publishes each heartbeat, or drops it.
async fn beat(mut beats: watch::Receiver<Bytes>, connected: watch::Receiver<Option<AsyncClient>>) {
    while beats.changed().await.is_ok() {
        let body = beats.borrow_and_update().clone();
        let client = connected.borrow().clone();
        if let Some(client) = client {
            // Without room alerts wait as well, and they go first.
            let _ = client.try_publish(HEARTBEAT_TOPIC, body, PublishOptions::new(QoS::AtMostOnce));
        }
    }
}

/// Keeps a connection, and says which; ends with the output's runtime.
async fn connect(broker: Broker, current: watch::Sender<Option<AsyncClient>>) {
    let session = PublishingSession { suffix: "alerts", capacity: QUEUED, in_flight: None };
    mqtt::keep_connected(broker, session, |client, event_loop| async {
        let connected = poll(event_loop, client, &current).await;
        current.send_replace(None);
        connected
    })
    .await;
}

/// Returns when the connection is lost, and whether there was one.
async fn poll(
    mut event_loop: EventLoop,
    client: AsyncClient,
    current: &watch::Sender<Option<AsyncClient>>,
) -> bool {
    let mut connected = false;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                connected = true;
                current.send_replace(Some(client.clone()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "connection for alerts lost");
                return connected;
            }
        }
    }
}
