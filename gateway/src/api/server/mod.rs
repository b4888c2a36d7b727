//! The HTTP server: connections, their bounds and their end. What is asked over them is the routes' business.
//!
//! - `conduct`: until when a connection must do its next step
//! - `places`: who gets one of a bounded number of connections
//! - `watched`: a socket that tells of both
//! - `connection`: one connection from accept to close
//! - `figures`: what is counted
//!
//! Bounds: [`ConnectionLimits`]; what a connection holds (32 KiB to read, 32 KiB to write, and in the kernel 192 KiB to
//! send, 32 KiB where it is a live stream). A connection is accepted only when there is a place for it, so that no number
//! of clients takes the files that disks and outputs need. Where the process has no file left all the same, accepting
//! waits and tries again.

mod conduct;
mod connection;
mod figures;
mod places;
mod watched;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use conduct::Patience;
pub(super) use connection::{Leave, Patient};
pub(super) use figures::Figures;

use super::failures::SUMMARY_EVERY;
use connection::Open;
use places::{Admission, Full, Peer, Places};

/// How long streams and answers under way may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// What the kernel holds of an answer that is not taken: enough for a backup to flow.
const SEND_BUFFER_BYTES: u32 = 192 << 10;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// After an error of `accept`, growing up to the second.
const ACCEPT_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Whoever takes nothing of an answer for so long may lose it to others.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// A connection that was told to go is gone by then.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

/// How many connections there may be, and how long each may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// In all.
    pub all: usize,
    /// From one address.
    pub peer: usize,
    /// For each step.
    pub patience: Patience,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { all: 512, peer: 256, patience: Patience::default() }
    }
}

/// Listens on an address, with buffers as the server wants them.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What all connections share.
pub(super) struct Server {
    router: Router,
    limits: ConnectionLimits,
    figures: Arc<Figures>,
    places: Mutex<Places<Open>>,
    /// A place became free.
    freed: Notify,
}

impl Server {
    pub(super) fn new(router: Router, limits: ConnectionLimits, figures: Arc<Figures>) -> Arc<Self> {
        let places = Mutex::new(Places::new(limits.all, limits.peer));
        Arc::new(Self { router, limits, figures, places, freed: Notify::new() })
    }

    fn places(&self) -> MutexGuard<'_, Places<Open>> {
        // Each change of it is whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until `shutdown` is ready, then lets answers under way finish for a moment.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut summary = tokio::time::interval(SUMMARY_EVERY / 4);
        let mut again = ACCEPT_AGAIN.0;
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                _ = summary.tick() => {
                    self.figures.log_due(Instant::now());
                    continue;
                }
                () = self.figures.crowded() => {
                    self.close_stuck(Instant::now());
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    again = ACCEPT_AGAIN.0;
                    if let Some(place) = self.place(Peer::of(address.ip())).await {
                        connections.spawn(place.serve(socket, stopped.clone()));
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    self.figures.accept_failed(Instant::now(), &error);
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(ACCEPT_AGAIN.1);
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        // What has not ended by then is cut.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, all_ended).await;
    }

    /// Closes the connection whose answer has been stuck for longest, so that there is room for others' answers.
    fn close_stuck(&self, now: Instant) {
        let places = self.places();
        let stuck = places.longest(Open::stuck_since);
        if let Some((since, open)) = stuck
            && now.saturating_duration_since(since) >= STUCK_AFTER
        {
            open.leave();
        }
    }

    /// A place for a connection, made free where that is possible.
    async fn place(self: &Arc<Self>, peer: Peer) -> Option<connection::Place> {
        let deadline = tokio::time::Instant::now() + ROOM_WITHIN;
        loop {
            let admission = self.places().admission(peer, Open::silent_since);
            match admission {
                Admission::Take => {
                    self.figures.accepted();
                    return Some(connection::Place::take(Arc::clone(self), peer));
                }
                Admission::After(id) => {
                    if let Some(open) = self.places().get(id) {
                        open.leave();
                    }
                    if tokio::time::timeout_at(deadline, self.freed.notified()).await.is_err() {
                        self.figures.refused(Full::All);
                        return None;
                    }
                }
                Admission::Refuse(full) => {
                    self.figures.refused(full);
                    return None;
                }
            }
        }
    }
}

/// Errors of one connection, which was gone before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A small answer goes out at once, an alarm above all.
fn without_delay(socket: &TcpStream) {
    // It is only slower without.
    let _ = socket.set_nodelay(true);
}
