//! Alerts to the broker: `hunhe/v1/alerts/{operator}/{severity}`, QoS 1, not retained. An alert counts as delivered when
//! the broker's PUBACK has come, on the connection that it was sent on.
//!
//! The session is separate, `…-alerts`: on `…-out` an alert would wait behind thousands of watermarks, and a lost connection
//! there would have to be distinguished from one here. It is a clean session, since what is not acknowledged is sent again
//! from the log.
//!
//! The session carries the gateway's heartbeats as well, QoS 0: one that finds no connection or no room is dropped.
//!
//! Invariant: topics contain the registry's operator ids and the four severities. Deliberately absent: a retained state of
//! alerts, which a late subscriber gets from the API.

use super::{
    Handle, Notification, Outcome, Receiver, Source,
    output::{self, Named},
    queues::Limits,
};
use crate::{
    alerts::deliver::status::Kind,
    mqtt::{Broker, Publisher, PublishingSession},
    setup::config::MQTT_OUTPUT,
};
use bytes::Bytes;
use rumqttc::{PublishOptions, QoS};
use std::{sync::Arc, time::Duration};
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
    let named = Named { name: MQTT_OUTPUT, kind: Kind::Mqtt, limits: Limits::with_in_flight(IN_FLIGHT) };
    output::start(&named, source, || {
        let session = PublishingSession { suffix: "alerts", capacity: QUEUED, in_flight: None };
        let publisher = Arc::new(Publisher::start(broker, session));
        tokio::spawn(beat(beats, Arc::clone(&publisher)));
        Ok(Session { publisher })
    })
}

struct Session {
    publisher: Arc<Publisher>,
}

impl Receiver for Session {
    async fn attempt(&self, notification: Notification) -> Outcome {
        let later = |reason: &str| Outcome::Later { reason: reason.into(), retry_after_s: None };
        let Ok(found) = tokio::time::timeout(WITHIN, self.publisher.connection()).await else {
            return later("not connected to the broker");
        };
        let Some(client) = found else { return later("the connection to the broker has ended") };
        let topic = format!("hunhe/v1/alerts/{}/{}", notification.operator, notification.severity);
        let publish = async {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice = client.publish_tracked(topic, notification.body, options).await.ok()?;
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
async fn beat(mut beats: watch::Receiver<Bytes>, publisher: Arc<Publisher>) {
    while beats.changed().await.is_ok() {
        let body = beats.borrow_and_update().clone();
        if let Some(client) = publisher.present() {
            // Without room alerts wait as well, and they go first.
            let _ = client.try_publish(HEARTBEAT_TOPIC, body, PublishOptions::new(QoS::AtMostOnce));
        }
    }
}
