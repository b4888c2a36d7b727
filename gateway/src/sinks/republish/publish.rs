//! Publishes a batch on one connection, and waits for the acknowledgement of each message.
//!
//! Promise: the messages before `acknowledged` are acknowledged, also where the attempt fails. The next attempt begins
//! there, so a slow broker gets on from attempt to attempt. One that owes an acknowledgement for too long is left and found anew.
//!
//! Bounds: [`IN_FLIGHT`] messages wait for an acknowledgement; each waits no longer than the caller's patience, counted from
//! the acknowledgement before.

use super::message::Message;
use crate::mqtt::Publisher;
use rumqttc::{AsyncClient, ClientError, PublishNotice, PublishOptions, QoS};
use std::{collections::VecDeque, time::Duration};

/// Publishes that the broker has not acknowledged.
pub(super) const IN_FLIGHT: u16 = 256;

/// How long an attempt waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection.
    pub(super) connection: Duration,
    /// For the next acknowledgement.
    pub(super) acknowledgement: Duration,
}

/// Why an attempt ended early, for people.
pub(super) const NOT_CONNECTED: &str = "not connected to the broker";
pub(super) const TOO_LATE: &str = "the broker did not acknowledge in time";
const LOST: &str = "the connection to the broker was lost before it acknowledged";

/// Publishes what the broker has not acknowledged yet, and counts what it acknowledges.
pub(super) async fn publish(
    publisher: &Publisher,
    batch: &[Message],
    acknowledged: &mut usize,
    patience: Patience,
) -> Result<(), &'static str> {
    let connection = tokio::time::timeout(patience.connection, publisher.connection()).await;
    let client = connection.ok().flatten().ok_or(NOT_CONNECTED)?;
    let mut unpublished = batch.iter().skip(*acknowledged);
    let mut in_flight = VecDeque::new();
    loop {
        while in_flight.len() < usize::from(IN_FLIGHT)
            && let Some(message) = unpublished.next()
        {
            let notice = tokio::time::timeout(patience.acknowledgement, send(&client, message)).await;
            in_flight.push_back(notice.map_err(|_| TOO_LATE)?.map_err(|_| LOST)?);
        }
        let Some(notice) = in_flight.pop_front() else { return Ok(()) };
        let answer = tokio::time::timeout(patience.acknowledgement, notice.wait_async()).await;
        answer.map_err(|_| TOO_LATE)?.map_err(|_| LOST)?;
        *acknowledged += 1;
    }
}

async fn send(client: &AsyncClient, Message { topic, body }: &Message) -> Result<PublishNotice, ClientError> {
    client.publish_tracked(topic.as_ref(), body.clone(), PublishOptions::new(QoS::AtLeastOnce)).await
}
