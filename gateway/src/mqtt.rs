//! One connection to the broker, and when it is tried again: the same for every session of the gateway.
//!
//! Invariants: every session keeps one connection; a lost one is opened again after a random wait ([`MQTT_WAITS`]), which
//! starts over once a connection was accepted. Nagle's algorithm is off.
//!
//! Bounds: packets (`packet_bytes_max`); what waits for a connection (the session's capacity). Deliberately absent: what a
//! session publishes or subscribes to.

mod gathered;

use crate::retry::{Backoff, MQTT_WAITS};
use gathered::Gathered;
use rumqttc::{AckMode, AsyncClient, Event, EventLoop, Incoming, MqttOptions, NetworkOptions};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client ids are this with `-up`, `-alarm`, `-out`, `-alerts` and `-clean`.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Keep-alive in seconds.
    pub keep_alive_s: u16,
    /// The largest packet taken, in bytes: above the broker's own limit, or one message could end every connection.
    pub packet_bytes_max: usize,
}

/// Options common to all our connections.
pub(crate) fn options(broker: &Broker, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, (broker.host.as_str(), broker.port));
    options
        .set_keep_alive(broker.keep_alive_s)
        .set_clean_session(false)
        .set_ack_mode(AckMode::Manual)
        .set_max_packet_size(broker.packet_bytes_max, broker.packet_bytes_max)
        .set_read_batch_size(256);
    if let Some((name, password)) = &broker.credentials {
        options.set_credentials(name.clone(), password.clone());
    }
    options
}

/// Lets acknowledgements leave together. For sessions that read for as long as they are connected.
pub(crate) fn gather_writes(options: &mut MqttOptions) {
    options.set_socket_connector(|host, network| async move {
        Ok(Gathered::new(rumqttc::default_socket_connect(host, network).await?))
    });
}

/// Without it an acknowledgement can wait 40 ms for company.
pub(crate) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

/// Keeps a session that only publishes connected, for ever. `run` drives one connection and returns whether the broker had
/// accepted it.
pub(crate) async fn keep_connected<F: Future<Output = bool>>(
    broker: Broker,
    session: PublishingSession,
    mut run: impl FnMut(AsyncClient, EventLoop) -> F,
) {
    let client_id = format!("{}-{}", broker.client_id, session.suffix);
    let mut backoff = Backoff::new(MQTT_WAITS);
    loop {
        let mut options = options(&broker, &client_id);
        // What the broker has not acknowledged is published again from our side, not from a kept session.
        options.set_clean_session(true);
        if let Some(in_flight) = session.in_flight {
            options.set_inflight(in_flight);
        }
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(session.capacity).build();
        event_loop.set_network_options(network());
        if run(client, event_loop).await {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// A session that only publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishingSession {
    /// What its client id ends with.
    pub(crate) suffix: &'static str,
    /// Publishes that wait for the connection.
    pub(crate) capacity: usize,
    /// Publishes that wait for an acknowledgement, where the client's default does not suit.
    pub(crate) in_flight: Option<u16>,
}

/// A session whose publishes are acknowledged one by one. It reconnects for ever, until it is dropped.
#[derive(Debug)]
pub(crate) struct Publisher {
    connected: watch::Receiver<Option<AsyncClient>>,
    leaving: Arc<Notify>,
    connecting: tokio::task::JoinHandle<()>,
}

impl Publisher {
    /// Begins to connect, on the current runtime.
    pub(crate) fn start(broker: Broker, session: PublishingSession) -> Self {
        let (current, connected) = watch::channel(None);
        let leaving = Arc::<Notify>::default();
        let left = Arc::clone(&leaving);
        let connecting = tokio::spawn(keep_connected(broker, session, move |client, event_loop| {
            let (current, left) = (current.clone(), Arc::clone(&left));
            async move {
                let accepted = tokio::select! {
                    accepted = poll(event_loop, client, &current) => accepted,
                    () = left.notified() => true,
                };
                current.send_replace(None);
                accepted
            }
        }));
        Self { connected, leaving, connecting }
    }

    /// Gives the present connection up, with all that the broker has not acknowledged on it, and connects anew.
    pub(crate) fn leave(&self) {
        self.leaving.notify_waiters();
    }

    /// The present connection, if there is one.
    pub(crate) fn present(&self) -> Option<AsyncClient> {
        self.connected.borrow().clone()
    }

    /// The present connection, once there is one.
    pub(crate) async fn connection(&self) -> Option<AsyncClient> {
        let mut connected = self.connected.clone();
        connected.wait_for(Option::is_some).await.ok().and_then(|client| client.clone())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

/// Returns when the connection is lost, and whether the broker had accepted it.
async fn poll(
    mut event_loop: EventLoop,
    client: AsyncClient,
    current: &watch::Sender<Option<AsyncClient>>,
) -> bool {
    let mut accepted = false;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                accepted = true;
                current.send_replace(Some(client.clone()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "connection to the broker lost");
                return accepted;
            }
        }
    }
}
